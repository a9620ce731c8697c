/*
 * export.c - chosen rows into files.
 *
 *   which files | records, one after the other | dataset_info.json | all of it appears
 */
#include "data/export.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/inout.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/dataset_priv.h"

#define INFO_NAME   "dataset_info.json"
#define FLUSH_BYTES ((size_t)1 << 20)

enum form { FORM_LINES, FORM_ARRAY };

/* One file that is written. */
struct sink {
	char *name; /* of the dataset that it is */
	char *file; /* without directories */
	enum form form;
	const struct df_dataset *like; /* one with its description */
	struct df_atomic out;
	int fd;             /* -1: not open */
	struct df_buf text; /* not yet written */
	uint64_t n;         /* records so far */
};
#define SINK_INIT                                                    \
	{                                                            \
		.out = DF_ATOMIC_INIT, .fd = -1, .text = DF_BUF_INIT \
	}

static const char *
extension(const char *path)
{
	const char *dot = strrchr(df_path_base(path), '.');

	return dot && dot > df_path_base(path) ? dot : "";
}

static bool
is_stdout(const char *path)
{
	return strcmp(path, "-") == 0;
}

static bool
is_file(const char *path)
{
	const char *ext = extension(path);

	return is_stdout(path) || strcmp(ext, ".json") == 0 || strcmp(ext, ".jsonl") == 0 || strcmp(ext, ".txt") == 0;
}

/* ---- the file ----------------------------------------------------------- */

static int
sink_open(struct sink *s, const char *path, struct df_err *err)
{
	int rc = DF_OK;

	if (is_stdout(path)) {
		s->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
	} else {
		DF_TRY(df_atomic_open(&s->out, path, err));
		s->fd = open(s->out.tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	}
	if (s->fd < 0)
		rc = df_fail(err, DF_ECREATE, "%s:", path);
out:
	return rc;
}

static int
sink_flush(struct sink *s, struct df_err *err)
{
	int rc;

	DF_TRY(df_buf_check(&s->text, err));
	rc = df_write_all(s->fd, s->text.data, s->text.len, err);
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", s->out.path ? s->out.path : "standard output");
	df_buf_clear(&s->text);
out:
	return rc;
}

static int
sink_commit(struct sink *s, struct df_err *err)
{
	const int fd = s->fd;

	s->fd = -1;
	if (close(fd) != 0)
		return df_fail(err, DF_EIO, "%s:", s->out.path ? s->out.path : "standard output");
	return s->out.path ? df_atomic_commit(&s->out, err) : DF_OK;
}

/* What was not committed disappears. */
static void
sink_close(struct sink *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	df_atomic_discard(&s->out);
	df_buf_release(&s->text);
}

static void
sink_release(struct sink *s)
{
	sink_close(s);
	free(s->name);
	free(s->file);
}

/* ---- records ------------------------------------------------------------ */

static bool
is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* A record on one line.  In JSON a line ends between members only: strings have no line ends. */
static void
put_on_a_line(struct df_buf *out, const char *text, size_t n)
{
	size_t i = 0, end;

	while (i < n) {
		for (end = i; end < n && text[end] != '\n' && text[end] != '\r'; end++)
			;
		df_buf_add(out, text + i, end - i);
		if (end < n && end > 0 && text[end - 1] == ',')
			df_buf_putc(out, ' ');
		for (i = end; i < n && is_space(text[i]); i++)
			;
	}
}

/* The shortest number that is read back as x; null where x is none. */
static void
put_float(struct df_buf *out, float x)
{
	char s[32];

	if (!isfinite(x)) {
		df_buf_puts(out, "null");
		return;
	}
	for (int digits = 1; digits <= 9; digits++) {
		snprintf(s, sizeof(s), "%.*g", digits, (double)x);
		if (strtof(s, NULL) == x)
			break;
	}
	df_buf_puts(out, s);
}

/* Refuse a column that is to be added, and that the row has. */
static int
check_new(const struct df_json_value *row, const char *prefix, const char *what, struct df_err *err)
{
	struct df_buf key = DF_BUF_INIT;
	int rc;

	df_buf_printf(&key, "%s%s", prefix, what);
	DF_TRY(df_buf_check(&key, err));
	if (df_json_get(row, key.data))
		rc = df_fail(err, DF_EUSAGE, "has a column '%s' already; choose another prefix", key.data);
out:
	df_buf_release(&key);
	return rc;
}

static void
put_key(struct df_buf *out, const char *space, size_t n_space, bool first, const char *prefix, const char *what)
{
	struct df_buf key = DF_BUF_INIT;

	if (!first)
		df_buf_putc(out, ',');
	df_buf_add(out, space, n_space);
	df_buf_printf(&key, "%s%s", prefix, what);
	df_buf_json_strn(out, key.data ? key.data : "", key.len);
	df_buf_puts(out, ": ");
	df_buf_release(&key);
}

/* *to = the record with rank and score as its last members, spaced as its first one. */
static int
add_fields(struct df_buf *to, const struct df_record *rec, const char *prefix, uint64_t rank, const float *score,
    struct df_err *err)
{
	const char *end = rec->text + rec->n, *space = rec->text + 1, *last;
	struct df_json *doc = NULL;
	size_t n_space = 0;
	bool empty;
	int rc;

	DF_TRY(df_json_parse(&doc, rec->text, rec->n, "its JSON", err));
	if (df_json_type(df_json_root(doc)) != DF_JSON_OBJECT) {
		rc = df_fail(err, DF_EFORMAT, "expected an object, found %s", df_json_type_name(df_json_root(doc)));
		goto out;
	}
	DF_TRY(check_new(df_json_root(doc), prefix, "rank", err));
	DF_TRY(check_new(df_json_root(doc), prefix, "score", err));
	while (end[-1] != '}')
		end--;
	for (last = end - 1; is_space(last[-1]); last--)
		;
	while (is_space(space[n_space]))
		n_space++;
	if (!memchr(space, '\n', n_space)) {
		space = " ";
		n_space = 1;
	}
	empty = df_json_size(df_json_root(doc)) == 0;
	df_buf_clear(to);
	df_buf_add(to, rec->text, (size_t)(last - rec->text));
	put_key(to, space, empty ? 0 : n_space, empty, prefix, "rank");
	df_buf_printf(to, "%" PRIu64, rank);
	if (score) {
		put_key(to, space, n_space, false, prefix, "score");
		put_float(to, *score);
	}
	df_buf_add(to, last, (size_t)(end - last));
	DF_TRY(df_buf_check(to, err));
out:
	df_json_free(doc);
	return rc;
}

/* The blanks in front of a record on its line: an array keeps its look. */
static size_t
indentation(const struct df_dataset *ds, const struct df_record *rec)
{
	const char *begin = ds->files[rec->file].data, *p = rec->text;

	while (p > begin && (p[-1] == ' ' || p[-1] == '\t'))
		p--;
	return p > begin && p[-1] == '\n' ? (size_t)(rec->text - p) : 0;
}

/* Append record i of the choice to its file. */
static int
put_record(struct sink *s, const struct df_chosen *c, uint64_t i, const char *prefix, struct df_buf *scratch,
    struct df_err *err)
{
	const struct df_dataset *ds = c->ds[c->domain[i]];
	const struct df_record rec = df_dataset_record(ds, c->row[i]);
	const char *text = rec.text;
	size_t n = rec.n, indent = indentation(ds, &rec);
	int rc = DF_OK;

	if (prefix) {
		if ((rc = add_fields(scratch, &rec, prefix, c->rank[i], c->score ? &c->score[i] : NULL, err)) !=
		    DF_OK) {
			df_dataset_place(ds, &rec, err);
			goto out;
		}
		text = scratch->data;
		n = scratch->len;
	}
	if (s->form == FORM_ARRAY) {
		df_buf_puts(&s->text, s->n ? ",\n" : "[\n");
		df_buf_add(&s->text, rec.text - indent, indent);
	}
	if (s->form == FORM_LINES && ds->type == DF_FILE_JSON)
		put_on_a_line(&s->text, text, n);
	else
		df_buf_add(&s->text, text, n);
	if (s->form == FORM_LINES)
		df_buf_putc(&s->text, '\n');
	s->n++;
	if (s->text.len >= FLUSH_BYTES)
		rc = sink_flush(s, err);
out:
	return rc;
}

/* ---- which datasets ----------------------------------------------------- */

static bool
same_names(char *const *a, char *const *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!a[i] != !b[i] || (a[i] && strcmp(a[i], b[i]) != 0))
			return false;
	return true;
}

/* Can their rows stand in one file, with one description? */
static bool
agree(const struct df_dataset *a, const struct df_dataset *b)
{
	return a->formatting == b->formatting && a->type == b->type &&
	    same_names(a->column, b->column, DF_COLUMN_COUNT) && same_names(a->tag, b->tag, DF_TAG_COUNT);
}

static int
check_types(const struct df_chosen *c, const struct df_export_opts *o, struct df_err *err)
{
	const bool txt = strcmp(extension(o->path), ".txt") == 0;
	const struct df_dataset *first = NULL;

	for (size_t d = 0; d < c->n_ds; d++) {
		const struct df_dataset *ds = c->ds[d];

		if (!ds)
			continue;
		if (o->prefix && ds->type == DF_FILE_TXT)
			return df_fail(
			    err, DF_EUSAGE, "dataset '%s' is plain text, which has no place for scores", ds->name);
		if (!is_file(o->path))
			continue;
		if (!is_stdout(o->path) && txt != (ds->type == DF_FILE_TXT)) {
			return df_fail(err, DF_EUSAGE, "%s: dataset '%s' is %s; choose a name that ends in %s", o->path,
			    ds->name, txt ? "JSON" : "plain text", txt ? ".json or .jsonl" : ".txt");
		}
		if (first && !agree(first, ds)) {
			return df_fail(err, DF_EUSAGE,
			    "datasets '%s' and '%s' differ in format, columns or tags and cannot be one file; name a directory "
			    "('%.*s') to get one file for each",
			    first->name, ds->name, (int)(strlen(o->path) - strlen(extension(o->path))), o->path);
		}
		first = ds;
	}
	return DF_OK;
}

/* ---- one file ----------------------------------------------------------- */

/* The records of one dataset (NULL: of all) into the file, which is then whole, but not visible. */
static int
put_records(
    struct sink *s, const struct df_chosen *c, const struct df_dataset *only, const char *prefix, struct df_err *err)
{
	struct df_buf scratch = DF_BUF_INIT;
	int rc = DF_OK;

	for (uint64_t i = 0; i < c->n; i++) {
		if (only && c->ds[c->domain[i]] != only)
			continue;
		DF_TRY(put_record(s, c, i, prefix, &scratch, err));
		df_progress(i + 1, c->n, "rows");
	}
	if (s->form == FORM_ARRAY)
		df_buf_puts(&s->text, "\n]\n");
	DF_TRY(sink_flush(s, err));
out:
	df_buf_release(&scratch);
	return rc;
}

/* *text = dataset_info.json at *path, beside the file. */
static int
describe(const struct sink *s, const struct df_export_opts *o, char **path, struct df_buf *text, bool *write,
    struct df_err *err)
{
	struct df_buf entry = DF_BUF_INIT;
	char *dir = NULL;
	int rc;

	DF_TRY(df_strndup(&dir, o->path, (size_t)(df_path_base(o->path) - o->path), err));
	DF_TRY(df_path_join(path, dir, INFO_NAME, err));
	DF_TRY(df_info_entry(&entry, s->like, s->name, s->file, err));
	DF_TRY(df_info_add(text, write, *path, s->name, &entry, o->merge_info, err));
out:
	df_buf_release(&entry);
	free(dir);
	return rc;
}

/* Remove what a killed writer of this file may have left. */
static int
tidy(const char *path, struct df_err *err)
{
	struct df_atomic a = DF_ATOMIC_INIT;
	int rc = df_atomic_open(&a, path, err);

	df_atomic_discard(&a);
	return rc;
}

static int
export_file(const struct df_chosen *c, const struct df_export_opts *o, struct df_err *err)
{
	const char *base = df_path_base(o->path), *ext = extension(o->path);
	struct sink s = SINK_INIT;
	struct df_buf info = DF_BUF_INIT;
	char *info_path = NULL;
	bool write_info = false;
	int rc;

	s.form = strcmp(ext, ".json") == 0 ? FORM_ARRAY : FORM_LINES;
	s.like = c->ds[c->domain[0]];
	DF_TRY(df_strdup(&s.file, base, err));
	DF_TRY(df_strndup(&s.name, base, strlen(base) - strlen(ext), err));
	if (strchr(s.name, ',')) {
		rc = df_fail(err, DF_EUSAGE, "%s: the name of a dataset cannot have a comma", o->path);
		goto out;
	}
	if (!is_stdout(o->path))
		DF_TRY(describe(&s, o, &info_path, &info, &write_info, err));
	DF_TRY(sink_open(&s, o->path, err));
	DF_TRY(put_records(&s, c, NULL, o->prefix, err));
	/* A file that has its name has its entry too. */
	if (write_info)
		DF_TRY(df_file_put(info_path, info.data, info.len, err));
	else if (info_path)
		DF_TRY(tidy(info_path, err));
	DF_TRY(sink_commit(&s, err));
out:
	sink_release(&s);
	df_buf_release(&info);
	free(info_path);
	return rc;
}

/* ---- a file for each dataset ---------------------------------------------- */

/* A name for the file of a dataset: its own, without what cannot be in one, and unlike those before. */
static int
file_name(struct sink *sinks, size_t d, const struct df_dataset *ds, struct df_err *err)
{
	struct sink *s = &sinks[d];
	const char *ext = extension(ds->files[0].name);
	char *stem = NULL;
	int rc;

	DF_TRY(df_strdup(&stem, ds->name, err));
	for (char *p = stem; *p; p++)
		if (*p == '/' || (unsigned char)*p < ' ' || (p == stem && *p == '.'))
			*p = '_';
	DF_TRY(df_asprintf(&s->file, err, "%s%s", stem, ext));
	for (size_t i = 0; i < d; i++) {
		if (!sinks[i].file || strcmp(sinks[i].file, s->file) != 0)
			continue;
		free(s->file);
		DF_TRY(df_asprintf(&s->file, err, "%s-%zu%s", stem, d, ext));
		i = SIZE_MAX; /* again from the first */
	}
out:
	free(stem);
	return rc;
}

/* A source's form, by its first record's place: in an array, or on a line. */
static enum form
form_of(const struct df_dataset *ds)
{
	const struct df_datafile *f = &ds->files[0];
	size_t i = f->n >= 3 && memcmp(f->data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;

	while (i < f->n && is_space(f->data[i]))
		i++;
	return ds->type == DF_FILE_JSON && i < f->n && f->data[i] == '[' ? FORM_ARRAY : FORM_LINES;
}

/* A directory that is there is replaced, but only if all that it holds are files of these names. */
static int
check_replaceable(const char *path, const struct sink *sinks, size_t n, struct df_err *err)
{
	DIR *dir = opendir(path);
	const struct dirent *e;
	int rc = DF_OK;

	while (dir && (e = readdir(dir)) != NULL) {
		bool known =
		    strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || strcmp(e->d_name, INFO_NAME) == 0;

		for (size_t d = 0; d < n && !known; d++)
			known = sinks[d].file && strcmp(sinks[d].file, e->d_name) == 0;
		if (!known) {
			rc = df_fail(err, DF_EUSAGE,
			    "%s: is there already, and has '%s', which would be lost; choose another name", path,
			    e->d_name);
			break;
		}
	}
	if (dir)
		closedir(dir);
	return rc;
}

/* The file of one dataset in the directory, and its entry. */
static int
export_dataset(struct sink *s, const struct df_chosen *c, const char *dir, const char *prefix, struct df_buf *info,
    struct df_err *err)
{
	char *path = NULL;
	int rc;

	DF_TRY(df_path_join(&path, dir, s->file, err));
	DF_TRY(sink_open(s, path, err));
	DF_TRY(put_records(s, c, s->like, prefix, err));
	DF_TRY(sink_commit(s, err));
	df_buf_puts(info, info->len ? ",\n" : "{\n");
	DF_TRY(df_info_entry(info, s->like, s->name, s->file, err));
out:
	sink_close(s);
	free(path);
	return rc;
}

static int
export_dir(const struct df_chosen *c, const struct df_export_opts *o, struct df_err *err)
{
	struct df_atomic dir = DF_ATOMIC_INIT;
	struct df_buf info = DF_BUF_INIT;
	struct sink *sinks = NULL;
	char *info_path = NULL;
	int rc;

	if (o->merge_info)
		return df_fail(
		    err, DF_EUSAGE, "--merge-info: %s is a directory with a dataset_info.json of its own", o->path);
	DF_TRY(df_alloc(&sinks, c->n_ds, sizeof(*sinks), "files", err));
	for (size_t d = 0; d < c->n_ds; d++) {
		sinks[d] = (struct sink)SINK_INIT;
		if (!c->ds[d])
			continue;
		sinks[d].like = c->ds[d];
		sinks[d].form = form_of(c->ds[d]);
		DF_TRY(df_strdup(&sinks[d].name, df_dataset_name(c->ds[d]), err));
		DF_TRY(file_name(sinks, d, c->ds[d], err));
	}
	DF_TRY(check_replaceable(o->path, sinks, c->n_ds, err));
	DF_TRY(df_atomic_mkdir(&dir, o->path, err));
	for (size_t d = 0; d < c->n_ds; d++)
		if (c->ds[d])
			DF_TRY(export_dataset(&sinks[d], c, dir.tmp, o->prefix, &info, err));
	df_buf_puts(&info, "\n}\n");
	DF_TRY(df_buf_check(&info, err));
	DF_TRY(df_path_join(&info_path, dir.tmp, INFO_NAME, err));
	DF_TRY(df_file_put(info_path, info.data, info.len, err));
	DF_TRY(df_atomic_commit(&dir, err));
out:
	for (size_t d = 0; d < c->n_ds && sinks; d++)
		sink_release(&sinks[d]);
	free(sinks);
	free(info_path);
	df_buf_release(&info);
	df_atomic_discard(&dir);
	return rc;
}

int
df_export(const struct df_chosen *c, const struct df_export_opts *o, struct df_err *err)
{
	int rc;

	DF_TRY(check_types(c, o, err));
	rc = is_file(o->path) ? export_file(c, o, err) : export_dir(c, o, err);
out:
	return rc;
}

int
df_export_claim(const struct df_export_opts *o, struct df_err *err)
{
	char *dir = NULL, *path = NULL;
	int rc = DF_OK;

	if (!is_file(o->path) || is_stdout(o->path))
		goto out;
	DF_TRY(df_strndup(&dir, o->path, (size_t)(df_path_base(o->path) - o->path), err));
	DF_TRY(df_path_join(&path, dir, INFO_NAME, err));
	DF_TRY(df_inout_own(path, err));
out:
	free(dir);
	free(path);
	return rc;
}

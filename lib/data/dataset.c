/*
 * dataset.c - dataset_info.json: which files, which columns, which tags.
 *
 * The rules are LLaMA-Factory's, with this trap: if an entry has a "columns" object, a column that it does not name
 * is unset and has no default; the same is true of "tags".  Members that we do not support, and unknown ones, are
 * refused here, before any row is read.
 */
#include "data/dataset.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/words.h"
#include "data/dataset_priv.h"

#define INFO_MAX ((size_t)64 << 20)

struct df_dataset_info {
	char *dir;
	char *path; /* of dataset_info.json */
	struct df_json *doc;
};

const char *const df_column_names[DF_COLUMN_COUNT + 1] = { "prompt", "query", "response", "history", "messages",
	"system", "tools", "images", "videos", "audios", NULL };
static const char *const column_defaults[DF_COLUMN_COUNT] = { "instruction", "input", "output", NULL, "conversations",
	NULL, NULL, NULL, NULL, NULL };
const char *const df_tag_names[DF_TAG_COUNT + 1] = { "role_tag", "content_tag", "user_tag", "assistant_tag",
	"observation_tag", "function_tag", "system_tag", NULL };
const char *const df_tag_defaults[DF_TAG_COUNT] = { "from", "value", "human", "gpt", "observation", "function_call",
	"system" };

int
df_dataset_info_open(struct df_dataset_info **out, const char *dir, struct df_err *err)
{
	struct df_dataset_info *info = NULL;
	int rc = DF_OK;

	if (strcmp(dir, "ONLINE") == 0 || strncmp(dir, "REMOTE:", 7) == 0)
		return df_fail(err, DF_ECONFIG,
		    "dataset_dir '%s': nothing is downloaded here; "
		    "fetch the data first and name its directory",
		    dir);
	DF_TRY(df_alloc(&info, 1, sizeof(*info), "dataset info", err));
	DF_TRY(df_strdup(&info->dir, dir, err));
	DF_TRY(df_path_join(&info->path, dir, "dataset_info.json", err));
	DF_TRY(df_json_load(&info->doc, info->path, INFO_MAX, err));
	if (df_json_type(df_json_root(info->doc)) != DF_JSON_OBJECT) {
		rc = df_fail(err, DF_ECONFIG, "%s: expected an object that maps names to datasets, found %s",
		    info->path, df_json_type_name(df_json_root(info->doc)));
		goto out;
	}
	*out = info;
	info = NULL;
out:
	df_dataset_info_free(info);
	return rc;
}

void
df_dataset_info_free(struct df_dataset_info *info)
{
	if (!info)
		return;
	df_json_free(info->doc);
	free(info->path);
	free(info->dir);
	free(info);
}

/* ---- names -------------------------------------------------------------- */

/*
 * Every name that LLaMA-Factory 0.9.4 knows, supported here or not, and file_sha1, which its older data directories
 * have.  LLaMA-Factory silently ignores any other name, so also a misspelt one.
 */
static const char *const member_names[] = { "file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url",
	"cloud_file_name", "formatting", "ranking", "subset", "split", "folder", "num_samples", "columns", "tags",
	"file_sha1", NULL };
static const char *const preference_names[] = { "chosen", "rejected", "kto_tag", NULL };

static bool
is_among(const char *name, const char *const *names)
{
	while (*names && strcmp(name, *names) != 0)
		names++;
	return *names != NULL;
}

/* The other place in which an entry has a member of this name; NULL: none. */
static const char *
place_of(const char *name)
{
	if (is_among(name, member_names))
		return "the entry itself";
	if (is_among(name, df_column_names) || is_among(name, preference_names))
		return "\"columns\"";
	return is_among(name, df_tag_names) ? "\"tags\"" : NULL;
}

/* Append the members of obj that are in neither list of names, each with the name that was probably meant. */
static void
add_unknown(struct df_buf *out, const struct df_json_value *obj, const char *prefix, const char *const *names,
    const char *const *more)
{
	const struct df_json_member *m = NULL;
	const struct df_json_value *value;
	const char *key, *hint, *near;

	while ((m = df_json_next(obj, m, &key, &value)) != NULL) {
		if (is_among(key, names) || (more && is_among(key, more)))
			continue;
		df_buf_printf(out, "%s'%s%s'", out->len ? ", " : "", prefix, key);
		near = df_nearest(key, names);
		if (!near && more)
			near = df_nearest(key, more);
		hint = place_of(key);
		if (hint)
			df_buf_printf(out, " (it belongs in %s)", hint);
		else if (near)
			df_buf_printf(out, " (did you mean '%s'?)", near);
	}
}

/* All unknown members of an entry at once. */
static int
check_members(const struct df_json_value *entry, struct df_err *err)
{
	struct df_buf unknown = DF_BUF_INIT;
	int rc;

	add_unknown(&unknown, entry, "", member_names, NULL);
	add_unknown(&unknown, df_json_get(entry, "columns"), "columns.", df_column_names, preference_names);
	add_unknown(&unknown, df_json_get(entry, "tags"), "tags.", df_tag_names, NULL);
	DF_TRY(df_buf_check(&unknown, err));
	if (unknown.len > 0)
		rc = df_fail(err, DF_ECONFIG, "unknown member %s", unknown.data);
out:
	df_buf_release(&unknown);
	return rc;
}

/* ---- one entry ---------------------------------------------------------- */

static int
unknown_name(const struct df_json_value *root, const char *name, struct df_err *err)
{
	const struct df_json_member *m = NULL;
	const struct df_json_value *value;
	const char **names = NULL;
	size_t n = 0;
	int rc = DF_OK;

	DF_TRY(df_alloc(&names, df_json_size(root) + 1, sizeof(*names), "dataset names", err));
	while ((m = df_json_next(root, m, &names[n], &value)) != NULL)
		n++;
	names[n] = NULL;
	rc = df_unknown(err, DF_ECONFIG, "dataset", name, names, NULL);
out:
	free(names);
	return rc;
}

/* A member that is only supported with its neutral value. */
static int
refuse_member(
    const struct df_json_value *entry, const char *key, const char *harmless, const char *what, struct df_err *err)
{
	const struct df_json_value *v = df_json_get(entry, key);
	const char *s = df_json_str(v, NULL);

	if (!v || df_json_type(v) == DF_JSON_NULL || (harmless && s && strcmp(s, harmless) == 0))
		return 0;
	return df_fail(err, DF_EUNSUPPORTED, "'%s' is not supported: %s", key, what);
}

static int
read_source(struct df_dataset *ds, const struct df_json_value *entry, const char **file_name, struct df_err *err)
{
	static const char *const remote[] = { "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url",
		"cloud_file_name" };
	const struct df_json_value *samples = df_json_get(entry, "num_samples");
	int64_t n = 0;
	int rc = DF_OK;

	/* They have priority over file_name, so an entry with both means the remote dataset. */
	for (size_t i = 0; i < sizeof(remote) / sizeof(remote[0]); i++)
		DF_TRY(refuse_member(entry, remote[i], NULL,
		    "nothing is downloaded here; fetch the data and describe it with 'file_name' alone", err));
	if (samples && df_json_type(samples) != DF_JSON_NULL)
		DF_TRY(df_json_member_int(entry, "num_samples", 0, 1, INT64_MAX, &n, err));
	ds->num_samples = (uint64_t)n;
	DF_TRY(refuse_member(entry, "subset", NULL, "a local file has no subsets", err));
	DF_TRY(refuse_member(entry, "folder", NULL, "put the folder into 'file_name'", err));
	DF_TRY(refuse_member(entry, "split", "train", "a local file has only the split 'train'", err));
	DF_TRY(df_json_member_str(entry, "file_name", NULL, file_name, err));
	if (!*file_name || !**file_name)
		rc = df_fail(err, DF_ECONFIG, "no 'file_name'");
out:
	return rc;
}

static int
read_formatting(struct df_dataset *ds, const struct df_json_value *entry, struct df_err *err)
{
	static const char *const known[] = { "alpaca", "sharegpt", "openai", NULL };
	const char *name;
	bool ranking;
	int rc = DF_OK;

	DF_TRY(df_json_member_bool(entry, "ranking", false, &ranking, err));
	if (ranking)
		return df_fail(err, DF_EUNSUPPORTED,
		    "'ranking' is not supported: preference data (chosen, rejected) "
		    "has no place in the stages sft and pt");
	DF_TRY(df_json_member_str(entry, "formatting", "alpaca", &name, err));
	if (strcmp(name, "alpaca") == 0) {
		ds->formatting = DF_FORMAT_ALPACA;
	} else if (strcmp(name, "sharegpt") == 0) {
		ds->formatting = DF_FORMAT_SHAREGPT;
	} else if (strcmp(name, "openai") == 0) {
		ds->formatting = DF_FORMAT_OPENAI;
		ds->thinking_note = true;
	} else {
		rc = df_unknown(err, DF_ECONFIG, "formatting", name, known, NULL);
	}
out:
	return rc;
}

/* Fill names[i] for each key from obj, or from dflt when there is no object at all. */
static int
read_names(const struct df_json_value *obj, const char *what, const char *const *keys, const char *const *dflt,
    size_t n, char **names, struct df_err *err)
{
	int rc = DF_OK;

	if (obj && df_json_type(obj) != DF_JSON_OBJECT)
		return df_fail(err, DF_ECONFIG, "'%s': expected an object, found %s", what, df_json_type_name(obj));
	for (size_t i = 0; i < n; i++) {
		const char *s = NULL;

		if (!obj)
			s = dflt[i];
		else if ((rc = df_json_member_str(obj, keys[i], NULL, &s, err)) != 0)
			goto out;
		if (s)
			DF_TRY(df_strdup(&names[i], s, err));
	}
out:
	if (rc != DF_OK)
		df_err_prefix(err, "'%s': ", what);
	return rc;
}

static int
read_columns(struct df_dataset *ds, const struct df_json_value *entry, struct df_err *err)
{
	const struct df_json_value *columns = df_json_get(entry, "columns");
	const struct df_json_value *tags = df_json_get(entry, "tags");
	int rc = DF_OK;

	for (size_t i = 0; preference_names[i]; i++)
		DF_TRY(refuse_member(
		    columns, preference_names[i], NULL, "preference data has no place in the stages sft and pt", err));
	DF_TRY(read_names(columns, "columns", df_column_names, column_defaults, DF_COLUMN_COUNT, ds->column, err));
	DF_TRY(read_names(tags, "tags", df_tag_names, df_tag_defaults, DF_TAG_COUNT, ds->tag, err));
	ds->named_columns = columns != NULL;

	if (ds->formatting == DF_FORMAT_ALPACA) {
		if (!ds->column[DF_COLUMN_PROMPT] && !ds->column[DF_COLUMN_QUERY])
			rc = df_fail(err, DF_ECONFIG,
			    "'columns' names no 'prompt' (a column that 'columns' leaves out is unset)");
		goto out;
	}
	if (!ds->column[DF_COLUMN_MESSAGES]) {
		rc = df_fail(
		    err, DF_ECONFIG, "'columns' names no 'messages' (a column that 'columns' leaves out is unset)");
		goto out;
	}
	for (size_t i = DF_TAG_ROLE; i <= DF_TAG_ASSISTANT; i++)
		if (!ds->tag[i]) {
			rc = df_fail(err, DF_ECONFIG, "'tags' names no '%s' (a tag that 'tags' leaves out is unset)",
			    df_tag_names[i]);
			goto out;
		}
out:
	return rc;
}

/* ---- files -------------------------------------------------------------- */

static int
file_type(const char *name, enum df_filetype *type, struct df_err *err)
{
	const char *dot = strrchr(df_path_base(name), '.');

	if (dot && (strcmp(dot, ".json") == 0 || strcmp(dot, ".jsonl") == 0)) {
		*type = DF_FILE_JSON;
		return 0;
	}
	if (dot && strcmp(dot, ".txt") == 0) {
		*type = DF_FILE_TXT;
		return 0;
	}
	if (dot && (strcmp(dot, ".csv") == 0 || strcmp(dot, ".parquet") == 0 || strcmp(dot, ".arrow") == 0))
		return df_fail(err, DF_EUNSUPPORTED,
		    "%s: %s files are not read here; convert to .jsonl first "
		    "(datasets.load_dataset(...).to_json)",
		    name, dot);
	return df_fail(err, DF_ECONFIG, "%s: expected a .json, .jsonl or .txt file", name);
}

/* Takes `path`. */
static int
add_file(struct df_dataset *ds, char *path, struct df_err *err)
{
	const char *name = df_path_base(path);
	struct df_datafile *f;
	enum df_filetype type;
	const void *data;
	int rc = DF_OK;

	DF_TRY(file_type(name, &type, err));
	if (ds->n_files > 0 && type != ds->type) {
		rc = df_fail(err, DF_ECONFIG, "%s: the files of one dataset must be of one type (%s is of another)",
		    name, ds->files[0].name);
		goto out;
	}
	ds->type = type;
	DF_TRY(df_grow(&ds->files, &ds->cap_files, ds->n_files + 1, sizeof(*ds->files), "files", err));
	f = &ds->files[ds->n_files];
	memset(f, 0, sizeof(*f));
	DF_TRY(df_strdup(&f->name, name, err));
	ds->n_files++;
	DF_TRY(df_file_map(path, &data, &f->n, err));
	f->data = data;
out:
	free(path);
	return rc;
}

static int
not_hidden(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

static int
in_byte_order(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int
open_files(struct df_dataset *ds, const char *dir, const char *file_name, struct df_err *err)
{
	struct dirent **list = NULL;
	char *path = NULL, *sub = NULL;
	int n = 0, rc = 0;

	DF_TRY(df_path_join(&path, dir, file_name, err));
	if (!df_file_is_dir(path)) {
		char *p = path;

		path = NULL;
		DF_TRY(add_file(ds, p, err));
		goto out;
	}
	n = scandir(path, &list, not_hidden, in_byte_order);
	if (n < 0) {
		n = 0;
		rc = df_fail(err, DF_ENOINPUT, "%s:", path);
		goto out;
	}
	for (int i = 0; i < n; i++) {
		DF_TRY(df_path_join(&sub, path, list[i]->d_name, err));
		if (df_file_is_dir(sub)) {
			rc = df_fail(err, DF_ECONFIG, "%s: a directory inside a dataset's directory", sub);
			goto out;
		}
		{
			char *p = sub;

			sub = NULL;
			DF_TRY(add_file(ds, p, err));
		}
	}
	if (n == 0)
		rc = df_fail(err, DF_ENOINPUT, "%s: no files in this directory", path);
out:
	for (int i = 0; i < n; i++)
		free(list[i]);
	free(list);
	free(sub);
	free(path);
	return rc;
}

/* Add a name, or that there is none, so that different lists never give the same bytes. */
static void
digest_name(struct df_hasher *h, const char *name)
{
	df_hasher_add(h, name ? "+" : "-", 1);
	if (name)
		df_hasher_add(h, name, strlen(name) + 1);
}

/*
 * The digest of the files' bytes in order, and of the description that they are read by: with other columns they
 * are other data.  Names and places of files do not matter.
 */
static int
digest_files(struct df_dataset *ds, struct df_err *err)
{
	const uint32_t how[2] = { ds->formatting, ds->type };
	struct df_hasher *h = NULL;
	int rc = DF_OK;

	DF_TRY(df_hasher_new(&h, 0, err));
	df_hasher_add(h, how, sizeof(how));
	for (size_t i = 0; i < DF_COLUMN_COUNT; i++)
		digest_name(h, ds->column[i]);
	for (size_t i = 0; i < DF_TAG_COUNT; i++)
		digest_name(h, ds->tag[i]);
	for (size_t i = 0; i < ds->n_files; i++) {
		const uint64_t n = ds->files[i].n;

		df_hasher_add(h, &n, sizeof(n));
		if (n)
			df_hasher_add(h, ds->files[i].data, ds->files[i].n);
	}
	df_digest_hex(df_hasher_end(h), ds->id);
out:
	df_hasher_free(h);
	return rc;
}

/* ---- the whole ---------------------------------------------------------- */

int
df_dataset_info_names(const struct df_dataset_info *info, const char ***names, struct df_err *err)
{
	const struct df_json_value *root = df_json_root(info->doc), *entry;
	const struct df_json_member *m = NULL;
	struct df_dataset ignored = { 0 };
	const char *name, *file_name;
	size_t n = 0;
	int rc;

	DF_TRY(df_alloc(names, df_json_size(root) + 1, sizeof(**names), "dataset names", err));
	while ((m = df_json_next(root, m, &name, &entry)) != NULL)
		if (df_json_type(entry) == DF_JSON_OBJECT && read_source(&ignored, entry, &file_name, NULL) == DF_OK)
			(*names)[n++] = name;
	(*names)[n] = NULL;
out:
	return rc;
}

int
df_dataset_info_list(const char *dir, struct df_buf *out, struct df_err *err)
{
	struct df_dataset_info *info = NULL;
	const char **names = NULL;
	int rc;

	DF_TRY(df_dataset_info_open(&info, dir, err));
	DF_TRY(df_dataset_info_names(info, &names, err));
	/* A name with a comma would be two in a list; control characters are for no terminal. */
	for (size_t i = 0; names[i]; i++)
		if (!strpbrk(names[i], ",\n\r\t\x1b"))
			df_buf_printf(out, "%s\n", names[i]);
out:
	free(names);
	df_dataset_info_free(info);
	return rc;
}

int
df_dataset_open(struct df_dataset **out, const struct df_dataset_info *info, const char *name, enum df_data_stage stage,
    struct df_err *err)
{
	const struct df_json_value *root = df_json_root(info->doc);
	const struct df_json_value *entry = df_json_get(root, name);
	struct df_dataset *ds = NULL;
	const char *file_name;
	bool in_entry = true; /* errors are in dataset_info.json, not yet in the data */
	int rc = DF_OK;

	if (!entry) {
		rc = unknown_name(root, name, err);
		df_err_prefix(err, "%s: ", info->path);
		return rc;
	}
	DF_TRY(df_alloc(&ds, 1, sizeof(*ds), "dataset", err));
	DF_TRY(df_strdup(&ds->name, name, err));
	ds->stage = stage;
	if (df_json_type(entry) != DF_JSON_OBJECT) {
		rc = df_fail(err, DF_ECONFIG, "expected an object, found %s", df_json_type_name(entry));
		goto out;
	}
	DF_TRY(check_members(entry, err));
	DF_TRY(read_source(ds, entry, &file_name, err));
	DF_TRY(read_formatting(ds, entry, err));
	DF_TRY(read_columns(ds, entry, err));
	in_entry = false;
	DF_TRY(open_files(ds, info->dir, file_name, err));
	if (ds->type == DF_FILE_TXT &&
	    (ds->formatting != DF_FORMAT_ALPACA || !ds->column[DF_COLUMN_PROMPT] ||
		strcmp(ds->column[DF_COLUMN_PROMPT], "text") != 0)) {
		in_entry = true;
		rc = df_fail(err, DF_ECONFIG,
		    "a text file has one column, 'text': "
		    "describe it with \"columns\": {\"prompt\": \"text\"}");
		goto out;
	}
	DF_TRY(digest_files(ds, err));
	df_dataset_rewind(ds);
	*out = ds;
	ds = NULL;
out:
	if (rc != DF_OK && in_entry) {
		/* A wrong type or number in an entry is a configuration error, no matter which function found it. */
		if (rc == DF_EFORMAT || rc == DF_ERANGE)
			rc = err ? (err->code = DF_ECONFIG) : DF_ECONFIG;
		df_err_prefix(err, "%s: dataset '%s': ", info->path, name);
	} else if (rc != DF_OK) {
		df_err_prefix(err, "dataset '%s': ", name);
	}
	df_dataset_free(ds);
	return rc;
}

int
df_dataset_open_file(struct df_dataset **out, const char *path, enum df_data_stage stage, struct df_err *err)
{
	struct df_dataset *ds = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&ds, 1, sizeof(*ds), "dataset", err));
	DF_TRY(df_strdup(&ds->name, df_path_base(path), err));
	ds->stage = stage;
	ds->formatting = DF_FORMAT_ALPACA;
	for (size_t i = 0; i < DF_COLUMN_COUNT; i++)
		if (column_defaults[i])
			DF_TRY(df_strdup(&ds->column[i], column_defaults[i], err));
	DF_TRY(open_files(ds, NULL, path, err));
	if (ds->type == DF_FILE_TXT) {
		free(ds->column[DF_COLUMN_PROMPT]);
		ds->column[DF_COLUMN_PROMPT] = NULL;
		DF_TRY(df_strdup(&ds->column[DF_COLUMN_PROMPT], "text", err));
	}
	DF_TRY(digest_files(ds, err));
	df_dataset_rewind(ds);
	*out = ds;
	ds = NULL;
out:
	df_dataset_free(ds);
	return rc;
}

void
df_dataset_free(struct df_dataset *ds)
{
	if (!ds)
		return;
	for (size_t i = 0; i < ds->n_files; i++) {
		df_file_unmap(ds->files[i].data, ds->files[i].n);
		free(ds->files[i].name);
	}
	free(ds->files);
	free(ds->place);
	free(ds->file_first);
	for (size_t i = 0; i < DF_COLUMN_COUNT; i++)
		free(ds->column[i]);
	for (size_t i = 0; i < DF_TAG_COUNT; i++)
		free(ds->tag[i]);
	free(ds->name);
	free(ds);
}

const char *
df_dataset_name(const struct df_dataset *ds)
{
	return ds->name;
}

const char *
df_dataset_id(const struct df_dataset *ds)
{
	return ds->id;
}

void
df_dataset_set_quirk(struct df_dataset *ds, bool on)
{
	ds->thinking_note = on && ds->formatting == DF_FORMAT_OPENAI;
}

uint64_t
df_dataset_num_samples(const struct df_dataset *ds)
{
	return ds->num_samples;
}

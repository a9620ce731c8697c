/*
 * set.c - many files (or one stream) that are read as one artefact.
 *
 * Every member is opened once to learn its meta and rows and to check that it belongs to the others; after that
 * only a few are kept open, because a set may have more members than a process may have open files.
 */
#include "shard/shard_priv.h"
#include "shard/stored.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/inout.h"
#include "base/log.h"

#define OPEN_MAX_MEMBERS 16
#define SCAN_BYTES       ((uint64_t)16 << 20) /* bytes to read at a time when all rows are read */

struct member {
	char *path, *name;
	uint64_t first, rows;
	uint64_t values[DF_COL_COUNT];
	enum df_store store[DF_COL_COUNT];
	uint64_t chunk;     /* values of a chunk of tokens/ids; 0: HDF5 must read them */
	struct df_h5in *in; /* NULL: not open now */
	uint64_t used;
};

struct df_set {
	char *name;
	struct df_meta meta;
	uint32_t cols, skip; /* the columns of the set; those that are not read */
	size_t width[DF_COL_COUNT];
	struct member *m;
	size_t n, cap, max_open;
	uint64_t rows, next, clock;
	bool made_up_ids; /* a user's weights without sample/id: row i is sample i */
	struct df_stream_in *stream;
	bool ended;
	int spool_fd; /* standard input as a file, -1 */
};

const struct df_meta *
df_set_meta(const struct df_set *s)
{
	return &s->meta;
}

const char *
df_set_name(const struct df_set *s)
{
	return s->name;
}

bool
df_set_is_stream(const struct df_set *s)
{
	return s->stream != NULL;
}

uint64_t
df_set_rows(const struct df_set *s)
{
	return s->stream && !s->ended ? UINT64_MAX : s->rows;
}

bool
df_set_has(const struct df_set *s, enum df_col c)
{
	return s->cols & 1u << c;
}

size_t
df_set_width(const struct df_set *s, enum df_col c)
{
	return df_set_has(s, c) && df_column(c)->matrix ? s->width[c] : 0;
}

void
df_set_only(struct df_set *s, const enum df_col *cols, size_t n)
{
	s->skip = UINT32_MAX;
	for (size_t i = 0; i < n; i++)
		s->skip &= ~(UINT32_C(1) << cols[i]);
}

size_t
df_set_parts(const struct df_set *s)
{
	return s->n;
}

bool
df_set_ids_made_up(const struct df_set *s)
{
	return s->made_up_ids;
}

struct df_set_part
df_set_part(const struct df_set *s, size_t i)
{
	const struct member *m = &s->m[i];
	struct df_set_part p = {
		.path = m->path, .name = m->name, .first = m->first, .rows = m->rows, .chunk = m->chunk
	};

	memcpy(p.values, m->values, sizeof(p.values));
	memcpy(p.store, m->store, sizeof(p.store));
	return p;
}

void
df_set_close(struct df_set *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->n; i++) {
		df_h5in_close(s->m[i].in);
		free(s->m[i].path);
		free(s->m[i].name);
	}
	free(s->m);
	df_stream_in_close(s->stream);
	if (s->spool_fd >= 0)
		close(s->spool_fd);
	df_meta_release(&s->meta);
	free(s->name);
	free(s);
}

/* ---- opening */

/* The open reader of member i. */
static int
member_in(struct df_set *s, struct member *m, struct df_h5in **in, struct df_err *err)
{
	const struct df_h5info *info;
	struct member *oldest = NULL;
	size_t n_open = 0;
	int rc = DF_OK;

	if (m->in == NULL) {
		for (size_t i = 0; i < s->n; i++) {
			if (s->m[i].in == NULL)
				continue;
			n_open++;
			if (oldest == NULL || s->m[i].used < oldest->used)
				oldest = &s->m[i];
		}
		if (n_open >= s->max_open) {
			df_h5in_close(oldest->in);
			oldest->in = NULL;
		}
		DF_TRY(df_h5in_open(&m->in, m->path, m->name, s->meta.kind, err));
		info = df_h5in_info(m->in);
		if (info->rows != m->rows || info->cols != (s->made_up_ids ? s->cols & ~(1u << DF_COL_ID) : s->cols)) {
			rc = df_fail(err, DF_EFORMAT, "%s: changed while it was read", m->name);
			goto out;
		}
		/* With many open files, the chunks that opening decoded would take too much memory. */
		if (s->max_open > OPEN_MAX_MEMBERS)
			df_h5in_forget(m->in);
	}
	m->used = ++s->clock;
	*in = m->in;
out:
	return rc;
}

int
df_set_part_in(struct df_set *s, size_t i, struct df_h5in **in, struct df_err *err)
{
	return member_in(s, &s->m[i], in, err);
}

void
df_set_keep_open(struct df_set *s, size_t n)
{
	s->max_open = n > OPEN_MAX_MEMBERS ? n : OPEN_MAX_MEMBERS;
}

void
df_set_rest(struct df_set *s)
{
	for (size_t i = 0; i < s->n; i++) {
		df_h5in_close(s->m[i].in);
		s->m[i].in = NULL;
	}
}

/* Add the artefact at `path` to the set. */
static int
add_file(struct df_set *s, enum df_kind kind, const char *path, const char *name, struct df_digest *id, bool *all_ids,
    struct df_err *err)
{
	const struct df_h5info *info;
	struct df_h5in *in = NULL;
	struct df_digest part;
	struct member *m;
	int rc;

	DF_TRY(df_h5in_open(&in, path, name, kind, err));
	info = df_h5in_info(in);
	if (s->n == 0) {
		DF_TRY(df_meta_copy(&s->meta, &info->meta, err));
		s->cols = info->cols;
		memcpy(s->width, info->width, sizeof(s->width));
	} else {
		DF_TRY(df_meta_same(&s->meta, s->m[0].name, &info->meta, name, err));
		if (info->cols != s->cols || memcmp(s->width, info->width, sizeof(s->width)) != 0) {
			rc = df_fail(err, DF_ELINEAGE, "%s and %s do not belong together: they have different columns",
			    s->m[0].name, name);
			goto out;
		}
	}
	if (info->meta.id[0] && df_digest_parse(&part, info->meta.id, NULL) == DF_OK)
		df_digest_merge(id, part);
	else
		*all_ids = false;
	if (!info->meta.has_lineage)
		df_info("%s: has no metadata about its origin; used without a check", name);
	DF_TRY(df_grow(&s->m, &s->cap, s->n + 1, sizeof(*s->m), "shards", err));
	m = &s->m[s->n];
	*m = (struct member){ .first = s->rows, .rows = info->rows };
	memcpy(m->values, info->values, sizeof(m->values));
	memcpy(m->store, info->store, sizeof(m->store));
	m->chunk = info->chunk[DF_COL_IDS];
	s->n++;
	DF_TRY(df_strdup(&m->path, path, err));
	DF_TRY(df_strdup(&m->name, name, err));
	s->rows += info->rows;
	if (s->n <= s->max_open) {
		m->in = in;
		m->used = ++s->clock;
		in = NULL;
	}
out:
	df_h5in_close(in);
	return rc;
}

uint64_t
df_set_scan_rows(const struct df_set *s)
{
	uint64_t bytes = 1;

	for (int i = 0; i < DF_COL_COUNT; i++)
		if (df_set_has(s, (enum df_col)i) && !(s->skip & 1u << i))
			bytes += 8 * (s->width[i] ? s->width[i] : 1);
	return SCAN_BYTES / bytes ? SCAN_BYTES / bytes : 1;
}

uint64_t
df_set_block_rows(const struct df_set *s, uint64_t bytes)
{
	uint64_t row = 0;

	for (int i = 0; i < DF_COL_COUNT; i++)
		if (df_set_has(s, (enum df_col)i) && !(s->skip & 1u << i))
			row += df_coltype_size(df_column((enum df_col)i)->type) * (s->width[i] ? s->width[i] : 1);
	return row && bytes / row ? bytes / row : 1;
}

/* Copy the `n` bytes of `head`, which were already read, and the rest of fd to a temporary file at *path. */
static int
spool(struct df_set *s, int fd, const char *head, size_t n, char **path, struct df_err *err)
{
	const size_t step = (size_t)1 << 20;
	char *buf = NULL;
	ssize_t got;
	int rc;

	DF_TRY(df_spool_open(&s->spool_fd, path, err));
	DF_TRY(df_alloc(&buf, step, 1, "a copy", err));
	DF_TRY(df_write_all(s->spool_fd, head, n, err));
	while ((got = read(fd, buf, step)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			rc = df_fail(err, DF_EIO, "cannot read:");
			goto out;
		}
		DF_TRY(df_write_all(s->spool_fd, buf, (size_t)got, err));
	}
out:
	free(buf);
	return rc;
}

/* The set is the stream that fd carries; takes fd. */
static int
add_stream(struct df_set *s, enum df_kind kind, int fd, const char *name, struct df_err *err)
{
	const struct df_h5info *info;
	int rc;

	DF_TRY(df_stream_in_open(&s->stream, fd, name, kind, err));
	info = df_stream_in_info(s->stream);
	DF_TRY(df_meta_copy(&s->meta, &info->meta, err));
	s->cols = info->cols;
	memcpy(s->width, info->width, sizeof(s->width));
out:
	return rc;
}

/* Standard input, or a path that is not a regular file: a stream, or a file to be spooled.  Takes fd. */
static int
add_unseekable(struct df_set *s, enum df_kind kind, int fd, const char *name, struct df_digest *id, bool *all_ids,
    struct df_err *err)
{
	static const char hdf5[8] = "\x89HDF\r\n\x1a\n";
	char head[DF_STREAM_MAGIC_LEN], path[64], *spooled = NULL;
	bool placed = false; /* the message already names the place */
	struct stat st;
	int rc;

	if (fstat(fd, &st) != 0) {
		rc = df_fail(err, DF_ENOINPUT, "cannot read:");
		goto out;
	}
	if (S_ISREG(st.st_mode))
		lseek(fd, 0, SEEK_SET);
	if ((rc = df_read_all(fd, head, sizeof(head), err)) != DF_OK) {
		if (rc == DF_EFORMAT)
			df_fail(err, rc, "empty or truncated: did its writer fail?");
		goto out;
	}
	if (memcmp(head, DF_STREAM_MAGIC, sizeof(head)) == 0) {
		*all_ids = false;
		return add_stream(s, kind, fd, name, err);
	}
	if (memcmp(head, DF_STREAM_MAGIC, 8) == 0) {
		rc = df_fail(
		    err, DF_EUNSUPPORTED, "a stream of another version; both ends of a pipe must be of one df-tools");
		goto out;
	}
	if (memcmp(head, hdf5, sizeof(hdf5)) != 0) {
		rc = df_fail(err, DF_EFORMAT, "neither a stream nor an HDF5 file");
		goto out;
	}
	if (S_ISREG(st.st_mode)) {
		s->spool_fd = fd;
		fd = -1;
	} else {
		DF_TRY(spool(s, fd, head, sizeof(head), &spooled, err));
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", s->spool_fd);
	placed = true;
	DF_TRY(add_file(s, kind, spooled ? spooled : path, name, id, all_ids, err));
out:
	if (rc != DF_OK && !placed)
		df_err_prefix(err, "%s: ", name);
	if (spooled)
		unlink(spooled); /* it stays open */
	free(spooled);
	if (fd >= 0)
		close(fd);
	return rc;
}

/* Must this path be read from front to back? */
static bool
unseekable(const char *path)
{
	char head[8] = "";
	struct stat st;
	int fd;
	bool yes;

	if (strcmp(path, "-") == 0)
		return true;
	if (stat(path, &st) != 0 || S_ISDIR(st.st_mode))
		return false;
	if (!S_ISREG(st.st_mode))
		return true;
	/* A stream that was saved in a file. */
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return false;
	yes = read(fd, head, sizeof(head)) == (ssize_t)sizeof(head) && memcmp(head, DF_STREAM_MAGIC, sizeof(head)) == 0;
	close(fd);
	return yes;
}

static int
add_any(struct df_set *s, enum df_kind kind, const char *path, bool alone, struct df_digest *id, bool *all_ids,
    struct df_err *err)
{
	const char *name = strcmp(path, "-") == 0 ? "standard input" : path;
	int fd, rc;

	if ((rc = df_inout_read(path, NULL, err)) != DF_OK)
		return rc;
	if (!unseekable(path))
		return add_file(s, kind, path, path, id, all_ids, err);
	if (!alone)
		return df_fail(err, DF_EUSAGE, "%s: a stream cannot be one of several inputs", name);
	fd = strcmp(path, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return df_fail(err, DF_ENOINPUT, "%s:", name);
	if (isatty(fd)) {
		close(fd);
		return df_fail(
		    err, DF_ENOINPUT, "%s is a terminal; name a file, or write to this command through a pipe", name);
	}
	return add_unseekable(s, kind, fd, name, id, all_ids, err);
}

int
df_set_open_later(struct df_set **out, enum df_kind kind, const char *role, const char *const *paths, size_t n_paths,
    struct df_err *err)
{
	struct df_paths p = { NULL, 0, 0 };
	struct df_digest id = { 0, 0 };
	struct df_set *s = NULL;
	bool all_ids = true;
	int rc;

	DF_TRY(df_alloc(&s, 1, sizeof(*s), "a set", err));
	s->spool_fd = -1;
	s->max_open = OPEN_MAX_MEMBERS;
	s->meta = (struct df_meta)DF_META_INIT;
	if (n_paths == 0) {
		rc = df_fail(err, DF_EUSAGE, "no input");
		goto out;
	}
	DF_TRY(df_paths_expand(&p, paths, n_paths, kind, err));
	if (p.n > 1)
		DF_TRY(df_asprintf(&s->name, err, "%s (%zu files)", n_paths == 1 ? paths[0] : p.v[0], p.n));
	else
		DF_TRY(df_strdup(&s->name, strcmp(p.v[0], "-") == 0 ? "standard input" : p.v[0], err));
	for (size_t i = 0; i < p.n; i++)
		DF_TRY(add_any(s, kind, p.v[i], p.n == 1, &id, &all_ids, err));
	if (s->meta.kind == DF_KIND_WEIGHTS && df_set_has(s, DF_COL_WEIGHT) && !df_set_has(s, DF_COL_ID)) {
		s->made_up_ids = true;
		s->cols |= 1u << DF_COL_ID;
	}
	/* Rows without ids are known by their position in the whole. */
	s->meta.id[0] = '\0';
	if (all_ids && !(p.n > 1 && (s->made_up_ids || !df_set_has(s, DF_COL_ID))))
		df_digest_hex(id, s->meta.id);
	*out = s;
	s = NULL;
out:
	if (rc != DF_OK && role)
		df_err_prefix(err, "%s: ", role);
	df_paths_release(&p);
	df_set_close(s);
	return rc;
}

uint32_t
df_set_unidentified(const struct df_set *s)
{
	return s->stream || s->meta.id[0] || s->next > 0 || s->skip & s->cols ? 0 : s->cols;
}

void
df_set_identify(struct df_set *s, struct df_digest id)
{
	df_digest_hex(id, s->meta.id);
}

void
df_set_rewind(struct df_set *s)
{
	s->next = 0;
}

/* ---- reading */

static int
read_ragged(struct df_set *s, enum df_col c, uint64_t first, uint64_t n, struct df_batch *b, struct df_err *err)
{
	const struct df_column *col = df_column(c);
	struct df_column_data *d = &b->col[c];
	uint64_t total = 0, at = 0;
	size_t size = df_coltype_size(col->type);
	struct df_h5in *in;
	int rc = DF_OK;

	/* The columns of the tokens share their offsets. */
	if (strcmp(col->offsets, df_column(DF_COL_IDS)->offsets) == 0 && b->col[DF_COL_IDS].offsets) {
		d->offsets = b->col[DF_COL_IDS].offsets;
		total = d->offsets[n];
	} else {
		DF_TRY(df_arena_alloc(&b->arena, &d->offsets, (size_t)n + 1, sizeof(uint64_t), col->offsets, err));
		d->offsets[0] = 0;
		for (size_t i = 0; i < s->n && at < n; i++) {
			struct member *m = &s->m[i];
			uint64_t from = first + at - m->first, take, base;

			if (first + at >= m->first + m->rows)
				continue;
			take = m->rows - from < n - at ? m->rows - from : n - at;
			DF_TRY(member_in(s, m, &in, err));
			/* n+1 entries; the first is the end of the part before. */
			DF_TRY(df_h5in_offsets(in, c, from, take, d->offsets + at, err));
			base = d->offsets[at];
			for (uint64_t r = 0; r <= take; r++)
				d->offsets[at + r] = d->offsets[at + r] - base + total;
			at += take;
			total = d->offsets[at];
		}
	}
	DF_TRY(df_arena_alloc(&b->arena, &d->data, (size_t)total, size, col->path, err));
	at = 0;
	for (size_t i = 0; i < s->n && at < n; i++) {
		struct member *m = &s->m[i];
		uint64_t from = first + at - m->first, take, begin;

		if (first + at >= m->first + m->rows)
			continue;
		take = m->rows - from < n - at ? m->rows - from : n - at;
		DF_TRY(member_in(s, m, &in, err));
		DF_TRY(df_h5in_offsets(in, c, from, 0, &begin, err));
		DF_TRY(df_h5in_plan(in, c, begin, d->offsets[at + take] - d->offsets[at],
		    (char *)d->data + d->offsets[at] * size, b->todo, err));
		at += take;
	}
out:
	return rc;
}

static int
read_fixed(struct df_set *s, enum df_col c, uint64_t first, uint64_t n, struct df_batch *b, struct df_err *err)
{
	const struct df_column *col = df_column(c);
	struct df_column_data *d = &b->col[c];
	size_t row, total;
	struct df_h5in *in;
	int rc;

	d->width = col->matrix ? s->width[c] : 1;
	row = d->width * df_coltype_size(col->type);
	DF_TRY(df_size_mul((size_t)n, row, &total, col->path, err));
	DF_TRY(df_arena_alloc(&b->arena, &d->data, total, 1, col->path, err));
	if (c == DF_COL_ID && s->made_up_ids) {
		for (uint64_t i = 0; i < n; i++)
			((uint64_t *)d->data)[i] = first + i;
		return DF_OK;
	}
	for (uint64_t i = 0, at = 0; i < s->n && at < n; i++) {
		struct member *m = &s->m[i];
		uint64_t from = first + at - m->first, take;

		if (first + at >= m->first + m->rows)
			continue;
		take = m->rows - from < n - at ? m->rows - from : n - at;
		DF_TRY(member_in(s, m, &in, err));
		DF_TRY(df_h5in_plan(in, c, from, take, (char *)d->data + at * row, b->todo, err));
		at += take;
	}
out:
	return rc;
}

static int
plan_rows(struct df_set *s, uint64_t first, uint64_t n, struct df_batch *b, struct df_err *err)
{
	int rc = DF_OK;

	if (s->stream)
		return df_fail(err, DF_EUSAGE, "%s: a stream can only be read from front to back", s->name);
	if (first > s->rows || n > s->rows - first)
		return df_fail(err, DF_EINTERNAL, "%s: rows %llu + %llu of %llu", s->name, (unsigned long long)first,
		    (unsigned long long)n, (unsigned long long)s->rows);
	df_batch_clear(b);
	if (b->todo == NULL)
		DF_TRY(df_alloc(&b->todo, 1, sizeof(*b->todo), "a batch", err));
	for (int i = 0; i < DF_COL_COUNT; i++) {
		if (!df_set_has(s, (enum df_col)i) || s->skip & 1u << i)
			continue;
		if (df_column((enum df_col)i)->offsets)
			DF_TRY(read_ragged(s, (enum df_col)i, first, n, b, err));
		else
			DF_TRY(read_fixed(s, (enum df_col)i, first, n, b, err));
	}
	b->n = n;
	b->first = first;
out:
	return rc;
}

int
df_set_read(struct df_set *s, uint64_t first, uint64_t n, struct df_batch *b, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(plan_rows(s, first, n, b, err));
	DF_TRY(df_batch_load(b, err));
out:
	return rc;
}

/* At most n > 0 rows from s->next on, which end at the end of a member or of a chunk of its widest column. */
static int
whole_chunks(struct df_set *s, uint64_t *n, struct df_err *err)
{
	uint64_t step = 1, from;
	size_t widest = 0;
	struct member *m = s->m;
	struct df_h5in *in;
	int rc;

	while (s->next >= m->first + m->rows)
		m++;
	DF_TRY(member_in(s, m, &in, err));
	for (int i = 0; i < DF_COL_COUNT; i++)
		if (df_set_has(s, (enum df_col)i) && !(s->skip & 1u << i) && s->width[i] > widest) {
			widest = s->width[i];
			step = df_h5in_step(in, (enum df_col)i);
		}
	from = s->next - m->first;
	if (*n >= m->rows - from)
		*n = m->rows - from;
	else if ((from + *n) / step * step > from)
		*n = (from + *n) / step * step - from;
out:
	return rc;
}

/* The next rows; `exact`: exactly as many as were asked for. */
static int
plan_next(struct df_set *s, uint64_t max_rows, bool exact, struct df_batch *b, uint64_t *n_rows, struct df_err *err)
{
	uint64_t n;
	int rc = DF_OK;

	*n_rows = 0;
	if (s->stream) {
		/* A record without rows (of an empty artefact) is skipped. */
		do {
			DF_TRY(df_stream_in_next(s->stream, b, &s->ended, err));
		} while (!s->ended && b->n == 0);
		s->rows = df_stream_in_rows(s->stream);
		if (s->ended)
			df_digest_hex(df_stream_in_digest(s->stream), s->meta.id);
		*n_rows = b->n;
		return DF_OK;
	}
	n = s->rows - s->next < max_rows ? s->rows - s->next : max_rows;
	if (n > 0 && !exact)
		DF_TRY(whole_chunks(s, &n, err));
	DF_TRY(plan_rows(s, s->next, n, b, err));
	s->next += n;
	/*
	 * Free the chunk cache of a member that was read to its end; if its rows are wanted again, it is opened
	 * again.
	 */
	for (size_t i = 0; i < s->n && s->m[i].first + s->m[i].rows <= s->next && s->n > 1; i++) {
		df_h5in_close(s->m[i].in);
		s->m[i].in = NULL;
	}
	*n_rows = n;
out:
	return rc;
}

int
df_set_next(struct df_set *s, uint64_t max_rows, struct df_batch *b, uint64_t *n_rows, struct df_err *err)
{
	int rc;

	DF_TRY(plan_next(s, max_rows, true, b, n_rows, err));
	DF_TRY(df_batch_load(b, err));
out:
	return rc;
}

int
df_set_plan(struct df_set *s, uint64_t max_rows, struct df_batch *b, uint64_t *n_rows, struct df_err *err)
{
	return plan_next(s, max_rows, false, b, n_rows, err);
}

int
df_set_lengths(struct df_set *s, enum df_col c, uint64_t **lengths, struct df_err *err)
{
	uint64_t *v = NULL;
	struct df_h5in *in;
	int rc;

	if (s->stream)
		return df_fail(err, DF_EUSAGE, "%s: a stream can only be read from front to back", s->name);
	if (!df_set_has(s, c) || df_column(c)->offsets == NULL)
		return df_fail(err, DF_EINTERNAL, "%s: no ragged column '%s'", s->name, df_column(c)->path);
	DF_TRY(df_alloc(&v, (size_t)s->rows + 1, sizeof(*v), "lengths", err));
	for (size_t i = 0; i < s->n; i++) {
		struct member *m = &s->m[i];

		DF_TRY(member_in(s, m, &in, err));
		DF_TRY(df_h5in_offsets(in, c, 0, m->rows, v + m->first, err));
		for (uint64_t r = m->first; r < m->first + m->rows; r++)
			v[r] = v[r + 1] - v[r];
	}
	*lengths = v;
	v = NULL;
out:
	free(v);
	return rc;
}

int
df_set_offsets(struct df_set *s, enum df_col c, uint64_t first, uint64_t n, uint64_t *offsets, struct df_err *err)
{
	uint64_t at = 0, values = 0;
	struct df_h5in *in;
	int rc = DF_OK;

	if (s->stream)
		return df_fail(err, DF_EUSAGE, "%s: a stream can only be read from front to back", s->name);
	if (!df_set_has(s, c) || df_column(c)->offsets == NULL || first > s->rows || n > s->rows - first)
		return df_fail(err, DF_EINTERNAL, "%s: offsets of rows %llu + %llu of '%s'", s->name,
		    (unsigned long long)first, (unsigned long long)n, df_column(c)->path);
	offsets[0] = 0;
	for (size_t i = 0; i < s->n && at < n; values += s->m[i++].values[c]) {
		struct member *m = &s->m[i];
		uint64_t from = first + at - m->first, take;

		if (first + at >= m->first + m->rows)
			continue;
		take = m->rows - from < n - at ? m->rows - from : n - at;
		DF_TRY(member_in(s, m, &in, err));
		DF_TRY(df_h5in_offsets(in, c, from, take, offsets + at, err));
		for (uint64_t r = at; r <= at + take; r++)
			offsets[r] += values;
		at += take;
	}
out:
	return rc;
}

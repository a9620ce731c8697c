/*
 * read.c - scores and indices that somebody else made: artefacts, or plain text.
 *
 * A user's method is any program that writes one of these, so what is read here is checked row by row.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "select/select.h"

#define TEXT_LIMIT ((size_t)1 << 32)
#define READ_ROWS  ((uint64_t)1 << 16)

static int
is_hdf5(const char *path, bool *yes, struct df_err *err)
{
	static const unsigned char magic[8] = { 0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n' };
	const void *data = NULL;
	size_t n = 0;
	int rc = df_file_map(path, &data, &n, err);

	if (rc != DF_OK)
		return rc;
	*yes = n >= sizeof(magic) && memcmp(data, magic, sizeof(magic)) == 0;
	df_file_unmap(data, n);
	return DF_OK;
}

int
df_select_lines(const char *path, df_line_fn *fn, void *ctx, struct df_err *err)
{
	char *text = NULL, *line, *next;
	uint64_t number = 0;
	size_t n = 0;
	int rc = DF_OK;

	DF_TRY(df_file_get(path, TEXT_LIMIT, &text, &n, err));
	if (memchr(text, '\0', n)) {
		rc = df_fail(err, DF_EFORMAT, "%s: neither an HDF5 artefact nor text", path);
		goto out;
	}
	for (line = text; *line; line = next) {
		size_t len = strcspn(line, "\n");

		next = line + len + (line[len] == '\n');
		line[len] = '\0';
		if (len && line[len - 1] == '\r')
			line[--len] = '\0';
		number++;
		if (!len || line[0] == '#')
			continue;
		rc = fn(ctx, line, number, err);
		if (rc != DF_OK) {
			df_err_prefix(err, "%s:%" PRIu64 ": ", path, number);
			goto out;
		}
	}
out:
	free(text);
	return rc;
}

static int
parse_id(const char *s, uint64_t n_rows, uint64_t *id, struct df_err *err)
{
	int64_t v = 0;
	const int rc = df_parse_int(s, INT64_MIN, INT64_MAX, &v, err);

	if (rc != DF_OK)
		return DF_EFORMAT;
	if (v < 0 || (uint64_t)v >= n_rows)
		return df_fail(err, DF_ERANGE, "id %" PRId64 " is out of range: there are %" PRIu64 " rows", v, n_rows);
	*id = (uint64_t)v;
	return DF_OK;
}

/* The artefact's tokens must be ours, where both say which. */
static int
check_tokens(const struct df_set *set, const char *tokens_id, struct df_err *err)
{
	const struct df_input *in = df_meta_input(df_set_meta(set), "tokens");

	if (in && tokens_id && strcmp(in->id, tokens_id) != 0)
		return df_fail(err, DF_ELINEAGE, "%s was made for tokens %s, the train set's tokens are %s",
		    df_set_name(set), in->id, tokens_id);
	return DF_OK;
}

/* ---- an index -------------------------------------------------------------------- */

struct index_text {
	uint64_t *v;
	size_t n, cap;
	uint64_t n_rows;
};

static int
index_line(void *ctx, char *line, uint64_t number, struct df_err *err)
{
	struct index_text *t = ctx;
	uint64_t id = 0;
	int rc = DF_OK;

	(void)number;
	DF_TRY(parse_id(line, t->n_rows, &id, err));
	DF_TRY(df_grow(&t->v, &t->cap, t->n + 1, sizeof(*t->v), "index", err));
	t->v[t->n++] = id;
out:
	return rc;
}

static int
index_artefact(const char *path, const char *tokens_id, struct index_text *t, struct df_meta *meta, struct df_err *err)
{
	struct df_batch b = DF_BATCH_INIT;
	struct df_set *set = NULL;
	uint64_t n = 0;
	int rc = DF_OK;

	DF_TRY(df_set_open1(&set, DF_KIND_INDEX, "index", path, err));
	DF_TRY(check_tokens(set, tokens_id, err));
	for (;;) {
		const uint64_t *v;

		DF_TRY(df_set_next(set, READ_ROWS, &b, &n, err));
		if (!n)
			break;
		v = b.col[DF_COL_INDEX].data;
		DF_TRY(df_grow(&t->v, &t->cap, t->n + n, sizeof(*t->v), "index", err));
		for (uint64_t i = 0; i < n; i++) {
			if (v[i] >= t->n_rows) {
				rc = df_fail(err, DF_ERANGE,
				    "%s: position %" PRIu64 ": id %" PRIu64 " is out of range: there are %" PRIu64
				    " rows",
				    path, (uint64_t)t->n, v[i], t->n_rows);
				goto out;
			}
			t->v[t->n++] = v[i];
		}
	}
	if (df_set_meta(set)->id[0])
		DF_TRY(df_meta_add_input(meta, "index", "index", df_set_meta(set)->id, err));
out:
	df_batch_release(&b);
	df_set_close(set);
	return rc;
}

int
df_select_read_index(const char *path, uint64_t n_rows, const char *tokens_id, uint64_t **index, uint64_t *n,
    uint64_t *n_repeated, struct df_meta *meta, struct df_err *err)
{
	struct index_text t = { .n_rows = n_rows };
	uint8_t *seen = NULL;
	bool hdf5 = false;
	int rc = DF_OK;

	DF_TRY(is_hdf5(path, &hdf5, err));
	if (hdf5)
		DF_TRY(index_artefact(path, tokens_id, &t, meta, err));
	else
		DF_TRY(df_select_lines(path, index_line, &t, err));
	DF_TRY(df_grow(&t.v, &t.cap, t.n + 1, sizeof(*t.v), "index", err)); /* an empty index is an array too */
	DF_TRY(df_alloc(&seen, n_rows, 1, "ids", err));
	*n_repeated = 0;
	for (size_t i = 0; i < t.n; i++) {
		*n_repeated += seen[t.v[i]];
		seen[t.v[i]] = 1;
	}
	*index = t.v;
	*n = t.n;
	t.v = NULL;
out:
	free(t.v);
	free(seen);
	return rc;
}

/* ---- scores ------------------------------------------------------------------------- */

struct score_text {
	float *score;
	struct df_idset ids;
	uint64_t n_rows, next; /* next: the id of a line that has none */
	const char *path;
};

static int
score_line(void *ctx, char *line, uint64_t number, struct df_err *err)
{
	struct score_text *t = ctx;
	char *tab = strchr(line, '\t'), *value = tab ? tab + 1 : line;
	uint64_t id = t->next;
	double x = 0;
	int rc = DF_OK;

	(void)number;
	if (tab) {
		*tab = '\0';
		DF_TRY(parse_id(line, t->n_rows, &id, err));
	}
	/* Our parser takes finite numbers only; here a method may well say "nan". */
	if (strcasecmp(value, "nan") == 0)
		x = (double)NAN;
	else if (df_parse_double(value, &x, err)) {
		rc = DF_EFORMAT;
		goto out;
	}
	if (id >= t->n_rows) {
		rc = df_fail(err, DF_ERANGE, "more scores than rows (%" PRIu64 ")", t->n_rows);
		goto out;
	}
	DF_TRY(df_idset_add(&t->ids, &id, 1, t->path, err));
	t->score[id] = (float)x;
	t->next = id + 1;
out:
	return rc;
}

static int
scores_artefact(struct score_text *t, const char *tokens_id, struct df_meta *meta, struct df_err *err)
{
	struct df_batch b = DF_BATCH_INIT;
	struct df_set *set = NULL;
	enum df_col col;
	uint64_t n = 0;
	int rc = DF_OK;

	DF_TRY(df_set_open1(&set, DF_KIND_ANY, "scores", t->path, err));
	col = df_set_has(set, DF_COL_SCORE) ? DF_COL_SCORE : DF_COL_LOSS;
	if (!df_set_has(set, col) || !df_set_has(set, DF_COL_ID)) {
		rc = df_fail(err, DF_EFORMAT, "%s: has no '%s' with '%s' beside it", df_set_name(set),
		    df_column(DF_COL_SCORE)->path, df_column(DF_COL_ID)->path);
		goto out;
	}
	DF_TRY(check_tokens(set, tokens_id, err));
	for (;;) {
		const uint64_t *id;
		const float *v;

		DF_TRY(df_set_next(set, READ_ROWS, &b, &n, err));
		if (!n)
			break;
		id = b.col[DF_COL_ID].data;
		v = b.col[col].data;
		DF_TRY(df_idset_add(&t->ids, id, n, df_set_name(set), err));
		for (uint64_t i = 0; i < n; i++)
			t->score[id[i]] = v[i];
	}
	if (df_set_meta(set)->id[0])
		DF_TRY(
		    df_meta_add_input(meta, "scores", df_kind_name(df_set_meta(set)->kind), df_set_meta(set)->id, err));
out:
	df_batch_release(&b);
	df_set_close(set);
	return rc;
}

int
df_select_read_scores(
    const char *path, uint64_t n_rows, const char *tokens_id, float **score, struct df_meta *meta, struct df_err *err)
{
	struct score_text t = { .n_rows = n_rows, .path = path };
	bool hdf5 = false;
	int rc = DF_OK;

	DF_TRY(df_alloc(&t.score, n_rows, sizeof(*t.score), "scores", err));
	DF_TRY(df_idset_init(&t.ids, n_rows, err));
	DF_TRY(is_hdf5(path, &hdf5, err));
	if (hdf5)
		DF_TRY(scores_artefact(&t, tokens_id, meta, err));
	else
		DF_TRY(df_select_lines(path, score_line, &t, err));
	DF_TRY(df_idset_check_full(&t.ids, path, err));
	*score = t.score;
	t.score = NULL;
out:
	free(t.score);
	df_idset_release(&t.ids);
	return rc;
}

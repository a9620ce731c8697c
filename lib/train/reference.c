/*
 * reference.c - losses of targets from a file, joined by sample id, or from a second model.
 */
#include "train/reference.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "eval/forward.h"

#define NO_PLACE  UINT32_MAX
#define SCAN_ROWS 65536
struct df_reference {
	const struct df_rows *rows;
	char *name; /* for messages */
	char id[DF_DIGEST_HEX];

	/* a file */
	struct df_set *set;
	uint32_t *place;   /* [rows->n] the row of the file with a row's losses */
	uint64_t *offsets; /* [rows of the file + 1] */
	float *nll;        /* [cap_nll] all losses; NULL: read when they are wanted */
	size_t cap_nll;
	struct df_batch batch;

	/* a model */
	struct df_model *model;
	struct df_forward *forward;
};

void
df_reference_close(struct df_reference *r)
{
	if (!r)
		return;
	df_forward_free(r->forward);
	df_batch_release(&r->batch);
	df_set_close(r->set);
	df_model_free(r->model);
	free(r->name);
	free(r->place);
	free(r->offsets);
	free(r->nll);
	free(r);
}

const char *
df_reference_id(const struct df_reference *r)
{
	return r->id;
}

static int
open_new(struct df_reference **out, const struct df_rows *rows, const char *name, struct df_err *err)
{
	struct df_reference *r;
	int rc;

	if ((rc = df_alloc(&r, 1, sizeof(*r), "reference", err)) != DF_OK)
		return rc;
	r->rows = rows;
	r->batch = (struct df_batch)DF_BATCH_INIT;
	if ((rc = df_strdup(&r->name, name, err)) != DF_OK) {
		free(r);
		return rc;
	}
	*out = r;
	return DF_OK;
}

/* ---- a file --------------------------------------------------------------------- */

static int
open_set(struct df_reference *r, const char *path, struct df_err *err)
{
	const struct df_input *tokens;
	const struct df_meta *m;
	int rc;

	DF_TRY(df_set_open1(&r->set, DF_KIND_LOSSES, "reference losses", path, err));
	m = df_set_meta(r->set);
	tokens = df_meta_input(m, "tokens");
	if (df_set_is_stream(r->set))
		rc = df_fail(err, DF_EUSAGE, "%s: reference losses must be in a file", path);
	else if (!df_set_has(r->set, DF_COL_TOKEN_LOSS))
		rc = df_fail(err, DF_EFORMAT, "%s has no losses of targets: make it with df-grad --losses --token-loss",
		    df_set_name(r->set));
	else if (tokens && strcmp(tokens->id, r->rows->meta.id) != 0)
		rc = df_fail(err, DF_ELINEAGE,
		    "%s has the losses of tokens %s, but %s is %s: make them with df-grad of these very tokens, so that both "
		    "models have the same tokenizer and the same targets",
		    df_set_name(r->set), tokens->id, r->rows->name, r->rows->meta.id);
	else if (!tokens)
		df_info("%s does not say which tokens it belongs to; taken for %s", df_set_name(r->set), r->rows->name);
	memcpy(r->id, m->id, sizeof(r->id));
out:
	return rc;
}

/* Where in the file each row's losses begin. */
static int
read_offsets(struct df_reference *r, uint64_t n, struct df_err *err)
{
	uint64_t *lengths = NULL;
	int rc;

	DF_TRY(df_set_lengths(r->set, DF_COL_TOKEN_LOSS, &lengths, err));
	DF_TRY(df_alloc(&r->offsets, n + 1, sizeof(*r->offsets), "reference losses", err));
	for (uint64_t i = 0; i < n; i++)
		r->offsets[i + 1] = r->offsets[i] + lengths[i];
out:
	free(lengths);
	return rc;
}

/* Note where the samples of a batch are in the file. */
static int
place_samples(struct df_reference *r, struct df_err *err)
{
	const uint64_t *id = r->batch.col[DF_COL_ID].data;

	for (uint64_t i = 0; i < r->batch.n; i++) {
		uint64_t row;

		if (!df_rows_find(r->rows, id[i], &row))
			return df_fail(err, DF_ELINEAGE,
			    "%s has losses of sample %" PRIu64 ", but %s has no such sample", r->name, id[i],
			    r->rows->name);
		if (r->place[row] != NO_PLACE)
			return df_fail(err, DF_EFORMAT, "%s: sample %" PRIu64 " is there twice", r->name, id[i]);
		r->place[row] = (uint32_t)(r->batch.first + i);
	}
	return DF_OK;
}

static int
scan(struct df_reference *r, bool keep, struct df_err *err)
{
	const enum df_col cols[] = { DF_COL_ID, DF_COL_TOKEN_LOSS };
	uint64_t got;
	int rc;

	df_set_only(r->set, cols, keep ? 2 : 1);
	for (;;) {
		const struct df_column_data *nll = &r->batch.col[DF_COL_TOKEN_LOSS];

		DF_TRY(df_set_next(r->set, SCAN_ROWS, &r->batch, &got, err));
		if (got == 0)
			break;
		DF_TRY(place_samples(r, err));
		if (keep && nll->offsets[got] > 0)
			memcpy(r->nll + r->offsets[r->batch.first], nll->data, nll->offsets[got] * sizeof(*r->nll));
	}
	if (!keep)
		df_set_only(r->set, cols + 1, 1);
out:
	return rc;
}

/* A sample's losses must be as many as its targets. */
static int
check_count(const struct df_reference *r, uint64_t row, uint64_t n_targets, struct df_err *err)
{
	const uint64_t at = r->place[row], n = r->offsets[at + 1] - r->offsets[at];

	if (n == n_targets)
		return DF_OK;
	return df_fail(err, DF_ELINEAGE,
	    "%s: sample %" PRIu64 " has %" PRIu64 " losses, but %" PRIu64 " targets in %s: losses of other tokens",
	    r->name, df_rows_id(r->rows, row), n, n_targets, r->rows->name);
}

/* Before any work: is every sample there, and, where all tokens are in memory, with as many losses as targets? */
static int
check_all(struct df_reference *r, struct df_err *err)
{
	const struct df_rows *rows = r->rows;
	struct df_gather g = { 0 };
	uint64_t missing = 0, first = 0;
	struct df_tokens b;
	int rc = DF_OK;

	for (uint64_t row = rows->n; row-- > 0;) {
		if (r->place[row] != NO_PLACE)
			continue;
		missing++;
		first = df_rows_id(rows, row);
	}
	if (missing > 0) {
		rc = df_fail(err, DF_ELINEAGE, "%s has no losses of %" PRIu64 " sample%s of %s, the first is %" PRIu64,
		    r->name, missing, missing > 1 ? "s" : "", rows->name, first);
		goto out;
	}
	for (uint64_t row = 0; rows->counted && row < rows->n; row++) {
		DF_TRY(df_gather_range(&g, rows, row, 1, &b, err));
		DF_TRY(check_count(r, row, g.n_targets[0], err));
	}
out:
	df_gather_release(&g);
	return rc;
}

int
df_reference_open_file(struct df_reference **out, const char *path, const struct df_rows *rows, struct df_err *err)
{
	struct df_reference *r = NULL;
	size_t bytes;
	uint64_t n;
	bool keep;
	int rc;

	DF_TRY(open_new(&r, rows, path, err));
	DF_TRY(df_rows_cache_limit(&bytes, err));
	DF_TRY(open_set(r, path, err));
	n = df_set_rows(r->set);
	if (n >= NO_PLACE) {
		rc = df_fail(err, DF_ERANGE, "%s: more than %u samples", r->name, NO_PLACE - 1);
		goto out;
	}
	DF_TRY(read_offsets(r, n, err));
	keep = r->offsets[n] <= bytes / sizeof(*r->nll);
	if (keep)
		DF_TRY(df_alloc(&r->nll, (size_t)r->offsets[n], sizeof(*r->nll), "reference losses", err));
	DF_TRY(df_alloc(&r->place, (size_t)rows->n, sizeof(*r->place), "reference losses", err));
	for (uint64_t i = 0; i < rows->n; i++)
		r->place[i] = NO_PLACE;
	DF_TRY(scan(r, keep, err));
	DF_TRY(check_all(r, err));
	if (keep) {
		df_set_close(r->set);
		r->set = NULL;
	}
	*out = r;
	return DF_OK;
out:
	df_reference_close(r);
	return rc;
}

static int
losses_of_file(
    struct df_reference *r, const uint64_t *row, size_t n, const uint32_t *offsets, float *nll, struct df_err *err)
{
	int rc = DF_OK;

	for (size_t i = 0; i < n; i++) {
		const uint32_t n_targets = offsets[i + 1] - offsets[i];
		const uint64_t at = r->place[row[i]];
		const float *from;

		DF_TRY(check_count(r, row[i], n_targets, err));
		if (n_targets == 0)
			continue;
		if (r->nll) {
			from = r->nll + r->offsets[at];
		} else {
			DF_TRY(df_set_read(r->set, at, 1, &r->batch, err));
			from = r->batch.col[DF_COL_TOKEN_LOSS].data;
		}
		memcpy(nll + offsets[i], from, n_targets * sizeof(*nll));
	}
out:
	return rc;
}

/* ---- a model -------------------------------------------------------------------- */

int
df_reference_open_model(struct df_reference **out, const char *dir, struct df_rows *rows, struct df_backend *be,
    struct df_pool *pool, struct df_err *err)
{
	struct df_reference *r = NULL;
	struct df_digest digest;
	bool known;
	int rc;

	DF_TRY(open_new(&r, rows, dir, err));
	DF_TRY(df_model_check_tokenizer(dir, df_rows_tokenizer(rows), rows->name, &known, err));
	if (!known)
		df_info("%s: not known which tokenizer it was trained with; taken to be that of %s", dir, rows->name);
	DF_TRY(df_model_open(&r->model, dir, NULL, be, err));
	if (df_model_config(r->model)->head != DF_HEAD_LM) {
		rc = df_fail(err, DF_EFORMAT, "%s is no language model", dir);
		goto out;
	}
	DF_TRY(df_rows_check_vocab(rows, df_model_config(r->model)->n_vocab, dir, err));
	DF_TRY(df_model_digest(r->model, &digest, err));
	df_digest_hex(digest, r->id);
	DF_TRY(df_forward_new(&r->forward, r->model, pool, err));
	*out = r;
	return DF_OK;
out:
	df_reference_close(r);
	return rc;
}

int
df_reference_losses(
    struct df_reference *r, const uint64_t *row, size_t n, const uint32_t *offsets, float *nll, struct df_err *err)
{
	int rc;

	if (!r->model)
		return losses_of_file(r, row, n, offsets, nll, err);
	if ((rc = df_forward_losses(r->forward, r->rows, row, n, offsets, nll, err)) != DF_OK)
		df_err_prefix(err, "%s: ", r->name);
	return rc;
}

/*
 * job.c - batches of gradients through a projection into an artefact.
 */
#include "project/job.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "shard/job.h"

#define BATCH_BYTES ((size_t)128 << 20) /* of gradients read from files at a time */
#define BATCH_ROWS  128

struct item {
	struct df_batch out, in;
};

struct run {
	const struct df_project_job *j;
	struct df_backend *be;
	struct df_set *in;
	struct df_meta meta;
	struct df_projection projection;
	struct df_tensor g; /* [rows, p]: a batch on the backend */
	size_t p;
	uint64_t max_rows, to_skip;
};

/* What the gradients say of themselves, then the projection: as df-grad --project writes it. */
static int
make_meta(struct run *r, struct df_err *err)
{
	struct df_meta *m = &r->meta;
	int rc;

	DF_TRY(df_meta_copy(m, df_set_meta(r->in), err));
	DF_TRY(df_meta_set_tool(m, r->j->tool, err));
	m->kind = DF_KIND_PROJECTIONS;
	while (m->n_manifest > 0) /* projections have no coordinates to name */
		free(m->manifest[--m->n_manifest].name);
	rc = df_projector_to_meta(r->j->projector, m, err);
out:
	return rc;
}

static int
open_input(struct run *r, struct df_err *err)
{
	const struct df_project_job *j = r->j;
	int rc;

	DF_TRY(df_projector_check(j->projector, err));
	DF_TRY(df_set_open(&r->in, DF_KIND_GRADIENTS, "gradients", j->gradients, j->n_gradients, err));
	r->p = df_set_width(r->in, DF_COL_GRADIENT);
	if (df_set_meta(r->in)->n_manifest == 0) {
		rc = df_fail(err, DF_EFORMAT, "%s: no manifest says what the coordinates are", df_set_name(r->in));
		goto out;
	}
	if (j->projector->k >= r->p)
		df_warn("%s has %zu coordinates: projecting them to %" PRIu64 " saves nothing", df_set_name(r->in),
		    r->p, j->projector->k);
	r->max_rows = 1 + BATCH_BYTES / sizeof(float) / (r->p + 1);
	if (r->max_rows > BATCH_ROWS)
		r->max_rows = BATCH_ROWS;
	rc = make_meta(r, err);
out:
	return rc;
}

/* Forget the first n rows of a batch: an earlier run projected them. */
static void
drop_rows(struct df_batch *b, uint64_t n)
{
	for (int c = 0; c < DF_COL_COUNT; c++) {
		struct df_column_data *col = &b->col[c];
		const size_t row = col->width * df_coltype_size(df_column((enum df_col)c)->type);

		if (col->data)
			col->data = (char *)col->data + n * row;
	}
	b->n -= n;
	b->first += n;
}

static int
seek_rows(void *ctx, uint64_t batches, uint64_t rows, struct df_err *err)
{
	struct run *r = ctx;

	(void)batches;
	(void)err;
	r->to_skip = rows;
	return DF_OK;
}

static int
read_batch(void *ctx, void *item, struct df_err *err)
{
	struct run *r = ctx;
	struct df_batch *in = &((struct item *)item)->in;
	uint64_t n = 0;
	int rc;

	for (;;) {
		DF_TRY(df_set_next(r->in, r->max_rows, in, &n, err));
		if (n == 0)
			return 0;
		if (r->to_skip < n)
			break;
		r->to_skip -= n;
	}
	drop_rows(in, r->to_skip);
	r->to_skip = 0;
	rc = 1;
out:
	return rc;
}

static int
project_batch(void *ctx, void *item, int worker, struct df_err *err)
{
	struct run *r = ctx;
	const struct df_batch *in = &((struct item *)item)->in;
	struct df_batch *out = &((struct item *)item)->out;
	const struct df_projector *projector = r->j->projector;
	const struct df_meta *m = df_set_meta(r->in);
	float *y = NULL;
	size_t numel;
	int rc;

	(void)worker;
	df_batch_clear(out);
	memcpy(out->col, in->col, sizeof(out->col));
	out->n = in->n;
	out->first = in->first;
	DF_TRY(df_size_mul(out->n, projector->k, &numel, "projections", err));
	DF_TRY(df_arena_alloc(&out->arena, &y, numel, sizeof(*y), "projections", err));
	if (df_tensor_is_none(r->g) || r->g.rows < out->n) {
		df_tensor_free(r->be, &r->g);
		DF_TRY(df_tensor_alloc(r->be, &r->g, DF_F32, out->n, r->p, "gradients", err));
	}
	DF_TRY(df_upload(r->be, df_tensor_rows(r->g, 0, out->n), in->col[DF_COL_GRADIENT].data, err));
	DF_TRY(df_projection_begin(&r->projection, projector, r->be, out->n, err));
	DF_TRY(df_projection_add_all(&r->projection, df_tensor_rows(r->g, 0, out->n), m->manifest, m->n_manifest, err));
	DF_TRY(df_projection_end(&r->projection, y, err));
	out->col[DF_COL_GRADIENT] = (struct df_column_data){ 0 };
	out->col[DF_COL_PROJECTION] = (struct df_column_data){ .data = y, .width = projector->k };
out:
	return rc;
}

static void
release_item(void *item)
{
	df_batch_release(&((struct item *)item)->in);
}

/* The projection, and what the gradients have beside their numbers. */
static size_t
columns(const struct df_set *in, enum df_col cols[DF_COL_COUNT])
{
	static const enum df_col kept[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_LOSS, DF_COL_N_TOKENS };
	size_t n = 0;

	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		if (df_set_has(in, kept[i]))
			cols[n++] = kept[i];
	cols[n++] = DF_COL_PROJECTION;
	return n;
}

int
df_project_job_run(const struct df_project_job *j, struct df_backend *be, uint64_t *n, struct df_err *err)
{
	struct run r = { .j = j, .be = be, .meta = DF_META_INIT };
	const size_t widths[DF_COL_COUNT] = { [DF_COL_PROJECTION] = j->projector->k };
	enum df_col cols[DF_COL_COUNT];
	struct df_job job = { .output = j->output,
		.writer = { .compress = j->compress, .resumable = true },
		.meta = &r.meta,
		.cols = cols,
		.widths = widths,
		.unit = "samples",
		.n_threads = 1,
		.item_size = sizeof(struct item),
		.ctx = &r,
		.seek = seek_rows,
		.read = read_batch,
		.work = project_batch,
		.release = release_item };
	int rc;

	DF_TRY(open_input(&r, err));
	job.n_cols = columns(r.in, cols);
	job.n_rows = df_set_is_stream(r.in) ? 0 : df_set_rows(r.in);
	rc = df_job_run(&job, n, err);
out:
	df_projection_release(&r.projection);
	df_tensor_free(be, &r.g);
	df_set_close(r.in);
	df_meta_release(&r.meta);
	return rc;
}

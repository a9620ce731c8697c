/*
 * df-project - random projections of gradients: a stream or files in, a file or a stream out.
 *
 *     read a batch | project on all threads | write
 *
 * Gradients are taken piece by piece in the order in which a backward makes
 * them, so the result is that of df-grad --project, bit for bit.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "prog.h"
#include "projection.h"
#include "project/project.h"

static const char synopsis[] = "[options] [-k K] GRADIENTS... -o FILE";
static const char about[] = "Project gradients to K dimensions at random, keeping their inner products.";

static const char *const compressions[] = { DF_COMPRESS_NAMES, NULL };

struct cfg {
	const char *output;
	int compress;
	struct df_prog_projection projection;
	struct df_prog_common common;
};
#define CFG_DEFAULT                                                                              \
	{                                                                                        \
		.projection = DF_PROG_PROJECTION_DEFAULT(8192), .common = DF_PROG_COMMON_DEFAULT \
	}

/* clang-format off */
#define OPTS(c) { \
	{ .type = DF_OPT_GROUP, .help = "Projection" }, \
	{ .name = "dim", .short_name = 'k', .type = DF_OPT_INT, .value = &(c)->projection.k, .arg = "K", .min = 1, \
	    .max = INT32_MAX, .help = "dimensions of the result" }, \
	DF_PROG_PROJECTION_OPTS(&(c)->projection), \
	{ .type = DF_OPT_GROUP, .help = "Output" }, \
	{ .name = "output", .short_name = 'o', .type = DF_OPT_STR, .value = &(c)->output, .arg = "FILE", .file = DF_FILE_WRITE, \
	    .help = "where the projections go; - for a stream" }, \
	{ .name = "compress", .type = DF_OPT_CHOICE, .value = &(c)->compress, .choices = compressions, \
	    .help = "compression of the output" }, \
	{ .type = DF_OPT_OPERANDS, .arg = "GRADIENTS", .file = DF_FILE_READ }, \
	DF_PROG_OPTS(&(c)->common), \
	DF_OPT_END }
/* clang-format on */

#define N_ITEMS     3
#define BATCH_BYTES ((size_t)128 << 20) /* of gradients read from files at a time */

struct item {
	struct df_batch in, out;
};

struct run {
	struct cfg cfg;
	struct df_projector projector;
	struct df_pool *pool;
	struct df_backend *be;
	struct df_set *in;
	struct df_meta meta;
	struct df_writer *out;
	struct df_projection projection;
	struct df_tensor g; /* [rows, p]: a batch on the backend */
	size_t p;
	uint64_t max_rows, to_skip, rows_done;
	struct item items[N_ITEMS];
};

static int
open_input(struct run *r, const struct df_strlist *paths, struct df_err *err)
{
	const struct df_meta *m;
	int rc = 0;

	DF_TRY(df_set_open(&r->in, DF_KIND_GRADIENTS, "gradients", paths->v, paths->n, err));
	m = df_set_meta(r->in);
	r->p = df_set_width(r->in, DF_COL_GRADIENT);
	if (!m->n_manifest) {
		rc = df_fail(err, DF_EFORMAT, "%s: no manifest says what the coordinates are", df_set_name(r->in));
		goto out;
	}
	if ((uint64_t)r->cfg.projection.k >= r->p)
		df_warn("%s has %zu coordinates: projecting them to %" PRId64 " saves nothing", df_set_name(r->in),
		    r->p, r->cfg.projection.k);
	r->max_rows = 1 + BATCH_BYTES / sizeof(float) / (r->p + 1);
	if (r->max_rows > 128)
		r->max_rows = 128;
	/* What the gradients say of themselves, then the projection: as df-grad --project writes it. */
	DF_TRY(df_meta_copy(&r->meta, m, err));
	DF_TRY(df_meta_set_tool(&r->meta, "df-project", err));
	r->meta.kind = DF_KIND_PROJECTIONS;
	while (r->meta.n_manifest) /* projections have no coordinates to name */
		free(r->meta.manifest[--r->meta.n_manifest].name);
	DF_TRY(df_projector_to_meta(&r->projector, &r->meta, err));
out:
	return rc;
}

static int
open_run(struct run *r, const struct df_strlist *paths, struct df_err *err)
{
	static const enum df_col wanted[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_LOSS, DF_COL_N_TOKENS };
	const struct cfg *c = &r->cfg;
	const struct df_writer_opts opts = { .compress = (enum df_compress)c->compress,
		.resumable = strcmp(c->output, "-") != 0 };
	enum df_col cols[DF_COL_COUNT];
	size_t widths[DF_COL_COUNT] = { 0 }, n_cols = 0;
	int rc = 0;

	r->projector = df_prog_projector(&c->projection);
	DF_TRY(df_prog_projection_check(&c->projection, err));
	DF_TRY(df_projector_check(&r->projector, err));
	DF_TRY(open_input(r, paths, err));
	for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
		if (df_set_has(r->in, wanted[i]))
			cols[n_cols++] = wanted[i];
	cols[n_cols++] = DF_COL_PROJECTION;
	widths[DF_COL_PROJECTION] = r->projector.k;
	DF_TRY(df_pool_new(&r->pool, (int)c->common.threads, err));
	DF_TRY(df_backend_open(&r->be, c->common.device, r->pool, err));
	DF_TRY(df_writer_open(&r->out, c->output, &r->meta, cols, n_cols, widths, &opts, err));
	r->rows_done = r->to_skip = df_writer_done_rows(r->out);
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
read_batch(void *ctx, void *batch, struct df_err *err)
{
	struct run *r = ctx;
	struct item *it = batch;
	uint64_t n = 0;
	int rc = 0;

	for (;;) {
		DF_TRY(df_set_next(r->in, r->max_rows, &it->in, &n, err));
		if (!n)
			return 0;
		if (r->to_skip < n)
			break;
		r->to_skip -= n;
	}
	drop_rows(&it->in, r->to_skip);
	r->to_skip = 0;
	return 1;
out:
	return rc;
}

static int
project_batch(void *ctx, void *batch, int worker, struct df_err *err)
{
	struct run *r = ctx;
	struct item *it = batch;
	const struct df_meta *m = df_set_meta(r->in);
	struct df_batch *out = &it->out;
	float *y = NULL;
	size_t numel;
	int rc = 0;

	(void)worker;
	df_batch_clear(out);
	memcpy(out->col, it->in.col, sizeof out->col);
	out->n = it->in.n;
	out->first = it->in.first;
	DF_TRY(df_size_mul(out->n, r->projector.k, &numel, "projections", err));
	DF_TRY(df_arena_alloc(&out->arena, &y, numel, sizeof *y, "projections", err));
	if (df_tensor_is_none(r->g) || r->g.rows < out->n) {
		df_tensor_free(r->be, &r->g);
		DF_TRY(df_tensor_alloc(r->be, &r->g, DF_F32, out->n, r->p, "gradients", err));
	}
	DF_TRY(df_upload(r->be, df_tensor_rows(r->g, 0, out->n), it->in.col[DF_COL_GRADIENT].data, err));
	DF_TRY(df_projection_begin(&r->projection, &r->projector, r->be, out->n, err));
	DF_TRY(df_projection_add_all(&r->projection, df_tensor_rows(r->g, 0, out->n), m->manifest, m->n_manifest, err));
	DF_TRY(df_projection_end(&r->projection, y, err));
	out->col[DF_COL_GRADIENT] = (struct df_column_data){ 0 };
	out->col[DF_COL_PROJECTION] = (struct df_column_data){ .data = y, .width = r->projector.k };
out:
	return rc;
}

static int
write_batch(void *ctx, void *batch, struct df_err *err)
{
	struct run *r = ctx;
	struct item *it = batch;
	const uint64_t rows = df_set_rows(r->in);
	int rc = 0;

	DF_TRY(df_writer_put(r->out, &it->out, err));
	r->rows_done += it->out.n;
	df_progress(r->rows_done, rows == UINT64_MAX ? 0 : rows, "samples");
out:
	return rc;
}

static int
run_pipeline(struct run *r, struct df_err *err)
{
	void *batches[N_ITEMS];
	/* One batch at a time is projected, by all threads: gradients are large. */
	const struct df_pipeline pl = { .read = read_batch,
		.work = project_batch,
		.write = write_batch,
		.ctx = r,
		.batches = batches,
		.n_batches = N_ITEMS,
		.n_threads = 1 };
	const uint64_t before = r->rows_done;
	int rc = 0;

	for (int i = 0; i < N_ITEMS; i++) {
		r->items[i] = (struct item){ .in = DF_BATCH_INIT, .out = DF_BATCH_INIT };
		batches[i] = &r->items[i];
	}
	DF_TRY(df_pipeline_run(&pl, err));
	df_prog_count(r->rows_done - before, "samples");
	DF_TRY(df_writer_commit(r->out, NULL, err));
out:
	return rc;
}

static void
close_run(struct run *r)
{
	for (int i = 0; i < N_ITEMS; i++) {
		df_batch_release(&r->items[i].in);
		df_batch_release(&r->items[i].out);
	}
	df_writer_close(r->out);
	df_projection_release(&r->projection);
	if (r->be)
		df_tensor_free(r->be, &r->g);
	df_backend_close(r->be);
	df_pool_free(r->pool);
	df_set_close(r->in);
	df_meta_release(&r->meta);
}

int
main(int argc, char **argv)
{
	static struct run r = { .cfg = CFG_DEFAULT, .meta = DF_META_INIT };
	const struct df_opt opts[] = OPTS(&r.cfg);
	struct df_opt_result args;
	struct df_err err = DF_ERR_INIT;
	int rc = 0;

	df_prog_init("df-project");
	df_prog_parse(opts, synopsis, about, &r.cfg.common, argc, argv, &args);
	if (!args.operands.n)
		rc = df_fail(&err, DF_EUSAGE, "which gradients?  Name files made by df-grad, or - for a stream");
	else if (!r.cfg.output)
		rc = df_fail(&err, DF_EUSAGE, "-o FILE is missing (- for a stream)");
	if (!rc)
		rc = open_run(&r, &args.operands, &err);
	if (!rc)
		rc = run_pipeline(&r, &err);
	close_run(&r);
	df_opt_result_release(&args);
	return df_prog_exit(rc, &err);
}

/*
 * df-merge - an adapter merged into its base: a model directory to hand on.
 */
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "prog.h"
#include "export/export.h"

static const char synopsis[] = "[options] {-m ADAPTER -o DIR | EXPORT.yaml}";
static const char about[] = "Merge an adapter into its base model, or write a model in another type or cut.";

struct cfg {
	const char *model, *base, *output, *max_shard_size;
	int dtype;
	bool dtype_given, size_given;
	struct df_prog_common common;
};

/* clang-format off */
#define CFG_DEFAULT { .max_shard_size = "5GB", .common = DF_PROG_COMMON_DEFAULT }

#define OPTS(c) { \
	{ .type = DF_OPT_GROUP, .help = "What to merge" }, \
	{ .name = "model", .short_name = 'm', .type = DF_OPT_STR, .value = &(c)->model, .arg = "DIR", .file = DF_FILE_READ, \
	    .help = "PEFT adapter, or a model to convert" }, \
	{ .name = "base", .type = DF_OPT_STR, .value = &(c)->base, .arg = "DIR", .file = DF_FILE_READ, \
	    .help = "base model of the adapter, not the one it names" }, \
	{ .type = DF_OPT_GROUP, .help = "Output" }, \
	{ .name = "output", .short_name = 'o', .type = DF_OPT_STR, .value = &(c)->output, .arg = "DIR", .file = DF_FILE_WRITE_DIR, \
	    .help = "the model directory to make" }, \
	{ .name = "dtype", .type = DF_OPT_CHOICE, .value = &(c)->dtype, .choices = df_infer_dtype_names, .given = &(c)->dtype_given, \
	    .help = "type of the weights; auto: as the base has them" }, \
	{ .name = "max-shard-size", .type = DF_OPT_STR, .value = &(c)->max_shard_size, .arg = "SIZE", \
	    .given = &(c)->size_given, .help = "largest file, such as 500MB or 2GiB; 0: one file" }, \
	{ .type = DF_OPT_OPERANDS, .arg = "YAML", .file = DF_FILE_READ }, \
	DF_PROG_OPTS(&(c)->common), \
	DF_OPT_END }
/* clang-format on */

/* The YAML, and over it what the command line says. */
static int
what_to_do(struct df_export *e, const struct cfg *c, const struct df_strlist *files, struct df_err *err)
{
	int rc = DF_OK;

	if (files->n > 1)
		return df_fail(err, DF_EUSAGE, "one YAML file, not %zu", files->n);
	if (files->n == 1) {
		DF_TRY(df_export_load(e, files->v[0], err));
		if (c->model != NULL || c->base != NULL)
			return df_fail(err, DF_EUSAGE, "the YAML names the model: -m and --base go without one");
	} else {
		if (c->model == NULL)
			return df_fail(err, DF_EUSAGE, "no adapter: give -m DIR");
		DF_TRY(df_strdup(c->base ? &e->adapter : &e->model, c->model, err));
		if (c->base != NULL)
			DF_TRY(df_strdup(&e->model, c->base, err));
	}
	if (c->dtype_given || files->n == 0)
		df_export_dtype((enum df_infer_dtype)c->dtype, &e->spec);
	if (c->size_given || files->n == 0)
		DF_TRY(df_export_size(c->max_shard_size, &e->spec.max_shard, err));
	if (c->output != NULL) {
		free(e->dir);
		e->dir = NULL;
		DF_TRY(df_strdup(&e->dir, c->output, err));
	}
	if (e->dir == NULL)
		return df_fail(err, DF_EUSAGE, "no output: give -o DIR%s", files->n ? " or export_dir" : "");
	if (strcmp(e->dir, "-") == 0)
		return df_fail(err, DF_EUSAGE, "-o -: a model is a directory of files; name one");
	if (e->model == NULL && e->adapter == NULL)
		return df_fail(err, DF_EUSAGE, "%s: no model_name_or_path", files->v[0]);
out:
	return rc;
}

int
main(int argc, char **argv)
{
	static struct cfg cfg = CFG_DEFAULT;
	const struct df_opt opts[] = OPTS(&cfg);
	struct df_export e = { 0 };
	struct df_opt_result args;
	struct df_pool *pool = NULL;
	struct df_backend *be = NULL;
	struct df_err err = DF_ERR_INIT;
	int rc;

	df_prog_init("df-merge");
	df_prog_parse(opts, synopsis, about, &cfg.common, argc, argv, &args);
	rc = what_to_do(&e, &cfg, &args.operands, &err);
	if (rc == DF_OK)
		rc = df_pool_new(&pool, (int)cfg.common.threads, &err);
	if (rc == DF_OK)
		rc = df_backend_open(&be, cfg.common.device, pool, &err);
	if (rc == DF_OK)
		rc = df_export_run(&e, be, &err);
	if (rc == DF_OK)
		df_info("%s: the merged model", e.dir);
	df_export_release(&e);
	df_backend_close(be);
	df_pool_free(pool);
	df_opt_result_release(&args);
	return df_prog_exit(rc, &err);
}

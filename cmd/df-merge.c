/*
 * df-merge - an adapter merged into its base: a model directory to hand on.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "prog.h"
#include "export/export.h"

static const char synopsis[] = "[options] {-m ADAPTER -o DIR | EXPORT.yaml}";
static const char about[] = "Merge an adapter into its base model, or write a model in another type or cut.";

static struct {
	const char *model, *base, *output, *max_shard_size;
	int dtype;
	bool dtype_given, size_given;
	struct df_prog_common common;
} cfg = { .max_shard_size = "5GB", .common = DF_PROG_COMMON_DEFAULT };

/* clang-format off */
static const struct df_opt options[] = {
	{ .type = DF_OPT_GROUP, .help = "What to merge" },
	{ .name = "model", .short_name = 'm', .type = DF_OPT_STR, .value = &cfg.model, .arg = "DIR", .file = DF_FILE_READ,
	    .help = "PEFT adapter, or a model to convert" },
	{ .name = "base", .type = DF_OPT_STR, .value = &cfg.base, .arg = "DIR", .file = DF_FILE_READ,
	    .help = "base model of the adapter, not the one it names" },
	{ .type = DF_OPT_GROUP, .help = "Output" },
	{ .name = "output", .short_name = 'o', .type = DF_OPT_STR, .value = &cfg.output, .arg = "DIR", .file = DF_FILE_WRITE_DIR,
	    .help = "the model directory to make" },
	{ .name = "dtype", .type = DF_OPT_CHOICE, .value = &cfg.dtype, .choices = df_infer_dtype_names, .given = &cfg.dtype_given,
	    .help = "type of the weights; auto: as the base has them" },
	{ .name = "max-shard-size", .type = DF_OPT_STR, .value = &cfg.max_shard_size, .arg = "SIZE",
	    .given = &cfg.size_given, .help = "largest file, such as 500MB or 2GiB; 0: one file" },
	{ .type = DF_OPT_OPERANDS, .arg = "YAML", .file = DF_FILE_READ },
	DF_PROG_OPTS(&cfg.common),
	DF_OPT_END,
};
/* clang-format on */

/* The YAML, and over it what the command line says. */
static int
what_to_do(struct df_export *e, const struct df_strlist *files, struct df_err *err)
{
	int rc = DF_OK;

	if (files->n > 1)
		return df_fail(err, DF_EUSAGE, "one YAML file, not %zu", files->n);
	if (files->n == 1) {
		DF_TRY(df_export_load(e, files->v[0], err));
		if (cfg.model != NULL || cfg.base != NULL)
			return df_fail(err, DF_EUSAGE, "the YAML names the model: -m and --base go without one");
	} else {
		if (cfg.model == NULL)
			return df_fail(err, DF_EUSAGE, "no adapter: give -m DIR");
		DF_TRY(df_strdup(cfg.base ? &e->adapter : &e->model, cfg.model, err));
		if (cfg.base != NULL)
			DF_TRY(df_strdup(&e->model, cfg.base, err));
	}
	if (cfg.dtype_given || files->n == 0)
		df_export_dtype((enum df_infer_dtype)cfg.dtype, &e->spec);
	if (cfg.size_given || files->n == 0)
		DF_TRY(df_export_size(cfg.max_shard_size, &e->spec.max_shard, err));
	if (cfg.output != NULL) {
		free(e->dir);
		e->dir = NULL;
		DF_TRY(df_strdup(&e->dir, cfg.output, err));
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
	struct df_export e = { 0 };
	struct df_env env = { 0 };
	const struct df_opt_result *args;
	struct df_err err = DF_ERR_INIT;
	int rc;

	df_prog_init("df-merge");
	args = df_prog_parse(options, synopsis, about, &cfg.common, argc, argv);
	DF_TRY(what_to_do(&e, &args->operands, &err));
	DF_TRY(df_prog_env(&env, &cfg.common, DF_ENV_WIDE, &err));
	DF_TRY(df_export_run(&e, env.be, &err));
	df_info("%s: the merged model", e.dir);
out:
	df_export_release(&e);
	df_env_close(&env);
	return df_prog_exit(rc, &err);
}

/*
 * df-plan - a YAML of LLaMA-Factory or DataFlex as a Makefile of df-commands.
 */
#include <stdlib.h>
#include <string.h>

#include "backend/rate.h"
#include "base/text_out.h"
#include "plan/plan.h"
#include "prog.h"
#include "rows.h"

static const char synopsis[] = "[options] CONFIG.yaml [key=value ...]";
static const char about[] = "Print the commands that a training configuration stands for, as a Makefile.";

static struct {
	struct df_plan_opts plan;
	struct df_strlist models;
	int64_t shards, rows;
	const char *output;
	bool slurm, dry_run, dot;
	struct df_prog_common common;
} cfg = { .shards = 4, .output = "-", .common = DF_PROG_COMMON_DEFAULT };

/* clang-format off */
static const struct df_opt options[] = {
	{ .type = DF_OPT_GROUP, .help = "In the place of what the configuration says" },
	{ .name = "model", .short_name = 'm', .type = DF_OPT_LIST, .value = &cfg.models, .arg = "NAME=DIR",
	    .help = "the directory of a model that it names; repeatable" },
	{ .name = "data", .type = DF_OPT_STR, .value = &cfg.plan.data, .arg = "DIR", .file = DF_FILE_READ,
	    .help = "directory of dataset_info.json" },
	{ .name = "components", .type = DF_OPT_STR, .value = &cfg.plan.components, .arg = "FILE", .file = DF_FILE_READ,
	    .help = "the YAML of methods and their parameters" },
	DF_PROG_TOKENIZER(&cfg.plan.tokenizer, 0),
	{ .type = DF_OPT_GROUP, .help = "The plan" },
	{ .name = "shards", .type = DF_OPT_INT, .value = &cfg.shards, .arg = "N", .min = 1, .max = 99999,
	    .help = "parts of each measurement, which run side by side" },
	{ .name = "rows", .type = DF_OPT_INT, .value = &cfg.rows, .arg = "N", .min = 0, .max = 1e15,
	    .help = "rows of the training tokens (0: find out)" },
	{ .type = DF_OPT_GROUP, .help = "What to print (a Makefile by default)" },
	{ .name = "slurm", .type = DF_OPT_FLAG, .value = &cfg.slurm, .help = "a script that submits jobs to Slurm" },
	{ .name = "dry-run", .short_name = 'n', .type = DF_OPT_FLAG, .value = &cfg.dry_run,
	    .help = "what each command would cost" },
	{ .name = "dot", .type = DF_OPT_FLAG, .value = &cfg.dot, .help = "the graph, for dot of Graphviz" },
	DF_PROG_OUTPUT(&cfg.output, 0, "the text; - is standard output"),
	{ .type = DF_OPT_OPERANDS, .arg = "CONFIG", .file = DF_FILE_READ_ANY },
	DF_PROG_OPTS(&cfg.common),
	DF_OPT_END,
};
/* clang-format on */

static int
find_printer(const struct df_printer **out, struct df_err *err)
{
	const char *name = cfg.slurm ? "slurm" : cfg.dry_run ? "dry-run" : cfg.dot ? "dot" : "make";

	if (cfg.slurm + cfg.dry_run + cfg.dot > 1)
		return df_fail(err, DF_EUSAGE, "--slurm, --dry-run and --dot exclude each other");
	for (size_t i = 0; df_printers[i]; i++) {
		if (strcmp(df_printers[i]->name, name) == 0) {
			*out = df_printers[i];
			return DF_OK;
		}
	}
	return df_fail(err, DF_EINTERNAL, "no printer is called %s", name);
}

/* The first operand is the configuration unless it is an override. */
static int
make_plan(struct df_plan *p, const struct df_strlist *words, struct df_err *err)
{
	const char *path = words->n > 0 && !strchr(words->v[0], '=') ? words->v[0] : NULL;
	const size_t skip = path ? 1 : 0;

	if (words->n == 0)
		return df_fail(err, DF_EUSAGE, "no configuration: give a YAML file, key=value words, or both");
	cfg.plan.models = &cfg.models;
	cfg.plan.shards = (uint64_t)cfg.shards;
	cfg.plan.rows = (uint64_t)cfg.rows;
	cfg.plan.price = cfg.dry_run;
	return df_plan_make(p, &cfg.plan, path, words->v + skip, words->n - skip, err);
}

/* How fast this machine is, for times. */
static int
measure(struct df_plan *p, struct df_err *err)
{
	struct df_env env = { 0 };
	int rc;

	DF_TRY(df_prog_env(&env, &cfg.common, DF_ENV_WIDE, err));
	rc = df_backend_rate(env.be, &p->rate, err);
out:
	df_env_close(&env);
	return rc;
}

static int
put(struct df_buf *text, struct df_err *err)
{
	struct df_text_out out = DF_TEXT_OUT_INIT;
	int rc;

	DF_TRY(df_text_out_open(&out, cfg.output, err));
	DF_TRY(df_text_out_put(&out, text, err));
	rc = df_text_out_commit(&out, err);
out:
	df_text_out_close(&out);
	return rc;
}

int
main(int argc, char **argv)
{
	struct df_plan plan = DF_PLAN_INIT;
	struct df_buf text = DF_BUF_INIT;
	const struct df_printer *printer;
	const struct df_opt_result *args;
	struct df_err err = DF_ERR_INIT;
	int rc;

	df_prog_init("df-plan");
	args = df_prog_parse(options, synopsis, about, &cfg.common, argc, argv);
	DF_TRY(find_printer(&printer, &err));
	DF_TRY(make_plan(&plan, &args->operands, &err));
	if (cfg.dry_run)
		DF_TRY(measure(&plan, &err));
	DF_TRY(printer->print(&plan, &text, &err));
	rc = put(&text, &err);
out:
	df_buf_release(&text);
	df_plan_release(&plan);
	free(cfg.models.v);
	return df_prog_exit(rc, &err);
}

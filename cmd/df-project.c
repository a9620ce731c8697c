/*
 * df-project - random projections of gradients: a stream or files in, a file or a stream out.
 *
 *     read a batch | project on all threads | write        (lib/project)
 */
#include "prog.h"
#include "project/job.h"
#include "projection.h"
#include "rows.h"

static const char synopsis[] = "[options] [-k K] GRADIENTS... -o FILE";
static const char about[] = "Project gradients to K dimensions at random, keeping their inner products.";

static struct {
	const char *output;
	int compress;
	struct df_prog_projection projection;
	struct df_prog_common common;
} cfg = { .projection = DF_PROG_PROJECTION_DEFAULT(8192), .common = DF_PROG_COMMON_DEFAULT };

/* clang-format off */
static const struct df_opt options[] = {
	{ .type = DF_OPT_GROUP, .help = "Projection" },
	{ .name = "dim", .short_name = 'k', .type = DF_OPT_INT, .value = &cfg.projection.k, .arg = "K", .min = 1,
	    .max = INT32_MAX, .help = "dimensions of the result" },
	DF_PROG_PROJECTION_OPTS(&cfg.projection),
	{ .type = DF_OPT_GROUP, .help = "Output" },
	DF_PROG_OUTPUT(&cfg.output, 0, "where the projections go; - for a stream"),
	DF_PROG_COMPRESS(&cfg.compress, "compression of the output"),
	{ .type = DF_OPT_OPERANDS, .arg = "GRADIENTS", .file = DF_FILE_READ },
	DF_PROG_OPTS(&cfg.common),
	DF_OPT_END,
};
/* clang-format on */

static int
check_usage(const struct df_strlist *gradients, struct df_err *err)
{
	if (gradients->n == 0)
		return df_fail(err, DF_EUSAGE, "which gradients?  Name files made by df-grad, or - for a stream");
	if (!cfg.output)
		return df_fail(err, DF_EUSAGE, "-o FILE is missing (- for a stream)");
	return df_prog_projection_check(&cfg.projection, err);
}

int
main(int argc, char **argv)
{
	struct df_env env = { 0 };
	struct df_projector projector;
	struct df_project_job job = { .projector = &projector, .tool = "df-project" };
	const struct df_opt_result *args;
	struct df_err err = DF_ERR_INIT;
	uint64_t n = 0;
	int rc;

	df_prog_init("df-project");
	args = df_prog_parse(options, synopsis, about, &cfg.common, argc, argv);
	DF_TRY(check_usage(&args->operands, &err));
	projector = df_prog_projector(&cfg.projection);
	job.gradients = args->operands.v;
	job.n_gradients = args->operands.n;
	job.output = cfg.output;
	job.compress = (enum df_compress)cfg.compress;
	DF_TRY(df_prog_env(&env, &cfg.common, DF_ENV_WIDE, &err));
	rc = df_project_job_run(&job, env.be, &n, &err);
	df_prog_count(n, "samples");
out:
	df_env_close(&env);
	return df_prog_exit(rc, &err);
}

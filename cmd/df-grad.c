/*
 * df-grad - per-sample losses and gradients of a checkpoint, raw or projected on the way.
 *
 *     read a block of tokens | forward, backward, form, projection | write
 *
 * on all threads, a block each, or all of them on one where blocks are few (lib/grad).
 */
#include <inttypes.h>

#include "backend/rate.h"
#include "grad/job.h"
#include "prog.h"
#include "projection.h"
#include "rows.h"

static const char synopsis[] = "[options] -m MODEL TOKENS... -o FILE";
static const char about[] = "Per-sample losses and gradients of a checkpoint, raw or projected on the way.";

static const char *const forms[] = { DF_GRAD_FORMS, NULL };
static const char *const eps_places[] = { "outside", "inside", NULL };
static const char *const rules[] = { DF_POLICY_RULES, NULL };
static const char *const nlls[] = { "sum", "mean", NULL };
static const char *const baselines[] = { "none", "loo", NULL };
static const char *const maps[] = { "none", "sigmoid", NULL };

static struct {
	const char *model, *base, *index, *output;
	bool losses, token_loss, gate_load, allow_zero_state, dry_run, project_given;
	int form, adam_eps, compress;
	int64_t block_tokens, block_rows;
	struct df_policy_opts policy;
	int rule, nll, baseline, map;
	int64_t topk;
	struct df_prog_projection projection;
	struct df_shard_arg shard;
	struct df_prog_common common;
} cfg = {
	.topk = 10, .projection = DF_PROG_PROJECTION_DEFAULT(0), .shard = { 0, 1 }, .common = DF_PROG_COMMON_DEFAULT
};

/* What is asked for: gradients of samples, or policy gradients. */
enum { OF_SAMPLES = 1, WITH_REWARDS = 2 };
static const char *const tasks[] = { "samples", "completions with --rewards" };

/* clang-format off */
static const struct df_opt options[] = {
	{ .type = DF_OPT_GROUP, .help = "What to compute" },
	DF_PROG_MODEL(&cfg.model, &cfg.base, 0),
	{ .name = "index", .type = DF_OPT_STR, .value = &cfg.index, .arg = "FILE", .file = DF_FILE_READ,
	    .help = "of the rows that this index names only, each once" },
	{ .name = "form", .type = DF_OPT_CHOICE, .value = &cfg.form, .choices = forms,
	    .help = "the gradient, Adam's step on it, or its sign" },
	{ .name = "adam-eps", .type = DF_OPT_CHOICE, .value = &cfg.adam_eps, .choices = eps_places,
	    .help = "eps outside the square root, or inside" },
	{ .name = "allow-zero-state", .type = DF_OPT_FLAG, .value = &cfg.allow_zero_state,
	    .help = "--form adam without an optimiser's moments" },
	{ .name = "losses", .type = DF_OPT_FLAG, .value = &cfg.losses,
	    .help = "losses only, no gradients" },
	{ .name = "token-loss", .type = DF_OPT_FLAG, .value = &cfg.token_loss,
	    .help = "with --losses: the loss of every target too" },
	{ .name = "gate-load", .type = DF_OPT_FLAG, .value = &cfg.gate_load,
	    .help = "how many tokens each router sends to each expert, no gradients" },
	{ .type = DF_OPT_GROUP, .help = "Policy gradients of completions" },
	{ .name = "rewards", .type = DF_OPT_STR, .value = &cfg.policy.rewards, .arg = "FILE", .file = DF_FILE_READ,
	    .only = WITH_REWARDS, .help = "of completions: a row is a prompt's policy gradient" },
	{ .name = "policy", .type = DF_OPT_CHOICE, .value = &cfg.rule, .choices = rules,
	    .only = WITH_REWARDS, .help = "which count" },
	{ .name = "topk", .type = DF_OPT_INT, .value = &cfg.topk, .arg = "N", .min = 1, .max = 1 << 24,
	    .only = WITH_REWARDS, .help = "of --policy topk and topk-hard" },
	{ .name = "nll", .type = DF_OPT_CHOICE, .value = &cfg.nll, .choices = nlls,
	    .only = WITH_REWARDS, .help = "over a completion's tokens" },
	{ .name = "baseline", .type = DF_OPT_CHOICE, .value = &cfg.baseline, .choices = baselines,
	    .only = WITH_REWARDS, .help = "loo: subtract the mean of the other rewards" },
	{ .name = "reward-map", .type = DF_OPT_CHOICE, .value = &cfg.map, .choices = maps,
	    .only = WITH_REWARDS, .help = "what rewards go through" },
	{ .name = "reference-rewards", .type = DF_OPT_STR, .value = &cfg.policy.reference, .arg = "FILE",
	    .file = DF_FILE_READ_ANY, .only = WITH_REWARDS, .help = "of the prompts' own answers, or one number" },
	{ .name = "protect", .type = DF_OPT_STR, .value = &cfg.policy.protect, .arg = "TOKENS", .file = DF_FILE_READ,
	    .only = WITH_REWARDS, .help = "these answers, where no completion counts" },
	{ .name = "off-policy", .type = DF_OPT_FLAG, .value = &cfg.policy.off_policy,
	    .only = WITH_REWARDS, .help = "accept completions of another checkpoint" },
	{ .type = DF_OPT_GROUP, .help = "Projection" },
	{ .name = "project", .short_name = 'k', .type = DF_OPT_INT, .value = &cfg.projection.k, .arg = "K", .min = 1,
	    .max = INT32_MAX, .given = &cfg.project_given,
	    .help = "project to K dimensions on the way" },
	DF_PROG_PROJECTION_OPTS(&cfg.projection),
	{ .type = DF_OPT_GROUP, .help = "Work and output" },
	DF_PROG_OUTPUT(&cfg.output, 0, "where the result goes; - for a stream"),
	DF_PROG_SHARD(&cfg.shard),
	{ .name = "block-tokens", .type = DF_OPT_INT, .value = &cfg.block_tokens, .arg = "N", .min = 0, .max = 1e12,
	    .help = "most tokens of a block (0: by the model's size)" },
	{ .name = "block-rows", .type = DF_OPT_INT, .value = &cfg.block_rows, .arg = "N", .min = 0, .max = 1e9,
	    .help = "most rows of a block (0: by the model's size)" },
	DF_PROG_COMPRESS(&cfg.compress, "compression of the output"),
	{ .name = "dry-run", .short_name = 'n', .type = DF_OPT_FLAG, .value = &cfg.dry_run,
	    .help = "print what the job would cost, and exit" },
	{ .type = DF_OPT_OPERANDS, .arg = "TOKENS", .file = DF_FILE_READ },
	DF_PROG_OPTS(&cfg.common),
	DF_PROG_COMPUTE(&cfg.common),
	DF_OPT_END,
};
/* clang-format on */

static int
check_usage(const struct df_opt_result *args, struct df_err *err)
{
	const struct df_strlist *tokens = &args->operands;
	int rc;

	if (!cfg.model)
		return df_fail(err, DF_EUSAGE, "-m DIR is missing: the checkpoint");
	if (tokens->n == 0)
		return df_fail(err, DF_EUSAGE, "which tokens?  Name files made by df-pack");
	if (!cfg.output && !cfg.dry_run)
		return df_fail(err, DF_EUSAGE, "-o FILE is missing (- for a stream)");
	if (cfg.losses && cfg.project_given)
		return df_fail(err, DF_EUSAGE, "--losses and --project exclude each other");
	if (cfg.gate_load && (cfg.losses || cfg.project_given))
		return df_fail(err, DF_EUSAGE, "--gate-load excludes --losses and --project");
	if (cfg.token_loss && !cfg.losses)
		return df_fail(err, DF_EUSAGE, "--token-loss needs --losses");
	if (cfg.policy.rewards && (cfg.losses || cfg.gate_load || cfg.form != DF_GRAD_SGD))
		return df_fail(err, DF_EUSAGE,
		    "--rewards gives policy gradients: --losses, --gate-load and other forms exclude it");
	if (cfg.policy.rewards && cfg.index)
		return df_fail(
		    err, DF_EUSAGE, "--rewards and --index exclude each other: completions have their own ids");
	DF_TRY(df_opt_check_task(options, args, cfg.policy.rewards ? WITH_REWARDS : OF_SAMPLES, tasks, err));
	cfg.policy.rule = (enum df_policy_rule)cfg.rule;
	cfg.policy.topk = (uint64_t)cfg.topk;
	cfg.policy.mean_nll = cfg.nll == 1;
	cfg.policy.loo = cfg.baseline == 1;
	cfg.policy.sigmoid = cfg.map == 1;
	if (cfg.policy.rewards)
		DF_TRY(df_policy_check(&cfg.policy, err));
	rc = df_prog_projection_check(&cfg.projection, err);
out:
	return rc;
}

static struct df_grad_opts
grad_opts(void)
{
	return (struct df_grad_opts){
		.model = cfg.model,
		.base = cfg.base,
		.output = cfg.gate_load ? DF_GRAD_LOADS
		    : cfg.losses        ? DF_GRAD_LOSSES
		    : cfg.project_given ? DF_GRAD_PROJECTED
					: DF_GRAD_RAW,
		.form = (enum df_grad_form)cfg.form,
		.eps_inside = cfg.adam_eps == 1,
		.allow_zero_state = cfg.allow_zero_state,
		.token_loss = cfg.token_loss,
		.policy = cfg.policy,
		.projector = df_prog_projector(&cfg.projection),
		.block_tokens = (uint64_t)cfg.block_tokens,
		.block_rows = (uint64_t)cfg.block_rows,
	};
}

static int
dry_run(const struct df_grad_job *job, const struct df_env *env, struct df_err *err)
{
	const int n_threads = env->n_lanes;
	struct df_grad_cost c;
	double rate; /* of all threads */
	int rc;

	DF_TRY(df_backend_rate(env->be, &rate, err));
	DF_TRY(df_grad_job_estimate(job, &c, err));
	df_prog_row("rows", "%" PRIu64 " in %" PRIu64 " blocks, %" PRIu64 " tokens", c.rows, c.blocks, c.tokens);
	df_prog_row("coordinates", "%" PRIu64, c.coordinates);
	df_prog_row("work", "%.4g GFLOP model, %.4g GFLOP projection", c.model_flops / 1e9, c.projection_flops / 1e9);
	df_prog_row("memory", "%.0f MiB, and up to %.0f MiB for each of %d threads", c.model_bytes / 1048576,
	    c.lane_bytes / 1048576, n_threads);
	df_prog_row("output", "%.1f MiB", c.out_bytes / 1048576);
	df_prog_row("time", "about %.0f s at %.0f GFLOP/s per thread",
	    1.3 * (c.model_flops + c.projection_flops) / rate, rate / n_threads / 1e9);
out:
	return rc;
}

static int
run(struct df_grad_job *job, const struct df_env *env, struct df_err *err)
{
	const struct df_grad_job_run o = { .output = cfg.output,
		.tool = "df-grad",
		.compress = (enum df_compress)cfg.compress,
		.n_threads = env->n_lanes };
	uint64_t n = 0;
	const int rc = df_grad_job_run(job, &o, &n, err);

	df_prog_count(n, cfg.policy.rewards ? "prompts" : "samples");
	return rc;
}

int
main(int argc, char **argv)
{
	struct df_env env = { 0 };
	struct df_grad_job *job = NULL;
	struct df_grad_opts o;
	const struct df_opt_result *args;
	struct df_err err = DF_ERR_INIT;
	int rc;

	df_prog_init("df-grad");
	args = df_prog_parse(options, synopsis, about, &cfg.common, argc, argv);
	DF_TRY(check_usage(args, &err));
	o = grad_opts();
	DF_TRY(df_prog_env(&env, &cfg.common, DF_ENV_LANES, &err));
	DF_TRY(df_grad_job_open(&job, &o, args->operands.v, args->operands.n, cfg.index, cfg.shard, env.be, &err));
	rc = cfg.dry_run ? dry_run(job, &env, &err) : run(job, &env, &err);
out:
	df_grad_job_close(job);
	df_env_close(&env);
	return df_prog_exit(rc, &err);
}

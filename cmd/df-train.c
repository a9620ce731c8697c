/*
 * df-train - train to a step, stop, go on.
 */
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "config/events.h"
#include "prog.h"
#include "train/train.h"

static const char synopsis[] = "[options] [CONFIG.yaml] [key=value ...]";
static const char about[] = "Train a model on tokens, to the end or to a step; run again, it goes on.";

static struct {
	int64_t until;
	const char *index, *weights;
	bool dry_run, plan, list_keys;
	struct df_prog_common common;
} cfg = { .common = DF_PROG_COMMON_DEFAULT };

/* clang-format off */
static const struct df_opt options[] = {
	{ .type = DF_OPT_GROUP, .help = "How far, and on what" },
	{ .name = "until", .type = DF_OPT_INT, .value = &cfg.until, .arg = "STEP", .min = 0, .max = 1e15,
	    .help = "stop after this step and save (0: the end)" },
	{ .name = "index", .type = DF_OPT_STR, .value = &cfg.index, .arg = "FILE", .file = DF_FILE_READ,
	    .help = "train on these samples, in this order, from here on" },
	{ .name = "weights", .type = DF_OPT_STR, .value = &cfg.weights, .arg = "FILE", .file = DF_FILE_READ,
	    .help = "weigh each sample's loss" },
	{ .type = DF_OPT_GROUP, .help = "Looking first" },
	{ .name = "dry-run", .short_name = 'n', .type = DF_OPT_FLAG, .value = &cfg.dry_run,
	    .help = "print what the run would cost, and exit" },
	{ .name = "plan", .type = DF_OPT_FLAG, .value = &cfg.plan,
	    .help = "print when rows or proportions are chosen, and exit" },
	{ .name = "list-keys", .type = DF_OPT_FLAG, .value = &cfg.list_keys,
	    .help = "print all configuration keys and exit" },
	{ .type = DF_OPT_OPERANDS, .arg = "CONFIG", .file = DF_FILE_READ_ANY },
	DF_PROG_OPTS(&cfg.common),
	DF_PROG_COMPUTE(&cfg.common),
	DF_OPT_END,
};
/* clang-format on */

/* The first operand is the configuration unless it is an override. */
static int
load_config(struct df_config *config, const struct df_strlist *words, struct df_err *err)
{
	const char *path = words->n > 0 && !strchr(words->v[0], '=') ? words->v[0] : NULL;
	size_t skip = path ? 1 : 0;

	if (words->n == 0)
		return df_fail(err, DF_EUSAGE, "no configuration: give a YAML file, key=value words, or both");
	return df_config_load(config, DF_OWNER_TRAIN, path, words->v + skip, words->n - skip, err);
}

static int
list_keys(struct df_err *err)
{
	struct df_buf list = DF_BUF_INIT;

	df_keys_list(&list);
	return df_prog_print(&list, err);
}

static int
dry_run(const struct df_train_opts *o, struct df_err *err)
{
	struct df_train_plan p;
	int rc;

	if ((rc = df_train_dry_run(o, &p, err)) != DF_OK)
		return rc;
	if (p.counted) {
		df_prog_row("samples", "%" PRIu64 " (%" PRIu64 " without targets)", p.n_rows, p.n_unlabelled);
		df_prog_row("tokens", "%" PRIu64 " (%" PRIu64 " targets)", p.n_tokens, p.n_targets);
	} else {
		df_prog_row("samples", "%" PRIu64, p.n_rows);
		df_prog_row("tokens", "%" PRIu64 " (read as they are trained on)", p.n_tokens);
	}
	df_prog_row("parameters", "%" PRIu64 " (%" PRIu64 " trained)", p.n_params, p.n_trained);
	df_prog_row("steps", "%" PRIu64 " to %" PRIu64 " of %" PRIu64 " (%" PRIu64 " an epoch)", p.first_step + 1,
	    p.end_step, p.max_steps, p.steps_per_epoch);
	df_prog_row("compute", "%.3g TFLOP", p.flops / 1e12);
	df_prog_row("memory", "%.1f MB, activations about %.1f MB%s", p.memory / 1e6, p.activations / 1e6,
	    p.checkpointing ? " (gradient checkpointing)" : "");
	df_prog_row("disk", "%.1f MB a checkpoint", p.checkpoint / 1e6);
	return DF_OK;
}

static int
print_plan(const struct df_train_opts *o, struct df_err *err)
{
	struct df_buf text = DF_BUF_INIT;
	struct df_events events;
	int rc;

	if ((rc = df_train_events(o, &events, err)) != DF_OK)
		return rc;
	df_events_print(&events, &text);
	return df_prog_print(&text, err);
}

static int
train(const struct df_train_opts *o, struct df_err *err)
{
	struct df_train_report r = { 0 };
	int rc = df_train_run(o, &r, err);

	df_prog_count(r.step - r.first_step, "steps");
	if (r.step > r.first_step)
		df_info("%" PRIu64 " tokens in %.2f s of steps: %.0f tokens/s", r.n_tokens, r.seconds,
		    r.seconds > 0 ? (double)r.n_tokens / r.seconds : 0);
	return rc;
}

/* As in LLaMA-Factory, bf16: true asks for bf16 where the device has it; a command line that says more is right. */
static int
choose_compute(struct df_backend *be, const struct df_config *c, struct df_err *err)
{
	if (cfg.common.compute != DF_PROG_COMPUTE_AUTO || !c->bf16)
		return DF_OK;
	if (df_backend_takes_bf16(be))
		return df_backend_set_compute(be, DF_BF16, err);
	df_warn("no effect here: bf16 (device %s computes in float32)", df_backend_name(be));
	return DF_OK;
}

int
main(int argc, char **argv)
{
	struct df_config config = { 0 };
	struct df_train_opts o = { .config = &config };
	struct df_env env = { 0 };
	const struct df_opt_result *args;
	struct df_err err = DF_ERR_INIT;
	int rc;

	df_prog_init("df-train");
	args = df_prog_parse(options, synopsis, about, &cfg.common, argc, argv);
	if (cfg.list_keys) {
		rc = list_keys(&err);
		goto out;
	}
	o.until = (uint64_t)cfg.until;
	o.index = cfg.index;
	o.weights = cfg.weights;
	DF_TRY(load_config(&config, &args->operands, &err));
	if (cfg.plan) {
		rc = print_plan(&o, &err);
		goto out;
	}
	DF_TRY(df_train_note_files(&config, &err));
	DF_TRY(df_prog_env(&env, &cfg.common, DF_ENV_WIDE, &err));
	DF_TRY(choose_compute(env.be, &config, &err));
	o.pool = env.pool;
	o.backend = env.be;
	rc = cfg.dry_run ? dry_run(&o, &err) : train(&o, &err);
out:
	df_env_close(&env);
	df_config_release(&config);
	return df_prog_exit(rc, &err);
}

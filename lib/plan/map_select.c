/*
 * map_select.c - train_type: dynamic_select as commands: at each event what a selector wants measured, df-score, and
 * the next window of df-train.
 *
 * What depends on the model is measured with the event's checkpoint; what does not, once for the run.  A parameter of
 * the component is an option of a measuring command (struct measure), or else of df-score METHOD.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/words.h"
#include "plan/plan_priv.h"
#include "select/select.h"

#define EVENTS_MAX 10000 /* of a plan */

/* ---- parameters of measurements ----------------------------------------------------- */

/* NULL and 0: the default. */
struct measure {
	int form;
	int64_t proj_dim, checkpoints, samples, max_new_tokens, per_cluster, cluster_size, num_clusters, max_iter,
	    lsh_bits;
	int64_t layer, seed;
	double temperature, top_p;
	int64_t top_k;
	int clustering, representatives, pooling, policy, match;
	int shortage, rng, compat; /* of df-score, for all methods */
	const char *embedding_model, *reward_model, *judge, *reward_program;
};
static const struct measure measure_defaults = { .proj_dim = 8192,
	.checkpoints = 1,
	.samples = 20,
	.max_new_tokens = 128,
	.per_cluster = 3,
	.cluster_size = 64,
	.max_iter = 20,
	.layer = -1,
	.seed = -1,
	.temperature = 1,
	.top_k = 50,
	.top_p = 0.95,
	.match = 1 };

static const char *const forms[] = { "adam", "sgd", "sign", NULL };
static const char *const shortages[] = { DF_SHORTAGE_NAMES, NULL };
static const char *const rngs[] = { "philox", "torch", NULL };
static const char *const compats[] = { "none", "dataflex", NULL };
static const char *const clusterings[] = { "kmeans", "spherical_kmeans", "farthest_first", "lsh", "random", NULL };
static const char *const strategies[] = { "random", "nearest", "farthest", "mixed", NULL };
static const char *const poolings[] = { "default", "mean", "last", "cls", "position", NULL };
static const char *const policies[] = { "vanilla", "rejection", "hard", "topk", "topk-hard", NULL };
static const char *const matches[] = { "exact", "strip", "text", "number", NULL };

#define AT(field) DF_OPT_AT(struct measure, field)
#define INT(n, field, least)                                                                \
	{                                                                                   \
		.name = n, .type = DF_OPT_INT, .value = AT(field), .min = least, .max = 1e9 \
	}
#define CHOICE(n, field, words)                                                        \
	{                                                                              \
		.name = n, .type = DF_OPT_CHOICE, .value = AT(field), .choices = words \
	}
#define STR(n, field)                                             \
	{                                                         \
		.name = n, .type = DF_OPT_STR, .value = AT(field) \
	}
/* clang-format off */
static const struct df_opt seed_params[] = { { .name = "seed", .type = DF_OPT_INT, .value = AT(seed), .min = 0, .max = 9e15 }, DF_OPT_END };
static const struct df_opt common_params[] = { CHOICE("short", shortage, shortages), CHOICE("rng", rng, rngs),
	CHOICE("compat", compat, compats), DF_OPT_END };
static const struct df_opt grad_params[] = { CHOICE("gradient-type", form, forms), INT("proj-dim", proj_dim, 1),
	INT("checkpoints", checkpoints, 1), DF_OPT_END };
static const struct df_opt cluster_params[] = { CHOICE("clustering-method", clustering, clusterings),
	CHOICE("representative-strategy", representatives, strategies), INT("samples-per-cluster", per_cluster, 1),
	INT("cluster-size", cluster_size, 1), INT("num-clusters", num_clusters, 1), INT("clustering-max-iter", max_iter, 1),
	INT("lsh-num-bits", lsh_bits, 1), DF_OPT_END };
static const struct df_opt embed_params[] = { STR("embedding-model-name-or-path", embedding_model),
	INT("embedding-layer", layer, -1), CHOICE("pooling", pooling, poolings), DF_OPT_END };
static const struct df_opt answer_params[] = { INT("mc-samples", samples, 1), INT("max-new-tokens", max_new_tokens, 1),
	{ .name = "generation-temperature", .type = DF_OPT_DOUBLE, .value = AT(temperature), .min = 0, .max = 1e6 },
	{ .name = "top-p", .type = DF_OPT_DOUBLE, .value = AT(top_p), .min = 0, .max = 1 }, INT("top-k", top_k, 0),
	CHOICE("policy", policy, policies), CHOICE("match", match, matches), STR("reward-model", reward_model),
	STR("reward-program", reward_program), STR("reward-backend-params.local-vllm.hf-model-name-or-path", judge),
	DF_OPT_END };
/* clang-format on */

/* ---- the selectors -------------------------------------------------------------------- */

enum need {
	NEEDS_GRADS = 1,     /* gradients of the pool and the target */
	NEEDS_CLUSTERS = 2,  /* clusters of embeddings, and gradients of their representatives and of the target */
	NEEDS_ANSWERS = 4,   /* gradients of the pool, and policy gradients of rewarded answers to the target */
	NEEDS_LOSSES = 8,    /* losses of the pool */
	NEEDS_FIRST = 16,    /* and those of the run's first event */
	NEEDS_ALONE = 32,    /* and those of the responses without their prompts */
	NEEDS_EMBED = 64,    /* embeddings of the pool */
	NEEDS_QUERIES = 128, /* and of the target */
	NEEDS_TARGET = 256,  /* the target's tokens */
	NEEDS_SCORES = 512,  /* scores of LESS */
	SEES_MODEL = 1024,   /* embeddings are of the model that is trained, unless another is given */
	ONCE = 2048,         /* every window has the same rows */
	KEEPS_KNN = 4096,    /* neighbours are found once */
	WANTS_TARGET = NEEDS_GRADS | NEEDS_CLUSTERS | NEEDS_ANSWERS | NEEDS_QUERIES | NEEDS_TARGET,
	WANTS_MOMENTS = NEEDS_GRADS | NEEDS_CLUSTERS | NEEDS_ANSWERS,
	WANTS_WEIGHTS = WANTS_MOMENTS | NEEDS_LOSSES | NEEDS_EMBED
};

/* Parameters that say nothing here. */
struct unused {
	const char *name, *why;
};
#define CACHE                                                \
	{                                                    \
		"cache_dir", "everything goes to output_dir" \
	}
static const struct unused unused[] = { CACHE, { "save_interval", "gradients are projected on the way" },
	{ "probs_path", "its probabilities are computed" }, { "indices_path", "its neighbours are computed" },
	{ "clustering_batch_size", "it changes no result" }, { "embedding_model_dtype", "it is as the model's files" },
	{ "reward_model_backend", "rewards are exact answers, or those of reward_model or reward_program" },
	{ "max_prompt_length", "cutoff_len bounds the prompts" }, { NULL, NULL } };

/* DataFlex's names of options of df-score. */
static const struct df_opt_alias aliases[] = { { "window_size", "window", NULL }, { "k", "steepness", NULL },
	{ "max_K", "max-k", NULL }, { "kde_K", "kde-k", NULL }, { "C", "c", NULL }, { NULL, NULL, NULL } };

static const struct selector {
	const char *name, *method; /* DataFlex's or ours, with '_'; df-score's */
	unsigned needs;
	const struct df_opt *params[4];
} selectors[] = {
	{ "less", "less", NEEDS_GRADS, { grad_params } },
	{ "cluster_less", "cluster-less", NEEDS_CLUSTERS | NEEDS_EMBED | SEES_MODEL,
	    { grad_params, cluster_params, embed_params } },
	{ "nice", "nice", NEEDS_ANSWERS, { grad_params, answer_params } },
	{ "loss", "loss", NEEDS_LOSSES, { NULL } },
	{ "delta_loss", "delta-loss", NEEDS_LOSSES | NEEDS_FIRST, { NULL } },
	{ "near", "near", NEEDS_EMBED | NEEDS_QUERIES | ONCE, { embed_params } },
	{ "tsds", "tsds", NEEDS_EMBED | NEEDS_QUERIES | KEEPS_KNN, { embed_params } },
	{ "rds", "rds", NEEDS_EMBED | NEEDS_QUERIES | SEES_MODEL, { embed_params } },
	{ "dsir", "dsir", NEEDS_TARGET, { NULL } },
	{ "ppl", "ppl", NEEDS_LOSSES, { NULL } },
	{ "ifd", "ifd", NEEDS_LOSSES | NEEDS_ALONE, { NULL } },
	{ "semdedup", "semdedup", NEEDS_EMBED, { embed_params } },
	{ "diverse", "diverse", NEEDS_EMBED | NEEDS_GRADS | NEEDS_SCORES, { embed_params, grad_params } },
	{ "random", "random", 0, { NULL } },
	{ "static", "static", ONCE, { NULL } },
	{ "custom", "custom", 0, { NULL } },
};
#define N_SELECTORS (sizeof(selectors) / sizeof(selectors[0]))

struct job {
	struct df_map *m;
	const struct selector *s;
	const struct df_selector *method;
	struct df_component c;
	struct measure how;
	const char *settings;      /* the run's, with the parameters that are in another file */
	struct df_strlist options; /* of df-score, words; the strings are the plan's */
	const char *base;          /* the model of embeddings that are made once; NULL: that of the first event */
	struct df_event first, now;
	const char *model;         /* of the event */
	const char *from;          /* the file that says that it is there; NULL: it always is */
	struct df_strlist earlier; /* of each event so far: its step, the pool's gradients, the target's */
};

/* ---- parameters -> values and words ----------------------------------------------------- */

static const struct df_opt *
in_table(const struct df_opt *rows, const char *param)
{
	for (; rows && rows->name; rows++) {
		if (rows->type != DF_OPT_GROUP && df_opt_is(rows->name, param))
			return rows;
	}
	return NULL;
}

static int
place(const struct job *j, const struct df_config_pair *p, int rc, struct df_err *err)
{
	df_err_prefix(err, "%s: ", p->key);
	df_component_place(&j->c, p, err);
	if (rc == DF_EUSAGE && err)
		err->code = DF_ECONFIG;
	return rc == DF_EUSAGE ? DF_ECONFIG : rc;
}

static void
nearer_of(const struct df_opt *rows, const char *param, const char **best, size_t *dist)
{
	for (; rows && rows->name; rows++) {
		if (rows->type != DF_OPT_GROUP)
			df_nearer(param, rows->name, best, dist);
	}
}

static int
unknown(const struct job *j, const struct df_config_pair *p, struct df_err *err)
{
	const char *best = NULL;
	size_t dist = SIZE_MAX;

	for (size_t i = 0; i < 4; i++)
		nearer_of(j->s->params[i], p->key, &best, &dist);
	nearer_of(seed_params, p->key, &best, &dist);
	nearer_of(common_params, p->key, &best, &dist);
	nearer_of(j->method->options, p->key, &best, &dist);
	(void)df_fail(err, DF_ECONFIG, "%s has no such parameter", j->s->name);
	if (best)
		df_err_suffix(err, "; did you mean %s?", best);
	return place(j, p, DF_ECONFIG, err);
}

/* An option of df-score: checked, and put among its words. */
static int
take_option(struct job *j, const struct df_opt *o, void *values, const char *text, struct df_err *err)
{
	struct df_plan_node n = { .argv = j->options };
	const bool flag = o->type == DF_OPT_FLAG;
	int rc = df_opt_set(j->method->options, values, o->name, text, err);

	if (rc != DF_OK)
		return rc;
	df_plan_word(j->m->p, &n, "--%s%s", flag && strcmp(text, "true") != 0 ? "no-" : "", o->name);
	if (!flag)
		df_plan_word(j->m->p, &n, "%s", text);
	j->options = n.argv;
	return DF_OK;
}

static int
take_param(struct job *j, const struct df_config_pair *p, void *values, struct df_err *err)
{
	const struct df_opt *o = NULL;
	const char *ours = p->key;
	int rc;

	if (strcmp(p->value, "null") == 0)
		return DF_OK;
	for (size_t i = 0; i < 4 && !o; i++) {
		if ((o = in_table(j->s->params[i], p->key))) {
			rc = df_opt_set(j->s->params[i], &j->how, o->name, p->value, err);
			return rc == DF_OK ? rc : place(j, p, rc, err);
		}
	}
	for (size_t i = 0; i < 2; i++) {
		const struct df_opt *const rows = i ? common_params : seed_params;

		if ((o = in_table(rows, p->key))) {
			rc = df_opt_set(rows, &j->how, o->name, p->value, err);
			return rc == DF_OK ? rc : place(j, p, rc, err);
		}
	}
	for (const struct df_opt_alias *a = aliases; a->theirs; a++) {
		if (strcmp(a->theirs, p->key) == 0)
			ours = a->ours;
	}
	if ((o = in_table(j->method->options, ours))) {
		rc = take_option(j, o, values, p->value, err);
		return rc == DF_OK ? rc : place(j, p, rc, err);
	}
	for (const struct unused *u = unused; u->name; u++) {
		if (strcmp(u->name, p->key) != 0)
			continue;
		df_plan_note(j->m->p, "%s: %s has no effect: %s", j->s->name, p->key, u->why);
		return DF_OK;
	}
	if (strncmp(p->key, "reward_backend_params.", 22) == 0 && j->s->needs & NEEDS_ANSWERS)
		return DF_OK; /* of the judge, which the note of reward_model_backend is about */
	return unknown(j, p, err);
}

static int
take_params(struct job *j, struct df_err *err)
{
	void *values = NULL;
	int rc;

	DF_TRY(df_selector_defaults(j->method, &values, err));
	for (size_t i = 0; i < j->c.params.n; i++)
		DF_TRY(take_param(j, &j->c.params.v[i], values, err));
out:
	df_selector_free(j->method, values);
	return rc;
}

/* ---- measurements ------------------------------------------------------------------------ */

/* Where the event's files go. */
static const char *
at_step(const struct job *j, const char *name)
{
	return df_map_file(j->m, "step-%" PRIu64 "/%s", j->now.step, name);
}

/* The pattern of a sharded output, or the output. */
static const char *
whole(const struct job *j, const char *path)
{
	const size_t n = j->m->o->shards;
	const char *dot = strrchr(path, '.');

	if (n <= 1)
		return path;
	return df_plan_text(j->m->p, "%.*s.*-of-%05zu%s", (int)(dot - path), path, n, dot);
}

/* The node's last words: where from and to, in parts if `parts`.  It reads the tokens, and the model of the event. */
static int
end_measure(struct job *j, struct df_plan_node *n, bool parts, const char *tokens, const char *path, struct df_err *err)
{
	struct df_plan *p = j->m->p;

	if (parts && j->m->o->shards > 1) {
		n->shards = j->m->o->shards;
		df_plan_words(p, n, "--shard", DF_PLAN_SHARD, NULL);
	}
	df_plan_words(p, n, tokens, "-o", path, NULL);
	df_plan_in(p, n, tokens);
	if (j->from)
		df_plan_in(p, n, j->from);
	if (n->shards)
		df_plan_out_shards(p, n, path);
	else
		df_plan_out(p, n, path);
	return df_plan_add(p, n, NULL, err);
}

static void
put_seed(const struct job *j, struct df_plan_node *n)
{
	const int64_t seed = j->how.seed >= 0 ? j->how.seed : j->m->c->seed;

	df_plan_words(j->m->p, n, "--seed", df_plan_text(j->m->p, "%" PRId64, seed), NULL);
}

static void
put_project(const struct job *j, struct df_plan_node *n)
{
	df_plan_words(j->m->p, n, "--project", df_plan_text(j->m->p, "%" PRId64, j->how.proj_dim), NULL);
	if (j->how.seed >= 0)
		put_seed(j, n);
}

/* Gradients of the pool, or of the rows of an index, in the form of a training step. */
static int
pool_grads(struct job *j, const char *what, const char *index, const char *path, struct df_err *err)
{
	struct df_plan *p = j->m->p;
	struct df_plan_node n = { .name = df_plan_text(p, "%s-grad-%" PRIu64, what, j->now.step),
		.about = df_plan_text(p, "gradients of the %s at step %" PRIu64, what, j->now.step) };

	df_plan_words(p, &n, "df-grad", "-m", j->model, "--form", forms[j->how.form], NULL);
	put_project(j, &n);
	if (index) {
		df_plan_words(p, &n, "--index", index, NULL);
		df_plan_in(p, &n, index);
	}
	return end_measure(j, &n, true, j->m->pool, path, err);
}

static int
target_grads(struct job *j, const char *path, struct df_err *err)
{
	struct df_plan *p = j->m->p;
	struct df_plan_node n = { .name = df_plan_text(p, "target-grad-%" PRIu64, j->now.step),
		.about = df_plan_text(p, "gradients of the target at step %" PRIu64, j->now.step) };

	df_plan_words(p, &n, "df-grad", "-m", j->model, "--form", "sgd", NULL);
	put_project(j, &n);
	return end_measure(j, &n, false, j->m->held, path, err);
}

static int
losses(struct job *j, const char *what, const char *tokens, const char *path, struct df_err *err)
{
	struct df_plan *p = j->m->p;
	struct df_plan_node n = { .name = df_plan_text(p, "%s-loss-%" PRIu64, what, j->now.step),
		.about = df_plan_text(p, "losses of the %s at step %" PRIu64, what, j->now.step) };

	df_plan_words(p, &n, "df-grad", "-m", j->model, "--losses", NULL);
	return end_measure(j, &n, true, tokens, path, err);
}

/* Vectors of the pool or the target, once or at the event. */
static int
embed(struct job *j, bool once, const char *what, const char *tokens, bool parts, const char *path, struct df_err *err)
{
	struct df_plan *p = j->m->p;
	const char *const suffix = once ? "" : df_plan_text(p, "-%" PRIu64, j->now.step);
	struct df_plan_node n = { .name = df_plan_text(p, "%s-embed%s", what, suffix),
		.about = df_plan_text(p, "embeddings of the %s", what) };
	const char *from = j->from;
	int rc;

	df_plan_words(p, &n, "df-embed", "-m", once && j->base ? j->base : j->model, NULL);
	/* what pools, and over which layer, is the embedder's own, but decoders have none */
	if (j->how.pooling > 0)
		df_plan_words(p, &n, "--pooling", poolings[j->how.pooling], NULL);
	else if (!j->how.embedding_model)
		df_plan_words(p, &n, "--pooling", j->s->needs & NEEDS_CLUSTERS ? "mean" : "position", NULL);
	if (j->how.layer != -1)
		df_plan_words(p, &n, "--layer", df_plan_text(p, "%" PRId64, j->how.layer), NULL);
	if (once && j->base)
		j->from = NULL;
	rc = end_measure(j, &n, parts, tokens, path, err);
	j->from = from;
	return rc;
}

/* ---- rewarded answers (NICE) ---------------------------------------------------------------- */

static int
rewards(struct job *j, const char *draws, const char *lines, const char *path, struct df_err *err)
{
	struct df_plan *p = j->m->p;
	const char *const step = df_plan_text(p, "%" PRIu64, j->now.step);
	struct df_plan_node n = { .name = df_plan_text(p, "rewards-%s", step),
		.about = df_plan_text(p, "rewards of the answers at step %s", step) };

	df_plan_after(p, &n, df_plan_text(p, "answers-%s", step));
	df_plan_in(p, &n, lines);
	if (j->how.reward_model) {
		df_plan_words(p, &n, "df-eval", "-m", df_map_model(j->m, j->how.reward_model), draws, "-o", path, NULL);
	} else if (j->how.reward_program) {
		df_plan_words(p, &n, "sh", "-c", df_plan_text(p, "( %s ) <\"$1\"", j->how.reward_program), "rewards",
		    lines, NULL);
		n.capture = true;
	} else {
		df_plan_words(p, &n, "df-eval", "--completions", lines, "--match", matches[j->how.match], "--details",
		    path, NULL);
	}
	df_plan_out(p, &n, path);
	return df_plan_add(p, &n, NULL, err);
}

static int
policy_grads(struct job *j, const char *path, struct df_err *err)
{
	struct df_plan *p = j->m->p;
	const char *const draws = at_step(j, "answers.h5"), *const lines = at_step(j, "answers.jsonl");
	const char *const reward = at_step(j, "rewards");
	const char *const step = df_plan_text(p, "%" PRIu64, j->now.step);
	struct df_plan_node n = { .name = df_plan_text(p, "answers-%s", step),
		.about = df_plan_text(p, "answers to the target's questions at step %s", step) };
	int rc;

	df_plan_words(p, &n, "df-sample", "-m", j->model, j->m->held, "-n", NULL);
	df_plan_word(p, &n, "%" PRId64, j->how.samples);
	df_plan_words(p, &n, "--max-new-tokens", df_plan_text(p, "%" PRId64, j->how.max_new_tokens), "--temperature",
	    df_plan_text(p, "%g", j->how.temperature), "--top-k", df_plan_text(p, "%" PRId64, j->how.top_k), "--top-p",
	    df_plan_text(p, "%g", j->how.top_p), NULL);
	put_seed(j, &n);
	df_plan_words(p, &n, "-o", draws, "--json", lines, NULL);
	df_plan_in(p, &n, j->m->held);
	df_plan_in(p, &n, j->from);
	df_plan_out(p, &n, draws);
	df_plan_out(p, &n, lines);
	DF_TRY(df_plan_add(p, &n, NULL, err));
	DF_TRY(rewards(j, draws, lines, reward, err));
	n = (struct df_plan_node){ .name = df_plan_text(p, "target-grad-%s", step),
		.about = df_plan_text(p, "policy gradients of the rewarded answers at step %s", step) };
	df_plan_words(p, &n, "df-grad", "-m", j->model, "--rewards", reward, "--policy", policies[j->how.policy], NULL);
	put_project(j, &n);
	df_plan_in(p, &n, reward);
	rc = end_measure(j, &n, false, draws, path, err);
out:
	return rc;
}

/* ---- clusters ---------------------------------------------------------------------------------- */

/* Clusters are made once; representatives are drawn anew at each event. */
static int
cluster(struct job *j, const char *pool, const char *clusters, const char *reps, bool first, struct df_err *err)
{
	struct df_plan *p = j->m->p;
	struct df_plan_node n = { .name = df_plan_text(p, "cluster-%" PRIu64, j->now.step),
		.about = first ? "clusters of the pool's embeddings, and their representatives"
			       : "other representatives of the clusters" };

	df_plan_words(p, &n, "df-score", "cluster", "--train", whole(j, pool), NULL);
	df_plan_after(p, &n, "pool-embed");
	if (!first) {
		df_plan_words(p, &n, "--clusters", clusters, NULL);
		df_plan_in(p, &n, clusters);
	} else {
		df_plan_words(p, &n, "--clustering", clusterings[j->how.clustering], "--max-iter",
		    df_plan_text(p, "%" PRId64, j->how.max_iter), NULL);
		if (j->how.num_clusters > 0)
			df_plan_words(p, &n, "--num-clusters", df_plan_text(p, "%" PRId64, j->how.num_clusters), NULL);
		else
			df_plan_words(p, &n, "--cluster-size", df_plan_text(p, "%" PRId64, j->how.cluster_size), NULL);
		if (j->how.lsh_bits > 0)
			df_plan_words(p, &n, "--lsh-bits", df_plan_text(p, "%" PRId64, j->how.lsh_bits), NULL);
	}
	df_plan_words(p, &n, "--per-cluster", df_plan_text(p, "%" PRId64, j->how.per_cluster), "--representatives",
	    strategies[j->how.representatives], "--step", df_plan_text(p, "%" PRIu64, j->now.step), NULL);
	put_seed(j, &n);
	if (first) {
		df_plan_words(p, &n, "--scores-output", clusters, NULL);
		df_plan_out(p, &n, clusters);
	}
	df_plan_words(p, &n, "-o", reps, NULL);
	df_plan_out(p, &n, reps);
	return df_plan_add(p, &n, NULL, err);
}

/* ---- df-score ------------------------------------------------------------------------------------ */

/* Remember this event's gradients; --train and --val (or --reps) of the last `checkpoints` events, which n reads. */
static void
put_gradients(struct job *j, struct df_plan_node *n, const char *role, const char *pool, const char *target)
{
	const char *const what = j->s->needs & NEEDS_CLUSTERS ? "representatives" : "pool";
	struct df_plan *p = j->m->p;
	struct df_plan_node list = { .argv = j->earlier };
	size_t from;

	df_plan_words(p, &list, df_plan_text(p, "%" PRIu64, j->now.step), pool, target, NULL);
	j->earlier = list.argv;
	from = j->earlier.n / 3 > (size_t)j->how.checkpoints ? j->earlier.n - 3 * (size_t)j->how.checkpoints : 0;
	for (size_t i = from; i + 2 < j->earlier.n; i += 3) {
		df_plan_words(p, n, role, whole(j, j->earlier.v[i + 1]), "--val", j->earlier.v[i + 2], NULL);
		df_plan_after(p, n, df_plan_text(p, "%s-grad-%s", what, j->earlier.v[i]));
		df_plan_in(p, n, j->earlier.v[i + 2]);
	}
}

static void
begin_score(struct job *j, struct df_plan_node *n, const char *method)
{
	df_plan_words(j->m->p, n, "df-score", method, NULL);
}

static void
read_after(struct job *j, struct df_plan_node *n, const char *what)
{
	df_plan_after(j->m->p, n, df_plan_text(j->m->p, "%s-%" PRIu64, what, j->now.step));
}

/* The gradients of this event, measured; the words that name them. */
static int
score_gradients(struct job *j, struct df_plan_node *n, struct df_err *err)
{
	const bool clusters = j->s->needs & NEEDS_CLUSTERS, answers = j->s->needs & NEEDS_ANSWERS;
	const bool first = j->now.step == j->first.step;
	const char *const pool = at_step(j, clusters ? "reps.grad.h5" : "pool.grad.h5");
	const char *const target = at_step(j, "target.grad.h5"), *const reps = at_step(j, "reps.h5");
	const char *const emb = df_map_file(j->m, "select/pool.emb.h5"),
			  *const all = df_map_file(j->m, "select/clusters.h5");
	int rc;

	if (clusters)
		DF_TRY(cluster(j, emb, all, reps, first, err));
	DF_TRY(pool_grads(j, clusters ? "representatives" : "pool", clusters ? reps : NULL, pool, err));
	DF_TRY(answers ? policy_grads(j, target, err) : target_grads(j, target, err));
	if (clusters) {
		df_plan_words(j->m->p, n, "--train", all, NULL);
		df_plan_in(j->m->p, n, all);
	}
	put_gradients(j, n, clusters ? "--reps" : "--train", pool, target);
out:
	return rc;
}

static int
score_losses(struct job *j, struct df_plan_node *n, struct df_err *err)
{
	struct df_plan *p = j->m->p;
	const char *const pool = at_step(j, "pool.loss.h5"), *const alone = at_step(j, "alone.loss.h5");
	const char *const first = df_map_file(j->m, "step-%" PRIu64 "/pool.loss.h5", j->first.step);
	int rc;

	DF_TRY(losses(j, "pool", j->m->pool, pool, err));
	df_plan_words(p, n, "--train", whole(j, pool), NULL);
	read_after(j, n, "pool-loss");
	if (j->s->needs & NEEDS_ALONE) {
		DF_TRY(losses(j, "alone", j->m->alone, alone, err));
		df_plan_words(p, n, "--no-prompt", whole(j, alone), NULL);
		read_after(j, n, "alone-loss");
	}
	if (j->s->needs & NEEDS_FIRST && j->now.step != j->first.step) {
		df_plan_words(p, n, "--reference", whole(j, first), "--ordinal",
		    df_plan_text(p, "%" PRIu64, j->now.ordinal), "--update-times",
		    df_plan_text(p, "%" PRIu64, p->events.times), NULL);
		df_plan_after(p, n, df_plan_text(p, "pool-loss-%" PRIu64, j->first.step));
	}
out:
	return rc;
}

static int
score_embeddings(struct job *j, struct df_plan_node *n, bool once, struct df_err *err)
{
	struct df_plan *p = j->m->p;
	const char *const pool = once ? df_map_file(j->m, "select/pool.emb.h5") : at_step(j, "pool.emb.h5");
	const char *const query = once ? df_map_file(j->m, "select/target.emb.h5") : at_step(j, "target.emb.h5");
	const char *const knn = df_map_file(j->m, "select/neighbours.h5");
	const bool first = j->now.step == j->first.step;
	int rc = DF_OK;

	if (!once || !df_plan_find(p, "pool-embed"))
		DF_TRY(embed(j, once, "pool", j->m->pool, true, pool, err));
	if (j->s->needs & NEEDS_QUERIES && (!once || !df_plan_find(p, "target-embed")))
		DF_TRY(embed(j, once, "target", j->m->held, false, query, err));
	if (j->s->needs & NEEDS_CLUSTERS)
		goto out;
	df_plan_words(p, n, "--train", whole(j, pool), NULL);
	df_plan_after(p, n, once ? "pool-embed" : df_plan_text(p, "pool-embed-%" PRIu64, j->now.step));
	if (j->s->needs & KEEPS_KNN && !first) {
		df_plan_words(p, n, "--neighbours", knn, NULL);
		df_plan_in(p, n, knn);
		goto out;
	}
	if (j->s->needs & NEEDS_QUERIES) {
		df_plan_words(p, n, "--query", query, NULL);
		df_plan_in(p, n, query);
	}
	if (j->s->needs & KEEPS_KNN) {
		df_plan_words(p, n, "--neighbours-output", knn, NULL);
		df_plan_out(p, n, knn);
	}
out:
	return rc;
}

/* LESS's scores of all rows, which `diverse` follows. */
static int
score_less(struct job *j, struct df_plan_node *n, struct df_err *err)
{
	struct df_plan *p = j->m->p;
	const char *const scores = at_step(j, "scores.h5");
	struct df_plan_node s = { .name = df_plan_text(p, "scores-%" PRIu64, j->now.step),
		.about = df_plan_text(p, "scores of LESS at step %" PRIu64, j->now.step) };
	int rc;

	begin_score(j, &s, "less");
	DF_TRY(score_gradients(j, &s, err));
	df_plan_words(p, &s, "--scores-output", scores, NULL);
	df_plan_out(p, &s, scores);
	DF_TRY(df_plan_add(p, &s, NULL, err));
	df_plan_words(p, n, "--scores", scores, NULL);
	df_plan_in(p, n, scores);
out:
	return rc;
}

/* All that the method wants, and the words that name it. */
static int
score_inputs(struct job *j, struct df_plan_node *n, struct df_err *err)
{
	const unsigned needs = j->s->needs;
	struct df_plan *p = j->m->p;
	int rc = DF_OK;

	if (needs & NEEDS_EMBED)
		DF_TRY(score_embeddings(j, n, j->base || !(needs & SEES_MODEL) || needs & NEEDS_CLUSTERS, err));
	if (needs & NEEDS_SCORES)
		DF_TRY(score_less(j, n, err));
	else if (needs & WANTS_MOMENTS)
		DF_TRY(score_gradients(j, n, err));
	if (needs & NEEDS_LOSSES)
		DF_TRY(score_losses(j, n, err));
	if (needs & (WANTS_WEIGHTS))
		return rc;
	df_plan_words(p, n, "--train", j->m->pool, NULL);
	df_plan_in(p, n, j->m->pool);
	if (needs & NEEDS_TARGET) {
		df_plan_words(p, n, "--target", j->m->held, "--tokenizer", j->m->tokenizer, NULL);
		df_plan_in(p, n, j->m->held);
	}
out:
	return rc;
}

static void
put_common(const struct job *j, struct df_plan_node *n)
{
	if (j->how.shortage)
		df_plan_words(j->m->p, n, "--short", shortages[j->how.shortage], NULL);
	if (j->how.rng)
		df_plan_words(j->m->p, n, "--rng", rngs[j->how.rng], NULL);
	if (j->how.compat)
		df_plan_words(j->m->p, n, "--compat", compats[j->how.compat], NULL);
}

/* *index = the rows of the window that begins now. */
static int
choose(struct job *j, const char **index, struct df_err *err)
{
	const bool once = j->s->needs & ONCE;
	struct df_plan *p = j->m->p;
	struct df_plan_node n = { .name = once ? "select" : df_plan_text(p, "select-%" PRIu64, j->now.step),
		.about = once ? "the rows of every window"
			      : df_plan_text(p, "the rows of the steps after %" PRIu64, j->now.step) };
	int rc = DF_OK;

	*index = once ? df_map_file(j->m, "select/index.h5") : at_step(j, "index.h5");
	if (once && df_plan_find(p, "select"))
		return DF_OK;
	begin_score(j, &n, j->method->name);
	DF_TRY(score_inputs(j, &n, err));
	for (size_t i = 0; i < j->options.n; i++)
		df_plan_word(p, &n, "%s", j->options.v[i]);
	df_plan_words(p, &n, "-n", df_plan_text(p, "%" PRIu64, j->now.n_rows), NULL);
	if (!once)
		df_plan_words(p, &n, "--step", df_plan_text(p, "%" PRIu64, j->now.step), NULL);
	put_seed(j, &n);
	put_common(j, &n);
	df_plan_words(p, &n, "-o", *index, NULL);
	df_plan_out(p, &n, *index);
	rc = df_plan_add(p, &n, NULL, err);
out:
	return rc;
}

/* ---- windows ---------------------------------------------------------------------------------------- */

/* df-train from the event to the next; index NULL: it draws the rows of a warm-up itself. */
static int
train_window(struct job *j, const char *index, struct df_err *err)
{
	struct df_plan *p = j->m->p;
	const bool last = j->now.end == p->events.max_steps;
	struct df_plan_node n = { .name = last ? "train" : df_plan_text(p, "train-%" PRIu64, j->now.end),
		.about = df_plan_text(p, "steps %" PRIu64 " to %" PRIu64 " on %s", j->now.step + 1, j->now.end,
		    index ? "the selected rows" : "drawn rows") };

	n.whole = !last;
	df_map_train_words(j->m, &n);
	if (df_config_given(j->m->c, "save_total_limit"))
		df_plan_word(p, &n, "save_total_limit=null");
	if (index) {
		df_plan_words(p, &n, "--index", index, NULL);
		df_plan_in(p, &n, index);
	}
	if (j->from)
		df_plan_in(p, &n, j->from);
	/* Of the last window, too, if it has an index: then the selector may choose the rows of the window before. */
	if (!last || index)
		df_plan_words(p, &n, "--until", df_plan_text(p, "%" PRIu64, j->now.end), NULL);
	j->model = last ? j->m->out : df_map_file(j->m, "checkpoint-%" PRIu64, j->now.end);
	j->from = last ? df_map_file(j->m, "all_results.json") : df_plan_text(p, "%s/df_state.json", j->model);
	df_plan_out(p, &n, j->from);
	return df_plan_add(p, &n, j->settings, err);
}

static int
windows(struct job *j, struct df_err *err)
{
	const struct df_events *e = &j->m->p->events;
	size_t n = 0;
	int rc = DF_OK;

	for (struct df_event v = df_events_window(e, 0); v.kind != DF_EVENT_NONE; v = df_events_window(e, v.end)) {
		const char *index = NULL;

		if (++n > EVENTS_MAX)
			return df_config_fail(
			    j->m->c, "update_step", err, "the run has more than %d windows", EVENTS_MAX);
		j->now = v;
		if (v.kind == DF_EVENT_UPDATE) {
			if (j->first.kind == DF_EVENT_NONE)
				j->first = v;
			DF_TRY(choose(j, &index, err));
		}
		DF_TRY(train_window(j, index, err));
	}
out:
	return rc;
}

/* ---- before -------------------------------------------------------------------------------------------- */

static int
find(struct job *j, struct df_err *err)
{
	const char *names[N_SELECTORS + 1];
	struct df_config_map *m = &j->c.params;

	for (size_t i = 0; i < N_SELECTORS; i++) {
		if (strcmp(selectors[i].name, j->c.name) == 0)
			j->s = &selectors[i];
		names[i] = selectors[i].name;
	}
	names[N_SELECTORS] = NULL;
	if (!j->s) {
		(void)df_config_fail(j->m->c, "component_name", err, "no selector is called '%.60s'", j->c.name);
		df_suggest(err, j->c.name, names);
		return DF_ECONFIG;
	}
	/* DataFlex's own is a stub that takes the first rows */
	if (strcmp(j->s->name, "custom") == 0) {
		bool says = false;

		for (size_t i = 0; i < m->n; i++)
			says = says || strcmp(m->v[i].key, "cache_dir") != 0;
		if (!says) {
			df_plan_note(j->m->p, "custom has no scores, index or program: each window has the first rows");
			return df_selector_find(&j->method, "static", err);
		}
	}
	return df_selector_find(&j->method, j->s->method, err);
}

/* What the selector needs and the run has not. */
static int
check(const struct job *j, struct df_err *err)
{
	const struct df_config *c = j->m->c;
	const unsigned needs = j->s->needs;
	const bool at_once = c->warmup_step == 0;

	if (needs & WANTS_TARGET && !j->m->held)
		return df_config_fail(
		    c, "component_name", err, "%s chooses for a target: give eval_dataset or val_size", j->s->name);
	if (at_once && needs & WANTS_MOMENTS)
		return df_config_fail(c, "warmup_step", err,
		    "%s measures gradients with the optimizer's moments: at least 1 step comes before", j->s->name);
	if (at_once && c->train_from_scratch && needs & WANTS_WEIGHTS && !j->base)
		return df_config_fail(
		    c, "warmup_step", err, "%s measures the model: at least 1 step comes before", j->s->name);
	if (needs & NEEDS_ALONE && c->stage == DF_CONFIG_PT)
		return df_config_fail(
		    c, "stage", err, "%s compares responses with and without their prompts: sft", j->s->name);
	return DF_OK;
}

static int
set_models(struct job *j, struct df_err *err)
{
	struct df_map *m = j->m;

	j->model = m->model;
	if (j->how.embedding_model)
		j->base = df_map_model(m, j->how.embedding_model);
	else if (j->s->needs & NEEDS_EMBED && !(j->s->needs & SEES_MODEL) && !m->c->train_from_scratch)
		j->base = m->model;
	if (j->how.embedding_model && !df_map_is_model(j->base))
		return df_config_fail(m->c, "component_name", err,
		    "embedding_model_name_or_path: there is no model in %s: give --model %s=DIR", j->base,
		    j->how.embedding_model);
	if (j->how.judge && !j->how.reward_model && df_map_is_reward_model(df_map_model(m, j->how.judge)))
		j->how.reward_model = j->how.judge;
	if (j->how.reward_model && !df_map_is_model(df_map_model(m, j->how.reward_model)))
		return df_config_fail(m->c, "component_name", err,
		    "reward_model: there is no model in %s: give --model %s=DIR", df_map_model(m, j->how.reward_model),
		    j->how.reward_model);
	return DF_OK;
}

int
df_map_select(struct df_map *m, struct df_err *err)
{
	struct job j = { .m = m, .how = measure_defaults };
	int rc;

	DF_TRY(df_component_load(&j.c, m->c, err));
	DF_TRY(find(&j, err));
	DF_TRY(take_params(&j, err));
	j.settings = m->settings;
	for (size_t i = 0; i < j.c.params.n; i++)
		j.settings = df_plan_text(m->p, "%s %s=%s", j.settings, j.c.params.v[i].key, j.c.params.v[i].value);
	DF_TRY(set_models(&j, err));
	m->may_cycle = j.how.shortage ? j.how.shortage != DF_SHORT_ERROR : j.method->shortage != DF_SHORT_ERROR;
	m->wants_alone = j.s->needs & NEEDS_ALONE;
	DF_TRY(df_map_tokens(m, err));
	DF_TRY(check(&j, err));
	DF_TRY(df_map_events(m, err));
	rc = windows(&j, err);
out:
	df_component_release(&j.c);
	free(j.options.v);
	free(j.earlier.v);
	return rc;
}

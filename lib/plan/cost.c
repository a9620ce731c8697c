/*
 * cost.c - what the commands of a plan cost, from their words, the configuration, config.json and the data's sizes.
 *
 * Steps follow from the configuration, and rows and tokens from the token file as soon as it is there; before, rows are
 * those of the datasets, and tokens a guess from their bytes.  Work is counted as df-train and df-grad do in their dry
 * runs: two operations per weight and token for each of forward, gradients of inputs and gradients of weights.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/words.h"
#include "data/dataset.h"
#include "model/config.h"
#include "plan/plan_priv.h"
#include "shard/set.h"

#define PROCESS 32e6 /* bytes of a program that does nothing yet */
#define LANES   64e6 /* and of the blocks that df-grad works on, about */

/* What is known of the run. */
struct facts {
	const struct df_map *m;
	struct df_model_config model;
	double n_params, n_trained;
	bool adapters;
	struct size {
		double rows, tokens;
		bool guessed; /* not counted in the token file */
	} pool, held;
	double per_step;  /* rows */
	double max_steps; /* of the run; 0: not known */
};

/* ---- words ---------------------------------------------------------------------------- */

/* The word after this one, or NULL. */
static const char *
after_word(const struct df_plan_node *n, const char *option)
{
	for (size_t i = 0; i + 1 < n->argv.n; i++)
		if (strcmp(n->argv.v[i], option) == 0)
			return n->argv.v[i + 1];
	return NULL;
}

static bool
has_word(const struct df_plan_node *n, const char *word)
{
	for (size_t i = 0; i < n->argv.n; i++)
		if (strcmp(n->argv.v[i], word) == 0)
			return true;
	return false;
}

static double
number_after(const struct df_plan_node *n, const char *option, double otherwise)
{
	const char *word = after_word(n, option);

	return word != NULL ? strtod(word, NULL) : otherwise;
}

/* ---- the model ------------------------------------------------------------------------ */

/* Adapters of rank r on a matrix [out, in]; experts have one each. */
static double
adapter(double r, double in, double out)
{
	return r * (in + out);
}

static void
count_layer(struct facts *f, const struct df_model_config *c, size_t layer)
{
	const double d = (double)c->d_model, q = (double)(c->n_heads * c->d_head);
	const double kv = (double)(c->n_kv_heads * c->d_head), r = f->adapters ? (double)f->m->c->lora_rank : 0;
	const bool sparse = c->moe.n_experts > 0 && c->sparse != NULL && c->sparse[layer];
	const double fe = sparse ? (double)c->moe.d_expert : (double)c->d_ff;
	const double copies = sparse ? (double)c->moe.n_experts : 1, fs = sparse ? (double)c->moe.d_shared : 0;

	f->n_params += 2 * d * q + 2 * d * kv + 2 * d + copies * 3 * d * fe;
	f->n_params += (c->qkv_bias ? q + 2 * kv : 0) + (c->o_bias ? d : 0) + (c->qk_norm ? 2 * (double)c->d_head : 0);
	f->n_params += c->mlp_bias && !sparse ? 2 * fe + d : 0;
	if (sparse)
		f->n_params += copies * d + 3 * d * fs + (fs > 0 ? d : 0);
	f->n_trained += adapter(r, d, q) + 2 * adapter(r, d, kv) + adapter(r, q, d) +
	    copies * (2 * adapter(r, d, fe) + adapter(r, fe, d)) +
	    (fs > 0 ? 2 * adapter(r, d, fs) + adapter(r, fs, d) : 0);
}

/* Parameters, and the trainable ones: all of them, or adapters on all linear layers. */
static void
count_params(struct facts *f)
{
	const struct df_model_config *c = &f->model;
	const double embedding = (double)c->n_vocab * (double)c->d_model;

	f->adapters = f->m->c->finetuning_type == DF_FINETUNING_LORA;
	f->n_params = embedding * (c->tied ? 1 : 2) + (double)c->d_model;
	for (size_t i = 0; i < c->n_layers; i++)
		count_layer(f, c, i);
	if (!f->adapters)
		f->n_trained = f->n_params;
}

/* Weights that a token goes through: of experts, the chosen ones. */
static double
weights_per_token(const struct facts *f)
{
	const struct df_moe_config *e = &f->model.moe;
	double idle = 0;

	for (size_t i = 0; i < f->model.n_layers; i++)
		if (e->n_experts > 0 && f->model.sparse != NULL && f->model.sparse[i])
			idle += (double)(e->n_experts - e->top_k) * 3 * (double)(f->model.d_model * e->d_expert);
	return f->n_params - idle;
}

/* Bytes of activations that a token leaves for the backward; as lib/train counts them. */
static double
activations_per_token(const struct facts *f)
{
	const struct df_model_config *c = &f->model;
	const double ff =
	    c->moe.n_experts > 0 ? (double)(c->moe.top_k * c->moe.d_expert + c->moe.d_shared) : (double)c->d_ff;
	const double layer =
	    4.0 * (double)c->d_model + 3 * ff + (double)(2 * (c->n_heads + c->n_kv_heads) * c->d_head + c->n_heads);

	return sizeof(float) * (double)c->n_layers * layer;
}

/* ---- the data ------------------------------------------------------------------------- */

/* Rows and tokens of a token file. */
static int
count_tokens(const char *path, struct size *s, struct df_err *err)
{
	struct df_set *set = NULL;
	uint64_t *lengths = NULL;
	int rc = DF_OK;

	DF_TRY(df_set_open1(&set, DF_KIND_TOKENS, "tokens", path, err));
	DF_TRY(df_set_lengths(set, DF_COL_IDS, &lengths, err));
	*s = (struct size){ .rows = (double)df_set_rows(set) };
	for (uint64_t i = 0; i < df_set_rows(set); i++)
		s->tokens += (double)lengths[i];
out:
	free(lengths);
	df_set_close(set);
	return rc;
}

/* Rows of one dataset, and a guess at their tokens: a byte, or four bytes of text, are one. */
static int
guess_dataset(
    const struct facts *f, const struct df_dataset_info *info, const char *name, struct size *s, struct df_err *err)
{
	const char *most = df_map_packed(f->m, "max_samples"), *cutoff = df_map_packed(f->m, "cutoff_len");
	const uint64_t limit = most != NULL ? strtoull(most, NULL, 10) : UINT64_MAX;
	const double longest = cutoff != NULL ? strtod(cutoff, NULL) : 2048;
	const bool bytes = f->model.n_vocab < 1024;
	const enum df_data_stage stage = f->m->c->stage == DF_CONFIG_PT ? DF_STAGE_PT : DF_STAGE_SFT;
	struct df_dataset *ds = NULL;
	struct df_record rec;
	int rc = DF_OK, more;

	DF_TRY(df_dataset_open(&ds, info, name, stage, err));
	for (uint64_t n = 0; n < limit; n++) {
		double tokens;

		more = df_dataset_next(ds, &rec, err);
		if (more != 1) {
			rc = more;
			break;
		}
		tokens = (double)rec.n / (bytes ? 1 : 4);
		s->rows++;
		s->tokens += tokens < longest ? tokens : longest;
	}
out:
	df_dataset_free(ds);
	return rc;
}

/* The same of a comma-separated list (NULL: empty). */
static int
guess(const struct facts *f, const char *names, struct size *s, struct df_err *err)
{
	const char *dir = f->m->o->data != NULL ? f->m->o->data : df_map_packed(f->m, "dataset_dir");
	struct df_dataset_info *info = NULL;
	char name[256];
	int rc = DF_OK;

	*s = (struct size){ .guessed = true };
	if (names == NULL)
		return DF_OK;
	DF_TRY(df_dataset_info_open(&info, dir != NULL ? dir : "data", err));
	for (const char *at = names; *at != '\0';) {
		const size_t n = strcspn(at, ",");

		if (n >= sizeof(name)) {
			rc = df_fail(err, DF_ECONFIG, "%.*s...: no dataset is called so", 64, at);
			goto out;
		}
		memcpy(name, at, n);
		name[n] = '\0';
		DF_TRY(guess_dataset(f, info, name + strspn(name, " "), s, err));
		at += n + (at[n] == ',');
	}
out:
	df_dataset_info_free(info);
	return rc;
}

/* Rows that val_size holds out go from one to the other. */
static void
hold_out(const struct facts *f, struct size *pool, struct size *held)
{
	const char *val = df_map_packed(f->m, "val_size");
	const double x = val != NULL ? strtod(val, NULL) : 0, n = x < 1 ? ceil(x * pool->rows) : x;
	const double part = pool->rows > 0 && n < pool->rows ? n / pool->rows : 0;

	held->rows += part * pool->rows;
	held->tokens += part * pool->tokens;
	pool->tokens -= part * pool->tokens;
	pool->rows -= part * pool->rows;
}

static int
measure_data(struct facts *f, struct df_err *err)
{
	const struct df_map *m = f->m;
	int rc = DF_OK;

	if (m->pool != NULL && df_file_exists(m->pool)) {
		DF_TRY(count_tokens(m->pool, &f->pool, err));
		if (m->held != NULL && df_file_exists(m->held))
			DF_TRY(count_tokens(m->held, &f->held, err));
		goto out;
	}
	DF_TRY(guess(f, df_map_packed(m, "dataset"), &f->pool, err));
	DF_TRY(guess(f, df_map_packed(m, "eval_dataset"), &f->held, err));
	hold_out(f, &f->pool, &f->held);
out:
	return rc;
}

/* ---- commands ------------------------------------------------------------------------- */

/* Of the steps (from, to], those that save a checkpoint; the last one of a node with --until does. */
static double
saves(const struct df_config *c, double from, double to, double max, bool until)
{
	const double every = c->save_steps < 1 ? ceil(c->save_steps * max) : c->save_steps;
	const double n =
	    c->save_strategy == DF_STRATEGY_STEPS && every > 0 ? floor(to / every) - floor(from / every) : 0;

	return n + (until && (every <= 0 || c->save_strategy != DF_STRATEGY_STEPS || fmod(to, every) != 0));
}

static void
price_train(const struct facts *f, struct df_plan_node *n, double *done)
{
	const struct df_config *c = f->m->c;
	const bool until = has_word(n, "--until");
	const double to = number_after(n, "--until", f->max_steps), from = *done < to ? *done : to;
	const double per_row = f->pool.rows > 0 ? f->pool.tokens / f->pool.rows : 0;
	const double end = to >= f->max_steps ? 1 : 0; /* the final model, too */
	struct df_plan_cost *k = &n->cost;

	k->steps = to - from;
	k->rows = k->steps * f->per_step;
	k->tokens = k->rows * per_row;
	k->flops = (f->adapters ? 4.0 : 6.0) * weights_per_token(f) * k->tokens;
	k->memory = PROCESS + sizeof(float) * f->n_params + 16 * f->n_trained +
	    activations_per_token(f) * per_row * (double)c->per_device_train_batch_size;
	k->disk = 12 * f->n_trained * saves(c, from, to, f->max_steps, until) + 4 * f->n_trained * end;
	*done = to;
}

/* Bytes of a matrix of float32 in parts: files have it in whole chunks of a MiB, or in one smaller chunk. */
static double
matrix_bytes(double rows, double width, double parts)
{
	const double most = width > 0 ? fmax(floor(1048576 / (sizeof(float) * width)), 1) : 1;
	const double chunk = rows / parts < most ? rows / parts : most;

	return rows > 0 ? parts * ceil(rows / parts / chunk) * chunk * sizeof(float) * width : 0;
}

static void
price_measure(const struct facts *f, struct df_plan_node *n, bool backward)
{
	const bool held = f->m->held != NULL && has_word(n, f->m->held);
	const struct size *s = held ? &f->held : &f->pool;
	const double width = number_after(n, "--project", 0), parts = n->shards > 0 ? (double)n->shards : 1;
	struct df_plan_cost *k = &n->cost;

	k->rows = s->rows;
	k->tokens = s->tokens;
	k->flops = (backward ? 6.0 : 2.0) * weights_per_token(f) * k->tokens + 2 * width * f->n_trained * k->rows;
	k->memory = PROCESS + sizeof(float) * f->n_params * (has_word(n, "adam") ? 3 : 1) + (backward ? LANES : 0);
	if (strcmp(n->argv.v[0], "df-grad") == 0) {
		k->disk = matrix_bytes(k->rows, width, parts) + 18 * k->rows;
		if (has_word(n, "--token-loss"))
			k->disk += sizeof(float) * k->tokens;
	} else if (strcmp(n->argv.v[0], "df-embed") == 0) {
		k->disk = matrix_bytes(k->rows, (double)f->model.d_model, parts) + 10 * k->rows;
	}
}

static void
price_node(const struct facts *f, struct df_plan_node *n, double *done)
{
	const char *program = n->argv.v[0];

	if (strcmp(program, "df-pack") == 0) {
		n->cost.rows = f->pool.rows + f->held.rows;
		n->cost.tokens = f->pool.tokens + f->held.tokens;
		n->cost.disk = n->cost.tokens; /* compressed */
	} else if (strcmp(program, "df-train") == 0) {
		price_train(f, n, done);
	} else if (strcmp(program, "df-grad") == 0) {
		price_measure(f, n, !has_word(n, "--losses") && !has_word(n, "--gate-load"));
	} else if (strcmp(program, "df-embed") == 0 || strcmp(program, "df-eval") == 0) {
		price_measure(f, n, false);
	}
	n->cost.guessed = f->pool.guessed;
}

/* Steps of a run, where the events do not say. */
static double
all_steps(const struct facts *f)
{
	const struct df_config *c = f->m->c;
	const double batch = (double)c->per_device_train_batch_size;
	const double micro = c->dataloader_drop_last ? floor(f->pool.rows / batch) : ceil(f->pool.rows / batch);

	if (f->m->p->events.max_steps > 0)
		return (double)f->m->p->events.max_steps;
	if (c->max_steps > 0)
		return (double)c->max_steps;
	return ceil(c->num_train_epochs * ceil(micro / (double)c->gradient_accumulation_steps));
}

int
df_plan_price(const struct df_map *m, struct df_err *err)
{
	struct facts f = { .m = m };
	double done = 0;
	int rc = DF_OK;

	if (m->model == NULL)
		return DF_OK; /* an export: one command, whose size is that of the model */
	DF_TRY(df_model_config_load(&f.model, m->model, err));
	count_params(&f);
	if (m->pool != NULL)
		DF_TRY(measure_data(&f, err));
	f.per_step = (double)m->c->per_device_train_batch_size * (double)m->c->gradient_accumulation_steps;
	f.max_steps = all_steps(&f);
	for (size_t i = 0; i < m->p->n; i++)
		price_node(&f, &m->p->node[i], &done);
out:
	df_model_config_release(&f.model);
	return rc;
}

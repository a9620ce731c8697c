/*
 * test_train_ways.c - twenty steps of each way to fine-tune against PyTorch, PEFT and LLaMA-Factory's own choice of
 * what trains and how fast (tests/golden/train.py): freezing, LoRA+, rsLoRA, modules that train whole, packed rows,
 * targets weighed by their probability.
 * And what they promise besides: checkpointing changes no bit, dropout none of what does not depend on it.
 * Runs on the backend in DF_TEST_DEVICE.
 */
#include "model_help.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "eval/loss.h"
#include "weigh/dft.h"
#include "train/schedule.h"
#include "train/step.h"

#define STEPS 20

enum way { WAY_FULL, WAY_FREEZE, WAY_LORA, WAY_PACKED };

static const struct {
	const char *name;
	enum way way;
} ways[] = {
	{ "freeze-last", WAY_FREEZE },
	{ "freeze-first", WAY_FREEZE },
	{ "freeze-tied", WAY_FREEZE },
	{ "loraplus", WAY_LORA },
	{ "rslora", WAY_LORA },
	{ "whole-modules", WAY_LORA },
	{ "neat-packing", WAY_PACKED },
	{ "packing", WAY_PACKED },
	{ "dft", WAY_FULL },
	{ "dft-lora", WAY_LORA },
};

struct run {
	struct df_st *st, *base;
	struct df_model *m;
	struct mh_batch batch;
	struct df_rows rows;
	uint64_t pack[5];
	struct df_stepper_opts opts;
	struct df_schedule schedule;
	struct df_stepper *s;
	size_t per_step; /* rows */
};

static double
number(const struct df_st *st, const char *key, double dflt)
{
	const char *s = df_st_metadata(st, key);

	return s ? strtod(s, NULL) : dflt;
}

static char *
way_path(const char *name, const char *file)
{
	const char *root = getenv("DF_SRCDIR");
	char *path;

	mh_ok(df_asprintf(&path, err, "%s/tests/golden/train/%s/%s", root ? root : ".", name, file));
	return path;
}

/* The batch's samples as rows, or four of them end to end as one packed row. */
static void
make_rows(struct run *r, bool packed, bool neat)
{
	const struct df_tokens *b = &r->batch.b;
	const uint64_t total = b->offsets[b->n];
	struct df_batch in = { .n = packed ? b->n / 4 : b->n };
	uint32_t *position = NULL, *sequence = NULL;
	uint64_t *id, *offsets = packed ? r->pack : r->batch.offsets;

	mh_ok(df_alloc(&id, in.n, sizeof(*id), "ids", err));
	for (uint64_t i = 0; i < in.n; i++)
		id[i] = i;
	if (packed) {
		mh_ok(df_alloc(&position, total, sizeof(*position), "positions", err));
		if (neat)
			mh_ok(df_alloc(&sequence, total, sizeof(*sequence), "sequences", err));
		for (uint64_t s = 0; s < b->n; s++) {
			r->batch.mask[b->offsets[s]] = 1;
			for (uint64_t t = b->offsets[s]; t < b->offsets[s + 1]; t++) {
				position[t] = (uint32_t)(t - b->offsets[s]);
				if (neat)
					sequence[t] = (uint32_t)(s % 4) + 1;
			}
		}
		for (uint64_t i = 0; i <= in.n; i++)
			r->pack[i] = b->offsets[4 * i];
	}
	in.col[DF_COL_ID] = (struct df_column_data){ id, NULL, 1 };
	in.col[DF_COL_IDS] = (struct df_column_data){ r->batch.ids, offsets, 1 };
	in.col[DF_COL_LABEL_MASK] = (struct df_column_data){ r->batch.mask, offsets, 1 };
	in.col[DF_COL_POSITION] = (struct df_column_data){ position, offsets, 1 };
	in.col[DF_COL_SEQUENCE] = (struct df_column_data){ sequence, offsets, 1 };
	mh_ok(df_rows_of_batch(&r->rows, "rows", &in, err));
	free(id);
	free(position);
	free(sequence);
	r->per_step = packed ? 1 : 4;
}

static void
open_way(struct run *r, const char *name, enum way way)
{
	char *path = way_path(name, "train.safetensors"), *adapter = way_path(name, "adapter"), *base, *samples;

	memset(r, 0, sizeof(*r));
	mh_ok(df_st_open(&r->st, path, err));
	base = mh_path(df_st_metadata(r->st, "base"), NULL);
	samples = mh_path(df_st_metadata(r->st, "base"), "train.safetensors");
	mh_ok(df_st_open(&r->base, samples, err));
	mh_batch_load(&r->batch, r->base, 0, 0);
	make_rows(r, way == WAY_PACKED, number(r->st, "neat", 0) > 0);
	mh_ok(df_model_open(&r->m, way == WAY_LORA ? adapter : base, way == WAY_LORA ? base : NULL, mh_backend(), err));
	if (way == WAY_FREEZE) {
		const struct df_train_spec spec = { .freeze = true,
			.layers = (int64_t)number(r->st, "layers", 0),
			.modules = df_st_metadata(r->st, "modules"),
			.extra_modules = df_st_metadata(r->st, "extra") };

		mh_ok(df_model_set_trainable(r->m, &spec, err));
	}
	r->opts = (struct df_stepper_opts){ .batch = r->per_step,
		.weight_decay = number(r->st, "weight_decay", 0),
		.beta1 = 0.9,
		.beta2 = 0.999,
		.eps = 1e-8,
		.max_grad_norm = 1,
		.lr_b_ratio = number(r->st, "ratio", 0),
		.weigh_target = number(r->st, "dft", 0) > 0 ? df_dft_weigh : NULL };
	mh_ok(df_schedule_init(&r->schedule, DF_SCHEDULE_LINEAR, NULL, number(r->st, "lr", 0),
	    (uint64_t)number(r->st, "steps", 0), (int64_t)number(r->st, "warmup", 0), 0, err));
	mh_ok(df_stepper_new(&r->s, r->m, NULL, &r->opts, err));
	free(path);
	free(adapter);
	free(base);
	free(samples);
}

static void
close_way(struct run *r)
{
	df_stepper_free(r->s);
	df_rows_release(&r->rows);
	mh_batch_release(&r->batch);
	df_model_free(r->m);
	df_st_close(r->st);
	df_st_close(r->base);
}

static struct df_step_result
one(struct run *r, uint64_t k)
{
	struct df_step_result res;
	uint64_t which[4];

	for (uint64_t i = 0; i < r->per_step; i++)
		which[i] = r->per_step * (k % 4) + i;
	mh_ok(df_stepper_run(r->s, &r->rows, which, r->per_step, NULL, df_schedule_lr(&r->schedule, k), &res, err));
	return res;
}

/*
 * Differences of about 1e-6 in each gradient are amplified by AdamW where the second moment is small; 1e-5 in the loss
 * is what the project promises.  Norms and weights are relative.
 */
static void
check_way(const char *name, enum way way)
{
	double worst = 0, worst_norm = 0, worst_weight = 0, d;
	const float *loss, *norm;
	size_t n_trained = 0;
	struct run r;
	float *w;

	open_way(&r, name, way);
	loss = mh_floats(r.st, "loss");
	norm = mh_floats(r.st, "grad_norm");
	for (uint64_t k = 0; k < STEPS; k++) {
		struct df_step_result res = one(&r, k);

		d = fabs(res.loss - (double)loss[k]);
		worst = d > worst || isnan(d) ? d : worst;
		d = fabs(res.grad_norm - (double)norm[k]) / (double)norm[k];
		worst_norm = d > worst_norm || isnan(d) ? d : worst_norm;
	}
	w = mh_train_weights(r.m);
	for (size_t i = 0; i < df_st_count(r.st); i++) {
		const char *tensor = df_st_at(r.st, i)->name;
		const struct df_param *p;

		if (strncmp(tensor, "final.", 6) != 0)
			continue;
		p = df_params_find(df_model_train(r.m), tensor + 6);
		if (!p)
			fail_msg("%s: '%s' does not train", name, tensor + 6);
		d = mh_rel_diff(w + p->offset, mh_floats(r.st, "%s", tensor), p->rows * p->cols);
		worst_weight = d > worst_weight ? d : worst_weight;
		n_trained++;
	}
	print_message(
	    "# %s: loss %.2e, grad_norm %.2e, %zu parameters %.2e\n", name, worst, worst_norm, n_trained, worst_weight);
	assert_true(n_trained > 0);
	assert_true(worst <= mh_bound(1e-5, 5e-2));
	assert_true(worst_norm <= mh_bound(1e-4, 0.1));
	assert_true(worst_weight <= mh_bound(1e-3, 0.2));
	free(w);
	close_way(&r);
}

static void
test_parity(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		check_way(ways[i].name, ways[i].way);
}

/* Activations kept or computed again: the same bits in every way. */
static void
test_checkpointing(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		float *w[2];
		size_t n = 0;

		for (int on = 0; on < 2; on++) {
			struct run r;

			open_way(&r, ways[i].name, ways[i].way);
			df_model_set_checkpointing(r.m, on);
			for (uint64_t k = 0; k < 5; k++)
				one(&r, k);
			w[on] = mh_train_weights(r.m);
			n = df_model_train(r.m)->numel;
			close_way(&r);
		}
		assert_memory_equal(w[0], w[1], n * sizeof(float));
		free(w[0]);
		free(w[1]);
	}
}

/* An adapter with dropout on the model of `loraplus`; w = its weights after 4 steps of micro-batches of `batch`. */
static float *
with_dropout(double dropout, uint64_t seed, size_t batch, int threads, uint64_t stop, double *first_loss)
{
	const struct df_lora_spec spec = { .rank = 4, .alpha = 8, .targets = "all", .dropout = dropout };
	const char *dir = mh_scratch();
	struct df_pool *pool = NULL;
	struct df_step_result res;
	char *base;
	struct run r;
	float *w;

	open_way(&r, "packing", WAY_PACKED); /* any rows; samples as they are */
	df_rows_release(&r.rows);
	df_stepper_free(r.s);
	df_model_free(r.m);
	make_rows(&r, false, false);
	base = mh_path(df_st_metadata(r.st, "base"), NULL);
	mh_ok(df_model_open(&r.m, base, NULL, mh_backend(), err));
	mh_ok(df_model_add_lora(r.m, &spec, 1, err));
	mh_ok(df_pool_new(&pool, threads, err));
	r.opts.seed = seed;
	r.opts.batch = batch;
	mh_ok(df_stepper_new(&r.s, r.m, pool, &r.opts, err));
	for (uint64_t k = 0; k < 4; k++) {
		uint64_t which[4] = { 4 * k, 4 * k + 1, 4 * k + 2, 4 * k + 3 };

		/* stopped here: a new process reads what the old one left */
		if (k > 0 && k == stop) {
			mh_ok(df_model_save(r.m, dir, err));
			mh_ok(df_stepper_save(r.s, dir, err));
			df_stepper_free(r.s);
			df_model_free(r.m);
			mh_ok(df_model_open(&r.m, dir, base, mh_backend(), err));
			r.opts.from = dir;
			mh_ok(df_stepper_new(&r.s, r.m, pool, &r.opts, err));
		}
		mh_ok(df_stepper_run(r.s, &r.rows, which, 4, NULL, 1e-2, &res, err));
		if (k == 1)
			*first_loss = res.loss;
	}
	w = mh_train_weights(r.m);
	free(base);
	close_way(&r);
	df_pool_free(pool);
	return w;
}

/*
 * Dropout is addressed by step and sample: threads, micro-batches (one rounding each) and interruptions do not see
 * it; another seed does, and so does none.
 */
static void
test_dropout(void **state)
{
	double loss, other, same;
	float *want = with_dropout(0.3, 1, 4, 1, 0, &loss), *got = with_dropout(0.3, 1, 4, 3, 0, &same);
	size_t n = 4 * 32; /* the first adapter's A: rank x inputs of the golden models */

	(void)state;
	assert_memory_equal(want, got, n * sizeof(*got));
	assert_true(loss == same);
	free(got);
	got = with_dropout(0.3, 1, 4, 1, 2, &same);
	assert_memory_equal(want, got, n * sizeof(*got));
	free(got);
	got = with_dropout(0.3, 1, 1, 1, 0, &same);
	/* other groups, another order of the sum: Adam's first steps are +-lr, so weights are not compared */
	assert_true(fabs(loss - same) <= 1e-5 * loss);
	free(got);
	got = with_dropout(0.3, 2, 4, 1, 0, &other);
	assert_true(fabs(loss - other) > 1e-5 * loss);
	free(got);
	got = with_dropout(0, 1, 4, 1, 0, &other);
	assert_true(fabs(loss - other) > 1e-5 * loss);
	free(got);
	free(want);
}

/* Weights of targets: *ctx for those at even places, 1 for the others. */
static int
weigh_even(void *ctx, const struct df_target_losses *l, float *weight, struct df_err *err)
{
	const float *even = ctx;

	(void)err;
	for (size_t i = 0; i < l->offsets[l->n]; i++) {
		assert_true(l->nll[i] > 0); /* a forward has filled them in */
		weight[i] = i % 2 == 0 ? *even : 1;
	}
	return DF_OK;
}

/* What weighs a target with 0 leaves it out of gradients and losses; with 1 it changes no bit. */
static void
test_weigher(void **state)
{
	float zero = 0, one_ = 1, scale[4] = { 1, 0.5F, 0.25F, 2 }, loss[2][4], nll[64];
	uint8_t mask[256];
	size_t n_targets = 0, numel;
	struct df_work *w = NULL;
	struct mh_grads all = { 0 }, even = { 0 };
	struct df_tokens b;
	struct run r;

	(void)state;
	open_way(&r, "dft", WAY_FULL);
	numel = df_model_train(r.m)->numel;
	b = r.batch.b;
	b.n = 4;
	assert_true(b.offsets[4] <= sizeof(mask));
	memcpy(mask, b.mask, b.offsets[4]);
	mh_ok(df_work_new(&w, r.m, err));
	const float *plain = mh_batch_grad(r.m, w, &b, scale);
	mh_ok(df_model_loss(r.m, w, &b, &(struct df_losses){ .loss = loss[0] }, err));
	mh_sample_grads(&all, r.m, w, &b, NULL);

	df_work_weigh(w, weigh_even, &one_);
	assert_memory_equal(mh_batch_grad(r.m, w, &b, scale), plain, numel * sizeof(*plain));
	mh_ok(df_model_loss(r.m, w, &b, &(struct df_losses){ .loss = loss[1], .token_nll = nll }, err));
	assert_memory_equal(loss[0], loss[1], sizeof(loss[0]));
	mh_sample_grads(&even, r.m, w, &b, NULL);
	assert_memory_equal(all.g, even.g, 4 * numel * sizeof(*all.g));

	df_work_weigh(w, weigh_even, &zero);
	const float *odd = mh_batch_grad(r.m, w, &b, scale);
	mh_ok(df_model_loss(r.m, w, &b, &(struct df_losses){ .loss = loss[1] }, err));
	df_work_weigh(w, NULL, NULL);
	for (size_t s = 0; s < 4; s++) {
		double sum = 0, n = 0;

		for (uint64_t t = b.offsets[s] + 1; t < b.offsets[s + 1]; t++) {
			if (!mask[t])
				continue;
			sum += n_targets % 2 == 0 ? 0 : (double)nll[n_targets];
			mask[t] = n_targets++ % 2 == 0 ? 0 : 1;
			n++;
		}
		assert_true(n > 1 && fabs(sum / n - (double)loss[1][s]) <= 1e-6);
	}
	b.mask = mask;
	assert_true(mh_rel_diff(odd, mh_batch_grad(r.m, w, &b, scale), numel) <= 1e-5);
	assert_true(mh_rel_diff(odd, plain, numel) > 1e-2);
	df_work_free(w);
	close_way(&r);
}

/* The losses of evaluations are of the same kind: over the number of targets, as in LLaMA-Factory. */
static void
test_dft_losses(void **state)
{
	const struct df_eval_opts dft = { .dft = true }, plain = { 0 };
	struct df_step_result res;
	uint64_t which[4] = { 0, 1, 2, 3 };
	float weights[64], nll[512], loss[4];
	uint32_t n[4];
	struct df_eval e = { 0 };
	struct df_work *w = NULL;
	struct df_tokens b;
	double sum = 0, of_weights = 0, targets = 0;
	struct run r;

	(void)state;
	open_way(&r, "dft", WAY_FULL);
	b = r.batch.b;
	mh_ok(df_work_new(&w, r.m, err));
	assert_true(b.offsets[b.n] <= 512 && b.n <= 64);
	mh_ok(df_model_loss(r.m, w, &b, &(struct df_losses){ .token_nll = nll }, err));
	for (uint64_t s = 0, at = 0; s < b.n; s++) {
		weights[s] = 0.5F + (float)s;
		for (uint64_t t = b.offsets[s] + 1; t < b.offsets[s + 1]; t++) {
			if (!b.mask[t])
				continue;
			targets++;
			sum += (double)nll[at] * exp(-(double)nll[at]);
			at++;
		}
	}
	mh_ok(df_eval_run(&e, r.m, &r.rows, NULL, &dft, err));
	assert_true(fabs(df_eval_loss(&e.all) - sum / targets) <= 1e-6 * sum / targets);
	df_eval_release(&e);
	mh_ok(df_eval_run(&e, r.m, &r.rows, NULL, &plain, err));
	assert_true(df_eval_loss(&e.all) > 2 * sum / targets);
	df_eval_release(&e);

	/* with weights of samples: the mean of w_i l_i, where l_i is the sample's mean of -p log p */
	b.n = 4;
	df_work_weigh(w, df_dft_weigh, NULL);
	mh_ok(df_model_loss(r.m, w, &b, &(struct df_losses){ .loss = loss, .n_targets = n }, err));
	for (int s = 0; s < 4; s++)
		of_weights += (double)weights[s] * (double)loss[s] / 4;
	mh_ok(df_stepper_run(r.s, &r.rows, which, 4, weights, 1e-3, &res, err));
	assert_true(fabs(res.loss - of_weights) <= 1e-6 * of_weights);
	df_work_free(w);
	close_way(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_parity, mh_cleanup),
		cmocka_unit_test_teardown(test_checkpointing, mh_cleanup),
		cmocka_unit_test_teardown(test_dropout, mh_cleanup),
		cmocka_unit_test_teardown(test_weigher, mh_cleanup),
		cmocka_unit_test_teardown(test_dft_losses, mh_cleanup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

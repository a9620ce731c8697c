/*
 * test_train_bf16.c - training with activations in bf16, on the reference and on poison: twenty steps against
 * transformers under bf16 autocast (tests/golden/bf16.py), and what must hold between masters and rounded weights.
 */
#include "model_help.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"
#include "train/schedule.h"
#include "train/step.h"

#define STEPS 20

static const char *const ways[] = { "bf16-llama", "bf16-qwen2", "bf16-lora" };
static const char *const devices[] = { "reference", "poison" };

struct run {
	struct df_backend *be;
	struct df_st *st;
	struct df_model *m;
	struct mh_batch batch;
	struct df_rows rows;
	struct df_schedule schedule;
	struct df_stepper *s;
};

static double
number(const struct df_st *st, const char *key)
{
	return strtod(df_st_metadata(st, key), NULL);
}

static void
open_run(struct run *r, const char *way, const char *device, enum df_dtype compute)
{
	const bool lora = strcmp(way, "bf16-lora") == 0;
	const char *root = getenv("DF_SRCDIR");
	struct df_stepper_opts opts = { .batch = 4, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .max_grad_norm = 1 };
	struct df_batch in;
	struct df_st *samples = NULL;
	char *path, *adapter, *base, *file;
	uint64_t *id = NULL;

	*r = (struct run){ 0 };
	mh_ok(df_backend_open(&r->be, device, NULL, err));
	mh_ok(df_backend_set_compute(r->be, compute, err));
	mh_ok(df_asprintf(&path, err, "%s/tests/golden/train/%s/train.safetensors", root ? root : ".", way));
	mh_ok(df_asprintf(&adapter, err, "%s/tests/golden/train/%s/adapter", root ? root : ".", way));
	mh_ok(df_st_open(&r->st, path, err));
	base = mh_path(df_st_metadata(r->st, "base"), NULL);
	file = mh_path(df_st_metadata(r->st, "base"), "train.safetensors");
	mh_ok(df_st_open(&samples, file, err));
	mh_batch_load(&r->batch, samples, 0, 0);
	in = (struct df_batch){ .n = r->batch.b.n };
	mh_ok(df_alloc(&id, in.n, sizeof(*id), "ids", err));
	for (uint64_t i = 0; i < in.n; i++)
		id[i] = i;
	in.col[DF_COL_ID] = (struct df_column_data){ id, NULL, 1 };
	in.col[DF_COL_IDS] = (struct df_column_data){ r->batch.ids, r->batch.offsets, 1 };
	in.col[DF_COL_LABEL_MASK] = (struct df_column_data){ r->batch.mask, r->batch.offsets, 1 };
	mh_ok(df_rows_of_batch(&r->rows, "rows", &in, err));
	mh_ok(df_model_open(&r->m, lora ? adapter : base, lora ? base : NULL, r->be, err));
	opts.weight_decay = number(r->st, "weight_decay");
	mh_ok(df_schedule_init(&r->schedule, DF_SCHEDULE_LINEAR, NULL, number(r->st, "lr"),
	    (uint64_t)number(r->st, "steps"), (int64_t)number(r->st, "warmup"), 0, err));
	mh_ok(df_stepper_new(&r->s, r->m, NULL, &opts, err));
	df_st_close(samples);
	free(path);
	free(adapter);
	free(base);
	free(file);
	free(id);
}

static void
close_run(struct run *r)
{
	df_stepper_free(r->s);
	df_rows_release(&r->rows);
	mh_batch_release(&r->batch);
	df_model_free(r->m);
	df_st_close(r->st);
	df_backend_close(r->be);
}

static struct df_step_result
one(struct run *r, uint64_t k)
{
	const uint64_t first = 4 * (k % 4), which[4] = { first, first + 1, first + 2, first + 3 };
	struct df_step_result res;

	mh_ok(df_stepper_run(r->s, &r->rows, which, 4, NULL, df_schedule_lr(&r->schedule, k), &res, err));
	return res;
}

/* The gradient of the first step, before any. */
static const float *
first_grad(struct run *r)
{
	struct df_tokens b = r->batch.b;
	struct df_losses out = { 0 };
	struct df_work *w = NULL;
	uint32_t n[4], all = 0;
	float scale[4];
	const float *g;

	b.n = 4;
	out.n_targets = n;
	mh_ok(df_work_new(&w, r->m, err));
	mh_ok(df_model_loss(r->m, w, &b, &out, err));
	for (int s = 0; s < 4; s++)
		all += n[s];
	for (int s = 0; s < 4; s++)
		scale[s] = 1 / (float)all;
	g = mh_batch_grad(r->m, w, &b, scale);
	df_work_free(w);
	return g;
}

/* |a - b| / |b| */
static double
distance(const float *a, const float *b, size_t n)
{
	double diff = 0, size = 0;

	for (size_t i = 0; i < n; i++) {
		diff += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
		size += (double)b[i] * (double)b[i];
	}
	return sqrt(diff / size);
}

/* How far a parameter's gradient in bf16 is from that in float32: here, and in transformers. */
struct far {
	double ours, theirs, apart; /* apart: from each other */
	const char *name;
};

static struct far
how_far(struct run *r, const struct df_param *v, const float *g, const float *f32)
{
	const size_t n = v->rows * v->cols;
	const struct df_st_tensor *t;
	struct far d = { .name = v->name };
	float *theirs = NULL;
	char name[256];

	snprintf(name, sizeof(name), "grad.%s", v->name);
	t = df_st_find(r->st, name);
	if (!t || t->numel != n)
		fail_msg("no '%s' to compare with", name);
	mh_ok(df_alloc(&theirs, n, sizeof(*theirs), "gradient", err));
	for (size_t i = 0; i < n; i++)
		theirs[i] = df_f32_from_bf16(((const uint16_t *)t->data)[i]);
	d.ours = distance(g + v->offset, f32 + v->offset, n);
	d.theirs = distance(theirs, f32 + v->offset, n);
	d.apart = distance(g + v->offset, theirs, n);
	free(theirs);
	return d;
}

/*
 * Gradients by name, of the first step.  In bf16 each has the roundings of some twenty operations and back, and
 * attention's differences enlarge them.  So the bound is on the distance from the gradient in float32: at most 2^-4 of
 * its size, and at most twice that of transformers' own.
 */
static void
check_gradients(const char *way, const char *device)
{
	struct far worst = { 0 }, most = { 0 };
	const struct df_params *p;
	const float *g, *f32;
	struct run r, wide;

	open_run(&r, way, device, DF_BF16);
	open_run(&wide, way, "cpu", DF_F32);
	p = df_model_train(r.m);
	g = first_grad(&r);
	f32 = first_grad(&wide);
	for (size_t i = 0; i < p->n; i++) {
		const struct far d = how_far(&r, &p->v[i], g, f32);

		if (!(d.ours <= worst.ours))
			worst = d;
		if (!(d.ours / d.theirs <= most.ours / most.theirs))
			most = d;
	}
	print_message("# %s on %s: furthest %.1e, transformers %.1e, apart %.1e (%s)\n", way, device, worst.ours,
	    worst.theirs, worst.apart, worst.name);
	print_message("# %s on %s: most against transformers %.1e, %.1e, apart %.1e (%s)\n", way, device, most.ours,
	    most.theirs, most.apart, most.name);
	assert_true(worst.ours <= 0x1p-4);
	assert_true(most.ours <= 2 * most.theirs);
	close_run(&r);
	close_run(&wide);
}

static void
check_steps(const char *way, const char *device)
{
	double worst_loss = 0, worst_norm = 0;
	const float *loss, *norm;
	struct run r;

	open_run(&r, way, device, DF_BF16);
	loss = mh_floats(r.st, "loss");
	norm = mh_floats(r.st, "grad_norm");
	for (uint64_t k = 0; k < STEPS; k++) {
		const struct df_step_result res = one(&r, k);

		assert_true(isfinite(res.loss) && isfinite(res.grad_norm));
		worst_loss = fmax(worst_loss, fabs(res.loss - (double)loss[k]) / (double)loss[k]);
		worst_norm = fmax(worst_norm, fabs(res.grad_norm - (double)norm[k]) / (double)norm[k]);
	}
	print_message("# %s on %s: losses %.1e, norms %.1e\n", way, device, worst_loss, worst_norm);
	assert_true(worst_loss <= 5e-3);
	assert_true(worst_norm <= 6e-2);
	close_run(&r);
}

static void
test_parity(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		for (size_t d = 0; d < 2; d++) {
			check_gradients(ways[i], devices[d]);
			check_steps(ways[i], devices[d]);
		}
	}
}

/* ---- masters and what is multiplied ------------------------------------------------------------------------------ */

static float *
floats_of(struct df_backend *be, struct df_tensor t)
{
	struct df_tensor wide = DF_TENSOR_NONE;
	float *x = NULL;

	mh_ok(df_tensor_alloc(be, &wide, DF_F32, t.rows, t.cols, "a copy", err));
	mh_ok(df_copy(be, wide, t, err));
	mh_ok(df_alloc(&x, df_tensor_numel(t), sizeof(*x), "a copy", err));
	mh_ok(df_download(be, x, wide, err));
	df_tensor_free(be, &wide);
	return x;
}

/* AdamW writes the rounded weights in its own pass, and rounds the masters of this very step. */
static void
test_rounded_weights(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct df_tensor low;
		float *master, *rounded;
		size_t n, changed = 0;
		struct run r;

		open_run(&r, ways[i], "poison", DF_BF16);
		low = df_model_train_low(r.m);
		assert_int_equal(low.type, DF_BF16);
		for (uint64_t k = 0; k < 3; k++)
			one(&r, k);
		n = df_model_train(r.m)->numel;
		master = floats_of(r.be, df_model_train_data(r.m));
		rounded = floats_of(r.be, low);
		for (size_t j = 0; j < n; j++) {
			if (df_f32_from_bf16(df_bf16_from_f32(master[j])) != rounded[j])
				fail_msg("%s: weight %zu is %g, and %g where it is multiplied", ways[i], j,
				    (double)master[j], (double)rounded[j]);
			changed += master[j] != rounded[j];
		}
		assert_true(changed > n / 2); /* the masters keep more */
		free(master);
		free(rounded);
		close_run(&r);
	}
}

/* What is saved are the masters, and a run that goes on from them is the run that was not stopped, to the bit. */
static void
test_stopped(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		const bool lora = strcmp(ways[i], "bf16-lora") == 0;
		struct df_stepper_opts opts = {
			.batch = 4, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .max_grad_norm = 1, .weight_decay = 0.1
		};
		const char *dir = mh_scratch();
		char *base;
		struct df_step_result a, b;
		float *want, *got;
		struct run r;

		open_run(&r, ways[i], "poison", DF_BF16);
		one(&r, 0);
		mh_ok(df_model_save(r.m, dir, err));
		mh_ok(df_stepper_save(r.s, dir, err));
		one(&r, 1);
		a = one(&r, 2);
		want = floats_of(r.be, df_model_train_data(r.m));
		base = mh_path(df_st_metadata(r.st, "base"), NULL);
		df_stepper_free(r.s);
		df_model_free(r.m);
		mh_ok(df_model_open(&r.m, dir, lora ? base : NULL, r.be, err));
		opts.from = dir;
		mh_ok(df_stepper_new(&r.s, r.m, NULL, &opts, err));
		one(&r, 1);
		b = one(&r, 2);
		got = floats_of(r.be, df_model_train_data(r.m));
		assert_true(a.loss == b.loss && a.grad_norm == b.grad_norm);
		assert_memory_equal(want, got, df_model_train(r.m)->numel * sizeof(*want));
		free(want);
		free(got);
		free(base);
		close_run(&r);
		mh_cleanup(NULL);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_parity, mh_cleanup),
		cmocka_unit_test_teardown(test_rounded_weights, mh_cleanup),
		cmocka_unit_test_teardown(test_stopped, mh_cleanup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

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
open_run(struct run *r, const char *way, const char *device)
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
	mh_ok(df_backend_set_compute(r->be, DF_BF16, err));
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
distance(const float *a, const uint16_t *b, size_t n)
{
	double diff = 0, size = 0;

	for (size_t i = 0; i < n; i++) {
		const double y = df_f32_from_bf16(b[i]);

		diff += ((double)a[i] - y) * ((double)a[i] - y);
		size += y * y;
	}
	return sqrt(diff / size);
}

static double
worst_gradient(struct run *r, const char **which)
{
	const struct df_params *p = df_model_train(r->m);
	const float *g = first_grad(r);
	double worst = 0;

	for (size_t i = 0; i < p->n; i++) {
		const struct df_param *v = &p->v[i];
		char name[256];
		const struct df_st_tensor *t;
		double d;

		snprintf(name, sizeof(name), "grad.%s", v->name);
		t = df_st_find(r->st, name);
		if (!t)
			fail_msg("no '%s' to compare with", name);
		d = distance(g + v->offset, t->data, v->rows * v->cols);
		if (!(d <= worst)) {
			worst = d;
			*which = v->name;
		}
	}
	return worst;
}

static void
test_parity(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]) * 2; i++) {
		const char *way = ways[i / 2], *device = devices[i % 2], *which = "";
		double worst_loss = 0, worst_norm = 0, worst_grad;
		const float *loss, *norm;
		struct run r;

		open_run(&r, way, device);
		loss = mh_floats(r.st, "loss");
		norm = mh_floats(r.st, "grad_norm");
		worst_grad = worst_gradient(&r, &which);
		for (uint64_t k = 0; k < STEPS; k++) {
			const struct df_step_result res = one(&r, k);

			worst_loss = fmax(worst_loss, fabs(res.loss - (double)loss[k]) / (double)loss[k]);
			worst_norm = fmax(worst_norm, fabs(res.grad_norm - (double)norm[k]) / (double)norm[k]);
			assert_true(isfinite(res.loss));
		}
		print_message("# %s on %s: losses %.1e, grad_norm %.1e, gradients %.1e (%s)\n", way, device, worst_loss,
		    worst_norm, worst_grad, which);
		assert_true(worst_loss <= 2e-2);
		close_run(&r);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_parity, mh_cleanup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

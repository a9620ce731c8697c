/*
 * test_grad.c - blocks, forms, and that raw and projected gradients are the same numbers.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend/cpu/project.h"
#include "base/mem.h"
#include "grad/grad.h"
#include "model_help.h"

/* As many rows as fit; a long row is a block of its own; a limit of 0 is none. */
static void
test_cut(void **state)
{
	static const uint64_t lengths[] = { 3, 4, 3, 50, 1, 1, 1, 9 };
	static const struct {
		uint64_t tokens, rows, n, first[8];
	} cases[] = {
		{ 10, 0, 4, { 0, 3, 4, 7 } },
		{ 12, 2, 5, { 0, 2, 3, 4, 6 } },
		{ 0, 3, 3, { 0, 3, 6 } },
		{ 1, 1, 8, { 0, 1, 2, 3, 4, 5, 6, 7 } },
		{ 0, 0, 1, { 0 } },
	};
	struct df_blocks b = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		mh_ok(df_blocks_cut(&b, lengths, 8, cases[i].tokens, cases[i].rows, err));
		assert_int_equal(b.n, cases[i].n);
		for (size_t j = 0; j < b.n; j++)
			assert_int_equal(b.first[j], cases[i].first[j]);
		assert_int_equal(b.first[b.n], 8);
		df_blocks_release(&b);
	}
	mh_ok(df_blocks_cut(&b, lengths, 0, 10, 10, err));
	assert_int_equal(b.n, 0);
	df_blocks_release(&b);
}

/* g = (0.1, -0.2, 0), m = (0.01, 0.02, 0), v = (1e-4, 4e-4, 0); and one coordinate with m' = 1e-6, v' = 1e-10. */
static void
test_adam_form(void **state)
{
	/* The last column's m and v make m' and v' with g = 0. */
	const float g[4] = { 0.1f, -0.2f, 0, 0 }, m[4] = { 0.01f, 0.02f, 0, (float)(1e-6 / 0.9) };
	const float v[4] = { 1e-4f, 4e-4f, 0, (float)(1e-10 / 0.999) };
	static const double want[2][4] = { { 1.812401, -0.095390, 0, 0.099900 }, { 1.812320, -0.095389, 0, 0.009950 } };
	struct df_backend *be = mh_backend();
	struct df_tensor tg, tm, tv;
	double worst = 0;

	(void)state;
	mh_ok(df_tensor_alloc(be, &tg, DF_F32, 1, 4, "g", err));
	mh_ok(df_tensor_alloc(be, &tm, DF_F32, 1, 4, "m", err));
	mh_ok(df_tensor_alloc(be, &tv, DF_F32, 1, 4, "v", err));
	mh_ok(df_upload(be, tm, m, err));
	mh_ok(df_upload(be, tv, v, err));
	for (int inside = 0; inside < 2; inside++) {
		const struct df_adam_form a = {
			.g = tg, .m = tm, .v = tv, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .eps_inside = inside
		};
		float got[4];

		mh_ok(df_upload(be, tg, g, err));
		mh_ok(df_adam_form(be, &a, err));
		mh_ok(df_download(be, got, tg, err));
		for (int i = 0; i < 4; i++)
			worst = fmax(worst, fabs((double)got[i] - want[inside][i]));
	}
	print_message("  largest difference %.2e\n", worst);
	assert_true(worst < 1e-6); /* the expected numbers have six decimals */
	df_tensor_free(be, &tg);
	df_tensor_free(be, &tm);
	df_tensor_free(be, &tv);
}

/* ---- a small model ------------------------------------------------------------- */

/* Six samples; the third has no target, the fifth only one that nothing predicts. */
#define N_SAMPLES 6
static const uint64_t offsets[N_SAMPLES + 1] = { 0, 5, 12, 16, 24, 27, 29 };

struct tokens {
	struct df_batch batch;
	uint32_t ids[29];
	uint8_t mask[29];
	uint64_t id[N_SAMPLES], off[N_SAMPLES + 1];
	uint16_t domain[N_SAMPLES];
};

static void
tokens_init(struct tokens *t, size_t first, size_t n)
{
	const uint64_t base = offsets[first];

	memset(t, 0, sizeof *t);
	for (size_t i = 0; i < offsets[first + n] - base; i++) {
		t->ids[i] = (uint32_t)((i + base) * 7 % 50);
		t->mask[i] = (i + base) % 3 != 0;
	}
	for (size_t s = 0; s < n; s++) {
		t->id[s] = first + s;
		t->off[s + 1] = offsets[first + s + 1] - base;
		if (first + s == 2 || first + s == 4)
			memset(t->mask + t->off[s], 0, t->off[s + 1] - t->off[s]);
		if (first + s == 4)
			t->mask[t->off[s]] = 1;
	}
	t->batch = (struct df_batch)DF_BATCH_INIT;
	t->batch.n = n;
	t->batch.first = first;
	t->batch.col[DF_COL_ID] = (struct df_column_data){ .data = t->id, .width = 1 };
	t->batch.col[DF_COL_DOMAIN] = (struct df_column_data){ .data = t->domain, .width = 1 };
	t->batch.col[DF_COL_IDS] = (struct df_column_data){ .data = t->ids, .offsets = t->off };
	t->batch.col[DF_COL_LABEL_MASK] = (struct df_column_data){ .data = t->mask, .offsets = t->off };
}

/* A directory with a random model and moments of a few steps. */
static const char *
model_dir(void)
{
	const char *dir = mh_config("grad", 50, 16, 24, 1, 2, 1, NULL);
	struct df_model *m = NULL;
	struct df_moments o = { 0 };
	float *host = NULL;
	size_t n;

	mh_ok(df_model_init(&m, dir, 3, mh_backend(), err));
	mh_ok(df_model_save(m, dir, err));
	mh_ok(df_moments_init(&o, m, err));
	n = df_model_train(m)->numel;
	mh_ok(df_alloc(&host, n, sizeof *host, "moments", err));
	for (size_t i = 0; i < n; i++)
		host[i] = 1e-4f * (float)(i % 17) - 5e-4f;
	mh_ok(df_upload(mh_backend(), o.m, host, err));
	for (size_t i = 0; i < n; i++)
		host[i] = 1e-6f * (float)(1 + i % 13);
	mh_ok(df_upload(mh_backend(), o.v, host, err));
	o.beta1 = 0.9;
	o.beta2 = 0.999;
	o.eps = 1e-8;
	o.step = 5;
	mh_ok(df_moments_save(&o, m, dir, err));
	df_moments_release(&o, m);
	df_model_free(m);
	free(host);
	return dir;
}

/* Rows [first, first+n) of an output, as an array of [n,width] that the caller frees. */
static float *
compute(const struct df_grad_opts *o, size_t first, size_t n, size_t *width, float *loss, struct df_grad_flaws *flaws)
{
	const enum df_col col = o->output == DF_GRAD_RAW ? DF_COL_GRADIENT : DF_COL_PROJECTION;
	struct df_batch out = DF_BATCH_INIT;
	struct df_grad_lane *lane = NULL;
	struct df_grad *g = NULL;
	struct tokens t;
	float *rows = NULL;

	tokens_init(&t, first, n);
	mh_ok(df_grad_open(&g, o, mh_backend(), err));
	mh_ok(df_grad_lane_new(&lane, g, err));
	mh_ok(df_grad_block(lane, &t.batch, &out, flaws, err));
	if (loss)
		memcpy(loss, out.col[DF_COL_LOSS].data, n * sizeof *loss);
	if (o->output != DF_GRAD_LOSSES) {
		*width = out.col[col].width;
		mh_ok(df_alloc(&rows, n * *width, sizeof *rows, "rows", err));
		memcpy(rows, out.col[col].data, n * *width * sizeof *rows);
	}
	df_batch_release(&out);
	df_grad_lane_free(lane);
	df_grad_close(g);
	return rows;
}

/*
 * For every form: a sample alone gives the bits that it gives in company; projections are those of the gradients by
 * the naive matrix; samples without targets are zero with a loss of NaN; Adam's and sign's forms
 * are functions of sgd's.
 */
static void
test_outputs(void **state)
{
	const char *dir = model_dir();
	float *sgd = NULL;

	(void)state;
	for (int form = DF_GRAD_SGD; form <= DF_GRAD_SIGN; form++) {
		struct df_grad_opts o = { .model = dir,
			.output = DF_GRAD_RAW,
			.form = (enum df_grad_form)form,
			.projector = { DF_PROJ_RADEMACHER, 40, 42, 0, 4, DF_SCALE_NONE } };
		float loss[N_SAMPLES], worst = 0;
		struct df_grad_flaws flaws = { 0 };
		size_t p = 0, k = 0;
		float *raw = compute(&o, 0, N_SAMPLES, &p, loss, &flaws), *projected, *naive;

		assert_int_equal(flaws.n_unlabelled, 2);
		assert_int_equal(flaws.n_not_finite, 0);
		for (size_t s = 0; s < N_SAMPLES; s++) {
			float *alone = compute(&o, s, 1, &p, NULL, &flaws);

			assert_memory_equal(alone, raw + s * p, p * sizeof *alone);
			free(alone);
			assert_int_equal(isnan(loss[s]) != 0, s == 2 || s == 4);
			for (size_t i = 0; i < p && (s == 2 || s == 4); i++)
				assert_true(raw[s * p + i] == 0);
		}
		o.output = DF_GRAD_PROJECTED;
		projected = compute(&o, 0, N_SAMPLES, &k, NULL, &flaws);
		assert_int_equal(k, 40);
		mh_ok(df_alloc(&naive, N_SAMPLES * k, sizeof *naive, "projection", err));
		df_cpu_project_naive(&(struct df_cpu_project){ .type = DF_PROJ_RADEMACHER,
		    .g = raw,
		    .y = naive,
		    .n_samples = N_SAMPLES,
		    .n = p,
		    .k = k,
		    .ldg = p,
		    .ldy = k,
		    .seed = 42 });
		for (size_t s = 0; s < N_SAMPLES; s++) {
			float sum = 0;

			for (size_t i = 0; i < p; i++)
				sum += raw[s * p + i] * raw[s * p + i];
			for (size_t i = s * k; i < (s + 1) * k; i++)
				worst = fmaxf(worst, fabsf(naive[i] - projected[i]) / (sqrtf(sum) + 1e-30f));
		}
		print_message(
		    "  form %d: projections differ by at most %.1e of the gradient's norm\n", form, (double)worst);
		assert_true(
		    worst < 2e-6f); /* the same sums in another order: some float32 roundings of numbers of that size */
		for (size_t i = 0; form == DF_GRAD_SIGN && i < p; i++)
			assert_true(raw[i] == (sgd[i] > 0 ? 1.0f : sgd[i] < 0 ? -1.0f : 0.0f));
		for (size_t i = 0; form == DF_GRAD_ADAM && i < p; i++) {
			const double m = 1e-4 * (double)(i % 17) - 5e-4, v = 1e-6 * (double)(1 + i % 13),
				     g = (double)sgd[i];
			const double want = (0.9 * m + 0.1 * g) / (sqrt(0.999 * v + 0.001 * g * g) + 1e-8);

			/* A few roundings of float32, where g and m may cancel. */
			assert_true(fabs((double)raw[i] - want) < 1e-5 * (1 + fabs(want)));
		}
		if (form == DF_GRAD_SGD)
			sgd = raw;
		else
			free(raw);
		free(projected);
		free(naive);
	}
	free(sgd);
}

static void
test_state(void **state)
{
	const char *dir = mh_config("grad-fresh", 50, 16, 24, 1, 2, 1, NULL);
	struct df_grad_opts o = { .model = dir, .output = DF_GRAD_RAW, .form = DF_GRAD_ADAM };
	struct df_model *m = NULL;
	struct df_grad_flaws flaws;
	size_t p = 0, n_big = 0;
	float *g;

	(void)state;
	mh_ok(df_model_init(&m, dir, 3, mh_backend(), err));
	mh_ok(df_model_save(m, dir, err));
	df_model_free(m);
	mh_refused(df_grad_open(&(struct df_grad *){ NULL }, &o, mh_backend(), err), DF_ENOINPUT, "optimizer");
	o.allow_zero_state = true;
	g = compute(&o, 0, 1, &p, NULL, &flaws);
	/* m = v = 0: every coordinate is 0 or +-(1 - beta1) / sqrt(1 - beta2), up to eps where g is tiny. */
	for (size_t i = 0; i < p; i++) {
		assert_true(fabsf(g[i]) < 3.16228f);
		n_big += fabsf(g[i]) > 3.16f;
	}
	assert_true(n_big > p / 2);
	free(g);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_adam_form),
		cmocka_unit_test(test_outputs),
		cmocka_unit_test(test_state),
	};

	return cmocka_run_group_tests(tests, NULL, mh_cleanup);
}

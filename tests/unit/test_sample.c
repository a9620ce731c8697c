/*
 * test_sample.c - what is drawn, and from what: warps against transformers' and
 * by frequencies, completions against transformers' generate(), and that nothing but
 * prompt, number and seed changes them.  Fixture: tests/golden/generate.json.
 * Runs on the backend in DF_TEST_DEVICE.
 */
#include "model_help.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "sample/generate.h"

static struct df_json *fixture;

static void
load_fixture(void)
{
	char *path = mh_path("../generate.json", NULL);

	mh_ok(df_json_load(&fixture, path, (size_t)1 << 24, err));
	free(path);
}

static size_t
floats(const struct df_json_value *v, float *out, size_t most)
{
	assert_true(df_json_size(v) <= most);
	for (size_t i = 0; i < df_json_size(v); i++) {
		double x = 0;

		assert_true(df_json_number(df_json_at(v, i), &x));
		out[i] = (float)x;
	}
	return df_json_size(v);
}

static struct df_warp
warp_of(const struct df_json_value *v)
{
	struct df_warp w = { 0 };
	int64_t k = 0;

	assert_true(df_json_number(df_json_get(v, "temperature"), &w.temperature));
	assert_true(df_json_number(df_json_get(v, "top_p"), &w.top_p));
	assert_true(df_json_int(df_json_get(v, "top_k"), &k));
	w.top_k = (size_t)k;
	return w;
}

/* ---- warps ------------------------------------------------------------------- */

/*
 * The probability of a token is the share of u in (0,1) that picks it: walk u through a fine grid.
 * Each of up to 24 tokens' shares is found to within a grid step.
 */
static void
test_warps_are_transformers(void **state)
{
	enum { GRID = 20000 };
	const struct df_json_value *warps = df_json_get(df_json_root(fixture), "warps");
	struct df_warp_scratch s = { 0 };
	double worst = 0;

	(void)state;
	assert_true(df_json_size(warps) >= 8);
	for (size_t i = 0; i < df_json_size(warps); i++) {
		const struct df_json_value *v = df_json_at(warps, i);
		const struct df_warp w = warp_of(v);
		float logits[64], probs[64];
		size_t n = floats(df_json_get(v, "logits"), logits, 64), hits[64] = { 0 };

		assert_int_equal(floats(df_json_get(v, "probs"), probs, 64), n);
		for (size_t k = 0; k < GRID; k++) {
			double logprob;
			uint32_t id;

			mh_ok(df_warp_pick(&w, logits, n, ((double)k + 0.5) / GRID, &s, &id, &logprob, err));
			hits[id]++;
		}
		for (size_t t = 0; t < n; t++) {
			if ((hits[t] > 0) != (probs[t] > 0) && (double)probs[t] > 1.0 / GRID)
				fail_msg(
				    "warp %zu, token %zu: %zu hits, probability %g", i, t, hits[t], (double)probs[t]);
			worst = fmax(worst, fabs((double)hits[t] / GRID - (double)probs[t]));
		}
	}
	print_message("# max difference of probabilities %.2g, a grid step is %.2g\n", worst, 1.0 / GRID);
	assert_true(worst <= 1.01 / GRID);
	df_warp_scratch_release(&s);
}

/* The definition, slowly: sort all, cut, renormalise. */
static void
naive(const struct df_warp *w, const float *x, size_t n, double *p)
{
	bool *left = calloc(n, sizeof(*left));
	double z = 0, sum = 0;
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		size_t above = 0;

		for (size_t j = 0; j < n; j++)
			above += x[j] > x[i];
		left[i] = w->top_k == 0 || above < w->top_k;
		p[i] = left[i] ? exp((double)x[i] / w->temperature) : 0;
		z += p[i];
	}
	for (size_t i = 0; i < n; i++)
		p[i] /= z;
	memset(left, 0, n * sizeof(*left));
	while (kept == 0 || (sum < w->top_p && kept < n)) {
		size_t best = n;

		for (size_t i = 0; i < n; i++)
			if (!left[i] && (best == n || p[i] > p[best]))
				best = i;
		left[best] = true;
		sum += p[best];
		kept++;
	}
	for (size_t i = 0; i < n; i++)
		p[i] = left[i] ? p[i] / sum : 0;
	free(left);
}

/*
 * 20,000 draws by the generator that df-sample uses, against the naive probabilities.  The seed is fixed, so the
 * outcome is; the bounds are the chi-square's mean plus some 4.5 standard deviations, and the same draws
 * without top-k or top-p must lie far beyond.
 */
static void
test_frequencies(void **state)
{
	enum { V = 300, DRAWS = 20000 };
	static const struct df_warp warps[] = { { 1, 0, 1 }, { 0.7, 0, 1 }, { 1, 12, 1 }, { 1, 0, 0.8 },
		{ 1.4, 40, 0.7 } };
	struct df_warp_scratch s = { 0 };
	float logits[V];
	double p[V];

	(void)state;
	for (size_t i = 0; i < V; i++)
		logits[i] = (float)(2 * df_rng_normal(1, DF_RNG_DEMO, 0, i));
	for (size_t k = 0; k < sizeof(warps) / sizeof(warps[0]); k++) {
		const struct df_warp *w = &warps[k];
		const struct df_warp off = { w->temperature, 0, 1 };
		size_t hits[V] = { 0 }, without[V] = { 0 }, cells = 0;
		double chi = 0, chi_without = 0, rest = 0, rest_hits = 0, logprob;
		uint32_t id;

		naive(w, logits, V, p);
		for (uint64_t d = 0; d < DRAWS; d++) {
			const double u = df_rng_uniform(42, DF_RNG_GENERATE, 0, d << 24);

			mh_ok(df_warp_pick(w, logits, V, u, &s, &id, &logprob, err));
			hits[id]++;
			mh_ok(df_warp_pick(&off, logits, V, u, &s, &id, &logprob, err));
			without[id]++;
		}
		for (size_t i = 0; i < V; i++) {
			const double want = p[i] * DRAWS;

			if (p[i] == 0)
				assert_int_equal(hits[i], 0);
			if (want < 5) { /* rare ones together */
				rest += want;
				rest_hits += (double)hits[i];
				chi_without += p[i] == 0 ? (double)without[i] : 0;
				continue;
			}
			chi += pow((double)hits[i] - want, 2) / want;
			chi_without += pow((double)without[i] - want, 2) / want;
			cells++;
		}
		if (rest >= 5) {
			chi += pow(rest_hits - rest, 2) / rest;
			cells++;
		}
		print_message("# T %.1f, top-k %zu, top-p %.1f: chi-square %.1f over %zu cells, without them %.0f\n",
		    w->temperature, w->top_k, w->top_p, chi, cells, chi_without);
		assert_true(chi < (double)(cells - 1) + 4.5 * sqrt(2.0 * (double)(cells - 1)));
		if (w->top_k > 0 || w->top_p < 1)
			assert_true(chi_without > 10 * (double)cells);
	}
	df_warp_scratch_release(&s);
}

static void
test_hostile_logits(void **state)
{
	const struct df_warp greedy = DF_WARP_GREEDY, drawn = { 1, 3, 0.9 };
	float x[4] = { 1, NAN, 0, 0 }, all[3] = { -INFINITY, -INFINITY, -INFINITY }, some[3] = { -INFINITY, 2, 2 };
	struct df_warp_scratch s = { 0 };
	double logprob;
	uint32_t id;

	(void)state;
	mh_refused(df_warp_pick(&greedy, x, 4, 0.5, &s, &id, &logprob, err), DF_ERANGE, "token 1");
	x[1] = INFINITY;
	mh_refused(df_warp_pick(&drawn, x, 4, 0.5, &s, &id, &logprob, err), DF_ERANGE, "token 1");
	mh_refused(df_warp_pick(&drawn, all, 3, 0.5, &s, &id, &logprob, err), DF_ERANGE, "no token");
	mh_ok(df_warp_pick(&greedy, some, 3, 0.5, &s, &id, &logprob, err));
	assert_int_equal(id, 1); /* of equals the lowest */
	assert_true(fabs(logprob + log(2)) < 1e-12);
	mh_ok(df_warp_pick(&drawn, some, 3, 0.999, &s, &id, &logprob, err));
	assert_int_equal(id, 2);
	mh_ok(df_warp_pick(&drawn, some, 3, 1 - 0x1p-53, &s, &id, &logprob, err));
	assert_int_equal(id, 2);
	df_warp_scratch_release(&s);
}

/* ---- completions ---------------------------------------------------------------- */

struct got {
	size_t prompt;
	uint32_t draw;
	struct df_ids ids;
	enum df_finish finish;
	double logprob;
	char text[256];
};
struct results {
	struct got v[512];
	size_t n;
};

static int
take(void *ctx, const struct df_completion *c, struct df_err *err)
{
	struct results *r = ctx;
	struct got *g = &r->v[r->n++];
	int rc;

	assert_true(r->n <= 512);
	*g = (struct got){ .prompt = c->prompt, .draw = c->draw, .finish = c->finish, .logprob = c->logprob };
	DF_TRY(df_grow(&g->ids.v, &g->ids.cap, c->n, sizeof(*c->ids), "ids", err));
	memcpy(g->ids.v, c->ids, c->n * sizeof(*c->ids));
	g->ids.n = c->n;
	if (c->text != NULL)
		snprintf(g->text, sizeof(g->text), "%.*s", (int)c->n_text, c->text);
out:
	return rc;
}

static void
results_release(struct results *r)
{
	for (size_t i = 0; i < r->n; i++)
		df_ids_release(&r->v[i].ids);
	r->n = 0;
}

static void
assert_same(const struct results *a, const struct results *b)
{
	assert_int_equal(a->n, b->n);
	for (size_t i = 0; i < a->n; i++) {
		assert_int_equal(a->v[i].prompt, b->v[i].prompt);
		assert_int_equal(a->v[i].draw, b->v[i].draw);
		assert_int_equal(a->v[i].ids.n, b->v[i].ids.n);
		assert_memory_equal(a->v[i].ids.v, b->v[i].ids.v, a->v[i].ids.n * sizeof(uint32_t));
		assert_int_equal(a->v[i].finish, b->v[i].finish);
		assert_memory_equal(&a->v[i].logprob, &b->v[i].logprob, sizeof(double));
	}
}

static size_t
ids_of(const struct df_json_value *v, uint32_t *out, size_t most)
{
	assert_true(df_json_size(v) <= most);
	for (size_t i = 0; i < df_json_size(v); i++) {
		int64_t x = -1;

		assert_true(df_json_int(df_json_at(v, i), &x));
		out[i] = (uint32_t)x;
	}
	return df_json_size(v);
}

/* Token for token; the sum of log-probabilities as a float32 model gives it: 20 tokens' roundings of some 1e-6. */
static void
test_greedy_is_transformers(void **state)
{
	mh_float32_only();
	const struct df_json_value *cases = df_json_get(df_json_root(fixture), "cases");
	static struct results r;
	double worst = 0;

	(void)state;
	assert_true(df_json_size(cases) >= 8);
	for (size_t i = 0; i < df_json_size(cases); i++) {
		const struct df_json_value *c = df_json_at(cases, i), *prompts = df_json_get(c, "prompts");
		const struct df_json_value *completions = df_json_get(c, "completions"),
					   *sums = df_json_get(c, "logprobs");
		const char *name = df_json_str(df_json_get(c, "model"), NULL);
		char *dir = mh_path(name, df_json_bool(df_json_get(c, "adapter"), false) ? "adapter" : NULL);
		struct df_prompts p = { 0 };
		struct df_model *m = NULL;
		uint32_t ids[256], eos[8];
		int64_t max_new = 0;
		struct df_generate_opts o = { .warp = DF_WARP_GREEDY, .n_samples = 1, .n_slots = 2, .end = UINT64_MAX };

		assert_true(df_json_int(df_json_get(c, "max_new"), &max_new));
		o.max_new = (size_t)max_new;
		o.eos = eos;
		o.n_eos = ids_of(df_json_get(c, "eos"), eos, 8);
		for (size_t k = 0; k < df_json_size(prompts); k++) {
			const size_t n = ids_of(df_json_at(prompts, k), ids, 256);

			mh_ok(df_prompts_add(&p, ids, n, k, 0, NULL, 0, err));
		}
		mh_ok(df_model_open(&m, dir, NULL, mh_backend(), err));
		mh_ok(df_generate(m, NULL, &p, &o, take, &r, err));
		assert_int_equal(r.n, p.n);
		for (size_t k = 0; k < r.n; k++) {
			const size_t n = ids_of(df_json_at(completions, k), ids, 256);
			double sum = 0;

			if (n != r.v[k].ids.n || memcmp(ids, r.v[k].ids.v, n * sizeof(*ids)) != 0)
				fail_msg("%s: completion %zu is another one", dir, k);
			assert_int_equal(r.v[k].finish == DF_FINISH_EOS, ids[n - 1] == eos[0]);
			assert_true(df_json_number(df_json_at(sums, k), &sum));
			worst = fmax(worst, fabs(sum - r.v[k].logprob));
		}
		results_release(&r);
		df_prompts_release(&p);
		df_model_free(m);
		free(dir);
	}
	print_message(
	    "# %zu models; max difference of a completion's log-probability %.2g\n", df_json_size(cases), worst);
	assert_true(worst < 2e-4);
}

/* A model of 259 tokens, bytes and three more, and prompts of many lengths. */
static struct df_model *
byte_model(struct df_prompts *p)
{
	static const char *const texts[] = { "a", "hello there", "to be or not to be, that is the question",
		"x = 1 + 2;", "", "ab", "once upon a time", "0123456789 0123456789 0123456789" };
	const char *dir = mh_config("bytes", 259, 32, 48, 2, 4, 2, "\"initializer_range\": 0.4");
	struct df_model *m = NULL;

	mh_ok(df_model_init(&m, dir, 3, mh_backend(), err));
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		uint32_t ids[64] = { 256 };

		for (size_t k = 0; texts[i][k] != '\0'; k++)
			ids[k + 1] = (uint8_t)texts[i][k];
		mh_ok(df_prompts_add(p, ids, strlen(texts[i]) + 1, i, 0, NULL, 0, err));
	}
	return m;
}

static void
test_nothing_else_matters(void **state)
{
	static const size_t slots[] = { 1, 2, 3, 7, 64, 0 };
	static struct results want, got;
	struct df_prompts p = { 0 }, reversed = { 0 };
	struct df_model *m;
	struct df_generate_opts o = {
		.warp = { 1.2, 60, 0.9 }, .seed = 9, .n_samples = 5, .max_new = 12, .n_slots = 4, .end = UINT64_MAX
	};
	uint32_t eos[16];
	struct df_pool *pool = NULL;
	size_t ended = 0;

	(void)state;
	if (!df_backend_is_exact(mh_backend())) {
		print_message("# skip: this backend may draw other tokens in another batch\n");
		skip();
	}
	m = byte_model(&p);
	for (uint32_t i = 0; i < 16; i++)
		eos[i] = 16 * i + 3;
	o.eos = eos;
	o.n_eos = 16;
	mh_ok(df_pool_new(&pool, 3, err));
	mh_ok(df_generate(m, NULL, &p, &o, take, &want, err));
	assert_int_equal(want.n, p.n * 5);
	for (size_t i = 0; i < want.n; i++) {
		assert_int_equal(want.v[i].prompt, i / 5);
		assert_int_equal(want.v[i].draw, i % 5);
		ended += want.v[i].finish == DF_FINISH_EOS;
	}
	assert_true(ended > 0 && ended < want.n);
	for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
		o.n_slots = slots[i];
		mh_ok(df_generate(m, pool, &p, &o, take, &got, err));
		assert_same(&got, &want);
		results_release(&got);
	}
	/* In parts. */
	o.n_slots = 3;
	o.end = 13;
	mh_ok(df_generate(m, pool, &p, &o, take, &got, err));
	assert_int_equal(got.n, 13);
	o.first = 13;
	o.end = UINT64_MAX;
	mh_ok(df_generate(m, pool, &p, &o, take, &got, err));
	assert_same(&got, &want);
	results_release(&got);
	o.first = 0;
	/* Fewer of each, in another order: a prompt's id goes with it. */
	for (size_t i = p.n; i-- > 0;)
		mh_ok(df_prompts_add(
		    &reversed, p.ids + p.offsets[i], p.offsets[i + 1] - p.offsets[i], i, 0, NULL, 0, err));
	o.n_samples = 2;
	mh_ok(df_generate(m, pool, &reversed, &o, take, &got, err));
	for (size_t i = 0; i < got.n; i++) {
		const struct got *w = &want.v[(p.n - 1 - got.v[i].prompt) * 5 + got.v[i].draw];

		assert_int_equal(got.v[i].ids.n, w->ids.n);
		assert_memory_equal(got.v[i].ids.v, w->ids.v, w->ids.n * sizeof(uint32_t));
	}
	results_release(&got);
	/* Another seed is another story. */
	o.n_samples = 5;
	o.seed++;
	mh_ok(df_generate(m, pool, &p, &o, take, &got, err));
	ended = 0;
	for (size_t i = 0; i < got.n; i++)
		ended += got.v[i].ids.n == want.v[i].ids.n &&
		    memcmp(got.v[i].ids.v, want.v[i].ids.v, got.v[i].ids.n * sizeof(uint32_t)) == 0;
	assert_true(ended < got.n / 4);
	results_release(&got);
	results_release(&want);
	df_prompts_release(&p);
	df_prompts_release(&reversed);
	df_model_free(m);
	df_pool_free(pool);
}

/* A completion's log-probability is what the forward says of it. */
static void
test_logprob(void **state)
{
	static struct results r;
	struct df_prompts p = { 0 };
	struct df_model *m = byte_model(&p);
	const struct df_generate_opts o = {
		.warp = { 0.8, 0, 0.95 }, .n_samples = 2, .max_new = 9, .n_slots = 5, .end = UINT64_MAX
	};
	struct df_work *w = NULL;

	(void)state;
	mh_ok(df_work_new(&w, m, err));
	mh_ok(df_generate(m, NULL, &p, &o, take, &r, err));
	for (size_t i = 0; i < r.n; i++) {
		const struct got *g = &r.v[i];
		const size_t n = (size_t)(p.offsets[g->prompt + 1] - p.offsets[g->prompt]);
		const uint64_t offsets[] = { 0, n + g->ids.n };
		uint32_t ids[128];
		uint8_t mask[128] = { 0 };
		float loss;

		memcpy(ids, p.ids + p.offsets[g->prompt], n * sizeof(*ids));
		memcpy(ids + n, g->ids.v, g->ids.n * sizeof(*ids));
		memset(mask + n, 1, g->ids.n);
		mh_ok(df_model_loss(m, w, &(struct df_tokens){ .n = 1, .offsets = offsets, .ids = ids, .mask = mask },
		    &(struct df_losses){ .loss = &loss }, err));
		/* Mean of 9 terms in float32. */
		assert_true(fabs((double)loss * (double)g->ids.n + g->logprob) < 1e-4);
	}
	results_release(&r);
	df_work_free(w);
	df_prompts_release(&p);
	df_model_free(m);
}

/* Bytes of the text in front of `stop`, and by how many tokens it is there; false when it never is. */
static bool
naive_stop(const struct df_tokenizer *tok, const struct df_ids *ids, const char *stop, size_t *n_text, size_t *n_ids)
{
	for (*n_ids = 1; *n_ids <= ids->n; ++*n_ids) {
		struct df_buf text = DF_BUF_INIT;
		const char *at;

		mh_ok(df_tokenizer_decode(tok, ids->v, *n_ids, &text, err));
		at = text.len > 0 ? memmem(text.data, text.len, stop, strlen(stop)) : NULL;
		*n_text = at != NULL ? (size_t)(at - text.data) : 0;
		df_buf_release(&text);
		if (at != NULL)
			return true;
	}
	return false;
}

/* Stop texts end a completion where they begin, also across tokens; here every byte is one. */
static void
test_stop(void **state)
{
	static struct results plain, stopped;
	struct df_tokenizer *tok = NULL;
	struct df_prompts p = { 0 };
	struct df_model *m = byte_model(&p);
	const char *stop[2] = { NULL, "never said" };
	struct df_generate_opts o = {
		.warp = { 1.5, 0, 1 }, .n_samples = 4, .max_new = 24, .n_slots = 6, .end = UINT64_MAX
	};
	char some[6] = "";
	size_t n = 0;

	(void)state;
	mh_ok(df_tokenizer_open(&tok, "bytes", err));
	o.tok = tok;
	mh_ok(df_generate(m, NULL, &p, &o, take, &plain, err));
	memcpy(some, plain.v[5].text + 9, 5); /* of several tokens */
	assert_int_equal(strlen(some), 5);
	stop[0] = some;
	o.stop = stop;
	o.n_stop = 2;
	mh_ok(df_generate(m, NULL, &p, &o, take, &stopped, err));
	assert_int_equal(stopped.n, plain.n);
	for (size_t i = 0; i < plain.n; i++) {
		size_t n_text, n_ids;

		if (naive_stop(tok, &plain.v[i].ids, some, &n_text, &n_ids)) {
			assert_int_equal(stopped.v[i].finish, DF_FINISH_STOP);
			assert_int_equal(stopped.v[i].ids.n, n_ids);
			assert_memory_equal(stopped.v[i].text, plain.v[i].text, n_text);
			assert_int_equal(stopped.v[i].text[n_text], 0);
			n++;
		} else {
			assert_int_equal(stopped.v[i].ids.n, plain.v[i].ids.n);
			assert_string_equal(stopped.v[i].text, plain.v[i].text);
		}
	}
	assert_true(n >= 1 && n < plain.n);
	o.tok = NULL;
	mh_refused(df_generate(m, NULL, &p, &o, take, &stopped, err), DF_EUSAGE, "tokenizer");
	o.tok = tok;
	stop[1] = "";
	mh_refused(df_generate(m, NULL, &p, &o, take, &stopped, err), DF_EUSAGE, "empty");
	results_release(&plain);
	results_release(&stopped);
	df_tokenizer_free(tok);
	df_prompts_release(&p);
	df_model_free(m);
}

/* A model may say what its tokenizer does not know: 259 ids here, and those of a longer vocabulary. */
static void
test_text_of_unknown_ids(void **state)
{
	static const uint32_t ids[] = { 'a', 5000, 'b', UINT32_MAX, 259 };
	struct df_tokenizer *tok = NULL;
	struct df_buf b = DF_BUF_INIT;

	(void)state;
	mh_ok(df_tokenizer_open(&tok, "bytes", err));
	mh_ok(df_generate_text(tok, ids, 5, &b, err));
	assert_int_equal(b.len, 2);
	assert_memory_equal(b.data, "ab", 2);
	mh_ok(df_generate_text(tok, ids + 1, 0, &b, err));
	assert_int_equal(b.len, 2);
	df_buf_release(&b);
	df_tokenizer_free(tok);
}

static void
test_refused(void **state)
{
	struct df_prompts p = { 0 };
	struct df_model *m = byte_model(&p);
	static struct results r;
	struct df_generate_opts o = {
		.warp = DF_WARP_GREEDY, .n_samples = 1, .max_new = 4, .n_slots = 2, .end = UINT64_MAX
	};
	const uint32_t far = 259;

	(void)state;
	o.n_slots = (size_t)1 << 20;
	o.n_samples = 1 << 24;
	o.max_new = (size_t)1 << 24;
	mh_refused(df_generate(m, NULL, &p, &o, take, &r, err), DF_ENOMEM, "sequences|MiB are free");
	o = (struct df_generate_opts){ .warp = DF_WARP_GREEDY, .n_samples = 0, .max_new = 4, .end = UINT64_MAX };
	mh_refused(df_generate(m, NULL, &p, &o, take, &r, err), DF_ERANGE, "0 completions");
	o.n_samples = 1;
	mh_ok(df_prompts_add(&p, &far, 1, 99, 0, NULL, 0, err));
	mh_refused(df_generate(m, NULL, &p, &o, take, &r, err), DF_EFORMAT, "vocabulary");
	mh_ok(df_prompts_add(&p, &far, 0, 100, 0, NULL, 0, err));
	mh_refused(df_generate(m, NULL, &p, &o, take, &r, err), DF_EFORMAT, "prompt 100|no token");
	p.id[0] = (uint64_t)1 << 40;
	mh_refused(df_generate(m, NULL, &p, &o, take, &r, err), DF_ERANGE, "2^40");
	results_release(&r);
	df_prompts_release(&p);
	df_model_free(m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_warps_are_transformers),
		cmocka_unit_test(test_frequencies),
		cmocka_unit_test(test_hostile_logits),
		cmocka_unit_test(test_greedy_is_transformers),
		cmocka_unit_test(test_nothing_else_matters),
		cmocka_unit_test(test_logprob),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_text_of_unknown_ids),
		cmocka_unit_test(test_refused),
	};
	int failed;

	load_fixture();
	failed = cmocka_run_group_tests(tests, NULL, mh_cleanup);
	df_json_free(fixture);
	return failed;
}

/*
 * test_decode.c - a cache of keys and values changes what a token costs, not what it says.
 *
 * Over every golden model, with and without its adapter: logits and losses
 * through the cache against those of the forward over whole samples.
 * Runs on the backend in DF_TEST_DEVICE.
 */
#include "model_help.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

/*
 * Attention over a past sums in another order than the forward's, in float32: a few 1e-7 of the largest logit
 * per layer.  A key in a wrong place, a wrong rotation or window moves logits by some 1e-2 of it.
 */
#define TOLERANCE 3e-6

static char *cases[256];
static size_t n_cases;

/* Directories of golden models that have a language model's head, and their adapters. */
static void
find_cases(void)
{
	char *root = mh_path(".", NULL);
	DIR *d = opendir(root);
	struct dirent *e;

	assert_non_null(d);
	while ((e = readdir(d)) != NULL && n_cases + 2 < 256) {
		char *config = mh_path(e->d_name, "config.json"), *ref = mh_path(e->d_name, "ref.safetensors");
		char *adapter = mh_path(e->d_name, "adapter");
		struct df_model_config c = { 0 };

		if (e->d_name[0] != '.' && df_file_exists(config) && df_file_exists(ref)) {
			char *dir = mh_path(e->d_name, NULL);

			mh_ok(df_model_config_load(&c, dir, err));
			if (c.head == DF_HEAD_LM && c.arch != DF_ARCH_BERT) {
				cases[n_cases++] = strdup(dir);
				if (df_file_is_dir(adapter))
					cases[n_cases++] = strdup(adapter);
			}
			df_model_config_release(&c);
			free(dir);
		}
		free(config);
		free(ref);
		free(adapter);
	}
	closedir(d);
	free(root);
	assert_true(n_cases >= 8);
}

struct under_test {
	struct df_model *m;
	struct df_work *w;
	struct df_cache *c;
	struct mh_batch batch;
	size_t n, longest, v;
	uint32_t *slot;
	float *want; /* [tokens, V] of the forward */
	float *got;  /* likewise */
};

static void
open_case(struct under_test *t, const char *dir)
{
	static const size_t lengths[] = { 5, 1, 17, 9, 2, 30 };

	*t = (struct under_test){ .n = sizeof(lengths) / sizeof(lengths[0]), .longest = 30 };
	mh_ok(df_model_open(&t->m, dir, NULL, mh_backend(), err));
	mh_ok(df_work_new(&t->w, t->m, err));
	mh_ok(df_cache_new(&t->c, t->m, t->n, t->longest, err));
	t->v = df_model_config(t->m)->n_vocab;
	mh_batch_random(&t->batch, lengths, t->n, t->v, 7);
	mh_ok(df_alloc(&t->slot, t->n, sizeof(*t->slot), "slots", err));
	for (size_t s = 0; s < t->n; s++)
		t->slot[s] = (uint32_t)((s * 5 + 3) % t->n); /* in no order */
	mh_ok(df_alloc(&t->want, t->batch.offsets[t->n] * t->v, sizeof(float), "logits", err));
	mh_ok(df_alloc(&t->got, t->batch.offsets[t->n] * t->v, sizeof(float), "logits", err));
	mh_ok(df_model_logits(t->m, t->w, &t->batch.b, t->want, err));
}

static void
close_case(struct under_test *t)
{
	df_cache_free(t->c);
	df_work_free(t->w);
	df_model_free(t->m);
	mh_batch_release(&t->batch);
	free(t->slot);
	free(t->want);
	free(t->got);
}

static void
near(const struct under_test *t, const char *dir, const char *what, size_t first, size_t n)
{
	const double d = mh_rel_diff(t->got + first * t->v, t->want + first * t->v, n * t->v);

	if (d > TOLERANCE)
		fail_msg("%s: %s: max difference %.3g of the largest logit", dir, what, d);
}

/* Beyond the original length the forward rotates all of a sample anew, a cache its new tokens only. */
static bool
rotates_anew(const struct under_test *t)
{
	const struct df_model_config *c = df_model_config(t->m);

	return c->rope.type == DF_ROPE_DYNAMIC && c->max_positions < t->longest;
}

/* A text in pieces: the bits of one call; the last piece is a short one. */
static void
test_read(void **state)
{
	enum { N = 1100, BEFORE = 3 };

	(void)state;
	for (size_t i = 0; i < n_cases; i++) {
		struct df_model *m = NULL;
		struct df_work *w = NULL;
		struct df_cache *c = NULL;
		struct mh_batch batch;
		struct df_tokens rest = { .n = 1, .offsets = (uint64_t[]){ 0, N - BEFORE } };
		float *want, *got;
		size_t v;

		mh_ok(df_model_open(&m, cases[i], NULL, mh_backend(), err));
		mh_ok(df_work_new(&w, m, err));
		mh_ok(df_cache_new(&c, m, 2, N, err));
		v = df_model_config(m)->n_vocab;
		mh_ok(df_alloc(&want, v, sizeof(*want), "logits", err));
		mh_ok(df_alloc(&got, v, sizeof(*got), "logits", err));
		mh_batch_random(&batch, (size_t[]){ N }, 1, v, 3);
		rest.ids = batch.ids + BEFORE;
		for (uint32_t slot = 0; slot < 2; slot++)
			mh_ok(df_model_extend_long(m, w, c, slot, batch.ids, BEFORE, NULL, err));
		mh_ok(df_model_extend(m, w, c, &rest, &(uint32_t){ 0 }, want, err));
		mh_ok(df_model_extend_long(m, w, c, 1, rest.ids, N - BEFORE, got, err));
		assert_int_equal(df_cache_length(c, 1), N);
		if (!mh_same(got, want, v))
			fail_msg("%s: max difference %.3g", cases[i], mh_rel_diff(got, want, v));
		mh_refused(df_model_extend_long(m, w, c, 1, rest.ids, 1, got, err), DF_ERANGE, "1100");
		mh_batch_release(&batch);
		free(want);
		free(got);
		df_cache_free(c);
		df_work_free(w);
		df_model_free(m);
	}
}

/* Prompts: the forward's own logits of the last tokens. */
static void
test_prefill(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_cases; i++) {
		struct under_test t;

		open_case(&t, cases[i]);
		for (int round = 0; round < 2; round++) { /* over what was in the slots before */
			mh_ok(df_model_prefill(t.m, t.w, t.c, &t.batch.b, t.slot, t.got, err));
			for (size_t s = 0; s < t.n; s++) {
				mh_assert_same(t.got + s * t.v, t.want + (t.batch.offsets[s + 1] - 1) * t.v, t.v);
				assert_int_equal(
				    df_cache_length(t.c, t.slot[s]), t.batch.offsets[s + 1] - t.batch.offsets[s]);
			}
		}
		close_case(&t);
	}
}

/* All samples side by side, one token a step; the short ones leave. */
static void
test_steps(void **state)
{
	double worst = 0;

	(void)state;
	for (size_t i = 0; i < n_cases; i++) {
		struct under_test t;

		open_case(&t, cases[i]);
		if (rotates_anew(&t)) {
			close_case(&t);
			continue;
		}
		for (size_t step = 0; step < t.longest; step++) {
			uint32_t slot[16], ids[16];
			size_t row[16], n = 0;
			float *logits = NULL;

			for (size_t s = 0; s < t.n; s++) {
				if (t.batch.offsets[s] + step >= t.batch.offsets[s + 1])
					continue;
				row[n] = t.batch.offsets[s] + step;
				ids[n] = t.batch.ids[row[n]];
				slot[n++] = t.slot[s];
			}
			mh_ok(df_alloc(&logits, n * t.v, sizeof(*logits), "logits", err));
			mh_ok(df_model_decode(t.m, t.w, t.c, n, slot, ids, logits, err));
			for (size_t k = 0; k < n; k++)
				memcpy(t.got + row[k] * t.v, logits + k * t.v, t.v * sizeof(*logits));
			free(logits);
		}
		near(&t, cases[i], "token by token", 0, t.batch.offsets[t.n]);
		worst = fmax(worst, mh_rel_diff(t.got, t.want, t.batch.offsets[t.n] * t.v));
		close_case(&t);
	}
	print_message("# max difference %.3g of the largest logit\n", worst);
}

/* A prefix of each sample, copied to another slot and cut; then the rest at once, with its losses. */
static void
test_extend(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_cases; i++) {
		struct mh_batch part = { 0 }, rest = { 0 };
		size_t lengths[16], n_rest = 0, targets = 0, all_targets = 0;
		uint32_t slot[16], n_targets[16], n_all[16];
		float nll[256], all_nll[256];
		struct df_losses out = { .token_nll = nll, .n_targets = n_targets },
				 all = { .token_nll = all_nll, .n_targets = n_all };
		struct under_test t;

		open_case(&t, cases[i]);
		if (rotates_anew(&t)) {
			close_case(&t);
			continue;
		}
		for (size_t s = 0; s < t.n; s++)
			lengths[s] = (t.batch.offsets[s + 1] - t.batch.offsets[s] + 1) / 2;
		mh_batch_random(&part, lengths, t.n, t.v, 1);
		for (size_t s = 0; s < t.n; s++)
			memcpy(part.ids + part.offsets[s], t.batch.ids + t.batch.offsets[s],
			    lengths[s] * sizeof(uint32_t));
		/* Copies go over whole samples of something else. */
		mh_ok(df_model_prefill(t.m, t.w, t.c, &part.b, t.slot, NULL, err));
		for (size_t s = 0; s < t.n; s++) {
			const uint32_t to = t.slot[(s + 1) % t.n];
			size_t n = lengths[s];

			if (s > 0)
				break;
			mh_ok(df_cache_copy(t.c, t.slot[s], to, n, err));
			mh_ok(df_cache_copy(t.c, to, t.slot[s], n, err));
			df_cache_cut(t.c, to, 0);
			mh_ok(df_model_extend(t.m, t.w, t.c,
			    &(struct df_tokens){
				.n = 1, .offsets = (uint64_t[]){ 0, lengths[1] }, .ids = part.ids + part.offsets[1] },
			    &to, NULL, err));
		}
		for (size_t s = 0; s < t.n; s++) {
			const size_t n = t.batch.offsets[s + 1] - t.batch.offsets[s] - lengths[s];

			if (n > 0) {
				slot[n_rest] = t.slot[s];
				lengths[n_rest++] = n;
			}
		}
		mh_batch_random(&rest, lengths, n_rest, t.v, 1);
		for (size_t s = 0, k = 0; s < t.n; s++) {
			const size_t n = k < n_rest ? lengths[k] : 0;

			if (k == n_rest || slot[k] != t.slot[s])
				continue;
			memcpy(
			    rest.ids + rest.offsets[k], t.batch.ids + t.batch.offsets[s + 1] - n, n * sizeof(uint32_t));
			memset(t.batch.mask + t.batch.offsets[s], 0, t.batch.offsets[s + 1] - t.batch.offsets[s]);
			memset(rest.mask + rest.offsets[k], 1, n);
			memset(t.batch.mask + t.batch.offsets[s + 1] - n + 1, 1, n - 1);
			k++;
		}
		mh_ok(df_model_extend(t.m, t.w, t.c, &rest.b, slot, t.got, err));
		for (size_t s = 0, k = 0; s < t.n; s++) {
			if (k == n_rest || slot[k] != t.slot[s])
				continue;
			if (mh_rel_diff(t.got + k * t.v, t.want + (t.batch.offsets[s + 1] - 1) * t.v, t.v) > TOLERANCE)
				fail_msg("%s: sample %zu behind its first half", cases[i], s);
			df_cache_cut(t.c, slot[k], df_cache_length(t.c, slot[k]) - lengths[k]);
			k++;
		}
		mh_ok(df_model_extend_loss(t.m, t.w, t.c, &rest.b, slot, &out, err));
		mh_ok(df_model_loss(t.m, t.w, &t.batch.b, &all, err));
		for (size_t k = 0; k < n_rest; k++)
			targets += n_targets[k];
		for (size_t s = 0; s < t.n; s++)
			all_targets += n_all[s];
		assert_true(targets > 20);
		assert_int_equal(targets, all_targets);
		if (mh_rel_diff(nll, all_nll, targets) > TOLERANCE)
			fail_msg("%s: losses behind a past", cases[i]);
		mh_batch_release(&part);
		mh_batch_release(&rest);
		close_case(&t);
	}
}

/* A sequence's logits are the same alone, to the bit. */
static void
test_alone(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_cases; i++) {
		uint32_t ids[16];
		float *alone = NULL;
		struct under_test t;

		open_case(&t, cases[i]);
		for (size_t s = 0; s < t.n; s++)
			df_cache_cut(t.c, t.slot[s], 0);
		mh_ok(df_model_prefill(t.m, t.w, t.c, &t.batch.b, t.slot, NULL, err));
		for (size_t s = 0; s < t.n; s++) {
			ids[s] = (uint32_t)(s * 7 % t.v);
			if (df_cache_length(t.c, t.slot[s]) == t.longest)
				df_cache_cut(t.c, t.slot[s], t.longest - 1);
		}
		mh_ok(df_model_decode(t.m, t.w, t.c, t.n, t.slot, ids, t.got, err));
		mh_ok(df_alloc(&alone, t.v, sizeof(*alone), "logits", err));
		for (size_t s = 0; s < t.n; s++) {
			df_cache_cut(t.c, t.slot[s], df_cache_length(t.c, t.slot[s]) - 1);
			mh_ok(df_model_decode(t.m, t.w, t.c, 1, &t.slot[s], &ids[s], alone, err));
			mh_assert_same(alone, t.got + s * t.v, t.v);
		}
		free(alone);
		close_case(&t);
	}
}

static void
test_refused(void **state)
{
	static const size_t lengths[] = { 30 };
	uint32_t slots[2] = { 1, 1 }, ids[2] = { 0, 0 }, out_of_vocabulary;
	struct df_cache *c = NULL;
	struct mh_batch b = { 0 };
	struct under_test t;
	size_t bytes;

	(void)state;
	open_case(&t, cases[0]);
	mh_refused(df_cache_new(&c, t.m, 1000, (size_t)1 << 30, err), DF_ENOMEM, "1000 sequences|MiB are free");
	mh_refused(df_cache_bytes(t.m, SIZE_MAX / 4, 8, &bytes, err), DF_ERANGE, "too large");
	mh_refused(df_cache_new(&c, t.m, 0, 8, err), DF_ERANGE, "0 sequences");
	assert_null(c);
	mh_batch_random(&b, lengths, 1, t.v, 3);
	mh_ok(df_model_extend(t.m, t.w, t.c, &b.b, slots, NULL, err));
	mh_refused(df_model_decode(t.m, t.w, t.c, 1, slots, ids, NULL, err), DF_ERANGE, "30 tokens of a slot");
	assert_int_equal(df_cache_length(t.c, 1), 30);
	slots[0] = slots[1] = 2;
	mh_refused(df_model_decode(t.m, t.w, t.c, 2, slots, ids, NULL, err), DF_EINTERNAL, "slot 2");
	slots[0] = (uint32_t)t.n;
	mh_refused(df_model_decode(t.m, t.w, t.c, 1, slots, ids, NULL, err), DF_EINTERNAL, "slot 6");
	slots[0] = 0;
	out_of_vocabulary = (uint32_t)t.v;
	mh_refused(df_model_decode(t.m, t.w, t.c, 1, slots, &out_of_vocabulary, NULL, err), DF_EFORMAT, "vocabulary");
	assert_int_equal(df_cache_length(t.c, 0), 0);
	mh_batch_release(&b);
	close_case(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prefill),
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_extend),
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_refused),
	};

	find_cases();
	return cmocka_run_group_tests(tests, NULL, mh_cleanup);
}

/*
 * test_pack.c - packs are LLaMA-Factory's, mixtures stop where datasets' do, the knapsack is the naive one.
 *
 * The expectations in tests/golden/packing/expected.json were computed by LLaMA-Factory itself
 * (tests/golden/packing.py).  Everything is compared exactly: ids, label masks, positions, sequences, sources.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "chat/encode.h"
#include "chat/template.h"
#include "data/corpus.h"
#include "data/interleave.h"
#include "data/pack.h"

static struct df_err error;

#define OK(call)                                              \
	do {                                                  \
		if ((call) < 0)                               \
			fail_msg("%s: %s", #call, error.msg); \
	} while (0)

static char *golden_dir;
static struct df_json *golden;

static int64_t
integer(const struct df_json_value *v)
{
	int64_t i = -1;

	if (!df_json_int(v, &i))
		fail_msg("expected.json: not an integer");
	return i;
}

/* ---- as LLaMA-Factory --------------------------------------------------- */

struct got {
	const struct df_json_value *rows;
	char name[256];
	size_t n;
	struct df_packer packer;
};

static int
take_pack(void *ctx, const struct df_block *b, struct df_err *err)
{
	struct got *g = ctx;
	const struct df_json_value *want = df_json_at(g->rows, g->n), *ids = df_json_at(want, 0);
	const struct df_json_value *runs = df_json_at(want, 1), *lengths = df_json_at(want, 2);
	size_t at = 0;

	(void)err;
	if (!want)
		fail_msg("%s: more packs than the %zu expected", g->name, g->n);
	if (b->n != df_json_size(ids))
		fail_msg("%s: pack %zu: %zu tokens, expected %zu", g->name, g->n, b->n, df_json_size(ids));
	for (size_t i = 0; i < b->n; i++)
		if (integer(df_json_at(ids, i)) != b->ids[i])
			fail_msg("%s: pack %zu: token %zu is %u", g->name, g->n, i, b->ids[i]);
	for (size_t r = 0; r < df_json_size(runs); r++)
		for (int64_t k = 0; k < integer(df_json_at(runs, r)); k++, at++)
			if (at >= b->n || b->mask[at] != r % 2)
				fail_msg("%s: pack %zu: label mask differs at %zu", g->name, g->n, at);
	assert_int_equal(at, b->n);
	at = 0;
	for (size_t e = 0; e < df_json_size(lengths); e++)
		for (int64_t k = 0; k < integer(df_json_at(lengths, e)); k++, at++) {
			assert_int_equal(b->position[at], k);
			if (g->packer.neat)
				assert_int_equal(b->sequence[at], e + 1);
		}
	assert_int_equal(at, b->n);
	assert_int_equal(b->sequence != NULL, g->packer.neat);
	g->n++;
	return 0;
}

static int
take_row(void *ctx, const struct df_encoded_row *row, struct df_err *err)
{
	struct got *g = ctx;

	df_packer_skip(&g->packer, row->n_dropped);
	return df_packer_add(&g->packer, row->ids, row->mask, row->n, row->domain, row->source_row, err);
}

static enum df_mix
find_mix(const char *name)
{
	static const char *const names[] = { DF_MIX_NAMES };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], name) == 0)
			return (enum df_mix)i;
	fail_msg("no mix '%s'", name);
	return DF_MIX_CONCAT;
}

static void
run_case(const struct df_json_value *c, int n_threads)
{
	const uint32_t cutoff = (uint32_t)integer(df_json_get(c, "cutoff_len"));
	const struct df_encode_opts opts = {
		.stage = DF_STAGE_SFT,
		.cutoff_len = cutoff - 1,
		.train_on_prompt = df_json_bool(df_json_get(c, "train_on_prompt"), false),
		.mask_history = df_json_bool(df_json_get(c, "mask_history"), false),
	};
	const char *datasets = df_json_str(df_json_get(c, "datasets"), NULL);
	const char *name = df_json_str(df_json_get(c, "template"), NULL);
	struct df_corpus corpus = DF_CORPUS_INIT;
	struct df_tokenizer *tok;
	const struct df_template *template;
	struct df_encoder *e;
	struct got g = { .rows = df_json_get(c, "rows") };
	int64_t max_samples;
	char *path;

	snprintf(g.name, sizeof(g.name), "%s, %s, cutoff %u", datasets, name, cutoff);
	OK(df_path_join(&path, golden_dir, "tokenizer", &error));
	OK(df_tokenizer_open(&tok, path, &error));
	OK(df_template_find(&template, name, &error));
	OK(df_encoder_new(&e, template, tok, &opts, &error));
	corpus.n_threads = n_threads;
	if (df_json_get(c, "mix_strategy"))
		corpus.mix = find_mix(df_json_str(df_json_get(c, "mix_strategy"), NULL));
	if (df_json_int(df_json_get(c, "max_samples"), &max_samples))
		corpus.max_samples = (uint64_t)max_samples;
	OK(df_corpus_open(&corpus, golden_dir, datasets, NULL, opts.stage, &error));
	OK(df_corpus_survey(&corpus, e, &error));
	g.packer.whole = true;
	g.packer.neat = df_json_bool(df_json_get(c, "neat_packing"), false);
	g.packer.block = cutoff - 1;
	g.packer.batch_rows = (uint64_t)integer(df_json_get(c, "batch"));
	g.packer.n_shards = (uint64_t)integer(df_json_get(c, "shards"));
	for (size_t i = 0; i < corpus.n_parts; i++)
		g.packer.n_rows += corpus.part[i].n_read;
	g.packer.emit = take_pack;
	g.packer.ctx = &g;
	OK(df_corpus_encode(&corpus, e, take_row, &g, &error));
	OK(df_packer_end(&g.packer, &error));
	if (g.n != df_json_size(g.rows))
		fail_msg("%s: %zu packs, expected %zu", g.name, g.n, df_json_size(g.rows));
	df_packer_release(&g.packer);
	df_corpus_close(&corpus);
	df_encoder_free(e);
	df_tokenizer_free(tok);
	free(path);
}

static void
as_llamafactory(void **state)
{
	const struct df_json_value *cases = df_json_get(df_json_root(golden), "cases");

	(void)state;
	assert_true(df_json_size(cases) >= 9);
	for (size_t i = 0; i < df_json_size(cases); i++)
		run_case(df_json_at(cases, i), 1 + (int)(i % 3));
}

/* ---- the knapsack ------------------------------------------------------- */

/* The largest that fits, the last among equals, by looking at all. */
static void
naive(const size_t *length, size_t n, size_t capacity, size_t *order, size_t *sack)
{
	bool *taken = calloc(n + 1, sizeof(*taken));
	size_t room = capacity, k = 0;

	for (size_t done = 0; done < n;) {
		size_t best = n;

		for (size_t i = 0; i < n; i++)
			if (!taken[i] && length[i] <= room && (best == n || length[i] >= length[best]))
				best = i;
		if (best == n) {
			room = capacity;
			k++;
			continue;
		}
		taken[best] = true;
		room -= length[best];
		sack[done] = k;
		order[done++] = best;
	}
	free(taken);
}

static void
knapsack(void **state)
{
	uint32_t x = 12345;

	(void)state;
	for (size_t round = 0; round < 300; round++) {
		size_t length[64], order[64], want[64], sack[64], first[65], n = round % 65, n_sacks, k = 0;
		const size_t capacity = 1 + round / 3;

		for (size_t i = 0; i < n; i++) {
			x = x * 1664525 + 1013904223;
			length[i] = (x >> 8) % (capacity + 1);
		}
		OK(df_knapsack(length, n, capacity, order, first, &n_sacks, &error));
		naive(length, n, capacity, want, sack);
		assert_int_equal(first[n_sacks], n);
		for (size_t i = 0; i < n; i++) {
			k += i == first[k + 1];
			assert_int_equal(order[i], want[i]);
			assert_int_equal(k, sack[i]);
		}
	}
}

struct seen {
	size_t n_packs, n_tokens, n_examples;
};

static int
count_pack(void *ctx, const struct df_block *b, struct df_err *err)
{
	struct seen *s = ctx;

	(void)err;
	assert_true(b->n <= 10);
	s->n_packs++;
	s->n_tokens += b->n;
	for (size_t i = 0; i < b->n; i++)
		s->n_examples += b->position[i] == 0;
	/* an example's ids are its source row, so that the first says where the pack is from */
	assert_int_equal(b->ids[0], b->source_row);
	assert_int_equal(b->domain, b->source_row % 3);
	return 0;
}

/* What is too long is left out and counted; all other examples are in one pack each; batches are not mixed. */
static void
too_long(void **state)
{
	struct seen s = { 0 };
	struct df_packer p = {
		.whole = true, .block = 10, .bos = DF_NO_TOKEN, .n_shards = 1, .emit = count_pack, .ctx = &s
	};
	uint32_t ids[12];
	uint8_t mask[12] = { 0 };

	(void)state;
	for (uint64_t row = 0; row < 12; row++) {
		for (size_t i = 0; i < 12; i++)
			ids[i] = (uint32_t)row;
		OK(df_packer_add(&p, ids, mask, (size_t)row + 1, (uint16_t)(row % 3), row, &error));
	}
	assert_int_equal(s.n_packs, 0);
	OK(df_packer_end(&p, &error));
	assert_int_equal(p.n_long, 2);
	assert_int_equal(s.n_examples, 10);
	assert_int_equal(s.n_tokens, 55);
	assert_int_equal(s.n_packs, 6); /* 10, 9+1, 8+2, 7+3, 6+4, 5 */
	df_packer_release(&p);
}

/* ---- mixtures ----------------------------------------------------------- */

static void
in_turn(void **state)
{
	const struct df_json_value *orders = df_json_get(df_json_root(golden), "orders");

	(void)state;
	assert_true(df_json_size(orders) >= 15);
	for (size_t i = 0; i < df_json_size(orders); i++) {
		const struct df_json_value *o = df_json_at(orders, i), *order = df_json_get(o, "order");
		const struct df_json_value *lengths = df_json_get(o, "lengths");
		const enum df_mix mix = find_mix(df_json_str(df_json_get(o, "mix"), NULL));
		struct df_mixer m;
		uint64_t row;
		size_t part;

		OK(df_mixer_init(&m, mix, df_json_size(lengths), NULL, 1, &error));
		for (size_t k = 0; k < m.n; k++)
			m.length[k] = (uint64_t)integer(df_json_at(lengths, k));
		for (int again = 0; again < 2; again++) {
			df_mixer_rewind(&m);
			for (size_t k = 0; k < df_json_size(order); k++) {
				assert_true(df_mixer_next(&m, &part, &row));
				assert_int_equal(part, integer(df_json_at(df_json_at(order, k), 0)));
				assert_int_equal(row, integer(df_json_at(df_json_at(order, k), 1)));
			}
			assert_false(df_mixer_next(&m, &part, &row));
		}
		df_mixer_release(&m);
	}
}

/* Draws: the rows of each dataset in order, the rule to stop, and the proportions. */
static void
drawn(void **state)
{
	static const uint64_t lengths[] = { 3000, 500, 4000 };
	static const double probs[] = { 0.5, 0.2, 0.3 };

	(void)state;
	for (int mix = DF_MIX_UNDER; mix <= DF_MIX_ONCE; mix++) {
		struct df_mixer m;
		uint64_t row, n = 0, got[3] = { 0 };
		size_t part = 0, ended = 0;

		OK(df_mixer_init(&m, (enum df_mix)mix, 3, "0.5, 0.2,0.3", 7, &error));
		memcpy(m.length, lengths, sizeof(lengths));
		df_mixer_rewind(&m);
		while (df_mixer_next(&m, &part, &row)) {
			assert_int_equal(row, got[part] % lengths[part]);
			got[part]++;
			n++;
			ended += got[part] == lengths[part];
			/* while all datasets give rows, each count is within 5 standard deviations */
			for (int i = 0; i < 3 && (mix != DF_MIX_ONCE || ended == 0); i++)
				assert_true(fabs((double)got[i] - (double)n * probs[i]) <=
				    5 * sqrt((double)n * probs[i] * (1 - probs[i])) + 1);
		}
		/* the row that ended the last (or first) dataset is the last row */
		assert_int_equal(got[part] % lengths[part], 0);
		assert_int_equal(ended, mix == DF_MIX_UNDER ? 1 : 3);
		if (mix == DF_MIX_ONCE)
			assert_int_equal(n, 7500);
		df_mixer_release(&m);
	}
}

static void
bad_probs(void **state)
{
	static const char *const bad[] = { "0.5", "0.5,0.6", "1,0", "0.5,x", "-1,2", "nan,1", "0.3,0.3,0.4", "" };
	struct df_mixer m;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(df_mixer_init(&m, DF_MIX_OVER, 2, bad[i], 1, &error), DF_EUSAGE);
	assert_int_equal(df_mixer_init(&m, DF_MIX_CONCAT, 2, "0.5,0.5", 1, &error), DF_EUSAGE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_llamafactory),
		cmocka_unit_test(knapsack),
		cmocka_unit_test(too_long),
		cmocka_unit_test(in_turn),
		cmocka_unit_test(drawn),
		cmocka_unit_test(bad_probs),
	};
	const char *src = getenv("DF_SRCDIR");
	char *path;
	int rc;

	if (df_path_join(&golden_dir, src ? src : ".", "tests/golden/packing", &error) != 0 ||
	    df_path_join(&path, golden_dir, "expected.json", &error) != 0 ||
	    df_json_load(&golden, path, (size_t)64 << 20, &error) != 0) {
		fprintf(stderr, "%s\n", error.msg);
		return 1;
	}
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	df_json_free(golden);
	free(path);
	free(golden_dir);
	return rc;
}

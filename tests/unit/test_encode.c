/*
 * test_encode.c - ids and labels are LLaMA-Factory's, over templates, conversations, truncation and masking.
 *
 * The expectations in tests/golden/templates/expected.json were computed by LLaMA-Factory itself
 * (tests/golden/llamafactory.py).  Everything is compared exactly: ids, labels, source rows, counts.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "chat/encode.h"
#include "chat/template.h"
#include "data/corpus.h"
#include "data/pack.h"

static struct df_err error;

#define OK(call)                                              \
	do {                                                  \
		if ((call) < 0)                               \
			fail_msg("%s: %s", #call, error.msg); \
	} while (0)

static char *golden_dir;

/* A sink for warnings of tokens that templates add. */
static void
ignore(void *ctx, enum df_log_level level, const char *msg)
{
	(void)ctx;
	(void)level;
	(void)msg;
}

/* Rows as they come out, to be compared with the case's. */
struct got {
	const struct df_json_value *rows;
	const char *name;
	size_t n;
	struct df_packer packer;
	bool packing;
};

static void
compare_row(struct got *g, const uint32_t *ids, const uint8_t *mask, size_t n, uint64_t source_row)
{
	const struct df_json_value *want = df_json_at(g->rows, g->n), *want_ids = df_json_at(want, 1);
	const struct df_json_value *runs = df_json_at(want, 2);
	size_t at = 0;
	int64_t v;

	if (!want)
		fail_msg("%s: more rows than the %zu expected", g->name, g->n);
	if (df_json_int(df_json_at(want, 0), &v) && (uint64_t)v != source_row)
		fail_msg("%s: row %zu comes from source row %lu, expected %ld", g->name, g->n,
		    (unsigned long)source_row, (long)v);
	for (size_t i = 0; i < n && i < df_json_size(want_ids); i++)
		if (!df_json_int(df_json_at(want_ids, i), &v) || (uint64_t)v != ids[i])
			fail_msg("%s: row %zu: token %zu is %u, expected %ld", g->name, g->n, i, ids[i], (long)v);
	if (n != df_json_size(want_ids))
		fail_msg("%s: row %zu: %zu tokens, expected %zu", g->name, g->n, n, df_json_size(want_ids));
	for (size_t r = 0; r < df_json_size(runs); r++) {
		assert_true(df_json_int(df_json_at(runs, r), &v));
		for (int64_t k = 0; k < v; k++, at++)
			if (at >= n || mask[at] != r % 2)
				fail_msg("%s: row %zu: label mask differs at %zu", g->name, g->n, at);
	}
	assert_int_equal(at, n);
	g->n++;
}

static int
take_block(void *ctx, const struct df_block *b, struct df_err *err)
{
	(void)err;
	compare_row(ctx, b->ids, b->mask, b->n, b->source_row);
	return 0;
}

static int
take_row(void *ctx, const struct df_encoded_row *row, struct df_err *err)
{
	struct got *g = ctx;

	if (g->packing)
		return df_packer_add(&g->packer, row->ids, row->mask, row->n, row->domain, row->source_row, err);
	compare_row(g, row->ids, row->mask, row->n, row->source_row);
	return 0;
}

static int64_t
get_int(const struct df_json_value *c, const char *key, int64_t dflt)
{
	int64_t v = dflt;

	df_json_int(df_json_get(c, key), &v);
	return v;
}

static const char *
get_str(const struct df_json_value *c, const char *key)
{
	return df_json_str(df_json_get(c, key), NULL);
}

static void
run_case(const struct df_json_value *c, int n_threads)
{
	const bool pt = strcmp(get_str(c, "stage"), "pt") == 0;
	const struct df_json_value *packing = df_json_get(c, "packing");
	const struct df_encode_opts opts = {
		.stage = pt ? DF_STAGE_PT : DF_STAGE_SFT,
		.cutoff_len = (uint32_t)get_int(c, "cutoff_len", 0),
		.train_on_prompt = df_json_bool(df_json_get(c, "train_on_prompt"), false),
		.mask_history = df_json_bool(df_json_get(c, "mask_history"), false),
		.split_special = df_json_bool(df_json_get(c, "split_special"), false),
		.packing = pt && df_json_bool(packing, true),
		.default_system = get_str(c, "default_system"),
	};
	struct df_corpus corpus = DF_CORPUS_INIT;
	struct df_tokenizer *tok;
	const struct df_template *template;
	struct df_encoder *e;
	struct got g = { .rows = df_json_get(c, "rows"), .packing = opts.packing };
	char name[256], *path;

	snprintf(name, sizeof(name), "%s %s %s %s cutoff %u%s%s%s", get_str(c, "stage"), get_str(c, "dataset"),
	    get_str(c, "tokenizer"), get_str(c, "template"), opts.cutoff_len,
	    opts.train_on_prompt ? " train_on_prompt" : "", opts.mask_history ? " mask_history" : "",
	    opts.split_special ? " split_special" : "");
	g.name = name;
	OK(df_path_join(&path, golden_dir, get_str(c, "tokenizer"), &error));
	OK(df_tokenizer_open(&tok, path, &error));
	OK(df_template_find(&template, get_str(c, "template"), &error));
	OK(df_encoder_new(&e, template, tok, &opts, &error));
	if (!pt) {
		assert_int_equal(df_tokenizer_vocab_size(tok), get_int(c, "vocab_size", -1));
		assert_int_equal(df_tokenizer_eos(tok), get_int(c, "eos", -1));
		assert_int_equal(df_encoder_pad(e), get_int(c, "pad", -1));
	}
	corpus.n_threads = n_threads;
	OK(df_corpus_open(&corpus, golden_dir, get_str(c, "dataset"), NULL, opts.stage, &error));
	OK(df_corpus_survey(&corpus, e, &error));
	g.packer.block = opts.cutoff_len - (df_json_bool(packing, false) ? 1 : 0);
	g.packer.bos = df_tokenizer_add_bos(tok) ? df_tokenizer_bos(tok) : DF_NO_TOKEN;
	g.packer.batch_rows = (uint64_t)get_int(c, "batch", 0);
	g.packer.n_shards = (uint64_t)get_int(c, "shards", 1);
	g.packer.n_rows = corpus.part[0].n_kept;
	g.packer.emit = take_block;
	g.packer.ctx = &g;
	OK(df_corpus_encode(&corpus, e, take_row, &g, &error));
	if (g.packing)
		OK(df_packer_end(&g.packer, &error));
	if (g.n != df_json_size(g.rows))
		fail_msg("%s: %zu rows, expected %zu", name, g.n, df_json_size(g.rows));
	df_packer_release(&g.packer);
	df_corpus_close(&corpus);
	df_encoder_free(e);
	df_tokenizer_free(tok);
	free(path);
}

static void
as_llamafactory(void **state)
{
	struct df_json *j;
	char *path;
	size_t n;

	(void)state;
	OK(df_path_join(&path, golden_dir, "expected.json", &error));
	OK(df_json_load(&j, path, (size_t)64 << 20, &error));
	n = df_json_size(df_json_root(j));
	assert_true(n > 80);
	for (size_t i = 0; i < n; i++)
		run_case(df_json_at(df_json_root(j), i), 1 + (int)(i % 3));
	df_json_free(j);
	free(path);
}

/* infer_seqlen by its definition, in integers where that is exact; every small case. */
static void
infer_seqlen(void **state)
{
	(void)state;
	for (size_t C = 1; C < 24; C++)
		for (size_t S = 0; S < 30; S++)
			for (size_t T = 0; T < 30; T++) {
				size_t s, t;

				df_infer_seqlen(S, T, C, &s, &t);
				assert_true(s <= S && t <= T && s + t <= C);
				if (S + T <= C) {
					assert_int_equal(s, S);
					assert_int_equal(t, T);
					continue;
				}
				assert_int_equal(s + t, C); /* what is cut fills the room */
				if (T * 2 < C)
					assert_int_equal(t, T);
				else if (S * 2 < C)
					assert_int_equal(s, S);
				else
					assert_true(
					    t == C * T / (S + T) || (C * T % (S + T) == 0 && t + 1 == C * T / (S + T)));
			}
}

/* The loss-free packer gives back every token, and every block but a domain's last is full. */
struct sum {
	uint32_t next[3]; /* per domain, the next token that must come */
	size_t n_short;
	uint32_t block, bos;
	uint16_t domain;
};

static int
check_block(void *ctx, const struct df_block *b, struct df_err *err)
{
	struct sum *s = ctx;
	size_t i = 0;

	(void)err;
	if (b->domain != s->domain)
		s->n_short = 0;
	s->domain = b->domain;
	assert_int_equal(s->n_short, 0); /* nothing after a short block */
	s->n_short += b->n < s->block;
	assert_true(b->n <= s->block);
	if (s->bos != DF_NO_TOKEN) {
		assert_int_equal(b->ids[0], s->bos);
		assert_int_equal(b->mask[0], 0);
		i = 1;
	}
	assert_int_equal(b->source_row, (b->ids[i] - 1000u * b->domain) / 7);
	for (; i < b->n; i++) {
		assert_int_equal(b->ids[i], 1000u * b->domain + s->next[b->domain]++);
		assert_int_equal(b->mask[i], b->ids[i] % 2);
	}
	return 0;
}

static void
pack_without_loss(void **state)
{
	(void)state;
	for (uint32_t block = 2; block < 20; block++)
		for (int with_bos = 0; with_bos < 2; with_bos++) {
			struct sum s = { .block = block, .bos = with_bos ? 9999 : DF_NO_TOKEN };
			struct df_packer p = {
				.block = block, .bos = s.bos, .n_shards = 1, .emit = check_block, .ctx = &s
			};

			for (uint16_t d = 0; d < 3; d++)
				for (uint32_t row = 0; row < 11; row++) {
					uint32_t ids[7];
					uint8_t mask[7];

					for (uint32_t i = 0; i < 7; i++) {
						ids[i] = 1000u * d + 7 * row + i;
						mask[i] = ids[i] % 2;
					}
					OK(df_packer_add(&p, ids, mask, 7, d, row, &error));
				}
			OK(df_packer_end(&p, &error));
			df_packer_release(&p);
			for (uint16_t d = 0; d < 3; d++)
				assert_int_equal(s.next[d], 77);
			assert_int_equal(p.n_thrown, 0);
		}
}

/* A bytes tokenizer that knows the tokens which templates name. */
static struct df_tokenizer *
open_bytes(void)
{
	static const char *const tokens[] = { "<reserved_102>", "<reserved_103>", "[|Human|]:", "[|AI|]:", "[gMASK]",
		"sop", "<|user|>", "<|assistant|>", "<|system|>", "<|observation|>", "<|Human|>", "<|YaYi|>",
		"<|System|>", "<sep>" };
	struct df_tokenizer *tok;
	uint32_t id;

	OK(df_tokenizer_open(&tok, "bytes", &error));
	for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++)
		OK(df_tokenizer_add_special(tok, tokens[i], &id, &error));
	return tok;
}

/*
 * A prompt ends where the last answer begins: it is the row without its last targets, whatever the answer is, and
 * with none at all.
 */
static void
prompts(void **state)
{
	struct df_turn turns[] = { { DF_ROLE_USER, "first?", 6 }, { DF_ROLE_ASSISTANT, "one", 3 },
		{ DF_ROLE_USER, "second?", 7 }, { DF_ROLE_ASSISTANT, "two", 3 } };
	const struct df_encode_opts opts = { .cutoff_len = 4096, .thinking = DF_THINKING_TRUE };
	const struct df_template *t;

	(void)state;
	df_log_set_sink(ignore, NULL);
	for (size_t i = 0; (t = df_template_at(i)) != NULL; i++)
		for (int with_system = 0; with_system < 2; with_system++) {
			struct df_example ex = {
				.turns = turns, .n_turns = 4, .system = "sys", .n_system = with_system ? 3 : 0
			};
			struct df_tokenizer *tok = open_bytes();
			struct df_ids with = { NULL, 0, 0 }, without = { NULL, 0, 0 };
			struct df_encoded row = DF_ENCODED_INIT;
			struct df_encode_info info;
			struct df_encscratch *s;
			struct df_encoder *e;
			size_t end;

			OK(df_encoder_new(&e, t, tok, &opts, &error));
			OK(df_encscratch_new(&s, e, &error));
			OK(df_encode(e, s, &ex, &row, &info, &error));
			OK(df_encode_prompt(e, s, &ex, &with, &error));
			ex.n_turns = 3;
			OK(df_encode_prompt(e, s, &ex, &without, &error));
			assert_int_equal(with.n, without.n);
			assert_memory_equal(with.v, without.v, with.n * sizeof(*with.v));
			for (end = row.ids.n; end > 0 && row.mask[end - 1] == 1; end--)
				;
			/* Reasoning: the first answer's empty thought is the row's only. */
			if (!t->reasoning) {
				if (with.n != end)
					fail_msg("%s: a prompt of %zu tokens, the answer begins at %zu", t->name,
					    with.n, end);
				assert_memory_equal(with.v, row.ids.v, with.n * sizeof(*with.v));
			} else {
				assert_true(with.n < end);
				assert_memory_equal(with.v + with.n - 7, row.ids.v + end - 7,
				    7 * sizeof(*with.v)); /* how questions end */
			}
			df_ids_release(&with);
			df_ids_release(&without);
			df_encoded_release(&row);
			df_encscratch_free(s);
			df_encoder_free(e);
			df_tokenizer_free(tok);
		}
	df_log_set_sink(NULL, NULL);
}

/* Messages of many megabytes are cut like others: nothing in a row is of a fixed size. */
static void
gigantic(void **state)
{
	enum { N = 6 << 20 };
	char *text = malloc(N);
	struct df_turn turns[] = { { DF_ROLE_USER, text, N }, { DF_ROLE_ASSISTANT, text, N } };
	struct df_example ex = { .turns = turns, .n_turns = 2, .system = text, .n_system = N };
	const struct df_encode_opts opts = { .cutoff_len = 100 };
	struct df_encoded row = DF_ENCODED_INIT;
	struct df_encode_info info;
	const struct df_template *t;
	struct df_tokenizer *tok;
	struct df_encscratch *s;
	struct df_encoder *e;

	(void)state;
	assert_non_null(text);
	for (size_t i = 0; i < N; i += 8)
		memcpy(text + i, "{{idx}} ", 8);
	OK(df_template_find(&t, "qwen3", &error));
	OK(df_tokenizer_open(&tok, "bytes", &error));
	df_log_set_sink(ignore, NULL);
	OK(df_encoder_new(&e, t, tok, &opts, &error));
	df_log_set_sink(NULL, NULL);
	OK(df_encscratch_new(&s, e, &error));
	OK(df_encode(e, s, &ex, &row, &info, &error));
	assert_true(info.truncated);
	assert_int_equal(row.ids.n, 100);
	assert_int_equal(info.n_targets, 33); /* 100 T / (S + T), S the question and the system text */
	df_encoded_release(&row);
	df_encscratch_free(s);
	df_encoder_free(e);
	df_tokenizer_free(tok);
	free(text);
}

/* What excludes each other is refused. */
static void
refusals(void **state)
{
	struct df_encode_opts opts = { .cutoff_len = 8, .train_on_prompt = true, .mask_history = true };
	const struct df_template *t;
	struct df_tokenizer *tok;
	struct df_encoder *e;

	(void)state;
	OK(df_template_find(&t, "alpaca", &error));
	OK(df_tokenizer_open(&tok, "bytes", &error));
	assert_int_equal(df_encoder_new(&e, t, tok, &opts, &error), DF_EUSAGE);
	opts = (struct df_encode_opts){ .cutoff_len = 8, .packing = true };
	assert_int_equal(df_encoder_new(&e, t, tok, &opts, &error), DF_EUSAGE);
	opts = (struct df_encode_opts){ .cutoff_len = 0 };
	assert_int_equal(df_encoder_new(&e, t, tok, &opts, &error), DF_EUSAGE);
	opts = (struct df_encode_opts){ .cutoff_len = 8, .tool_format = "qwn" };
	assert_int_equal(df_encoder_new(&e, t, tok, &opts, &error), DF_EUSAGE);
	opts = (struct df_encode_opts){ .cutoff_len = 8, .date = "tomorrow" };
	assert_int_equal(df_encoder_new(&e, t, tok, &opts, &error), DF_EUSAGE);
	OK(df_template_find(&t, "fewshot", &error));
	opts = (struct df_encode_opts){ .cutoff_len = 8, .train_on_prompt = true };
	assert_int_equal(df_encoder_new(&e, t, tok, &opts, &error), DF_EUSAGE);
	df_tokenizer_free(tok);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_llamafactory),
		cmocka_unit_test(infer_seqlen),
		cmocka_unit_test(pack_without_loss),
		cmocka_unit_test(prompts),
		cmocka_unit_test(gigantic),
		cmocka_unit_test(refusals),
	};
	const char *src = getenv("DF_SRCDIR");
	int rc;

	if (df_path_join(&golden_dir, src, "tests/golden/templates", NULL) != 0)
		return 1;
	rc = cmocka_run_group_tests_name("encode", tests, NULL, NULL);
	free(golden_dir);
	return rc;
}

/*
 * test_encode_templates.c - every template, over conversations, tools, thoughts and OpenAI's format, encodes as
 * LLaMA-Factory does.
 *
 * tests/golden/templates/digests.txt and digests-newer.txt were computed by LLaMA-Factory itself
 * (tests/golden/llamafactory.py).  A line is a case; a word of it is one row: the CRC-32 of its ids and labels, "-"
 * where it is dropped, "x" where LLaMA-Factory raises an exception and we must refuse the row, "?" where it makes more
 * labels than ids (an empty question in a template with efficient_eos) and nothing is expected.
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
#include "base/log.h"
#include "chat/encode.h"
#include "chat/template.h"
#include "data/dataset.h"

static struct df_err error;
static char *golden_dir;

#define OK(call)                                              \
	do {                                                  \
		if ((call) < 0)                               \
			fail_msg("%s: %s", #call, error.msg); \
	} while (0)

/* CRC-32 of 32-bit words as little endian bytes, as zlib has it. */
static uint32_t
crc(uint32_t c, const uint32_t *w, size_t n)
{
	c = ~c;
	for (size_t i = 0; i < n; i++)
		for (int b = 0; b < 32; b += 8) {
			c ^= w[i] >> b & 0xFF;
			for (int k = 0; k < 8; k++)
				c = c >> 1 ^ (c & 1 ? 0xEDB88320u : 0);
		}
	return ~c;
}

/* What a row came to: its digest, or why there is none. */
static void
row_word(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex, bool prompt, char word[9])
{
	const uint32_t none = (uint32_t)-100;
	struct df_encoded row = DF_ENCODED_INIT;
	struct df_encode_info info;
	uint32_t sum;
	size_t targets = 0;
	int checked, rc;

	if (ex->drop != DF_DROP_NONE || (!prompt && df_encode_is_empty(e, ex))) {
		strcpy(word, "-");
		return;
	}
	checked = df_encode_check(e, s, ex, &error);
	rc = prompt ? df_encode_prompt(e, s, ex, &row.ids, &error) : df_encode(e, s, ex, &row, &info, &error);
	assert_true(prompt ? checked || !rc : checked == rc);
	if (checked) { /* a prompt may do without the last call, LLaMA-Factory formats it all the same */
		assert_int_equal(checked, DF_EFORMAT);
		strcpy(word, "x");
	} else {
		sum = crc(0, row.ids.v, row.ids.n);
		for (size_t i = 0; i < row.ids.n && !prompt; i++) {
			const uint32_t label = row.mask[i] == 2 ? row.ids.v[row.ids.n - 1] : row.ids.v[i];

			assert_true(row.mask[i] <= 2);
			targets += row.mask[i] != 0;
			sum = crc(sum, row.mask[i] ? &label : &none, 1);
		}
		if (!prompt) {
			assert_int_equal(info.n, row.ids.n);
			assert_int_equal(info.n_targets, targets);
		}
		snprintf(word, 9, "%08x", sum);
	}
	df_encoded_release(&row);
}

/* What a case asks for, as its words say it. */
struct wanted {
	const char *template, *dataset, *tokenizer;
	struct df_encode_opts opts;
	bool prompt;
	uint32_t vocab, eos, pad;
	char *rows;
};

static void
read_case(char *line, struct wanted *w, bool newer)
{
	char *at = NULL, *word;

	memset(w, 0, sizeof(*w));
	w->template = strtok_r(line, " ", &at);
	w->dataset = strtok_r(NULL, " ", &at);
	w->tokenizer = strtok_r(NULL, " ", &at);
	w->opts.cutoff_len = (uint32_t)atoi(strtok_r(NULL, " ", &at));
	w->opts.date = "2024-07-26";
	/* 0.9.4 has no choice: earlier thoughts stay in training and leave prompts. */
	w->opts.preserve_thinking = !newer && !strstr(at, "prompt ");
	for (word = strtok_r(NULL, " ", &at); word && strspn(word, "0123456789") == 0;
	     word = strtok_r(NULL, " ", &at)) {
		const char *value = strchr(word, '=') ? strchr(word, '=') + 1 : "";

		if (strcmp(word, "prompt") == 0) {
			w->prompt = true;
		} else if (strncmp(word, "mask_history", 12) == 0) {
			w->opts.mask_history = true;
		} else if (strncmp(word, "train_on_prompt", 15) == 0) {
			w->opts.train_on_prompt = true;
		} else if (strncmp(word, "preserve_thinking", 17) == 0) {
			w->opts.preserve_thinking = *value == 'T';
		} else if (strncmp(word, "tool_format", 11) == 0) {
			w->opts.tool_format = value;
		} else if (strncmp(word, "enable_thinking", 15) == 0) {
			w->opts.thinking = *value == 'T' ? DF_THINKING_TRUE
			    : *value == 'F'              ? DF_THINKING_FALSE
							 : DF_THINKING_NULL;
		} else {
			fail_msg("what is '%s'?", word);
		}
	}
	w->vocab = (uint32_t)atoi(word);
	w->eos = (uint32_t)atoi(strtok_r(NULL, " ", &at));
	w->pad = (uint32_t)atoi(strtok_r(NULL, " ", &at));
	w->rows = at;
}

static void
run_case(struct wanted *w, const char *name)
{
	struct df_example ex = DF_EXAMPLE_INIT;
	const struct df_template *t;
	struct df_dataset_info *info;
	struct df_tokenizer *tok;
	struct df_encscratch *s;
	struct df_dataset *ds;
	struct df_encoder *e;
	struct df_record rec;
	char *path, *at = NULL, *want = strtok_r(w->rows, " ", &at), word[9];
	int rc;

	OK(df_path_join(&path, golden_dir, w->tokenizer, &error));
	OK(df_tokenizer_open(&tok, path, &error));
	OK(df_template_find(&t, w->template, &error));
	OK(df_encoder_new(&e, t, tok, &w->opts, &error));
	OK(df_encscratch_new(&s, e, &error));
	if (df_tokenizer_vocab_size(tok) != w->vocab || df_tokenizer_eos(tok) != w->eos || df_encoder_pad(e) != w->pad)
		fail_msg("%s: vocabulary %u, eos %u, pad %u, expected %u, %u, %u", name, df_tokenizer_vocab_size(tok),
		    df_tokenizer_eos(tok), df_encoder_pad(e), w->vocab, w->eos, w->pad);
	assert_int_equal(df_encoder_stops(e)->v[0], w->eos);
	OK(df_dataset_info_open(&info, golden_dir, &error));
	OK(df_dataset_open(&ds, info, w->dataset, DF_STAGE_SFT, &error));
	while ((rc = df_dataset_next(ds, &rec, &error)) == 1) {
		OK(df_dataset_convert(ds, &rec, &ex, &error));
		error.msg[0] = '\0';
		row_word(e, s, &ex, w->prompt, word);
		if (!want || (strcmp(word, want) != 0 && strcmp(want, "?") != 0))
			fail_msg("%s: row %lu gives %s, expected %s %s", name, (unsigned long)rec.row, word,
			    want ? want : "none", error.msg);
		want = strtok_r(NULL, " ", &at);
	}
	OK(rc);
	assert_null(want);
	df_example_release(&ex);
	df_dataset_free(ds);
	df_dataset_info_free(info);
	df_encscratch_free(s);
	df_encoder_free(e);
	df_tokenizer_free(tok);
	free(path);
}

static void
ignore(void *ctx, enum df_log_level level, const char *msg)
{
	(void)ctx;
	(void)level;
	(void)msg;
}

/* All cases of a file; the number of them. */
static size_t
run_file(const char *file, bool newer)
{
	char *path, *text, *at = NULL, name[200];
	size_t n_bytes, n = 0;

	df_log_set_sink(ignore, NULL); /* tokens that templates add */
	OK(df_path_join(&path, golden_dir, file, &error));
	OK(df_file_get(path, (size_t)1 << 20, &text, &n_bytes, &error));
	for (char *line = strtok_r(text, "\n", &at); line; line = strtok_r(NULL, "\n", &at), n++) {
		struct wanted w;

		snprintf(name, sizeof(name), "%s: %.100s", file, line);
		read_case(line, &w, newer);
		run_case(&w, name);
	}
	free(text);
	free(path);
	df_log_set_sink(NULL, NULL);
	return n;
}

static void
as_llamafactory(void **state)
{
	(void)state;
	assert_true(run_file("digests.txt", false) > 1300);
}

/* What later versions do with the thoughts of earlier answers. */
static void
as_newer_llamafactory(void **state)
{
	(void)state;
	assert_int_equal(run_file("digests-newer.txt", true), 162);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_llamafactory),
		cmocka_unit_test(as_newer_llamafactory),
	};
	int rc;

	if (df_path_join(&golden_dir, getenv("DF_SRCDIR"), "tests/golden/templates", NULL) != 0)
		return 1;
	rc = cmocka_run_group_tests_name("encode templates", tests, NULL, NULL);
	free(golden_dir);
	return rc;
}

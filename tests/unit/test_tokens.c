/*
 * test_tokens.c - tokens of today, of older versions and of nobody know what was added to their tokenizer.
 */
#include "shard_help.h"

#include "chat/template.h"
#include "data/provenance.h"
#include "shard/shard_priv.h"
#include "show/show.h"

static struct df_tokenizer *
bytes(void)
{
	struct df_tokenizer *t = NULL;

	OK(df_tokenizer_open(&t, "bytes", err));
	return t;
}

/* bytes as the template leaves it, and what an older version noted of it. */
static struct df_tokenizer *
made_with(const struct df_template *template, struct df_meta *m)
{
	struct df_tokenizer *t = bytes();
	uint32_t pad;

	OK(df_template_fix_tokenizer(template, t, &pad, err));
	OK(df_meta_set_str(m, "tokenizer", df_tokenizer_id(t), err));
	OK(df_meta_set_str(m, "template", template->name, err));
	return t;
}

static void
test_every_template(void **state)
{
	size_t n_adding = 0;

	(void)state;
	for (size_t i = 0; df_template_at(i); i++) {
		struct df_meta old = DF_META_INIT, new = DF_META_INIT, copy = DF_META_INIT;
		struct df_tokenizer *want = made_with(df_template_at(i), &old), *t;
		const struct df_meta *const metas[] = { &old, &new, &copy };

		new.has_lineage = old.has_lineage = true;
		OK(df_tokens_note(&new, want, NULL, err));
		OK(df_tokens_copy_note(&copy, &new, err));
		n_adding += df_meta_param(&new, DF_META_BASE_TOKENIZER) != NULL;
		assert_true((df_meta_param(&new, DF_META_BASE_TOKENIZER) != NULL) ==
		    (strcmp(df_tokenizer_id(want), "bytes") != 0));
		for (size_t k = 0; k < 3; k++) {
			t = bytes();
			OK(df_tokens_restore(t, metas[k], err));
			assert_string_equal(df_tokenizer_id(t), df_tokenizer_id(want));
			assert_int_equal(df_tokenizer_vocab_size(t), df_tokenizer_vocab_size(want));
			assert_int_equal(df_tokenizer_eos(t), 257);
			df_tokenizer_free(t);
		}
		/* What explains the tokenizer does not part old from new. */
		OK(df_meta_set_str(&new, "template", df_template_at(i)->name, err));
		OK(df_meta_set_int(&old, "vocab_size", df_tokenizer_vocab_size(want), err));
		OK(df_meta_same(&old, "old", &new, "new", err));
		OK(df_meta_same(&new, "new", &old, "old", err));
		OK(df_meta_set_str(&new, "other", "x", err));
		assert_int_equal(df_meta_same(&old, "old", &new, "new", NULL), DF_ELINEAGE);
		assert_int_equal(df_meta_same(&new, "new", &old, "old", NULL), DF_ELINEAGE);
		df_tokenizer_free(want);
		df_meta_release(&old);
		df_meta_release(&new);
		df_meta_release(&copy);
	}
	assert_true(n_adding > 30);
}

static const char own_yaml[] = "name: qwen\nuser: \"{{content}}\"\nstop_words: [\"<end>\"]\n";

/* An older file whose template was the user's: the file says that it was, so no other of that name is taken. */
static void
test_older_file(void **state)
{
	const struct df_template *own = NULL, *builtin = NULL;
	struct df_meta m = DF_META_INIT;
	struct df_tokenizer *want, *t = bytes();
	struct df_err why = DF_ERR_INIT;
	struct df_batch b = DF_BATCH_INIT;
	struct df_buf out = DF_BUF_INIT;
	struct df_set *s = NULL;
	struct df_writer *w = NULL;
	char digest[DF_DIGEST_HEX];
	static const size_t widths[DF_COL_COUNT] = { 0 };
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_IDS, DF_COL_LABEL_MASK };
	static uint64_t id[] = { 0 }, offsets[] = { 0, 3 };
	static uint32_t ids[] = { 'h', 'i', 259 };
	static uint8_t mask[] = { 0, 0, 1 };

	(void)state;
	OK(df_file_put(at("own.yaml"), own_yaml, strlen(own_yaml), err));
	OK(df_template_open(&own, at("own.yaml"), err));
	OK(df_template_find(&builtin, "qwen", err));
	want = made_with(own, &m);
	OK(df_template_digest(own, digest, err));
	OK(df_meta_set_str(&m, "template_digest", digest, err));
	OK(df_tokens_restore(t, &m, err));
	assert_string_equal(df_tokenizer_id(t), "bytes");

	m.kind = DF_KIND_TOKENS;
	OK(df_meta_set_tool(&m, "df-pack", err));
	OK(df_writer_open(&w, at("old.h5"), &m, cols, 3, widths, &(struct df_writer_opts){ 0 }, err));
	b.n = 1;
	b.col[DF_COL_ID] = (struct df_column_data){ id, NULL, 1 };
	b.col[DF_COL_IDS] = (struct df_column_data){ ids, offsets, 1 };
	b.col[DF_COL_LABEL_MASK] = (struct df_column_data){ mask, offsets, 1 };
	OK(df_writer_put(w, &b, err));
	OK(df_writer_finish(w, err));
	OK(df_writer_commit(w, NULL, err));
	df_writer_close(w);
	OK(df_set_open1(&s, DF_KIND_TOKENS, NULL, at("old.h5"), err));
	assert_int_equal(df_decode(s, 0, NULL, NULL, false, &out, &why), DF_EUSAGE);
	assert_non_null(strstr(why.msg, "--template"));
	assert_int_equal(df_decode(s, 0, "bytes", NULL, false, &out, &why), DF_ELINEAGE);
	assert_non_null(strstr(why.msg, "token 259"));
	assert_non_null(strstr(why.msg, "--template"));
	assert_int_equal(df_decode(s, 0, NULL, "qwen", false, &out, &why), DF_ELINEAGE);
	df_buf_clear(&out);
	OK(df_decode(s, 0, NULL, at("own.yaml"), false, &out, err));
	assert_non_null(strstr(out.data, "\nhi\n"));
	assert_non_null(strstr(out.data, "\n<end>\n"));
	df_set_close(s);
	df_buf_release(&out);
	df_meta_release(&m);
	df_tokenizer_free(t);
	df_tokenizer_free(want);
	df_template_close(own);
}

static void
test_malformed(void **state)
{
	static const struct {
		const char *key, *value, *words;
	} t[] = { { DF_META_ADDED_TOKEN "259", NULL, "is not the text of a token" },
		{ DF_META_ADDED_TOKEN "x", "<a>", "added_token.x' is not the text" },
		{ DF_META_ADDED_TOKEN "-1", "<a>", "is not the text" }, { DF_META_ADDED_TOKEN "259", "", "empty" },
		{ DF_META_ADDED_TOKEN "300", "<a>", "in tokenizer bytes it would be 259" },
		{ DF_META_ADDED_TOKEN "4294967555", "<a>", "is not the text" } };

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct df_meta m = DF_META_INIT;
		struct df_err why = DF_ERR_INIT;
		struct df_tokenizer *tok = bytes();

		OK(df_meta_set_str(&m, "tokenizer", "0123", err));
		OK(df_meta_set_str(&m, DF_META_BASE_TOKENIZER, "bytes", err));
		if (t[i].value)
			OK(df_meta_set_str(&m, t[i].key, t[i].value, err));
		else
			OK(df_meta_set_int(&m, t[i].key, 7, err));
		assert_int_equal(df_tokens_restore(tok, &m, &why), DF_EFORMAT);
		if (!strstr(why.msg, t[i].words))
			fail_msg("'%s' says nothing of '%s'", why.msg, t[i].words);
		df_tokenizer_free(tok);
		df_meta_release(&m);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_template),
		cmocka_unit_test_setup_teardown(test_older_file, scratch_make, scratch_remove),
		cmocka_unit_test(test_malformed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_shard.c - artefact files: what is written is what is read, whatever the batches.
 */
#include <fcntl.h>

#include "shard/options.h"
#include "shard/token_writer.h"
#include "shard_help.h"

static void
test_round_trip(void **state)
{
	static const enum df_compress how[] = { DF_COMPRESS_DEFAULT, DF_COMPRESS_NONE, DF_COMPRESS_GZIP,
		DF_COMPRESS_ZSTD };
	static const uint64_t rows[] = { 0, 1, 6, 1000, 9000 };

	(void)state;
	for (size_t h = 0; h < 4; h++)
		for (size_t r = 0; r < 5; r++) {
			write_tokens(at("t.h5"), 0, rows[r], 977, how[h], NULL);
			check_tokens(at("t.h5"), rows[r], 613);
		}
}

/* The bytes depend on the rows, not on how they were cut; the same again is the same. */
static void
test_bytes_of_batches(void **state)
{
	char a[DF_DIGEST_HEX], b[DF_DIGEST_HEX];

	(void)state;
	write_tokens(at("a.h5"), 0, 9000, 9000, DF_COMPRESS_DEFAULT, a);
	write_tokens(at("b.h5"), 0, 9000, 101, DF_COMPRESS_DEFAULT, b);
	same_bytes(at("a.h5"), at("b.h5"));
	assert_string_equal(a, b);
}

static void
test_shards(void **state)
{
	char whole[DF_DIGEST_HEX], *name;
	const char *paths[3];
	struct df_set *s;
	struct df_err why = DF_ERR_INIT;

	(void)state;
	write_tokens(at("whole.h5"), 0, 3000, 500, DF_COMPRESS_DEFAULT, whole);
	for (uint32_t i = 0; i < 3; i++) {
		struct df_shard_arg sh = { .i = i, .n = 3 };
		uint64_t first, end;

		df_shard_range(sh, 10, &first, &end);
		OK(df_shard_name(&name, at("set.h5"), sh, err));
		write_tokens(name, first * 300, end * 300, 300, DF_COMPRESS_DEFAULT, NULL);
		free(name);
	}
	check_tokens(at("set.h5"), 3000, 700);
	check_tokens(at("set.0*.h5"), 3000, 700);
	paths[0] = at("set.00003-of-00003.h5");
	paths[1] = at("set.00001-of-00003.h5");
	paths[2] = at("set.00002-of-00003.h5");
	OK(df_set_open(&s, DF_KIND_TOKENS, NULL, paths, 3, err));
	assert_string_equal(df_set_meta(s)->id, whole);
	OK(df_set_link(s, at("linked.h5"), err));
	df_set_close(s);
	check_tokens(at("linked.h5"), 3000, 700);
	paths[0] = at("set.00003-of-00003.h5");
	paths[1] = at("set.00001-of-00003.h5");
	assert_int_equal(df_set_open(&s, DF_KIND_TOKENS, "pool", paths, 2, &why), DF_ENOINPUT);
	assert_non_null(strstr(why.msg, "set.00002-of-00003.h5 is missing (shard 2)"));
	paths[0] = at("linked.h5");
	assert_int_equal(df_set_open(&s, DF_KIND_TOKENS, "pool", paths, 2, &why), DF_ENOINPUT);
	assert_non_null(strstr(why.msg, "set.00002-of-00003.h5 and 1 more are missing (shards 2-3)"));
}

/* A stream through a file: force it, and read it back. */
static void
test_stream(void **state)
{
	struct df_writer_opts opts = { .force_stream = true };
	struct df_batch b = DF_BATCH_INIT;
	struct df_writer *w;
	struct df_meta m;
	struct df_set *s;
	uint64_t got, row = 0;
	char id[DF_DIGEST_HEX];
	int saved = dup(STDOUT_FILENO), fd = open(at("s.dfs"), O_RDWR | O_CREAT | O_TRUNC, 0600);

	(void)state;
	fflush(stdout);
	dup2(fd, STDOUT_FILENO);
	token_meta(&m);
	OK(df_writer_open(&w, "-", &m, token_cols, 5, NULL, &opts, err));
	for (uint64_t i = 0; i < 100; i += 10) {
		make_tokens(&b, i, 10);
		OK(df_writer_put(w, &b, err));
	}
	OK(df_writer_commit(w, id, err));
	df_writer_close(w);
	dup2(saved, STDOUT_FILENO);
	close(fd);
	OK(df_set_open1(&s, DF_KIND_TOKENS, NULL, at("s.dfs"), err));
	assert_true(df_set_is_stream(s));
	assert_string_equal(df_set_meta(s)->domains[1], "alpaca_zh");
	for (;;) {
		OK(df_set_next(s, 1, &b, &got, err));
		if (got == 0)
			break;
		check_batch(&b, row, got);
		row += got;
	}
	assert_int_equal(row, 100);
	assert_string_equal(df_set_meta(s)->id, id);
	df_set_close(s);
	df_batch_release(&b);
	df_meta_release(&m);
}

/* Rows that come one at a time are the same file as batches of them, whatever they are gathered into. */
static void
test_token_rows(void **state)
{
	static const struct df_token_batch limits[] = { { 1, 0 }, { 50, 3000 }, { 7, 1 }, { 100000, 0 } };
	const struct df_writer_opts opts = { .compress = DF_COMPRESS_DEFAULT };
	const uint64_t n = 1200;
	struct df_batch b = DF_BATCH_INIT;
	struct df_token_writer *w;
	struct df_meta m;

	(void)state;
	write_tokens(at("batches.h5"), 0, n, 100, DF_COMPRESS_DEFAULT, NULL);
	make_tokens(&b, 0, n);
	token_meta(&m);
	for (size_t k = 0; k < sizeof(limits) / sizeof(limits[0]); k++) {
		const uint64_t *offsets = b.col[DF_COL_IDS].offsets;

		OK(df_token_writer_open(&w, at("rows.h5"), &m, token_cols, 5, limits[k], &opts, err));
		for (uint64_t i = 0; i < n; i++) {
			const struct df_token_row row = { .ids = (uint32_t *)b.col[DF_COL_IDS].data + offsets[i],
				.mask = (uint8_t *)b.col[DF_COL_LABEL_MASK].data + offsets[i],
				.n = (size_t)(offsets[i + 1] - offsets[i]),
				.id = ((uint64_t *)b.col[DF_COL_ID].data)[i],
				.source_row = ((uint64_t *)b.col[DF_COL_SOURCE_ROW].data)[i],
				.domain = ((uint16_t *)b.col[DF_COL_DOMAIN].data)[i] };

			OK(df_token_writer_put(w, &row, err));
		}
		OK(df_token_writer_finish(w, err));
		assert_false(df_file_exists(at("rows.h5")));
		OK(df_token_writer_commit(w, err));
		df_token_writer_close(w);
		same_bytes(at("batches.h5"), at("rows.h5"));
		assert_int_equal(unlink(at("rows.h5")), 0);
	}
	df_meta_release(&m);
	df_batch_release(&b);
}

/* What a flush put is there for the next run, which goes on after it; what only waited is not. */
static void
test_token_rows_resumed(void **state)
{
	const struct df_token_batch batch = { .rows = 4 };
	const struct df_writer_opts opts = { .resumable = true };
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_IDS, DF_COL_LABEL_MASK, DF_COL_PROMPT, DF_COL_DRAW };
	const uint32_t ids[] = { 5, 6, 7 };
	const uint8_t mask[] = { 0, 0, 1 };
	struct df_token_row row = { .ids = ids, .mask = mask, .n = 3 };
	struct df_meta m = DF_META_INIT;
	struct df_batch b = DF_BATCH_INIT;
	struct df_token_writer *w;
	struct df_err why = DF_ERR_INIT;
	struct df_set *s;

	(void)state;
	m.kind = DF_KIND_COMPLETIONS;
	OK(df_meta_set_tool(&m, "t", err));
	for (uint64_t end = 6;; end = 12) {
		OK(df_token_writer_open(&w, at("drawn.h5"), &m, cols, 5, batch, &opts, err));
		assert_int_equal(df_token_writer_done_rows(w), end == 6 ? 0 : 6);
		for (uint64_t i = df_token_writer_done_rows(w); i < end; i++) {
			row.id = i;
			row.prompt = i / 3 + 100;
			row.draw = (uint32_t)(i % 3);
			OK(df_token_writer_put(w, &row, err));
		}
		if (end == 12)
			break;
		OK(df_token_writer_flush(w, err));
		OK(df_token_writer_put(w, &row, err));
		df_token_writer_close(w);
	}
	OK(df_token_writer_commit(w, err));
	df_token_writer_close(w);
	OK(df_set_open1(&s, DF_KIND_COMPLETIONS, NULL, at("drawn.h5"), err));
	assert_int_equal(df_set_rows(s), 12);
	OK(df_set_read(s, 10, 1, &b, err));
	assert_int_equal(*(uint64_t *)b.col[DF_COL_PROMPT].data, 103);
	assert_int_equal(*(uint32_t *)b.col[DF_COL_DRAW].data, 1);
	assert_memory_equal(b.col[DF_COL_IDS].data, ids, sizeof(ids));
	df_set_close(s);
	df_batch_release(&b);
	/* A column that no row of tokens has. */
	assert_int_equal(df_token_writer_open(&w, at("no.h5"), &m, (const enum df_col[]){ DF_COL_ID, DF_COL_SCORE }, 2,
			     batch, &opts, &why),
	    DF_EINTERNAL);
	df_meta_release(&m);
}

static void
test_text_names(void **state)
{
	static const struct {
		const char *path, *want;
	} cases[] = { { "x.jsonl", "x.00003-of-00016.jsonl" }, { "a.b/x", "a.b/x.00003-of-00016" },
		{ "x.h5.txt", "x.h5.00003-of-00016.txt" }, { "d/.x", "d/.x.00003-of-00016" } };
	const struct df_shard_arg part = { .i = 2, .n = 16 }, whole = { .i = 0, .n = 1 };
	struct df_err why = DF_ERR_INIT;
	char *name;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		OK(df_shard_text_name(&name, cases[i].path, part, err));
		assert_string_equal(name, cases[i].want);
		free(name);
		OK(df_shard_text_name(&name, cases[i].path, whole, err));
		assert_string_equal(name, cases[i].path);
		free(name);
	}
	assert_int_equal(df_shard_text_name(&name, "-", part, &why), DF_EUSAGE);
}

/* Parameters in the order of the names, not of the table; '?' leaves out what says nothing. */
static void
test_options(void **state)
{
	static const char *const choices[] = { "first", "second", NULL };
	const char *none = NULL, *text = "a \"b\"";
	int64_t zero = 0, seven = 7;
	int first = 0, second = 1;
	bool off = false, on = true;
	double half = 0.5;
	const char *words[] = { "x=1", "y" };
	struct df_strlist list = { words, 2, 2 }, empty = { NULL, 0, 0 };
	const struct df_opt opts[] = { { .type = DF_OPT_GROUP, .help = "Group" },
		{ .name = "no-text", .type = DF_OPT_STR, .value = &none },
		{ .name = "text", .type = DF_OPT_STR, .value = &text },
		{ .name = "zero", .type = DF_OPT_INT, .value = &zero },
		{ .name = "seven-of-them", .type = DF_OPT_INT, .value = &seven },
		{ .name = "one", .type = DF_OPT_CHOICE, .value = &first, .choices = choices },
		{ .name = "two", .type = DF_OPT_CHOICE, .value = &second, .choices = choices },
		{ .name = "off", .type = DF_OPT_FLAG, .value = &off },
		{ .name = "on", .type = DF_OPT_FLAG, .value = &on },
		{ .name = "half", .type = DF_OPT_DOUBLE, .value = &half },
		{ .name = "list", .type = DF_OPT_LIST, .value = &list },
		{ .name = "empty", .type = DF_OPT_LIST, .value = &empty }, { .type = DF_OPT_OPERANDS, .arg = "FILE" },
		DF_OPT_END };
	struct df_meta m = DF_META_INIT;
	struct df_buf b = DF_BUF_INIT;
	struct df_err why = DF_ERR_INIT;

	(void)state;
	OK(df_meta_set_opts(&m, opts, "half text seven-of-them list zero no-text empty off one", err));
	df_meta_params_json(&m, &b);
	assert_string_equal(b.data,
	    "{\"half\": 0.5, \"text\": \"a \\\"b\\\"\", \"seven_of_them\": 7, \"list\": \"x=1,y\", "
	    "\"zero\": 0, \"off\": false, \"one\": \"first\"}");
	df_meta_release(&m);
	m = (struct df_meta)DF_META_INIT;
	df_buf_clear(&b);
	OK(df_meta_set_opts(&m, opts, "zero? off? one? on? two? seven-of-them? half?", err));
	df_meta_params_json(&m, &b);
	assert_string_equal(b.data, "{\"on\": true, \"two\": \"second\", \"seven_of_them\": 7, \"half\": 0.5}");
	assert_int_equal(df_meta_set_opts(&m, opts, "half nothing", &why), DF_EINTERNAL);
	assert_non_null(strstr(why.msg, "'nothing'"));
	df_meta_release(&m);
	df_buf_release(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_bytes_of_batches),
		cmocka_unit_test(test_shards),
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_token_rows),
		cmocka_unit_test(test_token_rows_resumed),
		cmocka_unit_test(test_text_names),
		cmocka_unit_test(test_options),
	};

	return cmocka_run_group_tests_name("shard", tests, scratch_make, scratch_remove);
}

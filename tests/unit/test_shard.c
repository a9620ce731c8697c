/*
 * test_shard.c - artefact files: what is written is what is read, whatever the batches.
 */
#include <fcntl.h>

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
	assert_int_equal(df_set_open(&s, DF_KIND_TOKENS, "pool", paths, 2, &why), DF_ENOINPUT);
	assert_non_null(strstr(why.msg, "set.00002-of-00003.h5 is missing"));
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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_bytes_of_batches),
		cmocka_unit_test(test_shards),
		cmocka_unit_test(test_stream),
	};

	return cmocka_run_group_tests_name("shard", tests, scratch_make, scratch_remove);
}

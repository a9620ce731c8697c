/*
 * test_token_pick.c - rows of tokens by their ids: from one file and from shards in any order, against the rows that
 * the ids make; and what an index may not name.
 */
#include "shard/token_pick.h"
#include "shard_help.h"

#define ROWS 300

/* An index artefact; tokens: the id of the tokens it was made for, or NULL. */
static void
write_index(const char *path, const uint64_t *ids, uint64_t n, const char *tokens)
{
	const enum df_col col = DF_COL_INDEX;
	struct df_writer_opts opts = { .compress = DF_COMPRESS_DEFAULT };
	struct df_meta m = { .kind = DF_KIND_INDEX };
	struct df_batch b = DF_BATCH_INIT;
	struct df_writer *w;

	OK(df_meta_set_tool(&m, "df-test", err));
	if (tokens)
		OK(df_meta_add_input(&m, "tokens", "tokens", tokens, err));
	b.n = n;
	b.col[DF_COL_INDEX] = (struct df_column_data){ .data = (void *)(uintptr_t)ids, .width = 1 };
	OK(df_writer_open(&w, path, &m, &col, 1, NULL, &opts, err));
	OK(df_writer_put(w, &b, err));
	OK(df_writer_commit(w, NULL, err));
	df_writer_close(w);
	df_meta_release(&m);
}

/* Pick by pick and in blocks, the picks must be the rows that the ids in ascending order of rows make. */
static void
check_picks(struct df_set *set, const uint64_t *ids, uint64_t n_ids, uint64_t step)
{
	uint64_t in_order[ROWS], n = 0, n_tokens = 0;
	struct df_batch b = DF_BATCH_INIT, want = DF_BATCH_INIT;
	struct df_token_pick p;

	write_index(at("index.h5"), ids, n_ids, df_set_meta(set)->id);
	OK(df_token_pick_open(&p, set, at("index.h5"), err));
	for (uint64_t row = 0; row < ROWS; row++) {
		OK(df_set_read(set, row, 1, &b, err));
		for (uint64_t i = 0; i < n_ids; i++) {
			if (ids[i] == *(uint64_t *)b.col[DF_COL_ID].data) {
				in_order[n++] = ids[i];
				break;
			}
		}
	}
	assert_int_equal(p.n, n);
	for (uint64_t first = 0; first < n; first += step) {
		const uint64_t here = n - first < step ? n - first : step;
		const uint64_t *off;

		OK(df_token_pick_read(&p, first, here, &b, err));
		assert_int_equal(b.n, here);
		assert_int_equal(b.first, p.row[first]);
		off = b.col[DF_COL_IDS].offsets;
		assert_ptr_equal(off, b.col[DF_COL_LABEL_MASK].offsets);
		for (uint64_t i = 0; i < here; i++) {
			make_tokens(&want, in_order[first + i], 1);
			assert_int_equal(off[i + 1] - off[i], row_length(in_order[first + i]));
			assert_int_equal(p.length[first + i], row_length(in_order[first + i]));
			assert_int_equal(((uint64_t *)b.col[DF_COL_ID].data)[i], in_order[first + i]);
			assert_int_equal(((uint64_t *)b.col[DF_COL_SOURCE_ROW].data)[i], 3 * in_order[first + i]);
			assert_int_equal(((uint16_t *)b.col[DF_COL_DOMAIN].data)[i], in_order[first + i] % 2);
			assert_memory_equal((uint32_t *)b.col[DF_COL_IDS].data + off[i], want.col[DF_COL_IDS].data,
			    4 * p.length[first + i]);
			assert_memory_equal((uint8_t *)b.col[DF_COL_LABEL_MASK].data + off[i],
			    want.col[DF_COL_LABEL_MASK].data, p.length[first + i]);
			n_tokens += p.length[first + i];
		}
	}
	assert_true(n_tokens > 0 || n_ids == 0 || n_ids == 1);
	df_token_pick_close(&p);
	df_batch_release(&b);
	df_batch_release(&want);
}

static void
check_set(const char *const *paths, size_t n_paths)
{
	static const uint64_t scattered[] = { 299, 0, 7, 8, 9, 150, 149, 7, 0, 3, 200, 100, 99, 98 };
	static const uint64_t empty_first[] = { 7, 21, 22, 14 }; /* rows without tokens */
	static const uint64_t one[] = { 123 };
	uint64_t all[ROWS];
	struct df_set *set;

	for (uint64_t i = 0; i < ROWS; i++)
		all[i] = ROWS - 1 - i;
	OK(df_set_open(&set, DF_KIND_TOKENS, "tokens", paths, n_paths, err));
	for (uint64_t step = 1; step <= 20; step += 4) {
		check_picks(set, scattered, sizeof(scattered) / sizeof(*scattered), step);
		check_picks(set, empty_first, 4, step);
		check_picks(set, one, 1, step);
		check_picks(set, all, ROWS, 10 * step);
		check_picks(set, NULL, 0, step);
	}
	df_set_close(set);
}

static void
test_rows(void **state)
{
	const char *shards[3];

	(void)state;
	write_tokens(at("t.h5"), 0, ROWS, 64, DF_COMPRESS_DEFAULT, NULL);
	check_set(&(const char *){ at("t.h5") }, 1);
	for (int i = 0; i < 3; i++) {
		char name[32];

		snprintf(name, sizeof(name), "s.%d.h5", i);
		write_tokens(at(name), i * ROWS / 3, (i + 1) * ROWS / 3, 64, DF_COMPRESS_DEFAULT, NULL);
	}
	shards[0] = at("s.2.h5");
	shards[1] = at("s.0.h5");
	shards[2] = at("s.1.h5");
	check_set(shards, 3);
}

static void
refuses(int code, const char *index, struct df_set *set, const char *part)
{
	struct df_err why = DF_ERR_INIT;
	struct df_batch b = DF_BATCH_INIT;
	struct df_token_pick p;

	assert_int_equal(df_token_pick_open(&p, set, index, &why), code);
	if (!strstr(why.msg, part))
		fail_msg("'%s' does not say '%s'", why.msg, part);
	df_token_pick_close(&p);
	/* The set reads all columns as before. */
	OK(df_set_read(set, 0, 10, &b, err));
	check_batch(&b, 0, 10);
	df_batch_release(&b);
}

static void
test_refusals(void **state)
{
	static const uint64_t beyond[] = { 3, 299, 300 }, last[] = { UINT64_MAX }, one[] = { 5 };
	const char *twice[2];
	struct df_set *set;

	(void)state;
	write_tokens(at("t.h5"), 0, ROWS, 64, DF_COMPRESS_DEFAULT, NULL);
	OK(df_set_open1(&set, DF_KIND_TOKENS, "tokens", at("t.h5"), err));
	write_index(at("i.h5"), beyond, 3, NULL);
	refuses(DF_ELINEAGE, at("i.h5"), set, "names sample 300, which");
	write_index(at("i.h5"), last, 1, NULL);
	refuses(DF_ELINEAGE, at("i.h5"), set, "names sample 18446744073709551615");
	write_index(at("i.h5"), one, 1, "00112233445566778899aabbccddeeff");
	refuses(DF_ELINEAGE, at("i.h5"), set, "was made for tokens 00112233445566778899aabbccddeeff");
	refuses(DF_EFORMAT, at("t.h5"), set, "t.h5");
	refuses(DF_ENOINPUT, at("none.h5"), set, "none.h5");
	df_set_close(set);

	/* A sample that is picked may not be there twice; one that is not picked may. */
	write_tokens(at("u.h5"), 0, 10, 64, DF_COMPRESS_DEFAULT, NULL);
	twice[0] = at("t.h5");
	twice[1] = at("u.h5");
	OK(df_set_open(&set, DF_KIND_TOKENS, "tokens", twice, 2, err));
	write_index(at("i.h5"), one, 1, NULL);
	refuses(DF_EFORMAT, at("i.h5"), set, "sample 5 is there twice");
	df_set_close(set);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests_name("token_pick", tests, scratch_make, scratch_remove);
}

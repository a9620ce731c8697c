/*
 * test_select_write.c - scores of more rows than are written at once: ids, scores and ranks are those of each row.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "model_help.h"
#include "select/select.h"

#define N 150000

static void
test_scores(void **state)
{
	struct df_selection s = DF_SELECTION_INIT;
	struct df_batch b = DF_BATCH_INIT;
	struct df_set *set = NULL;
	uint64_t *order = NULL, *rank = NULL, valid;
	char *path = NULL;

	(void)state;
	s.n_rows = N;
	mh_ok(df_alloc(&s.score, N, sizeof(*s.score), "scores", err));
	mh_ok(df_alloc(&s.cluster, N, sizeof(*s.cluster), "clusters", err));
	for (uint32_t i = 0; i < N; i++) {
		s.score[i] = i % 1000 == 999 ? NAN : (float)(i * 7919 % 5003); /* many are equal, some invalid */
		s.cluster[i] = i / 3;
	}
	mh_ok(df_meta_set_tool(&s.meta, "test", err));
	mh_ok(df_asprintf(&path, err, "%s/scores.h5", mh_scratch()));
	mh_ok(df_selection_write(&s, NULL, path, err));

	mh_ok(df_alloc(&order, N, sizeof(*order), "ranks", err));
	mh_ok(df_alloc(&rank, N, sizeof(*rank), "ranks", err));
	mh_ok(df_rank(s.score, N, order, &valid, err));
	assert_int_equal(valid, N - N / 1000);
	for (uint64_t i = 0; i < N; i++)
		rank[order[i]] = i;
	mh_ok(df_set_open1(&set, DF_KIND_SCORES, "scores", path, err));
	assert_int_equal(df_set_rows(set), N);
	mh_ok(df_set_read(set, 0, N, &b, err));
	for (uint64_t i = 0; i < N; i++) {
		const float score = ((const float *)b.col[DF_COL_SCORE].data)[i];

		assert_int_equal(((const uint64_t *)b.col[DF_COL_ID].data)[i], i);
		assert_int_equal(((const uint64_t *)b.col[DF_COL_RANK].data)[i], rank[i]);
		assert_int_equal(((const uint32_t *)b.col[DF_COL_CLUSTER].data)[i], i / 3);
		assert_true(score == s.score[i] || (isnan(score) && isnan(s.score[i])));
	}
	df_batch_release(&b);
	df_set_close(set);
	df_selection_release(&s);
	free(path);
	free(order);
	free(rank);
}

/* More rows than 32 bits can number: refused before anything is touched. */
static void
test_too_many(void **state)
{
	uint64_t valid;

	(void)state;
	mh_refused(df_rank32(NULL, UINT64_C(1) << 32, NULL, NULL, &valid, err), DF_ERANGE, "4294967296 rows");
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_scores), cmocka_unit_test(test_too_many) };

	return cmocka_run_group_tests(tests, NULL, mh_cleanup);
}

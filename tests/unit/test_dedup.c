/*
 * test_dedup.c - semdedup and diverse, on files, against worked examples and plain loops.
 */
#include "shard_help.h"

#include <math.h>

#include "base/opt.h"
#include "base/rng.h"
#include "near/near.h"
#include "select/select.h"

extern const struct df_selector df_select_semdedup, df_select_diverse;

/* ---- files --------------------------------------------------------------------------------------- */

/* Embeddings with ids 0..n-1, in two domains. */
static void
put_embeddings(const char *name, const float *x, uint64_t n, size_t d)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_EMBEDDING };
	const size_t widths[DF_COL_COUNT] = { [DF_COL_EMBEDDING] = d };
	struct df_meta m = { .kind = DF_KIND_EMBEDDINGS };
	struct df_writer *w = NULL;
	struct df_batch b = { .n = n };
	uint16_t *domain = NULL;
	uint64_t *id = NULL;
	float *copy = NULL;

	OK(df_alloc(&id, n, sizeof(*id), "ids", err));
	OK(df_alloc(&domain, n, sizeof(*domain), "domains", err));
	OK(df_alloc(&copy, n * d, sizeof(*copy), "embeddings", err));
	memcpy(copy, x, n * d * sizeof(*x));
	for (uint64_t i = 0; i < n; i++) {
		id[i] = i;
		domain[i] = i % 2;
	}
	b.col[DF_COL_ID] = (struct df_column_data){ .data = id, .width = 1 };
	b.col[DF_COL_DOMAIN] = (struct df_column_data){ .data = domain, .width = 1 };
	b.col[DF_COL_EMBEDDING] = (struct df_column_data){ .data = copy, .width = d };
	OK(df_meta_set_tool(&m, "test", err));
	OK(df_meta_add_domain(&m, "a", NULL, err));
	OK(df_meta_add_domain(&m, "b", NULL, err));
	OK(df_writer_open(&w, at(name), &m, cols, 3, widths, NULL, err));
	if (n)
		OK(df_writer_put(w, &b, err));
	OK(df_writer_commit(w, NULL, err));
	df_writer_close(w);
	df_meta_release(&m);
	free(id);
	free(domain);
	free(copy);
}

static void
put_text(const char *name, const char *text)
{
	FILE *f = fopen(at(name), "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

/* ---- requests -------------------------------------------------------------------------------------- */

struct result {
	int rc;
	struct df_selection out;
	struct df_err err;
};

struct run {
	const char *device, *amount, *exclude;
	int threads;
	enum df_shortage shortage;
	bool allow_invalid;
};

/* Run a method on the embeddings `train`, its own options as words. */
static struct result
choose(const struct df_selector *m, const struct run *how, const char *train, const char *const *words)
{
	struct result r = { .out = DF_SELECTION_INIT, .err = DF_ERR_INIT };
	struct df_select in = { .n_threads = how->threads,
		.shortage = how->shortage,
		.seed = 42,
		.exclude = how->exclude,
		.allow_invalid = how->allow_invalid };
	const struct df_opt end = DF_OPT_END;
	struct df_opt_table table = { 0 };
	struct df_opt_result parsed = { 0 };
	char *argv[16] = { (char *)(uintptr_t) "test" };
	void *options = NULL;
	int argc = 1;

	while (words[argc - 1]) {
		argv[argc] = (char *)(uintptr_t)words[argc - 1];
		argc++;
	}
	OK(df_selector_defaults(m, &options, err));
	OK(df_selector_rows(m, &in, options, &table, err));
	OK(df_opt_table_add(&table, &end, 1, err));
	OK(df_opt_parse(table.v, argc, argv, &parsed, err));
	OK(df_pool_new(&in.pool, how->threads, err));
	OK(df_backend_open(&in.be, how->device, in.pool, err));
	OK(df_grow(&in.paths[0].v, &in.paths[0].cap, 1, sizeof(*in.paths[0].v), "paths", err));
	in.paths[0].v[in.paths[0].n++] = train;
	if (how->amount)
		OK(df_amount_parse(how->amount, &in.amount, err));
	OK(df_meta_set_tool(&r.out.meta, "test", err));
	r.rc = df_select_run(m, &in, options, &r.out, &r.err);
	if (r.rc == DF_OK && r.out.also)
		r.rc = df_writer_commit(r.out.also, NULL, &r.err);
	df_select_release(&in);
	df_backend_close(in.be);
	df_pool_free(in.pool);
	df_opt_result_release(&parsed);
	free(table.v);
	free(options);
	return r;
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define CPU(...)   (&(const struct run){ .device = "cpu", .threads = 2, __VA_ARGS__ })

#define END              UINT64_MAX
#define CHOSEN(got, ...) chosen(got, (const uint64_t[]){ __VA_ARGS__ }, __LINE__)

/* The index is these ids, up to END; the result is released. */
static void
chosen(struct result r, const uint64_t *want, int line)
{
	uint64_t n = 0;

	if (r.rc != DF_OK)
		fail_msg("line %d: code %d: %s", line, r.rc, r.err.msg);
	for (; want[n] != END; n++)
		if (n >= r.out.n_index || r.out.index[n] != want[n])
			fail_msg("line %d: another id at %d", line, (int)n);
	if (n != r.out.n_index)
		fail_msg("line %d: %d ids, not %d", line, (int)r.out.n_index, (int)n);
	df_selection_release(&r.out);
}

#define REFUSED(got, code, says)                                                              \
	do {                                                                                  \
		struct result r_ = (got);                                                     \
		if (r_.rc != (code) || !strstr(r_.err.msg, says))                             \
			fail_msg("code %d: '%s' does not say '%s'", r_.rc, r_.err.msg, says); \
		df_selection_release(&r_.out);                                                \
	} while (0)

/* ---- examples ----------------------------------------------------------------------------------------- */

static void
make_angles(void)
{
	static const double degrees[] = { 0, 8, 16, 90 };
	float x[8];

	for (int i = 0; i < 4; i++) {
		/* Norms do not matter. */
		x[2 * i] = (float)((i + 1) * cos(degrees[i] * 3.14159265358979323846 / 180));
		x[2 * i + 1] = (float)((i + 1) * sin(degrees[i] * 3.14159265358979323846 / 180));
	}
	put_embeddings("angles.h5", x, 4, 2);
}

static void
test_semdedup_example(void **state)
{
	static const double distance[] = { .098248, .046866, .014035, .567747 };
	const struct df_selector *m = &df_select_semdedup;
	char path[4096], option[4128];
	struct df_set *set = NULL;
	struct df_batch b = DF_BATCH_INIT;
	struct result r;

	(void)state;
	make_angles();
	snprintf(path, sizeof(path), "%s", at("angles.h5"));
	CHOSEN(choose(m, CPU(0), path, WORDS("--eps=.02", "--rule=any")), 3, 0, END);
	CHOSEN(choose(m, CPU(0), path, WORDS("--eps=.02")), 3, 0, 2, END);
	CHOSEN(choose(m, CPU(0), path, WORDS("--eps=.02", "--keep=easy", "--rule=any")), 2, 3, END);
	CHOSEN(choose(m, CPU(0), path, WORDS("--eps=.02", "--keep=easy", "--rule=kept")), 2, 0, 3, END);
	CHOSEN(choose(m, CPU(0), path, WORDS("--eps=.02", "--keep=first")), 0, 2, 3, END);
	CHOSEN(choose(m, CPU(0), path, WORDS("--eps=.04", "--keep=first")), 0, 3, END);
	CHOSEN(choose(m, CPU(0), path, WORDS("--eps=0", "--keep=first")), 0, 1, 2, 3, END);
	CHOSEN(choose(m, CPU(0), path, WORDS("--eps=2", "--keep=first")), 0, END);
	put_text("preference", "1\n4\n3\n2\n");
	snprintf(option, sizeof(option), "--scores=%s", at("preference"));
	CHOSEN(choose(m, CPU(0), path, WORDS("--eps=.02", "--keep=score", option)), 1, 3, END);
	/* Seed 42's permutation of 4 is 2 1 0 3 (algorithms.md 2.6: of 6, 2 4 1 0 5 3). */
	CHOSEN(choose(m, CPU(0), path, WORDS("--eps=.02", "--keep=random")), 2, 0, 3, END);

	snprintf(option, sizeof(option), "--pairs=%s", at("pairs.h5"));
	r = choose(m, CPU(0), path, WORDS("--eps=.02", "--rule=any", option));
	assert_int_equal(r.rc, DF_OK);
	for (int i = 0; i < 4; i++)
		assert_true(fabs((double)r.out.score[i] - distance[i]) < 1e-6);
	df_selection_release(&r.out);
	OK(df_set_open1(&set, DF_KIND_NEIGHBOURS, "pairs", at("pairs.h5"), err));
	assert_string_equal(df_meta_param(df_set_meta(set), "metric"), "\"cosine\"");
	assert_string_equal(df_meta_param(df_set_meta(set), "rule"), "\"any\"");
	assert_non_null(df_meta_input(df_set_meta(set), "train"));
	OK(df_set_read(set, 0, 2, &b, err));
	assert_int_equal(((uint64_t *)b.col[DF_COL_ID].data)[0], 1);
	assert_int_equal(((uint64_t *)b.col[DF_COL_NEIGHBOUR].data)[0], 0);
	assert_int_equal(((uint64_t *)b.col[DF_COL_ID].data)[1], 2);
	assert_int_equal(((uint64_t *)b.col[DF_COL_NEIGHBOUR].data)[1], 1);
	assert_true(fabs((double)((float *)b.col[DF_COL_DISTANCE].data)[0] - .990268) < 1e-6);
	df_batch_release(&b);
	df_set_close(set);
}

static void
test_diverse_example(void **state)
{
	static const float x[] = { 1, 0, .95f, .312250f, 0, 1, .6f, .8f };
	const struct df_selector *m = &df_select_diverse;
	char path[4096], scores[4128], worse[4128];

	(void)state;
	put_embeddings("four.h5", x, 4, 2);
	snprintf(path, sizeof(path), "%s", at("four.h5"));
	put_text("scores", ".9\n.8\n.7\n.6\n");
	snprintf(scores, sizeof(scores), "--scores=%s", at("scores"));
	CHOSEN(choose(m, CPU(0), path, WORDS(scores)), 0, 2, 3, END);
	CHOSEN(choose(m, CPU(.amount = "2"), path, WORDS(scores)), 0, 2, END);
	CHOSEN(choose(m, CPU(.amount = "4"), path, WORDS(scores)), 0, 2, 3, END); /* truncated by default */
	REFUSED(choose(m, CPU(.amount = "4", .shortage = DF_SHORT_ERROR), path, WORDS(scores)), DF_EUSAGE,
	    "only 3 are valid");
	CHOSEN(choose(m, CPU(.amount = "4", .shortage = DF_SHORT_CYCLE), path, WORDS(scores)), 0, 2, 3, 0, END);
	CHOSEN(choose(m, CPU(0), path, WORDS(scores, "--threshold=1")), 0, 1, 2, 3, END);
	CHOSEN(choose(m, CPU(0), path, WORDS(scores, "--threshold=.7")), 0, 2, END); /* .8 of 3 with 2 */
	CHOSEN(choose(m, CPU(0), path, WORDS(scores, "--threshold=-1")), 0, END);
	/* A row without a finite score is neither taken nor a reason to leave others out. */
	put_text("worse", "nan\n.8\n.7\n.6\n");
	snprintf(worse, sizeof(worse), "--scores=%s", at("worse"));
	CHOSEN(choose(m, CPU(0), path, WORDS(worse)), 1, 2, 3, END);
	CHOSEN(choose(m, CPU(.allow_invalid = true), path, WORDS(worse)), 1, 2, 3, 0, END);
	CHOSEN(choose(m, CPU(.amount = "0"), path, WORDS(scores)), END);
}

static void
test_refused(void **state)
{
	const struct df_selector *m = &df_select_semdedup;
	char path[4096], scores[4128];

	(void)state;
	make_angles();
	snprintf(path, sizeof(path), "%s", at("angles.h5"));
	put_text("three", "1\n2\n3\n");
	snprintf(scores, sizeof(scores), "--scores=%s", at("three"));
	REFUSED(choose(m, CPU(0), path, WORDS("--keep=hard")), DF_EUSAGE, "--eps");
	REFUSED(choose(m, CPU(0), path, WORDS("--eps=.1", "--keep=score")), DF_EUSAGE, "need each other");
	REFUSED(choose(m, CPU(0), path, WORDS("--eps=.1", scores)), DF_EUSAGE, "need each other");
	REFUSED(choose(m, CPU(0), path, WORDS("--eps=.1", "--keep=score", scores)), DF_EFORMAT, "three");
	REFUSED(choose(&df_select_diverse, CPU(0), path, WORDS("--threshold=.5")), DF_EUSAGE, "--scores");
	REFUSED(choose(m, CPU(.amount = "4"), path, WORDS("--eps=.02")), DF_EUSAGE, "only 3 are valid");
	CHOSEN(choose(m, CPU(.amount = "4", .shortage = DF_SHORT_TRUNCATE), path, WORDS("--eps=.02")), 3, 0, 2, END);
}

/* Rows that are not finite, zero, or excluded. */
static void
test_hostile(void **state)
{
	const float x[] = { 1, 0, NAN, 0, 1, 0, 0, 0, 0, 1, INFINITY, 1, 0, 0, 0, 2 };
	const struct df_selector *m = &df_select_semdedup;
	char path[4096], exclude[4096];

	(void)state;
	put_embeddings("hostile.h5", x, 8, 2);
	snprintf(path, sizeof(path), "%s", at("hostile.h5"));
	put_text("exclude", "0\n4\n");
	snprintf(exclude, sizeof(exclude), "%s", at("exclude"));
	CHOSEN(choose(m, CPU(0), path, WORDS("--eps=.1", "--keep=first")), 0, 3, 4, 6, END);
	CHOSEN(choose(m, CPU(.allow_invalid = true), path, WORDS("--eps=.1", "--keep=first")), 0, 3, 4, 6, 1, 5, END);
	/* Nothing falls to a row that is not there. */
	CHOSEN(choose(m, CPU(.exclude = exclude), path, WORDS("--eps=.1", "--keep=first")), 2, 3, 6, 7, END);
	CHOSEN(choose(m, CPU(.exclude = exclude, .allow_invalid = true), path, WORDS("--eps=.1", "--keep=first")), 2, 3,
	    6, 7, 1, 5, END);
	/* Zero rows have the cosine 0 with all. */
	CHOSEN(choose(m, CPU(0), path, WORDS("--eps=1.5", "--keep=first")), 0, END);
	CHOSEN(choose(m, CPU(0), path, WORDS("--eps=1", "--keep=first")), 0, 3, 4, 6, END);

	put_embeddings("none.h5", x, 0, 2);
	CHOSEN(choose(m, CPU(0), at("none.h5"), WORDS("--eps=.1")), END);
	put_embeddings("nan.h5", x + 2, 1, 2);
	CHOSEN(choose(m, CPU(0), at("nan.h5"), WORDS("--eps=.1")), END);
	REFUSED(choose(m, CPU(.amount = "1"), at("nan.h5"), WORDS("--eps=.1")), DF_EUSAGE, "only 0 are valid");
	CHOSEN(choose(m, CPU(.allow_invalid = true), at("nan.h5"), WORDS("--eps=.1")), 0, END);
}

/* ---- properties ------------------------------------------------------------------------------------- */

enum { N = 900, D = 12 };
static float many[N * D]; /* with norm 1 */

static void
make_many(void)
{
	for (uint64_t i = 0; i < N; i++) {
		double square = 0, v[D];

		for (size_t c = 0; c < D; c++) {
			v[c] = df_rng_normal(5, DF_RNG_DEMO, 0, i % 37 * D + c) +
			    0.1 * df_rng_normal(5, DF_RNG_DEMO, 1, i * D + c);
			square += v[c] * v[c];
		}
		for (size_t c = 0; c < D; c++)
			many[i * D + c] = (float)(v[c] / sqrt(square));
	}
	put_embeddings("many.h5", many, N, D);
}

static double
cosine(uint64_t i, uint64_t j)
{
	/* The method scales once more. */
	float x[2][D];

	for (int r = 0; r < 2; r++) {
		const float *from = many + (r ? j : i) * D;
		const double norm = sqrt(df_exact(DF_METRIC_DOT, from, from, D));

		for (size_t c = 0; c < D; c++)
			x[r][c] = (float)((double)from[c] / norm);
	}
	return df_exact(DF_METRIC_DOT, x[0], x[1], D);
}

/* Who stays by a plain loop over the ranks; without `kept_only` a row falls to any earlier one. */
static void
plain(const uint64_t *order, const uint32_t *cluster, double above, bool kept_only, bool stays[N])
{
	for (uint64_t r = 0; r < N; r++) {
		bool ok = true;

		for (uint64_t e = 0; e < r && ok; e++)
			if (!kept_only || stays[order[e]])
				ok = cluster[order[e]] != cluster[order[r]] || cosine(order[e], order[r]) <= above;
		stays[order[r]] = ok;
	}
}

static void
check_plain(const char *eps, const char *rule, const char *keep, const char *clusters)
{
	char path[4096], pairs[4128];
	struct df_set *set = NULL;
	struct df_batch b = DF_BATCH_INIT;
	uint64_t order[N], valid, at_index = 0;
	uint32_t all[N] = { 0 }, *cluster = all;
	bool stays[N] = { false };
	struct result r;

	snprintf(path, sizeof(path), "%s", at("many.h5"));
	snprintf(pairs, sizeof(pairs), "--pairs=%s", at("pairs.h5"));
	r = choose(&df_select_semdedup, CPU(0), path, WORDS(eps, rule, keep, clusters, pairs));
	assert_int_equal(r.rc, DF_OK);
	if (r.out.score)
		OK(df_rank(r.out.score, N, order, &valid, err));
	for (uint64_t i = 0; !r.out.score && i < N; i++)
		order[i] = i;
	if (r.out.cluster)
		cluster = r.out.cluster;
	plain(order, cluster, 1 - strtod(eps + 6, NULL), strcmp(rule, "--rule=kept") == 0, stays);
	for (uint64_t i = 0; i < N; i++)
		if (stays[order[i]])
			assert_int_equal(r.out.index[at_index++], order[i]);
	assert_int_equal(at_index, r.out.n_index);
	assert_in_range(at_index, 10, N - 10);

	/* Each row that was left out has a cause, and the cause a reason. */
	OK(df_set_open1(&set, DF_KIND_NEIGHBOURS, "pairs", at("pairs.h5"), err));
	assert_int_equal(df_set_rows(set), N - at_index);
	OK(df_set_read(set, 0, N - at_index, &b, err));
	for (uint64_t k = 0; k < b.n; k++) {
		const uint64_t i = ((uint64_t *)b.col[DF_COL_ID].data)[k],
			       j = ((uint64_t *)b.col[DF_COL_NEIGHBOUR].data)[k];

		assert_false(stays[i]);
		assert_true(((float *)b.col[DF_COL_DISTANCE].data)[k] == (float)cosine(i, j));
		assert_true(cosine(i, j) > 1 - strtod(eps + 6, NULL));
		assert_int_equal(cluster[i], cluster[j]);
		if (strcmp(rule, "--rule=kept") == 0)
			assert_true(stays[j]);
	}
	df_batch_release(&b);
	df_set_close(set);
	df_selection_release(&r.out);
}

static void
test_properties(void **state)
{
	static const char *const all_eps[] = { "--eps=0.01", "--eps=0.05", "--eps=0.3" };
	static const char *const keeps[] = { "--keep=hard", "--keep=easy", "--keep=first" };

	(void)state;
	make_many();
	for (int i = 0; i < 3; i++) {
		check_plain(all_eps[i], "--rule=kept", keeps[i], "--clusters=1");
		check_plain(all_eps[i], "--rule=any", keeps[i], "--clusters=1");
		check_plain(all_eps[i], "--rule=kept", keeps[i], "--clusters=9");
		check_plain(all_eps[i], "--rule=any", keeps[i], "--clusters=9");
	}
}

/* What `any` keeps, `kept` keeps as well; the first n are the first n of all; threads and devices change nothing. */
static void
test_same(void **state)
{
	static const char *const devices[] = { "cpu", "poison", "reference" };
	const char *const words[] = { "--eps=0.05", "--clusters=3", "--max-iter=7", NULL },
			  *const one[] = { "--eps=0.05", NULL };
	const struct df_selector *m = &df_select_semdedup;
	bool kept[N] = { false };
	struct result want, r;
	char path[4096];

	(void)state;
	make_many();
	snprintf(path, sizeof(path), "%s", at("many.h5"));
	want = choose(m, CPU(0), path, words);
	for (int d = 0; d < 3; d++) {
		for (int threads = 1; threads <= 3; threads++) {
			r = choose(m, &(const struct run){ .device = devices[d], .threads = threads }, path, words);
			assert_int_equal(r.out.n_index, want.out.n_index);
			assert_memory_equal(r.out.index, want.out.index, want.out.n_index * sizeof(uint64_t));
			assert_memory_equal(r.out.cluster, want.out.cluster, N * sizeof(uint32_t));
			assert_memory_equal(r.out.score, want.out.score, N * sizeof(float));
			df_selection_release(&r.out);
		}
	}
	df_selection_release(&want.out);
	want = choose(m, CPU(0), path, one);
	r = choose(m, CPU(.amount = "33"), path, one);
	assert_int_equal(r.out.n_index, 33);
	assert_memory_equal(r.out.index, want.out.index, 33 * sizeof(uint64_t));
	df_selection_release(&r.out);
	for (uint64_t i = 0; i < want.out.n_index; i++)
		kept[want.out.index[i]] = true;
	df_selection_release(&want.out);
	r = choose(m, CPU(0), path, WORDS("--eps=0.05", "--rule=any"));
	for (uint64_t i = 0; i < r.out.n_index; i++)
		assert_true(kept[r.out.index[i]]);
	df_selection_release(&r.out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_semdedup_example),
		cmocka_unit_test(test_diverse_example), cmocka_unit_test(test_refused), cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_properties), cmocka_unit_test(test_same) };

	return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}

/*
 * test_losses.c - loss, delta-loss, ppl and ifd on files: worked examples, DataFlex's own values
 * (tests/golden/dataflex), frequencies of draws, and losses that are none.
 */
#include "shard_help.h"

#include <float.h>
#include <math.h>

#include "base/json.h"
#include "base/rng.h"
#include "select/delta_loss.h"
#include "select/losses.h"
#include "select/select.h"

#define EQUAL_IDS(got, ...)                                                  \
	do {                                                                 \
		const uint64_t want_[] = { __VA_ARGS__ };                    \
		for (size_t i_ = 0; i_ < sizeof want_ / sizeof *want_; i_++) \
			assert_int_equal((got)[i_], want_[i_]);              \
	} while (0)

static const float example[] = { .5f, 1, 1.5f, 2, 2.5f, 3, 3.5f, 4, 4.5f, NAN };

/* ---- files -------------------------------------------------------------------------------- */

/* Row i has the loss v[i] and, with `counts`, one target. */
static const char *
put(const char *name, const float *v, size_t n, const char *tokens, const char *rows_of, bool counts)
{
	const enum df_col cols[4] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_LOSS, DF_COL_N_TOKENS };
	static const size_t widths[DF_COL_COUNT];
	struct df_meta m = { .kind = DF_KIND_LOSSES };
	struct df_batch b = { .n = n };
	struct df_writer *w = NULL;
	uint16_t *domain = calloc(n + 1, sizeof(*domain));
	uint64_t *id = calloc(n + 1, sizeof(*id));
	uint32_t *count = calloc(n + 1, sizeof(*count));

	for (size_t i = 0; i < n; i++) {
		id[i] = i;
		count[i] = 1;
	}
	b.col[DF_COL_ID].data = id;
	b.col[DF_COL_DOMAIN].data = domain;
	b.col[DF_COL_LOSS].data = (float *)(uintptr_t)v;
	b.col[DF_COL_N_TOKENS].data = count;
	OK(df_meta_set_tool(&m, "test", err));
	OK(df_meta_add_domain(&m, "d", NULL, err));
	if (tokens)
		OK(df_meta_add_input(&m, "tokens", "tokens", tokens, err));
	if (rows_of)
		OK(df_meta_add_input(&m, DF_ROLE_ROWS_OF, "tokens", rows_of, err));
	OK(df_writer_open(&w, at(name), &m, cols, counts ? 4 : 3, widths, NULL, err));
	OK(df_writer_put(w, &b, err));
	OK(df_writer_commit(w, NULL, err));
	df_writer_close(w);
	df_meta_release(&m);
	free(domain);
	free(id);
	free(count);
	return at(name);
}

/* ---- runs --------------------------------------------------------------------------------- */

static struct df_selection out;
static struct df_err error;

/* Run a method with options as words; the code.  The result is in `out`, an error in `error`. */
static int
try_choose(struct df_select in, const char *method, const char *amount, const char *options)
{
	const struct df_selector *m = NULL;
	struct df_opt_table table = { 0 };
	const struct df_opt train = { .name = "train", .type = DF_OPT_LIST, .value = &in.paths[0] }, end = DF_OPT_END;
	struct df_opt_result args = { 0 };
	char *words = strdup(options), *rest = words, *argv[32] = { (char *)(uintptr_t) "test" }, *word;
	void *own = NULL;
	int argc = 1, rc;

	df_selection_release(&out);
	error = (struct df_err)DF_ERR_INIT;
	in.n_threads = in.n_threads ? in.n_threads : 1;
	if (amount)
		OK(df_amount_parse(amount, &in.amount, err));
	OK(df_selector_find(&m, method, err));
	OK(df_selector_defaults(m, &own, err));
	OK(df_opt_table_add(&table, &train, 1, err));
	OK(df_selector_rows(m, &in, own, &table, err));
	OK(df_opt_table_add(&table, &end, 1, err));
	while ((word = strsep(&rest, " ")))
		if (*word)
			argv[argc++] = word;
	rc = df_opt_parse(table.v, argc, argv, &args, &error);
	if (rc == DF_OK)
		rc = df_select_run(m, &in, own, &out, &error);
	df_opt_result_release(&args);
	df_select_release(&in);
	free(table.v);
	free(own);
	free(words);
	return rc;
}

static void
choose_in(struct df_select in, const char *method, const char *amount, const char *options)
{
	if (try_choose(in, method, amount, options) != DF_OK)
		fail_msg("%s %s: %s", method, options, error.msg);
	OK(df_selection_probabilities(&out, err));
}

static void
choose(const char *method, const char *amount, const char *options)
{
	choose_in((struct df_select){ .seed = 42 }, method, amount, options);
}

static void
refused(struct df_select in, int code, const char *says, const char *method, const char *amount, const char *options)
{
	const int rc = try_choose(in, method, amount, options);

	if (rc != code || !strstr(error.msg, says))
		fail_msg("%s %s: code %d, not %d: '%s' does not say '%s'", method, options, rc, code, error.msg, says);
}

/* The text of options, with a file's path for each %s. */
static const char *
with(const char *format, const char *a, const char *b)
{
	static char text[4][4096];
	static int next;
	char *t = text[next++ % 4];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(t, sizeof(text[0]), format, a, b);
#pragma GCC diagnostic pop
	return t;
}

static struct df_json *
golden(const char *name)
{
	const char *root = getenv("DF_SRCDIR");
	struct df_json *j = NULL;
	char path[1024];

	snprintf(path, sizeof(path), "%s/tests/golden/dataflex/%s.json", root ? root : ".", name);
	OK(df_json_load(&j, path, 1 << 20, err));
	return j;
}

static double
number(const struct df_json_value *v)
{
	double x = 0;

	if (df_json_type(v) == DF_JSON_NULL)
		return (double)NAN;
	assert_true(df_json_number(v, &x));
	return x;
}

/* An array of numbers, null is NaN; free() it. */
static float *
numbers(const struct df_json_value *v, size_t *n)
{
	float *x = calloc(df_json_size(v) + 1, sizeof(*x));

	*n = df_json_size(v);
	for (size_t i = 0; i < *n; i++)
		x[i] = (float)number(df_json_at(v, i));
	return x;
}

/* ---- quantiles ------------------------------------------------------------------------------ */

static int
ascending(const void *x, const void *y)
{
	const float a = *(const float *)x, b = *(const float *)y;

	return (a > b) - (a < b);
}

/* Against a full sort: all exponents and signs, many equal, not all finite. */
static void
test_order_statistics(void **state)
{
	enum { N = 4000 };
	static const float special[] = { 0.0f, -0.0f, 1e-45f, -1e-45f, FLT_MAX, -FLT_MAX, NAN, INFINITY, -INFINITY, 1 };
	static float v[N], sorted[N];
	uint64_t m = 0;

	(void)state;
	for (uint64_t i = 0; i < N; i++) {
		const double x = df_rng_normal(3, DF_RNG_DEMO, 0, i);

		v[i] = i % 4 == 0 ? special[i / 4 % 10] : (float)(x * exp2((double)(i % 200) - 100));
		if (isfinite(v[i]))
			sorted[m++] = v[i];
	}
	qsort(sorted, m, sizeof(*sorted), ascending);
	assert_int_equal(df_count_finite(v, N), m);
	for (uint64_t first = 0; first + 8 <= m; first += 8) {
		uint64_t k[DF_ORDER_MAX];
		float got[DF_ORDER_MAX];

		for (uint64_t i = 0; i < 8; i++)
			k[i] = (first * 5 + i * 7) % m;
		OK(df_order_statistics(v, N, k, 8, got, err));
		for (size_t i = 0; i < 8; i++)
			assert_true(got[i] == sorted[k[i]]);
	}
}

static void
test_quantiles(void **state)
{
	const double q[] = { .33, .66 };
	const float one[] = { NAN, 7, INFINITY }, none[] = { NAN };
	struct df_err err_ = DF_ERR_INIT;
	double got[2];

	(void)state;
	OK(df_quantiles(example, 10, q, 2, false, got, err));
	assert_true(fabs(got[0] - 1.82) < 1e-12 && fabs(got[1] - 3.14) < 1e-12);
	OK(df_quantiles(one, 3, q, 2, false, got, err));
	assert_true(got[0] == 7 && got[1] == 7);
	assert_int_equal(df_quantiles(none, 1, q, 2, false, got, &err_), DF_EFORMAT);
	assert_int_equal(df_quantiles(none, 0, q, 2, false, got, &err_), DF_EFORMAT);
}

/* Many numbers: normal ones, sorted ones, equal ones, few finite. */
static void
test_many_quantiles(void **state)
{
	enum { N = 30001 };
	static float v[N], sorted[N];

	(void)state;
	for (int kind = 0; kind < 5; kind++) {
		uint64_t m = 0;

		for (uint64_t i = 0; i < N; i++) {
			const float x = (float)df_rng_normal(5, DF_RNG_DEMO, (uint32_t)kind, i);

			v[i] = kind == 1 ? (float)i
			    : kind == 2  ? (i % 18 == 0 ? 1 : x)
			    : kind == 3  ? 2
			    : kind == 4  ? (i % 7 == 0          ? x
						   : i % 7 == 1 ? -INFINITY
						   : i % 7 == 2 ? INFINITY
								: NAN)
					 : x;
			if (isfinite(v[i]))
				sorted[m++] = v[i];
		}
		qsort(sorted, m, sizeof(*sorted), ascending);
		for (int k = 0; k <= 20; k += 2) {
			const double q[2] = { k / 20., (k + .7) / 20.7 };
			double got[2];

			OK(df_quantiles(v, N, q, 2, false, got, err));
			for (int i = 0; i < 2; i++) {
				const double h = q[i] * (double)(m - 1);
				const double a = (double)sorted[(uint64_t)h];
				const double b = (double)sorted[(uint64_t)h + 1 < m ? (uint64_t)h + 1 : m - 1];

				assert_true(got[i] == a + (h - floor(h)) * (b - a));
			}
		}
	}
}

/* torch.quantile, to the bit (tests/golden/quantiles.py). */
static void
test_torch_quantiles(void **state)
{
	const char *root = getenv("DF_SRCDIR");
	char path[1024], *line = NULL, *rest;
	size_t size = 0, n_cases = 0;
	FILE *f;

	(void)state;
	snprintf(path, sizeof(path), "%s/tests/golden/quantiles.txt", root ? root : ".");
	assert_non_null(f = fopen(path, "r"));
	while (getline(&line, &size, f) > 0) {
		const double q = strtod(line, &rest), want = strtod(rest, &rest);
		double got = 0;
		float v[64];
		size_t n = 0;

		for (char *from = rest; n < 64; from = rest) {
			v[n] = strtof(from, &rest);
			if (rest == from)
				break;
			n++;
		}
		OK(df_quantiles(v, n, &q, 1, true, &got, err));
		if (got != want)
			fail_msg("quantile %g of %zu: %a, not %a", q, n, got, want);
		n_cases++;
	}
	assert_int_equal(n_cases, 49);
	free(line);
	fclose(f);
}

static void
test_band_text(void **state)
{
	static const char *const wrong[] = { "", "0.5", "0.5,", ",1", "0.6,0.5", "-0.1,1", "0,1.1", "nan,1", "0,1,1" };
	struct df_err err_ = DF_ERR_INIT;
	double b[2];

	(void)state;
	OK(df_parse_band("band", "0.25,1", b, err));
	assert_true(b[0] == .25 && b[1] == 1);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		if (df_parse_band("band", wrong[i], b, &err_) != DF_EUSAGE)
			fail_msg("'%s' is accepted", wrong[i]);
}

/* ---- loss --------------------------------------------------------------------------------- */

static void
test_loss_example(void **state)
{
	const char *file = put("loss.h5", example, 10, NULL, NULL, false);

	(void)state;
	choose("loss", "4", with("--focus medium --train %s", file, ""));
	EQUAL_IDS(out.index, 8, 4, 2, 5);
	assert_int_equal(out.n_index, 4);
	assert_int_equal(out.n_invalid, 1);
	for (size_t i = 0; i < 10; i++) {
		const double want = i == 9 ? 0 : i >= 3 && i <= 5 ? 5. / 21 : 1. / 21;

		assert_true(fabs(out.probability[i] - want) < 1e-12);
		assert_true(out.score[i] == example[i] || i == 9);
	}
	choose("loss", "4", with("--focus medium --temperature 2 --train %s", file, ""));
	assert_true(fabs(out.probability[0] - .078689) < 1e-6 && fabs(out.probability[4] - .175955) < 1e-6);
	choose_in(
	    (struct df_select){ .seed = 42, .step = 10 }, "loss", "4", with("--focus medium --train %s", file, ""));
	EQUAL_IDS(out.index, 5, 3, 2, 8);
	choose("loss", NULL, with("--train %s", file, "")); /* all that are valid, once */
	assert_int_equal(out.n_index, 9);
	assert_true(fabs(out.probability[8] - 5. / 21) < 1e-12 && fabs(out.probability[3] - 1. / 21) < 1e-12);
	choose("loss", "3", with("--focus low --train %s", file, ""));
	assert_true(fabs(out.probability[0] - 5. / 21) < 1e-12 && fabs(out.probability[3] - 1. / 21) < 1e-12);
}

/* DataFlex: an invalid row keeps a probability, larger at a high temperature. */
static void
test_loss_dataflex(void **state)
{
	const struct df_select in = { .seed = 42, .dataflex = true };
	const char *file = put("loss.h5", example, 10, NULL, NULL, false);

	(void)state;
	choose_in(in, "loss", "4", with("--focus medium --temperature 5 --train %s", file, ""));
	assert_true(fabs(out.probability[9] - .000392) < 1e-6);
	choose_in(in, "loss", "10", with("--focus medium --train %s", file, ""));
	assert_int_equal(out.index[9], 9); /* available, and last */
	assert_true(out.probability[9] > 0 && out.probability[9] < 1e-12);
}

/* DataFlex's quantiles, and that its rows are drawn from the same weights: none that has no probability here. */
static void
test_loss_golden(void **state)
{
	struct df_json *j = golden("loss_selector");
	const struct df_json_value *root = df_json_root(j);

	(void)state;
	assert_int_equal(df_json_size(root), 3);
	for (size_t i = 0; i < df_json_size(root); i++) {
		const struct df_json_value *in = df_json_get(df_json_at(root, i), "inputs");
		const struct df_json_value *want = df_json_get(df_json_at(root, i), "outputs");
		const double q[] = { .33, .66 };
		size_t n;
		float *v = numbers(df_json_get(in, "losses"), &n);
		double torch[2], ours[2], wanted[2];
		char text[64];

		wanted[0] = number(df_json_get(want, "q1"));
		wanted[1] = number(df_json_get(want, "q2"));
		OK(df_quantiles(v, n, q, 2, true, torch, err));
		OK(df_quantiles(v, n, q, 2, false, ours, err));
		for (int k = 0; k < 2; k++) {
			assert_true(torch[k] == wanted[k]);
			assert_true(fabs(ours[k] - wanted[k]) < 1e-6);
		}
		snprintf(text, sizeof(text), "%.17g", wanted[0]);
		choose_in((struct df_select){ .seed = 42, .dataflex = true, .shortage = DF_SHORT_REPLACE }, "loss",
		    with("%s", i == 2 ? "20" : "12", ""),
		    with("--focus %s --train %s", df_json_str(df_json_get(in, "focus"), NULL),
			put("golden.h5", v, n, NULL, NULL, false)));
		assert_int_equal(out.n_index, df_json_size(df_json_get(want, "selected_torch_multinomial")));
		for (size_t k = 0; k < n; k++) {
			const bool medium = (double)v[k] > wanted[0] && (double)v[k] <= wanted[1];
			const bool focused = strcmp(df_json_str(df_json_get(in, "focus"), NULL), "medium") == 0
			    ? medium
			    : (double)v[k] > wanted[1];

			if (isfinite(v[k])) /* the weights, up to their sum */
				assert_true((out.probability[k] > 2 * out.probability[i == 2 ? 6 : 27]) == focused);
		}
		free(v);
	}
	df_json_free(j);
}

/* 1e5 first draws against the probabilities: chi-square with 8 degrees of freedom, 99.9 % point 26.12. */
static double
chi_square(const char *method, const char *options, const double *p, size_t n)
{
	enum { DRAWS = 100000 };
	double count[16] = { 0 }, chi2 = 0;

	choose(method, "100000", options);
	for (size_t i = 0; i < DRAWS; i++)
		count[out.index[i]]++;
	for (size_t i = 0; i < n; i++) {
		if (p[i] > 0)
			chi2 += pow(count[i] - DRAWS * p[i], 2) / (DRAWS * p[i]);
		else
			assert_true(count[i] == 0);
	}
	print_message("  %s: chi-square %.2f\n", method, chi2);
	return chi2;
}

/* The first of a race over `steps` steps, by the method as a whole. */
static double
chi_square_race(const char *method, const char *options, const double *p, size_t n, uint32_t steps)
{
	double count[16] = { 0 }, chi2 = 0;

	for (uint32_t s = 0; s < steps; s++) {
		uint64_t first = 0, n_out = 0;

		if (s == 0)
			choose(method, "1", options);
		OK(df_sample_race(out.probability, n, 1, 7, s, &first, &n_out, err));
		count[first]++;
	}
	for (size_t i = 0; i < n; i++) {
		if (p[i] > 0)
			chi2 += pow(count[i] - steps * p[i], 2) / (steps * p[i]);
		else
			assert_true(count[i] == 0);
	}
	print_message("  %s: chi-square %.2f\n", method, chi2);
	return chi2;
}

static void
test_loss_frequencies(void **state)
{
	const char *options =
	    with("--focus medium --replacement --train %s", put("loss.h5", example, 10, NULL, NULL, false), "");
	double p[10];

	(void)state;
	for (size_t i = 0; i < 10; i++)
		p[i] = i == 9 ? 0 : i >= 3 && i <= 5 ? 5. / 21 : 1. / 21;
	assert_true(chi_square("loss", options, p, 10) < 26.12);
	options = with("--focus medium --train %s", at("loss.h5"), "");
	assert_true(chi_square_race("loss", options, p, 10, 100000) < 26.12);
}

/* Broken losses are counted and never chosen, in every mode; allowed, they come last. */
static void
test_loss_invalid(void **state)
{
	static const float v[] = { NAN, 1, INFINITY, 2, -INFINITY, 3 }, nan[] = { NAN, NAN }, same[] = { 2, 2, 2, 2 };
	static const enum df_shortage modes[] = { DF_SHORT_CYCLE, DF_SHORT_REPLACE, DF_SHORT_TRUNCATE };
	const struct df_select in = { .seed = 42 };
	struct df_select allowed = { .seed = 42, .allow_invalid = true };
	const char *file = put("broken.h5", v, 6, NULL, NULL, false);

	(void)state;
	for (size_t m = 0; m < 3; m++) {
		const struct df_select short_ = { .seed = 42, .shortage = modes[m] };

		choose_in(short_, "loss", "7", with("--train %s", file, ""));
		assert_int_equal(out.n_index, modes[m] == DF_SHORT_TRUNCATE ? 3 : 7);
		assert_int_equal(out.n_invalid, 3);
		for (size_t i = 0; i < out.n_index; i++)
			assert_true(out.index[i] % 2 == 1);
		choose_in(short_, "loss", "0", with("--train %s", file, ""));
		assert_int_equal(out.n_index, 0);
	}
	choose("loss", "7", with("--train %s", file, "")); /* cycle is the default: each row twice, one three times */
	EQUAL_IDS(out.index + 3, out.index[0], out.index[1], out.index[2], out.index[0]);
	choose_in(allowed, "loss", "6", with("--train %s", file, ""));
	EQUAL_IDS(out.index + 3, 0, 2, 4);
	choose_in(allowed, "loss", NULL, with("--train %s", file, ""));
	assert_int_equal(out.n_index, 6);
	choose_in(allowed, "loss", "2", with("--train %s", file, ""));
	assert_true(out.index[0] % 2 == 1 && out.index[1] % 2 == 1);
	refused((struct df_select){ .seed = 42, .shortage = DF_SHORT_ERROR }, DF_EUSAGE, "only 3 are valid", "loss",
	    "4", with("--train %s", file, ""));
	refused(in, DF_EFORMAT, "nan.h5: no loss is finite", "loss", "1",
	    with("--train %s", put("nan.h5", nan, 2, NULL, NULL, false), ""));
	refused(in, DF_EFORMAT, "no loss is finite", "loss", "1",
	    with("--train %s", put("none.h5", nan, 0, NULL, NULL, false), ""));
	/* All are low: only that focus has an effect, and none on the proportions. */
	choose("loss", "4", with("--focus high --train %s", put("same.h5", same, 4, NULL, NULL, false), ""));
	for (size_t i = 0; i < 4; i++)
		assert_true(out.probability[i] == .25);
	choose("loss", "1", with("--focus low --train %s", put("one.h5", same, 1, NULL, NULL, false), ""));
	assert_true(out.index[0] == 0 && out.probability[0] == 1);
}

static void
test_loss_options(void **state)
{
	const struct df_select in = { .seed = 42 };
	const char *file = put("loss.h5", example, 10, NULL, NULL, false);

	(void)state;
	refused(in, DF_EUSAGE, "--temperature 0", "loss", "1", with("--temperature 0 --train %s", file, ""));
	refused(in, DF_EUSAGE, "--quantiles", "loss", "1", with("--quantiles 0.7,0.3 --train %s", file, ""));
	refused(in, DF_EUSAGE, "out of range", "loss", "1",
	    with("--focus-weight 1e99 --temperature 1e-3 --train %s", file, ""));
	refused(in, DF_EUSAGE, "not of tokens", "loss", "10tok", with("--replacement --train %s", file, ""));
	refused(
	    (struct df_select){ .torch = true }, DF_EUSAGE, "--rng torch", "loss", "1", with("--train %s", file, ""));
	choose("loss", "6", with("--focus-weight 0 --focus low --train %s", file, ""));
	for (size_t i = 0; i < 3; i++)
		assert_true(out.probability[i] == 0);
}

/* ---- delta loss ------------------------------------------------------------------------------ */

static void
window(double width, uint64_t ordinal, uint64_t times, bool shift, uint64_t n, uint64_t improved, uint64_t from,
    uint64_t to)
{
	const struct df_delta_window w = { width, 10, ordinal, times, shift };
	uint64_t start, end;

	df_delta_window(&w, n, improved, &start, &end);
	if (start != from || end != to)
		fail_msg("%llu of %llu, n %llu: [%llu,%llu), not [%llu,%llu)", (unsigned long long)ordinal,
		    (unsigned long long)times, (unsigned long long)n, (unsigned long long)start,
		    (unsigned long long)end, (unsigned long long)from, (unsigned long long)to);
}

static void
test_windows(void **state)
{
	static const uint64_t ten[5][2] = { { 0, 2 }, { 0, 2 }, { 4, 6 }, { 7, 9 }, { 7, 9 } };
	static const uint64_t thousand[5][2] = { { 5, 205 }, { 60, 260 }, { 400, 600 }, { 739, 939 }, { 794, 994 } };

	(void)state;
	for (uint64_t c = 1; c <= 5; c++) {
		window(.2, c, 5, false, 10, 10, ten[c - 1][0], ten[c - 1][1]);
		window(.2, c, 5, false, 1000, 1000, thousand[c - 1][0], thousand[c - 1][1]);
	}
	window(.2, 4, 5, false, 10, 7, 7, 7); /* cut to nothing */
	window(.2, 4, 5, true, 10, 7, 5, 7);
	window(.2, 3, 5, true, 10, 7, 4, 6); /* it fits: not shifted */
	window(.2, 4, 5, true, 10, 1, 0, 1); /* fewer than its width */
	window(.2, 4, 5, true, 10, 0, 0, 0);
	window(.2, 1, 1, false, 1000, 1000, 5, 205); /* one selection: x = 0 */
	window(.2, 3, 1, false, 1000, 1000, 5, 205);
	window(.2, 9, 5, false, 1000, 1000, 794, 994); /* beyond the last: as the last */
	window(.2, 1, 5, false, 0, 0, 0, 0);
	window(1, 3, 5, false, 10, 10, 0, 10);
	window(0, 3, 5, false, 10, 10, 5, 5);
}

static void
test_windows_golden(void **state)
{
	struct df_json *j = golden("delta_loss_window");
	const struct df_json_value *root = df_json_root(j);

	(void)state;
	assert_true(df_json_size(root) > 30);
	for (size_t i = 0; i < df_json_size(root); i++) {
		const struct df_json_value *in = df_json_get(df_json_at(root, i), "inputs");
		const struct df_json_value *want = df_json_get(df_json_at(root, i), "outputs");
		const uint64_t n = (uint64_t)number(df_json_get(in, "n"));

		/* DataFlex counts both from 0. */
		window(number(df_json_get(in, "window")), 1 + (uint64_t)number(df_json_get(in, "current")),
		    1 + (uint64_t)number(df_json_get(in, "times")), false, n, n, (uint64_t)number(df_json_at(want, 0)),
		    (uint64_t)number(df_json_at(want, 1)));
	}
	df_json_free(j);
}

/* Losses before and now, so that the deltas are .9 .5 .4 .3 .2 .1 .05 -.1 -.2 -.4 in the order of ids 9..0. */
static void
put_deltas(void)
{
	static const float before[] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
	static const float now[] = { 1.4f, 1.2f, 1.1f, .95f, .9f, .8f, .7f, .6f, .5f, .1f };

	put("before.h5", before, 10, NULL, NULL, false);
	put("now.h5", now, 10, NULL, NULL, false);
}

static const char *
delta_options(const char *more)
{
	static char text[2048];

	snprintf(
	    text, sizeof(text), "--train %s --reference %s --update-times 5 %s", at("now.h5"), at("before.h5"), more);
	return text;
}

static void
test_delta_example(void **state)
{
	(void)state;
	put_deltas();
	choose("delta-loss", "4", delta_options("--ordinal 3"));
	for (uint64_t pos = 0; pos < 10; pos++) {
		const double want = pos == 4 || pos == 5 ? 1 / 2.2 : .025 / 2.2;

		assert_true(fabs(out.probability[9 - pos] - want) < 1e-9);
	}
	assert_true(fabs((double)out.score[9] - .9) < 1e-6 && fabs((double)out.score[0] + .4) < 1e-6);
	for (int c = 4; c <= 5; c++) {
		choose("delta-loss", "4", delta_options(c == 4 ? "--ordinal 4" : "--ordinal 5"));
		for (size_t i = 0; i < 10; i++)
			assert_true(fabs(out.probability[i] - .1) < 1e-12);
	}
	choose("delta-loss", "4", delta_options("--ordinal 4 --neg shift"));
	for (uint64_t pos = 0; pos < 10; pos++)
		assert_true((out.probability[9 - pos] > .4) == (pos == 5 || pos == 6));
	choose("delta-loss", "2", delta_options("--ordinal 3 --outside-weight 0"));
	assert_true(out.index[0] + out.index[1] == 9 && out.index[0] * out.index[1] == 20);
	refused((struct df_select){ .seed = 42 }, DF_EUSAGE, "only 2 are valid", "delta-loss", "3",
	    delta_options("--ordinal 3 --outside-weight 0"));
}

static void
test_delta_frequencies(void **state)
{
	double p[10];

	(void)state;
	put_deltas();
	for (uint64_t pos = 0; pos < 10; pos++)
		p[9 - pos] = pos == 4 || pos == 5 ? 1 / 2.2 : .025 / 2.2;
	/* 9 degrees of freedom, 99.9 % point 27.88. */
	assert_true(chi_square_race("delta-loss", delta_options("--ordinal 3"), p, 10, 100000) < 27.88);
}

/* DataFlex: the first, uniform selection; the order of the deltas. */
static void
test_delta_golden(void **state)
{
	struct df_json *j = golden("delta_loss_selector");
	const struct df_json_value *root = df_json_root(j);

	(void)state;
	for (size_t i = 0; i < df_json_size(root); i++) {
		const struct df_json_value *in = df_json_get(df_json_at(root, i), "inputs");
		const struct df_json_value *want = df_json_get(df_json_at(root, i), "outputs");
		size_t n, n_now;
		float *before = numbers(df_json_get(in, "initial"), &n),
		      *now = numbers(df_json_get(in, "current"), &n_now);
		uint64_t *order = calloc(n, sizeof(*order)), n_valid = 0;

		put("before.h5", before, n, NULL, NULL, false);
		put("now.h5", now, n_now, NULL, NULL, false);
		choose_in((struct df_select){ .seed = 42, .step = 5, .torch = true }, "delta-loss", "10",
		    with("--train %s", at("before.h5"), ""));
		for (size_t k = 0; k < 10; k++)
			assert_true((double)out.index[k] == number(df_json_at(df_json_get(want, "first_random"), k)));
		choose("delta-loss", "10", delta_options("--ordinal 2"));
		OK(df_rank(out.score, n, order, &n_valid, err));
		assert_int_equal(n_valid, n);
		for (size_t k = 0; k < n; k++)
			assert_true((double)order[k] == number(df_json_at(df_json_get(want, "order"), k)));
		free(before);
		free(now);
		free(order);
	}
	df_json_free(j);
}

static void
test_delta_edges(void **state)
{
	static const float before[] = { 1, NAN, 3, 4, INFINITY, 2 }, now[] = { .5f, 1, NAN, 5, 1, INFINITY };
	static const float worse[] = { 2, 2, 2, 2 }, better[] = { 1, 1, 1, 1 };
	static const char a[] = "0123456789abcdef0123456789abcdef", b[] = "fedcba9876543210fedcba9876543210";
	const struct df_select in = { .seed = 42 };
	struct df_select torch = { .seed = 42, .torch = true };

	(void)state;
	put("before.h5", before, 6, NULL, NULL, false);
	put("now.h5", now, 6, NULL, NULL, false);
	/* The first time: of the valid ones; the same without broken rows as random. */
	choose_in((struct df_select){ .seed = 42, .shortage = DF_SHORT_TRUNCATE }, "delta-loss", "9",
	    with("--train %s", at("now.h5"), ""));
	assert_int_equal(out.n_index, 4);
	assert_int_equal(out.n_invalid, 2);
	for (size_t i = 0; i < 4; i++)
		assert_true(out.index[i] != 2 && out.index[i] != 5);
	assert_null(out.score);
	choose("delta-loss", NULL, delta_options("--ordinal 2"));
	assert_int_equal(out.n_index, 2); /* rows 0 and 3: all others are not finite before or now */
	assert_int_equal(out.n_invalid, 4);
	assert_true(out.index[0] + out.index[1] == 3 && out.index[0] * out.index[1] == 0);
	refused(in, DF_EUSAGE, "only 2 are valid", "delta-loss", "3", delta_options("--ordinal 2"));
	choose("delta-loss", "0", delta_options("--ordinal 2"));
	assert_int_equal(out.n_index, 0);
	refused(in, DF_EUSAGE, "--ordinal and --update-times", "delta-loss", "1",
	    with("--train %s --reference %s", at("now.h5"), at("before.h5")));
	refused(in, DF_EUSAGE, "--ordinal 2 needs --reference", "delta-loss", "1",
	    with("--ordinal 2 --train %s", at("now.h5"), ""));
	refused(torch, DF_EUSAGE, "--rng torch", "delta-loss", "1", delta_options("--ordinal 2"));
	refused((struct df_select){ .dataflex = true }, DF_EUSAGE, "no such mode", "delta-loss", "1",
	    delta_options("--ordinal 2"));
	/* Nothing improved: uniform. */
	put("before.h5", better, 4, a, NULL, false);
	put("now.h5", worse, 4, a, NULL, false);
	choose("delta-loss", "1", delta_options("--ordinal 2 --neg shift"));
	for (size_t i = 0; i < 4; i++)
		assert_true(out.probability[i] == .25);
	put("now.h5", worse, 3, a, NULL, false);
	refused(in, DF_ELINEAGE, "has 3 rows", "delta-loss", "1", delta_options("--ordinal 2"));
	put("now.h5", worse, 4, b, NULL, false);
	refused(in, DF_ELINEAGE, "'tokens'", "delta-loss", "1", delta_options("--ordinal 2"));
	put("none.h5", worse, 0, NULL, NULL, false);
	choose("delta-loss", NULL, with("--train %s", at("none.h5"), ""));
	assert_int_equal(out.n_index, 0);
}

/* ---- perplexity and IFD ----------------------------------------------------------------------- */

static void
test_ppl(void **state)
{
	static const float v[] = { 1, 5, NAN, 3, 2, 4, 3, INFINITY };
	const char *file = put("ppl.h5", v, 8, NULL, NULL, false);
	const struct df_select in = { .seed = 42 };

	(void)state;
	choose("ppl", NULL, with("--train %s", file, ""));
	assert_int_equal(out.n_index, 6);
	EQUAL_IDS(out.index, 1, 5, 3, 6, 4, 0);
	assert_int_equal(out.n_invalid, 2);
	/* Quantiles of 1 2 3 3 4 5: from 2.2 to 3.8 */
	choose("ppl", NULL, with("--band 0.24,0.76 --train %s", file, ""));
	assert_int_equal(out.n_index, 2);
	EQUAL_IDS(out.index, 3, 6);
	choose("ppl", NULL, with("--band 0.2,0.8 --train %s", file, "")); /* exactly 2 and 4: included */
	EQUAL_IDS(out.index, 5, 3, 6, 4);
	choose("ppl", NULL, with("--start mid --train %s", file, "")); /* without the first 33 % of 6: one row */
	EQUAL_IDS(out.index, 5, 3, 6, 4, 0);
	refused(in, DF_EUSAGE, "only 2 are valid", "ppl", "3", with("--band 0.24,0.76 --train %s", file, ""));
	choose_in(
	    (struct df_select){ .allow_invalid = true }, "ppl", NULL, with("--band 0.24,0.76 --train %s", file, ""));
	EQUAL_IDS(out.index, 3, 6, 2, 7);
	refused(in, DF_EUSAGE, "--band", "ppl", "3", with("--band 1 --train %s", file, ""));
	choose("ppl", "0", with("--train %s", put("nan.h5", v + 2, 1, NULL, NULL, false), ""));
	assert_true(out.n_index == 0 && out.n_invalid == 1);
	choose("ppl", NULL, with("--train %s", put("none.h5", v, 0, NULL, NULL, false), ""));
	assert_int_equal(out.n_index, 0);
}

static void
test_ifd(void **state)
{
	static const float with_prompt[] = { 1.2f, 1.7f, .4f, NAN, 1, 1, 2 }, alone[] = { 1.6f, 1.6f, 1, 1, NAN, 0, 2 };
	static const char a[] = "0123456789abcdef0123456789abcdef", b[] = "fedcba9876543210fedcba9876543210",
			  c[] = "00000000000000000000000000000000";
	char train[512], no[512];
	const struct df_select in = { .seed = 42 };

	(void)state;
	snprintf(train, sizeof(train), "%s", put("with.h5", with_prompt, 7, a, NULL, true));
	snprintf(no, sizeof(no), "%s", put("alone.h5", alone, 7, b, a, true));
	choose("ifd", NULL, with("--train %s --no-prompt %s", train, no));
	assert_int_equal(out.n_index, 3); /* 1 is left out: 1.0625; 3, 4 and 5 are not finite */
	EQUAL_IDS(out.index, 6, 0, 2);
	assert_true(out.score[0] == .75f && out.score[6] == 1);
	assert_int_equal(out.n_invalid, 3);
	choose("ifd", NULL, with("--ratio ppl --train %s --no-prompt %s", train, no));
	assert_true(fabs((double)out.score[0] - .670320) < 1e-6);
	EQUAL_IDS(out.index, 6, 0, 2);
	refused(in, DF_EUSAGE, "only 3 are valid", "ifd", "4", with("--train %s --no-prompt %s", train, no));
	refused(in, DF_ELINEAGE, "it belongs to --no-prompt", "ifd", "1", with("--train %s --no-prompt %s", no, train));
	refused(in, DF_ELINEAGE, "the same tokens", "ifd", "1", with("--train %s --no-prompt %s", train, train));
	refused(in, DF_EUSAGE, "needs --no-prompt FILE", "ifd", "1", with("--train %s", train, ""));
	refused(in, DF_ELINEAGE, "'tokens'", "ifd", "1",
	    with("--train %s --no-prompt %s", train, put("other.h5", alone, 7, b, c, true)));
	refused(in, DF_ELINEAGE, "'tokens'", "ifd", "1",
	    with("--train %s --no-prompt %s", train, put("other.h5", alone, 7, b, NULL, true)));
	refused(in, DF_ELINEAGE, "7 rows", "ifd", "1",
	    with("--train %s --no-prompt %s", train, put("few.h5", alone, 6, b, a, true)));
	/* Files of somebody else say nothing of where they are from. */
	choose("ifd", "1",
	    with("--train %s --no-prompt %s", put("with.h5", with_prompt, 7, NULL, NULL, false),
		put("alone.h5", alone, 7, NULL, NULL, false)));
	EQUAL_IDS(out.index, 6);
}

/* ---- all of them ------------------------------------------------------------------------------ */

/* More than there are valid rows, in every mode, and none at all: four of six losses are finite, in all files. */
static void
test_short_modes(void **state)
{
	static const float now[] = { NAN, 1, 2, INFINITY, 3, 4 }, before[] = { 2, 2, 3, 1, 4, NAN },
			   better[] = { 2, 2, 3, 1, 4, 5 };
	static const enum df_shortage modes[] = { DF_SHORT_CYCLE, DF_SHORT_REPLACE, DF_SHORT_TRUNCATE, DF_SHORT_ERROR };
	static const uint64_t wanted[] = { 11, 11, 0, 0 };
	char train[600], before_path[600], better_path[600], options[5][2048];
	static const char *const methods[] = { "loss", "delta-loss", "delta-loss", "ppl", "ifd" };
	static const uint64_t valid[] = { 4, 4, 3, 4, 4 };

	(void)state;
	snprintf(train, sizeof(train), "%s", put("now.h5", now, 6, NULL, NULL, false));
	snprintf(before_path, sizeof(before_path), "%s", put("before.h5", before, 6, NULL, NULL, false));
	snprintf(better_path, sizeof(better_path), "%s", put("better.h5", better, 6, NULL, NULL, false));
	for (int i = 0; i < 5; i++)
		snprintf(options[i], sizeof(options[i]), "--train %s", train);
	snprintf(options[2], sizeof(options[2]), "--ordinal 1 --update-times 2 --reference %s --train %s", before_path,
	    train);
	snprintf(options[4], sizeof(options[4]), "--no-prompt %s --train %s", better_path, train);
	for (int i = 0; i < 5; i++) {
		for (int m = 0; m < 4; m++) {
			const struct df_select in = { .seed = 42, .shortage = modes[m] };
			uint64_t seen[6] = { 0 };

			choose_in(in, methods[i], "0", options[i]);
			assert_int_equal(out.n_index, 0);
			choose_in(in, methods[i], "2", options[i]);
			assert_int_equal(out.n_index, 2);
			if (modes[m] == DF_SHORT_ERROR) {
				refused(in, DF_EUSAGE, "are valid", methods[i], "11", options[i]);
				continue;
			}
			choose_in(in, methods[i], "11", options[i]);
			assert_int_equal(out.n_index, wanted[m] ? wanted[m] : valid[i]);
			for (uint64_t k = 0; k < out.n_index; k++)
				seen[out.index[k]]++;
			assert_true(seen[0] == 0 && seen[3] == 0);
			for (uint64_t k = 0; modes[m] == DF_SHORT_CYCLE && k < 6; k++)
				assert_true(seen[k] == 0 || seen[k] == 11 / valid[i] || seen[k] == 11 / valid[i] + 1);
			assert_int_equal(out.n_invalid, 6 - valid[i]);
		}
	}
}

static int
teardown(void **state)
{
	df_selection_release(&out);
	return scratch_remove(state);
}

/* ---- DataFlex's random selector ------------------------------------------------------------------ */

/* Its draws for a seed and a step: PyTorch's for their sum. */
static void
test_random_golden(void **state)
{
	struct df_json *j = golden("random_selector");
	const struct df_json_value *root = df_json_root(j);
	static const struct {
		const char *name;
		uint64_t step;
		bool replacement;
	} draws[] = { { "step0", 0, false }, { "step7", 7, false }, { "replacement_step3", 3, true },
		{ "warmup_replacement", 0, true }, { "warmup_no_replacement", 0, false } };

	(void)state;
	assert_int_equal(df_json_size(root), 3);
	for (size_t i = 0; i < 3; i++) {
		const struct df_json_value *in = df_json_get(df_json_at(root, i), "inputs");
		const uint64_t n = (uint64_t)number(df_json_get(in, "n"));
		const uint64_t seed = (uint64_t)number(df_json_get(in, "seed"));

		for (size_t d = 0; d < sizeof(draws) / sizeof(draws[0]); d++) {
			size_t m;
			float *want =
			    numbers(df_json_get(df_json_get(df_json_at(root, i), "outputs"), draws[d].name), &m);
			uint64_t got[100];

			assert_in_range(m, 1, 100);
			if (draws[d].replacement)
				OK(df_sample_torch_randint(n, m, seed + draws[d].step, got, err));
			else
				OK(df_sample_torch_perm(n, m, seed + draws[d].step, got, err));
			for (size_t k = 0; k < m; k++)
				assert_int_equal(got[k], want[k]);
			free(want);
		}
	}
	df_json_free(j);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_statistics),
		cmocka_unit_test(test_quantiles),
		cmocka_unit_test(test_many_quantiles),
		cmocka_unit_test(test_torch_quantiles),
		cmocka_unit_test(test_band_text),
		cmocka_unit_test(test_loss_example),
		cmocka_unit_test(test_loss_dataflex),
		cmocka_unit_test(test_loss_golden),
		cmocka_unit_test(test_random_golden),
		cmocka_unit_test(test_loss_frequencies),
		cmocka_unit_test(test_loss_invalid),
		cmocka_unit_test(test_loss_options),
		cmocka_unit_test(test_windows),
		cmocka_unit_test(test_windows_golden),
		cmocka_unit_test(test_delta_example),
		cmocka_unit_test(test_delta_frequencies),
		cmocka_unit_test(test_delta_golden),
		cmocka_unit_test(test_delta_edges),
		cmocka_unit_test(test_ppl),
		cmocka_unit_test(test_ifd),
		cmocka_unit_test(test_short_modes),
	};

	return cmocka_run_group_tests(tests, scratch_make, teardown);
}

/*
 * test_mix_weights.c - files of proportions: there and back to the bit, joined by name; files that are something else.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/rng.h"
#include "mix/mix.h"
#include "mix/weights.h"
#include "shard_help.h"

#define path at("weights.h5")

static struct df_meta
domains(size_t n, const char *const *names)
{
	struct df_meta m = DF_META_INIT;
	struct df_err err;

	assert_int_equal(df_meta_set_tool(&m, "df-mix", &err), DF_OK);
	assert_int_equal(df_meta_set_str(&m, "method", "odm", &err), DF_OK);
	for (size_t i = 0; i < n; i++) {
		char made_up[32];

		snprintf(made_up, sizeof(made_up), "d%zu", i);
		assert_int_equal(df_meta_add_domain(&m, names ? names[i] : made_up, NULL, &err), DF_OK);
	}
	return m;
}

static void
put(size_t n, const char *const *names, const double *p, const double *state, size_t n_state)
{
	struct df_meta m = domains(n, names);
	struct df_err err;

	if (df_mix_file_write(path, &m, p, state, n_state, &err) != DF_OK)
		fail_msg("%s", err.msg);
	df_meta_release(&m);
}

static void
test_back(void **state)
{
	static const size_t ks[] = { 1, 2, 3, 1000 };
	static double p[1000], numbers[4001];

	(void)state;
	for (size_t c = 0; c < 4; c++) {
		const size_t k = ks[c], n = 4 * k + 1;
		struct df_mix_file f;
		struct df_err err;
		double sum = 0;

		for (size_t i = 0; i < k; i++)
			sum += p[i] = df_rng_uniform(1, DF_RNG_DEMO, 0, i);
		for (size_t i = 0; i < k; i++)
			p[i] /= sum;
		for (size_t i = 0; i < n; i++)
			numbers[i] = df_rng_normal(1, DF_RNG_DEMO, 1, i) * 1e3;
		put(k, NULL, p, numbers, n);
		if (df_mix_file_read(&f, path, &err) != DF_OK)
			fail_msg("%s", err.msg);
		assert_int_equal(f.meta.n_domains, k);
		assert_memory_equal(f.p, p, k * sizeof(*p));
		assert_true(f.n_state >= n && f.n_state < n + k);
		assert_memory_equal(f.state, numbers, n * sizeof(*numbers));
		for (size_t i = n; i < f.n_state; i++)
			assert_true(f.state[i] == 0);
		df_mix_file_release(&f);
	}
}

static void
test_by_name(void **state)
{
	static const char *const names[] = { "wiki", "c4", "code" };
	static char *other[] = { "code", "wiki", "c4" }, *fewer[] = { "wiki", "code" },
		    *more[] = { "c4", "code", "law", "wiki" };
	double p[4];
	struct df_err err;

	(void)state;
	put(3, names, (const double[]){ .5, .2, .3 }, NULL, 0);
	assert_int_equal(df_mix_read_weights(path, other, 3, p, &err), DF_OK);
	assert_true(p[0] == .3 && p[1] == .5 && p[2] == .2);
	assert_int_equal(df_mix_read_weights(path, fewer, 2, p, &err), DF_ELINEAGE);
	assert_non_null(strstr(err.msg, "weights.h5: 'c4' has weight 0.2, but is no domain here"));
	assert_int_equal(df_mix_read_weights(path, more, 4, p, &err), DF_ELINEAGE);
	assert_non_null(strstr(err.msg, "weights.h5: no weight for domain 'law'"));
	put(3, names, (const double[]){ .5, 0, .5 }, NULL, 0);
	assert_int_equal(df_mix_read_weights(path, fewer, 2, p, &err), DF_OK);
	assert_true(p[0] == .5 && p[1] == .5);
}

static void
test_hostile(void **state)
{
	static const char *const twice[] = { "wiki", "c4", "wiki" };
	static const struct {
		double p[3];
		const char *message;
	} t[] = {
		{ { .5, NAN, .5 }, "the weight of domain 'd1' is nan" },
		{ { .5, -.5, 1 }, "the weight of domain 'd1' is -0.5" },
		{ { 0, 0, 0 }, "the weights of all domains together are 0" },
		{ { 1, 1e308, INFINITY }, "the weight of domain 'd2' is inf" },
	};
	struct df_mix_file f;
	struct df_err err;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		put(3, NULL, t[i].p, NULL, 0);
		assert_int_equal(df_mix_file_read(&f, path, &err), DF_EFORMAT);
		assert_non_null(strstr(err.msg, t[i].message));
	}
	put(3, twice, (const double[]){ .5, .2, .3 }, NULL, 0);
	assert_int_equal(df_mix_file_read(&f, path, &err), DF_EFORMAT);
	assert_non_null(strstr(err.msg, "weights.h5: two domains have the name 'wiki'"));
	put(3, NULL, (const double[]){ .5, .2, .3 }, (const double[]){ 1, NAN }, 2);
	assert_int_equal(df_mix_file_read(&f, path, &err), DF_EFORMAT);
	unlink(path);
	assert_int_equal(df_mix_file_read(&f, path, &err), DF_ENOINPUT);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_back),
		cmocka_unit_test(test_by_name),
		cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}

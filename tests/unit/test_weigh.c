/*
 * test_weigh.c - weighers against the examples of their definitions, what must hold of any weights, and, where
 * ../shared/golden is there, weights of DataFlex's own classes and of the authors' program.  Those compute in float32,
 * so they agree to its precision; where they differ by more, the test says why.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/opt.h"
#include "weigh/weigh.h"

#define FLOAT32 2e-6
#define LIMIT   ((size_t)64 << 20)

enum { MOST = 64, DIM = 8 };

static struct df_err error, *err = &error;

/* ---- a weigher with options ------------------------------------------------------------------------------------- */

struct weigher {
	const struct df_weigher *m;
	void *options;
	struct df_weigh_group g;
	bool rough;
	double w[MOST];
};

/* "strategy=linupper delta=0.5" */
static struct weigher
make(const char *name, const char *settings)
{
	static char text[8][256];
	static size_t next;
	char *copy = text[next++ % 8], *save = NULL;
	struct weigher x = { 0 };

	assert_int_equal(df_weigher_find(&x.m, name, err), DF_OK);
	assert_int_equal(df_alloc(&x.options, 1, x.m->defaults_size, "options", err), DF_OK);
	memcpy(x.options, x.m->defaults, x.m->defaults_size);
	snprintf(copy, 256, "%s", settings);
	for (char *p = strtok_r(copy, " ", &save); p; p = strtok_r(NULL, " ", &save)) {
		char *eq = strchr(p, '=');

		assert_non_null(eq);
		*eq = '\0';
		assert_int_equal(df_opt_set(x.m->options, x.options, p, eq + 1, err), DF_OK);
	}
	return x;
}

/* Frees the options: a weigher is asked once. */
static double
ask(struct weigher *x, const double *loss, size_t n)
{
	double sum = 0;

	if (x->m->check)
		assert_int_equal(x->m->check(x->options, err), DF_OK);
	x->g.n = n;
	x->g.loss = loss;
	x->g.rough = &x->rough;
	assert_int_equal(x->m->weights(x->options, &x->g, x->w, err), DF_OK);
	free(x->options);
	for (size_t i = 0; i < n; i++) {
		assert_true(isfinite(x->w[i]) && x->w[i] >= 0);
		sum += loss ? x->w[i] * loss[i] : 0;
	}
	return sum;
}

static void
refused(const char *name, const char *settings)
{
	struct weigher x = make(name, settings);

	assert_int_equal(x.m->check(x.options, err), DF_EUSAGE);
	free(x.options);
}

static void
is_near(double got, double want, double tolerance)
{
	if (!(fabs(got - want) <= tolerance))
		fail_msg("%.12g, expected %.12g", got, want);
}

static void
all_near(const double *got, const double *want, size_t n, double tolerance)
{
	for (size_t i = 0; i < n; i++)
		is_near(got[i], want[i], tolerance);
}

/* ---- loss ------------------------------------------------------------------------------------------------------- */

static void
test_loss(void **state)
{
	static const double loss[] = { 1, 2, 3, 5 };
	static const struct {
		const char *settings;
		double w[4], sum;
	} cases[] = {
		{ "strategy=linupper", { .123681, .203916, .336201, .336201 }, 3.221123 },
		{ "strategy=identity", { .078394, .129250, .213097, .579259 }, 3.872479 },
		{ "strategy=quadratic", { .146300, .309717, .397684, .146300 }, 2.690283 },
		{ "strategy=extremes", { .336201, .203916, .123681, .336201 }, 2.796084 },
		{ "strategy=upper", { .150353, .193057, .247890, .408701 }, 3.323640 },
		{ "strategy=uniform", { .25, .25, .25, .25 }, 2.75 },
		{ "strategy=uniform compat=dataflex", { .078394, .129250, .213097, .579259 }, 3.872479 },
		{ "strategy=identity compat=dataflex", { .078394, .129250, .213097, .579259 }, 3.872479 },
		{ "", { .123681, .203916, .336201, .336201 }, 3.221123 },
		{ "r=0.4", { .034656, .120960, .422192, .422192 }, 3.654113 },
		{ "r=1e12", { .25, .25, .25, .25 }, 2.75 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct weigher x = make("loss", cases[i].settings);

		is_near(ask(&x, loss, 4), cases[i].sum, 5e-6);
		all_near(x.w, cases[i].w, 4, 1e-6);
	}
	refused("loss", "delta=0");
	refused("loss", "r=-1");
	refused("loss", "r-steps=5");
	refused("loss", "r-start=5");
}

/* The temperature falls along a line; two losses have h = -1 and 1, identity's weights are then sigmoid(2 / r). */
static void
test_anneal(void **state)
{
	static const double loss[] = { 1, 2 }, r[] = { 3, 2.5, 2, 1.5, 1, 1 };

	(void)state;
	for (size_t k = 0; k < 6; k++) {
		struct weigher x = make("loss", "strategy=identity r=1 r-start=3 r-steps=4");

		x.g.weighed = k;
		ask(&x, loss, 2);
		is_near(x.w[1], 1 / (1 + exp(-2 / r[k])), 1e-15);
	}
}

/* Sum 1, equal for equal losses, unchanged under l -> a l + b; one sample weighs 1; close losses are told apart. */
static void
test_loss_props(void **state)
{
	static const char *const strategies[] = { "linupper", "uniform", "identity", "upper", "quadratic", "extremes" };
	double loss[MOST], moved[MOST], close[] = { 2.29999995, 2.30000019 }, same[] = { 2.5, 2.5, 2.5 };
	struct weigher x;

	(void)state;
	for (size_t i = 0; i < MOST; i++) {
		loss[i] = fmod((double)i * 0.61803398875, 1) * 8;
		moved[i] = 0.125 * loss[i] + 3;
	}
	for (size_t s = 0; s < 6; s++) {
		char settings[64];
		double sum = 0, w[MOST];

		snprintf(settings, sizeof(settings), "strategy=%s delta=1.5 r=0.7", strategies[s]);
		x = make("loss", settings);
		ask(&x, loss, MOST);
		memcpy(w, x.w, sizeof(w));
		for (size_t i = 0; i < MOST; i++)
			sum += w[i];
		is_near(sum, 1, 1e-14);
		x = make("loss", settings);
		ask(&x, moved, MOST);
		all_near(x.w, w, MOST, 1e-14);
		x = make("loss", settings);
		ask(&x, same, 3);
		all_near(x.w, (const double[]){ 1. / 3, 1. / 3, 1. / 3 }, 3, 1e-15);
		x = make("loss", settings);
		ask(&x, loss, 1);
		assert_true(x.w[0] == 1);
	}
	x = make("loss", "strategy=identity");
	ask(&x, close, 2);
	is_near(x.w[1], 1 / (1 + exp(-2)), 1e-15);
}

/* ---- ADAPT ------------------------------------------------------------------------------------------------------ */

static void
anchors(struct weigher *x, const float *pooled, size_t n, size_t dim, double *anchor)
{
	double sum[DIM] = { 0 };

	/* in two parts */
	x->m->anchor_add(x->options, pooled, 1, dim, sum);
	x->m->anchor_add(x->options, pooled + dim, n - 1, dim, sum);
	x->m->anchor_end(x->options, sum, n, dim, anchor);
	x->g.anchor = anchor;
	x->g.dim = dim;
}

static void
test_adapt(void **state)
{
	static const float pooled[] = { 0.6666667F, 0.8333333F, 2, 0, 0, 0 }, anchor[] = { 1, 0, 0, 3 };
	static const double loss[] = { 2, 1, 7 };
	static const struct {
		const char *settings;
		double w0, w1, sum;
	} cases[] = {
		{ "", .668804 / 2, .622459 / 2, .980034 },
		{ "reduce=sum", .668804, .622459, 1.960068 },
		{ "weight-norm=mean1", .668804 / 1.291263, .622459 / 1.291263, 1.517946 },
		{ "tau=0.1", .999114 / 2, .993307 / 2, (2 * .999114 + .993307) / 2 },
		{ "tau=0.1 clip=0.5", .25, .25, .75 },
	};
	double a[DIM];
	struct weigher x;
	struct df_weigh_states s;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		x = make("adapt", cases[i].settings);
		anchors(&x, anchor, 2, 2, a);
		all_near(a, (const double[]){ .5, .5 }, 2, 1e-15);
		x.g.pooled = pooled;
		is_near(ask(&x, loss, 2), cases[i].sum, 2e-6);
		is_near(x.w[0], cases[i].w0, 1e-6);
		is_near(x.w[1], cases[i].w1, 1e-6);
	}
	/* a vector of zeros has score 0 */
	x = make("adapt", "reduce=sum");
	anchors(&x, anchor, 2, 2, a);
	x.g.pooled = pooled;
	ask(&x, loss, 3);
	assert_true(x.w[2] == 0.5);
	x = make("adapt", "");
	x.m->states(x.options, &s);
	assert_true(s.pooling == DF_WEIGH_POOL_POSITION && s.layer == -1 && s.every == 50 && !s.from_first);
	free(x.options);
	refused("adapt", "tau=0");
	refused("adapt", "clip=0");
}

/* ---- joint ------------------------------------------------------------------------------------------------------ */

static void
test_joint(void **state)
{
	static const float pooled[] = { 5, 0, 0.8F, 0.6F, 0, 0.25F };
	static const struct {
		const char *settings;
		double w[3];
	} cases[] = {
		{ "", { .001092, .924406, .074502 } },
		{ "mode=align_only", { .000717, .960146, .039138 } },
		{ "beta=1", { .138278, .478658, .383063 } },
		{ "beta=1 damping=0.3", { .138278, .478658, .383063 } },
		{ "mode=uniform", { 1. / 3, 1. / 3, 1. / 3 } },
		{ "beta=0", { .000717, .960146, .039138 } },
	};
	const double u[] = { .6, .8 };
	double a[DIM];
	const float anchor[] = { 4, 9, 8, 7 }; /* mean (6, 8) */
	struct df_weigh_states s;
	struct weigher x;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		x = make("joint_update_aware", cases[i].settings);
		anchors(&x, anchor, 2, 2, a);
		all_near(a, u, 2, 1e-15);
		x.g.pooled = pooled;
		ask(&x, NULL, 3);
		all_near(x.w, cases[i].w, 3, 1e-6);
		assert_false(x.rough);
	}
	/* diverse_only: whatever the anchors, the sample that is most like the others counts least */
	x = make("joint_update_aware", "mode=diverse_only beta=1");
	anchors(&x, anchor, 2, 2, a);
	x.g.pooled = pooled;
	ask(&x, NULL, 3);
	assert_true(x.w[1] < x.w[0] && x.w[1] < x.w[2]);
	x = make("joint_update_aware", "");
	x.m->states(x.options, &s);
	assert_true(s.pooling == DF_WEIGH_POOL_LAST && s.layer == -1 && s.every == 50 && s.from_first);
	x.g.pooled = pooled;
	ask(&x, NULL, 1);
	assert_true(x.w[0] == 1);
	refused("joint_update_aware", "tau=0");
	refused("joint_update_aware", "damping=0");
	refused("joint_update_aware", "damping=1.5");
	refused("joint_update_aware", "beta=-1");
}

/* Random groups: the weights satisfy w = softmax((s - beta S w) / tau), or say that they do so roughly only. */
static void
test_joint_optimum(void **state)
{
	size_t n_rough = 0;

	(void)state;
	for (unsigned seed = 0; seed < 40; seed++) {
		enum { N = 12 };
		const double beta = seed % 3 == 0 ? 2 : 0.1, tau = 0.05;
		float pooled[N * DIM], anchor[2 * DIM];
		double a[DIM], z[N][DIM], score[N];
		struct weigher x = make("joint_update_aware", seed % 3 == 0 ? "beta=2" : "");

		srand(seed);
		for (size_t i = 0; i < N * DIM; i++)
			pooled[i] = (float)rand() / (float)RAND_MAX - 0.3F;
		for (size_t i = 0; i < 2 * DIM; i++)
			anchor[i] = (float)rand() / (float)RAND_MAX - 0.3F;
		anchors(&x, anchor, 2, DIM, a);
		x.g.pooled = pooled;
		ask(&x, NULL, N);
		assert_true(!x.rough || beta > 1);
		n_rough += x.rough;
		for (size_t i = 0; i < N; i++) {
			double norm = 0;

			for (size_t j = 0; j < DIM; j++)
				norm += (double)pooled[i * DIM + j] * (double)pooled[i * DIM + j];
			for (size_t j = 0; j < DIM; j++)
				z[i][j] = (double)pooled[i * DIM + j] / sqrt(norm);
		}
		for (size_t i = 0; i < N; i++) {
			score[i] = 0;
			for (size_t j = 0; j < DIM; j++) {
				score[i] += a[j] * z[i][j];
				for (size_t k = 0; k < N; k++)
					score[i] -= beta * z[i][j] * z[k][j] * x.w[k];
			}
		}
		df_weigh_softmax(score, N, tau);
		all_near(x.w, score, N, x.rough ? 0.05 : 1e-9);
	}
	print_message("# %zu of 40 groups have not converged\n", n_rough);
	assert_true(n_rough > 0 && n_rough < 14);
}

/* ---- custom ----------------------------------------------------------------------------------------------------- */

static void
test_custom(void **state)
{
	static const double loss[] = { 1, 3 };
	static const float given[] = { 1, 0.5F };
	struct weigher x = make("custom", "");

	(void)state;
	x.g.given = given;
	is_near(ask(&x, loss, 2), 1.25, 1e-15);
	x = make("custom", "");
	is_near(ask(&x, loss, 2), 2, 1e-15);
}

static void
test_registry(void **state)
{
	const struct df_weigher *m;

	(void)state;
	assert_int_equal(df_weigher_find(&m, "adpt", err), DF_EUSAGE);
	assert_non_null(strstr(err->msg, "did you mean 'adapt'?"));
	for (size_t i = 0; df_weighers[i]; i++)
		assert_true(df_weighers[i]->about && df_weighers[i]->weights);
}

/* ---- other programs --------------------------------------------------------------------------------------------- */

static struct df_json *
reference(const char *file)
{
	const char *root = getenv("DF_SRCDIR");
	struct df_json *j = NULL;
	char path[4096];

	snprintf(path, sizeof(path), "%s/../shared/golden/references/%s", root ? root : ".", file);
	if (df_json_load(&j, path, LIMIT, err) == DF_OK)
		return j;
	assert_int_equal(error.code, DF_ENOINPUT);
	print_message("../shared/golden/references/%s is not there\n", file);
	skip();
	return NULL;
}

static size_t
numbers(const struct df_json_value *v, double *x)
{
	assert_true(df_json_size(v) <= MOST);
	for (size_t i = 0; i < df_json_size(v); i++)
		assert_true(df_json_number(df_json_at(v, i), &x[i]));
	return df_json_size(v);
}

static double
number(const struct df_json_value *v, const char *key)
{
	double x;

	assert_true(df_json_number(df_json_get(v, key), &x));
	return x;
}

/*
 * DataFlex's loss weighter.  B26: its h is 2 delta l / d - delta (max + min) / d with d = max(range, 1e-6), so losses
 * that are less than 1e-6 apart are squeezed together, and its `uniform` is our identity.
 */
static void
test_dataflex_loss(void **state)
{
	struct df_json *j = reference("loss_weighter.json");
	const struct df_json_value *root = df_json_root(j);
	size_t squeezed = 0;

	(void)state;
	assert_true(df_json_size(root) > 50);
	for (size_t c = 0; c < df_json_size(root); c++) {
		const struct df_json_value *in = df_json_get(df_json_at(root, c), "inputs");
		const struct df_json_value *out = df_json_get(df_json_at(root, c), "outputs");
		double loss[MOST], want[MOST], low = INFINITY, high = -INFINITY;
		const size_t n = numbers(df_json_get(in, "losses"), loss);
		struct weigher x;
		char settings[128];

		numbers(df_json_get(out, "weights"), want);
		for (size_t i = 0; i < n; i++) {
			low = fmin(low, loss[i]);
			high = fmax(high, loss[i]);
		}
		snprintf(settings, sizeof(settings), "compat=dataflex strategy=%s delta=%.17g",
		    df_json_str(df_json_get(in, "strategy"), NULL), number(in, "delta"));
		if (high > low && high - low < 1e-6) {
			/* the same as ours with the delta that is left of it, but for quadratic's division by delta */
			squeezed++;
			if (strcmp(df_json_str(df_json_get(in, "strategy"), NULL), "extremes") != 0)
				continue;
			snprintf(settings, sizeof(settings), "strategy=extremes delta=%.17g",
			    number(in, "delta") * (high - low) / 1e-6);
		}
		x = make("loss", settings);
		is_near(ask(&x, loss, n), number(out, "loss"), FLOAT32 * fmax(1, high));
		all_near(x.w, want, n, FLOAT32);
	}
	assert_true(squeezed > 0);
	df_json_free(j);
}

/* The authors' program; its `mid` is our quadratic. */
static void
test_authors_loss(void **state)
{
	struct df_json *j = reference("orig_loss_reweighting.json");
	const struct df_json_value *root = df_json_root(j);

	(void)state;
	assert_true(df_json_size(root) > 20);
	for (size_t c = 0; c < df_json_size(root); c++) {
		const struct df_json_value *in = df_json_get(df_json_at(root, c), "inputs");
		const char *strategy = df_json_str(df_json_get(in, "strategy"), NULL);
		double loss[MOST], want[MOST];
		const size_t n = numbers(df_json_get(in, "losses"), loss);
		struct weigher x;
		char settings[128];

		numbers(df_json_get(df_json_get(df_json_at(root, c), "outputs"), "weights"), want);
		snprintf(settings, sizeof(settings), "strategy=%s delta=%.17g r=%.17g",
		    strcmp(strategy, "mid") == 0 ? "quadratic" : strategy, number(in, "delta"), number(in, "r"));
		x = make("loss", settings);
		ask(&x, loss, n);
		all_near(x.w, want, n, FLOAT32);
	}
	df_json_free(j);
}

/* out [dim] = the pooled states of a row of tokens; dataflex: positions count from the padding on. */
static void
pool(const struct df_json_value *in, const char *ids, const char *mask, size_t row, bool dataflex, size_t dim,
    float *out)
{
	double id[MOST], on[MOST], state[MOST], sum[MOST] = { 0 }, all = 0;
	const size_t n = numbers(df_json_at(df_json_get(in, ids), row), id);
	double at = 0;

	numbers(df_json_at(df_json_get(in, mask), row), on);
	for (size_t t = 0; t < n; t++) {
		at = dataflex ? (double)t + 1 : at + on[t];
		if (on[t] == 0)
			continue;
		numbers(df_json_at(df_json_get(in, "hidden_of_token"), (size_t)id[t]), state);
		for (size_t k = 0; k < dim; k++)
			sum[k] += at * state[k];
		all += at;
	}
	for (size_t k = 0; k < dim; k++)
		out[k] = (float)(sum[k] / all);
}

/* DataFlex's ADAPT.  B27: it takes the sum, and counts positions of left-padded rows from the padding on. */
static void
test_dataflex_adapt(void **state)
{
	struct df_json *j = reference("adapt_weighter.json");
	const struct df_json_value *root = df_json_root(j);

	(void)state;
	assert_int_equal(df_json_size(root), 2);
	for (size_t c = 0; c < 2; c++) {
		const struct df_json_value *in = df_json_get(df_json_at(root, c), "inputs");
		const struct df_json_value *out = df_json_get(df_json_at(root, c), "outputs");
		const bool left = strcmp(df_json_str(df_json_get(in, "padding"), NULL), "left") == 0;

		for (int dataflex = left; dataflex >= 0; dataflex--) {
			float anchor[MOST], pooled[MOST];
			double loss[MOST], want[MOST], a[DIM], off = 0;
			const size_t n = numbers(df_json_get(in, "losses"), loss);
			const size_t m = df_json_size(df_json_get(in, "anchor_ids")), dim = 6;
			struct weigher x;
			char settings[64];

			snprintf(settings, sizeof(settings), "reduce=sum tau=%.17g", number(in, "tau"));
			x = make("adapt", settings);
			for (size_t i = 0; i < m; i++)
				pool(in, "anchor_ids", "anchor_attention", i, dataflex, dim, anchor + i * dim);
			for (size_t i = 0; i < n; i++)
				pool(in, "ids", "attention", i, dataflex, dim, pooled + i * dim);
			anchors(&x, anchor, m, dim, a);
			x.g.pooled = pooled;
			numbers(df_json_get(out, "weights"), want);
			if (left && !dataflex) { /* ours does not look at padding: it differs */
				ask(&x, loss, n);
				for (size_t i = 0; i < n; i++)
					off = fmax(off, fabs(x.w[i] - want[i]));
				assert_true(off > 1e-3);
				continue;
			}
			is_near(ask(&x, loss, n), number(out, "loss"), FLOAT32 * 4);
			all_near(x.w, want, n, FLOAT32);
		}
	}
	df_json_free(j);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loss),
		cmocka_unit_test(test_anneal),
		cmocka_unit_test(test_loss_props),
		cmocka_unit_test(test_adapt),
		cmocka_unit_test(test_joint),
		cmocka_unit_test(test_joint_optimum),
		cmocka_unit_test(test_custom),
		cmocka_unit_test(test_registry),
		cmocka_unit_test(test_dataflex_loss),
		cmocka_unit_test(test_authors_loss),
		cmocka_unit_test(test_dataflex_adapt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

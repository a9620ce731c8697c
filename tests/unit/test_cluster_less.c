/*
 * test_cluster_less.c - df-score cluster and cluster-less: the worked example, plain loops over random instances,
 * PyTorch's draws, what is not finite, and what does not belong together.  The clusters themselves: test_cluster.c.
 */
#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "select/select.h"
#include "shard_help.h"

extern const struct df_selector df_select_cluster, df_select_cluster_less;

static const char tokens_a[] = "0123456789abcdef0123456789abcdef", tokens_b[] = "fedcba9876543210fedcba9876543210";
static const char val_tokens[] = "00000000000000000000000000000001";

/* ---- artefacts --------------------------------------------------------------------------- */

struct file {
	enum df_kind kind;
	uint64_t n;
	size_t width;       /* of x */
	const uint64_t *id; /* NULL: 0, 1, .. */
	const float *x;     /* embeddings or projections [n, width], or scores [n] */
	const uint32_t *cluster;
	const uint16_t *domain; /* of "a", "b", "c" */
	const char *tokens, *checkpoint;
	int64_t seed; /* of the projection */
};

static const char *
put(const char *name, const struct file *f)
{
	static const enum df_col of_kind[DF_KIND_COUNT] = { [DF_KIND_EMBEDDINGS] = DF_COL_EMBEDDING,
		[DF_KIND_PROJECTIONS] = DF_COL_PROJECTION,
		[DF_KIND_SCORES] = DF_COL_SCORE };
	const enum df_col x = of_kind[f->kind];
	const size_t width = x == DF_COL_SCORE ? 1 : f->width;
	enum df_col cols[4] = { DF_COL_ID, x };
	size_t widths[DF_COL_COUNT] = { 0 }, n_cols = 2;
	struct df_meta m = { .kind = f->kind };
	struct df_batch b = { .n = f->n };
	struct df_writer *w = NULL;
	uint64_t *ids = NULL;

	OK(df_alloc(&ids, f->n, sizeof(*ids), "ids", err));
	for (uint64_t i = 0; i < f->n; i++)
		ids[i] = f->id ? f->id[i] : i;
	if (x != DF_COL_SCORE)
		widths[x] = width;
	b.col[DF_COL_ID].data = ids;
	b.col[x] = (struct df_column_data){ .data = (void *)(uintptr_t)f->x, .width = width };
	if (f->domain) {
		cols[n_cols++] = DF_COL_DOMAIN;
		b.col[DF_COL_DOMAIN].data = (void *)(uintptr_t)f->domain;
		OK(df_meta_add_domain(&m, "a", NULL, err));
		OK(df_meta_add_domain(&m, "b", NULL, err));
		OK(df_meta_add_domain(&m, "c", NULL, err));
	}
	if (f->cluster) {
		cols[n_cols++] = DF_COL_CLUSTER;
		b.col[DF_COL_CLUSTER].data = (void *)(uintptr_t)f->cluster;
	}
	OK(df_meta_set_tool(&m, "test", err));
	if (x == DF_COL_PROJECTION) {
		OK(df_meta_set_int(&m, "seed", f->seed, err));
		OK(df_meta_add_input(&m, "checkpoint", "checkpoint",
		    f->checkpoint ? f->checkpoint : "00000000000000000000000000000002", err));
	}
	if (f->tokens)
		OK(df_meta_add_input(&m, "tokens", "tokens", f->tokens, err));
	OK(df_writer_open(&w, at(name), &m, cols, n_cols, widths, NULL, err));
	OK(df_writer_put(w, &b, err));
	OK(df_writer_commit(w, NULL, err));
	df_writer_close(w);
	df_meta_release(&m);
	free(ids);
	return name;
}

/* ---- requests ------------------------------------------------------------------------------ */

struct request {
	const struct df_selector *m;
	struct df_select in;
	struct df_selection out;
	struct df_err err;
	void *options;
	struct df_opt_table table;
	int rc;
};

static void
add(struct request *r, size_t input, const char *name)
{
	struct df_strlist *l = &r->in.paths[input];
	char *copy = NULL;

	OK(df_grow(&l->v, &l->cap, l->n + 1, sizeof(*l->v), "paths", err));
	OK(df_strdup(&copy, at(name), err));
	l->v[l->n++] = copy;
}

static struct request
ask(const struct df_selector *m, const char *a, const char *b, const char *c)
{
	const char *names[] = { a, b, c };
	struct request r = {
		.m = m, .in = { .n_threads = 2, .seed = 42 }, .out = DF_SELECTION_INIT, .err = DF_ERR_INIT
	};

	for (size_t i = 0; i < 3; i++)
		if (names[i])
			add(&r, i, names[i]);
	OK(df_selector_defaults(m, &r.options, err));
	return r;
}

/* Set an integer, choice or text option of the method. */
static void
set(struct request *r, const char *name, int64_t number, const char *text)
{
	for (const struct df_opt *o = r->m->options; o->name; o++) {
		char *to = (char *)r->options + (uintptr_t)o->value;

		if (strcmp(o->name, name) != 0)
			continue;
		if (o->type == DF_OPT_CHOICE)
			*(int *)(void *)to = (int)number;
		else if (o->type == DF_OPT_INT)
			*(int64_t *)(void *)to = number;
		else
			*(const char **)(void *)to = text;
		return;
	}
	fail_msg("no option %s", name);
}

static void
amount(struct request *r, uint64_t n)
{
	r->in.amount = (struct df_amount){ .given = true, .n = n, .text = "n" };
}

static void
run_on(struct request *r, const char *device)
{
	OK(df_pool_new(&r->in.pool, 2, err));
	OK(df_backend_open(&r->in.be, device, r->in.pool, err));
	df_selection_release(&r->out);
	r->rc = df_select_run(r->m, &r->in, r->options, &r->out, &r->err);
	df_backend_close(r->in.be);
	df_pool_free(r->in.pool);
}

static void
run(struct request *r)
{
	const char *device = getenv("DF_TEST_DEVICE");

	run_on(r, device ? device : "cpu");
	if (r->rc != DF_OK)
		fail_msg("%s", r->err.msg);
}

static void
done(struct request *r)
{
	for (size_t i = 0; i < DF_SELECT_INPUTS; i++)
		for (size_t j = 0; j < r->in.paths[i].n; j++)
			free((char *)(uintptr_t)r->in.paths[i].v[j]);
	df_select_release(&r->in);
	df_selection_release(&r->out);
	free(r->options);
}

/* It must fail, and say this. */
static void
refused(struct request *r, int code, const char *says)
{
	run_on(r, "cpu");
	if (r->rc != code || !strstr(r->err.msg, says))
		fail_msg("code %d: '%s' is not code %d, '%s'", r->rc, r->err.msg, code, says);
	done(r);
}

static void
index_is(const struct request *r, const uint64_t *want, uint64_t n)
{
	assert_int_equal(r->out.n_index, n);
	for (uint64_t i = 0; i < n; i++)
		if (r->out.index[i] != want[i])
			fail_msg("index[%d] is %d, not %d", (int)i, (int)r->out.index[i], (int)want[i]);
}
#define INDEX_IS(r, ...) \
	index_is(r, (const uint64_t[]){ __VA_ARGS__ }, sizeof((const uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t))

/* ---- cluster-less ------------------------------------------------------------------------ */

enum { TRAIN, REPS, VAL };

/* The example of the specification: a = (0.707107, 0.707107) scores 0.707107, the other cluster 0.7. */
static void
test_example(void **state)
{
	static const uint32_t cluster[] = { 0, 0, 1, 1 };
	static const float score[] = { -1, -1, -1, -1 }, reps[] = { 3, 0, 0, 5, 0.6f, 0.8f }, val[] = { 1, 0, 0, 1 };
	struct request r;

	(void)state;
	put("c.h5", &(struct file){ DF_KIND_SCORES, 4, .x = score, .cluster = cluster });
	put("r.h5", &(struct file){ DF_KIND_PROJECTIONS, 3, 2, .x = reps });
	put("v.h5", &(struct file){ DF_KIND_PROJECTIONS, 2, 2, .x = val });
	r = ask(&df_select_cluster_less, "c.h5", "r.h5", "v.h5");
	amount(&r, 3);
	run(&r);
	INDEX_IS(&r, 0, 1, 2);
	assert_string_equal(df_meta_input(&r.out.meta, "checkpoint")->id, "00000000000000000000000000000002");
	assert_true(fabs(r.out.score[0] - 0.707107) < 1e-6 && fabs(r.out.score[1] - 0.707107) < 1e-6);
	assert_true(fabs(r.out.score[2] - 0.7) < 1e-6 && fabs(r.out.score[3] - 0.7) < 1e-6);
	assert_int_equal(r.out.cluster[3], 1);
	done(&r);
}

enum { N = 60, K = 7, M = 9, D = 13, CKPT = 2, PER = 4 };

struct instance {
	uint32_t cluster[N];
	float score[N], reps[CKPT][K * PER * D], val[CKPT][M * D];
	uint64_t rep_id[K * PER], n_reps;
	uint16_t val_domain[M];
};

static double
uniform(uint32_t stream, uint64_t i)
{
	return df_rng_uniform(9, DF_RNG_DEMO, stream, i);
}

static void
make_instance(struct instance *x)
{
	uint64_t in_cluster[K] = { 0 };

	x->n_reps = 0;
	for (uint64_t i = 0; i < N; i++) {
		x->cluster[i] = (uint32_t)(uniform(1, i) * K);
		x->score[i] = -(float)(int)(uniform(2, i) * 4);
		if (in_cluster[x->cluster[i]]++ < PER)
			x->rep_id[x->n_reps++] = i;
	}
	for (int c = 0; c < CKPT; c++) {
		for (uint64_t i = 0; i < x->n_reps * D; i++)
			x->reps[c][i] = (float)df_rng_normal(9, DF_RNG_DEMO, 10 + (uint32_t)c, i);
		for (uint64_t i = 0; i < M * D; i++)
			x->val[c][i] = (float)df_rng_normal(9, DF_RNG_DEMO, 20 + (uint32_t)c, i);
	}
	for (uint64_t i = 0; i < M; i++)
		x->val_domain[i] = (uint16_t)(i * i % 3);
}

static double
norm(const float *v)
{
	double s = 0;

	for (int k = 0; k < D; k++)
		s += (double)v[k] * (double)v[k];
	return sqrt(s);
}

/* influence [K][3 subtasks] and [K] the mean over all validation rows, by plain loops. */
static void
plain(const struct instance *x, const double w[CKPT], double best[K], double mean[K])
{
	for (uint32_t c = 0; c < K; c++) {
		double by_task[3] = { 0 };

		mean[c] = 0;
		for (int t = 0; t < CKPT; t++) {
			double a[D] = { 0 }, len = 0, sum[3] = { 0 }, all = 0;
			int n[3] = { 0 };

			for (uint64_t i = 0; i < x->n_reps; i++)
				for (int k = 0; x->cluster[x->rep_id[i]] == c && k < D; k++)
					a[k] += (double)x->reps[t][i * D + (uint64_t)k] / norm(x->reps[t] + i * D);
			for (int k = 0; k < D; k++)
				len += a[k] * a[k];
			for (int v = 0; v < M; v++) {
				double dot = 0;

				for (int k = 0; k < D; k++)
					dot += a[k] * (double)x->val[t][v * D + k];
				dot /= sqrt(len) * norm(x->val[t] + v * D);
				sum[x->val_domain[v]] += dot;
				n[x->val_domain[v]]++;
				all += dot / M;
			}
			for (int j = 0; j < 3; j++)
				by_task[j] += n[j] ? w[t] * sum[j] / n[j] : 0;
			mean[c] += w[t] * all;
		}
		best[c] = fmax(by_task[0], by_task[1]);
	}
}

/* Files of an instance; the representatives of each checkpoint in an order of their own. */
static void
put_instance(const struct instance *x)
{
	put("c.h5", &(struct file){ DF_KIND_SCORES, N, .x = x->score, .cluster = x->cluster, .tokens = tokens_a });
	for (int t = 0; t < CKPT; t++) {
		const char *names[CKPT][2] = { { "r0.h5", "v0.h5" }, { "r1.h5", "v1.h5" } };
		const char *checkpoint = t ? tokens_a : tokens_b; /* any id */
		uint64_t id[K * PER];
		float reps[K * PER * D];

		for (uint64_t i = 0; i < x->n_reps; i++) {
			const uint64_t from = t ? x->n_reps - 1 - i : i;

			id[i] = x->rep_id[from];
			memcpy(reps + i * D, x->reps[t] + from * D, D * sizeof(float));
		}
		put(names[t][0],
		    &(struct file){
			DF_KIND_PROJECTIONS, x->n_reps, D, id, reps, .tokens = tokens_a, .checkpoint = checkpoint });
		put(names[t][1],
		    &(struct file){ DF_KIND_PROJECTIONS, M, D, .x = x->val[t], .domain = x->val_domain,
			.tokens = val_tokens, .checkpoint = checkpoint });
	}
}

/* Domains 0 and 1 occur: squares are 0 or 1 modulo 3. */
static void
test_plain(void **state)
{
	static const double w[CKPT] = { 0.75, 0.25 };
	double best[K], mean[K];
	struct instance x;

	(void)state;
	make_instance(&x);
	put_instance(&x);
	plain(&x, w, best, mean);
	for (int way = 0; way < 3; way++) { /* max, mean, DataFlex's */
		struct request r = ask(&df_select_cluster_less, "c.h5", "r0.h5", "v0.h5");

		add(&r, REPS, "r1.h5");
		add(&r, VAL, "v1.h5");
		set(&r, "ckpt-weights", 0, "3e-5,1e-5");
		set(&r, "agg", way == 1, NULL);
		r.in.dataflex = way == 2;
		amount(&r, N);
		run(&r);
		for (uint64_t i = 0; i < N; i++) {
			const double want = way ? mean[x.cluster[i]] : best[x.cluster[i]];

			if (fabs((double)r.out.score[i] - want) > 1e-7)
				fail_msg("score[%d] is %.9g, not %.9g", (int)i, (double)r.out.score[i], want);
		}
		/* By score, then by the score of the clusters' file, then by id. */
		for (uint64_t i = 1; i < N; i++) {
			const uint64_t p = r.out.index[i - 1], q = r.out.index[i];

			assert_true(r.out.score[p] > r.out.score[q] ||
			    (r.out.score[p] == r.out.score[q] &&
				(x.score[p] > x.score[q] || (x.score[p] == x.score[q] && p < q))));
		}
		done(&r);
	}
}

/* The ranks in the scores file are the order of the index. */
static void
test_ranks_are_written(void **state)
{
	struct request r = ask(&df_select_cluster_less, "c.h5", "r0.h5", "v0.h5");
	struct df_batch b = DF_BATCH_INIT;
	struct df_set *set = NULL;

	(void)state;
	amount(&r, N);
	run(&r);
	OK(df_selection_write(&r.out, at("i.h5"), at("s.h5"), err));
	OK(df_set_open1(&set, DF_KIND_SCORES, "scores", at("s.h5"), err));
	OK(df_set_read(set, 0, N, &b, err));
	for (uint64_t i = 0; i < N; i++)
		assert_int_equal(((uint64_t *)b.col[DF_COL_RANK].data)[r.out.index[i]], i);
	assert_memory_equal(b.col[DF_COL_CLUSTER].data, r.out.cluster, N * sizeof(uint32_t));
	df_batch_release(&b);
	df_set_close(set);
	done(&r);
}

static void
test_order_of_rows(void **state)
{
	struct request whole = ask(&df_select_cluster_less, "c.h5", "r0.h5", "v0.h5"), parts;
	uint64_t id[2][K * PER], n[2] = { 0 };
	float reps[2][K * PER * D];
	struct instance x;

	(void)state;
	make_instance(&x);
	run(&whole);
	for (uint64_t i = x.n_reps; i-- > 0;) {
		const int p = i % 3 == 0;

		id[p][n[p]] = x.rep_id[i];
		memcpy(reps[p] + n[p]++ * D, x.reps[0] + i * D, D * sizeof(float));
	}
	for (int p = 0; p < 2; p++)
		put(p ? "p.00002-of-00002.h5" : "p.00001-of-00002.h5",
		    &(struct file){
			DF_KIND_PROJECTIONS, n[p], D, id[p], reps[p], .tokens = tokens_a, .checkpoint = tokens_b });
	parts = ask(&df_select_cluster_less, "c.h5", "p.h5", "v0.h5");
	run(&parts);
	assert_memory_equal(parts.out.score, whole.out.score, N * sizeof(float));
	done(&whole);
	done(&parts);
}

/* 4 clusters of two: 0 has a representative that is not finite beside a good one, 1 has none that is finite, 2 has two
 * that cancel, 3 has none; row 8 is in no cluster. */
static void
test_not_finite(void **state)
{
	static const uint32_t cluster[] = { 0, 0, 1, 1, 2, 2, 3, 3, UINT32_MAX };
	static const float score[9] = { 0 }, val[] = { 1, 0 };
	static const uint64_t id[] = { 0, 1, 3, 4, 5, 8 };
	const float reps[] = { NAN, 1, 2, 0, INFINITY, 0, 0.3f, -0.7f, -0.3f, 0.7f, 1, 0 };
	struct request r;

	(void)state;
	put("c9.h5", &(struct file){ DF_KIND_SCORES, 9, .x = score, .cluster = cluster });
	put("r9.h5", &(struct file){ DF_KIND_PROJECTIONS, 6, 2, .id = id, .x = reps });
	put("v9.h5", &(struct file){ DF_KIND_PROJECTIONS, 1, 2, .x = val });
	r = ask(&df_select_cluster_less, "c9.h5", "r9.h5", "v9.h5");
	amount(&r, 4);
	run(&r);
	INDEX_IS(&r, 0, 1, 4, 5);
	assert_true(r.out.score[0] == 1 && r.out.score[1] == 1 && r.out.score[4] == 0 && r.out.score[5] == 0);
	for (int i = 2; i < 9; i++)
		assert_true(i == 4 || i == 5 || isnan(r.out.score[i]));
	assert_int_equal(r.out.n_invalid, 5);
	done(&r);

	r = ask(&df_select_cluster_less, "c9.h5", "r9.h5", "v9.h5");
	amount(&r, 5);
	refused(&r, DF_EUSAGE, "asked for 5 rows, but only 4 are valid");
	for (int mode = DF_SHORT_CYCLE; mode <= DF_SHORT_TRUNCATE; mode++) {
		static const uint64_t want[] = {
			[DF_SHORT_CYCLE] = 9, [DF_SHORT_REPLACE] = 9, [DF_SHORT_TRUNCATE] = 4
		};

		if (mode == DF_SHORT_ERROR)
			continue;
		r = ask(&df_select_cluster_less, "c9.h5", "r9.h5", "v9.h5");
		r.in.shortage = (enum df_shortage)mode;
		amount(&r, 9);
		run(&r);
		assert_int_equal(r.out.n_index, want[mode]);
		for (uint64_t i = 0; i < r.out.n_index; i++)
			assert_false(isnan(r.out.score[r.out.index[i]]));
		done(&r);
	}
	r = ask(&df_select_cluster_less, "c9.h5", "r9.h5", "v9.h5");
	r.in.allow_invalid = true;
	run(&r);
	assert_int_equal(r.out.n_index, 9);
	INDEX_IS(&r, 0, 1, 4, 5, 2, 3, 6, 7, 8);
	done(&r);
	r = ask(&df_select_cluster_less, "c9.h5", "r9.h5", "v9.h5");
	amount(&r, 0);
	run(&r);
	assert_int_equal(r.out.n_index, 0);
	done(&r);
}

static void
test_refusals(void **state)
{
	static const uint32_t cluster[] = { 0, 1, 2 }, beyond[] = { 0, 3, 1 };
	static const float score[3] = { 0 }, p[] = { 1, 0, 0, 1, 1, 1, 2, 2 };
	static const uint64_t out_of_range[] = { 0, 3 }, twice[] = { 1, 1 };
	const float nan[] = { NAN, 1 };
	const struct file clusters = { DF_KIND_SCORES, 3, .x = score, .cluster = cluster, .tokens = tokens_a };
	const struct file reps = { DF_KIND_PROJECTIONS, 2, 2, .x = p, .tokens = tokens_a },
			  val = { DF_KIND_PROJECTIONS, 1, 2, .x = p };
	struct file f;
	struct request r;

	(void)state;
	put("c.h5", &clusters);
	put("r.h5", &reps);
	put("v.h5", &val);
	f = clusters;
	f.cluster = beyond;
	put("beyond.h5", &f);
	f = clusters;
	f.cluster = NULL;
	put("none.h5", &f);
	r = ask(&df_select_cluster_less, "beyond.h5", "r.h5", "v.h5");
	refused(&r, DF_EFORMAT, "sample 1 is in cluster 3, but there are only 3 rows");
	r = ask(&df_select_cluster_less, "none.h5", "r.h5", "v.h5");
	refused(&r, DF_EFORMAT, "no clusters are in it");
	f = reps;
	f.tokens = tokens_b;
	put("x.h5", &f);
	r = ask(&df_select_cluster_less, "c.h5", "x.h5", "v.h5");
	refused(&r, DF_ELINEAGE, "'tokens'");
	f = reps;
	f.id = out_of_range;
	put("x.h5", &f);
	r = ask(&df_select_cluster_less, "c.h5", "x.h5", "v.h5");
	refused(&r, DF_EFORMAT, "x.h5");
	f.id = twice;
	put("x.h5", &f);
	r = ask(&df_select_cluster_less, "c.h5", "x.h5", "v.h5");
	refused(&r, DF_EFORMAT, "x.h5");
	f = reps;
	f.seed = 7;
	put("x.h5", &f);
	r = ask(&df_select_cluster_less, "c.h5", "x.h5", "v.h5");
	refused(&r, DF_ELINEAGE, "'seed'");
	f = reps;
	f.checkpoint = tokens_a;
	put("x.h5", &f);
	r = ask(&df_select_cluster_less, "c.h5", "x.h5", "v.h5");
	refused(&r, DF_ELINEAGE, "'checkpoint'");
	f = val;
	f.width = 4;
	put("x.h5", &f);
	r = ask(&df_select_cluster_less, "c.h5", "r.h5", "x.h5");
	refused(&r, DF_EFORMAT, "has 2 dimensions");
	f.width = 2;
	f.x = nan;
	put("x.h5", &f);
	r = ask(&df_select_cluster_less, "c.h5", "r.h5", "x.h5");
	refused(&r, DF_EFORMAT, "id 0: the validation gradient is not finite");
	f.n = 0;
	put("x.h5", &f);
	r = ask(&df_select_cluster_less, "c.h5", "r.h5", "x.h5");
	refused(&r, DF_EFORMAT, "no rows");
	r = ask(&df_select_cluster_less, "c.h5", "r.h5", "v.h5");
	add(&r, REPS, "r.h5");
	refused(&r, DF_EUSAGE, "1 of --val for 2 of --reps");
	r = ask(&df_select_cluster_less, "c.h5", "r.h5", "v.h5");
	set(&r, "ckpt-weights", 0, "1,2");
	refused(&r, DF_EUSAGE, "2 weights for 1 checkpoints");
	/* Without any representatives nothing can be chosen. */
	f = reps;
	f.n = 0;
	put("x.h5", &f);
	r = ask(&df_select_cluster_less, "c.h5", "x.h5", "v.h5");
	amount(&r, 1);
	refused(&r, DF_EUSAGE, "only 0 are valid");
}

/* ---- cluster ----------------------------------------------------------------------------------- */

/* Two clusters of three on a line, an outlier in each: 0, 1, 5 (mean 2) and 20, 21, 25 (mean 22). */
static void
test_representatives(void **state)
{
	static const float line[] = { 0, 20, 1, 21, 5, 25 };
	static const struct {
		int strategy;
		uint64_t per, want[6], n;
	} t[] = {
		{ 1, 1, { 2, 3 }, 2 },             /* nearest: 1 of (0, 1, 5), 21 of (20, 21, 25) */
		{ 1, 2, { 2, 3, 0, 1 }, 4 },       /* then 0, 20 */
		{ 2, 1, { 4, 5 }, 2 },             /* farthest: 5, 25 */
		{ 3, 3, { 2, 3, 4, 5, 0, 1 }, 6 }, /* nearest, farthest, second nearest */
		{ 3, 100, { 2, 3, 4, 5, 0, 1 }, 6 },
	};

	(void)state;
	put("e.h5", &(struct file){ DF_KIND_EMBEDDINGS, 6, 1, .x = line });
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct request r = ask(&df_select_cluster, "e.h5", NULL, NULL);

		set(&r, "num-clusters", 2, NULL);
		set(&r, "per-cluster", (int64_t)t[i].per, NULL);
		set(&r, "representatives", t[i].strategy, NULL);
		run(&r);
		assert_int_equal(r.out.cluster[0], r.out.cluster[2]);
		assert_int_equal(r.out.cluster[0], r.out.cluster[4]);
		assert_int_equal(r.out.cluster[1], r.out.cluster[3]);
		assert_int_not_equal(r.out.cluster[0], r.out.cluster[1]);
		/* Which of the two is cluster 0 is drawn. */
		assert_int_equal(r.out.n_index, t[i].n);
		for (uint64_t k = 0; k < t[i].n; k++)
			assert_int_equal(r.out.index[k], t[i].want[r.out.cluster[0] == 0 ? k : k ^ 1]);
		assert_true(r.out.score[0] == -2 && r.out.score[2] == -1 && r.out.score[5] == -3);
		done(&r);
	}
}

/* Equal distances go to the lower id, in nearest and in farthest. */
static void
test_equal_distances(void **state)
{
	static const float line[] = { 1, -1, 1, -1 };

	(void)state;
	put("e.h5", &(struct file){ DF_KIND_EMBEDDINGS, 4, 1, .x = line });
	for (int strategy = 1; strategy <= 3; strategy++) {
		struct request r = ask(&df_select_cluster, "e.h5", NULL, NULL);

		set(&r, "representatives", strategy, NULL);
		set(&r, "per-cluster", 3, NULL);
		run(&r);
		INDEX_IS(&r, 0, 1, 2);
		done(&r);
	}
}

enum { E = 90, W = 6 };

static void
put_embeddings(const char *name, float *x)
{
	for (uint64_t i = 0; i < E * W; i++)
		x[i] = (float)(df_rng_normal(5, DF_RNG_DEMO, 3, i) +
		    3 * df_rng_normal(5, DF_RNG_DEMO, 4, i / W % 8 * W + i % W));
	put(name, &(struct file){ DF_KIND_EMBEDDINGS, E, W, .x = x, .tokens = tokens_a });
}

/* The same on all devices, in every way; each cluster has min(size, 3) representatives, all different. */
static void
test_devices(void **state)
{
	static const char *const devices[] = { "cpu", "reference", "poison", "openblas" };
	float x[E * W];

	(void)state;
	put_embeddings("e.h5", x);
	for (int way = 0; way < 5; way++) {
		for (int strategy = 0; strategy < 4; strategy++) {
			struct request want = ask(&df_select_cluster, "e.h5", NULL, NULL);
			uint64_t size[E] = { 0 }, n = 0;
			bool seen[E] = { false };

			set(&want, "clustering", way, NULL);
			set(&want, "representatives", strategy, NULL);
			set(&want, "cluster-size", 8, NULL);
			run_on(&want, "cpu");
			for (uint64_t i = 0; i < E; i++)
				size[want.out.cluster[i]]++;
			for (uint64_t c = 0; c < E; c++)
				n += size[c] < 3 ? size[c] : 3;
			assert_int_equal(want.out.n_index, n);
			for (uint64_t i = 0; i < n; i++) {
				assert_false(seen[want.out.index[i]]);
				seen[want.out.index[i]] = true;
			}
			for (size_t d = 1; d < 4; d++) {
				struct request r = ask(&df_select_cluster, "e.h5", NULL, NULL);

				memcpy(r.options, want.options, df_select_cluster.defaults_size);
				run_on(&r, devices[d]);
				if (d == 3 && r.rc != DF_OK) { /* not installed */
					done(&r);
					continue;
				}
				assert_int_equal(r.rc, DF_OK);
				assert_memory_equal(r.out.cluster, want.out.cluster, E * sizeof(uint32_t));
				assert_memory_equal(r.out.score, want.out.score, E * sizeof(float));
				index_is(&r, want.out.index, want.out.n_index);
				done(&r);
			}
			done(&want);
		}
	}
}

/* Another step: the same clusters, other random representatives, also of the clusters of the first. */
static void
test_steps(void **state)
{
	struct request first = ask(&df_select_cluster, "e.h5", NULL, NULL),
		       second = ask(&df_select_cluster, "e.h5", NULL, NULL), again;
	bool differ = false;

	(void)state;
	set(&first, "cluster-size", 8, NULL);
	set(&second, "cluster-size", 8, NULL);
	second.in.step = 7;
	run(&first);
	run(&second);
	assert_memory_equal(first.out.cluster, second.out.cluster, E * sizeof(uint32_t));
	for (uint64_t i = 0; i < first.out.n_index; i++)
		differ |= first.out.index[i] != second.out.index[i];
	assert_true(differ);
	OK(df_selection_write(&first.out, NULL, at("clusters.h5"), err));
	again = ask(&df_select_cluster, "e.h5", "clusters.h5", NULL);
	again.in.step = 7;
	run(&again);
	assert_memory_equal(again.out.cluster, second.out.cluster, E * sizeof(uint32_t));
	assert_memory_equal(again.out.score, second.out.score, E * sizeof(float));
	index_is(&again, second.out.index, second.out.n_index);
	done(&first);
	done(&second);
	done(&again);
}

/*
 * torch.Generator().manual_seed(42 + 5 + 17), then torch.randperm(3), (1), (5), (2), (4): DataFlex's representatives of
 * step 5 for clusters of these sizes.
 */
static void
test_torch(void **state)
{
	static const uint32_t cluster[] = { 2, 0, 2, 4, 3, 0, 2, 2, 1, 4, 3, 0, 2, 4, 4 };
	static const uint64_t member[5][5] = { { 1, 5, 11 }, { 8 }, { 0, 2, 6, 7, 12 }, { 4, 10 }, { 3, 9, 13, 14 } };
	static const uint64_t perm[5][5] = { { 2, 1, 0 }, { 0 }, { 2, 3, 4, 0, 1 }, { 0, 1 }, { 3, 2, 1, 0 } };
	static const uint64_t size[] = { 3, 1, 5, 2, 4 };
	static const float score[15] = { 0 };
	float x[15];
	struct request r;
	uint64_t n = 0;

	(void)state;
	for (int i = 0; i < 15; i++)
		x[i] = (float)i;
	put("e15.h5", &(struct file){ DF_KIND_EMBEDDINGS, 15, 1, .x = x });
	put("c15.h5", &(struct file){ DF_KIND_SCORES, 15, .x = score, .cluster = cluster });
	r = ask(&df_select_cluster, "e15.h5", "c15.h5", NULL);
	r.in.torch = true;
	r.in.step = 5;
	run(&r);
	for (uint64_t round = 0; round < 3; round++)
		for (uint64_t c = 0; c < 5; c++)
			if (round < size[c])
				assert_int_equal(r.out.index[n++], member[c][perm[c][round]]);
	assert_int_equal(r.out.n_index, n);
	done(&r);
}

/* DataFlex 3c13e37, its random partition of 40 rows into 5 with seed 42 (cluster.txt has its other ways). */
static void
test_torch_partition(void **state)
{
	static const uint32_t want[] = { 1, 1, 3, 2, 4, 0, 4, 0, 3, 2, 4, 0, 0, 3, 1, 2, 3, 3, 2, 4, 1, 3, 4, 0, 1, 4,
		2, 2, 2, 3, 0, 1, 1, 4, 2, 3, 1, 4, 0, 0 };
	float x[40] = { 0 };
	struct request r;

	(void)state;
	put("e40.h5", &(struct file){ DF_KIND_EMBEDDINGS, 40, 1, .x = x });
	r = ask(&df_select_cluster, "e40.h5", NULL, NULL);
	r.in.torch = true;
	set(&r, "clustering", 4, NULL);
	set(&r, "cluster-size", 8, NULL);
	run(&r);
	assert_memory_equal(r.out.cluster, want, sizeof(want));
	done(&r);
}

static void
test_rows_that_may_not_be_chosen(void **state)
{
	static const uint64_t excluded[] = { 2, 3 };
	const float line[] = { 0, 20, 1, 21, 5, 25, NAN };
	struct df_selection index = DF_SELECTION_INIT;
	struct request r;
	char path[4096];

	(void)state;
	put("e7.h5", &(struct file){ DF_KIND_EMBEDDINGS, 7, 1, .x = line });
	index.index = (void *)(uintptr_t)excluded;
	index.n_index = 2;
	OK(df_meta_set_tool(&index.meta, "test", err));
	snprintf(path, sizeof(path), "%s", at("excluded.h5"));
	OK(df_selection_write(&index, path, NULL, err));
	df_meta_release(&index.meta);
	for (int strategy = 0; strategy < 4; strategy++) {
		r = ask(&df_select_cluster, "e7.h5", NULL, NULL);
		r.in.exclude = path;
		set(&r, "num-clusters", 2, NULL);
		set(&r, "representatives", strategy, NULL);
		run(&r);
		assert_int_equal(r.out.n_index, 4);
		for (uint64_t i = 0; i < 4; i++)
			assert_true(r.out.index[i] != 2 && r.out.index[i] != 3 && r.out.index[i] != 6);
		assert_int_equal(r.out.cluster[6], UINT32_MAX);
		assert_true(isnan(r.out.score[6]));
		assert_int_equal(r.out.n_invalid, 1);
		assert_true(r.out.score[2] == -1); /* it belongs to its cluster */
		done(&r);
	}
	/* An amount takes the first of each cluster first. */
	r = ask(&df_select_cluster, "e7.h5", NULL, NULL);
	set(&r, "num-clusters", 2, NULL);
	amount(&r, 2);
	run(&r);
	assert_int_equal(r.out.n_index, 2);
	assert_int_not_equal(r.out.cluster[r.out.index[0]], r.out.cluster[r.out.index[1]]);
	done(&r);
	r = ask(&df_select_cluster, "e7.h5", NULL, NULL);
	amount(&r, 4);
	set(&r, "per-cluster", 3, NULL);
	refused(&r, DF_EUSAGE, "asked for 4 rows, but only 3 are valid");
}

static void
test_cluster_refusals(void **state)
{
	const float nan[] = { NAN, INFINITY }, one[] = { 1 };
	struct request r;

	(void)state;
	put("x.h5", &(struct file){ DF_KIND_EMBEDDINGS, 2, 1, .x = nan });
	r = ask(&df_select_cluster, "x.h5", NULL, NULL);
	run_on(&r, "cpu");
	assert_int_not_equal(r.rc, DF_OK);
	done(&r);
	put("x.h5", &(struct file){ DF_KIND_EMBEDDINGS, 0, 1, .x = one });
	r = ask(&df_select_cluster, "x.h5", NULL, NULL);
	refused(&r, DF_EUSAGE, "x.h5: no rows");
	r = ask(&df_select_cluster, "e.h5", "clusters.h5", NULL);
	set(&r, "max-iter", 3, NULL);
	refused(&r, DF_EUSAGE, "would have no effect");
	r = ask(&df_select_cluster, "e.h5", NULL, NULL);
	r.in.torch = true;
	set(&r, "clustering", 3, NULL);
	refused(&r, DF_EUNSUPPORTED, "normal draws");
	r = ask(&df_select_cluster, "e7.h5", "clusters.h5", NULL);
	refused(&r, DF_ELINEAGE, "has 7 rows");
	/* One row is one cluster and represents itself. */
	put("x.h5", &(struct file){ DF_KIND_EMBEDDINGS, 1, 1, .x = one });
	r = ask(&df_select_cluster, "x.h5", NULL, NULL);
	set(&r, "num-clusters", 5, NULL);
	run(&r);
	INDEX_IS(&r, 0);
	assert_true(r.out.score[0] == 0 && !signbit(r.out.score[0]));
	done(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_example),
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_ranks_are_written),
		cmocka_unit_test(test_order_of_rows),
		cmocka_unit_test(test_not_finite),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_representatives),
		cmocka_unit_test(test_equal_distances),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_torch),
		cmocka_unit_test(test_torch_partition),
		cmocka_unit_test(test_rows_that_may_not_be_chosen),
		cmocka_unit_test(test_cluster_refusals),
	};

	return cmocka_run_group_tests_name("cluster_less", tests, scratch_make, scratch_remove);
}

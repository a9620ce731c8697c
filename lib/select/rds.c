/*
 * rds.c - RDS+: the rows whose representations are most similar to a target's, taken in turn.
 *
 * Ivison, Zhang, Brahman, Koh, Dasigi: "Large-Scale Data Selection for Instruction Tuning", 2025.  Similarity is the
 * cosine of two embeddings.
 *
 *   round-robin, one subtask    each query in turn takes its next nearest row
 *   round-robin, several        each subtask in turn takes its next best row, by the best of its queries
 *   max                         one ranking by the best query
 *   mean                        one ranking by the mean over all queries
 *
 * In turns, a row that was taken before costs the turn.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "select/less.h"
#include "select/neighbours.h"
#include "select/subtasks.h"

enum agg { ROUND_ROBIN, MAX, MEAN };
static const char *const aggs[] = { "round-robin", "max", "mean", NULL };

struct options {
	const char *subtasks;
	int agg;
};

static int
check(const struct df_select *in, const void *options, struct df_err *err)
{
	const struct options *o = options;

	(void)in;
	if (o->agg != ROUND_ROBIN && strcmp(o->subtasks, "domain") != 0 && strcmp(o->subtasks, "none") != 0)
		return df_fail(err, DF_EUSAGE,
		    "%s would have no effect: --agg %s is over all queries; leave the subtasks out, or take turns",
		    o->subtasks, aggs[o->agg]);
	return DF_OK;
}

/* ---- scores of every row ------------------------------------------------------------------ */

/* The queries of one subtask. */
struct group {
	struct df_points points;
	float *x;
};

struct scoring {
	struct df_search *s;
	struct group *group; /* [n_groups] */
	size_t n_groups;
	float *score; /* [n_groups, n_rows] by id; NaN for rows that may not be chosen */
};

/* score[id] of a block's rows = the cosine with the nearest query of the group, the row's one neighbour. */
static int
best_of_group(const struct scoring *c, size_t group, const float *x, const uint64_t *id, uint64_t n, struct df_err *err)
{
	const struct df_points rows = { .x = x, .n = n, .d = c->s->queries.points.d };
	float *score = c->score + group * c->s->out->n_rows, *best = NULL;
	uint64_t *query = NULL, k;
	struct df_knn *knn = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&query, n, sizeof(*query), "scores", err));
	DF_TRY(df_alloc(&best, n, sizeof(*best), "scores", err));
	DF_TRY(df_knn_new(&knn, &c->s->near, DF_METRIC_DOT, &rows, 1, NULL, err));
	DF_TRY(df_knn_add(knn, c->group[group].x, NULL, c->group[group].points.n, err));
	DF_TRY(df_knn_end(knn, query, best, &k, err));
	for (uint64_t i = 0; i < n; i++)
		score[id[i]] = best[i];
out:
	df_knn_free(knn);
	free(query);
	free(best);
	return rc;
}

static int
score_rows(void *ctx, const float *x, const uint64_t *id, uint64_t n, struct df_err *err)
{
	const struct scoring *c = ctx;
	int rc = DF_OK;

	for (size_t g = 0; g < c->n_groups; g++)
		DF_TRY(best_of_group(c, g, x, id, n, err));
out:
	return rc;
}

static int
make_groups(struct scoring *c, const struct df_subtasks *t, struct df_err *err)
{
	const struct df_points *q = &c->s->queries.points;
	int rc = DF_OK;

	DF_TRY(df_alloc(&c->group, t->names.n, sizeof(*c->group), "subtasks", err));
	c->n_groups = t->names.n;
	for (uint64_t i = 0; i < q->n; i++)
		c->group[t->of_row[i]].points.n++;
	for (size_t g = 0; g < c->n_groups; g++) {
		DF_TRY(df_alloc(&c->group[g].x, c->group[g].points.n, q->d * sizeof(float), "queries", err));
		c->group[g].points.n = 0;
	}
	for (uint64_t i = 0; i < q->n; i++) {
		struct group *g = &c->group[t->of_row[i]];

		memcpy(g->x + g->points.n++ * q->d, q->x + i * q->d, q->d * sizeof(float));
	}
out:
	return rc;
}

/* *score [n_tasks, n_rows] = each row's cosine with the nearest query of each subtask. */
static int
score_by_task(struct df_search *s, const struct df_subtasks *t, float **score, struct df_err *err)
{
	struct scoring c = { .s = s };
	size_t n;
	int rc = DF_OK;

	DF_TRY(df_size_mul(t->names.n, s->out->n_rows, &n, "scores", err));
	DF_TRY(df_alloc(score, n, sizeof(**score), "scores", err));
	for (size_t i = 0; i < n; i++)
		(*score)[i] = NAN;
	c.score = *score;
	DF_TRY(make_groups(&c, t, err));
	DF_TRY(df_search_pass(s, score_rows, &c, err));
out:
	for (size_t g = 0; g < c.n_groups; g++)
		free(c.group[g].x);
	free(c.group);
	return rc;
}

struct mean {
	struct df_less less;
	float *score;
};

static int
mean_rows(void *ctx, const float *x, const uint64_t *id, uint64_t n, struct df_err *err)
{
	struct mean *m = ctx;
	double score[256];

	(void)err;
	for (uint64_t first = 0; first < n; first += 256) {
		const uint64_t some = n - first < 256 ? n - first : 256;

		memset(score, 0, sizeof(score));
		df_less_train_rows(&m->less, x + first * m->less.k, some, 1, score);
		for (uint64_t i = 0; i < some; i++)
			m->score[id[first + i]] = (float)score[i];
	}
	return DF_OK;
}

/* The mean of the cosines is the product with the mean of the queries: LESS's arithmetic, with one subtask. */
static int
score_by_mean(struct df_search *s, float *score, struct df_err *err)
{
	const struct df_points *q = &s->queries.points;
	struct mean m = { .score = score };
	int rc = DF_OK;

	DF_TRY(df_less_init(&m.less, q->d, 1, DF_VAL_MEAN_OF_COSINE, err));
	for (uint64_t i = 0; i < q->n; i++)
		df_less_val_row(&m.less, q->x + i * q->d, 0);
	DF_TRY(df_less_end(&m.less, err));
	DF_TRY(df_search_pass(s, mean_rows, &m, err));
out:
	df_less_release(&m.less);
	return rc;
}

/* ---- turns ------------------------------------------------------------------------------------ */

/* Does order [n] have as much as was asked for? */
static bool
enough(const struct df_select *in, const struct df_search *s, const uint64_t *order, uint64_t n)
{
	uint64_t tokens = 0;

	if (n >= s->n_valid)
		return true;
	if (!in->amount.tokens)
		return in->amount.given && n >= df_amount_of(&in->amount, s->out->n_rows);
	for (uint64_t i = 0; i < n; i++)
		tokens += in->n_tokens[order[i]];
	return tokens >= in->amount.n;
}

/*
 * Each query in turn.  Lists of k rows give the beginning of the whole order, so they grow only when they have too few
 * distinct rows.
 */
static int
queries_in_turn(struct df_search *s, uint64_t *order, uint64_t *n, struct df_err *err)
{
	const uint64_t n_rows = s->out->n_rows, m = s->queries.points.n;
	const uint64_t wanted = s->in->amount.tokens ? n_rows / 8 : df_amount_of(&s->in->amount, n_rows);
	struct df_neighbours t = { 0 };
	int rc = DF_OK;

	for (uint64_t k = 2 * (wanted / m + 1);; k *= 4) {
		df_neighbours_release(&t);
		DF_TRY(df_neighbours_get(&t, s, k, err));
		DF_TRY(df_neighbours_union(&t, n_rows, order, n, err));
		if (k >= n_rows || enough(s->in, s, order, *n))
			break;
	}
out:
	df_neighbours_release(&t);
	return rc;
}

/* Each subtask in turn. */
static int
tasks_in_turn(struct df_search *s, const struct df_subtasks *tasks, uint64_t *order, uint64_t *n, struct df_err *err)
{
	const uint64_t n_rows = s->out->n_rows;
	struct df_neighbours t = { .m = tasks->names.n, .k = n_rows };
	float *score = NULL;
	int rc = DF_OK;

	DF_TRY(score_by_task(s, tasks, &score, err));
	DF_TRY(df_alloc(&t.id, t.m, n_rows * sizeof(*t.id), "ranks", err));
	for (uint64_t j = 0; j < t.m; j++) {
		uint64_t *rank = t.id + j * n_rows, n_valid;

		DF_TRY(df_rank(score + j * n_rows, n_rows, rank, &n_valid, err));
		for (uint64_t i = n_valid; i < n_rows; i++)
			rank[i] = DF_KNN_NONE;
	}
	DF_TRY(df_neighbours_union(&t, n_rows, order, n, err));
out:
	free(score);
	df_neighbours_release(&t);
	return rc;
}

static int
take_turns(struct df_search *s, const struct df_subtasks *tasks, struct df_err *err)
{
	struct df_selection *out = s->out;
	uint64_t *order = NULL, n;
	int rc = DF_OK;

	DF_TRY(df_alloc(&order, out->n_rows, sizeof(*order), "index", err));
	if (tasks->names.n == 1)
		DF_TRY(queries_in_turn(s, order, &n, err));
	else
		DF_TRY(tasks_in_turn(s, tasks, order, &n, err));
	if (s->in->allow_invalid)
		df_search_add_invalid(s, order, &n);
	DF_TRY(df_select_take(s->in, order, n, out, err));
out:
	free(order);
	return rc;
}

/* ---- run ------------------------------------------------------------------------------------------ */

static int
score_all(struct df_search *s, const struct options *o, const struct df_subtasks *tasks, struct df_err *err)
{
	struct df_selection *out = s->out;
	int rc = DF_OK;

	s->with_excluded = true;
	if (o->agg == MEAN) {
		DF_TRY(df_alloc(&out->score, out->n_rows, sizeof(*out->score), "scores", err));
		for (uint64_t i = 0; i < out->n_rows; i++)
			out->score[i] = NAN;
		DF_TRY(score_by_mean(s, out->score, err));
	} else {
		DF_TRY(score_by_task(s, tasks, &out->score, err));
	}
	DF_TRY(df_select_top(s->in, out, err));
out:
	return rc;
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const struct options *o = options;
	struct df_subtasks tasks = { 0 };
	struct df_search s = { 0 };
	int rc = DF_OK;

	DF_TRY(df_subtasks_find(&tasks, o->agg == ROUND_ROBIN ? o->subtasks : "none",
	    &df_search_inputs[DF_SEARCH_QUERY], in->sets[DF_SEARCH_QUERY].v[0], err));
	DF_TRY(df_meta_set_str(&out->meta, "agg", aggs[o->agg], err));
	DF_TRY(df_subtasks_record(&tasks, &out->meta, err));
	DF_TRY(df_search_open(&s, in, out, DF_METRIC_DOT, err));
	DF_TRY(o->agg == ROUND_ROBIN ? take_turns(&s, &tasks, err) : score_all(&s, o, &tasks, err));
out:
	df_subtasks_release(&tasks);
	df_search_release(&s);
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "subtasks", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, subtasks), .arg = "WHAT",
	    .file = DF_FILE_READ_ANY, .choices = df_subtasks_words, .help = "groups of the queries: domain, none, FILE" },
	{ .name = "agg", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, agg), .choices = aggs,
	    .help = "queries or subtasks in turn; or a ranking by the best, or the mean" },
	DF_OPT_END };
/* clang-format on */

static const struct df_select_input inputs[] = {
	[DF_SEARCH_TRAIN] = DF_SEARCH_INPUT_TRAIN,
	[DF_SEARCH_QUERY] = DF_SEARCH_INPUT_QUERY(false),
};

const struct df_selector df_select_rds = {
	.name = "rds",
	.about = "the most similar rows, each query in turn",
	.model = "yes",
	.cost = "embeddings",
	.shortage = DF_SHORT_ERROR,
	.inputs = inputs,
	.n_inputs = 2,
	.defaults = &(const struct options){ .subtasks = "domain" },
	.defaults_size = sizeof(struct options),
	.options = options,
	.check = check,
	.run = run,
};

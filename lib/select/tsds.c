/*
 * tsds.c - a distribution over the rows that is like a target's and yet spread out; samples are drawn from it.
 *
 *   neighbours of the queries --> their density, of each other --> the probability of each --> draws
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "select/tsds.h"

enum sampling { RACE, MULTINOMIAL };
static const char *const samplings[] = { "race", "multinomial", NULL };

struct options {
	int64_t max_k, kde_k;
	double sigma, alpha, c;
	int sampling;
	const char *neighbours_output;
};

static int
check(const struct df_select *in, const void *options, struct df_err *err)
{
	const struct options *o = options;

	if (o->sampling == MULTINOMIAL && in->amount.tokens)
		return df_fail(err, DF_EUSAGE, "--sampling multinomial draws a number of rows, not of tokens");
	return df_search_check(in, o->neighbours_output, err);
}

/* ---- density --------------------------------------------------------------------------- */

/* The rows that are a neighbour of some query, in memory. */
struct members {
	uint64_t *at; /* [n_rows] by id: 1 + place in x, or 0 */
	float *x;     /* [n,d] */
	uint64_t n;
	size_t d;
};

static int
take_members(void *ctx, const float *x, const uint64_t *id, uint64_t n, struct df_err *err)
{
	const struct members *m = ctx;

	(void)err;
	for (uint64_t i = 0; i < n; i++)
		if (m->at[id[i]])
			memcpy(m->x + (m->at[id[i]] - 1) * m->d, x + i * m->d, m->d * sizeof(*x));
	return DF_OK;
}

/*
 * Places of the members such that rows that are alike are beside each other: their pairs are then found in blocks, and
 * from the cache.  A row goes with the nearest of the queries that have it; a query whose nearest row is within sigma
 * of an earlier query goes with that one.
 */
static int
place_members(struct members *m, const struct df_neighbours *t, uint64_t n_rows, double sigma, struct df_err *err)
{
	float *nearest = NULL;  /* [n_rows] distance to the query that the row goes with */
	uint64_t *place = NULL; /* [m + 1] of the next row of group g, where m->at [id] is g, from 1 */
	int rc = DF_OK;

	DF_TRY(df_alloc(&nearest, n_rows, sizeof(*nearest), "rows", err));
	DF_TRY(df_alloc(&place, t->m + 1, sizeof(*place), "queries", err));
	for (uint64_t q = 0; q < t->m; q++) {
		const uint64_t *id = t->id + q * t->k;
		const float *distance = t->distance + q * t->k;
		uint64_t group = q + 1;

		if (df_neighbours_has(t, q, 0) && m->at[id[0]] && (double)nearest[id[0]] <= sigma)
			group = m->at[id[0]];
		for (uint64_t k = 0; df_neighbours_has(t, q, k); k++) {
			if (m->at[id[k]] && nearest[id[k]] <= distance[k])
				continue;
			m->at[id[k]] = group;
			nearest[id[k]] = distance[k];
		}
	}
	for (uint64_t i = 0; i < n_rows; i++)
		if (m->at[i])
			place[m->at[i]]++;
	for (uint64_t g = 0; g <= t->m; g++) {
		const uint64_t n = place[g];

		place[g] = m->n;
		m->n += n;
	}
	for (uint64_t i = 0; i < n_rows; i++)
		if (m->at[i])
			m->at[i] = ++place[m->at[i]];
out:
	free(nearest);
	free(place);
	return rc;
}

static int
find_members(struct members *m, const struct df_neighbours *t, struct df_search *s, double sigma, struct df_err *err)
{
	const uint64_t n_rows = s->out->n_rows;
	int rc = DF_OK;

	m->d = df_set_width(s->in->sets[DF_SEARCH_TRAIN].v[0], DF_COL_EMBEDDING);
	DF_TRY(df_alloc(&m->at, n_rows, sizeof(*m->at), "rows", err));
	DF_TRY(place_members(m, t, n_rows, sigma, err));
	DF_TRY(df_alloc(&m->x, m->n, m->d * sizeof(*m->x), "rows", err));
	DF_TRY(df_search_pass(s, take_members, m, err));
out:
	return rc;
}

/* rho [n_rows] by id, of the rows in the table. */
static int
find_density(
    const struct df_neighbours *t, struct df_search *s, const struct options *o, double *rho, struct df_err *err)
{
	struct members m = { 0 };
	double *density = NULL, sum = 0;
	int rc = DF_OK;

	for (uint64_t i = 0; i < s->out->n_rows; i++)
		rho[i] = 1;
	if (!(o->sigma > 0))
		return DF_OK;
	DF_TRY(find_members(&m, t, s, o->sigma, err));
	DF_TRY(df_alloc(&density, m.n, sizeof(*density), "densities", err));
	DF_TRY(df_tsds_density(
	    &s->near, &(struct df_points){ .x = m.x, .n = m.n, .d = m.d }, o->sigma, (uint64_t)o->kde_k, density, err));
	for (uint64_t i = 0; i < s->out->n_rows; i++) {
		if (m.at[i]) {
			rho[i] = density[m.at[i] - 1];
			sum += rho[i];
		}
	}
	df_debug("%" PRIu64 " rows are near a query; their mean density is %.3f", m.n, m.n ? sum / (double)m.n : 0);
out:
	free(density);
	free(m.at);
	free(m.x);
	return rc;
}

/* ---- draws -------------------------------------------------------------------------------- */

/* All that can be drawn, in the order of the race, then others at random. */
static int
draw_and_fill(const struct df_search *s, const double *p, struct df_err *err)
{
	const struct df_select *in = s->in;
	struct df_selection *out = s->out;
	const struct df_weights w = { .weight = p };
	uint64_t *order = NULL, n;
	int rc = DF_OK;

	DF_TRY(df_meta_set_int(&out->meta, "seed", (int64_t)in->seed, err));
	DF_TRY(df_meta_set_int(&out->meta, "step", in->step, err));
	DF_TRY(df_alloc(&order, out->n_rows, sizeof(*order), "draws", err));
	DF_TRY(df_sample_race_by(in->pool, &w, out->n_rows, out->n_rows, in->seed, in->step, order, &n, err));
	if (in->amount.given) /* all: those that have a probability */
		DF_TRY(df_select_fill(in, s->valid, out->n_rows, order, &n, err));
	if (in->allow_invalid)
		df_search_add_invalid(s, order, &n);
	DF_TRY(df_select_take(in, order, n, out, err));
out:
	free(order);
	return rc;
}

/* ---- run ------------------------------------------------------------------------------------ */

static int
record(const struct options *o, struct df_meta *m, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(df_meta_set_int(m, "max_k", o->max_k, err));
	DF_TRY(df_meta_set_int(m, "kde_k", o->kde_k, err));
	DF_TRY(df_meta_set_double(m, "sigma", o->sigma, err));
	DF_TRY(df_meta_set_double(m, "alpha", o->alpha, err));
	DF_TRY(df_meta_set_double(m, "c", o->c, err));
	DF_TRY(df_meta_set_str(m, "sampling", samplings[o->sampling], err));
out:
	return rc;
}

/* out->probability; and as the score, in which an invalid row has none. */
static int
find_probabilities(const struct df_neighbours *t, struct df_search *s, const struct options *o, struct df_err *err)
{
	struct df_selection *out = s->out;
	struct df_tsds_fill fill;
	double *rho = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&rho, out->n_rows, sizeof(*rho), "densities", err));
	DF_TRY(df_alloc(&out->probability, out->n_rows, sizeof(*out->probability), "probabilities", err));
	DF_TRY(df_alloc(&out->score, out->n_rows, sizeof(*out->score), "scores", err));
	DF_TRY(find_density(t, s, o, rho, err));
	DF_TRY(df_tsds_assign(t, rho, out->n_rows, o->alpha, o->c, out->probability, &fill, err));
	if (fill.limited && t->k < s->n_valid)
		df_warn("the %" PRIu64
			" neighbours of the queries are used up: a larger --max-k would spread the choice wider",
		    t->k);
	DF_TRY(df_meta_set_double(&out->meta, "s", fill.s, err));
	for (uint64_t i = 0; i < out->n_rows; i++)
		out->score[i] = s->valid[i] || !df_select_may(s->in, i) ? (float)out->probability[i] : NAN;
out:
	free(rho);
	return rc;
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const struct options *o = options;
	struct df_neighbours t = { 0 };
	struct df_search s = { 0 };
	int rc = DF_OK;

	DF_TRY(record(o, &out->meta, err));
	DF_TRY(df_search_open(&s, in, out, DF_METRIC_L2, err));
	DF_TRY(df_neighbours_get(&t, &s, (uint64_t)o->max_k, err));
	if (o->neighbours_output)
		DF_TRY(df_neighbours_put(&t, &s, (uint64_t)o->max_k, o->neighbours_output, &out->also, err));
	DF_TRY(find_probabilities(&t, &s, o, err));
	if (o->sampling == MULTINOMIAL)
		DF_TRY(df_select_draw_replace(in, out->probability, out, err));
	else if (in->shortage == DF_SHORT_FILL)
		DF_TRY(draw_and_fill(&s, out->probability, err));
	else
		DF_TRY(df_select_draw(in, out->probability, out, err));
out:
	df_neighbours_release(&t);
	df_search_release(&s);
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "max-k", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, max_k), .arg = "K", .min = 1, .max = 9e15,
	    .help = "neighbours of each query" },
	{ .name = "kde-k", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, kde_k), .arg = "K", .min = 1, .max = 9e15,
	    .help = "the most neighbours that a row's density counts" },
	{ .name = "sigma", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, sigma), .arg = "D", .min = 0, .max = 1e100,
	    .help = "distance within which rows are alike; 0: none are" },
	{ .name = "alpha", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, alpha), .arg = "A", .min = 0, .max = 1,
	    .help = "1: the nearest rows only; 0: spread as wide as possible" },
	{ .name = "c", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, c), .arg = "C", .min = 1e-100, .max = 1e100,
	    .help = "scale of distances" },
	{ .name = "sampling", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, sampling), .choices = samplings,
	    .help = "without replacement, or independent draws" },
	{ .name = "neighbours-output", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, neighbours_output), .arg = "FILE",
	    .file = DF_FILE_WRITE, .help = "where the neighbours go, for --neighbours" },
	DF_OPT_END };
/* clang-format on */

const struct df_selector df_select_tsds = {
	.name = "tsds",
	.about = "draws that are like a target, spread out",
	.model = "no",
	.cost = "embeddings",
	.shortage = DF_SHORT_ERROR,
	.fill = true,
	.inputs = df_search_inputs,
	.n_inputs = 3,
	.defaults =
	    &(const struct options){
		.max_k = 5000, .kde_k = 1000, .sigma = 0.75, .alpha = 0.6, .c = 5.0, .sampling = RACE },
	.defaults_size = sizeof(struct options),
	.options = options,
	.check = check,
	.run = run,
};

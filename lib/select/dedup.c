/*
 * dedup.c - rows in rank order, without those that are too similar to an earlier one.
 *
 *   embeddings by id | sorted by cluster and rank, in their place | near pairs, cluster by cluster | who stays
 *
 * A row's earlier neighbours are complete when it is met, so one pass decides.
 */
#include "select/dedup.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "near/pairs.h"

#define MIN_NORM 1e-12

/* ---- embeddings ----------------------------------------------------------------------- */

static int
take_rows(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	struct df_dedup *d = ctx;

	(void)result;
	return df_point_rows_put(&d->rows, b, DF_COL_EMBEDDING, err);
}

static void
scale_row(void *ctx, size_t i, int worker)
{
	const struct df_dedup *d = ctx;
	const size_t width = d->rows.points.d;
	float *x = d->rows.rows + i * width;
	double norm;

	(void)worker;
	if (d->rows.invalid[i])
		return;
	norm = sqrt(df_exact(DF_METRIC_DOT, x, x, width));
	for (size_t c = 0; c < width; c++)
		x[c] = norm > MIN_NORM ? (float)((double)x[c] / norm) : 0.0f;
}

int
df_dedup_load(struct df_dedup *d, const struct df_select *in, struct df_selection *out, struct df_err *err)
{
	struct df_set *set = in->sets[0].v[0];
	const struct df_select_scan sc = { .in = in, .out = out, .take = take_rows, .ctx = d };
	int rc = DF_OK;

	*d = (struct df_dedup){
		.in = in, .out = out, .near = { .be = in->be, .pool = in->pool, .n_threads = in->n_threads }
	};
	DF_TRY(df_point_rows_init(&d->rows, out->n_rows, df_set_width(set, DF_COL_EMBEDDING), err));
	DF_TRY(df_select_scan(&sc, err));
	df_pool_for(in->pool, out->n_rows, scale_row, d);
	if (d->rows.n_invalid)
		df_warn("%" PRIu64 " embeddings have numbers that are not finite", d->rows.n_invalid);
out:
	return rc;
}

int
df_dedup_read_scores(struct df_dedup *d, const char *path, struct df_err *err)
{
	struct df_selection *out = d->out;
	const char *tokens = df_select_tokens_id(df_set_meta(d->in->sets[0].v[0]));
	int rc = DF_OK;

	DF_TRY(df_select_read_scores(path, out->n_rows, tokens, &out->score, &out->meta, err));
	for (uint64_t i = 0; i < out->n_rows; i++)
		if (d->rows.invalid[i])
			out->score[i] = NAN;
out:
	return rc;
}

void
df_dedup_release(struct df_dedup *d)
{
	df_point_rows_release(&d->rows);
}

/* ---- the walk --------------------------------------------------------------------------- */

struct walk {
	const struct df_dedup_rule *rule;
	uint64_t *id;      /* [n] of the rows that are compared: by cluster, in each by rank */
	uint64_t n, first; /* first: row of the cluster that is walked */
	uint64_t n_walked;
	uint8_t *stays; /* [n] */
	uint64_t n_staying;
	uint64_t enough; /* end when so many stay */
	/* The pairs to be written. */
	uint64_t *fallen, *cause;
	float *cosine;
	size_t n_pairs, cap_fallen, cap_cause, cap_cosine;
};

static void
walk_release(struct walk *w)
{
	free(w->id);
	free(w->stays);
	free(w->fallen);
	free(w->cause);
	free(w->cosine);
}

static int
note_pair(struct walk *w, uint64_t fallen, uint64_t cause, double cosine, struct df_err *err)
{
	const size_t n = w->n_pairs + 1;
	int rc = DF_OK;

	DF_TRY(df_grow(&w->fallen, &w->cap_fallen, n, sizeof(*w->fallen), "pairs", err));
	DF_TRY(df_grow(&w->cause, &w->cap_cause, n, sizeof(*w->cause), "pairs", err));
	DF_TRY(df_grow(&w->cosine, &w->cap_cosine, n, sizeof(*w->cosine), "pairs", err));
	w->fallen[w->n_pairs] = fallen;
	w->cause[w->n_pairs] = cause;
	w->cosine[w->n_pairs++] = (float)cosine;
out:
	return rc;
}

/* Row i of the cluster, with the earlier rows that are too similar: the nearest of those that count is the cause. */
static int
meet_row(void *ctx, uint64_t i, const uint64_t *j, const double *value, uint64_t n, bool *stop, struct df_err *err)
{
	struct walk *w = ctx;
	const uint64_t *id = w->id + w->first;
	uint64_t cause = UINT64_MAX;
	double cosine = 0;
	int rc = DF_OK;

	for (uint64_t k = 0; k < n; k++) {
		if (!w->rule->any && !w->stays[w->first + j[k]])
			continue;
		if (cause == UINT64_MAX || df_nearer(DF_METRIC_DOT, value[k], id[j[k]], cosine, cause)) {
			cause = id[j[k]];
			cosine = value[k];
		}
	}
	w->stays[w->first + i] = cause == UINT64_MAX;
	w->n_staying += cause == UINT64_MAX;
	if (cause != UINT64_MAX && w->rule->pairs)
		DF_TRY(note_pair(w, id[i], cause, cosine, err));
	*stop = w->n_staying >= w->enough;
	df_progress(++w->n_walked, w->n, "rows");
out:
	return rc;
}

/* ---- in order -------------------------------------------------------------------------------- */

/* May the row be compared with others? */
static bool
takes_part(const struct df_dedup *d, uint64_t id)
{
	return !d->rows.invalid[id] && df_select_may(d->in, id);
}

/* w->id = the rows that are compared, by cluster and rank; first [n_clusters + 1] into it. */
static int
sort_rows(
    const struct df_dedup *d, struct walk *w, const uint64_t *order, uint64_t n, uint64_t *first, struct df_err *err)
{
	const struct df_dedup_rule *rule = w->rule;
	uint64_t *at = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&w->id, n, sizeof(*w->id), "rows", err));
	DF_TRY(df_alloc(&at, rule->n_clusters, sizeof(*at), "clusters", err));
	for (uint64_t r = 0; r < n; r++) {
		if (takes_part(d, order[r])) {
			first[1 + (rule->cluster ? rule->cluster[order[r]] : 0)]++;
			w->n++;
		}
	}
	for (uint64_t k = 0; k < rule->n_clusters; k++) {
		first[k + 1] += first[k];
		at[k] = first[k];
	}
	for (uint64_t r = 0; r < n; r++)
		if (takes_part(d, order[r]))
			w->id[at[rule->cluster ? rule->cluster[order[r]] : 0]++] = order[r];
out:
	free(at);
	return rc;
}

/*
 * Row w->id[i] of the embeddings moves to place i, for all i, along the cycles of the permutation: there may be no room
 * for a second copy.
 */
static int
arrange(struct df_dedup *d, const struct walk *w, struct df_err *err)
{
	const size_t width = d->rows.points.d, size = width * sizeof(float);
	const uint64_t n_rows = d->out->n_rows;
	uint64_t *from = NULL, n = w->n;
	uint8_t *placed = NULL;
	float *x = d->rows.rows, *held = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&from, n_rows, sizeof(*from), "rows", err));
	DF_TRY(df_alloc(&placed, n_rows, sizeof(*placed), "rows", err));
	DF_TRY(df_alloc(&held, width, sizeof(*held), "rows", err));
	for (uint64_t i = 0; i < w->n; i++) {
		from[i] = w->id[i];
		placed[w->id[i]] = 1;
	}
	for (uint64_t i = 0; i < n_rows; i++)
		if (!placed[i])
			from[n++] = i;
	for (uint64_t start = 0; start < n_rows; start++) {
		uint64_t to = start;

		if (from[start] == start)
			continue;
		memcpy(held, x + start * width, size);
		for (uint64_t next = from[to]; next != start; next = from[to]) {
			memcpy(x + to * width, x + next * width, size);
			from[to] = to;
			to = next;
		}
		memcpy(x + to * width, held, size);
		from[to] = to;
	}
out:
	free(from);
	free(placed);
	free(held);
	return rc;
}

static int
walk_clusters(struct df_dedup *d, struct walk *w, const uint64_t *first, struct df_err *err)
{
	const struct df_dedup_rule *rule = w->rule;
	const size_t width = d->rows.points.d;
	int rc = DF_OK;

	DF_TRY(df_alloc(&w->stays, w->n, sizeof(*w->stays), "rows", err));
	for (uint64_t k = 0; k < rule->n_clusters && w->n_staying < w->enough; k++) {
		const struct df_points p = { d->rows.rows + first[k] * width, first[k + 1] - first[k], width };

		w->first = first[k];
		/* Larger than `above` is at least the number after it. */
		DF_TRY(df_near_pairs(
		    &d->near, DF_METRIC_DOT, &p, nextafter(rule->above, (double)INFINITY), meet_row, w, err));
	}
out:
	return rc;
}

/* ---- the choice ------------------------------------------------------------------------------- */

static int
put_pairs(const struct df_dedup *d, struct walk *w, struct df_err *err)
{
	static const enum df_col columns[] = { DF_COL_ID, DF_COL_NEIGHBOUR, DF_COL_DISTANCE };
	const size_t widths[DF_COL_COUNT] = { [DF_COL_NEIGHBOUR] = 1, [DF_COL_DISTANCE] = 1 };
	const struct df_writer_opts opts = { .compress = DF_COMPRESS_DEFAULT };
	const struct df_meta *train = df_set_meta(d->in->sets[0].v[0]);
	const char *tokens = df_select_tokens_id(train);
	struct df_meta m = DF_META_INIT;
	struct df_batch b = { .n = w->n_pairs };
	int rc = DF_OK;

	b.col[DF_COL_ID] = (struct df_column_data){ .data = w->fallen, .width = 1 };
	b.col[DF_COL_NEIGHBOUR] = (struct df_column_data){ .data = w->cause, .width = 1 };
	b.col[DF_COL_DISTANCE] = (struct df_column_data){ .data = w->cosine, .width = 1 };
	DF_TRY(df_meta_copy(&m, &d->out->meta, err)); /* the method's parameters, and its inputs but for these */
	m.kind = DF_KIND_NEIGHBOURS;
	DF_TRY(df_meta_set_str(&m, "metric", "cosine", err));
	if (tokens)
		DF_TRY(df_meta_add_input(&m, "tokens", "tokens", tokens, err));
	DF_TRY(df_meta_add_input(&m, "train", df_kind_name(train->kind), train->id, err));
	DF_TRY(df_writer_open(&d->out->also, w->rule->pairs, &m, columns, 3, widths, &opts, err));
	if (w->n_pairs > 0)
		DF_TRY(df_writer_put(d->out->also, &b, err));
out:
	df_meta_release(&m);
	return rc;
}

/* What stays, in the order of rank; after them, where they are allowed, the rows that could not be judged. */
static int
take_staying(const struct df_dedup *d, const struct walk *w, const uint64_t *order, uint64_t n, struct df_err *err)
{
	const uint64_t n_rows = d->out->n_rows;
	uint64_t *chosen = NULL, n_chosen = 0;
	uint8_t *fate = NULL; /* by id: 1 stays, 2 was passed over as invalid */
	int rc = DF_OK;

	DF_TRY(df_alloc(&chosen, n_rows, sizeof(*chosen), "rows", err));
	DF_TRY(df_alloc(&fate, n_rows, sizeof(*fate), "rows", err));
	memset(fate, 2, n_rows);
	for (uint64_t r = 0; r < n; r++)
		if (takes_part(d, order[r]))
			fate[order[r]] = 0;
	for (uint64_t i = 0; i < w->n; i++)
		if (w->stays[i])
			fate[w->id[i]] = 1;
	for (uint64_t r = 0; r < n; r++)
		if (fate[order[r]] == 1)
			chosen[n_chosen++] = order[r];
	for (uint64_t i = 0; d->in->allow_invalid && i < n_rows; i++)
		if (fate[i] == 2)
			chosen[n_chosen++] = i;
	DF_TRY(df_select_take(d->in, chosen, n_chosen, d->out, err));
out:
	free(chosen);
	free(fate);
	return rc;
}

/* With one cluster rows are met in the order of rank: there is an end when as many stay as are asked for. */
static uint64_t
enough_of(const struct df_select *in, const struct df_dedup_rule *rule, uint64_t n_rows)
{
	const bool all = !in->amount.given || in->amount.tokens || rule->n_clusters > 1 || rule->pairs;

	return all ? UINT64_MAX : df_amount_of(&in->amount, n_rows);
}

int
df_dedup_take(
    struct df_dedup *d, const struct df_dedup_rule *rule, const uint64_t *order, uint64_t n, struct df_err *err)
{
	struct walk w = { .rule = rule, .enough = enough_of(d->in, rule, d->out->n_rows) };
	uint64_t *first = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&first, rule->n_clusters + 1, sizeof(*first), "clusters", err));
	DF_TRY(sort_rows(d, &w, order, n, first, err));
	DF_TRY(arrange(d, &w, err));
	DF_TRY(walk_clusters(d, &w, first, err));
	if (w.n_walked == w.n)
		df_info("%" PRIu64 " of %" PRIu64 " rows are too similar to another one", w.n - w.n_staying, w.n);
	if (rule->pairs)
		DF_TRY(put_pairs(d, &w, err));
	DF_TRY(take_staying(d, &w, order, n, err));
out:
	walk_release(&w);
	free(first);
	return rc;
}

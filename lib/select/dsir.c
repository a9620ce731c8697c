/*
 * dsir.c - data selection with importance resampling: make the n-grams of what is chosen like those of a target.
 *
 * Xie, Santurkar, Ma, Liang: "Data Selection for Language Models via Importance Resampling", NeurIPS 2023.
 *
 *   targets, pool --> counts of hashed n-grams --> a log ratio for each bucket
 *   pool again    --> each row's sum of them    --> a draw by their exponentials
 *
 * The text of a row is that of its tokens, without special ones.
 */
#include "select/dsir.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "select/ngrams.h"
#include "select/select_priv.h"
#include "shard/scan.h"
#include "data/provenance.h"
#include "token/tokenizer.h"

enum { TRAIN, TARGET };
enum units { UNITS_WORDS, UNITS_TOKENS };
enum norm { NORM_NONE, NORM_LENGTH };
static const char *const units[] = { "words", "tokens", NULL };
static const char *const norms[] = { "none", "length", NULL };

struct options {
	const char *tokenizer;
	int units, norm;
	int64_t ngrams, buckets, min_length;
	double laplace;
	bool top;
};

/* ---- rows to n-grams ------------------------------------------------------------------- */

/* What a thread needs for a row. */
struct lane {
	struct df_detok *detok; /* NULL: units are tokens */
	struct df_ngrams ngrams;
	uint64_t *count; /* [buckets] */
};

/* A pass over a set. */
struct pass {
	const struct options *o;
	struct lane *lane; /* [n_lanes] */
	size_t n_lanes, n_buckets;
	const double *ratio; /* [targets, buckets]; NULL: count */
	size_t n_targets;
	double *weight;  /* [targets, n_rows] by id */
	uint8_t *usable; /* [n_rows] by id: long enough */
	uint64_t n_rows, n_words;
};

static int
row_ngrams(struct lane *l, const uint32_t *ids, size_t n, struct df_err *err)
{
	const char *text;
	size_t len;
	int rc = DF_OK;

	if (!l->detok)
		return df_ngrams_ids(&l->ngrams, ids, n, err);
	df_detok_reset(l->detok);
	for (size_t i = 0; i < n; i++)
		DF_TRY(df_detok_push(l->detok, ids[i], err));
	DF_TRY(df_detok_end(l->detok, err));
	text = df_detok_text(l->detok, &len, NULL);
	DF_TRY(df_ngrams_text(&l->ngrams, text, len, err));
out:
	return rc;
}

/* A row's weights and length: what pass_work() hands to pass_take(). */
struct row {
	uint64_t n_words;
	double weight[]; /* [targets] */
};

static size_t
row_size(const struct pass *p)
{
	return sizeof(struct row) + p->n_targets * sizeof(double);
}

static int
pass_work(void *ctx, struct df_batch *b, void **result, int worker, struct df_err *err)
{
	const struct pass *p = ctx;
	const uint32_t *ids = b->col[DF_COL_IDS].data;
	const uint64_t *at = b->col[DF_COL_IDS].offsets;
	struct lane *l = &p->lane[worker];
	const struct df_ngrams *g = &l->ngrams;
	char *rows = NULL;
	int rc = DF_OK;

	DF_TRY(df_arena_alloc(&b->arena, &rows, b->n, row_size(p), "rows", err));
	for (uint64_t i = 0; i < b->n; i++) {
		struct row *row = (struct row *)(rows + i * row_size(p));

		rc = row_ngrams(l, ids + at[i], at[i + 1] - at[i], err);
		if (rc != DF_OK) {
			df_err_prefix(err, "id %" PRIu64 ": ", ((const uint64_t *)b->col[DF_COL_ID].data)[i]);
			goto out;
		}
		row->n_words = g->n_words;
		for (size_t j = 0; !p->ratio && j < g->n_ngrams; j++)
			l->count[g->bucket[j]]++;
		for (size_t t = 0; p->ratio && t < p->n_targets; t++) {
			const double sum = df_dsir_weight(p->ratio + t * p->n_buckets, g->bucket, g->n_ngrams);

			row->weight[t] = p->o->norm == NORM_LENGTH && g->n_ngrams ? sum / (double)g->n_ngrams : sum;
		}
	}
	*result = rows;
out:
	return rc;
}

static int
pass_take(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	struct pass *p = ctx;
	const uint64_t *id = b->col[DF_COL_ID].data;

	(void)err;
	for (uint64_t i = 0; i < b->n; i++) {
		const struct row *row = (const struct row *)((const char *)result + i * row_size(p));

		p->n_words += row->n_words;
		if (!p->ratio)
			continue;
		p->usable[id[i]] = row->n_words >= (uint64_t)p->o->min_length;
		for (size_t t = 0; t < p->n_targets; t++)
			p->weight[t * p->n_rows + id[i]] = row->weight[t];
	}
	return DF_OK;
}

static void
close_lanes(struct pass *p)
{
	for (size_t i = 0; i < p->n_lanes; i++) {
		df_detok_free(p->lane[i].detok);
		p->lane[i].detok = NULL;
	}
}

/* For rows that this tokenizer (NULL: units are tokens) made. */
static int
open_lanes(struct pass *p, const struct df_tokenizer *tok, struct df_err *err)
{
	int rc = DF_OK;

	for (size_t i = 0; tok && i < p->n_lanes; i++)
		DF_TRY(df_detok_new(&p->lane[i].detok, tok, true, err));
out:
	return rc;
}

static int
pass_init(struct pass *p, const struct df_select *in, const struct options *o, struct df_err *err)
{
	int rc = DF_OK;

	p->o = o;
	p->n_buckets = (size_t)o->buckets;
	DF_TRY(df_alloc(&p->lane, (size_t)in->n_threads, sizeof(*p->lane), "threads", err));
	p->n_lanes = (size_t)in->n_threads;
	for (size_t i = 0; i < p->n_lanes; i++) {
		DF_TRY(df_ngrams_init(&p->lane[i].ngrams, (size_t)o->ngrams, (uint32_t)o->buckets, err));
		DF_TRY(df_alloc(&p->lane[i].count, p->n_buckets, sizeof(*p->lane[i].count), "n-grams", err));
	}
out:
	return rc;
}

static void
pass_release(struct pass *p)
{
	close_lanes(p);
	for (size_t i = 0; i < p->n_lanes; i++) {
		df_ngrams_release(&p->lane[i].ngrams);
		free(p->lane[i].count);
	}
	free(p->lane);
}

/* The counts of all threads into count [buckets]; those of the threads begin anew. */
static void
collect_counts(struct pass *p, uint64_t *count)
{
	for (size_t i = 0; i < p->n_lanes; i++) {
		for (size_t b = 0; b < p->n_buckets; b++)
			count[b] += p->lane[i].count[b];
		memset(p->lane[i].count, 0, p->n_buckets * sizeof(*p->lane[i].count));
	}
}

/* Is it a file of plain bytes, perhaps with a template's tokens?  Then no tokenizer has to be named. */
static int
made_of_bytes(const struct df_set *set, bool *yes, struct df_err *err)
{
	struct df_tokenizer *bytes = NULL;
	char *made_with = NULL, *base = NULL;
	int rc = DF_OK;

	DF_TRY(df_tokenizer_open(&bytes, "bytes", err));
	df_meta_get_str(df_set_meta(set), "tokenizer", &made_with);
	df_meta_get_str(df_set_meta(set), DF_META_BASE_TOKENIZER, &base);
	*yes = made_with && strcmp(base ? base : made_with, df_tokenizer_id(bytes)) == 0;
out:
	df_tokenizer_free(bytes);
	free(made_with);
	free(base);
	return rc;
}

/* The tokenizer that made the set's tokens; NULL when none is needed. */
static int
open_tokenizer(struct df_tokenizer **out, const struct options *o, const struct df_set *set, struct df_err *err)
{
	struct df_tokenizer *t = NULL;
	bool bytes = false;
	int rc = DF_OK;

	if (o->units == UNITS_TOKENS)
		return DF_OK;
	DF_TRY(made_of_bytes(set, &bytes, err));
	if (!bytes && !o->tokenizer) {
		rc = df_fail(err, DF_EUSAGE, "name the tokenizer that made it (--tokenizer), or take --units tokens");
		goto out;
	}
	DF_TRY(df_tokenizer_open(&t, bytes ? "bytes" : o->tokenizer, err));
	DF_TRY(df_tokens_check(t, df_set_meta(set), df_set_name(set), err));
	*out = t;
	t = NULL;
out:
	df_tokenizer_free(t);
	return rc;
}

/* ---- the passes -------------------------------------------------------------------------- */

/* The state of a run. */
struct dsir {
	const struct df_select *in;
	const struct options *o;
	struct df_selection *out;
	struct pass pass;
	size_t n_targets;
	uint64_t *count;   /* [1 + targets, buckets]: the pool's, then the targets' */
	uint64_t *n_words; /* [targets] */
	double *ratio;     /* [targets, buckets] */
	double *weight;    /* [targets, n_rows]: logarithms */
	uint8_t *usable;   /* [n_rows]: long enough */
};

/* Count the n-grams of a set. */
static int
count_set(struct dsir *d, size_t input, size_t set, uint64_t *count, struct df_err *err)
{
	const struct df_select_scan sc = { .in = d->in,
		.input = input,
		.set = set,
		.out = d->out,
		.work = pass_work,
		.take = pass_take,
		.ctx = &d->pass };
	struct df_tokenizer *tok = NULL;
	int rc = DF_OK;

	d->pass.n_words = 0;
	DF_TRY(open_tokenizer(&tok, d->o, d->in->sets[input].v[set], err));
	DF_TRY(open_lanes(&d->pass, tok, err));
	DF_TRY(df_select_scan(&sc, err));
	collect_counts(&d->pass, count);
out:
	close_lanes(&d->pass);
	df_tokenizer_free(tok);
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", df_set_name(d->in->sets[input].v[set]));
	return rc;
}

/* The pool once more, whose ids were checked before: each row's weights. */
static int
weigh_pool(struct dsir *d, struct df_err *err)
{
	const struct df_strlist *more = &d->in->more;
	struct df_scan sc = { .n_threads = d->in->n_threads, .work = pass_work, .take = pass_take, .ctx = &d->pass };
	struct df_tokenizer *tok = NULL;
	struct df_set *set = NULL;
	const char **paths = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&paths, 1 + more->n, sizeof(*paths), "sets", err));
	paths[0] = d->in->paths[TRAIN].v[0];
	for (size_t i = 0; i < more->n; i++)
		paths[1 + i] = more->v[i];
	DF_TRY(df_set_open_later(&set, DF_KIND_TOKENS, "tokens", paths, 1 + more->n, err));
	df_select_columns(&d->in->method->inputs[TRAIN], set);
	if (df_set_rows(set) != d->out->n_rows) {
		rc = df_fail(err, DF_EFORMAT, "%s: it has changed meanwhile", df_set_name(set));
		goto out;
	}
	DF_TRY(open_tokenizer(&tok, d->o, set, err));
	DF_TRY(open_lanes(&d->pass, tok, err));
	d->pass.ratio = d->ratio;
	d->pass.weight = d->weight;
	d->pass.usable = d->usable;
	sc.set = set;
	DF_TRY(df_scan_run(&sc, err));
out:
	close_lanes(&d->pass);
	df_tokenizer_free(tok);
	df_set_close(set);
	free(paths);
	return rc;
}

static int
compare(struct dsir *d, struct df_err *err)
{
	const size_t b = d->pass.n_buckets;
	int rc = DF_OK;

	for (size_t t = 0; t < d->n_targets; t++) {
		DF_TRY(count_set(d, TARGET, t, d->count + (1 + t) * b, err));
		d->n_words[t] = d->pass.n_words;
	}
	DF_TRY(count_set(d, TRAIN, 0, d->count, err));
	for (size_t t = 0; t < d->n_targets; t++) {
		rc = df_dsir_ratio(d->count + (1 + t) * b, d->count, b, d->o->laplace, d->ratio + t * b, err);
		if (rc != DF_OK) {
			df_err_prefix(err, "%s: ", df_set_name(d->in->sets[TARGET].v[t]));
			goto out;
		}
	}
	DF_TRY(weigh_pool(d, err));
out:
	return rc;
}

/* ---- the choice ---------------------------------------------------------------------------- */

/* Rows that can be chosen and are not taken yet, in order of ids. */
static uint64_t
list_rows(const struct dsir *d, const uint8_t *taken, uint64_t *id)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < d->out->n_rows; i++)
		if (d->usable[i] && !taken[i] && df_select_may(d->in, i))
			id[n++] = i;
	return n;
}

/* out->probability of the first draw. */
static int
find_probabilities(struct dsir *d, const uint64_t *id, uint64_t n, struct df_err *err)
{
	double most = -(double)INFINITY, sum = 0, *p = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&p, d->out->n_rows, sizeof(*p), "probabilities", err));
	d->out->probability = p;
	for (uint64_t i = 0; i < n; i++)
		most = fmax(most, d->weight[id[i]]);
	for (uint64_t i = 0; i < n; i++)
		sum += p[id[i]] = exp(d->weight[id[i]] - most);
	for (uint64_t i = 0; i < n; i++)
		p[id[i]] /= sum;
out:
	return rc;
}

/* quota[t] = a share of n in proportion to the targets' words: the largest remainders get what rounding leaves. */
static int
find_quotas(const struct dsir *d, uint64_t n, uint64_t *quota, struct df_err *err)
{
	double all = 0, *rest = NULL;
	uint64_t given = 0;
	int rc = DF_OK;

	DF_TRY(df_alloc(&rest, d->n_targets, sizeof(*rest), "targets", err));
	for (size_t t = 0; t < d->n_targets; t++)
		all += (double)d->n_words[t];
	for (size_t t = 0; t < d->n_targets; t++) {
		const double x = (double)n * ((double)d->n_words[t] / all);

		quota[t] = (uint64_t)x;
		rest[t] = x - floor(x);
		given += quota[t];
	}
	for (; given < n; given++) {
		size_t best = 0;

		for (size_t t = 1; t < d->n_targets; t++)
			if (rest[t] > rest[best])
				best = t;
		quota[best]++;
		rest[best] = -1;
	}
out:
	free(rest);
	return rc;
}

/* order [*n] = what each target takes for its quota, one target after the other, and then the other rows. */
static int
take_turns(const struct dsir *d, uint64_t *order, uint64_t *n, struct df_err *err)
{
	const struct df_select *in = d->in;
	uint64_t *quota = NULL, *id = NULL, n_left, wanted;
	uint8_t *taken = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&quota, d->n_targets, sizeof(*quota), "targets", err));
	DF_TRY(df_alloc(&id, d->out->n_rows, sizeof(*id), "rows", err));
	DF_TRY(df_alloc(&taken, d->out->n_rows, sizeof(*taken), "rows", err));
	n_left = list_rows(d, taken, id);
	wanted = in->amount.tokens ? in->amount.n
	    : in->amount.given     ? df_amount_of(&in->amount, d->out->n_rows)
				   : n_left;
	DF_TRY(find_quotas(d, in->amount.tokens || wanted < n_left ? wanted : n_left, quota, err));
	*n = 0;
	for (size_t t = 0; t < d->n_targets; t++) {
		const bool last = t + 1 == d->n_targets;
		uint64_t have = 0;

		n_left = list_rows(d, taken, id);
		DF_TRY(
		    df_dsir_order(d->weight + t * d->out->n_rows, id, n_left, d->o->top, in->seed, in->step, t, err));
		for (uint64_t i = 0; i < n_left && (last || have < quota[t]); i++) {
			have += in->amount.tokens ? in->n_tokens[id[i]] : 1;
			taken[id[i]] = 1;
			order[(*n)++] = id[i];
		}
	}
out:
	free(quota);
	free(id);
	free(taken);
	return rc;
}

static int
choose(struct dsir *d, struct df_err *err)
{
	const struct df_select *in = d->in;
	struct df_selection *out = d->out;
	uint64_t *order = NULL, n = 0;
	int rc = DF_OK;

	DF_TRY(df_alloc(&out->score, out->n_rows, sizeof(*out->score), "scores", err));
	for (uint64_t i = 0; i < out->n_rows; i++) {
		double best = d->weight[i];

		for (size_t t = 1; t < d->n_targets; t++)
			best = fmax(best, d->weight[t * out->n_rows + i]);
		out->score[i] = (float)best;
	}
	DF_TRY(df_alloc(&order, out->n_rows, sizeof(*order), "rows", err));
	DF_TRY(take_turns(d, order, &n, err));
	if (d->n_targets == 1 && !d->o->top)
		DF_TRY(find_probabilities(d, order, n, err));
	DF_TRY(df_select_take(in, order, n, out, err));
out:
	free(order);
	return rc;
}

/* ---- the method ------------------------------------------------------------------------------ */

static int
record(const struct df_select *in, const struct options *o, struct df_meta *m, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(df_meta_set_int(m, "seed", (int64_t)in->seed, err));
	DF_TRY(df_meta_set_int(m, "step", in->step, err));
	DF_TRY(df_meta_set_str(m, "units", units[o->units], err));
	DF_TRY(df_meta_set_int(m, "ngrams", o->ngrams, err));
	DF_TRY(df_meta_set_int(m, "buckets", o->buckets, err));
	DF_TRY(df_meta_set_double(m, "laplace", o->laplace, err));
	DF_TRY(df_meta_set_int(m, "min_length", o->min_length, err));
	DF_TRY(df_meta_set_str(m, "norm", norms[o->norm], err));
	DF_TRY(df_meta_set_bool(m, "top", o->top, err));
out:
	return rc;
}

/* Ids mean the same in all sets only if one tokenizer made them. */
static int
check_ids(const struct df_select *in, const struct options *o, struct df_err *err)
{
	static const char *const same[] = { "tokenizer", NULL }, *const none[] = { NULL };
	const struct df_set *train = in->sets[TRAIN].v[0];
	int rc = DF_OK;

	for (size_t t = 0; o->units == UNITS_TOKENS && t < in->sets[TARGET].n; t++) {
		const struct df_set *target = in->sets[TARGET].v[t];

		DF_TRY(df_meta_agree(
		    df_set_meta(train), df_set_name(train), df_set_meta(target), df_set_name(target), same, none, err));
	}
out:
	return rc;
}

/* A name that is none is an error also where it is not needed. */
static int
check(const struct df_select *in, const void *options, struct df_err *err)
{
	const struct options *o = options;
	struct df_tokenizer *t = NULL;
	int rc = DF_OK;

	(void)in;
	if (o->tokenizer && o->units == UNITS_TOKENS)
		return df_fail(err, DF_EUSAGE, "--tokenizer is for --units words");
	if (o->tokenizer)
		rc = df_tokenizer_open(&t, o->tokenizer, err);
	df_tokenizer_free(t);
	return rc;
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const struct options *o = options;
	struct dsir d = { .in = in, .o = o, .out = out, .n_targets = in->sets[TARGET].n };
	const size_t buckets = (size_t)o->buckets;
	uint64_t n_short = 0;
	size_t n;
	int rc = DF_OK;

	DF_TRY(record(in, o, &out->meta, err));
	DF_TRY(check_ids(in, o, err));
	d.pass.n_targets = d.n_targets;
	d.pass.n_rows = out->n_rows;
	DF_TRY(pass_init(&d.pass, in, o, err));
	DF_TRY(df_size_mul(1 + d.n_targets, buckets, &n, "n-grams", err));
	DF_TRY(df_alloc(&d.count, n, sizeof(*d.count), "n-grams", err));
	DF_TRY(df_alloc(&d.ratio, n, sizeof(*d.ratio), "n-grams", err));
	DF_TRY(df_size_mul(d.n_targets, out->n_rows, &n, "weights", err));
	DF_TRY(df_alloc(&d.weight, n, sizeof(*d.weight), "weights", err));
	DF_TRY(df_alloc(&d.usable, out->n_rows, sizeof(*d.usable), "rows", err));
	DF_TRY(df_alloc(&d.n_words, d.n_targets, sizeof(*d.n_words), "targets", err));
	DF_TRY(compare(&d, err));
	for (uint64_t i = 0; i < out->n_rows; i++)
		n_short += !d.usable[i];
	if (n_short)
		df_info("%" PRIu64 " of %" PRIu64 " rows have fewer than %" PRId64 " %s and are left out", n_short,
		    out->n_rows, o->min_length, units[o->units]);
	DF_TRY(choose(&d, err));
out:
	pass_release(&d.pass);
	free(d.count);
	free(d.ratio);
	free(d.weight);
	free(d.usable);
	free(d.n_words);
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "units", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, units), .choices = units,
	    .help = "n-grams of words, or of token ids" },
	{ .name = "tokenizer", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, tokenizer), .arg = "TOK",
	    .file = DF_FILE_READ_ANY, .choices = df_tokenizer_names, .help = "of the tokens, for words (bytes: not needed)" },
	{ .name = "ngrams", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, ngrams), .arg = "N", .min = 1, .max = 16,
	    .help = "of one to N units" },
	{ .name = "buckets", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, buckets), .arg = "N", .min = 1, .max = 1e8,
	    .help = "into which they are hashed" },
	{ .name = "laplace", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct options, laplace), .arg = "X", .min = 0,
	    .max = 1e9, .help = "added to the target's count of each" },
	{ .name = "min-length", .type = DF_OPT_INT, .value = DF_OPT_AT(struct options, min_length), .arg = "N", .min = 0,
	    .max = 1e15, .help = "rows of fewer units are left out" },
	{ .name = "norm", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(struct options, norm), .choices = norms,
	    .help = "length: divide by the row's n-grams" },
	{ .name = "top", .type = DF_OPT_FLAG, .value = DF_OPT_AT(struct options, top),
	    .help = "the largest weights, instead of a draw by them" },
	DF_OPT_END };
/* clang-format on */

static const enum df_col pool_columns[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_IDS };
static const enum df_col target_columns[] = { DF_COL_ID, DF_COL_IDS };

static const struct df_select_input inputs[] = {
	[TRAIN] = { .role = "train",
	    .name = "tokens",
	    .help = "tokens to choose from",
	    .kind = DF_KIND_TOKENS,
	    .columns = pool_columns,
	    .n_columns = 3 },
	[TARGET] = { .role = "target",
	    .name = "target",
	    .help = "tokens of the target; repeatable",
	    .kind = DF_KIND_TOKENS,
	    .join = DF_JOIN_OWN,
	    .sets = DF_SETS_ANY,
	    .columns = target_columns,
	    .n_columns = 2 },
};

const struct df_selector df_select_dsir = {
	.name = "dsir",
	.about = "so that its n-grams are like a target's",
	.model = "no",
	.cost = "none",
	.shortage = DF_SHORT_ERROR,
	.inputs = inputs,
	.n_inputs = 2,
	.defaults = &(const struct options){ .ngrams = 2, .buckets = 10000, .laplace = 1, .min_length = 100 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.check = check,
	.run = run,
};

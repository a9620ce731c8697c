/*
 * policy.c - from rewards to weights of completions, and their tokens.
 */
#include "grad/policy.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/opt.h"
#include "grad/rewards.h"

#define SLACK     1e-5 /* an answer as good as the reference must not be lost to rounding */
#define READ_ROWS ((uint64_t)1 << 16)

static bool
is_hard(const struct df_policy_opts *o)
{
	return o->rule == DF_POLICY_HARD || o->rule == DF_POLICY_TOPK_HARD;
}

static bool
has_topk(const struct df_policy_opts *o)
{
	return o->rule == DF_POLICY_TOPK || o->rule == DF_POLICY_TOPK_HARD;
}

int
df_policy_check(const struct df_policy_opts *o, struct df_err *err)
{
	if (o->loo && o->rule != DF_POLICY_VANILLA)
		return df_fail(err, DF_EUSAGE,
		    "--baseline loo is for --policy vanilla: it is a baseline only where all completions count");
	if (is_hard(o) && !o->reference)
		return df_fail(err, DF_EUSAGE,
		    "--policy hard and topk-hard need --reference-rewards: what the prompts' own answers are worth");
	if (o->protect && o->rule == DF_POLICY_VANILLA)
		return df_fail(err, DF_EUSAGE, "--protect has no effect: --policy vanilla rejects no completion");
	if (o->protect && !o->reference)
		return df_fail(
		    err, DF_EUSAGE, "--protect needs --reference-rewards: the weight of the answers that it puts in");
	if (o->reference && !is_hard(o) && !o->protect)
		return df_fail(err, DF_EUSAGE,
		    "--reference-rewards has no effect: it is for --policy hard and topk-hard, and for --protect");
	return DF_OK;
}

int
df_policy_to_meta(const struct df_policy_opts *o, struct df_meta *m, struct df_err *err)
{
	static const char *const rules[] = { DF_POLICY_RULES };
	double all;
	int rc;

	DF_TRY(df_meta_set_str(m, "policy", rules[o->rule], err));
	if (has_topk(o))
		DF_TRY(df_meta_set_int(m, "topk", (int64_t)o->topk, err));
	DF_TRY(df_meta_set_str(m, "nll", o->mean_nll ? "mean" : "sum", err));
	DF_TRY(df_meta_set_str(m, "baseline", o->loo ? "loo" : "none", err));
	DF_TRY(df_meta_set_str(m, "reward_map", o->sigmoid ? "sigmoid" : "none", err));
	if (o->reference && df_parse_double(o->reference, &all, NULL) == DF_OK)
		DF_TRY(df_meta_set_double(m, "reference_reward", all, err));
	if (o->protect)
		rc = df_meta_set_bool(m, "protect", true, err);
out:
	return rc;
}

/* ---- weights --------------------------------------------------------------------- */

static double
map(const struct df_policy_opts *o, double reward)
{
	return o->sigmoid ? 1 / (1 + exp(-reward)) : reward;
}

struct ranked {
	double reward;
	size_t draw;
};

static int
better_first(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	if (x->reward != y->reward)
		return x->reward > y->reward ? -1 : 1;
	return x->draw < y->draw ? -1 : x->draw > y->draw;
}

/* weight [n] = 1 for the best by reward, 0 for the others. */
static int
mark_best(const struct df_policy_opts *o, const double *reward, size_t n, double *weight, struct df_err *err)
{
	struct ranked *order = NULL;
	int rc;

	DF_TRY(df_alloc(&order, n, sizeof(*order), "rewards", err));
	for (size_t s = 0; s < n; s++) {
		order[s] = (struct ranked){ reward[s], s };
		weight[s] = 0;
	}
	qsort(order, n, sizeof(*order), better_first);
	for (size_t s = 0; s < n && s < o->topk; s++)
		weight[order[s].draw] = 1;
out:
	free(order);
	return rc;
}

int
df_policy_weigh(const struct df_policy_opts *o, const double *reward, size_t n, double reference, double *weight,
    size_t *n_used, struct df_err *err)
{
	const double limit = is_hard(o) ? map(o, reference) - SLACK : 0;
	const double from =
	    n > 0 ? map(o, reward[0]) : 0; /* so that equal rewards have advantages of 0, not of rounding */
	double sum = 0;
	size_t used = 0;
	int rc = DF_OK;

	for (size_t s = 0; s < n; s++) {
		sum += map(o, reward[s]) - from;
		weight[s] = 1;
	}
	if (has_topk(o))
		DF_TRY(mark_best(o, reward, n, weight, err));
	for (size_t s = 0; s < n; s++) {
		if (o->rule != DF_POLICY_VANILLA && !(map(o, reward[s]) > limit))
			weight[s] = 0;
		used += weight[s] != 0;
	}
	for (size_t s = 0; s < n; s++) {
		const double r = map(o, reward[s]);

		if (weight[s] != 0)
			weight[s] = (o->loo ? r - from - (sum - (r - from)) / (double)(n - 1) : r) / (double)used;
	}
	*n_used = used;
out:
	return rc;
}

/* ---- which completions there are -------------------------------------------------------- */

/* What the completions say of themselves. */
struct rows {
	uint64_t n;
	uint64_t *id, *prompt;
	uint32_t *draw;
	uint16_t *domain;
	uint64_t *lengths;
	double *reward;
};

static void
rows_release(struct rows *r)
{
	free(r->id);
	free(r->prompt);
	free(r->draw);
	free(r->domain);
	free(r->lengths);
	free(r->reward);
}

static int
rows_read(struct rows *r, struct df_set *set, struct df_err *err)
{
	static const enum df_col small[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_PROMPT, DF_COL_DRAW };
	static const enum df_col tokens[] = { DF_COL_IDS, DF_COL_LABEL_MASK };
	struct df_batch b = DF_BATCH_INIT;
	int rc = DF_OK;

	if (!df_set_has(set, DF_COL_PROMPT))
		return df_fail(err, DF_EFORMAT,
		    "%s has no '%s': policy gradients need completions, as df-sample writes them", df_set_name(set),
		    df_column(DF_COL_PROMPT)->path);
	r->n = df_set_rows(set);
	DF_TRY(df_alloc(&r->id, r->n, sizeof(*r->id), "completions", err));
	DF_TRY(df_alloc(&r->prompt, r->n, sizeof(*r->prompt), "completions", err));
	DF_TRY(df_alloc(&r->draw, r->n, sizeof(*r->draw), "completions", err));
	DF_TRY(df_alloc(&r->domain, r->n, sizeof(*r->domain), "completions", err));
	DF_TRY(df_alloc(&r->reward, r->n, sizeof(*r->reward), "rewards", err));
	DF_TRY(df_set_lengths(set, DF_COL_IDS, &r->lengths, err));
	df_set_only(set, small, sizeof(small) / sizeof(small[0]));
	for (uint64_t first = 0, n; first < r->n; first += n) {
		n = r->n - first < READ_ROWS ? r->n - first : READ_ROWS;
		DF_TRY(df_set_read(set, first, n, &b, err));
		memcpy(r->id + first, b.col[DF_COL_ID].data, n * sizeof(*r->id));
		memcpy(r->prompt + first, b.col[DF_COL_PROMPT].data, n * sizeof(*r->prompt));
		if (df_set_has(set, DF_COL_DOMAIN))
			memcpy(r->domain + first, b.col[DF_COL_DOMAIN].data, n * sizeof(*r->domain));
		for (uint64_t i = first; i < first + n; i++)
			r->draw[i] = df_set_has(set, DF_COL_DRAW) ? ((uint32_t *)b.col[DF_COL_DRAW].data)[i - first]
			    : i > 0 && r->prompt[i] == r->prompt[i - 1] ? r->draw[i - 1] + 1
									: 0;
	}
	df_set_only(set, tokens, sizeof(tokens) / sizeof(tokens[0]));
out:
	df_batch_release(&b);
	return rc;
}

static int
by_number(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The prompts, each with its run of rows. */
static int
find_prompts(struct df_policy *p, const struct rows *r, struct df_err *err)
{
	uint64_t *sorted = NULL;
	int rc;

	DF_TRY(df_alloc(&p->id, r->n, sizeof(*p->id), "prompts", err));
	DF_TRY(df_alloc(&p->first_row, r->n + 1, sizeof(*p->first_row), "prompts", err));
	DF_TRY(df_alloc(&p->first_use, r->n + 1, sizeof(*p->first_use), "prompts", err));
	if (df_set_has(p->completions, DF_COL_DOMAIN))
		DF_TRY(df_alloc(&p->domain, r->n, sizeof(*p->domain), "prompts", err));
	for (uint64_t i = 0; i < r->n; i++) {
		if (i > 0 && r->prompt[i] == r->prompt[i - 1])
			continue;
		p->id[p->n] = r->prompt[i];
		if (p->domain)
			p->domain[p->n] = r->domain[i];
		p->first_row[p->n++] = i;
	}
	p->first_row[p->n] = r->n;
	DF_TRY(df_alloc(&sorted, p->n, sizeof(*sorted), "prompts", err));
	memcpy(sorted, p->id, p->n * sizeof(*sorted));
	qsort(sorted, p->n, sizeof(*sorted), by_number);
	for (uint64_t i = 1; i < p->n; i++) {
		if (sorted[i] == sorted[i - 1]) {
			rc = df_fail(err, DF_EFORMAT,
			    "%s: the completions of prompt %" PRIu64
			    " are not next to each other: sort the rows by prompt",
			    df_set_name(p->completions), sorted[i]);
			goto out;
		}
	}
out:
	free(sorted);
	return rc;
}

/* ---- the prompts' own answers --------------------------------------------------------------- */

struct place {
	uint64_t id, row;
};

/* Where the rows of the references are, by id; v is NULL where there are none. */
struct references {
	struct place *v; /* [n], sorted */
	uint64_t n, *lengths;
	double *reward; /* [prompts] */
};

static void
references_release(struct references *r)
{
	free(r->v);
	free(r->lengths);
	free(r->reward);
}

static int
open_references(struct df_policy *p, struct references *r, struct df_err *err)
{
	static const enum df_col id[] = { DF_COL_ID }, tokens[] = { DF_COL_IDS, DF_COL_LABEL_MASK };
	const struct df_input *prompts = df_meta_input(df_set_meta(p->completions), "prompts");
	struct df_batch b = DF_BATCH_INIT;
	int rc;

	DF_TRY(df_set_open1(&p->references, DF_KIND_TOKENS, "references", p->o.protect, err));
	if (df_set_is_stream(p->references) || df_set_has(p->references, DF_COL_SEQUENCE) ||
	    df_set_has(p->references, DF_COL_POSITION)) {
		rc = df_fail(err, DF_EUSAGE, "%s: --protect needs a file with one prompt and its answer in a row",
		    df_set_name(p->references));
		goto out;
	}
	if (prompts && df_set_meta(p->references)->id[0] && strcmp(prompts->id, df_set_meta(p->references)->id) != 0) {
		rc = df_fail(err, DF_ELINEAGE, "%s: its id is %s, but the prompts of %s are those of %s",
		    df_set_name(p->references), df_set_meta(p->references)->id, df_set_name(p->completions),
		    prompts->id);
		goto out;
	}
	r->n = df_set_rows(p->references);
	DF_TRY(df_alloc(&r->v, r->n, sizeof(*r->v), "references", err));
	DF_TRY(df_set_lengths(p->references, DF_COL_IDS, &r->lengths, err));
	df_set_only(p->references, id, 1);
	for (uint64_t first = 0, n; first < r->n; first += n) {
		n = r->n - first < READ_ROWS ? r->n - first : READ_ROWS;
		DF_TRY(df_set_read(p->references, first, n, &b, err));
		for (uint64_t i = 0; i < n; i++)
			r->v[first + i] = (struct place){ ((uint64_t *)b.col[DF_COL_ID].data)[i], first + i };
	}
	df_set_only(p->references, tokens, 2);
	qsort(r->v, r->n, sizeof(*r->v), by_number); /* the id comes first */
out:
	df_batch_release(&b);
	return rc;
}

static int
read_reference_rewards(struct df_policy *p, struct references *r, struct df_meta *meta, struct df_err *err)
{
	const struct df_input *prompts = df_meta_input(df_set_meta(p->completions), "prompts");
	const struct df_reward_rows rows = { .name = df_set_name(p->completions),
		.n = p->n,
		.id = p->id,
		.prompt = p->id,
		.tokens_id = prompts ? prompts->id : NULL,
		.more = true };
	double all;
	int rc;

	DF_TRY(df_alloc(&r->reward, p->n, sizeof(*r->reward), "rewards", err));
	if (df_parse_double(p->o.reference, &all, NULL) != DF_OK)
		return df_rewards_read(p->o.reference, "reference_rewards", &rows, r->reward, meta, err);
	for (uint64_t i = 0; i < p->n; i++)
		r->reward[i] = all;
out:
	return rc;
}

/* ---- the plan -------------------------------------------------------------------------------- */

static int
add_use(struct df_policy *p, struct df_policy_use use, struct df_err *err)
{
	uint64_t *n = &p->first_use[p->n];
	int rc;

	DF_TRY(df_grow(&p->use, &p->cap_use, *n + 1, sizeof(*p->use), "completions", err));
	p->use[(*n)++] = use;
out:
	return rc;
}

/* The answer of prompt i itself. */
static int
use_reference(struct df_policy *p, uint64_t i, const struct references *r, struct df_err *err)
{
	const struct place *at = bsearch(&p->id[i], r->v, r->n, sizeof(*r->v), by_number);

	if (!at)
		return df_fail(err, DF_EFORMAT, "%s has no sample %" PRIu64 ": the answer to that prompt is missing",
		    df_set_name(p->references), p->id[i]);
	p->n_protected++;
	return add_use(p, (struct df_policy_use){ at->row, r->lengths[at->row], map(&p->o, r->reward[i]), true }, err);
}

static int
plan_prompt(struct df_policy *p, uint64_t i, const struct rows *rows, const struct references *r, double *weight,
    struct df_err *err)
{
	const uint64_t first = p->first_row[i], n = p->first_row[i + 1] - first;
	size_t n_used;
	int rc;

	if (p->o.loo && n < 2)
		return df_fail(err, DF_EFORMAT,
		    "--baseline loo compares completions, and prompt %" PRIu64 " of %s has only one", p->id[i],
		    df_set_name(p->completions));
	DF_TRY(df_policy_weigh(&p->o, rows->reward + first, n, r->reward ? r->reward[i] : 0, weight, &n_used, err));
	p->first_use[i] = p->first_use[p->n];
	for (uint64_t s = 0; s < n; s++)
		if (weight[s] != 0)
			DF_TRY(add_use(
			    p, (struct df_policy_use){ first + s, rows->lengths[first + s], weight[s], false }, err));
	if (n_used == 0 && r->v)
		rc = use_reference(p, i, r, err);
out:
	return rc;
}

int
df_policy_open(struct df_policy **out, const struct df_policy_opts *o, struct df_set *completions, struct df_meta *meta,
    struct df_err *err)
{
	const char *id = df_set_meta(completions)->id;
	struct references references = { 0 };
	struct rows rows = { 0 };
	struct df_policy *p = NULL;
	double *weight = NULL;
	int rc;

	DF_TRY(df_policy_check(o, err));
	DF_TRY(df_alloc(&p, 1, sizeof(*p), "policy gradients", err));
	p->o = *o;
	p->completions = completions;
	p->in = (struct df_batch)DF_BATCH_INIT;
	DF_TRY(rows_read(&rows, completions, err));
	DF_TRY(find_prompts(p, &rows, err));
	DF_TRY(df_rewards_read(o->rewards, "rewards",
	    &(struct df_reward_rows){ .name = df_set_name(completions),
		.n = rows.n,
		.id = rows.id,
		.prompt = rows.prompt,
		.draw = rows.draw,
		.tokens_id = id[0] ? id : NULL },
	    rows.reward, meta, err));
	if (o->reference)
		DF_TRY(read_reference_rewards(p, &references, meta, err));
	if (o->protect)
		DF_TRY(open_references(p, &references, err));
	DF_TRY(df_alloc(&weight, rows.n, sizeof(*weight), "rewards", err));
	for (uint64_t i = 0; i < p->n; i++)
		DF_TRY(plan_prompt(p, i, &rows, &references, weight, err));
	*out = p;
	p = NULL;
out:
	free(weight);
	rows_release(&rows);
	references_release(&references);
	df_policy_close(p);
	return rc;
}

void
df_policy_close(struct df_policy *p)
{
	if (!p)
		return;
	df_set_close(p->references);
	df_batch_release(&p->in);
	free(p->id);
	free(p->domain);
	free(p->first_row);
	free(p->first_use);
	free(p->use);
	free(p);
}

/* ---- tokens -------------------------------------------------------------------------------------- */

/* Append row `row` of in, unless it has no target. */
static int
add_row(struct df_policy_batch *b, const struct df_batch *in, uint64_t row, double weight, bool mean,
    uint32_t *n_targets, struct df_err *err)
{
	const uint64_t *off = in->col[DF_COL_IDS].offsets;
	const uint8_t *mask = (const uint8_t *)in->col[DF_COL_LABEL_MASK].data + off[row];
	const size_t n = (size_t)(off[row + 1] - off[row]), rows = b->tokens.n;
	size_t at, targets = 0;
	int rc;

	for (size_t t = 1; t < n; t++)
		targets += mask[t] != 0;
	if (targets == 0)
		return DF_OK;
	DF_TRY(df_grow(&b->offsets, &b->cap_offsets, rows + 2, sizeof(*b->offsets), "completions", err));
	at = rows ? (size_t)b->offsets[rows] : 0;
	b->offsets[rows] = at;
	b->offsets[rows + 1] = at + n;
	DF_TRY(df_grow(&b->ids, &b->cap_ids, at + n, sizeof(*b->ids), "completions", err));
	DF_TRY(df_grow(&b->mask, &b->cap_mask, at + n, 1, "completions", err));
	DF_TRY(df_grow(&b->weight, &b->cap_weight, rows + 1, sizeof(*b->weight), "completions", err));
	memcpy(b->ids + at, (const uint32_t *)in->col[DF_COL_IDS].data + off[row], n * sizeof(*b->ids));
	memcpy(b->mask + at, mask, n);
	b->weight[rows] = (float)(mean ? weight : weight * (double)targets);
	*n_targets += (uint32_t)targets;
	b->tokens.n++;
out:
	return rc;
}

/* The rows of prompt i that count. */
static int
add_prompt(struct df_policy *p, uint64_t i, struct df_policy_batch *b, uint32_t *n_targets, struct df_err *err)
{
	const uint64_t first = p->first_row[i], n = p->first_row[i + 1] - first;
	const struct df_policy_use *use = p->use + p->first_use[i], *end = p->use + p->first_use[i + 1];
	int rc = DF_OK;

	if (use == end)
		return DF_OK;
	if (use->reference)
		DF_TRY(df_set_read(p->references, use->row, 1, &p->in, err));
	else
		DF_TRY(df_set_read(p->completions, first, n, &p->in, err));
	for (; use < end; use++)
		DF_TRY(add_row(
		    b, &p->in, use->reference ? 0 : use->row - first, use->weight, p->o.mean_nll, n_targets, err));
out:
	return rc;
}

int
df_policy_read(struct df_policy *p, uint64_t first, uint64_t n, struct df_policy_batch *b, struct df_err *err)
{
	int rc;

	DF_TRY(df_grow(&b->begin, &b->cap_begin, n + 1, sizeof(*b->begin), "prompts", err));
	DF_TRY(df_grow(&b->n_targets, &b->cap_targets, n, sizeof(*b->n_targets), "prompts", err));
	b->n = n;
	b->first = first;
	b->tokens = (struct df_tokens){ 0 };
	for (uint64_t i = 0; i < n; i++) {
		b->begin[i] = b->tokens.n;
		b->n_targets[i] = 0;
		DF_TRY(add_prompt(p, first + i, b, &b->n_targets[i], err));
	}
	b->begin[n] = b->tokens.n;
	b->tokens.offsets = b->offsets;
	b->tokens.ids = b->ids;
	b->tokens.mask = b->mask;
out:
	return rc;
}

void
df_policy_batch_release(struct df_policy_batch *b)
{
	free(b->begin);
	free(b->n_targets);
	free(b->offsets);
	free(b->ids);
	free(b->mask);
	free(b->weight);
	*b = (struct df_policy_batch){ 0 };
}

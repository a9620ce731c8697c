/*
 * quota.c - shares of domains, and a choice in each.
 */
#include "select/quota.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/remainder.h"
#include "base/words.h"
#include "select/select_priv.h"

const char *const df_quota_words[] = { "proportional", NULL };

/* ---- shares ----------------------------------------------------------------------------- */

static int
domain_number(const struct df_meta *m, const char *name, size_t *d, struct df_err *err)
{
	const char **names = NULL;
	int rc = DF_OK;

	for (*d = 0; *d < m->n_domains; (*d)++)
		if (strcmp(m->domains[*d], name) == 0)
			return DF_OK;
	DF_TRY(df_alloc(&names, m->n_domains + 1, sizeof(*names), "domains", err));
	for (size_t i = 0; i < m->n_domains; i++)
		names[i] = m->domains[i];
	rc = df_unknown(err, DF_EUSAGE, "domain", name, names, "df-show of the train set names them");
out:
	free(names);
	return rc;
}

/* "NAME=SHARE": a name may have '=' in it. */
static int
parse_share(char *item, const struct df_meta *m, double *share, struct df_err *err)
{
	char *value = strrchr(item, '=');
	double x = 0;
	size_t d;
	int rc = DF_OK;

	if (!value) {
		rc = df_fail(err, DF_EUSAGE, "'%s' is no NAME=SHARE", item);
		df_suggest(err, item, df_quota_words);
		return rc;
	}
	*value++ = '\0';
	DF_TRY(domain_number(m, item, &d, err));
	DF_TRY(df_parse_double(value, &x, err));
	if (x < 0)
		rc = df_fail(err, DF_EUSAGE, "the share of '%s' must not be negative", item);
	else if (share[d] >= 0)
		rc = df_fail(err, DF_EUSAGE, "'%s' is named twice", item);
	else
		share[d] = x;
out:
	return rc;
}

/* Shares that sum to 1; those below 0 were not given. */
static int
divide_by_sum(double *share, size_t n, struct df_err *err)
{
	double sum = 0;

	for (size_t d = 0; d < n; d++) {
		share[d] = fmax(share[d], 0);
		sum += share[d];
	}
	if (!(sum > 0) || !isfinite(sum))
		return df_fail(err, DF_EUSAGE, "the shares must have a positive sum");
	for (size_t d = 0; d < n; d++)
		share[d] /= sum;
	return DF_OK;
}

int
df_quota_parse(const char *text, const struct df_selection *out, double **share, struct df_err *err)
{
	const struct df_meta *m = &out->meta;
	char *copy = NULL, *rest, *item;
	int rc = DF_OK;

	*share = NULL;
	if (!out->domain)
		return df_fail(err, DF_EUSAGE, "--quota: the train set does not say which domain its rows belong to");
	DF_TRY(df_alloc(share, m->n_domains, sizeof(**share), "shares", err));
	if (strcmp(text, "proportional") == 0) {
		for (uint64_t i = 0; i < out->n_rows; i++)
			(*share)[out->domain[i]]++;
	} else {
		for (size_t d = 0; d < m->n_domains; d++)
			(*share)[d] = -1;
		DF_TRY(df_strdup(&copy, text, err));
		rest = copy;
		while ((item = strsep(&rest, ",")))
			DF_TRY(parse_share(item, m, *share, err));
	}
	rc = divide_by_sum(*share, m->n_domains, err);
out:
	if (rc != DF_OK) {
		df_err_prefix(err, "--quota: ");
		free(*share);
		*share = NULL;
	}
	free(copy);
	return rc;
}

/* ---- a choice in each domain -------------------------------------------------------------- */

/* A place in the index: how often its row was there before, and its rank. */
struct place {
	uint64_t round, rank, id;
};

static int
by_place(const void *x, const void *y)
{
	const struct place *a = x, *b = y;

	if (a->round != b->round)
		return a->round < b->round ? -1 : 1;
	return a->rank < b->rank ? -1 : a->rank > b->rank;
}

/* Append what domain d gets of order [n_order] to out->index. */
static int
take_domain(const struct df_select *in, size_t d, uint64_t quota, const uint64_t *order, uint64_t n_order,
    uint64_t *of_domain, struct df_selection *out, struct df_err *err)
{
	struct df_select part = *in;
	struct df_selection got = { .n_rows = out->n_rows, .meta = DF_META_INIT };
	uint64_t n = 0, *index = NULL;
	int rc = DF_OK;

	part.amount =
	    (struct df_amount){ .given = true, .tokens = in->amount.tokens, .n = quota, .text = in->amount.text };
	for (uint64_t i = 0; i < n_order; i++)
		if (out->domain[order[i]] == d)
			of_domain[n++] = order[i];
	rc = df_select_take_all(&part, of_domain, n, n, &got, err);
	if (rc != DF_OK) {
		df_err_prefix(err, "domain '%s': ", out->meta.domains[d]);
		goto out;
	}
	DF_TRY(df_alloc(&index, out->n_index + got.n_index, sizeof(*index), "index", err));
	if (out->n_index)
		memcpy(index, out->index, out->n_index * sizeof(*index));
	if (got.n_index)
		memcpy(index + out->n_index, got.index, got.n_index * sizeof(*index));
	free(out->index);
	out->index = index;
	out->n_index += got.n_index;
out:
	df_selection_release(&got);
	return rc;
}

/* Sort out->index: by how often a row was there before, then as order [n_order] has them. */
static int
sort_index(const uint64_t *order, uint64_t n_order, struct df_selection *out, struct df_err *err)
{
	uint64_t *rank = NULL, *seen = NULL;
	struct place *place = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&rank, out->n_rows, sizeof(*rank), "ranks", err));
	DF_TRY(df_alloc(&seen, out->n_rows, sizeof(*seen), "ranks", err));
	DF_TRY(df_alloc(&place, out->n_index, sizeof(*place), "index", err));
	for (uint64_t i = 0; i < n_order; i++)
		rank[order[i]] = i;
	for (uint64_t i = 0; i < out->n_index; i++) {
		const uint64_t id = out->index[i];

		place[i] = (struct place){ seen[id]++, rank[id], id };
	}
	qsort(place, out->n_index, sizeof(*place), by_place);
	for (uint64_t i = 0; i < out->n_index; i++)
		out->index[i] = place[i].id;
out:
	free(rank);
	free(seen);
	free(place);
	return rc;
}

int
df_quota_take(const struct df_select *in, const double *share, const uint64_t *order, uint64_t n_order,
    struct df_selection *out, struct df_err *err)
{
	const size_t n_domains = out->meta.n_domains;
	const uint64_t n = in->amount.tokens ? in->amount.n : df_amount_of(&in->amount, out->n_rows);
	uint64_t *quota = NULL, *of_domain = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&quota, n_domains, sizeof(*quota), "quotas", err));
	DF_TRY(df_alloc(&of_domain, n_order, sizeof(*of_domain), "rows", err));
	df_largest_remainder(share, n_domains, n, quota);
	DF_TRY(df_alloc(&out->index, 0, sizeof(*out->index), "index", err));
	for (size_t d = 0; d < n_domains; d++)
		if (quota[d] > 0)
			DF_TRY(take_domain(in, d, quota[d], order, n_order, of_domain, out, err));
	DF_TRY(sort_index(order, n_order, out, err));
out:
	free(quota);
	free(of_domain);
	return rc;
}

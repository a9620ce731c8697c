/*
 * drawer.c - the rows of a window, from cursors into permutations of each domain's rows.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/permute.h"
#include "base/rng.h"
#include "mix/mix.h"

#define SUBSTREAMS 1000003u /* from one domain to the next */

/* A domain's rows in the order of an epoch. */
struct epoch {
	uint32_t *order; /* NULL: none was asked for yet */
	uint64_t number;
};

struct df_drawer {
	struct df_drawer_opts o;
	uint32_t *rows;      /* of domain i, in order: from first[i] to first[i + 1] */
	uint32_t *first;     /* [n_domains + 1] */
	struct epoch *epoch; /* [n_domains] */
	uint64_t *quota;     /* [n_domains] scratch of a draw */
	bool warned;
};

static size_t
domain_of(const struct df_drawer_opts *o, uint64_t row)
{
	return o->domain ? o->domain[row] : 0;
}

static bool
may_draw(const struct df_drawer_opts *o, uint64_t row)
{
	return !o->leave || !o->leave[row];
}

uint64_t
df_drawer_rows(const struct df_drawer *d, size_t domain)
{
	return d->first[domain + 1] - d->first[domain];
}

/* rows and first: a counting sort by domain. */
static int
group(struct df_drawer *d, struct df_err *err)
{
	const struct df_drawer_opts *o = &d->o;
	uint32_t *at = NULL;
	int rc = DF_OK;

	for (uint64_t r = 0; r < o->n_rows; r++) {
		if (domain_of(o, r) >= o->n_domains)
			return df_fail(
			    err, DF_EFORMAT, "row %" PRIu64 ": domain %zu of %zu", r, domain_of(o, r), o->n_domains);
		d->first[domain_of(o, r) + 1] += may_draw(o, r);
	}
	for (size_t i = 0; i < o->n_domains; i++)
		d->first[i + 1] += d->first[i];
	DF_TRY(df_alloc(&d->rows, d->first[o->n_domains], sizeof(*d->rows), "rows by domain", err));
	DF_TRY(df_alloc(&at, o->n_domains, sizeof(*at), "rows by domain", err));
	memcpy(at, d->first, o->n_domains * sizeof(*at));
	for (uint64_t r = 0; r < o->n_rows; r++)
		if (may_draw(o, r))
			d->rows[at[domain_of(o, r)]++] = (uint32_t)r;
out:
	free(at);
	return rc;
}

int
df_drawer_new(struct df_drawer **out, const struct df_drawer_opts *o, struct df_err *err)
{
	struct df_drawer *d = NULL;
	int rc = DF_OK;

	*out = NULL;
	if (o->n_rows > UINT32_MAX)
		return df_fail(err, DF_ERANGE, "%" PRIu64 " rows, more than %u", o->n_rows, UINT32_MAX);
	if (o->n_domains == 0 || o->n_domains > DF_MIX_DOMAINS)
		return df_fail(err, DF_ERANGE, "%zu domains, not 1 to %d", o->n_domains, DF_MIX_DOMAINS);
	DF_TRY(df_alloc(&d, 1, sizeof(*d), "row drawer", err));
	d->o = *o;
	DF_TRY(df_alloc(&d->first, o->n_domains + 1, sizeof(*d->first), "row drawer", err));
	DF_TRY(df_alloc(&d->epoch, o->n_domains, sizeof(*d->epoch), "row drawer", err));
	DF_TRY(df_alloc(&d->quota, o->n_domains, sizeof(*d->quota), "row drawer", err));
	DF_TRY(group(d, err));
	*out = d;
	d = NULL;
out:
	df_drawer_free(d);
	return rc;
}

void
df_drawer_free(struct df_drawer *d)
{
	if (!d)
		return;
	for (size_t i = 0; d->epoch && i < d->o.n_domains; i++)
		free(d->epoch[i].order);
	free(d->epoch);
	free(d->first);
	free(d->rows);
	free(d->quota);
	free(d);
}

static const char *
name_of(const struct df_drawer *d, size_t domain)
{
	return d->o.names ? d->o.names[domain] : "?";
}

bool
df_drawer_spread(struct df_drawer *d, double *p)
{
	double sum = 0;
	bool spread = false;

	for (size_t i = 0; i < d->o.n_domains; i++) {
		if (p[i] > 0 && df_drawer_rows(d, i) == 0) {
			if (!d->warned)
				df_warn("domain '%s' has no rows to draw: its share of %g goes to the others",
				    name_of(d, i), p[i]);
			p[i] = 0;
			d->warned = spread = true;
		}
		sum += p[i];
	}
	for (size_t i = 0; spread && sum > 0 && i < d->o.n_domains; i++)
		p[i] /= sum;
	return spread;
}

/* Its rows in the order of epoch `number`; the one before it is forgotten. */
static int
order_of(struct df_drawer *d, size_t domain, uint64_t number, const uint32_t **order, struct df_err *err)
{
	struct epoch *e = &d->epoch[domain];
	const struct df_permute p = { d->o.seed, DF_RNG_MIXTURE_ROWS, SUBSTREAMS * (uint32_t)domain + (uint32_t)number,
		d->o.ids };
	const uint32_t n = (uint32_t)df_drawer_rows(d, domain);
	const bool made = e->order && e->number == number;
	int rc = DF_OK;

	if (!e->order)
		DF_TRY(df_alloc(&e->order, n, sizeof(*e->order), "permutation of a domain", err));
	if (!made) {
		e->number = UINT64_MAX; /* until it is whole */
		DF_TRY(df_permute(&p, d->rows + d->first[domain], n, e->order, err));
		e->number = number;
	}
	*order = e->order;
out:
	return rc;
}

/* rows [n] of a domain, from its cursor on. */
static int
draw_in_order(struct df_drawer *d, size_t domain, uint64_t cursor, uint64_t n, uint64_t *rows, struct df_err *err)
{
	const uint64_t n_rows = df_drawer_rows(d, domain);
	const uint32_t *order;

	for (uint64_t i = 0; i < n;) {
		const uint64_t at = (cursor + i) % n_rows, left = n_rows - at, m = n - i < left ? n - i : left;
		const int rc = order_of(d, domain, (cursor + i) / n_rows, &order, err);

		if (rc != DF_OK)
			return rc;
		for (uint64_t k = 0; k < m; k++)
			rows[i + k] = order[at + k];
		i += m;
	}
	return DF_OK;
}

/* The same, independently: draw c of a domain is uniform number c of its first substream. */
static void
draw_independently(const struct df_drawer *d, size_t domain, uint64_t cursor, uint64_t n, uint64_t *rows)
{
	const uint64_t n_rows = df_drawer_rows(d, domain);
	const uint32_t *own = d->rows + d->first[domain];

	for (uint64_t i = 0; i < n; i++) {
		const double u =
		    df_rng_uniform(d->o.seed, DF_RNG_MIXTURE_ROWS, SUBSTREAMS * (uint32_t)domain, cursor + i);
		const uint64_t k = (uint64_t)(u * (double)n_rows);

		rows[i] = own[k < n_rows ? k : n_rows - 1];
	}
}

/* rows [n] in the order of the race of their places. */
static int
shuffle(const struct df_drawer *d, uint64_t step, uint64_t n, uint64_t *rows, struct df_err *err)
{
	const struct df_permute p = { d->o.seed, DF_RNG_SHUFFLE, (uint32_t)step, NULL };
	uint32_t *order = NULL;
	uint64_t *sorted = NULL;
	int rc = DF_OK;

	if (n > UINT32_MAX)
		return df_fail(err, DF_ERANGE, "%" PRIu64 " rows of a window, more than %u", n, UINT32_MAX);
	DF_TRY(df_alloc(&order, n, sizeof(*order), "order of a window", err));
	DF_TRY(df_alloc(&sorted, n, sizeof(*sorted), "order of a window", err));
	DF_TRY(df_permute(&p, NULL, (uint32_t)n, order, err));
	memcpy(sorted, rows, n * sizeof(*rows));
	for (uint64_t i = 0; i < n; i++)
		rows[i] = sorted[order[i]];
out:
	free(order);
	free(sorted);
	return rc;
}

int
df_drawer_draw(struct df_drawer *d, const double *p, uint64_t step, uint64_t n, uint64_t *cursor, uint64_t *rows,
    struct df_err *err)
{
	uint64_t at = 0;
	int rc = DF_OK;

	df_mix_quotas(p, d->o.n_domains, n, d->o.dataflex_quota, d->quota);
	for (size_t i = 0; i < d->o.n_domains; i++)
		if (d->quota[i] > 0 && df_drawer_rows(d, i) == 0)
			return df_fail(err, DF_EUSAGE, "domain '%s' has no rows to draw, but its proportion is %g",
			    name_of(d, i), p[i]);
	for (size_t i = 0; i < d->o.n_domains; at += d->quota[i], i++) {
		if (d->o.iid && d->quota[i] > 0)
			draw_independently(d, i, cursor[i], d->quota[i], rows + at);
		else
			DF_TRY(draw_in_order(d, i, cursor[i], d->quota[i], rows + at, err));
	}
	if (at != n)
		return df_fail(err, DF_EINTERNAL, "%" PRIu64 " rows drawn, not %" PRIu64, at, n);
	if (d->o.shuffle)
		DF_TRY(shuffle(d, step, n, rows, err));
	for (size_t i = 0; i < d->o.n_domains; i++)
		cursor[i] += d->quota[i];
out:
	return rc;
}

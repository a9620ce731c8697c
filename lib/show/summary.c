/*
 * summary.c - one pass over a set: extremes, means, and counts by domain.
 *
 * Means are sums in double over rows in order; they do not depend on how the set is cut into files.
 */
#include "show/show.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static void
take(struct df_col_stats *st, double x)
{
	if (!isfinite(x)) {
		st->n++;
		st->nan++;
		return;
	}
	if (st->n == st->nan || x < st->min)
		st->min = x;
	if (st->n == st->nan || x > st->max)
		st->max = x;
	st->mean += x; /* a sum until all rows are read */
	st->n++;
}

static void
finish(struct df_col_stats *st)
{
	st->mean = st->n > st->nan ? st->mean / (double)(st->n - st->nan) : NAN;
	if (st->n == st->nan)
		st->min = st->max = NAN;
}

static double
entry(enum df_coltype type, const void *data, uint64_t i)
{
	switch (type) {
	case DF_COL_U8: return ((const uint8_t *)data)[i];
	case DF_COL_U16: return ((const uint16_t *)data)[i];
	case DF_COL_U32: return ((const uint32_t *)data)[i];
	case DF_COL_U64: return (double)((const uint64_t *)data)[i];
	case DF_COL_F32: return (double)((const float *)data)[i];
	case DF_COL_F64: return ((const double *)data)[i];
	}
	return NAN;
}

static uint64_t
targets_of(const struct df_batch *b, uint64_t row)
{
	const struct df_column_data *m = &b->col[DF_COL_LABEL_MASK];
	uint64_t n = 0;

	for (uint64_t i = m->offsets[row]; i < m->offsets[row + 1]; i++)
		n += ((const uint8_t *)m->data)[i] != 0;
	return n;
}

static int
take_domains(struct df_summary *u, const struct df_set *s, const struct df_batch *b, struct df_err *err)
{
	for (uint64_t r = 0; r < b->n; r++) {
		uint16_t d = ((const uint16_t *)b->col[DF_COL_DOMAIN].data)[r];
		struct df_domain_stats *t;

		if (d >= u->n_domains)
			return df_fail(err, DF_EFORMAT, "%s: row %llu is of domain %u, but there are %zu",
			    df_set_name(s), (unsigned long long)(b->first + r), d, u->n_domains);
		t = &u->domain[d];
		t->rows++;
		if (df_set_has(s, DF_COL_IDS))
			t->tokens += b->col[DF_COL_IDS].offsets[r + 1] - b->col[DF_COL_IDS].offsets[r];
		if (df_set_has(s, DF_COL_LABEL_MASK))
			t->targets += targets_of(b, r);
		else if (df_set_has(s, DF_COL_N_TOKENS))
			t->targets += ((const uint32_t *)b->col[DF_COL_N_TOKENS].data)[r];
		if (df_set_has(s, DF_COL_LOSS)) {
			float loss = ((const float *)b->col[DF_COL_LOSS].data)[r];

			if (isfinite(loss)) {
				t->loss += (double)loss;
				t->n_loss++;
			}
		}
	}
	return DF_OK;
}

/* Weights of domains are few: they are shown one by one. */
static int
take_weights(struct df_summary *u, const struct df_batch *b, struct df_err *err)
{
	int rc;

	DF_TRY(df_grow(&u->domain_weight, &u->cap_weight, u->rows + b->n, sizeof(double), "weights", err));
	memcpy(u->domain_weight + u->rows, b->col[DF_COL_DOMAIN_WEIGHT].data, b->n * sizeof(double));
out:
	return rc;
}

static int
take_batch(struct df_summary *u, const struct df_set *s, const struct df_batch *b, struct df_err *err)
{
	for (int i = 0; i < DF_COL_COUNT; i++) {
		const struct df_column *c = df_column((enum df_col)i);
		const struct df_column_data *d = &b->col[i];
		uint64_t n = b->n * (c->matrix ? d->width : 1);

		if (!df_set_has(s, (enum df_col)i))
			continue;
		if (c->offsets) {
			n = d->offsets[b->n];
			for (uint64_t r = 0; r < b->n; r++)
				take(&u->length[i], (double)(d->offsets[r + 1] - d->offsets[r]));
		}
		for (uint64_t k = 0; k < n; k++)
			take(&u->col[i], entry(c->type, d->data, k));
	}
	if (df_set_has(s, DF_COL_LABEL_MASK))
		for (uint64_t r = 0; r < b->n; r++)
			take(&u->targets, (double)targets_of(b, r));
	u->rows += b->n;
	return u->domain ? take_domains(u, s, b, err) : DF_OK;
}

int
df_summary_make(struct df_summary *out, struct df_set *s, struct df_err *err)
{
	struct df_summary u = DF_SUMMARY_INIT;
	struct df_batch b = DF_BATCH_INIT;
	uint64_t n;
	int rc;

	if (df_set_has(s, DF_COL_DOMAIN)) {
		u.n_domains = df_set_meta(s)->n_domains;
		DF_TRY(df_alloc(&u.domain, u.n_domains, sizeof(*u.domain), "domains", err));
	}
	for (;;) {
		DF_TRY(df_set_next(s, df_set_scan_rows(s), &b, &n, err));
		if (n == 0)
			break;
		if (df_set_has(s, DF_COL_DOMAIN_WEIGHT))
			DF_TRY(take_weights(&u, &b, err));
		DF_TRY(take_batch(&u, s, &b, err));
	}
	for (int i = 0; i < DF_COL_COUNT; i++) {
		finish(&u.col[i]);
		finish(&u.length[i]);
	}
	finish(&u.targets);
	for (size_t d = 0; d < u.n_domains; d++)
		u.domain[d].loss = u.domain[d].n_loss ? u.domain[d].loss / (double)u.domain[d].n_loss : NAN;
	*out = u;
	u = (struct df_summary)DF_SUMMARY_INIT;
out:
	df_batch_release(&b);
	df_summary_release(&u);
	return rc;
}

void
df_summary_release(struct df_summary *u)
{
	free(u->domain);
	free(u->domain_weight);
	*u = (struct df_summary)DF_SUMMARY_INIT;
}

/*
 * points.c - a set's matrix in memory, by id.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "near/near.h"
#include "shard/scan.h"

int
df_point_rows_init(struct df_point_rows *p, uint64_t n, size_t d, struct df_err *err)
{
	size_t numel;
	int rc = DF_OK;

	*p = (struct df_point_rows){ 0 };
	DF_TRY(df_size_mul((size_t)n, d, &numel, "points", err));
	DF_TRY(df_alloc(&p->rows, numel, sizeof(*p->rows), "points", err));
	DF_TRY(df_alloc(&p->invalid, (size_t)n, sizeof(*p->invalid), "points", err));
	p->points = (struct df_points){ p->rows, n, d };
out:
	return rc;
}

void
df_point_rows_release(struct df_point_rows *p)
{
	free(p->rows);
	free(p->invalid);
	*p = (struct df_point_rows){ 0 };
}

int
df_point_rows_put(struct df_point_rows *p, const struct df_batch *b, enum df_col column, struct df_err *err)
{
	const uint64_t *ids = b->col[DF_COL_ID].data;
	const float *x = b->col[column].data;
	const size_t d = p->points.d;

	if (b->n == 0)
		return DF_OK;
	if (!ids || !x)
		return df_fail(err, DF_EFORMAT, "no column '%s'", df_column(x ? DF_COL_ID : column)->path);
	if (b->col[column].width != d)
		return df_fail(err, DF_EFORMAT, "rows of %zu numbers among rows of %zu", b->col[column].width, d);
	for (uint64_t i = 0; i < b->n; i++, x += d) {
		if (ids[i] >= p->points.n)
			return df_fail(err, DF_EFORMAT, "sample id %" PRIu64 ", but there are %" PRIu64 " samples",
			    ids[i], p->points.n);
		memcpy(p->rows + ids[i] * d, x, d * sizeof(*x));
		p->invalid[ids[i]] = !df_all_finite(x, d);
		p->n_invalid += p->invalid[ids[i]];
	}
	return DF_OK;
}

struct load {
	struct df_point_rows *p;
	enum df_col column;
	struct df_idset ids;
	const char *name;
};

static int
take(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	struct load *l = ctx;
	int rc = DF_OK;

	(void)result;
	if (b->n > 0 && b->col[DF_COL_ID].data)
		DF_TRY(df_idset_add(&l->ids, b->col[DF_COL_ID].data, b->n, l->name, err));
	rc = df_point_rows_put(l->p, b, l->column, err);
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", l->name);
out:
	return rc;
}

int
df_point_rows_load(struct df_point_rows *p, struct df_set *set, enum df_col column, int n_threads, struct df_err *err)
{
	struct load l = { .p = p, .column = column, .name = df_set_name(set) };
	const struct df_scan scan = { .set = set, .n_threads = n_threads, .take = take, .ctx = &l };
	int rc = DF_OK;

	*p = (struct df_point_rows){ 0 };
	if (df_set_is_stream(set)) {
		rc = df_fail(err, DF_EUSAGE, "%s: points are read from files", l.name);
		goto out;
	}
	DF_TRY(df_point_rows_init(p, df_set_rows(set), df_set_width(set, column), err));
	DF_TRY(df_idset_init(&l.ids, p->points.n, err));
	DF_TRY(df_scan_run(&scan, err));
	rc = df_idset_check_full(&l.ids, l.name, err);
out:
	df_idset_release(&l.ids);
	return rc;
}

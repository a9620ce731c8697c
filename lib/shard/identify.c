/*
 * identify.c - compute the id of a set whose files have none, and check the id that they have against the rows.
 */
#include "shard/shard_priv.h"

#include <stdlib.h>
#include <string.h>

#include "shard/scan.h"

/* Check that no id occurs twice in the whole set.  Ids may be any numbers. */
struct ids {
	uint64_t *v;
	size_t n, cap;
};

struct pass {
	uint32_t cols;
	struct df_digest sum;
	struct ids *ids; /* NULL: the set has no ids */
};

static int
digest_block(void *ctx, struct df_batch *b, void **result, int worker, struct df_err *err)
{
	const struct pass *p = ctx;
	struct df_digest *d;
	int rc;

	(void)worker;
	DF_TRY(df_arena_alloc(&b->arena, &d, 1, sizeof(*d), "a digest", err));
	*d = (struct df_digest){ 0, 0 };
	DF_TRY(df_batch_digest(b, p->cols, b->first, d, err));
	*result = d;
out:
	return rc;
}

static int
take_block(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	struct pass *p = ctx;
	int rc = DF_OK;

	df_digest_merge(&p->sum, *(const struct df_digest *)result);
	if (p->ids) {
		DF_TRY(df_grow(&p->ids->v, &p->ids->cap, p->ids->n + (size_t)b->n, sizeof(*p->ids->v), "ids", err));
		memcpy(p->ids->v + p->ids->n, b->col[DF_COL_ID].data, (size_t)b->n * sizeof(*p->ids->v));
		p->ids->n += (size_t)b->n;
	}
out:
	return rc;
}

int
df_set_open(struct df_set **out, enum df_kind kind, const char *role, const char *const *paths, size_t n_paths,
    struct df_err *err)
{
	struct df_set *s = NULL;
	int rc;

	DF_TRY(df_set_open_later(&s, kind, role, paths, n_paths, err));
	if (df_set_unidentified(s)) {
		const struct df_scan sc = { .set = s, .n_threads = df_threads_default() };

		if ((rc = df_scan_run(&sc, err)) != DF_OK) {
			if (role)
				df_err_prefix(err, "%s: ", role);
			goto out;
		}
		df_set_rewind(s);
	}
	*out = s;
	s = NULL;
out:
	df_set_close(s);
	return rc;
}

int
df_set_open1(struct df_set **out, enum df_kind kind, const char *role, const char *path, struct df_err *err)
{
	return df_set_open(out, kind, role, &path, 1, err);
}

static int
by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int
df_set_check(struct df_set *s, struct df_err *err)
{
	struct ids ids = { NULL, 0, 0 };
	struct pass p = { .ids = df_set_has(s, DF_COL_ID) ? &ids : NULL };
	const struct df_scan sc = {
		.set = s, .n_threads = df_threads_default(), .work = digest_block, .take = take_block, .ctx = &p
	};
	char hex[DF_DIGEST_HEX];
	int rc;

	for (int i = 0; i < DF_COL_COUNT; i++)
		if (df_set_has(s, (enum df_col)i) && !(i == DF_COL_ID && df_set_ids_made_up(s)))
			p.cols |= 1u << i;
	DF_TRY(df_scan_run(&sc, err));
	if (ids.n > 1)
		qsort(ids.v, ids.n, sizeof(*ids.v), by_value);
	for (size_t i = 1; i < ids.n; i++) {
		if (ids.v[i] == ids.v[i - 1]) {
			rc = df_fail(err, DF_EFORMAT, "%s: sample id %llu occurs twice", df_set_name(s),
			    (unsigned long long)ids.v[i]);
			goto out;
		}
	}
	df_digest_hex(p.sum, hex);
	if (strcmp(hex, df_set_meta(s)->id) != 0)
		rc = df_fail(err, DF_EFORMAT, "%s: damaged: its rows have the digest %s, but df_id is %s",
		    df_set_name(s), hex, df_set_meta(s)->id);
out:
	free(ids.v);
	return rc;
}

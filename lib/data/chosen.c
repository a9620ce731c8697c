/*
 * chosen.c - index | pool: dataset and row of each id | datasets: the records.
 */
#include "data/chosen.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/words.h"

#define READ_ROWS ((uint64_t)1 << 16)

/* ---- the pool ----------------------------------------------------------- */

static int
check_pool(const struct df_set *pool, struct df_err *err)
{
	const struct df_meta *m = df_set_meta(pool);
	const char *packing = df_meta_param(m, "packing");

	if (df_set_is_stream(pool))
		return df_fail(err, DF_EUSAGE, "%s: a stream; name a file of tokens", df_set_name(pool));
	if (!df_set_has(pool, DF_COL_DOMAIN) || !df_set_has(pool, DF_COL_SOURCE_ROW)) {
		return df_fail(err, DF_EFORMAT, "%s: does not say which rows it was made from ('%s', '%s')",
		    df_set_name(pool), df_column(DF_COL_DOMAIN)->path, df_column(DF_COL_SOURCE_ROW)->path);
	}
	if (df_set_has(pool, DF_COL_POSITION) || (packing && strcmp(packing, "true") == 0)) {
		return df_fail(err, DF_EUNSUPPORTED,
		    "%s: a row of it is packed of several source rows, and only the first of them is recorded; choose from "
		    "tokens that were made without packing",
		    df_set_name(pool));
	}
	return DF_OK;
}

int
df_origins_read(struct df_origins *o, struct df_set *pool, bool with_rows, struct df_err *err)
{
	const enum df_col cols[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_SOURCE_ROW };
	const size_t n_domains = df_set_meta(pool)->n_domains;
	struct df_batch b = DF_BATCH_INIT;
	struct df_idset ids = { 0 };
	uint64_t n;
	int rc;

	*o = (struct df_origins){ 0 };
	if (with_rows)
		DF_TRY(check_pool(pool, err));
	o->n = df_set_rows(pool);
	if (with_rows)
		DF_TRY(df_alloc(&o->row, o->n, sizeof(*o->row), "source rows", err));
	if (df_set_has(pool, DF_COL_DOMAIN))
		DF_TRY(df_alloc(&o->domain, o->n, sizeof(*o->domain), "domains", err));
	DF_TRY(df_idset_init(&ids, o->n, err));
	df_set_only(pool, cols, 3);
	for (uint64_t first = 0; first < o->n; first += n) {
		const uint64_t *id, *row;
		const uint16_t *domain;

		n = o->n - first < READ_ROWS ? o->n - first : READ_ROWS;
		DF_TRY(df_set_read(pool, first, n, &b, err));
		id = b.col[DF_COL_ID].data;
		row = b.col[DF_COL_SOURCE_ROW].data;
		domain = b.col[DF_COL_DOMAIN].data;
		DF_TRY(df_idset_add(&ids, id, n, df_set_name(pool), err));
		for (uint64_t i = 0; i < n; i++) {
			if (o->row)
				o->row[id[i]] = row[i];
			if (!o->domain)
				continue;
			if (domain[i] >= n_domains) {
				rc = df_fail(err, DF_EFORMAT, "%s: id %" PRIu64 ": domain %u of %zu", df_set_name(pool),
				    id[i], domain[i], n_domains);
				goto out;
			}
			o->domain[id[i]] = domain[i];
		}
	}
out:
	df_idset_release(&ids);
	df_batch_release(&b);
	if (rc != DF_OK)
		df_origins_release(o);
	return rc;
}

void
df_origins_release(struct df_origins *o)
{
	free(o->row);
	free(o->domain);
	*o = (struct df_origins){ 0 };
}

/* ---- a dataset ---------------------------------------------------------- */

int
df_origin_dataset(struct df_dataset **out, const struct df_dataset_info *info, const struct df_set *pool, size_t d,
    struct df_err *err)
{
	const struct df_meta *m = df_set_meta(pool);
	const char *name = m->domains[d], *id = NULL, *stage = df_meta_param(m, "stage");
	struct df_dataset *ds = NULL;
	uint64_t n;
	int rc;

	for (size_t i = 0; i < m->n_inputs && !id; i++)
		if (strcmp(m->inputs[i].kind, "source") == 0 && strcmp(m->inputs[i].role, name) == 0)
			id = m->inputs[i].id;
	if (!id)
		return df_fail(err, DF_ELINEAGE, "%s: does not record the dataset '%s'", df_set_name(pool), name);
	DF_TRY(
	    df_dataset_open(&ds, info, name, stage && strcmp(stage, "\"pt\"") == 0 ? DF_STAGE_PT : DF_STAGE_SFT, err));
	if (strcmp(df_dataset_id(ds), id) != 0) {
		rc = df_fail(err, DF_ELINEAGE,
		    "dataset '%s': its files, or how dataset_info.json describes their columns, are not those that %s was "
		    "made from",
		    name, df_set_name(pool));
		goto out;
	}
	DF_TRY(df_dataset_index(ds, &n, err));
	*out = ds;
	ds = NULL;
out:
	df_dataset_free(ds);
	return rc;
}

/* ---- the index ---------------------------------------------------------- */

struct ids {
	uint64_t *v;
	float *score; /* NULL: none */
	size_t n, cap, cap_score;
};

static int
read_ids(struct ids *ids, struct df_set *index, struct df_err *err)
{
	const enum df_col col = df_set_has(index, DF_COL_INDEX) ? DF_COL_INDEX : DF_COL_ID;
	const enum df_col cols[] = { col, DF_COL_SCORE };
	struct df_batch b = DF_BATCH_INIT;
	uint64_t n;
	int rc = DF_OK;

	if (!df_set_is_stream(index))
		df_set_only(index, cols, 2);
	for (;;) {
		DF_TRY(df_set_next(index, READ_ROWS, &b, &n, err));
		if (n == 0)
			break;
		DF_TRY(df_grow(&ids->v, &ids->cap, ids->n + n, sizeof(*ids->v), "index", err));
		memcpy(ids->v + ids->n, b.col[col].data, n * sizeof(*ids->v));
		if (b.col[DF_COL_SCORE].data) {
			DF_TRY(df_grow(&ids->score, &ids->cap_score, ids->n + n, sizeof(*ids->score), "scores", err));
			memcpy(ids->score + ids->n, b.col[DF_COL_SCORE].data, n * sizeof(*ids->score));
		}
		ids->n += n;
	}
out:
	df_batch_release(&b);
	return rc;
}

static int
check_tokens(const struct df_set *index, const struct df_set *pool, struct df_err *err)
{
	const struct df_input *in = df_meta_input(df_set_meta(index), "tokens");

	if (in && df_set_meta(pool)->id[0] && strcmp(in->id, df_set_meta(pool)->id) != 0) {
		return df_fail(err, DF_ELINEAGE, "%s chooses from tokens %s, %s is %s", df_set_name(index), in->id,
		    df_set_name(pool), df_set_meta(pool)->id);
	}
	return DF_OK;
}

int
df_origin_wanted(const char *list, const struct df_meta *m, bool *wanted, struct df_err *err)
{
	const char **names = NULL;
	char *copy = NULL, *save = NULL;
	int rc = DF_OK;

	for (size_t d = 0; d < m->n_domains; d++)
		wanted[d] = !list;
	if (!list)
		return DF_OK;
	DF_TRY(df_strdup(&copy, list, err));
	DF_TRY(df_alloc(&names, m->n_domains + 1, sizeof(*names), "dataset names", err));
	for (size_t d = 0; d < m->n_domains; d++)
		names[d] = m->domains[d];
	for (char *name = strtok_r(copy, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
		size_t d = 0;

		name += strspn(name, " \t");
		name[strcspn(name, " \t")] = '\0';
		while (names[d] && strcmp(names[d], name) != 0)
			d++;
		if (!names[d]) {
			rc = df_unknown(err, DF_EUSAGE, "dataset", name, names, NULL);
			df_err_prefix(err, "--dataset: ");
			goto out;
		}
		wanted[d] = true;
	}
out:
	free(names);
	free(copy);
	return rc;
}

/* The rows of wanted datasets, in the order of the ids. */
static int
take(struct df_chosen *c, const struct ids *ids, const struct df_origins *o, const bool *wanted,
    const struct df_set *index, const struct df_set *pool, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(df_alloc(&c->row, ids->n, sizeof(*c->row), "rows", err));
	DF_TRY(df_alloc(&c->domain, ids->n, sizeof(*c->domain), "rows", err));
	DF_TRY(df_alloc(&c->rank, ids->n, sizeof(*c->rank), "rows", err));
	if (ids->score)
		DF_TRY(df_alloc(&c->score, ids->n, sizeof(*c->score), "scores", err));
	for (size_t i = 0; i < ids->n; i++) {
		const uint64_t id = ids->v[i];

		if (id >= o->n) {
			rc = df_fail(err, DF_ERANGE, "%s: position %zu: id %" PRIu64 ", but %s has %" PRIu64 " rows",
			    df_set_name(index), i, id, df_set_name(pool), o->n);
			goto out;
		}
		if (!wanted[o->domain[id]])
			continue;
		c->row[c->n] = o->row[id];
		c->domain[c->n] = o->domain[id];
		c->rank[c->n] = i;
		if (c->score)
			c->score[c->n] = ids->score[i];
		c->n++;
	}
	if (c->n == 0)
		rc = df_fail(
		    err, DF_EFORMAT, "%s: chooses no row%s", df_set_name(index), ids->n ? " of these datasets" : "");
out:
	return rc;
}

/* Open the datasets of these rows, and see that they have them. */
static int
open_datasets(struct df_chosen *c, const struct df_set *pool, const char *dir, struct df_err *err)
{
	struct df_dataset_info *info = NULL;
	int rc;

	c->n_ds = df_set_meta(pool)->n_domains;
	DF_TRY(df_alloc(&c->ds, c->n_ds, sizeof(struct df_dataset *), "datasets", err));
	DF_TRY(df_dataset_info_open(&info, dir, err));
	for (uint64_t i = 0; i < c->n; i++) {
		const uint16_t d = c->domain[i];

		if (!c->ds[d])
			DF_TRY(df_origin_dataset(&c->ds[d], info, pool, d, err));
		if (c->row[i] >= df_dataset_n_records(c->ds[d])) {
			rc = df_fail(err, DF_EFORMAT, "%s: row %" PRIu64 " of dataset '%s', which has %" PRIu64,
			    df_set_name(pool), c->row[i], df_dataset_name(c->ds[d]), df_dataset_n_records(c->ds[d]));
			goto out;
		}
	}
out:
	df_dataset_info_free(info);
	return rc;
}

int
df_chosen_open(struct df_chosen *c, struct df_set *index, struct df_set *pool, const char *dataset_dir,
    const char *datasets, struct df_err *err)
{
	struct df_origins o = { 0 };
	struct ids ids = { 0 };
	bool *wanted = NULL;
	int rc;

	DF_TRY(check_pool(pool, err));
	if (index != pool && df_set_meta(index)->kind != DF_KIND_INDEX) {
		rc = df_fail(err, DF_EFORMAT, "%s: expected an index or tokens, found %s", df_set_name(index),
		    df_kind_name(df_set_meta(index)->kind));
		goto out;
	}
	if (index != pool)
		DF_TRY(check_tokens(index, pool, err));
	DF_TRY(df_alloc(&wanted, df_set_meta(pool)->n_domains, sizeof(*wanted), "datasets", err));
	DF_TRY(df_origin_wanted(datasets, df_set_meta(pool), wanted, err));
	DF_TRY(read_ids(&ids, index, err));
	DF_TRY(df_origins_read(&o, pool, true, err));
	DF_TRY(take(c, &ids, &o, wanted, index, pool, err));
	DF_TRY(open_datasets(c, pool, dataset_dir, err));
out:
	df_origins_release(&o);
	free(ids.v);
	free(ids.score);
	free(wanted);
	return rc;
}

void
df_chosen_close(struct df_chosen *c)
{
	for (size_t d = 0; d < c->n_ds && c->ds; d++)
		df_dataset_free(c->ds[d]);
	free(c->ds);
	free(c->row);
	free(c->domain);
	free(c->rank);
	free(c->score);
	*c = (struct df_chosen)DF_CHOSEN_INIT;
}

/*
 * import.c - from a list to an index.
 */
#include "select/import.h"

#include <inttypes.h>

#include "base/log.h"

static const char *const by_names[] = { DF_PICK_BY_NAMES };

/* What shaped the index, and where it is from; in this order, which is part of what is written. */
static int
fill_meta(struct df_meta *m, const struct df_meta *pool, const struct df_pick_opts *o, const char *list_id,
    struct df_err *err)
{
	int rc;

	DF_TRY(df_meta_set_str(m, "method", "import", err));
	DF_TRY(df_meta_set_str(m, "by", by_names[o->by], err));
	if (o->column)
		DF_TRY(df_meta_set_str(m, "column", o->column, err));
	if (o->datasets)
		DF_TRY(df_meta_set_str(m, "dataset", o->datasets, err));
	DF_TRY(df_meta_set_bool(m, "skip_missing", o->skip_missing, err));
	for (size_t d = 0; d < pool->n_domains; d++)
		DF_TRY(df_meta_add_domain(m, pool->domains[d], NULL, err));
	if (pool->id[0])
		DF_TRY(df_meta_add_input(m, "tokens", "tokens", pool->id, err));
	DF_TRY(df_meta_add_input(m, "list", "source", list_id, err));
out:
	return rc;
}

int
df_select_import(struct df_selection *out, struct df_set *pool, const struct df_pick_opts *o, struct df_err *err)
{
	struct df_picked picked = { .n = 0 };
	struct df_origins origins = { .n = 0 };
	int rc;

	DF_TRY(df_origins_read(&origins, pool, o->by != DF_PICK_ID, err));
	DF_TRY(df_pick(&picked, o, &origins, pool, err));
	if (picked.n_missing)
		df_warn("%s: %" PRIu64 " of %" PRIu64 " entries name no row and are left out", o->list,
		    picked.n_missing, picked.n_entries);
	if (picked.n_repeated)
		df_warn(
		    "%s: %" PRIu64 " of %" PRIu64 " ids occur more than once", o->list, picked.n_repeated, picked.n);
	DF_TRY(fill_meta(&out->meta, df_set_meta(pool), o, picked.list_id, err));
	out->n_rows = origins.n;
	out->index = picked.id;
	out->n_index = picked.n;
	out->domain = origins.domain;
	picked.id = NULL;
	origins.domain = NULL;
out:
	df_picked_release(&picked);
	df_origins_release(&origins);
	return rc;
}

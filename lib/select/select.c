/*
 * select.c - what methods do first: learn which rows there are.
 */
#include "select/select.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/words.h"

#define READ_ROWS 4096

void
df_selection_release(struct df_selection *s)
{
	free(s->score);
	free(s->domain);
	free(s->index);
	df_meta_release(&s->meta);
	*s = (struct df_selection)DF_SELECTION_INIT;
}

const char *
df_select_tokens_id(const struct df_meta *m)
{
	const struct df_input *in = df_meta_input(m, "tokens");

	if (df_kind_fits(m->kind, DF_KIND_TOKENS))
		return m->id[0] ? m->id : NULL;
	return in ? in->id : NULL;
}

int
df_select_domains(struct df_selection *out, const uint64_t *id, const uint16_t *domain, uint64_t n, const char *name,
    struct df_err *err)
{
	for (uint64_t i = 0; i < n; i++) {
		if (domain[i] >= out->meta.n_domains)
			return df_fail(err, DF_EFORMAT, "%s: id %" PRIu64 ": domain %u of %zu", name, id[i], domain[i],
			    out->meta.n_domains);
		out->domain[id[i]] = domain[i];
	}
	return 0;
}

/* Each row's domain.  Ids are checked on the way. */
static int
read_domains(struct df_set *set, struct df_selection *out, struct df_err *err)
{
	const enum df_col cols[] = { DF_COL_ID, DF_COL_DOMAIN };
	struct df_idset ids = { 0 };
	struct df_batch b = DF_BATCH_INIT;
	uint64_t n = 0;
	int rc = 0;

	df_set_only(set, cols, 2);
	DF_TRY(df_idset_init(&ids, out->n_rows, err));
	DF_TRY(df_alloc(&out->domain, out->n_rows, sizeof *out->domain, "domains", err));
	for (;;) {
		const uint64_t *id;

		DF_TRY(df_set_next(set, READ_ROWS, &b, &n, err));
		if (!n)
			break;
		id = b.col[DF_COL_ID].data;
		DF_TRY(df_idset_add(&ids, id, n, df_set_name(set), err));
		DF_TRY(df_select_domains(out, id, b.col[DF_COL_DOMAIN].data, n, df_set_name(set), err));
	}
	DF_TRY(df_idset_check_full(&ids, df_set_name(set), err));
out:
	df_idset_release(&ids);
	df_batch_release(&b);
	return rc;
}

int
df_select_rows(const struct df_select_opts *o, struct df_selection *out, struct df_err *err)
{
	struct df_set *set = NULL;
	const struct df_meta *m;
	const char *id;
	int rc = 0;

	if (!o->n_train)
		return df_fail(err, DF_EUSAGE, "--train FILE is needed: it says which rows there are");
	DF_TRY(df_set_open(&set, DF_KIND_ANY, "train set", o->train[0].v, o->train[0].n, err));
	m = df_set_meta(set);
	if (df_set_is_stream(set) || m->kind == DF_KIND_INDEX || m->kind == DF_KIND_WEIGHTS) {
		rc = df_fail(err, DF_EUSAGE, "%s: --train needs a file with one row per sample", df_set_name(set));
		goto out;
	}
	out->n_rows = df_set_rows(set);
	id = df_select_tokens_id(m);
	if (id)
		DF_TRY(df_meta_add_input(&out->meta, "tokens", "tokens", id, err));
	for (size_t i = 0; i < m->n_domains; i++)
		DF_TRY(df_meta_add_domain(&out->meta, m->domains[i], NULL, err));
	if (m->n_domains && df_set_has(set, DF_COL_DOMAIN))
		DF_TRY(read_domains(set, out, err));
out:
	df_set_close(set);
	return rc;
}

/*
 * corpus_note.c - a corpus in the metadata of its tokens, and in messages.
 */
#include "data/corpus_note.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/log.h"

/* A dataset that is trained and evaluated on is two parts of one domain. */
static bool
is_known(const struct df_corpus *c, size_t part)
{
	for (size_t i = 0; i < part; i++)
		if (c->part[i].domain == c->part[part].domain)
			return true;
	return false;
}

int
df_corpus_note_sources(const struct df_corpus *c, struct df_meta *m, struct df_err *err)
{
	int rc = DF_OK;

	for (size_t i = 0; i < c->n_parts; i++) {
		const struct df_dataset *ds = c->part[i].ds;

		if (is_known(c, i))
			continue;
		DF_TRY(df_meta_add_input(m, df_dataset_name(ds), "source", df_dataset_id(ds), err));
		DF_TRY(df_meta_add_domain(m, df_dataset_name(ds), NULL, err));
	}
out:
	return rc;
}

int
df_corpus_note_num_samples(const struct df_corpus *c, struct df_meta *m, struct df_err *err)
{
	struct df_buf text = DF_BUF_INIT;
	int rc;

	for (size_t i = 0; i < c->n_parts; i++) {
		const struct df_dataset *ds = c->part[i].ds;

		if (!is_known(c, i) && df_dataset_num_samples(ds))
			df_buf_printf(&text, "%s%s=%" PRIu64, text.len ? "," : "", df_dataset_name(ds),
			    df_dataset_num_samples(ds));
	}
	DF_TRY(df_buf_check(&text, err));
	if (text.len > 0)
		rc = df_meta_set_str(m, "num_samples", text.data, err);
out:
	df_buf_release(&text);
	return rc;
}

int
df_corpus_note_rows(const struct df_corpus *c, struct df_meta *m, struct df_err *err)
{
	uint64_t dropped[DF_DROP_COUNT] = { 0 }, n_read = 0;
	char key[64];
	int rc;

	for (size_t i = 0; i < c->n_parts; i++) {
		for (enum df_drop d = 0; d < DF_DROP_COUNT; d++)
			dropped[d] += c->part[i].dropped[d];
		n_read += c->part[i].n_read;
	}
	DF_TRY(df_meta_set_int(m, "rows_read", (int64_t)n_read, err));
	for (enum df_drop d = DF_DROP_NONE + 1; d < DF_DROP_COUNT; d++) {
		if (dropped[d] == 0)
			continue;
		snprintf(key, sizeof(key), "dropped.%s", df_drop_name(d));
		DF_TRY(df_meta_set_int(m, key, (int64_t)dropped[d], err));
	}
out:
	return rc;
}

void
df_corpus_report(const struct df_corpus *c)
{
	for (size_t i = 0; i < c->n_parts; i++) {
		const struct df_part *p = &c->part[i];
		const char *name = df_dataset_name(p->ds);

		df_info("dataset '%s': %" PRIu64 " rows, %" PRIu64 " kept, %" PRIu64 " of them held out, %" PRIu64
			" tokens, %" PRIu64 " cut to length",
		    name, p->n_read, p->n_kept, p->n_held, p->n_tokens, p->n_truncated);
		for (enum df_unlearnt u = DF_UNLEARNT_NONE + 1; u < DF_UNLEARNT_COUNT; u++)
			if (p->unlearnt[u])
				df_warn("dataset '%s': %" PRIu64 " of %" PRIu64 " kept rows %s", name, p->unlearnt[u],
				    p->n_kept, df_unlearnt_about(u));
	}
}

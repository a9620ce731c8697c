/*
 * select.c - a method's run: what it asks for is opened, its choice is recorded.
 *
 *   check the options | open and check the inputs | learn which rows there are | the method | record
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "select/select_priv.h"
#include "shard/scan.h"

#define READ_ROWS 4096

void
df_select_release(struct df_select *in)
{
	for (size_t i = 0; i < DF_SELECT_INPUTS; i++)
		free(in->paths[i].v);
	memset(in->paths, 0, sizeof(in->paths));
}

void
df_selection_release(struct df_selection *s)
{
	free(s->score);
	free(s->tie);
	free(s->domain);
	free(s->probability);
	free(s->group);
	free(s->cluster);
	free(s->index);
	df_meta_release(&s->meta);
	df_writer_close(s->also);
	*s = (struct df_selection)DF_SELECTION_INIT;
}

/* ---- which rows there are ---------------------------------------------------------- */

/* The domains of the batch's rows. */
static int
take_domains(struct df_selection *out, const struct df_batch *b, const char *name, struct df_err *err)
{
	const uint64_t *id = b->col[DF_COL_ID].data;
	const uint16_t *domain = b->col[DF_COL_DOMAIN].data;

	for (uint64_t i = 0; i < b->n; i++) {
		if (domain[i] >= out->meta.n_domains) {
			return df_fail(err, DF_EFORMAT, "%s: id %" PRIu64 ": domain %u of %zu", name, id[i], domain[i],
			    out->meta.n_domains);
		}
		out->domain[id[i]] = domain[i];
	}
	return DF_OK;
}

/* Each row's domain.  Ids are checked on the way. */
static int
read_domains(struct df_set *set, struct df_selection *out, struct df_err *err)
{
	const enum df_col cols[] = { DF_COL_ID, DF_COL_DOMAIN };
	struct df_idset ids = { 0 };
	struct df_batch b = DF_BATCH_INIT;
	uint64_t n = 0;
	int rc = DF_OK;

	df_set_only(set, cols, 2);
	DF_TRY(df_idset_init(&ids, out->n_rows, err));
	for (;;) {
		DF_TRY(df_set_next(set, READ_ROWS, &b, &n, err));
		if (!n)
			break;
		DF_TRY(df_idset_add(&ids, b.col[DF_COL_ID].data, n, df_set_name(set), err));
		DF_TRY(take_domains(out, &b, df_set_name(set), err));
	}
	DF_TRY(df_idset_check_full(&ids, df_set_name(set), err));
out:
	df_idset_release(&ids);
	df_batch_release(&b);
	return rc;
}

/* Domains are read here, unless the method's own scan of the train set meets them. */
static int
learn_rows(const struct df_select *in, struct df_selection *out, struct df_err *err)
{
	struct df_set *set = in->sets[0].v[0];
	const struct df_meta *m = df_set_meta(set);
	int rc = DF_OK;

	out->n_rows = df_set_rows(set);
	for (size_t i = 0; i < m->n_domains; i++)
		DF_TRY(df_meta_add_domain(&out->meta, m->domains[i], NULL, err));
	if (m->n_domains && df_set_has(set, DF_COL_DOMAIN)) {
		DF_TRY(df_alloc(&out->domain, out->n_rows, sizeof(*out->domain), "domains", err));
		if (!in->method->inputs[0].columns)
			DF_TRY(read_domains(set, out, err));
	}
out:
	return rc;
}

/* ---- scans ------------------------------------------------------------------------- */

struct scan {
	const struct df_select_scan *sc;
	struct df_set *set;
	struct df_idset ids;
	uint64_t n_rows, done;
};

static int
scan_work(void *ctx, struct df_batch *b, void **result, int worker, struct df_err *err)
{
	const struct scan *s = ctx;

	return s->sc->work(s->sc->ctx, b, result, worker, err);
}

static int
scan_take(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	struct scan *s = ctx;
	const struct df_select_scan *sc = s->sc;
	int rc = DF_OK;

	DF_TRY(df_idset_add(&s->ids, b->col[DF_COL_ID].data, b->n, df_set_name(s->set), err));
	DF_TRY(sc->take(sc->ctx, b, result, err));
	if (sc->input == 0) {
		if (sc->set == 0 && sc->out->domain)
			DF_TRY(take_domains(sc->out, b, df_set_name(s->set), err));
		s->done += b->n;
		df_progress(s->done, s->n_rows, "rows");
	}
out:
	return rc;
}

int
df_select_scan(const struct df_select_scan *sc, struct df_err *err)
{
	const struct df_select *in = sc->in;
	const bool some = in->method->inputs[sc->input].join == DF_JOIN_SOME;
	struct scan s = { .sc = sc, .set = in->sets[sc->input].v[sc->set] };
	const struct df_scan scan = { .set = s.set,
		.n_threads = in->n_threads,
		.work = sc->work ? scan_work : NULL,
		.take = scan_take,
		.ctx = &s };
	int rc = DF_OK;

	df_set_rewind(s.set);
	s.n_rows = some ? sc->out->n_rows : df_set_rows(s.set);
	DF_TRY(df_idset_init(&s.ids, s.n_rows, err));
	DF_TRY(df_scan_run(&scan, err));
	if (!some)
		DF_TRY(df_idset_check_full(&s.ids, df_set_name(s.set), err));
out:
	df_idset_release(&s.ids);
	return rc;
}

/* ---- what else the request needs ------------------------------------------------------ */

static int
check_modes(const struct df_select *in, struct df_err *err)
{
	const struct df_selector *m = in->method;

	if (in->torch && !m->torch)
		return df_fail(err, DF_EUSAGE, "--rng torch: %s has no uniform draws that could be PyTorch's", m->name);
	if (in->dataflex && !m->dataflex)
		return df_fail(err, DF_EUSAGE, "--compat dataflex: %s has no such mode", m->name);
	if (in->shortage == DF_SHORT_FILL && !m->fill)
		return df_fail(err, DF_EUSAGE, "--short fill-random: %s chooses among all rows already", m->name);
	return DF_OK;
}

/* The rows that may not be chosen, by id. */
static int
exclude(struct df_select *in, struct df_selection *out, struct df_err *err)
{
	uint64_t *ids = NULL, n = 0, n_repeated;
	struct df_meta none = DF_META_INIT;
	int rc = DF_OK;

	DF_TRY(df_select_read_index(in->exclude, out->n_rows, df_select_tokens_id(df_set_meta(in->sets[0].v[0])), &ids,
	    &n, &n_repeated, &none, err));
	DF_TRY(df_alloc(&in->excluded, out->n_rows, sizeof(*in->excluded), "excluded rows", err));
	memset(in->excluded, 0, out->n_rows * sizeof(*in->excluded));
	for (uint64_t i = 0; i < n; i++)
		in->excluded[ids[i]] = 1;
	for (size_t i = 0; i < none.n_inputs; i++)
		DF_TRY(df_meta_add_input(&out->meta, "exclude", none.inputs[i].kind, none.inputs[i].id, err));
out:
	free(ids);
	df_meta_release(&none);
	return rc;
}

/* How many tokens each row has, by id: of the train set, or of the file that was named. */
static int
count_tokens(struct df_select *in, struct df_selection *out, struct df_err *err)
{
	const struct df_set *train = in->sets[0].v[0];
	const enum df_col id = DF_COL_ID;
	struct df_set *set = NULL;
	struct df_batch b = DF_BATCH_INIT;
	uint64_t *lengths = NULL, n = 0, done = 0;
	struct df_idset ids = { 0 };
	const char **paths = NULL;
	const size_t n_more = in->tokens ? 0 : in->more.n;
	int rc = DF_OK;

	if (!in->tokens && !df_kind_fits(df_set_meta(train)->kind, DF_KIND_TOKENS))
		return df_fail(
		    err, DF_EUSAGE, "-n %s: --tokens FILE must name the tokens of the rows", in->amount.text);
	DF_TRY(df_alloc(&paths, 1 + n_more, sizeof(*paths), "sets", err));
	paths[0] = in->tokens ? in->tokens : in->paths[0].v[0];
	for (size_t i = 0; i < n_more; i++)
		paths[1 + i] = in->more.v[i];
	DF_TRY(df_set_open(&set, DF_KIND_TOKENS, "tokens", paths, 1 + n_more, err));
	DF_TRY(df_select_check_rows(train, set, err));
	DF_TRY(df_set_lengths(set, DF_COL_IDS, &lengths, err));
	DF_TRY(df_alloc(&in->n_tokens, out->n_rows, sizeof(*in->n_tokens), "token counts", err));
	DF_TRY(df_idset_init(&ids, out->n_rows, err));
	df_set_only(set, &id, 1);
	for (;;) {
		DF_TRY(df_set_next(set, READ_ROWS, &b, &n, err));
		if (!n)
			break;
		DF_TRY(df_idset_add(&ids, b.col[DF_COL_ID].data, n, df_set_name(set), err));
		for (uint64_t i = 0; i < n; i++)
			in->n_tokens[((const uint64_t *)b.col[DF_COL_ID].data)[i]] = lengths[done++];
	}
	DF_TRY(df_idset_check_full(&ids, df_set_name(set), err));
out:
	free(paths);
	free(lengths);
	df_idset_release(&ids);
	df_batch_release(&b);
	df_set_close(set);
	return rc;
}

/* ---- run --------------------------------------------------------------------------- */

/* The method and the amount, before what the method itself records. */
static int
record_request(const struct df_select *in, struct df_meta *m, struct df_err *err)
{
	static const char *const shortages[] = { DF_SHORTAGE_NAMES };
	int rc = DF_OK;

	DF_TRY(df_meta_set_str(m, "method", in->method->name, err));
	DF_TRY(df_meta_set_str(m, "n", in->amount.given ? in->amount.text : "all", err));
	DF_TRY(df_meta_set_str(m, "short", shortages[in->shortage], err));
	DF_TRY(df_meta_set_bool(m, "allow_invalid", in->allow_invalid, err));
	if (in->torch)
		DF_TRY(df_meta_set_str(m, "rng", "torch", err));
	if (in->dataflex)
		DF_TRY(df_meta_set_str(m, "compat", "dataflex", err));
out:
	return rc;
}

/* A method that is not ours may fail with a code that there is not, and without a word. */
static int
check_failure(const struct df_select *in, int rc, struct df_err *err)
{
	if (rc == DF_OK || !in->foreign)
		return rc;
	if (rc > DF_OK || rc < DF_ECONFIG || !err->msg[0])
		return df_fail(err, DF_EFORMAT, "method '%s' failed with code %d%s%s", in->method->name, rc,
		    err->msg[0] ? ": " : ", and does not say why", err->msg);
	return rc;
}

/* The method itself.  What it says of its choice is believed of our own methods only. */
static int
run_method(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const uint64_t n_rows = out->n_rows;
	int rc = DF_OK;

	DF_TRY(check_failure(in, in->method->run(in, options, out, err), err));
	if (!in->foreign)
		return DF_OK;
	rc = df_selection_check(in, n_rows, out, err);
	if (rc != DF_OK)
		df_err_prefix(err, "method '%s': ", in->method->name);
out:
	return rc;
}

int
df_select_run(const struct df_selector *m, struct df_select *in, const void *options, struct df_selection *out,
    struct df_err *err)
{
	/* What has no columns to be read says which rows there are, and is in the lineage as their tokens. */
	const bool scanned = m->inputs[0].columns != NULL;
	const enum df_shortage asked = in->shortage;
	int rc = DF_OK;

	in->method = m;
	in->shortage = asked == DF_SHORT_DEFAULT ? m->shortage : asked;
	DF_TRY(record_request(in, &out->meta, err));
	DF_TRY(check_modes(in, err));
	if (m->check)
		DF_TRY(check_failure(in, m->check(in, options, err), err));
	DF_TRY(df_select_open(in, err));
	DF_TRY(learn_rows(in, out, err));
	if (in->exclude)
		DF_TRY(exclude(in, out, err));
	if (in->amount.tokens)
		DF_TRY(count_tokens(in, out, err));
	if (!scanned)
		DF_TRY(df_select_record_tokens(in, &out->meta, err));
	DF_TRY(run_method(in, options, out, err));
	if (scanned)
		DF_TRY(df_select_record_tokens(in, &out->meta, err));
	DF_TRY(df_select_record_inputs(in, &out->meta, err));
out:
	df_select_close(in);
	free(in->excluded);
	free(in->n_tokens);
	in->excluded = NULL;
	in->n_tokens = NULL;
	in->method = NULL;
	in->shortage = asked;
	return rc;
}

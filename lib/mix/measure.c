/*
 * measure.c - sums by domain of what files say of their rows.
 */
#include "mix/measure.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "mix/weights.h"
#include "shard/shard.h"

#define READ_ROWS 65536
#define OTHER     SIZE_MAX /* a domain of the file that is none of ours */

/* ---- one set, and its domains ---------------------------------------------------- */

struct source {
	struct df_set *set;
	size_t *domain; /* [of the set's domains] ours, or OTHER */
};

static void
close_source(struct source *s)
{
	df_set_close(s->set);
	free(s->domain);
}

/* Add those of its domains that are not there. */
static int
add_domains(struct df_meta *meta, const struct df_meta *of, struct df_err *err)
{
	size_t *to = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&to, of->n_domains, sizeof(*to), "domains", err));
	DF_TRY(df_mix_join(meta->domains, meta->n_domains, of->domains, of->n_domains, to, err));
	for (size_t i = 0; i < of->n_domains; i++)
		if (to[i] == OTHER)
			DF_TRY(df_meta_add_domain(meta, of->domains[i], NULL, err));
	/* Names that the set itself has twice. */
	DF_TRY(df_mix_join(meta->domains, meta->n_domains, NULL, 0, NULL, err));
out:
	free(to);
	return rc;
}

/* What a set's domains are to the mixture: new ones may come from it, or not, or it needs none. */
enum domains { MORE, GIVEN, NONE };

static int
open_source(struct source *s, enum df_kind kind, enum df_col col, const char *role, const char *path,
    struct df_meta *meta, enum domains domains, struct df_err *err)
{
	const struct df_meta *of;
	int rc = DF_OK;

	DF_TRY(df_set_open1(&s->set, kind, role, path, err));
	of = df_set_meta(s->set);
	if (df_set_is_stream(s->set))
		rc = df_fail(err, DF_EUSAGE, "--%s needs files", role);
	else if (domains != NONE && (of->n_domains == 0 || !df_set_has(s->set, DF_COL_DOMAIN)))
		rc = df_fail(err, DF_EFORMAT, "it does not say which domains its rows belong to");
	else if (!df_set_has(s->set, col))
		rc = df_fail(err, DF_EFORMAT, "it has no %s", df_column(col)->path);
	if (rc == DF_OK && domains == MORE)
		rc = add_domains(meta, of, err);
	if (rc == DF_OK && of->id[0])
		rc = df_meta_add_input(meta, role, df_kind_name(of->kind), of->id, err);
out:
	if (rc != DF_OK && s->set)
		df_err_prefix(err, "%s: ", df_set_name(s->set));
	return rc;
}

/* After all sets are open: then the domains are known. */
static int
join(struct source *s, const struct df_meta *meta, struct df_err *err)
{
	const struct df_meta *of = df_set_meta(s->set);
	int rc = DF_OK;

	DF_TRY(df_alloc(&s->domain, of->n_domains, sizeof(*s->domain), "domains", err));
	rc = df_mix_join(meta->domains, meta->n_domains, of->domains, of->n_domains, s->domain, err);
out:
	return rc;
}

/* *d = the domain of row i of a batch. */
static int
domain_of(const struct source *s, const struct df_batch *b, uint64_t i, size_t *d, struct df_err *err)
{
	const uint16_t own = ((const uint16_t *)b->col[DF_COL_DOMAIN].data)[i];
	const struct df_meta *of = df_set_meta(s->set);

	if (own >= of->n_domains)
		return df_fail(err, DF_EFORMAT, "row %" PRIu64 ": domain %u of %zu", b->first + i, own, of->n_domains);
	*d = s->domain[own];
	if (*d == OTHER)
		return df_fail(err, DF_ELINEAGE, "row %" PRIu64 " is of domain '%s', which is not in the mixture",
		    b->first + i, of->domains[own]);
	return DF_OK;
}

/* Call take() for all batches of these columns. */
static int
each_batch(struct source *s, const enum df_col *cols, size_t n_cols,
    int (*take)(void *ctx, const struct source *s, const struct df_batch *b, struct df_err *err), void *ctx,
    struct df_err *err)
{
	struct df_batch b = DF_BATCH_INIT;
	uint64_t n = 0;
	int rc = DF_OK;

	df_set_only(s->set, cols, n_cols);
	for (;;) {
		DF_TRY(df_set_next(s->set, READ_ROWS, &b, &n, err));
		if (n == 0)
			break;
		DF_TRY(take(ctx, s, &b, err));
	}
out:
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", df_set_name(s->set));
	df_batch_release(&b);
	return rc;
}

/* ---- losses of samples ------------------------------------------------------------ */

static int
take_losses(void *ctx, const struct source *s, const struct df_batch *b, struct df_err *err)
{
	struct df_mix_measured *out = ctx;
	const float *loss = b->col[DF_COL_LOSS].data;
	const uint32_t *n = b->col[DF_COL_N_TOKENS].data;

	for (uint64_t i = 0; i < b->n; i++) {
		size_t d = 0;
		const int rc = domain_of(s, b, i, &d, err);

		if (rc != DF_OK)
			return rc;
		if (n[i] == 0)
			continue;
		out->sum[d].n++;
		out->sum[d].n_targets += n[i];
		out->sum[d].nll += (double)loss[i] * n[i];
	}
	return DF_OK;
}

/* ---- losses of targets, and of a reference ----------------------------------------- */

struct place {
	uint64_t id, row;
};

/* All losses of a reference: of sample place[i].id, from offsets[place[i].row] on. */
struct reference {
	struct source of;
	struct place *place; /* [n] by id */
	uint64_t *offsets;   /* [n + 1] */
	float *nll;
	uint64_t n, n_nll;
	struct df_mix_measured *out;
};

static int
by_id(const void *x, const void *y)
{
	const struct place *a = x, *b = y;

	return a->id < b->id ? -1 : a->id > b->id;
}

static int
take_reference(void *ctx, const struct source *s, const struct df_batch *b, struct df_err *err)
{
	struct reference *r = ctx;
	const struct df_column_data *nll = &b->col[DF_COL_TOKEN_LOSS];
	const uint64_t *id = b->col[DF_COL_ID].data;

	(void)s;
	if (b->first + b->n > r->n || nll->offsets[b->n] > r->offsets[r->n] - r->n_nll)
		return df_fail(err, DF_EFORMAT, "its rows are not as many as it said");
	memcpy(r->nll + r->n_nll, nll->data, nll->offsets[b->n] * sizeof(*r->nll));
	r->n_nll += nll->offsets[b->n];
	for (uint64_t i = 0; i < b->n; i++)
		r->place[b->first + i] = (struct place){ id[i], b->first + i };
	return DF_OK;
}

static int
load_reference(struct reference *r, struct df_err *err)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_TOKEN_LOSS };
	int rc = DF_OK;

	r->n = df_set_rows(r->of.set);
	DF_TRY(df_alloc(&r->place, r->n, sizeof(*r->place), "reference losses", err));
	DF_TRY(df_alloc(&r->offsets, r->n + 1, sizeof(*r->offsets), "reference losses", err));
	DF_TRY(df_set_offsets(r->of.set, DF_COL_TOKEN_LOSS, 0, r->n, r->offsets, err));
	DF_TRY(df_alloc(&r->nll, r->offsets[r->n], sizeof(*r->nll), "reference losses", err));
	DF_TRY(each_batch(&r->of, cols, 2, take_reference, r, err));
	qsort(r->place, r->n, sizeof(*r->place), by_id);
	for (uint64_t i = 1; i < r->n; i++)
		if (r->place[i].id == r->place[i - 1].id)
			return df_fail(err, DF_EFORMAT, "%s: sample %" PRIu64 " is there twice", df_set_name(r->of.set),
			    r->place[i].id);
out:
	return rc;
}

/* *nll = the reference's losses of the n targets of a sample. */
static int
look_up(const struct reference *r, uint64_t id, uint64_t n, const float **nll, struct df_err *err)
{
	const struct place wanted = { id, 0 };
	const struct place *found = bsearch(&wanted, r->place, r->n, sizeof(*r->place), by_id);
	uint64_t n_there;

	if (!found)
		return df_fail(err, DF_ELINEAGE, "sample %" PRIu64 " is not in %s", id, df_set_name(r->of.set));
	n_there = r->offsets[found->row + 1] - r->offsets[found->row];
	if (n_there != n)
		return df_fail(err, DF_ELINEAGE, "sample %" PRIu64 " has %" PRIu64 " targets, but %" PRIu64 " in %s",
		    id, n, n_there, df_set_name(r->of.set));
	*nll = r->nll + r->offsets[found->row];
	return DF_OK;
}

static void
add_targets(struct reference *r, struct df_mix_sum *sum, const float *nll, const float *ref, uint64_t n)
{
	sum->n += n > 0;
	for (uint64_t t = 0; t < n; t++) {
		const double excess = (double)nll[t] - (double)ref[t];

		if (!isfinite(excess)) {
			r->out->n_skipped++;
			continue;
		}
		sum->n_targets++;
		sum->nll += (double)nll[t];
		sum->excess += fmax(excess, 0);
		sum->n_excess++;
	}
}

static int
take_targets(void *ctx, const struct source *s, const struct df_batch *b, struct df_err *err)
{
	struct reference *r = ctx;
	const struct df_column_data *nll = &b->col[DF_COL_TOKEN_LOSS];
	const uint64_t *id = b->col[DF_COL_ID].data;
	int rc = DF_OK;

	for (uint64_t i = 0; i < b->n; i++) {
		const uint64_t first = nll->offsets[i], n = nll->offsets[i + 1] - first;
		const float *ref;
		size_t d = 0;

		DF_TRY(domain_of(s, b, i, &d, err));
		DF_TRY(look_up(r, id[i], n, &ref, err));
		add_targets(r, &r->out->sum[d], (const float *)nll->data + first, ref, n);
	}
out:
	return rc;
}

/* The same tokens, cut by the same tokenizer, where both say which. */
static int
check_reference(const struct reference *r, const struct df_set *losses, struct df_err *err)
{
	static const char *const roles[] = { "tokens", NULL }, *const params[] = { "tokenizer", NULL };

	return df_meta_agree(df_set_meta(losses), df_set_name(losses), df_set_meta(r->of.set), df_set_name(r->of.set),
	    params, roles, err);
}

/* ---- loads ------------------------------------------------------------------------- */

/* Of all layers: then they are those of one, or of all together. */
struct loads {
	struct df_mix_measured *out;
	size_t width;
	double *all; /* [n_domains, width] */
};

static int
take_loads(void *ctx, const struct source *s, const struct df_batch *b, struct df_err *err)
{
	const struct loads *l = ctx;
	const float *load = b->col[DF_COL_GATE_LOAD].data;

	for (uint64_t i = 0; i < b->n; i++) {
		size_t d = 0;
		const int rc = domain_of(s, b, i, &d, err);

		if (rc != DF_OK)
			return rc;
		for (size_t k = 0; k < l->width; k++)
			l->all[d * l->width + k] += (double)load[i * l->width + k];
	}
	return DF_OK;
}

/* The last layer that sends tokens to experts: a dense one sends none. */
static size_t
last_layer(const struct loads *l, size_t n_domains)
{
	size_t layer = l->width / l->out->n_experts;

	while (layer-- > 1)
		for (size_t d = 0; d < n_domains; d++)
			for (size_t e = 0; e < l->out->n_experts; e++)
				if (l->all[d * l->width + layer * l->out->n_experts + e] > 0)
					return layer;
	return 0;
}

static int
measure_loads(
    struct source *s, size_t n, size_t n_domains, bool all_layers, struct df_mix_measured *out, struct df_err *err)
{
	static const enum df_col columns[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_GATE_LOAD };
	const size_t n_experts = out->n_experts;
	struct loads l = { out, df_set_width(s[0].set, DF_COL_GATE_LOAD), NULL };
	size_t cells, layer;
	int rc = DF_OK;

	DF_TRY(df_size_mul(n_domains, l.width, &cells, "loads", err));
	DF_TRY(df_alloc(&l.all, cells, sizeof(*l.all), "loads", err));
	DF_TRY(df_alloc(&out->load, n_domains * n_experts, sizeof(*out->load), "loads", err));
	for (size_t i = 0; i < n; i++)
		DF_TRY(each_batch(&s[i], columns, 3, take_loads, &l, err));
	layer = last_layer(&l, n_domains);
	for (size_t d = 0; d < n_domains; d++)
		for (size_t k = 0; k < l.width; k++)
			if (all_layers || k / n_experts == layer)
				out->load[d * n_experts + k % n_experts] += l.all[d * l.width + k];
out:
	free(l.all);
	return rc;
}

/* The number of experts of a set; those of all sets have as many layers, too. */
static int
count_experts(const struct df_set *set, const struct df_set *first, size_t *n_experts, struct df_err *err)
{
	const size_t width = df_set_width(set, DF_COL_GATE_LOAD);
	double n = 0;

	if (!df_meta_get_double(df_set_meta(set), "experts", &n) || !(n >= 1 && n <= (double)width) ||
	    width % (size_t)n > 0)
		return df_fail(
		    err, DF_EFORMAT, "%s: %zu loads per row, of an unknown number of experts", df_set_name(set), width);
	if (set != first && (*n_experts != (size_t)n || df_set_width(first, DF_COL_GATE_LOAD) != width))
		return df_fail(err, DF_EFORMAT, "%s: %zu experts and %zu loads per row, but %zu and %zu in %s",
		    df_set_name(set), (size_t)n, width, *n_experts, df_set_width(first, DF_COL_GATE_LOAD),
		    df_set_name(first));
	*n_experts = (size_t)n;
	return DF_OK;
}

/* ---- all of them -------------------------------------------------------------------- */

static int
measure_losses(struct source *s, struct reference *r, struct df_mix_measured *out, struct df_err *err)
{
	static const enum df_col samples[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_LOSS, DF_COL_N_TOKENS },
				 targets[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_TOKEN_LOSS };
	int rc;

	if (!r->of.set)
		return each_batch(s, samples, 4, take_losses, out, err);
	if ((rc = check_reference(r, s->set, err)) != DF_OK)
		return rc;
	return each_batch(s, targets, 3, take_targets, r, err);
}

int
df_mix_measure(const struct df_mix_files *files, struct df_meta *meta, struct df_mix_measured *out, struct df_err *err)
{
	const size_t n = files->n_losses + files->n_loads;
	const enum domains domains = meta->n_domains > 0 ? GIVEN : MORE;
	const enum df_col needed = files->reference ? DF_COL_TOKEN_LOSS : DF_COL_N_TOKENS;
	struct reference ref = { .out = out };
	struct source *s = NULL;
	int rc = DF_OK;

	*out = (struct df_mix_measured){ 0 };
	DF_TRY(df_alloc(&s, n, sizeof(*s), "inputs", err));
	for (size_t i = 0; i < files->n_losses; i++)
		DF_TRY(open_source(&s[i], DF_KIND_LOSSES, needed, "losses", files->losses[i], meta, domains, err));
	for (size_t i = files->n_losses; i < n; i++) {
		DF_TRY(open_source(&s[i], DF_KIND_GATELOAD, DF_COL_GATE_LOAD, "loads",
		    files->loads[i - files->n_losses], meta, domains, err));
		DF_TRY(count_experts(s[i].set, s[files->n_losses].set, &out->n_experts, err));
	}
	for (size_t i = 0; i < n; i++)
		DF_TRY(join(&s[i], meta, err));
	if (files->reference) {
		DF_TRY(open_source(
		    &ref.of, DF_KIND_LOSSES, DF_COL_TOKEN_LOSS, "reference", files->reference, meta, NONE, err));
		DF_TRY(load_reference(&ref, err));
	}
	if (files->n_losses > 0)
		DF_TRY(df_alloc(&out->sum, meta->n_domains, sizeof(*out->sum), "sums of losses", err));
	for (size_t i = 0; i < files->n_losses; i++)
		DF_TRY(measure_losses(&s[i], &ref, out, err));
	if (files->n_loads > 0)
		DF_TRY(
		    measure_loads(s + files->n_losses, files->n_loads, meta->n_domains, files->all_layers, out, err));
out:
	for (size_t i = 0; s && i < n; i++)
		close_source(&s[i]);
	free(s);
	close_source(&ref.of);
	free(ref.place);
	free(ref.offsets);
	free(ref.nll);
	if (rc != DF_OK)
		df_mix_measured_release(out);
	return rc;
}

void
df_mix_measured_release(struct df_mix_measured *m)
{
	free(m->sum);
	free(m->load);
	*m = (struct df_mix_measured){ 0 };
}

/*
 * held_out.c - rows by race, and forwards that count where routers send their tokens.
 */
#include "train/held_out.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/permute.h"
#include "base/rng.h"
#include "base/stop.h"
#include "base/words.h"
#include "eval/forward.h"

/* ---- which rows ----------------------------------------------------------------- */

static int
begin(struct df_held_out *h, const struct df_rows *rows, size_t n_domains, struct df_err *err)
{
	int rc;

	*h = (struct df_held_out){ .rows = rows, .n_domains = n_domains };
	DF_TRY(df_alloc(&h->row, (size_t)rows->n, sizeof(*h->row), "held-out rows", err));
	DF_TRY(df_alloc(&h->first, n_domains + 1, sizeof(*h->first), "held-out rows", err));
out:
	return rc;
}

void
df_held_out_release(struct df_held_out *h)
{
	free(h->row);
	free(h->first);
	free(h->reserved);
	*h = (struct df_held_out){ 0 };
}

/* Append at most `most` rows of domain `from` of the rows as those of domain i; half: and at most half of all. */
static int
add(struct df_held_out *h, size_t i, uint16_t from, uint64_t most, bool half, uint64_t seed, struct df_err *err)
{
	const struct df_permute race = { seed, DF_RNG_SAMPLE, (uint32_t)i, h->rows->id };
	uint32_t *all = NULL, *order = NULL, n = 0, keep;
	int rc;

	DF_TRY(df_alloc(&all, (size_t)h->rows->n, sizeof(*all), "held-out rows", err));
	for (uint64_t r = 0; r < h->rows->n; r++)
		if (df_rows_domain(h->rows, r) == from)
			all[n++] = (uint32_t)r;
	DF_TRY(df_alloc(&order, n, sizeof(*order), "held-out rows", err));
	DF_TRY(df_permute(&race, all, n, order, err));
	keep = half ? n / 2 : n;
	keep = most < keep ? (uint32_t)most : keep;
	memcpy(h->row + h->first[i], order, keep * sizeof(*order));
	h->first[i + 1] = h->first[i] + keep;
out:
	free(all);
	free(order);
	return rc;
}

int
df_held_out_reserve(struct df_held_out *h, const struct df_rows *rows, size_t n_domains, uint64_t most, uint64_t seed,
    struct df_err *err)
{
	int rc;

	DF_TRY(begin(h, rows, n_domains, err));
	DF_TRY(df_alloc(&h->reserved, (size_t)rows->n, sizeof(*h->reserved), "held-out rows", err));
	for (size_t i = 0; i < n_domains; i++)
		DF_TRY(add(h, i, (uint16_t)i, most, true, seed, err));
	for (uint32_t k = 0; k < h->first[n_domains]; k++)
		h->reserved[h->row[k]] = 1;
out:
	if (rc != DF_OK)
		df_held_out_release(h);
	return rc;
}

/* *domain = the number of the name, the first n bytes of `word`, among the rows' domains. */
static int
find_name(const struct df_rows *rows, const char *word, size_t n, uint16_t *domain, struct df_err *err)
{
	const struct df_meta *m = &rows->meta;
	const char *best = NULL;
	size_t dist = SIZE_MAX;
	char *name = NULL;
	int rc;

	DF_TRY(df_strndup(&name, word, n, err));
	for (size_t i = 0; i < m->n_domains; i++) {
		if (strcmp(m->domains[i], name) == 0) {
			*domain = (uint16_t)i;
			goto out;
		}
		df_nearer(name, m->domains[i], &best, &dist);
	}
	rc = df_fail(err, DF_EUSAGE, "%s has no dataset '%.60s'", rows->name, name);
	if (best)
		df_err_suffix(err, "; did you mean '%s'?", best);
out:
	free(name);
	return rc;
}

int
df_held_out_named(struct df_held_out *h, const struct df_rows *rows, const char *list, char *const *names,
    size_t n_domains, uint64_t most, uint64_t seed, struct df_err *err)
{
	size_t n = 1;
	int rc;

	for (const char *p = list; (p = strchr(p, ',')); p++)
		n++;
	if (n != n_domains)
		return df_fail(err, DF_EUSAGE, "%zu dataset%s, but %zu domain%s to train on: one for each", n,
		    n > 1 ? "s" : "", n_domains, n_domains > 1 ? "s" : "");
	DF_TRY(begin(h, rows, n_domains, err));
	for (size_t i = 0; i < n_domains; i++) {
		uint16_t domain = 0;

		list += strspn(list, " ");
		n = strcspn(list, ",");
		while (n > 0 && list[n - 1] == ' ')
			n--;
		DF_TRY(find_name(rows, list, n, &domain, err));
		DF_TRY(add(h, i, domain, most, false, seed, err));
		if (h->first[i + 1] == h->first[i]) {
			rc = df_fail(err, DF_EUSAGE, "%s has no rows of '%s', for '%s'", rows->name,
			    rows->meta.domains[domain], names[i]);
			goto out;
		}
		list += strcspn(list, ",");
		list += *list == ',';
	}
out:
	if (rc != DF_OK)
		df_held_out_release(h);
	return rc;
}

/* ---- their loads ---------------------------------------------------------------- */

static bool
counts(const struct df_model_config *c, size_t layer, bool all)
{
	size_t last = c->n_layers - 1;

	while (c->sparse && last > 0 && !c->sparse[last])
		last--;
	return all || layer == last;
}

/* Rows of one forward: about as many tokens as the device likes. */
static size_t
batch_rows(const struct df_held_out *h, size_t first, size_t end, size_t tokens)
{
	size_t n = 0;

	for (uint64_t sum = 0; first + n < end; n++) {
		sum += df_rows_length(h->rows, h->row[first + n]);
		if (n > 0 && sum > tokens)
			break;
	}
	return n;
}

static int
domain_loads(const struct df_held_out *h, struct df_forward *f, const struct df_model *m, size_t first, size_t end,
    bool all, double *load, struct df_err *err)
{
	const struct df_model_config *c = df_model_config(m);
	const size_t width = c->n_layers * c->moe.n_experts;
	const size_t tokens = 8 * df_backend_traits(df_model_backend(m)).forward_tokens;
	uint64_t *which = NULL;
	float *each = NULL;
	size_t cap_which = 0, cap_each = 0, n;
	int rc = DF_OK;

	for (; first < end; first += n) {
		n = batch_rows(h, first, end, tokens);
		DF_TRY(df_grow(&which, &cap_which, n, sizeof(*which), "held-out rows", err));
		DF_TRY(df_grow(&each, &cap_each, n * width, sizeof(*each), "router loads", err));
		for (size_t k = 0; k < n; k++)
			which[k] = h->row[first + k];
		DF_TRY(df_forward_loads(f, h->rows, which, n, each, err));
		for (size_t k = 0; k < n * width; k++)
			if (counts(c, k % width / c->moe.n_experts, all))
				load[k % c->moe.n_experts] += (double)each[k];
		if (df_stop_requested()) {
			rc = df_fail(err, DF_ESTOPPED, "stopped by a signal");
			goto out;
		}
	}
out:
	free(which);
	free(each);
	return rc;
}

int
df_held_out_loads(const struct df_held_out *h, struct df_model *m, struct df_pool *pool, uint64_t most, bool all,
    double *load, struct df_err *err)
{
	const size_t n_experts = df_model_config(m)->moe.n_experts;
	struct df_forward *f = NULL;
	int rc;

	memset(load, 0, h->n_domains * n_experts * sizeof(*load));
	DF_TRY(df_forward_new(&f, m, pool, err));
	for (size_t i = 0; i < h->n_domains; i++) {
		const uint64_t n = h->first[i + 1] - h->first[i];

		DF_TRY(domain_loads(
		    h, f, m, h->first[i], h->first[i] + (size_t)(n < most ? n : most), all, load + i * n_experts, err));
	}
out:
	df_forward_free(f);
	return rc;
}

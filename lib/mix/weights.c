/*
 * weights.c - files of proportions, joined by the names of domains.
 */
#include "mix/weights.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "mix/mix.h"
#include "shard/shard.h"

/* ---- names --------------------------------------------------------------------- */

struct name {
	const char *s;
	size_t i;
};

static int
by_name(const void *x, const void *y)
{
	const struct name *a = x, *b = y;

	return strcmp(a->s, b->s);
}

int
df_mix_join(char *const *names, size_t n_names, char *const *from, size_t n, size_t *to, struct df_err *err)
{
	struct name *sorted = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&sorted, n_names, sizeof(*sorted), "names of domains", err));
	for (size_t i = 0; i < n_names; i++)
		sorted[i] = (struct name){ names[i], i };
	qsort(sorted, n_names, sizeof(*sorted), by_name);
	for (size_t i = 1; i < n_names; i++) {
		if (by_name(&sorted[i - 1], &sorted[i]) == 0) {
			rc = df_fail(err, DF_EFORMAT, "two domains have the name '%s'", sorted[i].s);
			goto out;
		}
	}
	for (size_t i = 0; i < n; i++) {
		const struct name wanted = { from[i], 0 };
		const struct name *found = bsearch(&wanted, sorted, n_names, sizeof(*sorted), by_name);

		to[i] = found ? found->i : SIZE_MAX;
	}
out:
	free(sorted);
	return rc;
}

/* ---- reading ------------------------------------------------------------------- */

void
df_mix_file_release(struct df_mix_file *f)
{
	df_meta_release(&f->meta);
	free(f->p);
	free(f->state);
	*f = (struct df_mix_file){ .meta = DF_META_INIT };
}

/* The rows of the set: at most so many as were counted. */
static int
take_rows(struct df_mix_file *f, struct df_set *set, struct df_err *err)
{
	const size_t k = f->meta.n_domains, width = df_set_width(set, DF_COL_MIXER_STATE);
	struct df_batch b = DF_BATCH_INIT;
	uint64_t n = 0;
	int rc = DF_OK;

	DF_TRY(df_alloc(&f->p, k, sizeof(*f->p), "proportions", err));
	DF_TRY(df_size_mul(k, width, &f->n_state, "state of a mixer", err));
	if (f->n_state > 0)
		DF_TRY(df_alloc(&f->state, f->n_state, sizeof(*f->state), "state of a mixer", err));
	for (uint64_t at = 0; at < k; at += n) {
		DF_TRY(df_set_next(set, k - at, &b, &n, err));
		if (n == 0 || n > k - at) {
			rc = df_fail(err, DF_EFORMAT, "%zu domains, but not as many weights", k);
			goto out;
		}
		memcpy(f->p + at, b.col[DF_COL_DOMAIN_WEIGHT].data, n * sizeof(*f->p));
		for (uint64_t i = 0; i < n; i++)
			for (size_t c = 0; c < width; c++)
				f->state[c * k + at + i] =
				    ((const double *)b.col[DF_COL_MIXER_STATE].data)[i * width + c];
	}
out:
	df_batch_release(&b);
	return rc;
}

static int
check(const struct df_mix_file *f, struct df_err *err)
{
	double sum = 0;

	for (size_t i = 0; i < f->meta.n_domains; i++) {
		if (!isfinite(f->p[i]) || f->p[i] < 0)
			return df_fail(err, DF_EFORMAT, "the weight of domain '%s' is %g", f->meta.domains[i], f->p[i]);
		sum += f->p[i];
	}
	for (size_t i = 0; i < f->n_state; i++)
		if (!isfinite(f->state[i]))
			return df_fail(err, DF_EFORMAT, "mixer_state: a number is %g", f->state[i]);
	if (!(sum > 0 && isfinite(sum)))
		return df_fail(err, DF_EFORMAT, "the weights of all domains together are %g", sum);
	for (size_t i = 0; fabs(sum - 1) > 1e-12 && i < f->meta.n_domains; i++)
		f->p[i] /= sum;
	return DF_OK;
}

int
df_mix_file_read(struct df_mix_file *f, const char *path, struct df_err *err)
{
	struct df_set *set = NULL;
	int rc = DF_OK;

	*f = (struct df_mix_file){ .meta = DF_META_INIT };
	DF_TRY(df_set_open1(&set, DF_KIND_WEIGHTS, "domain weights", path, err));
	DF_TRY(df_meta_copy(&f->meta, df_set_meta(set), err));
	if (!df_set_has(set, DF_COL_DOMAIN_WEIGHT))
		rc = df_fail(err, DF_EFORMAT, "weights of samples, not of domains");
	else if (df_set_is_stream(set))
		rc = df_fail(err, DF_EUSAGE, "domain weights are read from a file");
	else if (f->meta.n_domains != df_set_rows(set))
		rc = df_fail(err, DF_EFORMAT, "%" PRIu64 " weights, but %zu names of domains", df_set_rows(set),
		    f->meta.n_domains);
	else if (f->meta.n_domains == 0)
		rc = df_fail(err, DF_EFORMAT, "no domains");
	DF_TRY(rc);
	DF_TRY(df_mix_join(f->meta.domains, f->meta.n_domains, NULL, 0, NULL, err));
	DF_TRY(take_rows(f, set, err));
	rc = check(f, err);
out:
	if (rc != DF_OK && set)
		df_err_prefix(err, "%s: ", df_set_name(set));
	df_set_close(set);
	if (rc != DF_OK)
		df_mix_file_release(f);
	return rc;
}

int
df_mix_read_weights(const char *path, char *const *names, size_t n, double *p, struct df_err *err)
{
	struct df_mix_file f = { .meta = DF_META_INIT };
	size_t *to = NULL;
	int rc = DF_OK;

	DF_TRY(df_mix_file_read(&f, path, err));
	DF_TRY(df_alloc(&to, f.meta.n_domains, sizeof(*to), "domains", err));
	DF_TRY(df_mix_join(names, n, f.meta.domains, f.meta.n_domains, to, err));
	for (size_t i = 0; i < n; i++)
		p[i] = -1;
	for (size_t i = 0; i < f.meta.n_domains; i++) {
		if (to[i] != SIZE_MAX) {
			p[to[i]] = f.p[i];
		} else if (f.p[i] > 0) {
			rc = df_fail(err, DF_ELINEAGE, "%s: '%s' has weight %g, but is no domain here", path,
			    f.meta.domains[i], f.p[i]);
			goto out;
		}
	}
	for (size_t i = 0; i < n && rc == DF_OK; i++)
		if (p[i] < 0)
			rc = df_fail(err, DF_ELINEAGE, "%s: no weight for domain '%s'", path, names[i]);
out:
	df_mix_file_release(&f);
	free(to);
	return rc;
}

/* ---- writing ------------------------------------------------------------------- */

int
df_mix_file_write(
    const char *path, struct df_meta *meta, const double *p, const double *state, size_t n_state, struct df_err *err)
{
	const size_t k = meta->n_domains, width = state && k > 0 ? n_state / k + (n_state % k > 0) : 0;
	const enum df_col cols[] = { DF_COL_DOMAIN_WEIGHT, DF_COL_MIXER_STATE };
	const struct df_writer_opts opts = { .compress = DF_COMPRESS_NONE };
	size_t widths[DF_COL_COUNT] = { 0 };
	struct df_batch b = DF_BATCH_INIT;
	struct df_writer *w = NULL;
	double *weight, *rows = NULL;
	int rc = DF_OK;

	meta->kind = DF_KIND_WEIGHTS;
	widths[DF_COL_MIXER_STATE] = width;
	DF_TRY(df_arena_alloc(&b.arena, &weight, k, sizeof(*weight), "proportions", err));
	memcpy(weight, p, k * sizeof(*weight));
	b.n = k;
	b.col[DF_COL_DOMAIN_WEIGHT] = (struct df_column_data){ .data = weight, .width = 1 };
	if (width > 0) {
		DF_TRY(df_arena_alloc(&b.arena, &rows, k * width, sizeof(*rows), "state of a mixer", err));
		for (size_t j = 0; j < k * width; j++)
			rows[j % k * width + j / k] = j < n_state ? state[j] : 0;
		b.col[DF_COL_MIXER_STATE] = (struct df_column_data){ .data = rows, .width = width };
	}
	DF_TRY(df_writer_open(&w, path, meta, cols, width > 0 ? 2 : 1, widths, &opts, err));
	DF_TRY(df_writer_put(w, &b, err));
	DF_TRY(df_writer_commit(w, NULL, err));
out:
	df_writer_close(w);
	df_batch_release(&b);
	return rc;
}

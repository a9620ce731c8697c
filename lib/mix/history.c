/*
 * history.c - the lines of mixture_log.jsonl, as sums by domain.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "mix/measure.h"
#include "mix/weights.h"

#define LOG_LIMIT ((size_t)1 << 32)

/* What all lines are read with. */
struct reader {
	struct df_meta *meta;
	const char *method;
	struct df_mix_sum *sum; /* [meta->n_domains] */
	int64_t before;         /* the step of the line before; -1: none */
};

static int
member(const struct df_json_value *line, const char *key, size_t n, const struct df_json_value **v, struct df_err *err)
{
	*v = df_json_get(line, key);
	if (df_json_type(*v) != DF_JSON_ARRAY || df_json_size(*v) != n)
		return df_fail(err, DF_EFORMAT, "\"%s\" is no array of %zu", key, n);
	return DF_OK;
}

/* The domains of the first line, if there are none yet; those of each line must be ours, in our order. */
static int
check_domains(struct reader *r, const struct df_json_value *line, struct df_err *err)
{
	const struct df_json_value *names = df_json_get(line, "domains");
	const bool first = r->meta->n_domains == 0;
	int rc = DF_OK;

	if (df_json_type(names) != DF_JSON_ARRAY || df_json_size(names) == 0)
		return df_fail(err, DF_EFORMAT, "no \"domains\": not a line of mixture_log.jsonl");
	if (!first && df_json_size(names) != r->meta->n_domains)
		return df_fail(err, DF_ELINEAGE, "%zu domains, not %zu", df_json_size(names), r->meta->n_domains);
	for (size_t i = 0; i < df_json_size(names); i++) {
		const char *name = df_json_str(df_json_at(names, i), NULL);

		if (!name)
			return df_fail(err, DF_EFORMAT, "\"domains\" has something that is no name");
		if (first)
			DF_TRY(df_meta_add_domain(r->meta, name, NULL, err));
		else if (strcmp(name, r->meta->domains[i]) != 0)
			return df_fail(err, DF_ELINEAGE, "domain %zu is '%s', not '%s'", i, name, r->meta->domains[i]);
	}
	if (first)
		DF_TRY(df_mix_join(r->meta->domains, r->meta->n_domains, NULL, 0, NULL, err));
	if (!r->sum)
		DF_TRY(df_alloc(&r->sum, r->meta->n_domains, sizeof(*r->sum), "sums of losses", err));
out:
	return rc;
}

/* null: none. */
static bool
mean_at(const struct df_json_value *means, size_t i, double *x)
{
	return df_json_number(df_json_at(means, i), x);
}

/* *seen: something was measured. */
static int
take_sums(struct reader *r, const struct df_json_value *line, bool *seen, struct df_err *err)
{
	const size_t k = r->meta->n_domains;
	const struct df_json_value *counts, *loss, *excess = NULL;
	int rc = DF_OK;

	DF_TRY(member(line, "n_targets", k, &counts, err));
	DF_TRY(member(line, "loss", k, &loss, err));
	if (df_json_get(line, "excess"))
		DF_TRY(member(line, "excess", k, &excess, err));
	*seen = false;
	for (size_t i = 0; i < k; i++) {
		struct df_mix_sum *s = &r->sum[i];
		int64_t n;
		double x;

		*s = (struct df_mix_sum){ 0 };
		if (!df_json_int(df_json_at(counts, i), &n) || n < 0)
			return df_fail(err, DF_EFORMAT, "\"n_targets\" has something that is no number of targets");
		if (n == 0)
			continue;
		s->n_targets = (uint64_t)n;
		s->nll = mean_at(loss, i, &x) ? x * (double)n : NAN;
		if (mean_at(excess, i, &x)) {
			s->n_excess = (uint64_t)n;
			s->excess = x * (double)n;
		}
		*seen = true;
	}
out:
	return rc;
}

static int
take_line(struct reader *r, const struct df_json_value *line, struct df_mix_line *out, struct df_err *err)
{
	const char *method = df_json_str(df_json_get(line, "method"), NULL);
	int64_t step = -1;
	bool seen = false;
	int rc = DF_OK;

	DF_TRY(check_domains(r, line, err));
	if (!df_json_int(df_json_get(line, "step"), &step) || step < 0)
		return df_fail(err, DF_EFORMAT, "no \"step\"");
	if (step <= r->before)
		return df_fail(err, DF_EFORMAT, "step %" PRId64 " comes after step %" PRId64, step, r->before);
	if (!method || strcmp(method, r->method) != 0)
		return df_fail(
		    err, DF_ELINEAGE, "the log is of %s, not of %s", method ? method : "no method", r->method);
	DF_TRY(take_sums(r, line, &seen, err));
	r->before = step;
	*out = (struct df_mix_line){ (uint64_t)step, seen ? r->sum : NULL };
out:
	return rc;
}

int
df_mix_history(const char *path, const char *method, struct df_meta *meta,
    int (*fn)(void *ctx, const struct df_mix_line *line, struct df_err *err), void *ctx, struct df_err *err)
{
	struct reader r = { .meta = meta, .method = method, .before = -1 };
	struct df_json *j = NULL;
	char *text = NULL, id[DF_DIGEST_HEX];
	size_t n, number = 0;
	int rc = DF_OK;

	DF_TRY(df_file_get(path, LOG_LIMIT, &text, &n, err));
	for (size_t at = 0, len; at < n; at += len + 1) {
		const char *end = memchr(text + at, '\n', n - at);
		struct df_mix_line line;

		len = end ? (size_t)(end - text) - at : n - at;
		number++;
		if (len == 0)
			continue;
		rc = df_json_parse_line(&j, text + at, len, err);
		if (rc == DF_OK)
			rc = take_line(&r, df_json_root(j), &line, err);
		if (rc == DF_OK)
			rc = fn(ctx, &line, err);
		if (rc != DF_OK) {
			df_err_prefix(err, "%s:%zu: ", path, number);
			goto out;
		}
		df_json_free(j);
		j = NULL;
	}
	if (meta->n_domains == 0) {
		rc = df_fail(err, DF_EFORMAT, "%s: no lines", path);
		goto out;
	}
	df_digest_hex(df_hash_bytes(text, n, 0), id);
	rc = df_meta_add_input(meta, "history", "log", id, err);
out:
	df_json_free(j);
	free(text);
	free(r.sum);
	return rc;
}

/*
 * log_weight.c - weight_log.jsonl: histograms of the weights of samples, one for the steps since the line before.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "show/log.h"

void
df_weight_log_release(struct df_weight_log *l)
{
	free(l->method);
	free(l->edge);
	free(l->line);
	free(l->count);
	*l = (struct df_weight_log){ .method = NULL };
}

/* The first line has the edges; later ones the same. */
static int
take_edges(struct df_weight_log *l, const struct df_json_value *line, struct df_err *err)
{
	const struct df_json_value *v = df_json_get(line, "edges");
	const size_t n = df_json_size(v);
	const bool first = !l->edge;
	const char *method;
	int rc = DF_OK;

	if (df_json_type(v) != DF_JSON_ARRAY || n < 2)
		return df_fail(err, DF_EFORMAT, "'edges' is not a list of at least 2 numbers");
	if (!first && n != l->n_edges)
		return df_fail(err, DF_EFORMAT, "%zu edges, but %zu in the first line", n, l->n_edges);
	if (first) {
		DF_TRY(df_json_member_str(line, "method", "", &method, err));
		DF_TRY(df_strdup(&l->method, method, err));
		DF_TRY(df_alloc(&l->edge, n, sizeof(double), "a weight log", err));
		l->n_edges = n;
	}
	for (size_t i = 0; i < n; i++) {
		double x;

		if (!df_json_number(df_json_at(v, i), &x) || !isfinite(x) || (first && i > 0 && x <= l->edge[i - 1])) {
			rc = df_fail(err, DF_EFORMAT, "'edges' are not rising numbers");
			goto out;
		}
		if (!first && x != l->edge[i]) {
			rc = df_fail(err, DF_EFORMAT, "'edges' differ from those of the first line");
			goto out;
		}
		l->edge[i] = x;
	}
out:
	return rc;
}

static int
take_counts(
    const struct df_weight_log *l, const struct df_json_value *line, double n, double *count, struct df_err *err)
{
	const struct df_json_value *v = df_json_get(line, "counts");
	double sum = 0;

	if (df_json_type(v) != DF_JSON_ARRAY || df_json_size(v) != l->n_edges)
		return df_fail(err, DF_EFORMAT, "'counts' is not a list of %zu numbers, one for each edge", l->n_edges);
	for (size_t i = 0; i < l->n_edges; i++) {
		if (!df_json_number(df_json_at(v, i), &count[i]) || !isfinite(count[i]) || count[i] < 0)
			return df_fail(err, DF_EFORMAT, "'counts' has an entry that is not a number of at least 0");
		sum += count[i];
	}
	if (sum != n)
		return df_fail(err, DF_EFORMAT, "'counts' sum to %.0f, but 'n' is %.0f", sum, n);
	return DF_OK;
}

int
df_weight_log_take(struct df_weight_log *l, const struct df_json_value *line, struct df_err *err)
{
	struct df_weight_line x;
	size_t need;
	bool none;
	int rc;

	DF_TRY(df_log_number(line, "step", 0, false, &x.step, err));
	DF_TRY(df_log_number(line, "n", 0, false, &x.n, err));
	none = x.n == 0; /* then there is no least and no largest */
	DF_TRY(df_log_number(line, "min", 0, none, &x.min, err));
	DF_TRY(df_log_number(line, "mean", 0, none, &x.mean, err));
	DF_TRY(df_log_number(line, "max", 0, none, &x.max, err));
	DF_TRY(df_log_number(line, "effective", 0, true, &x.effective, err));
	DF_TRY(take_edges(l, line, err));
	while (l->n > 0 && l->line[l->n - 1].step >= x.step)
		l->n--;
	DF_TRY(df_size_mul(l->n + 1, l->n_edges, &need, "a weight log", err));
	DF_TRY(df_grow(&l->line, &l->cap_line, l->n + 1, sizeof(*l->line), "a weight log", err));
	DF_TRY(df_grow(&l->count, &l->cap_count, need, sizeof(double), "a weight log", err));
	DF_TRY(take_counts(l, line, x.n, l->count + l->n * l->n_edges, err));
	l->line[l->n++] = x;
out:
	return rc;
}

double
df_weight_log_quantile(const struct df_weight_log *l, size_t from, size_t to, double q)
{
	double n = 0, below = 0, least = INFINITY, most = -INFINITY;

	for (size_t i = from; i < to; i++) {
		n += l->line[i].n;
		least = fmin(least, l->line[i].min);
		most = fmax(most, l->line[i].max);
	}
	if (n == 0)
		return NAN;
	for (size_t b = 0; b < l->n_edges; b++) {
		/* A bin reaches no further than the weights do. */
		double lo = fmax(l->edge[b], least), hi = b + 1 < l->n_edges ? fmin(l->edge[b + 1], most) : most;
		double in = 0;

		for (size_t i = from; i < to; i++)
			in += l->count[i * l->n_edges + b];
		if (in > 0 && below + in >= q * n)
			return lo + (fmax(hi, lo) - lo) * fmax(q * n - below, 0) / in;
		below += in;
	}
	return most;
}

/* All lines as one. */
static struct df_weight_line
total(const struct df_weight_log *l)
{
	struct df_weight_line t = { .step = l->line[l->n - 1].step, .min = NAN, .max = NAN, .effective = 0 };

	for (size_t i = 0; i < l->n; i++) {
		const struct df_weight_line *x = &l->line[i];

		if (x->n == 0)
			continue;
		t.n += x->n;
		t.mean += x->n * x->mean;
		t.min = fmin(t.min, x->min);
		t.max = fmax(t.max, x->max);
		t.effective += x->effective; /* NaN if a line does not say */
	}
	t.mean /= t.n;
	return t;
}

void
df_weight_log_text(const struct df_weight_log *l, const char *name, bool json, struct df_buf *out)
{
	const struct df_weight_line t = total(l);
	const double median = df_weight_log_quantile(l, 0, l->n, 0.5);

	if (json) {
		const double x[] = { t.min, median, t.mean, t.max, t.effective };
		static const char *const of[] = { "min", "median", "mean", "max", "effective" };

		df_buf_puts(out, "\"method\": ");
		df_buf_json_str(out, l->method);
		df_buf_printf(out, ", \"lines\": %zu, \"step\": %.0f, \"samples\": %.0f", l->n, t.step, t.n);
		for (size_t i = 0; i < 5; i++) {
			df_buf_printf(out, ", \"%s\": ", of[i]);
			df_buf_json_double(out, x[i]);
		}
		return;
	}
	df_buf_printf(out, "%s: weights of samples by %s, %zu line%s to step %.0f\n", name,
	    *l->method ? l->method : "a method without a name", l->n, l->n == 1 ? "" : "s", t.step);
	df_buf_printf(out,
	    "  %.0f samples; 1 is as if unweighted: least %.4g, half below %.4g, mean %.4g, largest %.4g\n", t.n, t.min,
	    median, t.mean, t.max);
	if (t.n > 0 && isfinite(t.effective))
		df_buf_printf(out, "  they count as much as %.0f of equal weight (%.1f %%)\n", t.effective,
		    100 * t.effective / t.n);
}

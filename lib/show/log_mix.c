/*
 * log_mix.c - mixture_log.jsonl: proportions of domains over steps, and what the mixer saw.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "show/log.h"
#include "show/table.h"

static const char *const fields[DF_MIXLOG_FIELDS] = { "proportions", "weights", "excess", "loss", "n_targets" };

void
df_mix_log_release(struct df_mix_log *l)
{
	for (size_t d = 0; d < l->n_domains; d++)
		free(l->domain[d]);
	free(l->domain);
	free(l->method);
	free(l->step);
	for (int f = 0; f < DF_MIXLOG_FIELDS; f++)
		free(l->field[f]);
	*l = (struct df_mix_log){ .method = NULL };
}

/* The first line names the domains. */
static int
take_names(struct df_mix_log *l, const struct df_json_value *line, struct df_err *err)
{
	const struct df_json_value *v = df_json_get(line, "domains");
	const char *method;
	int rc;

	DF_TRY(df_json_member_str(line, "method", "", &method, err));
	DF_TRY(df_strdup(&l->method, method, err));
	if (df_json_type(v) != DF_JSON_ARRAY || df_json_size(v) == 0) {
		rc = df_fail(err, DF_EFORMAT, "'domains' is not a list of names");
		goto out;
	}
	DF_TRY(df_alloc(&l->domain, df_json_size(v), sizeof(*l->domain), "domains", err));
	for (size_t d = 0; d < df_json_size(v); d++) {
		const char *name = df_json_str(df_json_at(v, d), NULL);

		if (!name) {
			rc = df_fail(err, DF_EFORMAT, "'domains' is not a list of names");
			goto out;
		}
		DF_TRY(df_strdup(&l->domain[d], name, err));
		l->n_domains++;
	}
out:
	return rc;
}

/* Later lines may name the domains again: the same ones. */
static int
check_names(const struct df_mix_log *l, const struct df_json_value *line, struct df_err *err)
{
	const struct df_json_value *v = df_json_get(line, "domains");

	if (!v)
		return DF_OK;
	if (df_json_size(v) != l->n_domains)
		return df_fail(
		    err, DF_EFORMAT, "%zu domains, but %zu in the first line", df_json_size(v), l->n_domains);
	for (size_t d = 0; d < l->n_domains; d++) {
		const char *name = df_json_str(df_json_at(v, d), NULL);

		if (!name || strcmp(name, l->domain[d]) != 0)
			return df_fail(err, DF_EFORMAT, "domain %zu is '%s', but '%s' in the first line", d,
			    name ? name : "(no name)", l->domain[d]);
	}
	return DF_OK;
}

/* x [n_domains] of a member; null and an absent member are NaN. */
static int
take_field(
    const struct df_mix_log *l, const struct df_json_value *line, int f, double *x, bool *has, struct df_err *err)
{
	const struct df_json_value *v = df_json_get(line, fields[f]);
	const bool lacks = df_json_type(v) == DF_JSON_ABSENT || df_json_type(v) == DF_JSON_NULL;

	if (lacks && f == DF_MIXLOG_PROPORTIONS)
		return df_fail(err, DF_EFORMAT, "'%s' is missing", fields[f]);
	if (!lacks && (df_json_type(v) != DF_JSON_ARRAY || df_json_size(v) != l->n_domains))
		return df_fail(err, DF_EFORMAT, "'%s' is %s of %zu, not a list of %zu numbers", fields[f],
		    df_json_type_name(v), df_json_size(v), l->n_domains);
	for (size_t d = 0; d < l->n_domains; d++) {
		const struct df_json_value *e = lacks ? NULL : df_json_at(v, d);

		x[d] = NAN;
		if (lacks || (df_json_type(e) == DF_JSON_NULL && f != DF_MIXLOG_PROPORTIONS))
			continue;
		if (!df_json_number(e, &x[d]) || !isfinite(x[d]) || x[d] < 0)
			return df_fail(
			    err, DF_EFORMAT, "'%s' of '%s': not a number of at least 0", fields[f], l->domain[d]);
		*has = true;
	}
	return DF_OK;
}

static int
check_sum(const struct df_mix_log *l, const double *p, struct df_err *err)
{
	double sum = 0;

	for (size_t d = 0; d < l->n_domains; d++)
		sum += p[d];
	if (!(fabs(sum - 1) < 1e-3))
		return df_fail(err, DF_EFORMAT, "'proportions' sum to %g, not to 1", sum);
	return DF_OK;
}

int
df_mix_log_take(struct df_mix_log *l, const struct df_json_value *line, struct df_err *err)
{
	double step;
	size_t need;
	int rc;

	DF_TRY(df_log_number(line, "step", 0, false, &step, err));
	if (!l->domain)
		DF_TRY(take_names(l, line, err));
	else
		DF_TRY(check_names(l, line, err));
	while (l->n > 0 && l->step[l->n - 1] >= step)
		l->n--;
	DF_TRY(df_size_mul(l->n + 1, l->n_domains, &need, "a mixture log", err));
	DF_TRY(df_grow(&l->step, &l->cap_step, l->n + 1, sizeof(double), "a mixture log", err));
	for (int f = 0; f < DF_MIXLOG_FIELDS; f++) {
		DF_TRY(df_grow(&l->field[f], &l->cap[f], need, sizeof(double), "a mixture log", err));
		DF_TRY(take_field(l, line, f, l->field[f] + l->n * l->n_domains, &l->has_field[f], err));
	}
	DF_TRY(check_sum(l, l->field[DF_MIXLOG_PROPORTIONS] + l->n * l->n_domains, err));
	l->step[l->n++] = step;
out:
	return rc;
}

/* ---- text */

/* Lines whose proportions, or weights, differ from those of the line before. */
static size_t
count_changes(const struct df_mix_log *l, enum df_mix_field f)
{
	const size_t k = l->n_domains;
	size_t changes = 0;

	for (size_t i = 1; i < l->n && l->has_field[f]; i++)
		changes += memcmp(l->field[f] + i * k, l->field[f] + (i - 1) * k, k * sizeof(double)) != 0;
	return changes;
}

static void
put_times(struct df_buf *out, size_t n)
{
	if (n == 1)
		df_buf_puts(out, "once");
	else
		df_buf_printf(out, "%zu times", n);
}

struct domain_stats {
	double first, last, least, most; /* proportions */
	double field[DF_MIXLOG_FIELDS];  /* the last number there is; of targets their sum */
};

static struct domain_stats
stats_of(const struct df_mix_log *l, size_t d)
{
	const double *p = l->field[DF_MIXLOG_PROPORTIONS] + d;
	const size_t k = l->n_domains;
	struct domain_stats s = { p[0], p[(l->n - 1) * k], p[0], p[0], { 0 } };

	for (size_t i = 0; i < l->n; i++) {
		s.least = fmin(s.least, p[i * k]);
		s.most = fmax(s.most, p[i * k]);
	}
	for (int f = 0; f < DF_MIXLOG_FIELDS; f++) {
		const bool sum = f == DF_MIXLOG_TARGETS;

		s.field[f] = NAN;
		for (size_t i = 0; i < l->n; i++) {
			const double x = l->field[f][i * k + d];

			if (isfinite(x))
				s.field[f] = sum && isfinite(s.field[f]) ? s.field[f] + x : x;
		}
	}
	return s;
}

static void
json_of(const struct df_mix_log *l, struct df_buf *out)
{
	df_buf_puts(out, "\"method\": ");
	df_buf_json_str(out, l->method);
	df_buf_printf(out, ", \"lines\": %zu, \"step\": %.0f, \"changes\": %zu, \"domains\": {", l->n,
	    l->step[l->n - 1], count_changes(l, DF_MIXLOG_PROPORTIONS));
	for (size_t d = 0; d < l->n_domains; d++) {
		const struct domain_stats s = stats_of(l, d);
		const double x[] = { s.first, s.last, s.least, s.most };
		static const char *const of[] = { "first", "last", "min", "max" };

		df_buf_puts(out, d ? ", " : "");
		df_buf_json_str(out, l->domain[d]);
		for (size_t i = 0; i < 4; i++) {
			df_buf_printf(out, "%s\"%s\": ", i ? ", " : ": {", of[i]);
			df_buf_json_double(out, x[i]);
		}
		for (int f = DF_MIXLOG_WEIGHTS; f < DF_MIXLOG_FIELDS; f++) {
			if (!l->has_field[f])
				continue;
			df_buf_printf(out, ", \"%s\": ", fields[f]);
			df_buf_json_double(out, s.field[f]);
		}
		df_buf_putc(out, '}');
	}
	df_buf_putc(out, '}');
}

static int
table_of(const struct df_mix_log *l, struct df_buf *out, struct df_err *err)
{
	static const char *const heads[] = { "domain", "first", "last", "least", "most", "weight", "excess", "loss",
		"targets" };
	struct df_table t = DF_TABLE_INIT("lrrrrrrrr");
	int rc;

	for (int i = 0; i < 9; i++)
		df_table_cell(&t, "%s", i < 5 || l->has_field[i - 4] ? heads[i] : "");
	for (size_t d = 0; d < l->n_domains; d++) {
		const struct domain_stats s = stats_of(l, d);

		df_table_cell(&t, "%s", l->domain[d]);
		df_table_cell(&t, "%.4f", s.first);
		df_table_cell(&t, "%.4f", s.last);
		df_table_cell(&t, "%.4f", s.least);
		df_table_cell(&t, "%.4f", s.most);
		for (int f = DF_MIXLOG_WEIGHTS; f < DF_MIXLOG_FIELDS; f++)
			df_table_number(&t, s.field[f]);
	}
	DF_TRY(df_table_print(&t, "  ", out, err));
out:
	df_table_release(&t);
	return rc;
}

int
df_mix_log_text(const struct df_mix_log *l, const char *name, bool json, struct df_buf *out, struct df_err *err)
{
	if (json) {
		json_of(l, out);
		return DF_OK;
	}
	df_buf_printf(out, "%s: mixture of %zu domains by %s, %zu line%s to step %.0f; proportions changed ", name,
	    l->n_domains, *l->method ? l->method : "a method without a name", l->n, l->n == 1 ? "" : "s",
	    l->step[l->n - 1]);
	put_times(out, count_changes(l, DF_MIXLOG_PROPORTIONS));
	if (l->has_field[DF_MIXLOG_WEIGHTS]) {
		df_buf_puts(out, ", weights ");
		put_times(out, count_changes(l, DF_MIXLOG_WEIGHTS));
	}
	df_buf_putc(out, '\n');
	return table_of(l, out, err);
}

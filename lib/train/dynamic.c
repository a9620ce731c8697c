/*
 * dynamic.c - the state of a dynamic run, to JSON and back.
 */
#include "train/dynamic.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

int
df_dynamic_init(struct df_dynamic *d, const char *method, size_t n_domains, size_t n_numbers, struct df_err *err)
{
	int rc;

	df_dynamic_release(d);
	DF_TRY(df_strdup(&d->method, method, err));
	DF_TRY(df_alloc(&d->cursor, n_domains, sizeof(*d->cursor), "state", err));
	DF_TRY(df_alloc(&d->proportions, n_domains, sizeof(*d->proportions), "state", err));
	DF_TRY(df_alloc(&d->number, n_numbers, sizeof(*d->number), "state", err));
	d->n_domains = n_domains;
	d->n_numbers = n_numbers;
out:
	return rc;
}

void
df_dynamic_release(struct df_dynamic *d)
{
	free(d->method);
	free(d->cursor);
	free(d->proportions);
	free(d->number);
	free(d->params);
	free(d->initial);
	free(d->reference);
	*d = (struct df_dynamic){ 0 };
}

/* To the bit, unlike df_buf_json_double(): -0, and what is not finite, as a string. */
static void
put_number(struct df_buf *b, double x)
{
	if (isfinite(x) && !(x == 0 && signbit(x)))
		df_buf_json_double(b, x);
	else
		df_buf_puts(b, isnan(x) ? "\"nan\"" : isinf(x) ? x > 0 ? "\"inf\"" : "\"-inf\"" : "-0.0");
}

static bool
get_number(const struct df_json_value *v, double *x)
{
	const char *word = df_json_str(v, NULL);

	if (!word)
		return df_json_number(v, x);
	*x = strcmp(word, "nan") == 0 ? (double)NAN : strcmp(word, "-inf") == 0 ? -(double)INFINITY : (double)INFINITY;
	return strcmp(word, "nan") == 0 || strcmp(word, "inf") == 0 || strcmp(word, "-inf") == 0;
}

static void
put_numbers(struct df_buf *b, const char *key, const double *x, size_t n)
{
	df_buf_printf(b, ", \"%s\": [", key);
	for (size_t i = 0; i < n; i++) {
		df_buf_puts(b, i ? ", " : "");
		put_number(b, x[i]);
	}
	df_buf_puts(b, "]");
}

void
df_dynamic_put(const struct df_dynamic *d, struct df_buf *out)
{
	if (!d->method)
		return;
	df_buf_puts(out, "  \"dynamic\": {\"method\": ");
	df_buf_json_str(out, d->method);
	df_buf_printf(out, ", \"event_step\": %" PRIu64 ", \"flex_epoch\": %" PRIu64 ", \"cursor\": [", d->event_step,
	    d->flex_epoch);
	for (size_t i = 0; i < d->n_domains; i++)
		df_buf_printf(out, "%s%" PRIu64, i ? ", " : "", d->cursor[i]);
	df_buf_puts(out, "]");
	put_numbers(out, "proportions", d->proportions, d->n_domains);
	put_numbers(out, "numbers", d->number, d->n_numbers);
	if (d->initial)
		put_numbers(out, "initial", d->initial, d->n_domains);
	if (d->params)
		df_buf_printf(out, ", \"params\": %s", d->params);
	if (d->reference) {
		df_buf_puts(out, ", \"reference\": ");
		df_buf_json_str(out, d->reference);
	}
	df_buf_puts(out, "},\n");
}

static int
get_numbers(const struct df_json_value *v, const char *key, double *x, size_t n, struct df_err *err)
{
	const struct df_json_value *a = df_json_get(v, key);

	if (df_json_size(a) != n)
		return df_fail(err, DF_EFORMAT, "%s: %zu numbers, not %zu", key, df_json_size(a), n);
	for (size_t i = 0; i < n; i++)
		if (!get_number(df_json_at(a, i), &x[i]))
			return df_fail(err, DF_EFORMAT, "%s[%zu] is not a number", key, i);
	return DF_OK;
}

static int
get_counts(const struct df_json_value *v, uint64_t *x, size_t n, struct df_err *err)
{
	int64_t count;

	for (size_t i = 0; i < n; i++) {
		if (!df_json_int(df_json_at(v, i), &count) || count < 0)
			return df_fail(err, DF_EFORMAT, "cursor[%zu] is not a count", i);
		x[i] = (uint64_t)count;
	}
	return DF_OK;
}

void
df_dynamic_add_param(struct df_buf *b, const char *name, const char *value)
{
	df_buf_puts(b, b->len > 0 ? ", " : "{");
	df_buf_json_str(b, name);
	df_buf_puts(b, ": ");
	df_buf_json_str(b, value);
}

int
df_dynamic_take_params(struct df_buf *b, char **out, struct df_err *err)
{
	int rc;

	df_buf_puts(b, b->len > 0 ? "}" : "{}");
	if ((rc = df_buf_check(b, err)) == DF_OK)
		*out = df_buf_detach(b);
	df_buf_release(b);
	return rc;
}

/* "params", as it was. */
static int
get_params(const struct df_json_value *v, char **out, struct df_err *err)
{
	const struct df_json_member *m = NULL;
	struct df_buf b = DF_BUF_INIT;
	const struct df_json_value *value;
	const char *name;

	while ((m = df_json_next(v, m, &name, &value))) {
		const char *text = df_json_str(value, NULL);

		if (!text) {
			df_buf_release(&b);
			return df_fail(err, DF_EFORMAT, "params: '%.60s' is no text", name);
		}
		df_dynamic_add_param(&b, name, text);
	}
	return df_dynamic_take_params(&b, out, err);
}

/* What later versions added. */
static int
get_told(struct df_dynamic *d, const struct df_json_value *v, struct df_err *err)
{
	const char *reference;
	int rc = DF_OK;

	if (df_json_get(v, "initial")) {
		DF_TRY(df_alloc(&d->initial, d->n_domains, sizeof(*d->initial), "state", err));
		DF_TRY(get_numbers(v, "initial", d->initial, d->n_domains, err));
	}
	if (df_json_type(df_json_get(v, "params")) == DF_JSON_OBJECT)
		DF_TRY(get_params(df_json_get(v, "params"), &d->params, err));
	DF_TRY(df_json_member_str(v, "reference", "", &reference, err));
	if (*reference)
		DF_TRY(df_strdup(&d->reference, reference, err));
out:
	return rc;
}

int
df_dynamic_get(struct df_dynamic *d, const struct df_json_value *v, struct df_err *err)
{
	const struct df_json_value *cursor = df_json_get(v, "cursor");
	const char *method;
	int64_t step, flex;
	int rc;

	if (!v)
		return DF_OK;
	DF_TRY(df_json_member_str(v, "method", "", &method, err));
	DF_TRY(df_dynamic_init(d, method, df_json_size(cursor), df_json_size(df_json_get(v, "numbers")), err));
	DF_TRY(df_json_member_int(v, "event_step", 0, 0, INT64_MAX, &step, err));
	DF_TRY(df_json_member_int(v, "flex_epoch", 0, 0, INT64_MAX, &flex, err));
	d->event_step = (uint64_t)step;
	d->flex_epoch = (uint64_t)flex;
	DF_TRY(get_counts(cursor, d->cursor, d->n_domains, err));
	DF_TRY(get_numbers(v, "proportions", d->proportions, d->n_domains, err));
	DF_TRY(get_numbers(v, "numbers", d->number, d->n_numbers, err));
	DF_TRY(get_told(d, v, err));
out:
	if (rc != DF_OK) {
		df_dynamic_release(d);
		df_err_prefix(err, "dynamic: ");
	}
	return rc;
}

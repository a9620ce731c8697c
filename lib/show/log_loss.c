/*
 * log_loss.c - losses over steps: trainer_log.jsonl, trainer_state.json.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "show/log.h"

static void
curve_release(struct df_curve *c)
{
	free(c->name);
	free(c->step);
	free(c->value);
}

void
df_loss_log_release(struct df_loss_log *l)
{
	curve_release(&l->loss);
	curve_release(&l->eval);
	for (size_t i = 0; i < l->n_each; i++)
		curve_release(&l->each[i]);
	free(l->each);
	*l = (struct df_loss_log){ .last_step = 0 };
}

static int
curve_add(struct df_curve *c, double step, double value, struct df_err *err)
{
	int rc;

	if (!isfinite(value))
		return DF_OK;
	/* A resumed run may log a step again: the later one counts. */
	while (c->n > 0 && c->step[c->n - 1] >= step)
		c->n--;
	DF_TRY(df_grow(&c->step, &c->cap_step, c->n + 1, sizeof(double), "a curve", err));
	DF_TRY(df_grow(&c->value, &c->cap_value, c->n + 1, sizeof(double), "a curve", err));
	c->step[c->n] = step;
	c->value[c->n++] = value;
out:
	return rc;
}

/* The curve of a dataset's evaluation losses; a new one if there is none yet. */
static int
curve_of(struct df_loss_log *l, const char *name, size_t n, struct df_curve **out, struct df_err *err)
{
	int rc;

	for (size_t i = 0; i < l->n_each; i++)
		if (strncmp(l->each[i].name, name, n) == 0 && l->each[i].name[n] == '\0') {
			*out = &l->each[i];
			return DF_OK;
		}
	DF_TRY(df_grow(&l->each, &l->cap_each, l->n_each + 1, sizeof(*l->each), "a curve", err));
	l->each[l->n_each] = (struct df_curve){ .name = NULL };
	DF_TRY(df_strndup(&l->each[l->n_each].name, name, n, err));
	*out = &l->each[l->n_each++];
out:
	return rc;
}

/* "eval_NAME_loss": NAME and its length; else NULL. */
static const char *
dataset_of(const char *key, size_t *n)
{
	static const char head[] = "eval_", tail[] = "_loss";
	const size_t len = strlen(key), h = sizeof(head) - 1, t = sizeof(tail) - 1;

	if (len <= h + t || strncmp(key, head, h) != 0 || strcmp(key + len - t, tail) != 0)
		return NULL;
	*n = len - h - t;
	return key + h;
}

int
df_loss_log_take(struct df_loss_log *l, const struct df_json_value *line, struct df_err *err)
{
	const struct df_json_member *m = NULL;
	const struct df_json_value *v;
	const char *key;
	double step, x;
	int rc = DF_OK;

	if (!df_json_number(df_json_get(line, "current_steps"), &step) &&
	    !df_json_number(df_json_get(line, "step"), &step))
		return DF_OK;
	l->last_step = step;
	df_json_number(df_json_get(line, "total_steps"), &l->total_steps);
	if (df_json_number(df_json_get(line, "loss"), &x))
		DF_TRY(curve_add(&l->loss, step, x, err));
	if (df_json_number(df_json_get(line, "eval_loss"), &x))
		DF_TRY(curve_add(&l->eval, step, x, err));
	while ((m = df_json_next(line, m, &key, &v)) != NULL) {
		struct df_curve *c;
		size_t n;
		const char *name = dataset_of(key, &n);

		if (!name || !df_json_number(v, &x))
			continue;
		DF_TRY(curve_of(l, name, n, &c, err));
		DF_TRY(curve_add(c, step, x, err));
	}
	l->has = l->loss.n > 0 || l->eval.n > 0;
out:
	return rc;
}

static void
curve_text(const struct df_curve *c, const char *what, bool json, struct df_buf *out)
{
	size_t best = 0;

	for (size_t k = 1; k < c->n; k++)
		if (c->value[k] < c->value[best])
			best = k;
	if (c->n == 0)
		return;
	if (!json) {
		df_buf_printf(out, "  %-9s  first %-8.4g last %-8.4g least %.4g at step %.0f\n", what, c->value[0],
		    c->value[c->n - 1], c->value[best], c->step[best]);
		return;
	}
	df_buf_puts(out, ", ");
	df_buf_json_str(out, what);
	df_buf_puts(out, ": {\"first\": ");
	df_buf_json_double(out, c->value[0]);
	df_buf_puts(out, ", \"last\": ");
	df_buf_json_double(out, c->value[c->n - 1]);
	df_buf_puts(out, ", \"min\": ");
	df_buf_json_double(out, c->value[best]);
	df_buf_printf(out, ", \"min_step\": %.0f}", c->step[best]);
}

void
df_loss_log_text(const struct df_loss_log *l, const char *name, bool json, struct df_buf *out)
{
	struct df_buf key = DF_BUF_INIT;

	if (json) {
		df_buf_printf(out, ", \"steps\": %.0f, \"total_steps\": %.0f", l->last_step, l->total_steps);
	} else {
		df_buf_printf(out, "%s: training log, step %.0f", name, l->last_step);
		if (l->total_steps > 0)
			df_buf_printf(out, " of %.0f", l->total_steps);
		df_buf_putc(out, '\n');
	}
	curve_text(&l->loss, "loss", json, out);
	curve_text(&l->eval, "eval_loss", json, out);
	for (size_t i = 0; i < l->n_each; i++) {
		df_buf_clear(&key);
		df_buf_printf(&key, "eval_%s_loss", l->each[i].name);
		curve_text(&l->each[i], key.data ? key.data : "", json, out);
	}
	df_buf_release(&key);
}

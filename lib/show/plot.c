/*
 * plot.c - what to draw: loss curves of runs, and how an artefact's numbers are distributed.
 */
#include "show/show.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#define LOG_LIMIT   ((size_t)1 << 30)
#define BINS        48
#define DOMAINS_MAX 7 /* the other domains are drawn as one */

/* ---- training logs */

struct curve {
	double *step, *value;
	size_t n, cap_step, cap_value;
};

struct run {
	struct curve loss, eval;
	double last_step, total_steps;
};

static void
run_release(struct run *r)
{
	free(r->loss.step);
	free(r->loss.value);
	free(r->eval.step);
	free(r->eval.value);
	*r = (struct run){ .last_step = 0 };
}

static int
curve_add(struct curve *c, double step, double value, struct df_err *err)
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

/* One entry of either log: {"current_steps"|"step": s, "loss": x, "eval_loss": y}. */
static int
take_entry(struct run *r, const struct df_json_value *v, struct df_err *err)
{
	double step, x;
	int rc = DF_OK;

	if (!df_json_number(df_json_get(v, "current_steps"), &step) && !df_json_number(df_json_get(v, "step"), &step))
		return DF_OK;
	r->last_step = step;
	df_json_number(df_json_get(v, "total_steps"), &r->total_steps);
	if (df_json_number(df_json_get(v, "loss"), &x))
		DF_TRY(curve_add(&r->loss, step, x, err));
	if (df_json_number(df_json_get(v, "eval_loss"), &x))
		DF_TRY(curve_add(&r->eval, step, x, err));
out:
	return rc;
}

static int
read_jsonl(struct run *r, const char *path, struct df_err *err)
{
	struct df_json *doc = NULL;
	char *data = NULL;
	size_t n, line = 0;
	int rc;

	DF_TRY(df_file_get(path, LOG_LIMIT, &data, &n, err));
	for (char *p = data, *end = data + n; p < end;) {
		char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end;

		line++;
		if (stop > p && strspn(p, " \t\r") < (size_t)(stop - p)) {
			rc = df_json_parse(&doc, p, (size_t)(stop - p), path, err);
			if (rc != DF_OK) {
				/*
				 * A line that a kill cut short can only be the last one; it is not an error of the log.
				 */
				if (nl == NULL && line > 1) {
					rc = DF_OK;
					break;
				}
				df_err_prefix(err, "line %zu: ", line);
				goto out;
			}
			DF_TRY(take_entry(r, df_json_root(doc), err));
			df_json_free(doc);
			doc = NULL;
		}
		p = stop + 1;
	}
out:
	df_json_free(doc);
	free(data);
	return rc;
}

static int
read_state(struct run *r, const char *path, struct df_err *err)
{
	const struct df_json_value *history;
	struct df_json *doc = NULL;
	int rc;

	DF_TRY(df_json_load(&doc, path, LOG_LIMIT, err));
	history = df_json_get(df_json_root(doc), "log_history");
	for (size_t i = 0; i < df_json_size(history); i++)
		DF_TRY(take_entry(r, df_json_at(history, i), err));
	df_json_number(df_json_get(df_json_root(doc), "max_steps"), &r->total_steps);
out:
	df_json_free(doc);
	return rc;
}

static bool
ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

/* The log that `path` is, or contains; *out = NULL when there is none. */
static int
find_log(char **out, const char *path, struct df_err *err)
{
	static const char *const names[] = { "trainer_log.jsonl", "trainer_state.json" };
	int rc = DF_OK;

	*out = NULL;
	if (ends_with(path, ".jsonl") || ends_with(path, ".json"))
		return df_strdup(out, path, err);
	for (size_t i = 0; i < 2 && df_file_is_dir(path); i++) {
		DF_TRY(df_path_join(out, path, names[i], err));
		if (df_file_exists(*out))
			return DF_OK;
		free(*out);
		*out = NULL;
	}
out:
	return rc;
}

bool
df_is_run(const char *path)
{
	char *log = NULL;
	bool is = find_log(&log, path, NULL) == DF_OK && log != NULL;

	free(log);
	return is;
}

static int
read_run(struct run *r, const char *path, struct df_err *err)
{
	char *log = NULL;
	int rc;

	DF_TRY(find_log(&log, path, err));
	if (log == NULL) {
		rc = df_fail(err, DF_ENOINPUT, "%s: no trainer_log.jsonl and no trainer_state.json in it", path);
		goto out;
	}
	if (ends_with(log, ".jsonl"))
		DF_TRY(read_jsonl(r, log, err));
	else
		DF_TRY(read_state(r, log, err));
	if (r->loss.n == 0 && r->eval.n == 0)
		rc = df_fail(err, DF_EFORMAT, "%s: no loss in it", log);
out:
	free(log);
	return rc;
}

int
df_run_text(const char *path, bool json, struct df_buf *out, struct df_err *err)
{
	struct run r = { .last_step = 0 };
	const struct curve *c[2] = { &r.loss, &r.eval };
	int rc;

	DF_TRY(read_run(&r, path, err));
	if (json) {
		df_buf_puts(out, "{\"file\": ");
		df_buf_json_str(out, path);
		df_buf_printf(out, ", \"kind\": \"trainlog\", \"steps\": %.0f, \"total_steps\": %.0f", r.last_step,
		    r.total_steps);
	} else {
		df_buf_printf(out, "%s: training log, step %.0f", path, r.last_step);
		if (r.total_steps > 0)
			df_buf_printf(out, " of %.0f", r.total_steps);
		df_buf_putc(out, '\n');
	}
	for (int i = 0; i < 2; i++) {
		size_t best = 0;

		for (size_t k = 1; k < c[i]->n; k++)
			if (c[i]->value[k] < c[i]->value[best])
				best = k;
		if (c[i]->n == 0)
			continue;
		if (json) {
			df_buf_printf(out, ", \"%s\": {\"first\": ", i ? "eval_loss" : "loss");
			df_buf_json_double(out, c[i]->value[0]);
			df_buf_puts(out, ", \"last\": ");
			df_buf_json_double(out, c[i]->value[c[i]->n - 1]);
			df_buf_puts(out, ", \"min\": ");
			df_buf_json_double(out, c[i]->value[best]);
			df_buf_printf(out, ", \"min_step\": %.0f}", c[i]->step[best]);
		} else {
			df_buf_printf(out, "  %-9s  first %-8.4g last %-8.4g least %.4g at step %.0f\n",
			    i ? "eval_loss" : "loss", c[i]->value[0], c[i]->value[c[i]->n - 1], c[i]->value[best],
			    c[i]->step[best]);
		}
	}
	if (json)
		df_buf_puts(out, "}\n");
	DF_TRY(df_buf_check(out, err));
out:
	run_release(&r);
	return rc;
}

/*
 * The mean over both sides with weights w^|i-j|, in one pass each way: unlike a running mean it does
 * not lag after a falling curve.
 */
static void
smooth(double *y, const double *x, size_t n)
{
	double w = 1 - 1 / (1 + (double)n / 40), sum = 0, weight = 0;

	for (size_t i = 0; i < n; i++)
		y[i] = sum = x[i] + w * sum;
	sum = 0;
	for (size_t i = n; i-- > 0;) {
		/* Weights to the left of i, i itself, and to the right. */
		double all = (1 - pow(w, (double)(i + 1))) / (1 - w) + weight;

		y[i] = (y[i] + sum) / all;
		sum = w * (x[i] + sum);
		weight = w * (1 + weight);
	}
}

static int
add_curve(struct df_chart *c, const struct curve *v, const char *name, int color, bool faint, bool smoothed, bool dots,
    struct df_err *err)
{
	struct df_series *s;
	int rc;

	DF_TRY(df_chart_add(c, name, color, &s, err));
	DF_TRY(df_alloc(&s->x, v->n, sizeof(double), "a curve", err));
	DF_TRY(df_alloc(&s->y, v->n, sizeof(double), "a curve", err));
	memcpy(s->x, v->step, v->n * sizeof(double));
	if (smoothed)
		smooth(s->y, v->value, v->n);
	else
		memcpy(s->y, v->value, v->n * sizeof(double));
	s->n = v->n;
	s->faint = faint;
	s->dots = dots;
out:
	return rc;
}

/* A short name for a path: its last part, or the part before when the last is a log's file name. */
static int
short_name(char **out, const char *path, struct df_err *err)
{
	size_t n = strlen(path);
	const char *base;

	while (n > 1 && path[n - 1] == '/')
		n--;
	if (ends_with(path, "/trainer_log.jsonl") || ends_with(path, "/trainer_state.json"))
		n = (size_t)(strrchr(path, '/') - path);
	base = path + n;
	while (base > path && base[-1] != '/')
		base--;
	return df_strndup(out, base, n - (size_t)(base - path), err);
}

int
df_plot_runs(struct df_chart *c, const char *const *paths, size_t n, struct df_err *err)
{
	struct run r = { .last_step = 0 };
	char *name = NULL, *label = NULL;
	int rc = DF_OK;

	for (size_t i = 0; i < n; i++) {
		int color = (int)(n == 1 ? 0 : i);

		DF_TRY(read_run(&r, paths[i], err));
		DF_TRY(short_name(&name, paths[i], err));
		if (n == 1) {
			DF_TRY(df_asprintf(&c->title, err, "Loss of %s", name));
			DF_TRY(df_asprintf(&c->subtitle, err,
			    "%.0f steps; the pale line is as logged, the other smoothed", r.last_step));
		}
		if (r.loss.n > 0) {
			bool many = r.loss.n > 3;

			if (many)
				DF_TRY(add_curve(c, &r.loss, NULL, color, true, false, false, err));
			DF_TRY(df_asprintf(&label, err, "%s%straining", n > 1 ? name : "", n > 1 ? ", " : ""));
			DF_TRY(add_curve(c, &r.loss, label, color, false, many, false, err));
			free(label);
			label = NULL;
		}
		if (r.eval.n > 0) {
			DF_TRY(df_asprintf(&label, err, "%s%sevaluation", n > 1 ? name : "", n > 1 ? ", " : ""));
			DF_TRY(add_curve(c, &r.eval, label, n == 1 ? 1 : color, false, false, true, err));
			free(label);
			label = NULL;
		}
		free(name);
		name = NULL;
		run_release(&r);
	}
	if (n > 1) {
		DF_TRY(df_asprintf(&c->title, err, "Loss of %zu runs", n));
		DF_TRY(df_strdup(
		    &c->subtitle, "pale lines are as logged, the others smoothed; points are evaluations", err));
	}
	DF_TRY(df_strdup(&c->xlabel, "step", err));
	DF_TRY(df_strdup(&c->ylabel, "loss (nats per token)", err));
out:
	free(name);
	free(label);
	run_release(&r);
	return rc;
}

/* ---- histograms */

struct values {
	double *v;
	uint16_t *domain;
	size_t n, cap_v, cap_d, n_skipped;
};

/* The column to draw; DF_COL_IDS stands for row lengths. */
static enum df_col
column_to_plot(const struct df_set *s)
{
	static const enum df_col order[] = { DF_COL_SCORE, DF_COL_LOSS, DF_COL_WEIGHT, DF_COL_IDS };

	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		if (df_set_has(s, order[i]))
			return order[i];
	return DF_COL_COUNT;
}

static int
collect(struct values *v, struct df_set *s, enum df_col c, struct df_err *err)
{
	const enum df_col cols[2] = { c, DF_COL_DOMAIN };
	struct df_batch b = DF_BATCH_INIT;
	uint64_t n;
	int rc;

	df_set_only(s, cols, 2);
	for (;;) {
		DF_TRY(df_set_next(s, 4096, &b, &n, err));
		if (n == 0)
			break;
		DF_TRY(df_grow(&v->v, &v->cap_v, v->n + (size_t)n, sizeof(double), "values", err));
		DF_TRY(df_grow(&v->domain, &v->cap_d, v->n + (size_t)n, sizeof(uint16_t), "values", err));
		for (uint64_t i = 0; i < n; i++) {
			const uint64_t *off = b.col[c].offsets;
			double x =
			    c == DF_COL_IDS ? (double)(off[i + 1] - off[i]) : (double)((const float *)b.col[c].data)[i];

			if (!isfinite(x)) {
				v->n_skipped++;
				continue;
			}
			v->v[v->n] = x;
			v->domain[v->n++] =
			    df_set_has(s, DF_COL_DOMAIN) ? ((const uint16_t *)b.col[DF_COL_DOMAIN].data)[i] : 0;
		}
	}
out:
	df_batch_release(&b);
	return rc;
}

static int
histogram_titles(
    struct df_chart *c, const char *set, const char *what, const struct values *v, bool by_domain, struct df_err *err)
{
	char *name = NULL, skipped[80] = "";
	int rc;

	if (v->n_skipped > 0)
		snprintf(skipped, sizeof(skipped), "; %zu without a finite value are not shown", v->n_skipped);
	DF_TRY(short_name(&name, set, err));
	DF_TRY(df_asprintf(&c->title, err, "%c%s of %s", what[0] - 'a' + 'A', what + 1, name));
	DF_TRY(df_asprintf(
	    &c->subtitle, err, "%zu rows%s%s", v->n + v->n_skipped, by_domain ? ", by domain" : "", skipped));
	DF_TRY(df_strdup(&c->xlabel, what, err));
	DF_TRY(df_strdup(&c->ylabel, "rows", err));
out:
	free(name);
	return rc;
}

int
df_plot_histogram(struct df_chart *c, struct df_set *s, struct df_err *err)
{
	static const char *const what[DF_COL_COUNT] = { [DF_COL_SCORE] = "score",
		[DF_COL_LOSS] = "loss",
		[DF_COL_WEIGHT] = "weight",
		[DF_COL_IDS] = "tokens per sample" };
	const struct df_meta *m = df_set_meta(s);
	struct values v = { NULL, NULL, 0, 0, 0, 0 };
	enum df_col col = column_to_plot(s);
	size_t n_series = df_set_has(s, DF_COL_DOMAIN) && m->n_domains > 0 ? m->n_domains : 1, bins = BINS;
	double lo = INFINITY, hi = -INFINITY;
	int rc;

	if (col == DF_COL_COUNT)
		return df_fail(err, DF_EUSAGE, "%s: %s have no scores, losses or weights to draw", df_set_name(s),
		    df_kind_name(m->kind));
	DF_TRY(collect(&v, s, col, err));
	for (size_t i = 0; i < v.n; i++) {
		lo = fmin(lo, v.v[i]);
		hi = fmax(hi, v.v[i]);
	}
	if (v.n == 0) {
		rc = df_fail(err, DF_EFORMAT, "%s: no finite value to draw", df_set_name(s));
		goto out;
	}
	if (lo == hi) {
		lo -= 0.5;
		hi += 0.5;
	}
	/* Whole numbers get bins of whole width. */
	if (col == DF_COL_IDS) {
		double each = ceil((hi - lo + 1) / BINS);

		bins = (size_t)ceil((hi - lo + 1) / each);
		hi = lo + each * (double)bins;
	}
	c->bars = true;
	c->x0 = lo;
	c->x1 = hi;
	c->n_bins = bins;
	if (n_series > DOMAINS_MAX)
		n_series = DOMAINS_MAX;
	for (size_t d = 0; d < n_series; d++) {
		bool rest = d + 1 == DOMAINS_MAX && m->n_domains > DOMAINS_MAX;
		struct df_series *x;

		DF_TRY(df_chart_add(c,
		    m->n_domains == 0 || !df_set_has(s, DF_COL_DOMAIN) ? NULL
			: rest                                         ? "others"
								       : m->domains[d],
		    (int)d, &x, err));
		DF_TRY(df_alloc(&x->y, bins, sizeof(double), "a histogram", err));
		x->n = bins;
	}
	for (size_t i = 0; i < v.n; i++) {
		size_t bin = (size_t)((v.v[i] - lo) / (hi - lo) * (double)bins);
		size_t d = v.domain[i] < n_series ? v.domain[i] : n_series - 1;

		c->series[d].y[bin < bins ? bin : bins - 1]++;
	}
	DF_TRY(histogram_titles(c, df_set_name(s), what[col], &v, n_series > 1, err));
out:
	free(v.v);
	free(v.domain);
	return rc;
}

/* ---- writing */

static int
run_gnuplot(const struct df_buf *script, struct df_err *err)
{
	FILE *p = popen("gnuplot >/dev/null 2>&1", "w");
	bool ok;
	int status;

	if (p == NULL)
		return df_fail(err, DF_EUNSUPPORTED, "cannot start gnuplot:");
	ok = fwrite(script->data, 1, script->len, p) == script->len;
	status = pclose(p);
	if (status == 127 << 8)
		return df_fail(
		    err, DF_EUNSUPPORTED, "a PNG is made with gnuplot, which is not installed (an .svg needs nothing)");
	if (status != 0 || !ok)
		return df_fail(err, DF_EUNSUPPORTED, "gnuplot could not make a PNG (an .svg needs nothing)");
	return DF_OK;
}

int
df_plot_write(const struct df_chart *c, const char *path, struct df_err *err)
{
	struct df_atomic a = DF_ATOMIC_INIT;
	struct df_buf b = DF_BUF_INIT;
	int rc;

	if (ends_with(path, ".svg")) {
		DF_TRY(df_chart_svg(c, &b, err));
		DF_TRY(df_file_put(path, b.data, b.len, err));
	} else if (ends_with(path, ".png")) {
		DF_TRY(df_atomic_open(&a, path, err));
		DF_TRY(df_chart_gnuplot(c, a.tmp, &b, err));
		if ((rc = run_gnuplot(&b, err)) != DF_OK) {
			df_err_prefix(err, "%s: ", path);
			goto out;
		}
		if (!df_file_exists(a.tmp)) {
			rc = df_fail(
			    err, DF_EUNSUPPORTED, "%s: this gnuplot cannot make a PNG (an .svg needs nothing)", path);
			goto out;
		}
		DF_TRY(df_atomic_commit(&a, err));
	} else {
		rc = df_fail(err, DF_EUSAGE, "%s: a picture's name ends in .svg or .png", path);
	}
out:
	df_atomic_discard(&a);
	df_buf_release(&b);
	return rc;
}

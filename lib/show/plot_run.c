/*
 * plot_run.c - what to draw of runs: losses, mixtures, weights.
 */
#include "show/show.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "show/log.h"

#define DRAWN_MAX 8 /* domains and datasets with a colour of their own */

/* ---- losses */

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

enum look { FAINT = 1, SMOOTHED = 2, DOTS = 4 };

static int
add_curve(
    struct df_chart *c, const struct df_curve *v, const char *name, size_t color, unsigned look, struct df_err *err)
{
	struct df_series *s;
	int rc;

	DF_TRY(df_chart_add(c, name, (int)color, &s, err));
	DF_TRY(df_alloc(&s->x, v->n, sizeof(double), "a curve", err));
	DF_TRY(df_alloc(&s->y, v->n, sizeof(double), "a curve", err));
	memcpy(s->x, v->step, v->n * sizeof(double));
	if (look & SMOOTHED)
		smooth(s->y, v->value, v->n);
	else
		memcpy(s->y, v->value, v->n * sizeof(double));
	s->n = v->n;
	s->faint = look & FAINT;
	s->dots = look & DOTS;
out:
	return rc;
}

static int
titles(struct df_chart *c, const char *xlabel, const char *ylabel, struct df_err *err)
{
	int rc;

	DF_TRY(df_strdup(&c->xlabel, xlabel, err));
	DF_TRY(df_strdup(&c->ylabel, ylabel, err));
out:
	return rc;
}

/* The curves of one run; `name` NULL: it is the only one. */
static int
add_losses(struct df_chart *c, const struct df_loss_log *l, const char *name, size_t color, struct df_err *err)
{
	const char *who = name ? name : "", *comma = name ? ", " : "";
	char *label = NULL;
	int rc = DF_OK;

	if (l->loss.n > 0) {
		const bool many = l->loss.n > 3;

		if (many)
			DF_TRY(add_curve(c, &l->loss, NULL, color, FAINT, err));
		DF_TRY(df_asprintf(&label, err, "%s%straining", who, comma));
		DF_TRY(add_curve(c, &l->loss, label, color, many ? SMOOTHED : 0, err));
		free(label);
		label = NULL;
	}
	if (l->eval.n > 0) {
		DF_TRY(df_asprintf(&label, err, "%s%sevaluation", who, comma));
		DF_TRY(add_curve(c, &l->eval, label, name ? color : 1, DOTS, err));
	}
out:
	free(label);
	return rc;
}

/* The evaluation losses of the datasets of one run. */
static int
plot_each(struct df_picture *p, const struct df_loss_log *l, const char *name, struct df_err *err)
{
	const size_t n = l->n_each < DRAWN_MAX ? l->n_each : DRAWN_MAX;
	struct df_chart *c;
	int rc;

	DF_TRY(df_picture_add(p, &c, err));
	DF_TRY(df_asprintf(&c->title, err, "Evaluation loss of %s by dataset", name));
	if (n < l->n_each)
		DF_TRY(df_asprintf(&c->subtitle, err, "the first %zu of %zu datasets", n, l->n_each));
	DF_TRY(titles(c, "step", "loss (nats per token)", err));
	for (size_t i = 0; i < n; i++)
		DF_TRY(add_curve(c, &l->each[i], l->each[i].name, i, DOTS, err));
out:
	return rc;
}

static int
plot_losses(struct df_picture *p, const struct df_loss_log *l, const char *name, struct df_err *err)
{
	struct df_chart *c;
	int rc;

	DF_TRY(df_picture_add(p, &c, err));
	DF_TRY(df_asprintf(&c->title, err, "Loss of %s", name));
	DF_TRY(
	    df_asprintf(&c->subtitle, err, "%.0f steps; the pale line is as logged, the other smoothed", l->last_step));
	DF_TRY(titles(c, "step", "loss (nats per token)", err));
	DF_TRY(add_losses(c, l, NULL, 0, err));
	if (l->n_each > 0)
		DF_TRY(plot_each(p, l, name, err));
out:
	return rc;
}

/* ---- mixtures */

/* The domains with a colour: all, or the largest; the others are drawn as one. */
struct shown {
	size_t domain[DRAWN_MAX], n;
	bool others;
};

static double
mean_of(const struct df_mix_log *l, enum df_mix_field f, size_t d)
{
	double sum = 0;

	for (size_t i = 0; i < l->n; i++)
		if (isfinite(l->field[f][i * l->n_domains + d]))
			sum += l->field[f][i * l->n_domains + d];
	return sum / (double)l->n;
}

static struct shown
choose_domains(const struct df_mix_log *l)
{
	/* Where rows are drawn uniformly, weights say more. */
	const enum df_mix_field f = l->has_field[DF_MIXLOG_WEIGHTS] ? DF_MIXLOG_WEIGHTS : DF_MIXLOG_PROPORTIONS;
	struct shown s = { .others = l->n_domains > DRAWN_MAX };
	const size_t most = s.others ? DRAWN_MAX - 1 : l->n_domains;

	for (size_t d = 0; d < l->n_domains; d++) {
		size_t larger = 0;

		for (size_t e = 0; s.others && e < l->n_domains; e++) {
			const double diff = mean_of(l, f, e) - mean_of(l, f, d);

			larger += diff > 0 || (diff == 0 && e < d);
		}
		if (larger < most || !s.others)
			s.domain[s.n++] = d;
	}
	return s;
}

static bool
is_shown(const struct shown *s, size_t d)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->domain[i] == d)
			return true;
	return false;
}

/* The last step of the run; if that is not known, as long after the last line as that is after the one before. */
static double
end_of(const struct df_mix_log *l, double last_step)
{
	const double last = l->step[l->n - 1], before = l->n > 1 ? l->step[l->n - 2] : last - 1;

	return last_step > last || (last_step == last && l->n > 1) ? last_step : last + (last - before);
}

/* One band: of domain d, or of all that are not shown. */
static int
add_area(struct df_chart *c, const struct df_mix_log *l, const struct shown *shown, size_t i, struct df_err *err)
{
	const bool others = i == shown->n;
	struct df_series *s;
	int rc;

	DF_TRY(df_chart_add(c, others ? "others" : l->domain[shown->domain[i]], (int)i, &s, err));
	DF_TRY(df_alloc(&s->x, l->n, sizeof(double), "a curve", err));
	DF_TRY(df_alloc(&s->y, l->n, sizeof(double), "a curve", err));
	for (size_t k = 0; k < l->n; k++) {
		const double *p = l->field[DF_MIXLOG_PROPORTIONS] + k * l->n_domains;

		s->x[k] = l->step[k];
		for (size_t d = 0; d < l->n_domains; d++)
			if (others ? !is_shown(shown, d) : d == shown->domain[i])
				s->y[k] += p[d];
	}
	s->n = l->n;
out:
	return rc;
}

static int
plot_proportions(struct df_picture *p, const struct df_mix_log *l, const struct shown *shown, const char *name,
    double last_step, struct df_err *err)
{
	struct df_chart *c;
	int rc;

	DF_TRY(df_picture_add(p, &c, err));
	DF_TRY(df_asprintf(&c->title, err, "Proportions of %s", name));
	DF_TRY(df_asprintf(&c->subtitle, err, "of the rows that are drawn; %zu domains%s%s", l->n_domains,
	    *l->method ? ", by " : "", l->method));
	DF_TRY(titles(c, "step", "proportion", err));
	c->look = DF_CHART_AREAS;
	c->n_bins = l->n;
	c->x0 = l->step[0];
	c->x1 = end_of(l, last_step);
	for (size_t i = 0; i < shown->n + shown->others; i++)
		DF_TRY(add_area(c, l, shown, i, err));
out:
	return rc;
}

/* Lines of a field for each domain that has a colour. */
static int
plot_field(struct df_picture *p, const struct df_mix_log *l, enum df_mix_field f, const struct shown *shown,
    const char *name, struct df_err *err)
{
	static const struct {
		const char *title, *about, *ylabel;
	} says[DF_MIXLOG_FIELDS] = {
		[DF_MIXLOG_WEIGHTS] = { "Weights of domains", "of their losses: alpha", "weight" },
		[DF_MIXLOG_EXCESS] = { "Excess loss by domain", "over the reference's loss, per token",
		    "nats per token" },
		[DF_MIXLOG_LOSS] = { "Loss by domain", "of the rows trained on, since the update before",
		    "loss (nats per token)" },
	};
	struct df_chart *c;
	int rc;

	DF_TRY(df_picture_add(p, &c, err));
	DF_TRY(df_asprintf(&c->title, err, "%s, %s", says[f].title, name));
	if (shown->others)
		DF_TRY(df_asprintf(
		    &c->subtitle, err, "%s; the largest %zu of %zu domains", says[f].about, shown->n, l->n_domains));
	else
		DF_TRY(df_strdup(&c->subtitle, says[f].about, err));
	DF_TRY(titles(c, "step", says[f].ylabel, err));
	for (size_t i = 0; i < shown->n; i++) {
		struct df_series *s;

		DF_TRY(df_chart_add(c, l->domain[shown->domain[i]], (int)i, &s, err));
		DF_TRY(df_alloc(&s->x, l->n, sizeof(double), "a curve", err));
		DF_TRY(df_alloc(&s->y, l->n, sizeof(double), "a curve", err));
		for (size_t k = 0; k < l->n; k++) {
			const double y = l->field[f][k * l->n_domains + shown->domain[i]];

			if (!isfinite(y))
				continue;
			s->x[s->n] = l->step[k];
			s->y[s->n++] = y;
		}
	}
out:
	return rc;
}

static int
plot_mixture(struct df_picture *p, const struct df_mix_log *l, const char *name, double last_step, struct df_err *err)
{
	static const enum df_mix_field fields[] = { DF_MIXLOG_WEIGHTS, DF_MIXLOG_EXCESS, DF_MIXLOG_LOSS };
	const struct shown shown = choose_domains(l);
	int rc;

	DF_TRY(plot_proportions(p, l, &shown, name, last_step, err));
	for (size_t i = 0; i < 3; i++)
		if (l->has_field[fields[i]])
			DF_TRY(plot_field(p, l, fields[i], &shown, name, err));
out:
	return rc;
}

/* ---- weights */

/* Least, 10 %, half, 90 % and largest weight of each line, and the mean. */
static int
plot_spread(struct df_picture *p, const struct df_weight_log *l, const char *name, struct df_err *err)
{
	static const struct {
		const char *name;
		int color;
		bool faint;
		double q; /* below 0: the mean */
	} line[] = { { "least and largest", 0, true, 0 }, { NULL, 0, true, 1 }, { "10 % and 90 %", 2, false, 0.1 },
		{ NULL, 2, false, 0.9 }, { "median", 0, false, 0.5 }, { "mean", 1, false, -1 } };
	struct df_chart *c;
	int rc;

	DF_TRY(df_picture_add(p, &c, err));
	DF_TRY(df_asprintf(&c->title, err, "Weights of samples, %s", name));
	DF_TRY(df_asprintf(&c->subtitle, err, "relative to the plain mean, where each is 1%s%s",
	    *l->method ? "; by " : "", l->method));
	DF_TRY(titles(c, "step", "weight", err));
	for (size_t i = 0; i < sizeof(line) / sizeof(line[0]); i++) {
		struct df_series *s;

		DF_TRY(df_chart_add(c, line[i].name, line[i].color, &s, err));
		DF_TRY(df_alloc(&s->x, l->n, sizeof(double), "a curve", err));
		DF_TRY(df_alloc(&s->y, l->n, sizeof(double), "a curve", err));
		s->faint = line[i].faint;
		for (size_t k = 0; k < l->n; k++) {
			const struct df_weight_line *x = &l->line[k];

			if (x->n == 0)
				continue;
			s->x[s->n] = x->step;
			s->y[s->n++] = line[i].q < 0 ? x->mean
			    : line[i].q == 0         ? x->min
			    : line[i].q == 1         ? x->max
						     : df_weight_log_quantile(l, k, k + 1, line[i].q);
		}
	}
out:
	return rc;
}

/* Bins are as wide as the first, as the log has them; the last holds all that is beyond. */
static int
plot_weights(struct df_picture *p, const struct df_weight_log *l, const char *name, struct df_err *err)
{
	const double width = l->edge[1] - l->edge[0];
	struct df_chart *c;
	struct df_series *s;
	double n = 0;
	int rc;

	DF_TRY(plot_spread(p, l, name, err));
	for (size_t k = 0; k < l->n; k++)
		n += l->line[k].n;
	DF_TRY(df_picture_add(p, &c, err));
	DF_TRY(df_asprintf(&c->title, err, "Weights of all samples, %s", name));
	DF_TRY(df_asprintf(&c->subtitle, err, "%.0f samples to step %.0f; the last bar: %g and more", n,
	    l->line[l->n - 1].step, l->edge[l->n_edges - 1]));
	DF_TRY(titles(c, "weight", "samples", err));
	c->look = DF_CHART_BARS;
	c->n_bins = l->n_edges;
	c->x0 = l->edge[0];
	c->x1 = l->edge[0] + width * (double)l->n_edges;
	DF_TRY(df_chart_add(c, NULL, 0, &s, err));
	DF_TRY(df_alloc(&s->y, l->n_edges, sizeof(double), "a chart", err));
	for (size_t k = 0; k < l->n; k++)
		for (size_t b = 0; b < l->n_edges; b++)
			s->y[b] += l->count[k * l->n_edges + b];
	s->n = l->n_edges;
out:
	return rc;
}

/* ---- all of it */

static int
plot_run(struct df_picture *p, const struct df_run_logs *r, const char *name, struct df_err *err)
{
	int rc = DF_OK;

	if (r->losses.has)
		DF_TRY(plot_losses(p, &r->losses, name, err));
	if (r->mix.n > 0)
		DF_TRY(plot_mixture(p, &r->mix, name, r->losses.last_step, err));
	if (r->weight.n > 0)
		DF_TRY(plot_weights(p, &r->weight, name, err));
out:
	return rc;
}

/* The losses of all runs in one chart. */
static int
compare_losses(struct df_picture *p, const struct df_run_logs *r, char *const *names, size_t n, struct df_err *err)
{
	struct df_chart *c;
	int rc;

	DF_TRY(df_picture_add(p, &c, err));
	DF_TRY(df_asprintf(&c->title, err, "Loss of %zu runs", n));
	DF_TRY(df_strdup(&c->subtitle, "pale lines are as logged, the others smoothed; points are evaluations", err));
	DF_TRY(titles(c, "step", "loss (nats per token)", err));
	for (size_t i = 0; i < n; i++)
		DF_TRY(add_losses(c, &r[i].losses, names[i], i, err));
out:
	return rc;
}

int
df_plot_runs(struct df_picture *p, const char *const *paths, size_t n, struct df_err *err)
{
	struct df_run_logs *r = NULL;
	char **names = NULL;
	size_t with_losses = 0;
	int rc;

	DF_TRY(df_alloc(&r, n, sizeof(*r), "logs", err));
	DF_TRY(df_alloc(&names, n, sizeof(*names), "logs", err));
	for (size_t i = 0; i < n; i++) {
		DF_TRY(df_run_logs_read(&r[i], paths[i], err));
		DF_TRY(df_log_short_name(&names[i], paths[i], err));
		with_losses += r[i].losses.has;
	}
	if (n > 1 && with_losses == n)
		DF_TRY(compare_losses(p, r, names, n, err));
	else
		for (size_t i = 0; i < n; i++)
			DF_TRY(plot_run(p, &r[i], names[i], err));
out:
	for (size_t i = 0; i < n; i++) {
		if (r)
			df_run_logs_release(&r[i]);
		if (names)
			free(names[i]);
	}
	free(r);
	free(names);
	return rc;
}

/*
 * plot.c - how an artefact's numbers are distributed, as a chart; and writing pictures.
 */
#include "show/show.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "show/log.h"

#define BINS        48
#define DOMAINS_MAX 7 /* the other domains are drawn as one */

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
	DF_TRY(df_log_short_name(&name, set, err));
	DF_TRY(df_asprintf(&c->title, err, "%c%s of %s", what[0] - 'a' + 'A', what + 1, name));
	DF_TRY(df_asprintf(
	    &c->subtitle, err, "%zu rows%s%s", v->n + v->n_skipped, by_domain ? ", by domain" : "", skipped));
	DF_TRY(df_strdup(&c->xlabel, what, err));
	DF_TRY(df_strdup(&c->ylabel, "rows", err));
out:
	free(name);
	return rc;
}

/* A bar for each domain, as high as its weight: its colour is in the legend. */
static int
plot_domain_weights(struct df_picture *p, struct df_set *s, struct df_err *err)
{
	const struct df_meta *m = df_set_meta(s);
	struct df_summary u = DF_SUMMARY_INIT;
	struct df_chart *c;
	char *name = NULL;
	int rc;

	DF_TRY(df_summary_make(&u, s, err));
	DF_TRY(df_picture_add(p, &c, err));
	DF_TRY(df_log_short_name(&name, df_set_name(s), err));
	DF_TRY(df_asprintf(&c->title, err, "Weights of %s", name));
	DF_TRY(df_asprintf(&c->subtitle, err, "%" PRIu64 " domains", u.rows));
	DF_TRY(df_strdup(&c->xlabel, "domain, in the order of the file", err));
	DF_TRY(df_strdup(&c->ylabel, "weight", err));
	c->look = DF_CHART_BARS;
	c->n_bins = (size_t)u.rows;
	c->x1 = (double)u.rows;
	for (size_t d = 0; d < c->n_bins; d++) {
		/* Where there are too many for colours, all are one series. */
		const bool own = c->n_bins <= DOMAINS_MAX + 1;
		struct df_series *x;

		if (own || d == 0) {
			DF_TRY(df_chart_add(c, own && d < m->n_domains ? m->domains[d] : NULL, (int)d, &x, err));
			DF_TRY(df_alloc(&x->y, c->n_bins, sizeof(double), "a chart", err));
			x->n = c->n_bins;
		}
		c->series[c->n_series - 1].y[d] = isfinite(u.domain_weight[d]) ? fmax(u.domain_weight[d], 0) : 0;
	}
out:
	free(name);
	df_summary_release(&u);
	return rc;
}

int
df_plot_histogram(struct df_picture *p, struct df_set *s, struct df_err *err)
{
	static const char *const what[DF_COL_COUNT] = { [DF_COL_SCORE] = "score",
		[DF_COL_LOSS] = "loss",
		[DF_COL_WEIGHT] = "weight",
		[DF_COL_IDS] = "tokens per sample" };
	const struct df_meta *m = df_set_meta(s);
	struct values v = { NULL, NULL, 0, 0, 0, 0 };
	enum df_col col = column_to_plot(s);
	struct df_chart *c;
	size_t n_series = df_set_has(s, DF_COL_DOMAIN) && m->n_domains > 0 ? m->n_domains : 1, bins = BINS;
	double lo = INFINITY, hi = -INFINITY;
	int rc;

	if (df_set_has(s, DF_COL_DOMAIN_WEIGHT))
		return plot_domain_weights(p, s, err);
	if (col == DF_COL_COUNT)
		return df_fail(err, DF_EUSAGE, "%s: %s have no scores, losses or weights to draw", df_set_name(s),
		    df_kind_name(m->kind));
	DF_TRY(df_picture_add(p, &c, err));
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
	c->look = DF_CHART_BARS;
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
df_plot_write(const struct df_picture *p, const char *path, struct df_err *err)
{
	struct df_atomic a = DF_ATOMIC_INIT;
	struct df_buf b = DF_BUF_INIT;
	int rc;

	if (df_log_name_ends(path, ".svg")) {
		DF_TRY(df_picture_svg(p, &b, err));
		DF_TRY(df_file_put(path, b.data, b.len, err));
	} else if (df_log_name_ends(path, ".png")) {
		DF_TRY(df_atomic_open(&a, path, err));
		DF_TRY(df_picture_gnuplot(p, a.tmp, &b, err));
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

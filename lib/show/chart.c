/*
 * chart.c - pictures of lines, stacked bars or stacked areas, as our own SVG and as commands for gnuplot (which makes
 * the PNG).
 *
 * Both look the same: thin horizontal grid, no box, title above subtitle at the left, a legend in rows below them,
 * colours that the colour-blind can distinguish.  The charts of a picture are below one another.
 */
#include "show/show.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define WIDTH  860.0
#define LEFT   72.0
#define RIGHT  28.0
#define TOP    92.0 /* with one row of the legend */
#define ROW    19.0 /* another one */
#define BOTTOM 56.0
#define ALONE  480.0 /* the height of the only chart of a picture */
#define ONE_OF 360.0 /* of one of several */

static const char *const palette[] = { "#3b6fd4", "#f28e2b", "#2ca58d", "#c8477f", "#8b63c9", "#8a8f98", "#b58900",
	"#56b4e9" };
#define N_COLORS ((int)(sizeof(palette) / sizeof(palette[0])))

/* A faint colour is mixed with white, not transparent: every renderer can show that. */
struct rgb {
	char hex[8];
};

static struct rgb
color(const struct df_series *s)
{
	const char *p = palette[s->color % N_COLORS];
	unsigned r, g, b;
	struct rgb c;

	snprintf(c.hex, sizeof(c.hex), "%s", p);
	if (s->faint && sscanf(p, "#%2x%2x%2x", &r, &g, &b) == 3)
		snprintf(c.hex, sizeof(c.hex), "#%02x%02x%02x", (unsigned char)(255 - (255 - r) * 2 / 5),
		    (unsigned char)(255 - (255 - g) * 2 / 5), (unsigned char)(255 - (255 - b) * 2 / 5));
	return c;
}

void
df_picture_release(struct df_picture *p)
{
	for (size_t i = 0; i < p->n; i++)
		df_chart_release(&p->chart[i]);
	free(p->chart);
	*p = (struct df_picture)DF_PICTURE_INIT;
}

int
df_picture_add(struct df_picture *p, struct df_chart **out, struct df_err *err)
{
	int rc;

	DF_TRY(df_grow(&p->chart, &p->cap, p->n + 1, sizeof(*p->chart), "a picture", err));
	p->chart[p->n] = (struct df_chart)DF_CHART_INIT;
	*out = &p->chart[p->n++];
out:
	return rc;
}

void
df_chart_release(struct df_chart *c)
{
	for (size_t i = 0; i < c->n_series; i++) {
		free(c->series[i].name);
		free(c->series[i].x);
		free(c->series[i].y);
	}
	free(c->series);
	free(c->title);
	free(c->subtitle);
	free(c->xlabel);
	free(c->ylabel);
	*c = (struct df_chart)DF_CHART_INIT;
}

int
df_chart_add(struct df_chart *c, const char *name, int color_index, struct df_series **out, struct df_err *err)
{
	char *copy = NULL;
	int rc;

	if (name)
		DF_TRY(df_strdup(&copy, name, err));
	DF_TRY(df_grow(&c->series, &c->cap_series, c->n_series + 1, sizeof(*c->series), "a chart", err));
	c->series[c->n_series] = (struct df_series){ .name = copy, .color = color_index };
	*out = &c->series[c->n_series++];
	return DF_OK;
out:
	free(copy);
	return rc;
}

/* Ticks at round numbers, at most `most`: *first, *step, and how many. */
static void
ticks(double lo, double hi, int most, double *first, double *step, int *n)
{
	double span = hi > lo ? hi - lo : 1, raw = span / most, unit = pow(10, floor(log10(raw)));
	double m = raw / unit;

	*step = unit * (m <= 1 ? 1 : m <= 2 ? 2 : m <= 5 ? 5 : 10);
	*first = ceil(lo / *step - 1e-9) * *step;
	*n = (int)floor((hi - *first) / *step + 1e-9) + 1;
}

/* The width of text in characters of a proportional font, for placing what comes after it. */
static double
text_width(const char *s)
{
	double w = 0;

	for (; *s; s++)
		w += (*s & 0xc0) == 0x80 ? 3.4 : strchr("iljtf.,:;'| ()[]", *s) ? 3.9 : strchr("mwMW", *s) ? 10.4 : 7.1;
	return w;
}

/* Where the legend's next entry goes, and where the one after it would: a new row when it does not fit. */
struct pen {
	double x, y;
};

static struct pen
legend_place(struct pen *next, const char *name)
{
	const double w = 22 + text_width(name);
	struct pen at = *next;

	if (at.x > LEFT && at.x + w > WIDTH - RIGHT)
		at = (struct pen){ LEFT, at.y + ROW };
	*next = (struct pen){ at.x + w + 20, at.y };
	return at;
}

static int
legend_rows(const struct df_chart *c)
{
	struct pen next = { LEFT, 0 }, at = next;

	for (size_t i = 0; i < c->n_series; i++)
		if (c->series[i].name)
			at = legend_place(&next, c->series[i].name);
	return 1 + (int)(at.y / ROW + 0.5);
}

/* The rectangle of the data: x from the points or bins, y with a small margin; what is stacked starts at 0. */
struct frame {
	double x0, x1, y0, y1;
	double height, top; /* of the chart; where the rectangle begins */
};

static double
highest_stack(const struct df_chart *c)
{
	double most = 0;

	for (size_t b = 0; b < c->n_bins; b++) {
		double sum = 0;

		for (size_t i = 0; i < c->n_series; i++)
			sum += c->series[i].y[b];
		most = fmax(most, sum);
	}
	return most;
}

static struct frame
frame_of(const struct df_chart *c, double height)
{
	struct frame f = { DBL_MAX, -DBL_MAX, DBL_MAX, -DBL_MAX, height, TOP + ROW * (legend_rows(c) - 1) };

	if (c->look != DF_CHART_LINES) {
		const double most = highest_stack(c);

		f.x0 = c->x0;
		f.x1 = c->x1;
		f.y0 = 0;
		/* Areas fill the rectangle: their sum is the same everywhere. */
		f.y1 = most > 0 ? most * (c->look == DF_CHART_AREAS ? 1 : 1.04) : 1;
		return f;
	}
	for (size_t i = 0; i < c->n_series; i++) {
		const struct df_series *s = &c->series[i];

		for (size_t k = 0; k < s->n; k++) {
			f.x0 = fmin(f.x0, s->x[k]);
			f.x1 = fmax(f.x1, s->x[k]);
			f.y0 = fmin(f.y0, s->y[k]);
			f.y1 = fmax(f.y1, s->y[k]);
		}
	}
	if (f.x0 > f.x1)
		return (struct frame){ 0, 1, 0, 1, f.height, f.top };
	if (f.x0 == f.x1)
		f.x0 -= 1;
	/* A curve that comes near zero is shown with zero in view. */
	double air = f.y1 > f.y0 ? 0.06 * (f.y1 - f.y0) : 0.5;
	f.y0 = f.y0 >= 0 && f.y0 < 0.35 * f.y1 ? 0 : f.y0 - air;
	f.y1 += air;
	return f;
}

static double
px(const struct frame *f, double x)
{
	return LEFT + (x - f->x0) / (f->x1 - f->x0) * (WIDTH - LEFT - RIGHT);
}

static double
py(const struct frame *f, double y)
{
	return f->height - BOTTOM - (y - f->y0) / (f->y1 - f->y0) * (f->height - f->top - BOTTOM);
}

/* Text with XML's own characters escaped; control characters are dropped, as XML does not allow them. */
static void
xml(struct df_buf *out, const char *s)
{
	for (; s && *s; s++) {
		switch (*s) {
		case '&': df_buf_puts(out, "&amp;"); break;
		case '<': df_buf_puts(out, "&lt;"); break;
		case '>': df_buf_puts(out, "&gt;"); break;
		case '"': df_buf_puts(out, "&quot;"); break;
		default: df_buf_putc(out, (unsigned char)*s < 0x20 ? ' ' : *s);
		}
	}
}

/* Attributes, not a style sheet: simple renderers do not read style sheets. */
#define TITLE  "font-size=\"19\" font-weight=\"600\" fill=\"#16181d\""
#define SUB    "font-size=\"13\" fill=\"#6a707c\""
#define LEGEND "font-size=\"13\" fill=\"#30343c\""
#define LABEL  "font-size=\"13\" fill=\"#4a4f59\" text-anchor=\"middle\""
#define TICK_X "font-size=\"12\" fill=\"#6a707c\" text-anchor=\"middle\""
#define TICK_Y "font-size=\"12\" fill=\"#6a707c\" text-anchor=\"end\""
#define GRID   "#e7e9ee"
#define AXIS   "#8a8f98"

static void
text(struct df_buf *out, double x, double y, const char *look, const char *s)
{
	df_buf_printf(out, "<text x=\"%.1f\" y=\"%.1f\" stroke=\"none\" %s>", x, y, look);
	xml(out, s);
	df_buf_puts(out, "</text>\n");
}

static void
line(struct df_buf *out, double x1, double y1, double x2, double y2, const char *stroke)
{
	df_buf_printf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-width=\"1\"/>\n",
	    x1, y1, x2, y2, stroke);
}

static void
svg_axes(const struct df_chart *c, const struct frame *f, struct df_buf *out)
{
	double first, step, bottom = f->height - BOTTOM;
	char label[32];
	int n;

	ticks(f->y0, f->y1, 6, &first, &step, &n);
	for (int i = 0; i < n; i++) {
		double v = first + i * step, y = py(f, v);

		line(out, LEFT, y, WIDTH - RIGHT, y, GRID);
		snprintf(label, sizeof(label), "%.6g", fabs(v) < step * 1e-9 ? 0.0 : v);
		text(out, LEFT - 10, y + 4, TICK_Y, label);
	}
	ticks(f->x0, f->x1, 9, &first, &step, &n);
	for (int i = 0; i < n; i++) {
		double v = first + i * step, x = px(f, v);

		line(out, x, bottom, x, bottom + 5, AXIS);
		snprintf(label, sizeof(label), "%.6g", fabs(v) < step * 1e-9 ? 0.0 : v);
		text(out, x, bottom + 20, TICK_X, label);
	}
	text(out, (LEFT + WIDTH - RIGHT) / 2, f->height - 14, LABEL, c->xlabel);
	df_buf_printf(out, "<text transform=\"translate(20 %.1f) rotate(-90)\" stroke=\"none\" %s>",
	    (f->top + bottom) / 2, LABEL);
	xml(out, c->ylabel);
	df_buf_puts(out, "</text>\n");
}

static void
dot(struct df_buf *out, double x, double y, const char *stroke)
{
	df_buf_printf(out,
	    "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.4\" fill=\"#fff\" stroke=\"%s\" stroke-width=\"2\"/>\n", x, y,
	    stroke);
}

static void
svg_legend(const struct df_chart *c, struct df_buf *out)
{
	struct pen next = { LEFT, 66 };

	for (size_t i = 0; i < c->n_series; i++) {
		const struct df_series *s = &c->series[i];
		struct pen at;

		if (s->name == NULL)
			continue;
		at = legend_place(&next, s->name);
		if (c->look != DF_CHART_LINES)
			df_buf_printf(out,
			    "<rect x=\"%.1f\" y=\"%g\" width=\"11\" height=\"11\" rx=\"2\" "
			    "fill=\"%s\" stroke=\"none\"/>\n",
			    at.x + 3, at.y, color(s).hex);
		else
			df_buf_printf(out,
			    "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" "
			    "stroke=\"%s\" stroke-width=\"2.6\"/>\n",
			    at.x, at.y + 5.5, at.x + 16, at.y + 5.5, color(s).hex);
		if (s->dots)
			dot(out, at.x + 8, at.y + 5.5, color(s).hex);
		text(out, at.x + 22, at.y + 10, LEGEND, s->name);
	}
}

static void
svg_line(const struct df_series *s, const struct frame *f, struct df_buf *out)
{
	df_buf_printf(out,
	    "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%s\" stroke-linejoin=\"round\" "
	    "stroke-linecap=\"round\" points=\"",
	    color(s).hex, s->faint ? "1" : "2.4");
	for (size_t k = 0; k < s->n; k++)
		df_buf_printf(out, "%s%.1f,%.1f", k ? " " : "", px(f, s->x[k]), py(f, s->y[k]));
	df_buf_puts(out, "\"/>\n");
	for (size_t k = 0; s->dots && k < s->n; k++)
		dot(out, px(f, s->x[k]), py(f, s->y[k]), color(s).hex);
}

static void
svg_bars(const struct df_chart *c, const struct frame *f, struct df_buf *out)
{
	double w = (WIDTH - LEFT - RIGHT) / (double)(c->n_bins ? c->n_bins : 1), gap = w > 6 ? 1.2 : 0.3;

	for (size_t b = 0; b < c->n_bins; b++) {
		double base = 0;

		for (size_t i = 0; i < c->n_series; i++) {
			double h = c->series[i].y[b];

			if (h > 0)
				df_buf_printf(out,
				    "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" "
				    "fill=\"%s\" stroke=\"none\"/>\n",
				    LEFT + (double)b * w + gap / 2, py(f, base + h), w - gap,
				    py(f, base) - py(f, base + h), color(&c->series[i]).hex);
			base += h;
		}
	}
}

/* A band holds from its step to the next one's, and the last to x1. */
static void
svg_areas(const struct df_chart *c, const struct frame *f, double *base, struct df_buf *out)
{
	for (size_t i = 0; i < c->n_series; i++) {
		const struct df_series *s = &c->series[i];

		df_buf_printf(out, "<polygon fill=\"%s\" stroke=\"#fff\" stroke-width=\"0.6\" points=\"", color(s).hex);
		for (size_t k = 0; k < c->n_bins; k++) {
			const double to = k + 1 < c->n_bins ? s->x[k + 1] : c->x1, y = py(f, base[k] + s->y[k]);

			df_buf_printf(out, "%s%.1f,%.1f %.1f,%.1f", k ? " " : "", px(f, s->x[k]), y, px(f, to), y);
		}
		for (size_t k = c->n_bins; k-- > 0;) {
			const double to = k + 1 < c->n_bins ? s->x[k + 1] : c->x1, y = py(f, base[k]);

			df_buf_printf(out, " %.1f,%.1f %.1f,%.1f", px(f, to), y, px(f, s->x[k]), y);
			base[k] += s->y[k];
		}
		df_buf_puts(out, "\"/>\n");
	}
}

static int
svg_chart(const struct df_chart *c, double height, struct df_buf *out, struct df_err *err)
{
	struct frame f = frame_of(c, height);
	double *base = NULL;
	int rc;

	DF_TRY(df_alloc(&base, c->n_bins, sizeof(*base), "a chart", err));
	text(out, LEFT, 30, TITLE, c->title);
	text(out, LEFT, 50, SUB, c->subtitle);
	svg_legend(c, out);
	svg_axes(c, &f, out);
	if (c->look == DF_CHART_BARS)
		svg_bars(c, &f, out);
	else if (c->look == DF_CHART_AREAS)
		svg_areas(c, &f, base, out);
	/* Faint lines are drawn first, below the others. */
	for (int faint = 1; faint >= 0 && c->look == DF_CHART_LINES; faint--)
		for (size_t i = 0; i < c->n_series; i++)
			if (c->series[i].faint == faint && c->series[i].n > 0)
				svg_line(&c->series[i], &f, out);
	line(out, LEFT, f.height - BOTTOM, WIDTH - RIGHT, f.height - BOTTOM, AXIS);
out:
	free(base);
	return rc;
}

static double
height_of(const struct df_picture *p)
{
	return p->n > 1 ? ONE_OF : ALONE;
}

int
df_picture_svg(const struct df_picture *p, struct df_buf *out, struct df_err *err)
{
	const double h = height_of(p), all = h * (double)p->n;
	int rc;

	df_buf_printf(out,
	    "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
	    "font-family=\"Helvetica Neue, Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif\">\n"
	    "<rect width=\"%.0f\" height=\"%.0f\" fill=\"#fff\" stroke=\"none\"/>\n",
	    WIDTH, all, WIDTH, all, WIDTH, all);
	for (size_t i = 0; i < p->n; i++) {
		df_buf_printf(out, "<g transform=\"translate(0 %.0f)\">\n", h * (double)i);
		DF_TRY(svg_chart(&p->chart[i], h, out, err));
		df_buf_puts(out, "</g>\n");
	}
	df_buf_puts(out, "</svg>\n");
	DF_TRY(df_buf_check(out, err));
out:
	return rc;
}

/* ---- gnuplot */

/* A string in gnuplot's double quotes; characters of enhanced text become plain. */
static void
quoted(struct df_buf *out, const char *s)
{
	df_buf_putc(out, '"');
	for (; s && *s; s++) {
		if (*s == '"' || *s == '\\')
			df_buf_putc(out, '\\');
		df_buf_putc(out, (unsigned char)*s < 0x20 || *s == '`' ? ' ' : *s);
	}
	df_buf_putc(out, '"');
}

/* base [n_bins]: where the series is stacked. */
static void
gnuplot_data(const struct df_chart *c, const struct df_series *s, const double *base, struct df_buf *out)
{
	double w = c->look == DF_CHART_BARS ? (c->x1 - c->x0) / (double)(c->n_bins ? c->n_bins : 1) : 0;

	for (size_t k = 0; k < s->n; k++) {
		if (c->look == DF_CHART_BARS) {
			df_buf_printf(out, "%.9g %.9g %.9g %.9g\n", c->x0 + ((double)k + 0.04) * w, base[k],
			    c->x0 + ((double)k + 0.96) * w, base[k] + s->y[k]);
		} else if (c->look == DF_CHART_AREAS) {
			df_buf_printf(out, "%.9g %.9g %.9g\n", s->x[k], base[k], base[k] + s->y[k]);
			df_buf_printf(
			    out, "%.9g %.9g %.9g\n", k + 1 < s->n ? s->x[k + 1] : c->x1, base[k], base[k] + s->y[k]);
		} else {
			df_buf_printf(out, "%.9g %.9g\n", s->x[k], s->y[k]);
		}
	}
	df_buf_puts(out, "e\n");
}

static void
gnuplot_look(const struct df_chart *c, const struct df_series *s, struct df_buf *out)
{
	if (c->look == DF_CHART_BARS)
		df_buf_printf(
		    out, "'-' using 1:2:1:3:2:4 with boxxyerror fs solid noborder lc rgb \"%s\"", color(s).hex);
	else if (c->look == DF_CHART_AREAS)
		df_buf_printf(out, "'-' using 1:2:3 with filledcurves fs solid noborder lc rgb \"%s\"", color(s).hex);
	else
		df_buf_printf(out, "'-' with %s lw %s lc rgb \"%s\"%s", s->dots ? "linespoints" : "lines",
		    s->faint ? "1" : "3", color(s).hex, s->dots ? " pt 7 ps 1.1" : "");
	if (s->name) {
		df_buf_puts(out, " title ");
		quoted(out, s->name);
	} else {
		df_buf_puts(out, " notitle");
	}
}

/* The same places as in the SVG: fractions of a picture of height `all`, in which the chart begins at `at`. */
static void
gnuplot_frame(const struct df_chart *c, const struct frame *f, double at, double all, struct df_buf *out)
{
	df_buf_printf(out,
	    "set lmargin screen %.4f\nset rmargin screen %.4f\nset tmargin screen %.4f\nset bmargin screen %.4f\n",
	    LEFT / WIDTH, 1 - RIGHT / WIDTH, 1 - (at + f->top) / all, 1 - (at + f->height - BOTTOM) / all);
	df_buf_puts(out, "set label 1 ");
	quoted(out, c->title);
	df_buf_printf(out, " at screen %.4f,%.4f left font \"sans,19\" tc rgb \"#16181d\"\nset label 2 ", LEFT / WIDTH,
	    1 - (at + 24) / all);
	quoted(out, c->subtitle);
	df_buf_printf(out, " at screen %.4f,%.4f left tc rgb \"#6a707c\"\n", LEFT / WIDTH, 1 - (at + 47) / all);
	df_buf_printf(out,
	    "set key at screen %.4f,%.4f left center horizontal Left reverse samplen 1.6 tc rgb \"#30343c\"\n"
	    "set xlabel ",
	    LEFT / WIDTH, 1 - (at + 71 + (f->top - TOP) / 2) / all);
	quoted(out, c->xlabel);
	df_buf_puts(out, " tc rgb \"#4a4f59\"\nset ylabel ");
	quoted(out, c->ylabel);
	df_buf_printf(out,
	    " tc rgb \"#4a4f59\"\nset xrange [%.9g:%.9g]\nset yrange [%.9g:%.9g]\nset border 1 lc rgb \"" AXIS "\"\n"
	    "set tics nomirror scale 0.5 textcolor rgb \"#6a707c\"\nset grid ytics lt 1 lc rgb \"" GRID "\"\n",
	    f->x0, f->x1, f->y0, f->y1);
}

static int
gnuplot_chart(const struct df_chart *c, double at, double height, double all, struct df_buf *out, struct df_err *err)
{
	const bool lines = c->look == DF_CHART_LINES;
	struct frame f = frame_of(c, height);
	const char *before = "plot ";
	double *base = NULL;
	int rc;

	DF_TRY(df_alloc(&base, c->n_bins, sizeof(*base), "a chart", err));
	gnuplot_frame(c, &f, at, all, out);
	for (size_t i = 0; i < c->n_series; i++) {
		if (lines && c->series[i].n == 0)
			continue;
		df_buf_puts(out, before);
		gnuplot_look(c, &c->series[i], out);
		before = ", ";
	}
	df_buf_putc(out, '\n');
	for (size_t i = 0; i < c->n_series; i++) {
		const struct df_series *s = &c->series[i];

		if (lines && s->n == 0)
			continue;
		gnuplot_data(c, s, base, out);
		for (size_t k = 0; !lines && k < c->n_bins; k++)
			base[k] += s->y[k];
	}
out:
	free(base);
	return rc;
}

int
df_picture_gnuplot(const struct df_picture *p, const char *png, struct df_buf *out, struct df_err *err)
{
	const double h = height_of(p), all = h * (double)p->n;
	int rc;

	df_buf_printf(out,
	    "set terminal pngcairo noenhanced font \"sans,13\" size %.0f,%.0f background rgb \"white\"\nset output ",
	    WIDTH * 1.5, all * 1.5);
	quoted(out, png);
	df_buf_puts(out, "\nset multiplot\n");
	for (size_t i = 0; i < p->n; i++)
		DF_TRY(gnuplot_chart(&p->chart[i], h * (double)i, h, all, out, err));
	df_buf_puts(out, "unset multiplot\n");
	DF_TRY(df_buf_check(out, err));
out:
	return rc;
}

/*
 * show.h - looking inside: summaries, lineage, single samples, pictures.
 *
 * Everything becomes text in a df_buf; df-show prints it.  Sets are read once from front to back, so
 * streams can be shown too.
 */
#ifndef DF_SHOW_SHOW_H
#define DF_SHOW_SHOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "chat/template.h"
#include "shard/shard.h"
#include "token/tokenizer.h"

/* ---- summaries: summary.c, print.c -------------------------------------- */

/* Of a column's finite entries. */
struct df_col_stats {
	uint64_t n, nan; /* all entries; those that are NaN or infinite */
	double min, max, mean;
};

struct df_domain_stats {
	uint64_t rows, tokens, targets; /* tokens and targets: of kind tokens, and n_tokens of other kinds */
	double loss;                    /* mean over its rows with a loss; NaN if there are none */
	uint64_t n_loss;
};

struct df_summary {
	uint64_t rows;
	struct df_col_stats col[DF_COL_COUNT];
	struct df_col_stats length[DF_COL_COUNT]; /* of the rows of ragged columns */
	struct df_col_stats targets;              /* per row, kind tokens */
	struct df_domain_stats *domain;           /* [n_domains]; NULL when rows carry no domain */
	size_t n_domains;
	double *domain_weight; /* [rows] of kind weights; NULL when they are of samples */
	size_t cap_weight;
};
#define DF_SUMMARY_INIT { .rows = 0 }

/* Reads the whole set.  DF_EFORMAT when a row's domain is not in the list. */
int df_summary_make(struct df_summary *out, struct df_set *s, struct df_err *err) DF_MUST_CHECK;
void df_summary_release(struct df_summary *u);
/* Aligned text, for people; or one line of JSON, for programs. */
int df_summary_text(
    const struct df_summary *u, const struct df_set *s, struct df_buf *out, struct df_err *err) DF_MUST_CHECK;
int df_summary_json(
    const struct df_summary *u, const struct df_set *s, struct df_buf *out, struct df_err *err) DF_MUST_CHECK;

/* ---- lineage: lineage.c ------------------------------------------------- */

/*
 * The tree of inputs that `path` was made from.  Inputs are known by their ids; their file names are
 * found by looking among `others` and in the directories of the files themselves. json: one line, nested.
 */
int df_lineage(const char *path, const char *const *others, size_t n_others, bool json, struct df_buf *out,
    struct df_err *err) DF_MUST_CHECK;

/* ---- a sample: decode.c ------------------------------------------------- */

/*
 * Append the text of a row in runs of prompt and target (and, in a packed row, of one example), then
 * its ids and the text of each of them, targets marked with *. `position` marks a packed row (it
 * starts again in each example); NULL: the row is not packed.
 */
struct df_row_view {
	const uint32_t *ids, *position;
	const uint8_t *mask;
	size_t n;
};
int df_decode_row(const struct df_tokenizer *t, const struct df_row_view *row, struct df_buf *out,
    struct df_err *err) DF_MUST_CHECK;
/* The same of a row that is not written yet, after a line that says which it is, where it is from and what it has. */
int df_preview_row(const struct df_tokenizer *t, const struct df_row_view *row, uint64_t number, const char *dataset,
    uint64_t source_row, struct df_buf *out, struct df_err *err) DF_MUST_CHECK;

/*
 * The sample with this id: its source, its text with targets marked, its ids with targets marked.  DF_EUSAGE when
 * the set has no such id.  `tokenizer` may be NULL: then it is bytes, if the set was made with that.  `template`
 * may be NULL; otherwise it is the template that added tokens to the tokenizer, for sets that do not record it.
 */
int df_decode(struct df_set *tokens, uint64_t id, const char *tokenizer, const char *template, bool json,
    struct df_buf *out, struct df_err *err) DF_MUST_CHECK;

/*
 * Samples of tokens, each as one line: the end of its prompt, and the beginning of its target.  DF_EUSAGE when the
 * tokenizer is needed and not given; otherwise as df_decode().
 */
struct df_line_reader;
struct df_line {
	uint64_t rows;      /* of the tokens */
	const char *domain; /* of the sample; borrowed from the reader; NULL: not recorded */
	uint64_t source_row;
	bool has_row;
};
int df_line_reader_open(struct df_line_reader **out, const char *path, const char *tokenizer, const char *template,
    struct df_err *err) DF_MUST_CHECK;
/* Append the line of a sample.  DF_EUSAGE when there is none with this id. */
int df_line_read(struct df_line_reader *r, uint64_t id, struct df_line *line, struct df_buf *out, struct df_err *err)
    DF_MUST_CHECK;
void df_line_reader_close(struct df_line_reader *r); /* accepts NULL */

/* ---- why a sample was chosen, or not: why*.c --------------------------- */

/*
 * What the files say about the sample's choice: files[0] is the index; the others, and those beside them, are used
 * where the lineage says that they belong to it.  DF_EUSAGE when the sample does not exist.  json: one line.
 */
int df_why(const char *const *files, size_t n_files, uint64_t id, const char *tokenizer, const char *template,
    bool json, struct df_buf *out, struct df_err *err) DF_MUST_CHECK;

/* ---- pictures: plot.c, plot_run.c, chart.c ------------------------------ */

struct df_series {
	char *name;       /* in the legend; NULL: none */
	int color;        /* into the palette */
	bool faint, dots; /* a pale thin line; points on the line */
	double *x, *y;    /* [n]; bars: y only, [n_bins] */
	size_t n;         /* of lines and areas */
};
enum df_chart_look {
	DF_CHART_LINES,
	DF_CHART_BARS, /* stacked, over n_bins bins of equal width from x0 to x1 */
	DF_CHART_AREAS /* stacked: y[k] holds from x[k] to x[k + 1], the last to x1; all have the same x [n_bins] */
};
struct df_chart {
	char *title, *subtitle, *xlabel, *ylabel;
	enum df_chart_look look;
	double x0, x1;
	size_t n_bins;
	struct df_series *series;
	size_t n_series, cap_series;
};
#define DF_CHART_INIT { NULL, NULL, NULL, NULL, DF_CHART_LINES, 0, 0, 0, NULL, 0, 0 }
void df_chart_release(struct df_chart *c);
int df_chart_add(
    struct df_chart *c, const char *name, int color, struct df_series **out, struct df_err *err) DF_MUST_CHECK;

/* Charts below one another. */
struct df_picture {
	struct df_chart *chart;
	size_t n, cap;
};
#define DF_PICTURE_INIT { NULL, 0, 0 }
void df_picture_release(struct df_picture *p);
/* Add an empty chart: *out, which is good until the next one. */
int df_picture_add(struct df_picture *p, struct df_chart **out, struct df_err *err) DF_MUST_CHECK;
/* The picture as SVG text; or as commands for gnuplot that write a PNG to `png`. */
int df_picture_svg(const struct df_picture *p, struct df_buf *out, struct df_err *err) DF_MUST_CHECK;
int df_picture_gnuplot(const struct df_picture *p, const char *png, struct df_buf *out, struct df_err *err)
    DF_MUST_CHECK;

/*
 * What a run logged.  One path: the losses, by dataset where they were evaluated so; the proportions of a mixture, with
 * weights and losses of its domains; how the weights of samples are distributed.  Several directories: their losses in
 * one chart, a colour for each; of files all that they have.
 */
int df_plot_runs(struct df_picture *p, const char *const *paths, size_t n, struct df_err *err) DF_MUST_CHECK;
/* The distribution of an artefact's scores (else losses, weights, or row lengths), by domain; or domains' weights. */
int df_plot_histogram(struct df_picture *p, struct df_set *s, struct df_err *err) DF_MUST_CHECK;
/* Write it to `path`, .svg or .png (DF_EUNSUPPORTED without gnuplot), as a whole or not at all. */
int df_plot_write(const struct df_picture *p, const char *path, struct df_err *err) DF_MUST_CHECK;

/* ---- logs of runs: log*.c ----------------------------------------------- */

/* Is this a log of df-train, or a directory with one? */
bool df_is_run(const char *path);
/* What the logs say as text: steps, first and last losses; proportions; weights.  json: one line. */
int df_run_text(const char *path, bool json, struct df_buf *out, struct df_err *err) DF_MUST_CHECK;

#endif

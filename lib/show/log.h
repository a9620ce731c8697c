/*
 * log.h - the logs that df-train writes in its output_dir, read for text and pictures (private to this room).
 *
 *	trainer_log.jsonl, trainer_state.json   losses
 *	mixture_log.jsonl                       proportions of the domains, and what the mixer saw
 *	weight_log.jsonl                        how the weights of samples are distributed
 *
 * A file of lines is known by its first line, not by its name.  Every fault is DF_EFORMAT with file and line; a last
 * line that a kill cut short is none.  A step that comes again replaces the lines from it on: the run was resumed.
 */
#ifndef DF_SHOW_LOG_H
#define DF_SHOW_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

/* ---- losses: log_loss.c -------------------------------------------------- */

struct df_curve {
	char *name; /* of a dataset; NULL: of all */
	double *step, *value;
	size_t n, cap_step, cap_value;
};

struct df_loss_log {
	struct df_curve loss, eval;
	struct df_curve *each; /* [n_each] evaluation losses of datasets, in the order of the log */
	size_t n_each, cap_each;
	double last_step, total_steps; /* total: 0 when not known */
	bool has;
};

/* ---- mixtures: log_mix.c ------------------------------------------------- */

/* What lines have by domain. */
enum df_mix_field {
	DF_MIXLOG_PROPORTIONS, /* of the rows from this step on; every line has them */
	DF_MIXLOG_WEIGHTS,     /* of the losses (DoReMi's alpha) */
	DF_MIXLOG_EXCESS,      /* loss over the reference's (DoReMi's lambda) */
	DF_MIXLOG_LOSS,        /* since the line before */
	DF_MIXLOG_TARGETS,     /* since the line before */
	DF_MIXLOG_FIELDS
};

struct df_mix_log {
	char *method, **domain;
	size_t n_domains;
	double *step;                     /* [n] rising */
	double *field[DF_MIXLOG_FIELDS];  /* [n x n_domains], NaN where a line has none */
	bool has_field[DF_MIXLOG_FIELDS]; /* a line has a number of it */
	size_t n, cap_step, cap[DF_MIXLOG_FIELDS];
};

/* ---- weights: log_weight.c ----------------------------------------------- */

/* A line of weight_log.jsonl: the weights since the line before, relative to the plain mean. */
struct df_weight_line {
	double step, n, min, mean, max, effective; /* effective: samples; NaN if not said */
};

struct df_weight_log {
	char *method;
	double *edge; /* [n_edges] of the histogram, rising */
	size_t n_edges;
	struct df_weight_line *line; /* [n] steps rising */
	double *count;               /* [n x n_edges]: from each edge to the next, and from the last one on */
	size_t n, cap_line, cap_count;
};

/* ---- a run: log.c --------------------------------------------------------- */

struct df_run_logs {
	struct df_loss_log losses;
	struct df_mix_log mix;       /* n == 0: none */
	struct df_weight_log weight; /* n == 0: none */
};
#define DF_RUN_LOGS_INIT { .losses = { .last_step = 0 } }
/* `path`: a log, or a directory with logs, of which all are read.  DF_ENOINPUT when there is none. */
int df_run_logs_read(struct df_run_logs *r, const char *path, struct df_err *err) DF_MUST_CHECK;
void df_run_logs_release(struct df_run_logs *r);

/* Take one line, or one entry of log_history. */
int df_loss_log_take(struct df_loss_log *l, const struct df_json_value *line, struct df_err *err) DF_MUST_CHECK;
int df_mix_log_take(struct df_mix_log *l, const struct df_json_value *line, struct df_err *err) DF_MUST_CHECK;
int df_weight_log_take(struct df_weight_log *l, const struct df_json_value *line, struct df_err *err) DF_MUST_CHECK;
void df_loss_log_release(struct df_loss_log *l);
void df_mix_log_release(struct df_mix_log *l);
void df_weight_log_release(struct df_weight_log *l);

/* Append what they say: text, or the members of a JSON object (`"steps": 10, ...`). */
void df_loss_log_text(const struct df_loss_log *l, const char *name, bool json, struct df_buf *out);
int df_mix_log_text(
    const struct df_mix_log *l, const char *name, bool json, struct df_buf *out, struct df_err *err) DF_MUST_CHECK;
void df_weight_log_text(const struct df_weight_log *l, const char *name, bool json, struct df_buf *out);

/* The weight that a fraction q of all samples of lines [from, to) does not exceed: linear within a bin. */
double df_weight_log_quantile(const struct df_weight_log *l, size_t from, size_t to, double q);

/* ---- shared: log_field.c, log.c -------------------------------------------- */

/* A member that must be a finite number of at least `min`, or null or absent where `may_lack`: then NaN. */
int df_log_number(const struct df_json_value *line, const char *key, double min, bool may_lack, double *out,
    struct df_err *err) DF_MUST_CHECK;
/* A short name for a path: its last part, or the part before when the last is a log's file name. */
bool df_log_name_ends(const char *path, const char *end);
int df_log_short_name(char **out, const char *path, struct df_err *err) DF_MUST_CHECK;

#endif

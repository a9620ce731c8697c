/*
 * target.h - the target of LESS and its relatives: validation projections of each checkpoint, in subtasks, with weights
 * of the checkpoints.
 */
#ifndef DF_SELECT_TARGET_H
#define DF_SELECT_TARGET_H

#include "select/less.h"
#include "select/select.h"
#include "select/subtasks.h"

struct df_target_opts {
	const char *weights, *subtasks; /* --ckpt-weights or NULL, --subtasks */
	int agg, val_agg;               /* indices into df_target_aggs and df_target_val_aggs */
};
#define DF_TARGET_DEFAULTS { .subtasks = "domain" }
extern const char *const df_target_aggs[];     /* "max", "mean", NULL */
extern const char *const df_target_val_aggs[]; /* of enum df_less_val */
enum { DF_TARGET_MAX, DF_TARGET_MEAN };        /* over subtasks; mean: over all validation rows */

/* Rows of a method's option table, whose options have a struct df_target_opts called `field`. */
#define DF_TARGET_OPTS(options_type, field) \
	{ .name = "ckpt-weights", .type = DF_OPT_STR, .value = DF_OPT_AT(options_type, field.weights), .arg = "W,W...", \
	    .help = "learning rate of each checkpoint (default: equal)" }, \
	{ .name = "subtasks", .type = DF_OPT_STR, .value = DF_OPT_AT(options_type, field.subtasks), .arg = "WHAT", \
	    .file = DF_FILE_READ_ANY, .choices = df_subtasks_words, .help = "groups of the target: domain, none, FILE" }, \
	{ .name = "agg", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(options_type, field.agg), .choices = df_target_aggs, \
	    .help = "best subtask, or mean over target rows" }, \
	{ .name = "val-agg", .type = DF_OPT_CHOICE, .value = DF_OPT_AT(options_type, field.val_agg), \
	    .choices = df_target_val_aggs, .help = "in a subtask" }

/* The options that count: DataFlex takes the mean over all validation rows, and knows no subtasks. */
struct df_target_opts df_target_effective(const struct df_select *in, const struct df_target_opts *o);
/* Can these options be followed, with n checkpoints (0: not known)?  DF_EUSAGE. */
int df_target_check(const struct df_target_opts *o, size_t n, struct df_err *err) DF_MUST_CHECK;

struct df_target {
	const struct df_select *in;
	size_t input;              /* in->sets[input]: a set for each checkpoint */
	struct df_subtasks tasks;
	double *weight;            /* [in->sets[input].n], they sum to 1 */
	enum df_less_val val_agg;
};
/*
 * The subtasks and weights of the sets of an input; their parameters are recorded in m.  Release t also after an error.
 */
int df_target_open(struct df_target *t, const struct df_select *in, size_t input, const struct df_target_opts *o,
    struct df_meta *m, struct df_err *err) DF_MUST_CHECK;
void df_target_release(struct df_target *t);
/*
 * *less = the targets of checkpoint i; df_less_release() it.  DF_EFORMAT for a row that is not finite and for a subtask
 * without rows.
 */
int df_target_read(const struct df_target *t, size_t i, struct df_less *less, struct df_selection *out,
    struct df_err *err) DF_MUST_CHECK;
/* The best of a row's n subtasks; NaN where any is. */
float df_target_best(const double *influence, size_t n);

/* Warn of sets of an input whose gradients are not the loss's own. */
void df_target_expect_losses(const struct df_select *in, size_t input);
/*
 * LESS (less.c): score the rows of input 0, "train", by their influence on input 1, the target, and take the best.  For
 * methods that compare with other gradients of the target.
 */
int df_less_select(const struct df_select *in, const struct df_target_opts *o, struct df_selection *out,
    struct df_err *err) DF_MUST_CHECK;

#endif

/*
 * weigh.h - how much each sample of a step counts: one file per method.
 *
 * A weigher is a const record (struct df_weigher).  Between forward and backward it is given the losses of a group of
 * samples and returns weights w_i; the loss of the step is then sum_i w_i l_i of each group, where l_i is the mean over
 * the targets of sample i, divided by the number of groups in the step.  Weights are constants for the gradient.  What
 * changes with time depends on the step alone, so that a resumed run goes on to the bit.
 *
 * Samples without targets are not in a group, and those whose loss is not finite neither: they weigh 0.
 *
 * A weigher may be in a shared library (weigh/plugin.h).
 *
 * Thread rule: the functions are pure, but for a weigher with open().
 */
#ifndef DF_WEIGH_WEIGH_H
#define DF_WEIGH_WEIGH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/opt.h"

/* How a sample's hidden states become one vector. */
enum df_weigh_pooling {
	DF_WEIGH_POOL_POSITION, /* the weighted mean: state t = 1, 2, .. has weight t */
	DF_WEIGH_POOL_LAST,     /* the last token */
	DF_WEIGH_POOL_TARGETS   /* the mean over the tokens that are targets */
};

/* Which hidden states a weigher looks at, and when those of the anchors, which are the evaluation set, are read. */
struct df_weigh_states {
	enum df_weigh_pooling pooling;
	int64_t layer;   /* states after so many layers; -1: the last, after the final norm */
	uint64_t every;  /* steps, until the anchors are read again, at least 1 */
	bool from_first; /* these steps count from the first weighed one; false: when `every` divides the steps done */
};

struct df_weigh_group {
	size_t n; /* samples, at least 1 */
	const double *loss;        /* [n] mean over its targets, finite */
	const uint32_t *n_targets; /* [n] at least 1 */
	const uint64_t *id;        /* [n] sample ids */
	const uint16_t *domain;    /* [n] */
	const float *given;        /* [n] weights of a file (--weights), or NULL */
	const float *pooled;       /* [n x dim], in evaluation mode, or NULL: no states() */
	const double *anchor;      /* [dim], as anchor_end() made it; NULL without pooled */
	size_t dim;
	uint64_t step;    /* optimizer steps done */
	uint64_t weighed; /* those of them that were weighed */
	void *state;      /* as open() made it, or NULL */
	bool *rough;      /* set it to say that an iteration has not converged */
};

struct df_weigher {
	const char *name, *about;
	bool relative; /* only samples of a group are compared: one alone has weight 1 */
	const void *defaults; /* its options, as of a selection method: a struct, and a table with DF_OPT_AT() values */
	size_t defaults_size;
	const struct df_opt *options; /* NULL: none */
	const struct df_opt_alias *alias; /* DataFlex's names of them; NULL: the same */
	int (*check)(const void *options, struct df_err *err); /* may be NULL.  DF_EUSAGE */
	bool takes_given; /* weights of a file may be given; with other weighers they are refused */
	/* May be NULL: it looks at no hidden states. */
	void (*states)(const void *options, struct df_weigh_states *s);
	/* pooled [n x dim] of the anchor rows, a part of them; sum [dim] is added to.  With states() only. */
	void (*anchor_add)(const void *options, const float *pooled, size_t n, size_t dim, double *sum);
	/* anchor [dim] from the sum over all n anchor rows. */
	void (*anchor_end)(const void *options, const double *sum, uint64_t n, size_t dim, double *anchor);
	/* Something outside of this process that a run keeps open.  Both NULL, as a rule. */
	int (*open)(const void *options, void **state, struct df_err *err);
	void (*close)(void *state);
	/* weight [n]: not negative, finite. */
	int (*weights)(const void *options, const struct df_weigh_group *g, double *weight, struct df_err *err);
};

extern const struct df_weigher *const df_weighers[]; /* NULL-terminated; in registry.c */
/* DF_EUSAGE suggests the nearest. */
int df_weigher_find(const struct df_weigher **out, const char *name, struct df_err *err) DF_MUST_CHECK;

/* w [n] = softmax(w / t), for methods. */
void df_weigh_softmax(double *w, size_t n, double t);

#endif

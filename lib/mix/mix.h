/*
 * mix.h - how much of each domain to train on next: one file per method, and what the methods share.
 *
 * A mixer is a const record (struct df_mixer).  df-train calls it in its loop, df-mix calls the same functions on
 * files.  Its state is an array of doubles, saved in checkpoints as it is, so that a resumed run goes on to the bit.
 * Nothing in a mixer is drawn in sequence: random numbers are addressed by seed and step.
 *
 * In the order of a run: begin() once; then, for each update, update() with what was measured since the last one, and
 * propose() for the proportions of the next rows.  A mixer that is `each_step` is updated after the forward of each
 * optimizer step and weighs that step's losses (DoReMi); others are updated at the events of the run.
 *
 * A mixer may be in a shared library (mix/plugin.h).
 *
 * Thread rule: a mixer's functions are pure but for the state they are given.
 */
#ifndef DF_MIX_MIX_H
#define DF_MIX_MIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/opt.h"

#define DF_MIX_DOMAINS 65536 /* at most: sample/domain is u16 */

/* What was measured of a domain.  Losses are sums over targets; all of them 0: the domain was not seen. */
struct df_mix_sum {
	uint64_t n_targets, n; /* targets; samples with targets */
	double nll;            /* not weighted */
	double excess;         /* sum of max(nll - reference nll, 0), of the targets that count for it */
	uint64_t n_excess;     /* those targets: without the ones that are not finite */
};

struct df_mix_seen {
	size_t n_domains;
	const struct df_mix_sum *sum; /* [n_domains], or NULL: nothing was measured */
	const double *load;           /* [n_domains x n_experts] tokens that went to each expert, or NULL */
	size_t n_experts;
	uint64_t step;  /* optimizer steps done, or in DoReMi the number of the step under way, from 1 */
	uint64_t total; /* optimizer steps of the run; 0: not known */
	char *const *names; /* [n_domains] for messages, or NULL */
};

/* What a mixer needs of a run. */
enum df_mix_need {
	DF_MIX_NEEDS_NOTHING,
	DF_MIX_NEEDS_LOSSES = 1,    /* sums of losses */
	DF_MIX_NEEDS_REFERENCE = 2, /* excess over a reference's losses */
	DF_MIX_NEEDS_LOADS = 4      /* loads of experts on held-out rows */
};

/* As `only` of an option: it is for runs.  df-mix has --proportions for it. */
#define DF_MIX_RUNS_ONLY 1u

struct df_mixer {
	const char *name, *about;
	unsigned needs; /* of enum df_mix_need */
	bool each_step; /* see above */
	const void *defaults; /* its options, as of a selection method: a struct, and a table with DF_OPT_AT() values */
	size_t defaults_size;
	const struct df_opt *options; /* NULL: none */
	const struct df_opt_alias *alias; /* DataFlex's names of them; NULL: the same */
	/* May be NULL.  DF_EUSAGE. */
	int (*check)(const void *options, size_t n_domains, struct df_err *err);
	/* Numbers of its state; may be 0. */
	size_t (*n_state)(size_t n_domains);
	/* p0 [n_domains]: the initial proportions, not negative, of sum 1. */
	int (*begin)(const void *options, const double *p0, size_t n_domains, double *state, struct df_err *err);
	/* May be NULL: nothing is learnt.  A domain whose measurement is not finite is skipped, with a warning. */
	int (*update)(const void *options, double *state, const struct df_mix_seen *seen, struct df_err *err);
	/* p [n_domains]: the proportions of the rows from now on; not negative, of sum 1 within 1e-12. */
	void (*propose)(const void *options, const double *state, size_t n_domains, uint64_t step, double *p);
	/* May be NULL.  weight [n_domains], of sum 1: of the losses of the step (DoReMi's alpha). */
	void (*weigh)(const void *options, const double *state, size_t n_domains, double *weight);
	/* May be NULL: propose() is it.  The proportions that the run found: DoReMi's mean alpha. */
	void (*result)(const void *options, const double *state, size_t n_domains, double *p);
	/* Append the members of its own to a line of the log: `, "name": value` each, arrays by domain.  May be NULL. */
	void (*log)(const void *options, const double *state, size_t n_domains, struct df_buf *out);
};

extern const struct df_mixer *const df_mixers[]; /* NULL-terminated; in registry.c */
/* DF_EUSAGE suggests the nearest. */
int df_mixer_find(const struct df_mixer **out, const char *name, struct df_err *err) DF_MUST_CHECK;

/* ---- shared ------------------------------------------------------------------------------------ */

/*
 * p [n] of "0.5,0.3,0.2" (NULL: all equal), divided by their sum.  `what` names the key in messages.  DF_EUSAGE for
 * another length than n (it says both, and the domains' names if `names` is not NULL), a number below 0, all 0.
 */
int df_mix_proportions(const char *text, const char *what, size_t n, char *const *names, double *p,
    struct df_err *err) DF_MUST_CHECK;
/*
 * Are p [n] proportions: finite, not negative, of sum 1 within 1e-9?  What a mixer says is checked, as it may be the
 * user's.  DF_EFORMAT names the mixer and the domain (`names` may be NULL).
 */
int df_mix_check(const struct df_mixer *m, const double *p, size_t n, char *const *names,
    struct df_err *err) DF_MUST_CHECK;
/*
 * How many of n rows each of K domains gets: by largest remainder, ties to the lower domain.  dataflex: rounded down,
 * and the rest to the last domain.
 */
void df_mix_quotas(const double *p, size_t n_domains, uint64_t n, bool dataflex, uint64_t *quota);

/*
 * The rows of a window.  Each domain has a cursor into an endless sequence of permutations of its rows, so no row comes
 * again before all have come; epoch e of domain i is the race of equal weights (base/permute.h) with tag
 * DF_RNG_MIXTURE_ROWS and substream 1000003 i + e over sample ids.  The drawn rows are then shuffled: a race of their
 * places with DF_RNG_SHUFFLE and the step.  A window is a function of the seed, the step, the cursors and the
 * proportions, so a resumed run draws what an uninterrupted one draws.  Thread rule: one thread at a time.
 */
struct df_drawer;
struct df_drawer_opts {
	uint64_t n_rows;
	const uint64_t *ids;    /* [n_rows] or NULL: row i is sample i; borrowed */
	const uint16_t *domain; /* [n_rows] or NULL: one domain; borrowed */
	const uint8_t *leave;   /* [n_rows] or NULL: 1 = never drawn (held-out rows); borrowed */
	char *const *names;     /* [n_domains] for messages; borrowed */
	size_t n_domains;
	uint64_t seed;
	bool shuffle;           /* false: domain after domain */
	bool dataflex_quota;
	bool iid;               /* rows are drawn independently, with replacement, as DataFlex does */
};
/*
 * Memory: 4 bytes a row, and as much again for rows of domains that are drawn from.  DF_ERANGE: more than UINT32_MAX
 * rows; DF_EFORMAT: a row's domain is not below n_domains.
 */
int df_drawer_new(struct df_drawer **out, const struct df_drawer_opts *o, struct df_err *err) DF_MUST_CHECK;
void df_drawer_free(struct df_drawer *d); /* accepts NULL */
uint64_t df_drawer_rows(const struct df_drawer *d, size_t domain); /* that it can draw from */
/*
 * For proportions that nobody gave, but a mixer found: the shares of domains without rows go to the others, in
 * proportion.  True: p changed; the first time that is a warning.
 */
bool df_drawer_spread(struct df_drawer *d, double *p);
/*
 * rows [n] = the n rows that a window beginning at `step` trains on, with proportions p [n_domains].  cursor
 * [n_domains]: how many rows of each domain were drawn before; it is moved on, unless there is an error.  DF_EUSAGE: a
 * domain without rows would have to give some.  DF_ERANGE: more than UINT32_MAX rows to shuffle.
 */
int df_drawer_draw(struct df_drawer *d, const double *p, uint64_t step, uint64_t n, uint64_t *cursor, uint64_t *rows,
    struct df_err *err) DF_MUST_CHECK;

#endif

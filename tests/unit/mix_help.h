/*
 * mix_help.h - shared by the tests of mixers: a mixer with options by name, its state, and what it is shown.
 */
#ifndef DF_TESTS_MIX_HELP_H
#define DF_TESTS_MIX_HELP_H

#include "mix/mix.h"

enum { MIX_MOST = 64 };

struct mix {
	const struct df_mixer *m;
	void *options;
	size_t k;
	double state[5 * MIX_MOST];
	struct df_mix_sum sum[MIX_MOST];
	double p[MIX_MOST]; /* as mix_update() left them */
};

/* Options are pairs of name and value, ended by NULL; p0 NULL: all equal. */
struct mix mix_new(const char *name, size_t k, const double *p0, ...);
void mix_free(struct mix *x);
/* Losses of a domain: n of them with this mean, as n_targets and as n_excess. */
void mix_loss(struct mix *x, size_t domain, double mean);
void mix_nothing(struct mix *x); /* no domain was seen */
/* Update with the sums, which are then empty; p is what it proposes. */
void mix_update(struct mix *x, uint64_t step);
void mix_near(const double *got, const double *want, size_t n, double tolerance, const char *what);

#endif

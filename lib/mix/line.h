/*
 * line.h - a line of mixture_log.jsonl, as df-train and df-mix write it.
 */
#ifndef DF_MIX_LINE_H
#define DF_MIX_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "mix/mix.h"

struct df_mix_report {
	uint64_t step;
	const char *method;
	const struct df_mixer *mixer; /* NULL: none, proportions are fixed */
	const void *options;          /* of the mixer, and ... */
	const double *state;          /* ... its state */
	size_t n_domains;
	char *const *names;           /* [n_domains], or NULL: one domain without a name */
	const double *p;              /* [n_domains] proportions */
	double *weight;               /* [n_domains] memory for the weights of a mixer that has some */
	const struct df_mix_sum *sum; /* [n_domains], or NULL: nothing was measured */
	bool excess;                  /* sum has excesses, too */
	const uint64_t *n_skipped;    /* targets without one, or NULL: not counted */
};
/* Append the line: {"step": 100, "method": "odm", "domains": [..], "proportions": [..], ..}.  Unknown is null. */
void df_mix_put_line(struct df_buf *out, const struct df_mix_report *r);

#endif

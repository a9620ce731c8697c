/*
 * warp.h - from logits to a token: temperature, top-k, top-p, and a draw.
 *
 * The order and the definitions are those of transformers' logits processors:
 *
 *   temperature  x / t; 0 is greedy: the most likely token; of equal ones the lowest id
 *   top-k        keep what is at least the k-th largest, all of equal ones
 *   top-p        keep the fewest most likely tokens whose probabilities, after top-k, reach p together (at least one);
 *                of equal ones the lowest ids
 *
 * The kept probabilities are renormalised.  Holtzman et al. 2020 (top-p).
 */
#ifndef DF_SAMPLE_WARP_H
#define DF_SAMPLE_WARP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct df_warp {
	double temperature; /* >= 0 */
	size_t top_k;       /* 0: off */
	double top_p;       /* (0,1]; 1: off */
};
#define DF_WARP_GREEDY { 0, 0, 1 }

struct df_candidate {
	float x; /* logit */
	uint32_t id;
};
/* Memory that picks reuse; one per thread. */
struct df_warp_scratch {
	struct df_candidate *v;
	size_t n, cap;
	float *heap;
	size_t cap_heap;
};
void df_warp_scratch_release(struct df_warp_scratch *s);

/*
 * The token at u in (0,1) of the distribution that w makes of n > 0 logits, and the logarithm of its probability under
 * the unchanged logits (temperature 1, no token left out).  DF_ERANGE when a logit is NaN or +Inf, or all are -Inf.
 */
int df_warp_pick(const struct df_warp *w, const float *logits, size_t n, double u, struct df_warp_scratch *s,
    uint32_t *id, double *logprob, struct df_err *err) DF_MUST_CHECK;

#endif

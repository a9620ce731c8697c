/*
 * interleave.h - choose the dataset of the next row.
 *
 * LLaMA-Factory's mix_strategy, as datasets.interleave_datasets defines it:
 *
 *   concat  one dataset after the other
 *   under   interleaved, until the first is used up
 *   over    interleaved, until each was used up once; a dataset that ends begins again
 *   once    interleaved, until each was used up; a dataset that ends is passed over
 *
 * Interleaved in turn or, given probabilities, by draws.  The draws are Philox's at (seed, DF_RNG_INTERLEAVE, 0,
 * i): the proportions and the stopping rules are those of that function, the order is not.
 */
#ifndef DF_DATA_INTERLEAVE_H
#define DF_DATA_INTERLEAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum df_mix { DF_MIX_CONCAT, DF_MIX_UNDER, DF_MIX_OVER, DF_MIX_ONCE };
#define DF_MIX_NAMES "concat", "interleave_under", "interleave_over", "interleave_once" /* for an option's choices */

struct df_mixer {
	enum df_mix mix;
	size_t n;         /* datasets */
	uint64_t *length; /* [n] numbers of rows, above 0 unless concatenated; fill before df_mixer_rewind */
	double *until;    /* (private) [n] probabilities, summed up; NULL: in turn */
	uint64_t *at;     /* (private) [n] the next row of each */
	bool *ended;      /* (private) [n] */
	size_t n_ended;   /* (private) */
	uint64_t turn, seed;
};

/*
 * n datasets; probs NULL or "0.7,0.3", one for each, above 0, of sum 1 (DF_EUSAGE).  Release what
 * succeeded.
 */
int df_mixer_init(struct df_mixer *m, enum df_mix mix, size_t n, const char *probs, uint64_t seed,
    struct df_err *err) DF_MUST_CHECK;
void df_mixer_release(struct df_mixer *m);
/* Go back to the beginning. */
void df_mixer_rewind(struct df_mixer *m);
/* The next row: true, and the row-th row of dataset *part; false at the end. */
bool df_mixer_next(struct df_mixer *m, size_t *part, uint64_t *row);

#endif

/*
 * held_out.h - rows of each domain that a run does not train on, and how they are spread over the experts of its model
 * (dynamic MoE, Zhu et al. 2024).
 *
 * Thread rule: one thread at a time.
 */
#ifndef DF_TRAIN_HELD_OUT_H
#define DF_TRAIN_HELD_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/pool.h"
#include "model/model.h"
#include "rows/rows.h"

struct df_held_out {
	const struct df_rows *rows; /* that they are rows of; borrowed */
	size_t n_domains;
	uint32_t *row;              /* domain after domain, those of domain i from first[i] to first[i + 1] */
	uint32_t *first;            /* [n_domains + 1] */
	uint8_t *reserved;          /* [rows->n] 1 = one of them; NULL: they are not among the rows that train */
};

/*
 * min(most, half) rows of each domain, chosen once: the first of the race of equal weights (base/permute.h) with tag
 * DF_RNG_SAMPLE and the domain as substream.
 */
int df_held_out_reserve(struct df_held_out *h, const struct df_rows *rows, size_t n_domains, uint64_t most,
    uint64_t seed, struct df_err *err) DF_MUST_CHECK;
/*
 * The same, at most `most` rows of each, from rows that nobody trains on: `list` names one of their domains for each of
 * names [n_domains], in their order.  DF_EUSAGE for another number of names, a name that is not there or has no rows.
 */
int df_held_out_named(struct df_held_out *h, const struct df_rows *rows, const char *list, char *const *names,
    size_t n_domains, uint64_t most, uint64_t seed, struct df_err *err) DF_MUST_CHECK;
void df_held_out_release(struct df_held_out *h);

/*
 * load [n_domains, n_experts] = how often the tokens of the first `most` rows of each domain were sent to each expert:
 * by the last layer with experts or, with `all`, by all of them together.  m is a mixture of experts.  DF_ESTOPPED when
 * a signal asks to stop.
 */
int df_held_out_loads(const struct df_held_out *h, struct df_model *m, struct df_pool *pool, uint64_t most, bool all,
    double *load, struct df_err *err) DF_MUST_CHECK;

#endif

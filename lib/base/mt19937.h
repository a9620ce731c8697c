/*
 * mt19937.h - PyTorch's uniform draws, so that what DataFlex drew can be drawn again.
 *
 * A CPU generator of PyTorch is MT19937 (Matsumoto & Nishimura 1998), seeded with the low 32 bits of its seed; below
 * 2^28 numbers it takes one output for each.  All functions are pure.  DF_EUNSUPPORTED: 2^28 numbers or more.
 * DF_ENOMEM.
 */
#ifndef DF_BASE_MT19937_H
#define DF_BASE_MT19937_H

#include <stdint.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The first m of torch.randperm(n), and torch.randint(0, n, (m,)), from a CPU generator with `seed`. */
int df_sample_torch_perm(uint64_t n, uint64_t m, uint64_t seed, uint64_t *out, struct df_err *err) DF_MUST_CHECK;
int df_sample_torch_randint(uint64_t n, uint64_t m, uint64_t seed, uint64_t *out, struct df_err *err) DF_MUST_CHECK;
/* torch.randperm(n[0]), torch.randperm(n[1]), ... from one generator, one after the other in out [sum of n]. */
int df_sample_torch_perms(const uint64_t *n, uint64_t n_perms, uint64_t seed, uint64_t *out, struct df_err *err)
    DF_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif

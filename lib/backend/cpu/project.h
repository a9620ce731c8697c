/*
 * project.h - the CPU's random projections, over plain arrays.
 *
 * The slot of the backend's table resolves tensors and calls
 * df_cpu_project_run().  The naive version is the documentation and the
 * tests' oracle: it gives the same bits.
 */
#ifndef DF_BACKEND_CPU_PROJECT_H
#define DF_BACKEND_CPU_PROJECT_H

#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/err.h"
#include "base/pool.h"

/* y [S,k] += g [S,n] * rows [first, first+n) of the matrix (backend.h, df_project); rows ldg and ldy elements apart. */
struct df_cpu_project {
	enum df_projection_type type;
	const float *g;
	float *y;
	size_t n_samples, n, k, ldg, ldy;
	uint64_t first, seed;
	uint32_t model_id, sparsity;
};

/* The instructions to use.  Which ones never changes a bit of the result. */
enum df_cpu_isa { DF_CPU_ISA_BEST, DF_CPU_ISA_SCALAR, DF_CPU_ISA_AVX2, DF_CPU_ISA_AVX512 };

/* pool: the tiles of columns (rademacher) or rows (sjlt) are its tasks; NULL = this thread.  DF_ENOMEM. */
int df_cpu_project_run(struct df_pool *pool, const struct df_cpu_project *a, struct df_err *err) DF_MUST_CHECK;
/* The same with chosen instructions, for tests: DF_EUNSUPPORTED where the CPU lacks them. */
int df_cpu_project_with(
    enum df_cpu_isa isa, struct df_pool *pool, const struct df_cpu_project *a, struct df_err *err) DF_MUST_CHECK;
/* The definition, entry by entry. */
void df_cpu_project_naive(const struct df_cpu_project *a);

#endif

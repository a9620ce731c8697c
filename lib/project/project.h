/*
 * project.h - random projections that keep inner products (Johnson-Lindenstrauss):
 * y = R^T g / sqrt(k), R in {-1,+1}^(D x k) or sparse.
 *
 * An entry of R depends only on (seed, model_id, coordinate, column) and, for sjlt, on (k, sparsity); so any
 * tiling, batch, thread count or shard gives the same matrix.  The dense matrix for k columns is a prefix of
 * that for k' > k.  With w[0..3] = Philox4x32-10(ctr, key = low32(seed), high32(seed)), for coordinate p:
 *
 *   rademacher  dense signs: R[p][c] = +1 where bit (c mod 32) of w[(c mod 128) / 32] is set, else -1, with
 *               ctr = (low32 p, high32 p, c / 128, (1 << 24) | model_id)
 *   sjlt        `sparsity` nonzeros +-1/sqrt(sparsity) per coordinate (Kane & Nelson 2014, block form): nonzero
 *               i lies in column lo + ((w[i mod 4] & 0x7fffffff) * (hi - lo) >> 31), where lo = i k / sparsity and
 *               hi = (i + 1) k / sparsity, rounded down; it is + where the highest bit of w[i mod 4] is set, else -;
 *               with ctr = (low32 p, high32 p, 0x80000000 + i / 4, (1 << 24) | model_id)
 *
 * Both programs give the same numbers: coordinates are always added in pieces of df_grad_piece_rows()
 * matrix rows of one parameter, from the last piece of the last parameter to the first.  A backward
 * hands them out in this order, and df-project walks a gradient by its manifest in this order.
 */
#ifndef DF_PROJECT_PROJECT_H
#define DF_PROJECT_PROJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/err.h"
#include "shard/shard.h"

/*
 * jl: a dense sum is divided by sqrt(k), so that inner products of projections are unbiased (those of
 * sjlt are without it). none: the sum itself (as TRAK); scores by cosine are the same.
 */
enum df_projection_scale { DF_SCALE_JL, DF_SCALE_NONE };

struct df_projector {
	enum df_projection_type type;
	uint64_t k; /* columns, 1..2^31-1 */
	uint64_t seed;
	uint32_t model_id; /* below 2^24 */
	uint32_t sparsity; /* sjlt only: 1..k, at most 1024 */
	enum df_projection_scale scale; /* dense only */
};
#define DF_PROJECTOR_DEFAULT                                    \
	{                                                       \
		DF_PROJ_RADEMACHER, 8192, 42, 0, 4, DF_SCALE_JL \
	}
#define DF_PROJECTION_TYPES  "rademacher", "sjlt" /* in the order of the enums, for option tables */
#define DF_PROJECTION_SCALES "jl", "none"

/* DF_EUSAGE when a field is out of its range. */
int df_projector_check(const struct df_projector *p, struct df_err *err) DF_MUST_CHECK;
/* Record the projection in meta's params: everything that the numbers depend on, in one fixed order. */
int df_projector_to_meta(const struct df_projector *p, struct df_meta *m, struct df_err *err) DF_MUST_CHECK;
/* The params (NULL-terminated) that must be equal for an inner product of two projections to have a meaning. */
extern const char *const df_projection_params[];

/* A running projection of a batch of S samples. */
struct df_projection {
	const struct df_projector *p; /* borrowed */
	struct df_backend *be;        /* borrowed */
	struct df_tensor y;           /* [S,k] */
	size_t cap;                   /* (private) rows that y has memory for */
};
#define DF_PROJECTION_INIT                    \
	{                                     \
		NULL, NULL, DF_TENSOR_NONE, 0 \
	}
/* Start at zero for n_samples rows.  A projection that was used before reuses its memory when the rows fit. */
int df_projection_begin(struct df_projection *pr, const struct df_projector *p, struct df_backend *be, size_t n_samples,
    struct df_err *err) DF_MUST_CHECK;
/* Add coordinates [first, first+n) = g [S, n], in pieces of `piece` columns (the last may have fewer), last first. */
int df_projection_add(struct df_projection *pr, struct df_tensor g, uint64_t first, size_t piece, struct df_err *err)
    DF_MUST_CHECK;
/* Add whole gradients g [S, p], piece by piece in the order above; the manifest must cover [0,p) (DF_EFORMAT). */
int df_projection_add_all(struct df_projection *pr, struct df_tensor g, const struct df_manifest_row *rows,
    size_t n_rows, struct df_err *err) DF_MUST_CHECK;
/* out [S,k], host: the scaled sums. */
int df_projection_end(struct df_projection *pr, float *out, struct df_err *err) DF_MUST_CHECK;
void df_projection_release(struct df_projection *pr);

#endif

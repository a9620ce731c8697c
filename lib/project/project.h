/*
 * project.h - random projections that keep inner products (Johnson-
 * Lindenstrauss): y = R^T g / sqrt(k), R in {-1,+1}^(D x k) or sparse.
 *
 * An entry of R depends only on (seed, model_id, coordinate, column), so any
 * tiling, batch, thread count or shard gives the same matrix, and the matrix for k
 * columns is a prefix of that for k' > k.
 *
 *   rademacher  dense signs from Philox (backend.h, df_project)
 *   sjlt        each coordinate adds to `sparsity` columns with random signs, scaled by
 *               1/sqrt(sparsity) (Kane & Nelson 2014)
 *
 * The same numbers, fused or piped: coordinates are always added in pieces of
 * df_grad_piece_rows() matrix rows of one parameter, from the last piece of the last parameter to the first;
 * that is the order in which a backward hands them out, and the order in which
 * df-project walks a gradient by its manifest.
 */
#ifndef DF_PROJECT_PROJECT_H
#define DF_PROJECT_PROJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/err.h"
#include "shard/shard.h"

enum df_projection_scale { DF_SCALE_JL, DF_SCALE_NONE }; /* 1/sqrt(k), or none (as TRAK) */

struct df_projector {
	enum df_projection_type type;
	uint64_t k;
	uint64_t seed;
	uint32_t model_id;
	uint32_t sparsity;
	enum df_projection_scale scale;
};
#define DF_PROJECTOR_DEFAULT { DF_PROJ_RADEMACHER, 8192, 42, 0, 4, DF_SCALE_JL }

/* Record the projection in meta, and compare two records when operands meet. */
int df_projector_to_meta(const struct df_projector *p, struct df_meta *m, struct df_err *err) DF_MUST_CHECK;

/* A projection under way for a batch of S samples: y [S,k] on the backend, zeroed. */
struct df_projection {
	const struct df_projector *p;
	struct df_backend *be;
	struct df_tensor y;
};
int df_projection_begin(struct df_projection *pr, const struct df_projector *p, struct df_backend *be, size_t n_samples, struct df_err *err) DF_MUST_CHECK;
/* Add one piece: g [S, n] are coordinates [first, first+n), one piece. */
int df_projection_add(struct df_projection *pr, struct df_tensor g, uint64_t first, struct df_err *err) DF_MUST_CHECK;
/* out [S,k], host: scaled. */
int df_projection_end(struct df_projection *pr, float *out, struct df_err *err) DF_MUST_CHECK;
void df_projection_release(struct df_projection *pr);

#endif

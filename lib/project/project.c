/*
 * project.c - a projection as a running sum over pieces of a gradient.
 *
 * A backward that makes the coordinates and a stream of whole rows hand over the same pieces in the
 * same order, so that the sums round alike.  The arithmetic is the backend's.
 */
#include "project/project.h"

#include <inttypes.h>
#include <math.h>

#define MAX_SPARSITY 1024

const char *const df_projection_params[] = { "projection", "k", "seed", "model_id", "sparsity", "scale", "manifest",
	NULL };

int
df_projector_check(const struct df_projector *p, struct df_err *err)
{
	if (p->k < 1 || p->k > INT32_MAX)
		return df_fail(err, DF_EUSAGE, "projection to %" PRIu64 " dimensions: must be 1..%d", p->k, INT32_MAX);
	if (p->model_id >> 24)
		return df_fail(err, DF_EUSAGE, "projection: model id %" PRIu32 " must be below 2^24", p->model_id);
	if (p->type == DF_PROJ_SJLT && (p->sparsity < 1 || p->sparsity > p->k || p->sparsity > MAX_SPARSITY))
		return df_fail(err, DF_EUSAGE,
		    "projection: sparsity %" PRIu32 " must be 1..%d and at most k = %" PRIu64, p->sparsity,
		    MAX_SPARSITY, p->k);
	return DF_OK;
}

int
df_projector_to_meta(const struct df_projector *p, struct df_meta *m, struct df_err *err)
{
	static const char *const types[] = { DF_PROJECTION_TYPES }, *const scales[] = { DF_PROJECTION_SCALES };
	int rc = DF_OK;

	DF_TRY(df_meta_set_str(m, "projection", types[p->type], err));
	DF_TRY(df_meta_set_int(m, "k", (int64_t)p->k, err));
	DF_TRY(df_meta_set_int(m, "seed", (int64_t)p->seed, err));
	DF_TRY(df_meta_set_int(m, "model_id", p->model_id, err));
	if (p->type == DF_PROJ_SJLT)
		DF_TRY(df_meta_set_int(m, "sparsity", p->sparsity, err));
	else
		DF_TRY(df_meta_set_str(m, "scale", scales[p->scale], err));
out:
	return rc;
}

int
df_projection_begin(
    struct df_projection *pr, const struct df_projector *p, struct df_backend *be, size_t n_samples, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(df_projector_check(p, err));
	if (!df_tensor_is_none(pr->y) && (pr->be != be || pr->p != p || pr->cap < n_samples))
		df_projection_release(pr);
	pr->p = p;
	pr->be = be;
	if (df_tensor_is_none(pr->y)) {
		DF_TRY(df_tensor_alloc(be, &pr->y, DF_F32, n_samples, p->k, "projections", err));
		pr->cap = n_samples;
	}
	pr->y.rows = n_samples;
	DF_TRY(df_fill(be, pr->y, 0.0f, err));
out:
	return rc;
}

int
df_projection_add(struct df_projection *pr, struct df_tensor g, uint64_t first, size_t piece, struct df_err *err)
{
	const struct df_project a = { .type = pr->p->type,
		.g = g,
		.y = pr->y,
		.first = first,
		.seed = pr->p->seed,
		.model_id = pr->p->model_id,
		.sparsity = pr->p->sparsity,
		.piece = piece };

	return df_project(pr->be, &a, err);
}

int
df_projection_add_all(
    struct df_projection *pr, struct df_tensor g, const struct df_manifest_row *rows, size_t n_rows, struct df_err *err)
{
	uint64_t end = g.cols;
	int rc = DF_OK;

	for (size_t i = n_rows; i-- > 0;) {
		const struct df_manifest_row *r = &rows[i];
		size_t n;

		DF_TRY(df_size_mul(r->rows, r->cols, &n, "manifest", err));
		if (n > end || r->offset != end - n)
			return df_fail(err, DF_EFORMAT,
			    "manifest: '%s' at %" PRIu64 " does not end where the next begins (%" PRIu64 ")", r->name,
			    r->offset, end);
		end -= n;
		DF_TRY(
		    df_projection_add(pr, df_tensor_cols(g, end, n), end, df_grad_piece_rows(r->cols) * r->cols, err));
	}
	if (end)
		return df_fail(err, DF_EFORMAT, "manifest: coordinates 0..%" PRIu64 " belong to no parameter", end - 1);
out:
	return rc;
}

int
df_projection_end(struct df_projection *pr, float *out, struct df_err *err)
{
	const size_t n = df_tensor_numel(pr->y);
	int rc = DF_OK;

	DF_TRY(df_download(pr->be, out, pr->y, err));
	if (pr->p->type == DF_PROJ_RADEMACHER && pr->p->scale == DF_SCALE_JL) {
		const float scale = (float)(1.0 / sqrt((double)pr->p->k));

		for (size_t i = 0; i < n; i++)
			out[i] *= scale;
	}
out:
	return rc;
}

void
df_projection_release(struct df_projection *pr)
{
	if (!df_tensor_is_none(pr->y))
		df_tensor_free(pr->be, &pr->y);
	pr->y = DF_TENSOR_NONE;
}

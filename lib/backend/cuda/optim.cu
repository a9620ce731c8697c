/*
 * optim.cu - the optimiser: clipping, AdamW, Adam's view of a gradient.
 *
 * Limited by memory: four elements a thread, 16 bytes an access.  Constants are rounded to float32 on the host as the
 * CPU rounds them.
 *
 * Exact: compiled without contraction (CUDA_EXACT); plain float32 operations in the CPU's order give the CPU's bits.
 */
#include "backend/cuda/vector.h"

enum { EACH = 4 };

/* ---- clip ------------------------------------------------------------------------------------------------------ */

DF_KERNEL(32) clip(double *out, const double *sumsq, double max_norm)
{
	if (threadIdx.x != 0)
		return;

	const double s = *sumsq, scale = max_norm / (sqrt(s) + 1e-6);
	const bool finite = s - s == 0;

	out[0] = !finite ? 0 : max_norm > 0 && scale < 1 ? scale : 1;
	out[1] = finite;
}

int
df_cuda_clip(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_clip *>(args);

	DF_LAUNCH(clip, dim(1), dim(32), 0, df_cuda_lane_of(be)->stream, view_of<double>(a->clip).p,
	    view_of<const double>(a->sumsq).p, a->max_norm);
	return df_cuda_launched("clip", err);
}

/* ---- AdamW ----------------------------------------------------------------------------------------------------- */

struct adamw_rates {
	float shrink, beta1, rest1, beta2, rest2, rate, inv_sqrt_c2, eps;
};

/*
 * Where the clip says that the gradient is not finite, nothing is written.  Floor: w, m, v read and written, g read,
 * and low written: 28 bytes an element and 2 more for a bf16 one.
 */
template <class L>
DF_KERNEL(WALK_THREADS)
adamw(walk shape, view<float> w, view<float> m, view<float> v, view<const float> g, view<L> low, bool wide,
    const double *clip, adamw_rates c)
{
	size_t row, col;

	if (!walk_here<EACH>(shape, &row, &col) || (clip && clip[1] == 0))
		return;

	const size_t n = shape.cols - col;
	const float grad_scale = clip ? (float)clip[0] : 1.0f;

	with_width(wide && n >= EACH, [&](auto width) {
		constexpr bool WIDE = decltype(width)::value;
		float x[EACH], wi[EACH], mi[EACH], vi[EACH];

		get<EACH, WIDE>(g.p + row * g.ld + col, n, x);
		get<EACH, WIDE>(w.p + row * w.ld + col, n, wi);
		get<EACH, WIDE>(m.p + row * m.ld + col, n, mi);
		get<EACH, WIDE>(v.p + row * v.ld + col, n, vi);
#pragma unroll
		for (int i = 0; i < EACH; i++) {
			x[i] *= grad_scale;
			mi[i] = c.beta1 * mi[i] + c.rest1 * x[i];
			vi[i] = c.beta2 * vi[i] + c.rest2 * (x[i] * x[i]);
			wi[i] = wi[i] * c.shrink - c.rate * (mi[i] / (sqrtf(vi[i]) * c.inv_sqrt_c2 + c.eps));
		}
		put<EACH, WIDE>(m.p + row * m.ld + col, n, mi);
		put<EACH, WIDE>(v.p + row * v.ld + col, n, vi);
		put<EACH, WIDE>(w.p + row * w.ld + col, n, wi);
		if (low.p)
			put<EACH, WIDE>(low.p + row * low.ld + col, n, wi);
	});
}

template <class L>
static void
run_adamw(struct df_backend *be, const struct df_adamw *a)
{
	const bool flat = is_flat(a->w) && is_flat(a->g) && is_flat(a->m) && is_flat(a->v) && is_flat(a->low);
	const size_t rows = flat ? 1 : a->w.rows;
	const walk shape = walk_of(rows, flat ? df_tensor_numel(a->w) : a->w.cols, EACH);
	const view<float> w = view_of<float>(a->w), m = view_of<float>(a->m), v = view_of<float>(a->v);
	const view<const float> g = view_of<const float>(a->g);
	const view<L> low = view_of<L>(a->low);
	const bool wide = is_wide(w, rows) && is_wide(m, rows) && is_wide(v, rows) && is_wide(g, rows) &&
	    is_wide(low, rows);
	const adamw_rates c = {
		(float)(1 - a->lr * a->decay),
		(float)a->beta1,
		(float)(1 - a->beta1),
		(float)a->beta2,
		(float)(1 - a->beta2),
		(float)(a->lr / (1 - pow(a->beta1, (double)a->step))),
		(float)(1 / sqrt(1 - pow(a->beta2, (double)a->step))),
		(float)a->eps,
	};

	if (blocks_of(shape))
		DF_LAUNCH(adamw<L>, dim(blocks_of(shape)), dim(WALK_THREADS), 0, df_cuda_lane_of(be)->stream, shape, w,
		    m, v, g, low, wide, view_of<const double>(a->clip).p, c);
}

int
df_cuda_adamw(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_adamw *>(args);

	with_type(a->low.mem ? a->low.type : DF_F32, [&](auto t) { run_adamw<decltype(t)>(be, a); });
	return df_cuda_launched("adamw", err);
}

/* ---- Adam's view of a gradient --------------------------------------------------------------------------------- */

enum { FORM_ROWS = 16 }; /* samples of a thread: m and v are read once for them */

struct adam_form_rates {
	float beta1, rest1, beta2, rest2, eps;
	bool eps_inside;
};

/* Floor: g read and written, m and v read once for 16 samples: 8.5 bytes an element. */
DF_KERNEL(WALK_THREADS)
adam_form(size_t n_rows, size_t cols, uint32_t across, view<float> g, const float *m, const float *v, bool wide,
    adam_form_rates c)
{
	const uint32_t down = blockIdx.x / across;
	const size_t first = (size_t)down * FORM_ROWS;
	const size_t col = ((size_t)(blockIdx.x - down * across) * WALK_THREADS + threadIdx.x) * EACH;
	const size_t end = n_rows - first < FORM_ROWS ? n_rows : first + FORM_ROWS, n = cols - col;

	if (col >= cols)
		return;
	with_width(wide && n >= EACH, [&](auto width) {
		constexpr bool WIDE = decltype(width)::value;
		float mi[EACH], vi[EACH];

		get<EACH, WIDE>(m + col, n, mi);
		get<EACH, WIDE>(v + col, n, vi);
#pragma unroll 4
		for (size_t row = first; row < end; row++) {
			float *at = g.p + row * g.ld + col, x[EACH];

			get<EACH, WIDE>(at, n, x);
#pragma unroll
			for (int i = 0; i < EACH; i++) {
				const float top = c.beta1 * mi[i] + c.rest1 * x[i];
				const float square = c.beta2 * vi[i] + c.rest2 * (x[i] * x[i]);

				x[i] = top / (c.eps_inside ? sqrtf(square + c.eps) : sqrtf(square) + c.eps);
			}
			put<EACH, WIDE>(at, n, x);
		}
	});
}

int
df_cuda_adam_form(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_adam_form *>(args);
	const size_t rows = a->g.rows, cols = a->g.cols, across = df_blocks_of(cols, WALK_THREADS * EACH);
	const size_t blocks = across * df_blocks_of(rows, FORM_ROWS);
	const view<float> g = view_of<float>(a->g);
	const view<const float> m = view_of<const float>(a->m), v = view_of<const float>(a->v);
	const adam_form_rates c = { (float)a->beta1, (float)(1 - a->beta1), (float)a->beta2, (float)(1 - a->beta2),
		(float)a->eps, a->eps_inside };

	if (blocks)
		DF_LAUNCH(adam_form, dim(blocks), dim(WALK_THREADS), 0, df_cuda_lane_of(be)->stream, rows, cols,
		    (uint32_t)across, g, m.p, v.p, is_wide(g, rows) && is_wide(m, 1) && is_wide(v, 1), c);
	return df_cuda_launched("adam_form", err);
}

/*
 * elem.cu - one pass over elements: copies, sums of two, activations, dropout, rotary embedding.
 *
 * All of these are limited by memory: the floor of a kernel is the bytes of its operands, each read or written once,
 * over the memory's rate.  A thread has 16 bytes of its narrowest operand (vector.h); nothing is shared between
 * threads, so results depend on their own elements only.
 *
 * Exact: compiled without contraction of products and sums (CUDA_EXACT), so all but the operations that call expf()
 * give the CPU's bits.  Those are within 1e-6 of it.
 */
#include "backend/cuda/vector.h"
#include "base/rng.h"

/* ---- out = f(a, b) --------------------------------------------------------------------------------------------- */

/* Each function is a type with its constants, and an overload of value_of(). */
struct the_same {
};
struct constant {
	float value;
};
struct add_scaled {
	float alpha;
};
struct scaled {
	float alpha;
};
struct sum {
};
struct sign_of {
};
struct gelu {
};
struct sigmoid {
};
struct sigmoid_slope {
};
struct swiglu {
};

DF_DEVICE float value_of(the_same, float x, float) { return x; }
DF_DEVICE float value_of(constant f, float, float) { return f.value; }
DF_DEVICE float value_of(add_scaled f, float y, float x) { return y + f.alpha * x; }
DF_DEVICE float value_of(scaled f, float x, float) { return x * f.alpha; }
DF_DEVICE float value_of(sum, float x, float y) { return x + y; }
DF_DEVICE float
value_of(sign_of, float x, float)
{
	return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x; /* zero and NaN stay */
}
DF_DEVICE float value_of(sigmoid, float x, float) { return 1.0f / (1.0f + expf(-x)); }
DF_DEVICE float value_of(sigmoid_slope, float dy, float y) { return dy * (y * (1.0f - y)); }
DF_DEVICE float value_of(swiglu, float gate, float up) { return gate / (1.0f + expf(-gate)) * up; }

/* x Phi(x), the CPU's (gelu_of() of cpu/layer.c, where its error is): Phi(-t) = exp(-t^2/2) times a polynomial. */
DF_DEVICE float
value_of(gelu, float x, float)
{
	const float t = x < 0.0f ? -x : x, inv = 1.0f / ((t + 4.0f) * (t + 1.0f));
	const float v = (t - 4.0f) * (t + 1.0f) * inv;
	float p = 9.415247041e-5f, tail;

	p = p * v + 7.349170628e-4f;
	p = p * v + -4.035830207e-4f;
	p = p * v + -5.054645706e-3f;
	p = p * v + 1.796194166e-2f;
	p = p * v + -3.218499944e-2f;
	p = p * v + 2.859807573e-2f;
	p = p * v + 1.399869844e-2f;
	p = p * v + -9.670341015e-2f;
	p = p * v + 4.720532298e-1f;
	tail = exp_of(-0.5f * t * t) * (p * ((t + 4.0f) * inv));
	tail = x > 0.0f ? 1.0f - tail : tail;
	return x < -13.0f ? 0.0f : x * tail;
}

/* Floor: the bytes of out, a and b; what f does not use is not read. */
template <int N, class F, class O, class A, class B>
DF_KERNEL(WALK_THREADS) map(walk w, view<O> out, view<const A> a, view<const B> b, bool wide, F f)
{
	size_t row, col;

	if (!walk_here<N>(w, &row, &col))
		return;

	const size_t n = w.cols - col;

	with_width(wide && n >= N, [&](auto width) {
		constexpr bool WIDE = decltype(width)::value;
		float x[N], y[N];

		get<N, WIDE>(a.p + row * a.ld + col, n, x);
		get<N, WIDE>(b.p + row * b.ld + col, n, y);
#pragma unroll
		for (int i = 0; i < N; i++)
			x[i] = value_of(f, x[i], y[i]);
		put<N, WIDE>(out.p + row * out.ld + col, n, x);
	});
}

template <class F, class O, class A, class B>
static void
run_map(struct df_backend *be, size_t rows, size_t cols, view<O> out, view<const A> a, view<const B> b, F f)
{
	constexpr int NA = columns_each<O, A>(), NB = columns_each<O, B>(), N = NA > NB ? NA : NB;
	const walk w = walk_of(rows, cols, N);
	const bool wide = is_wide(out, rows) && is_wide(a, rows) && is_wide(b, b.ld ? rows : 1);

	if (blocks_of(w))
		DF_LAUNCH((map<N, F, O, A, B>), dim(blocks_of(w)), dim(WALK_THREADS), 0, df_cuda_lane_of(be)->stream, w,
		    out, a, b, wide, f);
}

/* out = f(a, b), all of one shape: where all are dense, as one row. */
template <class F, class O, class A, class B>
static void
run_alike(struct df_backend *be, const df_tensor &out, const df_tensor &a, const df_tensor &b, F f)
{
	const bool flat = is_flat(out) && is_flat(a) && is_flat(b);

	run_map(be, flat ? 1 : out.rows, flat ? df_tensor_numel(out) : out.cols, view_of<O>(out), view_of<const A>(a),
	    view_of<const B>(b), f);
}
/* The same where all are activations. */
template <class F>
static int
run_act(struct df_backend *be, const char *what, const df_tensor &out, const df_tensor &a, const df_tensor &b, F f,
    struct df_err *err)
{
	with_act(out.type, [&](auto t) {
		using T = decltype(t);

		run_alike<F, T, T, T>(be, out, a, b, f);
	});
	return df_cuda_launched(what, err);
}

int
df_cuda_axpy(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_op_pair *>(args);

	return run_act(be, "axpy", a->dst, a->dst, a->src, add_scaled{ a->alpha }, err);
}

int
df_cuda_scale(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_op_pair *>(args);

	return run_act(be, "scale", a->dst, a->dst, a->dst, scaled{ a->alpha }, err);
}

int
df_cuda_sign(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_op_pair *>(args);

	run_alike<sign_of, float, float, float>(be, a->dst, a->dst, a->dst, sign_of());
	return df_cuda_launched("sign", err);
}

int
df_cuda_gelu(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_op_pair *>(args);

	return run_act(be, "gelu", a->dst, a->src, a->src, gelu(), err);
}

int
df_cuda_sigmoid_fwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_op_pair *>(args);

	return run_act(be, "sigmoid_fwd", a->dst, a->src, a->src, sigmoid(), err);
}

int
df_cuda_sigmoid_bwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_op_triple *>(args);

	return run_act(be, "sigmoid_bwd", a->a, a->b, a->c, sigmoid_slope(), err);
}

int
df_cuda_swiglu_fwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_op_swiglu *>(args);

	return run_act(be, "swiglu_fwd", a->h, a->gate, a->up, swiglu(), err);
}

/* The bias is a row that every row reads: a stride of 0. */
int
df_cuda_bias_add(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_op_pair *>(args);

	with_act(a->dst.type, [&](auto x) {
		with_act(a->src.type, [&](auto b) {
			using X = decltype(x);
			using B = decltype(b);

			run_map(be, a->dst.rows, a->dst.cols, view_of<X>(a->dst), view_of<const X>(a->dst),
			    view<const B>{ view_of<const B>(a->src).p, 0 }, sum());
		});
	});
	return df_cuda_launched("bias_add", err);
}

int
df_cuda_fill(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_op_pair *>(args);

	with_type(a->dst.type, [&](auto t) {
		using T = decltype(t);

		run_alike<constant, T, T, T>(be, a->dst, a->dst, a->dst, constant{ a->alpha });
	});
	return df_cuda_launched("fill", err);
}

/* ---- copies ---------------------------------------------------------------------------------------------------- */

/* Rows of units that move at once.  Floor: twice the bytes. */
template <class U>
DF_KERNEL(WALK_THREADS) move(walk w, view<U> to, view<const U> from)
{
	size_t row, col;

	if (walk_here<1>(w, &row, &col))
		to.p[row * to.ld + col] = from.p[row * from.ld + col];
}

/* Rows of `width` bytes, `to_ld` and `from_ld` bytes apart, in units of U, which divides all of these. */
template <class U>
static void
run_move(struct df_backend *be, size_t rows, size_t width, uintptr_t to, size_t to_ld, uintptr_t from, size_t from_ld)
{
	const walk w = walk_of(rows, width / sizeof(U), 1);

	if (blocks_of(w))
		DF_LAUNCH(move<U>, dim(blocks_of(w)), dim(WALK_THREADS), 0, df_cuda_lane_of(be)->stream, w,
		    view<U>{ reinterpret_cast<U *>(to), to_ld / sizeof(U) },
		    view<const U>{ reinterpret_cast<const U *>(from), from_ld / sizeof(U) });
}

/* Bits as they are. */
static void
copy_bytes(struct df_backend *be, const df_tensor &dst, const df_tensor &src)
{
	const size_t size = df_dtype_size(dst.type);
	const bool flat = is_flat(dst) && is_flat(src);
	const size_t rows = flat ? 1 : dst.rows, width = (flat ? df_tensor_numel(dst) : dst.cols) * size;
	const size_t to_ld = flat ? 0 : dst.ld * size, from_ld = flat ? 0 : src.ld * size;
	const uintptr_t to = reinterpret_cast<uintptr_t>(view_of<char>(dst).p) + dst.off * (size - 1),
			from = reinterpret_cast<uintptr_t>(view_of<char>(src).p) + src.off * (size - 1);
	const uintptr_t all = to | from | to_ld | from_ld | width;

	if (all % 16 == 0)
		run_move<words<4>>(be, rows, width, to, to_ld, from, from_ld);
	else if (all % 4 == 0)
		run_move<uint32_t>(be, rows, width, to, to_ld, from, from_ld);
	else if (all % 2 == 0)
		run_move<uint16_t>(be, rows, width, to, to_ld, from, from_ld);
	else
		run_move<uint8_t>(be, rows, width, to, to_ld, from, from_ld);
}

int
df_cuda_copy(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_op_pair *>(args);

	if (a->dst.type == a->src.type)
		copy_bytes(be, a->dst, a->src);
	else
		with_type(a->dst.type, [&](auto to) {
			with_type(a->src.type, [&](auto from) {
				using O = decltype(to);
				using A = decltype(from);

				run_alike<the_same, O, A, A>(be, a->dst, a->src, a->src, the_same());
			});
		});
	return df_cuda_launched("copy", err);
}

/* ---- swiglu's backward ----------------------------------------------------------------------------------------- */

/* With s = sigmoid(g): dg = dh u s (1 + g (1 - s)), du = dh g s.  Floor: five tensors. */
template <int N, class T>
DF_KERNEL(WALK_THREADS)
swiglu_bwd(walk w, view<T> dgate, view<T> dup, view<const T> dh, view<const T> gate, view<const T> up, bool wide)
{
	size_t row, col;

	if (!walk_here<N>(w, &row, &col))
		return;

	const size_t n = w.cols - col;

	with_width(wide && n >= N, [&](auto width) {
		constexpr bool WIDE = decltype(width)::value;
		float d[N], g[N], u[N];

		get<N, WIDE>(dh.p + row * dh.ld + col, n, d);
		get<N, WIDE>(gate.p + row * gate.ld + col, n, g);
		get<N, WIDE>(up.p + row * up.ld + col, n, u);
#pragma unroll
		for (int i = 0; i < N; i++) {
			const float s = 1.0f / (1.0f + expf(-g[i])), du = d[i] * (g[i] * s);

			g[i] = d[i] * u[i] * (s * (1.0f + g[i] * (1.0f - s)));
			u[i] = du;
		}
		put<N, WIDE>(dgate.p + row * dgate.ld + col, n, g);
		put<N, WIDE>(dup.p + row * dup.ld + col, n, u);
	});
}

template <class T>
static void
run_swiglu_bwd(struct df_backend *be, const struct df_op_swiglu *a)
{
	constexpr int N = columns_each<T, T>();
	const bool flat = is_flat(a->h) && is_flat(a->gate) && is_flat(a->up) && is_flat(a->dgate) && is_flat(a->dup);
	const size_t rows = flat ? 1 : a->h.rows;
	const walk w = walk_of(rows, flat ? df_tensor_numel(a->h) : a->h.cols, N);
	const view<T> dgate = view_of<T>(a->dgate), dup = view_of<T>(a->dup);
	const view<const T> dh = view_of<const T>(a->h), gate = view_of<const T>(a->gate), up = view_of<const T>(a->up);
	const bool wide = is_wide(dgate, rows) && is_wide(dup, rows) && is_wide(dh, rows) && is_wide(gate, rows) &&
	    is_wide(up, rows);

	if (blocks_of(w))
		DF_LAUNCH((swiglu_bwd<N, T>), dim(blocks_of(w)), dim(WALK_THREADS), 0, df_cuda_lane_of(be)->stream, w,
		    dgate, dup, dh, gate, up, wide);
}

int
df_cuda_swiglu_bwd(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_op_swiglu *>(args);

	with_act(a->h.type, [&](auto t) { run_swiglu_bwd<decltype(t)>(be, a); });
	return df_cuda_launched("swiglu_bwd", err);
}

/* ---- rows times numbers ---------------------------------------------------------------------------------------- */

/* Floor: x and y. */
template <int N, class T>
DF_KERNEL(WALK_THREADS) row_scale(walk w, view<T> y, view<const T> x, view<const float> s, bool wide)
{
	size_t row, col;

	if (!walk_here<N>(w, &row, &col))
		return;

	const size_t n = w.cols - col;
	const float f = s.p[row * s.ld];

	with_width(wide && n >= N, [&](auto width) {
		constexpr bool WIDE = decltype(width)::value;
		float v[N];

		get<N, WIDE>(x.p + row * x.ld + col, n, v);
#pragma unroll
		for (int i = 0; i < N; i++)
			v[i] = f * v[i];
		put<N, WIDE>(y.p + row * y.ld + col, n, v);
	});
}

template <class T>
static void
run_row_scale(struct df_backend *be, const struct df_op_triple *a)
{
	constexpr int N = columns_each<T, T>();
	const walk w = walk_of(a->a.rows, a->a.cols, N);
	const view<T> y = view_of<T>(a->a);
	const view<const T> x = view_of<const T>(a->b);

	if (blocks_of(w))
		DF_LAUNCH((row_scale<N, T>), dim(blocks_of(w)), dim(WALK_THREADS), 0, df_cuda_lane_of(be)->stream, w, y,
		    x, view_of<const float>(a->c), is_wide(y, w.rows) && is_wide(x, w.rows));
}

int
df_cuda_row_scale(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_op_triple *>(args);

	with_act(a->a.type, [&](auto t) { run_row_scale<decltype(t)>(be, a); });
	return df_cuda_launched("row_scale", err);
}

/* ---- dropout --------------------------------------------------------------------------------------------------- */

struct dropout_args {
	const uint32_t *offsets, *token, *token_offsets; /* token may be NULL */
	view<const uint32_t> key;
	uint32_t n_samples, substream;
	uint32_t limit; /* a word below it drops its element */
	float keep_scale;
};

/*
 * Which of N columns from element e of a sample on stay, a bit for each.  Element e, counted row after row from the
 * sample's first token, has word e % 4 of draw e / 4.
 */
template <int N>
DF_DEVICE uint32_t
kept(uint64_t e, const uint32_t *key, uint32_t substream, uint32_t limit)
{
	uint64_t draw = e / 4;
	uint32_t keep = 0;

	for (unsigned i = 0, at = (unsigned)(e % 4); i < N; i += 4 - at, at = 0, draw++) {
		const uint32_t ctr[4] = { (uint32_t)draw, (uint32_t)(draw >> 32), substream, DF_RNG_DROPOUT };
		uint32_t u[4], four = 0;

		philox(ctr, key[0], key[1], u);
#pragma unroll
		for (int k = 0; k < 4; k++)
			four |= (uint32_t)(u[k] >= limit) << k;
		keep |= (four >> at) << i;
	}
	return keep;
}

/* The CPU's masks.  Floor: x and y, and a Philox draw of 60 integer operations for four elements. */
template <int N, class T>
DF_KERNEL(WALK_THREADS) dropout(walk w, view<T> y, view<const T> x, bool wide, dropout_args a)
{
	size_t row, col;

	if (!walk_here<N>(w, &row, &col))
		return;

	const size_t n = w.cols - col;
	const uint32_t s = segment_of(a.offsets, a.n_samples, (uint32_t)row);
	const uint32_t token = (a.token ? a.token[row] : (uint32_t)row) - a.token_offsets[s];
	const uint32_t keep = kept<N>(token * (uint64_t)w.cols + col, a.key.p + s * a.key.ld, a.substream, a.limit);

	with_width(wide && n >= N, [&](auto width) {
		constexpr bool WIDE = decltype(width)::value;
		float v[N];

		get<N, WIDE>(x.p + row * x.ld + col, n, v);
#pragma unroll
		for (int i = 0; i < N; i++)
			v[i] = keep >> i & 1 ? v[i] * a.keep_scale : 0.0f;
		put<N, WIDE>(y.p + row * y.ld + col, n, v);
	});
}

template <class T>
static void
run_dropout(struct df_backend *be, const struct df_dropout *a)
{
	constexpr int N = columns_each<T, T>();
	const walk w = walk_of(a->x.rows, a->x.cols, N);
	const view<T> y = view_of<T>(a->y);
	const view<const T> x = view_of<const T>(a->x);
	/* word >= p 2^32 as doubles is word >= the next integer; p < 1 leaves it below 2^32 */
	const dropout_args k = { u32_of(a->offsets), u32_of(a->token), u32_of(a->token_offsets),
		view_of<const uint32_t>(a->key), (uint32_t)a->key.rows, a->substream,
		(uint32_t)ceil((double)a->p * 4294967296.0), 1.0f / (1.0f - a->p) };

	if (blocks_of(w))
		DF_LAUNCH((dropout<N, T>), dim(blocks_of(w)), dim(WALK_THREADS), 0, df_cuda_lane_of(be)->stream, w, y,
		    x, is_wide(y, w.rows) && is_wide(x, w.rows), k);
}

int
df_cuda_dropout(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_dropout *>(args);

	with_act(a->x.type, [&](auto t) { run_dropout<decltype(t)>(be, a); });
	return df_cuda_launched("dropout", err);
}

/* ---- rotary embedding ------------------------------------------------------------------------------------------ */

/*
 * Rows of the walk are heads of tokens, columns are pairs (x1, x2) of the two halves of a head, turned by the angle of
 * position and pair.  Floor: x read and written; the tables stay in cache.
 */
template <int N, class T>
DF_KERNEL(WALK_THREADS)
rope(walk w, view<T> x, view<const float> cos, view<const float> sin, const uint32_t *pos, size_t n_heads, float sign,
    bool wide)
{
	size_t row, col;

	if (!walk_here<N>(w, &row, &col))
		return;

	const size_t t = row / n_heads, n = w.cols - col;
	T *x1 = x.p + t * x.ld + (row - t * n_heads) * 2 * w.cols + col, *x2 = x1 + w.cols;

	with_width(wide && n >= N, [&](auto width) {
		constexpr bool WIDE = decltype(width)::value;
		float u[N], v[N], c[N], s[N];

		get<N, WIDE>(x1, n, u);
		get<N, WIDE>(x2, n, v);
		get<N, WIDE>(cos.p + pos[t] * cos.ld + col, n, c);
		get<N, WIDE>(sin.p + pos[t] * sin.ld + col, n, s);
#pragma unroll
		for (int i = 0; i < N; i++) {
			const float si = sign * s[i], turned = u[i] * c[i] - v[i] * si;

			v[i] = v[i] * c[i] + u[i] * si;
			u[i] = turned;
		}
		put<N, WIDE>(x1, n, u);
		put<N, WIDE>(x2, n, v);
	});
}

template <class T>
static void
run_rope(struct df_backend *be, const struct df_rope *a)
{
	constexpr int N = columns_each<T, T>();
	const size_t half = a->cos.cols;
	const walk w = walk_of(a->x.rows * a->n_heads, half, N);
	const view<T> x = view_of<T>(a->x);
	const view<const float> c = view_of<const float>(a->cos), s = view_of<const float>(a->sin);
	const bool wide = half % N == 0 && is_wide(x, a->x.rows) && is_wide(c, a->cos.rows) && is_wide(s, a->sin.rows);

	if (blocks_of(w))
		DF_LAUNCH((rope<N, T>), dim(blocks_of(w)), dim(WALK_THREADS), 0, df_cuda_lane_of(be)->stream, w, x, c,
		    s, u32_of(a->pos), a->n_heads, a->inverse ? -1.0f : 1.0f, wide);
}

int
df_cuda_rope(struct df_backend *be, const void *args, struct df_err *err)
{
	const auto *a = static_cast<const struct df_rope *>(args);

	with_act(a->x.type, [&](auto t) { run_rope<decltype(t)>(be, a); });
	return df_cuda_launched("rope", err);
}

/*
 * xent.cu - the end of the model: logits, softmax and cross-entropy, forward, backward or both at once.
 *
 * The logits of a tile of rows are computed in float32 (those of bf16 would err by more than losses differ), turned
 * into their own gradient g, and used by two products before the next tile begins: so there is never more than a tile.
 * g has the type of activations: with bf16 all three products run on tensor cores.
 *
 *	z = h w^T  ->  nll, lse, correct; g = scale (exp(z - max) / sum - onehot)  ->  dh = g w,  dw += g^T h
 *
 * Tiles are cut by V alone and come in order: so is dw's sum over rows.  A row has a block, and its sums an order that
 * V fixes.  A backward of its own finds max and sum again and does not read lse: so all three operations have one
 * kernel and the same bits, and g keeps its digits where the target is all but certain.
 */
#include "backend/cuda/view.h"

enum { TILE_LOGITS = 1 << 27, TILE_ROWS_MIN = 64, TILE_ROWS_MAX = 1024 }; /* a tile has at most 512 MiB of logits */

/* ---- a row ------------------------------------------------------------------------------------------------------- */

enum { XENT_THREADS = 256, XENT_EACH = 4 };

struct xent_rows {
	const float *z; /* [n,V], 16-byte aligned as its rows are: ld is a multiple of 4 */
	size_t ld;
	uint32_t n_vocab;
	const uint32_t *target;
	const float *scale; /* NULL: forward only */
	float *nll;         /* NULL: backward only */
	float *lse;         /* or NULL */
	uint8_t *correct;   /* or NULL */
};
struct alignas(16) logits {
	float v[XENT_EACH];
};
/* Elements [v, v + 4) of a row of n; those that there are not are -INFINITY. */
DF_DEVICE logits
logits_at(const float *z, uint32_t v, uint32_t n)
{
	logits x;

	if (v + XENT_EACH <= n)
		return *reinterpret_cast<const logits *>(z + v);
	for (unsigned j = 0; j < XENT_EACH; j++)
		x.v[j] = v + j < n ? z[v + j] : -INFINITY;
	return x;
}

/* Four elements of a row of g, of which `there` are; at once if their address is a multiple of theirs. */
template <class T>
DF_DEVICE void
put_logits(T *to, const logits &x, uint32_t there, bool wide)
{
	struct alignas(XENT_EACH * sizeof(T)) chunk {
		T v[XENT_EACH];
	} y;

	for (unsigned j = 0; j < XENT_EACH; j++)
		store(&y.v[j], x.v[j]);
	if (wide && there >= XENT_EACH)
		*reinterpret_cast<chunk *>(to) = y;
	else
		for (unsigned j = 0; j < XENT_EACH && j < there; j++)
			to[j] = y.v[j];
}

/* What a thread, and then the block, has seen of a row. */
struct xent_seen {
	float max, sum; /* of exp(z - max) */
	bool beaten;    /* something is likelier than the target, or as likely with a lower id */
};
DF_DEVICE void
see(xent_seen &s, const logits &x, uint32_t v, uint32_t target, float top)
{
	const float most = fmaxf(fmaxf(x.v[0], x.v[1]), fmaxf(x.v[2], x.v[3]));

	if (most > s.max) {
		s.sum *= expf(s.max - most);
		s.max = most;
	}
	for (unsigned j = 0; j < XENT_EACH; j++) {
		s.sum += s.max == -INFINITY ? 0.0f : expf(x.v[j] - s.max);
		s.beaten |= v + j < target ? x.v[j] >= top : x.v[j] > top;
	}
}
DF_DEVICE float
block_max(float v, float *part)
{
	v = warp_max(v);
	sync_block();
	if (lane_id() == 0)
		part[threadIdx.x / 32] = v;
	sync_block();
	v = part[0];
	for (unsigned i = 1; i < XENT_THREADS / 32; i++)
		v = fmaxf(v, part[i]);
	return v;
}

struct xent_shared {
	float part[32];
};

/*
 * Row blockIdx.x.  A thread sees four logits in 1024, ascending; the threads' sums are added by block_sum().  g may lie
 * where z does, as T is no wider: what a turn writes has been read in this turn or before.  Reads 8 V bytes of a row
 * from memory (4 V forward only), writes V elements of g.
 */
template <class T>
DF_KERNEL(XENT_THREADS)
xent_row(xent_rows a, view<T> g, bool wide)
{
	DF_SHARED(xent_shared, sh);
	const size_t r = blockIdx.x;
	const float *z = a.z + r * a.ld;
	const uint32_t n = a.n_vocab, target = a.target[r], step = XENT_THREADS * XENT_EACH;
	const float top = z[target], scale = a.scale ? a.scale[r] : 0.0f;
	xent_seen s = { -INFINITY, 0, false };

	for (uint32_t v = threadIdx.x * XENT_EACH; v < n; v += step)
		see(s, logits_at(z, v, n), v, target, top);
	const float max = block_max(s.max, sh.part);
	const float sum = block_sum(s.max == -INFINITY ? s.sum : s.sum * expf(s.max - max), sh.part);
	const float beaten = block_max(s.beaten ? 1.0f : 0.0f, sh.part);

	if (threadIdx.x == 0) {
		if (a.nll)
			a.nll[r] = logf(sum) - (top - max);
		if (a.lse)
			a.lse[r] = logf(sum) + max;
		if (a.correct)
			a.correct[r] = beaten == 0 && top == max;
	}
	if (!a.scale)
		return;
	const float factor = scale / sum;
	T *to = g.p + r * g.ld;

	for (uint32_t first = 0; first < n; first += step) {
		const uint32_t v = first + threadIdx.x * XENT_EACH;
		logits x;

		if (v < n)
			x = logits_at(z, v, n);
		sync_block();
		if (v >= n)
			continue;
		for (unsigned j = 0; j < XENT_EACH; j++) {
			const float p = factor * expf(x.v[j] - max);

			x.v[j] = v + j == target ? p - scale : p;
		}
		put_logits(to + v, x, n - v, wide);
	}
}

/* ---- tiles ------------------------------------------------------------------------------------------------------- */

/* Do four elements of g lie at a multiple of their size? */
template <class T>
static bool
is_wide(const view<T> &g)
{
	return (uintptr_t)g.p % (XENT_EACH * sizeof(T)) == 0 && g.ld % XENT_EACH == 0;
}

/* Row r of a row vector's elements, or NULL. */
template <class T>
static T *
element(const struct df_tensor &t, size_t r)
{
	return t.mem ? view_of<T>(t).p + r : NULL;
}

/*
 * Rows [r, r + n).  Their logits are in z, f32 [n,V] in scratch memory, and g is a window on the same memory or on
 * dlogits.
 */
static int
xent_tile(struct df_backend *be, const struct df_xent *a, size_t r, struct df_tensor z, struct df_tensor g,
    struct df_err *err)
{
	const size_t n = z.rows;
	const struct df_tensor h = df_tensor_rows(a->h, r, n);
	struct df_gemm product = {};
	xent_rows rows = {};
	int rc;

	product.tb = true;
	product.alpha = 1;
	product.a = h;
	product.b = a->w;
	product.c = z;
	DF_TRY(df_cuda_gemm(be, &product, err));

	rows.z = f32_of(z);
	rows.ld = z.ld;
	rows.n_vocab = (uint32_t)z.cols;
	rows.target = element<const uint32_t>(a->target, r);
	rows.scale = element<const float>(a->scale, r);
	rows.nll = element<float>(a->nll, r);
	rows.lse = a->nll.mem ? element<float>(a->lse, r) : NULL; /* a backward's is only to be read */
	rows.correct = element<uint8_t>(a->correct, r);
	with_act(g.type, [&](auto type) {
		using T = decltype(type);

		DF_LAUNCH(xent_row<T>, dim(n), dim(XENT_THREADS), sizeof(xent_shared), df_cuda_lane_of(be)->stream,
		    rows, view_of<T>(g), is_wide(view_of<T>(g)));
	});
	if (a->dh.mem) {
		product.tb = false;
		product.a = g;
		product.c = df_tensor_rows(a->dh, r, n);
		DF_TRY(df_cuda_gemm(be, &product, err));
	}
	if (a->dw.mem) {
		product.ta = true;
		product.tb = false;
		product.beta = 1;
		product.a = g;
		product.b = h;
		product.c = a->dw;
		DF_TRY(df_cuda_gemm(be, &product, err));
	}
out:
	return rc;
}

/* All three operations: what is not asked for is NONE. */
int
df_cuda_xent(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_xent *a = (const struct df_xent *)args;
	const size_t n_rows = a->h.rows, n_vocab = a->w.rows, ld = df_blocks_of(n_vocab, 8) * 8;
	struct df_mem mem = {};
	const size_t most = TILE_LOGITS / ld / 64 * 64;
	const size_t by_vocab = most < TILE_ROWS_MIN ? (size_t)TILE_ROWS_MIN : most;
	size_t tile_rows = by_vocab > TILE_ROWS_MAX ? (size_t)TILE_ROWS_MAX : by_vocab;
	int rc = DF_OK;

	if (n_rows == 0)
		return DF_OK;
	tile_rows = tile_rows < n_rows ? tile_rows : n_rows;
	mem.be = be;
	mem.nbytes = tile_rows * ld * sizeof(float);
	DF_TRY(df_cuda_outer_scratch(be, &mem.data, mem.nbytes, err)); /* products have the other */
	for (size_t r = 0; r < n_rows; r += tile_rows) {
		const size_t n = n_rows - r < tile_rows ? n_rows - r : tile_rows;
		const struct df_tensor z = { &mem, 0, n, n_vocab, ld, DF_F32 };
		struct df_tensor g = z;

		if (a->dlogits.mem) {
			g = df_tensor_rows(a->dlogits, r, n);
		} else if (a->h.type == DF_BF16) {
			g.type = DF_BF16;
			g.ld = 2 * ld;
		}
		DF_TRY(xent_tile(be, a, r, z, g, err));
	}
	rc = df_cuda_launched("xent", err);
out:
	return rc;
}
int
df_cuda_xent_fwd(struct df_backend *be, const void *args, struct df_err *err)
{
	return df_cuda_xent(be, args, err);
}
int
df_cuda_xent_bwd(struct df_backend *be, const void *args, struct df_err *err)
{
	return df_cuda_xent(be, args, err);
}

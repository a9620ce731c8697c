/*
 * loss.c - the end of the model: logits, softmax and cross-entropy, forward, backward or both at once.
 *
 * The logits of a tile of rows are computed, turned into their own gradient in place, and used by two
 * products before the next tile begins.  So they are never all in memory, and with a small vocabulary they
 * stay in the cache.  Tiles come one after another (dw adds up in their order); the threads share each tile.
 *
 * A backward of its own finds the sum of a row's exponentials again and does not read lse: a pass over a tile costs
 * little beside its products, and the gradients then have the bits of both at once.
 */
#include <math.h>
#include <stdlib.h>

#include "backend/cpu/vec.h"
#include "base/mem.h"

#define AT(t, row, col) (df_tensor_f32(t) + (row) * (t).ld + (col))

/* A tile has about 2 MiB of logits, but enough rows to repay a pass over w and dw. */
enum { TILE_LOGITS = 1 << 19, TILE_ROWS_MIN = 256, TILE_ROWS_MAX = 1024 };

struct tile {
	struct df_tensor z; /* logits [n,V], overwritten by their gradient when scale is given */
	const uint32_t *target;
	const float *scale; /* NULL: forward only */
	float *nll;         /* NULL: backward only */
	float *lse;         /* or NULL */
	uint8_t *correct;   /* or NULL */
};

/*
 * One row: nll = log sum_v exp(z_v - max) - (z_target - max), lse = log sum_v exp(z_v - max) + max, and
 * z_v = scale (exp(z_v - max) / sum - [v = target]).
 */
DF_SIMD static void
cross_entropy(const void *args, size_t t)
{
	const struct tile *tile = args;
	const size_t n = tile->z.cols, target = tile->target[t];
	float *z = AT(tile->z, t, 0), max = df_row_max(z, n), top = z[target], tail = 0, factor;
	df_v8 lanes = { 0 };
	double sum;
	size_t i = 0, best = 0;

	if (tile->correct) {
		while (best < target && z[best] != max)
			best++;
		tile->correct[t] = best == target && top == max;
	}
	for (i = 0; i + 64 <= n; i += 64) {
		for (size_t j = i; j < i + 64; j++)
			z[j] = df_expf(z[j] - max);
		for (size_t j = i; j < i + 64; j += 8)
			lanes += *(const df_v8 *)(z + j);
	}
	for (; i < n; i++)
		tail += z[i] = df_expf(z[i] - max);
	sum = (double)df_v8_sum(&lanes) + tail;
	if (tile->nll)
		tile->nll[t] = (float)(log(sum) - ((double)top - max));
	if (tile->lse)
		tile->lse[t] = (float)(log(sum) + (double)max);
	if (!tile->scale)
		return;
	factor = (float)(tile->scale[t] / sum);
	for (i = 0; i < n; i++)
		z[i] *= factor;
	z[target] -= tile->scale[t];
}

/* The gradient of a row whose exponentials are there already: their sum is found as it was before. */
DF_SIMD static void
from_exponentials(const void *args, size_t t)
{
	const struct tile *tile = args;
	const size_t n = tile->z.cols;
	float *z = AT(tile->z, t, 0), tail = 0, factor;
	df_v8 lanes = { 0 };
	size_t i = 0;

	for (; i + 64 <= n; i += 64)
		for (size_t j = i; j < i + 64; j += 8)
			lanes += *(const df_v8 *)(z + j);
	for (; i < n; i++)
		tail += z[i];
	factor = (float)(tile->scale[t] / ((double)df_v8_sum(&lanes) + tail));
	for (i = 0; i < n; i++)
		z[i] *= factor;
	z[tile->target[t]] -= tile->scale[t];
}

/* The address of element r of a row of any type, or NULL. */
static void *
element(struct df_tensor t, size_t r)
{
	return t.mem ? (char *)df_tensor_host(t) + r * df_dtype_size(t.type) : NULL;
}

/* All three operations: what is not asked for is NONE.  With a->logits all tiles are there, as exponentials. */
int
df_cpu_xent(struct df_backend *be, const void *args, struct df_err *err)
{
	const struct df_xent *a = args;
	const struct df_tensor all = a->logits.mem ? a->logits : a->dlogits;
	const bool made = a->logits.mem && a->scale.mem; /* by the forward */
	const size_t n_rows = a->h.rows, n_vocab = a->w.rows;
	struct df_mem mem = { .be = be };
	size_t tile_rows = TILE_LOGITS / n_vocab;
	int rc = DF_OK;

	tile_rows = tile_rows < TILE_ROWS_MIN ? TILE_ROWS_MIN : tile_rows > TILE_ROWS_MAX ? TILE_ROWS_MAX : tile_rows;
	tile_rows = tile_rows < n_rows ? tile_rows : n_rows;
	if (!all.mem) {
		DF_TRY(df_size_mul(tile_rows, n_vocab, &mem.nbytes, "a tile of logits", err));
		DF_TRY(df_size_mul(mem.nbytes, sizeof(float), &mem.nbytes, "a tile of logits", err));
		DF_TRY(df_alloc(&mem.data, mem.nbytes, 1, "a tile of logits", err));
	}
	for (size_t r = 0; r < n_rows; r += tile_rows) {
		const size_t n = n_rows - r < tile_rows ? n_rows - r : tile_rows;
		const struct df_tensor own = { &mem, 0, n, n_vocab, n_vocab, DF_F32 }, h = df_tensor_rows(a->h, r, n);
		const struct df_tensor z = all.mem ? df_tensor_rows(all, r, n) : own;
		struct tile tile = {
			.z = z,
			.target = element(a->target, r),
			.scale = element(a->scale, r),
			.nll = element(a->nll, r),
			.lse = a->nll.mem ? element(a->lse, r) : NULL, /* a backward's is only to be read */
			.correct = element(a->correct, r),
		};
		struct df_gemm logits = { false, true, 1, 0, h, a->w, z };
		struct df_gemm dh = { false, false, 1, 0, z, a->w, a->dh };
		struct df_gemm dw = { true, false, 1, 1, z, h, a->dw };

		if (!made)
			DF_TRY(df_cpu_gemm(be, &logits, err));
		df_cpu_for_rows(be, tile.z.rows, tile.z.cols, made ? from_exponentials : cross_entropy, &tile);
		if (a->dh.mem) {
			dh.c = df_tensor_rows(a->dh, r, n);
			DF_TRY(df_cpu_gemm(be, &dh, err));
		}
		if (a->dw.mem)
			DF_TRY(df_cpu_gemm(be, &dw, err));
	}
out:
	free(mem.data);
	return rc;
}

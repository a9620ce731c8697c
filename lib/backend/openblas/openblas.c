/*
 * openblas.c - the CPU backend with its matrix product on OpenBLAS's sgemm.
 *
 * Memory and all other operations are the CPU backend's; its slots multiply through `product`.  OpenBLAS works in the
 * thread that calls it, and our threads share the tiles of c.  It chooses its inner kernel, and with it the rounding,
 * by how many rows and columns are left, so an element may depend on the shape of the product that it is part of: this
 * backend is not exact.  But tiles are cut by shape alone, so the number of threads changes nothing.
 *
 * The inner indices are taken KC at a time, as OpenBLAS itself would do.  So weights in 16 bits can be widened
 * block by block, and give the bits of the same weights in f32.
 */
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/half.h"
#include "backend/openblas/load.h"

/*
 * Smaller tiles repeat more of OpenBLAS's packing: 512 x 1024 run at 0.9 to 1.0 of the speed of one call for all
 * (AVX-512, 1,024 rows), 256 x 256 at 0.8.  So tiles are large, but TILES of them should be there for the threads.
 */
enum { KC = 256, ROWS = 512, COLS = 1024, TILE_MIN = 256, TILES = 4 };

/*
 * Where the own kernels have vectors they take what they measured faster at: up to FEW_ROWS rows (up to 3 times), and
 * products of fewer than SMALL multiplications, such as attention's blocks (1.2 to 1.7 times).
 */
enum { FEW_ROWS = 16, SMALL = 1 << 22 };

/* Set when a backend is opened, and the same ever after. */
static const struct df_openblas *_Atomic blas;
static atomic_bool own_is_fast; /* the own kernels have vectors, and DF_OPENBLAS_ALL does not forbid them */

static size_t
least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static size_t
n_parts(size_t n, size_t most)
{
	return (n + most - 1) / most;
}

/* The size of the parts, at most `most`, in which n is cut evenly, in whole vectors. */
static size_t
part(size_t n, size_t most)
{
	return n_parts(n_parts(n, n_parts(n, most)), 16) * 16;
}

static void
tile_by_shape(size_t *rows, size_t *cols, size_t k, size_t threads)
{
	enum { OPS_MIN = 1 << 22 }; /* less is not worth the threads' while */
	size_t rows_most = ROWS, cols_most = COLS;

	(void)threads;
	if (*rows < OPS_MIN && *cols < OPS_MIN && *rows * *cols < OPS_MIN / (k + 1))
		return;
	while (n_parts(*rows, rows_most) * n_parts(*cols, cols_most) < TILES && rows_most > TILE_MIN)
		if (cols_most > TILE_MIN)
			cols_most /= 2;
		else
			rows_most /= 2;
	*rows = part(*rows, rows_most);
	*cols = part(*cols, cols_most);
}

/* ---- the product ------------------------------------------------------------------------------------------------ */

/* sgemm wants rows to be their length apart or more, even where there is only one. */
static int
apart(size_t ld, size_t cols)
{
	return (int)(ld > cols ? ld : cols);
}

static void
sgemm(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda, const float *b,
    size_t ldb, float beta, float *c, size_t ldc)
{
	blas->sgemm(DF_CBLAS_ROW_MAJOR, ta ? DF_CBLAS_TRANS : DF_CBLAS_NO_TRANS,
	    tb ? DF_CBLAS_TRANS : DF_CBLAS_NO_TRANS, (int)m, (int)n, (int)k, alpha, a, apart(lda, ta ? m : k), b,
	    apart(ldb, tb ? k : n), beta, c, apart(ldc, n));
}

/* sgemm with at most KC x COLS elements of a b in 16 bits. */
static __attribute__((noinline)) void
sgemm_widened(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
    struct df_cpu_operand b, float beta, float *c, size_t ldc)
{
	_Alignas(64) float wide[KC * COLS];
	const size_t rows = tb ? n : k, cols = tb ? k : n;

	for (size_t i = 0; i < rows; i++)
		df_convert_row(wide + i * cols, DF_F32, df_cpu_element(b, i, 0), b.type, cols);
	sgemm(ta, tb, m, n, k, alpha, a, lda, wide, cols, beta, c, ldc);
}

/* OpenBLAS counts in ints; and it knows no empty sum. */
static bool
is_for_openblas(bool tb, size_t m, size_t n, size_t k, size_t lda, size_t ldb, size_t ldc)
{
	if (m > INT_MAX || n > INT_MAX || k > INT_MAX || lda > INT_MAX || ldb > INT_MAX || ldc > INT_MAX || k == 0)
		return false;
	return !own_is_fast || ((m > FEW_ROWS || !tb) && (double)m * (double)n * (double)k >= SMALL);
}

static void
multiply(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
    struct df_cpu_operand b, float beta, float *c, size_t ldc)
{
	if (!is_for_openblas(tb, m, n, k, lda, b.ld, ldc)) {
		df_cpu_product.multiply(ta, tb, m, n, k, alpha, a, lda, b, beta, c, ldc);
		return;
	}
	for (size_t j = 0; j < n; j += COLS)
		for (size_t k0 = 0; k0 < k; k0 += KC) {
			const size_t cols = least(n - j, COLS), kc = least(k - k0, KC);
			const float *at = ta ? a + k0 * lda : a + k0, keep = k0 ? 1 : beta;
			const void *bt = tb ? df_cpu_element(b, j, k0) : df_cpu_element(b, k0, j);

			if (b.type == DF_F32)
				sgemm(ta, tb, m, cols, kc, alpha, at, lda, bt, b.ld, keep, c + j, ldc);
			else
				sgemm_widened(ta, tb, m, cols, kc, alpha, at, lda,
				    (struct df_cpu_operand){ bt, b.ld, b.type }, keep, c + j, ldc);
		}
}

static const struct df_cpu_product product = { multiply, tile_by_shape };

/* ---- the backend ------------------------------------------------------------------------------------------------ */

static int
open_openblas(struct df_backend *be, const char *device, struct df_err *err)
{
	const struct df_openblas *loaded;
	int rc;

	(void)be;
	DF_TRY(df_openblas_load(&loaded, err));
	own_is_fast = df_cpu_gemm_is_fast() && !getenv("DF_OPENBLAS_ALL");
	blas = loaded;
out:
	if (rc != DF_OK)
		df_err_prefix(err, "device '%s': ", device);
	return rc;
}

static void
describe(char *out, size_t size)
{
	const struct df_openblas *b;

	if (df_openblas_load(&b, NULL) == DF_OK)
		snprintf(out, size, "%s, %s", b->version, b->kernel);
	else
		snprintf(out, size, "not found");
}

static bool
suits_any_cpu(void)
{
	return true;
}

const struct df_backend_ops df_openblas_backend = {
	.api_version = DF_BACKEND_API_VERSION,
	.name = "openblas",
	.on_host = true,
	.reads_on_host = true,
	.exact = false,
	.keeps_logits = true,
	.product = &product,
	.suits = suits_any_cpu,
	.describe = describe,
	.open = open_openblas,
	.close = df_host_close,
	.alloc = df_host_alloc,
	.free = df_host_free,
	.upload = df_host_upload,
	.download = df_host_download,
	.sync = df_host_sync,
	.op = df_cpu_op,
};

/*
 * gemm_kernel.h - a template: the micro-kernels of gemm.c for one set of
 * instructions.  Before including it define
 *
 *   KERNEL  the functions' name           TARGET  their target attribute, or empty
 *   VEC     a vector of WIDTH floats      VECU    the same, unaligned
 *   MR      the most rows of a block      ALL(x)  WIDTH times x
 *   FMA(x, y, z)  x * y + z of vectors
 *
 * With j over nv vectors, two in each strip of b, strips ss elements apart:
 *
 *   s[i][j] = sum over k of a[i*rs + k*cs] * b[k*bs + j], summed in order of k
 *   c[i*ldc + j] = beta c + alpha s      (beta = 0 does not read c)
 *
 * c is fetched while the sums are on their way.  Few rows take several strips at once: a sum waits for its last step,
 * and there must be others to go on with.
 */

/* `rows` and `nv` are constants in each call, so that the sums stay in registers. */
TARGET UNCHECKED static inline __attribute__((always_inline)) void
CONCAT(KERNEL, _block)(const int rows, const int nv, const struct block *blk)
{
	const size_t rs = blk->rs, cs = blk->cs, bs = blk->bs, ss = blk->ss, ldc = blk->ldc;
	const float *restrict a = blk->a, *restrict b = blk->b, beta = blk->beta;
	const VEC alpha = ALL(blk->alpha);
	float *restrict c = blk->c;
	VEC s[MR][8];

#pragma GCC unroll 16
	for (int i = 0; i < rows; i++) {
#pragma GCC unroll 8
		for (int v = 0; v < nv; v++)
			s[i][v] = ALL(0.0f);
		__builtin_prefetch(c + (size_t)i * ldc, 1);
		__builtin_prefetch(c + (size_t)i * ldc + nv * WIDTH - 1, 1);
	}
	for (size_t k = blk->kc; k > 0; k--, a += cs, b += bs) {
		VEC y[8];

#pragma GCC unroll 8
		for (int v = 0; v < nv; v++)
			y[v] = *(const VECU *)(b + (size_t)(v / 2) * ss + v % 2 * WIDTH);
#pragma GCC unroll 16
		for (int i = 0; i < rows; i++) {
			const VEC x = ALL(a[(size_t)i * rs]);

#pragma GCC unroll 8
			for (int v = 0; v < nv; v++)
				s[i][v] = FMA(x, y[v], s[i][v]);
		}
	}
#pragma GCC unroll 16
	for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
		for (int v = 0; v < nv; v++) {
			VECU *out = (VECU *)(c + (size_t)i * ldc + v * WIDTH);
			const VEC add = alpha * s[i][v];

			if (beta == 0.0f)
				*out = add;
			else if (beta == 1.0f)
				*out += add;
			else
				*out = ALL(beta) * *out + add;
		}
}

#define RUN(rows, nv) CONCAT(KERNEL, _block)(rows, nv, blk)
#define CASE(rows)                     \
	case rows:                     \
		if (blk->nv > 1)       \
			RUN(rows, 2);  \
		else                   \
			RUN(rows, 1);  \
		break;
#define CASE_THIN(rows, most)          \
	case rows:                     \
		if (blk->nv == most)   \
			RUN(rows, most);  \
		else if (blk->nv == 2) \
			RUN(rows, 2);  \
		else                   \
			RUN(rows, 1);  \
		break;

TARGET UNCHECKED static void
KERNEL(const struct block *blk)
{
	check_corners(blk, WIDTH);
	switch (blk->rows) {
#if MR > 6
	CASE(12) CASE(11) CASE(10) CASE(9) CASE(8) CASE(7)
#endif
	CASE(6) CASE(5) CASE(4) CASE_THIN(3, 4) CASE_THIN(2, 4) CASE_THIN(1, 8)
	}
}

#undef RUN
#undef CASE_THIN
#undef CASE
#undef KERNEL
#undef TARGET
#undef VEC
#undef VECU
#undef WIDTH
#undef MR
#undef ALL
#undef FMA

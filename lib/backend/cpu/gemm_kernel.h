/*
 * gemm_kernel.h - a template: the micro-kernels of gemm.c for one set of
 * instructions.  Before including it define
 *
 *   KERNEL  the functions' name           TARGET  their target attribute, or empty
 *   VEC     a vector of WIDTH floats      VECU    the same, unaligned
 *   MR      the most rows of a block      ALL(x)  WIDTH times x
 *   FMA(x, y, z)  x * y + z of vectors
 *
 * With j over two vectors side by side, or one for a narrow block:
 *
 *   s[i][j] = sum over k of a[i*rs + k*cs] * b[k*bs + j], summed in order of k
 *   c[i*ldc + j] = beta c + alpha s      (beta = 0 does not read c)
 */

/* `rows` and `nv` are constants in each call, so that the sums stay in registers. */
TARGET static inline __attribute__((always_inline)) void
CONCAT(KERNEL, _block)(const int rows, const int nv, const struct block *blk)
{
	const size_t rs = blk->rs, cs = blk->cs, bs = blk->bs, ldc = blk->ldc;
	const float *restrict a = blk->a, *restrict b = blk->b, beta = blk->beta;
	const VEC alpha = ALL(blk->alpha);
	float *restrict c = blk->c;
	VEC s[MR][2];

#pragma GCC unroll 16
	for (int i = 0; i < rows; i++)
		s[i][0] = s[i][1] = ALL(0.0f);
	for (size_t k = blk->kc; k > 0; k--, a += cs, b += bs) {
		const VEC b0 = *(const VECU *)b, b1 = *(const VECU *)(b + (nv - 1) * WIDTH);

#pragma GCC unroll 16
		for (int i = 0; i < rows; i++) {
			const VEC x = ALL(a[(size_t)i * rs]);

			s[i][0] = FMA(x, b0, s[i][0]);
			if (nv > 1)
				s[i][1] = FMA(x, b1, s[i][1]);
		}
	}
#pragma GCC unroll 16
	for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
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

#define CASE(rows)                                                   \
	case rows:                                                   \
		if (blk->nr > WIDTH)                                 \
			CONCAT(KERNEL, _block)(rows, 2, blk);        \
		else                                                 \
			CONCAT(KERNEL, _block)(rows, 1, blk);        \
		break;

TARGET static void
KERNEL(const struct block *blk)
{
	switch (blk->rows) {
#if MR > 6
	CASE(12) CASE(11) CASE(10) CASE(9) CASE(8) CASE(7)
#endif
	CASE(6) CASE(5) CASE(4) CASE(3) CASE(2) CASE(1)
	}
}

#undef CASE
#undef KERNEL
#undef TARGET
#undef VEC
#undef VECU
#undef WIDTH
#undef MR
#undef ALL
#undef FMA

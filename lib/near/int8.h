/*
 * int8.h - products of blocks of 8-bit integers, many times as fast as those of floats: for screens that rule out what
 * need not be computed exactly (screen.h).  All kernels give the same integers.
 */
#ifndef DF_NEAR_INT8_H
#define DF_NEAR_INT8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	DF_INT8_BLOCK = 32,  /* rows, and columns, of a block */
	DF_INT8_STEP = 64,   /* the inner size is a multiple of it */
	DF_INT8_WIDEST = 1 << 14 /* and at most this: sums stay below 2^29 */
};

struct df_int8 {
	const char *name; /* of its instructions */
	int most;         /* a is from -most to most */
	double cost;      /* time of a product, about, where that of floats is 1 */
	/*
	 * c[i][j] = (add: +=) sum over k < n_inner of a[i][k] b[k][j], for DF_INT8_BLOCK rows and columns; row i of a
	 * begins at a + i * lda, b is packed: b[k][j] is b[k / 4 * 4 * DF_INT8_BLOCK + 4 * j + k % 4]; c is dense.
	 */
	void (*multiply)(const int8_t *a, size_t lda, const uint8_t *b, size_t n_inner, bool add, int32_t *c);
	/* Called by a thread before its first and after its last product; NULL: nothing to do. */
	void (*begin)(void), (*end)(void);
	bool (*usable)(void); /* on this machine, in this process */
};

/* All of them, the fastest first, plain C last, then NULL. */
extern const struct df_int8 *const df_int8_kernels[];
/* The fastest that can be used; NULL where that is plain C, which is no faster than products of floats. */
const struct df_int8 *df_int8_best(void);

#endif

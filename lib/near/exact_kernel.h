/*
 * exact_kernel.h - a template: the exact values of exact.c for one set of instructions.  Before including it define
 *
 *   KERNEL  the functions' suffix     TARGET  their target attribute, or empty
 *   WIDEN(p)       WIDTH floats at p as a v8d
 *   FUSE(s, x, y)  s = x * y + s of v8d variables, each lane rounded once
 *   TILED          optional: there are registers for the sums of a tile of TILE_A rows and TILE_B
 */

#define NAME_(a, b) a##b
#define NAME(a, b)  NAME_(a, b)

/* LANES elements of a, widened once, with those of each of `n` rows. */
TARGET static inline __attribute__((always_inline)) void
NAME(add_, KERNEL)(v8d (*s)[LANES / WIDTH], const float *a, const float *const *b, size_t at, size_t n, bool l2)
{
#pragma GCC unroll 4
	for (size_t v = 0; v < LANES / WIDTH; v++) {
		const v8d x = WIDEN(a + v * WIDTH);

#pragma GCC unroll 4
		for (size_t r = 0; r < n; r++) {
			const v8d y = WIDEN(b[r] + at + v * WIDTH), z = x - y;

			if (l2)
				FUSE(s[r][v], z, z);
			else
				FUSE(s[r][v], x, y);
		}
	}
}

/* Zeros after the last element add nothing. */
TARGET static inline __attribute__((always_inline)) void
NAME(values_, KERNEL)(const float *a, const float *const *b, size_t n, size_t d, bool l2, double *value)
{
	v8d s[ROWS][LANES / WIDTH] = { { { 0 } } };
	size_t i = 0;

	for (; i + LANES <= d; i += LANES)
		NAME(add_, KERNEL)(s, a + i, b, i, n, l2);
	if (i < d) {
		float x[LANES] = { 0 }, y[ROWS][LANES] = { { 0 } };
		const float *ends[ROWS] = { y[0], y[1], y[2], y[3] };

		memcpy(x, a + i, (d - i) * sizeof(*x));
		for (size_t r = 0; r < n; r++)
			memcpy(y[r], b[r] + i, (d - i) * sizeof(*y[r]));
		NAME(add_, KERNEL)(s, x, ends, 0, n, l2);
	}
	for (size_t r = 0; r < n; r++) {
		const v8d t = (s[r][0] + s[r][2]) + (s[r][1] + s[r][3]);

		value[r] = ((t[0] + t[4]) + (t[2] + t[6])) + ((t[1] + t[5]) + (t[3] + t[7]));
	}
}

/* `n` and `l2` are constants in each call, so that the sums stay in registers. */
TARGET static void
NAME(many_, KERNEL)(bool l2, const float *a, const float *const *b, size_t n, size_t d, double *value)
{
#define CASE(rows)                                                             \
	case rows:                                                             \
		if (l2)                                                        \
			NAME(values_, KERNEL)(a, b, rows, d, true, value);     \
		else                                                           \
			NAME(values_, KERNEL)(a, b, rows, d, false, value);    \
		break;

	for (; n >= ROWS; n -= ROWS, b += ROWS, value += ROWS)
		switch (ROWS) { CASE(ROWS) }
	switch (n) { CASE(3) CASE(2) CASE(1) }
#undef CASE
}

#ifdef TILED
/* Vector v of the lanes: its elements of all rows, each widened once for the tile. */
TARGET static inline __attribute__((always_inline)) void
NAME(add_tile_, KERNEL)(v8d (*s)[TILE_B], const float *const *a, const float *const *b, size_t at, bool l2)
{
	v8d x[TILE_A];

#pragma GCC unroll 8
	for (size_t r = 0; r < TILE_A; r++)
		x[r] = WIDEN(a[r] + at);
#pragma GCC unroll 8
	for (size_t c = 0; c < TILE_B; c++) {
		const v8d y = WIDEN(b[c] + at);

#pragma GCC unroll 8
		for (size_t r = 0; r < TILE_A; r++) {
			const v8d z = x[r] - y;

			if (l2)
				FUSE(s[r][c], z, z);
			else
				FUSE(s[r][c], x[r], y);
		}
	}
}

/* The lanes do not meet before the end, so the tile is run through once for each vector of them. */
TARGET static inline __attribute__((always_inline)) void
NAME(tile_values_, KERNEL)(const float *const *a, const float *const *b, size_t d, bool l2, double *value,
    size_t stride)
{
	const size_t whole = d - d % LANES;
	float rest[TILE_A + TILE_B][LANES] = { { 0 } };
	const float *ends[TILE_A + TILE_B];
	v8d sums[LANES / WIDTH][TILE_A][TILE_B];

	for (size_t r = 0; r < TILE_A + TILE_B; r++) {
		memcpy(rest[r], (r < TILE_A ? a[r] : b[r - TILE_A]) + whole, (d - whole) * sizeof(float));
		ends[r] = rest[r];
	}
	for (size_t v = 0; v < LANES / WIDTH; v++) {
		v8d s[TILE_A][TILE_B] = { { { 0 } } };

		for (size_t i = v * WIDTH; i < whole; i += LANES)
			NAME(add_tile_, KERNEL)(s, a, b, i, l2);
		if (whole < d)
			NAME(add_tile_, KERNEL)(s, ends, ends + TILE_A, v * WIDTH, l2);
		memcpy(sums[v], s, sizeof(s));
	}
	for (size_t r = 0; r < TILE_A; r++) {
		for (size_t c = 0; c < TILE_B; c++) {
			const v8d t = (sums[0][r][c] + sums[2][r][c]) + (sums[1][r][c] + sums[3][r][c]);

			value[r * stride + c] = ((t[0] + t[4]) + (t[2] + t[6])) + ((t[1] + t[5]) + (t[3] + t[7]));
		}
	}
}

TARGET static void
NAME(tile_, KERNEL)(bool l2, const float *const *a, const float *const *b, size_t d, double *value, size_t stride)
{
	if (l2)
		NAME(tile_values_, KERNEL)(a, b, d, true, value, stride);
	else
		NAME(tile_values_, KERNEL)(a, b, d, false, value, stride);
}
#endif

#undef TILED
#undef NAME
#undef NAME_
#undef KERNEL
#undef TARGET
#undef WIDEN
#undef FUSE

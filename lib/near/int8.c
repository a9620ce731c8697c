/*
 * int8.c - products of blocks of 8-bit integers.
 *
 *   AMX       2 x 2 tiles of 16 x 16, 64 inner indices at a time
 *   AVX-512   vpdpbusd: four inner indices of 16 columns; 8 rows of 32 columns in registers
 *   AVX2      vpmaddubsw and vpmaddwd: the same of 8 columns.  Pairs of products must stay below 2^15: |a| <= 63
 */
#include "near/int8.h"

#include <string.h>

enum { BLOCK = DF_INT8_BLOCK, GROUP = 4 * BLOCK /* bytes of b for four inner indices */ };

static void
multiply_c(const int8_t *a, size_t lda, const uint8_t *b, size_t n_inner, bool add, int32_t *c)
{
	for (size_t i = 0; i < BLOCK; i++) {
		for (size_t j = 0; j < BLOCK; j++) {
			int32_t sum = add ? c[i * BLOCK + j] : 0;

			for (size_t k = 0; k < n_inner; k++)
				sum += a[i * lda + k] * b[k / 4 * GROUP + 4 * j + k % 4];
			c[i * BLOCK + j] = sum;
		}
	}
}

static bool
always(void)
{
	return true;
}

static const struct df_int8 plain_c = {
	.name = "C", .most = 127, .cost = 10, .multiply = multiply_c, .usable = always
};

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Four numbers of a in all lanes. */
#define FOUR(a) (*(const int32_t __attribute__((aligned(1), may_alias)) *)(a))

/* ---- AVX2 ----------------------------------------------------------------------------------- */

#define AVX2 __attribute__((target("avx2")))

AVX2 static void
multiply_avx2(const int8_t *a, size_t lda, const uint8_t *b, size_t n_inner, bool add, int32_t *c)
{
	enum { ROWS = 2, VECTORS = 4, WIDTH = 8 };
	const __m256i ones = _mm256_set1_epi16(1);

	for (size_t i = 0; i < BLOCK; i += ROWS, c += ROWS * BLOCK) {
		__m256i s[ROWS][VECTORS];

		for (size_t r = 0; r < ROWS; r++)
			for (size_t v = 0; v < VECTORS; v++)
				s[r][v] = add ? _mm256_loadu_si256((const __m256i_u *)(c + r * BLOCK + v * WIDTH))
					      : _mm256_setzero_si256();
		for (size_t k = 0; k < n_inner; k += 4) {
#pragma GCC unroll 2
			for (size_t r = 0; r < ROWS; r++) {
				const __m256i x = _mm256_set1_epi32(FOUR(a + (i + r) * lda + k));

#pragma GCC unroll 4
				for (size_t v = 0; v < VECTORS; v++) {
					const __m256i y =
					    _mm256_loadu_si256((const __m256i_u *)(b + k * BLOCK + v * 4 * WIDTH));

					s[r][v] = _mm256_add_epi32(
					    s[r][v], _mm256_madd_epi16(_mm256_maddubs_epi16(y, x), ones));
				}
			}
		}
		for (size_t r = 0; r < ROWS; r++)
			for (size_t v = 0; v < VECTORS; v++)
				_mm256_storeu_si256((__m256i_u *)(c + r * BLOCK + v * WIDTH), s[r][v]);
	}
}

static bool
has_avx2(void)
{
	return __builtin_cpu_supports("avx2");
}

static const struct df_int8 avx2 = {
	.name = "AVX2", .most = 63, .cost = 0.6, .multiply = multiply_avx2, .usable = has_avx2
};

/* ---- AVX-512 ---------------------------------------------------------------------------------- */

#define VNNI __attribute__((target("avx512f,avx512vnni")))

VNNI static void
multiply_vnni(const int8_t *a, size_t lda, const uint8_t *b, size_t n_inner, bool add, int32_t *c)
{
	enum { ROWS = 8, WIDTH = 16 };

	for (size_t i = 0; i < BLOCK; i += ROWS, c += ROWS * BLOCK) {
		__m512i s[ROWS][2];

#pragma GCC unroll 8
		for (size_t r = 0; r < ROWS; r++)
			for (size_t v = 0; v < 2; v++)
				s[r][v] = add ? _mm512_loadu_si512(c + r * BLOCK + v * WIDTH) : _mm512_setzero_si512();
		for (size_t k = 0; k < n_inner; k += 4) {
			const __m512i y0 = _mm512_loadu_si512(b + k * BLOCK),
				      y1 = _mm512_loadu_si512(b + k * BLOCK + 4 * WIDTH);

#pragma GCC unroll 8
			for (size_t r = 0; r < ROWS; r++) {
				const __m512i x = _mm512_set1_epi32(FOUR(a + (i + r) * lda + k));

				s[r][0] = _mm512_dpbusd_epi32(s[r][0], y0, x);
				s[r][1] = _mm512_dpbusd_epi32(s[r][1], y1, x);
			}
		}
#pragma GCC unroll 8
		for (size_t r = 0; r < ROWS; r++)
			for (size_t v = 0; v < 2; v++)
				_mm512_storeu_si512(c + r * BLOCK + v * WIDTH, s[r][v]);
	}
}

static bool
has_vnni(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vnni");
}

static const struct df_int8 vnni = {
	.name = "AVX-512 VNNI", .most = 127, .cost = 0.22, .multiply = multiply_vnni, .usable = has_vnni
};

/* ---- AMX --------------------------------------------------------------------------------------- */

#if defined(__linux__) && __GNUC__ >= 11 && !defined(__clang__)
#define HAVE_AMX 1
#define AMX      __attribute__((target("amx-tile,amx-int8")))

enum { TILE = 16, TILE_BYTES = 64 };

/* Tiles 0 to 3 are c, 4 and 5 rows of a, 6 and 7 columns of b. */
AMX static void
multiply_amx(const int8_t *a, size_t lda, const uint8_t *b, size_t n_inner, bool add, int32_t *c)
{
	int32_t *low = c + TILE * BLOCK;

	__asm__ volatile("" ::: "memory"); /* the tile loads do not say that they read memory */
	if (add) {
		_tile_loadd(0, c, GROUP);
		_tile_loadd(1, c + TILE, GROUP);
		_tile_loadd(2, low, GROUP);
		_tile_loadd(3, low + TILE, GROUP);
	} else {
		_tile_zero(0);
		_tile_zero(1);
		_tile_zero(2);
		_tile_zero(3);
	}
	for (size_t k = 0; k < n_inner; k += DF_INT8_STEP, a += DF_INT8_STEP, b += DF_INT8_STEP * BLOCK) {
		_tile_loadd(4, a, lda);
		_tile_loadd(6, b, GROUP);
		_tile_loadd(7, b + TILE_BYTES, GROUP);
		_tile_dpbsud(0, 4, 6);
		_tile_dpbsud(1, 4, 7);
		_tile_loadd(5, a + TILE * lda, lda);
		_tile_dpbsud(2, 5, 6);
		_tile_dpbsud(3, 5, 7);
	}
	_tile_stored(0, c, GROUP);
	_tile_stored(1, c + TILE, GROUP);
	_tile_stored(2, low, GROUP);
	_tile_stored(3, low + TILE, GROUP);
	__asm__ volatile("" ::: "memory");
}

AMX static void
begin_amx(void)
{
	struct {
		uint8_t palette, start_row, reserved[14];
		uint16_t bytes[16];
		uint8_t rows[16];
	} config = { .palette = 1 };

	for (int i = 0; i < 8; i++) {
		config.bytes[i] = TILE_BYTES;
		config.rows[i] = TILE;
	}
	__asm__ volatile("" : : "r"(&config) : "memory");
	_tile_loadconfig(&config);
}

AMX static void
end_amx(void)
{
	_tile_release();
}

/* The processor has it, and the kernel gives this process the room for the tiles' state. */
static bool
has_amx(void)
{
	enum { ASK_FOR_STATE = 0x1023, TILE_DATA = 18 };
	const unsigned amx_tile = 1u << 24, amx_int8 = 1u << 25;
	unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;

	return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx & amx_tile) && (edx & amx_int8) &&
	    syscall(SYS_arch_prctl, ASK_FOR_STATE, TILE_DATA) == 0;
}

static const struct df_int8 amx = {
	.name = "AMX", .most = 127, .multiply = multiply_amx, .begin = begin_amx, .end = end_amx, .usable = has_amx
};
#endif
#endif

const struct df_int8 *const df_int8_kernels[] = {
#ifdef HAVE_AMX
	&amx,
#endif
#if defined(__x86_64__) && defined(__GNUC__)
	&vnni,
	&avx2,
#endif
	&plain_c,
	NULL,
};

const struct df_int8 *
df_int8_best(void)
{
	size_t i = 0;

	while (!df_int8_kernels[i]->usable())
		i++;
	return df_int8_kernels[i] == &plain_c ? NULL : df_int8_kernels[i];
}

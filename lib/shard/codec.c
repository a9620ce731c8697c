/*
 * codec.c - shuffle, zstd and Fletcher32, byte for byte as HDF5 1.10 applies them.
 *
 * Fletcher32 is two sums mod 65535 over 16-bit words.  Both are linear, and swapping a word's bytes is
 * multiplication by 256 mod 65535; so the sums run over words as they lie in (little-endian) memory and only the
 * results are swapped.  Zero has two representatives, 0 and 65535; folding yields 0 only for all-zero data, here as
 * in HDF5, which keeps the results identical.  Eight lanes are summed in parallel: with x[8j+l] in lane l,
 *
 *     a[l] = sum_j x,  b[l] = sum_j (J-j) x
 *     sum1 = sum_l a[l],  sum2 = sum_l (8 b[l] - l a[l])  + 8J * (sum1 before)
 */
#include "shard/codec.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/mem.h"
#include "base/simd.h"

#define LANES 16
typedef uint32_t lanes __attribute__((vector_size(4 * LANES)));
typedef uint16_t words __attribute__((vector_size(2 * LANES)));

/* b[l] stays below 2^32: 65535 * J(J+1)/2. */
#define LANE_STEPS 360

static uint64_t
fold(uint64_t s)
{
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}

static uint32_t
swap16(uint64_t s)
{
	return (uint32_t)((s & 0xff) << 8 | s >> 8);
}

/* a and b of `steps` steps from p on.  They are integers, so the versions for all instruction sets give the same. */
DF_SIMD static void
add_lanes(const unsigned char *p, size_t steps, uint32_t a_out[LANES], uint32_t b_out[LANES])
{
	lanes a = { 0 }, b = { 0 };

	for (size_t j = 0; j < steps; j++, p += sizeof(words)) {
		words w;

		memcpy(&w, p, sizeof(w));
		a += __builtin_convertvector(w, lanes);
		b += a;
	}
	memcpy(a_out, &a, sizeof(a));
	memcpy(b_out, &b, sizeof(b));
}

uint32_t
df_fletcher32(const void *data, size_t n)
{
	const unsigned char *p = data;
	uint64_t sum1 = 0, sum2 = 0;
	size_t n_words = n / 2;

	while (n_words >= LANES) {
		size_t steps = n_words / LANES < LANE_STEPS ? n_words / LANES : LANE_STEPS;
		uint64_t lane1 = 0, lane2 = 0;
		uint32_t a[LANES], b[LANES];

		add_lanes(p, steps, a, b);
		p += steps * sizeof(words);
		for (uint64_t l = 0; l < LANES; l++) {
			lane1 += a[l];
			lane2 += LANES * (uint64_t)b[l] - l * (uint64_t)a[l];
		}
		sum2 = fold(sum2 + lane2 + sum1 * LANES * steps);
		sum1 = fold(sum1 + lane1);
		n_words -= LANES * steps;
	}
	for (; n_words > 0; n_words--, p += 2) {
		sum1 += (uint64_t)p[0] | (uint64_t)p[1] << 8;
		sum2 += sum1;
	}
	if (n % 2) {
		sum1 += p[0]; /* the upper half of a big-endian word: the lower one of ours */
		sum2 += sum1;
	}
	return swap16(fold(sum2)) << 16 | swap16(fold(sum1));
}

/* Byte k of every element together: dst[k * count + i] = src[i * elem + k]. */
static void
shuffle(unsigned char *restrict dst, const unsigned char *restrict src, size_t n, size_t elem)
{
	size_t count = n / elem;

	for (size_t k = 0; k < elem; k++)
		for (size_t i = 0; i < count; i++)
			dst[k * count + i] = src[i * elem + k];
	memcpy(dst + count * elem, src + count * elem, n - count * elem);
}

static void
unshuffle(unsigned char *restrict dst, const unsigned char *restrict src, size_t n, size_t elem)
{
	size_t count = n / elem;

	if (elem == 4) {
		for (size_t i = 0; i < count; i++) {
			uint32_t v = (uint32_t)src[i] | (uint32_t)src[count + i] << 8 |
			    (uint32_t)src[2 * count + i] << 16 | (uint32_t)src[3 * count + i] << 24;

			memcpy(dst + 4 * i, &v, 4);
		}
	} else {
		for (size_t k = 0; k < elem; k++)
			for (size_t i = 0; i < count; i++)
				dst[i * elem + k] = src[k * count + i];
	}
	memcpy(dst + count * elem, src + count * elem, n - count * elem);
}

static int
need_tmp(struct df_codec_ctx *x, size_t n, struct df_err *err)
{
	if (x->tmp_cap >= n)
		return DF_OK;
	free(x->tmp);
	x->tmp = NULL;
	x->tmp_cap = 0;
	int rc = df_alloc(&x->tmp, n, 1, "a chunk", err);
	if (rc == DF_OK)
		x->tmp_cap = n;
	return rc;
}

void
df_codec_ctx_release(struct df_codec_ctx *x)
{
	ZSTD_freeCCtx(x->cctx);
	ZSTD_freeDCtx(x->dctx);
	free(x->tmp);
	*x = (struct df_codec_ctx)DF_CODEC_CTX_INIT;
}

size_t
df_codec_bound(const struct df_codec *c, size_t n)
{
	return (c->zstd ? ZSTD_compressBound(n) : n) + (c->fletcher ? 4 : 0);
}

int
df_codec_encode(const struct df_codec *c, struct df_codec_ctx *x, const void *src, size_t n, void *dst, size_t *len,
    struct df_err *err)
{
	size_t out = n;
	int rc = DF_OK;

	if (c->shuffle && c->elem > 1) {
		if (c->zstd) {
			DF_TRY(need_tmp(x, n, err));
			shuffle(x->tmp, src, n, c->elem);
			src = x->tmp;
		} else {
			shuffle(dst, src, n, c->elem);
			src = dst;
		}
	}
	if (c->zstd) {
		if (x->cctx == NULL && (x->cctx = ZSTD_createCCtx()) == NULL)
			return df_fail(err, DF_ENOMEM, "out of memory for compression");
		out = ZSTD_compressCCtx(x->cctx, dst, ZSTD_compressBound(n), src, n, c->level);
		if (ZSTD_isError(out))
			return df_fail(err, DF_EINTERNAL, "compression: %s", ZSTD_getErrorName(out));
	} else if (src != dst) {
		memcpy(dst, src, n);
	}
	if (c->fletcher) {
		uint32_t sum = df_fletcher32(dst, out);

		for (int i = 0; i < 4; i++)
			((unsigned char *)dst)[out++] = (unsigned char)(sum >> (8 * i));
	}
	*len = out;
out:
	return rc;
}

int
df_codec_check(const void *data, size_t n, const unsigned char s[4], struct df_err *err)
{
	const uint32_t sum = df_fletcher32(data, n);
	const uint32_t stored = (uint32_t)s[0] | (uint32_t)s[1] << 8 | (uint32_t)s[2] << 16 | (uint32_t)s[3] << 24;
	/* HDF5 1.6.2 and older stored the halves byte-swapped.  HDF5 still accepts these, and so do we. */
	const uint32_t swapped = (sum & 0x00ff00ff) << 8 | (sum & 0xff00ff00) >> 8;

	return stored == sum || stored == swapped
	    ? DF_OK
	    : df_fail(err, DF_EFORMAT, "damaged: the checksum of a chunk is wrong");
}

int
df_codec_decode(const struct df_codec *c, struct df_codec_ctx *x, const void *src, size_t len, void *dst, size_t n,
    struct df_err *err)
{
	bool unshuffles = c->shuffle && c->elem > 1;
	int rc = DF_OK;

	if (c->fletcher) {
		if (len < 4)
			return df_fail(err, DF_EFORMAT, "damaged: a chunk of %zu bytes", len);
		len -= 4;
		DF_TRY(df_codec_check(src, len, (const unsigned char *)src + len, err));
	}
	if (c->zstd) {
		size_t got;

		if (x->dctx == NULL && (x->dctx = ZSTD_createDCtx()) == NULL)
			return df_fail(err, DF_ENOMEM, "out of memory for decompression");
		if (unshuffles)
			DF_TRY(need_tmp(x, n, err));
		got = ZSTD_decompressDCtx(x->dctx, unshuffles ? x->tmp : dst, n, src, len);
		if (ZSTD_isError(got))
			return df_fail(
			    err, DF_EFORMAT, "damaged: a chunk does not decompress (%s)", ZSTD_getErrorName(got));
		len = got;
		src = unshuffles ? x->tmp : dst;
	}
	if (len != n)
		return df_fail(err, DF_EFORMAT, "damaged: a chunk holds %zu bytes, not %zu", len, n);
	if (unshuffles)
		unshuffle(dst, src, n, c->elem);
	else if (src != dst)
		memcpy(dst, src, n);
out:
	return rc;
}

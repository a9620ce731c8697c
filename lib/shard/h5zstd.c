/*
 * h5zstd.c - HDF5's registered filter 32015 (Zstandard), for reading through HDF5 itself: our programs register it,
 * and h5dump and h5py load it as the plugin libdf_h5zstd.so.
 *
 * One client value: the level.  A chunk is one zstd frame, as with hdf5plugin.
 */
#include "shard/h5zstd.h"

#include <stdbool.h>
#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

/* A frame that claims to be larger than this is damaged: by HDF5's rule, chunks are below 4 GiB. */
#define FRAME_MAX ((unsigned long long)UINT32_MAX)

static size_t
undo(size_t nbytes, size_t *buf_size, void **buf)
{
	unsigned long long n = ZSTD_getFrameContentSize(*buf, nbytes);
	bool guessing = n == ZSTD_CONTENTSIZE_UNKNOWN;
	size_t got;
	void *out;

	if (n == ZSTD_CONTENTSIZE_ERROR)
		return 0;
	/* Some writers stream and do not store the size: try a size, and double it. */
	if (guessing)
		n = (unsigned long long)nbytes * 4;
	for (;; n *= 2) {
		if (n == 0 || n > FRAME_MAX || (out = malloc((size_t)n)) == NULL)
			return 0;
		got = ZSTD_decompress(out, (size_t)n, *buf, nbytes);
		if (!ZSTD_isError(got))
			break;
		free(out);
		if (!guessing || ZSTD_getErrorCode(got) != ZSTD_error_dstSize_tooSmall)
			return 0;
	}
	free(*buf);
	*buf = out;
	*buf_size = (size_t)n;
	return got;
}

static size_t
apply(int level, size_t nbytes, size_t *buf_size, void **buf)
{
	size_t cap = ZSTD_compressBound(nbytes), got;
	void *out = malloc(cap);

	if (out == NULL)
		return 0;
	got = ZSTD_compress(out, cap, *buf, nbytes, level);
	if (ZSTD_isError(got)) {
		free(out);
		return 0;
	}
	free(*buf);
	*buf = out;
	*buf_size = cap;
	return got;
}

/* As H5Z_func_t: the new number of bytes, 0 = failed. */
static size_t
filter(unsigned flags, size_t n_values, const unsigned values[], size_t nbytes, size_t *buf_size, void **buf)
{
	if (flags & H5Z_FLAG_REVERSE)
		return undo(nbytes, buf_size, buf);
	return apply(n_values > 0 && values[0] <= 22 ? (int)values[0] : 3, nbytes, buf_size, buf);
}

const H5Z_class2_t df_h5zstd_class = {
	.version = H5Z_CLASS_T_VERS,
	.id = 32015,
	.encoder_present = 1,
	.decoder_present = 1,
	.name = "Zstandard compression: http://www.zstd.net",
	.filter = filter,
};

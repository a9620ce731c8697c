/* artefact.c - reads an artefact in all the ways in which the programs do; and changes that leave it one. */
#include "fuzz.h"

#include <hdf5.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "shard/shard_priv.h"

/* A small file may truly say that it has 2^40 rows, all zero: to read them takes long, and shows nothing. */
#define ROWS_MAX   ((uint64_t)1 << 12)
#define VALUES_MAX ((uint64_t)1 << 16)

static bool
small(const struct df_set *s)
{
	for (int c = 0; c < DF_COL_COUNT; c++) {
		uint64_t values = 0;

		for (size_t i = 0; i < df_set_parts(s); i++)
			if (df_set_part(s, i).values[c] > VALUES_MAX)
				return false;
			else
				values += df_set_part(s, i).values[c];
		if (values > VALUES_MAX || df_set_width(s, (enum df_col)c) > VALUES_MAX / ROWS_MAX)
			return false;
	}
	return df_set_is_stream(s) || df_set_rows(s) <= ROWS_MAX;
}

static void
read_pieces(struct df_set *s)
{
	uint32_t *ids = malloc(VALUES_MAX * sizeof(*ids));
	uint8_t *mask = malloc(VALUES_MAX);
	struct df_err err = DF_ERR_INIT;
	struct df_piece_reader *r = NULL;
	struct df_pieces *p = NULL;

	if (ids == NULL || mask == NULL || df_pieces_open(&p, s, &err) != DF_OK ||
	    df_piece_reader_new(&r, &err) != DF_OK)
		goto out;
	for (uint64_t i = 0; i < df_pieces_count(p); i++) {
		const struct df_piece_dst dst = { .ids = ids, .mask = mask };

		if (df_pieces_at(p, i).n > VALUES_MAX)
			abort();
		if (df_pieces_read(p, r, i, &dst, &err) != DF_OK)
			break;
	}
out:
	df_piece_reader_free(r);
	df_pieces_close(p);
	free(mask);
	free(ids);
}

void
fuzz_read(const char *path)
{
	struct df_batch b = DF_BATCH_INIT;
	struct df_meta m = DF_META_INIT;
	struct df_err err = DF_ERR_INIT;
	struct df_set *s = NULL;
	uint64_t n, seen = 0;

	/* The library frees what it no longer needs, so that a sanitizer sees who uses it. */
	H5set_free_list_limits(0, 0, 0, 0, 0, 0);
	if (df_meta_load(&m, path, NULL, &err) == DF_OK)
		df_meta_release(&m);
	if (df_set_open_later(&s, DF_KIND_ANY, NULL, &path, 1, &err) != DF_OK || !small(s))
		goto out;
	while (df_set_next(s, 2, &b, &n, &err) == DF_OK && n > 0)
		seen += n;
	if (df_set_is_stream(s) || seen != df_set_rows(s))
		goto out;
	/* Every row can be had, so in any order too. */
	for (uint64_t i = seen; i-- > 0;)
		if (df_set_read(s, i, 1, &b, &err) != DF_OK)
			abort();
	for (int c = 0; c < DF_COL_COUNT; c++) {
		uint64_t *lengths = NULL;

		if (df_set_has(s, (enum df_col)c) && df_column((enum df_col)c)->offsets &&
		    df_set_lengths(s, (enum df_col)c, &lengths, &err) != DF_OK)
			abort();
		free(lengths);
	}
	if (df_set_has(s, DF_COL_IDS))
		read_pieces(s);
out:
	df_batch_release(&b);
	df_set_close(s);
	if (H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL) != 0)
		abort(); /* something of the file stays open */
}

/* ---- changes: an HDF5 file is full of addresses, so most leave the bytes where they are */

/* libFuzzer's, where there is one. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t n, size_t max) __attribute__((weak));

size_t
fuzz_mutate(uint8_t *data, size_t n, size_t max, unsigned seed)
{
	uint32_t r[4], edits;

	df_philox((uint32_t[4]){ 0, 0, 0, 0 }, (uint32_t[2]){ seed, 0 }, r);
	if (n < 8 || (r[0] % 8 == 0 && LLVMFuzzerMutate))
		return LLVMFuzzerMutate ? LLVMFuzzerMutate(data, n, max) : n;
	edits = 1 + r[1] % 3;
	for (uint32_t e = 1; e <= edits; e++) {
		const uint64_t odd[] = { 0, 1, UINT64_MAX, n, n - 1, UINT64_C(1) << 32, INT64_MAX, 0xff };
		size_t at, len;

		df_philox((uint32_t[4]){ e, 0, 0, 0 }, (uint32_t[2]){ seed, 0 }, r);
		/* Most of a small file is unused: look for something. */
		for (at = r[0] % (n - 7); data[at] == 0 && r[0] % 4 && at < n - 8; at++)
			;
		len = (size_t)1 << r[1] % 4;
		switch (r[2] % 4) {
		case 0: data[at] ^= (uint8_t)(1u << r[3] % 8); break;
		case 1: data[at] = (uint8_t)(data[at] + r[3] % 9 - 4); break;
		case 2: memcpy(data + at, &odd[r[3] % (sizeof(odd) / sizeof(odd[0]))], len); break;
		default: memmove(data + at, data + r[3] % (n - 7), len); break;
		}
	}
	return n;
}

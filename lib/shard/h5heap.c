/*
 * h5heap.c - is a collection of a file's global heap valid?
 *
 * Strings of variable length are stored in global heap collections, which have no checksum.  On a damaged one HDF5
 * 1.10.8 may loop for ever (an object of index 0 and size 0).  We write strings of fixed length into the
 * checksummed object headers instead; but users' scripts write variable ones, so a collection is checked here
 * before the library walks it.
 *
 *     collection   'G' 'C' 'O' 'L', version 1, 3 zeros, u64 size; objects
 *     object       u16 index, u16 references, u32 zero, u64 size; data, padded to 8
 *     free space   the same with index 0, size including this header
 */
#include "shard/h5_priv.h"

#include <string.h>

#define HEAD 16

uint64_t
df_h5_heap_size(const void *bytes, size_t n)
{
	uint64_t size;

	if (n < HEAD || memcmp(bytes, "GCOL", 4) != 0)
		return 0;
	memcpy(&size, (const char *)bytes + 8, sizeof(size));
	return size ? size : UINT64_MAX; /* larger than any file */
}

bool
df_h5_heap_sound(const void *bytes, uint64_t size)
{
	const unsigned char *p = bytes;
	uint64_t at = HEAD;

	if (size < HEAD || df_h5_heap_size(bytes, (size_t)size) != size)
		return false;
	/* A rest that is smaller than a header is unused. */
	while (size - at >= HEAD) {
		uint16_t index;
		uint64_t n, need;

		memcpy(&index, p + at, sizeof(index));
		memcpy(&n, p + at + 8, sizeof(n));
		if (n > size - at)
			return false;
		need = index == 0 ? n : HEAD + ((n + 7) & ~(uint64_t)7);
		if (need < HEAD || need > size - at)
			return false;
		at += need;
	}
	return true;
}

uint64_t
df_h5_heap_object(const void *bytes, uint64_t size, unsigned wanted)
{
	const unsigned char *p = bytes;
	uint64_t found = UINT64_MAX;

	/* The library takes the last one of an index. */
	for (uint64_t at = HEAD; size - at >= HEAD;) {
		uint16_t index;
		uint64_t n;

		memcpy(&index, p + at, sizeof(index));
		memcpy(&n, p + at + 8, sizeof(n));
		if (index != 0 && index == wanted)
			found = n;
		at += index == 0 ? n : HEAD + ((n + 7) & ~(uint64_t)7);
	}
	return found;
}

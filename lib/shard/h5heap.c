/*
 * h5heap.c - is a file's global heap sound?
 *
 * Strings of variable length lie in global heap collections, which carry no
 * checksum, and on a damaged one HDF5 1.10.8 may walk in place for ever (an
 * object of index 0 and size 0).  We write strings of fixed length into the
 * checksummed object headers instead; but scripts write variable ones, so
 * before such a string is read, every collection in the file is walked here.
 *
 *     collection   'G' 'C' 'O' 'L', version 1, 3 zeros, u64 size; objects
 *     object       u16 index, u16 references, u32 zero, u64 size; data, padded to 8
 *     free space   the same with index 0, size including this header
 */
#include "shard/h5_priv.h"

#include <string.h>

#define HEAD 16

static bool
sound(const unsigned char *p, uint64_t size)
{
	uint64_t at = HEAD;

	/* Less than a header at the end is unused. */
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

bool
df_h5_heaps_sound(const void *bytes, size_t n)
{
	static const unsigned char head[8] = { 'G', 'C', 'O', 'L', 1, 0, 0, 0 };
	const unsigned char *base = bytes, *p = base;

	while (n - (size_t)(p - base) >= HEAD && (p = memmem(p, n - (size_t)(p - base), head, sizeof(head))) != NULL) {
		size_t left = n - (size_t)(p - base);
		uint64_t size;

		if (left < HEAD)
			break;
		memcpy(&size, p + 8, sizeof(size));
		if (size < HEAD || size > left || !sound(p, size))
			return false;
		p += sizeof(head);
	}
	return true;
}

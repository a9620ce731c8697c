/*
 * h5header.c - is an object header sound?
 *
 * HDF5 1.10.8 believes what a header says of other places of the file:
 *
 *   the address and length of its next chunk    below a checksum's length it reads far outside of its memory; it
 *                                               allocates what is asked for
 *   where the strings of an attribute lie       a string in the heap that is longer than the attribute says is written
 *                                               beyond the memory for it
 *
 * So the chunks of a header are walked here before the library gets the first of them.
 *
 *     version 2    "OHDR", 2, flags, times and limits as flags say, size of the messages; messages, sum u32
 *     further      "OCHK"; messages; sum u32
 *     message      u8 type, u16 size, u8 flags, u16 number if the header's flags say so
 *     version 1    1, 0, u16 messages, u32 references, u32 size of the messages, u32 unused; messages
 *     further      messages
 *     message      u16 type, u16 size, u8 flags, 3 unused
 *     attribute    message 12: version, flags, u16 sizes of name, type and space, (v3: character set); these (v1: each
 *                  padded to 8), data
 *     continued    message 16: address and length of a further chunk
 *     string       u32 length, address of a heap collection, u32 index in it
 */
#include "shard/h5_priv.h"

#include <stdlib.h>
#include <string.h>

#define ATTRIBUTE  12
#define CONTINUED  16
#define SIGNATURE  4
#define SUM        4
#define CHUNKS_MAX 4096

struct walk {
	const struct df_h5walk *file;
	struct df_h5chunks *chunks;
	int version;
	bool ordered;
	struct df_h5place heap; /* the collection that was walked last, */
	char *heap_bytes;       /* and its bytes */
	bool bad_heap;
};

static uint64_t
number(const unsigned char *p, size_t width)
{
	uint64_t v = 0;

	memcpy(&v, p, width); /* little-endian */
	return v;
}

/* Where n bytes at the file's address `addr` lie; false when they do not lie in it. */
static bool
find_place(const struct walk *w, uint64_t addr, uint64_t n, uint64_t *at)
{
	const uint64_t room = w->file->end - w->file->base;

	if (addr > room || n > room - addr)
		return false;
	*at = w->file->base + addr;
	return true;
}

/* A message of this chunk says that another follows. */
static bool
add_chunk(struct walk *w, const unsigned char *msg, size_t size)
{
	const size_t width = size >= 16 ? 8 : size / 2; /* that of the file's addresses */
	const uint64_t len = number(msg + width, width);
	struct df_h5chunks *c = w->chunks;
	uint64_t at;

	if (!find_place(w, number(msg, width), len, &at) || len < (w->version == 1 ? 8 : SIGNATURE + SUM) ||
	    c->n >= CHUNKS_MAX)
		return false;
	for (size_t i = 0; i < c->n; i++)
		if (c->v[i].at == at)
			return false;
	if (df_grow(&c->v, &c->cap, c->n + 1, sizeof(*c->v), "an object header", NULL) != DF_OK)
		return false;
	c->v[c->n++] = (struct df_h5place){ .at = at, .len = (size_t)len };
	return true;
}

/* The collection at this address, whole and sound, in w->heap_bytes. */
static bool
load_heap(struct walk *w, uint64_t addr)
{
	char head[16];
	uint64_t at, size;

	if (!find_place(w, addr, sizeof(head), &at))
		return false;
	if (w->heap_bytes && w->heap.at == at)
		return true;
	free(w->heap_bytes);
	w->heap_bytes = NULL;
	if (!w->file->read(w->file->ctx, at, head, sizeof(head)) || (size = df_h5_heap_size(head, sizeof(head))) == 0 ||
	    !find_place(w, addr, size, &at) || (w->heap_bytes = malloc((size_t)size)) == NULL)
		return false;
	w->heap = (struct df_h5place){ .at = at, .len = (size_t)size };
	return w->file->read(w->file->ctx, at, w->heap_bytes, (size_t)size) && df_h5_heap_sound(w->heap_bytes, size);
}

/* An attribute of strings of variable length: each must be in the heap, and no longer than it says. */
static bool
check_attribute(struct walk *w, const unsigned char *msg, size_t size)
{
	const size_t pad = size > 0 && msg[0] == 1 ? 7 : 0, head = size > 0 && msg[0] == 3 ? 9 : 8;
	const unsigned char *type, *p;
	size_t name, space, width;

	/* Another's datatype may be meant (flag 1): of a damaged one the library says so. */
	if (size < head || msg[1] & 1)
		return true;
	name = (number(msg + 2, 2) + pad) & ~pad;
	width = (number(msg + 4, 2) + pad) & ~pad;
	space = (number(msg + 6, 2) + pad) & ~pad;
	if (width < 8 || name + width + space > size - head)
		return true;
	type = msg + head + name;
	/* Class 9 is what has a variable length, its kind 1 strings. */
	if ((type[0] & 15) != 9 || (type[1] & 15) != 1)
		return true;
	p = type + width + space;
	size -= head + name + width + space;
	width = (size_t)number(type + 4, 4) - 8; /* of an address */
	if (width < 1 || width > 8)
		return false;
	for (; size >= width + 8; p += width + 8, size -= width + 8) {
		const uint64_t len = number(p, 4), addr = number(p + 4, width);

		if (addr == 0)
			continue;
		w->bad_heap = !load_heap(w, addr) ||
		    df_h5_heap_object(w->heap_bytes, w->heap.len, (unsigned)number(p + 4 + width, 4)) > len;
		if (w->bad_heap)
			return false;
	}
	return true;
}

static bool
walk_messages(struct walk *w, const unsigned char *p, size_t n)
{
	const size_t head = w->version == 1 ? 8 : w->ordered ? 6 : 4;

	/* Less than the head of a message at the end is unused. */
	while (n >= head) {
		const size_t wide = w->version == 1 ? 2 : 1, size = (size_t)number(p + wide, 2);
		const uint64_t type = number(p, wide);

		if (size > n - head)
			return false;
		if ((type == CONTINUED && !add_chunk(w, p + head, size)) ||
		    (type == ATTRIBUTE && !check_attribute(w, p + head, size)))
			return false;
		p += head + size;
		n -= head + size;
	}
	return true;
}

/* The head of the first chunk: its version, 0 when this is none, and where in it the messages begin and their bytes. */
static int
read_head(const unsigned char *p, size_t n, uint64_t *begin, uint64_t *len, bool *ordered)
{
	*ordered = false;
	if (n >= 16 && memcmp(p, "OHDR", SIGNATURE) == 0 && p[4] == 2) {
		const size_t at = 6 + (p[5] & 0x20 ? 16 : 0) + (p[5] & 0x10 ? 4 : 0), width = (size_t)1 << (p[5] & 3);

		if (at + width > n)
			return 0;
		*len = number(p + at, width);
		*begin = at + width;
		*ordered = p[5] & 4;
		return 2;
	}
	if (n >= 16 && p[0] == 1 && p[1] == 0) {
		*len = number(p + 8, 4);
		*begin = 16;
		return 1;
	}
	return 0;
}

const char *
df_h5_header_fault(const struct df_h5walk *file, uint64_t at, const void *bytes, size_t n, struct df_h5chunks *c)
{
	struct walk w = { .file = file, .chunks = c };
	const size_t first = c->n;
	uint64_t begin, len;
	bool ok = true;

	w.version = read_head(bytes, n, &begin, &len, &w.ordered);
	/* Of another version, or too short for any: the library says so. */
	if (w.version == 0)
		return NULL;
	if (at > file->end || begin > file->end - at || len > file->end - at - begin ||
	    df_grow(&c->v, &c->cap, first + 1, sizeof(*c->v), "an object header", NULL) != DF_OK)
		return "an object header";
	c->v[c->n++] = (struct df_h5place){ .at = at, .len = (size_t)(begin + len) };
	for (size_t i = first; ok && i < c->n; i++) {
		const struct df_h5place chunk = c->v[i];
		const size_t head = i == first ? (size_t)begin : w.version == 1 ? 0 : SIGNATURE;
		const size_t tail = i == first || w.version == 1 ? 0 : SUM;
		unsigned char *p = malloc(chunk.len);

		ok = p != NULL && file->read(file->ctx, chunk.at, p, chunk.len) &&
		    walk_messages(&w, p + head, chunk.len - head - tail);
		free(p);
	}
	free(w.heap_bytes);
	/* Asked for again, it is walked again. */
	if (!ok)
		c->n = first;
	return ok ? NULL : w.bad_heap ? "its string heap" : "an object header";
}

/*
 * zip.c - the entries of a zip file.
 *
 *	| local header, name, padding, bytes | .. | central directory | zip64's end | end of central directory |
 *
 * The central directory says what there is.  The local headers are read for the place of the bytes only, and must
 * agree.  Sorted by their place, the entries must not overlap: two views of the same bytes, or a bomb of entries within
 * each other, are not what torch.save() writes.
 */
#include <stdlib.h>
#include <string.h>

#include "torch/torch_priv.h"

enum {
	END = 22,        /* end of central directory record, without comment */
	LOCATOR64 = 20,  /* zip64's, right before it */
	END64 = 56,      /* zip64's end of central directory record */
	CENTRAL = 46,    /* of an entry in the central directory, without names */
	LOCAL = 30,      /* local header, without names */
	COMMENT = 65535, /* the longest */
	ENCRYPTED = 1    /* bit of the flags */
};

struct reader {
	const unsigned char *file;
	uint64_t n;
};

static uint64_t
le(const unsigned char *p, int n)
{
	uint64_t x = 0;

	for (int i = n - 1; i >= 0; i--)
		x = x << 8 | p[i];
	return x;
}

static bool
inside(const struct reader *r, uint64_t at, uint64_t n)
{
	return at <= r->n && n <= r->n - at;
}

static bool
is_record(const struct reader *r, uint64_t at, uint64_t n, unsigned kind)
{
	return inside(r, at, n) && memcmp(r->file + at, "PK", 2) == 0 && le(r->file + at + 2, 2) == kind;
}

/* The last record whose comment ends where the file ends. */
static int
find_end(const struct reader *r, uint64_t *at, struct df_err *err)
{
	for (uint64_t i = 0; i <= COMMENT && i + END <= r->n; i++) {
		const uint64_t p = r->n - END - i;

		if (is_record(r, p, END, 0x0605) && le(r->file + p + 20, 2) == i) {
			*at = p;
			return DF_OK;
		}
	}
	return df_fail(err, DF_EFORMAT, "no end of a zip's directory in the last bytes: truncated?");
}

/* Where the central directory is, its bytes and its entries. */
struct directory {
	uint64_t at, nbytes, entries;
};

static int
find_directory(const struct reader *r, struct directory *d, struct df_err *err)
{
	const unsigned char *e;
	uint64_t end, at;
	int rc;

	DF_TRY(find_end(r, &end, err));
	e = r->file + end;
	*d = (struct directory){ .at = le(e + 16, 4), .nbytes = le(e + 12, 4), .entries = le(e + 10, 2) };
	if (end >= LOCATOR64 && is_record(r, end - LOCATOR64, LOCATOR64, 0x0706)) {
		at = le(r->file + end - LOCATOR64 + 8, 8);
		if (!is_record(r, at, END64, 0x0606))
			return df_fail(err, DF_EFORMAT, "zip64's end of the directory is not at byte %llu",
			    (unsigned long long)at);
		e = r->file + at;
		*d = (struct directory){ .at = le(e + 48, 8), .nbytes = le(e + 40, 8), .entries = le(e + 32, 8) };
		end = at;
	}
	if (d->at > end || d->nbytes > end - d->at)
		return df_fail(err, DF_EFORMAT, "the zip's directory, %llu bytes from %llu, is not inside the file",
		    (unsigned long long)d->nbytes, (unsigned long long)d->at);
	if (d->entries > d->nbytes / CENTRAL)
		return df_fail(err, DF_EFORMAT, "%llu entries in a zip's directory of %llu bytes",
		    (unsigned long long)d->entries, (unsigned long long)d->nbytes);
out:
	return rc;
}

/* Sizes and place that do not fit into 32 bits are in the extra field 1, those that are needed, in this order. */
static int
read_zip64(const unsigned char *extra, size_t n, uint64_t *value[3], struct df_err *err)
{
	while (n >= 4) {
		const uint64_t id = le(extra, 2), size = le(extra + 2, 2);
		uint64_t at = 4;

		if (size > n - 4)
			break;
		for (int i = 0; id == 1 && i < 3; i++) {
			if (*value[i] != UINT32_MAX)
				continue;
			if (at + 8 > 4 + size)
				return df_fail(err, DF_EFORMAT, "its zip64 field is too short");
			*value[i] = le(extra + at, 8);
			at += 8;
		}
		if (id == 1)
			return DF_OK;
		extra += 4 + size;
		n -= 4 + size;
	}
	return DF_OK;
}

/* The place of the entry's bytes: after its local header. */
static int
read_local(const struct reader *r, struct df_zip_entry *e, struct df_err *err)
{
	const unsigned char *h = r->file + e->header;
	uint64_t at;

	if (!is_record(r, e->header, LOCAL, 0x0403))
		return df_fail(err, DF_EFORMAT, "no local header at byte %llu", (unsigned long long)e->header);
	at = e->header + LOCAL + le(h + 26, 2) + le(h + 28, 2);
	if (le(h + 26, 2) != e->n_name || !inside(r, e->header + LOCAL, e->n_name) ||
	    memcmp(h + LOCAL, e->name, e->n_name) != 0)
		return df_fail(err, DF_EFORMAT, "its local header has another name");
	if (!inside(r, at, e->nbytes))
		return df_fail(err, DF_EFORMAT, "its %zu bytes from %llu end after the file: truncated?", e->nbytes,
		    (unsigned long long)at);
	e->data = (const char *)r->file + at;
	return DF_OK;
}

/* The entry at p of the central directory, which ends at `end`; *size = the bytes of the record. */
static int
read_central(const struct reader *r, const unsigned char *p, const unsigned char *end, struct df_zip_entry *e,
    size_t *size, struct df_err *err)
{
	size_t n_extra;
	uint64_t nbytes, packed;
	int rc;

	if (end - p < CENTRAL || memcmp(p, "PK\1\2", 4) != 0)
		return df_fail(err, DF_EFORMAT, "the zip's directory is damaged at byte %zu", (size_t)(p - r->file));
	n_extra = le(p + 30, 2);
	*e = (struct df_zip_entry){
		.name = (const char *)p + CENTRAL, .n_name = le(p + 28, 2), .header = le(p + 42, 4)
	};
	*size = CENTRAL + e->n_name + n_extra + le(p + 32, 2);
	if (*size > (size_t)(end - p))
		return df_fail(err, DF_EFORMAT, "the zip's directory is damaged at byte %zu", (size_t)(p - r->file));
	packed = le(p + 20, 4);
	nbytes = le(p + 24, 4);
	DF_TRY(read_zip64(p + CENTRAL + e->n_name, n_extra, (uint64_t *[3]){ &nbytes, &packed, &e->header }, err));
	if (le(p + 8, 2) & ENCRYPTED)
		rc = df_fail(err, DF_EUNSUPPORTED, "it is encrypted");
	else if (le(p + 10, 2) != 0)
		rc = df_fail(err, DF_EUNSUPPORTED,
		    "it is compressed (method %d); torch.save() stores: save it again with torch", (int)le(p + 10, 2));
	else if (packed != nbytes)
		rc = df_fail(err, DF_EFORMAT, "stored, but %llu bytes became %llu", (unsigned long long)nbytes,
		    (unsigned long long)packed);
	else if (nbytes > r->n)
		rc = df_fail(
		    err, DF_EFORMAT, "%llu bytes, more than the file has: truncated?", (unsigned long long)nbytes);
	if (rc != DF_OK)
		goto out;
	e->nbytes = (size_t)nbytes;
	rc = read_local(r, e, err);
out:
	if (rc != DF_OK)
		df_err_prefix(err, "entry '%.*s': ", (int)(e->n_name < 200 ? e->n_name : 200), e->name);
	return rc;
}

static int
compare(const char *a, size_t n_a, const char *b, size_t n_b)
{
	const size_t n = n_a < n_b ? n_a : n_b;
	const int c = n > 0 ? memcmp(a, b, n) : 0;

	return c != 0 ? c : n_a < n_b ? -1 : n_a > n_b;
}

static int
by_name(const void *a, const void *b)
{
	const struct df_zip_entry *x = a, *y = b;

	return compare(x->name, x->n_name, y->name, y->n_name);
}

static int
by_place(const void *a, const void *b)
{
	const struct df_zip_entry *x = a, *y = b;

	return x->header < y->header ? -1 : x->header > y->header;
}

/* No two entries share a byte or a name; leaves them sorted by name. */
static int
check_apart(struct df_zip *z, const char *file, struct df_err *err)
{
	if (z->n == 0)
		return DF_OK;
	qsort(z->v, z->n, sizeof(*z->v), by_place);
	for (size_t i = 1; i < z->n; i++) {
		const struct df_zip_entry *a = &z->v[i - 1], *b = &z->v[i];

		if (file + b->header < a->data + a->nbytes)
			return df_fail(err, DF_EFORMAT, "entries '%.*s' and '%.*s' overlap",
			    (int)(a->n_name < 200 ? a->n_name : 200), a->name, (int)(b->n_name < 200 ? b->n_name : 200),
			    b->name);
	}
	qsort(z->v, z->n, sizeof(*z->v), by_name);
	for (size_t i = 1; i < z->n; i++) {
		if (by_name(&z->v[i - 1], &z->v[i]) == 0)
			return df_fail(err, DF_EFORMAT, "two entries are named '%.*s'",
			    (int)(z->v[i].n_name < 200 ? z->v[i].n_name : 200), z->v[i].name);
	}
	return DF_OK;
}

int
df_zip_open(struct df_zip *z, const void *file, size_t n, struct df_err *err)
{
	const struct reader r = { file, n };
	const unsigned char *p, *end;
	struct directory d = { 0 };
	size_t size;
	int rc;

	*z = (struct df_zip){ 0 };
	DF_TRY(find_directory(&r, &d, err));
	DF_TRY(df_alloc(&z->v, d.entries, sizeof(*z->v), "a zip's directory", err));
	p = r.file + d.at;
	end = p + d.nbytes;
	for (; z->n < d.entries; z->n++, p += size)
		DF_TRY(read_central(&r, p, end, &z->v[z->n], &size, err));
	DF_TRY(check_apart(z, file, err));
out:
	if (rc != DF_OK)
		df_zip_close(z);
	return rc;
}

void
df_zip_close(struct df_zip *z)
{
	free(z->v);
	*z = (struct df_zip){ 0 };
}

const struct df_zip_entry *
df_zip_find(const struct df_zip *z, const char *name, size_t n)
{
	const struct df_zip_entry key = { .name = name, .n_name = n };

	return z->n == 0 ? NULL : bsearch(&key, z->v, z->n, sizeof(key), by_name);
}

/*
 * stored.c - pieces of columns, from a file's bytes to an array of numbers.
 *
 * Files are read with pread(2), not mapped: a copy into memory that stays in the CPU cache costs no more than the
 * page faults of a mapping, and a file that is truncated meanwhile is an error instead of a SIGBUS.
 */
#include "shard/stored.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/half.h"
#include "base/simd.h"

struct df_bytes {
	_Atomic int users;
	int fd;
	const char *image;
	size_t len;
	char *name;
};

static int
new_bytes(struct df_bytes **out, const char *name, struct df_err *err)
{
	struct df_bytes *b = NULL;
	int rc;

	DF_TRY(df_alloc(&b, 1, sizeof(*b), "a reader", err));
	DF_TRY(df_strdup(&b->name, name, err));
	b->users = 1;
	b->fd = -1;
	*out = b;
	b = NULL;
out:
	free(b);
	return rc;
}

int
df_bytes_file(struct df_bytes **out, int fd, const char *name, struct df_err *err)
{
	int rc = new_bytes(out, name, err);

	if (rc == DF_OK)
		(*out)->fd = fd;
	else
		close(fd);
	return rc;
}

int
df_bytes_image(struct df_bytes **out, const void *image, size_t len, const char *name, struct df_err *err)
{
	int rc = new_bytes(out, name, err);

	if (rc == DF_OK) {
		(*out)->image = image;
		(*out)->len = len;
	}
	return rc;
}

struct df_bytes *
df_bytes_keep(struct df_bytes *b)
{
	b->users++;
	return b;
}

void
df_bytes_drop(struct df_bytes *b)
{
	if (b == NULL || --b->users > 0)
		return;
	if (b->fd >= 0)
		close(b->fd);
	free(b->name);
	free(b);
}

int
df_bytes_fd(const struct df_bytes *b)
{
	return b->fd;
}

const void *
df_bytes_memory(const struct df_bytes *b, size_t *len)
{
	*len = b->len;
	return b->image;
}

/* ---- reading */

void
df_scratch_release(struct df_scratch *x)
{
	df_codec_ctx_release(&x->ctx);
	free(x->raw);
	free(x->chunk);
	*x = (struct df_scratch)DF_SCRATCH_INIT;
}

/* The n bytes at `at` into dst, and the m after them into tail. */
static int
read_at(const struct df_bytes *b, uint64_t at, void *dst, size_t n, void *tail, size_t m, struct df_err *err)
{
	struct iovec v[2] = { { dst, n }, { tail, m } };
	int first = n == 0;

	while (first < 2 && v[first].iov_len > 0) {
		ssize_t got = preadv(b->fd, v + first, 2 - first, (off_t)at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return df_fail(err, DF_EIO, "cannot read:");
		if (got == 0)
			return df_fail(err, DF_EFORMAT, "truncated while it was read");
		at += (uint64_t)got;
		for (; first < 2 && (size_t)got >= v[first].iov_len; first++)
			got -= (ssize_t)v[first].iov_len;
		if (first < 2) {
			v[first].iov_base = (char *)v[first].iov_base + got;
			v[first].iov_len -= (size_t)got;
		}
	}
	return DF_OK;
}

/* *raw = the stored bytes from p->at + skip on, len of them: in place, or copied into x. */
static int
fetch(const struct df_stored *p, struct df_scratch *x, size_t skip, size_t len, const char **raw, struct df_err *err)
{
	const struct df_bytes *b = p->file;
	int rc;

	if (b->image) {
		if (p->at > b->len || p->len > b->len - p->at)
			return df_fail(err, DF_EFORMAT, "damaged: a chunk outside of the image");
		*raw = b->image + p->at + skip;
		return DF_OK;
	}
	DF_TRY(df_grow(&x->raw, &x->raw_cap, len, 1, "a chunk", err));
	DF_TRY(read_at(b, p->at + skip, x->raw, len, NULL, 0, err));
	*raw = x->raw;
out:
	return rc;
}

static int
decode(const struct df_stored *p, struct df_scratch *x, void *dst, struct df_err *err)
{
	const struct df_codec *c = &p->codec;
	unsigned char sum[4];
	const char *raw;
	int rc;

	/* Plain numbers are read straight to their destination, with their checksum if they have one. */
	if (!c->zstd && !(c->shuffle && c->elem > 1) && !p->file->image &&
	    p->len == p->whole + (c->fletcher ? sizeof(sum) : 0)) {
		DF_TRY(read_at(p->file, p->at, dst, p->whole, sum, p->len - p->whole, err));
		if (c->fletcher)
			DF_TRY(df_codec_check(dst, p->whole, sum, err));
	} else {
		DF_TRY(fetch(p, x, 0, p->len, &raw, err));
		DF_TRY(df_codec_decode(c, &x->ctx, raw, p->len, dst, p->whole, err));
	}
out:
	return rc;
}

static int
with_place(const struct df_stored *p, int rc, struct df_err *err)
{
	if (rc != DF_OK)
		df_err_prefix(err, "dataset '%s', rows from %llu: ", p->path, (unsigned long long)p->row);
	return rc;
}

int
df_stored_decode(const struct df_stored *p, struct df_scratch *x, void *dst, struct df_err *err)
{
	return with_place(p, decode(p, x, dst, err), err);
}

/* At -O2 gcc makes no vectors of these loops, and a store of float16 would be read at a sixth of its speed. */
#pragma GCC push_options
#pragma GCC optimize("O3")

DF_SIMD static void
widen_f16(float *restrict to, const char *restrict from, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint16_t h;

		memcpy(&h, from + i * sizeof(h), sizeof(h)); /* in an image it may be unaligned */
		to[i] = df_f32_from_f16(h);
	}
}

DF_SIMD static void
widen_bf16(float *restrict to, const char *restrict from, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint16_t h;

		memcpy(&h, from + i * sizeof(h), sizeof(h));
		to[i] = df_f32_from_bf16(h);
	}
}

#pragma GCC pop_options

void
df_stored_widen(enum df_store store, size_t elem, void *dst, const void *src, size_t n)
{
	switch (store) {
	case DF_STORE_F32: memcpy(dst, src, n * elem); break;
	case DF_STORE_F16: widen_f16(dst, src, n); break;
	case DF_STORE_BF16: widen_bf16(dst, src, n); break;
	}
}

int
df_stored_read(const struct df_stored *p, struct df_scratch *x, void *dst, struct df_err *err)
{
	const struct df_codec *c = &p->codec;
	const size_t elem = c->elem;
	const char *raw;
	int rc = DF_OK;

	if (p->n * elem == p->whole && p->store == DF_STORE_F32) {
		rc = decode(p, x, dst, err);
	} else if (!c->zstd && !(c->shuffle && elem > 1) && !c->fletcher && p->len == p->whole) {
		/* Plain numbers are independent of their neighbours: read only the wanted ones. */
		DF_TRY(fetch(p, x, p->skip * elem, p->n * elem, &raw, err));
		df_stored_widen(p->store, elem, dst, raw, p->n);
	} else {
		DF_TRY(df_grow(&x->chunk, &x->chunk_cap, p->whole, 1, "a chunk", err));
		DF_TRY(decode(p, x, x->chunk, err));
		df_stored_widen(p->store, elem, dst, x->chunk + p->skip * elem, p->n);
	}
out:
	return with_place(p, rc, err);
}

/* ---- what a batch still has to read */

int
df_todo_add(struct df_todo *t, const struct df_stored *s, void *dst, struct df_err *err)
{
	int rc;

	DF_TRY(df_grow(&t->v, &t->cap, t->n + 1, sizeof(*t->v), "chunks", err));
	t->v[t->n++] = (struct df_todo_piece){ *s, dst };
	df_bytes_keep(s->file);
out:
	return rc;
}

int
df_todo_do(struct df_todo *t, struct df_err *err)
{
	int rc = DF_OK;

	for (size_t i = 0; i < t->n && rc == DF_OK; i++) {
		rc = df_stored_read(&t->v[i].s, &t->scratch, t->v[i].dst, err);
		if (rc != DF_OK)
			df_err_prefix(err, "%s: ", t->v[i].s.file->name);
	}
	df_todo_clear(t);
	return rc;
}

void
df_todo_clear(struct df_todo *t)
{
	for (size_t i = 0; i < t->n; i++)
		df_bytes_drop(t->v[i].s.file);
	t->n = 0;
}

void
df_todo_free(struct df_todo *t)
{
	if (t == NULL)
		return;
	df_todo_clear(t);
	df_scratch_release(&t->scratch);
	free(t->v);
	free(t);
}

/*
 * stored.h - stored numbers: a file's bytes, and pieces of columns in them.
 *
 * HDF5 gives the place of a chunk (h5data.c).  Reading, checking and decoding it needs no HDF5, and so no lock: all
 * threads can do it at once.
 *
 * Thread rule: a df_bytes and a df_stored are immutable, for any number of threads; a df_scratch and a df_todo belong
 * to one thread at a time.
 */
#ifndef DF_SHARD_STORED_H
#define DF_SHARD_STORED_H

#include <stddef.h>
#include <stdint.h>

#include "shard/codec.h"
#include "shard/shard.h"

/* ---- a file's bytes */

/* An open file, or an image in memory.  Counted: the last df_bytes_drop closes the file. */
struct df_bytes;
/* Takes ownership of fd, also on failure.  `name` is copied, for messages. */
int df_bytes_file(struct df_bytes **out, int fd, const char *name, struct df_err *err) DF_MUST_CHECK;
/* The image must stay valid as long as the df_bytes. */
int df_bytes_image(
    struct df_bytes **out, const void *image, size_t len, const char *name, struct df_err *err) DF_MUST_CHECK;
struct df_bytes *df_bytes_keep(struct df_bytes *b);
void df_bytes_drop(struct df_bytes *b); /* accepts NULL */
int df_bytes_fd(const struct df_bytes *b);            /* -1: an image */
const void *df_bytes_memory(const struct df_bytes *b, size_t *len); /* NULL: a file */

/* ---- a piece of a column */

struct df_stored {
	struct df_bytes *file; /* borrowed */
	uint64_t at;           /* offset of its first stored byte, */
	size_t len;            /* number of stored bytes */
	struct df_codec codec;
	size_t whole;        /* bytes that it decodes to */
	enum df_store store; /* the stored form of an f32 column's numbers */
	size_t skip, n;      /* the wanted elements: n from number `skip` on */
	const char *path;    /* the dataset, and the first row of the piece: for messages */
	uint64_t row;
};

struct df_scratch {
	struct df_codec_ctx ctx;
	char *raw, *chunk; /* a piece as it is stored, and decoded */
	size_t raw_cap, chunk_cap;
};
#define DF_SCRATCH_INIT { DF_CODEC_CTX_INIT, NULL, NULL, 0, 0 }
void df_scratch_release(struct df_scratch *x);

/* dst = the piece decoded, p->whole bytes of its stored type.  DF_EFORMAT when it is damaged, with dataset and row. */
int df_stored_decode(const struct df_stored *p, struct df_scratch *x, void *dst, struct df_err *err) DF_MUST_CHECK;
/* dst = the p->n wanted elements, in the column's type. */
int df_stored_read(const struct df_stored *p, struct df_scratch *x, void *dst, struct df_err *err) DF_MUST_CHECK;

/* dst = n stored elements of a column (elem bytes each), converted to the column's type. */
void df_stored_widen(enum df_store store, size_t elem, void *dst, const void *src, size_t n);

/* ---- what a batch still has to read */

struct df_todo {
	struct df_todo_piece {
		struct df_stored s;
		void *dst;
	} *v;
	size_t n, cap;
	struct df_scratch scratch;
};
/* Note that s is to be read to dst.  Its file is kept until df_todo_do or df_todo_clear. */
int df_todo_add(struct df_todo *t, const struct df_stored *s, void *dst, struct df_err *err) DF_MUST_CHECK;
/* Messages begin with the file's name. */
int df_todo_do(struct df_todo *t, struct df_err *err) DF_MUST_CHECK;
void df_todo_clear(struct df_todo *t);
void df_todo_free(struct df_todo *t); /* accepts NULL */

#endif

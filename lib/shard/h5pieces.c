/*
 * h5pieces.c - tokens in any order: pieces of the ragged columns, as the chunks of tokens/ids cut them.
 *
 * HDF5 is asked, under the lock, only for the place of a chunk; reading and decoding, which is the work, happens
 * outside the lock (stored.h).  df-tools' own files cut all columns over tokens/offsets in the same way, so that a
 * piece is one chunk of each.  If another column is cut differently, the chunks that cover the piece are decoded
 * and cut to it.
 */
#include "shard/h5data.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define PLAIN_VALUES ((uint64_t)1 << 14) /* values of a piece, for a file in another layout */
#define OPEN_MAX     ((size_t)256)       /* files that are kept open */

struct part {
	uint64_t first, values; /* number of all values */
	uint64_t step;          /* values of a piece; the last may have fewer */
	uint64_t piece;         /* its first */
};

struct df_pieces {
	struct df_set *set;
	pthread_mutex_t lock; /* over set */
	struct part *part;    /* of each part, in values; one more for the end */
	size_t *member;       /* [n_parts] of the set */
	size_t n_parts;
};

struct df_piece_reader {
	struct df_scratch scratch;
};

/* Half of the process's limit of open files, and no more than is useful. */
static size_t
open_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) != 0 || l.rlim_cur / 2 > OPEN_MAX)
		return OPEN_MAX;
	return (size_t)l.rlim_cur / 2;
}

int
df_pieces_open(struct df_pieces **out, struct df_set *s, struct df_err *err)
{
	struct df_pieces *p = NULL;
	struct part *t;
	uint64_t first = 0, piece = 0;
	int rc;

	if (df_set_is_stream(s))
		return df_fail(err, DF_EUSAGE, "%s: a stream can only be read from front to back", df_set_name(s));
	DF_TRY(df_alloc(&p, 1, sizeof(*p), "pieces", err));
	pthread_mutex_init(&p->lock, NULL);
	p->set = s;
	DF_TRY(df_alloc(&p->part, df_set_parts(s) + 1, sizeof(*p->part), "pieces", err));
	DF_TRY(df_alloc(&p->member, df_set_parts(s), sizeof(*p->member), "pieces", err));
	for (size_t i = 0; i < df_set_parts(s); i++) {
		const struct df_set_part m = df_set_part(s, i);
		const uint64_t values = m.values[DF_COL_IDS];

		if (values == 0)
			continue;
		t = &p->part[p->n_parts];
		*t = (struct part){ first, values, m.chunk ? m.chunk : PLAIN_VALUES, piece };
		p->member[p->n_parts++] = i;
		first += values;
		piece += values / t->step + (values % t->step > 0);
	}
	p->part[p->n_parts] = (struct part){ .first = first, .piece = piece };
	df_set_keep_open(s, open_limit());
	*out = p;
	return DF_OK;
out:
	df_pieces_close(p);
	return rc;
}

void
df_pieces_close(struct df_pieces *p)
{
	if (p == NULL)
		return;
	pthread_mutex_destroy(&p->lock);
	free(p->part);
	free(p->member);
	free(p);
}

uint64_t
df_pieces_count(const struct df_pieces *p)
{
	return p->part[p->n_parts].piece;
}

/* The part that holds a piece, or a value. */
static size_t
find_part(const struct df_pieces *p, uint64_t x, bool is_value)
{
	size_t lo = 0, hi = p->n_parts;

	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if ((is_value ? p->part[mid].first : p->part[mid].piece) <= x)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

struct df_piece
df_pieces_at(const struct df_pieces *p, uint64_t piece)
{
	const struct part *t = &p->part[find_part(p, piece, false)];
	uint64_t at = (piece - t->piece) * t->step, left = t->values - at;

	return (struct df_piece){ t->first + at, left < t->step ? left : t->step };
}

uint64_t
df_pieces_find(const struct df_pieces *p, uint64_t value)
{
	const struct part *t = &p->part[find_part(p, value, true)];

	return t->piece + (value - t->first) / t->step;
}

const char *
df_pieces_file(const struct df_pieces *p, uint64_t piece)
{
	return df_set_part(p->set, p->member[find_part(p, piece, false)]).name;
}

int
df_piece_reader_new(struct df_piece_reader **out, struct df_err *err)
{
	return df_alloc(out, 1, sizeof(**out), "a reader", err);
}

void
df_piece_reader_free(struct df_piece_reader *r)
{
	if (r == NULL)
		return;
	df_scratch_release(&r->scratch);
	free(r);
}

/* Values [first, first+n) of a member's column, through HDF5. */
static int
read_plain(struct df_pieces *p, size_t member, enum df_col c, uint64_t first, uint64_t n, void *dst, struct df_err *err)
{
	struct df_h5in *in;
	int rc;

	pthread_mutex_lock(&p->lock);
	if ((rc = df_set_part_in(p->set, member, &in, err)) == DF_OK)
		rc = df_h5in_read(in, c, first, n, dst, err);
	pthread_mutex_unlock(&p->lock);
	return rc;
}

/*
 * *p = the place of a column's chunk that holds value `at`, with up to n wanted values from `at` on; its file is
 * kept.  p->len = 0: only HDF5 can read it.
 */
static int
find(struct df_pieces *p, size_t member, enum df_col c, uint64_t at, uint64_t n, struct df_stored *chunk,
    struct df_err *err)
{
	struct df_h5in *in;
	uint64_t step, begin;
	int rc;

	*chunk = (struct df_stored){ .len = 0 };
	pthread_mutex_lock(&p->lock);
	DF_TRY(df_set_part_in(p->set, member, &in, err));
	if ((step = df_h5in_info(in)->chunk[c]) == 0)
		goto out;
	begin = at / step * step;
	DF_TRY(df_h5in_chunk(in, c, begin, chunk, err));
	if (chunk->len == 0)
		goto out;
	chunk->skip = (size_t)(at - begin);
	chunk->n = (size_t)(begin + step - at < n ? begin + step - at : n);
	df_bytes_keep(chunk->file);
out:
	pthread_mutex_unlock(&p->lock);
	return rc;
}

/* Values [first, first+n) of a member's column. */
static int
read_column(struct df_pieces *p, struct df_piece_reader *r, size_t member, enum df_col c, uint64_t first, uint64_t n,
    char *dst, struct df_err *err)
{
	const size_t size = df_coltype_size(df_column(c)->type);
	struct df_stored chunk;
	int rc = DF_OK;

	for (; n > 0; first += chunk.n, n -= chunk.n, dst += chunk.n * size) {
		DF_TRY(find(p, member, c, first, n, &chunk, err));
		if (chunk.len == 0)
			return read_plain(p, member, c, first, n, dst, err);
		rc = df_stored_read(&chunk, &r->scratch, dst, err);
		df_bytes_drop(chunk.file);
		if (rc != DF_OK) {
			df_err_prefix(err, "%s: ", df_set_part(p->set, member).name);
			goto out;
		}
	}
out:
	return rc;
}

int
df_pieces_read(
    struct df_pieces *p, struct df_piece_reader *r, uint64_t piece, const struct df_piece_dst *dst, struct df_err *err)
{
	const size_t i = find_part(p, piece, false), member = p->member[i];
	const uint64_t first = (piece - p->part[i].piece) * p->part[i].step, n = df_pieces_at(p, piece).n;
	int rc;

	DF_TRY(read_column(p, r, member, DF_COL_IDS, first, n, (char *)dst->ids, err));
	DF_TRY(read_column(p, r, member, DF_COL_LABEL_MASK, first, n, (char *)dst->mask, err));
	if (dst->position)
		DF_TRY(read_column(p, r, member, DF_COL_POSITION, first, n, (char *)dst->position, err));
	if (dst->sequence)
		DF_TRY(read_column(p, r, member, DF_COL_SEQUENCE, first, n, (char *)dst->sequence, err));
out:
	return rc;
}

/*
 * batch.c - rows in memory, and their digest.
 */
#include "shard/shard_priv.h"
#include "shard/stored.h"

#include <string.h>
#include <sys/mman.h>

void
df_batch_clear(struct df_batch *b)
{
	if (b->todo)
		df_todo_clear(b->todo);
	df_arena_reset(&b->arena);
	memset(b->col, 0, sizeof(b->col));
	b->n = b->first = 0;
}

void
df_batch_release(struct df_batch *b)
{
	df_todo_free(b->todo);
	df_arena_release(&b->arena);
	if (b->image)
		munmap(b->image, b->image_len);
	*b = (struct df_batch)DF_BATCH_INIT;
}

int
df_batch_load(struct df_batch *b, struct df_err *err)
{
	return b->todo ? df_todo_do(b->todo, err) : DF_OK;
}

int
df_batch_check(const struct df_batch *b, uint32_t cols, const size_t widths[DF_COL_COUNT], struct df_err *err)
{
	for (int i = 0; i < DF_COL_COUNT; i++) {
		const struct df_column *c = df_column((enum df_col)i);
		const struct df_column_data *d = &b->col[i];
		const struct df_column_data *first = &b->col[DF_COL_IDS];

		if (!(cols & 1u << i) || b->n == 0)
			continue;
		if (c->offsets && d->offsets == NULL)
			return df_fail(err, DF_EINTERNAL, "a batch without the offsets of column '%s'", c->path);
		if (d->data == NULL && !(c->offsets && d->offsets[b->n] == 0))
			return df_fail(err, DF_EINTERNAL, "a batch without column '%s'", c->path);
		if (c->matrix && d->width != widths[i])
			return df_fail(
			    err, DF_EINTERNAL, "a batch whose '%s' is %zu wide, not %zu", c->path, d->width, widths[i]);
		if (c->offsets) {
			if (d->offsets[0] != 0)
				return df_fail(err, DF_EINTERNAL, "a batch whose offsets of '%s' begin at %llu",
				    c->path, (unsigned long long)d->offsets[0]);
			for (uint64_t r = 0; r < b->n; r++)
				if (d->offsets[r + 1] < d->offsets[r])
					return df_fail(err, DF_EINTERNAL,
					    "a batch whose offsets of '%s' decrease at row %llu", c->path,
					    (unsigned long long)r);
		}
		/* One offsets dataset serves all columns of the tokens. */
		if (c->offsets && strcmp(c->offsets, df_column(DF_COL_IDS)->offsets) == 0 &&
		    d->offsets != first->offsets &&
		    memcmp(d->offsets, first->offsets, (size_t)(b->n + 1) * sizeof(*d->offsets)) != 0)
			return df_fail(
			    err, DF_EINTERNAL, "a batch whose '%s' is not as long as its token ids", c->path);
	}
	return DF_OK;
}

/* A short row is copied together and hashed in one call; the result is the same. */
#define ROW_GATHER 2048

int
df_batch_digest(const struct df_batch *b, uint32_t cols, uint64_t position, struct df_digest *sum, struct df_err *err)
{
	struct { /* the columns to visit, in order, with their cursor */
		const char *data;
		const uint64_t *offsets;
		size_t stride;
	} col[DF_COL_COUNT];
	struct df_hasher *h = NULL;
	int n_cols = 0, rc = DF_OK;

	for (int i = DF_COL_ID + 1; i < DF_COL_COUNT; i++) {
		const struct df_column *c = df_column((enum df_col)i);

		if (!(cols & 1u << i))
			continue;
		col[n_cols].data = b->col[i].data;
		col[n_cols].offsets = c->offsets ? b->col[i].offsets : NULL;
		col[n_cols++].stride = df_coltype_size(c->type) * (c->matrix ? b->col[i].width : 1);
	}
	DF_TRY(df_hasher_new(&h, 0, err));
	for (uint64_t r = 0; r < b->n; r++) {
		const uint64_t *ids = cols & 1u << DF_COL_ID ? b->col[DF_COL_ID].data : NULL;
		uint64_t key = ids ? ids[r] : position + r;
		unsigned char buf[ROW_GATHER];
		size_t len = sizeof(key);
		bool flushed = false;

		memcpy(buf, &key, sizeof(key));
		for (int i = 0; i < n_cols; i++) {
			const char *p = col[i].data;
			size_t nbytes = col[i].stride;

			if (col[i].offsets) {
				uint64_t count = col[i].offsets[r + 1] - col[i].offsets[r];

				if (len + sizeof(count) > sizeof(buf)) {
					df_hasher_add(h, buf, len);
					flushed = true;
					len = 0;
				}
				memcpy(buf + len, &count, sizeof(count));
				len += sizeof(count);
				if (count == 0)
					continue;
				p += col[i].offsets[r] * col[i].stride;
				nbytes *= (size_t)count;
			} else {
				p += r * col[i].stride;
			}
			if (len + nbytes > sizeof(buf)) {
				df_hasher_add(h, buf, len);
				df_hasher_add(h, p, nbytes);
				flushed = true;
				len = 0;
			} else if (nbytes > 0) {
				memcpy(buf + len, p, nbytes);
				len += nbytes;
			}
		}
		if (flushed) {
			df_hasher_add(h, buf, len);
			df_digest_merge(sum, df_hasher_end(h));
		} else {
			df_digest_merge(sum, df_hash_bytes(buf, len, 0));
		}
	}
out:
	df_hasher_free(h);
	return rc;
}

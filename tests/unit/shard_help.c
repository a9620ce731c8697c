/*
 * shard_help.c - artefacts whose content is a function of the sample id, so that any part can be checked.
 */
#include "shard_help.h"

#include <hdf5.h>

static char dir[] = "/tmp/df-test-shard-XXXXXX";

const char *
at(const char *name)
{
	static char buf[4][512];
	static int k;

	k = (k + 1) % 4;
	snprintf(buf[k], sizeof(buf[k]), "%s/%s", dir, name);
	return buf[k];
}

/* ---- tokens with rows of odd lengths, some empty */

const enum df_col token_cols[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_SOURCE_ROW, DF_COL_IDS, DF_COL_LABEL_MASK };

uint64_t
row_length(uint64_t id)
{
	return id % 7 == 0 ? 0 : id * 37 % 501;
}

/* Rows [first, first+n) of an artefact that is a function of the id. */
void
make_tokens(struct df_batch *b, uint64_t first, uint64_t n)
{
	uint64_t *id, *row, *off, at_value = 0;
	uint16_t *dom;
	uint32_t *ids;
	uint8_t *mask;

	df_batch_clear(b);
	OK(df_arena_alloc(&b->arena, &id, n, sizeof(*id), "t", err));
	OK(df_arena_alloc(&b->arena, &row, n, sizeof(*row), "t", err));
	OK(df_arena_alloc(&b->arena, &dom, n, sizeof(*dom), "t", err));
	OK(df_arena_alloc(&b->arena, &off, n + 1, sizeof(*off), "t", err));
	off[0] = 0;
	for (uint64_t i = 0; i < n; i++)
		off[i + 1] = off[i] + row_length(first + i);
	OK(df_arena_alloc(&b->arena, &ids, off[n], sizeof(*ids), "t", err));
	OK(df_arena_alloc(&b->arena, &mask, off[n], sizeof(*mask), "t", err));
	for (uint64_t i = 0; i < n; i++) {
		id[i] = first + i;
		row[i] = 3 * (first + i);
		dom[i] = (uint16_t)((first + i) % 2);
		for (uint64_t k = 0; k < row_length(first + i); k++, at_value++) {
			ids[at_value] = (uint32_t)((first + i) * 131 + k * k) % 50000;
			mask[at_value] = k % 3 == 0;
		}
	}
	b->n = n;
	b->first = first;
	b->col[DF_COL_ID].data = id;
	b->col[DF_COL_SOURCE_ROW].data = row;
	b->col[DF_COL_DOMAIN].data = dom;
	b->col[DF_COL_IDS].data = ids;
	b->col[DF_COL_IDS].offsets = off;
	b->col[DF_COL_LABEL_MASK].data = mask;
	b->col[DF_COL_LABEL_MASK].offsets = off;
}

void
token_meta(struct df_meta *m)
{
	*m = (struct df_meta)DF_META_INIT;
	m->kind = DF_KIND_TOKENS;
	OK(df_strdup(&m->tool, "df-test", err));
	OK(df_strdup(&m->version, "1", err));
	OK(df_meta_set_str(m, "tokenizer", "bytes \"quoted\" \xe4\xb8\xad", err));
	OK(df_meta_set_int(m, "cutoff_len", 512, err));
	OK(df_meta_set_bool(m, "packing", false, err));
	OK(df_meta_set_double(m, "ratio", 0.1, err));
	OK(df_meta_add_input(m, "source", "source", "00112233445566778899aabbccddeeff", err));
	OK(df_meta_add_domain(m, "alpaca_en", NULL, err));
	OK(df_meta_add_domain(m, "alpaca_zh", NULL, err));
}

void
write_tokens(
    const char *path, uint64_t first, uint64_t end, uint64_t step, enum df_compress how, char id[DF_DIGEST_HEX])
{
	struct df_writer_opts opts = { .compress = how };
	struct df_batch b = DF_BATCH_INIT;
	struct df_writer *w;
	struct df_meta m;

	token_meta(&m);
	OK(df_writer_open(&w, path, &m, token_cols, 5, NULL, &opts, err));
	for (uint64_t i = first; i < end; i += step) {
		make_tokens(&b, i, end - i < step ? end - i : step);
		OK(df_writer_put(w, &b, err));
	}
	OK(df_writer_commit(w, id, err));
	df_writer_close(w);
	df_batch_release(&b);
	df_meta_release(&m);
}

void
check_batch(const struct df_batch *got, uint64_t first, uint64_t n)
{
	struct df_batch want = DF_BATCH_INIT;

	make_tokens(&want, first, n);
	assert_int_equal(got->n, n);
	assert_int_equal(got->first, first);
	assert_memory_equal(got->col[DF_COL_ID].data, want.col[DF_COL_ID].data, n * 8);
	assert_memory_equal(got->col[DF_COL_SOURCE_ROW].data, want.col[DF_COL_SOURCE_ROW].data, n * 8);
	assert_memory_equal(got->col[DF_COL_DOMAIN].data, want.col[DF_COL_DOMAIN].data, n * 2);
	for (int c = DF_COL_IDS; c <= DF_COL_LABEL_MASK; c++) {
		size_t size = c == DF_COL_IDS ? 4 : 1;

		assert_memory_equal(got->col[c].offsets, want.col[c].offsets, (n + 1) * 8);
		assert_memory_equal(got->col[c].data, want.col[c].data, want.col[c].offsets[n] * size);
	}
	df_batch_release(&want);
}

void
check_tokens(const char *path, uint64_t n, uint64_t step)
{
	struct df_batch b = DF_BATCH_INIT;
	struct df_set *s;
	uint64_t got, at_row = 0, *len;

	OK(df_set_open1(&s, DF_KIND_TOKENS, "tokens", path, err));
	assert_int_equal(df_set_rows(s), n);
	OK(df_set_lengths(s, DF_COL_IDS, &len, err));
	for (uint64_t i = 0; i < n; i++)
		assert_int_equal(len[i], row_length(i));
	free(len);
	for (;;) {
		OK(df_set_next(s, step, &b, &got, err));
		if (got == 0)
			break;
		check_batch(&b, at_row, got);
		at_row += got;
	}
	assert_int_equal(at_row, n);
	/* Rows in no order. */
	for (uint64_t i = 0; i < 20 && n > 0; i++) {
		uint64_t r = i * 7919 % n;

		OK(df_set_read(s, r, n - r < 3 ? n - r : 3, &b, err));
		check_batch(&b, r, n - r < 3 ? n - r : 3);
	}
	df_batch_release(&b);
	df_set_close(s);
}

void
same_bytes(const char *a, const char *b)
{
	char *da, *db;
	size_t na, nb;

	OK(df_file_get(a, 1 << 30, &da, &na, err));
	OK(df_file_get(b, 1 << 30, &db, &nb, err));
	if (na != nb || memcmp(da, db, na) != 0)
		fail_msg("%s (%zu bytes) and %s (%zu bytes) differ", a, na, b, nb);
	free(da);
	free(db);
}

/* ---- the scratch directory; and at the end nothing may be left open inside HDF5 */

int
scratch_make(void **state)
{
	(void)state;
	return mkdtemp(dir) == NULL;
}

int
scratch_remove(void **state)
{
	ssize_t n = H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL);

	(void)state;
	if (n != 0)
		fprintf(stderr, "%zd HDF5 objects are left open\n", n);
	return df_rmtree(dir, NULL) == DF_OK && n == 0 ? 0 : -1;
}

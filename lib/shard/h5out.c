/*
 * h5out.c - writing one artefact file: chunks encoded by us, placed by HDF5.
 *
 * Each dataset (a column, or the offsets of ragged ones) gathers rows into
 * chunks of about 1 MiB.  A full chunk becomes a job: it is encoded on the
 * pool, outside HDF5, and then written with H5Dwrite_chunk.
 *
 *     batch -> [pending | full chunks ...] -> jobs -> encode (pool) -> H5Dwrite_chunk, in order
 *
 * The bytes of the file must depend on the rows alone, not on how they were cut into batches (a resumed run,
 * another batch size).  So jobs are written in the order of the row that completes the chunk, then of the dataset,
 * and a dataset is created when its first chunk is written.  A dataset that ends within its first chunk gets a
 * chunk of exactly its size.
 */
#include "shard/h5_priv.h"

#include "base/half.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_TARGET ((size_t)1 << 20) /* bytes */
#define CHUNK_VALUES ((size_t)1 << 14) /* of ragged columns of tokens: small, for reading rows in any order */
#define ROW_WIDE     ((size_t)4 << 20) /* a wider matrix row is cut into chunks of its own */
#define WAVE         64                /* jobs encoded before they are written */

/* A dataset being written. */
struct out {
	const struct df_column *col; /* the (first) column it belongs to */
	bool is_offsets;
	const char *path, *about;
	enum df_coltype type;
	enum df_store store;
	size_t elem, width; /* bytes in the file; elements per row (1 unless a matrix) */
	size_t chunk_rows, chunk_cols;
	struct df_codec codec;
	bool gzip;        /* through HDF5's own filter instead of the codec */
	hid_t d;          /* -1 until the first chunk is written */
	uint64_t rows;    /* rows (values, for ragged columns) taken */
	uint64_t chunks;  /* full chunk rows made into jobs */
	char *pending;    /* the chunk that is filling */
	size_t n_pending; /* its rows */
};

struct job {
	struct out *o;
	uint64_t row;    /* the sample row that completes it */
	uint64_t at;     /* its first dataset row */
	size_t col0;     /* its first element of the row */
	const char *src; /* chunk_rows x chunk_cols; in the batch, or `owned` */
	char *owned;
	size_t src_bytes; /* may be short for the last chunk of a wide row */
	unsigned seq;
};

struct encoded {
	char *buf;
	size_t cap, len;
	struct df_err err;
};

struct df_h5out {
	char *name;
	hid_t file;
	uint32_t cols;
	struct out out[2 * DF_COL_COUNT];
	int n_out;
	uint64_t rows;                 /* sample rows taken */
	uint64_t values[DF_COL_COUNT]; /* running totals of ragged columns */
	struct job *jobs;
	size_t n_jobs, cap_jobs;
	struct df_pool *pool;
	struct df_codec_ctx *ctx; /* by worker */
	int n_ctx;
	struct encoded enc[WAVE];
};

static void
add_out(struct df_h5out *w, const struct df_column *c, bool is_offsets, size_t width, const struct df_writer_opts *opts)
{
	struct out *o = &w->out[w->n_out++];
	enum df_compress how = opts ? opts->compress : DF_COMPRESS_DEFAULT;
	size_t row;

	*o = (struct out){ .col = c,
		.is_offsets = is_offsets,
		.path = is_offsets ? c->offsets : c->path,
		.about = is_offsets ? "row i is values[offsets[i]:offsets[i+1]]" : c->about,
		.type = is_offsets ? DF_COL_U64 : c->type,
		.width = c->matrix ? width : 1,
		.d = -1 };
	if (opts && c->col == DF_COL_EMBEDDING)
		o->store = opts->store;
	o->elem = df_h5_stored_size(o->type, o->store);
	/* Random-looking floats do not compress; everything else does, and better when it is shuffled. */
	if (how == DF_COMPRESS_DEFAULT)
		how = c->matrix ? DF_COMPRESS_NONE : DF_COMPRESS_ZSTD;
	o->gzip = how == DF_COMPRESS_GZIP;
	o->codec = (struct df_codec){ .shuffle = how != DF_COMPRESS_NONE && o->elem > 1,
		.zstd = how == DF_COMPRESS_ZSTD,
		.fletcher = true,
		.elem = o->elem,
		.level = opts && opts->level ? opts->level
		    : o->gzip                ? 6
					     : DF_ZSTD_DEFAULT };
	row = o->elem * o->width;
	o->chunk_cols = row > ROW_WIDE ? CHUNK_TARGET / o->elem : o->width;
	o->chunk_rows = row >= CHUNK_TARGET ? 1 : CHUNK_TARGET / (row ? row : 1);
	if (c->offsets && !is_offsets && strcmp(c->offsets, df_column(DF_COL_IDS)->offsets) == 0)
		o->chunk_rows = CHUNK_VALUES;
}

int
df_h5out_open(struct df_h5out **out, const char *path, const char *name, uint32_t cols,
    const size_t widths[DF_COL_COUNT], const struct df_writer_opts *opts, struct df_err *err)
{
	hid_t fcpl = -1, fapl = -1;
	struct df_h5out *w;
	int rc;

	DF_TRY(df_alloc(&w, 1, sizeof(*w), "a writer", err));
	w->file = -1;
	w->cols = cols;
	w->pool = opts ? opts->pool : NULL;
	w->n_ctx = df_pool_size(w->pool);
	if ((rc = df_strdup(&w->name, name, err)) != DF_OK ||
	    (rc = df_alloc(&w->ctx, (size_t)w->n_ctx, sizeof(*w->ctx), "a writer", err)) != DF_OK)
		goto fail;
	for (int i = 0; i < DF_COL_COUNT; i++) {
		const struct df_column *c = df_column((enum df_col)i);
		bool known = false;

		if (!(cols & 1u << i))
			continue;
		for (int k = 0; c->offsets && k < w->n_out; k++)
			known |= w->out[k].is_offsets && strcmp(w->out[k].path, c->offsets) == 0;
		if (c->offsets && !known)
			add_out(w, c, true, 1, opts);
		add_out(w, c, false, widths ? widths[i] : 0, opts);
	}
	df_h5_enter();
	fcpl = df_h5_fcpl();
	fapl = df_h5_fapl_write();
	if (fcpl < 0 || fapl < 0 || (w->file = H5Fcreate(path, H5F_ACC_TRUNC, fcpl, fapl)) < 0)
		rc = df_h5_fail(err, DF_ECREATE, "%s: cannot create", name);
	if (fapl >= 0)
		H5Pclose(fapl);
	if (fcpl >= 0)
		H5Pclose(fcpl);
	df_h5_leave();
	if (rc != DF_OK)
		goto fail;
	*out = w;
	return DF_OK;
fail:
	df_h5out_free(w);
out:
	return rc;
}

/* ---- datasets */

/* `rows` < 0: more chunks will follow; else the whole dataset's rows, at most one chunk. */
static int
create_dataset(struct df_h5out *w, struct out *o, int64_t rows, struct df_err *err)
{
	int rank = o->col->matrix && !o->is_offsets ? 2 : 1;
	hsize_t dims[2] = { rows < 0 ? 0 : (hsize_t)rows, o->width };
	hsize_t max[2] = { rows < 0 ? H5S_UNLIMITED : (hsize_t)rows, o->width };
	hsize_t chunk[2] = { o->chunk_rows, o->chunk_cols };
	unsigned level = (unsigned)o->codec.level;
	hid_t space, dcpl = df_h5_dcpl(), type = df_h5_stored_type(o->type, o->store);
	int rc = DF_OK;

	if (rows > 0 && o->chunk_rows > (size_t)rows)
		chunk[0] = (hsize_t)rows;
	space = H5Screate_simple(rank, dims, max);
	if (space < 0 || dcpl < 0)
		goto fail;
	/* A dataset without rows has no chunks. */
	if (rows != 0 && o->width > 0) {
		if (H5Pset_chunk(dcpl, rank, chunk) < 0)
			goto fail;
		if (o->codec.shuffle && H5Pset_shuffle(dcpl) < 0)
			goto fail;
		if (o->codec.zstd && H5Pset_filter(dcpl, DF_FILTER_ZSTD, H5Z_FLAG_MANDATORY, 1, &level) < 0)
			goto fail;
		if (o->gzip && H5Pset_deflate(dcpl, level) < 0)
			goto fail;
		if (o->codec.fletcher && H5Pset_fletcher32(dcpl) < 0)
			goto fail;
	}
	if ((o->d = df_h5_create(w->file, o->path, type, space, dcpl)) < 0)
		goto fail;
	rc = df_h5_attr_put_str(o->d, "description", o->about, err);
	if (rc == DF_OK && o->store == DF_STORE_BF16)
		rc = df_h5_attr_put_str(o->d, "dtype", DF_H5_BF16, err);
	goto out;
fail:
	rc = df_h5_fail(err, DF_EIO, "dataset '%s': cannot create", o->path);
out:
	if (type >= 0)
		H5Tclose(type);
	if (space >= 0)
		H5Sclose(space);
	if (dcpl >= 0)
		H5Pclose(dcpl);
	return rc;
}

/* Grow the dataset so that it has `rows` rows. */
static int
extend(struct out *o, uint64_t rows, struct df_err *err)
{
	hsize_t dims[2] = { rows, o->width };

	if (H5Dset_extent(o->d, dims) < 0)
		return df_h5_fail(err, DF_EIO, "dataset '%s': cannot extend", o->path);
	return DF_OK;
}

/* A chunk through HDF5's own filters. */
static int
write_filtered(struct out *o, const struct job *j, uint64_t rows, struct df_err *err)
{
	size_t n_cols = o->width - j->col0 < o->chunk_cols ? o->width - j->col0 : o->chunk_cols;
	int rank = o->col->matrix && !o->is_offsets ? 2 : 1;
	hsize_t start[2] = { j->at, j->col0 }, count[2] = { rows, n_cols };
	hid_t file = H5Dget_space(o->d), mem = H5Screate_simple(rank, count, NULL);
	hid_t type = df_h5_stored_type(o->type, o->store);
	int rc = DF_OK;

	if (file < 0 || mem < 0 || H5Sselect_hyperslab(file, H5S_SELECT_SET, start, NULL, count, NULL) < 0 ||
	    H5Dwrite(o->d, type, mem, file, H5P_DEFAULT, j->src) < 0)
		rc = df_h5_fail(err, DF_EIO, "dataset '%s': cannot write", o->path);
	if (type >= 0)
		H5Tclose(type);
	if (mem >= 0)
		H5Sclose(mem);
	if (file >= 0)
		H5Sclose(file);
	return rc;
}

/* ---- jobs */

struct wave {
	struct df_h5out *w;
	const struct job *jobs;
};

static void
encode_job(void *ctx, size_t i, int worker)
{
	struct wave *v = ctx;
	struct encoded *e = &v->w->enc[i];
	const struct job *j = &v->jobs[i];
	const struct out *o = j->o;
	size_t full = o->chunk_rows * o->chunk_cols * o->elem, need;
	char *padded = NULL;
	const char *src = j->src;

	e->err.code = DF_OK;
	if (o->gzip)
		return;
	/*
	 * The last chunk of a dataset with one chunk is not padded; the last piece of a wide row is padded with
	 * zeros.
	 */
	if (j->src_bytes < full && (j->at > 0 || o->chunk_cols < o->width)) {
		if (df_alloc(&padded, full, 1, "a chunk", &e->err) != DF_OK)
			return;
		memcpy(padded, src, j->src_bytes);
		src = padded;
	} else {
		full = j->src_bytes;
	}
	need = df_codec_bound(&o->codec, full);
	if (need > e->cap) {
		free(e->buf);
		e->buf = NULL;
		e->cap = 0;
		if (df_alloc(&e->buf, need, 1, "a chunk", &e->err) != DF_OK)
			goto out;
		e->cap = need;
	}
	/* The result is in e->err, because a task returns nothing. */
	if (df_codec_encode(&o->codec, &v->w->ctx[worker], src, full, e->buf, &e->len, &e->err) != DF_OK)
		goto out;
out:
	free(padded);
}

static int
write_job(struct df_h5out *w, const struct job *j, const struct encoded *e, bool last, struct df_err *err)
{
	struct out *o = j->o;
	hsize_t at[2] = { j->at, j->col0 };
	uint64_t end = j->at + o->chunk_rows < o->rows ? j->at + o->chunk_rows : o->rows;
	int rc = DF_OK;

	if (o->d < 0) {
		/* All rows are here and no full chunk was written before: this is the only one. */
		bool only = last && o->rows <= o->chunk_rows;

		DF_TRY(create_dataset(w, o, only ? (int64_t)o->rows : -1, err));
		if (!only)
			DF_TRY(extend(o, end, err));
	} else if (j->col0 == 0) {
		DF_TRY(extend(o, end, err));
	}
	if (o->gzip) {
		DF_TRY(write_filtered(o, j, end - j->at, err));
	} else if (H5Dwrite_chunk(o->d, H5P_DEFAULT, 0, at, e->len, e->buf) < 0) {
		rc = df_h5_fail(err, DF_EIO, "dataset '%s': cannot write", o->path);
	}
out:
	return rc;
}

static int
by_row(const void *a, const void *b)
{
	const struct job *x = a, *y = b;

	if (x->row != y->row)
		return x->row < y->row ? -1 : 1;
	if (x->o != y->o)
		return x->o < y->o ? -1 : 1;
	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static void
drop_jobs(struct df_h5out *w)
{
	for (size_t i = 0; i < w->n_jobs; i++)
		free(w->jobs[i].owned);
	w->n_jobs = 0;
}

/* Encode and write the collected jobs. */
static int
run_jobs(struct df_h5out *w, bool last, struct df_err *err)
{
	int rc = DF_OK;

	if (w->n_jobs > 1)
		qsort(w->jobs, w->n_jobs, sizeof(*w->jobs), by_row);
	for (size_t i = 0; i < w->n_jobs && rc == DF_OK; i += WAVE) {
		size_t n = w->n_jobs - i < WAVE ? w->n_jobs - i : WAVE;
		struct wave v = { w, w->jobs + i };

		df_pool_for(w->pool, n, encode_job, &v);
		df_h5_enter();
		for (size_t k = 0; k < n && rc == DF_OK; k++) {
			if (w->enc[k].err.code != DF_OK) {
				rc = w->enc[k].err.code;
				if (err)
					*err = w->enc[k].err;
			} else {
				rc = write_job(w, &w->jobs[i + k], &w->enc[k], last, err);
			}
		}
		df_h5_leave();
	}
	drop_jobs(w);
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", w->name);
	return rc;
}

static int
add_job(struct df_h5out *w, struct out *o, uint64_t row, uint64_t at, size_t col0, const char *src, char *owned,
    size_t src_bytes, struct df_err *err)
{
	int rc = df_grow(&w->jobs, &w->cap_jobs, w->n_jobs + 1, sizeof(*w->jobs), "chunks", err);

	if (rc != DF_OK) {
		free(owned);
		return rc;
	}
	w->jobs[w->n_jobs] = (struct job){ o, row, at, col0, src, owned, src_bytes, (unsigned)w->n_jobs };
	w->n_jobs++;
	return DF_OK;
}

/* The sample row that completes dataset row `end` - 1: in a ragged column, the first whose values reach that far. */
static uint64_t
completing_row(
    const struct out *o, uint64_t end, uint64_t first_row, const uint64_t *offsets, uint64_t base, uint64_t n)
{
	uint64_t lo = 0, hi = n;

	if (o->is_offsets)
		return end >= 2 ? end - 2 : 0; /* entry i closes row i-1 */
	if (!o->col->offsets)
		return end - 1;
	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;

		if (base + offsets[mid + 1] >= end)
			hi = mid;
		else
			lo = mid + 1;
	}
	return first_row + lo;
}

/* n dataset rows of o; their completing rows come from the batch's offsets when ragged. */
static int
append(struct df_h5out *w, struct out *o, const char *data, uint64_t n, const struct df_batch *b, struct df_err *err)
{
	const uint64_t *offsets = o->col->offsets && b ? b->col[o->col->col].offsets : NULL;
	size_t row_bytes = o->width * o->elem;
	uint64_t base = w->values[o->col->col], n_rows = b ? b->n : 0;
	int rc = DF_OK;

	if (row_bytes == 0) {
		o->rows += n;
		return DF_OK;
	}
	while (n > 0) {
		uint64_t at = o->chunks * o->chunk_rows;
		size_t take = o->chunk_rows - o->n_pending < n ? o->chunk_rows - o->n_pending : (size_t)n;

		o->rows += take;
		n -= take;
		if (take < o->chunk_rows) {
			if (o->pending == NULL)
				DF_TRY(df_alloc(&o->pending, o->chunk_rows, row_bytes, o->path, err));
			memcpy(o->pending + o->n_pending * row_bytes, data, take * row_bytes);
			o->n_pending += take;
			data += take * row_bytes;
			if (o->n_pending < o->chunk_rows)
				break;
			char *owned = o->pending;
			o->pending = NULL;
			o->n_pending = 0;
			DF_TRY(add_job(w, o, completing_row(o, at + o->chunk_rows, w->rows, offsets, base, n_rows), at,
			    0, owned, owned, o->chunk_rows * row_bytes, err));
		} else {
			uint64_t row = completing_row(o, at + o->chunk_rows, w->rows, offsets, base, n_rows);

			for (size_t c0 = 0; c0 < o->width; c0 += o->chunk_cols) {
				size_t cn = o->width - c0 < o->chunk_cols ? o->width - c0 : o->chunk_cols;

				DF_TRY(add_job(
				    w, o, row, at, c0, data + c0 * o->elem, NULL, cn * o->chunk_rows * o->elem, err));
			}
			data += take * row_bytes;
		}
		o->chunks++;
	}
out:
	return rc;
}

/* *half = a matrix of f32 in the form in which the file holds it. */
static int
narrow(const struct out *o, const struct df_batch *b, uint16_t **half, struct df_err *err)
{
	const float *v = b->col[o->col->col].data;
	const size_t n = (size_t)b->n * o->width;
	int rc;

	DF_TRY(df_alloc(half, n, sizeof(**half), o->path, err));
	for (size_t i = 0; i < n; i++)
		(*half)[i] = o->store == DF_STORE_F16 ? df_f16_from_f32(v[i]) : df_bf16_from_f32(v[i]);
out:
	return rc;
}

int
df_h5out_append(struct df_h5out *w, const struct df_batch *b, struct df_err *err)
{
	uint64_t *abs = NULL;
	uint16_t *half = NULL; /* at most one column is stored this way */
	int rc = DF_OK;

	if (b->n == 0)
		return DF_OK;
	DF_TRY(df_alloc(&abs, (size_t)b->n + 1, sizeof(*abs), "offsets", err));
	for (int i = 0; i < w->n_out; i++) {
		struct out *o = &w->out[i];
		const struct df_column_data *d = &b->col[o->col->col];

		if (o->is_offsets) {
			/* Entry 0 is the leading zero; then the end of every row. */
			bool lead = o->rows == 0;

			abs[0] = 0;
			for (uint64_t r = 0; r < b->n; r++)
				abs[r + lead] = w->values[o->col->col] + d->offsets[r + 1];
			DF_TRY(append(w, o, (const char *)abs, b->n + lead, b, err));
			/* Full chunks still point into `abs`, so they get their own copy now. */
			for (size_t k = 0; k < w->n_jobs; k++) {
				struct job *j = &w->jobs[k];

				if (j->o != o || j->owned)
					continue;
				DF_TRY(df_alloc(&j->owned, j->src_bytes, 1, "offsets", err));
				memcpy(j->owned, j->src, j->src_bytes);
				j->src = j->owned;
			}
		} else if (o->store != DF_STORE_F32) {
			DF_TRY(narrow(o, b, &half, err));
			DF_TRY(append(w, o, (const char *)half, b->n, b, err));
		} else {
			DF_TRY(append(w, o, d->data, o->col->offsets ? d->offsets[b->n] : b->n, b, err));
		}
	}
	DF_TRY(run_jobs(w, false, err));
	for (int i = 0; i < DF_COL_COUNT; i++)
		if (w->cols & 1u << i && df_column((enum df_col)i)->offsets)
			w->values[i] += b->col[i].offsets[b->n];
	w->rows += b->n;
out:
	free(abs);
	free(half);
	drop_jobs(w);
	return rc;
}

int
df_h5out_finish(struct df_h5out *w, const struct df_meta *meta, struct df_err *err)
{
	static const char zero[sizeof(uint64_t)];
	int rc = DF_OK;

	for (int i = 0; i < w->n_out; i++) {
		struct out *o = &w->out[i];

		if (o->is_offsets && o->rows == 0)
			DF_TRY(append(w, o, zero, 1, NULL, err));
		if (o->n_pending == 0)
			continue;
		/* A wide row is a chunk row of its own and is never pending. */
		char *owned = o->pending;
		o->pending = NULL;
		DF_TRY(add_job(
		    w, o, w->rows, o->chunks * o->chunk_rows, 0, owned, owned, o->n_pending * o->width * o->elem, err));
	}
	DF_TRY(run_jobs(w, true, err));
	df_h5_enter();
	for (int i = 0; i < w->n_out && rc == DF_OK; i++)
		if (w->out[i].d < 0)
			rc = create_dataset(w, &w->out[i], (int64_t)w->out[i].rows, err);
	if (rc == DF_OK)
		rc = df_h5_meta_write(w->file, meta, true, err);
	for (int i = 0; i < w->n_out; i++) {
		if (w->out[i].d >= 0 && H5Dclose(w->out[i].d) < 0 && rc == DF_OK)
			rc = df_h5_fail(err, DF_EIO, "dataset '%s': cannot close", w->out[i].path);
		w->out[i].d = -1;
	}
	if (rc == DF_OK && H5Fflush(w->file, H5F_SCOPE_LOCAL) < 0)
		rc = df_h5_fail(err, DF_EIO, "cannot write");
	if (H5Fclose(w->file) < 0 && rc == DF_OK)
		rc = df_h5_fail(err, DF_EIO, "cannot close");
	w->file = -1;
	df_h5_leave();
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", w->name);
out:
	return rc;
}

void
df_h5out_free(struct df_h5out *w)
{
	if (w == NULL)
		return;
	df_h5_enter();
	for (int i = 0; i < w->n_out; i++)
		if (w->out[i].d >= 0)
			H5Dclose(w->out[i].d);
	if (w->file >= 0)
		H5Fclose(w->file);
	H5Eclear2(H5E_DEFAULT);
	df_h5_leave();
	drop_jobs(w);
	free(w->jobs);
	for (int i = 0; i < w->n_out; i++)
		free(w->out[i].pending);
	for (int i = 0; i < w->n_ctx && w->ctx; i++)
		df_codec_ctx_release(&w->ctx[i]);
	for (int i = 0; i < WAVE; i++)
		free(w->enc[i].buf);
	free(w->ctx);
	free(w->name);
	free(w);
}

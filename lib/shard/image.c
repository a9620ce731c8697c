/*
 * image.c - HDF5 images of a stream's records, without calling HDF5 for each record.
 *
 * A record is a whole HDF5 file with contiguous datasets.  Two batches of one shape differ only in the datasets'
 * bytes.  So the file is built once per shape, with empty datasets, and taken apart:
 *
 *     image     | header, groups ... | ids | more header | gradient ........ | tail |
 *     skeleton  | #################  |     | ########### |                   | ###  |
 *
 * Writing a record is one writev(2) of skeleton runs and the caller's arrays.  Reading is the inverse: when a
 * record's skeleton bytes equal those of the record before, its columns are at the same places, and HDF5 does not
 * have to open it.
 */
#include "shard/h5_priv.h"

#include <stdlib.h>
#include <string.h>

void
df_image_release(struct df_image *im)
{
	free(im->run);
	free(im->skel);
	*im = (struct df_image)DF_IMAGE_INIT;
}

static int
by_place(const void *a, const void *b)
{
	const struct df_image_run *x = a, *y = b;

	return x->at < y->at ? -1 : x->at > y->at;
}

/*
 * From the columns' runs (n of them, in im->run) make the full list by filling the gaps with skeleton, whose bytes
 * come from the image, which is zero after `len`.  *ok = false when columns overlap.
 */
static int
take_apart(struct df_image *im, size_t n, const void *image, uint64_t len, bool *ok, struct df_err *err)
{
	struct df_image_run *full = NULL;
	size_t n_full = 0, skel = 0;
	uint64_t at = 0;
	int rc;

	*ok = false;
	qsort(im->run, n, sizeof(*im->run), by_place);
	DF_TRY(df_alloc(&full, 2 * n + 1, sizeof(*full), "an image", err));
	for (size_t i = 0; i <= n; i++) {
		uint64_t next = i < n ? im->run[i].at : im->nbytes;

		if (next < at || next > im->nbytes)
			goto out;
		if (next > at) {
			full[n_full++] = (struct df_image_run){ at, next - at, DF_COL_COUNT, false, skel };
			skel += (size_t)(next - at);
		}
		if (i < n) {
			full[n_full++] = im->run[i];
			at = next + im->run[i].nbytes;
		}
	}
	DF_TRY(df_alloc(&im->skel, skel, 1, "an image", err));
	for (size_t i = 0; i < n_full; i++)
		if (full[i].col == DF_COL_COUNT && full[i].at < len) {
			uint64_t m = full[i].nbytes < len - full[i].at ? full[i].nbytes : len - full[i].at;

			memcpy(im->skel + full[i].skel_at, (const char *)image + full[i].at, (size_t)m);
		}
	free(im->run);
	im->run = full;
	im->n_runs = n_full;
	full = NULL;
	*ok = true;
out:
	free(full);
	return rc;
}

/* ---- making */

static int
make_dataset(hid_t file, hid_t dcpl, const char *path, const char *about, enum df_coltype type, int rank,
    const hsize_t *dims, uint64_t *at, uint64_t *nbytes, struct df_err *err)
{
	hid_t space = H5Screate_simple(rank, dims, NULL), d = -1;
	haddr_t addr = 0;
	int rc = DF_OK;

	*nbytes = dims[0] * (rank > 1 ? dims[1] : 1) * df_coltype_size(type);
	if (space < 0 || (d = df_h5_create(file, path, df_h5_type(type), space, dcpl)) < 0 ||
	    (*nbytes > 0 && (addr = H5Dget_offset(d)) == HADDR_UNDEF))
		rc = df_h5_fail(err, DF_EINTERNAL, "dataset '%s': cannot create in an image", path);
	else
		rc = df_h5_attr_put_str(d, "description", about, err);
	*at = addr;
	if (d >= 0)
		H5Dclose(d);
	if (space >= 0)
		H5Sclose(space);
	return rc;
}

static int
make_datasets(struct df_image *im, hid_t file, hid_t dcpl, uint32_t cols, const size_t *widths, size_t *n_runs,
    struct df_err *err)
{
	int rc = DF_OK;

	for (int i = 0; i < DF_COL_COUNT; i++) {
		const struct df_column *c = df_column((enum df_col)i);
		hsize_t dims[2] = { c->offsets ? im->values[i] : im->rows, c->matrix ? widths[i] : 1 };
		struct df_image_run *r = &im->run[*n_runs];
		bool known = false;

		if (!(cols & 1u << i))
			continue;
		for (size_t k = 0; c->offsets && k < *n_runs; k++)
			known |= im->run[k].offsets && strcmp(df_column(im->run[k].col)->offsets, c->offsets) == 0;
		if (c->offsets && !known) {
			hsize_t n = im->rows + 1;

			DF_TRY(make_dataset(file, dcpl, c->offsets, "row i is values[offsets[i]:offsets[i+1]]",
			    DF_COL_U64, 1, &n, &r->at, &r->nbytes, err));
			r->col = (enum df_col)i;
			r->offsets = true;
			r = &im->run[++*n_runs];
		}
		DF_TRY(make_dataset(
		    file, dcpl, c->path, c->about, c->type, c->matrix ? 2 : 1, dims, &r->at, &r->nbytes, err));
		r->col = (enum df_col)i;
		if (r->nbytes > 0)
			++*n_runs;
	}
out:
	return rc;
}

/*
 * The core driver's memory, kept when it closes the file.  (H5Fget_file_image
 * of 1.10.8 clears a superblock flag without renewing the checksum: what it
 * returns does not open.)
 */
struct memory {
	char *kept;
	size_t len;
};

static void *
memory_alloc(size_t size, H5FD_file_image_op_t op, void *udata)
{
	struct memory *mem = udata;

	(void)op;
	mem->len = size;
	return calloc(1, size ? size : 1);
}

static void *
memory_realloc(void *p, size_t size, H5FD_file_image_op_t op, void *udata)
{
	struct memory *mem = udata;
	char *q = realloc(p, size ? size : 1);

	(void)op;
	/* The bytes between datasets must not vary. */
	if (q && size > mem->len)
		memset(q + mem->len, 0, size - mem->len);
	if (q)
		mem->len = size;
	return q;
}

static herr_t
memory_free(void *p, H5FD_file_image_op_t op, void *udata)
{
	struct memory *mem = udata;

	if (op != H5FD_FILE_IMAGE_OP_FILE_CLOSE || mem->kept) {
		free(p);
		return 0;
	}
	mem->kept = p;
	return 0;
}

/*
 * The end of the file by its superblock (version 2 or 3).  It may be after the end of the memory, because datasets
 * that were not written need none.
 */
static bool
end_of_file(const struct memory *mem, uint64_t *nbytes)
{
	if (mem->kept == NULL || mem->len < 48 || (mem->kept[8] != 2 && mem->kept[8] != 3))
		return false;
	memcpy(nbytes, mem->kept + 28, sizeof(*nbytes));
	return true;
}

int
df_image_make(struct df_image *im, const struct df_meta *meta, uint32_t cols, const size_t widths[DF_COL_COUNT],
    uint64_t n, const uint64_t values[DF_COL_COUNT], struct df_err *err)
{
	hid_t fapl = -1, fcpl = -1, dcpl = -1, file = -1;
	struct df_image m = DF_IMAGE_INIT;
	struct memory mem = { NULL, 0 };
	H5FD_file_image_callbacks_t cb = { memory_alloc, NULL, memory_realloc, memory_free, df_h5_udata_same,
		df_h5_udata_free, &mem };
	size_t n_runs = 0;
	bool ok;
	int rc;

	m.rows = n;
	memcpy(m.values, values, sizeof(m.values));
	DF_TRY(df_alloc(&m.run, 2 * DF_COL_COUNT + 1, sizeof(*m.run), "an image", err));
	df_h5_enter();
	fapl = df_h5_fapl_write();
	fcpl = df_h5_fcpl();
	dcpl = df_h5_dcpl();
	/* Aligned, so that a reader may point into the image; allocated early, so that the places are known. */
	if (fapl < 0 || fcpl < 0 || dcpl < 0 || H5Pset_fapl_core(fapl, (size_t)1 << 20, 0) < 0 ||
	    H5Pset_file_image_callbacks(fapl, &cb) < 0 || H5Pset_alignment(fapl, 1, 64) < 0 ||
	    H5Pset_small_data_block_size(fapl, 0) < 0 || H5Pset_layout(dcpl, H5D_CONTIGUOUS) < 0 ||
	    H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_EARLY) < 0 ||
	    (file = H5Fcreate("image", H5F_ACC_TRUNC, fcpl, fapl)) < 0)
		rc = df_h5_fail(err, DF_EINTERNAL, "cannot create an image");
	if (rc == DF_OK)
		rc = make_datasets(&m, file, dcpl, cols, widths, &n_runs, err);
	if (rc == DF_OK)
		rc = df_h5_meta_write(file, meta, false, err);
	if (file >= 0 && H5Fclose(file) < 0 && rc == DF_OK)
		rc = df_h5_fail(err, DF_EINTERNAL, "cannot close an image");
	if (dcpl >= 0)
		H5Pclose(dcpl);
	if (fcpl >= 0)
		H5Pclose(fcpl);
	if (fapl >= 0)
		H5Pclose(fapl);
	df_h5_leave();
	if (rc != DF_OK)
		goto out;
	if (!end_of_file(&mem, &m.nbytes)) {
		rc = df_fail(err, DF_EINTERNAL, "an image without an end");
		goto out;
	}
	DF_TRY(take_apart(&m, n_runs, mem.kept, mem.len, &ok, err));
	if (!ok) {
		rc = df_fail(err, DF_EINTERNAL, "an image whose datasets overlap");
		goto out;
	}
	df_image_release(im);
	*im = m;
	m = (struct df_image)DF_IMAGE_INIT;
out:
	df_image_release(&m);
	free(mem.kept);
	return rc;
}

/* ---- learning */

bool
df_image_learn(struct df_image *im, struct df_h5in *in, const void *image, uint64_t nbytes)
{
	const struct df_h5info *info = df_h5in_info(in);
	struct df_image m = DF_IMAGE_INIT;
	size_t n = 0;
	bool ok = false;

	m.rows = info->rows;
	m.nbytes = nbytes;
	memcpy(m.values, info->values, sizeof(m.values));
	if (df_alloc(&m.run, 2 * DF_COL_COUNT + 1, sizeof(*m.run), "an image", NULL) != DF_OK)
		return false;
	for (int i = 0; i < DF_COL_COUNT; i++) {
		const struct df_column *c = df_column((enum df_col)i);
		bool known = false;

		if (!(info->cols & 1u << i))
			continue;
		for (size_t k = 0; c->offsets && k < n; k++)
			known |= m.run[k].offsets && strcmp(df_column(m.run[k].col)->offsets, c->offsets) == 0;
		for (int off = 0; off <= (c->offsets && !known); off++) {
			struct df_image_run *r = &m.run[n];

			*r = (struct df_image_run){ .col = (enum df_col)i, .offsets = off };
			if (!df_h5in_place(in, (enum df_col)i, off, &r->at, &r->nbytes))
				goto out;
			n += r->nbytes > 0;
		}
	}
	if (take_apart(&m, n, image, nbytes, &ok, NULL) == DF_OK && ok) {
		df_image_release(im);
		*im = m;
		m = (struct df_image)DF_IMAGE_INIT;
	}
out:
	df_image_release(&m);
	return ok;
}

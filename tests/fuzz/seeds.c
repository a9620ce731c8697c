/*
 * seeds.c - makes the seeds that are HDF5 files: seeds CORPUS (make fuzz-seeds).
 *
 *   artefact/KIND.h5         each kind, of three rows, as we write it
 *   artefact/KIND-script.h5  as a script writes it: HDF5's old format without checksums, other types and layouts
 *   stream/KIND              the rows as two records
 *   shards/KIND              the rows as two files, each after its length as u32
 */
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "shard/shard_priv.h"

#define ROWS  3
#define WIDTH 2

static const char *corpus;

static void
must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "seeds: %s\n", what);
		exit(1);
	}
}

static const char *
in_corpus(const char *dir, const char *name)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/%s/%s", corpus, dir, name);
	return path;
}

/* ---- as we write them */

static void
make_meta(struct df_meta *m, enum df_kind kind)
{
	struct df_err err = DF_ERR_INIT;

	*m = (struct df_meta)DF_META_INIT;
	m->kind = kind;
	must(df_strdup(&m->tool, "df-x", &err) == DF_OK && df_strdup(&m->version, "1", &err) == DF_OK &&
		df_meta_set_int(m, "seed", 42, &err) == DF_OK &&
		df_meta_add_input(m, "tokens", "tokens", "00112233445566778899aabbccddeeff", &err) == DF_OK &&
		df_meta_add_domain(m, "a", NULL, &err) == DF_OK,
	    err.msg);
	if (kind == DF_KIND_GRADIENTS)
		must(df_meta_add_manifest(m, "w", 0, 1, WIDTH, &err) == DF_OK, err.msg);
}

static uint32_t
columns_of(enum df_kind kind)
{
	const uint32_t all = df_kind_schema(kind)->allowed;

	return kind == DF_KIND_WEIGHTS ? all & ~(1u << DF_COL_DOMAIN_WEIGHT) : all;
}

/* Rows [first, first + n): row i of a ragged column has i values. */
static void
make_rows(struct df_batch *b, uint32_t cols, uint64_t first, uint64_t n)
{
	struct df_err err = DF_ERR_INIT;

	df_batch_clear(b);
	b->n = n;
	b->first = first;
	for (int i = 0; i < DF_COL_COUNT; i++) {
		const struct df_column *c = df_column((enum df_col)i);
		const size_t size = df_coltype_size(c->type);
		uint64_t values = c->matrix ? n * WIDTH : n;
		char *data;

		if (!(cols & 1u << i))
			continue;
		b->col[i].width = c->matrix ? WIDTH : 1;
		if (c->offsets) {
			uint64_t *off;

			must(df_arena_alloc(&b->arena, &off, n + 1, sizeof(*off), "a seed", &err) == DF_OK, err.msg);
			off[0] = 0;
			for (uint64_t r = 0; r < n; r++)
				off[r + 1] = off[r] + first + r;
			values = off[n];
			b->col[i].offsets = off;
		}
		must(df_arena_alloc(&b->arena, &data, values, size, "a seed", &err) == DF_OK, err.msg);
		memset(data, 0, values * size);
		for (uint64_t v = 0; v < values; v++)
			if (c->type == DF_COL_F32)
				((float *)(void *)data)[v] = (float)(first + v);
			else if (i != DF_COL_DOMAIN)
				data[v * size] = (char)(i == DF_COL_LABEL_MASK ? 1 : first + v);
		b->col[i].data = data;
	}
}

static void
write_rows(
    const char *path, enum df_kind kind, uint64_t first, uint64_t end, uint64_t step, const struct df_writer_opts *opts)
{
	const uint32_t set = columns_of(kind);
	size_t widths[DF_COL_COUNT], n_cols = 0;
	struct df_batch b = DF_BATCH_INIT;
	struct df_err err = DF_ERR_INIT;
	enum df_col cols[DF_COL_COUNT];
	struct df_writer *w;
	struct df_meta m;

	make_meta(&m, kind);
	for (int i = 0; i < DF_COL_COUNT; i++) {
		widths[i] = df_column((enum df_col)i)->matrix ? WIDTH : 0;
		if (set & 1u << i)
			cols[n_cols++] = (enum df_col)i;
	}
	must(df_writer_open(&w, path, &m, cols, n_cols, widths, opts, &err) == DF_OK, err.msg);
	for (uint64_t i = first; i < end; i += step) {
		make_rows(&b, set, i, end - i < step ? end - i : step);
		must(df_writer_put(w, &b, &err) == DF_OK, err.msg);
	}
	must(df_writer_commit(w, NULL, &err) == DF_OK, err.msg);
	df_writer_close(w);
	df_batch_release(&b);
	df_meta_release(&m);
}

static void
write_stream(const char *path, enum df_kind kind)
{
	const struct df_writer_opts opts = { .force_stream = true };
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);

	must(fd >= 0 && dup2(fd, STDOUT_FILENO) >= 0 && close(fd) == 0, path);
	write_rows("-", kind, 0, ROWS, 2, &opts);
}

static void
write_shards(const char *path, enum df_kind kind)
{
	const struct df_writer_opts opts = { 0 };
	struct df_err err = DF_ERR_INIT;
	FILE *f = fopen(path, "wb");
	char part[4096];

	must(f != NULL, path);
	for (uint64_t first = 0; first < ROWS; first += 2) {
		uint32_t len;
		char *data;
		size_t n;

		snprintf(part, sizeof(part), "%s.part", path);
		write_rows(part, kind, first, first + 2 < ROWS ? first + 2 : ROWS, 2, &opts);
		must(df_file_get(part, 1 << 20, &data, &n, &err) == DF_OK && unlink(part) == 0, part);
		len = (uint32_t)n;
		must(fwrite(&len, sizeof(len), 1, f) == 1 && fwrite(data, 1, n, f) == n, path);
		free(data);
	}
	must(fclose(f) == 0, path);
}

/* ---- as a script writes them */

static hid_t
script_file(const char *name)
{
	hid_t f = H5Fcreate(in_corpus("artefact", name), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);

	must(f >= 0, name);
	return f;
}

static void
put(hid_t file, const char *path, hid_t type, hid_t mem, int rank, hid_t dcpl, const void *data)
{
	const hsize_t dims[2] = { ROWS, WIDTH }, max[2] = { H5S_UNLIMITED, WIDTH };
	const bool grows = dcpl != H5P_DEFAULT && H5Pget_layout(dcpl) == H5D_CHUNKED;
	hid_t lcpl = H5Pcreate(H5P_LINK_CREATE), space = H5Screate_simple(rank, dims, grows ? max : NULL), d;

	H5Pset_create_intermediate_group(lcpl, 1);
	dcpl = dcpl == H5P_DEFAULT ? H5Pcreate(H5P_DATASET_CREATE) : H5Pcopy(dcpl);
	H5Pset_obj_track_times(dcpl, 0); /* the same bytes each time */
	d = H5Dcreate2(file, path, type, space, lcpl, dcpl, H5P_DEFAULT);
	must(d >= 0 && H5Dwrite(d, mem, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0, path);
	H5Dclose(d);
	H5Sclose(space);
	H5Pclose(dcpl);
	H5Pclose(lcpl);
}

/* Strings of variable length, which lie in the global heap. */
static void
put_strings(hid_t file, const char *name, const char *const *v, hsize_t n)
{
	hid_t type = H5Tcopy(H5T_C_S1), space = n == 1 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &n, NULL), a;

	H5Tset_size(type, H5T_VARIABLE);
	a = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
	must(a >= 0 && H5Awrite(a, type, v) >= 0, name);
	H5Aclose(a);
	H5Sclose(space);
	H5Tclose(type);
}

static void
write_scripts(void)
{
	const int64_t whole[ROWS] = { 2, 0, 1 };
	const double real[ROWS * WIDTH] = { 0.5, 1, 1.5, 2, 2.5, 3 };
	const uint64_t off[ROWS] = { 0, 1, 3 };
	const hsize_t one[2] = { 1, 1 }, rows[2] = { 2, WIDTH };
	const char *const domains[] = { "a", "b" };
	const char *const kind[] = { "embeddings" };
	hid_t f, dcpl;

	f = script_file("index-script.h5");
	put(f, "index", H5T_STD_I32LE, H5T_NATIVE_INT64, 1, H5P_DEFAULT, whole);
	put(f, "score", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 1, H5P_DEFAULT, real);
	put_strings(f, "domains", domains, 2);
	H5Fclose(f);

	/* A B-tree of chunks that gzip packed. */
	f = script_file("embeddings-script.h5");
	dcpl = H5Pcreate(H5P_DATASET_CREATE);
	H5Pset_chunk(dcpl, 2, rows);
	H5Pset_deflate(dcpl, 1);
	put(f, "embedding", H5T_IEEE_F32LE, H5T_NATIVE_DOUBLE, 2, dcpl, real);
	H5Pclose(dcpl);
	dcpl = H5Pcreate(H5P_DATASET_CREATE);
	H5Pset_chunk(dcpl, 1, one);
	H5Pset_shuffle(dcpl);
	H5Pset_fletcher32(dcpl);
	put(f, "sample/id", H5T_STD_U64LE, H5T_NATIVE_INT64, 1, dcpl, whole);
	H5Pclose(dcpl);
	put_strings(f, "df_kind", kind, 1);
	H5Fclose(f);

	/* In the object header; and tokens as long as their offsets say: three. */
	f = script_file("tokens-script.h5");
	dcpl = H5Pcreate(H5P_DATASET_CREATE);
	H5Pset_layout(dcpl, H5D_COMPACT);
	put(f, "sample/id", H5T_STD_U64LE, H5T_NATIVE_INT64, 1, H5P_DEFAULT, whole);
	put(f, "tokens/ids", H5T_STD_U32LE, H5T_NATIVE_INT64, 1, H5P_DEFAULT, whole);
	put(f, "tokens/label_mask", H5T_STD_U8LE, H5T_NATIVE_INT64, 1, dcpl, whole);
	put(f, "tokens/offsets", H5T_STD_U64LE, H5T_NATIVE_UINT64, 1, dcpl, off);
	H5Pclose(dcpl);
	H5Fclose(f);

	/* Its one column is virtual: its numbers lie in another dataset of the file that is called so. */
	f = script_file("weights-script.h5");
	dcpl = H5Pcreate(H5P_DATASET_CREATE);
	{
		const hsize_t n = ROWS;
		hid_t space = H5Screate_simple(1, &n, NULL), d;

		H5Pset_obj_track_times(dcpl, 0);
		H5Pset_virtual(dcpl, space, "x.h5", "w", space);
		put(f, "w", H5T_IEEE_F32LE, H5T_NATIVE_DOUBLE, 1, H5P_DEFAULT, real);
		d = H5Dcreate2(f, "sample_weight", H5T_IEEE_F32LE, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
		must(d >= 0, "sample_weight");
		H5Dclose(d);
		H5Sclose(space);
	}
	H5Pclose(dcpl);
	H5Fclose(f);
}

int
main(int argc, char **argv)
{
	static const enum df_kind shards[] = { DF_KIND_TOKENS, DF_KIND_GRADIENTS };
	const struct df_writer_opts opts = { 0 };
	char name[64];

	must(argc == 2, "seeds CORPUS");
	corpus = argv[1];
	for (int k = DF_KIND_ANY + 1; k < DF_KIND_COUNT; k++) {
		snprintf(name, sizeof(name), "%s.h5", df_kind_name((enum df_kind)k));
		write_rows(in_corpus("artefact", name), (enum df_kind)k, 0, ROWS, ROWS, &opts);
	}
	for (size_t i = 0; i < sizeof(shards) / sizeof(shards[0]); i++)
		write_shards(in_corpus("shards", df_kind_name(shards[i])), shards[i]);
	write_scripts();
	for (int k = DF_KIND_ANY + 1; k < DF_KIND_COUNT; k++)
		write_stream(in_corpus("stream", df_kind_name((enum df_kind)k)), (enum df_kind)k);
	return 0;
}

/*
 * random_half.c - projections in float16, as numpy and h5py would store them: contiguous, without checksums.
 *
 *   random_half ROWS K FILE.h5        writes ROWS x K float16, uniform in [-1, 1); row i has id i
 *
 * Rows are written as they are drawn, so that a file larger than memory can be made.
 */
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/half.h"
#include "base/mem.h"

#define STEP 1024

static int
fail(const char *what)
{
	fprintf(stderr, "random_half: cannot write %s\n", what);
	return 74;
}

/* The sign and ten bits of a number that need not be good: k/1024 is exact in float16. */
static uint16_t
draw(uint64_t *s)
{
	*s = *s * 6364136223846793005u + 1442695040888963407u;
	return df_f16_from_f32((float)((int)(*s >> 53) - 1024) / 1024);
}

/* IEEE's half precision: HDF5 has no name for it. */
static hid_t
half_type(void)
{
	hid_t t = H5Tcopy(H5T_IEEE_F32LE);

	if (t < 0 || H5Tset_fields(t, 15, 10, 5, 0, 10) < 0 || H5Tset_size(t, 2) < 0 || H5Tset_ebias(t, 15) < 0)
		return -1;
	return t;
}

static int
put_rows(hid_t set, hid_t type, hsize_t rows, hsize_t k)
{
	static uint16_t table[1 << 16];
	hid_t file = H5Dget_space(set), mem;
	uint64_t seed = 1, at = 0;
	uint16_t *v = NULL;
	int bad = df_alloc(&v, STEP * k, sizeof(*v), "rows", NULL) != DF_OK;

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
		table[i] = draw(&seed);
	for (hsize_t first = 0, n; !bad && first < rows; first += n) {
		const hsize_t start[2] = { first, 0 };

		n = rows - first < STEP ? rows - first : STEP;
		for (hsize_t i = 0; i < n * k; i++) {
			at = at * 6364136223846793005u + 1442695040888963407u;
			v[i] = table[at >> 48];
		}
		mem = H5Screate_simple(2, (hsize_t[2]){ n, k }, NULL);
		bad = H5Sselect_hyperslab(file, H5S_SELECT_SET, start, NULL, (hsize_t[2]){ n, k }, NULL) < 0 ||
		    H5Dwrite(set, type, mem, file, H5P_DEFAULT, v) < 0;
		H5Sclose(mem);
	}
	H5Sclose(file);
	free(v);
	return bad;
}

static int
put_ids(hid_t file, hsize_t rows)
{
	hid_t lcpl = H5Pcreate(H5P_LINK_CREATE), space = H5Screate_simple(1, &rows, NULL), set;
	uint64_t *id = NULL;
	int bad = df_alloc(&id, rows, sizeof(*id), "ids", NULL) != DF_OK;

	for (hsize_t i = 0; !bad && i < rows; i++)
		id[i] = i;
	H5Pset_create_intermediate_group(lcpl, 1);
	set = H5Dcreate2(file, "sample/id", H5T_STD_U64LE, space, lcpl, H5P_DEFAULT, H5P_DEFAULT);
	bad = bad || set < 0 || H5Dwrite(set, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, id) < 0;
	H5Dclose(set);
	H5Sclose(space);
	H5Pclose(lcpl);
	free(id);
	return bad;
}

int
main(int argc, char **argv)
{
	hid_t file, space, set, type = half_type();
	hsize_t size[2];

	if (argc != 4) {
		fprintf(stderr, "usage: random_half ROWS K FILE.h5\n");
		return 64;
	}
	size[0] = strtoull(argv[1], NULL, 10);
	size[1] = strtoull(argv[2], NULL, 10);
	file = H5Fcreate(argv[3], H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
	space = H5Screate_simple(2, size, NULL);
	if (type < 0 || file < 0 || space < 0)
		return fail(argv[3]);
	set = H5Dcreate2(file, "projection", type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
	if (set < 0 || put_rows(set, type, size[0], size[1]) || put_ids(file, size[0]))
		return fail(argv[3]);
	H5Dclose(set);
	H5Sclose(space);
	H5Tclose(type);
	return H5Fclose(file) < 0 ? fail(argv[3]) : 0;
}

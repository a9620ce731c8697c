/*
 * agree.c - how far the rows of two files agree: agree DATASET A.h5 B.h5
 *
 * Prints, of B against A: "largest difference, mean of the rows' differences, relative difference in norm, lowest and
 * median cosine of a row, rank correlation of all values".  For tests that compare devices.
 */
#include <hdf5.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

struct matrix {
	size_t rows, cols;
	double *v;
};

static int
read_matrix(struct matrix *m, const char *path, const char *name)
{
	const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
	const hid_t set = file < 0 ? file : H5Dopen2(file, name, H5P_DEFAULT);
	const hid_t space = set < 0 ? set : H5Dget_space(set);
	hsize_t n[2] = { 1, 1 };
	const int rank = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);

	if (rank < 1 || rank > 2 || H5Sget_simple_extent_dims(space, n, NULL) < 0 || n[0] == 0 || n[1] == 0) {
		fprintf(stderr, "agree: %s: no %s with rows\n", path, name);
		return -1;
	}
	m->rows = n[0];
	m->cols = n[1];
	m->v = calloc(m->rows * m->cols, sizeof(*m->v));
	if (!m->v || H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, m->v) < 0) {
		fprintf(stderr, "agree: %s: %s cannot be read\n", path, name);
		return -1;
	}
	H5Sclose(space);
	H5Dclose(set);
	H5Fclose(file);
	return 0;
}

static int
compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static const double *keys;

static int
compare_keys(const void *a, const void *b)
{
	const size_t i = *(const size_t *)a, j = *(const size_t *)b;

	return keys[i] != keys[j] ? compare(&keys[i], &keys[j]) : (i > j) - (i < j);
}

/* rank[i] of v[i], equal values the mean of theirs.  false without memory. */
static bool
ranks(const double *v, size_t n, double *rank)
{
	size_t *order = calloc(n, sizeof(*order));

	if (!order)
		return false;
	for (size_t i = 0; i < n; i++)
		order[i] = i;
	keys = v;
	qsort(order, n, sizeof(*order), compare_keys);
	for (size_t i = 0, end; i < n; i = end) {
		for (end = i; end < n && v[order[end]] == v[order[i]]; end++)
			;
		for (size_t k = i; k < end; k++)
			rank[order[k]] = (double)(i + end - 1) / 2;
	}
	free(order);
	return true;
}

static double
cosine(const double *a, const double *b, size_t n, double mean)
{
	double ab = 0, aa = 0, bb = 0;

	for (size_t i = 0; i < n; i++) {
		ab += (a[i] - mean) * (b[i] - mean);
		aa += (a[i] - mean) * (a[i] - mean);
		bb += (b[i] - mean) * (b[i] - mean);
	}
	return aa == 0 && bb == 0 ? 1 : ab / sqrt(aa * bb);
}

int
main(int argc, char **argv)
{
	struct matrix a = { 0 }, b = { 0 };
	double largest = 0, sum = 0, dd = 0, aa = 0, *cosines = NULL, *ra = NULL, *rb = NULL;
	size_t n;
	int rc = 2;

	if (argc != 4 || read_matrix(&a, argv[2], argv[1]) != 0 || read_matrix(&b, argv[3], argv[1]) != 0)
		goto out;
	n = a.rows * a.cols;
	if (a.rows != b.rows || a.cols != b.cols) {
		fprintf(stderr, "agree: %zu x %zu and %zu x %zu\n", a.rows, a.cols, b.rows, b.cols);
		rc = 1;
		goto out;
	}
	cosines = calloc(a.rows, sizeof(*cosines));
	ra = calloc(n, sizeof(*ra));
	rb = calloc(n, sizeof(*rb));
	if (!cosines || !ra || !rb || !ranks(a.v, n, ra) || !ranks(b.v, n, rb))
		goto out;
	rc = 1;
	for (size_t i = 0; i < n; i++) {
		const double d = b.v[i] - a.v[i];

		if (!isfinite(a.v[i]) || !isfinite(b.v[i])) {
			fprintf(stderr, "agree: value %zu is not finite\n", i);
			goto out;
		}
		largest = fmax(largest, fabs(d));
		sum += d;
		dd += d * d;
		aa += a.v[i] * a.v[i];
	}
	for (size_t r = 0; r < a.rows; r++)
		cosines[r] = cosine(a.v + r * a.cols, b.v + r * a.cols, a.cols, 0);
	qsort(cosines, a.rows, sizeof(*cosines), compare);
	printf("%.3g %.3g %.3g %.8f %.8f %.6f\n", largest, fabs(sum / (double)n), aa > 0 ? sqrt(dd / aa) : sqrt(dd),
	    cosines[0], cosines[a.rows / 2], cosine(ra, rb, n, (double)(n - 1) / 2));
	rc = 0;
out:
	free(a.v);
	free(b.v);
	free(cosines);
	free(ra);
	free(rb);
	return rc;
}

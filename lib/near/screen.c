/*
 * screen.c - bounds of products from 8-bit integers.
 *
 *   block of rows x block of columns:   products of the first coordinates | given up?
 *                                       products of all | a limit for each row | a bound for each pair that is left
 *
 * Limits are integers that the sums are compared with: for a row and a block of columns from the largest scale, norms
 * and errors in the block; after that, for a pair, from its own.  Everything that has a sign or may round is done in
 * float64 with a margin (MARGIN) far beyond its rounding.
 */
#include "near/screen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/simd.h"

#pragma GCC optimize("O3", "no-trapping-math")

enum {
	BLOCK = DF_INT8_BLOCK,
	CUTS_MAX = 8,
	COLUMN_MOST = 127, /* integers of columns are from -127 to 127, and stored with 128 added */
	OFFSET = 128,
	OUT_OF_REACH = 1 << 28, /* no sum of products of integers reaches it: 127^2 DF_INT8_WIDEST is less */
};
#define MARGIN 1e-9 /* relative to |x| |y|; float64 sums of 2^14 squares round by less than 1e-11 */

/* The norms of the first coordinates of a point x = s q + e. */
struct part {
	double whole, error, integers; /* |x|, |e|, |s q| */
	double rest;                   /* |x'| of the other coordinates, with a margin */
	int32_t offset;                /* OFFSET times the sum of the integers */
};

/* What is known of a point beside its integers. */
struct about {
	double scale; /* s; 0: all integers are zero */
	double half;  /* half its square for L2, else 0: limits are for <x, y> - half of y.  INFINITY: near to none */
	struct part part[CUTS_MAX];
};

/* What is kept of a column. */
struct column {
	double scale, half, whole, error, rest; /* of all coordinates */
};

struct df_screen {
	const struct df_int8 *kernel;
	enum df_metric metric;
	size_t d, width; /* numbers of a point; of its integers: a multiple of DF_INT8_STEP, zeros at the end */
	size_t n_cuts, cut[CUTS_MAX];
	uint64_t n_blocks;
	uint8_t *packed;       /* [n_blocks][width / 4][BLOCK][4] */
	struct column *column; /* [n_blocks][BLOCK] */
	struct about *most;    /* [n_blocks] the largest of the block's columns; of half the smallest */
};

/* A block of rows, number by number. */
struct row_block {
	double least[BLOCK]; /* <x, y> - half of y must be at least this */
	double scale[BLOCK], half[BLOCK];
	double whole[CUTS_MAX][BLOCK], error[CUTS_MAX][BLOCK], integers[CUTS_MAX][BLOCK], rest[CUTS_MAX][BLOCK];
	int32_t offset[CUTS_MAX][BLOCK]; /* in all sums of the row: columns are stored with OFFSET added */
};

struct df_screen_rows {
	const struct df_screen *s;
	uint64_t n, n_blocks;
	int8_t *integers;       /* [n_blocks][BLOCK][width] */
	struct row_block *rows; /* [n_blocks] */
};

/* ---- a point's integers ---------------------------------------------------------------------- */

enum { LANES = 8 };
typedef float v8f __attribute__((vector_size(32), aligned(4), may_alias));
typedef double v8d __attribute__((vector_size(64)));
typedef int32_t v8i __attribute__((vector_size(32)));
typedef int8_t v8c __attribute__((vector_size(8), aligned(1), may_alias));

/* Sums over some first coordinates, in lanes. */
struct sums {
	v8d whole, error; /* of x^2, e^2 */
	v8i q, squares;   /* of q, q^2 */
};

/* The largest |x|.  Without its sign, a float compares as its bits do. */
static inline __attribute__((always_inline)) double
largest(const float *x, size_t d)
{
	v8i most = { 0 };
	int32_t bits = 0;
	float value;
	size_t i = 0;

	for (; i + LANES <= d; i += LANES) {
		const v8i u = (v8i)(*(const v8f *)(x + i)) & INT32_MAX, more = u > most;

		most = (u & more) | (most & ~more);
	}
	for (int l = 0; l < LANES; l++)
		bits = most[l] > bits ? most[l] : bits;
	memcpy(&value, &bits, sizeof(value));
	for (; i < d; i++)
		value = fmaxf(value, fabsf(x[i]));
	return (double)value;
}

/* q [LANES] = x / scale, rounded. */
static inline __attribute__((always_inline)) void
quantise_some(const float *x, double scale, double inverse, int8_t *q, struct sums *s)
{
	const double round = 0x1.8p52; /* adding it leaves the nearest integer */
	const v8d v = __builtin_convertvector(*(const v8f *)x, v8d), n = (v * inverse + round) - round;
	const v8d e = v - n * scale;
	const v8i k = __builtin_convertvector(n, v8i);

	s->whole += v * v;
	s->error += e * e;
	s->q += k;
	s->squares += k * k;
	*(v8c *)q = __builtin_convertvector(k, v8c);
}

static struct part
part_of(const struct sums *s, double scale)
{
	double whole = 0, error = 0;
	int32_t q = 0, squares = 0;

	for (int l = 0; l < LANES; l++) {
		whole += s->whole[l];
		error += s->error[l];
		q += s->q[l];
		squares += s->squares[l];
	}
	return (struct part){
		.whole = sqrt(whole), .error = sqrt(error), .integers = scale * sqrt(squares), .offset = OFFSET * q
	};
}

/* q [width] = x / scale, rounded, from -most to most; *a: all about it.  An invalid point is zero, and near to none. */
DF_SIMD static void
quantise(const struct df_screen *s, const float *x, bool valid, int most, int8_t *q, struct about *a)
{
	const double scale = valid ? largest(x, s->d) / most : 0, inverse = scale > 0 ? 1 / scale : 0;
	struct sums sums = { 0 };
	double all;
	size_t i = 0;

	*a = (struct about){ .scale = scale };
	memset(q, 0, s->width);
	for (size_t c = 0; c < s->n_cuts && valid; c++) {
		for (; i + LANES <= s->d && i < s->cut[c]; i += LANES)
			quantise_some(x + i, scale, inverse, q + i, &sums);
		if (i < s->d && i < s->cut[c]) {
			float rest[LANES] = { 0 };

			memcpy(rest, x + i, (s->d - i) * sizeof(*rest));
			quantise_some(rest, scale, inverse, q + i, &sums);
			i = s->d;
		}
		a->part[c] = part_of(&sums, scale);
	}
	all = a->part[s->n_cuts - 1].whole * a->part[s->n_cuts - 1].whole;
	for (size_t c = 0; c < s->n_cuts; c++) {
		const double rest = all - a->part[c].whole * a->part[c].whole;

		a->part[c].rest = sqrt((rest > 0 ? rest : 0) + MARGIN * all);
	}
	a->half = !valid ? (double)INFINITY : s->metric == DF_METRIC_L2 ? all / 2 * (1 - MARGIN) : 0;
}

static uint64_t
div_up(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}

/* ---- columns ----------------------------------------------------------------------------------- */

int
df_screen_new(struct df_screen **out, const struct df_int8 *kernel, enum df_metric metric, uint64_t n, size_t d,
    struct df_err *err)
{
	struct df_screen *s = NULL;
	size_t size;
	int rc = DF_OK;

	if (d > DF_INT8_WIDEST)
		return df_fail(err, DF_EUNSUPPORTED, "%zu dimensions are too many for products of 8-bit integers", d);
	DF_TRY(df_alloc(&s, 1, sizeof(*s), "screen", err));
	*out = s;
	s->kernel = kernel;
	s->metric = metric;
	s->d = d;
	s->width = (d ? div_up(d, DF_INT8_STEP) : 1) * DF_INT8_STEP;
	for (size_t c = 1; c <= CUTS_MAX; c++) {
		const size_t cut = div_up(s->width * c / CUTS_MAX, DF_INT8_STEP) * DF_INT8_STEP;

		if (cut > (s->n_cuts ? s->cut[s->n_cuts - 1] : 0))
			s->cut[s->n_cuts++] = cut;
	}
	s->n_blocks = div_up(n, BLOCK);
	DF_TRY(df_size_mul(s->n_blocks, BLOCK * s->width, &size, "screen", err));
	DF_TRY(df_alloc(&s->packed, size, 1, "screen", err));
	DF_TRY(df_alloc(&s->column, s->n_blocks, BLOCK * sizeof(*s->column), "screen", err));
	DF_TRY(df_alloc(&s->most, s->n_blocks, sizeof(*s->most), "screen", err));
out:
	return rc;
}

void
df_screen_free(struct df_screen *s)
{
	if (!s)
		return;
	free(s->packed);
	free(s->column);
	free(s->most);
	free(s);
}

const struct df_int8 *
df_screen_kernel(const struct df_screen *s)
{
	return s->kernel;
}

size_t
df_screen_cuts(const struct df_screen *s)
{
	return s->n_cuts;
}

size_t
df_screen_cut_width(const struct df_screen *s, size_t cut)
{
	return s->cut[cut];
}

struct put {
	struct df_screen *s;
	uint64_t first, n;
	const float *x;
	const uint8_t *valid;
};

static void
take_most(struct about *most, const struct about *a, size_t n_cuts)
{
	most->scale = fmax(most->scale, a->scale);
	most->half = fmin(most->half, a->half);
	for (size_t c = 0; c < n_cuts; c++) {
		most->part[c].whole = fmax(most->part[c].whole, a->part[c].whole);
		most->part[c].error = fmax(most->part[c].error, a->part[c].error);
		most->part[c].rest = fmax(most->part[c].rest, a->part[c].rest);
	}
}

static void
put_block(void *ctx, size_t i, int worker)
{
	const struct put *p = ctx;
	struct df_screen *s = p->s;
	const uint64_t block = p->first / BLOCK + i;
	uint8_t *to = s->packed + block * BLOCK * s->width;
	struct about *most = &s->most[block];
	int8_t q[DF_INT8_WIDEST];
	struct about a;

	(void)worker;
	*most = (struct about){ .half = (double)INFINITY };
	for (uint64_t j = 0; j < BLOCK; j++) {
		const uint64_t at = i * BLOCK + j;
		const bool there = at < p->n;
		const struct part *all = &a.part[s->n_cuts - 1];

		quantise(s, there ? p->x + at * s->d : p->x, there && p->valid[at], COLUMN_MOST, q, &a);
		take_most(most, &a, s->n_cuts);
		s->column[block * BLOCK + j] = (struct column){ a.scale, a.half, all->whole, all->error, all->rest };
		for (size_t k = 0; k < s->width; k += 4)
			for (size_t l = 0; l < 4; l++)
				to[k * BLOCK + 4 * j + l] = (uint8_t)(q[k + l] + OFFSET);
	}
}

void
df_screen_put(
    struct df_screen *s, struct df_pool *pool, uint64_t first, const float *x, const uint8_t *valid, uint64_t n)
{
	struct put p = { s, first, n, x, valid };

	df_pool_for(pool, div_up(n, BLOCK), put_block, &p);
}

/* ---- rows ----------------------------------------------------------------------------------------- */

int
df_screen_rows_new(struct df_screen_rows **out, const struct df_screen *s, uint64_t n, struct df_err *err)
{
	struct df_screen_rows *r = NULL;
	size_t size;
	int rc = DF_OK;

	DF_TRY(df_alloc(&r, 1, sizeof(*r), "screen", err));
	*out = r;
	r->s = s;
	r->n_blocks = div_up(n, BLOCK);
	DF_TRY(df_size_mul(r->n_blocks, BLOCK * s->width, &size, "screen", err));
	DF_TRY(df_alloc(&r->integers, size, 1, "screen", err));
	DF_TRY(df_alloc(&r->rows, r->n_blocks, sizeof(*r->rows), "screen", err));
out:
	return rc;
}

void
df_screen_rows_free(struct df_screen_rows *r)
{
	if (!r)
		return;
	free(r->integers);
	free(r->rows);
	free(r);
}

struct set {
	struct df_screen_rows *r;
	const float *x;
	const uint8_t *valid;
};

static void
set_row(void *ctx, size_t i, int worker)
{
	const struct set *t = ctx;
	const struct df_screen *s = t->r->s;
	struct row_block *block = &t->r->rows[i / BLOCK];
	const bool there = i < t->r->n;
	const size_t at = i % BLOCK;
	struct about a;

	(void)worker;
	quantise(s, there ? t->x + i * s->d : t->x, there && t->valid[i], s->kernel->most,
	    t->r->integers + i * s->width, &a);
	block->scale[at] = a.scale;
	block->half[at] = a.half;
	for (size_t c = 0; c < s->n_cuts; c++) {
		block->whole[c][at] = a.part[c].whole;
		block->error[c][at] = a.part[c].error;
		block->integers[c][at] = a.part[c].integers;
		block->rest[c][at] = a.part[c].rest;
		block->offset[c][at] = a.part[c].offset;
	}
}

void
df_screen_rows_set(struct df_screen_rows *r, struct df_pool *pool, const float *x, const uint8_t *valid, uint64_t n)
{
	struct set t = { r, x, valid };

	r->n = n;
	df_pool_for(pool, div_up(n, BLOCK) * BLOCK, set_row, &t);
}

void
df_screen_rows_limit(struct df_screen_rows *r, const double *limit)
{
	for (uint64_t i = 0; i < r->n_blocks * BLOCK; i++) {
		const double half = r->rows[i / BLOCK].half[i % BLOCK];
		double *least = &r->rows[i / BLOCK].least[i % BLOCK];

		if (i >= r->n || isinf(half))
			*least = (double)INFINITY;
		else if (r->s->metric == DF_METRIC_L2)
			*least = half - limit[i] / 2 - fabs(limit[i]) * MARGIN;
		else
			*least = limit[i] - fabs(limit[i]) * MARGIN;
	}
}

/* ---- pairs ---------------------------------------------------------------------------------------- */

/*
 * needed [BLOCK]: what the sums of each row with any column of the block are at least, in a pair that may be near.  A
 * product of integers that must be positive must be so with the largest scale; if it need not be, all may be near.
 */
DF_SIMD static void
need_sums(const struct row_block *r, const struct about *most, size_t cut, int32_t *needed)
{
	const double *integers = r->integers[cut], *error = r->error[cut], *rest = r->rest[cut];
	const struct part *b = &most->part[cut];

	for (size_t i = 0; i < BLOCK; i++) {
		const double product =
		    r->least[i] + most->half - integers[i] * b->error - error[i] * b->whole - rest[i] * b->rest;
		const double sum = product / (r->scale[i] * most->scale) * (1 - MARGIN) - 1;
		const double within = product > 0 ? sum : -OUT_OF_REACH;

		needed[i] = (int32_t)(within < OUT_OF_REACH ? within : OUT_OF_REACH) + r->offset[cut][i];
	}
}

/* Is any sum as large as its row needs? */
DF_SIMD static bool
any_left(const int32_t *sums, const int32_t *needed)
{
	int32_t below[BLOCK]; /* negative: all of a column are less */

	for (size_t j = 0; j < BLOCK; j++)
		below[j] = -1;
	for (size_t i = 0; i < BLOCK; i++)
		for (size_t j = 0; j < BLOCK; j++)
			below[j] &= sums[i * BLOCK + j] - needed[i];
	for (size_t j = 1; j < BLOCK; j++)
		below[0] &= below[j];
	return below[0] >= 0;
}

/* Bit j: column j may be near to row i, also by what is known of this column. */
static uint32_t
bits_left(
    const struct row_block *r, size_t i, size_t cut, const struct column *column, const int32_t *sums, int32_t needed)
{
	uint32_t bits = 0;

	for (size_t j = 0; j < BLOCK; j++) {
		const struct column *c = &column[j];
		double product;

		if (sums[j] < needed)
			continue;
		product = r->scale[i] * c->scale * (double)(sums[j] - r->offset[cut][i]);
		if (product + r->integers[cut][i] * c->error + r->error[cut][i] * c->whole +
			r->rest[cut][i] * c->rest >=
		    r->least[i] + c->half)
			bits |= 1U << j;
	}
	return bits;
}

/* Is a pair of the two blocks left?  Then their sums are complete. */
static bool
sum_block(const struct df_screen *s, const struct df_screen_rows *r, size_t cut, uint64_t row_block, uint64_t block,
    int32_t *sums, int32_t *needed, struct df_screen_tally *tally)
{
	const int8_t *a = r->integers + row_block * BLOCK * s->width;
	const uint8_t *b = s->packed + block * BLOCK * s->width;
	const struct row_block *rows = &r->rows[row_block];
	const size_t width = s->cut[cut];

	tally->blocks++;
	s->kernel->multiply(a, s->width, b, width, false, sums);
	need_sums(rows, &s->most[block], cut, needed);
	if (!any_left(sums, needed))
		return false;
	tally->whole++;
	if (width == s->width)
		return true;
	s->kernel->multiply(a + width, s->width, b + width * BLOCK, s->width - width, true, sums);
	need_sums(rows, &s->most[block], s->n_cuts - 1, needed);
	return any_left(sums, needed);
}

static void
run_block(const struct df_screen *s, const struct df_screen_rows *r, size_t cut, uint64_t row_block, uint64_t block,
    uint32_t *bits, uint64_t stride, struct df_screen_tally *tally)
{
	const uint64_t left = r->n - row_block * BLOCK, n = left < BLOCK ? left : BLOCK;
	const struct column *column = s->column + block * BLOCK;
	_Alignas(64) int32_t sums[BLOCK * BLOCK];
	_Alignas(64) int32_t needed[BLOCK];
	const bool some = sum_block(s, r, cut, row_block, block, sums, needed, tally);

	for (uint64_t i = 0; i < n; i++)
		bits[i * stride] =
		    !some ? 0 : bits_left(&r->rows[row_block], i, s->n_cuts - 1, column, sums + i * BLOCK, needed[i]);
}

void
df_screen_run(const struct df_screen *s, const struct df_screen_rows *r, size_t cut, uint64_t block, uint64_t n_blocks,
    uint32_t *bits, uint64_t stride, struct df_screen_tally *tally)
{
	if (s->kernel->begin)
		s->kernel->begin();
	for (uint64_t b = block; b < block + n_blocks; b++)
		for (uint64_t i = 0; i < div_up(r->n, BLOCK); i++)
			run_block(s, r, cut, i, b, bits + i * BLOCK * stride + b, stride, tally);
	if (s->kernel->end)
		s->kernel->end();
}

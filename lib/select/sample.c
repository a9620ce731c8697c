/*
 * sample.c - draws that have addresses: draw i of (seed, step) is the same
 * whoever asks, in whatever order.
 *
 * PyTorch's uniform draws are here too (MT19937, Matsumoto & Nishimura 1998), so that index
 * files of DataFlex's random selector can be reproduced.
 */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "select/select_priv.h"

struct racer {
	double t;
	uint64_t id;
};

static int
by_time(const void *x, const void *y)
{
	const struct racer *a = x, *b = y;

	if (a->t != b->t)
		return a->t < b->t ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

int
df_sample_race(const double *weight, uint64_t n, uint64_t m, uint64_t seed, uint32_t substream, uint64_t *out,
    uint64_t *n_out, struct df_err *err)
{
	struct racer *r = NULL;
	uint64_t n_racers = 0;
	int rc = DF_OK;

	DF_TRY(df_alloc(&r, n, sizeof(*r), "draws", err));
	for (uint64_t i = 0; i < n; i++) {
		const double w = weight ? weight[i] : 1.0;

		if (w > 0)
			r[n_racers++] =
			    (struct racer){ -log(df_rng_uniform(seed, DF_RNG_SAMPLE, substream, i)) / w, i };
	}
	qsort(r, n_racers, sizeof(*r), by_time);
	*n_out = m < n_racers ? m : n_racers;
	for (uint64_t i = 0; i < *n_out; i++)
		out[i] = r[i].id;
out:
	free(r);
	return rc;
}

int
df_sample_replace(
    const double *weight, uint64_t n, uint64_t m, uint64_t seed, uint32_t substream, uint64_t *out, struct df_err *err)
{
	double *prefix = NULL, total = 0, sum = 0;
	uint64_t last = n; /* the last row that can be drawn */
	int rc = DF_OK;

	for (uint64_t i = 0; i < n; i++)
		total += weight ? weight[i] : 1.0;
	if (m && !(total > 0))
		return df_fail(err, DF_EUSAGE, "nothing to draw from: no row has a positive weight");
	DF_TRY(df_alloc(&prefix, n, sizeof(*prefix), "probabilities", err));
	for (uint64_t i = 0; i < n; i++) {
		const double w = weight ? weight[i] : 1.0;

		sum += w / total;
		prefix[i] = sum;
		if (w > 0)
			last = i;
	}
	for (uint64_t d = 0; d < m; d++) {
		const double u = df_rng_uniform(seed, DF_RNG_SAMPLE_REPLACE, substream, d);
		uint64_t lo = 0,
			 hi = last; /* the first row whose prefix exceeds u; rounding never goes past the last */

		while (lo < hi) {
			const uint64_t mid = lo + (hi - lo) / 2;

			if (prefix[mid] > u)
				hi = mid;
			else
				lo = mid + 1;
		}
		out[d] = lo;
	}
out:
	free(prefix);
	return rc;
}

/* ---- what a method draws -------------------------------------------------------------- */

/* weight [n_rows] without what may not be chosen, as probabilities; *n_valid of them are positive. */
static int
probabilities(
    const struct df_select *in, const double *weight, uint64_t n, double **p, uint64_t *n_valid, struct df_err *err)
{
	double sum = 0;
	int rc = DF_OK;

	*n_valid = 0;
	DF_TRY(df_alloc(p, n, sizeof(**p), "probabilities", err));
	for (uint64_t i = 0; i < n; i++) {
		(*p)[i] = df_select_may(in, i) ? weight[i] : 0;
		*n_valid += (*p)[i] > 0;
		sum += (*p)[i];
	}
	for (uint64_t i = 0; sum > 0 && i < n; i++)
		(*p)[i] /= sum;
out:
	return rc;
}

int
df_select_draw(const struct df_select *in, const double *weight, struct df_selection *out, struct df_err *err)
{
	const bool counted = !in->amount.tokens;
	uint64_t *order = NULL, n_valid = 0, n_order = 0, n;
	double *may = NULL;
	int rc = DF_OK;

	DF_TRY(df_meta_set_int(&out->meta, "seed", (int64_t)in->seed, err));
	DF_TRY(df_meta_set_int(&out->meta, "step", in->step, err));
	DF_TRY(probabilities(in, weight, out->n_rows, &out->probability, &n_valid, err));
	n = counted && in->amount.given ? df_amount_of(&in->amount, out->n_rows) : n_valid;
	if (counted && n > n_valid && n_valid > 0 && in->shortage == DF_SHORT_REPLACE) {
		DF_TRY(df_alloc(&out->index, n, sizeof(*out->index), "index", err));
		DF_TRY(df_sample_replace(out->probability, out->n_rows, n, in->seed, in->step, out->index, err));
		out->n_index = n;
		goto out;
	}
	n_order = n < n_valid ? n : n_valid;
	DF_TRY(df_alloc(&order, n_order, sizeof(*order), "draws", err));
	DF_TRY(df_alloc(&may, out->n_rows, sizeof(*may), "weights", err));
	/* By the weights, not the probabilities: the draw must not depend on how their sum rounds. */
	for (uint64_t i = 0; i < out->n_rows; i++)
		may[i] = df_select_may(in, i) ? weight[i] : 0;
	DF_TRY(df_sample_race(may, out->n_rows, n_order, in->seed, in->step, order, &n_order, err));
	DF_TRY(df_select_take_all(in, order, n_order, n, out, err));
out:
	free(order);
	free(may);
	return rc;
}

int
df_select_permute(const struct df_select *in, uint64_t n_rows, uint64_t *order, struct df_err *err)
{
	uint64_t n;

	return in->torch ? df_sample_torch_perm(n_rows, n_rows, in->seed + in->step, order, err)
			 : df_sample_race(NULL, n_rows, n_rows, in->seed, in->step, order, &n, err);
}

int
df_select_fill(const struct df_select *in, const uint8_t *valid, uint64_t n_rows, uint64_t *order, uint64_t *n_order,
    struct df_err *err)
{
	double *weight = NULL;
	uint64_t n_more;
	int rc = DF_OK;

	DF_TRY(df_alloc(&weight, n_rows, sizeof(*weight), "weights", err));
	for (uint64_t i = 0; i < n_rows; i++)
		weight[i] = valid[i] && df_select_may(in, i);
	for (uint64_t i = 0; i < *n_order; i++)
		weight[order[i]] = 0;
	DF_TRY(df_sample_race(weight, n_rows, n_rows - *n_order, in->seed, in->step, order + *n_order, &n_more, err));
	*n_order += n_more;
out:
	free(weight);
	return rc;
}

/* ---- MT19937 -------------------------------------------------------------------- */

#define MT_N 624
#define MT_M 397

struct mt {
	uint32_t s[MT_N];
	int i;
};

static void
mt_seed(struct mt *mt, uint32_t seed)
{
	mt->s[0] = seed;
	for (uint32_t i = 1; i < MT_N; i++)
		mt->s[i] = 1812433253u * (mt->s[i - 1] ^ mt->s[i - 1] >> 30) + i;
	mt->i = MT_N;
}

static uint32_t
mt_next(struct mt *mt)
{
	uint32_t y;

	if (mt->i == MT_N) {
		for (int k = 0; k < MT_N; k++) {
			y = (mt->s[k] & 0x80000000u) | (mt->s[(k + 1) % MT_N] & 0x7fffffffu);
			mt->s[k] = mt->s[(k + MT_M) % MT_N] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
		}
		mt->i = 0;
	}
	y = mt->s[mt->i++];
	y ^= y >> 11;
	y ^= y << 7 & 0x9d2c5680u;
	y ^= y << 15 & 0xefc60000u;
	return y ^ y >> 18;
}

/* PyTorch draws 64 bits a number from there on. */
static int
torch_check(uint64_t n, struct df_err *err)
{
	return n >> 28
	    ? df_fail(err, DF_EUNSUPPORTED, "PyTorch's random numbers are reproduced for fewer than 2^28 rows")
	    : 0;
}

static void
mt_permute(struct mt *mt, uint64_t n, uint64_t *v)
{
	for (uint64_t i = 0; i < n; i++)
		v[i] = i;
	for (uint64_t i = 0; i + 1 < n; i++) {
		const uint64_t z = i + mt_next(mt) % (n - i), x = v[i];

		v[i] = v[z];
		v[z] = x;
	}
}

int
df_sample_torch_perm(uint64_t n, uint64_t m, uint64_t seed, uint64_t *out, struct df_err *err)
{
	uint64_t *v = NULL;
	struct mt mt;
	int rc = DF_OK;

	DF_TRY(torch_check(n, err));
	DF_TRY(df_alloc(&v, n, sizeof(*v), "permutation", err));
	mt_seed(&mt, (uint32_t)seed);
	mt_permute(&mt, n, v);
	for (uint64_t i = 0; i < m && i < n; i++)
		out[i] = v[i];
out:
	free(v);
	return rc;
}

int
df_sample_torch_perms(const uint64_t *n, uint64_t n_perms, uint64_t seed, uint64_t *out, struct df_err *err)
{
	struct mt mt;
	int rc = DF_OK;

	mt_seed(&mt, (uint32_t)seed);
	for (uint64_t i = 0; i < n_perms; out += n[i++]) {
		DF_TRY(torch_check(n[i], err));
		mt_permute(&mt, n[i], out);
	}
out:
	return rc;
}

int
df_sample_torch_randint(uint64_t n, uint64_t m, uint64_t seed, uint64_t *out, struct df_err *err)
{
	struct mt mt;
	int rc = DF_OK;

	DF_TRY(torch_check(n, err));
	mt_seed(&mt, (uint32_t)seed);
	for (uint64_t i = 0; i < m; i++)
		out[i] = mt_next(&mt) % n;
out:
	return rc;
}

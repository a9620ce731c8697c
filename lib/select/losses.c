/*
 * losses.c - losses by id, and exact quantiles without sorting them.
 *
 * A float32 has 65,536 values of its upper half.  Counting those finds the one that a rank falls into; counting the
 * lower halves beneath it finds the number.
 */
#include "select/losses.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define HALF ((size_t)1 << 16) /* values of half a key */

const enum df_col df_loss_columns[DF_LOSS_COLUMNS] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_LOSS };
const enum df_col df_loss_count_columns[DF_LOSS_COUNT_COLUMNS] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_LOSS,
	DF_COL_N_TOKENS };

/* ---- reading ----------------------------------------------------------------------- */

struct sink {
	float *loss;
	uint32_t *n_targets; /* or NULL */
};

static int
take(void *ctx, const struct df_batch *b, const void *result, struct df_err *err)
{
	const struct sink *to = ctx;
	const uint64_t *id = b->col[DF_COL_ID].data;
	const float *loss = b->col[DF_COL_LOSS].data;
	const uint32_t *n_targets = b->col[DF_COL_N_TOKENS].data;

	(void)result;
	(void)err;
	for (uint64_t i = 0; i < b->n; i++)
		to->loss[id[i]] = loss[i];
	for (uint64_t i = 0; to->n_targets && i < b->n; i++)
		to->n_targets[id[i]] = n_targets[i];
	return DF_OK;
}

int
df_select_read_losses(const struct df_select *in, size_t input, struct df_selection *out, float **loss,
    uint32_t **n_targets, struct df_err *err)
{
	struct sink to = { 0 };
	size_t cap = 0;
	const struct df_select_scan sc = { .in = in, .input = input, .out = out, .take = take, .ctx = &to };
	int rc = DF_OK;

	DF_TRY(df_grow(&to.loss, &cap, out->n_rows, sizeof(*to.loss), "losses", err)); /* all of it is written */
	if (n_targets && df_set_has(in->sets[input].v[0], DF_COL_N_TOKENS))
		DF_TRY(df_alloc(&to.n_targets, out->n_rows, sizeof(*to.n_targets), "numbers of targets", err));
	DF_TRY(df_select_scan(&sc, err));
	*loss = to.loss;
	if (n_targets)
		*n_targets = to.n_targets;
	to = (struct sink){ 0 };
out:
	free(to.loss);
	free(to.n_targets);
	return rc;
}

/* ---- quantiles --------------------------------------------------------------------- */

#define BLOCK 256 /* numbers that are looked at together: a loop of constant length becomes vectors */

uint64_t
df_count_finite(const float *v, uint64_t n)
{
	uint64_t count = 0, i = 0;

	for (; i + BLOCK <= n; i += BLOCK) {
		uint32_t here = 0;

		for (size_t j = 0; j < BLOCK; j++)
			here += fabsf(v[i + j]) <= FLT_MAX;
		count += here;
	}
	for (; i < n; i++)
		count += fabsf(v[i]) <= FLT_MAX;
	return count;
}

/* Smaller numbers have smaller keys; -0 is 0. */
static uint32_t
key_of(float x)
{
	uint32_t u;

	x += 0.0f;
	memcpy(&u, &x, sizeof(u));
	return u >> 31 ? ~u : u | 0x80000000u;
}

static float
value_of(uint32_t key)
{
	const uint32_t u = key >> 31 ? key & 0x7fffffffu : ~key;
	float x;

	memcpy(&x, &u, sizeof(x));
	return x;
}

/* The half that rank *k falls into, by their counts; *k = its rank there. */
static uint32_t
find_half(const uint64_t *count, uint64_t *k)
{
	uint32_t half = 0;

	while (*k >= count[half])
		*k -= count[half++];
	return half;
}

int
df_order_statistics(const float *v, uint64_t n, const uint64_t *k, size_t n_k, float *out, struct df_err *err)
{
	uint64_t *count = NULL, rest[DF_ORDER_MAX];
	uint32_t upper[DF_ORDER_MAX], list[DF_ORDER_MAX];
	size_t at[DF_ORDER_MAX], n_list = 0; /* upper[i] is list[at[i]] */
	int rc = DF_OK;

	DF_TRY(df_alloc(&count, (1 + n_k) * HALF, sizeof(*count), "quantiles", err));
	for (uint64_t i = 0; i < n; i++)
		count[key_of(v[i]) >> 16] += fabsf(v[i]) <= FLT_MAX;
	for (size_t i = 0; i < n_k; i++) {
		rest[i] = k[i];
		upper[i] = find_half(count, &rest[i]);
		for (at[i] = 0; at[i] < n_list && list[at[i]] != upper[i];)
			at[i]++;
		if (at[i] == n_list)
			list[n_list++] = upper[i];
	}
	for (uint64_t i = 0; i < n; i++) {
		const uint32_t key = key_of(v[i]);

		for (size_t j = 0; j < n_list; j++)
			if (key >> 16 == list[j] && fabsf(v[i]) <= FLT_MAX)
				count[(1 + j) * HALF + (key & (HALF - 1))]++;
	}
	for (size_t i = 0; i < n_k; i++)
		out[i] = value_of(upper[i] << 16 | find_half(count + (1 + at[i]) * HALF, &rest[i]));
out:
	free(count);
	return rc;
}

/* torch.lerp in float32, as its vectors round. */
static float
torch_lerp(float a, float b, float weight)
{
	return weight < 0.5f ? fmaf(weight, b - a, a) : fmaf(b - a, weight - 1.0f, b);
}

int
df_quantiles(const float *v, uint64_t n, const double *q, size_t n_q, bool torch, double *out, struct df_err *err)
{
	const uint64_t m = df_count_finite(v, n);
	uint64_t k[DF_ORDER_MAX] = { 0 };
	double rest[DF_ORDER_MAX];
	float at[DF_ORDER_MAX];
	int rc = DF_OK;

	if (m == 0)
		return df_fail(err, DF_EFORMAT, "no loss is finite");
	for (size_t i = 0; i < n_q; i++) {
		const double h = (torch ? (double)(float)q[i] : q[i]) * (double)(m - 1);

		k[2 * i] = h < (double)(m - 1) ? (uint64_t)h : m - 1;
		k[2 * i + 1] = k[2 * i] + 1 < m ? k[2 * i] + 1 : m - 1;
		rest[i] = h - floor(h);
	}
	DF_TRY(df_order_statistics(v, n, k, 2 * n_q, at, err));
	for (size_t i = 0; i < n_q; i++) {
		const float a = at[2 * i], b = at[2 * i + 1];

		out[i] =
		    torch ? (double)torch_lerp(a, b, (float)rest[i]) : (double)a + rest[i] * ((double)b - (double)a);
	}
out:
	return rc;
}

int
df_parse_band(const char *option, const char *text, double band[2], struct df_err *err)
{
	char *copy = NULL, *comma;
	int rc = DF_OK;

	DF_TRY(df_strdup(&copy, text, err));
	comma = strchr(copy, ',');
	if (comma) {
		*comma = '\0';
		DF_TRY(df_parse_double(copy, &band[0], err));
		DF_TRY(df_parse_double(comma + 1, &band[1], err));
	}
	if (!comma || !(band[0] >= 0 && band[0] <= band[1] && band[1] <= 1))
		rc = df_fail(err, DF_EUSAGE, "'%s': expected LO,HI with 0 <= LO <= HI <= 1", text);
out:
	if (rc != DF_OK)
		df_err_prefix(err, "--%s: ", option);
	free(copy);
	return rc;
}

/*
 * rope.c - rotary frequencies and the table of their cosines and sines.
 *
 * Pair k of a token at position p is rotated by the angle p * inv_freq[k]. inv_freq is computed from the configuration
 * as in transformers' modeling_rope_utils, in the same float32 steps: a rounding error here is multiplied by p.
 *
 * All samples use the model's frequencies, except with dynamic scaling: a sample longer than the model was trained for
 * has frequencies for its own length. (transformers takes the longest of the batch.  Ours may not depend on the batch;
 * the two agree for one sample at a time.) So the table has two parts, and w->pos has the table's row of each token:
 *
 *	rows  0 ... n_pos-1        position p, the model's frequencies; kept from batch to batch
 *	      n_pos ...            one row for each token of such a long sample; of this batch
 */
#include "model/work.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

/* theta^(2k/E) for each pair k. */
static void
wavelengths(double theta, size_t d_head, float *out)
{
	for (size_t k = 0; k < d_head / 2; k++) {
		float exponent = (float)(2 * k) / (float)d_head;

		out[k] = (float)pow(theta, (double)exponent);
	}
}

/* Dubey et al. 2024: long waves are slowed by the factor, short ones stay, those in between are interpolated. */
static void
scale_llama3(const struct df_rope_config *r, float *inv, size_t half)
{
	const double old = (double)r->original_max_positions;
	const float longest = (float)(old / r->low_freq_factor), shortest = (float)(old / r->high_freq_factor);
	const float factor = (float)r->factor, low = (float)r->low_freq_factor;
	const float span = (float)(r->high_freq_factor - r->low_freq_factor);

	for (size_t k = 0; k < half; k++) {
		float wave = (float)(2 * M_PI) / inv[k], t;

		if (wave > longest) {
			inv[k] = inv[k] / factor;
		} else if (!(wave < shortest)) {
			t = ((float)old / wave - low) / span;
			inv[k] = (1 - t) * inv[k] / factor + t * inv[k];
		}
	}
}

/* Peng et al. 2023: the pair at which a wave turns n times over the original length. */
static double
correction(const struct df_model_config *c, double n)
{
	return (double)c->d_head * log((double)c->rope.original_max_positions / (n * 2 * M_PI)) /
	    (2 * log(c->rope.theta));
}

/* wave[k] = theta^(2k/E) becomes inv: interpolated between the unchanged waves and those slowed by the factor. */
static void
scale_yarn(const struct df_model_config *c, float *inv, const float *wave)
{
	const struct df_rope_config *r = &c->rope;
	double low = correction(c, r->beta_fast), high = correction(c, r->beta_slow);

	if (r->truncate) {
		low = floor(low);
		high = ceil(high);
	}
	low = fmax(low, 0);
	high = fmin(high, (double)c->d_head - 1);
	if (low == high)
		high += 0.001;
	for (size_t k = 0; k < c->d_head / 2; k++) {
		float ramp = ((float)k - (float)low) / (float)(high - low), keep;

		ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
		keep = 1 - ramp;
		inv[k] = 1 / ((float)r->factor * wave[k]) * (1 - keep) + 1 / wave[k] * keep;
	}
}

/* inv [E/2] for a sample of this many positions. */
static void
frequencies(const struct df_model_config *c, size_t length, float *inv, float *wave)
{
	const struct df_rope_config *r = &c->rope;
	const size_t half = c->d_head / 2;
	double theta = r->theta;

	if (r->type == DF_ROPE_DYNAMIC && length > c->max_positions) {
		float ratio = (float)(r->factor * (double)length) / (float)c->max_positions - (float)(r->factor - 1);
		float power = (float)((double)c->d_head / (double)(c->d_head - 2));

		theta = (double)((float)theta * (float)pow((double)ratio, (double)power));
	}
	wavelengths(theta, c->d_head, wave);
	for (size_t k = 0; k < half; k++)
		inv[k] = 1.0f / wave[k];
	if (r->type == DF_ROPE_LINEAR) {
		for (size_t k = 0; k < half; k++)
			inv[k] /= (float)r->factor;
	}
	if (r->type == DF_ROPE_LLAMA3)
		scale_llama3(r, inv, half);
	if (r->type == DF_ROPE_YARN)
		scale_yarn(c, inv, wave);
}

/* A row of the tables. */
static void
rotation(const struct df_rope_config *r, size_t position, const float *inv, size_t half, float *cosine, float *sine)
{
	const float scale = (float)(r->type == DF_ROPE_YARN ? r->attention_factor : 1);

	for (size_t k = 0; k < half; k++) {
		float angle = (float)position * inv[k];

		cosine[k] = (float)cos((double)angle) * scale;
		sine[k] = (float)sin((double)angle) * scale;
	}
}

/* What the batch needs of the table. */
struct need {
	size_t longest; /* length of the longest sample with the model's frequencies */
	size_t n_own;   /* number of tokens of the other samples */
};

static size_t
sample_length(const struct df_work *w, const uint32_t *position, size_t s)
{
	size_t longest = 0;

	if (position == NULL)
		return w->seg.host[s + 1] - w->seg.host[s];
	for (size_t t = w->seg.host[s]; t < w->seg.host[s + 1]; t++)
		longest = position[t] >= longest ? (size_t)position[t] + 1 : longest;
	return longest;
}

static bool
has_own(const struct df_model_config *c, size_t length)
{
	return c->rope.type == DF_ROPE_DYNAMIC && length > c->max_positions;
}

/* The tables with at least n_pos and n_own rows; the first part is filled. */
static int
grow(struct df_work *w, struct need need, float *inv, float *wave, struct df_err *err)
{
	const struct df_model_config *c = &w->m->cfg;
	struct df_backend *be = w->m->be;
	size_t half = c->d_head / 2, n_pos = w->n_pos, n_own = w->n_own, n;
	float *cosine = NULL, *sine = NULL;
	int rc = DF_OK;

	if (need.longest <= n_pos && need.n_own <= n_own)
		return DF_OK;
	if (need.longest > n_pos) /* half as much again, so that growing batches do not refill it each time */
		n_pos = need.longest + need.longest / 2;
	if (need.n_own > n_own)
		n_own = need.n_own + need.n_own / 2;
	DF_TRY(df_size_add(n_pos, n_own, &n, "the rotary table", err));
	DF_TRY(df_size_mul(n, half, &n, "the rotary table", err));
	DF_TRY(df_alloc(&cosine, n, sizeof(*cosine), "the rotary table", err));
	DF_TRY(df_alloc(&sine, n, sizeof(*sine), "the rotary table", err));
	frequencies(c, 0, inv, wave);
	for (size_t p = 0; p < n_pos; p++)
		rotation(&c->rope, p, inv, half, cosine + p * half, sine + p * half);
	w->n_pos = w->n_own = 0;
	df_tensor_free(be, &w->cos);
	df_tensor_free(be, &w->sin);
	DF_TRY(df_tensor_alloc(be, &w->cos, DF_F32, n_pos + n_own, half, "the rotary table", err));
	DF_TRY(df_tensor_alloc(be, &w->sin, DF_F32, n_pos + n_own, half, "the rotary table", err));
	DF_TRY(df_upload(be, w->cos, cosine, err));
	DF_TRY(df_upload(be, w->sin, sine, err));
	w->n_pos = n_pos;
	w->n_own = n_own;
out:
	free(cosine);
	free(sine);
	return rc;
}

/* Fill the rows of each sample that has frequencies of its own. */
static int
fill_own(struct df_work *w, const uint32_t *position, size_t n_own, float *inv, float *wave, struct df_err *err)
{
	const struct df_model_config *c = &w->m->cfg;
	size_t half = c->d_head / 2, at = 0;
	float *cosine = NULL, *sine = NULL;
	int rc;

	DF_TRY(df_alloc(&cosine, n_own * half, sizeof(*cosine), "the rotary table", err));
	DF_TRY(df_alloc(&sine, n_own * half, sizeof(*sine), "the rotary table", err));
	for (size_t s = 0; s < w->n; s++) {
		size_t length = sample_length(w, position, s);

		if (!has_own(c, length))
			continue;
		frequencies(c, length, inv, wave);
		for (size_t t = w->seg.host[s]; t < w->seg.host[s + 1]; t++, at++) {
			rotation(&c->rope, w->pos.host[t], inv, half, cosine + at * half, sine + at * half);
			w->pos.host[t] = (uint32_t)(w->n_pos + at);
		}
	}
	DF_TRY(df_upload(w->m->be, df_tensor_rows(w->cos, w->n_pos, n_own), cosine, err));
	DF_TRY(df_upload(w->m->be, df_tensor_rows(w->sin, w->n_pos, n_own), sine, err));
out:
	free(cosine);
	free(sine);
	return rc;
}

int
df_work_rotate(struct df_work *w, const uint32_t *position, struct df_err *err)
{
	const struct df_model_config *c = &w->m->cfg;
	struct need need = { 0, 0 };
	float *inv = NULL, *wave = NULL;
	int rc;

	for (size_t s = 0; s < w->n; s++) {
		size_t length = sample_length(w, position, s);

		if (has_own(c, length))
			need.n_own += w->seg.host[s + 1] - w->seg.host[s];
		else if (length > need.longest)
			need.longest = length;
		for (size_t t = w->seg.host[s]; t < w->seg.host[s + 1]; t++)
			w->pos.host[t] = position != NULL ? position[t] : (uint32_t)t - w->seg.host[s];
	}
	if (c->arch == DF_ARCH_BERT) /* BERT adds embeddings of positions instead */
		return DF_OK;
	if (need.longest <= w->n_pos && need.n_own == 0)
		return DF_OK;
	DF_TRY(df_alloc(&inv, c->d_head / 2, sizeof(*inv), "the rotary table", err));
	DF_TRY(df_alloc(&wave, c->d_head / 2, sizeof(*wave), "the rotary table", err));
	DF_TRY(grow(w, need, inv, wave, err));
	if (need.n_own > 0)
		DF_TRY(fill_own(w, position, need.n_own, inv, wave, err));
out:
	free(inv);
	free(wave);
	return rc;
}

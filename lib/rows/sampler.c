/*
 * sampler.c - the permutation of each epoch, computed from its number, and index windows.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "base/permute.h"
#include "base/rng.h"
#include "rows/sampler.h"

static int
shuffle(struct df_sampler *s, uint64_t epoch, struct df_err *err)
{
	const struct df_permute p = { s->seed, DF_RNG_SHUFFLE, (uint32_t)epoch, s->ids };
	const int rc = df_permute(&p, NULL, (uint32_t)s->n_rows, s->order, err);

	if (rc == DF_OK)
		s->order_epoch = epoch;
	return rc;
}

int
df_sampler_init(struct df_sampler *s, uint64_t n_rows, const uint64_t *ids, uint64_t seed, bool shuffled,
    uint64_t batch, uint64_t n_accum, struct df_err *err)
{
	*s = (struct df_sampler){ .n_rows = n_rows,
		.ids = ids,
		.seed = seed,
		.shuffle = shuffled,
		.batch = batch,
		.n_accum = n_accum,
		.n_epoch = n_rows,
		.order_epoch = UINT64_MAX };
	if (n_rows > UINT32_MAX)
		return df_fail(err, DF_ERANGE, "%llu rows, more than %u", (unsigned long long)n_rows, UINT32_MAX);
	return shuffled ? df_alloc(&s->order, n_rows, sizeof(*s->order), "epoch order", err) : DF_OK;
}

void
df_sampler_release(struct df_sampler *s)
{
	free(s->order);
	*s = (struct df_sampler){ 0 };
}

void
df_sampler_drop_last(struct df_sampler *s)
{
	s->n_epoch = s->n_rows - s->n_rows % s->batch;
}

void
df_sampler_set_index(struct df_sampler *s, const uint64_t *index, uint64_t n, uint64_t window)
{
	s->index = index;
	s->n_index = n;
	s->window = window;
}

uint64_t
df_sampler_steps_per_epoch(const struct df_sampler *s)
{
	uint64_t micro = s->n_epoch / s->batch + (s->n_epoch % s->batch > 0);

	return micro / s->n_accum + (micro % s->n_accum > 0);
}

/* The row at place i of the known training order: of an epoch, or of the index. */
static uint64_t
row_at(const struct df_sampler *s, uint64_t i)
{
	return s->index ? s->index[i % s->n_index] : s->order ? s->order[i] : i;
}

/* The place in it where step g begins, and where an epoch ends. */
static uint64_t
place_of(const struct df_sampler *s, uint64_t g, uint64_t *end)
{
	const uint64_t per_step = s->batch * s->n_accum;

	*end = s->index ? UINT64_MAX : s->n_epoch;
	return s->index ? (g - s->window) % s->n_index * (per_step % s->n_index) % s->n_index
			: g % df_sampler_steps_per_epoch(s) * per_step;
}

int
df_sampler_step(struct df_sampler *s, uint64_t g, uint64_t *rows, size_t *n, struct df_err *err)
{
	const uint64_t per_step = s->batch * s->n_accum, epoch = g / df_sampler_steps_per_epoch(s);
	uint64_t first, end;
	int rc;

	if (!s->index && s->shuffle && s->order_epoch != epoch && (rc = shuffle(s, epoch, err)) != DF_OK)
		return rc;
	s->order_epoch = epoch;
	first = place_of(s, g, &end);
	*n = (size_t)(end - first < per_step ? end - first : per_step);
	for (size_t i = 0; i < *n; i++)
		rows[i] = row_at(s, first + i);
	return DF_OK;
}

void
df_sampler_ahead(const struct df_sampler *s, uint64_t g, uint64_t *rows, size_t *n)
{
	uint64_t first, end;

	if (!s->index && g / df_sampler_steps_per_epoch(s) != s->order_epoch) {
		*n = 0;
		return;
	}
	first = place_of(s, g, &end);
	*n = (size_t)(end - first < *n ? end - first : *n);
	for (size_t i = 0; i < *n; i++)
		rows[i] = row_at(s, first + i);
}

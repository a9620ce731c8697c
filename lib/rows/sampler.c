/*
 * sampler.c - epoch permutations by address, and index windows.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "rows/sampler.h"

struct draw {
	double u;
	uint64_t id, row;
};

/* The exponential race with equal weights: t = -ln u, smallest first. */
static int
by_draw(const void *a, const void *b)
{
	const struct draw *x = a, *y = b;

	if (x->u != y->u)
		return x->u > y->u ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static int
shuffle(struct df_sampler *s, uint64_t epoch, struct df_err *err)
{
	struct draw *d;
	int rc;

	if ((rc = df_alloc(&d, s->n_rows, sizeof(*d), "epoch order", err)) != DF_OK)
		return rc;
	for (uint64_t i = 0; i < s->n_rows; i++)
		d[i] =
		    (struct draw){ df_rng_uniform(s->seed, DF_RNG_SHUFFLE, (uint32_t)epoch, s->ids[i]), s->ids[i], i };
	qsort(d, s->n_rows, sizeof(*d), by_draw);
	for (uint64_t i = 0; i < s->n_rows; i++)
		s->order[i] = d[i].row;
	free(d);
	s->order_epoch = epoch;
	return DF_OK;
}

int
df_sampler_init(struct df_sampler *s, uint64_t n_rows, const uint64_t *ids, uint64_t seed, bool shuffled,
    uint64_t batch, uint64_t n_accum, struct df_err *err)
{
	int rc;

	*s = (struct df_sampler){ .n_rows = n_rows,
		.ids = ids,
		.seed = seed,
		.shuffle = shuffled,
		.batch = batch,
		.n_accum = n_accum,
		.n_epoch = n_rows,
		.order_epoch = UINT64_MAX };
	if ((rc = df_alloc(&s->order, n_rows, sizeof(*s->order), "epoch order", err)) != DF_OK)
		return rc;
	for (uint64_t i = 0; i < n_rows; i++)
		s->order[i] = i;
	return DF_OK;
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

int
df_sampler_step(struct df_sampler *s, uint64_t g, uint64_t *rows, size_t *n, struct df_err *err)
{
	uint64_t per_step = s->batch * s->n_accum, per_epoch = df_sampler_steps_per_epoch(s), first, end;
	int rc;

	if (s->index) {
		first = (g - s->window) % s->n_index * (per_step % s->n_index) % s->n_index;
		for (uint64_t i = 0; i < per_step; i++)
			rows[i] = s->index[(first + i) % s->n_index];
		*n = per_step;
		return DF_OK;
	}
	if (s->shuffle && s->order_epoch != g / per_epoch && (rc = shuffle(s, g / per_epoch, err)) != DF_OK)
		return rc;
	first = g % per_epoch * per_step;
	end = first + per_step < s->n_epoch ? first + per_step : s->n_epoch;
	for (uint64_t i = first; i < end; i++)
		rows[i - first] = s->order[i];
	*n = (size_t)(end - first);
	return DF_OK;
}

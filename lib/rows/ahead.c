/*
 * ahead.c - see ahead.h.  One thread, which sleeps until a batch is begun; two df_gather change hands.
 */
#include "rows/ahead.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum state { IDLE, BEGUN, DONE, OVER };

struct df_ahead {
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t lock; /* protects state; what follows belongs to the thread while it is BEGUN */
	pthread_cond_t changed;
	enum state state;
	const struct df_rows *r;
	uint64_t *rows; /* [n] */
	size_t n, cap;
	struct df_gather gather;
	struct df_tokens tokens;
	int rc;
	struct df_err err;
};

static void *
gather_begun(void *ctx)
{
	struct df_ahead *a = ctx;

	pthread_mutex_lock(&a->lock);
	for (;;) {
		while (a->state != BEGUN && a->state != OVER)
			pthread_cond_wait(&a->changed, &a->lock);
		if (a->state == OVER)
			break;
		pthread_mutex_unlock(&a->lock);
		a->rc = df_gather_batch(&a->gather, a->r, a->rows, a->n, &a->tokens, &a->err);
		pthread_mutex_lock(&a->lock);
		a->state = DONE;
		pthread_cond_broadcast(&a->changed);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

/* Wait until the thread has nothing under way, then set the state; returns the one before. */
static enum state
settle(struct df_ahead *a, enum state next)
{
	enum state was;

	pthread_mutex_lock(&a->lock);
	while (a->state == BEGUN)
		pthread_cond_wait(&a->changed, &a->lock);
	was = a->state;
	a->state = next;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
	return was;
}

void
df_ahead_free(struct df_ahead *a)
{
	if (!a)
		return;
	settle(a, OVER);
	if (a->has_thread)
		pthread_join(a->thread, NULL);
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->lock);
	df_gather_release(&a->gather);
	free(a->rows);
	free(a);
}

int
df_ahead_begin(struct df_ahead **out, const struct df_rows *r, const uint64_t *rows, size_t n, struct df_err *err)
{
	struct df_ahead *a = *out;
	int rc = DF_OK;

	if (!a) {
		DF_TRY(df_alloc(&a, 1, sizeof(*a), "a batch ahead", err));
		pthread_mutex_init(&a->lock, NULL);
		pthread_cond_init(&a->changed, NULL);
		*out = a;
		a->has_thread = pthread_create(&a->thread, NULL, gather_begun, a) == 0;
	}
	settle(a, IDLE);
	if (!a->has_thread || n == 0)
		goto out;
	DF_TRY(df_grow(&a->rows, &a->cap, n, sizeof(*a->rows), "a batch ahead", err));
	memcpy(a->rows, rows, n * sizeof(*rows));
	a->r = r;
	a->n = n;
	settle(a, BEGUN);
out:
	return rc;
}

int
df_ahead_take(struct df_ahead *a, struct df_gather *g, const struct df_rows *r, const uint64_t *rows, size_t n,
    struct df_tokens *b, struct df_err *err)
{
	struct df_gather mine = *g;

	if (!a || settle(a, IDLE) != DONE || a->r != r || a->n != n || memcmp(a->rows, rows, n * sizeof(*rows)) != 0)
		return df_gather_batch(g, r, rows, n, b, err);
	*g = a->gather;
	a->gather = mine;
	*b = a->tokens;
	if (a->rc != DF_OK && err)
		*err = a->err;
	return a->rc;
}

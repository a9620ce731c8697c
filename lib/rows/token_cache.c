/*
 * token_cache.c - slots for decoded pieces, reused by the clock algorithm (second chance).
 *
 *     get:       cached -> pin;  being decoded -> wait;  absent -> take a slot, decode, pin
 *     readers:   next of the queue -> take a slot, decode, mark as fresh
 *
 * Fresh pieces are decoded ahead and not used yet.  They take at most half of the slots, and are replaced only if
 * no other slot is free, so that a caller of get can always go on.  One lock protects everything except decoding.
 */
#include "rows/token_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define READERS   2
#define MIN_SLOTS 2

enum state { EMPTY, LOADING, READY };

struct slot {
	enum state state;
	uint64_t piece;
	uint32_t pins;
	bool fresh, recent;
	struct df_piece_dst data;
	size_t cap; /* values that data has room for */
};

struct df_token_cache {
	struct df_pieces *pieces;
	bool has_position, has_sequence;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct slot *slot;
	size_t n_slots, max_slots, hand;
	uint64_t longest;  /* values of a piece */
	uint32_t *slot_of; /* [pieces] 0 = absent, else its slot + 1 */
	size_t n_fresh;
	uint64_t *queue; /* [n_queue] pieces; those from `next` on are not decoded yet */
	size_t n_queue, cap_queue, next;
	struct df_piece_reader **idle; /* [n_idle] readers that are not in use */
	size_t n_idle, cap_idle;
	pthread_t reader[READERS];
	int n_readers;
	bool closing;
};

static size_t
bytes_per_token(const struct df_token_cache *c)
{
	return sizeof(uint32_t) * (1 + (size_t)c->has_position + (size_t)c->has_sequence) + sizeof(uint8_t);
}

int
df_token_cache_new(struct df_token_cache **out, struct df_set *s, size_t bytes, struct df_err *err)
{
	struct df_token_cache *c = NULL;
	uint64_t n;
	int rc;

	DF_TRY(df_alloc(&c, 1, sizeof(*c), "a cache of tokens", err));
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
	c->has_position = df_set_has(s, DF_COL_POSITION);
	c->has_sequence = df_set_has(s, DF_COL_SEQUENCE);
	DF_TRY(df_pieces_open(&c->pieces, s, err));
	n = df_pieces_count(c->pieces);
	c->longest = 1;
	for (uint64_t i = 0; i < n; i++) {
		const uint64_t values = df_pieces_at(c->pieces, i).n;

		c->longest = values > c->longest ? values : c->longest;
	}
	c->max_slots = bytes / ((size_t)c->longest * bytes_per_token(c));
	c->max_slots = c->max_slots > n ? (size_t)n : c->max_slots;
	c->max_slots = c->max_slots > UINT32_MAX - 1 ? UINT32_MAX - 1 : c->max_slots;
	c->max_slots = c->max_slots < MIN_SLOTS ? MIN_SLOTS : c->max_slots;
	DF_TRY(df_alloc(&c->slot, c->max_slots, sizeof(*c->slot), "a cache of tokens", err));
	DF_TRY(df_alloc(&c->slot_of, (size_t)n, sizeof(*c->slot_of), "a cache of tokens", err));
	*out = c;
	return DF_OK;
out:
	df_token_cache_free(c);
	return rc;
}

static void
release_data(struct slot *s)
{
	free(s->data.ids);
	free(s->data.mask);
	free(s->data.position);
	free(s->data.sequence);
	s->data = (struct df_piece_dst){ 0 };
	s->cap = 0;
}

void
df_token_cache_free(struct df_token_cache *c)
{
	if (c == NULL)
		return;
	pthread_mutex_lock(&c->lock);
	c->closing = true;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	for (int i = 0; i < c->n_readers; i++)
		pthread_join(c->reader[i], NULL);
	for (size_t i = 0; i < c->n_slots; i++)
		release_data(&c->slot[i]);
	for (size_t i = 0; i < c->n_idle; i++)
		df_piece_reader_free(c->idle[i]);
	df_pieces_close(c->pieces);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free(c->slot);
	free(c->slot_of);
	free(c->queue);
	free(c->idle);
	free(c);
}

/* ---- slots; all with the lock held */

static void
set_fresh(struct df_token_cache *c, struct slot *s, bool fresh)
{
	c->n_fresh += (size_t)fresh - (size_t)s->fresh;
	s->fresh = fresh;
}

/* A slot that may be reused; NULL when all are in use.  A fresh one only for a caller that cannot go on otherwise. */
static struct slot *
victim(struct df_token_cache *c, bool fresh_too)
{
	if (c->n_slots < c->max_slots)
		return &c->slot[c->n_slots++];
	/* The first round clears the second chances. */
	for (size_t i = 0; i < 2 * c->n_slots; i++) {
		struct slot *s = &c->slot[c->hand];

		c->hand = (c->hand + 1) % c->n_slots;
		if (s->state == EMPTY)
			return s;
		if (s->state == LOADING || s->pins > 0 || (s->fresh && !fresh_too))
			continue;
		if (!s->recent)
			return s;
		s->recent = false;
	}
	return NULL;
}

/* Take a slot for the piece and mark it as loading. */
static struct slot *
take(struct df_token_cache *c, uint64_t piece, bool ahead)
{
	struct slot *s = victim(c, false);

	if (s == NULL && !ahead)
		s = victim(c, true);
	if (s == NULL)
		return NULL;
	if (s->state == READY)
		c->slot_of[s->piece] = 0;
	set_fresh(c, s, ahead);
	s->state = LOADING;
	s->piece = piece;
	s->recent = false;
	c->slot_of[piece] = (uint32_t)(s - c->slot) + 1;
	return s;
}

static int
need(const struct df_token_cache *c, struct slot *s, size_t n, struct df_err *err)
{
	int rc = DF_OK;

	if (s->cap >= n)
		return DF_OK;
	release_data(s);
	DF_TRY(df_alloc(&s->data.ids, n, sizeof(*s->data.ids), "tokens", err));
	DF_TRY(df_alloc(&s->data.mask, n, sizeof(*s->data.mask), "tokens", err));
	if (c->has_position)
		DF_TRY(df_alloc(&s->data.position, n, sizeof(*s->data.position), "tokens", err));
	if (c->has_sequence)
		DF_TRY(df_alloc(&s->data.sequence, n, sizeof(*s->data.sequence), "tokens", err));
	s->cap = n;
out:
	if (rc != DF_OK)
		release_data(s);
	return rc;
}

/* Decode the piece of a slot that is loading, with the lock released.  The slot is empty after an error. */
static int
load(struct df_token_cache *c, struct slot *s, struct df_err *err)
{
	struct df_piece_reader *r = c->n_idle > 0 ? c->idle[--c->n_idle] : NULL;
	const uint64_t piece = s->piece;
	int rc = DF_OK;

	pthread_mutex_unlock(&c->lock);
	if (r == NULL)
		DF_TRY(df_piece_reader_new(&r, err));
	DF_TRY(need(c, s, (size_t)df_pieces_at(c->pieces, piece).n, err));
	rc = df_pieces_read(c->pieces, r, piece, &s->data, err);
out:
	pthread_mutex_lock(&c->lock);
	s->state = rc == DF_OK ? READY : EMPTY;
	if (rc != DF_OK) {
		set_fresh(c, s, false);
		c->slot_of[piece] = 0;
	}
	if (r && df_grow(&c->idle, &c->cap_idle, c->n_idle + 1, sizeof(*c->idle), "readers", NULL) == DF_OK)
		c->idle[c->n_idle++] = r;
	else
		df_piece_reader_free(r);
	pthread_cond_broadcast(&c->changed);
	return rc;
}

/* ---- getting */

int
df_token_cache_get(struct df_token_cache *c, uint64_t at, struct df_token_view *v, struct df_err *err)
{
	const uint64_t piece = df_pieces_find(c->pieces, at);
	const struct df_piece span = df_pieces_at(c->pieces, piece);
	struct slot *s;
	int rc = DF_OK;

	pthread_mutex_lock(&c->lock);
	for (;;) {
		s = c->slot_of[piece] ? &c->slot[c->slot_of[piece] - 1] : NULL;
		if (s && s->state == READY)
			break;
		if (s == NULL && (s = take(c, piece, false)) != NULL) {
			DF_TRY(load(c, s, err));
			break;
		}
		pthread_cond_wait(&c->changed, &c->lock);
	}
	s->pins++;
	s->recent = true;
	if (s->fresh) {
		set_fresh(c, s, false);
		pthread_cond_broadcast(&c->changed); /* readers have room again */
	}
	*v = (struct df_token_view){ .ids = s->data.ids,
		.position = s->data.position,
		.sequence = s->data.sequence,
		.mask = s->data.mask,
		.first = span.first,
		.n = span.n,
		.slot = (size_t)(s - c->slot) };
out:
	pthread_mutex_unlock(&c->lock);
	return rc;
}

void
df_token_cache_put(struct df_token_cache *c, const struct df_token_view *v)
{
	pthread_mutex_lock(&c->lock);
	if (--c->slot[v->slot].pins == 0)
		pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

/* ---- ahead */

/* The next piece that is absent, and a slot for it; NULL: nothing to do, or no room now. */
static struct slot *
next_ahead(struct df_token_cache *c)
{
	struct slot *s;

	for (; c->next < c->n_queue && c->n_fresh < c->max_slots / 2; c->next++) {
		const uint32_t at = c->slot_of[c->queue[c->next]];

		if (at > 0) {
			c->slot[at - 1].recent = true;
			continue;
		}
		if ((s = take(c, c->queue[c->next], true)) != NULL)
			c->next++;
		return s;
	}
	return NULL;
}

static void *
read_ahead(void *ctx)
{
	struct df_token_cache *c = ctx;
	struct slot *s;

	pthread_mutex_lock(&c->lock);
	while (!c->closing) {
		/* A damaged piece is decoded again by the thread that needs it, which then reports it. */
		if ((s = next_ahead(c)) == NULL)
			pthread_cond_wait(&c->changed, &c->lock);
		else if (load(c, s, NULL) != DF_OK)
			c->next = c->n_queue;
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

int
df_token_cache_ahead(struct df_token_cache *c, const struct df_piece *range, size_t n, struct df_err *err)
{
	int rc = DF_OK;

	pthread_mutex_lock(&c->lock);
	c->next = c->n_queue = 0;
	for (size_t i = 0; i < n; i++) {
		uint64_t piece, last;

		if (range[i].n == 0)
			continue;
		piece = df_pieces_find(c->pieces, range[i].first);
		last = df_pieces_find(c->pieces, range[i].first + range[i].n - 1);
		DF_TRY(df_grow(&c->queue, &c->cap_queue, c->n_queue + (size_t)(last - piece) + 1, sizeof(*c->queue),
		    "tokens ahead", err));
		while (piece <= last)
			c->queue[c->n_queue++] = piece++;
	}
	/* Without a reader thread, everything is read when it is wanted. */
	while (c->n_readers < READERS && pthread_create(&c->reader[c->n_readers], NULL, read_ahead, c) == 0)
		c->n_readers++;
	pthread_cond_broadcast(&c->changed);
out:
	pthread_mutex_unlock(&c->lock);
	return rc;
}

size_t
df_token_cache_bytes(const struct df_token_cache *c)
{
	return c->max_slots * (size_t)c->longest * bytes_per_token(c);
}

const char *
df_token_cache_file(const struct df_token_cache *c, uint64_t at)
{
	return df_pieces_file(c->pieces, df_pieces_find(c->pieces, at));
}

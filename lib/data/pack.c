/*
 * pack.c - a buffer of one block, which documents fill and which is emitted when it is full; or of one batch of
 * examples, which are distributed to packs when the batch is complete.
 */
#include "data/pack.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/*
 * The batch of document number `seen`.  Part i of n_shards has n_rows / n_shards of them, the first n_rows %
 * n_shards parts one more; each part begins a batch.
 */
static uint64_t
batch_of(const struct df_packer *p, uint64_t seen)
{
	const uint64_t size = p->n_rows / p->n_shards, longer = p->n_rows % p->n_shards;
	const uint64_t in_longer = longer * (size + 1);
	/* A part has at most size / batch_rows + 1 batches, also when the last is not full. */
	const uint64_t per_part = size / p->batch_rows + 1;
	uint64_t part, at;

	if (seen < in_longer) {
		part = seen / (size + 1);
		at = seen % (size + 1);
	} else {
		part = size ? longer + (seen - in_longer) / size : longer;
		at = size ? (seen - in_longer) % size : 0;
	}
	return part * per_part + at / p->batch_rows;
}

/* ---- blocks ------------------------------------------------------------- */

/* Emit the rest as a block. */
static int
give(struct df_packer *p, struct df_err *err)
{
	struct df_block b = { .ids = p->rest.ids.v,
		.mask = p->rest.mask,
		.n = p->rest.ids.n,
		.domain = p->domain,
		.source_row = p->source_row };

	if (p->bos != DF_NO_TOKEN && p->batch_rows > 0)
		b.ids[0] = p->bos;
	p->rest.ids.n = 0;
	p->n_begun = 0;
	return p->emit(p->ctx, &b, err);
}

/* Note that a block begins with this document. */
static int
begin(struct df_packer *p, uint16_t domain, uint64_t source_row, struct df_err *err)
{
	struct df_encoded *r = &p->rest;
	int rc = DF_OK;

	DF_TRY(df_grow(&r->ids.v, &r->ids.cap, p->block, sizeof(*r->ids.v), "a block", err));
	DF_TRY(df_grow(&r->mask, &r->cap_mask, p->block, 1, "a block", err));
	p->domain = domain;
	p->source_row = source_row;
	if (p->bos != DF_NO_TOKEN && p->batch_rows == 0) {
		r->ids.v[0] = p->bos;
		r->mask[0] = 0;
		r->ids.n = 1;
	}
out:
	return rc;
}

static int
add_document(struct df_packer *p, const uint32_t *ids, const uint8_t *mask, size_t n, uint16_t domain,
    uint64_t source_row, struct df_err *err)
{
	struct df_encoded *r = &p->rest;
	int rc = DF_OK;

	for (size_t at = 0; at < n;) {
		size_t take;

		if (r->ids.n == 0)
			DF_TRY(begin(p, domain, source_row, err));
		take = p->block - r->ids.n;
		if (take > n - at)
			take = n - at;
		memcpy(r->ids.v + r->ids.n, ids + at, take * sizeof(*ids));
		memcpy(r->mask + r->ids.n, mask + at, take);
		p->n_begun += at == 0;
		r->ids.n += take;
		at += take;
		if (r->ids.n == p->block)
			DF_TRY(give(p, err));
	}
out:
	return rc;
}

/* ---- packs -------------------------------------------------------------- */

/* An example waits for its batch to be complete. */
static int
add_example(struct df_packer *p, const uint32_t *ids, const uint8_t *mask, size_t n, uint16_t domain,
    uint64_t source_row, struct df_err *err)
{
	struct df_encoded *r = &p->rest;
	int rc = DF_OK;

	if (n > p->block) {
		p->n_long++;
		return 0;
	}
	DF_TRY(df_grow(&p->item, &p->cap_items, p->n_items + 1, sizeof(*p->item), "packing", err));
	DF_TRY(df_grow(&r->ids.v, &r->ids.cap, r->ids.n + n, sizeof(*r->ids.v), "packing", err));
	DF_TRY(df_grow(&r->mask, &r->cap_mask, r->ids.n + n, 1, "packing", err));
	memcpy(r->ids.v + r->ids.n, ids, n * sizeof(*ids));
	memcpy(r->mask + r->ids.n, mask, n);
	p->item[p->n_items++] = (struct df_pack_item){ r->ids.n, n, source_row, domain };
	r->ids.n += n;
out:
	return rc;
}

/* The pack of these items, in their order. */
static int
give_pack(struct df_packer *p, const size_t *which, size_t n, struct df_err *err)
{
	struct df_encoded *o = &p->pack;
	struct df_block b;
	int rc = DF_OK;

	DF_TRY(df_grow(&o->ids.v, &o->ids.cap, p->block, sizeof(*o->ids.v), "a pack", err));
	DF_TRY(df_grow(&o->mask, &o->cap_mask, p->block, 1, "a pack", err));
	DF_TRY(df_grow(&p->position, &p->cap_position, p->block, sizeof(*p->position), "a pack", err));
	DF_TRY(df_grow(&p->sequence, &p->cap_sequence, p->block, sizeof(*p->sequence), "a pack", err));
	o->ids.n = 0;
	for (size_t i = 0; i < n; i++) {
		const struct df_pack_item *x = &p->item[which[i]];

		memcpy(o->ids.v + o->ids.n, p->rest.ids.v + x->at, x->n * sizeof(*o->ids.v));
		memcpy(o->mask + o->ids.n, p->rest.mask + x->at, x->n);
		for (size_t k = 0; k < x->n; k++) {
			p->position[o->ids.n + k] = (uint32_t)k;
			p->sequence[o->ids.n + k] = (uint32_t)i + 1;
		}
		o->ids.n += x->n;
	}
	b = (struct df_block){ .ids = o->ids.v,
		.mask = o->mask,
		.n = o->ids.n,
		.domain = p->item[which[0]].domain,
		.source_row = p->item[which[0]].source_row,
		.position = p->position,
		.sequence = p->neat ? p->sequence : NULL };
	rc = p->emit(p->ctx, &b, err);
out:
	return rc;
}

/* The batch is complete. */
static int
deal_out(struct df_packer *p, struct df_err *err)
{
	size_t *length = NULL, *order = NULL, *first = NULL, n_sacks, n = p->n_items;
	int rc = DF_OK;

	if (n == 0)
		return 0;
	DF_TRY(df_alloc(&length, n, sizeof(*length), "packing", err));
	DF_TRY(df_alloc(&order, n, sizeof(*order), "packing", err));
	DF_TRY(df_alloc(&first, n + 1, sizeof(*first), "packing", err));
	for (size_t i = 0; i < n; i++)
		length[i] = p->item[i].n;
	DF_TRY(df_knapsack(length, n, p->block, order, first, &n_sacks, err));
	for (size_t k = 0; k < n_sacks; k++)
		DF_TRY(give_pack(p, order + first[k], first[k + 1] - first[k], err));
	p->n_items = 0;
	p->rest.ids.n = 0;
out:
	free(length);
	free(order);
	free(first);
	return rc;
}

/* ---- both --------------------------------------------------------------- */

int
df_packer_add(struct df_packer *p, const uint32_t *ids, const uint8_t *mask, size_t n, uint16_t domain,
    uint64_t source_row, struct df_err *err)
{
	const uint64_t batch = p->batch_rows > 0 ? batch_of(p, p->seen) : 0;
	int rc = DF_OK;

	if (batch != p->batch || (!p->whole && p->batch_rows == 0 && p->rest.ids.n > 0 && domain != p->domain))
		DF_TRY(df_packer_end(p, err));
	p->batch = batch;
	p->seen++;
	rc = (p->whole ? add_example : add_document)(p, ids, mask, n, domain, source_row, err);
out:
	return rc;
}

void
df_packer_skip(struct df_packer *p, uint64_t n)
{
	p->seen += n;
}

int
df_packer_end(struct df_packer *p, struct df_err *err)
{
	const size_t n = p->rest.ids.n;

	if (p->whole)
		return deal_out(p, err);
	if (p->batch_rows == 0)
		return n > 0 ? give(p, err) : 0;
	p->n_thrown += n;
	p->n_lost += p->n_begun;
	p->n_begun = 0;
	p->rest.ids.n = 0;
	return 0;
}

void
df_packer_release(struct df_packer *p)
{
	df_encoded_release(&p->rest);
	df_encoded_release(&p->pack);
	free(p->item);
	free(p->position);
	free(p->sequence);
}

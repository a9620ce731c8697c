/*
 * pack.c - a buffer of one block, filled by documents, handed out when full.
 */
#include "text/pack.h"

#include <string.h>

#include "base/mem.h"

/* Hand out the rest as a block. */
static int
give(struct df_packer *p, struct df_err *err)
{
	struct df_block b = { p->rest.ids.v, p->rest.mask, p->rest.ids.n, p->domain, p->source_row };

	if (p->bos != DF_NO_TOKEN && p->batch_rows > 0)
		b.ids[0] = p->bos;
	p->rest.ids.n = 0;
	return p->emit(p->ctx, &b, err);
}

/* Begin a block with this document. */
static int
begin(struct df_packer *p, uint16_t domain, uint64_t source_row, struct df_err *err)
{
	struct df_encoded *r = &p->rest;
	int rc = 0;

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

/* Does document `seen` open a batch? */
static bool
opens_batch(const struct df_packer *p)
{
	/* Part i of n_shards has n_rows / n_shards documents, the first n_rows % n_shards parts one more. */
	const uint64_t size = p->n_rows / p->n_shards, longer = p->n_rows % p->n_shards;
	const uint64_t in_longer = longer * (size + 1);
	uint64_t at;

	if (p->seen < in_longer)
		at = p->seen % (size + 1);
	else
		at = size ? (p->seen - in_longer) % size : 0;
	return at % p->batch_rows == 0;
}

int
df_packer_add(struct df_packer *p, const uint32_t *ids, const uint8_t *mask, size_t n, uint16_t domain,
    uint64_t source_row, struct df_err *err)
{
	struct df_encoded *r = &p->rest;
	int rc = 0;

	if (p->batch_rows > 0 ? opens_batch(p) : r->ids.n > 0 && domain != p->domain)
		DF_TRY(df_packer_end(p, err));
	p->seen++;
	for (size_t at = 0; at < n;) {
		size_t take;

		if (r->ids.n == 0)
			DF_TRY(begin(p, domain, source_row, err));
		take = p->block - r->ids.n;
		if (take > n - at)
			take = n - at;
		memcpy(r->ids.v + r->ids.n, ids + at, take * sizeof(*ids));
		memcpy(r->mask + r->ids.n, mask + at, take);
		r->ids.n += take;
		at += take;
		if (r->ids.n == p->block)
			DF_TRY(give(p, err));
	}
out:
	return rc;
}

int
df_packer_end(struct df_packer *p, struct df_err *err)
{
	const size_t n = p->rest.ids.n;

	if (p->batch_rows == 0)
		return n > 0 ? give(p, err) : 0;
	p->n_thrown += n;
	p->rest.ids.n = 0;
	return 0;
}

void
df_packer_release(struct df_packer *p)
{
	df_encoded_release(&p->rest);
}

/*
 * packed.c - from the rows of a corpus, through the packer or past it, to a token writer.
 */
#include "data/packed.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "shard/token_writer.h"

struct df_packed {
	struct df_token_writer *w; /* NULL: nothing is written */
	struct df_packed_opts o;
	struct df_packer packer;
	uint64_t n_rows;
	bool held_out;
};

/* A finished row.  Ids count from 0 in each output. */
static int
put(void *ctx, const struct df_block *b, struct df_err *err)
{
	struct df_packed *p = ctx;
	const struct df_token_row row = { .ids = b->ids,
		.mask = b->mask,
		.position = b->position,
		.sequence = b->sequence,
		.n = b->n,
		.id = p->n_rows,
		.source_row = b->source_row,
		.domain = b->domain };
	int rc = DF_OK;

	if (p->o.look)
		DF_TRY(p->o.look(p->o.ctx, b, err));
	if (p->w)
		DF_TRY(df_token_writer_put(p->w, &row, err));
	p->n_rows++;
out:
	return rc;
}

static void
set_packer(struct df_packed *s, const struct df_corpus *c, const struct df_tokenizer *tok)
{
	const struct df_packed_opts *o = &s->o;
	struct df_packer *p = &s->packer;

	p->whole = o->stage == DF_STAGE_SFT;
	p->neat = o->neat;
	/* LLaMA-Factory's `packing: true`, written out, makes blocks and packs one token shorter. */
	p->block = o->cutoff_len - (p->whole || (o->batch_rows > 0 && o->asked_for));
	p->bos = df_tokenizer_add_bos(tok) ? df_tokenizer_bos(tok) : DF_NO_TOKEN;
	p->batch_rows = o->batch_rows;
	p->n_shards = o->n_shards;
	p->emit = put;
	p->ctx = s;
	for (size_t i = 0; i < c->n_parts; i++) {
		const struct df_part *x = &c->part[i];

		if (s->held_out)
			p->n_rows += x->eval ? x->n_read : x->n_held;
		else
			p->n_rows += x->eval ? 0 : x->n_read - x->n_held;
	}
}

/* The examples that the packs of this side will hold, but for those that fit into none. */
static int64_t
count_examples(const struct df_packed *p, const struct df_corpus *c)
{
	uint64_t n = 0;

	for (size_t i = 0; i < c->n_parts; i++)
		n += p->held_out ? c->part[i].n_held : c->part[i].n_kept - c->part[i].n_held;
	return (int64_t)n;
}

int
df_packed_open(struct df_packed **out, const char *path, bool held_out, const struct df_corpus *c,
    const struct df_tokenizer *tok, struct df_meta *m, const struct df_packed_opts *o, struct df_err *err)
{
	static const struct df_token_batch batch = { .rows = 1024, .tokens = (size_t)1 << 20 };
	enum df_col cols[7] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_SOURCE_ROW, DF_COL_IDS, DF_COL_LABEL_MASK };
	size_t n_cols = 5;
	struct df_packed *p = NULL;
	int rc;

	DF_TRY(df_alloc(&p, 1, sizeof(*p), "output", err));
	p->o = *o;
	p->held_out = held_out;
	set_packer(p, c, tok);
	if (o->packing && p->packer.whole) {
		cols[n_cols++] = DF_COL_POSITION;
		if (o->neat)
			cols[n_cols++] = DF_COL_SEQUENCE;
		DF_TRY(df_meta_set_int(m, "examples", count_examples(p, c), err));
	}
	if (path) {
		DF_TRY(df_meta_set_str(m, "split", held_out ? "holdout" : "pool", err));
		DF_TRY(df_token_writer_open(&p->w, path, m, cols, n_cols, batch, &o->writer, err));
	}
	*out = p;
	return DF_OK;
out:
	df_packed_close(p);
	return rc;
}

int
df_packed_add(struct df_packed *p, const struct df_encoded_row *row, struct df_err *err)
{
	const struct df_block b = { .ids = (uint32_t *)(uintptr_t)row->ids,
		.mask = (uint8_t *)(uintptr_t)row->mask,
		.n = row->n,
		.domain = row->domain,
		.source_row = row->source_row };

	if (!p->o.packing)
		return put(p, &b, err);
	df_packer_skip(&p->packer, row->n_dropped);
	return df_packer_add(&p->packer, row->ids, row->mask, row->n, row->domain, row->source_row, err);
}

uint64_t
df_packed_rows(const struct df_packed *p)
{
	return p->n_rows;
}

int
df_packed_end(struct df_packed *s, struct df_err *err)
{
	const struct df_packer *p = s ? &s->packer : NULL;
	int rc = DF_OK;

	if (!s)
		return DF_OK;
	if (s->o.packing)
		DF_TRY(df_packer_end(&s->packer, err));
	if (p->n_thrown)
		df_warn("%" PRIu64 " tokens at the ends of batches thrown away (--pack-batch), %" PRIu64
			" documents entirely",
		    p->n_thrown, p->n_lost);
	if (p->n_long)
		df_warn("%" PRIu64 " examples of more than %" PRIu32 " tokens dropped: no pack holds them", p->n_long,
		    p->block);
	if (s->n_rows == 0 && s->o.packing && !p->whole)
		rc = df_fail(
		    err, DF_EFORMAT, "the documents do not fill a single block of %" PRIu32 " tokens", p->block);
	else if (s->n_rows == 0)
		rc = df_fail(err, DF_EFORMAT, "no row is %s", s->held_out ? "held out" : "left");
out:
	return rc;
}

static int
take_answers(void *ctx, const struct df_encoded_row *row, struct df_err *err)
{
	return row->held_out ? DF_OK : df_packed_add(ctx, row, err);
}

int
df_packed_add_answers(struct df_packed *p, struct df_corpus *c, const struct df_template *t, struct df_tokenizer *tok,
    const struct df_encode_opts *how, struct df_err *err)
{
	struct df_encode_opts no_prompt = *how;
	struct df_encoder *e = NULL;
	int rc;

	no_prompt.no_prompt = true;
	DF_TRY(df_encoder_new(&e, t, tok, &no_prompt, err));
	DF_TRY(df_corpus_encode(c, e, take_answers, p, err));
	rc = df_packed_end(p, err);
out:
	df_encoder_free(e);
	return rc;
}

int
df_packed_commit(struct df_packed *pool, struct df_packed *held, struct df_packed *no_prompt, struct df_err *err)
{
	int rc;

	DF_TRY(df_token_writer_finish(pool->w, err));
	if (no_prompt) {
		DF_TRY(df_token_writer_add_input(no_prompt->w, DF_ROLE_ROWS_OF, pool->w, err));
		DF_TRY(df_token_writer_finish(no_prompt->w, err));
	}
	if (held)
		DF_TRY(df_token_writer_finish(held->w, err));
	if (no_prompt)
		DF_TRY(df_token_writer_commit(no_prompt->w, err));
	if (held)
		DF_TRY(df_token_writer_commit(held->w, err));
	rc = df_token_writer_commit(pool->w, err);
out:
	return rc;
}

void
df_packed_close(struct df_packed *p)
{
	if (!p)
		return;
	df_token_writer_close(p->w);
	df_packer_release(&p->packer);
	free(p);
}

/*
 * rows.h - the rows of a tokens artefact in any order, many times.
 *
 * Small data is kept for every row: where its tokens begin, its id, its domain (4 to 18 bytes).  The tokens are
 * kept too while they are few.  Of more tokens a bounded number is kept, and the rest is read from the files
 * when rows are gathered; errors that only the tokens show are then reported at that time, with the sample.
 *
 * Thread rule: after loading, any number of threads may gather, each with a df_gather of its own.
 */
#ifndef DF_ROWS_ROWS_H
#define DF_ROWS_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/model.h"
#include "shard/shard.h"

#define DF_ROWS_BLOCK 64 /* rows that share the upper half of their offsets */

struct df_token_cache;

struct df_rows {
	uint64_t n, n_tokens;
	uint64_t longest;      /* tokens of the longest row */
	bool counted;          /* all tokens were read: the next two are known */
	uint64_t n_targets;    /* predicted tokens: not the one at a row's position 0 */
	uint64_t n_unlabelled; /* samples without any target */
	uint64_t *source_end;  /* [n_domains or 1] 1 + the highest source row of each; NULL: the tokens have none */
	struct df_meta meta;   /* id filled */
	char *name;            /* for messages */

	/* private */
	uint64_t *base;   /* [n / DF_ROWS_BLOCK + 1] the offset of each block's first row */
	uint32_t *rel;    /* [n+1] offsets relative to it */
	uint64_t *id;     /* [n] NULL: row i has id i */
	uint32_t *by_id;  /* [n] rows sorted by id, if there are ids */
	uint16_t *domain; /* [n] NULL: all 0 */
	size_t cap_base, cap_rel, cap_id, cap_domain;
	struct df_piece_dst memory; /* all tokens, unless there is a cache */
	size_t cap_ids, cap_mask, cap_position, cap_sequence;
	struct df_set *set;
	struct df_token_cache *cache;
	uint32_t top_id;    /* highest token id, of the tokens in memory */
	uint64_t n_vocab;   /* token ids are below it; 0 = not known yet */
	char *model;        /* the model with this vocabulary */
};

/*
 * `role` names the set in messages.  DF_EFORMAT: no rows at all, or repeated ids.  Up to
 * DF_TOKEN_CACHE MiB of tokens (environment; 512) are kept in memory; a stream is kept whole.
 */
int df_rows_load(struct df_rows *r, const char *role, const char *const *paths, size_t n_paths,
    struct df_err *err) DF_MUST_CHECK;
/* DF_TOKEN_CACHE, in bytes: the limit for what is kept of each row's tokens.  DF_EUSAGE: not a number. */
int df_rows_cache_limit(size_t *bytes, struct df_err *err) DF_MUST_CHECK;
/* Copy the rows of a batch of tokens in memory.  The meta is empty. */
int df_rows_of_batch(struct df_rows *r, const char *name, const struct df_batch *b, struct df_err *err) DF_MUST_CHECK;
void df_rows_release(struct df_rows *r);

static inline uint64_t
df_rows_offset(const struct df_rows *r, uint64_t row)
{
	return r->base[row / DF_ROWS_BLOCK] + r->rel[row];
}
static inline uint64_t
df_rows_length(const struct df_rows *r, uint64_t row)
{
	return df_rows_offset(r, row + 1) - df_rows_offset(r, row);
}
static inline uint64_t
df_rows_id(const struct df_rows *r, uint64_t row)
{
	return r->id ? r->id[row] : row;
}
static inline uint16_t
df_rows_domain(const struct df_rows *r, uint64_t row) /* into meta.domains; 0 when the file has none */
{
	return r->domain ? r->domain[row] : 0;
}
/* The row with sample id `id`; false when there is none. */
bool df_rows_find(const struct df_rows *r, uint64_t id, uint64_t *row);
/* The most bytes that the rows take: the data of every row, and tokens. */
double df_rows_bytes(const struct df_rows *r);

/*
 * A batch of rows.  df_gather owns the storage, which the next call with the same df_gather reuses; b borrows from it.
 */
struct df_gather {
	uint64_t *offsets;
	uint32_t *ids, *position, *sequence;
	uint8_t *mask;
	uint32_t *n_targets; /* [n] predicted tokens of each row, that is, without the one at position 0 */
	size_t cap_offsets, cap_ids, cap_position, cap_sequence, cap_mask, cap_targets;
};
/* Gather the given rows.  DF_EFORMAT for damaged tokens, DF_ELINEAGE for tokens beyond the vocabulary. */
int df_gather_batch(struct df_gather *g, const struct df_rows *r, const uint64_t *rows, size_t n, struct df_tokens *b,
    struct df_err *err) DF_MUST_CHECK;
/* Gather rows [first, first+n). */
int df_gather_range(struct df_gather *g, const struct df_rows *r, uint64_t first, size_t n, struct df_tokens *b,
    struct df_err *err) DF_MUST_CHECK;
/* Gather the given rows of a batch. */
int df_gather_pick(struct df_gather *g, const struct df_tokens *from, const size_t *rows, size_t n,
    struct df_tokens *b, struct df_err *err) DF_MUST_CHECK;
void df_gather_release(struct df_gather *g);

/*
 * Say which rows will be gathered next, in order; this replaces what was said before.  They are read
 * in the background; it only affects speed. df_rows_on_demand: does it have an effect?
 */
int df_rows_ahead(const struct df_rows *r, const uint64_t *rows, size_t n, struct df_err *err) DF_MUST_CHECK;
bool df_rows_on_demand(const struct df_rows *r);

/*
 * DF_ELINEAGE when a token id is beyond the model's vocabulary: from this call, or from the call that
 * gathers such a row.
 */
int df_rows_check_vocab(struct df_rows *r, size_t n_vocab, const char *model, struct df_err *err) DF_MUST_CHECK;

/* The tokenizer that made the tokens: its recorded id, or NULL when the file does not say.  Borrowed. */
const char *df_rows_tokenizer(const struct df_rows *r);

#endif

/*
 * rows.h - a tokens artefact in memory: what a run that visits rows in any
 * order, many times, reads from.  5 bytes per token (of packed rows 9, of neatly packed ones 13) and 22 per sample.
 *
 * Immutable after loading; may be read by many threads.
 */
#ifndef DF_ROWS_ROWS_H
#define DF_ROWS_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "model/model.h"
#include "shard/shard.h"

struct df_rows {
	uint64_t n;
	uint64_t *offsets;   /* [n+1] into ids and mask */
	uint32_t *ids;
	uint8_t *mask;       /* 1 = a target */
	uint32_t *position, *sequence; /* as ids, of packed rows; NULL: the tokens have none */
	uint64_t *id;        /* [n] sample ids, unique */
	uint16_t *domain;    /* [n] into meta.domains; all 0 when the file has none */
	uint32_t *n_targets; /* [n] targets that are predicted: not the one at position 0 */
	uint32_t top_id;     /* highest token id */
	uint64_t *source_end; /* [n_domains or 1] 1 + each one's highest source row; NULL: the tokens have none */
	uint64_t n_unlabelled; /* samples without any target */
	struct df_meta meta; /* id filled */
	char *name;          /* for messages */
	uint64_t *by_id;     /* (private) rows sorted by id; NULL while id[i] == i */
};

/* `role` names the set in messages.  No rows at all, repeated ids: DF_EFORMAT. */
int df_rows_load(struct df_rows *r, const char *role, const char *const *paths, size_t n_paths,
    struct df_err *err) DF_MUST_CHECK;
void df_rows_release(struct df_rows *r);

/* The row with sample id `id`; false when there is none. */
bool df_rows_find(const struct df_rows *r, uint64_t id, uint64_t *row);

/*
 * A batch of the given rows.  df_gather owns the storage, which the next call
 * with the same df_gather reuses; b borrows from it.
 */
struct df_gather {
	uint64_t *offsets;
	uint32_t *ids, *position, *sequence;
	uint8_t *mask;
	size_t cap_offsets, cap_ids, cap_position, cap_sequence, cap_mask;
};
int df_gather_batch(struct df_gather *g, const struct df_rows *r, const uint64_t *rows, size_t n, struct df_tokens *b,
    struct df_err *err) DF_MUST_CHECK;
/* A batch of rows [first, first+n): ids and mask are the rows' own, the offsets are in g. */
int df_gather_range(struct df_gather *g, const struct df_rows *r, uint64_t first, size_t n, struct df_tokens *b,
    struct df_err *err) DF_MUST_CHECK;
void df_gather_release(struct df_gather *g);

/* DF_ELINEAGE when a token id is beyond the model's vocabulary. */
int df_rows_check_vocab(const struct df_rows *r, size_t n_vocab, const char *model, struct df_err *err) DF_MUST_CHECK;

/* The tokenizer that made the tokens: its recorded id, or NULL when the file does not say.  Borrowed. */
const char *df_rows_tokenizer(const struct df_rows *r);

#endif

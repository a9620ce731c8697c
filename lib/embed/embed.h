/*
 * embed.h - from texts or tokens and a model to one vector per row.
 *
 *	text -> prompt, strip -> tokens, cut to length, framed -> hidden states of a layer -> pooled -> cut, normalised
 *
 * The model is a directory of sentence-transformers, which says how each step is done, or any other model directory.
 * Without such settings an encoder's vectors are the mean over its tokens, a decoder's its last token's, of length one.
 *
 * Rows are processed in *blocks*, runs of consecutive rows cut by a rule that looks at lengths only.
 * Within a block rows are sorted by length and go through the model in ragged batches.  A row's vector
 * depends on the row alone, to the bit: not on its block, batch, shard or thread.
 *
 * Thread rule: a df_embedder is immutable after opening and shared by threads; each has its own lane.
 */
#ifndef DF_EMBED_EMBED_H
#define DF_EMBED_EMBED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/err.h"
#include "model/model.h"
#include "shard/shard.h"
#include "token/tokenizer.h"

enum df_pooling {
	DF_POOL_DEFAULT,  /* as the directory says; else a decoder's last token, an encoder's mean */
	DF_POOL_MEAN,     /* the mean over the row's tokens */
	DF_POOL_LAST,     /* the last token */
	DF_POOL_CLS,      /* the first */
	DF_POOL_WEIGHTED, /* the weighted mean: token t = 1, 2, .. has weight t (Muennighoff 2022) */
	DF_POOL_POSITION  /* the token at `position` */
};
/* "mean", "last", "cls", "position" or "position:N"; DF_EUSAGE. */
extern const char *const df_pooling_names[]; /* for completion and suggestions; NULL-terminated */
int df_pooling_parse(const char *s, enum df_pooling *p, size_t *position, struct df_err *err) DF_MUST_CHECK;

struct df_embed_opts {
	const char *model;     /* a directory of sentence-transformers, a model's, or an adapter's */
	const char *base;      /* an adapter's base model, or NULL: as the adapter says */
	const char *tokenizer; /* NULL: the directory's; opened for texts only */
	bool texts;            /* rows are texts */
	enum df_pooling pooling;
	size_t position;
	int64_t layer;            /* hidden states after this many layers; -1 the last layer's, -2 the one before, .. */
	int normalise;            /* 1, 0, or -1: as the directory says, and yes if it does not say */
	const char *prompt;       /* put before each text; NULL: the directory's default */
	const char *prompt_name;  /* one of the directory's prompts, or NULL */
	uint64_t max_length;      /* the most tokens of a row, frame included; 0: as the directory says */
	uint64_t truncate_dim;    /* keep this many numbers of a vector; 0: all */
	uint64_t batch_tokens;    /* the most tokens of a batch; 0: by the model's size */
};

struct df_embedder;
/* The backend must outlive it.  Errors are those of its files, and DF_EUSAGE for options that do not fit them. */
int df_embedder_open(
    struct df_embedder **out, const struct df_embed_opts *o, struct df_backend *be, struct df_err *err) DF_MUST_CHECK;
void df_embedder_close(struct df_embedder *e); /* accepts NULL */
size_t df_embedder_width(const struct df_embedder *e); /* numbers of a vector */
const char *df_embedder_model(const struct df_embedder *e); /* the directory of its weights */
/* The metadata of the output: kind, and the parameters and inputs that come from the model. */
int df_embedder_meta(const struct df_embedder *e, struct df_meta *m, struct df_err *err) DF_MUST_CHECK;

/* Counts of rows to warn about. */
struct df_embed_flaws {
	uint64_t n_tokens;         /* tokens that went through the model; not a flaw */
	uint64_t n_cut;            /* rows cut to length */
	uint64_t n_empty;          /* without a token: their vector is zero */
	uint64_t n_not_finite;     /* with NaN or Inf in their vector */
	uint64_t first_not_finite; /* the id of the first of them, if any */
};

/* One thread's memory. */
struct df_embed_lane;
int df_embed_lane_new(struct df_embed_lane **out, const struct df_embedder *e, struct df_err *err) DF_MUST_CHECK;
void df_embed_lane_free(struct df_embed_lane *l); /* accepts NULL */
size_t df_embed_lane_width(const struct df_embed_lane *l); /* the embedder's */

/*
 * Append the tokens of a text to *ids: prompt, text without surrounding white space, cut to length, in
 * the tokenizer's frame; *cut tells whether the text was cut.  DF_EFORMAT: the text is not UTF-8.
 */
int df_embed_encode(struct df_embed_lane *l, const char *text, size_t n, struct df_ids *ids, bool *cut,
    struct df_err *err) DF_MUST_CHECK;
/*
 * The vectors [b->n, width] of rows of tokens; id [b->n] names rows in messages; `flaws` is added to. b->position may
 * be NULL; mask and key are not read.  DF_EUNSUPPORTED with b->sequence: one vector of several samples has no meaning.
 */
int df_embed_rows(struct df_embed_lane *l, const struct df_tokens *b, const uint64_t *id, float *vectors,
    struct df_embed_flaws *flaws, struct df_err *err) DF_MUST_CHECK;

#endif

/*
 * tokenizer.h - text to ids, exactly as Hugging Face's tokenizers does.
 *
 *   "bytes"   built in: ids 0-255 are bytes, then <|bos|> 256, <|eos|> 257, <|pad|> 258
 *   a path    a tokenizer.json, or a directory that holds one (with tokenizer_config.json
 *             beside it for bos/eos/pad): BPE (byte-level: GPT-2, Llama 3, Qwen; with byte
 *             fallback: Llama 2, Mistral), WordPiece (BERT); older directories with
 *             vocab.txt (BERT) or vocab.json and merges.txt (GPT-2, Qwen2) too
 *
 * What is not supported is refused by name when the tokenizer is opened, never approximated.  Thread rule:
 * immutable after opening (and after df_tokenizer_add_special); encoding needs a df_tokscratch per thread.
 */
#ifndef DF_TOKEN_TOKENIZER_H
#define DF_TOKEN_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"

struct df_tokenizer;
struct df_tokscratch; /* caches and buffers of one thread */

#define DF_NO_TOKEN UINT32_MAX

/* Names of tokenizers that are not files ("bytes"), NULL at the end. */
extern const char *const df_tokenizer_names[];

int df_tokenizer_open(struct df_tokenizer **out, const char *name_or_path, struct df_err *err) DF_MUST_CHECK;
void df_tokenizer_free(struct df_tokenizer *t); /* accepts NULL */
/* "bytes", or the digest of everything in tokenizer.json that changes ids.  Artefacts of different ids do not mix. */
const char *df_tokenizer_id(const struct df_tokenizer *t);
/* DF_ELINEAGE unless this is the tokenizer of that id (NULL: any), with which `name` was made. */
int df_tokenizer_check(const struct df_tokenizer *t, const char *id, const char *name, struct df_err *err)
    DF_MUST_CHECK;
const char *df_tokenizer_path(const struct df_tokenizer *t); /* the directory, or "bytes" */
uint32_t df_tokenizer_vocab_size(const struct df_tokenizer *t); /* highest id + 1, added tokens included */

/* DF_NO_TOKEN when the tokenizer has none. */
uint32_t df_tokenizer_bos(const struct df_tokenizer *t);
uint32_t df_tokenizer_eos(const struct df_tokenizer *t);
uint32_t df_tokenizer_pad(const struct df_tokenizer *t);
bool df_tokenizer_add_bos(const struct df_tokenizer *t); /* tokenizer_config.json's add_bos_token */
uint32_t df_tokenizer_lookup(const struct df_tokenizer *t, const char *token); /* id of a token's text */
/* Template fix-ups (before any encoding): replace eos; add a special token if it is missing. */
int df_tokenizer_set_eos(struct df_tokenizer *t, const char *token, struct df_err *err) DF_MUST_CHECK;
int df_tokenizer_add_special(struct df_tokenizer *t, const char *token, uint32_t *id, struct df_err *err) DF_MUST_CHECK;
/*
 * The effect of these two: the id before them, and token i that they added or made special, NULL after the last.
 * Borrowed.
 */
const char *df_tokenizer_opened_id(const struct df_tokenizer *t);
const char *df_tokenizer_added_later(const struct df_tokenizer *t, size_t i, uint32_t *id);

int df_tokscratch_new(struct df_tokscratch **out, const struct df_tokenizer *t, struct df_err *err) DF_MUST_CHECK;
void df_tokscratch_free(struct df_tokscratch *s);

/* A growing array of ids; release with df_ids_release. */
struct df_ids {
	uint32_t *v;
	size_t n, cap;
};

static inline void
df_ids_release(struct df_ids *ids)
{
	free(ids->v);
	*ids = (struct df_ids){ .v = NULL };
}

/* Append n ids (v may be NULL when n is 0).  Inline, because it is called for each word. */
static inline int
df_ids_add(struct df_ids *ids, const uint32_t *v, size_t n, struct df_err *err)
{
	int rc = DF_OK;

	if (ids->cap - ids->n < n)
		DF_TRY(df_grow(&ids->v, &ids->cap, ids->n + n, sizeof(*ids->v), "token ids", err));
	for (size_t i = 0; i < n; i++)
		ids->v[ids->n + i] = v[i];
	ids->n += n;
out:
	return rc;
}

/*
 * Append the ids of text (n bytes of valid UTF-8; else DF_EFORMAT with the
 * byte offset), without bos/eos.  Added tokens in the text are recognised
 * unless split_special (then special ones are plain text).
 */
int df_tokenizer_encode(const struct df_tokenizer *t, struct df_tokscratch *s, const char *text, size_t n,
    bool split_special, struct df_ids *ids, struct df_err *err) DF_MUST_CHECK;

/*
 * What the post-processor puts before and after a single text: bos, [CLS] and [SEP], Qwen3-Embedding's
 * <|endoftext|>.  Borrowed; NULL and 0 where there is nothing.  df_tokenizer_encode() adds none of them: a caller
 * that cuts texts to a length must leave room for them.
 */
void df_tokenizer_frame(const struct df_tokenizer *t, const uint32_t **before, size_t *n_before, const uint32_t **after,
    size_t *n_after);

/*
 * Append the ids of text with the special tokens around it, as add_special_tokens=True does.  max_length > 0: at
 * most this number of ids; the text is cut (at the side that truncation_side names), the special tokens stay.  *cut
 * (may be NULL) tells whether it was.
 */
int df_tokenizer_encode_framed(const struct df_tokenizer *t, struct df_tokscratch *s, const char *text, size_t n,
    size_t max_length, struct df_ids *ids, bool *cut, struct df_err *err) DF_MUST_CHECK;

/*
 * Append the text of ids, valid UTF-8, as the reference's decode() gives it (bytes that are not a character become
 * U+FFFD), special tokens included.  DF_ERANGE for an id that the tokenizer does not have; DF_EUNSUPPORTED when its
 * decoder is of an unknown kind.
 */
int df_tokenizer_decode(const struct df_tokenizer *t, const uint32_t *ids, size_t n, struct df_buf *out,
    struct df_err *err) DF_MUST_CHECK;

/*
 * Text that grows with its ids, for generation: after each df_detok_push() the text is what the ids so far mean,
 * without an unfinished character.  Its first n_settled bytes never change again; the rest (with byte fallback, a
 * run of byte tokens) may still change.  skip_special leaves special tokens out; an id that the tokenizer does not
 * have (a padded vocabulary's) has no text, as in the reference.  After df_detok_end() the text is that of
 * df_tokenizer_decode().  One per thread; the tokenizer must outlive it.
 */
struct df_detok;
int df_detok_new(struct df_detok **out, const struct df_tokenizer *t, bool skip_special, struct df_err *err)
    DF_MUST_CHECK;
void df_detok_free(struct df_detok *d); /* accepts NULL */
void df_detok_reset(struct df_detok *d); /* no ids yet */
int df_detok_push(struct df_detok *d, uint32_t id, struct df_err *err) DF_MUST_CHECK;
int df_detok_end(struct df_detok *d, struct df_err *err) DF_MUST_CHECK;
/* Borrowed until the next call on d; n_settled may be NULL. */
const char *df_detok_text(const struct df_detok *d, size_t *n, size_t *n_settled);

/*
 * Write the tokenizer's files into a model directory, so that a checkpoint loads elsewhere.
 * "bytes" writes an equivalent tokenizer.json.
 */
int df_tokenizer_save(const struct df_tokenizer *t, const char *dir, struct df_err *err) DF_MUST_CHECK;

#endif

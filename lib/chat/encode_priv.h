/*
 * encode_priv.h - declarations that encode_bind.c (binding a template), encode_message.c (the messages of a row)
 * and encode.c (rows) share.
 */
#ifndef DF_CHAT_ENCODE_PRIV_H
#define DF_CHAT_ENCODE_PRIV_H

#include "base/buf.h"
#include "chat/encode.h"

/* A bound element: fixed ids, or a text around the message. */
struct df_enc_elem {
	bool is_fixed;
	struct df_ids ids;          /* fixed */
	bool has_content;           /* text: the message goes between before and after */
	const char *before, *after;
	size_t n_before, n_after;
};

struct df_enc_slot {
	struct df_enc_elem elem[DF_SLOT_MAX];
	size_t n;
};

struct df_encoder {
	const struct df_tokenizer *tok;
	struct df_encode_opts opts; /* its strings are the encoder's own */
	char *default_system, *date;
	const char *thought[2];     /* the texts around a thought; the template's */
	char *thought_bare[2];      /* the same without white space around it */
	const char *call_words[2];  /* the texts that may be around the calls in a turn */
	struct df_enc_slot slot[DF_SLOT_COUNT];
	struct df_ids system_ids;   /* ids of prefix and default system text */
	struct df_ids thought_ids;  /* of an empty thought */
	struct df_ids stops;
	struct df_ids answer_end;   /* no_prompt: of what follows an answer's text */
	struct df_buf bos, eos;     /* pt: their texts; bos empty unless rows begin with it */
	enum df_tool_format tool_format;
	bool efficient_eos, fuse_system, reasoning;
	uint32_t eos_id, pad;
};

/* The numbers of tokens of a round's source and target that are kept. */
struct df_enc_cut {
	size_t source, target;
};

/* A turn's tokens are ids [start of the turn, end). */
struct df_encscratch {
	struct df_tokscratch *tok;
	struct df_buf text;   /* an element */
	struct df_buf system; /* the system text with the tools */
	struct df_buf fused;  /* the system text, then the first question */
	struct df_buf answer; /* an answer without its thoughts */
	struct df_buf calls;  /* calls of tools as text */
	struct df_ids ids;
	struct df_ids header; /* no_prompt: what is before an answer */
	size_t *ends;
	size_t cap_ends;
	struct df_enc_cut *cuts; /* of the rounds */
	size_t cap_cuts;
};

/* A borrowed text. */
struct df_span {
	const char *s;
	size_t n;
};

/*
 * Append a slot's ids with `content` in it.  In user slots LLaMA-Factory then replaces the first {{idx}} of each
 * element by the round, even when it is in the user's own text; so does this function.  round NULL: not a user
 * slot.
 */
int df_enc_slot(const struct df_encoder *e, struct df_encscratch *s, enum df_slot slot, struct df_span content,
    const size_t *round, struct df_ids *ids, struct df_err *err) DF_MUST_CHECK;

/* The same without the content and all before it. */
int df_enc_slot_end(const struct df_encoder *e, struct df_encscratch *s, enum df_slot slot, const size_t *round,
    struct df_ids *ids, struct df_err *err) DF_MUST_CHECK;

/* The system text of a row, its own or the default one, with its tools after it. */
int df_enc_system(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex,
    struct df_span *out, struct df_err *err) DF_MUST_CHECK;
/* The first question of a template that fuses: the system text, in its slot, goes before it. */
int df_enc_fuse(const struct df_encoder *e, struct df_encscratch *s, struct df_span system, struct df_span question,
    struct df_span *out, struct df_err *err) DF_MUST_CHECK;
/* An answer without its thoughts. */
int df_enc_strip(const struct df_encoder *e, struct df_encscratch *s, struct df_span answer, struct df_span *out,
    struct df_err *err) DF_MUST_CHECK;
/* Does an answer hold the beginning or the end of a thought? */
bool df_enc_has_thought(const struct df_encoder *e, struct df_span answer);
/* The text of a turn that calls tools. */
int df_enc_calls(const struct df_encoder *e, struct df_encscratch *s, struct df_span turn, struct df_span *out,
    struct df_err *err) DF_MUST_CHECK;

#endif

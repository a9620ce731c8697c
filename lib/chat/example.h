/*
 * example.h - one row of a dataset as a conversation: turns, a system text and tools, ready to be encoded.
 *
 * lib/data fills examples from the user's files (df_dataset_convert), encode.h turns them into token ids.
 */
#ifndef DF_CHAT_EXAMPLE_H
#define DF_CHAT_EXAMPLE_H

#include <stddef.h>

#include "base/json.h"
#include "base/mem.h"

/* The use of rows: training on answers, training on plain text, or prompts, which need no answer. */
enum df_data_stage { DF_STAGE_SFT, DF_STAGE_PT, DF_STAGE_PROMPT };

enum df_role { DF_ROLE_USER, DF_ROLE_ASSISTANT, DF_ROLE_OBSERVATION, DF_ROLE_FUNCTION };

/* Why a row is not kept. */
enum df_drop {
	DF_DROP_NONE,
	DF_DROP_NO_RESPONSE,        /* nothing to learn: the response column is absent or null */
	DF_DROP_ROLE_ORDER,         /* turns do not alternate, or carry an unknown role */
	DF_DROP_ODD_TURNS,          /* a question without an answer */
	DF_DROP_EMPTY_CONVERSATION, /* no turns at all */
	DF_DROP_MEDIA,              /* images, videos or audio: not supported */
	DF_DROP_EMPTY,              /* not a single token (df_encode_is_empty) */
	DF_DROP_COUNT
};
const char *df_drop_name(enum df_drop d);  /* "no_response": for parameters */
const char *df_drop_about(enum df_drop d); /* a text for messages */

struct df_turn {
	enum df_role role;
	const char *text; /* n bytes, not NUL-terminated */
	size_t n;
};

/* One row.  Texts are valid until the next row is put into the same example. */
struct df_example {
	struct df_turn *turns; /* user, assistant, user, ... ; in stage pt only the first is used */
	size_t n_turns, cap_turns;
	const char *system; /* the row's own system text; n_system 0: none */
	size_t n_system;
	const char *tools; /* the row's tools: JSON, not checked; n_tools 0: none */
	size_t n_tools;
	enum df_drop drop; /* when it is set, the other members are not */
	struct df_json *doc;    /* (private) */
	struct df_arena mem;    /* (private) texts that are not in the row itself */
};
#define DF_EXAMPLE_INIT { .turns = NULL, .mem = DF_ARENA_INIT }
void df_example_release(struct df_example *ex);

#endif

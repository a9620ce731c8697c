/* kind.h - the kinds of artefacts, and the columns that each may have. */
#ifndef DF_SHARD_KIND_H
#define DF_SHARD_KIND_H

#include <stdbool.h>
#include <stddef.h>

enum df_kind {
	DF_KIND_ANY, /* only as an expectation */
	DF_KIND_TOKENS,
	DF_KIND_LOSSES,
	DF_KIND_GRADIENTS,
	DF_KIND_PROJECTIONS,
	DF_KIND_EMBEDDINGS,
	DF_KIND_SCORES,
	DF_KIND_INDEX,
	DF_KIND_WEIGHTS,
	DF_KIND_GATELOAD,
	DF_KIND_NEIGHBOURS,  /* of each row: ids and distances, nearest first */
	DF_KIND_COMPLETIONS, /* tokens whose targets were generated; accepted wherever tokens are */
	DF_KIND_COUNT
};
const char *df_kind_name(enum df_kind k); /* "tokens", ... */
/* May a set of this kind be read where `wanted` is expected?  Completions are also tokens. */
bool df_kind_fits(enum df_kind k, enum df_kind wanted);

enum df_coltype { DF_COL_U8, DF_COL_U16, DF_COL_U32, DF_COL_U64, DF_COL_F32, DF_COL_F64 };
size_t df_coltype_size(enum df_coltype t);

/*
 * The form in which a file holds the numbers of `embedding`.  In batches and streams they are f32, rounded to
 * values of that form.
 */
enum df_store { DF_STORE_F32, DF_STORE_F16, DF_STORE_BF16 };
#define DF_STORE_NAMES "f32", "f16", "bf16" /* in the order of the enum, for an option's choices */

/* The columns, by number: a batch keeps their arrays in this order. */
enum df_col {
	DF_COL_ID,         /* sample/id u64: the row in the packed dataset */
	DF_COL_DOMAIN,     /* sample/domain u16: into the root attribute `domains`; in an index, of each chosen row */
	DF_COL_SOURCE_ROW, /* sample/source_row u64: the row in the user's file */
	DF_COL_IDS,        /* tokens/ids u32, ragged over tokens/offsets */
	DF_COL_LABEL_MASK, /* tokens/label_mask u8, also ragged: 1 = target, 2 = the row's last token is the target */
	DF_COL_POSITION,   /* tokens/position u32, also ragged: in its sequence; absent: in the row */
	DF_COL_SEQUENCE,   /* tokens/sequence u32, also ragged: the sequence that a token sees; absent: the whole row */
	DF_COL_PROMPT,     /* sample/prompt u64: the prompt that a completion answers */
	DF_COL_DRAW,       /* sample/draw u32: number of this completion of the prompt */
	DF_COL_LOSS,       /* loss f32: mean nll over the sample's targets; NaN without targets */
	DF_COL_N_TOKENS,   /* n_tokens u32: targets that were predicted */
	DF_COL_TOKEN_LOSS, /* token_loss/values f32, ragged over token_loss/offsets: nll of each target */
	DF_COL_GRADIENT,   /* gradient f32 [n,p] */
	DF_COL_PROJECTION, /* projection f32 [n,k] */
	DF_COL_EMBEDDING,  /* embedding f32 [n,d] */
	DF_COL_GATE_LOAD,  /* gate_load f32 [n,layers*experts]: tokens sent to each expert of each layer */
	DF_COL_SCORE,      /* score f32 */
	DF_COL_RANK,       /* rank u64: 0 = best */
	DF_COL_PROBABILITY, /* probability f64: of being drawn, all of them sum to 1 */
	DF_COL_CLUSTER,    /* cluster u32 */
	DF_COL_NEIGHBOUR,  /* neighbour u64 [n,k]: ids of rows of another set or of the same */
	DF_COL_DISTANCE,   /* distance f32 [n,k]: of each neighbour; for a similarity, larger is nearer */
	DF_COL_INDEX,      /* index u64: sample ids in training order */
	DF_COL_WEIGHT,     /* sample_weight f32 */
	DF_COL_DOMAIN_WEIGHT, /* domain_weight f64 */
	DF_COL_MIXER_STATE, /* mixer_state f64 [K,w]: number j of it is that of domain j mod K in column j / K */
	DF_COL_COUNT
};

struct df_column {
	enum df_col col;
	const char *path; /* name inside the file, "tokens/ids" */
	enum df_coltype type;
	bool matrix;         /* [n,width], width from the data */
	const char *offsets; /* ragged: the path of its offsets; else NULL */
	const char *about;   /* attribute `description` */
};
const struct df_column *df_column(enum df_col c);

#endif

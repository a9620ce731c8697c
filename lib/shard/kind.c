/*
 * kind.c - the schema: all columns, and the columns of each kind.
 *
 * It is one table; reading, writing, streams, digests and df-show are loops over it.  A new kind is a row here and
 * a line in df-shard(5).
 */
#include "shard/shard_priv.h"

#include <string.h>

static const struct df_column columns[DF_COL_COUNT] = {
	[DF_COL_ID] = { DF_COL_ID, "sample/id", DF_COL_U64, false, NULL, "row in the packed dataset" },
	[DF_COL_DOMAIN] = { DF_COL_DOMAIN, "sample/domain", DF_COL_U16, false, NULL,
	    "index into the root attribute domains" },
	[DF_COL_SOURCE_ROW] = { DF_COL_SOURCE_ROW, "sample/source_row", DF_COL_U64, false, NULL,
	    "row in the source file, from 0" },
	[DF_COL_IDS] = { DF_COL_IDS, "tokens/ids", DF_COL_U32, false, "tokens/offsets",
	    "token ids; sample i is ids[offsets[i]:offsets[i+1]]" },
	[DF_COL_LABEL_MASK] = { DF_COL_LABEL_MASK, "tokens/label_mask", DF_COL_U8, false, "tokens/offsets",
	    "1 where the token is a training target" },
	[DF_COL_POSITION] = { DF_COL_POSITION, "tokens/position", DF_COL_U32, false, "tokens/offsets",
	    "position of the token in its sequence" },
	[DF_COL_SEQUENCE] = { DF_COL_SEQUENCE, "tokens/sequence", DF_COL_U32, false, "tokens/offsets",
	    "sequence of a packed row that the token belongs to" },
	[DF_COL_PROMPT] = { DF_COL_PROMPT, "sample/prompt", DF_COL_U64, false, NULL, "id of the prompt" },
	[DF_COL_DRAW] = { DF_COL_DRAW, "sample/draw", DF_COL_U32, false, NULL, "number of the prompt's completion" },
	[DF_COL_LOSS] = { DF_COL_LOSS, "loss", DF_COL_F32, false, NULL,
	    "mean negative log likelihood of the sample's targets, nats; NaN without targets" },
	[DF_COL_N_TOKENS] = { DF_COL_N_TOKENS, "n_tokens", DF_COL_U32, false, NULL, "targets that were predicted" },
	[DF_COL_TOKEN_LOSS] = { DF_COL_TOKEN_LOSS, "token_loss/values", DF_COL_F32, false, "token_loss/offsets",
	    "negative log likelihood of each target, nats" },
	[DF_COL_GRADIENT] = { DF_COL_GRADIENT, "gradient", DF_COL_F32, true, NULL,
	    "per-sample gradient; manifest/ names the coordinates" },
	[DF_COL_PROJECTION] = { DF_COL_PROJECTION, "projection", DF_COL_F32, true, NULL,
	    "random projection of the per-sample gradient" },
	[DF_COL_EMBEDDING] = { DF_COL_EMBEDDING, "embedding", DF_COL_F32, true, NULL, "one vector per sample" },
	[DF_COL_GATE_LOAD] = { DF_COL_GATE_LOAD, "gate_load", DF_COL_F32, true, NULL,
	    "tokens sent to each expert of each layer" },
	[DF_COL_SCORE] = { DF_COL_SCORE, "score", DF_COL_F32, false, NULL, "higher is better" },
	[DF_COL_RANK] = { DF_COL_RANK, "rank", DF_COL_U64, false, NULL, "0 is the best" },
	[DF_COL_PROBABILITY] = { DF_COL_PROBABILITY, "probability", DF_COL_F64, false, NULL,
	    "of being drawn; they sum to 1" },
	[DF_COL_CLUSTER] = { DF_COL_CLUSTER, "cluster", DF_COL_U32, false, NULL, "number of the sample's cluster" },
	[DF_COL_NEIGHBOUR] = { DF_COL_NEIGHBOUR, "neighbour", DF_COL_U64, true, NULL,
	    "ids of the nearest, nearest first" },
	[DF_COL_DISTANCE] = { DF_COL_DISTANCE, "distance", DF_COL_F32, true, NULL, "of each neighbour" },
	[DF_COL_INDEX] = { DF_COL_INDEX, "index", DF_COL_U64, false, NULL, "sample ids in training order" },
	[DF_COL_WEIGHT] = { DF_COL_WEIGHT, "sample_weight", DF_COL_F32, false, NULL, "weight of the sample's loss" },
	[DF_COL_DOMAIN_WEIGHT] = { DF_COL_DOMAIN_WEIGHT, "domain_weight", DF_COL_F64, false, NULL,
	    "share of each domain" },
	[DF_COL_MIXER_STATE] = { DF_COL_MIXER_STATE, "mixer_state", DF_COL_F64, true, NULL,
	    "of the mixer that made the shares, domain by domain" },
};

#define BIT(c) (1u << DF_COL_##c)
#define SAMPLE (BIT(ID) | BIT(DOMAIN) | BIT(SOURCE_ROW))

static const struct df_kind_schema schemas[DF_KIND_COUNT] = {
	[DF_KIND_ANY] = { "any", 0, 0, 0 },
	[DF_KIND_TOKENS] = { "tokens", BIT(ID) | BIT(IDS) | BIT(LABEL_MASK), 0,
	    SAMPLE | BIT(IDS) | BIT(LABEL_MASK) | BIT(POSITION) | BIT(SEQUENCE) },
	[DF_KIND_LOSSES] = { "losses", BIT(ID) | BIT(LOSS), 0, SAMPLE | BIT(LOSS) | BIT(N_TOKENS) | BIT(TOKEN_LOSS) },
	[DF_KIND_GRADIENTS] = { "gradients", BIT(ID) | BIT(GRADIENT), 0,
	    SAMPLE | BIT(GRADIENT) | BIT(LOSS) | BIT(N_TOKENS) },
	[DF_KIND_PROJECTIONS] = { "projections", BIT(ID) | BIT(PROJECTION), 0,
	    SAMPLE | BIT(PROJECTION) | BIT(LOSS) | BIT(N_TOKENS) },
	[DF_KIND_EMBEDDINGS] = { "embeddings", BIT(ID) | BIT(EMBEDDING), 0, SAMPLE | BIT(EMBEDDING) },
	[DF_KIND_SCORES] = { "scores", BIT(ID) | BIT(SCORE), 0,
	    SAMPLE | BIT(SCORE) | BIT(RANK) | BIT(PROBABILITY) | BIT(CLUSTER) },
	[DF_KIND_INDEX] = { "index", BIT(INDEX), 0, BIT(DOMAIN) | BIT(INDEX) | BIT(SCORE) },
	[DF_KIND_WEIGHTS] = { "weights", 0, BIT(WEIGHT) | BIT(DOMAIN_WEIGHT),
	    SAMPLE | BIT(WEIGHT) | BIT(DOMAIN_WEIGHT) | BIT(MIXER_STATE) },
	[DF_KIND_GATELOAD] = { "gateload", BIT(ID) | BIT(GATE_LOAD), 0, SAMPLE | BIT(GATE_LOAD) | BIT(N_TOKENS) },
	[DF_KIND_NEIGHBOURS] = { "neighbours", BIT(ID) | BIT(NEIGHBOUR) | BIT(DISTANCE), 0,
	    BIT(ID) | BIT(NEIGHBOUR) | BIT(DISTANCE) },
	[DF_KIND_COMPLETIONS] = { "completions", BIT(ID) | BIT(IDS) | BIT(LABEL_MASK), 0,
	    SAMPLE | BIT(IDS) | BIT(LABEL_MASK) | BIT(PROMPT) | BIT(DRAW) },
};

const char *
df_kind_name(enum df_kind k)
{
	return (unsigned)k < DF_KIND_COUNT ? schemas[k].name : "unknown";
}

enum df_kind
df_kind_parse(const char *name)
{
	for (int k = DF_KIND_ANY + 1; k < DF_KIND_COUNT; k++)
		if (strcmp(schemas[k].name, name) == 0)
			return (enum df_kind)k;
	return DF_KIND_ANY;
}

bool
df_kind_fits(enum df_kind k, enum df_kind wanted)
{
	return wanted == DF_KIND_ANY || k == wanted || (wanted == DF_KIND_TOKENS && k == DF_KIND_COMPLETIONS);
}

const struct df_kind_schema *
df_kind_schema(enum df_kind k)
{
	return &schemas[k];
}

const struct df_column *
df_column(enum df_col c)
{
	return &columns[c];
}

size_t
df_coltype_size(enum df_coltype t)
{
	static const size_t size[] = { [DF_COL_U8] = 1,
		[DF_COL_U16] = 2,
		[DF_COL_U32] = 4,
		[DF_COL_U64] = 8,
		[DF_COL_F32] = 4,
		[DF_COL_F64] = 8 };

	return size[t];
}

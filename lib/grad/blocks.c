/*
 * blocks.c - how long blocks may be, and what a job costs.
 *
 * A block should be long, so that GEMMs run at speed and many samples share the signs of a projection, but must
 * fit into memory.  The rule may look at lengths, options and the kind of device only: never at threads, shards, or the
 * machine.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "grad/grad_priv.h"

#define RAW_BYTES  ((uint64_t)1 << 26) /* gradients of a block that are stored whole */
#define MIN_TOKENS 256
#define MAX_ROWS   64

/*
 * Bytes of activations that a token needs: what a layer keeps for its backward, the scratch of one
 * layer, and, where the head is trainable, the gradient of its logits.
 */
static uint64_t
bytes_per_token(const struct df_grad *g)
{
	const struct df_model_config *c = df_model_config(g->model);
	const uint64_t expert = (uint64_t)c->moe.top_k * (3 * c->moe.d_expert), shared = 3 * (uint64_t)c->moe.d_shared;
	const uint64_t ffn = c->moe.n_experts == 0 ? 3 * (uint64_t)c->d_ff : expert + shared + c->moe.n_experts;
	const uint64_t layer = 6 * (uint64_t)c->d_model + 2 * (uint64_t)(c->n_heads + c->n_kv_heads) * c->d_head + ffn;
	const uint64_t once = (uint64_t)c->moe.top_k * 2 * (c->d_model + c->moe.d_expert); /* rows gathered by expert */
	const bool logits =
	    (g->o.output == DF_GRAD_RAW || g->o.output == DF_GRAD_PROJECTED) && df_model_trains_head(g->model);

	return sizeof(float) * ((df_model_backward_layers(g->model) + 1) * layer + once + (logits ? c->n_vocab : 0));
}

static void
limits(const struct df_grad *g, uint64_t *max_tokens, uint64_t *max_rows)
{
	const struct df_backend_traits like = df_backend_traits(df_model_backend(g->model));
	const uint64_t tokens = like.grad_bytes / bytes_per_token(g);
	const uint64_t raw = RAW_BYTES / sizeof(float) / (g->p ? g->p : 1);

	*max_tokens = tokens < MIN_TOKENS ? MIN_TOKENS : tokens > like.grad_tokens ? like.grad_tokens : tokens;
	*max_rows = MAX_ROWS;
	if (g->o.output == DF_GRAD_RAW && raw < MAX_ROWS)
		*max_rows = raw ? raw : 1;
	if (g->o.block_tokens)
		*max_tokens = g->o.block_tokens;
	if (g->o.block_rows)
		*max_rows = g->o.block_rows;
}

void
df_grad_batch_limits(const struct df_grad *g, uint64_t *max_tokens, uint64_t *max_rows)
{
	limits(g, max_tokens, max_rows);
	*max_rows = g->o.block_rows ? g->o.block_rows : MAX_ROWS; /* whether gradients are stored whole or not */
}

int
df_grad_blocks(
    const struct df_grad *g, const uint64_t *lengths, uint64_t n_rows, struct df_blocks *b, struct df_err *err)
{
	uint64_t max_tokens, max_rows;

	limits(g, &max_tokens, &max_rows);
	return df_blocks_cut(b, lengths, n_rows, max_tokens, max_rows, err);
}

/*
 * Multiplications of a token with these matrices: a token meets top_k of the experts, and an embedding
 * is only looked up.
 */
static double
products(const struct df_params *p, const struct df_model_config *c)
{
	static const char embedding[] = "embed_tokens.weight";
	double sum = 0;

	for (size_t i = 0; i < p->n; i++) {
		const size_t n = strlen(p->v[i].name), k = sizeof(embedding) - 1;

		if (p->v[i].rank != 2 || (!c->tied && n >= k && strcmp(p->v[i].name + n - k, embedding) == 0))
			continue;
		sum += (double)p->v[i].rows * (double)p->v[i].cols *
		    (strstr(p->v[i].name, ".experts.") ? (double)c->moe.top_k / (double)c->moe.n_experts : 1);
	}
	return sum;
}

void
df_grad_estimate(const struct df_grad *g, const uint64_t *lengths, uint64_t n_rows, const struct df_blocks *b,
    struct df_grad_cost *cost)
{
	const struct df_model_config *c = df_model_config(g->model);
	const double p = (double)g->p, linear = products(df_model_base(g->model), c);
	const double reached = (double)df_model_backward_layers(g->model) / (double)c->n_layers;
	double attention = 0, longest = 0;
	size_t width = 0;

	*cost = (struct df_grad_cost){ .rows = n_rows, .blocks = b->n, .coordinates = g->p };
	for (uint64_t i = 0; i < b->n; i++) {
		uint64_t tokens = 0;

		for (uint64_t r = b->first[i]; r < b->first[i + 1]; r++) {
			tokens += lengths[r];
			attention +=
			    (double)lengths[r] * (double)lengths[r] * (double)(c->n_layers * c->n_heads * c->d_head);
		}
		cost->tokens += tokens;
		longest = (double)tokens > longest ? (double)tokens : longest;
	}
	/*
	 * Two operations per weight and token for the forward; as many for the inputs' gradients, down to the
	 * lowest trainable layer; as many for the gradients of the trainable parameters.  An adapter, which is
	 * not in the base, has all three.
	 */
	cost->model_flops = 2 * linear * (double)cost->tokens + 2 * attention;
	if (g->o.output == DF_GRAD_RAW || g->o.output == DF_GRAD_PROJECTED)
		cost->model_flops += reached * (2 * linear * (double)cost->tokens + 5 * attention) +
		    (df_model_has_lora(g->model) ? 6 : 2) * products(df_model_train(g->model), c) *
			(double)cost->tokens;
	switch (g->o.output) {
	case DF_GRAD_LOSSES: break;
	case DF_GRAD_LOADS: width = c->n_layers * c->moe.n_experts; break;
	case DF_GRAD_RAW: width = g->p; break;
	case DF_GRAD_PROJECTED:
		width = g->o.projector.k;
		cost->projection_flops = (double)n_rows * p *
		    (g->o.projector.type == DF_PROJ_SJLT ? g->o.projector.sparsity : 2.0 * (double)g->o.projector.k);
		break;
	}
	cost->out_bytes = (double)n_rows *
	    (double)(width * sizeof(float) + sizeof(uint64_t) + sizeof(uint16_t) + sizeof(float) + sizeof(uint32_t));
	if (g->o.token_loss)
		cost->out_bytes += (double)cost->tokens * sizeof(float);
	cost->model_bytes = (double)df_model_bytes(g->model);
	if (!df_tensor_is_none(g->moments.m))
		cost->model_bytes += 2 * p * sizeof(float);
	cost->lane_bytes =
	    longest * (double)bytes_per_token(g) + MAX_ROWS * sizeof(float) * (double)(width + DF_GRAD_PIECE);
}

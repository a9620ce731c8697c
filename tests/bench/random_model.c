/*
 * random_model.c - a checkpoint of any size with random weights, for benches of memory and speed.
 *
 *   random_model CONFIG.json DIR      writes DIR/model.safetensors in bfloat16, and a copy of the configuration
 *
 * Weights are written as they are drawn, so that a model larger than memory can be made.  Matrices are uniform with
 * the configuration's initializer_range as standard deviation, norms 1, biases 0.  Decoders without experts: llama,
 * mistral, qwen2, qwen3.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "model/model.h"
#include "safetensors/safetensors.h"

#define CHUNK ((size_t)1 << 20) /* elements */

struct out {
	const struct df_model_config *c;
	struct df_st_writer *w;
	uint16_t *chunk;
	uint32_t n; /* tensors so far */
	bool declare;
};

/* Round to nearest even, as torch does; nothing here is NaN. */
static uint16_t
bf16(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof(u));
	return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

static int
tensor(struct out *o, const char *name, size_t rows, size_t cols, float constant, struct df_err *err)
{
	const uint64_t shape[2] = { rows ? rows : cols, cols };
	const size_t total = (rows ? rows : 1) * cols;
	const float width = (float)(o->c->init_range * sqrt(12.0));
	int rc = DF_OK;

	if (o->declare)
		return df_st_add(o->w, name, DF_ST_BF16, shape, rows ? 2 : 1, err);
	for (size_t at = 0; at < total; at += CHUNK) {
		const size_t n = total - at < CHUNK ? total - at : CHUNK;

		for (size_t i = 0; i < n; i += 8) {
			uint32_t r[4] = { 0 };

			if (rows)
				df_rng_words(1, DF_RNG_INIT, o->n, (at + i) / 8, r);
			for (size_t k = 0; k < 8 && i + k < n; k++)
				o->chunk[i + k] =
				    bf16(rows ? width * ((float)(r[k / 2] >> (k % 2 * 16) & 0xFFFF) / 65536 - 0.5f)
					      : constant);
		}
		DF_TRY(df_st_write(o->w, o->chunk, n * sizeof(*o->chunk), err));
	}
	o->n++;
out:
	return rc;
}

static int
linear(struct out *o, const char *prefix, const char *name, size_t rows, size_t cols, bool bias, struct df_err *err)
{
	char full[160];
	int rc;

	snprintf(full, sizeof(full), "%s%s.weight", prefix, name);
	rc = tensor(o, full, rows, cols, 0, err);
	snprintf(full, sizeof(full), "%s%s.bias", prefix, name);
	return rc == DF_OK && bias ? tensor(o, full, 0, rows, 0, err) : rc;
}

static int
norm(struct out *o, const char *prefix, const char *name, size_t n, struct df_err *err)
{
	char full[160];

	snprintf(full, sizeof(full), "%s%s.weight", prefix, name);
	return tensor(o, full, 0, n, 1, err);
}

static int
all(struct out *o, struct df_err *err)
{
	const struct df_model_config *c = o->c;
	const size_t D = c->d_model, Q = c->n_heads * c->d_head, K = c->n_kv_heads * c->d_head;
	int rc = DF_OK;

	DF_TRY(tensor(o, "model.embed_tokens.weight", c->n_vocab, D, 0, err));
	for (size_t i = 0; i < c->n_layers; i++) {
		char p[64];

		snprintf(p, sizeof(p), "model.layers.%zu.", i);
		DF_TRY(norm(o, p, "input_layernorm", D, err));
		DF_TRY(linear(o, p, "self_attn.q_proj", Q, D, c->qkv_bias, err));
		DF_TRY(linear(o, p, "self_attn.k_proj", K, D, c->qkv_bias, err));
		DF_TRY(linear(o, p, "self_attn.v_proj", K, D, c->qkv_bias, err));
		DF_TRY(linear(o, p, "self_attn.o_proj", D, Q, c->o_bias, err));
		if (c->qk_norm) {
			DF_TRY(norm(o, p, "self_attn.q_norm", c->d_head, err));
			DF_TRY(norm(o, p, "self_attn.k_norm", c->d_head, err));
		}
		DF_TRY(norm(o, p, "post_attention_layernorm", D, err));
		DF_TRY(linear(o, p, "mlp.gate_proj", c->d_ff, D, c->mlp_bias, err));
		DF_TRY(linear(o, p, "mlp.up_proj", c->d_ff, D, c->mlp_bias, err));
		DF_TRY(linear(o, p, "mlp.down_proj", D, c->d_ff, c->mlp_bias, err));
	}
	DF_TRY(norm(o, "model.", "norm", D, err));
	if (!c->tied)
		DF_TRY(tensor(o, "lm_head.weight", c->n_vocab, D, 0, err));
out:
	return rc;
}

static int
copy(const char *from, const char *to, struct df_err *err)
{
	char *text = NULL;
	size_t n;
	int rc;

	if ((rc = df_file_get(from, (size_t)1 << 20, &text, &n, err)) == DF_OK)
		rc = df_file_put(to, text, n, err);
	free(text);
	return rc;
}

int
main(int argc, char **argv)
{
	struct df_model_config c = { 0 };
	struct df_err err_ = DF_ERR_INIT, *err = &err_;
	struct df_st_writer *done;
	struct out o = { .c = &c, .declare = true };
	char *path = NULL, *config = NULL;
	int rc;

	if (argc != 3) {
		fprintf(stderr, "usage: random_model CONFIG.json DIR\n");
		return 64;
	}
	DF_TRY(df_mkdirs(argv[2], err));
	DF_TRY(df_path_join(&config, argv[2], "config.json", err));
	DF_TRY(copy(argv[1], config, err));
	DF_TRY(df_model_config_load(&c, argv[2], err));
	if (c.moe.n_experts > 0 || c.arch == DF_ARCH_BERT) {
		rc = df_fail(err, DF_EUNSUPPORTED, "%s: only decoders without experts", argv[1]);
		goto out;
	}
	DF_TRY(df_path_join(&path, argv[2], "model.safetensors", err));
	DF_TRY(df_alloc(&o.chunk, CHUNK, sizeof(*o.chunk), "weights", err));
	DF_TRY(df_st_create(&o.w, path, err));
	DF_TRY(df_st_add_metadata(o.w, "format", "pt", err));
	DF_TRY(all(&o, err));
	o.declare = false;
	DF_TRY(all(&o, err));
	done = o.w;
	o.w = NULL;
	rc = df_st_commit(done, err);
out:
	if (rc != DF_OK)
		fprintf(stderr, "random_model: %s\n", err->msg);
	df_st_discard(o.w);
	df_model_config_release(&c);
	free(o.chunk);
	free(config);
	free(path);
	return rc == DF_OK ? 0 : 1;
}

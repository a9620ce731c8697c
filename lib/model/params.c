/*
 * params.c - the tables {name, shape, offset} that everything else loops over.
 *
 * Order is the point (model_priv.h draws it): members of a group side by side,
 * so that one GEMM multiplies them, and the whole in the order of the forward,
 * so that the backward meets descending offsets.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/model_priv.h"

/* Append a row; its number goes to *row. */
static int
add(struct df_params *p, size_t cap, size_t *row, int layer, int rank, size_t rows, size_t cols, bool decay, char *name,
    struct df_err *err)
{
	struct df_param *v = &p->v[p->n];
	size_t n;
	int rc = DF_OK;

	if (p->n == cap) {
		free(name);
		return df_fail(err, DF_EINTERNAL, "the parameter table is too short");
	}
	*v = (struct df_param){ .name = name,
		.rows = rows,
		.cols = cols,
		.rank = rank,
		.offset = p->numel,
		.decay = decay,
		.layer = layer };
	*row = p->n++;
	DF_TRY(df_size_mul(rows, cols, &n, name, err));
	DF_TRY(df_size_add(p->numel, n, &p->numel, "the number of parameters", err));
	/* Byte sizes of the flat buffer must be representable too. */
	DF_TRY(df_size_mul(p->numel, sizeof(double), &n, "the size of the parameters", err));
out:
	return rc;
}

/* A vector outside or inside a layer: "model.norm.weight", or "model.layers.%zu.NAME". */
static int
add_named(struct df_params *p, size_t cap, size_t *row, int layer, int rank, size_t rows, size_t cols, bool decay,
    const char *module, const char *what, struct df_err *err)
{
	char *name = NULL;
	int rc;

	if (layer < 0)
		DF_TRY(df_asprintf(&name, err, "%s.%s", module, what));
	else
		DF_TRY(df_asprintf(&name, err, "model.layers.%d.%s.%s", layer, module, what));
	DF_TRY(add(p, cap, row, layer, rank, rows, cols, decay, name, err));
out:
	return rc;
}

/* The shape of a group's members. */
static void
describe(const struct df_model_config *c, enum df_group_id id, struct df_group *g, bool *bias)
{
	size_t q = c->n_heads * c->d_head, kv = c->n_kv_heads * c->d_head;

	memset(g, 0, sizeof(*g));
	switch (id) {
	case DF_GROUP_QKV:
		g->in = c->d_model;
		g->n_parts = 3;
		g->part[0] = (struct df_part){ .module = "self_attn.q_proj", .out = q };
		g->part[1] = (struct df_part){ .module = "self_attn.k_proj", .out = kv };
		g->part[2] = (struct df_part){ .module = "self_attn.v_proj", .out = kv };
		*bias = c->qkv_bias;
		break;
	case DF_GROUP_O:
		g->in = q;
		g->n_parts = 1;
		g->part[0] = (struct df_part){ .module = "self_attn.o_proj", .out = c->d_model };
		*bias = c->o_bias;
		break;
	case DF_GROUP_GATE_UP:
		g->in = c->d_model;
		g->n_parts = 2;
		g->part[0] = (struct df_part){ .module = "mlp.gate_proj", .out = c->d_ff };
		g->part[1] = (struct df_part){ .module = "mlp.up_proj", .out = c->d_ff };
		*bias = c->mlp_bias;
		break;
	default:
		g->in = c->d_ff;
		g->n_parts = 1;
		g->part[0] = (struct df_part){ .module = "mlp.down_proj", .out = c->d_model };
		*bias = c->mlp_bias;
	}
	for (size_t i = 0; i < g->n_parts; i++) {
		g->part[i].col = g->out;
		g->out += g->part[i].out;
		g->part[i].bias = g->part[i].a = g->part[i].b = DF_NO_ROW;
	}
	g->bias_off = DF_NO_ROW;
}

static int
add_group(struct df_params *p, size_t cap, const struct df_model_config *c, int layer, enum df_group_id id,
    struct df_group *g, struct df_err *err)
{
	bool bias;
	int rc;

	describe(c, id, g, &bias);
	g->weight_off = p->numel;
	for (size_t i = 0; i < g->n_parts; i++)
		DF_TRY(add_named(p, cap, &g->part[i].weight, layer, 2, g->part[i].out, g->in, true, g->part[i].module,
		    "weight", err));
	if (bias)
		g->bias_off = p->numel;
	for (size_t i = 0; bias && i < g->n_parts; i++)
		DF_TRY(add_named(
		    p, cap, &g->part[i].bias, layer, 1, 1, g->part[i].out, false, g->part[i].module, "bias", err));
	rc = DF_OK;
out:
	return rc;
}

int
df_params_build_base(struct df_model *m, struct df_err *err)
{
	const struct df_model_config *c = &m->cfg;
	struct df_params *p = &m->base;
	size_t cap = 3 + c->n_layers * 16, q, kv;
	int rc;

	/* Widths that are products of two sizes from the file. */
	DF_TRY(df_size_mul(c->n_heads, c->d_head, &q, "'num_attention_heads' times 'head_dim'", err));
	DF_TRY(df_size_mul(q, 3, &kv, "'num_attention_heads' times 'head_dim'", err));
	DF_TRY(df_alloc(&p->v, cap, sizeof(*p->v), "the parameter table", err));
	DF_TRY(df_alloc(&m->layers, c->n_layers, sizeof(*m->layers), "the layers", err));
	DF_TRY(add_named(p, cap, &m->embed, -1, 2, c->n_vocab, c->d_model, true, "model.embed_tokens", "weight", err));
	for (size_t i = 0; i < c->n_layers; i++) {
		struct df_layer *l = &m->layers[i];
		int n = (int)i;

		DF_TRY(add_named(p, cap, &l->input_norm, n, 1, 1, c->d_model, false, "input_layernorm", "weight", err));
		DF_TRY(add_group(p, cap, c, n, DF_GROUP_QKV, &l->group[DF_GROUP_QKV], err));
		DF_TRY(add_group(p, cap, c, n, DF_GROUP_O, &l->group[DF_GROUP_O], err));
		DF_TRY(add_named(
		    p, cap, &l->post_norm, n, 1, 1, c->d_model, false, "post_attention_layernorm", "weight", err));
		DF_TRY(add_group(p, cap, c, n, DF_GROUP_GATE_UP, &l->group[DF_GROUP_GATE_UP], err));
		DF_TRY(add_group(p, cap, c, n, DF_GROUP_DOWN, &l->group[DF_GROUP_DOWN], err));
	}
	DF_TRY(add_named(p, cap, &m->norm, -1, 1, 1, c->d_model, false, "model.norm", "weight", err));
	m->lm_head = m->embed;
	if (!c->tied)
		DF_TRY(add_named(p, cap, &m->lm_head, -1, 2, c->n_vocab, c->d_model, true, "lm_head", "weight", err));
	m->train = p;
out:
	return rc;
}

static int
add_adapter(struct df_model *m, size_t cap, size_t *row, int layer, const char *module, const char *ab, size_t rows,
    size_t cols, struct df_err *err)
{
	char *name = NULL;
	int rc;

	DF_TRY(df_asprintf(&name, err, "base_model.model.model.layers.%d.%s.lora_%s.weight", layer, module, ab));
	DF_TRY(add(&m->train_rows, cap, row, layer, 2, rows, cols, true, name, err));
out:
	return rc;
}

int
df_params_build_lora(struct df_model *m, struct df_err *err)
{
	struct df_params *p = &m->train_rows;
	size_t cap = m->cfg.n_layers * 14;
	int rc;

	DF_TRY(df_alloc(&p->v, cap, sizeof(*p->v), "the adapter table", err));
	for (size_t i = 0; i < m->cfg.n_layers; i++) {
		for (int id = 0; id < DF_GROUPS; id++) {
			struct df_group *g = &m->layers[i].group[id];

			g->a_off = p->numel;
			g->n_lora = 0;
			for (size_t k = 0; k < g->n_parts; k++) {
				struct df_part *t = &g->part[k];

				if (!m->target[id][k])
					continue;
				t->u_col = g->n_lora++ * m->rank;
				DF_TRY(add_adapter(m, cap, &t->a, (int)i, t->module, "A", m->rank, g->in, err));
			}
			for (size_t k = 0; k < g->n_parts; k++) {
				struct df_part *t = &g->part[k];

				if (m->target[id][k])
					DF_TRY(
					    add_adapter(m, cap, &t->b, (int)i, t->module, "B", t->out, m->rank, err));
			}
		}
	}
	m->train = p;
	rc = DF_OK;
out:
	return rc;
}

void
df_params_release(struct df_params *p)
{
	for (size_t i = 0; i < p->n; i++)
		free((char *)(uintptr_t)p->v[i].name);
	free(p->v);
	memset(p, 0, sizeof(*p));
}

struct df_digest
df_params_digest(const struct df_params *p)
{
	struct df_digest d = { 0, 0 };

	/* Each row is hashed with the digest of those before it: order counts. */
	for (size_t i = 0; i < p->n; i++) {
		const struct df_param *v = &p->v[i];
		uint64_t row[6] = { d.lo, d.hi, v->rows, v->cols, (uint64_t)v->rank, v->offset };
		struct df_digest name = df_hash_bytes(v->name, strlen(v->name), 0);

		d = df_hash_bytes(row, sizeof(row), name.lo ^ name.hi);
	}
	return d;
}

const struct df_param *
df_params_find(const struct df_params *p, const char *name)
{
	for (size_t i = 0; i < p->n; i++) {
		if (strcmp(p->v[i].name, name) == 0)
			return &p->v[i];
	}
	return NULL;
}

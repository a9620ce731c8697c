/*
 * params.c - the tables {name, shape, offset} that everything else loops over.
 *
 * The order matters (model_priv.h draws it): members of a group side by side, so that one GEMM can multiply them;
 * all in the order of the forward, so that the backward reaches the parameters in descending order of offset.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/model_priv.h"

#define ROWS_MAX ((size_t)1 << 22) /* of a table: bounds what a hostile configuration may ask for */

/* A table being built. */
struct table {
	struct df_params *p;
	size_t cap;
	const char *layers; /* the name before a layer's number */
	int layer;          /* the layer that rows are added to; -1: outside the layers */
};

/* Append a row; it takes over the name, also on failure.  *row = its number. */
static int
append(struct table *b, size_t *row, struct df_param v, char *name, struct df_err *err)
{
	struct df_params *p = b->p;
	size_t n;
	int rc;

	if (p->n == ROWS_MAX) {
		rc = df_fail(err, DF_ERANGE, "more than %zu parameters", ROWS_MAX);
		goto out;
	}
	DF_TRY(df_grow(&p->v, &b->cap, p->n + 1, sizeof(*p->v), "the parameter table", err));
	v.name = name;
	v.offset = p->numel;
	v.layer = b->layer;
	p->v[p->n] = v;
	*row = p->n++;
	name = NULL;
	DF_TRY(df_size_mul(v.rows, v.cols, &n, v.name, err));
	DF_TRY(df_size_add(p->numel, n, &p->numel, "the number of parameters", err));
	/* The byte size of a flat buffer must fit into a size_t too. */
	DF_TRY(df_size_mul(p->numel, sizeof(double), &n, "the size of the parameters", err));
out:
	free(name);
	return rc;
}

/* Add MODULE.WHAT, inside a layer with the layer's name before it. */
static int
add(struct table *b, size_t *row, struct df_param v, const char *module, const char *what, struct df_err *err)
{
	char *name = NULL;
	int rc;

	if (b->layer < 0)
		DF_TRY(df_asprintf(&name, err, "%s.%s", module, what));
	else
		DF_TRY(df_asprintf(&name, err, "%s%d.%s.%s", b->layers, b->layer, module, what));
	DF_TRY(append(b, row, v, name, err));
out:
	return rc;
}

static int
add_matrix(struct table *b, size_t *row, const char *module, size_t rows, size_t cols, struct df_err *err)
{
	return add(
	    b, row, (struct df_param){ .rows = rows, .cols = cols, .rank = 2, .decay = true }, module, "weight", err);
}

static int
add_vector(struct table *b, size_t *row, const char *module, const char *what, size_t n, struct df_err *err)
{
	return add(b, row, (struct df_param){ .rows = 1, .cols = n, .rank = 1 }, module, what, err);
}

/* LayerNorm: weight and bias. */
static int
add_norm_pair(struct table *b, size_t *w, size_t *bias, const char *module, size_t n, struct df_err *err)
{
	int rc;

	DF_TRY(add_vector(b, w, module, "weight", n, err));
	DF_TRY(add_vector(b, bias, module, "bias", n, err));
out:
	return rc;
}

/* Up to three projections of one input, `prefix` before the name of each. */
struct projections {
	const char *prefix, *module[DF_GROUP_PARTS];
	size_t out[DF_GROUP_PARTS], n, in;
	bool bias;
};

static int
add_group(struct table *b, struct df_group *g, const struct projections *s, struct df_err *err)
{
	char *module = NULL;
	int rc = DF_OK;

	*g = (struct df_group){ .in = s->in, .n_parts = s->n };
	for (int bias = 0; bias <= s->bias; bias++) {
		for (size_t i = 0; i < s->n; i++) {
			struct df_part *t = &g->part[i];

			DF_TRY(df_asprintf(&module, err, "%s%s", s->prefix, s->module[i]));
			if (bias) {
				DF_TRY(add_vector(b, &t->bias, module, "bias", t->out, err));
			} else {
				*t = (struct df_part){ .col = g->out,
					.out = s->out[i],
					.bias = DF_NO_ROW,
					.a = DF_NO_ROW,
					.b = DF_NO_ROW };
				g->out += t->out;
				DF_TRY(add_matrix(b, &t->weight, module, t->out, g->in, err));
			}
			free(module);
			module = NULL;
		}
	}
out:
	free(module);
	return rc;
}

static int
add_one(struct table *b, struct df_group *g, const char *module, size_t out, size_t in, bool bias, struct df_err *err)
{
	struct projections s = { .prefix = "", .module = { module }, .out = { out }, .n = 1, .in = in, .bias = bias };

	return add_group(b, g, &s, err);
}

/* A feed-forward: silu(gate) * up, then down.  Mixtral's experts call them w1, w3 and w2. */
static int
add_ffn(struct table *b, struct df_group *gate_up, struct df_group *down, const char *prefix, bool mixtral,
    size_t d_model, size_t width, bool bias, struct df_err *err)
{
	struct projections in = { .prefix = prefix,
		.module = { mixtral ? "w1" : "gate_proj", mixtral ? "w3" : "up_proj" },
		.out = { width, width },
		.n = 2,
		.in = d_model,
		.bias = bias };
	struct projections out = { .prefix = prefix,
		.module = { mixtral ? "w2" : "down_proj" },
		.out = { d_model },
		.n = 1,
		.in = width,
		.bias = bias };
	int rc;

	DF_TRY(add_group(b, gate_up, &in, err));
	DF_TRY(add_group(b, down, &out, err));
out:
	return rc;
}

static int
add_moe(struct table *b, struct df_layer *l, const struct df_model_config *c, struct df_err *err)
{
	const bool mixtral = c->arch == DF_ARCH_MIXTRAL;
	const char *where = mixtral ? "block_sparse_moe" : "mlp";
	char *name = NULL;
	struct df_moe *moe;
	int rc;

	DF_TRY(df_alloc(&l->moe, 1, sizeof(*l->moe), "a mixture of experts", err));
	moe = l->moe;
	DF_TRY(df_alloc(&moe->gate_up, c->moe.n_experts, sizeof(*moe->gate_up), "the experts", err));
	DF_TRY(df_alloc(&moe->down, c->moe.n_experts, sizeof(*moe->down), "the experts", err));
	moe->n_experts = c->moe.n_experts;
	DF_TRY(df_asprintf(&name, err, "%s.gate", where));
	DF_TRY(add_one(b, &moe->router, name, c->moe.n_experts, c->d_model, false, err));
	for (size_t i = 0; i < c->moe.n_experts; i++) {
		free(name);
		name = NULL;
		DF_TRY(df_asprintf(&name, err, "%s.experts.%zu.", where, i));
		DF_TRY(add_ffn(
		    b, &moe->gate_up[i], &moe->down[i], name, mixtral, c->d_model, c->moe.d_expert, false, err));
	}
	if (c->moe.d_shared > 0) {
		DF_TRY(add_ffn(b, &moe->shared_gate_up, &moe->shared_down, "mlp.shared_expert.", false, c->d_model,
		    c->moe.d_shared, false, err));
		DF_TRY(add_one(b, &moe->shared_gate, "mlp.shared_expert_gate", 1, c->d_model, false, err));
	}
out:
	free(name);
	return rc;
}

static int
add_layer(struct table *b, struct df_layer *l, const struct df_model_config *c, struct df_err *err)
{
	const size_t q = c->n_heads * c->d_head, kv = c->n_kv_heads * c->d_head;
	struct projections qkv = { .prefix = "self_attn.",
		.module = { "q_proj", "k_proj", "v_proj" },
		.out = { q, kv, kv },
		.n = 3,
		.in = c->d_model,
		.bias = c->qkv_bias };
	int rc;

	DF_TRY(add_vector(b, &l->input_norm, "input_layernorm", "weight", c->d_model, err));
	DF_TRY(add_group(b, &l->group[DF_GROUP_QKV], &qkv, err));
	if (c->qk_norm) {
		DF_TRY(add_vector(b, &l->q_norm, "self_attn.q_norm", "weight", c->d_head, err));
		DF_TRY(add_vector(b, &l->k_norm, "self_attn.k_norm", "weight", c->d_head, err));
	}
	DF_TRY(add_one(b, &l->group[DF_GROUP_O], "self_attn.o_proj", c->d_model, q, c->o_bias, err));
	DF_TRY(add_vector(b, &l->post_norm, "post_attention_layernorm", "weight", c->d_model, err));
	if (c->moe.n_experts > 0 && c->sparse != NULL && c->sparse[b->layer])
		DF_TRY(add_moe(b, l, c, err));
	else
		DF_TRY(add_ffn(b, &l->group[DF_GROUP_GATE_UP], &l->group[DF_GROUP_DOWN], "mlp.", false, c->d_model,
		    c->d_ff, c->mlp_bias, err));
out:
	return rc;
}

/* Devlin et al. 2018: a norm comes after each half. */
static int
add_bert_layer(struct table *b, struct df_layer *l, const struct df_model_config *c, struct df_err *err)
{
	const size_t d = c->d_model, q = c->n_heads * c->d_head;
	struct projections qkv = { .prefix = "attention.self.",
		.module = { "query", "key", "value" },
		.out = { q, q, q },
		.n = 3,
		.in = d,
		.bias = true };
	int rc;

	DF_TRY(add_group(b, &l->group[DF_GROUP_QKV], &qkv, err));
	DF_TRY(add_one(b, &l->group[DF_GROUP_O], "attention.output.dense", d, q, true, err));
	DF_TRY(add_norm_pair(b, &l->input_norm, &l->input_norm_b, "attention.output.LayerNorm", d, err));
	DF_TRY(add_one(b, &l->group[DF_GROUP_GATE_UP], "intermediate.dense", c->d_ff, d, true, err));
	DF_TRY(add_one(b, &l->group[DF_GROUP_DOWN], "output.dense", d, c->d_ff, true, err));
	DF_TRY(add_norm_pair(b, &l->post_norm, &l->post_norm_b, "output.LayerNorm", d, err));
out:
	return rc;
}

static int
add_bert_embeddings(struct df_model *m, struct table *b, struct df_err *err)
{
	const struct df_model_config *c = &m->cfg;
	int rc;

	DF_TRY(add_matrix(b, &m->embed, "embeddings.word_embeddings", c->n_vocab, c->d_model, err));
	DF_TRY(add_matrix(b, &m->position, "embeddings.position_embeddings", c->max_positions, c->d_model, err));
	DF_TRY(add_matrix(b, &m->type, "embeddings.token_type_embeddings", c->n_types, c->d_model, err));
	DF_TRY(add_norm_pair(b, &m->norm, &m->norm_b, "embeddings.LayerNorm", c->d_model, err));
out:
	return rc;
}

int
df_params_build_base(struct df_model *m, struct df_err *err)
{
	const struct df_model_config *c = &m->cfg;
	const bool bert = c->arch == DF_ARCH_BERT;
	struct table b = { .p = &m->base, .layers = bert ? "encoder.layer." : "model.layers.", .layer = -1 };
	size_t q, n;
	int rc;

	/* Widths that are products of two sizes from the file must not overflow. */
	DF_TRY(df_size_mul(c->n_heads, c->d_head, &q, "'num_attention_heads' times 'head_dim'", err));
	DF_TRY(df_size_mul(q, 3, &n, "'num_attention_heads' times 'head_dim'", err));
	DF_TRY(df_alloc(&m->layers, c->n_layers, sizeof(*m->layers), "the layers", err));
	m->lm_head = m->score = m->position = m->type = m->norm_b = DF_NO_ROW;
	if (bert)
		DF_TRY(add_bert_embeddings(m, &b, err));
	else
		DF_TRY(add_matrix(&b, &m->embed, "model.embed_tokens", c->n_vocab, c->d_model, err));
	for (size_t i = 0; i < c->n_layers; i++) {
		struct df_layer *l = &m->layers[i];

		b.layer = (int)i;
		l->input_norm_b = l->post_norm_b = l->q_norm = l->k_norm = DF_NO_ROW;
		DF_TRY(bert ? add_bert_layer(&b, l, c, err) : add_layer(&b, l, c, err));
	}
	b.layer = -1;
	if (!bert)
		DF_TRY(add_vector(&b, &m->norm, "model.norm", "weight", c->d_model, err));
	if (c->head == DF_HEAD_CLASSES)
		DF_TRY(add_matrix(&b, &m->score, "score", c->n_labels, c->d_model, err));
	else if (c->head == DF_HEAD_LM && c->tied)
		m->lm_head = m->embed;
	else if (c->head == DF_HEAD_LM)
		DF_TRY(add_matrix(&b, &m->lm_head, "lm_head", c->n_vocab, c->d_model, err));
out:
	return rc;
}

/* ---- the train table ------------------------------------------------------- */

struct df_group *
df_layer_group(struct df_layer *l, size_t i)
{
	struct df_moe *moe = l->moe;
	size_t k;

	if (i <= DF_GROUP_O)
		return &l->group[i];
	if (moe == NULL)
		return i < DF_GROUPS ? &l->group[i] : NULL;
	if (i == DF_GROUP_O + 1)
		return &moe->router;
	k = i - (DF_GROUP_O + 2);
	if (k < 2 * moe->n_experts)
		return k % 2 == 0 ? &moe->gate_up[k / 2] : &moe->down[k / 2];
	k -= 2 * moe->n_experts;
	if (moe->shared_gate.n_parts == 0)
		return NULL;
	return k == 0 ? &moe->shared_gate_up : k == 1 ? &moe->shared_down : k == 2 ? &moe->shared_gate : NULL;
}

const char *
df_param_module(const struct df_param *p, size_t *n)
{
	const char *dot = strrchr(p->name, '.');

	*n = dot != NULL ? (size_t)(dot - p->name) : strlen(p->name);
	return p->name;
}

static int
add_adapter(struct df_model *m, struct table *b, size_t *row, const struct df_part *t, bool is_b, size_t rows,
    size_t cols, struct df_err *err)
{
	struct df_param v = { .rows = rows, .cols = cols, .rank = 2, .decay = true, .lora_b = is_b };
	char *name = NULL;
	size_t n;
	int rc;

	(void)df_param_module(&m->base.v[t->weight], &n);
	DF_TRY(df_asprintf(
	    &name, err, "base_model.model.%.*s.lora_%c.weight", (int)n, m->base.v[t->weight].name, is_b ? 'B' : 'A'));
	DF_TRY(append(b, row, v, name, err));
out:
	return rc;
}

/* The adapters of a group: A.. B.. */
static int
add_adapters(struct df_model *m, struct table *b, struct df_group *g, struct df_err *err)
{
	int rc = DF_OK;

	g->a_off = b->p->numel;
	g->n_lora = g->u_cols = 0;
	for (size_t k = 0; k < g->n_parts; k++) {
		struct df_part *t = &g->part[k];

		if (t->a == DF_NO_ROW)
			continue;
		g->n_lora++;
		t->u_col = g->u_cols;
		DF_TRY(df_size_add(g->u_cols, t->rank, &g->u_cols, "the ranks of adapters", err));
		DF_TRY(add_adapter(m, b, &t->a, t, false, t->rank, g->in, err));
	}
	for (size_t k = 0; k < g->n_parts; k++) {
		struct df_part *t = &g->part[k];

		if (t->a != DF_NO_ROW)
			DF_TRY(add_adapter(m, b, &t->b, t, true, t->out, t->rank, err));
	}
	m->u_cols = g->u_cols > m->u_cols ? g->u_cols : m->u_cols;
out:
	return rc;
}

/* A row of base that is trainable. */
static int
add_base_row(struct df_model *m, struct table *b, size_t row, struct df_err *err)
{
	struct df_param v = m->base.v[row];
	char *name = NULL;
	int rc;

	b->layer = v.layer;
	/* PEFT's modules_to_save carry its prefix. */
	DF_TRY(df_asprintf(&name, err, "%s%s", m->lora ? "base_model.model." : "", v.name));
	DF_TRY(append(b, &m->train_row[row], v, name, err));
out:
	return rc;
}

static bool
holds_first(const struct df_model *m, const struct df_group *g)
{
	for (size_t k = 0; k < g->n_parts; k++) {
		const struct df_part *t = &g->part[k];

		if (m->train_row[t->weight] == 0 || t->a == 0 || (t->bias != DF_NO_ROW && m->train_row[t->bias] == 0))
			return true;
	}
	return false;
}

/* Row by row of base; the adapters of a group come after its last row. */
static int
walk(struct df_model *m, struct table *b, const bool *trains, struct df_err *err)
{
	size_t row = 0, end;
	int rc = DF_OK;

	for (size_t i = 0; i <= m->cfg.n_layers; i++) {
		struct df_group *g;

		for (size_t k = 0; i < m->cfg.n_layers && (g = df_layer_group(&m->layers[i], k)) != NULL; k++) {
			const struct df_part *last = &g->part[g->n_parts - 1];

			end = last->bias != DF_NO_ROW ? last->bias : last->weight;
			for (; row <= end; row++) {
				if (trains[row])
					DF_TRY(add_base_row(m, b, row, err));
			}
			b->layer = (int)i;
			DF_TRY(add_adapters(m, b, g, err));
		}
	}
	for (; row < m->base.n; row++) {
		if (trains[row])
			DF_TRY(add_base_row(m, b, row, err));
	}
out:
	return rc;
}

int
df_params_build_train(struct df_model *m, const bool *trains, struct df_err *err)
{
	struct table b = { .p = &m->train };
	struct df_group *g;
	int rc;

	df_params_release(&m->train);
	m->u_cols = 0;
	free(m->base_row);
	m->base_row = NULL;
	if (m->train_row == NULL)
		DF_TRY(df_alloc(&m->train_row, m->base.n, sizeof(*m->train_row), "the parameter table", err));
	for (size_t i = 0; i < m->base.n; i++)
		m->train_row[i] = DF_NO_ROW;
	DF_TRY(walk(m, &b, trains, err));
	DF_TRY(df_alloc(&m->base_row, m->train.n, sizeof(*m->base_row), "the parameter table", err));
	for (size_t i = 0; i < m->train.n; i++)
		m->base_row[i] = DF_NO_ROW;
	for (size_t i = 0; i < m->base.n; i++) {
		if (m->train_row[i] != DF_NO_ROW)
			m->base_row[m->train_row[i]] = i;
	}
	for (size_t i = 0; i < m->cfg.n_layers; i++) {
		for (size_t k = 0; (g = df_layer_group(&m->layers[i], k)) != NULL; k++)
			g->lowest = holds_first(m, g);
	}
	m->first_layer = 0;
	if (m->train.n > 0 && m->train.v[0].layer >= 0)
		m->first_layer = (size_t)m->train.v[0].layer;
	else if (m->train_row[m->embed] != 0) /* the norm or the head is the lowest */
		m->first_layer = m->cfg.n_layers;
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

	/* Each row is hashed together with the digest of the rows before it: the order counts. */
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

/*
 * work.c - taking in a batch, and the memory that it runs in.
 *
 * All activations are windows on one allocation.  They are laid out again for each batch, in
 * microseconds; the allocation only ever grows, so a steady state allocates nothing.
 */
#include "model/work.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

int
df_work_new(struct df_work **out, struct df_model *m, struct df_err *err)
{
	struct df_work *w = NULL;
	int rc;

	DF_TRY(df_alloc(&w, 1, sizeof(*w), "a workspace", err));
	w->m = m;
	DF_TRY(df_alloc(&w->act, m->cfg.n_layers, sizeof(*w->act), "a workspace", err));
	*out = w;
	w = NULL;
out:
	df_work_free(w);
	return rc;
}

void
df_work_free(struct df_work *w)
{
	if (w == NULL)
		return;
	df_tensor_free(w->m->be, &w->mem);
	df_tensor_free(w->m->be, &w->cos);
	df_tensor_free(w->m->be, &w->sin);
	free(w->act);
	free(w->target_seg);
	free(w->pos);
	free(w->row);
	free(w->target);
	free(w->scale);
	free(w->nll);
	free(w->weight);
	free(w->correct);
	free(w->order);
	free(w->index);
	free(w->sequences);
	free(w->moe.row);
	free(w->moe.slot);
	free(w->moe.token);
	free(w->moe.first);
	free(w->moe.seg);
	free(w->moe.expert);
	free(w);
}

void
df_work_weigh(struct df_work *w, df_weigh_fn *fn, void *ctx)
{
	w->weigh = fn;
	w->weigh_ctx = ctx;
}

/* ---- the batch ------------------------------------------------------------- */

static int
grow_host(struct df_work *w, size_t n, size_t n_tok, struct df_err *err)
{
	int rc = DF_OK;

	if (n > w->cap_n || w->target_seg == NULL) {
		free(w->target_seg);
		w->target_seg = NULL;
		w->cap_n = 0;
		DF_TRY(df_alloc(&w->target_seg, n + 1, sizeof(*w->target_seg), "a batch", err));
		w->cap_n = n;
	}
	if (n_tok > w->cap_tok) {
		struct {
			void *ptr;
			size_t size;
		} arrays[] = { { &w->pos, 4 }, { &w->row, 4 }, { &w->target, 4 }, { &w->scale, 4 }, { &w->nll, 4 },
			{ &w->weight, 4 }, { &w->correct, 1 }, { &w->order, 8 }, { &w->index, 4 },
			{ &w->sequences, 8 } };

		w->cap_tok = 0;
		for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++) {
			void *p = NULL;

			DF_TRY(df_alloc(&p, n_tok + 1, arrays[i].size, "a batch", err));
			free(*(void **)arrays[i].ptr);
			*(void **)arrays[i].ptr = p;
		}
		w->cap_tok = n_tok;
	}
out:
	return rc;
}

/* Memory for the row lists of experts: at most R = T k rows for every layer that keeps them. */
static int
grow_moe(struct df_work *w, struct df_err *err)
{
	const struct df_model_config *c = &w->m->cfg;
	size_t n, all;
	int rc = DF_OK;

	if (c->moe.n_experts == 0)
		return DF_OK;
	if (w->moe.first == NULL)
		DF_TRY(df_alloc(&w->moe.first, c->moe.n_experts + 1, sizeof(*w->moe.first), "a batch", err));
	if (w->n + 1 > w->moe.cap_n)
		DF_TRY(df_grow(&w->moe.seg, &w->moe.cap_n, w->n + 1, sizeof(*w->moe.seg), "a batch", err));
	DF_TRY(df_size_mul(w->n_tok, c->moe.top_k, &n, "a batch", err));
	DF_TRY(df_size_mul(n, c->n_layers, &all, "a batch", err));
	if (n > UINT32_MAX)
		return df_fail(err, DF_ERANGE, "a batch of %zu tokens for %zu experts each", w->n_tok, c->moe.top_k);
	if (n > w->moe.cap_rows) {
		uint32_t **arrays[] = { &w->moe.row, &w->moe.slot, &w->moe.token };

		w->moe.cap_rows = 0;
		for (int i = 0; i < 3; i++) {
			free(*arrays[i]);
			*arrays[i] = NULL;
			DF_TRY(df_alloc(arrays[i], n, sizeof(**arrays[i]), "a batch", err));
		}
		w->moe.cap_rows = n;
	}
	if (all > w->moe.cap_expert) {
		free(w->moe.expert);
		w->moe.expert = NULL;
		w->moe.cap_expert = 0;
		DF_TRY(df_alloc(&w->moe.expert, all, sizeof(*w->moe.expert), "a batch", err));
		w->moe.cap_expert = all;
	}
out:
	return rc;
}

/* The samples that attention sees: the batch's, or, with `sequence`, each run of equal numbers within one. */
static void
find_sequences(struct df_work *w, const uint32_t *sequence)
{
	size_t n = 0;

	w->attn_seg = w->seg;
	w->n_attn = w->n;
	if (sequence == NULL)
		return;
	for (size_t s = 0; s < w->n; s++) {
		for (size_t t = w->seg[s]; t < w->seg[s + 1]; t++) {
			if (t == w->seg[s] || sequence[t] != sequence[t - 1])
				w->sequences[n++] = t;
		}
	}
	w->sequences[n] = w->n_tok;
	w->attn_seg = w->sequences;
	w->n_attn = n;
}

int
df_work_check_offsets(const struct df_tokens *b, struct df_err *err)
{
	for (size_t s = 0; s < b->n; s++) {
		if (b->offsets[s + 1] < b->offsets[s] || b->offsets[0] != 0)
			return df_fail(err, DF_EFORMAT, "sample %zu of the batch: offsets decrease", s);
	}
	return DF_OK;
}

int
df_work_batch(struct df_work *w, const struct df_tokens *b, struct df_err *err)
{
	size_t rows = 0;
	int rc;

	DF_TRY(df_work_check_offsets(b, err));
	w->n = b->n;
	w->n_tok = b->n > 0 ? b->offsets[b->n] : 0;
	w->seg = b->offsets;
	w->ids = b->ids;
	w->key = b->key;
	if (w->n_tok > INT32_MAX)
		return df_fail(err, DF_ERANGE, "a batch of %zu tokens", w->n_tok);
	DF_TRY(grow_host(w, w->n, w->n_tok, err));
	DF_TRY(grow_moe(w, err));
	DF_TRY(df_work_rotate(w, b->position, err));
	find_sequences(w, b->sequence);
	w->target_seg[0] = 0;
	for (size_t s = 0; s < b->n; s++) {
		for (size_t t = b->offsets[s]; t < b->offsets[s + 1]; t++) {
			if (b->ids[t] >= w->m->cfg.n_vocab)
				return df_fail(err, DF_EFORMAT,
				    "sample %zu of the batch: token %u at %zu, the vocabulary has %zu", s, b->ids[t],
				    t - (size_t)b->offsets[s], w->m->cfg.n_vocab);
			if (b->mask != NULL && t > b->offsets[s] && b->mask[t]) { /* the row before predicts it */
				w->row[rows] = (uint32_t)(t - 1);
				w->target[rows++] = b->ids[b->mask[t] == DF_LABEL_LAST ? b->offsets[s + 1] - 1 : t];
			}
		}
		w->target_seg[s + 1] = rows;
	}
	w->n_rows = rows;
out:
	return rc;
}

void
df_work_all_rows(struct df_work *w)
{
	for (size_t t = 0; t < w->n_tok; t++)
		w->row[t] = (uint32_t)t;
	memcpy(w->target_seg, w->seg, (w->n + 1) * sizeof(*w->seg));
	w->n_rows = w->n_tok;
}

/* ---- layout ---------------------------------------------------------------- */

/* Takes windows from mem one after another; without mem it only measures. */
struct carver {
	struct df_tensor mem;
	size_t at;
	bool overflow;
};

static struct df_tensor
take(struct carver *c, size_t rows, size_t cols)
{
	struct df_tensor t = c->mem;
	size_t n;

	if (__builtin_mul_overflow(rows, cols, &n) || __builtin_add_overflow(n, 15, &n) ||
	    __builtin_add_overflow(c->at, n & ~(size_t)15, &n)) {
		c->overflow = true;
		return t;
	}
	if (!df_tensor_is_none(t))
		t = df_tensor_view(t, c->at, rows, cols);
	c->at = n;
	return t;
}

static size_t
max3(size_t a, size_t b, size_t c)
{
	a = a > b ? a : b;
	return a > c ? a : c;
}

/* LoRA's activations of a group over these rows, or NONE. */
static struct df_tensor
take_u(struct carver *c, const struct df_group *g, size_t rows)
{
	return g->n_lora > 0 ? take(c, rows, g->u_cols) : DF_TENSOR_NONE;
}

static void
carve_moe(const struct df_work *w, struct carver *c, size_t i, size_t m)
{
	const struct df_model_config *f = &w->m->cfg;
	const struct df_moe *moe = w->m->layers[i].moe;
	struct df_moe_act *a = &w->act[i].moe;
	size_t r = m * f->moe.top_k, n_in = 0, n_out = 0;

	for (size_t e = 0; e < moe->n_experts; e++) {
		n_in = moe->expert[e].gate_up.u_cols > n_in ? moe->expert[e].gate_up.u_cols : n_in;
		n_out = moe->expert[e].down.u_cols > n_out ? moe->expert[e].down.u_cols : n_out;
	}
	a->p = take(c, m, f->moe.n_experts);
	a->weight = take(c, m, f->moe.top_k);
	a->expert = w->moe.expert + i * w->n_tok * f->moe.top_k;
	a->gu = take(c, r, 2 * f->moe.d_expert);
	a->h = take(c, r, f->moe.d_expert);
	a->u_in = n_in > 0 ? take(c, r, n_in) : DF_TENSOR_NONE;
	a->u_out = n_out > 0 ? take(c, r, n_out) : DF_TENSOR_NONE;
	a->u_router = take_u(c, &moe->router, m);
	if (moe->shared_gate.n_parts == 0)
		return;
	a->s_gu = take(c, m, 2 * f->moe.d_shared);
	a->s_h = take(c, m, f->moe.d_shared);
	a->s_y = take(c, m, f->d_model);
	a->s_gate = take(c, m, 1);
	a->su_in = take_u(c, &moe->shared.gate_up, m);
	a->su_out = take_u(c, &moe->shared.down, m);
	a->su_gate = take_u(c, &moe->shared_gate, m);
}

/* Everything that layer i keeps except x_in; its second half runs over m rows. */
static void
carve_layer(const struct df_work *w, struct carver *c, size_t i, size_t m)
{
	const struct df_model_config *f = &w->m->cfg;
	const struct df_layer *l = &w->m->layers[i];
	struct df_act *a = &w->act[i];
	size_t t = w->n_tok, he = f->n_heads * f->d_head, ke = f->n_kv_heads * f->d_head;

	a->rstd1 = take(c, t, 1);
	a->x1 = take(c, t, f->d_model);
	a->qkv = take(c, t, he + 2 * ke);
	a->u[DF_GROUP_QKV] = take_u(c, &l->group[DF_GROUP_QKV], t);
	if (f->qk_norm) {
		a->qk = take(c, t, he + ke);
		a->rstd_q = take(c, t, f->n_heads);
		a->rstd_k = take(c, t, f->n_kv_heads);
	}
	a->o = take(c, t, he);
	a->lse = take(c, t, f->n_heads);
	a->o_in = i + 1 == f->n_layers ? take(c, m, he) : a->o;
	a->u[DF_GROUP_O] = take_u(c, &l->group[DF_GROUP_O], m);
	a->x_mid = take(c, m, f->d_model);
	a->rstd2 = take(c, m, 1);
	a->x2 = take(c, m, f->d_model);
	if (l->moe != NULL) {
		carve_moe(w, c, i, m);
		return;
	}
	a->gu = take(c, m, 2 * f->d_ff);
	a->h = take(c, m, f->d_ff);
	a->u[DF_GROUP_GATE_UP] = take_u(c, &l->group[DF_GROUP_GATE_UP], m);
	a->u[DF_GROUP_DOWN] = take_u(c, &l->group[DF_GROUP_DOWN], m);
}

/*
 * The layers.  A layer that a backward reaches has memory of its own, or, with checkpointing, an input
 * of its own; all others share one.
 */
static void
carve_layers(const struct df_work *w, struct carver *c, enum df_work_mode mode)
{
	const struct df_model_config *f = &w->m->cfg;
	const size_t kept = mode == DF_WORK_LOSS ? f->n_layers : w->m->first_layer;
	const struct df_tensor below = kept > 0 ? take(c, w->n_tok, f->d_model) : DF_TENSOR_NONE;
	size_t start, end;

	for (size_t i = 0; i < f->n_layers; i++) {
		if (i < kept)
			w->act[i].x_in = below;
		else if (w->m->checkpointing)
			w->act[i].x_in = take(c, w->n_tok, f->d_model);
	}
	start = end = c->at;
	for (size_t i = 0; i < f->n_layers; i++) {
		const bool shares = i < kept || w->m->checkpointing;

		c->at = shares ? start : end;
		if (!shares)
			w->act[i].x_in = take(c, w->n_tok, f->d_model);
		carve_layer(w, c, i, i + 1 == f->n_layers ? w->n_rows : w->n_tok);
		end = c->at > end ? c->at : end;
	}
	c->at = end;
}

/* The additional scratch of moe.c, for one layer at a time. */
static void
carve_moe_scratch(struct df_work *w, struct carver *c, enum df_work_mode mode)
{
	const struct df_model_config *f = &w->m->cfg;
	const struct df_layer *last = &w->m->layers[f->n_layers - 1];
	const size_t t = w->n_tok, r = t * f->moe.top_k;

	w->ms.x = take(c, r, f->d_model);
	w->ms.hs = take(c, r, f->moe.d_expert);
	w->ms.weight = take(c, r, 1);
	w->ms.wide = take(c, t, f->d_model);
	if (w->gate_load != NULL && last->moe != NULL) {
		w->ms.x_mid = take(c, t, f->d_model);
		w->ms.x2 = take(c, t, f->d_model);
		w->ms.rstd = take(c, t, 1);
		w->ms.p = take(c, t, f->moe.n_experts);
		w->ms.top = take(c, t, f->moe.top_k);
		w->ms.u = take(c, t, last->group[DF_GROUP_O].u_cols + last->moe->router.u_cols);
	}
	if (mode == DF_WORK_LOSS)
		return;
	w->ms.dy = take(c, r, f->d_model);
	w->ms.dhs = take(c, r, f->moe.d_expert);
	w->ms.dweight = take(c, r, 1);
	w->ms.dslot = take(c, r, 1);
	if (f->moe.d_shared > 0)
		w->ms.sh = take(c, t, f->moe.d_shared);
}

/* In pieces, since sums are defined by them; as many as the backend's block has room for, but at least one. */
size_t
df_work_block_rows(const struct df_work *w, const struct df_param *p)
{
	const size_t rows = df_grad_piece_rows(p->cols), floats = df_backend_block_bytes(w->m->be) / sizeof(float);
	const size_t pieces = w->n > 0 ? floats / (rows * p->cols) / w->n : 0;

	return pieces > 0 ? pieces * rows : rows;
}

/* Most coordinates in a block of any trainable parameter. */
static size_t
largest_block(const struct df_work *w)
{
	const struct df_params *p = &w->m->train;
	size_t most = 0;

	for (size_t i = 0; i < p->n; i++) {
		size_t rows = df_work_block_rows(w, &p->v[i]), n;

		n = (rows < p->v[i].rows ? rows : p->v[i].rows) * p->v[i].cols;
		most = n > most ? n : most;
	}
	return most;
}

static void
carve(struct df_work *w, struct carver *c, enum df_work_mode mode)
{
	const struct df_model_config *f = &w->m->cfg;
	size_t t = w->n_tok, l = w->n_rows, he = f->n_heads * f->d_head;
	size_t ff = max3(f->d_ff, f->moe.d_expert, f->moe.d_shared);

	carve_layers(w, c, mode);
	if (f->moe.n_experts > 0)
		carve_moe_scratch(w, c, mode);
	w->x_last = take(c, l, f->d_model);
	w->rstd_f = take(c, l, 1);
	w->h_f = take(c, l, f->d_model);
	w->drop = DF_TENSOR_NONE;
	if (w->m->lora_dropout > 0 && w->key != NULL)
		w->drop = take(c, t, max3(f->d_model, ff, he));
	if (mode == DF_WORK_LOSS)
		return;
	w->d = take(c, t, f->d_model);
	w->d_rows = take(c, l, f->d_model);
	w->s1 = take(c, t, max3(f->d_model, ff, he));
	w->s2 = take(c, t, he + 2 * f->n_kv_heads * f->d_head);
	w->v = w->dlogits = w->block = DF_TENSOR_NONE;
	if (w->m->lora)
		w->v = take(c, t, w->m->u_cols);
	if (mode == DF_WORK_SAMPLE_GRADS) {
		if (df_row_trains(w->m, w->m->lm_head))
			w->dlogits = take(c, l, f->n_vocab);
		w->block = take(c, w->n, largest_block(w));
	}
}

int
df_work_layout(struct df_work *w, enum df_work_mode mode, struct df_err *err)
{
	struct carver c = { .at = 0 };
	size_t bytes;
	int rc;

	carve(w, &c, mode);
	if (c.overflow)
		return df_fail(err, DF_ERANGE, "the activations of %zu tokens are too large to address", w->n_tok);
	DF_TRY(df_size_mul(c.at, sizeof(float), &bytes, "the activations", err));
	if (c.at > w->mem.cols) {
		df_tensor_free(w->m->be, &w->mem);
		DF_TRY(df_tensor_alloc(
		    w->m->be, &w->mem, DF_F32, 1, c.at, "the activations; smaller batches need less", err));
	}
	c = (struct carver){ .mem = w->mem };
	carve(w, &c, mode);
out:
	return rc;
}

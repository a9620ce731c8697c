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

#define LOGITS_MAX ((size_t)256 << 20) /* bytes of logits that a weighed pass keeps for its backward */

int
df_work_new(struct df_work **out, struct df_model *m, struct df_err *err)
{
	struct df_work *w = NULL;
	int rc;

	DF_TRY(df_alloc(&w, 1, sizeof(*w), "a workspace", err));
	w->m = m;
	w->weights = m->w;
	w->act_type = m->act;
	DF_TRY(df_backend_fork(m->be, &w->be, err));
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
	df_tensor_free(w->be, &w->mem);
	df_tensor_free(w->be, &w->hidden);
	df_tensor_free(w->be, &w->cos);
	df_tensor_free(w->be, &w->sin);
	df_stage_free(w->be, &w->stage);
	df_backend_join(w->be);
	free(w->act);
	free(w->order);
	free(w->list);
	free(w);
}

struct df_backend *
df_work_backend(const struct df_work *w)
{
	return w->be;
}

void
df_work_weigh(struct df_work *w, df_weigh_fn *fn, void *ctx)
{
	w->weigh = fn;
	w->weigh_ctx = ctx;
}

void
df_work_on_ready(struct df_work *w, df_ready_fn *fn, void *ctx)
{
	w->ready = fn;
	w->ready_ctx = ctx;
}

void
df_work_weights(struct df_work *w, const struct df_weight_source *source)
{
	w->source = source;
	w->weights = source != NULL ? source->w : w->m->w;
}

int
df_work_hold(struct df_work *w, size_t layer, struct df_err *err)
{
	return w->source != NULL ? w->source->hold(w->source->ctx, layer, err) : DF_OK;
}

void
df_work_drop(struct df_work *w, size_t layer)
{
	if (w->source != NULL)
		w->source->drop(w->source->ctx, layer);
}

/* ---- memory ---------------------------------------------------------------- */

/* Takes windows from mem, bytes, one after another; without mem it only measures. */
struct carver {
	struct df_tensor mem;
	size_t at;
	bool overflow;
	enum df_dtype act_type; /* of activations */
};

static struct df_tensor
take(struct carver *c, enum df_dtype type, size_t rows, size_t cols)
{
	struct df_tensor t = c->mem;
	size_t n;

	if (__builtin_mul_overflow(rows, cols, &n) || __builtin_mul_overflow(n, df_dtype_size(type), &n) ||
	    __builtin_add_overflow(n, 63, &n) || __builtin_add_overflow(c->at, n & ~(size_t)63, &n)) {
		c->overflow = true;
		return t;
	}
	if (!df_tensor_is_none(t))
		t = df_tensor_as(df_tensor_view(t, c->at, 1, 1), type, rows, cols);
	c->at = n;
	return t;
}

/* Activations; the small numbers beside them (roots, sums, probabilities) are f32 whatever the type of these. */
static struct df_tensor
take_act(struct carver *c, size_t rows, size_t cols)
{
	return take(c, c->act_type, rows, cols);
}

/* ---- the batch ------------------------------------------------------------- */

/* The host's side of n numbers in the stage; *dev is the device's.  NULL while it is only measured. */
static void *
take_both(const struct df_work *w, struct carver *c, enum df_dtype type, size_t n, struct df_tensor *dev)
{
	*dev = take(c, type, 1, n);
	return df_tensor_is_none(*dev) ? NULL : df_stage_host(w->stage, dev->off * df_dtype_size(type));
}

static struct df_indices
take_indices(const struct df_work *w, struct carver *c, size_t n)
{
	struct df_indices x;

	x.host = take_both(w, c, DF_U32, n, &x.dev);
	return x;
}

/* First what the host knows before the forward: it is pushed at once.  n_tok and R have been checked to be 32-bit. */
static void
carve_stage(struct df_work *w, struct carver *c)
{
	const struct df_model_config *f = &w->m->cfg;
	const size_t t = w->n_tok, r = t * f->moe.top_k;
	struct df_tensor host_only;

	w->ids = take_indices(w, c, t);
	w->pos = take_indices(w, c, t);
	w->seg = take_indices(w, c, w->n + 1);
	w->target_seg = take_indices(w, c, w->n + 1);
	w->sequences = take_indices(w, c, t + 1);
	w->row = take_indices(w, c, t);
	w->target = take_both(w, c, DF_U32, t, &w->dev.target);
	w->key = take_indices(w, c, w->has_keys ? 2 * w->n : 0);
	w->n_push = c->at;
	w->scale = take_both(w, c, DF_F32, t, &w->dev.scale);
	w->nll = take_both(w, c, DF_F32, t, &w->dev.nll);
	w->correct = take_both(w, c, DF_U8, t, &w->dev.correct);
	w->dev.lse = take(c, DF_F32, 1, t);
	w->weight = take_both(w, c, DF_F32, t, &host_only);
	w->pick = take_indices(w, c, t);
	w->index = take_indices(w, c, t);
	if (f->moe.n_experts == 0)
		return;
	w->moe.row = take(c, DF_U32, 1, r);
	w->moe.slot = take(c, DF_U32, 1, r);
	/* The last two come back to the host together. */
	w->moe.row_token = take(c, DF_U32, 1, r);
	w->moe.first = take_indices(w, c, f->moe.n_experts + 1);
	w->moe.seg = take_indices(w, c, f->moe.n_experts * (w->n + 1));
}

/* Lay out the stage for n samples of n_tok tokens. */
static int
open_stage(struct df_work *w, struct df_err *err)
{
	struct carver c = { .at = 0 };
	size_t r;
	int rc;

	if (w->n_tok > INT32_MAX)
		return df_fail(err, DF_ERANGE, "a batch of %zu tokens", w->n_tok);
	if (__builtin_mul_overflow(w->n_tok, w->m->cfg.moe.top_k, &r) || r > UINT32_MAX)
		return df_fail(
		    err, DF_ERANGE, "a batch of %zu tokens for %zu experts each", w->n_tok, w->m->cfg.moe.top_k);
	carve_stage(w, &c);
	if (w->list == NULL && w->m->cfg.moe.n_experts > 0)
		DF_TRY(df_alloc(&w->list, w->m->cfg.moe.n_experts, sizeof(*w->list), "a batch", err));
	DF_TRY(df_stage_reuse(w->be, &w->stage, c.at, "a batch", err));
	c = (struct carver){ .mem = df_stage_view(w->stage, DF_U8, 0, 1, c.at) };
	carve_stage(w, &c);
out:
	return rc;
}

int
df_work_push(struct df_work *w, struct df_err *err)
{
	return df_stage_push(w->stage, 0, w->n_push, err);
}

int
df_work_push_part(struct df_work *w, struct df_tensor part, struct df_err *err)
{
	const size_t size = df_dtype_size(part.type);

	return df_stage_push(w->stage, part.off * size, part.cols * size, err);
}

/* L rows have been found. */
static void
set_rows(struct df_work *w, size_t n)
{
	struct df_tensor *const per_row[] = { &w->row.dev, &w->dev.target, &w->dev.scale, &w->dev.nll, &w->dev.correct,
		&w->dev.lse };

	w->n_rows = n;
	for (size_t i = 0; i < sizeof(per_row) / sizeof(per_row[0]); i++)
		per_row[i]->cols = n;
}

/* The samples that attention sees: the batch's, or, with `sequence`, each run of equal numbers within one. */
static void
find_sequences(struct df_work *w, const uint32_t *sequence)
{
	size_t n = 0;

	w->attn_seg = w->seg;
	if (sequence == NULL)
		return;
	for (size_t s = 0; s < w->n; s++) {
		for (uint32_t t = w->seg.host[s]; t < w->seg.host[s + 1]; t++) {
			if (t == w->seg.host[s] || sequence[t] != sequence[t - 1])
				w->sequences.host[n++] = t;
		}
	}
	w->sequences.host[n] = (uint32_t)w->n_tok;
	w->attn_seg = df_indices_part(w->sequences, 0, n + 1);
}

/* As a device takes them: the low and the high half of each. */
static void
take_keys(struct df_work *w, const uint64_t *key)
{
	uint32_t *half = w->key.host;

	for (size_t s = 0; s < w->n && key != NULL; s++) {
		half[2 * s] = (uint32_t)key[s];
		half[2 * s + 1] = (uint32_t)(key[s] >> 32);
	}
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
	uint32_t rows = 0;
	int rc;

	DF_TRY(df_work_check_offsets(b, err));
	w->n = b->n;
	w->n_tok = b->n > 0 ? b->offsets[b->n] : 0;
	w->has_keys = b->key != NULL;
	DF_TRY(open_stage(w, err));
	w->head.has_lse = w->head.kept = w->head.fetched = w->head.weighed = false;
	w->seg.host[0] = w->target_seg.host[0] = 0;
	take_keys(w, b->key);
	for (size_t s = 0; s < b->n; s++) {
		w->seg.host[s + 1] = (uint32_t)b->offsets[s + 1];
		for (uint32_t t = w->seg.host[s]; t < w->seg.host[s + 1]; t++) {
			if (b->ids[t] >= w->m->cfg.n_vocab)
				return df_fail(err, DF_EFORMAT,
				    "sample %zu of the batch: token %u at %u, the vocabulary has %zu", s, b->ids[t],
				    t - w->seg.host[s], w->m->cfg.n_vocab);
			w->ids.host[t] = b->ids[t];
			if (b->mask != NULL && t > w->seg.host[s] && b->mask[t]) { /* the row before predicts it */
				w->row.host[rows] = t - 1;
				w->target[rows++] = b->ids[b->mask[t] == DF_LABEL_LAST ? b->offsets[s + 1] - 1 : t];
			}
		}
		w->target_seg.host[s + 1] = rows;
	}
	set_rows(w, rows);
	find_sequences(w, b->sequence);
	rc = df_work_rotate(w, b->position, err);
out:
	return rc;
}

void
df_work_all_rows(struct df_work *w)
{
	for (uint32_t t = 0; t < w->n_tok; t++)
		w->row.host[t] = t;
	memcpy(w->target_seg.host, w->seg.host, (w->n + 1) * sizeof(*w->seg.host));
	set_rows(w, w->n_tok);
}

void
df_work_last_rows(struct df_work *w, int64_t pad)
{
	for (uint32_t s = 0; s < w->n; s++) {
		uint32_t t = w->seg.host[s + 1] - 1;

		while (t > w->seg.host[s] && (int64_t)w->ids.host[t] == pad)
			t--;
		w->row.host[s] = t;
		w->target_seg.host[s + 1] = s + 1;
	}
	set_rows(w, w->n);
}

/* ---- activations ------------------------------------------------------------ */

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
	return g->n_lora > 0 ? take_act(c, rows, g->u_cols) : DF_TENSOR_NONE;
}

static void
carve_moe(const struct df_work *w, struct carver *c, size_t i, size_t m)
{
	const struct df_model_config *f = &w->m->cfg;
	const struct df_moe *moe = w->m->layers[i].moe;
	struct df_moe_act *a = &w->act[i].moe;
	size_t r = m * f->moe.top_k, n_in = 0, n_out = 0;

	for (size_t e = 0; e < moe->n_experts; e++) {
		n_in = moe->gate_up[e].u_cols > n_in ? moe->gate_up[e].u_cols : n_in;
		n_out = moe->down[e].u_cols > n_out ? moe->down[e].u_cols : n_out;
	}
	a->p = take(c, DF_F32, m, f->moe.n_experts);
	a->weight = take(c, DF_F32, m, f->moe.top_k);
	a->expert = take(c, DF_U32, m, f->moe.top_k);
	a->gu = take_act(c, r, 2 * f->moe.d_expert);
	a->h = take_act(c, r, f->moe.d_expert);
	a->u_in = n_in > 0 ? take_act(c, r, n_in) : DF_TENSOR_NONE;
	a->u_out = n_out > 0 ? take_act(c, r, n_out) : DF_TENSOR_NONE;
	a->u_router = take_u(c, &moe->router, m);
	if (moe->shared_gate.n_parts == 0)
		return;
	a->s_gu = take_act(c, m, 2 * f->moe.d_shared);
	a->s_h = take_act(c, m, f->moe.d_shared);
	a->s_y = take_act(c, m, f->d_model);
	a->s_gate = take(c, DF_F32, m, 1);
	a->su_in = take_u(c, &moe->shared_gate_up, m);
	a->su_out = take_u(c, &moe->shared_down, m);
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

	a->rstd1 = take(c, DF_F32, t, 1);
	a->x1 = take_act(c, t, f->d_model);
	a->qkv = take_act(c, t, he + 2 * ke);
	a->u[DF_GROUP_QKV] = take_u(c, &l->group[DF_GROUP_QKV], t);
	if (f->qk_norm) {
		a->qk = take_act(c, t, he + ke);
		a->rstd_q = take(c, DF_F32, t, f->n_heads);
		a->rstd_k = take(c, DF_F32, t, f->n_kv_heads);
	}
	a->o = take_act(c, t, he);
	a->lse = take(c, DF_F32, t, f->n_heads);
	a->o_in = i + 1 == f->n_layers ? take_act(c, m, he) : a->o;
	a->u[DF_GROUP_O] = take_u(c, &l->group[DF_GROUP_O], m);
	a->x_mid = take_act(c, m, f->d_model);
	a->rstd2 = take(c, DF_F32, m, 1);
	a->x2 = take_act(c, m, f->d_model);
	if (l->moe != NULL) {
		carve_moe(w, c, i, m);
		return;
	}
	a->gu = take_act(c, m, 2 * f->d_ff);
	a->h = take_act(c, m, f->d_ff);
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
	const struct df_tensor below = kept > 0 ? take_act(c, w->n_tok, f->d_model) : DF_TENSOR_NONE;
	size_t start, end;

	for (size_t i = 0; i < f->n_layers; i++) {
		if (i < kept)
			w->act[i].x_in = below;
		else if (w->m->checkpointing)
			w->act[i].x_in = take_act(c, w->n_tok, f->d_model);
	}
	start = end = c->at;
	for (size_t i = 0; i < f->n_layers; i++) {
		const bool shares = i < kept || w->m->checkpointing;

		c->at = shares ? start : end;
		if (!shares)
			w->act[i].x_in = take_act(c, w->n_tok, f->d_model);
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

	w->ms.x = take_act(c, r, f->d_model);
	w->ms.hs = take_act(c, r, f->moe.d_expert);
	w->ms.weight = take(c, DF_F32, r, 1);
	w->ms.wide = take_act(c, t, f->d_model);
	if (w->gate_load != NULL && last->moe != NULL) {
		w->ms.x_mid = take_act(c, t, f->d_model);
		w->ms.x2 = take_act(c, t, f->d_model);
		w->ms.rstd = take(c, DF_F32, t, 1);
		w->ms.p = take(c, DF_F32, t, f->moe.n_experts);
		w->ms.top = take(c, DF_F32, t, f->moe.top_k);
		w->ms.chosen = take(c, DF_U32, t, f->moe.top_k);
		w->ms.u = take_act(c, t, last->group[DF_GROUP_O].u_cols + last->moe->router.u_cols);
	}
	if (mode == DF_WORK_LOSS)
		return;
	w->ms.dy = take_act(c, r, f->d_model);
	w->ms.dhs = take_act(c, r, f->moe.d_expert);
	w->ms.dweight = take(c, DF_F32, r, 1);
	w->ms.dslot = take(c, DF_F32, r, 1);
	if (w->m->lora) {
		w->ms.v_in = take_act(c, r, w->m->u_cols);
		w->ms.v_out = take_act(c, r, w->m->u_cols);
	}
	if (f->moe.d_shared > 0)
		w->ms.sh = take_act(c, t, f->moe.d_shared);
}

/* In pieces, since sums are defined by them; as many as the backend's block has room for, but at least one. */
size_t
df_work_block_rows(const struct df_work *w, const struct df_param *p)
{
	const size_t rows = df_grad_piece_rows(p->cols), floats = df_backend_traits(w->be).block_bytes / sizeof(float);
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

/* Is there memory for the logits of all targets, from the forward to the backward? */
static bool
keeps_logits(const struct df_work *w)
{
	return df_backend_traits(w->be).keeps_logits && w->n_rows <= LOGITS_MAX / sizeof(float) / w->m->cfg.n_vocab;
}

static void
carve(struct df_work *w, struct carver *c, enum df_work_mode mode)
{
	const struct df_model_config *f = &w->m->cfg;
	size_t t = w->n_tok, l = w->n_rows, he = f->n_heads * f->d_head;
	size_t ff = max3(f->d_ff, f->moe.d_expert, f->moe.d_shared);

	w->logits = DF_TENSOR_NONE;
	carve_layers(w, c, mode);
	if (f->moe.n_experts > 0)
		carve_moe_scratch(w, c, mode);
	w->x_last = take_act(c, l, f->d_model);
	w->rstd_f = take(c, DF_F32, l, 1);
	w->h_f = take_act(c, l, f->d_model);
	w->drop = DF_TENSOR_NONE;
	if (w->m->lora_dropout > 0 && w->has_keys)
		w->drop = take_act(c, f->moe.n_experts > 0 ? t * f->moe.top_k : t, max3(f->d_model, ff, he));
	if (mode == DF_WORK_LOSS)
		return;
	w->d = take_act(c, t, f->d_model);
	w->d_rows = take_act(c, l, f->d_model);
	w->s1 = take_act(c, t, max3(f->d_model, ff, he));
	w->s2 = take_act(c, t, he + 2 * f->n_kv_heads * f->d_head);
	w->v = w->dlogits = w->block = DF_TENSOR_NONE;
	if (w->m->lora)
		w->v = take_act(c, t, w->m->u_cols);
	if (mode == DF_WORK_WEIGHED_GRAD && keeps_logits(w))
		w->logits = take(c, DF_F32, l, f->n_vocab);
	if (mode == DF_WORK_SAMPLE_GRADS) {
		if (df_row_trains(w->m, w->m->lm_head))
			w->dlogits = take_act(c, l, f->n_vocab);
		w->block = take(c, DF_F32, w->n, largest_block(w));
	}
}

int
df_work_layout(struct df_work *w, enum df_work_mode mode, struct df_err *err)
{
	struct carver c = { .act_type = w->act_type };
	int rc = DF_OK;

	carve(w, &c, mode);
	if (c.overflow)
		return df_fail(err, DF_ERANGE, "the activations of %zu tokens are too large to address", w->n_tok);
	if (c.at > w->mem.cols) {
		df_tensor_free(w->be, &w->mem);
		DF_TRY(
		    df_tensor_alloc(w->be, &w->mem, DF_U8, 1, c.at, "the activations; smaller batches need less", err));
	}
	c = (struct carver){ .mem = w->mem, .act_type = w->act_type };
	carve(w, &c, mode);
out:
	return rc;
}

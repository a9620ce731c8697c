/*
 * work.c - a batch taken in, and the memory that it runs through.
 *
 * All activations are windows on one allocation, laid out anew for each batch
 * in microseconds; it only ever grows, so a steady state allocates nothing.
 */
#include "model/work.h"

#include <math.h>
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
	free(w->correct);
	free(w->order);
	free(w->index);
	free(w);
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
			{ &w->correct, 1 }, { &w->order, 8 }, { &w->index, 4 } };

		w->cap_tok = 0;
		for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++) {
			void *p = NULL;

			DF_TRY(df_alloc(&p, n_tok, arrays[i].size, "a batch", err));
			free(*(void **)arrays[i].ptr);
			*(void **)arrays[i].ptr = p;
		}
		w->cap_tok = n_tok;
	}
out:
	return rc;
}

/* The rotation of position p and pair k: p * theta^(-2k/E), in the float32 steps that transformers takes. */
static int
grow_rope(struct df_work *w, size_t n_pos, struct df_err *err)
{
	struct df_backend *be = w->m->be;
	size_t half = w->m->cfg.d_head / 2, n;
	float *c = NULL, *s = NULL;
	int rc = DF_OK;

	if (n_pos <= w->n_pos)
		return DF_OK;
	n_pos = n_pos + n_pos / 2;
	DF_TRY(df_size_mul(n_pos, half, &n, "the rotary table", err));
	DF_TRY(df_alloc(&c, n, sizeof(*c), "the rotary table", err));
	DF_TRY(df_alloc(&s, n, sizeof(*s), "the rotary table", err));
	for (size_t k = 0; k < half; k++) {
		float exponent = (float)(2 * k) / (float)w->m->cfg.d_head;
		float inv = 1.0f / (float)pow(w->m->cfg.rope.theta, (double)exponent);

		for (size_t p = 0; p < n_pos; p++) {
			float angle = (float)p * inv;

			c[p * half + k] = (float)cos((double)angle);
			s[p * half + k] = (float)sin((double)angle);
		}
	}
	w->n_pos = 0;
	df_tensor_free(be, &w->cos);
	df_tensor_free(be, &w->sin);
	DF_TRY(df_tensor_alloc(be, &w->cos, DF_F32, n_pos, half, "the rotary table", err));
	DF_TRY(df_tensor_alloc(be, &w->sin, DF_F32, n_pos, half, "the rotary table", err));
	DF_TRY(df_upload(be, w->cos, c, err));
	DF_TRY(df_upload(be, w->sin, s, err));
	w->n_pos = n_pos;
out:
	free(c);
	free(s);
	return rc;
}

int
df_work_batch(struct df_work *w, const struct df_tokens *b, struct df_err *err)
{
	size_t longest = 0, rows = 0;
	int rc;

	for (size_t s = 0; s < b->n; s++) {
		if (b->offsets[s + 1] < b->offsets[s] || b->offsets[0] != 0)
			return df_fail(err, DF_EFORMAT, "sample %zu of the batch: offsets decrease", s);
		if (b->offsets[s + 1] - b->offsets[s] > longest)
			longest = b->offsets[s + 1] - b->offsets[s];
		for (size_t t = b->offsets[s]; b->position != NULL && t < b->offsets[s + 1]; t++)
			longest = b->position[t] >= longest ? (size_t)b->position[t] + 1 : longest;
	}
	w->n = b->n;
	w->n_tok = b->n > 0 ? b->offsets[b->n] : 0;
	w->seg = b->offsets;
	w->ids = b->ids;
	w->key = b->key;
	if (w->n_tok > INT32_MAX)
		return df_fail(err, DF_ERANGE, "a batch of %zu tokens", w->n_tok);
	DF_TRY(grow_host(w, w->n, w->n_tok, err));
	if (w->m->cfg.arch != DF_ARCH_BERT)
		DF_TRY(grow_rope(w, longest, err));
	w->target_seg[0] = 0;
	for (size_t s = 0; s < b->n; s++) {
		for (size_t t = b->offsets[s]; t < b->offsets[s + 1]; t++) {
			if (b->ids[t] >= w->m->cfg.n_vocab)
				return df_fail(err, DF_EFORMAT,
				    "sample %zu of the batch: token %u at %zu, the vocabulary has %zu", s, b->ids[t],
				    t - (size_t)b->offsets[s], w->m->cfg.n_vocab);
			w->pos[t] = b->position != NULL ? b->position[t] : (uint32_t)(t - b->offsets[s]);
			if (b->mask != NULL && t > b->offsets[s] && b->mask[t]) { /* predicted from the row before */
				w->row[rows] = (uint32_t)(t - 1);
				w->target[rows++] = b->ids[t];
			}
		}
		w->target_seg[s + 1] = rows;
	}
	w->n_rows = rows;
out:
	return rc;
}

int
df_work_all_rows(struct df_work *w, struct df_err *err)
{
	(void)err;
	for (size_t t = 0; t < w->n_tok; t++)
		w->row[t] = (uint32_t)t;
	memcpy(w->target_seg, w->seg, (w->n + 1) * sizeof(*w->seg));
	w->n_rows = w->n_tok;
	return DF_OK;
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

	if (__builtin_mul_overflow(rows, cols, &n) || __builtin_add_overflow(c->at, (n + 15) & ~(size_t)15, &n)) {
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

/* The first `rows` rows of a window. */
static struct df_tensor
cut(struct df_tensor t, size_t rows)
{
	return df_tensor_rows(t, 0, rows);
}

static void
carve_layer(const struct df_work *w, struct carver *c, struct df_act *a, size_t m)
{
	const struct df_model_config *f = &w->m->cfg;
	size_t t = w->n_tok, he = f->n_heads * f->d_head;

	a->x_in = take(c, t, f->d_model);
	a->rstd1 = take(c, t, 1);
	a->x1 = take(c, t, f->d_model);
	a->qkv = take(c, t, he + 2 * f->n_kv_heads * f->d_head);
	a->o = take(c, t, he);
	a->lse = take(c, t, f->n_heads);
	a->o_in = a->o;
	a->x_mid = take(c, m, f->d_model);
	a->rstd2 = take(c, m, 1);
	a->x2 = take(c, m, f->d_model);
	a->gu = take(c, m, 2 * f->d_ff);
	a->h = take(c, m, f->d_ff);
	for (int id = 0; id < DF_GROUPS; id++) {
		size_t n_lora = w->m->layers[0].group[id].n_lora;

		if (w->m->lora && n_lora > 0)
			a->u[id] = take(c, id == DF_GROUP_QKV ? t : m, n_lora * w->m->rank);
	}
}

/* The last layer's second half runs over L rows of the same windows. */
static void
cut_layer(const struct df_work *w, struct df_act *a)
{
	size_t l = w->n_rows;

	a->x_mid = cut(a->x_mid, l);
	a->rstd2 = cut(a->rstd2, l);
	a->x2 = cut(a->x2, l);
	a->gu = cut(a->gu, l);
	a->h = cut(a->h, l);
	for (int id = DF_GROUP_O; id < DF_GROUPS; id++)
		a->u[id] = cut(a->u[id], l);
}

/* Most coordinates in a piece of any trainable parameter. */
static size_t
largest_piece(const struct df_params *p)
{
	size_t most = 0;

	for (size_t i = 0; i < p->n; i++) {
		size_t rows = df_grad_piece_rows(p->v[i].cols), n;

		n = (rows < p->v[i].rows ? rows : p->v[i].rows) * p->v[i].cols;
		most = n > most ? n : most;
	}
	return most;
}

static void
carve(struct df_work *w, struct carver *c, enum df_work_mode mode)
{
	const struct df_model_config *f = &w->m->cfg;
	size_t t = w->n_tok, l = w->n_rows, he = f->n_heads * f->d_head, last = f->n_layers - 1;

	if (mode == DF_WORK_LOSS) {
		carve_layer(w, c, &w->act[0], t);
		for (size_t i = 1; i <= last; i++)
			w->act[i] = w->act[0];
		cut_layer(w, &w->act[last]);
	} else {
		for (size_t i = 0; i <= last; i++)
			carve_layer(w, c, &w->act[i], i == last ? l : t);
	}
	w->act[last].o_in = take(c, l, he);
	w->x_last = take(c, l, f->d_model);
	w->rstd_f = take(c, l, 1);
	w->h_f = take(c, l, f->d_model);
	w->drop = DF_TENSOR_NONE;
	if (w->m->lora_dropout > 0 && w->key != NULL)
		w->drop = take(c, t, max3(f->d_model, f->d_ff, he));
	if (mode == DF_WORK_LOSS)
		return;
	w->d = take(c, t, f->d_model);
	w->d_rows = take(c, l, f->d_model);
	w->s1 = take(c, t, max3(f->d_model, f->d_ff, he));
	w->s2 = take(c, t, he + 2 * f->n_kv_heads * f->d_head);
	w->v = w->dlogits = w->block = DF_TENSOR_NONE;
	if (w->m->lora)
		w->v = take(c, t, DF_GROUP_PARTS * w->m->rank);
	if (mode == DF_WORK_SAMPLE_GRADS) {
		if (df_row_trains(w->m, w->m->lm_head))
			w->dlogits = take(c, l, f->n_vocab);
		w->block = take(c, w->n, largest_piece(&w->m->train));
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

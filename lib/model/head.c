/*
 * head.c - the end of a pass: losses of the targets, their weights, and the head's own backward.
 *
 * The numbers of a target row (its token, factor, loss) lie in one stage.  Losses stay on the device until someone
 * asks for them; there is one download for a batch.  Where targets have weights, these depend on the losses: then the
 * losses come first, and the backward computes the logits once more.  Otherwise one operation does both.
 */
#include <math.h>

#include "model/work.h"

/* The stage's parts, each of cap rows: scale f32, target u32 (host to device), nll f32, correct u8 (back), lse f32. */
static size_t
part(const struct df_work *w, int i)
{
	return w->head.cap * sizeof(float) * (size_t)i;
}

int
df_head_take(struct df_work *w, size_t n_rows, struct df_err *err)
{
	size_t cap, bytes;
	int rc = DF_OK;

	w->head.has_lse = w->head.fetched = w->head.weighed = false;
	/* What is still under way belongs to an earlier batch, whose results nobody wanted. */
	if (w->head.stage != NULL)
		DF_TRY(df_stage_wait(w->head.stage, err));
	if (w->head.stage != NULL && n_rows <= w->head.cap)
		goto out;
	df_stage_free(w->m->be, &w->head.stage);
	DF_TRY(df_size_add(n_rows, 15, &cap, "a batch", err));
	cap &= ~(size_t)15;
	DF_TRY(df_size_mul(cap, 5 * sizeof(float), &bytes, "a batch", err));
	DF_TRY(df_stage_new(w->m->be, &w->head.stage, bytes, "a batch", err));
	w->head.cap = cap;
	w->scale = df_stage_host(w->head.stage, part(w, 0));
	w->target = df_stage_host(w->head.stage, part(w, 1));
	w->nll = df_stage_host(w->head.stage, part(w, 2));
	w->correct = df_stage_host(w->head.stage, part(w, 3));
out:
	return rc;
}

/* The arguments that forward and backward share. */
static struct df_xent
xent(const struct df_work *w)
{
	const struct df_stage *s = w->head.stage;
	const size_t l = w->n_rows;

	return (struct df_xent){ .h = w->h_f,
		.w = df_work_weight(w, w->m->lm_head),
		.scale = df_stage_view(s, DF_F32, part(w, 0), 1, l),
		.target = df_stage_view(s, DF_U32, part(w, 1), 1, l),
		.nll = df_stage_view(s, DF_F32, part(w, 2), 1, l),
		.correct = df_stage_view(s, DF_U8, part(w, 3), 1, l),
		.lse = df_stage_view(s, DF_F32, part(w, 4), 1, l) };
}

static int
push_part(struct df_work *w, int i, struct df_err *err)
{
	return df_stage_push(w->head.stage, part(w, i), w->n_rows * sizeof(float), err);
}

/* Losses and hits of all rows, on the host. */
static int
fetch(struct df_work *w, struct df_err *err)
{
	int rc = DF_OK;

	if (w->head.fetched || w->n_rows == 0)
		return DF_OK;
	DF_TRY(df_stage_pull(w->head.stage, part(w, 2), w->n_rows * sizeof(*w->nll), err));
	DF_TRY(df_stage_pull(w->head.stage, part(w, 3), w->n_rows * sizeof(*w->correct), err));
	DF_TRY(df_stage_wait(w->head.stage, err));
	w->head.fetched = true;
out:
	return rc;
}

int
df_head_forward(struct df_work *w, struct df_err *err)
{
	struct df_xent a;
	int rc = DF_OK;

	if (w->n_rows == 0)
		return DF_OK;
	a = xent(w);
	DF_TRY(push_part(w, 1, err));
	DF_TRY(df_xent_fwd(w->m->be, &a, err));
	w->head.has_lse = true;
out:
	return rc;
}

int
df_head_losses(struct df_work *w, struct df_target_losses *out, struct df_err *err)
{
	*out = (struct df_target_losses){ .n = w->n, .offsets = w->target_seg, .nll = w->nll, .token = w->target };
	return fetch(w, err);
}

int
df_head_weigh(struct df_work *w, struct df_err *err)
{
	struct df_target_losses losses;
	int rc = DF_OK;

	if (w->weigh == NULL || w->n_rows == 0)
		return DF_OK;
	DF_TRY(df_head_losses(w, &losses, err));
	DF_TRY(w->weigh(w->weigh_ctx, &losses, w->weight, err));
	w->head.weighed = true;
out:
	return rc;
}

int
df_head_report(struct df_work *w, const struct df_losses *out, struct df_err *err)
{
	int rc;

	if (out == NULL)
		return DF_OK;
	DF_TRY(fetch(w, err));
	for (size_t s = 0; s < w->n; s++) {
		uint32_t n = (uint32_t)(w->target_seg[s + 1] - w->target_seg[s]), hits = 0;
		double sum = 0, nll = 0;

		for (size_t i = w->target_seg[s]; i < w->target_seg[s + 1]; i++) {
			nll += (double)w->nll[i];
			sum += w->head.weighed ? (double)w->weight[i] * (double)w->nll[i] : (double)w->nll[i];
			hits += w->correct[i];
			if (out->token_nll != NULL)
				out->token_nll[i] = w->nll[i];
		}
		if (out->loss != NULL)
			out->loss[s] = n > 0 ? (float)(sum / n) : NAN;
		if (out->nll != NULL)
			out->nll[s] = nll;
		if (out->n_targets != NULL)
			out->n_targets[s] = n;
		if (out->n_correct != NULL)
			out->n_correct[s] = hits;
	}
out:
	return rc;
}

void
df_head_scale(struct df_work *w, const float *sample_scale)
{
	for (size_t s = 0; s < w->n; s++) {
		const uint64_t first = w->target_seg[s], end = w->target_seg[s + 1];
		const float scale = sample_scale != NULL ? sample_scale[s] : 1.0f / (float)(end - first);

		for (size_t i = first; i < end; i++)
			w->scale[i] = w->head.weighed ? scale * w->weight[i] : scale;
	}
}

int
df_head_backward(struct df_work *w, const struct df_emit *e, struct df_tensor dh, struct df_err *err)
{
	struct df_model *m = w->m;
	const bool trains = df_row_trains(m, m->lm_head), samples = trains && df_tensor_is_none(e->grad);
	struct df_xent a = xent(w);
	int rc;

	a.dh = dh;
	if (trains && !samples)
		a.dw = df_param_view(e->grad, &m->train.v[m->train_row[m->lm_head]]);
	if (samples)
		a.dlogits = w->dlogits;
	DF_TRY(push_part(w, 0, err));
	if (w->head.has_lse) {
		DF_TRY(df_xent_bwd(m->be, &a, err));
	} else {
		DF_TRY(push_part(w, 1, err));
		DF_TRY(df_xent(m->be, &a, err));
	}
	if (samples && !m->cfg.tied)
		DF_TRY(df_emit_head(w, e, err));
out:
	return rc;
}

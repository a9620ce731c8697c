/*
 * head.c - the end of a pass: losses of the targets, their weights, and the head's own backward.
 *
 * The numbers of a target row (its token, factor, loss) lie in the batch's stage.  Losses stay on the device until
 * someone asks for them; there is one download for a batch.  Where targets have weights, these depend on the losses:
 * then the losses come first, and the backward goes on from the logits, or computes them once more if they would take
 * too much memory.  Otherwise one operation does both.
 */
#include <math.h>

#include "model/work.h"

/* The arguments that forward and backward share. */
static struct df_xent
xent(const struct df_work *w)
{
	return (struct df_xent){ .h = w->h_f,
		.w = df_work_weight(w, w->m->lm_head),
		.target = w->dev.target,
		.nll = w->dev.nll,
		.lse = w->dev.lse,
		.correct = w->dev.correct,
		.scale = w->dev.scale };
}

static int
pull(struct df_work *w, struct df_tensor part, struct df_err *err)
{
	const size_t size = df_dtype_size(part.type);

	return df_stage_pull(w->stage, part.off * size, part.cols * size, err);
}

/* Losses and hits of all rows, on the host. */
static int
fetch(struct df_work *w, struct df_err *err)
{
	int rc = DF_OK;

	if (w->head.fetched || w->n_rows == 0)
		return DF_OK;
	DF_TRY(pull(w, w->dev.nll, err));
	DF_TRY(pull(w, w->dev.correct, err));
	DF_TRY(df_stage_wait(w->stage, err));
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
	a.logits = w->logits;
	DF_TRY(df_xent_fwd(w->be, &a, err));
	w->head.has_lse = true;
	w->head.kept = !df_tensor_is_none(w->logits);
out:
	return rc;
}

int
df_head_losses(struct df_work *w, struct df_target_losses *out, struct df_err *err)
{
	*out = (struct df_target_losses){ .n = w->n, .offsets = w->target_seg.host, .nll = w->nll, .token = w->target };
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
		uint32_t n = (uint32_t)(w->target_seg.host[s + 1] - w->target_seg.host[s]), hits = 0;
		double sum = 0, nll = 0;

		for (size_t i = w->target_seg.host[s]; i < w->target_seg.host[s + 1]; i++) {
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
		const uint64_t first = w->target_seg.host[s], end = w->target_seg.host[s + 1];
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
	if (w->head.kept)
		a.logits = w->logits;
	w->head.kept = false; /* the backward uses them up */
	DF_TRY(df_work_push_part(w, w->dev.scale, err));
	DF_TRY(w->head.has_lse ? df_xent_bwd(w->be, &a, err) : df_xent(w->be, &a, err));
	if (samples && !m->cfg.tied)
		DF_TRY(df_emit_head(w, e, err));
out:
	return rc;
}

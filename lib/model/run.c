/*
 * run.c - losses, batch gradients, sample gradients: what callers ask for, in
 * terms of one forward and one backward.
 */
#include <math.h>

#include "model/work.h"

/* Mean nll, counts and token losses from w->nll.  Sums run over a sample's own targets: batching cannot change them. */
static void
report(const struct df_work *w, const struct df_losses *out)
{
	if (out == NULL)
		return;
	for (size_t s = 0; s < w->n; s++) {
		uint32_t n = (uint32_t)(w->target_seg[s + 1] - w->target_seg[s]), hits = 0;
		double sum = 0;

		for (size_t i = w->target_seg[s]; i < w->target_seg[s + 1]; i++) {
			sum += (double)w->nll[i];
			hits += w->correct[i];
			if (out->token_nll != NULL)
				out->token_nll[i] = w->nll[i];
		}
		if (out->loss != NULL)
			out->loss[s] = n > 0 ? (float)(sum / n) : NAN;
		if (out->n_targets != NULL)
			out->n_targets[s] = n;
		if (out->n_correct != NULL)
			out->n_correct[s] = hits;
	}
}

/* Losses need a head of logits. */
static int
need_head(const struct df_model *m, struct df_err *err)
{
	if (m->cfg.arch == DF_ARCH_BERT)
		return df_fail(err, DF_EUNSUPPORTED,
		    "an encoder has no losses and no gradients here, hidden states only: use df-embed");
	if (m->lm_head == DF_NO_ROW)
		return df_fail(err, DF_EUNSUPPORTED, "the model has no head that predicts tokens, so no losses");
	return DF_OK;
}

int
df_logits(struct df_work *w, struct df_tensor logits, struct df_err *err)
{
	struct df_model *m = w->m;

	return df_mm(m->be, false, true, 1, w->h_f, m->w[m->lm_head], 0, logits, err);
}

int
df_head_losses(struct df_work *w, const struct df_losses *out, struct df_err *err)
{
	struct df_model *m = w->m;
	struct df_lmhead a = {
		.h = w->h_f, .w = m->w[m->lm_head], .target = w->target, .nll = w->nll, .correct = w->correct
	};
	int rc = DF_OK;

	if (w->n_rows > 0)
		DF_TRY(df_lmhead(m->be, &a, err));
	report(w, out);
out:
	return rc;
}

int
df_model_loss(
    struct df_model *m, struct df_work *w, const struct df_tokens *b, const struct df_losses *out, struct df_err *err)
{
	int rc;

	DF_TRY(need_head(m, err));
	DF_TRY(df_work_batch(w, b, err));
	if (w->n_rows > 0) {
		DF_TRY(df_work_layout(w, DF_WORK_LOSS, err));
		DF_TRY(df_forward(w, err));
	}
	rc = df_head_losses(w, out, err);
out:
	return rc;
}

int
df_model_logits(struct df_model *m, struct df_work *w, const struct df_tokens *b, float *logits, struct df_err *err)
{
	struct df_tensor t = DF_TENSOR_NONE;
	int rc;

	DF_TRY(need_head(m, err));
	DF_TRY(df_work_batch(w, b, err));
	if (w->n_tok == 0)
		goto out;
	DF_TRY(df_work_all_rows(w, err));
	DF_TRY(df_work_layout(w, DF_WORK_LOSS, err));
	DF_TRY(df_forward(w, err));
	DF_TRY(df_tensor_alloc(m->be, &t, DF_F32, w->n_tok, m->cfg.n_vocab, "logits", err));
	DF_TRY(df_logits(w, t, err));
	DF_TRY(df_download(m->be, logits, t, err));
out:
	df_tensor_free(m->be, &t);
	return rc;
}

int
df_model_grad(struct df_model *m, struct df_work *w, const struct df_tokens *b, const float *sample_scale,
    struct df_tensor grad, const struct df_losses *out, struct df_err *err)
{
	struct df_emit e = { .grad = grad };
	int rc;

	if (grad.rows != 1 || grad.cols != m->train.numel)
		return df_fail(err, DF_EINTERNAL, "a gradient of [%zu,%zu] for %zu parameters", grad.rows, grad.cols,
		    m->train.numel);
	DF_TRY(need_head(m, err));
	DF_TRY(df_work_batch(w, b, err));
	if (w->n_rows > 0) {
		for (size_t s = 0; s < w->n; s++) {
			for (size_t i = w->target_seg[s]; i < w->target_seg[s + 1]; i++)
				w->scale[i] = sample_scale[s];
		}
		DF_TRY(df_work_layout(w, DF_WORK_GRAD, err));
		DF_TRY(df_forward(w, err));
		DF_TRY(df_backward(w, &e, err));
	}
	report(w, out);
out:
	return rc;
}

int
df_model_sample_grads(struct df_model *m, struct df_work *w, const struct df_tokens *b, df_grad_sink *sink, void *ctx,
    const struct df_losses *out, struct df_err *err)
{
	struct df_emit e = { .grad = DF_TENSOR_NONE, .sink = sink, .ctx = ctx };
	int rc;

	DF_TRY(need_head(m, err));
	DF_TRY(df_work_batch(w, b, err));
	if (w->n == 0)
		goto out;
	DF_TRY(df_work_layout(w, DF_WORK_SAMPLE_GRADS, err));
	if (w->n_rows > 0) {
		for (size_t s = 0; s < w->n; s++) {
			float n = (float)(w->target_seg[s + 1] - w->target_seg[s]);

			for (size_t i = w->target_seg[s]; i < w->target_seg[s + 1]; i++)
				w->scale[i] = 1.0f / n;
		}
		DF_TRY(df_forward(w, err));
		DF_TRY(df_backward(w, &e, err));
	} else {
		DF_TRY(df_emit_zeros(w, &e, err));
	}
	report(w, out);
out:
	return rc;
}

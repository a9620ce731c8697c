/*
 * run.c - losses, hidden states, batch gradients, sample gradients: the calls of run.h, each made of one forward and
 * at most one backward.
 */
#include "model/work.h"

#include <math.h>
#include <string.h>

/* Mean nll, counts and token losses from w->nll.  A sum runs over a sample's own targets: batching cannot change it. */
static void
report(const struct df_work *w, const struct df_losses *out)
{
	if (out == NULL)
		return;
	for (size_t s = 0; s < w->n; s++) {
		uint32_t n = (uint32_t)(w->target_seg.host[s + 1] - w->target_seg.host[s]), hits = 0;
		double sum = 0;

		for (size_t i = w->target_seg.host[s]; i < w->target_seg.host[s + 1]; i++) {
			sum += w->weigh != NULL ? (double)w->weight[i] * (double)w->nll[i] : (double)w->nll[i];
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
df_work_take(struct df_work *w, const struct df_tokens *b, struct df_err *err)
{
	int rc;

	DF_TRY(df_work_check_offsets(b, err));
	for (size_t s = 0; s < b->n && b->position != NULL; s++) {
		for (size_t t = b->offsets[s]; t < b->offsets[s + 1]; t++) {
			if (b->position[t] > t - b->offsets[s])
				return df_fail(err, DF_EFORMAT, "sample %zu of the batch: position %u of token %zu", s,
				    b->position[t], t - (size_t)b->offsets[s]);
		}
	}
	rc = df_work_batch(w, b, err);
out:
	return rc;
}

/* The forward, and router loads if they are wanted; without target rows it runs for the loads only. */
static int
forward(struct df_work *w, enum df_work_mode mode, const struct df_losses *out, struct df_err *err)
{
	const struct df_model_config *c = &w->m->cfg;
	int rc = DF_OK;

	w->gate_load = out != NULL ? out->gate_load : NULL;
	if (w->gate_load != NULL && c->moe.n_experts == 0) {
		rc = df_fail(err, DF_EUNSUPPORTED, "the model has no experts, so no router loads");
		goto out;
	}
	if (w->gate_load != NULL)
		memset(w->gate_load, 0, w->n * c->n_layers * c->moe.n_experts * sizeof(*w->gate_load));
	if (w->n_rows > 0 || w->gate_load != NULL || mode == DF_WORK_SAMPLE_GRADS)
		DF_TRY(df_work_layout(w, mode, err));
	if (w->n_rows > 0 || (w->gate_load != NULL && w->n_tok > 0))
		DF_TRY(df_forward(w, err));
out:
	w->gate_load = NULL;
	return rc;
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
	if (w->n_rows > 0 && w->weigh != NULL)
		w->weigh(w->weigh_ctx, w->nll, w->n_rows, w->weight);
	report(w, out);
out:
	return rc;
}

/* Between forward and backward: the factor of a target's gradient may depend on all losses. */
static int
weigh_targets(struct df_work *w, struct df_err *err)
{
	int rc = DF_OK;

	if (w->weigh == NULL)
		return DF_OK;
	DF_TRY(df_head_losses(w, NULL, err));
	for (size_t i = 0; i < w->n_rows; i++)
		w->scale[i] *= w->weight[i];
out:
	return rc;
}

int
df_model_loss(
    struct df_model *m, struct df_work *w, const struct df_tokens *b, const struct df_losses *out, struct df_err *err)
{
	int rc;

	DF_TRY(need_head(m, err));
	DF_TRY(df_work_take(w, b, err));
	DF_TRY(forward(w, DF_WORK_LOSS, out, err));
	rc = df_head_losses(w, out, err);
out:
	return rc;
}

int
df_model_hidden(struct df_model *m, struct df_work *w, const struct df_tokens *b, size_t layer, struct df_tensor *h,
    struct df_err *err)
{
	int rc;

	if (layer > m->cfg.n_layers)
		return df_fail(
		    err, DF_EUSAGE, "layer %zu: the model has %zu layers (0 = the embeddings)", layer, m->cfg.n_layers);
	DF_TRY(df_work_take(w, b, err));
	*h = DF_TENSOR_NONE;
	if (w->n_tok == 0)
		goto out;
	if (m->cfg.arch == DF_ARCH_BERT)
		return df_bert_forward(w, layer, h, err);
	df_work_all_rows(w);
	DF_TRY(df_work_layout(w, DF_WORK_LOSS, err));
	DF_TRY(df_forward_to(w, layer, h, err));
out:
	return rc;
}

int
df_model_scores(struct df_model *m, struct df_work *w, const struct df_tokens *b, float *scores, struct df_err *err)
{
	struct df_tensor t = DF_TENSOR_NONE;
	int rc;

	if (m->score == DF_NO_ROW)
		return df_fail(err, DF_EUNSUPPORTED, "the model has no head for scores (*ForSequenceClassification)");
	DF_TRY(df_work_take(w, b, err));
	for (size_t s = 0; s < b->n; s++) {
		if (b->offsets[s] == b->offsets[s + 1])
			return df_fail(err, DF_EFORMAT, "sample %zu of the batch is empty: it has no score", s);
	}
	if (b->n == 0)
		goto out;
	df_work_last_rows(w, m->cfg.pad_id);
	DF_TRY(forward(w, DF_WORK_LOSS, NULL, err));
	DF_TRY(df_tensor_alloc(m->be, &t, DF_F32, w->n, m->cfg.n_labels, "scores", err));
	DF_TRY(df_mm(m->be, false, true, 1, w->h_f, m->w[m->score], 0, t, err));
	DF_TRY(df_download(m->be, scores, t, err));
out:
	df_tensor_free(m->be, &t);
	return rc;
}

int
df_model_logits(struct df_model *m, struct df_work *w, const struct df_tokens *b, float *logits, struct df_err *err)
{
	struct df_tensor t = DF_TENSOR_NONE;
	int rc;

	DF_TRY(need_head(m, err));
	DF_TRY(df_work_take(w, b, err));
	if (w->n_tok == 0)
		goto out;
	df_work_all_rows(w);
	DF_TRY(forward(w, DF_WORK_LOSS, NULL, err));
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
	DF_TRY(df_work_take(w, b, err));
	for (size_t s = 0; s < w->n; s++) {
		for (size_t i = w->target_seg.host[s]; i < w->target_seg.host[s + 1]; i++)
			w->scale[i] = sample_scale[s];
	}
	DF_TRY(forward(w, DF_WORK_GRAD, out, err));
	DF_TRY(weigh_targets(w, err));
	if (w->n_rows > 0)
		DF_TRY(df_backward(w, &e, err));
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
	DF_TRY(df_work_take(w, b, err));
	if (w->n == 0)
		goto out;
	for (size_t s = 0; s < w->n; s++) {
		float n = (float)(w->target_seg.host[s + 1] - w->target_seg.host[s]);

		for (size_t i = w->target_seg.host[s]; i < w->target_seg.host[s + 1]; i++)
			w->scale[i] = 1.0f / n;
	}
	DF_TRY(forward(w, DF_WORK_SAMPLE_GRADS, out, err));
	DF_TRY(weigh_targets(w, err));
	if (w->n_rows > 0)
		DF_TRY(df_backward(w, &e, err));
	else
		DF_TRY(df_emit_zeros(w, &e, err));
	report(w, out);
out:
	return rc;
}

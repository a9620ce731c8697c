/*
 * run.c - losses, hidden states, batch gradients, sample gradients: the calls of run.h, each made of one forward and
 * at most one backward.
 */
#include "model/work.h"

#include <string.h>

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

/* A batch from a caller: a position is counted from its sample's start or from a later token. */
static int
take(struct df_work *w, const struct df_tokens *b, struct df_err *err)
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

	return df_mm(w->be, false, true, 1, w->h_f, df_work_weight(w, m->lm_head), 0, logits, err);
}

int
df_losses(struct df_work *w, const struct df_losses *out, struct df_err *err)
{
	int rc;

	DF_TRY(df_head_forward(w, err));
	DF_TRY(df_head_weigh(w, err));
	DF_TRY(df_head_report(w, out, err));
out:
	return rc;
}

int
df_model_loss(
    struct df_model *m, struct df_work *w, const struct df_tokens *b, const struct df_losses *out, struct df_err *err)
{
	int rc;

	DF_TRY(need_head(m, err));
	DF_TRY(take(w, b, err));
	DF_TRY(forward(w, DF_WORK_LOSS, out, err));
	rc = df_losses(w, out, err);
out:
	return rc;
}

/* Hidden states are float32 for whoever asks, whatever they were computed in. */
static int
widen(struct df_work *w, struct df_tensor *h, struct df_err *err)
{
	struct df_backend *be = w->be;
	int rc = DF_OK;

	if (h->type == DF_F32)
		return DF_OK;
	if (h->rows > w->hidden.rows) {
		df_tensor_free(be, &w->hidden);
		DF_TRY(df_tensor_alloc(be, &w->hidden, DF_F32, h->rows, h->cols, "hidden states", err));
	}
	DF_TRY(df_copy(be, df_tensor_rows(w->hidden, 0, h->rows), *h, err));
	*h = df_tensor_rows(w->hidden, 0, h->rows);
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
	DF_TRY(take(w, b, err));
	*h = DF_TENSOR_NONE;
	if (w->n_tok == 0)
		goto out;
	if (m->cfg.arch == DF_ARCH_BERT) {
		DF_TRY(df_bert_forward(w, layer, h, err));
	} else {
		df_work_all_rows(w);
		DF_TRY(df_work_layout(w, DF_WORK_LOSS, err));
		DF_TRY(df_forward_to(w, layer, h, err));
	}
	DF_TRY(widen(w, h, err));
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
	DF_TRY(take(w, b, err));
	for (size_t s = 0; s < b->n; s++) {
		if (b->offsets[s] == b->offsets[s + 1])
			return df_fail(err, DF_EFORMAT, "sample %zu of the batch is empty: it has no score", s);
	}
	if (b->n == 0)
		goto out;
	df_work_last_rows(w, m->cfg.pad_id);
	DF_TRY(forward(w, DF_WORK_LOSS, NULL, err));
	DF_TRY(df_tensor_alloc(w->be, &t, DF_F32, w->n, m->cfg.n_labels, "scores", err));
	DF_TRY(df_mm(w->be, false, true, 1, w->h_f, df_work_weight(w, m->score), 0, t, err));
	DF_TRY(df_download(w->be, scores, t, err));
out:
	df_tensor_free(w->be, &t);
	return rc;
}

int
df_model_logits(struct df_model *m, struct df_work *w, const struct df_tokens *b, float *logits, struct df_err *err)
{
	struct df_tensor t = DF_TENSOR_NONE;
	int rc;

	DF_TRY(need_head(m, err));
	DF_TRY(take(w, b, err));
	if (w->n_tok == 0)
		goto out;
	df_work_all_rows(w);
	DF_TRY(forward(w, DF_WORK_LOSS, NULL, err));
	DF_TRY(df_tensor_alloc(w->be, &t, DF_F32, w->n_tok, m->cfg.n_vocab, "logits", err));
	DF_TRY(df_logits(w, t, err));
	DF_TRY(df_download(w->be, logits, t, err));
out:
	df_tensor_free(w->be, &t);
	return rc;
}

/* The forward of a batch for gradients; a weigher of w has its turn. */
static int
begin(struct df_work *w, const struct df_tokens *b, enum df_work_mode mode, const struct df_losses *out,
    struct df_err *err)
{
	int rc;

	DF_TRY(need_head(w->m, err));
	DF_TRY(take(w, b, err));
	DF_TRY(forward(w, mode == DF_WORK_GRAD && w->weigh != NULL ? DF_WORK_WEIGHED_GRAD : mode, out, err));
	if (w->weigh != NULL) {
		DF_TRY(df_head_forward(w, err));
		DF_TRY(df_head_weigh(w, err));
	}
out:
	return rc;
}

static int
check_grad(const struct df_model *m, struct df_tensor grad, struct df_err *err)
{
	if (grad.rows != 1 || grad.cols != m->train.numel)
		return df_fail(err, DF_EINTERNAL, "a gradient of [%zu,%zu] for %zu parameters", grad.rows, grad.cols,
		    m->train.numel);
	return DF_OK;
}

/* The backward, of targets with these factors of their samples. */
static int
end(struct df_work *w, const struct df_emit *e, const float *sample_scale, const struct df_losses *out,
    struct df_err *err)
{
	int rc = DF_OK;

	df_head_scale(w, sample_scale);
	if (w->n_rows > 0)
		DF_TRY(df_backward(w, e, err));
	else if (e->sink != NULL)
		DF_TRY(df_emit_zeros(w, e, err));
	else if (w->ready != NULL)
		DF_TRY(w->ready(w->ready_ctx, 0, w->m->train.numel, err));
	DF_TRY(df_head_report(w, out, err));
out:
	return rc;
}

int
df_model_grad(struct df_model *m, struct df_work *w, const struct df_tokens *b, const float *sample_scale,
    struct df_tensor grad, const struct df_losses *out, struct df_err *err)
{
	struct df_emit e = { .grad = grad };
	int rc;

	DF_TRY(check_grad(m, grad, err));
	DF_TRY(begin(w, b, DF_WORK_GRAD, out, err));
	DF_TRY(end(w, &e, sample_scale, out, err));
out:
	return rc;
}

int
df_model_forward(struct df_model *m, struct df_work *w, const struct df_tokens *b, struct df_target_losses *losses,
    struct df_err *err)
{
	int rc;

	DF_TRY(need_head(m, err));
	DF_TRY(take(w, b, err));
	DF_TRY(forward(w, DF_WORK_WEIGHED_GRAD, NULL, err));
	DF_TRY(df_head_forward(w, err));
	DF_TRY(df_head_losses(w, losses, err));
out:
	return rc;
}

int
df_model_backward(struct df_model *m, struct df_work *w, const float *sample_scale, const float *weight,
    struct df_tensor grad, const struct df_losses *out, struct df_err *err)
{
	struct df_emit e = { .grad = grad };
	int rc;

	DF_TRY(check_grad(m, grad, err));
	w->head.weighed = weight != NULL;
	if (weight != NULL)
		memcpy(w->weight, weight, w->n_rows * sizeof(*weight));
	DF_TRY(end(w, &e, sample_scale, out, err));
out:
	return rc;
}

int
df_model_sample_grads(struct df_model *m, struct df_work *w, const struct df_tokens *b, df_grad_sink *sink, void *ctx,
    const struct df_losses *out, struct df_err *err)
{
	struct df_emit e = { .grad = DF_TENSOR_NONE, .sink = sink, .ctx = ctx };
	int rc;

	(void)m;
	DF_TRY(begin(w, b, DF_WORK_SAMPLE_GRADS, out, err));
	if (w->n > 0)
		DF_TRY(end(w, &e, NULL, out, err));
out:
	return rc;
}

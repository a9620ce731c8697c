/*
 * hidden.c - hidden states: what embeddings are pooled from.
 */
#include "model/work.h"

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

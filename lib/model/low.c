/*
 * low.c - the windows on the weights that batches are multiplied with, and their copies where activations are bf16.
 *
 * A product wants both its operands in one type.  So each matrix that is not bf16 has a copy, rounded to nearest even:
 * matrices at rest one each, the trainable parameters one of the whole flat buffer, which the optimiser keeps equal to
 * its masters (df_adamw.low) in the pass that changes them.  Vectors stay float32.
 */
#include <stdlib.h>

#include "model/model_priv.h"

/* The window of row i that batches see. */
static int
place(struct df_model *m, size_t i, struct df_err *err)
{
	const struct df_param *p = &m->base.v[i];
	const struct df_tensor value = m->value[i];
	const bool trains = !df_tensor_is_none(m->train_low) && df_row_trains(m, i);
	int rc = DF_OK;

	m->w[i] = value;
	if (p->rank != 2 || value.type == m->act || m->act == DF_F32 || trains)
		df_tensor_free(m->be, &m->low[i]);
	if (p->rank != 2 || value.type == m->act || m->act == DF_F32)
		goto out;
	if (trains) {
		m->w[i] = df_param_view(m->train_low, &m->train.v[m->train_row[i]]);
		goto out;
	}
	if (df_tensor_is_none(m->low[i])) {
		DF_TRY(df_tensor_alloc(m->be, &m->low[i], m->act, p->rows, p->cols, p->name, err));
		DF_TRY(df_copy(m->be, m->low[i], value, err));
	}
	m->w[i] = m->low[i];
out:
	return rc;
}

/* One window on all parts' weights or biases, or NONE if they do not lie side by side. */
static struct df_tensor
together(const struct df_model *m, const struct df_group *g, bool bias)
{
	struct df_tensor first = DF_TENSOR_NONE;
	size_t n = 0;

	for (size_t k = 0; k < g->n_parts; k++) {
		size_t row = bias ? g->part[k].bias : g->part[k].weight;
		struct df_tensor t;

		if (row == DF_NO_ROW)
			return DF_TENSOR_NONE;
		t = m->w[row];
		if (k == 0)
			first = t;
		if (t.mem != first.mem || t.type != first.type || t.ld != t.cols || t.off != first.off + n)
			return DF_TENSOR_NONE;
		n += df_tensor_numel(t);
	}
	return bias ? df_tensor_view(first, 0, 1, g->out) : df_tensor_view(first, 0, g->out, g->in);
}

/* Set the windows of the groups again, after those of their rows changed. */
static void
group(struct df_model *m)
{
	struct df_group *g;

	for (size_t i = 0; i < m->cfg.n_layers; i++) {
		for (size_t k = 0; (g = df_layer_group(&m->layers[i], k)) != NULL; k++) {
			g->weight = together(m, g, false);
			g->bias = together(m, g, true);
		}
	}
}

int
df_weights_place(struct df_model *m, struct df_err *err)
{
	int rc = DF_OK;

	for (size_t i = 0; i < m->base.n; i++)
		DF_TRY(place(m, i, err));
	group(m);
	DF_TRY(df_sync(m->be, err)); /* for the lanes that will read them */
out:
	return rc;
}

int
df_weights_round(struct df_model *m, struct df_err *err)
{
	int rc = DF_OK;

	if (m->act == DF_F32 || df_tensor_is_none(m->train_data))
		return DF_OK;
	if (df_tensor_is_none(m->train_low))
		DF_TRY(df_tensor_alloc(m->be, &m->train_low, m->act, 1, m->train.numel, "trainable parameters", err));
	DF_TRY(df_copy(m->be, m->train_low, m->train_data, err));
	DF_TRY(df_sync(m->be, err)); /* for the lanes that will read them */
out:
	return rc;
}

void
df_weights_release_low(struct df_model *m)
{
	df_tensor_free(m->be, &m->train_low);
	for (size_t i = 0; m->low != NULL && i < m->base.n; i++)
		df_tensor_free(m->be, &m->low[i]);
	free(m->low);
}

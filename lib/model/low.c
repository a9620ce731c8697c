/*
 * low.c - the weights that batches are multiplied with, where activations are bf16.
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

int
df_weights_place(struct df_model *m, struct df_err *err)
{
	int rc = DF_OK;

	for (size_t i = 0; i < m->base.n; i++)
		DF_TRY(place(m, i, err));
	df_weights_group(m);
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
		DF_TRY(df_tensor_alloc(m->be, &m->train_low, m->act, 1, m->train.numel, "what trains", err));
	DF_TRY(df_copy(m->be, m->train_low, m->train_data, err));
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

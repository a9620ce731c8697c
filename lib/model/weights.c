/*
 * weights.c - parameters between tensor files and the backend's flat buffers.
 *
 * One staging buffer, one tensor at a time: the file is mapped, so nothing else
 * is copied.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/model_priv.h"

#define STAGE ((size_t)1 << 20) /* elements moved at once when storing */

static int
check_shape(const struct df_param *p, const struct df_st_tensor *t, struct df_err *err)
{
	struct df_buf want = DF_BUF_INIT, have = DF_BUF_INIT;
	bool same;
	int rc = DF_OK;

	same = t->rank == p->rank && t->shape[t->rank - 1] == p->cols && (p->rank == 1 || t->shape[0] == p->rows);
	if (same)
		return DF_OK;
	if (p->rank == 2)
		df_buf_printf(&want, "%zu,", p->rows);
	df_buf_printf(&want, "%zu", p->cols);
	for (int i = 0; i < t->rank; i++)
		df_buf_printf(&have, "%s%llu", i ? "," : "", (unsigned long long)t->shape[i]);
	DF_TRY(df_buf_check(&want, err));
	DF_TRY(df_buf_check(&have, err));
	rc = df_fail(err, DF_EFORMAT, "tensor '%.200s': shape [%s], the configuration asks for [%s]", t->name,
	    have.data ? have.data : "", want.data);
out:
	df_buf_release(&want);
	df_buf_release(&have);
	return rc;
}

/* The tensor of a parameter under any of its names, or NULL. */
static const struct df_st_tensor *
lookup(const struct df_param *p, const struct df_st *st, const char *prefix, const char *strip, struct df_buf *name)
{
	const struct df_st_tensor *t;

	df_buf_clear(name);
	df_buf_puts(name, prefix);
	df_buf_puts(name, p->name);
	if (name->failed)
		return NULL;
	t = df_st_find(st, name->data);
	if (t == NULL && strip != NULL && strncmp(p->name, strip, strlen(strip)) == 0)
		t = df_st_find(st, p->name + strlen(strip));
	return t;
}

static bool
ignored(const char *name, const char *const *ignore)
{
	size_t n = strlen(name);

	for (; ignore != NULL && *ignore != NULL; ignore++) {
		size_t k = strlen(*ignore);

		if (n >= k && strcmp(name + n - k, *ignore) == 0)
			return true;
	}
	return false;
}

/* st must not hold what no parameter asked for. */
static int
check_unknown(const struct df_st *st, const bool *used, const char *const *ignore, struct df_err *err)
{
	for (size_t i = 0; i < df_st_count(st); i++) {
		if (!used[i] && !ignored(df_st_at(st, i)->name, ignore))
			return df_fail(err, DF_EFORMAT, "tensor '%.200s' belongs to no parameter of this model",
			    df_st_at(st, i)->name);
	}
	return DF_OK;
}

int
df_params_load(const struct df_params *p, struct df_tensor data, const struct df_st *st, const char *prefix,
    const char *strip, const char *const *ignore, struct df_backend *be, struct df_err *err)
{
	struct df_buf name = DF_BUF_INIT;
	float *stage = NULL;
	bool *used = NULL;
	size_t cap = 0;
	int rc;

	DF_TRY(df_alloc(&used, df_st_count(st) + 1, sizeof(*used), "a tensor list", err));
	for (size_t i = 0; i < p->n; i++) {
		const struct df_param *v = &p->v[i];
		const struct df_st_tensor *t = lookup(v, st, prefix, strip, &name);

		DF_TRY(df_buf_check(&name, err));
		if (t == NULL) {
			rc = df_fail(err, DF_EFORMAT, "tensor '%.200s' is missing", name.data);
			goto out;
		}
		DF_TRY(check_shape(v, t, err));
		used[t - df_st_at(st, 0)] = true;
		DF_TRY(df_grow(&stage, &cap, t->numel, sizeof(*stage), t->name, err));
		DF_TRY(df_st_to_f32(t, stage, err));
		for (size_t j = 0; j < t->numel; j++) {
			if (!isfinite(stage[j])) {
				rc = df_fail(err, DF_EFORMAT, "tensor '%.200s': element %zu is %g", t->name, j,
				    (double)stage[j]);
				goto out;
			}
		}
		DF_TRY(df_upload(be, df_param_view(data, v), stage, err));
	}
	DF_TRY(check_unknown(st, used, ignore, err));
out:
	df_buf_release(&name);
	free(stage);
	free(used);
	return rc;
}

int
df_params_declare(const struct df_params *p, const char *prefix, struct df_st_writer *w, struct df_err *err)
{
	struct df_buf name = DF_BUF_INIT;
	int rc = DF_OK;

	for (size_t i = 0; i < p->n; i++) {
		const struct df_param *v = &p->v[i];
		uint64_t shape[2] = { v->rank == 2 ? v->rows : v->cols, v->cols };

		df_buf_clear(&name);
		df_buf_puts(&name, prefix);
		df_buf_puts(&name, v->name);
		DF_TRY(df_buf_check(&name, err));
		DF_TRY(df_st_add(w, name.data, DF_ST_F32, shape, v->rank, err));
	}
out:
	df_buf_release(&name);
	return rc;
}

int
df_params_store(
    const struct df_params *p, struct df_tensor data, struct df_st_writer *w, struct df_backend *be, struct df_err *err)
{
	float *stage = NULL;
	int rc;

	DF_TRY(df_alloc(&stage, p->numel < STAGE ? p->numel : STAGE, sizeof(*stage), "a staging buffer", err));
	for (size_t at = 0, n; at < p->numel; at += n) {
		n = p->numel - at < STAGE ? p->numel - at : STAGE;
		DF_TRY(df_download(be, stage, df_tensor_view(data, at, 1, n), err));
		DF_TRY(df_st_write(w, stage, n * sizeof(*stage), err));
	}
out:
	free(stage);
	return rc;
}

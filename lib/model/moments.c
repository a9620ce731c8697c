/*
 * moments.c - Adam's moments in a checkpoint, as safetensors; those of torch are read by moments_torch.c.
 *
 * They belong to the parameters by name and shape.  Moments of another model are refused, and so are
 * those of an adapter when full fine-tuning is asked for.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/opt.h"
#include "model/model_priv.h"

#define FILE_NAME "optimizer.safetensors"

/* Room for moments of any values. */
static int
allocate(struct df_moments *o, struct df_model *m, struct df_err *err)
{
	int rc;

	*o = (struct df_moments){ .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8 };
	DF_TRY(df_tensor_alloc(m->be, &o->m, DF_F32, 1, m->train.numel, "the optimiser's moments", err));
	DF_TRY(df_tensor_alloc(m->be, &o->v, DF_F32, 1, m->train.numel, "the optimiser's moments", err));
out:
	return rc;
}

static int
clear(struct df_moments *o, struct df_model *m, struct df_err *err)
{
	int rc;

	DF_TRY(df_fill(m->be, o->m, 0, err));
	DF_TRY(df_fill(m->be, o->v, 0, err));
	DF_TRY(df_sync(m->be, err));
out:
	return rc;
}

int
df_moments_init(struct df_moments *o, struct df_model *m, struct df_err *err)
{
	struct df_moments t;
	int rc;

	DF_TRY(allocate(&t, m, err));
	DF_TRY(clear(&t, m, err));
	*o = t;
	t = (struct df_moments){ 0 };
out:
	df_moments_release(&t, m);
	return rc;
}

void
df_moments_release(struct df_moments *o, struct df_model *m)
{
	df_tensor_free(m->be, &o->m);
	df_tensor_free(m->be, &o->v);
}

static int
metadata(const struct df_st *st, const char *key, double min, double max, double *out, struct df_err *err)
{
	const char *s = df_st_metadata(st, key);
	int rc;

	if (s == NULL)
		return df_fail(err, DF_EFORMAT, "metadata '%s' is missing", key);
	rc = df_parse_double(s, out, err);
	if (rc == DF_OK && !(*out >= min && *out <= max))
		rc = df_fail(err, DF_ERANGE, "%s is not in [%g, %g]", s, min, max);
	if (rc != DF_OK)
		df_err_prefix(err, "metadata '%s': ", key);
	return rc;
}

/* Half of the tensors belong to the other moment: they are known, only not wanted in this call. */
static int
check_names(const struct df_params *p, const struct df_st *st, struct df_err *err)
{
	static const char *const prefix[] = { "exp_avg.", "exp_avg_sq." };
	struct df_buf name = DF_BUF_INIT;
	bool *used = NULL;
	int rc;

	DF_TRY(df_alloc(&used, df_st_count(st) + 1, sizeof(*used), "a tensor list", err));
	for (size_t i = 0; i < 2 * p->n; i++) {
		const struct df_st_tensor *t;

		df_buf_clear(&name);
		df_buf_puts(&name, prefix[i % 2]);
		df_buf_puts(&name, p->v[i / 2].name);
		DF_TRY(df_buf_check(&name, err));
		t = df_st_find(st, name.data);
		if (t != NULL)
			used[t - df_st_at(st, 0)] = true;
	}
	for (size_t i = 0; i < df_st_count(st); i++) {
		if (used[i])
			continue;
		rc = df_fail(err, DF_EFORMAT, "tensor '%.200s' belongs to no trainable parameter of this model",
		    df_st_at(st, i)->name);
		goto out;
	}
out:
	df_buf_release(&name);
	free(used);
	return rc;
}

/* check_names() has checked every tensor, so none is reported as unknown here. */
static const char *const any_name[] = { "", NULL };

static int
read_safetensors(struct df_moments *o, struct df_model *m, const char *path, struct df_err *err)
{
	struct df_st *st = NULL;
	double step = 0;
	int rc;

	DF_TRY(df_st_open(&st, path, err));
	rc = metadata(st, "step", 0, 9007199254740992.0, &step, err);
	if (rc == DF_OK)
		rc = metadata(st, "beta1", 0, 1, &o->beta1, err);
	if (rc == DF_OK)
		rc = metadata(st, "beta2", 0, 1, &o->beta2, err);
	if (rc == DF_OK)
		rc = metadata(st, "eps", 0, 1, &o->eps, err);
	if (rc == DF_OK)
		rc = check_names(&m->train, st, err);
	if (rc == DF_OK)
		rc = df_params_load(&m->train, o->m, st, "exp_avg.", any_name, m->be, err);
	if (rc == DF_OK)
		rc = df_params_load(&m->train, o->v, st, "exp_avg_sq.", any_name, m->be, err);
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", path);
	o->step = (uint64_t)step;
out:
	df_st_close(st);
	return rc;
}

/* The files that can hold moments, ours first. */
static const char *const files[] = { FILE_NAME, "optimizer.pt", "optimizer.bin" };
#define N_FILES (sizeof(files) / sizeof(files[0]))

/* *path = the first of them in dir, free() it; *which = its number. */
static int
find_file(const char *dir, char **path, size_t *which, struct df_err *err)
{
	bool there, deepspeed;
	int rc;

	for (*which = 0; *which < N_FILES; (*which)++) {
		free(*path);
		*path = NULL;
		DF_TRY(df_path_join(path, dir, files[*which], err));
		DF_TRY(df_file_probe(*path, &there, err));
		if (there)
			goto out;
	}
	DF_TRY(df_file_probe_in(dir, "zero_to_fp32.py", &deepspeed, err));
	if (deepspeed)
		rc = df_fail(err, DF_EUNSUPPORTED,
		    "%s: the optimiser's state is DeepSpeed's (global_step*), which is not supported; take plain gradients "
		    "(--form sgd)",
		    dir);
	else
		rc = df_fail(err, DF_ENOINPUT,
		    "%s/" FILE_NAME
		    ": no optimiser state, and no optimizer.pt; train with save_only_model false, or take "
		    "plain gradients (--form sgd)",
		    dir);
out:
	return rc;
}

int
df_moments_load(struct df_moments *o, struct df_model *m, const char *dir, struct df_err *err)
{
	struct df_moments t = { 0 };
	char *path = NULL;
	size_t which;
	int rc;

	DF_TRY(find_file(dir, &path, &which, err));
	DF_TRY(allocate(&t, m, err));
	if (which == 0) { /* every element is in the file */
		DF_TRY(read_safetensors(&t, m, path, err));
	} else {
		DF_TRY(clear(&t, m, err));
		DF_TRY(df_moments_read_torch(&t, m, path, err));
	}
	*o = t;
	t = (struct df_moments){ 0 };
out:
	df_moments_release(&t, m);
	free(path);
	return rc;
}

static int
put_metadata(struct df_st_writer *w, const char *key, double x, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	int rc;

	df_buf_json_double(&b, x);
	DF_TRY(df_buf_check(&b, err));
	DF_TRY(df_st_add_metadata(w, key, b.data, err));
out:
	df_buf_release(&b);
	return rc;
}

int
df_moments_save(const struct df_moments *o, struct df_model *m, const char *dir, struct df_err *err)
{
	struct df_st_writer *w = NULL, *done;
	char *path = NULL, step[32];
	int rc;

	snprintf(step, sizeof(step), "%llu", (unsigned long long)o->step);
	DF_TRY(df_path_join(&path, dir, FILE_NAME, err));
	DF_TRY(df_st_create(&w, path, err));
	DF_TRY(df_st_add_metadata(w, "format", "pt", err));
	DF_TRY(df_st_add_metadata(w, "step", step, err));
	DF_TRY(put_metadata(w, "beta1", o->beta1, err));
	DF_TRY(put_metadata(w, "beta2", o->beta2, err));
	DF_TRY(put_metadata(w, "eps", o->eps, err));
	DF_TRY(df_params_declare(&m->train, "exp_avg.", w, err));
	DF_TRY(df_params_declare(&m->train, "exp_avg_sq.", w, err));
	DF_TRY(df_params_store(&m->train, o->m, w, m->be, err));
	DF_TRY(df_params_store(&m->train, o->v, w, m->be, err));
	done = w;
	w = NULL;
	DF_TRY(df_st_commit(done, err));
out:
	df_st_discard(w);
	free(path);
	return rc;
}

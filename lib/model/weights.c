/*
 * weights.c - parameters between tensor files and the backend.
 *
 * The matrices of a checkpoint are not copied: they stay in the mapped file, in its type, and operations widen
 * them when they read them.  Vectors are small and are read by operations that know float32 only; they share one
 * buffer.  The trainable parameters move into a flat buffer of float32 masters when df_model_master() asks for it.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/simd.h"
#include "model/model_priv.h"

#define STAGE ((size_t)1 << 19) /* elements moved at once: what was checked is still in cache when it is copied */

#define RUN 512 /* bytes that are searched for NaN at once */

/* The prefix of PEFT's names for the body of a model with a head. */
#define BODY "base_model.model.model."

int
df_param_check_shape(const struct df_param *p, const struct df_st_tensor *t, struct df_err *err)
{
	struct df_buf want = DF_BUF_INIT, have = DF_BUF_INIT;
	bool same;
	int rc = DF_OK;

	same = t->rank == p->rank && t->shape[p->rank - 1] == p->cols && (p->rank == 1 || t->shape[0] == p->rows);
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

/* The tensor of a row of base under any of its names, or NULL. */
static const struct df_st_tensor *
lookup(const struct df_model *m, const char *name, struct df_buf *buf)
{
	const struct df_st_tensor *t = df_st_find(m->st, name);
	const char *dot = strrchr(name, '.');

	if (t == NULL && strncmp(name, "model.", 6) == 0)
		t = df_st_find(m->st, name + 6);
	if (t != NULL || m->cfg.arch != DF_ARCH_BERT)
		return t;
	/*
	 * In files of models with a head, BERT's names have this prefix; in its first checkpoints they end in
	 * gamma and beta.
	 */
	for (int i = 1; i < 4 && t == NULL; i++) {
		df_buf_clear(buf);
		df_buf_puts(buf, i & 1 ? "bert." : "");
		df_buf_puts(buf, name);
		if (i & 2 && dot != NULL && !buf->failed) {
			buf->len -= strlen(dot);
			df_buf_puts(buf, strcmp(dot, ".weight") == 0 ? ".gamma" : ".beta");
		}
		if (buf->failed)
			return NULL;
		t = df_st_find(m->st, buf->data);
	}
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

/* st must hold no tensor that does not belong to a parameter. */
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

/*
 * Numbers that are NaN or Inf have all bits of the exponent set.  Several are tested at once: the lowest bit of the
 * exponent, added, carries into the place of the sign only then.
 */
struct bits {
	uint64_t exponent, one, sign;
};

static struct bits
bits_of(enum df_st_type t)
{
	switch (t) {
	case DF_ST_F32: return (struct bits){ 0x7f8000007f800000u, 0x0080000000800000u, 0x8000000080000000u };
	case DF_ST_BF16: return (struct bits){ 0x7f807f807f807f80u, 0x0080008000800080u, 0x8000800080008000u };
	default: return (struct bits){ 0x7c007c007c007c00u, 0x0400040004000400u, 0x8000800080008000u };
	}
}

static inline bool
run_is_bad(const char *run, struct bits b)
{
	uint64_t bad = 0, u;

	for (size_t k = 0; k < RUN; k += sizeof(u)) {
		memcpy(&u, run + k, sizeof(u));
		bad |= (u & b.exponent) + b.one;
	}
	return bad & b.sign;
}

/* The first element of a run of RUN bytes that contains NaN or Inf, or numel. */
DF_SIMD static size_t
first_bad(const struct df_st_tensor *t)
{
	const struct bits b = bits_of(t->type);
	const size_t size = df_st_type_size(t->type);
	const char *data = t->data;
	char last[RUN] = { 0 };
	size_t at = 0;

	for (; t->nbytes - at >= RUN; at += RUN) {
		if (run_is_bad(data + at, b))
			return at / size;
	}
	memcpy(last, data + at, t->nbytes - at);
	return run_is_bad(last, b) ? at / size : t->numel;
}

static int
not_finite(const struct df_st_tensor *t, const float *x, size_t first, size_t n, struct df_err *err)
{
	for (size_t i = 0; i < n; i++) {
		if (!isfinite(x[i]))
			return df_fail(
			    err, DF_EFORMAT, "tensor '%.200s': element %zu is %g", t->name, first + i, (double)x[i]);
	}
	return DF_OK;
}

/* Elements [at, at + n) of t, at most STAGE of them or those that are left. */
static struct df_st_tensor
run_of(const struct df_st_tensor *t, size_t at, size_t most)
{
	const size_t size = df_st_type_size(t->type);
	struct df_st_tensor run = *t;

	run.numel = t->numel - at < most ? t->numel - at : most;
	run.nbytes = run.numel * size;
	run.data = (const char *)t->data + at * size;
	return run;
}

/* No element of `run`, which begins at element `at` of its tensor, is NaN or Inf. */
static int
check_finite(const struct df_st_tensor *run, size_t at, struct df_err *err)
{
	const size_t i = first_bad(run);
	struct df_st_tensor bad;
	float x[256];
	int rc;

	if (i >= run->numel)
		return DF_OK;
	bad = run_of(run, i, sizeof(x) / sizeof(x[0]));
	DF_TRY(df_st_to_f32(&bad, x, err));
	DF_TRY(not_finite(run, x, at + i, bad.numel, err));
out:
	return rc;
}

/* A tensor as float32 into dst, through stage [STAGE] where it has another type; its pages are then given back. */
static int
widen(const struct df_st_tensor *t, struct df_tensor dst, float *stage, struct df_backend *be, struct df_err *err)
{
	struct df_st_tensor run;
	int rc = DF_OK;

	for (size_t at = 0; at < t->numel; at += run.numel) {
		const float *from = stage;

		run = run_of(t, at, STAGE);
		if (t->type == DF_ST_F32) {
			DF_TRY(check_finite(&run, at, err));
			from = run.data;
		} else {
			DF_TRY(df_st_to_f32(&run, stage, err));
			DF_TRY(not_finite(t, stage, at, run.numel, err));
		}
		DF_TRY(df_upload(be, df_tensor_view(dst, at, 1, run.numel), from, err));
	}
	df_file_forget(t->data, t->nbytes);
out:
	return rc;
}

int
df_params_load(const struct df_params *p, struct df_tensor data, const struct df_st *st, const char *prefix,
    const char *const *ignore, struct df_backend *be, struct df_err *err)
{
	struct df_buf name = DF_BUF_INIT;
	float *stage = NULL;
	bool *used = NULL;
	int rc;

	DF_TRY(df_alloc(&stage, STAGE, sizeof(*stage), "a staging buffer", err));
	DF_TRY(df_alloc(&used, df_st_count(st) + 1, sizeof(*used), "a tensor list", err));
	for (size_t i = 0; i < p->n; i++) {
		const struct df_param *v = &p->v[i];
		const struct df_st_tensor *t;

		df_buf_clear(&name);
		df_buf_puts(&name, prefix);
		df_buf_puts(&name, v->name);
		DF_TRY(df_buf_check(&name, err));
		t = df_st_find(st, name.data);
		if (t == NULL && strncmp(name.data, BODY, sizeof(BODY) - 1) == 0) {
			/* The adapter was made for the body alone. */
			memmove(name.data + sizeof(BODY) - 1 - 6, name.data + sizeof(BODY) - 1,
			    name.len - sizeof(BODY) + 2);
			t = df_st_find(st, name.data);
		}
		if (t == NULL) {
			rc = df_fail(err, DF_EFORMAT, "tensor '%.200s' is missing", v->name);
			goto out;
		}
		DF_TRY(df_param_check_shape(v, t, err));
		used[t - df_st_at(st, 0)] = true;
		DF_TRY(widen(t, df_param_view(data, v), stage, be, err));
	}
	DF_TRY(check_unknown(st, used, ignore, err));
out:
	df_buf_release(&name);
	free(stage);
	free(used);
	return rc;
}

/* ---- a head with values of its own --------------------------------------------- */

/* Are the values equal as float32?  The bytes alone cannot tell when the types differ. */
static int
same_values(const struct df_st_tensor *a, const struct df_st_tensor *b, bool *same, struct df_err *err)
{
	float x[1024], y[1024];
	int rc = DF_OK;

	*same = a->type == b->type && memcmp(a->data, b->data, a->nbytes) == 0;
	if (*same)
		return DF_OK;
	for (size_t at = 0; at < a->numel; at += 1024) {
		const struct df_st_tensor u = run_of(a, at, 1024), w = run_of(b, at, 1024);

		DF_TRY(df_st_to_f32(&u, x, err));
		DF_TRY(df_st_to_f32(&w, y, err));
		for (size_t i = 0; i < u.numel; i++) {
			if (x[i] != y[i])
				return DF_OK;
		}
	}
	*same = true;
out:
	return rc;
}

int
df_weights_own_head(const struct df_model *m, bool *own, struct df_err *err)
{
	struct df_buf buf = DF_BUF_INIT;
	const struct df_st_tensor *head = lookup(m, "lm_head.weight", &buf);
	const struct df_st_tensor *embed = lookup(m, "model.embed_tokens.weight", &buf);
	bool same = true;
	int rc = DF_OK;

	if (head != NULL && embed != NULL) {
		same = head->rank == embed->rank && head->numel == embed->numel &&
		    memcmp(head->shape, embed->shape, (size_t)head->rank * sizeof(*head->shape)) == 0;
		if (same)
			DF_TRY(same_values(head, embed, &same, err));
	}
	*own = !same;
out:
	df_buf_release(&buf);
	return rc;
}

/* ---- weights at rest --------------------------------------------------------- */

/* Does a row keep the file's type?  Then *type is that type. */
static bool
at_rest(const struct df_param *p, const struct df_st_tensor *t, enum df_dtype *type)
{
	*type = t->type == DF_ST_BF16 ? DF_BF16 : t->type == DF_ST_F16 ? DF_F16 : DF_F32;
	return p->rank == 2 && (t->type == DF_ST_BF16 || t->type == DF_ST_F16 || t->type == DF_ST_F32);
}

/* The tensors of all rows, checked; *n_small = the number of elements that do not stay in the file. */
static int
find_all(struct df_model *m, const struct df_st_tensor **found, const char *const *ignore, size_t *n_small,
    struct df_err *err)
{
	struct df_buf buf = DF_BUF_INIT;
	enum df_dtype type;
	bool *used = NULL;
	int rc;

	*n_small = 0;
	DF_TRY(df_alloc(&used, df_st_count(m->st) + 1, sizeof(*used), "a tensor list", err));
	for (size_t i = 0; i < m->base.n; i++) {
		const struct df_param *p = &m->base.v[i];
		const struct df_st_tensor *t = lookup(m, p->name, &buf);

		if (t == NULL) {
			rc = df_fail(err, DF_EFORMAT, "tensor '%.200s' is missing%s", p->name,
			    i == m->lm_head ? ", though config.json does not have tie_word_embeddings: true" : "");
			goto out;
		}
		DF_TRY(df_param_check_shape(p, t, err));
		used[t - df_st_at(m->st, 0)] = true;
		found[i] = t;
		m->file_type[i] = t->type;
		if (!at_rest(p, t, &type))
			*n_small += t->numel;
	}
	m->bare = m->base.n > 0 && strcmp(found[m->embed]->name, "embed_tokens.weight") == 0;
	DF_TRY(check_unknown(m->st, used, ignore, err));
out:
	df_buf_release(&buf);
	free(used);
	return rc;
}

int
df_weights_load(struct df_model *m, const char *const *ignore, struct df_err *err)
{
	const struct df_st_tensor **found = NULL;
	float *stage = NULL;
	size_t n_small, at = 0;
	int rc;

	DF_TRY(df_alloc(&found, m->base.n, sizeof(*found), "a tensor list", err));
	DF_TRY(find_all(m, found, ignore, &n_small, err));
	DF_TRY(df_alloc(&stage, STAGE, sizeof(*stage), "a staging buffer", err));
	if (n_small > 0)
		DF_TRY(df_tensor_alloc(m->be, &m->small, DF_F32, 1, n_small, "the model's small weights", err));
	for (size_t i = 0; i < m->base.n; i++) {
		const struct df_param *p = &m->base.v[i];
		const struct df_st_tensor *t = found[i];
		enum df_dtype type;

		if (at_rest(p, t, &type)) {
			DF_TRY(check_finite(t, 0, err));
			DF_TRY(df_tensor_borrow(m->be, &m->borrowed[i], type, p->rows, p->cols, t->data, p->name, err));
			m->value[i] = m->borrowed[i];
			continue;
		}
		m->value[i] = df_tensor_view(m->small, at, p->rows, p->cols);
		at += t->numel;
		DF_TRY(widen(t, m->value[i], stage, m->be, err));
	}
	DF_TRY(df_weights_place(m, err));
out:
	free(stage);
	free((void *)found);
	return rc;
}

/* Masters of the trainable parameters, and their windows on them.  A file that is all copied is closed. */
static int
make_masters(struct df_model *m, struct df_err *err)
{
	bool needed = false;
	int rc;

	DF_TRY(df_tensor_alloc(m->be, &m->train_data, DF_F32, 1, m->train.numel, "what trains", err));
	for (size_t i = 0; i < m->train.n; i++) {
		const size_t row = m->base_row[i];
		struct df_tensor to = df_param_view(m->train_data, &m->train.v[i]);

		if (row == DF_NO_ROW)
			continue;
		DF_TRY(df_copy(m->be, to, m->value[row], err));
		m->value[row] = to;
		df_tensor_free(m->be, &m->borrowed[row]);
	}
	for (size_t i = 0; i < m->base.n && !needed; i++)
		needed = !df_tensor_is_none(m->borrowed[i]);
	if (!needed) {
		DF_TRY(df_sync(m->be, err));
		df_st_close(m->st);
		m->st = NULL;
	}
out:
	return rc;
}

int
df_model_master(struct df_model *m, struct df_err *err)
{
	int rc = DF_OK;

	if (!df_tensor_is_none(m->train_data))
		return DF_OK;
	if (!df_tensor_is_none(m->drawn) && m->train.numel == m->base.numel && !m->lora)
		m->train_data = m->drawn; /* all windows lie in it already, in this order */
	else
		DF_TRY(make_masters(m, err));
	DF_TRY(df_weights_round(m, err));
	DF_TRY(df_weights_place(m, err));
out:
	return rc;
}

int
df_weights_unmaster(struct df_model *m, struct df_err *err)
{
	if (!df_tensor_is_none(m->train_data) && m->train_data.mem != m->drawn.mem)
		return df_fail(err, DF_EUSAGE,
		    "the trainable parameters have their masters already; choose before df_model_master()");
	m->train_data = DF_TENSOR_NONE;
	df_tensor_free(m->be, &m->train_low);
	return df_weights_place(m, err);
}

/* ---- to files ------------------------------------------------------------- */

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
	const void *from;
	float *stage = NULL;
	int rc;

	DF_TRY(df_alloc(&stage, p->numel < STAGE ? p->numel : STAGE, sizeof(*stage), "a staging buffer", err));
	for (size_t at = 0, n; at < p->numel; at += n) {
		n = p->numel - at < STAGE ? p->numel - at : STAGE;
		DF_TRY(df_download_or_see(be, &from, stage, df_tensor_view(data, at, 1, n), err));
		DF_TRY(df_st_write(w, from, n * sizeof(*stage), err));
	}
out:
	free(stage);
	return rc;
}

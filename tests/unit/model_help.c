/*
 * model_help.c - shared by the model's tests.
 */
#include "model_help.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"

static struct df_backend *backend;
static char *scratch;
static void *kept[4096];
static size_t n_kept;

struct df_backend *
mh_backend(void)
{
	const char *device = getenv("DF_TEST_DEVICE"), *compute = getenv("DF_TEST_COMPUTE");

	if (backend == NULL) {
		mh_ok(df_backend_open(&backend, device != NULL ? device : "cpu", NULL, err));
		if (compute != NULL && strcmp(compute, "bf16") == 0)
			mh_ok(df_backend_set_compute(backend, DF_BF16, err));
	}
	return backend;
}

double
mh_bound(double f32, double bf16)
{
	return df_backend_compute(mh_backend()) == DF_BF16 ? bf16 : f32;
}

char *
mh_path(const char *name, const char *file)
{
	const char *root = getenv("DF_SRCDIR");
	char *p = NULL;

	mh_ok(df_asprintf(&p, err, "%s/tests/golden/model/%s%s%s", root != NULL ? root : ".", name, file ? "/" : "",
	    file ? file : ""));
	return p;
}

const char *
mh_scratch(void)
{
	if (scratch == NULL) {
		char name[] = "/tmp/df-model.XXXXXX";

		assert_non_null(mkdtemp(name));
		scratch = strdup(name);
	}
	return scratch;
}

static void *
keep(void *p)
{
	assert_true(n_kept < sizeof(kept) / sizeof(kept[0]));
	return kept[n_kept++] = p;
}

int
mh_cleanup(void **state)
{
	(void)state;
	while (n_kept > 0)
		free(kept[--n_kept]);
	if (scratch != NULL)
		mh_ok(df_rmtree(scratch, err));
	free(scratch);
	scratch = NULL;
	return 0;
}

void
mh_check_refused(int rc, const struct df_err *err, int code, const char *words)
{
	char buf[256];

	if (rc != code)
		fail_msg("expected code %d (%s), got %d: %s", code, words, rc, rc ? err->msg : "success");
	snprintf(buf, sizeof(buf), "%s", words);
	for (char *w = strtok(buf, "|"); w != NULL; w = strtok(NULL, "|")) {
		if (strstr(err->msg, w) == NULL)
			fail_msg("'%s' is not in the message: %s", w, err->msg);
	}
}

const char *
mh_config(const char *name, size_t vocab, size_t d, size_t ff, size_t layers, size_t heads, size_t kv, const char *more)
{
	char *dir = NULL, *path = NULL, *text = NULL;

	mh_ok(df_asprintf(&dir, err, "%s/%s", mh_scratch(), name));
	keep(dir);
	mh_ok(df_mkdirs(dir, err));
	mh_ok(df_asprintf(&path, err, "%s/config.json", dir));
	mh_ok(df_asprintf(&text, err,
	    "{%s%s\"model_type\":\"llama\",\"vocab_size\":%zu,\"hidden_size\":%zu,"
	    "\"intermediate_size\":%zu,\"num_hidden_layers\":%zu,\"num_attention_heads\":%zu,"
	    "\"num_key_value_heads\":%zu}",
	    more ? more : "", more ? "," : "", vocab, d, ff, layers, heads, kv));
	mh_ok(df_file_put(path, text, strlen(text), err));
	free(path);
	free(text);
	return dir;
}

const float *
mh_weights(struct df_model *m)
{
	const struct df_params *p = df_model_base(m);
	float *x = NULL;

	mh_ok(df_alloc(&x, p->numel, sizeof(*x), "weights", err));
	for (size_t i = 0; i < p->n; i++)
		mh_ok(df_model_read(m, i, 0, p->v[i].rows * p->v[i].cols, x + p->v[i].offset, err));
	return keep(x);
}

float *
mh_train_weights(struct df_model *m)
{
	struct df_tensor t = df_model_train_data(m);
	float *w;

	mh_ok(df_alloc(&w, t.cols, sizeof(*w), "weights", err));
	mh_ok(df_download(df_model_backend(m), w, t, err));
	return w;
}

const float *
mh_batch_grad(struct df_model *m, struct df_work *w, const struct df_tokens *b, const float *scale)
{
	struct df_tensor grad = DF_TENSOR_NONE;
	size_t n = df_model_train(m)->numel;
	float *g = NULL;

	mh_ok(df_tensor_alloc(df_model_backend(m), &grad, DF_F32, 1, n, "grad", err));
	mh_ok(df_fill(df_work_backend(w), grad, 0, err));
	mh_ok(df_model_grad(m, w, b, scale, grad, NULL, err));
	mh_ok(df_alloc(&g, n, sizeof(*g), "grad", err));
	mh_ok(df_download(df_work_backend(w), g, grad, err));
	df_tensor_free(df_model_backend(m), &grad);
	return keep(g);
}

static void
batch_alloc(struct mh_batch *m, size_t n, size_t n_tok)
{
	mh_ok(df_alloc(&m->offsets, n + 1, sizeof(*m->offsets), "a batch", err));
	mh_ok(df_alloc(&m->ids, n_tok, sizeof(*m->ids), "a batch", err));
	mh_ok(df_alloc(&m->mask, n_tok, sizeof(*m->mask), "a batch", err));
	m->b = (struct df_tokens){ .n = n, .offsets = m->offsets, .ids = m->ids, .mask = m->mask };
}

void
mh_batch_load(struct mh_batch *m, const struct df_st *st, size_t first, size_t n)
{
	const struct df_st_tensor *o = df_st_find(st, "offsets"), *i = df_st_find(st, "ids"),
				  *k = df_st_find(st, "mask");
	const int64_t *off = o->data, *ids = i->data, *mask = k->data;
	size_t n_tok;

	n = n > 0 ? n : o->numel - 1 - first;
	n_tok = (size_t)(off[first + n] - off[first]);
	batch_alloc(m, n, n_tok);
	for (size_t s = 0; s <= n; s++)
		m->offsets[s] = (uint64_t)(off[first + s] - off[first]);
	for (size_t t = 0; t < n_tok; t++) {
		m->ids[t] = (uint32_t)ids[(size_t)off[first] + t];
		m->mask[t] = (uint8_t)mask[(size_t)off[first] + t];
	}
}

void
mh_batch_random(struct mh_batch *m, const size_t *lengths, size_t n, size_t n_vocab, uint64_t seed)
{
	size_t n_tok = 0;

	for (size_t s = 0; s < n; s++)
		n_tok += lengths[s];
	batch_alloc(m, n, n_tok);
	for (size_t s = 0; s < n; s++)
		m->offsets[s + 1] = m->offsets[s] + lengths[s];
	for (size_t t = 0; t < n_tok; t++) {
		uint32_t r[4];

		df_rng_words(seed, DF_RNG_DEMO, 0, t, r);
		m->ids[t] = r[0] % (uint32_t)n_vocab;
		m->mask[t] = r[1] % 3 != 0;
	}
	for (size_t s = 0; s < n; s++) {
		if (lengths[s] > 1)
			m->mask[m->offsets[s + 1] - 1] = 1;
	}
}

void
mh_rows(struct df_rows *r, const struct mh_batch *m, size_t n, const uint16_t *domain, int n_domains)
{
	struct df_batch in = { .n = n };
	uint64_t *id;

	mh_ok(df_alloc(&id, n, sizeof(*id), "ids", err));
	for (uint64_t i = 0; i < n; i++)
		id[i] = 100 + i;
	in.col[DF_COL_ID] = (struct df_column_data){ id, NULL, 1 };
	in.col[DF_COL_IDS] = (struct df_column_data){ m->ids, m->offsets, 1 };
	in.col[DF_COL_LABEL_MASK] = (struct df_column_data){ m->mask, m->offsets, 1 };
	mh_ok(df_rows_of_batch(r, "rows", &in, err));
	for (int d = 0; d < n_domains; d++)
		mh_ok(df_meta_add_domain(&r->meta, (const char[]){ (char)('a' + d), '\0' }, NULL, err));
	mh_ok(df_alloc(&r->domain, n, sizeof(*r->domain), "domains", err)); /* as df_rows_load() does */
	memcpy(r->domain, domain, n * sizeof(*domain));
	free(id);
}

void
mh_batch_release(struct mh_batch *m)
{
	free(m->offsets);
	free(m->ids);
	free(m->mask);
}

const float *
mh_floats(const struct df_st *st, const char *fmt, ...)
{
	const struct df_st_tensor *t;
	char name[512];
	float *v = NULL;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(name, sizeof(name), fmt, ap);
	va_end(ap);
	t = df_st_find(st, name);
	if (t == NULL)
		fail_msg("the fixture has no tensor '%s'", name);
	mh_ok(df_alloc(&v, t->numel, sizeof(*v), name, err));
	keep(v);
	mh_ok(df_st_to_f32(t, v, err));
	return v;
}

double
mh_rel_diff(const float *a, const float *b, size_t n)
{
	double diff = 0, size = 0;

	for (size_t i = 0; i < n; i++) {
		if (!isfinite(a[i]) || !isfinite(b[i]))
			return INFINITY;
		diff = fmax(diff, fabs((double)a[i] - (double)b[i]));
		size = fmax(size, fabs((double)b[i]));
	}
	return diff / (size + 1e-12);
}

bool
mh_same(const float *a, const float *b, size_t n)
{
	return memcmp(a, b, n * sizeof(*a)) == 0 || (!df_backend_is_exact(mh_backend()) && mh_rel_diff(a, b, n) < 1e-5);
}

static int
gather(void *ctx, const struct df_grad_block *block, struct df_err *err)
{
	struct mh_grads *g = ctx;
	struct df_backend *be = df_work_backend(g->w);
	size_t cols = block->g.cols, step = (size_t)df_grad_piece_rows(block->param->cols) * block->param->cols;
	float *buf = NULL;
	int rc;

	/* Descending and without gaps; blocks begin and end where pieces do. */
	assert_int_equal(block->offset + cols, g->next);
	assert_int_equal(block->g.rows, g->n);
	assert_int_equal((block->offset - block->param->offset) % step, 0);
	assert_int_equal(block->piece, step);
	assert_true(
	    cols % step == 0 || block->offset + cols == block->param->offset + block->param->rows * block->param->cols);
	g->next = block->offset;
	g->blocks++;
	DF_TRY(df_alloc(&buf, g->n * cols, sizeof(*buf), "a block", err));
	DF_TRY(df_download(be, buf, block->g, err));
	for (size_t s = 0; s < g->n; s++)
		memcpy(g->g + s * g->numel + block->offset, buf + s * cols, cols * sizeof(*buf));
	/* A sink may change the block: spoil it, so that nothing may rely on it later. */
	DF_TRY(df_fill(be, block->g, NAN, err));
out:
	free(buf);
	return rc;
}

void
mh_sample_grads(struct mh_grads *out, struct df_model *m, struct df_work *w, const struct df_tokens *b,
    const struct df_losses *losses)
{
	size_t n = df_model_train(m)->numel;

	*out = (struct mh_grads){ .m = m, .w = w, .n = b->n, .numel = n, .next = n };
	mh_ok(df_alloc(&out->g, b->n * n, sizeof(*out->g), "gradients", err));
	keep(out->g);
	mh_ok(df_model_sample_grads(m, w, b, gather, out, losses, err));
	assert_int_equal(out->next, 0);
}

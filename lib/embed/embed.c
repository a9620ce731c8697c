/*
 * embed.c - opening an embedder, and running rows through the model.
 *
 * The rows of a call are sorted by length, longest first, and cut into ragged batches that fit into the caches:
 *
 *     rows --sort, cut--> batch [T] --hidden--> [T,D] --pool--> [S,D] --download--> cut to width, normalised --> rows
 *
 * Pooling is a product with one row of weights, or picks a row.  No step mixes rows of the batch.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/opt.h"
#include "base/utf8.h"
#include "base/words.h"
#include "embed/embed_priv.h"
#include "token/lower.h"

#define MIN_TOKENS 64 /* of a batch: large enough for a GEMM */

struct df_embedder {
	struct df_embed_opts o;
	struct df_embed_dir dir;
	struct df_backend *be; /* borrowed */
	struct df_model *model;
	struct df_tokenizer *tok; /* texts only */
	enum df_pooling pooling;
	size_t layer, width, max_length, batch_tokens;
	bool normalise;
	const char *prompt; /* "" when there is none */
	char checkpoint[DF_DIGEST_HEX];
};

/* ---- opening ------------------------------------------------------------------------ */

const char *const df_pooling_names[] = { "mean", "last", "cls", "position", NULL };

int
df_pooling_parse(const char *s, enum df_pooling *p, size_t *position, struct df_err *err)
{
	static const char with_number[] = "position:";
	int64_t n = 0;
	int rc = DF_OK;

	*position = 0;
	for (size_t i = 0; DF_POOL_MEAN + i <= DF_POOL_WEIGHTED; i++)
		if (strcmp(s, df_pooling_names[i]) == 0) {
			*p = (enum df_pooling)((size_t)DF_POOL_MEAN + i);
			return DF_OK;
		}
	if (strncmp(s, with_number, strlen(with_number)) != 0)
		return df_unknown(
		    err, DF_EUSAGE, "pooling", s, df_pooling_names, "mean, last, cls, position or position:N");
	DF_TRY(df_parse_int(s + strlen(with_number), 0, INT32_MAX, &n, err));
	*p = DF_POOL_POSITION;
	*position = (size_t)n;
out:
	if (rc != DF_OK)
		df_err_prefix(err, "pooling '%s': ", s);
	return rc;
}

static int
resolve_layer(struct df_embedder *e, struct df_err *err)
{
	const int64_t n = (int64_t)df_model_config(e->model)->n_layers;
	const int64_t layer = e->o.layer < 0 ? n + 1 + e->o.layer : e->o.layer;

	if (layer < 0 || layer > n)
		return df_fail(err, DF_EUSAGE,
		    "layer %lld: the model has %lld (0 = the embeddings, -1 = the last layer)", (long long)e->o.layer,
		    (long long)n);
	e->layer = (size_t)layer;
	return DF_OK;
}

static int
resolve_width(struct df_embedder *e, struct df_err *err)
{
	e->width = df_model_config(e->model)->d_model;
	if (e->o.truncate_dim > e->width)
		return df_fail(err, DF_EUSAGE, "a vector has %zu numbers: it cannot be truncated to %llu", e->width,
		    (unsigned long long)e->o.truncate_dim);
	if (e->o.truncate_dim)
		e->width = (size_t)e->o.truncate_dim;
	return DF_OK;
}

static int
resolve_length(struct df_embedder *e, struct df_err *err)
{
	const struct df_model_config *c = df_model_config(e->model);

	e->max_length = e->o.max_length ? (size_t)e->o.max_length : e->dir.max_length;
	if (c->arch != DF_ARCH_BERT)
		return DF_OK;
	/* An encoder has no positions for more tokens. */
	if (e->o.max_length > c->max_positions)
		return df_fail(err, DF_EUSAGE, "--max-length %llu: the model has positions for %zu tokens",
		    (unsigned long long)e->o.max_length, c->max_positions);
	if (e->max_length > c->max_positions)
		e->max_length = c->max_positions;
	return DF_OK;
}

/* Tokens of a batch, from the width of the model's activations. */
static size_t
batch_tokens(const struct df_embedder *e)
{
	const struct df_backend_traits like = df_backend_traits(e->be);
	const struct df_model_config *c = df_model_config(e->model);
	const size_t floats = 4 * c->d_model + (c->n_heads + 2 * c->n_kv_heads) * c->d_head + 2 * c->d_ff;
	const size_t n = like.forward_bytes / sizeof(float) / floats;

	return n < MIN_TOKENS ? MIN_TOKENS : n > like.forward_tokens ? like.forward_tokens : n;
}

static int
open_texts(struct df_embedder *e, struct df_err *err)
{
	const uint32_t *ids;
	size_t n_before, n_after;
	int rc = DF_OK;

	DF_TRY(df_tokenizer_open(&e->tok, e->o.tokenizer ? e->o.tokenizer : e->dir.model, err));
	if (df_tokenizer_vocab_size(e->tok) > df_model_config(e->model)->n_vocab) {
		rc = df_fail(err, DF_ELINEAGE, "%s has %u tokens, the model %s only %zu: they do not belong together",
		    df_tokenizer_path(e->tok), df_tokenizer_vocab_size(e->tok), e->dir.model,
		    df_model_config(e->model)->n_vocab);
		goto out;
	}
	DF_TRY(df_model_check_tokenizer(e->dir.model, df_tokenizer_id(e->tok), df_tokenizer_path(e->tok), NULL, err));
	df_tokenizer_frame(e->tok, &ids, &n_before, &ids, &n_after);
	if (e->max_length <= n_before + n_after)
		rc = df_fail(err, DF_EUSAGE,
		    "--max-length %zu leaves no room for text: the frame around it has %zu tokens", e->max_length,
		    n_before + n_after);
out:
	return rc;
}

int
df_embedder_open(struct df_embedder **out, const struct df_embed_opts *o, struct df_backend *be, struct df_err *err)
{
	struct df_embedder *e = NULL;
	struct df_digest d = { 0, 0 };
	int rc = DF_OK;

	DF_TRY(df_alloc(&e, 1, sizeof(*e), "an embedder", err));
	e->o = *o;
	e->be = be;
	if (!o->texts && (o->prompt || o->prompt_name)) {
		rc = df_fail(err, DF_EUSAGE, "a prompt stands before texts; tokens are taken as they are");
		goto out;
	}
	DF_TRY(df_embed_dir_read(&e->dir, o->model, o->prompt_name, err));
	DF_TRY(df_model_open(&e->model, e->dir.model, o->base, be, err));
	e->pooling = o->pooling != DF_POOL_DEFAULT ? o->pooling : e->dir.pooling;
	if (e->pooling == DF_POOL_DEFAULT)
		e->pooling = df_model_config(e->model)->arch == DF_ARCH_BERT ? DF_POOL_MEAN : DF_POOL_LAST;
	e->normalise = (o->normalise >= 0 ? o->normalise : e->dir.normalise) != 0;
	e->prompt = o->prompt ? o->prompt : o->texts && e->dir.prompt ? e->dir.prompt : "";
	if (*e->prompt && e->dir.exclude_prompt) {
		rc = df_fail(err, DF_EUNSUPPORTED,
		    "%s: include_prompt is false: leaving the prompt's tokens out of the vector is not supported",
		    o->model);
		goto out;
	}
	DF_TRY(resolve_layer(e, err));
	DF_TRY(resolve_width(e, err));
	DF_TRY(resolve_length(e, err));
	e->batch_tokens = o->batch_tokens ? (size_t)o->batch_tokens : batch_tokens(e);
	if (o->texts)
		DF_TRY(open_texts(e, err));
	DF_TRY(df_model_digest(e->model, &d, err));
	df_digest_hex(d, e->checkpoint);
	*out = e;
	e = NULL;
out:
	df_embedder_close(e);
	return rc;
}

void
df_embedder_close(struct df_embedder *e)
{
	if (!e)
		return;
	df_tokenizer_free(e->tok);
	df_model_free(e->model);
	df_embed_dir_release(&e->dir);
	free(e);
}

size_t
df_embedder_width(const struct df_embedder *e)
{
	return e->width;
}

const char *
df_embedder_model(const struct df_embedder *e)
{
	return e->dir.model;
}

int
df_embedder_meta(const struct df_embedder *e, struct df_meta *m, struct df_err *err)
{
	static const char *const names[] = { [DF_POOL_MEAN] = "mean",
		[DF_POOL_LAST] = "last",
		[DF_POOL_CLS] = "cls",
		[DF_POOL_WEIGHTED] = "position",
		[DF_POOL_POSITION] = "position:N" };
	int rc = DF_OK;

	m->kind = DF_KIND_EMBEDDINGS;
	DF_TRY(df_meta_set_str(m, "pooling", names[e->pooling], err));
	if (e->pooling == DF_POOL_POSITION)
		DF_TRY(df_meta_set_int(m, "position", (int64_t)e->o.position, err));
	DF_TRY(df_meta_set_int(m, "layer", (int64_t)e->layer, err));
	DF_TRY(df_meta_set_bool(m, "normalize", e->normalise, err));
	if (e->o.truncate_dim)
		DF_TRY(df_meta_set_int(m, "truncate_dim", (int64_t)e->width, err));
	if (e->max_length != SIZE_MAX)
		DF_TRY(df_meta_set_int(m, "max_length", (int64_t)e->max_length, err));
	if (*e->prompt)
		DF_TRY(df_meta_set_str(m, "prompt", e->prompt, err));
	if (e->tok) {
		DF_TRY(df_meta_set_str(m, "tokenizer", df_tokenizer_id(e->tok), err));
		DF_TRY(df_meta_add_input(m, "tokenizer", "tokenizer", df_tokenizer_id(e->tok), err));
	}
	DF_TRY(df_meta_add_input(m, "checkpoint", "checkpoint", e->checkpoint, err));
	DF_TRY(df_model_compute_to_meta(e->model, m, err));
out:
	return rc;
}

/* ---- lanes ------------------------------------------------------------------------------ */

struct df_embed_lane {
	const struct df_embedder *e;
	struct df_work *work;
	struct df_backend *be;         /* the work's lane */
	struct df_tokscratch *scratch; /* texts only */
	struct df_buf text, lower;     /* prompt and text; the same in lower case */

	/* the rows of a call, by falling length, and the current batch */
	uint64_t *order, *offsets;
	uint32_t *batch, *position; /* [T] each */
	float *weight, *pooled;     /* [T] [S,D] */
	size_t cap_order, cap_offsets, cap_batch, cap_position, cap_weight, cap_pooled;
	struct df_stage *row;                /* [S] u32 */
	struct df_tensor d_weight, d_pooled; /* [1,T] [S,D] */
};

int
df_embed_lane_new(struct df_embed_lane **out, const struct df_embedder *e, struct df_err *err)
{
	struct df_embed_lane *l = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&l, 1, sizeof(*l), "lane", err));
	l->e = e;
	DF_TRY(df_work_new(&l->work, e->model, err));
	l->be = df_work_backend(l->work);
	if (e->tok)
		DF_TRY(df_tokscratch_new(&l->scratch, e->tok, err));
	*out = l;
	l = NULL;
out:
	df_embed_lane_free(l);
	return rc;
}

void
df_embed_lane_free(struct df_embed_lane *l)
{
	if (!l)
		return;
	df_tensor_free(l->e->be, &l->d_weight);
	df_tensor_free(l->e->be, &l->d_pooled);
	df_stage_free(l->e->be, &l->row);
	df_work_free(l->work);
	df_tokscratch_free(l->scratch);
	df_buf_release(&l->text);
	df_buf_release(&l->lower);
	free(l->order);
	free(l->offsets);
	free(l->batch);
	free(l->position);
	free(l->weight);
	free(l->pooled);
	free(l);
}

size_t
df_embed_lane_width(const struct df_embed_lane *l)
{
	return l->e->width;
}

/* ---- texts --------------------------------------------------------------------------------- */

/* The length of the white space at the start of s: what Python's str.strip() removes. */
static size_t
space_at(const unsigned char *s, size_t n)
{
	const size_t len = df_utf8_len(s, n);

	if (len == 1)
		return (s[0] >= 0x09 && s[0] <= 0x0d) || (s[0] >= 0x1c && s[0] <= 0x20);
	if (len == 2 && s[0] == 0xc2)
		return s[1] == 0x85 || s[1] == 0xa0 ? 2 : 0;
	if (len == 3) {
		const unsigned c = (s[0] & 0xfu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);

		return c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
			c == 0x205f || c == 0x3000
		    ? 3
		    : 0;
	}
	return 0;
}

static void
strip(const char **text, size_t *n)
{
	const unsigned char *s = (const unsigned char *)*text;
	size_t len = *n, k;

	while (len > 0 && (k = space_at(s, len)) > 0) {
		s += k;
		len -= k;
	}
	for (bool more = len > 0; more;) {
		more = false;
		for (k = 1; k <= 3 && k <= len && !more; k++)
			if (space_at(s + len - k, k) == k) {
				len -= k;
				more = len > 0;
				break;
			}
	}
	*text = (const char *)s;
	*n = len;
}

int
df_embed_encode(struct df_embed_lane *l, const char *text, size_t n, struct df_ids *ids, bool *cut, struct df_err *err)
{
	const struct df_embedder *e = l->e;
	int rc = DF_OK;

	if (*e->prompt) {
		df_buf_clear(&l->text);
		df_buf_puts(&l->text, e->prompt);
		df_buf_add(&l->text, text, n);
		DF_TRY(df_buf_check(&l->text, err));
		text = l->text.data;
		n = l->text.len;
	}
	strip(&text, &n);
	if (e->dir.lower) {
		df_buf_clear(&l->lower);
		DF_TRY(df_text_lower(&l->lower, text, n, err));
		text = l->lower.data ? l->lower.data : "";
		n = l->lower.len;
	}
	DF_TRY(df_tokenizer_encode_framed(e->tok, l->scratch, text, n, e->max_length, ids, cut, err));
out:
	return rc;
}

/* ---- rows through the model ------------------------------------------------------------------- */

/* The length of row s after cutting. */
static size_t
length_of(const struct df_embedder *e, const struct df_tokens *b, uint64_t s)
{
	const uint64_t n = b->offsets[s + 1] - b->offsets[s];

	return n < e->max_length ? (size_t)n : e->max_length;
}

struct key {
	uint64_t length, row;
};

static int
longest_first(const void *a, const void *b)
{
	const struct key *x = a, *y = b;

	if (x->length != y->length)
		return x->length > y->length ? -1 : 1;
	return (x->row > y->row) - (x->row < y->row);
}

/* l->order = the rows by falling length. */
static int
sort_rows(struct df_embed_lane *l, const struct df_tokens *b, struct df_err *err)
{
	struct key *keys = NULL;
	int rc;

	DF_TRY(df_alloc(&keys, b->n, sizeof(*keys), "rows", err));
	DF_TRY(df_grow(&l->order, &l->cap_order, b->n, sizeof(*l->order), "rows", err));
	for (size_t i = 0; i < b->n; i++)
		keys[i] = (struct key){ length_of(l->e, b, i), i };
	if (b->n > 1)
		qsort(keys, b->n, sizeof(*keys), longest_first);
	for (size_t i = 0; i < b->n; i++)
		l->order[i] = keys[i].row;
out:
	free(keys);
	return rc;
}

/* Copy the rows order[0..n) into the batch. */
static int
gather(struct df_embed_lane *l, const struct df_tokens *b, const uint64_t *order, size_t n, size_t n_tok,
    struct df_tokens *out, struct df_err *err)
{
	size_t at = 0;
	int rc;

	DF_TRY(df_grow(&l->offsets, &l->cap_offsets, n + 1, sizeof(*l->offsets), "a batch", err));
	DF_TRY(df_grow(&l->batch, &l->cap_batch, n_tok, sizeof(*l->batch), "a batch", err));
	if (b->position)
		DF_TRY(df_grow(&l->position, &l->cap_position, n_tok, sizeof(*l->position), "a batch", err));
	for (size_t i = 0; i < n; i++) {
		const uint64_t from = b->offsets[order[i]];
		const size_t len = length_of(l->e, b, order[i]);

		l->offsets[i] = at;
		memcpy(l->batch + at, b->ids + from, len * sizeof(*l->batch));
		if (b->position)
			memcpy(l->position + at, b->position + from, len * sizeof(*l->position));
		at += len;
	}
	l->offsets[n] = at;
	*out = (struct df_tokens){
		.n = n, .offsets = l->offsets, .ids = l->batch, .position = b->position ? l->position : NULL
	};
out:
	return rc;
}

/* A device buffer of at least n floats, seen as [rows, cols]. */
static int
reserve(
    struct df_backend *be, struct df_tensor *t, size_t rows, size_t cols, struct df_tensor *view, struct df_err *err)
{
	size_t n;
	int rc;

	DF_TRY(df_size_mul(rows, cols, &n, "pooled vectors", err));
	if (n > t->cols) {
		df_tensor_free(be, t);
		DF_TRY(df_tensor_alloc(be, t, DF_F32, 1, n + n / 2, "pooled vectors", err));
	}
	*view = df_tensor_view(*t, 0, rows, cols);
out:
	return rc;
}

/* Has a row with this many tokens the token that pooling takes? */
static int
check_row(const struct df_embedder *e, size_t len, struct df_err *err)
{
	if (e->pooling == DF_POOL_POSITION && e->o.position >= len)
		return df_fail(err, DF_ERANGE, "pooling at position %zu: it has %zu tokens", e->o.position, len);
	return DF_OK;
}

/* out [S,D] = the row of h that is picked for each sample. */
static int
pool_picked(
    struct df_embed_lane *l, const struct df_tokens *b, struct df_tensor h, struct df_tensor out, struct df_err *err)
{
	const struct df_embedder *e = l->e;
	uint32_t *row;
	int rc;

	DF_TRY(df_stage_reuse(l->be, &l->row, b->n * sizeof(*row), "a batch", err));
	row = df_stage_host(l->row, 0);
	for (size_t s = 0; s < b->n; s++)
		row[s] = (uint32_t)(e->pooling == DF_POOL_LAST ? b->offsets[s + 1] - 1
			: e->pooling == DF_POOL_CLS            ? b->offsets[s]
							       : b->offsets[s] + e->o.position);
	DF_TRY(df_stage_push(l->row, 0, b->n * sizeof(*row), err));
	DF_TRY(df_gather_rows(l->be, out, h, df_stage_view(l->row, DF_U32, 0, 1, b->n), err));
out:
	return rc;
}

/* out [S,D] = sum over a sample's tokens of weight times h: 1/n each, or t / (1 + 2 + .. + n). */
static int
pool_weighted(
    struct df_embed_lane *l, const struct df_tokens *b, struct df_tensor h, struct df_tensor out, struct df_err *err)
{
	const bool rising = l->e->pooling == DF_POOL_WEIGHTED;
	const size_t n_tok = (size_t)b->offsets[b->n];
	struct df_tensor w;
	int rc;

	DF_TRY(df_grow(&l->weight, &l->cap_weight, n_tok, sizeof(*l->weight), "a batch", err));
	for (size_t s = 0; s < b->n; s++) {
		const double n = (double)(b->offsets[s + 1] - b->offsets[s]);

		for (uint64_t t = b->offsets[s]; t < b->offsets[s + 1]; t++)
			l->weight[t] = (float)(rising ? (double)(t - b->offsets[s] + 1) / (n * (n + 1) / 2) : 1.0 / n);
	}
	DF_TRY(reserve(l->be, &l->d_weight, 1, n_tok, &w, err));
	DF_TRY(df_upload(l->be, w, l->weight, err));
	for (size_t s = 0; s < b->n; s++) {
		const size_t t = (size_t)b->offsets[s], n = (size_t)(b->offsets[s + 1] - b->offsets[s]);
		const struct df_gemm g = { .alpha = 1,
			.a = df_tensor_cols(w, t, n),
			.b = df_tensor_rows(h, t, n),
			.c = df_tensor_rows(out, s, 1) };

		DF_TRY(df_gemm(l->be, &g, err));
	}
out:
	return rc;
}

/*
 * The first `width` numbers of v, scaled to length one if that is asked for: v / max(|v|, 1e-12), as torch's normalize.
 */
static void
finish(const struct df_embedder *e, const float *v, float *out)
{
	double sum = 0;
	float scale;

	for (size_t i = 0; i < e->width; i++)
		sum += (double)v[i] * (double)v[i];
	scale = e->normalise ? (float)(1 / fmax(sqrt(sum), 1e-12)) : 1.0f;
	for (size_t i = 0; i < e->width; i++)
		out[i] = v[i] * scale;
}

/* Run the rows order[0..n), none of them empty, as one batch. */
static int
run_batch(struct df_embed_lane *l, const struct df_tokens *b, const uint64_t *id, const uint64_t *order, size_t n,
    size_t n_tok, float *vectors, struct df_err *err)
{
	const struct df_embedder *e = l->e;
	const size_t d = df_model_config(e->model)->d_model;
	struct df_tensor h, out;
	struct df_tokens t;
	int rc;

	for (size_t i = 0; i < n; i++)
		if ((rc = check_row(e, length_of(e, b, order[i]), err)) != 0) {
			df_err_prefix(err, "sample %llu: ", (unsigned long long)id[order[i]]);
			goto out;
		}
	DF_TRY(gather(l, b, order, n, n_tok, &t, err));
	DF_TRY(df_model_hidden(e->model, l->work, &t, e->layer, &h, err));
	DF_TRY(reserve(l->be, &l->d_pooled, n, d, &out, err));
	if (e->pooling == DF_POOL_MEAN || e->pooling == DF_POOL_WEIGHTED)
		DF_TRY(pool_weighted(l, &t, h, out, err));
	else
		DF_TRY(pool_picked(l, &t, h, out, err));
	DF_TRY(df_grow(&l->pooled, &l->cap_pooled, n * d, sizeof(*l->pooled), "pooled vectors", err));
	DF_TRY(df_download(l->be, l->pooled, out, err));
	for (size_t i = 0; i < n; i++)
		finish(e, l->pooled + i * d, vectors + order[i] * e->width);
out:
	return rc;
}

static void
find_flaws(const struct df_embedder *e, const struct df_tokens *b, const uint64_t *id, const float *vectors,
    struct df_embed_flaws *f)
{
	for (size_t s = 0; s < b->n; s++) {
		float sum = 0;

		f->n_tokens += length_of(e, b, s);
		f->n_cut += b->offsets[s + 1] - b->offsets[s] > e->max_length;
		f->n_empty += b->offsets[s + 1] == b->offsets[s];
		for (size_t i = 0; i < e->width; i++)
			sum += vectors[s * e->width + i] * 0.0f; /* NaN where one is not finite */
		if (sum != 0.0f || sum != sum) {
			if (!f->n_not_finite)
				f->first_not_finite = id[s];
			f->n_not_finite++;
		}
	}
}

int
df_embed_rows(struct df_embed_lane *l, const struct df_tokens *b, const uint64_t *id, float *vectors,
    struct df_embed_flaws *flaws, struct df_err *err)
{
	const struct df_embedder *e = l->e;
	size_t i = 0;
	int rc;

	if (b->sequence)
		return df_fail(err, DF_EUNSUPPORTED,
		    "rows of several packed samples (neat packing) have no vector of their own: pack without --packing");
	DF_TRY(sort_rows(l, b, err));
	while (i < b->n && length_of(e, b, l->order[i]) > 0) {
		size_t n = 0, n_tok = 0, len;

		while (i + n < b->n && (len = length_of(e, b, l->order[i + n])) > 0) {
			if (n > 0 && n_tok + len > e->batch_tokens)
				break;
			n_tok += len;
			n++;
		}
		rc = run_batch(l, b, id, l->order + i, n, n_tok, vectors, err);
		if (rc != DF_OK)
			goto out;
		i += n;
	}
	for (; i < b->n; i++)
		memset(vectors + l->order[i] * e->width, 0, e->width * sizeof(*vectors));
	find_flaws(e, b, id, vectors, flaws);
out:
	return rc;
}

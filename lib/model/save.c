/*
 * save.c - writing the result of a fine-tuning: a whole model, an adapter, or an adapter merged into
 * its base, in files that transformers and PEFT open.
 *
 * Trained weights are written as float32, the type of their masters.  Weights that were not trained are
 * written in the file's type, so that freezing most of a bf16 model does not double it.  Rows go one
 * after another through a staging buffer, so that even the largest model needs no second copy in memory.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/model_priv.h"

#define CHUNK ((size_t)1 << 20) /* elements moved at once */

/* A file of some rows of base, and how they are written. */
struct shard {
	size_t first, end; /* rows */
	size_t nbytes;
};

struct saver {
	struct df_model *m;
	enum df_st_type *type;       /* [base.n] the type that is written */
	const struct df_part **part; /* [base.n] the adapted projection of a row to merge, else NULL */
	struct shard *shards;
	size_t n_shards, cap_shards;
	struct df_tensor wide, narrow; /* staging: float32, and 16 bits */
	void *host;
	size_t chunk; /* elements in each */
};

static enum df_dtype
backend_type(enum df_st_type t)
{
	return t == DF_ST_BF16 ? DF_BF16 : t == DF_ST_F16 ? DF_F16 : DF_F32;
}

static size_t
numel(const struct df_param *p)
{
	return p->rows * p->cols;
}

static const char *
file_name(const struct df_model *m, const struct df_param *p)
{
	return m->bare && strncmp(p->name, "model.", 6) == 0 ? p->name + 6 : p->name;
}

static void
saver_release(struct saver *s)
{
	df_tensor_free(s->m->be, &s->wide);
	df_tensor_free(s->m->be, &s->narrow);
	free(s->host);
	free(s->type);
	free((void *)s->part);
	free(s->shards);
}

/* Allocate staging for whole rows of every matrix. */
static int
saver_new(struct saver *s, struct df_model *m, struct df_err *err)
{
	int rc;

	*s = (struct saver){ .m = m, .chunk = CHUNK };
	for (size_t i = 0; i < m->base.n; i++) {
		if (m->base.v[i].cols > s->chunk)
			s->chunk = m->base.v[i].cols;
	}
	DF_TRY(df_alloc(&s->type, m->base.n, sizeof(*s->type), "a tensor list", err));
	DF_TRY(df_alloc(&s->part, m->base.n, sizeof(struct df_part *), "a tensor list", err));
	DF_TRY(df_alloc(&s->host, s->chunk, sizeof(float), "a staging buffer", err));
	DF_TRY(df_tensor_alloc(m->be, &s->wide, DF_F32, 1, s->chunk, "a staging buffer", err));
	for (size_t i = 0; i < m->base.n; i++)
		s->type[i] =
		    m->file_type[i] == DF_ST_BF16 || m->file_type[i] == DF_ST_F16 ? m->file_type[i] : DF_ST_F32;
out:
	return rc;
}

/* Which rows have an adapter. */
static void
find_parts(struct saver *s)
{
	struct df_group *g;

	for (size_t i = 0; i < s->m->cfg.n_layers; i++) {
		for (size_t k = 0; (g = df_layer_group(&s->m->layers[i], k)) != NULL; k++) {
			for (size_t j = 0; j < g->n_parts; j++) {
				if (g->part[j].a != DF_NO_ROW)
					s->part[g->part[j].weight] = &g->part[j];
			}
		}
	}
}

/* Cut the rows into files of at most `max` bytes (0: one file); a row that is larger gets a file of its own. */
static int
cut(struct saver *s, uint64_t max, struct df_err *err)
{
	int rc = DF_OK;

	for (size_t i = 0; i < s->m->base.n; i++) {
		size_t n = numel(&s->m->base.v[i]) * df_st_type_size(s->type[i]);
		struct shard *last = s->n_shards > 0 ? &s->shards[s->n_shards - 1] : NULL;

		if (last == NULL || (max > 0 && last->nbytes + n > max)) {
			DF_TRY(df_grow(
			    &s->shards, &s->cap_shards, s->n_shards + 1, sizeof(*s->shards), "a list of files", err));
			last = &s->shards[s->n_shards++];
			*last = (struct shard){ .first = i };
		}
		last->end = i + 1;
		last->nbytes += n;
	}
out:
	return rc;
}

/* float16 has only five bits of exponent: a larger value has become infinite. */
static int
check_half(const void *host, size_t n, const char *name, struct df_err *err)
{
	const uint16_t *h = host;

	for (size_t i = 0; i < n; i++) {
		if ((h[i] & 0x7c00) == 0x7c00)
			return df_fail(err, DF_ERANGE, "tensor '%.200s': a value is too large for float16", name);
	}
	return DF_OK;
}

/* Put rows [r0, r0 + k) of a parameter, merged, in the type to write, into s->host. */
static int
stage_rows(struct saver *s, size_t row, size_t r0, size_t k, struct df_err *err)
{
	struct df_model *m = s->m;
	const struct df_param *p = &m->base.v[row];
	const struct df_part *t = s->part[row];
	const enum df_dtype type = backend_type(s->type[row]);
	struct df_tensor src = df_tensor_rows(m->value[row], r0, k), wide = df_tensor_view(s->wide, 0, k, p->cols),
			 narrow;
	int rc;

	if (src.type == type && t == NULL)
		return df_download(m->be, s->host, src, err);
	DF_TRY(df_copy(m->be, wide, src, err));
	if (t != NULL) {
		struct df_gemm g = { .alpha = t->scale,
			.beta = 1,
			.a = df_tensor_rows(df_param_view(m->train_data, &m->train.v[t->b]), r0, k),
			.b = df_param_view(m->train_data, &m->train.v[t->a]),
			.c = wide };

		DF_TRY(df_gemm(m->be, &g, err));
	}
	if (type == DF_F32) {
		DF_TRY(df_download(m->be, s->host, wide, err));
		goto out;
	}
	if (df_tensor_is_none(s->narrow) || s->narrow.type != type) {
		df_tensor_free(m->be, &s->narrow);
		DF_TRY(df_tensor_alloc(m->be, &s->narrow, type, 1, s->chunk, "a staging buffer", err));
	}
	narrow = df_tensor_view(s->narrow, 0, k, p->cols);
	DF_TRY(df_copy(m->be, narrow, wide, err));
	DF_TRY(df_download(m->be, s->host, narrow, err));
	if (type == DF_F16)
		DF_TRY(check_half(s->host, k * p->cols, p->name, err));
out:
	return rc;
}

static int
write_shard(struct saver *s, const struct shard *f, const char *path, struct df_err *err)
{
	struct df_st_writer *w = NULL, *done;
	int rc;

	DF_TRY(df_st_create(&w, path, err));
	DF_TRY(df_st_add_metadata(w, "format", "pt", err)); /* transformers requires it */
	for (size_t i = f->first; i < f->end; i++) {
		const struct df_param *p = &s->m->base.v[i];
		uint64_t shape[2] = { p->rank == 2 ? p->rows : p->cols, p->cols };

		DF_TRY(df_st_add(w, file_name(s->m, p), s->type[i], shape, p->rank, err));
	}
	for (size_t i = f->first; i < f->end; i++) {
		const struct df_param *p = &s->m->base.v[i];
		size_t step = s->chunk / p->cols;

		for (size_t r = 0, k; r < p->rows; r += k) {
			k = p->rows - r < step ? p->rows - r : step;
			DF_TRY(stage_rows(s, i, r, k, err));
			DF_TRY(df_st_write(w, s->host, k * p->cols * df_st_type_size(s->type[i]), err));
		}
	}
	done = w;
	w = NULL;
	DF_TRY(df_st_commit(done, err));
out:
	df_st_discard(w);
	return rc;
}

static int
shard_path(const struct saver *s, size_t i, const char *dir, char **path, struct df_err *err)
{
	if (s->n_shards == 1)
		return df_path_join(path, dir, "model.safetensors", err);
	return df_asprintf(path, err, "%s/model-%05zu-of-%05zu.safetensors", dir, i + 1, s->n_shards);
}

/* model.safetensors.index.json, as transformers writes it. */
static int
write_index(const struct saver *s, const char *dir, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	size_t bytes = 0;
	char *path = NULL;
	int rc;

	for (size_t i = 0; i < s->n_shards; i++)
		bytes += s->shards[i].nbytes;
	df_buf_printf(&b,
	    "{\n  \"metadata\": {\n    \"total_parameters\": %zu,\n    \"total_size\": %zu\n  },\n  \"weight_map\": {",
	    s->m->base.numel, bytes);
	for (size_t i = 0; i < s->n_shards; i++) {
		for (size_t k = s->shards[i].first; k < s->shards[i].end; k++) {
			df_buf_puts(&b, k ? ",\n    " : "\n    ");
			df_buf_json_str(&b, file_name(s->m, &s->m->base.v[k]));
			df_buf_printf(&b, ": \"model-%05zu-of-%05zu.safetensors\"", i + 1, s->n_shards);
		}
	}
	df_buf_puts(&b, "\n  }\n}\n");
	DF_TRY(df_buf_check(&b, err));
	DF_TRY(df_path_join(&path, dir, "model.safetensors.index.json", err));
	DF_TRY(df_file_put(path, b.data, b.len, err));
out:
	df_buf_release(&b);
	free(path);
	return rc;
}

/* config.json with the type of the weights; where they differ, the type that can hold all of them. */
static int
write_config(const struct saver *s, const char *dir, struct df_err *err)
{
	static const char *const keys[] = { "\n  \"dtype\": \"", "\n  \"torch_dtype\": \"" };
	const char *text = s->m->cfg.json, *type;
	struct df_buf b = DF_BUF_INIT;
	char *path = NULL;
	bool same = true;
	int rc;

	for (size_t i = 1; i < s->m->base.n; i++)
		same = same && s->type[i] == s->type[0];
	type = !same || s->type[0] == DF_ST_F32 ? "float32" : s->type[0] == DF_ST_BF16 ? "bfloat16" : "float16";
	for (;;) {
		const char *at = NULL;

		for (size_t i = 0; i < 2; i++) {
			const char *found = strstr(text, keys[i]);

			if (found != NULL && (at == NULL || found + strlen(keys[i]) < at))
				at = found + strlen(keys[i]);
		}
		if (at == NULL)
			break;
		df_buf_add(&b, text, (size_t)(at - text));
		df_buf_puts(&b, type);
		text = at + strcspn(at, "\"");
	}
	df_buf_puts(&b, text);
	DF_TRY(df_buf_check(&b, err));
	DF_TRY(df_path_join(&path, dir, "config.json", err));
	DF_TRY(df_file_put(path, b.data, b.len, err));
out:
	df_buf_release(&b);
	free(path);
	return rc;
}

static int
write_model(struct saver *s, const char *dir, uint64_t max_shard, struct df_err *err)
{
	char *path = NULL;
	int rc;

	DF_TRY(cut(s, max_shard, err));
	for (size_t i = 0; i < s->n_shards; i++) {
		DF_TRY(shard_path(s, i, dir, &path, err));
		DF_TRY(write_shard(s, &s->shards[i], path, err));
		free(path);
		path = NULL;
	}
	if (s->n_shards > 1)
		DF_TRY(write_index(s, dir, err));
	DF_TRY(write_config(s, dir, err));
out:
	free(path);
	return rc;
}

static int
save_base(struct df_model *m, const char *dir, struct df_err *err)
{
	struct saver s;
	int rc;

	DF_TRY(saver_new(&s, m, err));
	for (size_t i = 0; i < m->base.n; i++) {
		if (df_row_trains(m, i) && !df_tensor_is_none(m->train_data))
			s.type[i] = DF_ST_F32;
	}
	DF_TRY(write_model(&s, dir, 0, err));
	DF_TRY(df_trainable_write(m, dir, err));
out:
	saver_release(&s);
	return rc;
}

static int
save_adapter(struct df_model *m, const char *dir, struct df_err *err)
{
	struct df_st_writer *w = NULL, *done;
	char *config = NULL, *path = NULL;
	int rc;

	DF_TRY(df_path_join(&config, dir, "adapter_config.json", err));
	DF_TRY(df_path_join(&path, dir, "adapter_model.safetensors", err));
	DF_TRY(df_st_create(&w, path, err));
	DF_TRY(df_st_add_metadata(w, "format", "pt", err));
	DF_TRY(df_params_declare(&m->train, "", w, err));
	DF_TRY(df_params_store(&m->train, m->train_data, w, m->be, err));
	done = w;
	w = NULL;
	DF_TRY(df_st_commit(done, err));
	DF_TRY(df_lora_write_config(m, config, err));
out:
	df_st_discard(w);
	free(config);
	free(path);
	return rc;
}

int
df_model_save(struct df_model *m, const char *dir, struct df_err *err)
{
	if (m->lora && m->dir == NULL)
		return df_fail(err, DF_EUNSUPPORTED,
		    "%s: the adapter's base weights are random and in no file, so the adapter could not be "
		    "used; save the base model first and adapt that",
		    dir);
	return m->lora ? save_adapter(m, dir, err) : save_base(m, dir, err);
}

int
df_model_merge(struct df_model *m, const char *dir, const struct df_merge_spec *spec, struct df_err *err)
{
	struct saver s;
	int rc;

	DF_TRY(saver_new(&s, m, err));
	if (spec->convert) {
		for (size_t i = 0; i < m->base.n; i++)
			s.type[i] = spec->type == DF_BF16 ? DF_ST_BF16 : spec->type == DF_F16 ? DF_ST_F16 : DF_ST_F32;
	}
	if (m->lora)
		find_parts(&s);
	DF_TRY(write_model(&s, dir, spec->max_shard, err));
out:
	saver_release(&s);
	return rc;
}

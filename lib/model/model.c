/*
 * model.c - a model's life: opened from a directory or drawn at random, adapted, digested, saved.
 */
#include "model/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "model/config_priv.h"
#include "model/model_priv.h"

#define CHUNK              ((size_t)1 << 20) /* elements drawn or digested at once */
#define DIGEST_CHUNK       ((size_t)1 << 16) /* of base: small, so that they stay in cache */
#define ADAPTER_CONFIG_MAX ((size_t)4 << 20)

/* A model that has its configuration only. */
static int
new_model(struct df_model **out, const char *dir, struct df_backend *be, struct df_err *err)
{
	struct df_model *m = NULL;
	int rc;

	DF_TRY(df_alloc(&m, 1, sizeof(*m), "a model", err));
	m->be = be;
	m->act = df_backend_compute(be);
	DF_TRY(df_model_config_load(&m->cfg, dir, err));
	*out = m;
	m = NULL;
out:
	df_model_free(m);
	return rc;
}

/* Build the tables of the parameters; there are no weights yet. */
static int
build_tables(struct df_model *m, const char *dir, struct df_err *err)
{
	int rc;

	rc = df_params_build_base(m, err);
	if (rc == DF_OK)
		rc = df_alloc(&m->value, m->base.n, sizeof(*m->value), "the parameter table", err);
	if (rc == DF_OK)
		rc = df_alloc(&m->w, m->base.n, sizeof(*m->w), "the parameter table", err);
	if (rc == DF_OK)
		rc = df_alloc(&m->low, m->base.n, sizeof(*m->low), "the parameter table", err);
	if (rc == DF_OK)
		rc = df_alloc(&m->borrowed, m->base.n, sizeof(*m->borrowed), "the parameter table", err);
	if (rc == DF_OK)
		rc = df_alloc(&m->file_type, m->base.n, sizeof(*m->file_type), "the parameter table", err);
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", dir);
	return rc;
}

/*
 * Tensors that files may hold and that are not needed: old buffers, the head that some tied
 * checkpoints repeat (see check_tied()), heads that are not used here.
 */
static const char *const *
ignored_tensors(const struct df_model_config *c)
{
	static const char *const untied[] = { "rotary_emb.inv_freq", NULL };
	static const char *const tied[] = { "rotary_emb.inv_freq", "lm_head.weight", NULL };
	static const char *const bert[] = { "embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias",
		"cls.predictions.bias", "cls.predictions.transform.dense.weight",
		"cls.predictions.transform.dense.bias", "cls.predictions.transform.LayerNorm.weight",
		"cls.predictions.transform.LayerNorm.bias", "cls.predictions.transform.LayerNorm.gamma",
		"cls.predictions.transform.LayerNorm.beta", "cls.predictions.decoder.weight",
		"cls.predictions.decoder.bias", "cls.seq_relationship.weight", "cls.seq_relationship.bias", NULL };

	if (c->arch == DF_ARCH_BERT)
		return bert;
	return c->tied || c->head != DF_HEAD_LM ? tied : untied;
}

/*
 * A tied model's file may have a head with other values.  It is used, as transformers 5 does;
 * transformers 4 ignored it.
 */
static int
check_tied(struct df_model *m, const char *dir, struct df_err *err)
{
	bool own;
	int rc;

	if (m->cfg.head != DF_HEAD_LM || !m->cfg.tied)
		return DF_OK;
	DF_TRY(df_weights_own_head(m, &own, err));
	if (!own)
		goto out;
	df_warn("%s: its lm_head.weight differs from the embedding, so it is used, though config.json has "
		"tie_word_embeddings: true",
	    df_st_path(m->st) ? df_st_path(m->st) : dir);
	DF_TRY(df_config_untie(&m->cfg, err));
out:
	return rc;
}

static int
open_base(struct df_model **out, const char *dir, struct df_backend *be, struct df_err *err)
{
	struct df_model *m = NULL;
	int rc;

	DF_TRY(new_model(&m, dir, be, err));
	DF_TRY(df_strdup(&m->dir, dir, err));
	DF_TRY(df_st_open_model(&m->st, dir, err));
	rc = check_tied(m, dir, err);
	if (rc == DF_OK)
		DF_TRY(build_tables(m, dir, err));
	if (rc == DF_OK)
		rc = df_weights_load(m, ignored_tensors(&m->cfg), err);
	if (rc != DF_OK) {
		df_err_prefix(err, "%s: ", df_st_path(m->st) ? df_st_path(m->st) : dir);
		goto out;
	}
	DF_TRY(df_trainable_read(m, dir, err));
	*out = m;
	m = NULL;
out:
	df_model_free(m);
	return rc;
}

/*
 * The directory of an adapter's base model: a relative path is tried from the working directory, then
 * from the adapter's.
 */
static int
find_base(char **out, const char *dir, const struct df_json_value *cfg, struct df_err *err)
{
	char *path = NULL, *probe = NULL;
	const char *name;
	bool there;
	int rc;

	DF_TRY(df_json_member_str(cfg, "base_model_name_or_path", NULL, &name, err));
	if (name == NULL || *name == '\0') {
		rc = df_fail(err, DF_EFORMAT, "'base_model_name_or_path' is missing");
		goto out;
	}
	DF_TRY(df_strdup(&path, name, err));
	DF_TRY(df_path_join(&probe, path, "config.json", err));
	DF_TRY(df_file_probe(probe, &there, err));
	if (!there && name[0] != '/') {
		free(path);
		free(probe);
		path = probe = NULL;
		DF_TRY(df_path_join(&path, dir, name, err));
		DF_TRY(df_path_join(&probe, path, "config.json", err));
		DF_TRY(df_file_probe(probe, &there, err));
	}
	if (!there) {
		rc =
		    df_fail(err, DF_ENOINPUT, "its base model '%.300s' is not here; name its directory (--base)", name);
		goto out;
	}
	*out = path;
	path = NULL;
out:
	free(path);
	free(probe);
	return rc;
}

static int
open_adapter(struct df_model **out, const char *dir, const char *config, const char *base, struct df_backend *be,
    struct df_err *err)
{
	struct df_model *m = NULL;
	struct df_json *json = NULL;
	struct df_st *st = NULL;
	char *found = NULL, *path = NULL;
	int rc;

	DF_TRY(df_json_load(&json, config, ADAPTER_CONFIG_MAX, err));
	if (base == NULL) {
		rc = find_base(&found, dir, df_json_root(json), err);
		if (rc != DF_OK) {
			df_err_prefix(err, "%s: ", config);
			goto out;
		}
		base = found;
	}
	DF_TRY(open_base(&m, base, be, err));
	rc = df_lora_read_config(m, df_json_root(json), err);
	if (rc == DF_OK)
		rc = df_lora_attach(m, err);
	if (rc != DF_OK) {
		df_err_prefix(err, "%s: ", config);
		goto out;
	}
	DF_TRY(df_path_join(&path, dir, "adapter_model.safetensors", err));
	DF_TRY(df_st_open(&st, path, err));
	rc = df_params_load(&m->train, m->train_data, st, "", NULL, be, err);
	if (rc != DF_OK) {
		df_err_prefix(err, "%s: ", path);
		goto out;
	}
	DF_TRY(df_weights_round(m, err));
	*out = m;
	m = NULL;
out:
	df_st_close(st);
	df_json_free(json);
	df_model_free(m);
	free(found);
	free(path);
	return rc;
}

int
df_model_open(struct df_model **out, const char *dir, const char *base, struct df_backend *be, struct df_err *err)
{
	char *config = NULL;
	bool there;
	int rc;

	df_model_warn_newer(dir);
	DF_TRY(df_path_join(&config, dir, "adapter_config.json", err));
	DF_TRY(df_file_probe(config, &there, err));
	if (there)
		rc = open_adapter(out, dir, config, base, be, err);
	else
		rc = open_base(out, dir, be, err);
out:
	free(config);
	return rc;
}

/* Element i of the parameter with index `row` is draw i of substream `row`: a value depends on its address only. */
enum draw { DRAW_CONSTANT, DRAW_NORMAL, DRAW_UNIFORM };

static int
draw(struct df_model *m, struct df_tensor data, const struct df_param *p, size_t row, enum draw how, double x,
    uint64_t seed, float *buf, struct df_err *err)
{
	struct df_tensor t = df_param_view(data, p);
	size_t n = p->rows * p->cols;
	int rc = DF_OK;

	if (how == DRAW_CONSTANT)
		return df_fill(m->be, t, (float)x, err);
	for (size_t at = 0, k; at < n; at += k) {
		k = n - at < CHUNK ? n - at : CHUNK;
		for (size_t i = 0; i < k; i++) {
			if (how == DRAW_NORMAL)
				buf[i] = (float)(x * df_rng_normal(seed, DF_RNG_INIT, (uint32_t)row, at + i));
			else
				buf[i] =
				    (float)(x * (2 * df_rng_uniform(seed, DF_RNG_INIT, (uint32_t)row, at + i) - 1));
		}
		DF_TRY(df_upload(m->be, df_tensor_view(t, at, 1, k), buf, err));
	}
out:
	return rc;
}

int
df_model_init(struct df_model **out, const char *dir, uint64_t seed, struct df_backend *be, struct df_err *err)
{
	struct df_model *m = NULL;
	float *buf = NULL;
	int rc;

	DF_TRY(new_model(&m, dir, be, err));
	DF_TRY(build_tables(m, dir, err));
	rc = df_tensor_alloc(be, &m->drawn, DF_F32, 1, m->base.numel, "the model's weights", err);
	if (rc != DF_OK) {
		df_err_prefix(err, "%s: ", dir);
		goto out;
	}
	DF_TRY(df_alloc(&buf, CHUNK, sizeof(*buf), "a staging buffer", err));
	for (size_t i = 0; i < m->base.n; i++) {
		const struct df_param *p = &m->base.v[i];
		bool matrix = p->rank == 2, bias = strcmp(strrchr(p->name, '.'), ".bias") == 0;

		m->value[i] = df_param_view(m->drawn, p);
		m->file_type[i] = DF_ST_F32;
		DF_TRY(draw(m, m->drawn, p, i, matrix ? DRAW_NORMAL : DRAW_CONSTANT,
		    matrix     ? m->cfg.init_range
			: bias ? 0
			       : 1,
		    seed, buf, err));
	}
	DF_TRY(df_weights_place(m, err));
	DF_TRY(df_model_set_trainable(m, &(struct df_train_spec){ 0 }, err));
	*out = m;
	m = NULL;
out:
	free(buf);
	df_model_free(m);
	return rc;
}

int
df_model_add_lora(struct df_model *m, const struct df_lora_spec *spec, uint64_t seed, struct df_err *err)
{
	float *buf = NULL;
	int rc;

	if (m->lora)
		return df_fail(err, DF_EUSAGE, "the model has an adapter already");
	DF_TRY(df_weights_unmaster(m, err));
	m->rank = spec->rank;
	m->alpha = spec->alpha;
	m->rslora = spec->rslora;
	m->lora_dropout = spec->dropout;
	df_lora_patterns_release(&m->rank_pattern);
	df_lora_patterns_release(&m->alpha_pattern);
	free(m->additional);
	m->additional = NULL;
	if (spec->additional != NULL)
		DF_TRY(df_strdup(&m->additional, spec->additional, err));
	DF_TRY(df_lora_set_targets(m, spec->targets, err));
	DF_TRY(df_lora_attach(m, err));
	DF_TRY(df_alloc(&buf, CHUNK, sizeof(*buf), "a staging buffer", err));
	for (size_t i = 0; i < m->train.n; i++) {
		const struct df_param *p = &m->train.v[i];

		if (m->base_row[i] != DF_NO_ROW)
			continue;
		/* nn.Linear's kaiming_uniform(a = sqrt 5) is uniform in +-1/sqrt(in). */
		DF_TRY(draw(m, m->train_data, p, i, p->lora_b ? DRAW_CONSTANT : DRAW_UNIFORM,
		    p->lora_b ? 0 : 1 / sqrt((double)p->cols), seed, buf, err));
	}
	DF_TRY(df_weights_round(m, err));
	DF_TRY(df_sync(m->be, err)); /* constants were filled in */
out:
	free(buf);
	return rc;
}

void
df_model_free(struct df_model *m)
{
	if (m == NULL)
		return;
	if (m->train_data.mem != m->drawn.mem)
		df_tensor_free(m->be, &m->train_data);
	for (size_t i = 0; m->borrowed != NULL && i < m->base.n; i++)
		df_tensor_free(m->be, &m->borrowed[i]);
	df_weights_release_low(m);
	df_tensor_free(m->be, &m->drawn);
	df_tensor_free(m->be, &m->small);
	df_st_close(m->st); /* after the windows into it */
	for (size_t i = 0; m->layers != NULL && i < m->cfg.n_layers; i++) {
		if (m->layers[i].moe != NULL) {
			free(m->layers[i].moe->gate_up);
			free(m->layers[i].moe->down);
		}
		free(m->layers[i].moe);
	}
	df_params_release(&m->base);
	df_params_release(&m->train);
	df_model_config_release(&m->cfg);
	free(m->layers);
	free(m->dir);
	free(m->train_row);
	free(m->base_row);
	free(m->value);
	free(m->w);
	free(m->borrowed);
	free(m->file_type);
	df_lora_patterns_release(&m->rank_pattern);
	df_lora_patterns_release(&m->alpha_pattern);
	free(m->targets);
	free(m->additional);
	free(m->freeze_modules);
	free(m->freeze_extra);
	free(m);
}

const struct df_model_config *
df_model_config(const struct df_model *m)
{
	return &m->cfg;
}

const struct df_params *
df_model_base(const struct df_model *m)
{
	return &m->base;
}

const struct df_params *
df_model_train(const struct df_model *m)
{
	return &m->train;
}

const char *
df_model_dir(const struct df_model *m)
{
	return m->dir;
}

bool
df_model_has_lora(const struct df_model *m)
{
	return m->lora;
}

size_t
df_model_bytes(const struct df_model *m)
{
	size_t n = 0;

	for (size_t i = 0; i < m->base.n; i++) {
		n += df_tensor_numel(m->value[i]) * df_dtype_size(m->value[i].type);
		n += df_tensor_numel(m->low[i]) * df_dtype_size(m->act);
	}
	for (size_t i = 0; i < m->train.n; i++)
		n += m->base_row[i] == DF_NO_ROW ? m->train.v[i].rows * m->train.v[i].cols * sizeof(float) : 0;
	n += df_tensor_numel(m->train_low) * df_dtype_size(m->act);
	return n;
}

size_t
df_model_backward_layers(const struct df_model *m)
{
	return m->cfg.n_layers - m->first_layer;
}

bool
df_model_trains_head(const struct df_model *m)
{
	return df_row_trains(m, m->lm_head);
}

struct df_backend *
df_model_backend(const struct df_model *m)
{
	return m->be;
}

void
df_model_set_checkpointing(struct df_model *m, bool on)
{
	m->checkpointing = on;
}

struct df_tensor
df_model_train_data(struct df_model *m)
{
	return m->train_data;
}

struct df_tensor
df_model_train_low(struct df_model *m)
{
	return m->train_low;
}

int
df_model_train_changed(struct df_model *m, struct df_err *err)
{
	return df_weights_round(m, err);
}

/* Elements of a parameter as float32; `wide` [1, n or more] is staging for other types. */
static int
read_row(struct df_model *m, size_t row, size_t first, size_t n, struct df_tensor wide, float *dst, struct df_err *err)
{
	struct df_tensor t = df_tensor_view(m->value[row], first, 1, n);
	int rc;

	if (t.type != DF_F32) {
		wide = df_tensor_view(wide, 0, 1, n);
		DF_TRY(df_copy(m->be, wide, t, err));
		t = wide;
	}
	DF_TRY(df_download(m->be, dst, t, err));
out:
	return rc;
}

int
df_model_read(struct df_model *m, size_t row, size_t first, size_t n, float *dst, struct df_err *err)
{
	struct df_tensor wide = DF_TENSOR_NONE;
	int rc;

	DF_TRY(df_tensor_alloc(m->be, &wide, DF_F32, 1, n, "a staging buffer", err));
	DF_TRY(read_row(m, row, first, n, wide, dst, err));
out:
	df_tensor_free(m->be, &wide);
	return rc;
}

/*
 * The values of base, parameter after parameter, as float32: equal values have equal digests, whatever
 * their type in the file.
 */
static int
digest_base(struct df_model *m, struct df_hasher *h, float *buf, struct df_err *err)
{
	struct df_digest names = df_params_digest(&m->base);
	struct df_tensor wide = DF_TENSOR_NONE;
	int rc;

	df_hasher_add(h, &names, sizeof(names));
	DF_TRY(df_tensor_alloc(m->be, &wide, DF_F32, 1, DIGEST_CHUNK, "a staging buffer", err));
	for (size_t i = 0; i < m->base.n; i++) {
		size_t numel = m->base.v[i].rows * m->base.v[i].cols;

		for (size_t at = 0, n; at < numel; at += n) {
			n = numel - at < DIGEST_CHUNK ? numel - at : DIGEST_CHUNK;
			DF_TRY(read_row(m, i, at, n, wide, buf, err));
			df_hasher_add(h, buf, n * sizeof(*buf));
		}
	}
out:
	df_tensor_free(m->be, &wide);
	return rc;
}

static int
digest_adapters(struct df_model *m, struct df_hasher *h, float *buf, struct df_err *err)
{
	struct df_digest names = df_params_digest(&m->train);
	int rc = DF_OK;

	df_hasher_add(h, &names, sizeof(names));
	for (size_t at = 0, n; at < m->train.numel; at += n) {
		n = m->train.numel - at < CHUNK ? m->train.numel - at : CHUNK;
		DF_TRY(df_download(m->be, buf, df_tensor_view(m->train_data, at, 1, n), err));
		df_hasher_add(h, buf, n * sizeof(*buf));
	}
out:
	return rc;
}

/* The ranks are in the tables already. */
static void
digest_scales(const struct df_model *m, struct df_hasher *h)
{
	const struct df_group *g;

	for (size_t i = 0; i < m->cfg.n_layers; i++) {
		for (size_t k = 0; (g = df_layer_group(&m->layers[i], k)) != NULL; k++) {
			for (size_t j = 0; j < g->n_parts; j++) {
				const double scale = (double)g->part[j].scale;

				if (g->part[j].a != DF_NO_ROW)
					df_hasher_add(h, &scale, sizeof(scale));
			}
		}
	}
}

/* Settings that the arithmetic depends on and the tables do not have. */
static void
digest_config(const struct df_model *m, struct df_hasher *h)
{
	const struct df_model_config *c = &m->cfg;
	const struct df_rope_config *r = &c->rope;
	const double scalars[] = { (double)c->arch, (double)c->head, (double)c->n_heads, (double)c->n_kv_heads,
		c->norm_eps, (double)c->pad_row, (double)r->type, r->theta, r->factor, r->low_freq_factor,
		r->high_freq_factor, r->attention_factor, r->beta_fast, r->beta_slow, (double)r->original_max_positions,
		(double)r->truncate, (double)c->moe.top_k, (double)c->moe.normalise,
		m->lora ? (double)m->lora_scale : 0, m->lora ? (double)m->rank : 0 };

	df_hasher_add(h, scalars, sizeof(scalars));
	for (size_t i = 0; c->window != NULL && i < c->n_layers; i++) {
		uint64_t window = c->window[i];

		df_hasher_add(h, &window, sizeof(window));
	}
	if (m->lora && m->rank_pattern.n + m->alpha_pattern.n > 0)
		digest_scales(m, h);
}

int
df_model_digest(struct df_model *m, struct df_digest *d, struct df_err *err)
{
	struct df_hasher *h = NULL;
	float *buf = NULL;
	int rc;

	DF_TRY(df_hasher_new(&h, 0, err));
	DF_TRY(df_alloc(&buf, CHUNK, sizeof(*buf), "a staging buffer", err));
	digest_config(m, h);
	DF_TRY(digest_base(m, h, buf, err));
	if (m->lora)
		DF_TRY(digest_adapters(m, h, buf, err));
	*d = df_hasher_end(h);
out:
	df_hasher_free(h);
	free(buf);
	return rc;
}

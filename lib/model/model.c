/*
 * model.c - a model's life: opened from a directory or drawn at random,
 * adapted, digested, saved.
 */
#include "model/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "model/model_priv.h"

#define CHUNK              ((size_t)1 << 20) /* elements drawn or digested at once */
#define ADAPTER_CONFIG_MAX ((size_t)4 << 20)

/* Config, tables and memory; the weights are undefined. */
static int
new_model(struct df_model **out, const char *dir, struct df_backend *be, struct df_err *err)
{
	struct df_model *m = NULL;
	int rc;

	DF_TRY(df_alloc(&m, 1, sizeof(*m), "a model", err));
	m->be = be;
	DF_TRY(df_model_config_load(&m->cfg, dir, err));
	rc = df_params_build_base(m, err);
	if (rc == DF_OK)
		rc = df_tensor_alloc(be, &m->base_data, DF_F32, 1, m->base.numel, "the model's weights", err);
	if (rc != DF_OK) {
		df_err_prefix(err, "%s: ", dir);
		goto out;
	}
	m->train_data = m->base_data;
	*out = m;
	m = NULL;
out:
	df_model_free(m);
	return rc;
}

static int
open_base(struct df_model **out, const char *dir, struct df_backend *be, struct df_err *err)
{
	/* Buffers that older files carry, and the head that some tied checkpoints repeat. */
	static const char *const untied[] = { "rotary_emb.inv_freq", NULL };
	static const char *const tied[] = { "rotary_emb.inv_freq", "lm_head.weight", NULL };
	struct df_model *m = NULL;
	struct df_st *st = NULL;
	int rc;

	DF_TRY(new_model(&m, dir, be, err));
	DF_TRY(df_strdup(&m->dir, dir, err));
	DF_TRY(df_st_open_model(&st, dir, err));
	rc = df_params_load(&m->base, m->base_data, st, "", "model.", m->cfg.tied ? tied : untied, be, err);
	if (rc != DF_OK) {
		df_err_prefix(err, "%s: ", df_st_path(st) ? df_st_path(st) : dir);
		goto out;
	}
	*out = m;
	m = NULL;
out:
	df_st_close(st);
	df_model_free(m);
	return rc;
}

/* Where the base model of an adapter lies: relative paths count from the working directory, then from the adapter's. */
static int
find_base(char **out, const char *dir, const struct df_json_value *cfg, struct df_err *err)
{
	char *path = NULL, *probe = NULL;
	const char *name;
	int rc;

	DF_TRY(df_json_member_str(cfg, "base_model_name_or_path", NULL, &name, err));
	if (name == NULL || *name == '\0') {
		rc = df_fail(err, DF_EFORMAT, "'base_model_name_or_path' is missing");
		goto out;
	}
	DF_TRY(df_strdup(&path, name, err));
	DF_TRY(df_path_join(&probe, path, "config.json", err));
	if (!df_file_exists(probe) && name[0] != '/') {
		free(path);
		free(probe);
		path = probe = NULL;
		DF_TRY(df_path_join(&path, dir, name, err));
		DF_TRY(df_path_join(&probe, path, "config.json", err));
	}
	if (!df_file_exists(probe)) {
		rc = df_fail(err, DF_ENOINPUT, "its base model '%.300s' is not here; name its directory", name);
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
	rc = df_params_load(m->train, m->train_data, st, "", NULL, NULL, be, err);
	if (rc != DF_OK) {
		df_err_prefix(err, "%s: ", path);
		goto out;
	}
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
	int rc;

	DF_TRY(df_path_join(&config, dir, "adapter_config.json", err));
	if (df_file_exists(config))
		rc = open_adapter(out, dir, config, base, be, err);
	else
		rc = open_base(out, dir, be, err);
out:
	free(config);
	return rc;
}

/* Element i of parameter `row` is draw i of substream `row`: a value depends on nothing but its address. */
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
	DF_TRY(df_alloc(&buf, CHUNK, sizeof(*buf), "a staging buffer", err));
	for (size_t i = 0; i < m->base.n; i++) {
		const struct df_param *p = &m->base.v[i];
		bool matrix = p->rank == 2, bias = strcmp(strrchr(p->name, '.'), ".bias") == 0;

		DF_TRY(draw(m, m->base_data, p, i, matrix ? DRAW_NORMAL : DRAW_CONSTANT,
		    matrix     ? m->cfg.init_range
			: bias ? 0
			       : 1,
		    seed, buf, err));
	}
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
	m->rank = spec->rank;
	m->alpha = spec->alpha;
	DF_TRY(df_lora_set_targets(m, spec->targets, err));
	DF_TRY(df_lora_attach(m, err));
	DF_TRY(df_alloc(&buf, CHUNK, sizeof(*buf), "a staging buffer", err));
	for (size_t i = 0; i < m->train->n; i++) {
		const struct df_param *p = &m->train->v[i];
		bool a = strstr(p->name, ".lora_A.") != NULL;

		/* nn.Linear's kaiming_uniform(a = sqrt 5) is uniform in +-1/sqrt(in). */
		DF_TRY(draw(m, m->train_data, p, i, a ? DRAW_UNIFORM : DRAW_CONSTANT, a ? 1 / sqrt((double)p->cols) : 0,
		    seed, buf, err));
	}
out:
	free(buf);
	return rc;
}

void
df_model_free(struct df_model *m)
{
	if (m == NULL)
		return;
	if (m->lora)
		df_tensor_free(m->be, &m->train_data);
	df_tensor_free(m->be, &m->base_data);
	df_params_release(&m->base);
	df_params_release(&m->train_rows);
	df_model_config_release(&m->cfg);
	free(m->layers);
	free(m->dir);
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
	return m->train;
}

bool
df_model_has_lora(const struct df_model *m)
{
	return m->lora;
}

struct df_backend *
df_model_backend(const struct df_model *m)
{
	return m->be;
}

struct df_tensor
df_model_base_data(struct df_model *m)
{
	return m->base_data;
}

struct df_tensor
df_model_train_data(struct df_model *m)
{
	return m->train_data;
}

static int
digest_flat(struct df_model *m, struct df_hasher *h, const struct df_params *p, struct df_tensor data, float *buf,
    struct df_err *err)
{
	struct df_digest names = df_params_digest(p);
	int rc = DF_OK;

	df_hasher_add(h, &names, sizeof(names));
	for (size_t at = 0, n; at < p->numel; at += n) {
		n = p->numel - at < CHUNK ? p->numel - at : CHUNK;
		DF_TRY(df_download(m->be, buf, df_tensor_view(data, at, 1, n), err));
		df_hasher_add(h, buf, n * sizeof(*buf));
	}
out:
	return rc;
}

int
df_model_digest(struct df_model *m, struct df_digest *d, struct df_err *err)
{
	const struct df_model_config *c = &m->cfg;
	/* What the tables do not say and the arithmetic depends on. */
	double scalars[] = { (double)c->arch, (double)c->n_heads, (double)c->n_kv_heads, c->norm_eps, c->rope.theta,
		(double)c->pad_id, m->lora ? m->alpha : 0, m->lora ? (double)m->rank : 0 };
	struct df_hasher *h = NULL;
	float *buf = NULL;
	int rc;

	DF_TRY(df_hasher_new(&h, 0, err));
	DF_TRY(df_alloc(&buf, CHUNK, sizeof(*buf), "a staging buffer", err));
	df_hasher_add(h, scalars, sizeof(scalars));
	DF_TRY(digest_flat(m, h, &m->base, m->base_data, buf, err));
	if (m->lora)
		DF_TRY(digest_flat(m, h, m->train, m->train_data, buf, err));
	*d = df_hasher_end(h);
out:
	df_hasher_free(h);
	free(buf);
	return rc;
}

static int
save_tensors(struct df_model *m, const struct df_params *p, struct df_tensor data, const char *dir, const char *name,
    struct df_err *err)
{
	struct df_st_writer *w = NULL, *done;
	char *path = NULL;
	int rc;

	DF_TRY(df_path_join(&path, dir, name, err));
	DF_TRY(df_st_create(&w, path, err));
	DF_TRY(df_st_add_metadata(w, "format", "pt", err)); /* transformers asks for it */
	DF_TRY(df_params_declare(p, "", w, err));
	DF_TRY(df_params_store(p, data, w, m->be, err));
	done = w;
	w = NULL;
	DF_TRY(df_st_commit(done, err));
out:
	df_st_discard(w);
	free(path);
	return rc;
}

int
df_model_save(struct df_model *m, const char *dir, struct df_err *err)
{
	char *path = NULL;
	int rc;

	if (m->lora && m->dir == NULL)
		return df_fail(err, DF_EUNSUPPORTED,
		    "%s: an adapter on random base weights that are in no file would be of no "
		    "use; save the base model first and adapt that",
		    dir);
	DF_TRY(df_path_join(&path, dir, m->lora ? "adapter_config.json" : "config.json", err));
	if (m->lora) {
		DF_TRY(save_tensors(m, m->train, m->train_data, dir, "adapter_model.safetensors", err));
		DF_TRY(df_lora_write_config(m, path, err));
	} else {
		DF_TRY(save_tensors(m, &m->base, m->base_data, dir, "model.safetensors", err));
		DF_TRY(df_file_put(path, m->cfg.json, strlen(m->cfg.json), err));
	}
out:
	free(path);
	return rc;
}

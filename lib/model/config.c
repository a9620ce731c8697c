/*
 * config.c - config.json of a Hugging Face model directory.
 *
 * The rule: whatever would change the arithmetic and is not implemented is
 * refused by its name, so that no number is ever silently wrong.  Keys that
 * only concern generation, caching or bookkeeping are left alone.  Both ways of spelling the
 * rotary embedding are read: rope_theta and rope_scaling (transformers 4) and
 * rope_parameters (transformers 5).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "model/model_priv.h"
#include "text/json.h"

#define CONFIG_MAX ((size_t)4 << 20)

/* Bounds of plausible sizes: no product of two of them overflows 64 bits. */
#define MAX_DIM    ((int64_t)1 << 24)
#define MAX_LAYERS ((int64_t)1 << 14)

static bool
present(const struct df_json_value *obj, const char *key)
{
	enum df_json_type t = df_json_type(df_json_get(obj, key));

	return t != DF_JSON_ABSENT && t != DF_JSON_NULL;
}

static int
unsupported(const char *key, const char *what, struct df_err *err)
{
	return df_fail(err, DF_EUNSUPPORTED, "'%s': %.100s is not supported", key, what);
}

/* A size that must be there. */
static int
need_size(const struct df_json_value *root, const char *key, int64_t max, size_t *out, struct df_err *err)
{
	int64_t v = 0;
	int rc;

	if (!present(root, key))
		return df_fail(err, DF_EFORMAT, "'%s' is missing", key);
	DF_TRY(df_json_member_int(root, key, 0, 1, max, &v, err));
	*out = (size_t)v;
out:
	return rc;
}

static int
opt_size(const struct df_json_value *root, const char *key, size_t dflt, int64_t max, size_t *out, struct df_err *err)
{
	if (present(root, key))
		return need_size(root, key, max, out, err);
	*out = dflt;
	return DF_OK;
}

static int
read_arch(struct df_model_config *c, const struct df_json_value *root, struct df_err *err)
{
	static const struct {
		const char *type, *head;
	} known[] = {
		[DF_ARCH_LLAMA] = { "llama", "LlamaForCausalLM" },
		[DF_ARCH_QWEN2] = { "qwen2", "Qwen2ForCausalLM" },
	};
	const struct df_json_value *list = df_json_get(root, "architectures");
	const char *type, *s;
	int rc;

	DF_TRY(df_json_member_str(root, "model_type", NULL, &type, err));
	if (type == NULL)
		return df_fail(err, DF_EFORMAT, "'model_type' is missing");
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(type, known[i].type) != 0)
			continue;
		c->arch = (enum df_arch)i;
		s = df_json_str(df_json_at(list, 0), NULL);
		if (s != NULL && strcmp(s, known[i].head) != 0 &&
		    strcmp(s, i == DF_ARCH_LLAMA ? "LlamaModel" : "Qwen2Model") != 0)
			return unsupported("architectures", s, err);
		return DF_OK;
	}
	rc = df_fail(err, DF_EUNSUPPORTED, "'model_type': '%.64s' is not supported (llama and qwen2 are)", type);
out:
	return rc;
}

/* The rotary embedding's scaling object, in either spelling. */
static int
check_rope_object(const struct df_json_value *root, const char *key, double *theta, struct df_err *err)
{
	const struct df_json_value *r = df_json_get(root, key), *v;
	const struct df_json_member *m = NULL;
	const char *type, *k;
	double partial;
	int rc = DF_OK;

	if (!present(root, key))
		return DF_OK;
	if (df_json_type(r) != DF_JSON_OBJECT)
		return df_fail(err, DF_EFORMAT, "'%s': expected an object, found %s", key, df_json_type_name(r));
	DF_TRY(df_json_member_str(r, "rope_type", NULL, &type, err));
	if (type == NULL)
		DF_TRY(df_json_member_str(r, "type", "default", &type, err));
	if (strcmp(type, "default") != 0)
		return df_fail(
		    err, DF_EUNSUPPORTED, "'%s': rope type '%.64s' is not supported (default is)", key, type);
	while ((m = df_json_next(r, m, &k, &v)) != NULL) {
		if (df_json_type(v) == DF_JSON_OBJECT)
			return df_fail(err, DF_EUNSUPPORTED,
			    "'%s.%.64s': rope parameters by layer type are not supported", key, k);
	}
	DF_TRY(df_json_member_double(r, "partial_rotary_factor", 1.0, &partial, err));
	if (partial != 1.0)
		return df_fail(err, DF_EUNSUPPORTED, "'%s.partial_rotary_factor': only 1 is supported", key);
	DF_TRY(df_json_member_double(r, "rope_theta", *theta, theta, err));
out:
	return rc;
}

static int
read_rope(struct df_model_config *c, const struct df_json_value *root, struct df_err *err)
{
	double partial;
	int rc;

	DF_TRY(df_json_member_double(root, "rope_theta", 10000.0, &c->rope.theta, err));
	DF_TRY(check_rope_object(root, "rope_scaling", &c->rope.theta, err));
	DF_TRY(check_rope_object(root, "rope_parameters", &c->rope.theta, err));
	DF_TRY(df_json_member_double(root, "partial_rotary_factor", 1.0, &partial, err));
	if (partial != 1.0)
		return df_fail(err, DF_EUNSUPPORTED, "'partial_rotary_factor': only 1 is supported");
	if (!(c->rope.theta >= 1.0) || !isfinite(c->rope.theta))
		return df_fail(err, DF_ERANGE, "'rope_theta': %g is not a number from 1 on", c->rope.theta);
out:
	return rc;
}

/* Sliding windows exist in Qwen2 files but are nearly always switched off. */
static int
check_window(const struct df_model_config *c, const struct df_json_value *root, struct df_err *err)
{
	const struct df_json_value *types = df_json_get(root, "layer_types");
	bool use;
	int64_t first;
	int rc;

	for (size_t i = 0; i < df_json_size(types); i++) {
		const char *s = df_json_str(df_json_at(types, i), NULL);

		if (s == NULL || strcmp(s, "full_attention") != 0)
			return unsupported("layer_types", s != NULL ? s : "an entry that is not a string", err);
	}
	if (c->arch != DF_ARCH_QWEN2)
		return DF_OK;
	DF_TRY(df_json_member_bool(root, "use_sliding_window", false, &use, err));
	DF_TRY(df_json_member_int(root, "max_window_layers", 28, 0, INT64_MAX, &first, err));
	if (use && present(root, "sliding_window") && (uint64_t)first < c->n_layers)
		return unsupported("use_sliding_window", "attention with a sliding window", err);
out:
	return rc;
}

static int
check_rest(const struct df_model_config *c, const struct df_json_value *root, struct df_err *err)
{
	static const char *const forbidden[] = { "quantization_config", "compression_config", "num_experts",
		"num_local_experts", "n_routed_experts", NULL };
	const char *act;
	double dropout;
	int rc;

	for (size_t i = 0; forbidden[i] != NULL; i++) {
		if (present(root, forbidden[i]))
			return unsupported(forbidden[i], "this kind of model", err);
	}
	DF_TRY(df_json_member_str(root, "hidden_act", "silu", &act, err));
	if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
		return unsupported("hidden_act", act, err);
	DF_TRY(df_json_member_double(root, "attention_dropout", 0.0, &dropout, err));
	if (dropout != 0)
		return unsupported("attention_dropout", "a value other than 0", err);
	DF_TRY(check_window(c, root, err));
out:
	return rc;
}

static int
read_sizes(struct df_model_config *c, const struct df_json_value *root, struct df_err *err)
{
	int rc;

	DF_TRY(need_size(root, "vocab_size", MAX_DIM, &c->n_vocab, err));
	DF_TRY(need_size(root, "hidden_size", MAX_DIM, &c->d_model, err));
	DF_TRY(need_size(root, "intermediate_size", MAX_DIM, &c->d_ff, err));
	DF_TRY(need_size(root, "num_hidden_layers", MAX_LAYERS, &c->n_layers, err));
	DF_TRY(need_size(root, "num_attention_heads", MAX_DIM, &c->n_heads, err));
	DF_TRY(opt_size(root, "num_key_value_heads", c->n_heads, MAX_DIM, &c->n_kv_heads, err));
	DF_TRY(opt_size(root, "head_dim", 0, MAX_DIM, &c->d_head, err));
	DF_TRY(opt_size(root, "max_position_embeddings", c->arch == DF_ARCH_LLAMA ? 2048 : 32768, (int64_t)1 << 31,
	    &c->max_positions, err));
	if (c->d_head == 0) {
		if (c->d_model % c->n_heads != 0)
			return df_fail(err, DF_EFORMAT,
			    "'hidden_size' %zu is not a multiple of 'num_attention_heads' %zu", c->d_model, c->n_heads);
		c->d_head = c->d_model / c->n_heads;
	}
	if (c->d_head % 2 != 0)
		return df_fail(err, DF_EFORMAT, "'head_dim' %zu is odd: rotary embedding needs pairs", c->d_head);
	if (c->n_heads % c->n_kv_heads != 0)
		return df_fail(err, DF_EFORMAT,
		    "'num_attention_heads' %zu is not a multiple of 'num_key_value_heads' %zu", c->n_heads,
		    c->n_kv_heads);
out:
	return rc;
}

/* eos may be a list; its first counts. */
static int
read_token_id(const struct df_json_value *root, const char *key, int64_t *out, struct df_err *err)
{
	const struct df_json_value *v = df_json_get(root, key);

	*out = -1;
	if (!present(root, key))
		return DF_OK;
	if (df_json_type(v) == DF_JSON_ARRAY)
		v = df_json_at(v, 0);
	if (!df_json_int(v, out))
		return df_fail(err, DF_EFORMAT, "'%s': expected an integer, found %s", key, df_json_type_name(v));
	return DF_OK;
}

static int
read_config(struct df_model_config *c, const struct df_json_value *root, struct df_err *err)
{
	int rc;

	if (df_json_type(root) != DF_JSON_OBJECT)
		return df_fail(err, DF_EFORMAT, "expected an object, found %s", df_json_type_name(root));
	DF_TRY(read_arch(c, root, err));
	DF_TRY(read_sizes(c, root, err));
	DF_TRY(read_rope(c, root, err));
	DF_TRY(check_rest(c, root, err));
	DF_TRY(df_json_member_double(root, "rms_norm_eps", 1e-6, &c->norm_eps, err));
	DF_TRY(df_json_member_double(root, "initializer_range", 0.02, &c->init_range, err));
	if (!(c->norm_eps >= 0 && c->norm_eps < 1) || !(c->init_range >= 0 && c->init_range < 1e3))
		return df_fail(err, DF_ERANGE, "'rms_norm_eps' %g or 'initializer_range' %g is out of range",
		    c->norm_eps, c->init_range);
	DF_TRY(df_json_member_bool(root, "tie_word_embeddings", false, &c->tied, err));
	c->qkv_bias = true;
	if (c->arch == DF_ARCH_LLAMA) {
		DF_TRY(df_json_member_bool(root, "attention_bias", false, &c->qkv_bias, err));
		c->o_bias = c->qkv_bias;
		DF_TRY(df_json_member_bool(root, "mlp_bias", false, &c->mlp_bias, err));
	}
	DF_TRY(read_token_id(root, "bos_token_id", &c->bos_id, err));
	DF_TRY(read_token_id(root, "eos_token_id", &c->eos_id, err));
	DF_TRY(read_token_id(root, "pad_token_id", &c->pad_id, err));
out:
	return rc;
}

/* ---- the text to save ----------------------------------------------------- */

static void
indent(struct df_buf *b, int depth)
{
	df_buf_putc(b, '\n');
	for (int i = 0; i < depth; i++)
		df_buf_puts(b, "  ");
}

static void
dump(struct df_buf *b, const struct df_json_value *v, int depth)
{
	const struct df_json_member *m = NULL;
	const struct df_json_value *x;
	const char *key;
	double d = 0;
	int64_t i = 0;
	size_t n;

	switch (df_json_type(v)) {
	case DF_JSON_BOOL: df_buf_puts(b, df_json_bool(v, false) ? "true" : "false"); break;
	case DF_JSON_INT:
		if (df_json_int(v, &i))
			df_buf_printf(b, "%lld", (long long)i);
		break;
	case DF_JSON_REAL:
		if (df_json_number(v, &d))
			df_buf_json_double(b, d);
		break;
	case DF_JSON_STR:
		key = df_json_str(v, &n);
		df_buf_json_strn(b, key, n);
		break;
	case DF_JSON_ARRAY:
		df_buf_putc(b, '[');
		for (n = 0; n < df_json_size(v); n++) {
			df_buf_puts(b, n ? "," : "");
			indent(b, depth + 1);
			dump(b, df_json_at(v, n), depth + 1);
		}
		if (n > 0)
			indent(b, depth);
		df_buf_putc(b, ']');
		break;
	case DF_JSON_OBJECT:
		df_buf_putc(b, '{');
		for (n = 0; (m = df_json_next(v, m, &key, &x)) != NULL; n++) {
			df_buf_puts(b, n ? "," : "");
			indent(b, depth + 1);
			df_buf_json_str(b, key);
			df_buf_puts(b, ": ");
			/* We save float32, and transformers 5 believes this key rather than the tensors. */
			if (depth == 0 && (strcmp(key, "torch_dtype") == 0 || strcmp(key, "dtype") == 0))
				df_buf_puts(b, "\"float32\"");
			else
				dump(b, x, depth + 1);
		}
		if (n > 0)
			indent(b, depth);
		df_buf_putc(b, '}');
		break;
	default: df_buf_puts(b, "null");
	}
}

int
df_model_config_load(struct df_model_config *c, const char *dir, struct df_err *err)
{
	struct df_model_config cfg = { 0 };
	struct df_json *json = NULL;
	struct df_buf text = DF_BUF_INIT;
	char *path = NULL;
	int rc;

	DF_TRY(df_path_join(&path, dir, "config.json", err));
	DF_TRY(df_json_load(&json, path, CONFIG_MAX, err));
	rc = read_config(&cfg, df_json_root(json), err);
	if (rc != DF_OK) {
		df_err_prefix(err, "%s: ", path);
		goto out;
	}
	dump(&text, df_json_root(json), 0);
	df_buf_putc(&text, '\n');
	DF_TRY(df_buf_check(&text, err));
	cfg.json = df_buf_detach(&text);
	*c = cfg;
out:
	df_buf_release(&text);
	df_json_free(json);
	free(path);
	return rc;
}

void
df_model_config_release(struct df_model_config *c)
{
	free(c->json);
	memset(c, 0, sizeof(*c));
}

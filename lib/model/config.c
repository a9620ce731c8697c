/*
 * config.c - config.json of a Hugging Face model directory.
 *
 * The rule: a key that would change the arithmetic and is not implemented is refused by its name, so
 * that no number is ever silently wrong.  Keys that only concern generation, caching or bookkeeping
 * are ignored.  A key that the file does not have gets the default of its family's configuration class
 * in transformers 4.57.  Both spellings of the rotary embedding are read (config_rope.c).
 */
#include "model/config_priv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/model_priv.h"

#define CONFIG_MAX ((size_t)4 << 20)

/* Experts of all layers together: a few times as many as the largest known models have. */
#define MAX_EXPERTS ((size_t)1 << 16)

/* A family's spelling of its model type and classes, and its defaults. */
struct family {
	const char *type, *name;
	size_t n_kv_heads; /* 0: as many as heads */
	size_t d_head;     /* 0: hidden_size / heads */
	size_t max_positions;
	double theta, eps;
	int64_t bos_id, eos_id;
	bool windows; /* has layer_types, and windows from max_window_layers on */
	bool moe;
};
static const struct family families[] = {
	[DF_ARCH_LLAMA] = { "llama", "Llama", 0, 0, 2048, 1e4, 1e-6, 1, 2, false, false },
	[DF_ARCH_MISTRAL] = { "mistral", "Mistral", 8, 0, 131072, 1e4, 1e-6, 1, 2, false, false },
	[DF_ARCH_QWEN2] = { "qwen2", "Qwen2", 32, 0, 32768, 1e4, 1e-6, -1, -1, true, false },
	[DF_ARCH_QWEN3] = { "qwen3", "Qwen3", 32, 128, 32768, 1e4, 1e-6, -1, -1, true, false },
	[DF_ARCH_MIXTRAL] = { "mixtral", "Mixtral", 8, 0, 131072, 1e6, 1e-5, 1, 2, false, true },
	[DF_ARCH_QWEN2_MOE] = { "qwen2_moe", "Qwen2Moe", 16, 0, 32768, 1e4, 1e-6, -1, -1, false, true },
	[DF_ARCH_QWEN3_MOE] = { "qwen3_moe", "Qwen3Moe", 4, 0, 32768, 1e4, 1e-6, -1, -1, false, true },
};
#define N_FAMILIES (sizeof(families) / sizeof(families[0]))

/* The class that the model was saved from tells which head is on top of the body. */
static int
read_head(struct df_model_config *c, const struct df_json_value *root, struct df_err *err)
{
	static const char *const suffix[] = {
		[DF_HEAD_LM] = "ForCausalLM", [DF_HEAD_NONE] = "Model", [DF_HEAD_CLASSES] = "ForSequenceClassification"
	};
	const char *name = families[c->arch].name;
	const char *s = df_json_str(df_json_at(df_json_get(root, "architectures"), 0), NULL);
	const struct df_json_value *labels = df_json_get(root, "id2label");
	size_t n = strlen(name);
	int rc = DF_OK;

	c->head = DF_HEAD_LM;
	if (s == NULL)
		return DF_OK;
	for (int i = 0; i < 3; i++) {
		if (strncmp(s, name, n) != 0 || strcmp(s + n, suffix[i]) != 0)
			continue;
		c->head = (enum df_head)i;
		if (c->head != DF_HEAD_CLASSES)
			return DF_OK;
		/* id2label takes precedence over num_labels; without either there are two labels. */
		DF_TRY(df_config_opt_size(root, "num_labels", 2, DF_CONFIG_MAX_DIM, &c->n_labels, err));
		if (df_json_type(labels) == DF_JSON_OBJECT && df_json_size(labels) > 0)
			c->n_labels = df_json_size(labels);
		return DF_OK;
	}
	rc = df_config_unsupported("architectures", s, err);
out:
	return rc;
}

static int
read_arch(struct df_model_config *c, const struct df_json_value *root, struct df_err *err)
{
	struct df_buf known = DF_BUF_INIT;
	const char *type;
	int rc;

	DF_TRY(df_json_member_str(root, "model_type", NULL, &type, err));
	if (type == NULL)
		return df_fail(err, DF_EFORMAT, "'model_type' is missing");
	for (size_t i = 0; i < N_FAMILIES; i++) {
		if (strcmp(type, families[i].type) == 0) {
			c->arch = (enum df_arch)i;
			rc = read_head(c, root, err);
			goto out;
		}
		df_buf_printf(&known, "%s, ", families[i].type);
	}
	df_buf_puts(&known, "bert");
	DF_TRY(df_buf_check(&known, err));
	rc = df_fail(err, DF_EUNSUPPORTED, "'model_type': '%.64s' is not supported (%s are)", type, known.data);
out:
	df_buf_release(&known);
	return rc;
}

/* ---- attention windows ------------------------------------------------------ */

/* The window that the configuration class would use, 0 = none; layers before *first have none. */
static int
read_window(const struct df_model_config *c, const struct df_json_value *root, size_t *window, size_t *first,
    struct df_err *err)
{
	bool mistral = c->arch == DF_ARCH_MISTRAL, use = mistral || c->arch == DF_ARCH_MIXTRAL;
	int64_t from = 0;
	int rc = DF_OK;

	*window = *first = 0;
	if (c->arch == DF_ARCH_LLAMA)
		return DF_OK;
	if (!use)
		DF_TRY(df_json_member_bool(root, "use_sliding_window", false, &use, err));
	/*
	 * Some attention implementations of transformers mask all layers of this family, others only those
	 * from max_window_layers on.
	 */
	if (use && c->arch == DF_ARCH_QWEN2_MOE)
		return df_config_unsupported("use_sliding_window", "a sliding window in qwen2_moe", err);
	if (!use)
		return DF_OK;
	/* An absent key means 4096 (Mixtral: no window); null means no window. */
	if (df_json_type(df_json_get(root, "sliding_window")) == DF_JSON_ABSENT)
		*window = c->arch == DF_ARCH_MIXTRAL ? 0 : 4096;
	else
		DF_TRY(df_config_opt_size(root, "sliding_window", 0, (int64_t)1 << 31, window, err));
	if (families[c->arch].windows) {
		DF_TRY(df_json_member_int(root, "max_window_layers", 28, 0, INT64_MAX, &from, err));
		*first = (uint64_t)from < c->n_layers ? (size_t)from : c->n_layers;
	}
out:
	return rc;
}

/* layer_types decides for qwen2 and qwen3.  The other families ignore it, so there it must agree with what they use. */
static int
read_layer_types(struct df_model_config *c, const struct df_json_value *root, size_t window, struct df_err *err)
{
	const struct df_json_value *types = df_json_get(root, "layer_types");

	if (!df_config_present(root, "layer_types"))
		return DF_OK;
	if (df_json_type(types) != DF_JSON_ARRAY || df_json_size(types) != c->n_layers)
		return df_fail(err, DF_EFORMAT, "'layer_types': expected a list of %zu strings", c->n_layers);
	for (size_t i = 0; i < c->n_layers; i++) {
		const char *s = df_json_str(df_json_at(types, i), NULL);
		bool sliding = s != NULL && strcmp(s, "sliding_attention") == 0;

		if (s == NULL || (!sliding && strcmp(s, "full_attention") != 0))
			return df_config_unsupported("layer_types", s ? s : "an entry that is not a string", err);
		if (!families[c->arch].windows && sliding != (c->window[i] > 0))
			return df_config_unsupported("layer_types", sliding ? s : "a layer without the window", err);
		if (sliding && window == 0)
			return df_fail(err, DF_EFORMAT,
			    "'layer_types': layer %zu has a sliding window, but no window size is given", i);
		c->window[i] = sliding ? window : 0;
	}
	return DF_OK;
}

static int
read_windows(struct df_model_config *c, const struct df_json_value *root, struct df_err *err)
{
	size_t window, first, n = 0;
	int rc;

	DF_TRY(read_window(c, root, &window, &first, err));
	DF_TRY(df_alloc(&c->window, c->n_layers, sizeof(*c->window), "the layers", err));
	for (size_t i = first; i < c->n_layers; i++)
		c->window[i] = window;
	DF_TRY(read_layer_types(c, root, window, err));
	for (size_t i = 0; i < c->n_layers; i++)
		n += c->window[i] > 0;
	if (n == 0) {
		free(c->window);
		c->window = NULL;
	}
out:
	return rc;
}

/* ---- experts ---------------------------------------------------------------- */

/* Is layer i listed in mlp_only_layers? */
static bool
listed(const struct df_json_value *list, size_t i)
{
	for (size_t k = 0; k < df_json_size(list); k++) {
		int64_t v;

		if (df_json_int(df_json_at(list, k), &v) && v >= 0 && (size_t)v == i)
			return true;
	}
	return false;
}

/* The auxiliary loss and the noise are for training routers; neither is implemented here. */
static int
check_router(const struct df_json_value *root, struct df_err *err)
{
	double noise, coef;
	bool logits;
	int rc;

	DF_TRY(df_json_member_double(root, "router_jitter_noise", 0, &noise, err));
	if (noise != 0)
		return df_config_unsupported("router_jitter_noise", "a value other than 0", err);
	DF_TRY(df_json_member_bool(root, "output_router_logits", false, &logits, err));
	DF_TRY(df_json_member_double(root, "router_aux_loss_coef", 0.001, &coef, err));
	if (logits && coef != 0)
		return df_config_unsupported("output_router_logits", "the auxiliary loss of routers", err);
out:
	return rc;
}

static int
read_moe(struct df_model_config *c, const struct df_json_value *root, struct df_err *err)
{
	static const struct {
		const char *experts, *width;
		size_t n_experts, top_k, d_expert;
	} dflt[] = {
		[DF_ARCH_MIXTRAL] = { "num_local_experts", "intermediate_size", 8, 2, 0 },
		[DF_ARCH_QWEN2_MOE] = { "num_experts", "moe_intermediate_size", 60, 4, 1408 },
		[DF_ARCH_QWEN3_MOE] = { "num_experts", "moe_intermediate_size", 128, 8, 768 },
	};
	const struct df_json_value *dense = df_json_get(root, "mlp_only_layers");
	struct df_moe_config *m = &c->moe;
	bool mixtral = c->arch == DF_ARCH_MIXTRAL;
	size_t step = 1, n = 0;
	int rc = DF_OK;

	if (!families[c->arch].moe)
		return DF_OK;
	DF_TRY(df_config_opt_size(root, dflt[c->arch].experts, dflt[c->arch].n_experts, 1 << 16, &m->n_experts, err));
	DF_TRY(df_config_opt_size(root, "num_experts_per_tok", dflt[c->arch].top_k, 1 << 16, &m->top_k, err));
	DF_TRY(df_config_opt_size(
	    root, dflt[c->arch].width, dflt[c->arch].d_expert, DF_CONFIG_MAX_DIM, &m->d_expert, err));
	if (m->top_k > m->n_experts)
		return df_fail(err, DF_ERANGE, "'num_experts_per_tok' %zu of %zu experts", m->top_k, m->n_experts);
	if (m->n_experts > MAX_EXPERTS / c->n_layers)
		return df_fail(err, DF_ERANGE, "'%s' %zu in each of %zu layers are too many", dflt[c->arch].experts,
		    m->n_experts, c->n_layers);
	m->normalise = true;
	if (!mixtral) {
		DF_TRY(df_json_member_bool(root, "norm_topk_prob", false, &m->normalise, err));
		DF_TRY(df_config_opt_size(root, "decoder_sparse_step", 1, DF_CONFIG_MAX_LAYERS, &step, err));
	}
	if (c->arch == DF_ARCH_QWEN2_MOE)
		DF_TRY(df_config_opt_size(
		    root, "shared_expert_intermediate_size", 5632, DF_CONFIG_MAX_DIM, &m->d_shared, err));
	if (df_config_present(root, "mlp_only_layers") && df_json_type(dense) != DF_JSON_ARRAY)
		return df_fail(
		    err, DF_EFORMAT, "'mlp_only_layers': expected a list, found %s", df_json_type_name(dense));
	DF_TRY(df_alloc(&c->sparse, c->n_layers, sizeof(*c->sparse), "the layers", err));
	for (size_t i = 0; i < c->n_layers; i++) {
		c->sparse[i] = mixtral || ((i + 1) % step == 0 && !listed(dense, i));
		n += c->sparse[i];
	}
	DF_TRY(check_router(root, err));
	if (n == 0) { /* all layers are dense */
		free(c->sparse);
		c->sparse = NULL;
		*m = (struct df_moe_config){ 0 };
	}
out:
	return rc;
}

/* ---- the rest --------------------------------------------------------------- */

static int
check_rest(const struct df_model_config *c, const struct df_json_value *root, struct df_err *err)
{
	static const char *const forbidden[] = { "quantization_config", "compression_config", "n_routed_experts",
		"attn_logit_softcapping", "final_logit_softcapping", "attention_chunk_size", NULL };
	static const char *const experts[] = { "num_experts", "num_local_experts", NULL };
	const char *act;
	double dropout;
	int rc;

	for (size_t i = 0; forbidden[i] != NULL; i++) {
		if (df_config_present(root, forbidden[i]))
			return df_config_unsupported(forbidden[i], "this kind of model", err);
	}
	for (size_t i = 0; !families[c->arch].moe && experts[i] != NULL; i++) {
		if (df_config_present(root, experts[i]))
			return df_config_unsupported(experts[i], "a mixture of experts in this family", err);
	}
	DF_TRY(df_json_member_str(root, "hidden_act", "silu", &act, err));
	if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
		return df_config_unsupported("hidden_act", act, err);
	DF_TRY(df_json_member_double(root, "attention_dropout", 0.0, &dropout, err));
	if (dropout != 0)
		return df_config_unsupported("attention_dropout", "a value other than 0", err);
out:
	return rc;
}

static int
read_sizes(struct df_model_config *c, const struct df_json_value *root, struct df_err *err)
{
	const struct family *f = &families[c->arch];
	bool kv_absent = df_json_type(df_json_get(root, "num_key_value_heads")) == DF_JSON_ABSENT;
	int rc;

	DF_TRY(df_config_need_size(root, "vocab_size", DF_CONFIG_MAX_DIM, &c->n_vocab, err));
	DF_TRY(df_config_need_size(root, "hidden_size", DF_CONFIG_MAX_DIM, &c->d_model, err));
	DF_TRY(df_config_need_size(root, "intermediate_size", DF_CONFIG_MAX_DIM, &c->d_ff, err));
	DF_TRY(df_config_need_size(root, "num_hidden_layers", DF_CONFIG_MAX_LAYERS, &c->n_layers, err));
	DF_TRY(df_config_need_size(root, "num_attention_heads", DF_CONFIG_MAX_DIM, &c->n_heads, err));
	DF_TRY(df_config_opt_size(root, "num_key_value_heads", kv_absent && f->n_kv_heads ? f->n_kv_heads : c->n_heads,
	    DF_CONFIG_MAX_DIM, &c->n_kv_heads, err));
	DF_TRY(df_config_opt_size(root, "head_dim", f->d_head, DF_CONFIG_MAX_DIM, &c->d_head, err));
	DF_TRY(df_config_opt_size(
	    root, "max_position_embeddings", f->max_positions, (int64_t)1 << 31, &c->max_positions, err));
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

/* Which projections have biases, and whether q and k have norms. */
static int
read_layer(struct df_model_config *c, const struct df_json_value *root, struct df_err *err)
{
	int rc = DF_OK;

	switch (c->arch) {
	case DF_ARCH_LLAMA: DF_TRY(df_json_member_bool(root, "mlp_bias", false, &c->mlp_bias, err));
	/* fall through */
	case DF_ARCH_QWEN3:
	case DF_ARCH_QWEN3_MOE:
		DF_TRY(df_json_member_bool(root, "attention_bias", false, &c->qkv_bias, err));
		c->o_bias = c->qkv_bias;
		c->qk_norm = c->arch != DF_ARCH_LLAMA;
		break;
	case DF_ARCH_QWEN2: c->qkv_bias = true; break;
	case DF_ARCH_QWEN2_MOE: DF_TRY(df_json_member_bool(root, "qkv_bias", true, &c->qkv_bias, err)); break;
	default: break;
	}
out:
	return rc;
}

/* A token id, or a list of at most `max` of them; an absent key gives the default, null gives none. */
static int
read_token_ids(const struct df_json_value *root, const char *key, int64_t dflt, int64_t *ids, size_t max, size_t *n,
    struct df_err *err)
{
	const struct df_json_value *v = df_json_get(root, key), *item;
	bool list = df_json_type(v) == DF_JSON_ARRAY;

	*n = 0;
	if (df_json_type(v) == DF_JSON_ABSENT && dflt >= 0)
		ids[(*n)++] = dflt;
	if (!df_config_present(root, key))
		return DF_OK;
	for (size_t i = 0; i < (list ? df_json_size(v) : 1); i++) {
		item = list ? df_json_at(v, i) : v;
		if (i == max)
			return df_fail(err, DF_ERANGE, "'%s': more than %zu tokens", key, max);
		if (!df_json_int(item, &ids[i]))
			return df_fail(
			    err, DF_EFORMAT, "'%s': expected an integer, found %s", key, df_json_type_name(item));
		*n = i + 1;
	}
	return DF_OK;
}

static int
read_tokens(struct df_model_config *c, const struct df_json_value *root, struct df_err *err)
{
	const struct family *f = &families[c->arch];
	size_t n_bos, n_pad;
	int64_t one[8];
	int rc;

	DF_TRY(read_token_ids(root, "bos_token_id", f->bos_id, one, 8, &n_bos, err));
	c->bos_id = n_bos > 0 ? one[0] : -1;
	DF_TRY(read_token_ids(root, "pad_token_id", -1, one, 8, &n_pad, err));
	c->pad_id = n_pad > 0 ? one[0] : -1;
	/* nn.Embedding's padding_idx counts from the end when it is negative. */
	c->pad_row = n_pad > 0 && one[0] < 0 ? (int64_t)c->n_vocab + one[0] : c->pad_id;
	if (n_pad > 0 && c->pad_row < 0)
		return df_fail(
		    err, DF_ERANGE, "'pad_token_id': %lld in a vocabulary of %zu", (long long)one[0], c->n_vocab);
	DF_TRY(read_token_ids(root, "eos_token_id", f->eos_id, c->eos_ids, 8, &c->n_eos, err));
	c->eos_id = c->n_eos > 0 ? c->eos_ids[0] : -1;
out:
	return rc;
}

static int
read_config(struct df_model_config *c, const struct df_json_value *root, struct df_err *err)
{
	const struct family *f;
	const char *type;
	int rc;

	if (df_json_type(root) != DF_JSON_OBJECT)
		return df_fail(err, DF_EFORMAT, "expected an object, found %s", df_json_type_name(root));
	DF_TRY(df_json_member_str(root, "model_type", "", &type, err));
	if (strcmp(type, "bert") == 0)
		return df_config_read_bert(c, root, err);
	DF_TRY(read_arch(c, root, err));
	f = &families[c->arch];
	DF_TRY(read_sizes(c, root, err));
	DF_TRY(df_config_read_rope(c, root, f->theta, err));
	DF_TRY(check_rest(c, root, err));
	DF_TRY(read_windows(c, root, err));
	DF_TRY(read_moe(c, root, err));
	DF_TRY(read_layer(c, root, err));
	DF_TRY(df_json_member_double(root, "rms_norm_eps", f->eps, &c->norm_eps, err));
	DF_TRY(df_json_member_double(root, "initializer_range", 0.02, &c->init_range, err));
	if (!(c->norm_eps >= 0 && c->norm_eps < 1) || !(c->init_range >= 0 && c->init_range < 1e3))
		return df_fail(err, DF_ERANGE, "'rms_norm_eps' %g or 'initializer_range' %g is out of range",
		    c->norm_eps, c->init_range);
	DF_TRY(df_json_member_bool(root, "tie_word_embeddings", false, &c->tied, err));
	DF_TRY(read_tokens(c, root, err));
out:
	return rc;
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
	rc = df_json_load(&json, path, CONFIG_MAX, err);
	if (rc == DF_ENOINPUT)
		df_model_suggest_newest(dir, err);
	if (rc != DF_OK)
		goto out;
	rc = read_config(&cfg, df_json_root(json), err);
	if (rc != DF_OK) {
		df_err_prefix(err, "%s: ", path);
		goto out;
	}
	DF_TRY(df_config_text(&text, df_json_root(json), err));
	cfg.json = df_buf_detach(&text);
	*c = cfg;
	cfg = (struct df_model_config){ 0 };
out:
	df_model_config_release(&cfg);
	df_buf_release(&text);
	df_json_free(json);
	free(path);
	return rc;
}

void
df_model_config_release(struct df_model_config *c)
{
	free(c->json);
	free(c->sparse);
	free(c->window);
	memset(c, 0, sizeof(*c));
}

/*
 * config_bert.c - config.json of an encoder (BERT, MiniLM, BGE, E5), which has keys of its own.
 *
 * Only hidden states are computed.  So the heads of pretraining may be in the file and are ignored.  A head that
 * was trained for something else (ForSequenceClassification) is refused, as its body is no embedding model.
 */
#include <string.h>

#include "model/config_priv.h"

/* A key that may have only this value. */
static int
only(const struct df_json_value *root, const char *key, const char *value, struct df_err *err)
{
	const char *s;
	int rc;

	DF_TRY(df_json_member_str(root, key, value, &s, err));
	if (strcmp(s, value) != 0)
		rc = df_fail(err, DF_EUNSUPPORTED, "'%s': '%.64s' is not supported (%s is)", key, s, value);
out:
	return rc;
}

static int
check_bert(const struct df_json_value *root, struct df_err *err)
{
	static const char *const bodies[] = { "BertModel", "BertForMaskedLM", "BertForPreTraining" };
	static const char *const flags[] = { "is_decoder", "add_cross_attention" };
	const char *head = df_json_str(df_json_at(df_json_get(root, "architectures"), 0), NULL);
	bool known = head == NULL, on;
	int rc;

	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
		known = known || strcmp(head, bodies[i]) == 0;
	if (!known)
		return df_config_unsupported("architectures", head, err);
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		DF_TRY(df_json_member_bool(root, flags[i], false, &on, err));
		if (on)
			return df_config_unsupported(flags[i], "an encoder that decodes", err);
	}
	DF_TRY(only(root, "hidden_act", "gelu", err));
	DF_TRY(only(root, "position_embedding_type", "absolute", err));
	if (df_config_present(root, "quantization_config"))
		rc = df_config_unsupported("quantization_config", "this kind of model", err);
out:
	return rc;
}

int
df_config_read_bert(struct df_model_config *c, const struct df_json_value *root, struct df_err *err)
{
	int rc;

	c->arch = DF_ARCH_BERT;
	c->head = DF_HEAD_NONE;
	DF_TRY(check_bert(root, err));
	DF_TRY(df_config_need_size(root, "vocab_size", DF_CONFIG_MAX_DIM, &c->n_vocab, err));
	DF_TRY(df_config_need_size(root, "hidden_size", DF_CONFIG_MAX_DIM, &c->d_model, err));
	DF_TRY(df_config_need_size(root, "intermediate_size", DF_CONFIG_MAX_DIM, &c->d_ff, err));
	DF_TRY(df_config_need_size(root, "num_hidden_layers", DF_CONFIG_MAX_LAYERS, &c->n_layers, err));
	DF_TRY(df_config_need_size(root, "num_attention_heads", DF_CONFIG_MAX_DIM, &c->n_heads, err));
	DF_TRY(df_config_opt_size(root, "max_position_embeddings", 512, DF_CONFIG_MAX_DIM, &c->max_positions, err));
	DF_TRY(df_config_opt_size(root, "type_vocab_size", 2, DF_CONFIG_MAX_DIM, &c->n_types, err));
	if (c->d_model % c->n_heads != 0)
		return df_fail(err, DF_EFORMAT, "'hidden_size' %zu is not a multiple of 'num_attention_heads' %zu",
		    c->d_model, c->n_heads);
	c->n_kv_heads = c->n_heads;
	c->d_head = c->d_model / c->n_heads;
	c->qkv_bias = c->o_bias = c->mlp_bias = true;
	c->rope.theta = 1;
	c->bos_id = c->eos_id = c->pad_id = c->pad_row = -1;
	DF_TRY(df_json_member_double(root, "layer_norm_eps", 1e-12, &c->norm_eps, err));
	DF_TRY(df_json_member_double(root, "initializer_range", 0.02, &c->init_range, err));
	if (!(c->norm_eps >= 0 && c->norm_eps < 1) || !(c->init_range >= 0 && c->init_range < 1e3))
		rc = df_fail(err, DF_ERANGE, "'layer_norm_eps' %g or 'initializer_range' %g is out of range",
		    c->norm_eps, c->init_range);
out:
	return rc;
}

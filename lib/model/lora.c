/*
 * lora.c - low-rank adapters in PEFT's layout (Hu et al. 2021).
 *
 *	y = W x + (alpha / r) B (A x),   A [r,in], B [out,r]
 *
 * adapter_config.json is read with the same rule as config.json: what would
 * change the arithmetic and is not implemented is refused by name; keys of
 * other versions that do not are skipped.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/model_priv.h"
#include "text/json.h"

#define RANK_MAX 65536

/* "self_attn.q_proj" -> "q_proj" */
static const char *
last_part(const char *module)
{
	const char *dot = strrchr(module, '.');

	return dot != NULL ? dot + 1 : module;
}

static void
target_all(struct df_model *m)
{
	for (int id = 0; id < DF_GROUPS; id++) {
		for (size_t k = 0; k < m->layers[0].group[id].n_parts; k++)
			m->target[id][k] = true;
	}
}

static int
target_one(struct df_model *m, const char *name, size_t n, struct df_err *err)
{
	for (int id = 0; id < DF_GROUPS; id++) {
		const struct df_group *g = &m->layers[0].group[id];

		for (size_t k = 0; k < g->n_parts; k++) {
			const char *s = last_part(g->part[k].module);

			if (strlen(s) == n && strncmp(s, name, n) == 0) {
				m->target[id][k] = true;
				return DF_OK;
			}
		}
	}
	return df_fail(err, DF_EUNSUPPORTED,
	    "'%.*s' cannot be adapted (q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, "
	    "down_proj or all can)",
	    (int)(n < 100 ? n : 100), name);
}

int
df_lora_set_targets(struct df_model *m, const char *targets, struct df_err *err)
{
	const char *s = targets;
	bool any = false;
	int rc = DF_OK;

	memset(m->target, 0, sizeof(m->target));
	while (*s != '\0') {
		size_t n = strcspn(s, ", \t");

		if (n == 3 && strncmp(s, "all", 3) == 0)
			target_all(m);
		else if (n > 0)
			DF_TRY(target_one(m, s, n, err));
		any = any || n > 0;
		s += n + (s[n] != '\0');
	}
	if (!any)
		rc = df_fail(err, DF_ECONFIG, "no LoRA targets are given");
out:
	return rc;
}

int
df_lora_attach(struct df_model *m, struct df_err *err)
{
	bool found = false;
	int rc;

	if (m->rank == 0 || m->rank > RANK_MAX)
		return df_fail(err, DF_ERANGE, "a LoRA rank of %zu is not in [1, %d]", m->rank, RANK_MAX);
	if (!isfinite(m->alpha) || m->alpha <= 0)
		return df_fail(err, DF_ERANGE, "a LoRA alpha of %g is not a positive number", m->alpha);
	DF_TRY(df_params_build_lora(m, err));
	DF_TRY(df_tensor_alloc(m->be, &m->train_data, DF_F32, 1, m->train_rows.numel, "the adapter's weights", err));
	m->lora = true;
	for (int id = 0; id < DF_GROUPS && !found; id++) {
		found = m->layers[0].group[id].n_lora > 0;
		m->first_group = (enum df_group_id)id;
	}
out:
	return rc;
}

/* ---- adapter_config.json --------------------------------------------------- */

static bool
empty(const struct df_json_value *v)
{
	switch (df_json_type(v)) {
	case DF_JSON_ABSENT:
	case DF_JSON_NULL: return true;
	case DF_JSON_BOOL: return !df_json_bool(v, false);
	case DF_JSON_ARRAY:
	case DF_JSON_OBJECT: return df_json_size(v) == 0;
	default: return false;
	}
}

static int
read_targets(struct df_model *m, const struct df_json_value *v, struct df_err *err)
{
	const char *s = df_json_str(v, NULL);
	int rc = DF_OK;

	if (s != NULL) {
		if (strcmp(s, "all-linear") != 0)
			return df_fail(err, DF_EUNSUPPORTED,
			    "'target_modules': the pattern '%.100s' is not supported (a list is)", s);
		target_all(m);
		return DF_OK;
	}
	if (df_json_type(v) != DF_JSON_ARRAY || df_json_size(v) == 0)
		return df_fail(err, DF_EFORMAT, "'target_modules': expected a list, found %s", df_json_type_name(v));
	for (size_t i = 0; i < df_json_size(v); i++) {
		s = df_json_str(df_json_at(v, i), NULL);
		if (s == NULL)
			return df_fail(err, DF_EFORMAT, "'target_modules': entry %zu is not a string", i);
		DF_TRY(target_one(m, s, strlen(s), err));
	}
out:
	if (rc != DF_OK)
		df_err_prefix(err, "'target_modules': ");
	return rc;
}

static int
check_kind(const struct df_json_value *cfg, struct df_err *err)
{
	/* Each of these changes what the adapter computes. */
	static const char *const off[] = { "use_dora", "use_rslora", "fan_in_fan_out", "lora_bias", "rank_pattern",
		"alpha_pattern", "modules_to_save", "layers_to_transform", "layer_replication", "exclude_modules",
		"trainable_token_indices", "target_parameters", "alora_invocation_tokens", "use_qalora", NULL };
	const char *s;
	int rc;

	DF_TRY(df_json_member_str(cfg, "peft_type", "LORA", &s, err));
	if (strcmp(s, "LORA") != 0)
		return df_fail(err, DF_EUNSUPPORTED, "'peft_type': '%.64s' is not supported (LORA is)", s);
	DF_TRY(df_json_member_str(cfg, "task_type", "CAUSAL_LM", &s, err));
	if (strcmp(s, "CAUSAL_LM") != 0)
		return df_fail(err, DF_EUNSUPPORTED, "'task_type': '%.64s' is not supported (CAUSAL_LM is)", s);
	DF_TRY(df_json_member_str(cfg, "bias", "none", &s, err));
	if (strcmp(s, "none") != 0)
		return df_fail(err, DF_EUNSUPPORTED, "'bias': '%.64s' is not supported (none is)", s);
	for (size_t i = 0; off[i] != NULL; i++) {
		if (!empty(df_json_get(cfg, off[i])))
			return df_fail(err, DF_EUNSUPPORTED, "'%s' is not supported", off[i]);
	}
	/* PiSSA and its like change the base weights as well. */
	s = df_json_str(df_json_get(cfg, "init_lora_weights"), NULL);
	if (s != NULL && strcmp(s, "gaussian") != 0)
		return df_fail(err, DF_EUNSUPPORTED, "'init_lora_weights': '%.64s' is not supported", s);
out:
	return rc;
}

int
df_lora_read_config(struct df_model *m, const struct df_json_value *cfg, struct df_err *err)
{
	int64_t r;
	int rc;

	if (df_json_type(cfg) != DF_JSON_OBJECT)
		return df_fail(err, DF_EFORMAT, "expected an object, found %s", df_json_type_name(cfg));
	DF_TRY(check_kind(cfg, err));
	DF_TRY(df_json_member_int(cfg, "r", 8, 1, RANK_MAX, &r, err));
	DF_TRY(df_json_member_double(cfg, "lora_alpha", 8, &m->alpha, err));
	DF_TRY(df_json_member_double(cfg, "lora_dropout", 0, &m->lora_dropout, err));
	m->rank = (size_t)r;
	memset(m->target, 0, sizeof(m->target));
	DF_TRY(read_targets(m, df_json_get(cfg, "target_modules"), err));
	if (m->lora_dropout != 0)
		df_warn("the adapter was trained with lora_dropout %g; it is not applied here", m->lora_dropout);
out:
	return rc;
}

int
df_lora_write_config(const struct df_model *m, const char *path, struct df_err *err)
{
	/* In the order of their last name parts, as PEFT sorts them. */
	static const struct {
		enum df_group_id id;
		size_t part;
	} sorted[] = { { DF_GROUP_DOWN, 0 }, { DF_GROUP_GATE_UP, 0 }, { DF_GROUP_QKV, 1 }, { DF_GROUP_O, 0 },
		{ DF_GROUP_QKV, 0 }, { DF_GROUP_GATE_UP, 1 }, { DF_GROUP_QKV, 2 } };
	struct df_buf b = DF_BUF_INIT;
	const char *comma = "";
	int rc;

	df_buf_puts(&b, "{\n  \"alpha_pattern\": {},\n  \"auto_mapping\": null,\n  \"base_model_name_or_path\": ");
	df_buf_json_str(&b, m->dir != NULL ? m->dir : "");
	df_buf_puts(&b,
	    ",\n  \"bias\": \"none\",\n  \"fan_in_fan_out\": false,\n  \"inference_mode\": true,\n"
	    "  \"init_lora_weights\": true,\n  \"layers_pattern\": null,\n  \"layers_to_transform\": null,\n"
	    "  \"lora_alpha\": ");
	if (m->alpha == floor(m->alpha) && m->alpha < 1e15) /* PEFT writes an integer where it was given one */
		df_buf_printf(&b, "%.0f", m->alpha);
	else
		df_buf_json_double(&b, m->alpha);
	df_buf_puts(&b, ",\n  \"lora_dropout\": ");
	df_buf_json_double(&b, m->lora_dropout);
	df_buf_puts(&b, ",\n  \"modules_to_save\": null,\n  \"peft_type\": \"LORA\",\n");
	df_buf_printf(
	    &b, "  \"r\": %zu,\n  \"rank_pattern\": {},\n  \"revision\": null,\n  \"target_modules\": [", m->rank);
	for (size_t i = 0; i < sizeof(sorted) / sizeof(sorted[0]); i++) {
		if (!m->target[sorted[i].id][sorted[i].part])
			continue;
		df_buf_printf(&b, "%s\n    ", comma);
		df_buf_json_str(&b, last_part(m->layers[0].group[sorted[i].id].part[sorted[i].part].module));
		comma = ",";
	}
	df_buf_puts(
	    &b, "\n  ],\n  \"task_type\": \"CAUSAL_LM\",\n  \"use_dora\": false,\n  \"use_rslora\": false\n}\n");
	DF_TRY(df_buf_check(&b, err));
	DF_TRY(df_file_put(path, b.data, b.len, err));
out:
	df_buf_release(&b);
	return rc;
}

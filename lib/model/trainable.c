/*
 * trainable.c - which weights of a checkpoint are trainable when there are no adapters.
 *
 * Freezing is LLaMA-Factory's (finetuning_type: freeze): whole layers at either end, or some modules of them, and
 * modules outside the layers.  A model that is saved with such a restriction keeps it in a small file with the weights,
 * in LLaMA-Factory's own keys, so that gradients of the checkpoint have the coordinates that its training had.
 *
 * Where experts are numbered too, LLaMA-Factory takes their numbers for layer numbers: the last layer
 * of 24 is for it also expert 23 of every layer.  Here only a layer's number counts.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/model_priv.h"

#define FILE_NAME "trainable.json"
#define FILE_MAX  ((size_t)1 << 16)

/* Is `part` one of the parts between the dots of a name? */
static bool
has_part(const char *name, const char *part, size_t k)
{
	for (size_t n; *name != '\0'; name += n + (name[n] == '.')) {
		n = strcspn(name, ".");
		if (n == k && memcmp(name, part, k) == 0)
			return true;
	}
	return false;
}

static bool
in_layers(const struct df_model *m, int layer)
{
	const int64_t n = (int64_t)m->cfg.n_layers, k = m->freeze_layers;

	return layer >= 0 && (k > 0 ? layer >= n - k : layer < -k);
}

static int
mark_layers(const struct df_model *m, bool *trains, struct df_err *err)
{
	const char *s = m->freeze_modules, *name;
	size_t k;

	while (df_next_name(&s, &name, &k)) {
		bool all = k == 3 && strncmp(name, "all", 3) == 0, found = all;

		for (size_t i = 0; i < m->base.n; i++) {
			const struct df_param *p = &m->base.v[i];

			if (p->layer < 0 || !(all || has_part(p->name, name, k)))
				continue;
			found = true;
			trains[i] = trains[i] || in_layers(m, p->layer);
		}
		if (!found)
			return df_fail(err, DF_ECONFIG, "freeze_trainable_modules: no layer has a '%.*s'",
			    (int)(k < 100 ? k : 100), name);
	}
	return DF_OK;
}

/*
 * LLaMA-Factory requires that the name is a module outside the layers, and then takes every parameter
 * whose name contains it: "norm" means all norms.
 */
static int
mark_extra(const struct df_model *m, bool *trains, struct df_err *err)
{
	const char *s = m->freeze_extra != NULL ? m->freeze_extra : "", *name;
	size_t k;
	char part[128];

	while (df_next_name(&s, &name, &k)) {
		bool found = false;

		for (size_t i = 0; i < m->base.n; i++)
			found = found || (m->base.v[i].layer < 0 && has_part(m->base.v[i].name, name, k));
		if (!found || k >= sizeof(part))
			return df_fail(err, DF_ECONFIG, "freeze_extra_modules: '%.*s' is no module outside the layers",
			    (int)(k < 100 ? k : 100), name);
		memcpy(part, name, k);
		part[k] = '\0';
		for (size_t i = 0; i < m->base.n; i++)
			trains[i] = trains[i] || strstr(m->base.v[i].name, part) != NULL;
	}
	return DF_OK;
}

/* Routers, and the gates of shared experts. */
static void
unmark_gates(const struct df_model *m, bool *trains)
{
	for (size_t i = 0; i < m->cfg.n_layers; i++) {
		const struct df_moe *moe = m->layers[i].moe;

		if (moe == NULL)
			continue;
		trains[moe->router.part[0].weight] = false;
		if (moe->shared_gate.n_parts > 0)
			trains[moe->shared_gate.part[0].weight] = false;
	}
}

/* Build the train table from m->freeze*. */
static int
apply(struct df_model *m, struct df_err *err)
{
	bool *trains = NULL;
	size_t n = 0;
	int rc;

	DF_TRY(df_alloc(&trains, m->base.n, sizeof(*trains), "the parameter table", err));
	for (size_t i = 0; i < m->base.n && !m->freeze; i++)
		trains[i] = true;
	if (m->freeze) {
		DF_TRY(mark_layers(m, trains, err));
		DF_TRY(mark_extra(m, trains, err));
	}
	if (m->freeze_gate)
		unmark_gates(m, trains);
	for (size_t i = 0; i < m->base.n; i++)
		n += trains[i];
	if (n == 0) {
		rc = df_fail(err, DF_ECONFIG, "everything is frozen: there are no trainable parameters");
		goto out;
	}
	DF_TRY(df_params_build_train(m, trains, err));
out:
	free(trains);
	return rc;
}

static int
replace(char **to, const char *from, struct df_err *err)
{
	free(*to);
	*to = NULL;
	return from != NULL ? df_strdup(to, from, err) : DF_OK;
}

int
df_model_set_trainable(struct df_model *m, const struct df_train_spec *spec, struct df_err *err)
{
	int rc;

	if (m->lora)
		return df_fail(err, DF_EUSAGE, "the model has an adapter: only the adapter is trainable");
	DF_TRY(df_weights_unmaster(m, err));
	DF_TRY(replace(&m->freeze_modules, spec->freeze && spec->modules == NULL ? "all" : spec->modules, err));
	DF_TRY(replace(&m->freeze_extra, spec->extra_modules, err));
	m->freeze = spec->freeze;
	m->freeze_layers = spec->layers;
	m->freeze_gate = spec->freeze_gate;
	DF_TRY(apply(m, err));
out:
	return rc;
}

/* ---- the file with the weights ----------------------------------------------------- */

int
df_trainable_read(struct df_model *m, const char *dir, struct df_err *err)
{
	struct df_train_spec spec = { .modules = "all" };
	const struct df_json_value *root;
	struct df_json *json = NULL;
	const char *type;
	char *path = NULL;
	bool there;
	int rc;

	DF_TRY(df_path_join(&path, dir, FILE_NAME, err));
	DF_TRY(df_file_probe(path, &there, err));
	if (!there) {
		DF_TRY(apply(m, err));
		goto out;
	}
	DF_TRY(df_json_load(&json, path, FILE_MAX, err));
	root = df_json_root(json);
	rc = DF_OK;
	if (df_json_type(root) != DF_JSON_OBJECT)
		rc = df_fail(err, DF_EFORMAT, "expected an object, found %s", df_json_type_name(root));
	if (rc == DF_OK)
		rc = df_json_member_str(root, "finetuning_type", "full", &type, err);
	if (rc == DF_OK && strcmp(type, "full") != 0 && strcmp(type, "freeze") != 0)
		rc = df_fail(err, DF_EFORMAT, "'finetuning_type': '%.64s' is neither full nor freeze", type);
	if (rc == DF_OK)
		rc = df_json_member_int(root, "freeze_trainable_layers", 2, -(1 << 20), 1 << 20, &spec.layers, err);
	if (rc == DF_OK)
		rc = df_json_member_str(root, "freeze_trainable_modules", "all", &spec.modules, err);
	if (rc == DF_OK)
		rc = df_json_member_str(root, "freeze_extra_modules", NULL, &spec.extra_modules, err);
	if (rc == DF_OK)
		rc = df_json_member_bool(root, "freeze_gate", false, &spec.freeze_gate, err);
	if (rc == DF_OK) {
		spec.freeze = strcmp(type, "freeze") == 0;
		rc = df_model_set_trainable(m, &spec, err);
	}
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", path);
out:
	df_json_free(json);
	free(path);
	return rc;
}

int
df_trainable_write(const struct df_model *m, const char *dir, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	char *path = NULL;
	int rc = DF_OK;

	if (!m->freeze && !m->freeze_gate)
		return DF_OK;
	df_buf_printf(&b, "{\n  \"finetuning_type\": \"%s\"", m->freeze ? "freeze" : "full");
	if (m->freeze) {
		df_buf_printf(&b, ",\n  \"freeze_trainable_layers\": %lld,\n  \"freeze_trainable_modules\": ",
		    (long long)m->freeze_layers);
		df_buf_json_str(&b, m->freeze_modules);
	}
	if (m->freeze && m->freeze_extra != NULL) {
		df_buf_puts(&b, ",\n  \"freeze_extra_modules\": ");
		df_buf_json_str(&b, m->freeze_extra);
	}
	df_buf_printf(&b, ",\n  \"freeze_gate\": %s\n}\n", m->freeze_gate ? "true" : "false");
	DF_TRY(df_buf_check(&b, err));
	DF_TRY(df_path_join(&path, dir, FILE_NAME, err));
	DF_TRY(df_file_put(path, b.data, b.len, err));
out:
	df_buf_release(&b);
	free(path);
	return rc;
}

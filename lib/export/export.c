/*
 * export.c - a model directory to hand on.
 *
 * The weights come from df_model_merge(); here stands what makes a directory of them: which files go with them, and
 * that it appears at once.
 */
#include "export/export.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/opt.h"
#include "base/words.h"
#include "config/config_priv.h"

#define YAML_MAX ((size_t)1 << 20)
#define FILE_MAX ((size_t)1 << 28) /* of a tokenizer's file */

int
df_export_dtype(const char *name, struct df_merge_spec *spec, struct df_err *err)
{
	static const struct {
		const char *name, *brief;
		enum df_dtype type;
	} known[] = { { "float32", "f32", DF_F32 }, { "bfloat16", "bf16", DF_BF16 }, { "float16", "f16", DF_F16 } };

	static const char *const words[] = { "auto", "float32", "bfloat16", "float16", NULL };

	spec->convert = false;
	if (strcmp(name, "auto") == 0)
		return DF_OK;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(name, known[i].name) != 0 && strcmp(name, known[i].brief) != 0)
			continue;
		spec->convert = true;
		spec->type = known[i].type;
		return DF_OK;
	}
	df_fail(err, DF_ECONFIG, "'%.64s' is not one of auto, float32, bfloat16, float16", name);
	df_suggest(err, name, words);
	return DF_ECONFIG;
}

int
df_export_size(const char *text, uint64_t *bytes, struct df_err *err)
{
	static const struct {
		const char *unit;
		double factor;
	} units[] = { { "KB", 1e3 }, { "MB", 1e6 }, { "GB", 1e9 }, { "TB", 1e12 }, { "KiB", 0x1p10 }, { "MiB", 0x1p20 },
		{ "GiB", 0x1p30 }, { "TiB", 0x1p40 }, { "", 1 } };
	char *end;
	double x;

	errno = 0;
	x = strtod(text, &end);
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]) && end != text; i++) {
		if (strcmp(end, units[i].unit) != 0)
			continue;
		x *= units[i].factor;
		if (!(x >= 0 && x < 0x1p62) || (x > 0 && x < 1))
			break;
		*bytes = (uint64_t)x;
		return DF_OK;
	}
	return df_fail(err, DF_EUSAGE, "'%.64s' is not a size, such as 5GB or 500MiB", text);
}

void
df_export_release(struct df_export *e)
{
	free(e->model);
	free(e->adapter);
	free(e->dir);
	*e = (struct df_export){ 0 };
}

/* ---- LLaMA-Factory's keys --------------------------------------------------------- */

/* What only says how inference or the old format would run. */
static const char *const passed_over[] = { "template", "trust_remote_code", "finetuning_type", "stage", "export_device",
	"cache_dir", "use_fast_tokenizer", "low_cpu_mem_usage", "flash_attn", "infer_backend", "default_system",
	"hf_hub_token", "model_revision", NULL };
/* What would make something else; allowed only when off. */
static const char *const refused[] = { "export_quantization_bit", "export_legacy_format", "export_hub_model_id",
	"quantization_bit", "resize_vocab", "adapter_folder", "export_quantization_dataset", NULL };
static const char *const taken[] = { "model_name_or_path", "adapter_name_or_path", "export_dir", "export_size",
	"infer_dtype", NULL };

static bool
among(const char *key, const char *const *list)
{
	for (; *list != NULL; list++) {
		if (strcmp(key, *list) == 0)
			return true;
	}
	return false;
}

static bool
is_off(const struct df_yaml_value *v)
{
	return v->kind == DF_YAML_SCALAR && v->plain &&
	    (strcmp(v->text, "null") == 0 || strcmp(v->text, "false") == 0 || strcmp(v->text, "~") == 0 ||
		v->text[0] == '\0');
}

static int
take_string(char **to, struct df_yaml_value *v)
{
	free(*to);
	*to = v->text;
	v->text = NULL;
	return DF_OK;
}

static int
take(struct df_export *e, const char *key, struct df_yaml_value *v, struct df_err *err)
{
	double gb;
	int rc;

	if (v->kind == DF_YAML_MAP || (strcmp(key, "adapter_name_or_path") == 0 && strchr(v->text, ',') != NULL))
		return df_fail(err, DF_ECONFIG, "one value is expected");
	if (strcmp(key, "model_name_or_path") == 0)
		return take_string(&e->model, v);
	if (strcmp(key, "adapter_name_or_path") == 0)
		return take_string(&e->adapter, v);
	if (strcmp(key, "export_dir") == 0)
		return take_string(&e->dir, v);
	if (strcmp(key, "infer_dtype") == 0)
		return df_export_dtype(v->text, &e->spec, err);
	DF_TRY(df_parse_double(v->text, &gb, err));
	if (!(gb > 0 && gb < 1e6))
		return df_fail(err, DF_ECONFIG, "%s is not a number of gigabytes", v->text);
	e->spec.max_shard = (uint64_t)(gb * 1e9);
out:
	return rc;
}

struct reading {
	struct df_export *e;
	const char *path;
};

static int
member(void *ctx, const char *key, int line, struct df_yaml_value *v, struct df_err *err)
{
	const struct reading *r = ctx;
	int rc = DF_OK;

	if (among(key, passed_over) || (!among(key, taken) && among(key, refused) && is_off(v)))
		return DF_OK;
	if (among(key, taken)) {
		if (!is_off(v))
			rc = take(r->e, key, v, err);
	} else if (among(key, refused)) {
		rc = df_fail(err, DF_ECONFIG, "is not supported");
	} else {
		rc = df_unknown(err, DF_ECONFIG, "key", key, taken, NULL);
	}
	if (rc != DF_OK) {
		err->code = rc = DF_ECONFIG;
		df_err_prefix(err, "%s:%d: %.64s: ", r->path, line, key);
	}
	return rc;
}

int
df_export_load(struct df_export *e, const char *path, struct df_err *err)
{
	struct df_export made = { .spec.max_shard = 5000000000u };
	struct reading r = { .e = &made, .path = path };
	char *text = NULL;
	size_t n;
	int rc;

	DF_TRY(df_file_get(path, YAML_MAX, &text, &n, err));
	DF_TRY(df_yaml_walk(text, n, path, member, &r, err));
	*e = made;
	made = (struct df_export){ 0 };
out:
	df_export_release(&made);
	free(text);
	return rc;
}

/* ---- the directory ------------------------------------------------------------------ */

/* A file of one directory into another, if it is there. */
static int
copy(const char *from, const char *to, const char *name, struct df_err *err)
{
	char *src = NULL, *dst = NULL, *data = NULL;
	size_t n;
	bool there;
	int rc;

	DF_TRY(df_path_join(&src, from, name, err));
	DF_TRY(df_file_probe(src, &there, err));
	if (!there)
		goto out;
	DF_TRY(df_path_join(&dst, to, name, err));
	DF_TRY(df_file_get(src, FILE_MAX, &data, &n, err));
	DF_TRY(df_file_put(dst, data, n, err));
out:
	free(src);
	free(dst);
	free(data);
	return rc;
}

static int
holds(const char *dir, const char *name, bool *yes, struct df_err *err)
{
	char *path = NULL;
	int rc;

	DF_TRY(df_path_join(&path, dir, name, err));
	DF_TRY(df_file_probe(path, yes, err));
out:
	free(path);
	return rc;
}

/* The tokenizer that was saved with the adapter, or the base's: never files of both. */
static int
copy_companions(const char *adapter, const char *base, const char *to, struct df_err *err)
{
	static const char *const files[] = { "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
		"added_tokens.json", "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "chat_template.jinja",
		"chat_template.json", NULL };
	bool own = false;
	int rc = DF_OK;

	if (adapter != NULL)
		DF_TRY(holds(adapter, "tokenizer.json", &own, err));
	for (size_t i = 0; files[i] != NULL; i++)
		DF_TRY(copy(own ? adapter : base, to, files[i], err));
	DF_TRY(copy(base, to, "generation_config.json", err));
out:
	return rc;
}

/* Replacing what lies there could take somebody's model away. */
static int
check_free(const char *dir, struct df_err *err)
{
	const struct dirent *entry;
	bool empty = true;
	DIR *d;

	d = opendir(dir);
	if (d == NULL)
		return errno == ENOENT ? DF_OK : df_fail(err, DF_ECREATE, "%s:", dir);
	while ((entry = readdir(d)) != NULL)
		empty = empty && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0);
	closedir(d);
	return empty ? DF_OK : df_fail(err, DF_ECREATE, "%s: is there already and is not empty", dir);
}

int
df_export_run(const struct df_export *e, struct df_backend *be, struct df_err *err)
{
	struct df_atomic a = DF_ATOMIC_INIT;
	struct df_model *m = NULL;
	int rc;

	DF_TRY(check_free(e->dir, err));
	DF_TRY(df_model_open(&m, e->adapter ? e->adapter : e->model, e->adapter ? e->model : NULL, be, err));
	if (e->adapter != NULL && !df_model_has_lora(m)) {
		rc = df_fail(err, DF_EFORMAT, "%s: a whole model, no adapter", e->adapter);
		goto out;
	}
	DF_TRY(df_atomic_mkdir(&a, e->dir, err));
	DF_TRY(df_model_merge(m, a.tmp, &e->spec, err));
	DF_TRY(copy_companions(e->adapter ? e->adapter
		: df_model_has_lora(m)    ? e->model
					  : NULL,
	    df_model_dir(m), a.tmp, err));
	rc = df_atomic_commit(&a, err);
out:
	df_atomic_discard(&a);
	df_model_free(m);
	return rc;
}

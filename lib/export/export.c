/*
 * export.c - a model directory to hand on.
 *
 * The weights come from df_model_merge(); here stands what makes a directory of them: which files go with them, and
 * that it appears at once.
 */
#include "export/export.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

#define FILE_MAX ((size_t)1 << 28) /* of a tokenizer's file */

void
df_export_dtype(enum df_infer_dtype dtype, struct df_merge_spec *spec)
{
	static const enum df_dtype types[] = {
		[DF_INFER_FLOAT32] = DF_F32, [DF_INFER_BFLOAT16] = DF_BF16, [DF_INFER_FLOAT16] = DF_F16
	};

	spec->convert = dtype != DF_INFER_AUTO;
	if (spec->convert)
		spec->type = types[dtype];
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

/* A string of the configuration becomes the export's. */
static void
take(char **to, char **from)
{
	*to = *from;
	*from = NULL;
}

int
df_export_load(struct df_export *e, const char *path, struct df_err *err)
{
	struct df_config c;
	struct df_buf place = DF_BUF_INIT;
	int rc = df_config_load(&c, DF_OWNER_EXPORT, path, NULL, 0, err);

	if (rc != DF_OK)
		return rc;
	if (c.adapter_name_or_path && strchr(c.adapter_name_or_path, ',')) {
		df_config_place(&c, "adapter_name_or_path", &place);
		DF_TRY(df_buf_check(&place, err));
		rc = df_fail(err, DF_ECONFIG, "%s: one adapter is expected, not several", place.data);
		goto out;
	}
	*e = (struct df_export){ .spec.max_shard = (uint64_t)(c.export_size * 1e9) };
	df_export_dtype(c.infer_dtype, &e->spec);
	take(&e->model, &c.model_name_or_path);
	take(&e->adapter, &c.adapter_name_or_path);
	take(&e->dir, &c.export_dir);
out:
	df_buf_release(&place);
	df_config_release(&c);
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
		DF_TRY(df_file_probe_in(adapter, "tokenizer.json", &own, err));
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

/*
 * info_entry.c - an entry of dataset_info.json: made, and added to the others without touching them.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/dataset_priv.h"
#include "data/export.h"

#define INFO_MAX ((size_t)64 << 20)

/* ,\n "WHAT": {"KEY": "NAME", ...}, of the names that are set */
static void
put_names(struct df_buf *out, const char *what, const char *const *keys, char *const *names, size_t n)
{
	const char *sep = "";

	df_buf_printf(out, ",\n    \"%s\": {", what);
	for (size_t i = 0; i < n; i++) {
		if (!names[i])
			continue;
		df_buf_printf(out, "%s\"%s\": ", sep, keys[i]);
		df_buf_json_str(out, names[i]);
		sep = ", ";
	}
	df_buf_putc(out, '}');
}

static bool
has_default_tags(const struct df_dataset *ds)
{
	for (size_t i = 0; i < DF_TAG_COUNT; i++)
		if (!ds->tag[i] || strcmp(ds->tag[i], df_tag_defaults[i]) != 0)
			return false;
	return true;
}

int
df_info_entry(
    struct df_buf *out, const struct df_dataset *ds, const char *name, const char *file_name, struct df_err *err)
{
	static const char *const formats[] = { "alpaca", "sharegpt", "openai" };

	df_buf_puts(out, "  ");
	df_buf_json_str(out, name);
	df_buf_puts(out, ": {\n    \"file_name\": ");
	df_buf_json_str(out, file_name);
	if (ds->formatting != DF_FORMAT_ALPACA)
		df_buf_printf(out, ",\n    \"formatting\": \"%s\"", formats[ds->formatting]);
	if (ds->named_columns)
		put_names(out, "columns", df_column_names, ds->column, DF_COLUMN_COUNT);
	if (!has_default_tags(ds))
		put_names(out, "tags", df_tag_names, ds->tag, DF_TAG_COUNT);
	df_buf_puts(out, "\n  }");
	return df_buf_check(out, err);
}

/* Does the object have this name, with exactly this entry?  DF_EUSAGE: with another. */
static int
has_entry(const struct df_json_value *root, const char *path, const char *name, const struct df_buf *entry, bool *has,
    struct df_err *err)
{
	const struct df_json_value *value = df_json_get(root, name);
	struct df_buf was = DF_BUF_INIT, is = DF_BUF_INIT, object = DF_BUF_INIT;
	struct df_json *doc = NULL;
	int rc = DF_OK;

	*has = value != NULL;
	if (!value)
		return DF_OK;
	df_buf_printf(&object, "{%s}", entry->data);
	DF_TRY(df_buf_check(&object, err));
	DF_TRY(df_json_parse(&doc, object.data, object.len, "the entry", err));
	df_json_write(&was, value);
	df_json_write(&is, df_json_get(df_json_root(doc), name));
	DF_TRY(df_buf_check(&was, err));
	DF_TRY(df_buf_check(&is, err));
	if (strcmp(was.data, is.data) != 0)
		rc = df_fail(err, DF_EUSAGE, "%s: describes another dataset '%s'; choose another name", path, name);
out:
	df_json_free(doc);
	df_buf_release(&object);
	df_buf_release(&was);
	df_buf_release(&is);
	return rc;
}

int
df_info_add(struct df_buf *text, bool *write, const char *path, const char *name, const struct df_buf *entry,
    bool merge, struct df_err *err)
{
	struct df_json *doc = NULL;
	char *old = NULL;
	bool there, has;
	size_t n;
	int rc;

	*write = true;
	DF_TRY(df_file_probe(path, &there, err));
	if (!there) {
		df_buf_printf(text, "{\n%s\n}\n", entry->data);
		rc = df_buf_check(text, err);
		goto out;
	}
	DF_TRY(df_file_get(path, INFO_MAX, &old, &n, err));
	DF_TRY(df_json_parse_unique(&doc, old, n, path, err));
	if (df_json_type(df_json_root(doc)) != DF_JSON_OBJECT) {
		rc = df_fail(
		    err, DF_ECONFIG, "%s: expected an object, found %s", path, df_json_type_name(df_json_root(doc)));
		goto out;
	}
	DF_TRY(has_entry(df_json_root(doc), path, name, entry, &has, err));
	*write = !has;
	if (!has && !merge) {
		rc = df_fail(
		    err, DF_EUSAGE, "%s: is there already; --merge-info adds the dataset '%s' to it", path, name);
		goto out;
	}
	/* After the last entry: before the white space in front of the last bracket. */
	while (n > 0 && old[n - 1] != '}')
		n--;
	n -= n > 0;
	while (n > 0 && strchr(" \t\r\n", old[n - 1]))
		n--;
	df_buf_add(text, old, n);
	df_buf_printf(text, "%s\n%s\n}\n", df_json_size(df_json_root(doc)) ? "," : "", entry->data);
	DF_TRY(df_buf_check(text, err));
out:
	df_json_free(doc);
	free(old);
	return rc;
}

/*
 * pick_list.c - read a list that names samples.
 */
#include "data/pick_list.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "data/dataset_priv.h"

#define LIST_MAX ((size_t)1 << 36)

bool
df_pick_value(struct df_buf *out, const struct df_json_value *v)
{
	size_t n;
	const char *s = df_json_str(v, &n);

	if (s) {
		df_buf_add(out, s, n);
		return true;
	}
	switch (df_json_type(v)) {
	case DF_JSON_BOOL:
	case DF_JSON_INT:
	case DF_JSON_REAL: df_json_write(out, v); return true;
	default: return false;
	}
}

void
df_pick_list_place(const struct df_pick_list *l, size_t i, const char *path, struct df_err *err)
{
	df_err_prefix(err, "%s: %s %llu: ", strcmp(path, "-") == 0 ? "standard input" : path,
	    l->is_json ? "row" : "line", (unsigned long long)l->v[i].place);
}

static int
add_entry(struct df_pick_list *l, uint64_t place, struct df_pick_entry **out, struct df_err *err)
{
	int rc;

	DF_TRY(df_grow(&l->v, &l->cap, l->n + 1, sizeof(*l->v), "list", err));
	*out = &l->v[l->n++];
	**out = (struct df_pick_entry){ .at = l->text.len, .dataset_at = SIZE_MAX, .place = place };
out:
	return rc;
}

static int
take_line(struct df_pick_list *l, const struct df_record *rec, bool with_dataset, bool any_value, struct df_err *err)
{
	const char *text = rec->text, *tab = with_dataset ? memchr(text, '\t', rec->n) : NULL;
	size_t n = rec->n;
	struct df_pick_entry *e;
	int rc = DF_OK;

	if (n == 0 || (!any_value && text[0] == '#'))
		goto out;
	DF_TRY(add_entry(l, rec->row + 1, &e, err));
	if (memchr(text, '\0', n)) {
		rc = df_fail(err, DF_EFORMAT, "neither text nor JSON");
		goto out;
	}
	if (tab) {
		e->dataset_at = l->text.len;
		df_buf_add(&l->text, text, (size_t)(tab - text));
		df_buf_putc(&l->text, '\0');
		n -= (size_t)(tab + 1 - text);
		text = tab + 1;
	}
	e->at = l->text.len;
	e->n = n;
	df_buf_add(&l->text, text, n);
	df_buf_putc(&l->text, '\0');
out:
	return rc;
}

static int
take_object(
    struct df_pick_list *l, const struct df_record *rec, const char *member, bool with_dataset, struct df_err *err)
{
	const struct df_json_value *row, *dataset, *value;
	struct df_json *doc = NULL;
	struct df_pick_entry *e;
	const char *name;
	int rc;

	DF_TRY(add_entry(l, rec->row, &e, err));
	DF_TRY(df_json_parse_unique(&doc, rec->text, rec->n, "JSON", err));
	row = df_json_root(doc);
	if (df_json_type(row) != DF_JSON_OBJECT) {
		rc = df_fail(err, DF_EFORMAT, "expected an object, found %s", df_json_type_name(row));
		goto out;
	}
	dataset = with_dataset ? df_json_get(row, "dataset") : NULL;
	if (dataset && (name = df_json_str(dataset, NULL)) == NULL) {
		rc = df_fail(err, DF_EFORMAT, "'dataset': expected a string, found %s", df_json_type_name(dataset));
		goto out;
	}
	if (dataset) {
		e->dataset_at = l->text.len;
		df_buf_add(&l->text, name, strlen(name) + 1);
	}
	e->at = l->text.len;
	value = df_json_get(row, member);
	if (!value)
		rc = df_fail(err, DF_EFORMAT, "no member '%s'", member);
	else if (!df_pick_value(&l->text, value))
		rc = df_fail(
		    err, DF_EFORMAT, "'%s': expected a string or number, found %s", member, df_json_type_name(value));
	e->n = l->text.len - e->at;
	df_buf_putc(&l->text, '\0');
out:
	df_json_free(doc);
	return rc;
}

/* What begins with a bracket is JSON. */
static bool
is_json(const char *text, size_t n)
{
	size_t i = n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;

	while (i < n && (text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r'))
		i++;
	return i < n && (text[i] == '{' || text[i] == '[');
}

int
df_pick_list_read(
    struct df_pick_list *l, const char *path, const char *member, bool with_dataset, bool any_value, struct df_err *err)
{
	/* Records are found as in a dataset of one file. */
	struct df_datafile file = { .name = (char *)(uintptr_t)(strcmp(path, "-") == 0 ? "standard input" : path) };
	struct df_dataset ds = { .files = &file, .n_files = 1 };
	struct df_record rec;
	char *text = NULL;
	int rc;

	DF_TRY(df_file_get(path, LIST_MAX, &text, &file.n, err));
	file.data = text;
	df_digest_hex(df_hash_bytes(text, file.n, 0), l->id);
	l->is_json = is_json(text, file.n);
	ds.type = l->is_json ? DF_FILE_JSON : DF_FILE_TXT;
	while ((rc = df_dataset_next(&ds, &rec, err)) == 1) {
		rc = l->is_json ? take_object(l, &rec, member, with_dataset, err)
				: take_line(l, &rec, with_dataset, any_value, err);
		if (rc != DF_OK && l->n > 0)
			df_pick_list_place(l, l->n - 1, path, err);
		if (rc != DF_OK)
			goto out;
	}
	if (rc == DF_OK)
		rc = df_buf_check(&l->text, err);
out:
	free(text);
	return rc;
}

void
df_pick_list_release(struct df_pick_list *l)
{
	free(l->v);
	df_buf_release(&l->text);
	*l = (struct df_pick_list)DF_PICK_LIST_INIT;
}

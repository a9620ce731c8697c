/*
 * columns.c - check that each column that is read exists in some row.
 *
 * With a misspelt column, or rows of another shape than the defaults, a column would be empty in every row, and
 * training would go on without it.  So rows are read, from the first one on, until each column was seen.  When a
 * column is rare, most rows are skipped without parsing them.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/words.h"
#include "data/dataset_priv.h"

/* The most columns, and the most bytes of them, that a message names. */
#define NAMES_MAX  16
#define NAME_BYTES 40
#define NAME_ROWS  256 /* the number of rows whose columns a message names */

/* The columns that rows have, in the order in which they appear. */
struct names {
	char *v[NAMES_MAX + 1]; /* ends with NULL */
	size_t n;
	bool is_cut; /* there are more */
};

static int
add_name(struct names *names, const char *name, struct df_err *err)
{
	for (size_t i = 0; i < names->n; i++)
		if (strcmp(names->v[i], name) == 0)
			return 0;
	if (names->n == NAMES_MAX || strlen(name) > NAME_BYTES) {
		names->is_cut = true;
		return 0;
	}
	return df_strdup(&names->v[names->n++], name, err);
}

/* Every character of the name is plain in JSON, unless it is written as \u. */
static bool
is_plain(const char *name)
{
	while ((unsigned char)*name >= ' ' && !strchr("\"\\/", *name))
		name++;
	return *name == '\0';
}

/* Can the row have a column that was not seen yet?  False only if it certainly has none. */
static bool
may_meet(const struct df_record *rec, const struct df_need *need, size_t n, const bool *met)
{
	for (size_t i = 0; i < n; i++)
		if (!met[i] &&
		    (!is_plain(need[i].column) || memmem(rec->text, rec->n, need[i].column, strlen(need[i].column))))
			return true;
	return memmem(rec->text, rec->n, "\\u", 2) != NULL;
}

/* Note the columns of a row, and which needs it meets. */
static int
look(const struct df_dataset *ds, const struct df_record *rec, const struct df_need *need, size_t n, bool *met,
    struct names *names, struct df_err *err)
{
	const struct df_json_member *m = NULL;
	const struct df_json_value *row, *value;
	struct df_json *doc = NULL;
	const char *key;
	int rc;

	DF_TRY(df_json_parse_unique(&doc, rec->text, rec->n, "JSON", err));
	row = df_json_root(doc);
	if (df_json_type(row) != DF_JSON_OBJECT) {
		rc = df_fail(err, DF_EFORMAT, "expected an object, found %s", df_json_type_name(row));
		goto out;
	}
	for (size_t i = 0; i < n; i++)
		met[i] |= df_json_get(row, need[i].column) != NULL;
	while ((m = df_json_next(row, m, &key, &value)) != NULL)
		DF_TRY(add_name(names, key, err));
out:
	if (rc != DF_OK)
		df_dataset_place(ds, rec, err);
	df_json_free(doc);
	return rc;
}

static int
missing(const struct df_dataset *ds, const struct df_need *need, const struct names *names, struct df_err *err)
{
	const char *near = df_nearest(need->column, (const char *const *)names->v);
	struct df_buf why = DF_BUF_INIT, there = DF_BUF_INIT;

	if (need->role && need->is_default)
		df_buf_printf(
		    &why, ", the default for '%s' (\"columns\" in dataset_info.json can name another)", need->role);
	else if (need->role)
		df_buf_printf(&why, " that dataset_info.json names for '%s'", need->role);
	for (size_t i = 0; i < names->n; i++)
		df_buf_printf(&there, "%s'%s'", i ? ", " : "", names->v[i]);
	df_fail(err, DF_ECONFIG, "dataset '%s': no row has the column '%s'%s; %s%s%s columns are %s%s", ds->name,
	    need->column, why.data ? why.data : "", near ? "did you mean '" : "", near ? near : "",
	    near ? "'? The" : "the", there.data ? there.data : "none", names->is_cut ? " and more" : "");
	df_buf_release(&why);
	df_buf_release(&there);
	return DF_ECONFIG;
}

static bool
all(const bool *met, size_t n)
{
	while (n > 0 && met[n - 1])
		n--;
	return n == 0;
}

int
df_dataset_need(struct df_dataset *ds, const struct df_need *need, size_t n, struct df_err *err)
{
	bool met[DF_COLUMN_COUNT] = { false };
	struct names names = { .n = 0 };
	struct df_record rec;
	uint64_t n_rows = 0;
	int rc = DF_OK;

	if (ds->type == DF_FILE_TXT) /* has its one column */
		return 0;
	df_dataset_rewind(ds);
	while (!all(met, n) && (rc = df_dataset_next(ds, &rec, err)) == 1) {
		if (n_rows++ < NAME_ROWS || may_meet(&rec, need, n, met))
			DF_TRY(look(ds, &rec, need, n, met, &names, err));
	}
	rc = rc < 0 ? rc : 0;
	for (size_t i = 0; i < n && n_rows > 0 && rc == 0; i++)
		if (!met[i])
			rc = missing(ds, &need[i], &names, err);
out:
	df_dataset_rewind(ds);
	for (size_t i = 0; i < names.n; i++)
		free(names.v[i]);
	return rc;
}

int
df_dataset_need_columns(struct df_dataset *ds, uint32_t columns, struct df_err *err)
{
	const uint32_t of_alpaca =
	    1u << DF_COLUMN_PROMPT | 1u << DF_COLUMN_QUERY | 1u << DF_COLUMN_RESPONSE | 1u << DF_COLUMN_HISTORY;
	const uint32_t of_others = 1u << DF_COLUMN_MESSAGES;
	struct df_need need[DF_COLUMN_COUNT];
	size_t n = 0;

	columns &= ~(ds->formatting == DF_FORMAT_ALPACA ? of_others : of_alpaca);
	for (size_t i = 0; i < DF_COLUMN_COUNT; i++)
		if (ds->column[i] && (columns & 1u << i))
			need[n++] = (struct df_need){ ds->column[i], df_column_names[i], !ds->named_columns };
	return df_dataset_need(ds, need, n, err);
}

int
df_dataset_check_columns(struct df_dataset *ds, struct df_err *err)
{
	uint32_t columns = 1u << DF_COLUMN_PROMPT | 1u << DF_COLUMN_MESSAGES;

	if (ds->stage == DF_STAGE_SFT)
		columns |= 1u << DF_COLUMN_RESPONSE;
	return df_dataset_need_columns(ds, ds->named_columns ? UINT32_MAX : columns, err);
}

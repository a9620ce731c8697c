/*
 * records.c - finding the boundaries of records.
 *
 * A dataset may be larger than memory, so it is mapped and cut into records by a scanner that knows just enough
 * JSON for that: strings with their escapes, and nested brackets.  The real parser, which runs on many threads,
 * reads the content of a record.  The scanner has a counter instead of a stack, so deep nesting costs nothing here.
 */
#include <string.h>

#include "base/mem.h"
#include "data/dataset_priv.h"

static bool
is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static void
skip_space(const struct df_datafile *f, size_t *pos)
{
	while (*pos < f->n && is_space(f->data[*pos]))
		++*pos;
}

static uint64_t
line_of(const struct df_datafile *f, size_t pos)
{
	const char *p = f->data, *end = f->data + (pos < f->n ? pos : f->n);
	uint64_t line = 1;

	while (p < end && (p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		line++;
		p++;
	}
	return line;
}

static size_t
column_of(const struct df_datafile *f, size_t pos)
{
	size_t start = pos;

	while (start > 0 && f->data[start - 1] != '\n')
		start--;
	return pos - start + 1;
}

void
df_dataset_place(const struct df_dataset *ds, const struct df_record *rec, struct df_err *err)
{
	const struct df_datafile *f = &ds->files[rec->file];

	df_err_prefix(err, "%s: row %llu (line %llu): ", f->name, (unsigned long long)rec->file_row,
	    (unsigned long long)line_of(f, (size_t)(rec->text - f->data)));
}

/* An error of the file's own grammar, at a position. */
static int
bad_file(const struct df_datafile *f, const struct df_cursor *at, size_t pos, const char *what, struct df_err *err)
{
	return df_fail(err, DF_EFORMAT, "%s: row %llu (line %llu, column %zu): %s", f->name,
	    (unsigned long long)at->file_row, (unsigned long long)line_of(f, pos), column_of(f, pos), what);
}

static int
too_large(const struct df_datafile *f, const struct df_cursor *at, struct df_err *err)
{
	return df_fail(err, DF_ERANGE, "%s: row %llu: a record of more than %zu MiB; is a quote or bracket missing?",
	    f->name, (unsigned long long)at->file_row, DF_RECORD_MAX >> 20);
}

/* From the opening quote to the position after the closing one; f->n when there is none. */
static size_t
skip_string(const struct df_datafile *f, size_t pos, size_t limit)
{
	for (pos++; pos < limit; pos++) {
		if (f->data[pos] == '\\')
			pos++;
		else if (f->data[pos] == '"')
			return pos + 1;
	}
	return limit;
}

/*
 * From the first byte of a value to the position after its last one.  A scalar ends at a comma, a bracket or a
 * space; the parser checks it later.  Returns the limit when the value does not end before it.
 */
static size_t
skip_value(const struct df_datafile *f, size_t pos, size_t limit)
{
	size_t depth = 0;

	while (pos < limit) {
		const char c = f->data[pos];

		switch (c) {
		case '"':
			pos = skip_string(f, pos, limit);
			if (depth == 0)
				return pos;
			continue;
		case '{':
		case '[': depth++; break;
		case '}':
		case ']':
			if (depth == 0)
				return pos;
			if (--depth == 0)
				return pos + 1;
			break;
		case ',':
		case ' ':
		case '\n':
		case '\t':
		case '\r':
			if (depth == 0)
				return pos;
			break;
		default: break;
		}
		pos++;
	}
	return limit;
}

/* The next element of the array: 1, 0 at its end. */
static int
next_in_array(const struct df_datafile *f, struct df_cursor *at, struct df_record *rec, struct df_err *err)
{
	size_t start, limit;

	skip_space(f, &at->pos);
	if (at->pos < f->n && f->data[at->pos] == ']') {
		at->pos++;
		skip_space(f, &at->pos);
		if (at->pos < f->n)
			return bad_file(f, at, at->pos, "text after the end of the array", err);
		return 0;
	}
	if (at->need_comma) {
		if (at->pos < f->n && f->data[at->pos] != ',')
			return bad_file(f, at, at->pos, "expected ',' or ']' after a record", err);
		at->pos++;
		skip_space(f, &at->pos);
	}
	if (at->pos >= f->n)
		return bad_file(f, at, f->n, "the file ends inside the array; it is truncated", err);
	start = at->pos;
	limit = f->n - start > DF_RECORD_MAX ? start + DF_RECORD_MAX : f->n;
	at->pos = skip_value(f, start, limit);
	if (at->pos == start)
		return bad_file(f, at, start, "expected a record", err);
	if (at->pos >= limit && limit < f->n)
		return too_large(f, at, err);
	if (at->pos >= f->n)
		return bad_file(f, at, start, "the file ends inside this record; it is truncated", err);
	rec->text = f->data + start;
	rec->n = at->pos - start;
	at->need_comma = true;
	return 1;
}

/* The next line that is not blank (JSON lines), or just the next (text): 1, 0 at the end. */
static int
next_line(
    const struct df_datafile *f, struct df_cursor *at, bool blank_counts, struct df_record *rec, struct df_err *err)
{
	while (at->pos < f->n) {
		const char *line = f->data + at->pos;
		const char *nl = memchr(line, '\n', f->n - at->pos);
		size_t n = nl ? (size_t)(nl - line) : f->n - at->pos;
		size_t blank = 0;

		at->pos += n + (nl != NULL);
		if (n > 0 && line[n - 1] == '\r')
			n--;
		if (n > DF_RECORD_MAX)
			return too_large(f, at, err);
		while (blank < n && is_space(line[blank]))
			blank++;
		if (blank == n && !blank_counts)
			continue;
		rec->text = line;
		rec->n = n;
		return 1;
	}
	return 0;
}

/* Byte-order mark, and for JSON the choice between an array and lines. */
static int
begin_file(const struct df_dataset *ds, const struct df_datafile *f, struct df_cursor *at, struct df_err *err)
{
	at->pos = f->n >= 3 && memcmp(f->data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
	at->in_array = false;
	at->need_comma = false;
	at->begun = true;
	if (f->n >= 2 && (memcmp(f->data, "\xff\xfe", 2) == 0 || memcmp(f->data, "\xfe\xff", 2) == 0))
		return df_fail(
		    err, DF_EFORMAT, "%s: UTF-16; convert to UTF-8 first (iconv -f UTF-16 -t UTF-8)", f->name);
	if (ds->type == DF_FILE_TXT)
		return 0;
	skip_space(f, &at->pos);
	if (at->pos >= f->n)
		return df_fail(
		    err, DF_EFORMAT, "%s: empty; expected an array of objects, or one object per line", f->name);
	if (f->data[at->pos] == '[') {
		at->in_array = true;
		at->pos++;
	} else if (f->data[at->pos] != '{') {
		return df_fail(err, DF_EFORMAT, "%s: line %llu: expected an array of objects, or one object per line",
		    f->name, (unsigned long long)line_of(f, at->pos));
	}
	return 0;
}

int
df_dataset_next(struct df_dataset *ds, struct df_record *rec, struct df_err *err)
{
	struct df_cursor *at = &ds->at;
	int rc;

	for (; at->file < ds->n_files; at->file++, at->begun = false, at->file_row = 0) {
		const struct df_datafile *f = &ds->files[at->file];

		if (!at->begun && (rc = begin_file(ds, f, at, err)) != 0)
			return rc;
		if (at->in_array)
			rc = next_in_array(f, at, rec, err);
		else
			rc = next_line(f, at, ds->type == DF_FILE_TXT, rec, err);
		if (rc < 0)
			return rc;
		if (rc == 0)
			continue;
		rec->row = at->row++;
		rec->file_row = at->file_row++;
		rec->file = at->file;
		return 1;
	}
	return 0;
}

void
df_dataset_rewind(struct df_dataset *ds)
{
	memset(&ds->at, 0, sizeof(ds->at));
}

int
df_dataset_index(struct df_dataset *ds, uint64_t *n, struct df_err *err)
{
	struct df_record rec;
	size_t file = SIZE_MAX;
	int rc = DF_OK;

	ds->n_places = 0;
	df_dataset_rewind(ds);
	if (!ds->file_first)
		DF_TRY(df_alloc(&ds->file_first, ds->n_files, sizeof(*ds->file_first), "rows", err));
	while ((rc = df_dataset_next(ds, &rec, err)) == 1) {
		DF_TRY(df_grow(&ds->place, &ds->cap_places, ds->n_places + 1, sizeof(*ds->place), "rows", err));
		if (rec.file != file)
			ds->file_first[file = rec.file] = rec.row;
		ds->place[ds->n_places++] =
		    (struct df_place){ (uint64_t)(rec.text - ds->files[file].data), (uint32_t)rec.n, (uint32_t)file };
	}
	df_dataset_rewind(ds);
	*n = ds->n_places;
out:
	return rc;
}

struct df_record
df_dataset_record(const struct df_dataset *ds, uint64_t row)
{
	const struct df_place *p = &ds->place[row];

	return (
	    struct df_record){ ds->files[p->file].data + p->pos, p->n, row, row - ds->file_first[p->file], p->file };
}

uint64_t
df_dataset_n_records(const struct df_dataset *ds)
{
	return ds->n_places;
}

/*
 * pick.c - a list | rows of the pool that each entry names | ids.
 */
#include "data/pick.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/opt.h"
#include "base/words.h"
#include "data/dataset_priv.h"
#include "data/pick_list.h"

struct pick {
	const struct df_pick_opts *o;
	const struct df_origins *origins;
	const struct df_set *pool;
	const struct df_meta *m; /* of the pool */
	bool *wanted;            /* [n_domains] */
	struct df_pick_list list;
	struct df_picked *out;
	size_t cap;
};

static const char *
value_of(const struct pick *p, size_t i)
{
	return p->list.text.data + p->list.v[i].at;
}

static int
take(struct pick *p, uint64_t id, struct df_err *err)
{
	int rc;

	DF_TRY(df_grow(&p->out->id, &p->cap, p->out->n + 1, sizeof(*p->out->id), "ids", err));
	p->out->id[p->out->n++] = id;
out:
	return rc;
}

/* Entry i names no row. */
static int
is_missing(struct pick *p, size_t i, const char *what, struct df_err *err)
{
	p->out->n_missing++;
	if (p->o->skip_missing)
		return DF_OK;
	return df_fail(err, DF_ERANGE, "%s %.80s is not in %s; --skip-missing leaves such entries out", what,
	    value_of(p, i), df_set_name(p->pool));
}

static int
parse_number(const struct pick *p, size_t i, uint64_t *x, struct df_err *err)
{
	int64_t v;

	if (strlen(value_of(p, i)) != p->list.v[i].n || df_parse_int(value_of(p, i), 0, INT64_MAX, &v, NULL) != DF_OK)
		return df_fail(err, DF_EFORMAT, "expected a number from 0, found '%.80s'", value_of(p, i));
	*x = (uint64_t)v;
	return DF_OK;
}

/* ---- by id ---------------------------------------------------------------- */

static int
pick_id(struct pick *p, size_t i, struct df_err *err)
{
	uint64_t id;
	int rc;

	DF_TRY(parse_number(p, i, &id, err));
	if (id >= p->origins->n || (p->origins->domain && !p->wanted[p->origins->domain[id]]))
		rc = is_missing(p, i, "id", err);
	else
		rc = take(p, id, err);
out:
	return rc;
}

/* ---- by row ----------------------------------------------------------------- */

struct place {
	uint64_t row, id;
	uint16_t domain;
};

static int
by_place(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->domain != y->domain)
		return x->domain < y->domain ? -1 : 1;
	if (x->row != y->row)
		return x->row < y->row ? -1 : 1;
	return (x->id > y->id) - (x->id < y->id);
}

/* *place [n] = where each wanted sample is from, in the order of the files. */
static int
sort_places(const struct pick *p, struct place **place, uint64_t *n, struct df_err *err)
{
	int rc;

	*n = 0;
	DF_TRY(df_alloc(place, p->origins->n, sizeof(**place), "rows", err));
	for (uint64_t id = 0; id < p->origins->n; id++)
		if (p->wanted[p->origins->domain[id]])
			(*place)[(*n)++] = (struct place){ p->origins->row[id], id, p->origins->domain[id] };
	qsort(*place, *n, sizeof(**place), by_place);
out:
	return rc;
}

/* The dataset that entry i is of: the one that it names, or the only one that there is. */
static int
domain_of(const struct pick *p, size_t i, uint16_t *domain, struct df_err *err)
{
	const char *name = p->list.v[i].dataset_at == SIZE_MAX ? NULL : p->list.text.data + p->list.v[i].dataset_at;
	size_t found = 0;

	for (size_t d = 0; d < p->m->n_domains; d++) {
		if (!p->wanted[d] || (name && strcmp(p->m->domains[d], name) != 0))
			continue;
		*domain = (uint16_t)d;
		found++;
	}
	if (found == 1)
		return DF_OK;
	if (name)
		return df_fail(err, DF_EFORMAT, "'%s' is none of the datasets of %s", name, df_set_name(p->pool));
	return df_fail(err, DF_EUSAGE,
	    "row %s of which dataset? %s has several: put the name and a tab in front of it, give \"dataset\", or "
	    "--dataset",
	    value_of(p, i), df_set_name(p->pool));
}

static int
pick_row(struct pick *p, size_t i, const struct place *place, uint64_t n, struct df_err *err)
{
	struct place want = { .id = 0 };
	uint64_t low = 0, high = n;
	int rc;

	DF_TRY(parse_number(p, i, &want.row, err));
	DF_TRY(domain_of(p, i, &want.domain, err));
	while (low < high) {
		const uint64_t mid = low + (high - low) / 2;

		if (by_place(&place[mid], &want) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == n || place[low].row != want.row || place[low].domain != want.domain)
		rc = is_missing(p, i, "row", err);
	/* A row that was drawn several times is several samples. */
	for (; rc == DF_OK && low < n && place[low].row == want.row && place[low].domain == want.domain; low++)
		rc = take(p, place[low].id, err);
out:
	return rc;
}

static int
pick_rows(struct pick *p, struct df_err *err)
{
	struct place *place = NULL;
	uint64_t n;
	int rc;

	DF_TRY(sort_places(p, &place, &n, err));
	for (size_t i = 0; i < p->list.n; i++) {
		if ((rc = pick_row(p, i, place, n, err)) != DF_OK) {
			df_pick_list_place(&p->list, i, p->o->list, err);
			goto out;
		}
	}
out:
	free(place);
	return rc;
}

/* ---- by column ---------------------------------------------------------------- */

/* A value of the list, and a row that has it. */
struct match {
	size_t value; /* position in the sorted values */
	uint64_t id;
};

struct values {
	size_t *entry; /* [n] entries, sorted by value; of equal ones one stands for all */
	size_t n;
	struct match *match; /* sorted by value and id, when all rows were read */
	size_t n_matches, cap_matches;
};

static int
compare(const char *a, size_t n, const char *b, size_t m)
{
	const int c = memcmp(a, b, n < m ? n : m);

	return c ? c : (n > m) - (n < m);
}

static int
by_value(const void *a, const void *b, void *ctx)
{
	const struct pick *p = ctx;
	const size_t x = *(const size_t *)a, y = *(const size_t *)b;

	return compare(value_of(p, x), p->list.v[x].n, value_of(p, y), p->list.v[y].n);
}

static int
by_match(const void *a, const void *b)
{
	const struct match *x = a, *y = b;

	if (x->value != y->value)
		return x->value < y->value ? -1 : 1;
	return (x->id > y->id) - (x->id < y->id);
}

static int
sort_values(struct pick *p, struct values *v, struct df_err *err)
{
	size_t n = 0;
	int rc;

	DF_TRY(df_alloc(&v->entry, p->list.n, sizeof(*v->entry), "values", err));
	for (size_t i = 0; i < p->list.n; i++)
		v->entry[i] = i;
	qsort_r(v->entry, p->list.n, sizeof(*v->entry), by_value, p);
	for (size_t i = 0; i < p->list.n; i++)
		if (n == 0 || by_value(&v->entry[i], &v->entry[n - 1], p) != 0)
			v->entry[n++] = v->entry[i];
	v->n = n;
out:
	return rc;
}

/* The position of a value in the sorted ones; v->n: it is not wanted. */
static size_t
find_value(const struct pick *p, const struct values *v, const char *text, size_t n)
{
	size_t low = 0, high = v->n;

	while (low < high) {
		const size_t mid = low + (high - low) / 2, e = v->entry[mid];
		const int c = compare(value_of(p, e), p->list.v[e].n, text, n);

		if (c == 0)
			return mid;
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return v->n;
}

/* *at = which wanted value the record's column has; v->n: none. */
static int
look_up(const struct pick *p, const struct values *v, const struct df_dataset *ds, uint64_t row, struct df_buf *scratch,
    size_t *at, struct df_err *err)
{
	const struct df_record rec = df_dataset_record(ds, row);
	struct df_json *doc = NULL;
	int rc = DF_OK;

	*at = v->n;
	if (ds->type == DF_FILE_TXT) {
		*at = find_value(p, v, rec.text, rec.n);
		goto out;
	}
	DF_TRY(df_json_parse(&doc, rec.text, rec.n, "its JSON", err));
	df_buf_clear(scratch);
	if (df_pick_value(scratch, df_json_get(df_json_root(doc), p->o->column))) {
		DF_TRY(df_buf_check(scratch, err));
		*at = find_value(p, v, scratch->data ? scratch->data : "", scratch->len);
	}
out:
	if (rc != DF_OK)
		df_dataset_place(ds, &rec, err);
	df_json_free(doc);
	return rc;
}

/* The matches of place[0..n), all of one dataset. */
static int
match_dataset(struct pick *p, struct values *v, const struct df_dataset_info *info, const struct place *place,
    uint64_t n, struct df_err *err)
{
	const struct df_need need = { .column = p->o->column };
	struct df_dataset *ds = NULL;
	struct df_buf scratch = DF_BUF_INIT;
	size_t at = v->n;
	int rc;

	DF_TRY(df_origin_dataset(&ds, info, p->pool, place[0].domain, err));
	DF_TRY(df_dataset_need(ds, &need, 1, err));
	for (uint64_t i = 0; i < n; i++) {
		if (place[i].row >= df_dataset_n_records(ds)) {
			rc = df_fail(err, DF_EFORMAT, "%s: row %" PRIu64 " of dataset '%s', which has %" PRIu64,
			    df_set_name(p->pool), place[i].row, df_dataset_name(ds), df_dataset_n_records(ds));
			goto out;
		}
		if (i == 0 || place[i].row != place[i - 1].row)
			DF_TRY(look_up(p, v, ds, place[i].row, &scratch, &at, err));
		if (at == v->n)
			continue;
		DF_TRY(df_grow(&v->match, &v->cap_matches, v->n_matches + 1, sizeof(*v->match), "matches", err));
		v->match[v->n_matches++] = (struct match){ at, place[i].id };
		df_progress(i + 1, n, "rows");
	}
out:
	df_buf_release(&scratch);
	df_dataset_free(ds);
	return rc;
}

static int
match_all(struct pick *p, struct values *v, struct df_err *err)
{
	struct df_dataset_info *info = NULL;
	struct place *place = NULL;
	uint64_t n, end;
	int rc;

	DF_TRY(sort_places(p, &place, &n, err));
	DF_TRY(df_dataset_info_open(&info, p->o->dataset_dir, err));
	for (uint64_t i = 0; i < n; i = end) {
		for (end = i; end < n && place[end].domain == place[i].domain; end++)
			;
		DF_TRY(match_dataset(p, v, info, place + i, end - i, err));
	}
	qsort(v->match, v->n_matches, sizeof(*v->match), by_match);
out:
	df_dataset_info_free(info);
	free(place);
	return rc;
}

static int
pick_value(struct pick *p, const struct values *v, size_t i, struct df_err *err)
{
	const size_t value = find_value(p, v, value_of(p, i), p->list.v[i].n);
	size_t low = 0, high = v->n_matches;
	int rc = DF_OK;

	while (low < high) {
		const size_t mid = low + (high - low) / 2;

		if (v->match[mid].value < value)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == v->n_matches || v->match[low].value != value)
		rc = is_missing(p, i, "the value", err);
	for (; rc == DF_OK && low < v->n_matches && v->match[low].value == value; low++)
		rc = take(p, v->match[low].id, err);
	return rc;
}

static int
pick_values(struct pick *p, struct df_err *err)
{
	struct values v = { NULL };
	int rc;

	DF_TRY(sort_values(p, &v, err));
	DF_TRY(match_all(p, &v, err));
	for (size_t i = 0; i < p->list.n; i++) {
		if ((rc = pick_value(p, &v, i, err)) != DF_OK) {
			df_pick_list_place(&p->list, i, p->o->list, err);
			goto out;
		}
	}
out:
	free(v.entry);
	free(v.match);
	return rc;
}

/* ---- all of it ------------------------------------------------------------------ */

static int
count_repeated(struct df_picked *out, uint64_t n_rows, struct df_err *err)
{
	uint8_t *seen = NULL;
	int rc;

	DF_TRY(df_alloc(&seen, n_rows, 1, "ids", err));
	for (uint64_t i = 0; i < out->n; i++) {
		out->n_repeated += seen[out->id[i]];
		seen[out->id[i]] = 1;
	}
out:
	free(seen);
	return rc;
}

int
df_pick(struct df_picked *out, const struct df_pick_opts *o, const struct df_origins *origins,
    const struct df_set *pool, struct df_err *err)
{
	static const char *const members[] = { "id", "row" };
	const bool values = o->by == DF_PICK_COLUMN;
	struct pick p = {
		.o = o, .origins = origins, .pool = pool, .m = df_set_meta(pool), .list = DF_PICK_LIST_INIT, .out = out
	};
	int rc;

	*out = (struct df_picked){ .n = 0 };
	DF_TRY(df_alloc(&p.wanted, p.m->n_domains, sizeof(*p.wanted), "datasets", err));
	DF_TRY(df_origin_wanted(o->datasets, p.m, p.wanted, err));
	DF_TRY(df_pick_list_read(
	    &p.list, o->list, values ? o->column : members[o->by], o->by == DF_PICK_ROW, values, err));
	if (values) {
		DF_TRY(pick_values(&p, err));
	} else if (o->by == DF_PICK_ROW) {
		DF_TRY(pick_rows(&p, err));
	} else {
		for (size_t i = 0; i < p.list.n; i++) {
			if ((rc = pick_id(&p, i, err)) != DF_OK) {
				df_pick_list_place(&p.list, i, o->list, err);
				goto out;
			}
		}
	}
	out->n_entries = p.list.n;
	memcpy(out->list_id, p.list.id, sizeof(out->list_id));
	DF_TRY(df_grow(&out->id, &p.cap, out->n + 1, sizeof(*out->id), "ids", err)); /* none is an array too */
	DF_TRY(count_repeated(out, origins->n, err));
out:
	if (rc != DF_OK)
		df_picked_release(out);
	free(p.wanted);
	df_pick_list_release(&p.list);
	return rc;
}

void
df_picked_release(struct df_picked *p)
{
	free(p->id);
	*p = (struct df_picked){ .n = 0 };
}

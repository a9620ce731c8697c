/*
 * subtasks.c - which group each of a target's rows belongs to.
 */
#include "select/subtasks.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/words.h"

#define READ_ROWS 4096

const char *const df_subtasks_words[] = { "domain", "none", NULL };

void
df_subtasks_release(struct df_subtasks *t)
{
	for (size_t i = 0; i < t->names.n; i++)
		free((char *)(uintptr_t)t->names.v[i]);
	free(t->names.v);
	free(t->of_row);
	*t = (struct df_subtasks){ 0 };
}

static int
task_number(struct df_subtasks *t, const char *name, uint32_t *number, struct df_err *err)
{
	char *copy = NULL;
	int rc = DF_OK;

	for (size_t i = 0; i < t->names.n; i++) {
		if (strcmp(t->names.v[i], name) == 0) {
			*number = (uint32_t)i;
			return DF_OK;
		}
	}
	DF_TRY(df_grow(&t->names.v, &t->names.cap, t->names.n + 1, sizeof(*t->names.v), "subtasks", err));
	DF_TRY(df_strdup(&copy, name, err));
	*number = (uint32_t)t->names.n;
	t->names.v[t->names.n++] = copy;
out:
	return rc;
}

/* ---- a file of labels ------------------------------------------------------------- */

struct labels {
	struct df_subtasks *t;
	const char *path;
	struct df_idset ids;
	uint64_t seen;
};

/* "label", for the next row, or "id<TAB>label". */
static int
label_line(void *ctx, char *line, uint64_t number, struct df_err *err)
{
	struct labels *l = ctx;
	char *tab = strchr(line, '\t');
	int64_t id = (int64_t)l->seen;
	uint32_t task = 0;
	int rc = DF_OK;

	(void)number;
	if (tab) {
		*tab = '\0';
		if (df_parse_int(line, 0, INT64_MAX, &id, err))
			return DF_EFORMAT;
	}
	DF_TRY(df_idset_add(&l->ids, &(uint64_t){ (uint64_t)id }, 1, l->path, err));
	DF_TRY(task_number(l->t, tab ? tab + 1 : line, &task, err));
	l->t->of_row[id] = task;
	l->seen++;
out:
	return rc;
}

static int
by_label(struct df_subtasks *t, const char *path, struct df_err *err)
{
	struct labels l = { .t = t, .path = path };
	int rc = DF_OK;

	DF_TRY(df_idset_init(&l.ids, t->n, err));
	rc = df_select_lines(path, label_line, &l, err);
	if (rc == DF_ENOINPUT)
		df_suggest(err, path, df_subtasks_words);
	if (rc != DF_OK)
		goto out;
	DF_TRY(df_idset_check_full(&l.ids, path, err));
out:
	df_idset_release(&l.ids);
	return rc;
}

/* ---- domains ------------------------------------------------------------------------ */

/* Each row's domain is its subtask; the names are those that occur. */
static int
by_domain(struct df_subtasks *t, const struct df_select_input *input, struct df_set *set, struct df_err *err)
{
	static const enum df_col columns[] = { DF_COL_ID, DF_COL_DOMAIN };
	const struct df_meta *m = df_set_meta(set);
	struct df_batch b = DF_BATCH_INIT;
	int rc = DF_OK;

	df_set_only(set, columns, 2); /* not the matrix */
	for (uint64_t first = 0, n; first < t->n; first += n) {
		const uint16_t *domain;
		const uint64_t *id;

		n = t->n - first < READ_ROWS ? t->n - first : READ_ROWS;
		DF_TRY(df_set_read(set, first, n, &b, err));
		id = b.col[DF_COL_ID].data;
		domain = b.col[DF_COL_DOMAIN].data;
		for (uint64_t i = 0; domain && i < n; i++) {
			if (id[i] >= t->n || domain[i] >= m->n_domains) {
				rc = df_fail(err, DF_EFORMAT,
				    "%s: row %" PRIu64 ": id %" PRIu64 " or domain %u is out of range",
				    df_set_name(set), first + i, id[i], domain[i]);
				goto out;
			}
			DF_TRY(task_number(t, m->domains[domain[i]], &t->of_row[id[i]], err));
		}
	}
out:
	df_select_columns(input, set);
	df_batch_release(&b);
	return rc;
}

/* Number them by their lowest id, so that the order of rows and lines does not matter. */
static int
sort_tasks(struct df_subtasks *t, struct df_err *err)
{
	const size_t n = t->names.n;
	uint32_t *now = NULL, next = 0;
	const char **names = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&now, n, sizeof(*now), "subtasks", err));
	DF_TRY(df_alloc(&names, n, sizeof(*names), "subtasks", err));
	memset(now, 0xff, n * sizeof(*now));
	for (uint64_t id = 0; id < t->n; id++) {
		uint32_t *number = &t->of_row[id];

		if (now[*number] == UINT32_MAX) {
			names[next] = t->names.v[*number];
			now[*number] = next++;
		}
		*number = now[*number];
	}
	/* Of an id that occurs twice, which the scan will refuse: a label that no row has any more. */
	for (size_t i = 0; i < n; i++)
		if (now[i] == UINT32_MAX)
			names[next++] = t->names.v[i];
	memcpy(t->names.v, names, n * sizeof(*names));
out:
	free(now);
	free(names);
	return rc;
}

int
df_subtasks_find(struct df_subtasks *t, const char *what, const struct df_select_input *input, struct df_set *set,
    struct df_err *err)
{
	uint32_t all;
	int rc = DF_OK;

	*t = (struct df_subtasks){ .n = df_set_rows(set) };
	DF_TRY(df_alloc(&t->of_row, t->n, sizeof(*t->of_row), "subtasks", err));
	if (strcmp(what, "domain") == 0)
		DF_TRY(by_domain(t, input, set, err));
	else if (strcmp(what, "none") != 0)
		DF_TRY(by_label(t, what, err));
	if (!t->names.n)
		DF_TRY(task_number(t, "all", &all, err));
	DF_TRY(sort_tasks(t, err));
out:
	return rc;
}

int
df_subtasks_record(const struct df_subtasks *t, struct df_meta *m, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	int rc = DF_OK;

	for (size_t i = 0; i < t->names.n; i++)
		df_buf_printf(&b, "%s%s", i ? "," : "", t->names.v[i]);
	DF_TRY(df_buf_check(&b, err));
	DF_TRY(df_meta_set_str(m, "subtasks", b.data, err));
out:
	df_buf_release(&b);
	return rc;
}

/*
 * choice_load.c - MMLU's directories: dev/ has solved questions, val/ and test/ have the questions to answer.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/words.h"
#include "eval/choice.h"

#define QUESTION_MAX ((size_t)1 << 20) /* bytes, including choices: far more than a model reads */

void
df_choice_release(struct df_choice_task *t)
{
	for (size_t i = 0; i < t->n; i++) {
		struct df_subject *s = &t->subject[i];

		free(s->name);
		free(s->solved);
		free(s->asked);
		df_csv_release(&s->solved_text);
		df_csv_release(&s->asked_text);
	}
	free(t->subject);
	*t = (struct df_choice_task){ 0 };
}

/*
 * A row's fields: their number must be the subject's (*width, 0 before its first row), and their total size at most
 * that of a question.
 */
static int
check_row(const struct df_csv *c, const struct df_csv_row *row, const char *path, size_t *width, struct df_err *err)
{
	size_t bytes = 0;

	if (row->n < 4 || row->n > DF_CHOICES_MAX + 2)
		return df_fail(err, DF_EFORMAT,
		    "%s: line %zu: %zu fields; expected a question, 2 to %d choices, and a letter", path, row->line,
		    row->n, DF_CHOICES_MAX);
	if (*width != 0 && row->n != *width)
		return df_fail(err, DF_EFORMAT,
		    "%s: line %zu: %zu fields, but the subject's first question has %zu: a comma may lack its quotes",
		    path, row->line, row->n, *width);
	*width = row->n;
	for (size_t i = 0; i < row->n; i++)
		bytes += strlen(c->field[row->first + i]);
	if (bytes > QUESTION_MAX)
		return df_fail(err, DF_EFORMAT, "%s: line %zu: a question of %zu bytes; at most %zu are allowed", path,
		    row->line, bytes, QUESTION_MAX);
	return DF_OK;
}

static int
read_questions(const struct df_csv *c, const char *path, size_t most, size_t *width, struct df_question **out,
    size_t *n, struct df_err *err)
{
	struct df_question *q = NULL;
	int rc;

	for (size_t i = 0; i < c->n_rows; i++)
		DF_TRY(check_row(c, &c->row[i], path, width, err));

	*n = c->n_rows < most ? c->n_rows : most;
	DF_TRY(df_alloc(&q, *n, sizeof(*q), "questions", err));
	for (size_t i = 0; i < *n; i++) {
		const struct df_csv_row *row = &c->row[i];
		const char *const *field = c->field + row->first, *letter = field[row->n - 1];

		q[i].text = field[0];
		q[i].n_choices = row->n - 2;
		for (size_t k = 0; k < q[i].n_choices; k++)
			q[i].choice[k] = field[k + 1];
		q[i].answer = (size_t)(unsigned char)letter[0] - 'A';
		if (letter[0] < 'A' || letter[1] != '\0' || q[i].answer >= q[i].n_choices) {
			rc = df_fail(err, DF_EFORMAT, "%s: line %zu: the answer is '%.20s', not a letter from A to %c",
			    path, row->line, letter, (int)('A' + q[i].n_choices - 1));
			goto out;
		}
	}
	*out = q;
	q = NULL;
out:
	free(q);
	return rc;
}

/* dir/SPLIT/NAME_SPLIT.csv */
static int
read_split(const char *dir, const char *split, const char *name, size_t most, size_t *width, struct df_csv *text,
    struct df_question **out, size_t *n, struct df_err *err)
{
	char *path = NULL;
	int rc;

	DF_TRY(df_asprintf(&path, err, "%s/%s/%s_%s.csv", dir, split, name, split));
	DF_TRY(df_csv_load(text, path, err));
	rc = read_questions(text, path, most, width, out, n, err);
	if (rc == DF_OK && *n == 0)
		rc = df_fail(err, DF_EFORMAT, "%s: no question", path);
out:
	free(path);
	return rc;
}

static int
add_subject(struct df_choice_task *t, const char *dir, const char *split, const char *name, size_t n_name,
    size_t n_shots, struct df_err *err)
{
	struct df_subject *s;
	size_t width = 0;
	int rc;

	DF_TRY(df_grow(&t->subject, &t->cap, t->n + 1, sizeof(*t->subject), "subjects", err));
	s = &t->subject[t->n++];
	*s = (struct df_subject){ 0 };
	DF_TRY(df_strndup(&s->name, name, n_name, err));
	DF_TRY(read_split(dir, split, s->name, SIZE_MAX, &width, &s->asked_text, &s->asked, &s->n_asked, err));
	if (n_shots == 0)
		goto out;
	DF_TRY(read_split(dir, "dev", s->name, n_shots, &width, &s->solved_text, &s->solved, &s->n_solved, err));
	if (s->n_solved < n_shots)
		rc = df_fail(err, DF_EFORMAT, "%s/dev/%s_dev.csv: %zu questions of the %zu that are to be shown", dir,
		    s->name, s->n_solved, n_shots);
out:
	return rc;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct df_subject *)a)->name, ((const struct df_subject *)b)->name);
}

typedef int subject_fn(void *ctx, const char *name, size_t n_name, struct df_err *err);

/* Call fn with the subject of each file of the split. */
static int
each_subject(const char *dir, const char *split, subject_fn *fn, void *ctx, struct df_err *err)
{
	struct dirent *e;
	char *path = NULL, *end = NULL;
	DIR *d = NULL;
	size_t n_end, n_found = 0;
	int rc;

	DF_TRY(df_path_join(&path, dir, split, err));
	DF_TRY(df_asprintf(&end, err, "_%s.csv", split));
	n_end = strlen(end);
	d = opendir(path);
	if (d == NULL) {
		rc = df_fail(err, DF_ENOINPUT, "%s:", path);
		goto out;
	}
	while ((e = readdir(d)) != NULL) {
		const size_t n = strlen(e->d_name);

		if (n <= n_end || strcmp(e->d_name + n - n_end, end) != 0)
			continue;
		n_found++;
		DF_TRY(fn(ctx, e->d_name, n - n_end, err));
	}
	if (n_found == 0)
		rc = df_fail(err, DF_ENOINPUT, "%s: no file <subject>%s", path, end);
out:
	if (d != NULL)
		closedir(d);
	free(path);
	free(end);
	return rc;
}

struct adding {
	struct df_choice_task *t;
	const char *dir, *split;
	size_t n_shots;
};

static int
add_found(void *ctx, const char *name, size_t n_name, struct df_err *err)
{
	const struct adding *a = ctx;

	return add_subject(a->t, a->dir, a->split, name, n_name, a->n_shots, err);
}

struct nearest {
	const char *word;
	char *name; /* NULL: no known subject is near */
	size_t dist;
};

static int
find_nearer(void *ctx, const char *name, size_t n_name, struct df_err *err)
{
	struct nearest *f = ctx;
	const char *best = NULL;
	char *copy = NULL;
	int rc;

	DF_TRY(df_strndup(&copy, name, n_name, err));
	df_nearer(f->word, copy, &best, &f->dist);
	if (best) {
		free(f->name);
		f->name = copy;
		copy = NULL;
	}
out:
	free(copy);
	return rc;
}

/* After "no such file" for the subject `word`: suggest the one that was meant. */
static void
suggest_subject(const char *dir, const char *split, const char *word, struct df_err *err)
{
	struct nearest f = { .word = word, .dist = SIZE_MAX };

	if (each_subject(dir, split, find_nearer, &f, NULL) == DF_OK && f.name)
		df_err_suffix(err, "; did you mean '%s'?", f.name);
	free(f.name);
}

int
df_choice_load(struct df_choice_task *t, const char *dir, const char *split, const char *subjects, size_t n_shots,
    struct df_err *err)
{
	struct adding a = { t, dir, split, n_shots };
	int rc = DF_OK;

	*t = (struct df_choice_task){ 0 };
	if (subjects == NULL)
		DF_TRY(each_subject(dir, split, add_found, &a, err));
	for (const char *at = subjects; at != NULL && *at != '\0';) {
		const size_t n = strcspn(at, ",");

		rc = n > 0 ? add_subject(t, dir, split, at, n, n_shots, err) : DF_OK;
		if (rc == DF_ENOINPUT)
			suggest_subject(dir, split, t->subject[t->n - 1].name, err);
		if (rc != DF_OK)
			goto out;
		at += n + (at[n] == ',');
	}
	if (t->n == 0) {
		rc = df_fail(err, DF_EUSAGE, "no subject is named");
		goto out;
	}
	qsort(t->subject, t->n, sizeof(*t->subject), by_name);
out:
	if (rc != DF_OK)
		df_choice_release(t);
	return rc;
}

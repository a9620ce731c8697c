/*
 * opt.c - one table parses, helps and suggests.
 *
 * A word after "--" is looked up in three ways: the exact name, "no-" and a
 * flag's name, then as the only name that begins with it.  What remains
 * unknown gets the nearest name as a suggestion.
 */
#include "base/opt.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/inout.h"
#include "base/mem.h"
#include "base/words.h"

/* Columns of -h: the text starts at HELP_COL and ends before HELP_END. */
#define HELP_COL 28
#define HELP_END 80

static const struct df_opt builtin_help = {
	.name = "help", .short_name = 'h', .type = DF_OPT_FLAG, .help = "print how to use the program"
};
static const struct df_opt builtin_version = {
	.name = "version", .type = DF_OPT_FLAG, .help = "print the program's name and version"
};

struct parser {
	const struct df_opt *opts;
	size_t n; /* rows, headings included */
	int argc, next;
	char **argv;
	struct df_opt_result *out;
};

static size_t
count_rows(const struct df_opt *opts)
{
	size_t n = 0;

	while (opts[n].name || opts[n].type == DF_OPT_GROUP || opts[n].type == DF_OPT_OPERANDS)
		n++;
	return n;
}

/* Row i of the table with the two options that every table has at its end; NULL past them. */
static const struct df_opt *
row(const struct parser *p, size_t i)
{
	if (i < p->n)
		return &p->opts[i];
	return i == p->n ? &builtin_help : i == p->n + 1 ? &builtin_version : NULL;
}

int
df_parse_int(const char *s, int64_t min, int64_t max, int64_t *out, struct df_err *err)
{
	long long x;
	char *end;

	errno = 0;
	x = strtoll(s, &end, 10);
	if (end == s || *end || (unsigned char)*s <= ' ')
		return df_fail(err, DF_EUSAGE, "'%.60s' is not a whole number", s);
	if (errno == ERANGE || x < min || x > max)
		return df_fail(err, DF_EUSAGE, "%.60s is not in [%lld, %lld]", s, (long long)min, (long long)max);
	*out = x;
	return DF_OK;
}

int
df_parse_double(const char *s, double *out, struct df_err *err)
{
	double x;
	char *end;

	/* strtod() also takes hexadecimal, "nan" and "infinity"; none is what a user means by a number. */
	if (*s == '\0' || s[strspn(s, "+-.0123456789eE")] != '\0')
		return df_fail(err, DF_EUSAGE, "'%.60s' is not a number", s);
	x = strtod(s, &end);
	if (end == s || *end)
		return df_fail(err, DF_EUSAGE, "'%.60s' is not a number", s);
	if (!isfinite(x))
		return df_fail(err, DF_EUSAGE, "%.60s is too large", s);
	*out = x;
	return DF_OK;
}

static bool
is_option(const struct df_opt *o)
{
	return o->name && o->type != DF_OPT_ELSEWHERE;
}

/* Is the n bytes at `name` this option, the beginning of it, or a flag's --no- form? */
static bool
is_meant(const struct df_opt *o, const char *name, size_t n)
{
	return strncmp(o->name, name, n) == 0 ||
	    (n > 3 && strncmp(name, "no-", 3) == 0 && strncmp(o->name, name + 3, n - 3) == 0);
}

/* The command words that have such an option: "less", "static and custom"; none: false. */
static bool
find_elsewhere(const struct parser *p, const char *name, size_t n, const char **option, char *words, size_t size)
{
	size_t len = 0;

	*option = NULL;
	for (size_t i = 0; i < p->n; i++) {
		const struct df_opt *o = &p->opts[i];

		if (o->type != DF_OPT_ELSEWHERE || !is_meant(o, name, n))
			continue;
		if (!*option)
			*option = o->name;
		if (strcmp(*option, o->name) == 0 && len < size)
			len += (size_t)snprintf(words + len, size - len, "%s%s", len ? " and " : "", o->help);
	}
	return *option != NULL;
}

static int
unknown_option(const struct parser *p, const char *name, size_t n, struct df_err *err)
{
	const char *best = NULL;
	size_t dist = SIZE_MAX;
	char word[64], owners[128];

	if (n > 0 && find_elsewhere(p, name, n, &best, owners, sizeof(owners)))
		return df_fail(err, DF_EUSAGE, "--%s belongs to %s, and is known only after that word", best, owners);
	snprintf(word, sizeof(word), "%.*s", (int)(n < sizeof(word) ? n : sizeof(word) - 1), name);
	for (size_t i = 0; row(p, i); i++)
		if (is_option(row(p, i)))
			df_nearer(word, row(p, i)->name, &best, &dist);
	if (best)
		return df_fail(err, DF_EUSAGE, "unknown option --%s; did you mean --%s?", word, best);
	return df_fail(err, DF_EUSAGE, "unknown option --%s (-h lists them)", word);
}

/* *out = the option called by the n bytes at name; *negated when it is a flag's --no- form. */
static int
find_long(
    const struct parser *p, const char *name, size_t n, const struct df_opt **out, bool *negated, struct df_err *err)
{
	const struct df_opt *found = NULL, *second = NULL, *o;
	const char *elsewhere;
	char owners[128];
	bool found_no = false;
	bool no = n > 3 && strncmp(name, "no-", 3) == 0;

	for (size_t i = 0; (o = row(p, i)) != NULL; i++) {
		bool as_no = no && o->name && o->type == DF_OPT_FLAG && o->value;

		if (!is_option(o))
			continue;
		if (strncmp(o->name, name, n) == 0 && o->name[n] == '\0') {
			*out = o;
			*negated = false;
			return DF_OK;
		}
		if (as_no && strncmp(o->name, name + 3, n - 3) == 0 && o->name[n - 3] == '\0') {
			*out = o;
			*negated = true;
			return DF_OK;
		}
		if (n > 0 && (strncmp(o->name, name, n) == 0 || (as_no && strncmp(o->name, name + 3, n - 3) == 0))) {
			if (found && !second)
				second = o;
			if (found)
				continue; /* the whole name may still come */
			found = o;
			found_no = strncmp(o->name, name, n) != 0;
		}
	}
	if (second)
		return df_fail(
		    err, DF_EUSAGE, "option --%.*s is ambiguous (--%s, --%s)", (int)n, name, found->name, second->name);
	/* What another command has is not an abbreviation of what this one has: `--scores` is not --scores-output. */
	if (found == NULL || find_elsewhere(p, name, n, &elsewhere, owners, sizeof(owners)))
		return unknown_option(p, name, n, err);
	*out = found;
	*negated = found_no;
	return DF_OK;
}

static const struct df_opt *
find_short(const struct parser *p, char c)
{
	const struct df_opt *o;

	for (size_t i = 0; (o = row(p, i)) != NULL; i++)
		if (is_option(o) && o->short_name == c)
			return o;
	return NULL;
}

static int
append(struct df_strlist *list, const char *s, struct df_err *err)
{
	int rc;

	if ((rc = df_grow(&list->v, &list->cap, list->n + 1, sizeof(*list->v), "arguments", err)) == DF_OK)
		list->v[list->n++] = s;
	return rc;
}

static void
join_words(const char *const *words, const char *sep, struct df_buf *b)
{
	for (int i = 0; words[i]; i++)
		df_buf_printf(b, "%s%s", i ? sep : "", words[i]);
}

static int
set_choice(const struct df_opt *o, const char *s, struct df_err *err)
{
	struct df_buf all = DF_BUF_INIT;

	for (int i = 0; o->choices[i]; i++) {
		if (strcmp(o->choices[i], s) == 0) {
			*(int *)o->value = i;
			return DF_OK;
		}
	}
	join_words(o->choices, ", ", &all);
	df_fail(err, DF_EUSAGE, "'%.60s' is not one of %s", s, all.data ? all.data : "the choices");
	df_suggest(err, s, o->choices);
	df_buf_release(&all);
	return DF_EUSAGE;
}

/* The Slurm array that this process runs in; n = 0: what the environment does not say. */
struct slurm_array {
	int64_t id, min, max, step, n;
};

/* *in = false outside an array.  `whole`: all of the array must be known, not only the task's own number. */
static int
slurm_array(struct slurm_array *a, bool *in, bool whole, struct df_err *err)
{
	struct {
		const char *name;
		int64_t *to, min;
		bool needed;
	} vars[] = { { "SLURM_ARRAY_TASK_ID", &a->id, 0, true }, { "SLURM_ARRAY_TASK_MIN", &a->min, 0, whole },
		{ "SLURM_ARRAY_TASK_MAX", &a->max, 0, whole }, { "SLURM_ARRAY_TASK_STEP", &a->step, 1, false },
		{ "SLURM_ARRAY_TASK_COUNT", &a->n, 0, whole } };
	int rc;

	*in = getenv(vars[0].name) != NULL;
	if (!*in)
		return DF_OK;
	*a = (struct slurm_array){ 0, 0, 0, 1, 0 };
	for (size_t k = 0; k < sizeof(vars) / sizeof(vars[0]); k++) {
		const char *text = getenv(vars[k].name);

		if (text == NULL && vars[k].needed)
			return df_fail(err, DF_EUSAGE, "%s is not set", vars[k].name);
		if (text && (rc = df_parse_int(text, vars[k].min, INT32_MAX, vars[k].to, err)) != DF_OK) {
			df_err_prefix(err, "%s: ", vars[k].name);
			return rc;
		}
		/* One that names no bounds is taken to have this task alone. */
		if (k == 0)
			a->min = a->max = a->id;
	}
	return DF_OK;
}

/* "auto": the task's place in its array of evenly spaced numbers; the whole job outside an array. */
static int
shard_of_array(struct df_shard_arg *out, struct df_err *err)
{
	struct slurm_array a;
	bool in;
	int rc;

	if ((rc = slurm_array(&a, &in, true, err)) != DF_OK)
		return rc;
	*out = (struct df_shard_arg){ .n = 1, .guessed = true };
	if (!in)
		return DF_OK;
	/* A sparse array (1,5,7) does not say which of its elements this one is. */
	if (a.id < a.min || a.id > a.max || (a.id - a.min) % a.step != 0 || (a.max - a.min) / a.step + 1 != a.n)
		return df_fail(
		    err, DF_EUSAGE, "the Slurm array is not evenly numbered; give --shard auto/N or --shard I/N");
	/* Task 3 alone is one of several that runs again. */
	if (a.n == 1 && a.id > 1)
		return df_fail(err, DF_EUSAGE,
		    "the Slurm array has only task %d, which does not say how many parts there are; give "
		    "--shard auto/N, or --shard %d/N",
		    (int)a.id, (int)a.id);
	*out = (struct df_shard_arg){
		.i = (uint32_t)((a.id - a.min) / a.step), .n = (uint32_t)a.n, .guessed = true, .task = (uint32_t)a.id
	};
	return DF_OK;
}

/*
 * "auto/N": task I of an array is part I of N, whichever tasks the array has.  So tasks count from 1: in an array from 0
 * task 2 would be the third part, and submitted again alone nothing would say so.
 */
static int
shard_of_task(struct df_shard_arg *out, int64_t n, struct df_err *err)
{
	struct slurm_array a;
	bool in;
	int rc;

	if ((rc = slurm_array(&a, &in, false, err)) != DF_OK)
		return rc;
	if (!in)
		return df_fail(err, DF_EUSAGE, "this is no task of a Slurm array; give --shard I/%d", (int)n);
	if (a.id == 0 || a.min == 0)
		return df_fail(err, DF_EUSAGE,
		    "tasks must count from 1, as in --array=1-%d; in an array from 0 give "
		    "--shard $((SLURM_ARRAY_TASK_ID + 1))/%d",
		    (int)n, (int)n);
	if (a.id > n || a.max > n)
		return df_fail(err, DF_EUSAGE, "the Slurm array has a task %d, but there are %d parts",
		    (int)(a.id > a.max ? a.id : a.max), (int)n);
	*out = (struct df_shard_arg){ .i = (uint32_t)(a.id - 1), .n = (uint32_t)n, .task = (uint32_t)a.id };
	return DF_OK;
}

/* "i/n", "auto" or "auto/n" */
static int
set_shard(struct df_shard_arg *out, const char *s, struct df_err *err)
{
	const char *slash = strchr(s, '/');
	int64_t i, n;
	char head[24];
	int rc;

	if (strcmp(s, "auto") == 0) {
		if ((rc = shard_of_array(out, err)) != DF_OK)
			df_err_prefix(err, "auto: ");
		return rc;
	}
	if (slash == NULL || slash == s || slash - s >= (ptrdiff_t)sizeof(head))
		return df_fail(err, DF_EUSAGE, "'%.60s' is not of the form i/n (or auto, auto/n)", s);
	memcpy(head, s, (size_t)(slash - s));
	head[slash - s] = '\0';
	if ((rc = df_parse_int(slash + 1, 1, INT32_MAX, &n, err)) != DF_OK)
		return rc;
	if (strcmp(head, "auto") == 0) {
		if ((rc = shard_of_task(out, n, err)) != DF_OK)
			df_err_prefix(err, "%.60s: ", s);
		return rc;
	}
	if ((rc = df_parse_int(head, 1, n, &i, err)) != DF_OK)
		return rc;
	*out = (struct df_shard_arg){ .i = (uint32_t)(i - 1), .n = (uint32_t)n };
	return DF_OK;
}

static int
in_range(const struct df_opt *o, double x, const char *s, struct df_err *err)
{
	if ((o->min != 0 || o->max != 0) && (x < o->min || x > o->max))
		return df_fail(err, DF_EUSAGE, "%.60s is not in [%.16g, %.16g]", s, o->min, o->max);
	return DF_OK;
}

int
df_opt_value(const struct df_opt *o, const char *s, struct df_err *err)
{
	int64_t i;
	double x;
	int rc;

	switch (o->type) {
	case DF_OPT_STR: *(const char **)o->value = s; return DF_OK;
	case DF_OPT_INT:
	case DF_OPT_COUNT:
		if ((rc = df_parse_int(s, INT64_MIN, INT64_MAX, &i, err)) != DF_OK ||
		    (rc = in_range(o, (double)i, s, err)) != DF_OK)
			return rc;
		*(int64_t *)o->value = i;
		return DF_OK;
	case DF_OPT_DOUBLE:
		if ((rc = df_parse_double(s, &x, err)) != DF_OK || (rc = in_range(o, x, s, err)) != DF_OK)
			return rc;
		*(double *)o->value = x;
		return DF_OK;
	case DF_OPT_CHOICE: return set_choice(o, s, err);
	case DF_OPT_LIST: return append(o->value, s, err);
	case DF_OPT_SHARD: return set_shard(o->value, s, err);
	case DF_OPT_FLAG:
	case DF_OPT_OPERANDS:
	case DF_OPT_ELSEWHERE:
	case DF_OPT_GROUP: break;
	}
	return df_fail(err, DF_EINTERNAL, "an option of unknown type");
}

/*
 * Set o from `inline_value` (what follows '=' or a short name; NULL if
 * nothing), else from the next argument.  `shown` is the option as typed.
 */
static int
apply(struct parser *p, const struct df_opt *o, bool negated, const char *inline_value, const char *shown,
    struct df_err *err)
{
	const char *value = inline_value;
	int rc;

	if (o->given)
		*o->given = true;
	if (o != &builtin_help && o != &builtin_version)
		p->out->given[o - p->opts] = true;
	if (o->type == DF_OPT_FLAG) {
		if (inline_value)
			return df_fail(err, DF_EUSAGE, "%s takes no value", shown);
		if (o == &builtin_help)
			p->out->help = true;
		else if (o == &builtin_version)
			p->out->version = true;
		else
			*(bool *)o->value = !negated;
		return DF_OK;
	}
	if (o->type == DF_OPT_COUNT && inline_value == NULL) {
		int64_t *n = o->value;

		if (o->max == 0 || (double)*n < o->max)
			(*n)++;
		return DF_OK;
	}
	if (value == NULL) {
		if (p->next >= p->argc)
			return df_fail(
			    err, DF_EUSAGE, "%s needs a value (%s)", shown, o->arg ? o->arg : "one of its choices");
		value = p->argv[p->next++];
	}
	if ((rc = df_opt_value(o, value, err)) != DF_OK)
		df_err_prefix(err, "%s: ", shown);
	return rc;
}

static int
parse_long(struct parser *p, const char *word, struct df_err *err)
{
	const char *eq = strchr(word, '=');
	size_t n = eq ? (size_t)(eq - word) : strlen(word);
	const struct df_opt *o;
	char shown[80];
	bool negated = false;
	int rc;

	/* Only by its whole name: it must not make abbreviations of the table's own options ambiguous. */
	if (strcmp(word, "list-options") == 0) {
		p->out->list_options = true;
		return DF_OK;
	}
	if ((rc = find_long(p, word, n, &o, &negated, err)) != DF_OK)
		return rc;
	snprintf(shown, sizeof(shown), "--%s%s", negated ? "no-" : "", o->name);
	return apply(p, o, negated, eq ? eq + 1 : NULL, shown, err);
}

/* -q, -n5, -n 5, -qv: flags may be joined, and the last of them may carry a value. */
static int
parse_short(struct parser *p, const char *word, struct df_err *err)
{
	int rc;

	for (; *word; word++) {
		const struct df_opt *o = find_short(p, *word);
		bool bare = o && (o->type == DF_OPT_FLAG || o->type == DF_OPT_COUNT);
		const char shown[3] = { '-', *word, '\0' };

		if (o == NULL)
			return df_fail(err, DF_EUSAGE, "unknown option -%.*s (-h lists them)",
			    (unsigned char)*word < 0x80 ? 1 : (int)strlen(word), word);
		if ((rc = apply(p, o, false, bare || word[1] == '\0' ? NULL : word + 1, shown, err)) != DF_OK)
			return rc;
		if (!bare)
			break;
	}
	return DF_OK;
}

int
df_opt_parse(const struct df_opt *opts, int argc, char **argv, struct df_opt_result *out, struct df_err *err)
{
	struct parser p = { .opts = opts, .n = count_rows(opts), .argc = argc, .next = 1, .argv = argv, .out = out };
	bool only_operands = false;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = df_alloc(&out->given, p.n, sizeof(*out->given), "options", err);
	while (p.next < argc && rc == DF_OK) {
		const char *word = argv[p.next++];

		if (only_operands || word[0] != '-' || word[1] == '\0')
			rc = append(&out->operands, word, err);
		else if (strcmp(word, "--") == 0)
			only_operands = true;
		else if (word[1] == '-')
			rc = parse_long(&p, word + 2, err);
		else
			rc = parse_short(&p, word + 1, err);
		/* Whoever asks for help is not told about the next mistake. */
		if (out->help || out->version || out->list_options)
			break;
	}
	if (rc != DF_OK)
		df_opt_result_release(out);
	return rc;
}

/* Does the value of this option word follow as the next one?  *known = false when the word is no option. */
static bool
value_follows(const struct parser *p, const char *word, bool *known)
{
	const struct df_opt *o = NULL;
	bool negated = false;

	*known = true;
	if (word[1] == '-') {
		const char *name = word + 2, *eq = strchr(name, '=');

		if (strcmp(name, "list-options") == 0)
			return false;
		*known = find_long(p, name, eq ? (size_t)(eq - name) : strlen(name), &o, &negated, NULL) == DF_OK;
		return *known && !eq && o->type != DF_OPT_FLAG && o->type != DF_OPT_COUNT;
	}
	for (word++; *word; word++) {
		o = find_short(p, *word);
		*known = o != NULL;
		if (!o || (o->type != DF_OPT_FLAG && o->type != DF_OPT_COUNT))
			return o && word[1] == '\0';
	}
	return false;
}

int
df_opt_first_operand(const struct df_opt *opts, int argc, char **argv)
{
	const struct parser p = { .opts = opts, .n = count_rows(opts) };
	bool known;

	for (int i = 1; i < argc; i++) {
		const char *word = argv[i];

		if (word[0] != '-' || word[1] == '\0')
			return i;
		if (strcmp(word, "--") == 0)
			return i + 1;
		i += value_follows(&p, word, &known);
		if (!known)
			return argc;
	}
	return argc;
}

const char *
df_opt_peek(const struct df_opt *opts, int argc, char **argv, const char *name)
{
	const struct parser p = { .opts = opts, .n = count_rows(opts) };
	const int end = df_opt_first_operand(opts, argc, argv);
	const char *value = NULL;
	bool known;

	for (int i = 1; i < argc && i < end; i++) {
		const char *word = argv[i], *eq = strchr(word, '=');
		const bool follows = value_follows(&p, word, &known);
		const struct df_opt *o = NULL;
		bool negated;

		if (!known)
			break;
		if (word[1] == '-' && word[2] &&
		    find_long(&p, word + 2, eq ? (size_t)(eq - word - 2) : strlen(word + 2), &o, &negated, NULL) ==
			DF_OK &&
		    strcmp(o->name, name) == 0)
			value = eq ? eq + 1 : follows && i + 1 < argc ? argv[i + 1] : NULL;
		i += follows;
	}
	return value;
}

void
df_opt_result_release(struct df_opt_result *r)
{
	free(r->operands.v);
	free(r->given);
	memset(r, 0, sizeof(*r));
}

int
df_opt_check_task(const struct df_opt *opts, const struct df_opt_result *r, unsigned task, const char *const *names,
    struct df_err *err)
{
	for (size_t i = 0, n = count_rows(opts); i < n; i++) {
		struct df_buf of = DF_BUF_INIT;

		if (!r->given[i] || opts[i].only == 0 || (opts[i].only & task) != 0)
			continue;
		for (int k = 0; opts[i].only >> k != 0; k++)
			if (opts[i].only >> k & 1)
				df_buf_printf(&of, "%s%s", of.len > 0 ? " and " : "", names[k]);
		df_fail(err, DF_EUSAGE, "--%s is for %s", opts[i].name, of.data ? of.data : "another task");
		df_buf_release(&of);
		return DF_EUSAGE;
	}
	return DF_OK;
}

static int
note_file(const struct df_opt *o, const char *path, const char *option, struct df_err *err)
{
	switch (o->file) {
	case DF_FILE_READ: return df_inout_read(path, option, err);
	case DF_FILE_READ_ANY: return df_file_exists(path) ? df_inout_read(path, option, err) : DF_OK;
	case DF_FILE_WRITE: return df_inout_write(path, option, false, err);
	case DF_FILE_WRITE_DIR: return df_inout_write(path, option, true, err);
	case DF_FILE_NONE: break;
	}
	return DF_OK;
}

int
df_opt_note_files(const struct df_opt *opts, const struct df_strlist *operands, struct df_err *err)
{
	int rc = DF_OK;

	for (size_t i = 0, n = count_rows(opts); i < n && rc == DF_OK; i++) {
		const struct df_opt *o = &opts[i];
		const struct df_strlist *list = o->type == DF_OPT_OPERANDS ? operands : o->value;
		char option[80] = "";

		if (o->file == DF_FILE_NONE)
			continue;
		if (o->name)
			snprintf(option, sizeof(option), "--%s", o->name);
		if (o->type == DF_OPT_STR) {
			const char *path = *(const char **)o->value;

			rc = path ? note_file(o, path, option, err) : DF_OK;
			continue;
		}
		for (size_t j = 0; j < list->n && rc == DF_OK; j++)
			rc = note_file(o, list->v[j], option, err);
	}
	return rc;
}

/* " [default]", read from where the value goes; nothing when there is none to speak of. */
static void
put_default(const struct df_opt *o, struct df_buf *b)
{
	const char *s;

	switch (o->type) {
	case DF_OPT_STR:
		s = *(const char *const *)o->value;
		if (s && *s)
			df_buf_printf(b, " [%s]", s);
		break;
	case DF_OPT_INT:
		if (o->min == o->max || (double)*(const int64_t *)o->value >= o->min) /* else it is no value of it */
			df_buf_printf(b, " [%lld]", (long long)*(const int64_t *)o->value);
		break;
	case DF_OPT_DOUBLE:
		if (isnan(*(const double *)o->value))
			break;
		df_buf_puts(b, " [");
		df_buf_json_double(b, *(const double *)o->value);
		df_buf_puts(b, "]");
		break;
	case DF_OPT_CHOICE: df_buf_printf(b, " [%s]", o->choices[*(const int *)o->value]); break;
	case DF_OPT_FLAG:
		if (*(const bool *)o->value)
			df_buf_printf(b, " [on; --no-%s]", o->name);
		break;
	case DF_OPT_COUNT:
	case DF_OPT_LIST:
	case DF_OPT_SHARD:
	case DF_OPT_OPERANDS:
	case DF_OPT_ELSEWHERE:
	case DF_OPT_GROUP: break;
	}
}

/*
 * Words of `text` from column `col` on, broken before HELP_END, then indented to `indent`.  `brackets`: what is in
 * brackets stays together.
 */
static void
put_words(struct df_buf *out, const char *text, size_t len, size_t col, size_t indent, bool brackets)
{
	for (size_t i = 0, n; i < len; i += n + 1) {
		int depth = 0;

		for (n = 0; i + n < len && (text[i + n] != ' ' || depth > 0); n++)
			depth += brackets ? (text[i + n] == '[') - (text[i + n] == ']') : 0;
		if (col > indent && col + 1 + n > HELP_END - 1) {
			df_buf_printf(out, "\n%*s", (int)indent, "");
			col = indent;
		} else if (col > indent) {
			df_buf_putc(out, ' ');
			col++;
		}
		df_buf_add(out, text + i, n);
		col += n;
	}
	df_buf_putc(out, '\n');
}

static void
put_wrapped(const char *text, struct df_buf *out)
{
	put_words(out, text, strlen(text), HELP_COL, HELP_COL, false);
}

static void
put_row(const struct df_opt *o, struct df_buf *out)
{
	struct df_buf head = DF_BUF_INIT, text = DF_BUF_INIT, choices = DF_BUF_INIT;
	bool bare = o->type == DF_OPT_FLAG || o->type == DF_OPT_COUNT;

	if (o->short_name)
		df_buf_printf(&head, "  -%c, --%s", o->short_name, o->name);
	else
		df_buf_printf(&head, "      --%s", o->name);
	df_buf_puts(&text, o->help ? o->help : "");
	if (o->type == DF_OPT_CHOICE) {
		join_words(o->choices, o->arg ? ", " : "|", &choices);
		if (o->arg)
			df_buf_printf(&text, ": %s", choices.data ? choices.data : "");
	}
	if (o->arg)
		df_buf_printf(&head, "=%s", o->arg);
	else if (!bare && choices.data)
		df_buf_printf(&head, "=%s", choices.data);
	put_default(o, &text);
	df_buf_puts(out, head.data ? head.data : "");
	if (head.len + 2 <= HELP_COL) {
		df_buf_printf(out, "%*s", (int)(HELP_COL - head.len), "");
		put_wrapped(text.data ? text.data : "", out);
	} else if (head.len + 2 + text.len < HELP_END) {
		df_buf_printf(out, "  %s\n", text.data ? text.data : "");
	} else {
		df_buf_printf(out, "\n%*s", HELP_COL, "");
		put_wrapped(text.data ? text.data : "", out);
	}
	out->failed |= head.failed || text.failed || choices.failed;
	df_buf_release(&head);
	df_buf_release(&text);
	df_buf_release(&choices);
}

void
df_opt_help(const struct df_opt *opts, struct df_buf *out)
{
	size_t n = count_rows(opts);

	for (size_t i = 0; i < n; i++) {
		if (opts[i].type == DF_OPT_GROUP)
			df_buf_printf(out, "%s:\n", opts[i].help);
		else if (is_option(&opts[i]))
			put_row(&opts[i], out);
	}
	df_buf_printf(out, "  -h, --help, --version%*s", HELP_COL - 23, "");
	put_wrapped("this text; name and version", out);
}

void
df_opt_usage(
    const struct df_opt *opts, const char *program, const char *synopsis, const char *about, struct df_buf *out)
{
	const size_t indent = strlen("usage: ") + strlen(program) + 1;
	const char *lead = "usage:";

	while (*synopsis) {
		const size_t n = strcspn(synopsis, "\n"), skip = strspn(synopsis, " ");

		if (skip > 0)
			df_buf_printf(out, "%*s", (int)indent, "");
		else
			df_buf_printf(out, "%-6s %s ", lead, program);
		put_words(out, synopsis + skip, n - skip, indent, indent, true);
		lead = "";
		synopsis += n + (synopsis[n] == '\n');
	}
	put_words(out, about, strlen(about), 0, 0, true);
	df_opt_help(opts, out);
}

static const char *const type_names[] = {
	[DF_OPT_FLAG] = "flag",
	[DF_OPT_STR] = "string",
	[DF_OPT_INT] = "integer",
	[DF_OPT_DOUBLE] = "number",
	[DF_OPT_CHOICE] = "choice",
	[DF_OPT_COUNT] = "count",
	[DF_OPT_LIST] = "list",
	[DF_OPT_SHARD] = "shard",
	[DF_OPT_OPERANDS] = "operands",
};

static const char *const file_names[] = {
	[DF_FILE_NONE] = "-",
	[DF_FILE_READ] = "read",
	[DF_FILE_READ_ANY] = "read-any",
	[DF_FILE_WRITE] = "write",
	[DF_FILE_WRITE_DIR] = "write-dir",
};

void
df_opt_list(const struct df_opt *opts, struct df_buf *out)
{
	const struct parser p = { .opts = opts, .n = count_rows(opts) };
	const struct df_opt *o;

	for (size_t i = 0; (o = row(&p, i)) != NULL; i++) {
		if (o->type == DF_OPT_GROUP || o->type == DF_OPT_ELSEWHERE)
			continue;
		df_buf_printf(out, "%s\t%c\t%s\t%s\t", o->name ? o->name : "-", o->short_name ? o->short_name : '-',
		    type_names[o->type], o->arg ? o->arg : "-");
		if (o->choices || o->words)
			join_words(o->choices ? o->choices : o->words(), "|", out);
		else
			df_buf_putc(out, '-');
		df_buf_printf(out, "\t%s\t%s\n", o->help ? o->help : "-", file_names[o->file]);
	}
}

/*
 * opt.h - command-line options as one table.
 *
 * The table parses, prints -h, is checked against the man page, and is what
 * completion is made from.  GNU manners: --name value, --name=value, -n value,
 * -nvalue, unambiguous abbreviations, --no-flag, "--" ends options, options
 * before or after operands.
 */
#ifndef DF_BASE_OPT_H
#define DF_BASE_OPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum df_opt_type {
	DF_OPT_FLAG,   /* bool *; --name, --no-name */
	DF_OPT_STR,    /* const char ** (borrowed from argv) */
	DF_OPT_INT,    /* int64_t *, in [min,max] */
	DF_OPT_DOUBLE, /* double *, in [min,max] */
	DF_OPT_CHOICE, /* int *: the index into choices */
	DF_OPT_COUNT,  /* int64_t *: each use adds one (-vv); --name=N sets it */
	DF_OPT_LIST,   /* struct df_strlist *: each use appends; commas do not split */
	DF_OPT_SHARD,  /* struct df_shard_arg *: "i/n" (1-based) or "auto" or "auto/n" (a Slurm array) */
	DF_OPT_GROUP,  /* no option: a heading in -h and the manual */
	DF_OPT_OPERANDS, /* no option: the words that are none; only `arg` and `file` are looked at */
	DF_OPT_ELSEWHERE /* no option here: a name that the command word `help` has; for the error, and nothing else */
};

/* What the value of an option is to the program, when it is the name of a file.  Values of "-" are standard streams. */
enum df_opt_file {
	DF_FILE_NONE,     /* no file */
	DF_FILE_READ,     /* a file or directory that is read */
	DF_FILE_READ_ANY, /* the same, or a word that is no file: "bytes", a template's name */
	DF_FILE_WRITE,    /* a file that is replaced */
	DF_FILE_WRITE_DIR /* a directory that is replaced as a whole */
};

struct df_strlist {
	const char **v; /* borrowed strings, owned array: free(v) */
	size_t n, cap;
};

struct df_shard_arg {
	uint32_t i, n;  /* shard i of n, 0 <= i < n; 0 of 1 when not sharded */
	bool guessed;   /* `auto`: n is the number of tasks that the array has, not one that the user gave */
	uint32_t task;  /* auto, auto/n: this task's number in its Slurm array; 0 = none */
};

struct df_opt {
	const char *name;           /* long name, without dashes */
	char short_name;            /* 0 = none */
	enum df_opt_type type;
	void *value;                /* where it goes; its content before parsing is the default */
	const char *arg;            /* name of the argument in help: "FILE", "N"; CHOICE: NULL shows the choices */
	const char *help;           /* one line, no full stop; the default is value's (none: INT below min, NaN) */
	const char *const *choices; /* NULL-terminated; CHOICE: one of them; STR: known words beside any other */
	const char *const *(*words)(void); /* STR: gives the known words, where no constant array holds them */
	double min, max;            /* INT, DOUBLE, COUNT; both 0 = any */
	enum df_opt_file file;      /* STR, LIST, OPERANDS: what is done to the file of that name */
	bool *given;                /* optional: set when the option is on the command line */
	unsigned only;              /* bits: the tasks of the program that it is for; 0: all of them */
};
#define DF_OPT_END { .name = NULL }

struct df_opt_result {
	struct df_strlist operands;
	bool *given;        /* [rows of the table] which options are on the command line */
	bool help, version; /* -h/--help, --version were given: print and exit */
	bool list_options;  /* --list-options was given: print df_opt_list() and exit */
};

/*
 * Parse argv[1..].  DF_EUSAGE names the option and suggests the nearest known
 * one.  Every table implicitly has -h/--help and --version, and --list-options
 * for programs, which -h does not show.
 */
int df_opt_parse(const struct df_opt *opts, int argc, char **argv, struct df_opt_result *out, struct df_err *err)
    DF_MUST_CHECK;
void df_opt_result_release(struct df_opt_result *r);

/*
 * Of a program with several tasks, which does the one with bit `task` now: DF_EUSAGE for an option that is only for
 * others.  names[i] is what messages call the task with bit i: "--mmlu".
 */
int df_opt_check_task(const struct df_opt *opts, const struct df_opt_result *r, unsigned task,
    const char *const *names, struct df_err *err) DF_MUST_CHECK;

/*
 * Where argv has its first operand, by this table; argc when there is none, or when an option before it is unknown.
 * For programs whose first word decides which options the others may be.  Nothing is set.
 */
int df_opt_first_operand(const struct df_opt *opts, int argc, char **argv);
/*
 * The value that argv gives the STR option `name` before its first operand, the last one; NULL: none.  For programs
 * that must know it to know the rest of their table.  Nothing is set.
 */
const char *df_opt_peek(const struct df_opt *opts, int argc, char **argv, const char *name);

/*
 * Tell base/inout.h which files the parsed command line reads and writes.  DF_EUSAGE when an output would replace an
 * input, or another output.
 */
int df_opt_note_files(const struct df_opt *opts, const struct df_strlist *operands, struct df_err *err) DF_MUST_CHECK;

/* The option list of -h, one line each, at most 80 columns. */
void df_opt_help(const struct df_opt *opts, struct df_buf *out);
/*
 * All of -h: the ways to call `program`, one in each line of `synopsis` (a line that begins with a space continues the
 * one before it), a sentence about it, and the option list.
 */
void df_opt_usage(
    const struct df_opt *opts, const char *program, const char *synopsis, const char *about, struct df_buf *out);

/*
 * The table for programs, a line for each option, in its order: long name, short
 * name, type (flag, string, integer, number, choice, count, list, shard, operands),
 * name of the argument, choices with '|' between them, help, and what is done to
 * the file that it names (read, read-any, write, write-dir).  Tabs separate; "-"
 * stands for what an option has not.  New columns are added at the end.
 */
void df_opt_list(const struct df_opt *opts, struct df_buf *out);

/* ---- options of a method: a struct of values, and a table that names its fields ---- */

#define DF_OPT_AT(type, field) ((void *)offsetof(type, field)) /* a row's value, in the table of a method */

/* Another program's name of an option; ours NULL: it has no effect here.  A row without a name ends the table. */
struct df_opt_alias {
	const char *theirs, *ours;
	const char *why; /* no effect: the reason, for a message; NULL: none is needed */
};

/* The options of one owner, as its part of a list of parameters. */
struct df_opt_part {
	const struct df_opt *options;     /* with DF_OPT_AT() values; NULL: none */
	const struct df_opt_alias *alias; /* NULL: none */
	void *values;
};

/* *out = a copy of a struct of defaults; free() it.  size may be 0. */
int df_opt_defaults(void **out, const void *defaults, size_t size, struct df_err *err) DF_MUST_CHECK;
/* Is `param` the option's name, with '_' or '-' where that has '-'? */
bool df_opt_is(const char *option, const char *param);

/* A growing table of options. */
struct df_opt_table {
	struct df_opt *v;
	size_t n, cap;
};
int df_opt_table_add(struct df_opt_table *t, const struct df_opt *rows, size_t n, struct df_err *err) DF_MUST_CHECK;
/* The same with rows whose values are DF_OPT_AT(): they point into `values`, which must outlive the table. */
int df_opt_table_bind(struct df_opt_table *t, const struct df_opt *rows, void *values, struct df_err *err)
    DF_MUST_CHECK;
/* *o->value = what `text` says; o is no flag.  DF_EUSAGE. */
int df_opt_value(const struct df_opt *o, const char *text, struct df_err *err) DF_MUST_CHECK;
/*
 * values = what `text` says of option `name`, in a table with DF_OPT_AT() values; a flag is true or false.  Strings are
 * borrowed.  DF_EUSAGE: no such option (the nearest is suggested), an impossible value.
 */
int df_opt_set(const struct df_opt *rows, void *values, const char *name, const char *text, struct df_err *err)
    DF_MUST_CHECK;

int df_parse_int(const char *s, int64_t min, int64_t max, int64_t *out, struct df_err *err) DF_MUST_CHECK;
int df_parse_double(const char *s, double *out, struct df_err *err) DF_MUST_CHECK; /* C locale; no trailing text */

#endif

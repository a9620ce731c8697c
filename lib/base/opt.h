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
	DF_OPT_SHARD,  /* struct df_shard_arg *: "i/n" (1-based), "auto" or "auto/n" (a Slurm array) */
	DF_OPT_GROUP   /* no option: a heading in -h and the manual */
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
	const char *help;           /* one line, no full stop; the default is that of value (INT: none below min) */
	const char *const *choices; /* CHOICE: NULL-terminated */
	double min, max;            /* INT, DOUBLE, COUNT; both 0 = any */
	bool *given;                /* optional: set when the option is on the command line */
};
#define DF_OPT_END { .name = NULL }

struct df_opt_result {
	struct df_strlist operands;
	bool help, version; /* -h/--help, --version were given: print and leave */
};

/*
 * Parse argv[1..].  DF_EUSAGE names the option and suggests the nearest known
 * one.  Every table implicitly has -h/--help and --version.
 */
int df_opt_parse(const struct df_opt *opts, int argc, char **argv, struct df_opt_result *out, struct df_err *err)
    DF_MUST_CHECK;
void df_opt_result_release(struct df_opt_result *r);

/* The option list of -h, one line each, at most 80 columns. */
void df_opt_help(const struct df_opt *opts, struct df_buf *out);

/* The name in `names` (NULL-terminated) nearest to s by edit distance, or NULL if none is near. */
const char *df_nearest(const char *s, const char *const *names);

int df_parse_int(const char *s, int64_t min, int64_t max, int64_t *out, struct df_err *err) DF_MUST_CHECK;
int df_parse_double(const char *s, double *out, struct df_err *err) DF_MUST_CHECK; /* C locale; no trailing text */

#endif

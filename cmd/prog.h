/*
 * prog.h - what every command does at its start and its end.
 *
 * The only place that prints messages and decides exit codes.  Data goes to
 * files or stdout, words go to stderr.
 */
#ifndef DF_CMD_PROG_H
#define DF_CMD_PROG_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/env.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/opt.h"
#include "base/pool.h"

/* Options that all programs share; put DF_PROG_OPTS(&cfg.common) into the table. */
struct df_prog_common {
	int64_t threads;    /* -j, --threads: 0 = default */
	bool quiet;         /* -q: warnings and errors only, no progress, no summary */
	int64_t verbose;    /* -v debug messages, -vv source places of errors too */
	const char *device; /* --device auto|cpu|openblas|reference|poison|cuda[:N] */
	int compute;        /* --compute, of programs that run a model: enum df_prog_compute */
};
enum df_prog_compute { DF_PROG_COMPUTE_AUTO, DF_PROG_COMPUTE_F32, DF_PROG_COMPUTE_BF16 };
extern const char *const df_prog_computes[];
#define DF_PROG_COMMON_DEFAULT { 0, false, 0, "auto", DF_PROG_COMPUTE_AUTO }
/* A row for programs that run a model, after DF_PROG_OPTS. */
#define DF_PROG_COMPUTE(c) \
	{ .name = "compute", .type = DF_OPT_CHOICE, .value = &(c)->compute, .choices = df_prog_computes, \
	    .arg = "TYPE", .help = "type of activations: auto, f32, bf16" }
#define DF_PROG_OPTS(c) \
	{ .type = DF_OPT_GROUP, .help = "Common options" }, \
	{ .name = "threads", .short_name = 'j', .type = DF_OPT_INT, .value = &(c)->threads, .arg = "N", \
	    .help = "threads (0: all that this process may use)", .min = 0, .max = DF_THREADS_MAX }, \
	{ .name = "device", .type = DF_OPT_STR, .value = &(c)->device, .arg = "DEV", \
	    .words = df_backend_devices, .help = "auto, cpu, openblas, reference, poison, cuda" }, \
	{ .name = "quiet", .short_name = 'q', .type = DF_OPT_FLAG, .value = &(c)->quiet, \
	    .help = "no progress and no summary" }, \
	{ .name = "verbose", .short_name = 'v', .type = DF_OPT_COUNT, .value = &(c)->verbose, \
	    .help = "debug messages; -vv: source places too", .max = 2 }

/*
 * First call of main(): name for messages, signals, default log sinks.
 */
void df_prog_init(const char *name);

/*
 * Parse the command line.  -h, --version, --list-options and errors are answered
 * here and end the program (0 and 64).  `synopsis` is the usage line(s) after the
 * name, as in the manual; `about` one sentence.  A malformed DF_THREADS, an
 * unknown device and an output that is an input (base/inout.h) are errors like
 * one in an option.  The result lives until df_prog_exit().
 */
const struct df_opt_result *df_prog_parse(const struct df_opt *opts, const char *synopsis, const char *about,
    const struct df_prog_common *common, int argc, char **argv);

/* Be quiet, or verbose, as these say; df_prog_parse() has done it for a command line that it parsed. */
void df_prog_voice(const struct df_prog_common *common);

/* df_env_open() with --device, --threads and --compute. */
int df_prog_env(struct df_env *e, const struct df_prog_common *c, enum df_env_style style, struct df_err *err)
    DF_MUST_CHECK;

/* A line of what --dry-run prints: a name, and in the next column what there is to say of it. */
void df_prog_row(const char *name, const char *fmt, ...) DF_PRINTF(2, 3);

/* Print a text, which may hold NUL, on standard output, and release it. */
int df_prog_print(struct df_buf *text, struct df_err *err) DF_MUST_CHECK;

/* Count of records for the summary line ("samples", "rows", "steps"). */
void df_prog_count(uint64_t n, const char *unit);

/*
 * Last call of main(): prints the error, or the summary (records/s, wall, CPU,
 * peak RSS); checks that stdout was written; returns the exit status.
 */
int df_prog_exit(int rc, struct df_err *err);

#endif

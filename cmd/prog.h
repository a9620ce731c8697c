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

#include "backend/backend.h"
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
};
#define DF_PROG_COMMON_DEFAULT { 0, false, 0, "auto" }
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
 * one in an option.
 */
void df_prog_parse(const struct df_opt *opts, const char *synopsis, const char *about,
    const struct df_prog_common *common, int argc, char **argv, struct df_opt_result *out);

/* Be quiet, or verbose, as these say; df_prog_parse() has done it for a command line that it parsed. */
void df_prog_voice(const struct df_prog_common *common);

/*
 * What a program computes with.  WIDE: one operation at a time, on all threads of the pool.  LANES: the program's own
 * threads, n_lanes of them, take a piece of work each, and an operation stays in the thread that calls it; the pool's
 * threads sleep until one lane is alone (shard/job.h).
 */
enum df_env_style { DF_ENV_WIDE, DF_ENV_LANES };
struct df_env {
	struct df_pool *pool;
	struct df_backend *be;
	int n_lanes;           /* threads to make, at most what the device likes; 1 with WIDE */
};
int df_env_open(struct df_env *e, const struct df_prog_common *c, enum df_env_style style, struct df_err *err)
    DF_MUST_CHECK;
void df_env_close(struct df_env *e); /* after all that uses it; also of zeros, or when opening failed */

/* A line of what --dry-run prints: a name, and in the next column what there is to say of it. */
void df_prog_row(const char *name, const char *fmt, ...) DF_PRINTF(2, 3);

/* Print a text, which may hold NUL, on standard output. */
int df_prog_print(const struct df_buf *text, struct df_err *err) DF_MUST_CHECK;

/* Count of records for the summary line ("samples", "rows", "steps"). */
void df_prog_count(uint64_t n, const char *unit);

/*
 * Last call of main(): prints the error, or the summary (records/s, wall, CPU,
 * peak RSS); checks that stdout was written; returns the exit status.
 */
int df_prog_exit(int rc, struct df_err *err);

#endif

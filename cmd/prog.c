/*
 * prog.c - the part of a program that talks to people.
 *
 * Everything that is printed about the running of a command goes through here,
 * to stderr, with the program's name in front.  On a terminal, progress is one
 * line that rewrites itself, and a message first wipes it.
 */
#include "prog.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <H5public.h>
#include <zstd.h>

#include "backend/backend.h"
#include "base/clock.h"
#include "base/inout.h"
#include "base/log.h"
#include "base/meter.h"
#include "base/stop.h"

/* Seconds between progress lines: on a terminal, and in a log file. */
#define TICK_TTY  0.1
#define TICK_FILE 30.0

static struct {
	const char *name;
	bool quiet;
	int64_t verbose;
	bool tty;
	double start;
	uint64_t count;
	const char *unit; /* NULL: nothing was counted, no summary */
	struct df_opt_result args;
} prog;

/* The progress line; touched only under the log's lock. */
static struct {
	bool shown; /* a line is on the terminal */
	struct df_meter meter;
} bar;

static void
wipe_bar(void)
{
	if (bar.shown)
		fputs("\r\033[K", stderr);
	bar.shown = false;
}

static void
log_line(void *ctx, enum df_log_level level, const char *msg)
{
	(void)ctx;
	if (level == DF_LOG_DEBUG && prog.verbose < 1)
		return;
	if (level == DF_LOG_INFO && prog.quiet)
		return;
	wipe_bar();
	fprintf(stderr, "%s: %s%s\n", prog.name, level == DF_LOG_WARN ? "warning: " : "", msg);
}

/* Of the terminal, now: it may have been resized since the last line. */
static int
columns(void)
{
	struct winsize w;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

/* In place of the line before, and never wrapped: what was wrapped could not be wiped. */
static void
draw_bar(const char *text)
{
	fprintf(stderr, "\r%.*s\033[K", columns() - 1, text);
	bar.shown = true;
}

static void
progress_line(void *ctx, uint64_t done, uint64_t total, const char *unit)
{
	char line[256];
	int n = snprintf(line, sizeof(line), "%s: ", prog.name);

	(void)ctx;
	if (prog.quiet ||
	    !df_meter_line(&bar.meter, df_seconds(), prog.tty ? TICK_TTY : TICK_FILE, done, total, unit, line + n,
		sizeof(line) - (size_t)n))
		return;
	if (prog.tty)
		draw_bar(line);
	else
		fprintf(stderr, "%s\n", line);
}

void
df_prog_init(const char *name)
{
	const char *term = getenv("TERM");

	/* No setlocale(): numbers are read and written as in C, whatever the user's language. */
	prog.name = name;
	prog.start = df_seconds();
	prog.tty = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
	df_stop_install();
	df_inout_on();
	df_log_set_sink(log_line, NULL);
	df_progress_set_sink(progress_line, NULL);
}

static void
put_version(struct df_buf *out)
{
	unsigned major = 0, minor = 0, release = 0;
	char devices[256];

	H5get_libversion(&major, &minor, &release);
	df_buf_printf(out, "%s (df-tools) %s\n", prog.name, DF_VERSION);
	df_buf_printf(out, "HDF5 %u.%u.%u, zstd %s, backends %s\n", major, minor, release, ZSTD_versionString(),
	    df_backend_list(devices, sizeof(devices)));
}

/* What the library would only see later, or in some programs never. */
static int
check_common(const struct df_prog_common *common, struct df_err *err)
{
	int64_t n_threads;
	int rc;

	DF_TRY(df_threads_env(&n_threads, err));
	if (common && (rc = df_backend_check(common->device, err)) != DF_OK)
		df_err_prefix(err, "--device: ");
out:
	return rc;
}

void
df_prog_voice(const struct df_prog_common *common)
{
	prog.quiet = common->quiet;
	prog.verbose = common->verbose;
}

const struct df_opt_result *
df_prog_parse(const struct df_opt *opts, const char *synopsis, const char *about, const struct df_prog_common *common,
    int argc, char **argv)
{
	struct df_opt_result *out = &prog.args;
	struct df_err err = DF_ERR_INIT;
	struct df_buf text = DF_BUF_INIT;
	int rc = df_opt_parse(opts, argc, argv, out, &err);

	if (common)
		df_prog_voice(common);
	if (rc == DF_OK) {
		if (out->help)
			df_opt_usage(opts, prog.name, synopsis, about, &text);
		else if (out->list_options)
			df_opt_list(opts, &text);
		else if (out->version)
			put_version(&text);
		else if ((rc = check_common(common, &err)) == DF_OK &&
		    (rc = df_opt_note_files(opts, &out->operands, &err)) == DF_OK)
			return out;
		if (rc == DF_OK)
			rc = df_prog_print(&text, &err);
	}
	exit(df_prog_exit(rc, &err));
}

const char *const df_prog_computes[] = { "auto", "f32", "bf16", NULL };

int
df_prog_env(struct df_env *e, const struct df_prog_common *c, enum df_env_style style, struct df_err *err)
{
	int rc = df_env_open(e, c->device, (int)c->threads, style, err);

	if (rc == DF_OK && c->compute == DF_PROG_COMPUTE_BF16 &&
	    (rc = df_backend_set_compute(e->be, DF_BF16, err)) != DF_OK)
		df_err_prefix(err, "--compute: ");
	return rc;
}

void
df_prog_row(const char *name, const char *fmt, ...)
{
	va_list ap;

	printf("%-12s ", name);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

int
df_prog_print(struct df_buf *text, struct df_err *err)
{
	const int rc = df_buf_check(text, err);

	/* What could not be written is found at the end of the program. */
	if (rc == DF_OK && text->len > 0)
		fwrite(text->data, 1, text->len, stdout);
	df_buf_release(text);
	return rc;
}

void
df_prog_count(uint64_t n, const char *unit)
{
	prog.count = n;
	prog.unit = unit;
}

static void
print_summary(void)
{
	double secs = df_seconds() - prog.start, cpu;
	char rate[32];
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	cpu = (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
	    (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) * 1e-6;
	df_meter_rate(rate, secs > 0 ? (double)prog.count / secs : 0);
	fprintf(stderr, "%s: %" PRIu64 " %s in %.1f s (%s), cpu %.1f s, peak %ld MiB\n", prog.name, prog.count,
	    prog.unit, secs, rate, cpu, ru.ru_maxrss / 1024);
}

/* `df-show x | head` is no mistake of anyone's: it ends with the status, but says nothing. */
static bool
reader_left(int rc, const struct df_err *err)
{
	struct pollfd p = { .fd = STDOUT_FILENO, .events = POLLOUT };

	return rc == DF_EIO && err != NULL && err->sys == EPIPE && poll(&p, 1, 0) == 1 && (p.revents & POLLERR) != 0;
}

int
df_prog_exit(int rc, struct df_err *err)
{
	struct df_err late = DF_ERR_INIT;

	/* From here on there is no progress to report. */
	df_progress_set_sink(NULL, NULL);
	df_opt_result_release(&prog.args);
	wipe_bar();
	if ((fflush(stdout) != 0 || ferror(stdout)) && rc == DF_OK) {
		rc = df_fail(&late, DF_EIO, "standard output: cannot write:");
		err = &late;
	}
	if (rc == DF_OK && prog.unit && !prog.quiet)
		print_summary();
	if (rc == DF_OK || reader_left(rc, err))
		return df_err_exit_status(rc);
	fprintf(stderr, "%s: %s\n", prog.name, err && err->msg[0] ? err->msg : "failed without saying why");
	if (rc == DF_ESTOPPED)
		fprintf(stderr, "%s: finished work is saved; the same command goes on from here\n", prog.name);
	if (prog.verbose >= 2 && err && err->file)
		fprintf(stderr, "%s: code %d, raised at %s:%d\n", prog.name, rc, err->file, err->line);
	return df_err_exit_status(rc);
}

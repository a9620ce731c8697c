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
#include <time.h>
#include <unistd.h>

#include <H5public.h>
#include <zstd.h>

#include "backend/backend.h"
#include "base/inout.h"
#include "base/log.h"
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
} prog;

/* The progress line; touched only under the log's lock. */
static struct {
	bool shown; /* a line is on the terminal */
	const char *unit;
	double began, last; /* of this unit: first and latest line */
	uint64_t first, done;
} bar;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

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

/* 75 s as "1:15", 2 h as "2:00:00". */
static void
put_clock(char out[32], double secs)
{
	uint64_t s = secs < 1e9 ? (uint64_t)(secs + 0.5) : 999999999;

	if (s >= 3600)
		snprintf(out, 32, "%" PRIu64 ":%02d:%02d", s / 3600, (int)(s / 60 % 60), (int)(s % 60));
	else
		snprintf(out, 32, "%d:%02d", (int)(s / 60), (int)(s % 60));
}

/* 0.53/s, 15.8/s, 1580/s: three digits say all there is to say about a rate. */
static void
put_rate(char out[32], double rate)
{
	snprintf(out, 32, "%.*f/s", rate >= 100 ? 0 : rate >= 10 ? 1 : 2, rate);
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
	double t = now(), rate;
	char line[256], rate_text[32], left[32], part[64] = "";

	(void)ctx;
	if (prog.quiet)
		return;
	/* A new unit, or a count that went back, is a new phase with a rate of its own. */
	if (bar.unit == NULL || strcmp(bar.unit, unit) != 0 || done < bar.done) {
		bar.unit = unit;
		bar.began = bar.last = t;
		bar.first = bar.done = done;
		return;
	}
	bar.done = done;
	if (t - bar.last < (prog.tty ? TICK_TTY : TICK_FILE))
		return;
	bar.last = t;
	rate = (double)(done - bar.first) / (t - bar.began);
	put_rate(rate_text, rate);
	if (total > 0 && rate > 0) {
		put_clock(left, total > done ? (double)(total - done) / rate : 0);
		snprintf(part, sizeof(part), " (%.0f %%), %s left", 100.0 * (double)done / (double)total, left);
	}
	if (total > 0)
		snprintf(line, sizeof(line), "%s: %" PRIu64 "/%" PRIu64 " %s, %s%s", prog.name, done, total, unit,
		    rate_text, part);
	else
		snprintf(line, sizeof(line), "%s: %" PRIu64 " %s, %s", prog.name, done, unit, rate_text);
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
	prog.start = now();
	prog.tty = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
	df_stop_install();
	df_inout_on();
	df_log_set_sink(log_line, NULL);
	df_progress_set_sink(progress_line, NULL);
}

static void
print_version(void)
{
	unsigned major = 0, minor = 0, release = 0;
	char devices[256];

	H5get_libversion(&major, &minor, &release);
	printf("%s (df-tools) %s\n", prog.name, DF_VERSION);
	printf("HDF5 %u.%u.%u, zstd %s, backends %s\n", major, minor, release, ZSTD_versionString(),
	    df_backend_list(devices, sizeof(devices)));
}

/* Words of `text` from column `col` on, broken before column 80 at spaces outside of brackets, indented to `indent`. */
static void
put_words(struct df_buf *b, const char *text, size_t len, size_t col, size_t indent)
{
	size_t at = col;

	for (size_t i = 0, n; i < len; i += n + 1) {
		int depth = 0;

		for (n = 0; i + n < len && (text[i + n] != ' ' || depth > 0); n++)
			depth += (text[i + n] == '[') - (text[i + n] == ']');
		if (at > indent && at + 1 + n > 79) {
			df_buf_printf(b, "\n%*s", (int)indent, "");
			at = indent;
		} else if (at > indent) {
			df_buf_putc(b, ' ');
			at++;
		}
		df_buf_add(b, text + i, n);
		at += n;
	}
	df_buf_putc(b, '\n');
}

/* Each line of the synopsis is a way to call the program; one that begins with a space continues the line before it. */
static void
print_help(const struct df_opt *opts, const char *synopsis, const char *about)
{
	struct df_buf b = DF_BUF_INIT;
	const size_t indent = strlen("usage: ") + strlen(prog.name);
	const char *lead = "usage:";

	while (*synopsis) {
		size_t n = strcspn(synopsis, "\n"), skip = strspn(synopsis, " ");

		if (skip > 0)
			df_buf_printf(&b, "%*s", (int)indent + 1, "");
		else
			df_buf_printf(&b, "%-6s %s ", lead, prog.name);
		put_words(&b, synopsis + skip, n - skip, indent + 1, indent + 1);
		lead = "";
		synopsis += n + (synopsis[n] == '\n');
	}
	put_words(&b, about, strlen(about), 0, 0);
	df_opt_help(opts, &b);
	fputs(b.data ? b.data : "", stdout);
	df_buf_release(&b);
}

static void
print_options(const struct df_opt *opts)
{
	struct df_buf b = DF_BUF_INIT;

	df_opt_list(opts, &b);
	fputs(b.data ? b.data : "", stdout);
	df_buf_release(&b);
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

void
df_prog_parse(const struct df_opt *opts, const char *synopsis, const char *about, const struct df_prog_common *common,
    int argc, char **argv, struct df_opt_result *out)
{
	struct df_err err = DF_ERR_INIT;
	int rc = df_opt_parse(opts, argc, argv, out, &err);

	if (common)
		df_prog_voice(common);
	if (rc == DF_OK) {
		if (out->help)
			print_help(opts, synopsis, about);
		else if (out->list_options)
			print_options(opts);
		else if (out->version)
			print_version();
		else if ((rc = check_common(common, &err)) == DF_OK &&
		    (rc = df_opt_note_files(opts, &out->operands, &err)) == DF_OK)
			return;
		df_opt_result_release(out);
	}
	exit(df_prog_exit(rc, &err));
}

int
df_env_open(struct df_env *e, const struct df_prog_common *c, enum df_env_style style, struct df_err *err)
{
	int rc;

	*e = (struct df_env){ .n_lanes = 1 };
	DF_TRY(df_pool_new(&e->pool, (int)c->threads, err));
	if (style == DF_ENV_LANES)
		e->n_lanes = df_pool_size(e->pool);
	DF_TRY(df_backend_open(&e->be, c->device, e->pool, err));
	e->n_lanes = df_backend_workers(e->be, e->n_lanes);
out:
	return rc;
}

void
df_env_close(struct df_env *e)
{
	df_backend_close(e->be);
	df_pool_free(e->pool);
	*e = (struct df_env){ 0 };
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
df_prog_print(const struct df_buf *text, struct df_err *err)
{
	int rc = df_buf_check(text, err);

	/* What could not be written is found at the end of the program. */
	if (rc == DF_OK && text->len > 0)
		fwrite(text->data, 1, text->len, stdout);
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
	double secs = now() - prog.start, cpu;
	char rate[32];
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	cpu = (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
	    (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) * 1e-6;
	put_rate(rate, secs > 0 ? (double)prog.count / secs : 0);
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
	wipe_bar();
	if ((fflush(stdout) != 0 || ferror(stdout)) && rc == DF_OK) {
		rc = df_fail(&late, DF_EIO, "standard output: cannot write:");
		err = &late;
	}
	if (rc == DF_OK) {
		if (prog.unit && !prog.quiet)
			print_summary();
		return 0;
	}
	if (reader_left(rc, err))
		return df_err_exit_status(rc);
	fprintf(stderr, "%s: %s\n", prog.name, err && err->msg[0] ? err->msg : "failed without saying why");
	if (rc == DF_ESTOPPED)
		fprintf(stderr, "%s: finished work is saved; the same command goes on from here\n", prog.name);
	if (prog.verbose >= 2 && err && err->file)
		fprintf(stderr, "%s: code %d, raised at %s:%d\n", prog.name, rc, err->file, err->line);
	return df_err_exit_status(rc);
}

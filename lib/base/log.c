/*
 * log.c - one sink for messages, one for progress.
 *
 * A message is formatted whole before the sink sees it and sinks are called under a lock, so the lines of two
 * threads never mix.
 */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static df_log_sink *log_sink;
static void *log_ctx;
static df_progress_sink *progress_sink;
static void *progress_ctx;

void
df_log_set_sink(df_log_sink *sink, void *ctx)
{
	pthread_mutex_lock(&lock);
	log_sink = sink;
	log_ctx = ctx;
	pthread_mutex_unlock(&lock);
}

void
df_log(enum df_log_level level, const char *fmt, ...)
{
	char msg[DF_ERR_MAX];
	va_list ap;

	va_start(ap, fmt);
	if (vsnprintf(msg, sizeof(msg), fmt, ap) < 0)
		msg[0] = '\0';
	va_end(ap);
	/* Control characters are escaped: a message is one line, also when it quotes a hostile file. */
	for (char *c = msg; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = ' ';
	pthread_mutex_lock(&lock);
	if (log_sink)
		log_sink(log_ctx, level, msg);
	pthread_mutex_unlock(&lock);
}

void
df_progress_set_sink(df_progress_sink *sink, void *ctx)
{
	pthread_mutex_lock(&lock);
	progress_sink = sink;
	progress_ctx = ctx;
	pthread_mutex_unlock(&lock);
}

void
df_progress(uint64_t done, uint64_t total, const char *unit)
{
	pthread_mutex_lock(&lock);
	if (progress_sink)
		progress_sink(progress_ctx, done, total, unit);
	pthread_mutex_unlock(&lock);
}

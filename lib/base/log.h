/*
 * log.h - messages for the user, without printing.
 *
 * The library reports through one process-wide sink that cmd/ installs before any thread starts; without a sink,
 * messages are dropped.  Thread-safe.
 */
#ifndef DF_BASE_LOG_H
#define DF_BASE_LOG_H

#include <stdint.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

enum df_log_level {
	DF_LOG_ERROR, /* one of several faults; the error that is returned then says how many there are */
	DF_LOG_WARN,
	DF_LOG_INFO,
	DF_LOG_DEBUG
};

typedef void df_log_sink(void *ctx, enum df_log_level level, const char *msg);
void df_log_set_sink(df_log_sink *sink, void *ctx);
void df_log(enum df_log_level level, const char *fmt, ...) DF_PRINTF(2, 3);
#define df_warn(...) df_log(DF_LOG_WARN, __VA_ARGS__)
#define df_info(...) df_log(DF_LOG_INFO, __VA_ARGS__)
#define df_debug(...) df_log(DF_LOG_DEBUG, __VA_ARGS__)

/* Progress of the running job: done of total (0 = unknown) in `unit`s.  Cheap; call it often. */
typedef void df_progress_sink(void *ctx, uint64_t done, uint64_t total, const char *unit);
void df_progress_set_sink(df_progress_sink *sink, void *ctx);
void df_progress(uint64_t done, uint64_t total, const char *unit);

#ifdef __cplusplus
}
#endif
#endif

/*
 * jsonl.h - a log in a run's directory: one JSON object per line, appended as it happens, and cut back where a run
 * goes on from an earlier step, so that no line is there twice.
 */
#ifndef DF_TRAIN_JSONL_H
#define DF_TRAIN_JSONL_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*
 * Keep only the whole lines of `path` whose member `key` is a step below `end`, in order; a log that is not there is
 * made, empty.
 */
int df_jsonl_cut(const char *path, const char *key, uint64_t end, struct df_err *err) DF_MUST_CHECK;
/* Append `line` [n], which ends with a newline. */
int df_jsonl_add(const char *path, const char *line, size_t n, struct df_err *err) DF_MUST_CHECK;

#endif

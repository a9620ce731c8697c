/*
 * text_out.h - text that goes to a file, which appears whole or not at all, or to standard output.
 *
 * Thread rule: an output belongs to one thread at a time.
 */
#ifndef DF_BASE_TEXT_OUT_H
#define DF_BASE_TEXT_OUT_H

#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"

struct df_text_out {
	const char *path; /* borrowed; "-" is standard output */
	FILE *f;          /* NULL: not open */
	struct df_atomic file;
};
#define DF_TEXT_OUT_INIT { NULL, NULL, DF_ATOMIC_INIT }

/* Begin the file `path`, or "-".  DF_ECREATE. */
int df_text_out_open(struct df_text_out *t, const char *path, struct df_err *err) DF_MUST_CHECK;
/* Append the text, lines with their ends; on standard output a reader has it at once.  DF_EIO, or b's own failure. */
int df_text_out_put(struct df_text_out *t, const struct df_buf *b, struct df_err *err) DF_MUST_CHECK;
/* The file is whole: it appears.  Nothing for an output that is not open. */
int df_text_out_commit(struct df_text_out *t, struct df_err *err) DF_MUST_CHECK;
/* A file that was not committed disappears.  Safe after commit and on an unopened one. */
void df_text_out_close(struct df_text_out *t);

#endif

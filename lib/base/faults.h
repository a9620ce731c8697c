/*
 * faults.h - all faults of one input are reported together, so that a user can correct them all before the next
 * run.
 */
#ifndef DF_BASE_FAULTS_H
#define DF_BASE_FAULTS_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

#define DF_FAULTS_MAX 100 /* an input with more faults is probably of another kind: looking for more does not help */

struct df_faults {
	struct df_buf lines; /* (private) the messages, each ended by a newline */
	size_t n;
	struct df_err first;
};
#define DF_FAULTS_INIT { .lines = DF_BUF_INIT }

/* Keep a copy of e.  DF_OK; the code of e when there are DF_FAULTS_MAX already. */
int df_faults_keep(struct df_faults *f, const struct df_err *e);

/*
 * DF_OK without faults.  A single one becomes the error; if there are several, each goes to the log (DF_LOG_ERROR),
 * and the error, with the code of the first, counts them: "WHERE: 3 faults: nothing is done"; `where` may be NULL.
 */
int df_faults_report(const struct df_faults *f, const char *where, struct df_err *err) DF_MUST_CHECK;
void df_faults_release(struct df_faults *f);

#endif

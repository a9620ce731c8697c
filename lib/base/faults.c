/*
 * faults.c - messages kept until all are known.
 */
#include "base/faults.h"

#include <string.h>

#include "base/log.h"

int
df_faults_keep(struct df_faults *f, const struct df_err *e)
{
	if (f->n == DF_FAULTS_MAX)
		return e->code;
	if (f->n++ == 0)
		f->first = *e;
	df_buf_printf(&f->lines, "%s\n", e->msg);
	return DF_OK;
}

int
df_faults_report(const struct df_faults *f, const char *where, struct df_err *err)
{
	int rc;

	if (f->n == 0)
		return DF_OK;
	if (f->n == 1) {
		if (err)
			*err = f->first;
		return f->first.code;
	}
	if ((rc = df_buf_check(&f->lines, err)) != DF_OK)
		return rc;
	for (const char *p = f->lines.data, *end; (end = strchr(p, '\n')); p = end + 1)
		df_log(DF_LOG_ERROR, "%.*s", (int)(end - p), p);
	return df_fail(err, f->first.code, "%s%s%zu faults%s: nothing is done", where ? where : "", where ? ": " : "",
	    f->n, f->n == DF_FAULTS_MAX ? " or more" : "");
}

void
df_faults_release(struct df_faults *f)
{
	df_buf_release(&f->lines);
	*f = (struct df_faults)DF_FAULTS_INIT;
}

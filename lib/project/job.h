/*
 * job.h - a whole job of df-project: gradients in files or a stream, one artefact of projections; resumable.
 *
 * Gradients are taken piece by piece in the order in which a backward makes them, so the result is that of
 * df-grad --project, bit for bit.
 */
#ifndef DF_PROJECT_JOB_H
#define DF_PROJECT_JOB_H

#include <stdint.h>

#include "backend/backend.h"
#include "base/err.h"
#include "project/project.h"
#include "shard/shard.h"

struct df_project_job {
	const struct df_projector *projector;
	const char *const *gradients; /* paths, as df_set_open() takes them */
	size_t n_gradients;
	const char *output; /* a file, or "-" */
	const char *tool;   /* the program, for the artefact's provenance */
	enum df_compress compress;
};
/*
 * Run the job, a batch of gradients at a time, by all threads of the backend's pool: gradients are large.  *n = the
 * rows that this call wrote.  DF_EFORMAT for gradients without a manifest.  DF_ESTOPPED: finished work stays for the
 * next run, unless the output is a stream.
 */
int df_project_job_run(
    const struct df_project_job *j, struct df_backend *be, uint64_t *n, struct df_err *err) DF_MUST_CHECK;

#endif

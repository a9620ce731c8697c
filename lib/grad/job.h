/*
 * job.h - a whole job of df-grad: tokens in files, a checkpoint, one artefact; on threads, in parts, resumable.
 */
#ifndef DF_GRAD_JOB_H
#define DF_GRAD_JOB_H

#include <stdint.h>

#include "backend/backend.h"
#include "base/err.h"
#include "base/opt.h"
#include "grad/grad.h"
#include "shard/shard.h"

struct df_grad_job;
/*
 * Open tokens and checkpoint and cut the tokens into blocks; the job is part `shard` of these.  index (may be NULL):
 * only the rows that it names, each once, in the order of the tokens; not with rewards.  The backend must outlive the
 * job.  Errors of df_set_open(), df_token_pick_open(), df_grad_open(), df_grad_meta() and df_policy_open(), and
 * DF_EUSAGE for a stream of tokens: its rows' lengths are not known.
 */
int df_grad_job_open(struct df_grad_job **out, const struct df_grad_opts *o, const char *const *tokens,
    size_t n_tokens, const char *index, struct df_shard_arg shard, struct df_backend *be,
    struct df_err *err) DF_MUST_CHECK;
void df_grad_job_close(struct df_grad_job *j); /* accepts NULL */

/* What it would cost. */
int df_grad_job_estimate(const struct df_grad_job *j, struct df_grad_cost *cost, struct df_err *err) DF_MUST_CHECK;

struct df_grad_job_run {
	const char *output; /* a file, whose part this is by name, or "-" */
	const char *tool;   /* the program, for the artefact's provenance */
	enum df_compress compress;
	int n_threads;      /* each takes a block; the last blocks have the backend's pool, of as many threads */
};
/*
 * Do it, once; *n = the rows that this call wrote.  Warns of rows without targets or with numbers that are not finite.
 * DF_ESTOPPED: what is done stays for the next run.
 */
int df_grad_job_run(
    struct df_grad_job *j, const struct df_grad_job_run *o, uint64_t *n, struct df_err *err) DF_MUST_CHECK;

#endif

/*
 * job.h - a whole job of df-embed: a source's rows, an embedder, one artefact; on threads, in parts, resumable.
 */
#ifndef DF_EMBED_JOB_H
#define DF_EMBED_JOB_H

#include <stdint.h>

#include "base/err.h"
#include "base/opt.h"
#include "embed/embed.h"
#include "embed/source.h"
#include "shard/shard.h"

struct df_embed_job {
	struct df_embed_source *source;
	const struct df_embedder *embedder;
	struct df_shard_arg shard; /* of a source in files: the part to do */
	const char *output;        /* a file, whose part this is by name, or "-" */
	const char *tool;          /* the program, for the artefact's provenance */
	enum df_store store;
	enum df_compress compress;
	int n_threads;             /* each takes a block; the last blocks have the backend's pool, of as many threads */
};

/* What it is: blocks and rows of the part (of a stream: none), numbers of a vector, bytes of the output. */
struct df_embed_cost {
	uint64_t blocks, rows;
	size_t width;
	double out_bytes;
};
void df_embed_job_estimate(const struct df_embed_job *j, struct df_embed_cost *cost);

/* What the output will say of itself, *m; DF_ELINEAGE when the tokens are not the model's (df_embed_source_check). */
int df_embed_job_meta(const struct df_embed_job *j, struct df_meta *m, struct df_err *err) DF_MUST_CHECK;
/*
 * Do it; *n = the rows that this call wrote.  Says what was cut, and warns of rows that are empty or not finite.
 * DF_ESTOPPED: what is done stays for the next run, unless a stream was read or written.
 */
int df_embed_job_run(const struct df_embed_job *j, const struct df_meta *m, uint64_t *n, struct df_err *err)
    DF_MUST_CHECK;

#endif

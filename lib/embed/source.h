/*
 * source.h - where an embedding's rows come from, block by block.
 *
 *	tokens   artefacts that df-pack made, files or a stream
 *	texts    JSON, JSON lines or text files, or datasets that a dataset_info.json describes
 *
 * A block is a run of consecutive rows, cut by their lengths alone; of a stream, a record.  The ids of texts are their
 * row numbers, counted through all files in the order given.  Or only those texts are taken that given tokens were made
 * of, with the tokens' ids: df-pack drops rows and holds rows out, so its ids are not the row numbers of the files.
 *
 * Thread rule: opening, seeking and df_embed_next() belong to one thread; df_embed_block() may run in
 * any thread that has a block and a lane of its own.
 */
#ifndef DF_EMBED_SOURCE_H
#define DF_EMBED_SOURCE_H

#include "data/dataset.h"
#include "data/rowtext.h"
#include "embed/embed.h"

struct df_embed_source_opts {
	const char *const *paths; /* tokens, or files of text (.json, .jsonl, .txt) */
	size_t n_paths;
	const char *dataset_dir, *dataset; /* or datasets, a comma list; else NULL */
	enum df_rowtext_form form;         /* texts: which text of a row */
	const char *column;                /* DF_ROWTEXT_COLUMN: of which column */
	const char *rows;                  /* texts: take the rows, and the ids, of these tokens; NULL: all rows */
};

struct df_embed_source;
/* Errors as df_set_open and df_dataset_open; DF_EUSAGE for texts together with tokens. */
int df_embed_source_open(
    struct df_embed_source **out, const struct df_embed_source_opts *o, struct df_err *err) DF_MUST_CHECK;
void df_embed_source_close(struct df_embed_source *s); /* accepts NULL */
bool df_embed_source_is_text(const struct df_embed_source *s);
bool df_embed_source_is_stream(const struct df_embed_source *s); /* a stream: its length is known at its end only */
bool df_embed_source_has_domain(const struct df_embed_source *s);
const char *df_embed_source_name(const struct df_embed_source *s);
uint64_t df_embed_source_blocks(const struct df_embed_source *s);
/* Rows of blocks [begin, end); 0 for a stream. */
uint64_t df_embed_source_rows(const struct df_embed_source *s, uint64_t begin, uint64_t end);
/* Its inputs, domains and parameters. */
int df_embed_source_meta(const struct df_embed_source *s, struct df_meta *m, struct df_err *err) DF_MUST_CHECK;

/* DF_ELINEAGE when these tokens were made with another tokenizer than the embedder's checkpoint was trained with. */
int df_embed_source_check(
    const struct df_embed_source *s, const struct df_embedder *e, struct df_err *err) DF_MUST_CHECK;

/* A block on its way through the threads. */
struct df_embed_block {
	struct df_batch out;   /* id, domain, embedding; first, as df_job_run() wants it */
	struct df_batch in;    /* tokens */
	uint64_t first;        /* its first row */
	struct df_embed_flaws flaws;
	/* private: texts */
	uint64_t n;
	struct df_rowtext text;
	struct df_ids ids;
	uint64_t *offsets;
	size_t cap_offsets;
};
#define DF_EMBED_BLOCK_INIT { .out = DF_BATCH_INIT, .in = DF_BATCH_INIT, .text = DF_ROWTEXT_INIT } /* all zero */
void df_embed_block_release(struct df_embed_block *b);

/* df_embed_next() hands out blocks [begin, end); not for streams, which always start at their first block. */
void df_embed_source_seek(struct df_embed_source *s, uint64_t begin, uint64_t end);
/* The next block into b: 1, or 0 at the end. */
int df_embed_next(struct df_embed_source *s, struct df_embed_block *b, struct df_err *err) DF_MUST_CHECK;
/* Its vectors: b->out (ids and domains may point into b->in) and b->flaws, which is cleared first. */
int df_embed_block(const struct df_embed_source *s, struct df_embed_lane *l, struct df_embed_block *b,
    struct df_err *err) DF_MUST_CHECK;

#endif

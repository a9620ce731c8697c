/*
 * corpus.h - datasets, one after the other, through many threads.
 *
 * Two passes over the mapped files.  The *survey* converts every row without
 * tokenising: what is malformed shows before an hour of work is spent, rows
 * that will be dropped are counted by reason, and which rows are held out is
 * decided.  *Encoding* then hands the kept rows over in order: datasets as
 * given, rows as in their files, whatever the number of threads.
 *
 * One thread drives a corpus; callbacks come one at a time.
 */
#ifndef DF_TEXT_CORPUS_H
#define DF_TEXT_CORPUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "text/dataset.h"
#include "text/encode.h"

/* One dataset of the corpus; the domain of its rows is its place in the list. */
struct df_part {
	struct df_dataset *ds;
	uint64_t hold_out;          /* rows to hold out ... */
	double hold_fraction;       /* ... or, > 0, this part of the kept ones, rounded up */
	/* filled by the survey */
	uint64_t n_read, n_kept;    /* rows; the held out ones are among the kept */
	uint64_t n_held;
	uint64_t dropped[DF_DROP_COUNT];
	/* filled by encoding */
	uint64_t n_tokens, n_truncated, n_unlabelled; /* of the kept rows */
	/* private */
	uint32_t columns;
	struct df_draw *draws; /* of the kept rows, while the survey runs */
	size_t cap_draws;
	uint64_t limit_key, limit_row; /* the last draw that is held out */
};

struct df_corpus {
	struct df_part *part;
	size_t n_parts, cap_parts;
	uint64_t max_samples; /* rows taken of each dataset */
	uint64_t seed;        /* of the draw of held out rows */
	int n_threads;
	bool surveyed; /* (private) */
};
#define DF_CORPUS_INIT { .max_samples = UINT64_MAX, .seed = 42, .n_threads = 1 }

/* Open the datasets of a comma-separated list, as `dataset_dir` and `dataset` name them. */
int df_corpus_open(struct df_corpus *c, const char *dataset_dir, const char *datasets, enum df_stage stage,
    struct df_err *err) DF_MUST_CHECK;
void df_corpus_close(struct df_corpus *c);

/*
 * Ask for rows to be held out: "NAME=50" is a number of rows, "NAME=0.1" a
 * part of them.  Which ones depends on the seed, the dataset's name and the
 * row, and on nothing else.
 */
int df_corpus_hold_out(struct df_corpus *c, const char *spec, struct df_err *err) DF_MUST_CHECK;

int df_corpus_survey(struct df_corpus *c, const struct df_encoder *e, struct df_err *err) DF_MUST_CHECK;

/* A kept row, encoded; valid during the callback. */
struct df_encoded_row {
	const uint32_t *ids;
	const uint8_t *mask;
	size_t n;
	uint16_t domain;
	uint64_t source_row;
	bool held_out;
};
/* 0, an error, or 1 when enough rows have been seen. */
typedef int df_row_fn(void *ctx, const struct df_encoded_row *row, struct df_err *err);

/* After the survey, with the same encoder. */
int df_corpus_encode(struct df_corpus *c, const struct df_encoder *e, df_row_fn *emit, void *ctx, struct df_err *err)
    DF_MUST_CHECK;

#endif

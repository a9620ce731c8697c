/*
 * corpus.h - datasets, one after the other or interleaved, through many threads.
 *
 * Two passes over the mapped files.  The *survey* converts every row without tokenising: malformed rows are found
 * before an hour of work is spent, rows that will be dropped are counted by reason, and the held-out rows are
 * chosen.  *Encoding* then delivers the kept rows in order, for any number of threads: datasets in the given order
 * or mixed by `mix`, rows as in their files or, where dataset_info.json has num_samples, as drawn; then the
 * evaluation datasets.
 *
 * One thread drives a corpus; callbacks come one at a time.
 */
#ifndef DF_DATA_CORPUS_H
#define DF_DATA_CORPUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "chat/encode.h"
#include "data/dataset.h"
#include "data/interleave.h"

/* One dataset of the corpus. */
struct df_part {
	struct df_dataset *ds;
	bool eval;                  /* an evaluation dataset: all its rows are held out */
	uint16_t domain;            /* index of its name among the names, training first */
	uint64_t hold_out;          /* rows to hold out ... */
	double hold_fraction;       /* ... or, if > 0, this fraction of the kept ones, rounded up */
	/* filled by the survey */
	uint64_t n_read, n_kept;    /* rows; n_kept includes the held-out ones */
	uint64_t n_held;
	uint64_t dropped[DF_DROP_COUNT];
	/* filled by encoding */
	uint64_t n_tokens, n_truncated; /* of the kept rows */
	uint64_t unlearnt[DF_UNLEARNT_COUNT];
	/* private */
	bool is_indexed;       /* rows are read in any order */
	uint64_t *row;         /* [n_rows] num_samples: the rows as drawn; NULL: as they come */
	uint64_t n_rows;       /* of an indexed dataset: those to be read */
	uint64_t limit_key, limit_row; /* the last draw that is held out */
};

struct df_corpus {
	struct df_part *part;
	size_t n_parts, cap_parts;
	uint64_t max_samples; /* rows taken of each dataset, after num_samples */
	uint64_t seed;        /* of the draws: held out rows, num_samples, interleaving */
	enum df_mix mix;
	const char *probs;    /* interleave_probs; NULL: in turn */
	double val_size;      /* below 1: hold out this fraction of all kept rows; from 1 on: this number; 0: none */
	bool no_openai_quirk; /* df_dataset_set_quirk; before opening */
	int n_threads;
	/* private */
	bool surveyed;
	size_t n_train;        /* the first parts, which are for training */
	struct df_mixer mixer; /* of them */
	struct df_draw *draw;  /* of the kept rows that may be held out, while the survey runs */
	size_t n_draws, cap_draws;
};
#define DF_CORPUS_INIT { .max_samples = UINT64_MAX, .seed = 42, .n_threads = 1 }

/*
 * Open the datasets of comma-separated lists, as `dataset_dir`, `dataset` and `eval_dataset` (or NULL) name them,
 * and check their columns.  DF_EUSAGE for a name that occurs twice in one list.
 */
int df_corpus_open(struct df_corpus *c, const char *dataset_dir, const char *datasets, const char *eval_datasets,
    enum df_data_stage stage, struct df_err *err) DF_MUST_CHECK;
void df_corpus_close(struct df_corpus *c);

/*
 * Ask for rows to be held out: "NAME=50" is a number of rows, "NAME=0.1" a fraction of them.  The choice depends
 * only on the seed, the dataset's name and the row; so does that of val_size.  All copies of a row are treated
 * alike.
 */
int df_corpus_hold_out(struct df_corpus *c, const char *spec, struct df_err *err) DF_MUST_CHECK;

/* DF_EUSAGE when mix, probs, val_size and hold-outs contradict each other, DF_EFORMAT when no row can be used. */
int df_corpus_survey(struct df_corpus *c, const struct df_encoder *e, struct df_err *err) DF_MUST_CHECK;

/* A kept row, encoded; valid during the callback. */
struct df_encoded_row {
	const uint32_t *ids;
	const uint8_t *mask;
	size_t n;
	uint16_t domain;
	uint64_t source_row;
	uint64_t n_dropped; /* rows of the same side, held out or not, that were dropped since the one before */
	bool held_out;
};
/* 0, an error, or 1 when enough rows have been seen. */
typedef int df_row_fn(void *ctx, const struct df_encoded_row *row, struct df_err *err);

/*
 * After the survey, with the same encoder, or one that differs in no_prompt only.  May be called again: what it fills
 * in is of the last call.
 */
int df_corpus_encode(struct df_corpus *c, const struct df_encoder *e, df_row_fn *emit, void *ctx, struct df_err *err)
    DF_MUST_CHECK;

#endif

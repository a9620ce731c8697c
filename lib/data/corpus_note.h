/*
 * corpus_note.h - what tokens say of the datasets that they are made of, and what is said of them on the terminal.
 */
#ifndef DF_DATA_CORPUS_NOTE_H
#define DF_DATA_CORPUS_NOTE_H

#include "base/err.h"
#include "data/corpus.h"
#include "shard/shard.h"

/* Each dataset, once, as an input and as a domain. */
int df_corpus_note_sources(const struct df_corpus *c, struct df_meta *m, struct df_err *err) DF_MUST_CHECK;
/* The parameter num_samples, "NAME=N,NAME=N", where dataset_info.json has any. */
int df_corpus_note_num_samples(const struct df_corpus *c, struct df_meta *m, struct df_err *err) DF_MUST_CHECK;
/* After the survey: the parameters rows_read and, for each reason that there was, dropped.REASON. */
int df_corpus_note_rows(const struct df_corpus *c, struct df_meta *m, struct df_err *err) DF_MUST_CHECK;

/* After encoding: a line for each dataset, and a warning of what may surprise in training. */
void df_corpus_report(const struct df_corpus *c);

#endif

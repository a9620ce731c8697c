/*
 * dataset.h - the user's data as LLaMA-Factory describes it.
 *
 * dataset_info.json names datasets and says which column or tag means what;
 * a dataset is one file (or a directory of files, taken in byte order of
 * their names) of JSON (an array of objects), JSON lines or plain text.
 * Reading has two halves, so that the second can run on many threads:
 *
 *   df_dataset_next     finds where the next record begins and ends (cheap, in order)
 *   df_dataset_convert  parses that record into an *example*: turns and a system text
 *
 * Rows count from 0 through all files of a dataset; messages name the file,
 * and the row and line in it.
 */
#ifndef DF_DATA_DATASET_H
#define DF_DATA_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "chat/example.h"

/* A record larger than this is refused: it is no training sample. */
#define DF_RECORD_MAX ((size_t)256 << 20)

/* A record, not yet parsed: `n` bytes inside the mapped file. */
struct df_record {
	const char *text;
	size_t n;
	uint64_t row;      /* in the dataset */
	uint64_t file_row; /* in its file */
	size_t file;       /* which of the dataset's files */
};

struct df_dataset_info;
struct df_dataset;

/* Read <dir>/dataset_info.json.  ONLINE and REMOTE: are refused (no program here uses the network). */
int df_dataset_info_open(struct df_dataset_info **out, const char *dir, struct df_err *err) DF_MUST_CHECK;
void df_dataset_info_free(struct df_dataset_info *info); /* accepts NULL */
/* *names = the names of its datasets that are local files, in the file's order, NULL at the end; free(names) alone. */
int df_dataset_info_names(
    const struct df_dataset_info *info, const char ***names, struct df_err *err) DF_MUST_CHECK;

/*
 * Open the dataset `name`, map its files and digest them.  DF_ECONFIG names
 * what is wrong in dataset_info.json (an unknown name comes with the nearest
 * known one), DF_EUNSUPPORTED what we cannot do (hub addresses, parquet,
 * ranking).  `info` may be freed afterwards.
 */
int df_dataset_open(struct df_dataset **out, const struct df_dataset_info *info, const char *name, enum df_stage stage,
    struct df_err *err) DF_MUST_CHECK;
/*
 * The same of a file, or of a directory's files, that no dataset_info.json describes: columns are the default ones of
 * alpaca, and `text` of text files; its name is the file's.
 */
int df_dataset_open_file(struct df_dataset **out, const char *path, enum df_stage stage, struct df_err *err)
    DF_MUST_CHECK;
void df_dataset_free(struct df_dataset *ds); /* accepts NULL */
/* Before its rows are read: does LLaMA-Factory's quirk of openai rows (convert_openai.c) apply?  By default yes. */
void df_dataset_set_quirk(struct df_dataset *ds, bool on);

const char *df_dataset_name(const struct df_dataset *ds);
const char *df_dataset_id(const struct df_dataset *ds); /* digest of its files and of how they are read */
uint64_t df_dataset_num_samples(const struct df_dataset *ds); /* of dataset_info.json: so many random rows; 0: all */

/*
 * The next record: 1, 0 at the end of the last file, or an error (a truncated
 * array, garbage between records, a record beyond DF_RECORD_MAX).  One thread.
 */
int df_dataset_next(struct df_dataset *ds, struct df_record *rec, struct df_err *err) DF_MUST_CHECK;
void df_dataset_rewind(struct df_dataset *ds);

/*
 * Find all records (16 bytes each), so that they can be had in any order: *n of them.  Errors as df_dataset_next;
 * rewinds.
 */
int df_dataset_index(struct df_dataset *ds, uint64_t *n, struct df_err *err) DF_MUST_CHECK;
/* The record of that row, after df_dataset_index. */
struct df_record df_dataset_record(const struct df_dataset *ds, uint64_t row);

/*
 * Parse and convert a record.  Any number of threads, an example each.
 * DF_EFORMAT: `alpaca.json: row 17 (line 86): 'output': expected a string, found number`.
 */
int df_dataset_convert(const struct df_dataset *ds, const struct df_record *rec, struct df_example *ex,
    struct df_err *err) DF_MUST_CHECK;
/* Put the record's place in front of an error found later (encoding). */
void df_dataset_place(const struct df_dataset *ds, const struct df_record *rec, struct df_err *err);

/*
 * Before the work: some row must have each column that "columns" names, and each default one that the stage needs (the
 * prompt, in stage sft the response too, or the messages).  One that no row has is a spelling mistake: DF_ECONFIG, with
 * the columns that are there and the nearest of them.  Rows are read until all were seen, mostly one; their errors are
 * those of df_dataset_next and df_dataset_convert.  A dataset without rows passes.  Rewinds.
 */
int df_dataset_check_columns(struct df_dataset *ds, struct df_err *err) DF_MUST_CHECK;

#endif

/*
 * dataset.h - the user's data as LLaMA-Factory describes it.
 *
 * dataset_info.json names datasets and defines the meaning of columns and tags; a dataset is one file (or a
 * directory of files, taken in byte order of their names) of JSON (an array of objects), JSON lines or plain text.
 * Reading has two halves, so that the second can run on many threads:
 *
 *   df_dataset_next     finds the beginning and the end of the next record (cheap, in order)
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

#include "base/buf.h"
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
/* Append the names of those of <dir>/dataset_info.json, a line each, but for names that no list of datasets can say. */
int df_dataset_info_list(const char *dir, struct df_buf *out, struct df_err *err) DF_MUST_CHECK;

/*
 * Open the dataset `name`, map its files and digest them.  DF_ECONFIG names the fault in dataset_info.json (an
 * unknown name with the nearest known one); DF_EUNSUPPORTED names what is not supported (hub addresses, parquet,
 * ranking).  `info` may be freed afterwards.
 */
int df_dataset_open(struct df_dataset **out, const struct df_dataset_info *info, const char *name,
    enum df_data_stage stage, struct df_err *err) DF_MUST_CHECK;
/*
 * The same for a file, or a directory's files, without a dataset_info.json: columns are alpaca's default ones, and
 * `text` for text files; its name is the file's.
 */
int df_dataset_open_file(struct df_dataset **out, const char *path, enum df_data_stage stage, struct df_err *err)
    DF_MUST_CHECK;
void df_dataset_free(struct df_dataset *ds); /* accepts NULL */
/* Switch LLaMA-Factory's quirk of openai rows (convert_openai.c), which is on by default.  Before rows are read. */
void df_dataset_set_quirk(struct df_dataset *ds, bool on);

const char *df_dataset_name(const struct df_dataset *ds);
const char *df_dataset_id(const struct df_dataset *ds); /* digest of its files and of their description */
uint64_t df_dataset_num_samples(const struct df_dataset *ds); /* of dataset_info.json: number of random rows; 0: all */

/*
 * The next record: 1, 0 at the end of the last file, or an error (a truncated
 * array, garbage between records, a record beyond DF_RECORD_MAX).  One thread.
 */
int df_dataset_next(struct df_dataset *ds, struct df_record *rec, struct df_err *err) DF_MUST_CHECK;
void df_dataset_rewind(struct df_dataset *ds);

/*
 * Find all records (16 bytes each), so that they can be read in any order; *n is their number.  Errors as
 * df_dataset_next; rewinds.
 */
int df_dataset_index(struct df_dataset *ds, uint64_t *n, struct df_err *err) DF_MUST_CHECK;
/* How many rows there are, and the record of one, after df_dataset_index. */
uint64_t df_dataset_n_records(const struct df_dataset *ds);
struct df_record df_dataset_record(const struct df_dataset *ds, uint64_t row);

/*
 * Parse and convert a record.  Any number of threads, each with its own example.  DF_EFORMAT: `alpaca.json: row 17
 * (line 86): 'output': expected a string, found number`.
 */
int df_dataset_convert(const struct df_dataset *ds, const struct df_record *rec, struct df_example *ex,
    struct df_err *err) DF_MUST_CHECK;
/* Put the record's place in front of an error found later (encoding). */
void df_dataset_place(const struct df_dataset *ds, const struct df_record *rec, struct df_err *err);

/*
 * Check, before the work, that each column that "columns" names occurs in some row, and also each default one that
 * the stage needs (the prompt, in stage sft also the response, or the messages).  A column that no row has is a
 * spelling mistake: DF_ECONFIG, with the existing columns and the nearest of them.  Rows are read until all columns
 * were seen, usually one row; errors as df_dataset_next and df_dataset_convert.  A dataset without rows passes.
 * Rewinds.
 */
int df_dataset_check_columns(struct df_dataset *ds, struct df_err *err) DF_MUST_CHECK;

#endif

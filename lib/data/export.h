/*
 * export.h - chosen rows as files of their source's format, with the dataset_info.json that describes them.
 *
 * A record is copied byte for byte: numbers, the order of keys and escapes stay as they are.  Only the white space
 * between its members may change: a record of several lines becomes one where each line is a record.
 */
#ifndef DF_DATA_EXPORT_H
#define DF_DATA_EXPORT_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "data/chosen.h"

/*
 * Where to, by the name of `path`:
 *
 *	NAME.jsonl   one file with a line per record, in the order of the index
 *	NAME.json    one file with an array
 *	NAME.txt     one file of lines, for text files
 *	-            standard output: records as lines
 *	any other    a directory with one file for each dataset, in its source's form
 *
 * One file has one description, so its datasets must agree in format, columns and tags.
 */
struct df_export_opts {
	const char *path;
	const char *prefix; /* add PREFIXrank (place in the index) and PREFIXscore (if it has scores); NULL: neither */
	bool merge_info; /* add the entry to an existing dataset_info.json beside the file */
};
/*
 * Call it before anything is read: the dataset_info.json beside the file is read and written, also where it describes
 * the source (base/inout.h).
 */
int df_export_claim(const struct df_export_opts *o, struct df_err *err) DF_MUST_CHECK;
/*
 * Write them: whole or not at all, and the data never without its entry in dataset_info.json.  DF_EUSAGE: datasets
 * that do not agree, a dataset_info.json that is there already, or a directory with other things in it.
 */
int df_export(const struct df_chosen *c, const struct df_export_opts *o, struct df_err *err) DF_MUST_CHECK;

/*
 * Append the entry of dataset_info.json ("NAME": {...}) under which `file_name` is read as ds is read now.
 */
int df_info_entry(struct df_buf *out, const struct df_dataset *ds, const char *name, const char *file_name,
    struct df_err *err) DF_MUST_CHECK;
/*
 * *text = the content of dataset_info.json at `path` with that entry: a new one, or if `merge` an existing one with the
 * entry after its others, all else as it was.  *write = false: it has exactly this entry already.  DF_EUSAGE when there
 * is one and not `merge`, or when it has another entry of this name.
 */
int df_info_add(struct df_buf *text, bool *write, const char *path, const char *name, const struct df_buf *entry,
    bool merge, struct df_err *err) DF_MUST_CHECK;

#endif

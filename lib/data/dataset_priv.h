/* dataset_priv.h - declarations that dataset.c (description), records.c (boundaries) and convert.c (meaning) share. */
#ifndef DF_DATA_DATASET_PRIV_H
#define DF_DATA_DATASET_PRIV_H

#include "data/dataset.h"

enum df_formatting { DF_FORMAT_ALPACA, DF_FORMAT_SHAREGPT, DF_FORMAT_OPENAI };
enum df_filetype { DF_FILE_JSON, DF_FILE_TXT };

enum df_colname {
	DF_COLUMN_PROMPT,
	DF_COLUMN_QUERY,
	DF_COLUMN_RESPONSE,
	DF_COLUMN_HISTORY,
	DF_COLUMN_MESSAGES,
	DF_COLUMN_SYSTEM,
	DF_COLUMN_TOOLS,
	DF_COLUMN_IMAGES,
	DF_COLUMN_VIDEOS,
	DF_COLUMN_AUDIOS,
	DF_COLUMN_COUNT
};

enum df_tagname {
	DF_TAG_ROLE,
	DF_TAG_CONTENT,
	DF_TAG_USER,
	DF_TAG_ASSISTANT,
	DF_TAG_OBSERVATION,
	DF_TAG_FUNCTION,
	DF_TAG_SYSTEM,
	DF_TAG_COUNT
};

struct df_datafile {
	char *name;       /* for messages: without directories */
	const char *data; /* mapped; NULL when empty */
	size_t n;
};

/* The position of df_dataset_next. */
struct df_cursor {
	size_t file, pos;
	uint64_t row, file_row;
	bool begun;    /* the file's beginning ([, byte-order mark) has been read */
	bool in_array; /* a JSON array, not lines */
	bool need_comma;
};

/* The place of a record. */
struct df_place {
	uint64_t pos;
	uint32_t n, file;
};

struct df_dataset {
	char *name;
	enum df_data_stage stage;
	enum df_formatting formatting;
	enum df_filetype type;
	char *column[DF_COLUMN_COUNT]; /* the user's name for it; NULL: none */
	bool named_columns;            /* a "columns" object was given */
	char *tag[DF_TAG_COUNT];
	bool thinking_note;            /* openai: rows without tools get "detailed thinking off" (convert_openai.c) */
	struct df_datafile *files;
	size_t n_files, cap_files;
	char id[DF_DIGEST_HEX];
	uint64_t num_samples; /* of dataset_info.json; 0: all rows, in their order */
	struct df_cursor at;
	struct df_place *place;    /* [n_places] of every row, once df_dataset_index() was called */
	size_t n_places, cap_places;
	uint64_t *file_first;      /* [n_files] also then: the first row of each file */
};

/* A column that some row must have. */
struct df_need {
	const char *column;
	const char *role; /* its role, as dataset_info.json spells it; NULL: the caller named the column itself */
	bool is_default;  /* LLaMA-Factory's name for it, not one of dataset_info.json */
};
/* df_dataset_check_columns with n needs, at most DF_COLUMN_COUNT. */
int df_dataset_need(struct df_dataset *ds, const struct df_need *need, size_t n, struct df_err *err) DF_MUST_CHECK;
/* The same with columns of the dataset, bit c for column c, without unset ones and those of another formatting. */
int df_dataset_need_columns(struct df_dataset *ds, uint32_t columns, struct df_err *err) DF_MUST_CHECK;

extern const char *const df_column_names[DF_COLUMN_COUNT + 1]; /* as dataset_info.json spells them */
extern const char *const df_tag_names[DF_TAG_COUNT + 1];
extern const char *const df_tag_defaults[DF_TAG_COUNT];        /* without a "tags" object */

#endif

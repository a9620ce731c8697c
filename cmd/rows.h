/*
 * rows.h - rows of option tables that several programs have, word for word.
 *
 * `tasks`: which tasks of the program they are for; 0: all (base/opt.h).
 */
#ifndef DF_CMD_ROWS_H
#define DF_CMD_ROWS_H

#include "base/opt.h"
#include "chat/encode.h"
#include "shard/shard.h"

static const char *const df_prog_compressions[] = { DF_COMPRESS_NAMES, NULL };
static const char *const df_prog_thinking[] = { DF_THINKING_NAMES, NULL };

/* clang-format off */
#define DF_PROG_BASE(v, tasks) \
	{ .name = "base", .type = DF_OPT_STR, .value = (v), .arg = "DIR", .file = DF_FILE_READ, .only = (tasks), \
	    .help = "base model of an adapter, not the one it names" }

/* -m and --base. */
#define DF_PROG_MODEL(v, base, tasks) \
	{ .name = "model", .short_name = 'm', .type = DF_OPT_STR, .value = (v), .arg = "DIR", .file = DF_FILE_READ, \
	    .only = (tasks), .help = "checkpoint, Hugging Face directory or PEFT adapter" }, \
	DF_PROG_BASE(base, tasks)

#define DF_PROG_TOKENIZER(v, tasks) \
	{ .name = "tokenizer", .type = DF_OPT_STR, .value = (v), .arg = "TOK", .file = DF_FILE_READ_ANY, \
	    .choices = df_tokenizer_names, .only = (tasks), .help = "bytes, or a path, not the model's own" }

#define DF_PROG_THINKING(v, tasks, text) \
	{ .name = "enable-thinking", .type = DF_OPT_CHOICE, .value = (v), .choices = df_prog_thinking, \
	    .only = (tasks), .help = text }

#define DF_PROG_DATASET(v) \
	{ .name = "dataset", .type = DF_OPT_STR, .value = (v), .arg = "NAMES", \
	    .help = "datasets in dataset_info.json, comma-separated" }

#define DF_PROG_DATASET_DIR(v, tasks) \
	{ .name = "dataset-dir", .type = DF_OPT_STR, .value = (v), .arg = "DIR", .file = DF_FILE_READ, \
	    .only = (tasks), .help = "directory of dataset_info.json" }

#define DF_PROG_OUTPUT(v, tasks, text) \
	{ .name = "output", .short_name = 'o', .type = DF_OPT_STR, .value = (v), .arg = "FILE", \
	    .file = DF_FILE_WRITE, .only = (tasks), .help = text }

#define DF_PROG_SHARD(v) \
	{ .name = "shard", .type = DF_OPT_SHARD, .value = (v), .arg = "I/N", \
	    .help = "part I of N only; auto, auto/N: of a Slurm array" }

#define DF_PROG_COMPRESS(v, text) \
	{ .name = "compress", .type = DF_OPT_CHOICE, .value = (v), .choices = df_prog_compressions, .help = text }
/* clang-format on */

#endif

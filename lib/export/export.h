/*
 * export.h - a model directory to hand on: an adapter merged into its base, or a checkpoint in another type or cut,
 * with the tokenizer beside it.  What LLaMA-Factory's `export` makes, from its YAML keys or from options.
 */
#ifndef DF_EXPORT_EXPORT_H
#define DF_EXPORT_EXPORT_H

#include <stdint.h>

#include "base/err.h"
#include "config/config.h"
#include "model/model.h"

/* Strings are owned. */
struct df_export {
	char *model; /* a model directory, or an adapter's base; NULL: where the adapter says */
	char *adapter; /* NULL: none */
	char *dir;     /* what is made; must not exist, or be empty */
	struct df_merge_spec spec;
};
/*
 * LLaMA-Factory's YAML, by the keys of DF_OWNER_EXPORT (config/config.h): what only concerns inference is passed over;
 * a key that would change the result otherwise and is not done, or is not known, is DF_ECONFIG with its line.
 */
int df_export_load(struct df_export *e, const char *path, struct df_err *err) DF_MUST_CHECK;
void df_export_release(struct df_export *e);

/* What a file's weights become. */
void df_export_dtype(enum df_infer_dtype dtype, struct df_merge_spec *spec);
/* "5GB", "500MB", "2GiB", "4096": bytes, decimal or binary as transformers reads it; 0 is no limit.  DF_EUSAGE. */
int df_export_size(const char *text, uint64_t *bytes, struct df_err *err) DF_MUST_CHECK;

/* Open, merge, copy tokenizer and generation_config.json; e->dir appears whole or not at all. */
int df_export_run(const struct df_export *e, struct df_backend *be, struct df_err *err) DF_MUST_CHECK;

#endif

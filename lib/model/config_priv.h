/*
 * config_priv.h - what the files that read config.json share; seen in lib/model only.
 */
#ifndef DF_MODEL_CONFIG_PRIV_H
#define DF_MODEL_CONFIG_PRIV_H

#include "base/buf.h"
#include "base/json.h"
#include "model/model.h"

/* Bounds of plausible sizes: no product of two of them overflows 64 bits. */
#define DF_CONFIG_MAX_DIM    ((int64_t)1 << 24)
#define DF_CONFIG_MAX_LAYERS ((int64_t)1 << 14)

/* Neither absent nor null. */
bool df_config_present(const struct df_json_value *obj, const char *key);
/* DF_EUNSUPPORTED: "'KEY': WHAT is not supported". */
int df_config_unsupported(const char *key, const char *what, struct df_err *err);
/* A size from 1 to max: one that must be there, and one with a default. */
int df_config_need_size(const struct df_json_value *root, const char *key, int64_t max, size_t *out,
    struct df_err *err) DF_MUST_CHECK;
int df_config_opt_size(const struct df_json_value *root, const char *key, size_t dflt, int64_t max, size_t *out,
    struct df_err *err) DF_MUST_CHECK;
/* config_bert.c: all of an encoder's. */
int df_config_read_bert(struct df_model_config *c, const struct df_json_value *root, struct df_err *err) DF_MUST_CHECK;
/* config_rope.c: c->rope, in either spelling; c's sizes must be read already. */
int df_config_read_rope(struct df_model_config *c, const struct df_json_value *root, double theta, struct df_err *err)
    DF_MUST_CHECK;
/* config_text.c: root as text, with float32 as its floating type. */
int df_config_text(struct df_buf *out, const struct df_json_value *root, struct df_err *err) DF_MUST_CHECK;
/* The head has values of its own: c->tied = false, and the same in c->json. */
int df_config_untie(struct df_model_config *c, struct df_err *err) DF_MUST_CHECK;

#endif

/*
 * config_priv.h - between the YAML reader and the table of keys.
 */
#ifndef DF_CONFIG_CONFIG_PRIV_H
#define DF_CONFIG_CONFIG_PRIV_H

#include "config/config.h"

/* One value, owned: a scalar's text, a list joined by commas, or a map. */
struct df_yaml_value {
	enum { DF_YAML_SCALAR, DF_YAML_LIST, DF_YAML_MAP } kind;
	char *text;    /* scalars and lists; never NULL there */
	bool plain;    /* an unquoted scalar: null, true and numbers mean themselves */
	int line;      /* from 1 */
	struct df_config_map map;
};
void df_yaml_value_release(struct df_yaml_value *v);

/* Is the plain text one of YAML 1.1's words for true and false?  *b says which. */
bool df_yaml_bool(const char *text, bool *b);

/* Called for each key of the top-level map; may take what v holds. */
typedef int df_yaml_member(void *ctx, const char *key, int key_line, struct df_yaml_value *v, struct df_err *err);

/* The document text[0..n) is a map: call fn for each member.  Messages start with name and line. DF_ECONFIG. */
int df_yaml_walk(const char *text, size_t n, const char *name, df_yaml_member *fn, void *ctx,
    struct df_err *err) DF_MUST_CHECK;
/* The document is one value (the right side of an override). */
int df_yaml_value(const char *text, size_t n, const char *name, struct df_yaml_value *v,
    struct df_err *err) DF_MUST_CHECK;

/* Is it one of YAML 1.1's words for null, or empty? */
bool df_yaml_null(const char *text);

void df_config_map_release(struct df_config_map *m);
/* Takes key and value (malloc'ed), replacing an equal key; frees them on failure. */
int df_config_map_put(struct df_config_map *m, char *key, char *value, struct df_err *err) DF_MUST_CHECK;

#endif

/* meta.h - the metadata of a file: how it was made, and from which inputs. */
#ifndef DF_SHARD_META_H
#define DF_SHARD_META_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "shard/kind.h"

struct df_input {
	char *role; /* "tokens", "checkpoint", "train", "val" */
	char *kind; /* a kind's name, or "checkpoint", "tokenizer", "source" */
	char *id;   /* its df_id: 32 hex digits */
};

/*
 * The role of the tokens whose rows these are in another form, with the same ids: rows without their prompts.  What is
 * made of such tokens has the input, too.
 */
#define DF_ROLE_ROWS_OF "rows_of"

/*
 * Parameters "added_token.259" and so on, which list details of the parameter "tokenizer".  They are not compared:
 * that parameter is their digest, and is compared.
 */
#define DF_META_BASE_TOKENIZER "base_tokenizer"
#define DF_META_ADDED_TOKEN    "added_token."

/* A row of the table that names the coordinates of a gradient: a parameter [rows,cols] at a flat offset. */
struct df_manifest_row {
	char *name;
	uint64_t offset, rows, cols;
};
/*
 * Gradients are passed on, streamed and projected in pieces of whole matrix rows: this many rows of a parameter
 * with `cols` columns (the last piece may have fewer).
 */
#define DF_GRAD_PIECE ((uint64_t)1 << 16) /* coordinates */
static inline uint64_t
df_grad_piece_rows(uint64_t cols)
{
	return cols >= DF_GRAD_PIECE || cols == 0 ? 1 : DF_GRAD_PIECE / cols;
}

struct df_param_kv {
	char *key;
	char *json; /* the value as JSON text: 42, "adam", true */
};

struct df_meta {
	enum df_kind kind;
	char *tool; /* "df-grad" */
	char *version;
	struct df_param_kv *params; /* every option that changed the content, in writing order */
	size_t n_params, cap_params;
	struct df_input *inputs;
	size_t n_inputs, cap_inputs;
	char **domains;
	size_t n_domains, cap_domains;
	struct df_manifest_row *manifest; /* gradients only */
	size_t n_manifest, cap_manifest;
	char id[DF_DIGEST_HEX]; /* filled on reading and by commit; "" while unknown (a stream) */
	bool has_lineage;       /* false: a user's script wrote the file */
};
#define DF_META_INIT { .kind = DF_KIND_ANY }
void df_meta_release(struct df_meta *m);
int df_meta_copy(struct df_meta *dst, const struct df_meta *src, struct df_err *err) DF_MUST_CHECK;

/* Set the program that makes the file, with its version. */
int df_meta_set_tool(struct df_meta *m, const char *tool, struct df_err *err) DF_MUST_CHECK;

/* Add or replace a parameter. */
int df_meta_set_str(struct df_meta *m, const char *key, const char *value, struct df_err *err) DF_MUST_CHECK;
int df_meta_set_int(struct df_meta *m, const char *key, int64_t value, struct df_err *err) DF_MUST_CHECK;
int df_meta_set_double(struct df_meta *m, const char *key, double value, struct df_err *err) DF_MUST_CHECK;
int df_meta_set_bool(struct df_meta *m, const char *key, bool value, struct df_err *err) DF_MUST_CHECK;
/* Copy a parameter from the other meta, if it has it. */
int df_meta_copy_param(
    struct df_meta *to, const struct df_meta *from, const char *key, struct df_err *err) DF_MUST_CHECK;
/* The JSON text of a parameter, NULL when absent.  Borrowed. */
const char *df_meta_param(const struct df_meta *m, const char *key);
/* Parsed forms; false when absent or of another type.  *s is a copy, free() it. */
bool df_meta_get_double(const struct df_meta *m, const char *key, double *v);
bool df_meta_get_str(const struct df_meta *m, const char *key, char **s);

/* Append the content of the root attributes: an object of the parameters, an array of {role, kind, id}. */
void df_meta_params_json(const struct df_meta *m, struct df_buf *out);
void df_meta_inputs_json(const struct df_meta *m, struct df_buf *out);

int df_meta_add_input(
    struct df_meta *m, const char *role, const char *kind, const char *id, struct df_err *err) DF_MUST_CHECK;
const struct df_input *df_meta_input(const struct df_meta *m, const char *role); /* the first, or NULL */
int df_meta_add_domain(struct df_meta *m, const char *name, uint16_t *index, struct df_err *err) DF_MUST_CHECK;
int df_meta_add_manifest(struct df_meta *m, const char *name, uint64_t offset, uint64_t rows, uint64_t cols,
    struct df_err *err) DF_MUST_CHECK;

/*
 * *m = the metadata of the file at `path`, and *rows (may be NULL) = its number of rows, without reading its
 * columns; m->id stays "" when the file has none.  Release m.  Errors as df_set_open.
 */
int df_meta_load(struct df_meta *m, const char *path, uint64_t *rows, struct df_err *err) DF_MUST_CHECK;

/*
 * Two artefacts must agree in the named parameters and input roles (both NULL-terminated lists): DF_ELINEAGE names
 * the two and the difference.  An artefact without lineage agrees with everything.
 */
int df_meta_agree(const struct df_meta *a, const char *a_name, const struct df_meta *b, const char *b_name,
    const char *const *params, const char *const *roles, struct df_err *err) DF_MUST_CHECK;

#endif

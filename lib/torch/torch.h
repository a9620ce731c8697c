/*
 * torch.h - what torch.save() wrote: a zip of one pickle and the bytes of its tensors.
 *
 *	NAME/data.pkl     a pickle: dictionaries, lists, numbers, strings, and where each tensor lies
 *	NAME/data/0 ..    the elements of the storages that it names, not compressed
 *	NAME/byteorder    "little"
 *
 * A pickle is a program for Python's unpickler and can call any function.  Nothing is ever called here: of its
 * instructions those are known that a state dict consists of, and of the names in it the storages' types,
 * torch._utils._rebuild_tensor_v2 and collections.OrderedDict, each of which stands for one kind of value.  All else is
 * refused, with its name and place.  What was read is a tree: no value contains itself, and none is deeper than 16.
 *
 * Errors name the file and the byte of the pickle: DF_EFORMAT (damaged, or not a state dict), DF_EUNSUPPORTED (a
 * compressed entry, big-endian numbers, torch's older format), DF_ENOINPUT.  Thread rule: an open file is immutable.
 */
#ifndef DF_TORCH_TORCH_H
#define DF_TORCH_TORCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "safetensors/safetensors.h"

struct df_torch;
int df_torch_open(struct df_torch **out, const char *path, struct df_err *err) DF_MUST_CHECK;
void df_torch_close(struct df_torch *t); /* accepts NULL */

enum df_torch_type {
	DF_TORCH_NONE,
	DF_TORCH_BOOL,
	DF_TORCH_INT,
	DF_TORCH_FLOAT,
	DF_TORCH_STR,
	DF_TORCH_LIST, /* and tuples */
	DF_TORCH_DICT,
	DF_TORCH_TENSOR,
	DF_TORCH_OTHER /* the name of a type, a storage */
};
struct df_torch_value;
const struct df_torch_value *df_torch_root(const struct df_torch *t);
/* Of these, all accept NULL and values of any type. */
enum df_torch_type df_torch_type(const struct df_torch_value *v);
const char *df_torch_type_name(const struct df_torch_value *v); /* "a list", for messages */
bool df_torch_bool(const struct df_torch_value *v);                 /* false for what is none */
bool df_torch_int(const struct df_torch_value *v, int64_t *out);    /* false: not an integer */
bool df_torch_double(const struct df_torch_value *v, double *out);  /* false: not a number */
const char *df_torch_str(const struct df_torch_value *v, size_t *n); /* not NUL-terminated; NULL: not a string */
bool df_torch_is(const struct df_torch_value *v, const char *s);     /* the string s */
size_t df_torch_size(const struct df_torch_value *v);                /* members of a list or dict, else 0 */
/* Member i of a list or dict and, of a dict, its key (may be NULL); i < df_torch_size(v). */
const struct df_torch_value *df_torch_at(
    const struct df_torch_value *v, size_t i, const struct df_torch_value **key);
/* The member with this key, or NULL; of equal keys the last, as in Python.  Looks at all: for small dicts. */
const struct df_torch_value *df_torch_get(const struct df_torch_value *v, const char *key);
/* Contiguous, its bytes inside the mapped file; its name is "".  NULL: not a tensor. */
const struct df_st_tensor *df_torch_tensor(const struct df_torch_value *v);

#endif

/*
 * pick_list.h - the entries of a list that names samples: a text with one on each line, or JSON (lines, or an array) of
 * objects with a member for it.
 */
#ifndef DF_DATA_PICK_LIST_H
#define DF_DATA_PICK_LIST_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/json.h"

struct df_pick_entry {
	size_t at, n;               /* its value in `text` */
	size_t dataset_at;          /* the name of its dataset in `text`, NUL at its end; SIZE_MAX: none is given */
	uint64_t place;             /* line (text, from 1) or row (JSON, from 0) */
};
struct df_pick_list {
	struct df_pick_entry *v;
	size_t n, cap;
	struct df_buf text;         /* values, NUL after each */
	bool is_json;
	char id[DF_DIGEST_HEX];     /* digest of the list's bytes */
};
#define DF_PICK_LIST_INIT { .v = NULL, .text = DF_BUF_INIT }

/*
 * Read the list ("-": standard input).  Each line has a value, or in front of it the name of a dataset and a tab where
 * `with_dataset`; empty lines are skipped and, unless `any_value`, those that begin with #.  Of JSON, `member` is the
 * value, and "dataset" the name of the dataset.  DF_EFORMAT names the place.
 */
int df_pick_list_read(struct df_pick_list *l, const char *path, const char *member, bool with_dataset, bool any_value,
    struct df_err *err) DF_MUST_CHECK;
void df_pick_list_release(struct df_pick_list *l);
/* Put the entry's place in front of an error. */
void df_pick_list_place(const struct df_pick_list *l, size_t i, const char *path, struct df_err *err);

/*
 * Append a scalar as text: a string as it is, a number or a truth value as JSON writes it.  false, and nothing is
 * appended, for null, absent values, arrays and objects.
 */
bool df_pick_value(struct df_buf *out, const struct df_json_value *v);

#endif

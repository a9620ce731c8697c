/*
 * subtasks.h - the groups of a target's rows: by domain, none, or from a file of labels.
 */
#ifndef DF_SELECT_SUBTASKS_H
#define DF_SELECT_SUBTASKS_H

#include "select/select.h"

struct df_subtasks {
	struct df_strlist names; /* of the subtasks that occur, by their lowest id; owned strings */
	uint32_t *of_row;        /* [n] by id of the row: its subtask */
	uint64_t n;              /* rows of the target */
};
extern const char *const df_subtasks_words[]; /* "domain", "none"; NULL-terminated: the choices beside a file */

/*
 * The subtasks of all rows of `set`, which `input` describes.  what: "domain" (one group where rows have no domain),
 * "none" (one group), or a text file with a label per line in order of the ids, or lines "id<TAB>label".  Release t
 * also after an error.  DF_ENOINPUT suggests the nearest word; DF_EFORMAT for labels that are not one per row.
 */
int df_subtasks_find(struct df_subtasks *t, const char *what, const struct df_select_input *input, struct df_set *set,
    struct df_err *err) DF_MUST_CHECK;
void df_subtasks_release(struct df_subtasks *t);
/* Their names as the parameter "subtasks": "a,b". */
int df_subtasks_record(const struct df_subtasks *t, struct df_meta *m, struct df_err *err) DF_MUST_CHECK;

#endif

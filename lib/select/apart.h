/*
 * apart.h - a selection that another process made, because its method is not to be trusted with this one.
 *
 *   parent: df_apart_open, fork,          df_apart_wait, df_apart_take: what was chosen, to be written
 *   child:           df_apart_reach as it goes, df_apart_give
 *
 * Whatever the child does, the parent learns what became of it; and nothing is written but a whole choice.
 *
 * Thread rule: fork before there are threads.
 */
#ifndef DF_SELECT_APART_H
#define DF_SELECT_APART_H

#include <stdbool.h>
#include <sys/types.h>

#include "select/select.h"

/* How far the child is. */
enum df_apart_stage {
	DF_APART_LOADING, /* foreign code may run */
	DF_APART_PARSING, /* ours: it may end, and has then said what there was to say */
	DF_APART_RUNNING, /* foreign code may run */
	DF_APART_TOLD,    /* it ends with an error, which it prints itself */
	DF_APART_DONE     /* a choice was given */
};

struct df_apart {
	struct df_apart_head *head; /* shared memory */
	int fd;                     /* its file */
};
int df_apart_open(struct df_apart *a, struct df_err *err) DF_MUST_CHECK;
void df_apart_close(struct df_apart *a);

/* In the child. */
void df_apart_reach(struct df_apart *a, enum df_apart_stage stage);

/* What is handed over. */
struct df_apart_choice {
	struct df_selection selection;
	char *index, *scores; /* names of the outputs, or NULL */
	bool quiet;
	int64_t verbose;
};
#define DF_APART_CHOICE_INIT { .selection = DF_SELECTION_INIT }
void df_apart_choice_release(struct df_apart_choice *c);
int df_apart_give(struct df_apart *a, const struct df_apart_choice *c, struct df_err *err) DF_MUST_CHECK;

/*
 * Wait for the child; a signal that asks this process to stop is handed on.  *status = its exit status when it has told
 * the user all there is to tell; -1 when it gave a choice.  Otherwise DF_EFORMAT: `who` crashed, or ended the process.
 */
int df_apart_wait(struct df_apart *a, pid_t child, const char *who, int *status, struct df_err *err) DF_MUST_CHECK;
/* The choice; release it, also after an error.  DF_EFORMAT for one that is damaged. */
int df_apart_take(struct df_apart *a, struct df_apart_choice *c, struct df_err *err) DF_MUST_CHECK;

#endif

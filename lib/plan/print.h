/*
 * print.h - what printers share: words for a shell, and which files are a plan's results.
 */
#ifndef DF_PLAN_PRINT_H
#define DF_PLAN_PRINT_H

#include "plan/plan.h"

extern const struct df_printer df_print_make, df_print_slurm, df_print_dry_run, df_print_dot;

/* Does a word mean itself in sh? */
bool df_print_is_plain(const char *s);
/* Append s as one word of sh: as it is, or in single quotes. */
void df_print_sh(struct df_buf *b, const char *s);

/* Is the node's work a result: does no other read a file of it? */
bool df_plan_is_result(const struct df_plan *p, const struct df_plan_node *n);

#endif

/* shell.h - commands and comments as a shell script has them. */
#ifndef DF_PLAN_SHELL_H
#define DF_PLAN_SHELL_H

#include <stdbool.h>

#include "base/buf.h"
#include "plan/plan.h"

/*
 * Append the node's command, without its redirection: lines of at most 112 columns, the later ones after `indent`.  The
 * word DF_PLAN_SHARD becomes `shard`.  No newline at the end.
 */
void df_print_command(struct df_buf *out, const struct df_plan_node *node, const char *shard, const char *indent);
/* A comment: `text` after `mark` and a space; further lines of the text have a mark of their own. */
void df_print_comment(struct df_buf *out, const char *mark, const char *text);
/* Does the command run the model?  Such commands need time and threads; the others are quick. */
bool df_plan_runs_model(const struct df_plan_node *node);

#endif

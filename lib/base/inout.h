/*
 * inout.h - no output replaces an input.
 *
 * A slip of tab completion, or a forgotten last word, can give an output the name of an input.  So a program notes
 * every file that it reads and every file that it will write, and refuses the second of two that clash, with both
 * names, before anything is written.  Names are noted at two places:
 *
 *     cmd/prog.c                         what the command line names, before any work (the roles in the option table)
 *     df_file_get, df_file_map,          what is really opened: files of datasets, weights of a
 *     df_set_open, df_atomic_*           model, shards
 *
 * A new program gets the second without any code of its own, and the first from its option table.
 *
 * Two names clash when they lead to one file (by device and inode, through symbolic and hard links), when they are the
 * same name after all links are followed, there or not, and when a directory that is to be replaced as a whole holds
 * the input.
 *
 * Nothing is noted until df_inout_on(): a user of the library is not restricted.  Any thread may call.
 */
#ifndef DF_BASE_INOUT_H
#define DF_BASE_INOUT_H

#include <stdbool.h>

#include "base/err.h"

void df_inout_on(void);
void df_inout_off(void); /* forget everything */

/*
 * This command reads `path` ("-": standard input).  `option` is the option that names it, as the user typed it
 * ("--train"), or NULL when a file is opened; it is for the message.  DF_EUSAGE when the file is one that the
 * command writes.
 */
int df_inout_read(const char *path, const char *option, struct df_err *err) DF_MUST_CHECK;

/*
 * This command will write `path` ("-" clashes with nothing).  `is_dir`: a directory that is replaced as a whole.
 * With an option, the name is held until the end, and a second option with the same name is refused too; without,
 * until df_inout_written().  DF_EUSAGE when it clashes.
 */
int df_inout_write(const char *path, const char *option, bool is_dir, struct df_err *err) DF_MUST_CHECK;
void df_inout_written(const char *path);

/*
 * The directory `path` is this command's own: what it keeps there (logs, checkpoints) it reads back, and writes again.
 * Only inputs that an option names are noted below it.  The same for a single file that is read, to be written with
 * something added.
 */
int df_inout_own(const char *path, struct df_err *err) DF_MUST_CHECK;

#endif

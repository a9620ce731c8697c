/*
 * path.h - names of files: joined, taken apart, and followed to where they lead.
 */
#ifndef DF_BASE_PATH_H
#define DF_BASE_PATH_H

#include "base/err.h"

/* *out = "dir/name" ("name" when dir is NULL, "" or "."; name alone when absolute).  free() it. */
int df_path_join(char **out, const char *dir, const char *name, struct df_err *err) DF_MUST_CHECK;
const char *df_path_base(const char *path); /* the part after the last '/' */
/* *path (free()able) becomes the name at the end of its symbolic links, there or not.  DF_ECREATE: a circle of links. */
int df_path_follow(char **path, struct df_err *err) DF_MUST_CHECK;
/*
 * *out = the absolute name with all symbolic links followed, also where the file, or the last directories before it,
 * are not there yet.  free() it.
 */
int df_path_real(char **out, const char *path, struct df_err *err) DF_MUST_CHECK;

#endif

/*
 * file.h - files and directories that appear whole or not at all.
 *
 * Writing goes to `DIR/.NAME.df-tmp`, beside the target and locked against a second writer; commit is fsync,
 * rename, fsync of the directory.  The temporary name is fixed, so the next writer replaces what a kill -9 left,
 * and such files never accumulate.
 */
#ifndef DF_BASE_FILE_H
#define DF_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/path.h"

struct df_atomic {
	char *path; /* the final name */
	char *tmp;  /* write here until commit; a file or, for df_atomic_mkdir, a directory */
	int lock_fd;
	bool is_dir;
};
#define DF_ATOMIC_INIT { NULL, NULL, -1, false }

/*
 * Reserve the temporary name for `path`, or for what it leads to when it is a symbolic link: a
 * stale one is removed first; a live
 * writer of the same target is DF_ECREATE ("another process is writing it").
 * df_atomic_open leaves creating the file a->tmp to the caller; df_atomic_mkdir
 * creates the directory.
 */
int df_atomic_open(struct df_atomic *a, const char *path, struct df_err *err) DF_MUST_CHECK;
int df_atomic_mkdir(struct df_atomic *a, const char *path, struct df_err *err) DF_MUST_CHECK;
/* fsync everything written, rename over `path` (a directory replaces an old one), fsync the parent. */
int df_atomic_commit(struct df_atomic *a, struct df_err *err) DF_MUST_CHECK;
/* Remove what was written.  Safe after commit, and when nothing was opened. */
void df_atomic_discard(struct df_atomic *a);

/* Write n bytes as the whole content of `path`, atomically. */
int df_file_put(const char *path, const void *data, size_t n, struct df_err *err) DF_MUST_CHECK;
/*
 * *data = the whole file (NUL-terminated, free() it), *n its size without the
 * NUL.  More than `limit` bytes is DF_ERANGE; "-" reads standard input.
 */
int df_file_get(const char *path, size_t limit, char **data, size_t *n, struct df_err *err) DF_MUST_CHECK;
/* A read-only mapping of the whole file; empty files give *data = NULL. */
int df_file_map(const char *path, const void **data, size_t *n, struct df_err *err) DF_MUST_CHECK;
void df_file_unmap(const void *data, size_t n);
/*
 * The n bytes at data, in a mapping, are not needed soon: pages that lie in them no longer count as this process's
 * memory.  They can be read as before; they come from the file again.
 */
void df_file_forget(const void *data, size_t n);

/*
 * *there = does something with this name exist?  DF_ENOINPUT, with the reason, when that cannot be found out (no
 * permission, a loop of links, a name that is too long).  The plain forms answer no in that case, and keep errno.
 */
int df_file_probe(const char *path, bool *there, struct df_err *err) DF_MUST_CHECK;
int df_file_probe_in(const char *dir, const char *name, bool *there, struct df_err *err) DF_MUST_CHECK; /* dir/name */
bool df_file_exists(const char *path);
bool df_file_is_dir(const char *path);
int df_mkdirs(const char *path, struct df_err *err) DF_MUST_CHECK; /* as mkdir -p */
int df_rmtree(const char *path, struct df_err *err) DF_MUST_CHECK; /* as rm -rf, refuses "/" and "" */
/* write(2)/read(2) until done; a short read is DF_EFORMAT "truncated", EPIPE and ENOSPC are DF_EIO. */
int df_write_all(int fd, const void *data, size_t n, struct df_err *err) DF_MUST_CHECK;
int df_read_all(int fd, void *data, size_t n, struct df_err *err) DF_MUST_CHECK;

#endif

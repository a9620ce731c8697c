/*
 * file.c - outputs that appear whole or not at all.
 *
 * A target DIR/NAME has two companions while it is written:
 *
 *     DIR/.NAME.df-tmp    what will become the target
 *     DIR/.NAME.df-lock   empty; flock(2)ed by the writer
 *
 * The lock is a file of its own because HDF5 flocks the files it opens, and because a directory target needs one
 * too.  Names are fixed, so the next writer of that target finds what a kill left:
 *
 *     killed while                    left behind             the next writer
 *     writing                         .df-tmp, .df-lock       takes the lock, removes .df-tmp
 *     between rename and unlock       target, .df-lock        takes the lock, writes again
 *     replacing a directory           target, .df-tmp (the    takes the lock, removes .df-tmp
 *                                     old one), .df-lock
 *     the same, on a filesystem       .df-old, .df-tmp,       takes the lock, gives .df-old its
 *     that cannot exchange names      .df-lock                name back, removes .df-tmp
 *
 * The kernel drops a dead process's flock, so a lock file alone never blocks anyone.  The writer unlinks the lock
 * before closing it; a process that opened that inode meanwhile sees, after locking, that the name no longer leads
 * to it, and starts again.  A filesystem without flock (some NFS) gives no protection against a second writer, only
 * atomicity.
 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/inout.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"

/* *out = DIR/.NAME.SUFFIX for path DIR/NAME. */
static int
companion(char **out, const char *path, const char *suffix, struct df_err *err)
{
	const char *base = df_path_base(path);

	return df_asprintf(out, err, "%.*s.%s.%s", (int)(base - path), path, base, suffix);
}

/* fsync a file or directory.  A filesystem that cannot fsync a directory returns EINVAL; that is no error here. */
static int
sync_path(const char *path, struct df_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = DF_OK;

	/* A directory that we may write to but not read.  The files in it were synced one by one. */
	if (fd < 0 && errno == EACCES && df_file_is_dir(path))
		return DF_OK;
	if (fd < 0)
		return df_fail(err, DF_EIO, "%s:", path);
	if (fsync(fd) != 0 && errno != EINVAL && errno != EROFS)
		rc = df_fail(err, DF_EIO, "%s:", path);
	close(fd);
	return rc;
}

static int
sync_parent(const char *path, struct df_err *err)
{
	const char *base = df_path_base(path);
	char *dir = NULL;
	int rc;

	DF_TRY(base == path ? df_strdup(&dir, ".", err) : df_strndup(&dir, path, (size_t)(base - path), err));
	DF_TRY(sync_path(dir, err));
out:
	free(dir);
	return rc;
}

static bool
no_locks_here(int e)
{
	return e == ENOLCK || e == EOPNOTSUPP || e == EINVAL || e == ENOSYS;
}

static int
take_lock(struct df_atomic *a, const char *lock, struct df_err *err)
{
	for (;;) {
		struct stat by_fd, by_name;
		int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);

		if (fd < 0)
			return df_fail(err, DF_ECREATE, "%s: cannot create:", a->path);
		if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
			if (errno == EWOULDBLOCK) {
				close(fd);
				return df_fail(err, DF_ECREATE, "%s: another process is writing it", a->path);
			}
			if (!no_locks_here(errno)) {
				df_fail(err, DF_ECREATE, "%s: cannot lock:", lock);
				close(fd);
				return DF_ECREATE;
			}
			df_debug("%s: this filesystem has no locks; two writers at once are not noticed", a->path);
		}
		if (fstat(fd, &by_fd) == 0 && stat(lock, &by_name) == 0 && by_fd.st_ino == by_name.st_ino &&
		    by_fd.st_dev == by_name.st_dev) {
			a->lock_fd = fd;
			return DF_OK;
		}
		/* The last owner of the lock finished and unlinked it between our open and our lock. */
		close(fd);
	}
}

static void
drop_lock(struct df_atomic *a)
{
	char *lock = NULL;

	if (a->lock_fd < 0)
		return;
	if (companion(&lock, a->path, "df-lock", NULL) == DF_OK)
		unlink(lock);
	free(lock);
	close(a->lock_fd);
	a->lock_fd = -1;
}

static void
forget(struct df_atomic *a)
{
	if (a->path)
		df_inout_written(a->path);
	drop_lock(a);
	free(a->path);
	free(a->tmp);
	*a = (struct df_atomic)DF_ATOMIC_INIT;
}

/* The new directory takes the name; the old one takes the temporary name and is removed. */
static int
replace_dir(struct df_atomic *a, struct df_err *err)
{
	char *old = NULL;
	int rc;

	if (renameat2(AT_FDCWD, a->tmp, AT_FDCWD, a->path, RENAME_EXCHANGE) == 0)
		return df_rmtree(a->tmp, err);
	if (errno != EINVAL && errno != ENOSYS)
		return df_fail(err, DF_ECREATE, "%s: cannot replace:", a->path);
	/*
	 * This filesystem cannot exchange names: for a moment neither directory has the final name, but both are
	 * whole.
	 */
	DF_TRY(companion(&old, a->path, "df-old", err));
	if (rename(a->path, old) != 0 || rename(a->tmp, a->path) != 0)
		rc = df_fail(err, DF_ECREATE, "%s: cannot replace:", a->path);
	else
		rc = df_rmtree(old, err);
out:
	free(old);
	return rc;
}

/*
 * If a writer was killed in that moment, the old directory gets its name back; if it was killed later, the old one
 * is removed.
 */
static int
recover_old(struct df_atomic *a, struct df_err *err)
{
	char *old = NULL;
	int rc;

	DF_TRY(companion(&old, a->path, "df-old", err));
	if (df_file_exists(a->path))
		DF_TRY(df_rmtree(old, err));
	else if (rename(old, a->path) != 0 && errno != ENOENT)
		rc = df_fail(err, DF_ECREATE, "%s: cannot rename:", old);
out:
	free(old);
	return rc;
}

static int
begin(struct df_atomic *a, const char *path, bool is_dir, struct df_err *err)
{
	size_t n = strlen(path);
	struct stat st;
	const char *base;
	char *lock = NULL;
	int rc;

	*a = (struct df_atomic)DF_ATOMIC_INIT;
	a->is_dir = is_dir;
	while (is_dir && n > 1 && path[n - 1] == '/')
		n--;
	DF_TRY(df_strndup(&a->path, path, n, err));
	/* A symbolic link stays; its target is written. */
	DF_TRY(df_path_follow(&a->path, err));
	base = df_path_base(a->path);
	if (*base == '\0' || strcmp(base, ".") == 0 || strcmp(base, "..") == 0) {
		rc = df_fail(err, DF_ECREATE, "'%s' is not a name to write to", path);
		goto out;
	}
	/* Renaming over a device or a pipe would replace it: -o /dev/null must not. */
	if (stat(a->path, &st) == 0) {
		if (!is_dir && S_ISDIR(st.st_mode)) {
			rc = df_fail(err, DF_ECREATE, "%s: is a directory", a->path);
			goto out;
		}
		if (is_dir && !S_ISDIR(st.st_mode)) {
			rc = df_fail(err, DF_ECREATE, "%s: exists and is not a directory", a->path);
			goto out;
		}
		if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
			rc = df_fail(err, DF_ECREATE, "%s: exists and is not a regular file", a->path);
			goto out;
		}
	}
	DF_TRY(df_inout_write(a->path, NULL, is_dir, err));
	DF_TRY(companion(&a->tmp, a->path, "df-tmp", err));
	DF_TRY(companion(&lock, a->path, "df-lock", err));
	DF_TRY(take_lock(a, lock, err));
	DF_TRY(df_rmtree(a->tmp, err));
	if (is_dir)
		DF_TRY(recover_old(a, err));
	if (is_dir && mkdir(a->tmp, 0777) != 0)
		rc = df_fail(err, DF_ECREATE, "%s: cannot create:", a->tmp);
out:
	free(lock);
	if (rc != DF_OK)
		forget(a);
	return rc;
}

int
df_atomic_open(struct df_atomic *a, const char *path, struct df_err *err)
{
	return begin(a, path, false, err);
}

int
df_atomic_mkdir(struct df_atomic *a, const char *path, struct df_err *err)
{
	return begin(a, path, true, err);
}

static int
sync_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	/* A symbolic link has no content to sync. */
	return type == FTW_SL || type == FTW_SLN || sync_path(path, NULL) == DF_OK ? 0 : -1;
}

int
df_atomic_commit(struct df_atomic *a, struct df_err *err)
{
	int rc;

	if (a->is_dir) {
		if (nftw(a->tmp, sync_entry, 16, FTW_PHYS) != 0) {
			rc = df_fail(err, DF_EIO, "%s: cannot sync:", a->tmp);
			goto out;
		}
	} else {
		DF_TRY(sync_path(a->tmp, err));
	}
	if (rename(a->tmp, a->path) != 0) {
		if (!a->is_dir || (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR)) {
			rc = df_fail(err, DF_ECREATE, "%s: cannot rename:", a->path);
			goto out;
		}
		DF_TRY(replace_dir(a, err));
	}
	DF_TRY(sync_parent(a->path, err));
	forget(a);
	return DF_OK;
out:
	df_atomic_discard(a);
	return rc;
}

void
df_atomic_discard(struct df_atomic *a)
{
	int saved = errno;

	/* Without the lock the temporary file may belong to another writer: do not remove it. */
	if (a->lock_fd >= 0 && df_rmtree(a->tmp, NULL) != DF_OK)
		df_warn("%s: cannot remove", a->tmp);
	forget(a);
	errno = saved;
}

int
df_file_put(const char *path, const void *data, size_t n, struct df_err *err)
{
	struct df_atomic a = DF_ATOMIC_INIT;
	int fd = -1, rc;

	DF_TRY(df_atomic_open(&a, path, err));
	fd = open(a.tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0) {
		rc = df_fail(err, DF_ECREATE, "%s: cannot create:", a.tmp);
		goto out;
	}
	if ((rc = df_write_all(fd, data, n, err)) != DF_OK) {
		df_err_prefix(err, "%s: ", path);
		goto out;
	}
	if (close(fd) != 0) {
		fd = -1;
		rc = df_fail(err, DF_EIO, "%s:", path);
		goto out;
	}
	fd = -1;
	DF_TRY(df_atomic_commit(&a, err));
out:
	if (fd >= 0)
		close(fd);
	df_atomic_discard(&a);
	return rc;
}

int
df_file_get(const char *path, size_t limit, char **data, size_t *n, struct df_err *err)
{
	bool is_stdin = strcmp(path, "-") == 0;
	const char *name = is_stdin ? "standard input" : path;
	int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC), rc = DF_OK;
	char *buf = NULL;
	size_t cap = 0, len = 0;
	struct stat st;

	if (fd < 0)
		return df_fail(err, DF_ENOINPUT, "%s:", path);
	DF_TRY(df_inout_read(path, NULL, err));
	if (fstat(fd, &st) == 0) {
		if (S_ISDIR(st.st_mode)) {
			rc = df_fail(err, DF_ENOINPUT, "%s: is a directory", name);
			goto out;
		}
		if (S_ISREG(st.st_mode) && (uint64_t)st.st_size <= limit)
			DF_TRY(df_grow(&buf, &cap, (size_t)st.st_size + 2, 1, name, err));
	}
	for (;;) {
		ssize_t got;

		DF_TRY(df_grow(&buf, &cap, len + 4096, 1, name, err));
		/* One byte is kept for the NUL. */
		got = read(fd, buf + len, cap - len - 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			rc = df_fail(err, DF_EIO, "%s:", name);
			goto out;
		}
		if (got == 0)
			break;
		len += (size_t)got;
		if (len > limit) {
			rc = df_fail(err, DF_ERANGE, "%s: larger than %zu bytes", name, limit);
			goto out;
		}
	}
	buf[len] = '\0';
	*data = buf;
	*n = len;
	buf = NULL;
out:
	free(buf);
	if (!is_stdin)
		close(fd);
	return rc;
}

int
df_file_map(const char *path, const void **data, size_t *n, struct df_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = DF_OK;
	struct stat st;
	void *p = NULL;

	if (fd < 0)
		return df_fail(err, DF_ENOINPUT, "%s:", path);
	if (fstat(fd, &st) != 0) {
		rc = df_fail(err, DF_EIO, "%s:", path);
	} else if ((rc = df_inout_read(path, NULL, err)) != DF_OK) {
		; /* it is an output */
	} else if (!S_ISREG(st.st_mode)) {
		rc = df_fail(err, DF_ENOINPUT, "%s: not a regular file", path);
	} else if (st.st_size > 0) {
		p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (p == MAP_FAILED)
			rc = df_fail(err, errno == ENOMEM ? DF_ENOMEM : DF_EIO, "%s: cannot map:", path);
	}
	close(fd);
	if (rc == DF_OK) {
		*data = p;
		*n = (size_t)st.st_size;
	}
	return rc;
}

void
df_file_unmap(const void *data, size_t n)
{
	if (data)
		munmap((void *)(uintptr_t)data, n);
}

void
df_file_forget(const void *data, size_t n)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)data;
	const uintptr_t first = (at + page - 1) / page * page, end = (at + n) / page * page;

	if (first < end)
		madvise((void *)first, end - first, MADV_DONTNEED);
}

int
df_file_probe(const char *path, bool *there, struct df_err *err)
{
	struct stat st;

	*there = stat(path, &st) == 0;
	return *there || errno == ENOENT || errno == ENOTDIR ? DF_OK : df_fail(err, DF_ENOINPUT, "%s:", path);
}

int
df_file_probe_in(const char *dir, const char *name, bool *there, struct df_err *err)
{
	char *path = NULL;
	int rc;

	DF_TRY(df_path_join(&path, dir, name, err));
	rc = df_file_probe(path, there, err);
out:
	free(path);
	return rc;
}

/* stat(2) that keeps errno, so that an error that is about to be reported is not lost. */
static bool
look(const char *path, struct stat *st)
{
	int saved = errno;
	bool there = stat(path, st) == 0;

	errno = saved;
	return there;
}

bool
df_file_exists(const char *path)
{
	struct stat st;

	return look(path, &st);
}

bool
df_file_is_dir(const char *path)
{
	struct stat st;

	return look(path, &st) && S_ISDIR(st.st_mode);
}

int
df_mkdirs(const char *path, struct df_err *err)
{
	char *copy = NULL;
	int rc;

	DF_TRY(df_strdup(&copy, path, err));
	for (char *p = copy; *p;) {
		char end;

		while (*p == '/')
			p++;
		while (*p && *p != '/')
			p++;
		end = *p;
		*p = '\0';
		if (mkdir(copy, 0777) != 0 && !df_file_is_dir(copy)) {
			rc = df_fail(err, DF_ECREATE, "%s: cannot create directory:", copy);
			goto out;
		}
		*p = end;
	}
out:
	free(copy);
	return rc;
}

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	if (remove(path) == 0 || errno == ENOENT)
		return 0;
	/* A directory that could not be read is not therefore empty. */
	if (type == FTW_DNR)
		errno = EACCES;
	return -1;
}

int
df_rmtree(const char *path, struct df_err *err)
{
	size_t n = strlen(path);

	while (n > 0 && path[n - 1] == '/')
		n--;
	if (n == 0)
		return df_fail(err, DF_EUSAGE, "refusing to remove '%s'", path);
	if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
		return df_fail(err, DF_EIO, "%s: cannot remove:", path);
	return DF_OK;
}

int
df_write_all(int fd, const void *data, size_t n, struct df_err *err)
{
	const char *p = data;

	while (n > 0) {
		ssize_t put = write(fd, p, n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return df_fail(err, DF_EIO, "cannot write:");
		p += put;
		n -= (size_t)put;
	}
	return DF_OK;
}

int
df_read_all(int fd, void *data, size_t n, struct df_err *err)
{
	char *p = data;

	while (n > 0) {
		ssize_t got = read(fd, p, n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return df_fail(err, DF_EIO, "cannot read:");
		if (got == 0)
			return df_fail(err, DF_EFORMAT, "truncated: %zu bytes are missing", n);
		p += got;
		n -= (size_t)got;
	}
	return DF_OK;
}

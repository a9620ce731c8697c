/*
 * killat.c - an LD_PRELOAD shim: the process is killed in the middle of its
 * N-th change to the file system.
 *
 *   DF_KILL_AT=N      kill -9 at the N-th of these calls, counted from 1: a write
 *                     gets half of its bytes out, any other does nothing
 *   DF_TERM_AT=N      SIGTERM before the N-th call, which is then done
 *   DF_KILL_COUNT=F   the number of calls goes to the file F at the end
 *
 * A clock finds the long stretches of a run, this finds the short ones: between
 * the last write and the rename, between two renames.  Pipes and terminals do
 * not count.  Nothing here allocates: it may run before everything else.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;

static void
die(void)
{
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

static long
number(const char *name)
{
	const char *s = getenv(name);

	return s ? atol(s) : 0;
}

/* Is it this call's turn to be the last? */
static int
last(void)
{
	long n = atomic_fetch_add(&calls, 1) + 1;

	if (n == number("DF_TERM_AT"))
		kill(getpid(), SIGTERM);
	return n == number("DF_KILL_AT");
}

static int
regular(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static void *
next(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

ssize_t
write(int fd, const void *data, size_t n)
{
	if (regular(fd) && last()) {
		syscall(SYS_write, fd, data, n / 2);
		die();
	}
	return ((ssize_t(*)(int, const void *, size_t))next("write"))(fd, data, n);
}

ssize_t
pwrite(int fd, const void *data, size_t n, off_t at)
{
	if (regular(fd) && last()) {
		syscall(SYS_pwrite64, fd, data, n / 2, at);
		die();
	}
	return ((ssize_t(*)(int, const void *, size_t, off_t))next("pwrite"))(fd, data, n, at);
}

ssize_t
pwrite64(int fd, const void *data, size_t n, off_t at)
{
	return pwrite(fd, data, n, at);
}

ssize_t
writev(int fd, const struct iovec *v, int n)
{
	if (regular(fd) && last())
		die();
	return ((ssize_t(*)(int, const struct iovec *, int))next("writev"))(fd, v, n);
}

int
rename(const char *from, const char *to)
{
	if (last())
		die();
	return ((int (*)(const char *, const char *))next("rename"))(from, to);
}

int
renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	if (last())
		die();
	return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}

int
fsync(int fd)
{
	if (last())
		die();
	return ((int (*)(int))next("fsync"))(fd);
}

int
ftruncate(int fd, off_t n)
{
	if (last())
		die();
	return ((int (*)(int, off_t))next("ftruncate"))(fd, n);
}

int
ftruncate64(int fd, off_t n)
{
	return ftruncate(fd, n);
}

int
unlink(const char *path)
{
	if (last())
		die();
	return ((int (*)(const char *))next("unlink"))(path);
}

int
remove(const char *path)
{
	if (last())
		die();
	return ((int (*)(const char *))next("remove"))(path);
}

int
mkdir(const char *path, mode_t mode)
{
	if (last())
		die();
	return ((int (*)(const char *, mode_t))next("mkdir"))(path, mode);
}

__attribute__((destructor)) static void
tell(void)
{
	const char *path = getenv("DF_KILL_COUNT");
	char text[32];
	int fd, n;

	if (!path || (fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666)) < 0)
		return;
	n = snprintf(text, sizeof(text), "%ld\n", atomic_load(&calls));
	syscall(SYS_write, fd, text, (size_t)n);
	close(fd);
}

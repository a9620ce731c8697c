/*
 * diskfull.c - an LD_PRELOAD shim: the disk is full after so many bytes.
 *
 *   DF_DISK_BYTES=N   after N bytes written to regular files every further
 *                     write fails with ENOSPC
 *
 * Terminals, pipes and sockets are spared: words still reach the tester.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long left = -1; /* -1: not read yet; -2: no limit */

/* 0 when n more bytes may go to fd; -1 with errno otherwise. */
static int
charge(int fd, size_t n)
{
	struct stat st;
	long now = atomic_load(&left);

	if (now == -1) {
		const char *s = getenv("DF_DISK_BYTES");

		now = s ? atol(s) : -2;
		atomic_store(&left, now);
	}
	if (now == -2 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return 0;
	if ((long)n > now) {
		errno = ENOSPC;
		return -1;
	}
	atomic_fetch_sub(&left, (long)n);
	return 0;
}

ssize_t
write(int fd, const void *data, size_t n)
{
	static ssize_t (*next)(int, const void *, size_t);

	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "write");
	return charge(fd, n) ? -1 : next(fd, data, n);
}

static ssize_t
positioned(const char *name, int fd, const void *data, size_t n, off_t at)
{
	ssize_t (*next)(int, const void *, size_t, off_t);

	*(void **)&next = dlsym(RTLD_NEXT, name);
	return charge(fd, n) ? -1 : next(fd, data, n, at);
}

ssize_t
pwrite(int fd, const void *data, size_t n, off_t at)
{
	return positioned("pwrite", fd, data, n, at);
}

ssize_t
pwrite64(int fd, const void *data, size_t n, off_t at)
{
	return positioned("pwrite64", fd, data, n, at);
}

ssize_t
writev(int fd, const struct iovec *v, int n)
{
	static ssize_t (*next)(int, const struct iovec *, int);
	size_t total = 0;

	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "writev");
	for (int i = 0; i < n; i++)
		total += v[i].iov_len;
	return charge(fd, total) ? -1 : next(fd, v, n);
}

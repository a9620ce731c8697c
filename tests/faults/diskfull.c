/*
 * diskfull.c - an LD_PRELOAD shim: a disk that is full, or that cannot keep what it took.
 *
 *   DF_DISK_BYTES=N   after N bytes written to regular files every further
 *                     write fails with ENOSPC; the one that crosses the line is cut
 *   DF_DISK_SYNC=no   fsync fails with EIO
 *
 * Terminals, pipes and sockets are spared: words still reach the tester.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long left = -1; /* -1: not read yet; -2: no limit */

/* How many of n bytes may go to fd, at least 1; or -1 with errno. */
static ssize_t
charge(int fd, size_t n)
{
	struct stat st;
	long now = atomic_load(&left);

	if (now == -1) {
		const char *s = getenv("DF_DISK_BYTES");

		now = s ? atol(s) : -2;
		atomic_store(&left, now);
	}
	if (now == -2 || n == 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return (ssize_t)n;
	if (now == 0) {
		errno = ENOSPC;
		return -1;
	}
	if ((long)n > now)
		n = (size_t)now;
	atomic_fetch_sub(&left, (long)n);
	return (ssize_t)n;
}

ssize_t
write(int fd, const void *data, size_t n)
{
	ssize_t (*next)(int, const void *, size_t);
	ssize_t allowed = charge(fd, n);

	*(void **)&next = dlsym(RTLD_NEXT, "write");
	return allowed < 0 ? -1 : next(fd, data, (size_t)allowed);
}

ssize_t
pwrite(int fd, const void *data, size_t n, off_t at)
{
	ssize_t (*next)(int, const void *, size_t, off_t);
	ssize_t allowed = charge(fd, n);

	*(void **)&next = dlsym(RTLD_NEXT, "pwrite");
	return allowed < 0 ? -1 : next(fd, data, (size_t)allowed, at);
}

ssize_t
pwrite64(int fd, const void *data, size_t n, off_t at)
{
	return pwrite(fd, data, n, at);
}

ssize_t
writev(int fd, const struct iovec *v, int n)
{
	ssize_t (*next)(int, const struct iovec *, int);
	size_t total = 0;
	ssize_t allowed;

	for (int i = 0; i < n; i++)
		total += v[i].iov_len;
	allowed = charge(fd, total);
	if (allowed != (ssize_t)total) {
		errno = ENOSPC; /* short writes are write()'s business */
		return -1;
	}
	*(void **)&next = dlsym(RTLD_NEXT, "writev");
	return next(fd, v, n);
}

int
fsync(int fd)
{
	int (*next)(int);
	const char *s = getenv("DF_DISK_SYNC");

	if (s && strcmp(s, "no") == 0) {
		errno = EIO;
		return -1;
	}
	*(void **)&next = dlsym(RTLD_NEXT, "fsync");
	return next(fd);
}

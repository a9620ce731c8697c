/*
 * read_floor.c - what reading a file costs at least: every byte once, and one checksum over it.
 *
 *   read_floor THREADS FILE      prints the sum of the checksums (Fletcher32) of its pieces of 1 MiB
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/pool.h"
#include "shard/codec.h"

#define PIECE ((size_t)1 << 20)

struct floor {
	int fd;
	char **buf; /* [threads] */
	_Atomic uint64_t sum;
	_Atomic int failed;
};

static void
piece(void *ctx, size_t i, int worker)
{
	struct floor *f = ctx;
	const ssize_t n = pread(f->fd, f->buf[worker], PIECE, (off_t)(i * PIECE));

	if (n <= 0)
		f->failed = 1;
	else
		f->sum += df_fletcher32(f->buf[worker], (size_t)n);
}

int
main(int argc, char **argv)
{
	struct floor f = { .fd = argc == 3 ? open(argv[2], O_RDONLY) : -1 };
	const int threads = argc == 3 ? atoi(argv[1]) : 0;
	struct df_pool *pool = NULL;
	struct stat st;

	if (threads < 1 || f.fd < 0 || fstat(f.fd, &st) != 0 ||
	    (f.buf = calloc((size_t)threads, sizeof(*f.buf))) == NULL) {
		fprintf(stderr, "usage: read_floor THREADS FILE\n");
		return 64;
	}
	for (int i = 0; i < threads; i++)
		if (df_alloc(&f.buf[i], PIECE, 1, "a piece", NULL) != DF_OK)
			return 71;
	if (df_pool_new(&pool, threads, NULL) != DF_OK)
		return 71;
	df_pool_for(pool, ((size_t)st.st_size + PIECE - 1) / PIECE, piece, &f);
	df_pool_free(pool);
	printf("%llu\n", (unsigned long long)f.sum);
	return f.failed ? 74 : 0;
}

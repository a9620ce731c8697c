/*
 * driver.c - runs a fuzz target without libFuzzer: every seed of its corpus, each
 * cut short at many places and with bytes changed, always the same ones.  A
 * seed with its mutants is a TAP case, in a process of its own, so that a crash names its input.
 */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/rng.h"
#include "fuzz.h"

#define MUTANTS  150
#define CUTS     50
#define SEED_MAX ((size_t)1 << 20)

/* Characters that mean something to JSON, YAML and CSV, and values at the edges of binary headers. */
static const unsigned char bytes[] = "{}[]\",:\\-0123456789eE.truefalsn\n\r\t#&*!|>%@`'~ \x00\x01\x7f\x80\xc0\xff";

static uint32_t
draw(uint64_t seed, uint32_t i, uint32_t below)
{
	uint32_t out[4];

	df_philox((uint32_t[4]){ i, 0, 0, 0 }, (uint32_t[2]){ (uint32_t)seed, 0 }, out);
	return out[0] % below;
}

/* Mutant m of the seed; returns its length. */
static size_t
mutate(uint8_t *to, const uint8_t *seed, size_t n, uint32_t m)
{
	uint32_t edits, k = 0;

	memcpy(to, seed, n);
	if (m < CUTS)
		return n * m / CUTS;
	edits = 1 + draw(m, k++, 4);
	for (; edits > 0 && n > 0; edits--) {
		size_t at = draw(m, k, (uint32_t)n), to_at = draw(m, k + 1, (uint32_t)n);
		size_t len = 1 + draw(m, k + 2, 16);

		switch (draw(m, k + 3, 4)) {
		case 0: to[at] = bytes[draw(m, k + 4, sizeof(bytes))]; break;
		case 1: to[at] ^= (uint8_t)(1u << draw(m, k + 4, 8)); break;
		case 2: /* a piece from elsewhere */
			len = len > n - at ? n - at : len;
			len = len > n - to_at ? n - to_at : len;
			memmove(to + to_at, to + at, len);
			break;
		default: /* a piece left out */
			len = len > n - at ? n - at : len;
			memmove(to + at, to + at + len, n - at - len);
			n -= len;
		}
		k += 5;
	}
	return n;
}

static void
run_seed(const uint8_t *seed, size_t n, volatile uint32_t *at)
{
	for (uint32_t m = 0; m <= MUTANTS; m++) {
		uint8_t *copy = malloc(n + 1); /* of its exact size, so that a sanitizer sees reads beyond */
		size_t len;

		if (copy == NULL)
			exit(1);
		*at = m;
		len = n;
		memcpy(copy, seed, n);
		if (m > 0)
			len = mutate(copy, seed, n, m - 1);
		copy = realloc(copy, len > 0 ? len : 1);
		LLVMFuzzerTestOneInput(copy, len);
		free(copy);
	}
}

static int
run_file(const char *dir, const char *name, volatile uint32_t *at)
{
	static uint8_t seed[SEED_MAX];
	char path[2 * PATH_MAX];
	int status = -1;
	size_t n;
	FILE *f;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "rb");
	if (f == NULL)
		return -1;
	n = fread(seed, 1, sizeof(seed), f);
	fclose(f);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		run_seed(seed, n, at);
		exit(0);
	}
	waitpid(pid, &status, 0);
	return status;
}

static int
visible(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

int
main(int argc, char **argv)
{
	const char *src = getenv("DF_SRCDIR"), *name = strrchr(argv[0], '/');
	volatile uint32_t *at = mmap(NULL, sizeof(*at), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct dirent **list;
	char dir[PATH_MAX];
	int n, bad = 0;

	name = name != NULL ? name + 1 : argv[0];
	snprintf(dir, sizeof(dir), "%s/tests/fuzz/corpus/%s", src != NULL ? src : ".", name + strlen("fuzz_"));
	if (argc > 1)
		snprintf(dir, sizeof(dir), "%s", argv[1]);
	n = scandir(dir, &list, visible, alphasort);
	if (n <= 0 || at == MAP_FAILED) {
		fprintf(stderr, "%s: no seeds\n", dir);
		return 1;
	}
	printf("1..%d\n", n);
	for (int i = 0; i < n; i++) {
		int status = run_file(dir, list[i]->d_name, at);

		if (status == 0) {
			printf("ok %d - %s and its mutants\n", i + 1, list[i]->d_name);
		} else {
			bad = 1;
			printf("not ok %d - %s: mutant %u, wait status %d\n", i + 1, list[i]->d_name, *at, status);
		}
		free(list[i]);
	}
	free(list);
	return bad;
}

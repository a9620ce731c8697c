/* fuzz_shards.c - the shards of one artefact, each after its length as u32. */
#include "fuzz.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SHARDS_MAX 4

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const uint8_t *part[SHARDS_MAX];
	size_t len[SHARDS_MAX], count = 0;
	char path[PATH_MAX + 64], name[64];

	for (uint32_t said; n > 0 && count < SHARDS_MAX; count++) {
		said = 0;
		memcpy(&said, data, n < sizeof(said) ? n : sizeof(said));
		data += n < sizeof(said) ? n : sizeof(said);
		n -= n < sizeof(said) ? n : sizeof(said);
		part[count] = data;
		len[count] = said < n ? said : n;
		data += len[count];
		n -= len[count];
	}
	for (size_t i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "x.%05zu-of-%05zu.h5", i + 1, count);
		fuzz_put(name, part[i], len[i]);
	}
	snprintf(path, sizeof(path), "%s/x.h5", fuzz_dir());
	fuzz_read(path);
	for (size_t i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%s/x.%05zu-of-%05zu.h5", fuzz_dir(), i + 1, count);
		unlink(path);
	}
	return 0;
}

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed)
{
	return fuzz_mutate(data, n, max, seed);
}

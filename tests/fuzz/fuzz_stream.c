/* fuzz_stream.c - a stream, which a file may hold, too. */
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	fuzz_read(fuzz_put("x.stream", data, n));
	return 0;
}

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed)
{
	return fuzz_mutate(data, n, max, seed);
}

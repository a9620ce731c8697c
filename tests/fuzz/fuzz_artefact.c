/* fuzz_artefact.c - an HDF5 file that somebody passed on. */
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	fuzz_read(fuzz_put("x.h5", data, n));
	return 0;
}

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed)
{
	return fuzz_mutate(data, n, max, seed);
}

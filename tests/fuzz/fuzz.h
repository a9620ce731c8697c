/*
 * fuzz.h - what the fuzz targets share.
 *
 * A target is a file fuzz_X.c with LLVMFuzzerTestOneInput(): it hands the bytes to
 * one parser, which may refuse them, but not crash, hang, leak or trip a
 * sanitizer.  Its seeds lie in corpus/X.  `make fuzz` lets libFuzzer search; in
 * `make check` driver.c runs the seeds and fixed mutants of them.
 */
#ifndef DF_FUZZ_H
#define DF_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned seed); /* not in every target */

/* A directory of this process's own, made on first use and removed at exit. */
const char *fuzz_dir(void);
/* Write data to NAME in it; returns the path (static, until the next call). */
const char *fuzz_put(const char *name, const void *data, size_t n);
/* All of the artefact at `path`, whatever its kind, in all the ways in which programs read (artefact.c). */
void fuzz_read(const char *path);
/* LLVMFuzzerCustomMutator() for files and streams that hold HDF5. */
size_t fuzz_mutate(uint8_t *data, size_t n, size_t max, unsigned seed);

#endif

/* torch_priv.h - the two layers of a torch.save() file. */
#ifndef DF_TORCH_TORCH_PRIV_H
#define DF_TORCH_TORCH_PRIV_H

#include "base/mem.h"
#include "torch/torch.h"

/* ---- zip.c: a zip file in memory, read-only; entries are stored, zip64 is known (APPNOTE.TXT 6.3.9) ---- */

struct df_zip_entry {
	const char *name; /* in the file, not NUL-terminated */
	size_t n_name;
	uint64_t header; /* of its local header in the file */
	const char *data;
	size_t nbytes;
};
struct df_zip {
	struct df_zip_entry *v; /* sorted by name; names are unique, no two entries share a byte */
	size_t n;
};
/*
 * Read the central directory of the file and check every entry: its local header, its range, that it is stored and not
 * encrypted.  The file's bytes are borrowed.
 */
int df_zip_open(struct df_zip *z, const void *file, size_t n, struct df_err *err) DF_MUST_CHECK;
void df_zip_close(struct df_zip *z);
const struct df_zip_entry *df_zip_find(const struct df_zip *z, const char *name, size_t n); /* or NULL */

/* ---- pickle.c ---- */

/*
 * Run the pickle, protocol 2; the value that it leaves is *out, in the arena.  Storage KEY is the entry "PREFIXdata/KEY"
 * of the zip.
 */
int df_pickle_read(const struct df_torch_value **out, struct df_arena *arena, const void *pickle, size_t n,
    const struct df_zip *z, const char *prefix, size_t n_prefix, struct df_err *err) DF_MUST_CHECK;

#endif

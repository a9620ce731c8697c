/*
 * torch.c - a file of torch.save(): find the pickle in the zip, and read it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "torch/torch_priv.h"

#define PICKLE     "data.pkl"
#define PICKLE_MAX ((size_t)32 << 20) /* bytes: 50,000 parameters need about 16 MiB */

struct df_torch {
	const void *map;
	size_t nbytes;
	struct df_zip zip;
	struct df_arena arena;
	const struct df_torch_value *root;
};

/* Before 2020 torch.save() wrote five pickles one after the other; this is the first of them. */
static const unsigned char legacy[] = { 0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46 };

/* The one entry NAME/data.pkl; torch calls the folder as the file was called when it was written. */
static int
find_pickle(const struct df_zip *z, const struct df_zip_entry **out, struct df_err *err)
{
	const size_t n = strlen("/" PICKLE);

	*out = NULL;
	for (size_t i = 0; i < z->n; i++) {
		const struct df_zip_entry *e = &z->v[i];

		if (e->n_name <= n || memcmp(e->name + e->n_name - n, "/" PICKLE, n) != 0 ||
		    memchr(e->name, '/', e->n_name - n))
			continue;
		if (*out)
			return df_fail(err, DF_EFORMAT, "two entries are a " PICKLE);
		*out = e;
	}
	if (!*out)
		return df_fail(err, DF_EFORMAT, "no " PICKLE " in this zip: not a file of torch.save()");
	if ((*out)->n_name > 1000)
		return df_fail(err, DF_EFORMAT, "the name of its " PICKLE " has %zu bytes", (*out)->n_name);
	if ((*out)->nbytes > PICKLE_MAX)
		return df_fail(
		    err, DF_ERANGE, PICKLE " has %zu bytes, at most %zu are read", (*out)->nbytes, PICKLE_MAX);
	return DF_OK;
}

/* Older files have no such entry. */
static int
check_byteorder(const struct df_zip *z, const char *prefix, size_t n_prefix, struct df_err *err)
{
	const struct df_zip_entry *e;
	char *name = NULL;
	int rc;

	DF_TRY(df_asprintf(&name, err, "%.*sbyteorder", (int)n_prefix, prefix));
	e = df_zip_find(z, name, strlen(name));
	if (e && (e->nbytes != 6 || memcmp(e->data, "little", 6) != 0))
		rc = df_fail(
		    err, DF_EUNSUPPORTED, "its byte order is '%.*s', not little", (int)(e->nbytes % 32), e->data);
out:
	free(name);
	return rc;
}

static int
read_file(struct df_torch *t, struct df_err *err)
{
	const struct df_zip_entry *e;
	size_t n_prefix;
	int rc;

	if (t->nbytes >= sizeof(legacy) && memcmp(t->map, legacy, sizeof(legacy)) == 0)
		return df_fail(
		    err, DF_EUNSUPPORTED, "torch's format of before 2020: load it with torch and save it again");
	DF_TRY(df_zip_open(&t->zip, t->map, t->nbytes, err));
	DF_TRY(find_pickle(&t->zip, &e, err));
	n_prefix = e->n_name - strlen(PICKLE);
	DF_TRY(check_byteorder(&t->zip, e->name, n_prefix, err));
	rc = df_pickle_read(&t->root, &t->arena, e->data, e->nbytes, &t->zip, e->name, n_prefix, err);
	if (rc != DF_OK)
		df_err_prefix(err, PICKLE ", ");
out:
	return rc;
}

int
df_torch_open(struct df_torch **out, const char *path, struct df_err *err)
{
	struct df_torch *t = NULL;
	int rc;

	DF_TRY(df_alloc(&t, 1, sizeof(*t), "a torch file", err));
	t->arena = (struct df_arena)DF_ARENA_INIT;
	DF_TRY(df_file_map(path, &t->map, &t->nbytes, err));
	rc = read_file(t, err);
	if (rc != DF_OK) {
		df_err_prefix(err, "%s: ", path);
		goto out;
	}
	*out = t;
	t = NULL;
out:
	df_torch_close(t);
	return rc;
}

void
df_torch_close(struct df_torch *t)
{
	if (!t)
		return;
	df_arena_release(&t->arena);
	df_zip_close(&t->zip);
	df_file_unmap(t->map, t->nbytes);
	free(t);
}

const struct df_torch_value *
df_torch_root(const struct df_torch *t)
{
	return t->root;
}

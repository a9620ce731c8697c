/*
 * plugin.c - a method of the user's own: loaded, and not believed.
 */
#include "base/plugin.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

bool
df_plugin_is_word(const char *s)
{
	if (!s || !isalpha((unsigned char)*s))
		return false;
	while (*s && (isalnum((unsigned char)*s) || *s == '-' || *s == '_'))
		s++;
	return *s == '\0';
}

static size_t
size_of_option(enum df_opt_type t)
{
	switch (t) {
	case DF_OPT_FLAG: return sizeof(bool);
	case DF_OPT_STR: return sizeof(char *);
	case DF_OPT_INT: return sizeof(int64_t);
	case DF_OPT_DOUBLE: return sizeof(double);
	case DF_OPT_CHOICE: return sizeof(int);
	case DF_OPT_LIST: return sizeof(struct df_strlist);
	case DF_OPT_COUNT:
	case DF_OPT_SHARD:
	case DF_OPT_GROUP:
	case DF_OPT_OPERANDS:
	case DF_OPT_ELSEWHERE: break;
	}
	return 0;
}

int
df_plugin_check_options(const struct df_opt *options, const void *defaults, size_t defaults_size, struct df_err *err)
{
	for (const struct df_opt *o = options; o && o->name; o++) {
		const size_t size = size_of_option(o->type);

		if (!df_plugin_is_word(o->name) || !size || !o->help || (o->type == DF_OPT_CHOICE && !o->choices))
			return df_fail(err, DF_EFORMAT, "option %zu: name, type, help or choices are missing or wrong",
			    (size_t)(o - options));
		if (!defaults || defaults_size < size || (uintptr_t)o->value > defaults_size - size)
			return df_fail(
			    err, DF_EFORMAT, "option '%s': its value is not in the struct of defaults", o->name);
	}
	return DF_OK;
}

static int
check_sizes(const uint32_t *theirs, const uint32_t *ours, size_t n, struct df_err *err)
{
	if (theirs[0] != ours[0])
		return df_fail(err, DF_EFORMAT,
		    "it was compiled for version %" PRIu32 " of plug-ins, this is version %" PRIu32
		    ": compile it again with these headers",
		    theirs[0], ours[0]);
	if (memcmp(theirs, ours, n * sizeof(*ours)) != 0)
		return df_fail(err, DF_EFORMAT,
		    "it was compiled with the headers of another df-tools: compile it again with these");
	return DF_OK;
}

int
df_plugin_open(const void **out, const char *path, const char *name, const char *macro, const uint32_t *ours, size_t n,
    struct df_err *err)
{
	char *full = NULL;
	bool there = false;
	void *library;
	int rc = DF_OK;

	if ((rc = df_file_probe(path, &there, err)) != DF_OK)
		return rc;
	errno = ENOENT;
	if (!there)
		return df_fail(err, DF_ENOINPUT, "%s:", path);
	/* A name without a directory is a file here, not a library of the system. */
	DF_TRY(df_asprintf(&full, err, "%s%s", strchr(path, '/') ? "" : "./", path));
	library = dlopen(full, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		rc = df_fail(err, DF_EFORMAT, "it cannot be loaded: %s", dlerror());
	else if (!(*out = dlsym(library, name)))
		rc = df_fail(err, DF_EFORMAT, "it is no plug-in: %s is missing", macro);
	else
		rc = check_sizes(*out, ours, n, err);
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", path);
out:
	free(full);
	return rc;
}

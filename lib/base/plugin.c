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

/* *out = the kind's symbol of the shared library. */
static int
open_symbol(const void **out, const char *path, const struct df_plugin_kind *kind, struct df_err *err)
{
	char *full = NULL;
	void *library;
	int rc;

	/* A name without a directory is a file here, not a library of the system. */
	DF_TRY(df_asprintf(&full, err, "%s%s", strchr(path, '/') ? "" : "./", path));
	library = dlopen(full, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		rc = df_fail(err, DF_EFORMAT, "it cannot be loaded: %s", dlerror());
	else if (!(*out = dlsym(library, kind->symbol)))
		rc = df_fail(err, DF_EFORMAT, "it is no plug-in: %s is missing", kind->macro);
	else
		rc = check_sizes(*out, kind->sizes, kind->n_sizes, err);
out:
	free(full);
	return rc;
}

static int
check_record(const void *record, const struct df_plugin_kind *kind, struct df_err *err)
{
	const char *name = record ? *(const char *const *)record : NULL;
	int rc;

	if (!df_plugin_is_word(name))
		return df_fail(err, DF_EFORMAT, "its %s has no name, or one that is no word", kind->what);
	if (kind->is_ours(name))
		return df_fail(
		    err, DF_EFORMAT, "its %s is called '%s', as one of %s's own", kind->what, name, kind->owner);
	if ((rc = kind->check(record, err)) != DF_OK)
		df_err_prefix(err, "%s '%s': ", kind->what, name);
	return rc;
}

int
df_plugin_record(const void **record, const char *path, const struct df_plugin_kind *kind, struct df_err *err)
{
	const void *symbol = NULL, *found;
	bool there = false;
	int rc;

	if ((rc = df_file_probe(path, &there, err)) != DF_OK)
		return rc;
	errno = ENOENT;
	if (!there)
		return df_fail(err, DF_ENOINPUT, "%s:", path);
	DF_TRY(open_symbol(&symbol, path, kind, err));
	found = *(const void *const *)((const char *)symbol + kind->at);
	DF_TRY(check_record(found, kind, err));
	*record = found;
out:
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", path);
	return rc;
}

/*
 * plugin.c - a backend from a shared library: found, loaded, and not believed.
 */
#include <ctype.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/backend_priv.h"
#include "base/buf.h"
#include "base/mem.h"

/* ---- where it is ------------------------------------------------------------------------------------------------ */

/* Cut a path to its directory, with the final slash; "" if it has none. */
static void
cut_to_directory(char *path)
{
	char *slash = strrchr(path, '/');

	*(slash ? slash + 1 : path) = '\0';
}

/* If dir/sub/file can be read: *path = its name, to be freed.  Otherwise the place is added to `tried`. */
static int
look(char **path, const char *dir, const char *sub, const char *file, struct df_buf *tried, struct df_err *err)
{
	char *full = NULL;
	int rc;

	if (*path || *dir != '/')
		return DF_OK;
	if ((rc = df_asprintf(&full, err, "%s%s%s", dir, sub, file)) != DF_OK)
		return rc;
	if (access(full, R_OK) == 0) {
		*path = full;
		return DF_OK;
	}
	df_buf_printf(tried, "%s%s%s", tried->len > 0 ? ", " : "", dir, sub);
	free(full);
	return DF_OK;
}

/*
 * The library of a device: *path, to be freed, or NULL and where it was looked for.  In a build it lies in the
 * directory above the programs, installed in lib/df-tools; beside libdf.so for a program that uses that.
 */
static int
find(char **path, const char *device, struct df_buf *tried, struct df_err *err)
{
	static const char here[] = "an address in this library or program";
	char program[4096] = "", library[4096] = "", file[64];
	ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
	Dl_info info;
	int rc;

	snprintf(file, sizeof(file), "df-%s.so", device);
	program[n > 0 ? n : 0] = '\0';
	if (dladdr(here, &info) != 0 && info.dli_fname)
		snprintf(library, sizeof(library), "%s", info.dli_fname);
	cut_to_directory(program);
	cut_to_directory(library);
	DF_TRY(look(path, program, "", file, tried, err));
	DF_TRY(look(path, program, "../", file, tried, err));
	DF_TRY(look(path, program, "../lib/df-tools/", file, tried, err));
	if (strcmp(library, program) != 0) {
		DF_TRY(look(path, library, "", file, tried, err));
		DF_TRY(look(path, library, "df-tools/", file, tried, err));
	}
out:
	return rc;
}

/* ---- what it is ------------------------------------------------------------------------------------------------- */

/* The first slot of the table that is required and not there, or NULL. */
static const char *
first_missing(const struct df_backend_ops *ops)
{
	const struct {
		const char *name;
		bool there;
	} required[] = { { "open", ops->open }, { "close", ops->close }, { "alloc", ops->alloc }, { "free", ops->free },
		{ "upload", ops->upload }, { "download", ops->download }, { "sync", ops->sync }, { "op", ops->op },
		{ "op[DF_OP_GEMM]", ops->op && ops->op[DF_OP_GEMM] } };

	for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++)
		if (!required[i].there)
			return required[i].name;
	return NULL;
}

static int
check_table(const struct df_backend_ops *ops, const char *device, struct df_err *err)
{
	const char *missing;

	if (!ops)
		return df_fail(err, DF_EDEVICE,
		    "it does not know version %d of the backend interface: build it again with this df-tools",
		    DF_BACKEND_API_VERSION);
	if (ops->api_version != DF_BACKEND_API_VERSION)
		return df_fail(err, DF_EDEVICE,
		    "it is made for version %d of the backend interface, this is version %d: build it again with this "
		    "df-tools",
		    ops->api_version, DF_BACKEND_API_VERSION);
	if (!ops->name || strcmp(ops->name, device) != 0)
		return df_fail(
		    err, DF_EDEVICE, "its backend is called '%s', not '%s'", ops->name ? ops->name : "", device);
	if ((missing = first_missing(ops)) != NULL)
		return df_fail(err, DF_EDEVICE, "its table has no %s, which every backend needs", missing);
	if (ops->product)
		return df_fail(err, DF_EDEVICE, "its table sets product, which is not for plug-ins");
	return DF_OK;
}

static int
load(const struct df_backend_ops **out, const char *path, const char *device, struct df_err *err)
{
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL), *symbol; /* stays loaded */
	df_backend_plugin_fn *table;
	const struct df_backend_ops *ops;
	int rc;

	if (!library)
		return df_fail(err, DF_EDEVICE, "it cannot be loaded: %s", dlerror());
	if (!(symbol = dlsym(library, DF_BACKEND_PLUGIN)))
		return df_fail(
		    err, DF_EDEVICE, "it is no backend: it exports no " DF_BACKEND_PLUGIN "() (backend/plugin.h)");
	memcpy(&table, &symbol, sizeof(table));
	ops = table(DF_BACKEND_API_VERSION);
	DF_TRY(check_table(ops, device, err));
	*out = ops;
out:
	return rc;
}

/* *name = "DF_CUDA_PLUGIN", *value = what the environment says, or NULL. */
static const char *
variable(char *name, size_t size, const char *device)
{
	const char *value;

	snprintf(name, size, "DF_%s_PLUGIN", device);
	for (char *c = name; *c; c++)
		*c = (char)toupper((unsigned char)*c);
	value = getenv(name);
	return value && *value ? value : NULL;
}

int
df_backend_plugin_load(const struct df_backend_ops **out, const char *device, struct df_err *err)
{
	struct df_buf tried = DF_BUF_INIT;
	char name[64], *path = NULL;
	const char *wish = variable(name, sizeof(name), device);
	int rc;

	if (wish) {
		/* A name without a directory is a file here, not a library of the system. */
		DF_TRY(df_asprintf(&path, err, "%s%s", strchr(wish, '/') ? "" : "./", wish));
		if (access(path, R_OK) != 0) {
			rc = df_fail(err, DF_EUNSUPPORTED, "%s=%s:", name, wish);
			goto out;
		}
	} else {
		DF_TRY(find(&path, device, &tried, err));
	}
	if (!path) {
		rc = df_fail(err, DF_EUNSUPPORTED,
		    "this build has no such backend (no df-%s.so in %s); name one in %s, or use --device cpu", device,
		    df_buf_check(&tried, NULL) == DF_OK && tried.len > 0 ? tried.data : "/proc/self/exe's directory",
		    name);
		goto out;
	}
	if ((rc = load(out, path, device, err)) != DF_OK)
		df_err_prefix(err, "%s: ", path);
out:
	free(path);
	df_buf_release(&tried);
	return rc;
}

/*
 * devices.c - the devices that there are, by name.
 *
 * A new one is a line in one of the tables; nothing else knows them all.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "backend/backend_priv.h"
#include "base/log.h"
#include "base/words.h"

/* In the order in which "auto" asks them, after the plug-ins. */
static const struct df_backend_ops *const backends[] = { &df_cpu_backend, &df_openblas_backend, &df_poison_backend,
	&df_reference_backend };
enum { N_BACKENDS = sizeof(backends) / sizeof(backends[0]) };

const char *const *
df_backend_devices(void)
{
	static const char *names[N_BACKENDS + 2] = { "auto" };

	for (size_t i = 0; i < N_BACKENDS; i++)
		names[i + 1] = backends[i]->name;
	return names;
}

/*
 * Those that come from a shared library (plugin.c), and may have a number: "cuda:1".  "auto" asks one only where the
 * library of its driver is: so programs start as fast as ever where there is no such device.
 */
static const struct {
	const char *name, *driver;
} plugins[] = { { "cuda", "libcuda.so.1" } };
enum { N_PLUGINS = sizeof(plugins) / sizeof(plugins[0]) };

/* The plug-in that a device is of, or NULL. */
static const char *
plugin_of(const char *device)
{
	for (size_t i = 0; i < N_PLUGINS; i++) {
		const size_t n = strlen(plugins[i].name);

		if (strncmp(device, plugins[i].name, n) == 0 && (device[n] == ':' || device[n] == '\0'))
			return plugins[i].name;
	}
	return NULL;
}

int
df_backend_check(const char *device, struct df_err *err)
{
	const char *const *names = df_backend_devices();

	for (size_t i = 0; names[i]; i++)
		if (strcmp(device, names[i]) == 0)
			return DF_OK;
	return plugin_of(device) ? DF_OK : df_unknown(err, DF_EUSAGE, "device", device, names, NULL);
}

const struct df_backend_ops *
df_backend_choose(const struct df_backend_ops *const *table, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (table[i]->suits && table[i]->suits())
			return table[i];
	return NULL;
}

/* The first plug-in that suits this machine, or NULL. */
static const struct df_backend_ops *
choose_plugin(void)
{
	const struct df_backend_ops *ops;
	struct df_err err = DF_ERR_INIT;

	for (size_t i = 0; i < N_PLUGINS; i++) {
		if (!dlopen(plugins[i].driver, RTLD_LAZY | RTLD_LOCAL)) /* stays loaded: the plug-in needs it next */
			continue;
		if (df_backend_plugin_load(&ops, plugins[i].name, &err) != DF_OK)
			df_debug("device auto: %s: %s", plugins[i].name, err.msg);
		else if (ops->suits && ops->suits())
			return ops;
	}
	return NULL;
}

int
df_backend_open(struct df_backend **out, const char *device, struct df_pool *pool, struct df_err *err)
{
	const struct df_backend_ops *ops;
	int rc;

	if (!out || !device)
		return df_fail(err, DF_EINTERNAL, "df_backend_open: a NULL argument");
	if (strcmp(device, "auto") == 0) {
		ops = choose_plugin();
		device = (ops ? ops : df_backend_choose(backends, N_BACKENDS))->name;
	}
	for (size_t i = 0; i < N_BACKENDS; i++)
		if (strcmp(device, backends[i]->name) == 0)
			return df_backend_open_ops(out, backends[i], device, pool, err);
	if (!plugin_of(device))
		return df_backend_check(device, err);
	if ((rc = df_backend_plugin_load(&ops, plugin_of(device), err)) == DF_OK)
		return df_backend_open_ops(out, ops, device, pool, err);
	df_err_prefix(err, "device '%s': ", device);
	return rc;
}

/* Add "name (with what it computes)" at list + n; returns the new length. */
static size_t
list_one(char *list, size_t n, size_t size, const struct df_backend_ops *ops)
{
	char with[64] = "";
	int len;

	if (ops->describe)
		ops->describe(with, sizeof(with));
	len = snprintf(
	    list + n, size - n, "%s%s%s%s%s", n ? ", " : "", ops->name, *with ? " (" : "", with, *with ? ")" : "");
	return n + (size_t)len < size ? n + (size_t)len : size - 1;
}

char *
df_backend_list(char *list, size_t size)
{
	const struct df_backend_ops *ops;
	size_t n = 0;

	for (size_t i = 0; i < N_BACKENDS; i++)
		n = list_one(list, n, size, backends[i]);
	for (size_t i = 0; i < N_PLUGINS; i++)
		if (df_backend_plugin_load(&ops, plugins[i].name, NULL) == DF_OK)
			n = list_one(list, n, size, ops);
	return list;
}

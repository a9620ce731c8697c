/*
 * devices.c - the devices that there are, by name.
 *
 * A new one is a line in the table; nothing else knows them all.
 */
#include <stdio.h>
#include <string.h>

#include "backend/backend_priv.h"
#include "base/words.h"

/* In the order in which "auto" asks them. */
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

static bool
is_cuda(const char *device)
{
	return strcmp(device, "cuda") == 0 || strncmp(device, "cuda:", 5) == 0;
}

int
df_backend_check(const char *device, struct df_err *err)
{
	const char *const *names = df_backend_devices();

	for (size_t i = 0; names[i]; i++)
		if (strcmp(device, names[i]) == 0)
			return DF_OK;
	return is_cuda(device) ? DF_OK : df_unknown(err, DF_EUSAGE, "device", device, names, NULL);
}

const struct df_backend_ops *
df_backend_choose(const struct df_backend_ops *const *table, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (table[i]->suits && table[i]->suits())
			return table[i];
	return NULL;
}

int
df_backend_open(struct df_backend **out, const char *device, struct df_pool *pool, struct df_err *err)
{
	if (!out || !device)
		return df_fail(err, DF_EINTERNAL, "df_backend_open: a NULL argument");
	if (strcmp(device, "auto") == 0)
		device = df_backend_choose(backends, N_BACKENDS)->name;
	for (size_t i = 0; i < N_BACKENDS; i++)
		if (strcmp(device, backends[i]->name) == 0)
			return df_backend_open_ops(out, backends[i], device, pool, err);
	if (is_cuda(device))
		return df_fail(
		    err, DF_EUNSUPPORTED, "device '%s': this build has no CUDA backend; use --device cpu", device);
	return df_backend_check(device, err);
}

char *
df_backend_list(char *list, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < N_BACKENDS; i++) {
		char with[64] = "";
		int len;

		if (backends[i]->describe)
			backends[i]->describe(with, sizeof(with));
		len = snprintf(list + n, size - n, "%s%s%s%s%s", i ? ", " : "", backends[i]->name, *with ? " (" : "",
		    with, *with ? ")" : "");
		n = n + (size_t)len < size ? n + (size_t)len : size - 1;
	}
	return list;
}

/*
 * devices.c - the devices that there are, by name.
 *
 * A new one is a line in the table; nothing else knows them all.
 */
#include <string.h>

#include "backend/backend_priv.h"
#include "backend/cpu/gemm.h"
#include "base/words.h"

static const struct df_backend_ops *const table[] = { &df_cpu_backend, &df_poison_backend, &df_reference_backend };

#define N_BACKENDS (sizeof(table) / sizeof(table[0]))

const char *const *
df_backend_devices(void)
{
	static const char *names[N_BACKENDS + 2] = { "auto" };

	for (size_t i = 0; i < N_BACKENDS; i++)
		names[i + 1] = table[i]->name;
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

int
df_backend_open(struct df_backend **out, const char *device, struct df_pool *pool, struct df_err *err)
{
	if (!out || !device)
		return df_fail(err, DF_EINTERNAL, "df_backend_open: a NULL argument");
	if (strcmp(device, "auto") == 0)
		device = "cpu";
	for (size_t i = 0; i < N_BACKENDS; i++)
		if (strcmp(device, table[i]->name) == 0)
			return df_backend_open_ops(out, table[i], device, pool, err);
	if (is_cuda(device))
		return df_fail(
		    err, DF_EUNSUPPORTED, "device '%s': this build has no CUDA backend; use --device cpu", device);
	return df_backend_check(device, err);
}

const char *
df_backend_list(void)
{
	/* Literals, so that the answer is borrowed from nobody. */
	const char *isa = df_cpu_gemm_isa();

	return strcmp(isa, "AVX-512") == 0 ? "cpu (AVX-512), poison, reference"
	    : strcmp(isa, "AVX2") == 0     ? "cpu (AVX2), poison, reference"
					   : "cpu (baseline), poison, reference";
}

/*
 * registry.c - the mixers that there are: a new one is one line here.
 */
#include <string.h>

#include "base/words.h"
#include "mix/mix.h"

/* In the order of df-mix --list. */
/* clang-format off */
#define METHODS(method) \
	method(static) \
	method(random) \
	method(doremi) \
	method(odm) \
	method(dynamic_moe)
/* clang-format on */

#define DECLARE(name) extern const struct df_mixer df_mix_##name;
#define ADDRESS(name) &df_mix_##name,

METHODS(DECLARE)
const struct df_mixer *const df_mixers[] = { METHODS(ADDRESS) NULL };

int
df_mixer_find(const struct df_mixer **out, const char *name, struct df_err *err)
{
	const char *names[sizeof(df_mixers) / sizeof(df_mixers[0])] = { NULL };

	for (size_t i = 0; df_mixers[i]; i++) {
		names[i] = df_mixers[i]->name;
		if (strcmp(names[i], name) == 0) {
			*out = df_mixers[i];
			return DF_OK;
		}
	}
	return df_unknown(err, DF_EUSAGE, "mixer", name, names, NULL);
}

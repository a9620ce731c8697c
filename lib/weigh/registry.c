/*
 * registry.c - the weighers that there are: a new one is one line here.
 */
#include <string.h>

#include "base/words.h"
#include "weigh/weigh.h"

/* clang-format off */
#define METHODS(method) \
	method(loss) \
	method(adapt) \
	method(joint) \
	method(custom)
/* clang-format on */

#define DECLARE(name) extern const struct df_weigher df_weigh_##name;
#define ADDRESS(name) &df_weigh_##name,

METHODS(DECLARE)
const struct df_weigher *const df_weighers[] = { METHODS(ADDRESS) NULL };

int
df_weigher_find(const struct df_weigher **out, const char *name, struct df_err *err)
{
	const char *names[sizeof(df_weighers) / sizeof(df_weighers[0])] = { NULL };

	for (size_t i = 0; df_weighers[i]; i++) {
		names[i] = df_weighers[i]->name;
		if (strcmp(names[i], name) == 0) {
			*out = df_weighers[i];
			return DF_OK;
		}
	}
	return df_unknown(err, DF_EUSAGE, "weigher", name, names, NULL);
}

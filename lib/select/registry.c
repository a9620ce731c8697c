/*
 * registry.c - the selection methods that there are: a new one is one line here.
 */
#include "select/select.h"

#include <string.h>

#include "base/words.h"

/* In the order of df-score --list. */
/* clang-format off */
#define METHODS(method) \
	method(less) \
	method(cluster) \
	method(cluster_less) \
	method(nice) \
	method(loss) \
	method(delta_loss) \
	method(near) \
	method(tsds) \
	method(rds) \
	method(dsir) \
	method(ppl) \
	method(ifd) \
	method(semdedup) \
	method(diverse) \
	method(combine) \
	method(random) \
	method(static) \
	method(custom)
/* clang-format on */

#define DECLARE(name) extern const struct df_selector df_select_##name;
#define ADDRESS(name) &df_select_##name,

METHODS(DECLARE)
const struct df_selector *const df_selectors[] = { METHODS(ADDRESS) NULL };

int
df_selector_find(const struct df_selector **out, const char *name, struct df_err *err)
{
	const char *names[sizeof(df_selectors) / sizeof(df_selectors[0])] = { NULL };

	for (size_t i = 0; df_selectors[i]; i++) {
		names[i] = df_selectors[i]->name;
		if (strcmp(names[i], name) == 0) {
			*out = df_selectors[i];
			return DF_OK;
		}
	}
	return df_unknown(err, DF_EUSAGE, "method", name, names, "df-score --list names them");
}

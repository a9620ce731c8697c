/* fuzz_pick_list.c - a list that names samples, by number, by dataset and row, and by value. */
#include <string.h>

#include "fuzz.h"
#include "data/pick_list.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const struct {
		const char *member;
		bool with_dataset, any_value;
	} ways[] = { { "id", false, false }, { "row", true, false }, { "uid", false, true } };

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct df_pick_list l = DF_PICK_LIST_INIT;
		struct df_err err = DF_ERR_INIT;

		if (df_pick_list_read(&l, fuzz_put("list", data, n), ways[i].member, ways[i].with_dataset,
			ways[i].any_value, &err) == DF_OK) {
			for (size_t k = 0; k < l.n; k++) {
				const struct df_pick_entry *e = &l.v[k];

				if (e->at + e->n >= l.text.len || l.text.data[e->at + e->n] != '\0')
					__builtin_trap(); /* every value ends in the text */
				if (e->dataset_at != SIZE_MAX &&
				    e->dataset_at + strlen(l.text.data + e->dataset_at) >= e->at)
					__builtin_trap(); /* a name comes before its value */
			}
		}
		df_pick_list_release(&l);
	}
	return 0;
}

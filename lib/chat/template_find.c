/*
 * template_find.c - find a built-in template by name, and the elements of a slot with their defaults.
 */
#include <string.h>

#include "base/words.h"
#include "chat/template_priv.h"

const struct df_template *
df_template_at(size_t i)
{
	return i < df_n_templates ? &df_template_table[i] : NULL;
}

void
df_template_list(struct df_buf *out)
{
	for (size_t i = 0; df_template_at(i); i++)
		df_buf_printf(out, "%-20s %s\n", df_template_at(i)->name, df_template_at(i)->about);
}

int
df_template_find(const struct df_template **out, const char *name, struct df_err *err)
{
	for (size_t i = 0; i < df_n_templates; i++)
		if (strcmp(name, df_template_table[i].name) == 0) {
			*out = &df_template_table[i];
			return 0;
		}
	return df_unknown(
	    err, DF_EUSAGE, "template", name, df_template_names(), "df-pack --list-templates shows the known ones");
}

const struct df_elem *
df_template_slot(const struct df_template *t, enum df_slot s)
{
	static const struct df_elem none[] = { { DF_ELEM_END, NULL } };
	static const struct df_elem plain[] = { { DF_ELEM_TEXT, "{{content}}" }, { DF_ELEM_END, NULL } };
	static const struct df_elem closed[] = { { DF_ELEM_TEXT, "{{content}}" }, { DF_ELEM_EOS, NULL },
		{ DF_ELEM_END, NULL } };

	if (t->slot[s][0].kind != DF_ELEM_END)
		return t->slot[s];
	switch (s) {
	case DF_SLOT_PREFIX: return none;
	case DF_SLOT_ASSISTANT: return t->efficient_eos ? plain : closed;
	case DF_SLOT_OBSERVATION: return df_template_slot(t, DF_SLOT_USER);
	case DF_SLOT_FUNCTION: return df_template_slot(t, DF_SLOT_ASSISTANT);
	default: return plain;
	}
}

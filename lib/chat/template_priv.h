/*
 * template_priv.h - declarations that the rules (template.c, template_find.c) and the data (template_table.c,
 * template_file.c) share.
 */
#ifndef DF_CHAT_TEMPLATE_PRIV_H
#define DF_CHAT_TEMPLATE_PRIV_H

#include "chat/template.h"

extern const struct df_template df_template_table[]; /* in alphabetical order */
extern const size_t df_n_templates;

/* Free what df_template_load allocated, including the template. */
void df_template_own_free(struct df_template_own *own);

#endif

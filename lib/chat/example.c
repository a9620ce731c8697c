/*
 * example.c - the reasons for dropping a row as text; releasing an example.
 */
#include "chat/example.h"

#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name, *about;
} drops[DF_DROP_COUNT] = {
	[DF_DROP_NONE] = { "none", "kept" },
	[DF_DROP_NO_RESPONSE] = { "no_response", "no response to learn" },
	[DF_DROP_ROLE_ORDER] = { "role_order", "roles unknown or out of order" },
	[DF_DROP_ODD_TURNS] = { "odd_turns", "a last turn without an answer" },
	[DF_DROP_EMPTY_CONVERSATION] = { "empty_conversation", "no turns" },
	[DF_DROP_MEDIA] = { "media", "images, videos and audio are not supported" },
	[DF_DROP_EMPTY] = { "empty", "not a single token" },
};

const char *
df_drop_name(enum df_drop d)
{
	return drops[d].name;
}

const char *
df_drop_about(enum df_drop d)
{
	return drops[d].about;
}

void
df_example_release(struct df_example *ex)
{
	df_json_free(ex->doc);
	df_arena_release(&ex->mem);
	free(ex->turns);
	memset(ex, 0, sizeof(*ex));
}

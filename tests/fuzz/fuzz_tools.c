/*
 * fuzz_tools.c - a row's tools, and turns that call them or think, in every tool format.
 *
 * What df_encode_check lets through must encode, and what it refuses must not.
 */
#include <string.h>

#include "base/log.h"
#include "fuzz.h"
#include "chat/encode.h"
#include "chat/template.h"

static struct {
	struct df_encoder *e;
	struct df_encscratch *s;
} bound[DF_TOOLS_COUNT];

static void
ignore(void *ctx, enum df_log_level level, const char *msg)
{
	(void)ctx;
	(void)level;
	(void)msg;
}

/* A reasoning template, so that answers are searched for thoughts; every other format with a fusing one. */
static void
bind(enum df_tool_format f)
{
	const struct df_encode_opts opts = { .cutoff_len = 64,
		.tool_format = df_tool_format_name(f),
		.date = "2024-07-26",
		.thinking = f % 3 == 0 ? DF_THINKING_FALSE : DF_THINKING_NULL };
	struct df_err err = DF_ERR_INIT;
	const struct df_template *t;
	struct df_tokenizer *tok;

	df_log_set_sink(ignore, NULL);
	if (df_template_find(&t, f % 2 ? "mistral" : "qwen3", &err) != DF_OK ||
	    df_tokenizer_open(&tok, "bytes", &err) != DF_OK ||
	    df_encoder_new(&bound[f].e, t, tok, &opts, &err) != DF_OK ||
	    df_encscratch_new(&bound[f].s, bound[f].e, &err) != DF_OK)
		__builtin_trap(); /* it is all ours */
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *text = (const char *)data;
	struct df_turn turns[] = { { DF_ROLE_USER, "q", 1 }, { DF_ROLE_FUNCTION, text, n },
		{ DF_ROLE_OBSERVATION, "r", 1 }, { DF_ROLE_ASSISTANT, text, n } };
	struct df_encoded out = DF_ENCODED_INIT;

	for (enum df_tool_format f = 0; f < DF_TOOLS_COUNT; f++) {
		struct df_err err = DF_ERR_INIT;
		struct df_encode_info info;
		struct df_example ex = { .turns = turns, .n_turns = 4 };

		if (!bound[f].e)
			bind(f);
		for (int what = 0; what < 2; what++) {
			int checked, rc;

			/* As a call, then as the tools of a row without calls. */
			turns[1].role = what ? DF_ROLE_ASSISTANT : DF_ROLE_FUNCTION;
			ex.tools = what ? text : NULL;
			ex.n_tools = what ? n : 0;
			checked = df_encode_check(bound[f].e, bound[f].s, &ex, &err);
			out.ids.n = 0;
			rc = df_encode(bound[f].e, bound[f].s, &ex, &out, &info, &err);
			/* Text that is not UTF-8 shows only when it is tokenised. */
			if ((checked != DF_OK && rc != checked) ||
			    (checked == DF_OK && rc != DF_OK && rc != DF_EFORMAT))
				__builtin_trap();
		}
	}
	df_encoded_release(&out);
	return 0;
}

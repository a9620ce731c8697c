/*
 * template.c - the table of templates, and their fix-ups of the tokenizer.
 *
 * A new template is one entry of the table.  Entries are kept in alphabetical
 * order for --list-templates and for the eye.
 */
#include "text/template.h"

#include <string.h>

#include "base/log.h"
#include "base/opt.h"

/* clang-format off */
#define TEXT(s) { DF_ELEM_TEXT, s }
#define BOS { DF_ELEM_BOS, NULL }
#define EOS { DF_ELEM_EOS, NULL }
#define PLAIN { TEXT("{{content}}") }

/* ChatML's turns, shared by chatml and qwen. */
#define CHATML_SYSTEM { TEXT("<|im_start|>system\n{{content}}<|im_end|>\n") }
#define CHATML_USER { TEXT("<|im_start|>user\n{{content}}<|im_end|>\n<|im_start|>assistant\n") }
#define CHATML_ASSISTANT { TEXT("{{content}}<|im_end|>\n") }

#define LLAMA3_TURN(role) \
	TEXT("<|start_header_id|>" role "<|end_header_id|>\n\n{{content}}<|eot_id|>" \
	     "<|start_header_id|>assistant<|end_header_id|>\n\n")

static const struct df_template templates[] = {
	{
	    .name = "alpaca",
	    .about = "### Instruction / ### Response, with Alpaca's introduction",
	    .system = PLAIN,
	    .user = { TEXT("### Instruction:\n{{content}}\n\n### Response:\n") },
	    .assistant = { TEXT("{{content}}"), EOS, TEXT("\n\n") },
	    .observation = { TEXT("### Instruction:\n{{content}}\n\n### Response:\n") },
	    .default_system = "Below is an instruction that describes a task. "
	                      "Write a response that appropriately completes the request.\n\n",
	},
	{
	    .name = "chatml",
	    .about = "<|im_start|>role ... <|im_end|>",
	    .system = CHATML_SYSTEM,
	    .user = CHATML_USER,
	    .assistant = CHATML_ASSISTANT,
	    .observation = { TEXT("<|im_start|>tool\n{{content}}<|im_end|>\n<|im_start|>assistant\n") },
	    .default_system = "",
	    .stop_words = { "<|im_end|>", "<|im_start|>" },
	    .replace_eos = true,
	},
	{
	    .name = "default",
	    .about = "Human: / Assistant:, each turn closed by eos",
	    .system = { TEXT("System: {{content}}"), EOS, TEXT("\n") },
	    .user = { TEXT("Human: {{content}}"), EOS, TEXT("\nAssistant:") },
	    .assistant = { TEXT("{{content}}"), EOS, TEXT("\n") },
	    .observation = { TEXT("Human: {{content}}"), EOS, TEXT("\nAssistant:") },
	    .default_system = "",
	},
	{
	    .name = "empty",
	    .about = "the bare texts, without eos",
	    .system = PLAIN,
	    .user = PLAIN,
	    .assistant = PLAIN,
	    .observation = PLAIN,
	    .default_system = "",
	},
	{
	    .name = "llama3",
	    .about = "Llama 3: headers and <|eot_id|>",
	    .prefix = { BOS },
	    .system = { TEXT("<|start_header_id|>system<|end_header_id|>\n\n{{content}}<|eot_id|>") },
	    .user = { LLAMA3_TURN("user") },
	    .assistant = { TEXT("{{content}}<|eot_id|>") },
	    .observation = { LLAMA3_TURN("ipython") },
	    .default_system = "",
	    .stop_words = { "<|eot_id|>", "<|eom_id|>" },
	    .replace_eos = true,
	},
	{
	    .name = "qwen",
	    .about = "ChatML with Qwen's system text",
	    .system = CHATML_SYSTEM,
	    .user = CHATML_USER,
	    .assistant = CHATML_ASSISTANT,
	    .observation = { TEXT("<|im_start|>user\n<tool_response>\n{{content}}\n</tool_response><|im_end|>\n"
	                          "<|im_start|>assistant\n") },
	    .default_system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
	    .stop_words = { "<|im_end|>" },
	    .replace_eos = true,
	},
};

#define N_TEMPLATES (sizeof(templates) / sizeof(templates[0]))
/* clang-format on */

const struct df_template *
df_template_at(size_t i)
{
	return i < N_TEMPLATES ? &templates[i] : NULL;
}

int
df_template_find(const struct df_template **out, const char *name, struct df_err *err)
{
	const char *names[N_TEMPLATES + 1];
	const char *near;

	for (size_t i = 0; i < N_TEMPLATES; i++) {
		names[i] = templates[i].name;
		if (strcmp(name, names[i]) == 0) {
			*out = &templates[i];
			return 0;
		}
	}
	names[N_TEMPLATES] = NULL;
	near = df_nearest(name, names);
	if (near)
		return df_fail(err, DF_EUSAGE, "unknown template '%s'; did you mean '%s'?", name, near);
	return df_fail(err, DF_EUSAGE, "unknown template '%s'; df-pack --list-templates shows the known ones", name);
}

int
df_template_fix_tokenizer(const struct df_template *t, struct df_tokenizer *tok, uint32_t *pad, struct df_err *err)
{
	const uint32_t before = df_tokenizer_vocab_size(tok);
	const char *const *stop = t->stop_words;
	uint32_t id, after;
	int rc = 0;

	if (t->replace_eos)
		DF_TRY(df_tokenizer_set_eos(tok, *stop++, err));
	if (df_tokenizer_eos(tok) == DF_NO_TOKEN)
		DF_TRY(df_tokenizer_set_eos(tok, "<|endoftext|>", err));
	for (; *stop; stop++)
		DF_TRY(df_tokenizer_add_special(tok, *stop, &id, err));
	*pad = df_tokenizer_pad(tok);
	if (*pad == DF_NO_TOKEN)
		*pad = df_tokenizer_eos(tok);
	after = df_tokenizer_vocab_size(tok);
	if (after != before)
		df_warn("template '%s' adds %u tokens to the tokenizer (vocabulary %u -> %u): "
			"the model's embeddings must have room for them (resize_vocab)",
		    t->name, after - before, before, after);
out:
	if (rc)
		df_err_prefix(err, "template '%s': ", t->name);
	return rc;
}

/*
 * tokenizer_class.c - the defaults of a tokenizer's class, for what its files do not say.
 *
 * transformers makes a tokenizer of a class, whose constructor has default special tokens: GPT-2's files on the hub
 * name no special token, and yet its eos is <|endoftext|>.  The class is tokenizer_config.json's, or it follows
 * from the model's type in config.json.
 */
#include <string.h>

#include "token/token_priv.h"

/* The defaults of the constructors, in the order in which transformers adds them; NULL: none. */
static const struct {
	const char *name;
	const char *bos, *eos, *unk, *sep, *pad, *cls, *mask;
} classes[] = {
	{ "BertTokenizer", NULL, NULL, "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]" },
	{ "CodeGenTokenizer", "<|endoftext|>", "<|endoftext|>", "<|endoftext|>", NULL, NULL, NULL, NULL },
	{ "CodeLlamaTokenizer", "<s>", "</s>", "<unk>", NULL, NULL, NULL, NULL },
	{ "CohereTokenizer", "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", "<UNK>", NULL, NULL, NULL, NULL },
	{ "DistilBertTokenizer", NULL, NULL, "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]" },
	{ "GPT2Tokenizer", "<|endoftext|>", "<|endoftext|>", "<|endoftext|>", NULL, NULL, NULL, NULL },
	{ "GPTNeoXTokenizer", "<|endoftext|>", "<|endoftext|>", "<|endoftext|>", NULL, NULL, NULL, NULL },
	{ "GemmaTokenizer", "<bos>", "<eos>", "<unk>", NULL, "<pad>", NULL, NULL },
	{ "LlamaTokenizer", "<s>", "</s>", "<unk>", NULL, NULL, NULL, NULL },
	{ "MPNetTokenizer", "<s>", "</s>", "[UNK]", "</s>", "<pad>", "<s>", "<mask>" },
	{ "Qwen2Tokenizer", NULL, "<|endoftext|>", "<|endoftext|>", NULL, "<|endoftext|>", NULL, NULL },
	{ "RobertaTokenizer", "<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>" },
	{ "XLMRobertaTokenizer", "<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>" },
};

static const struct {
	const char *model_type, *class;
} models[] = {
	{ "bert", "BertTokenizer" },
	{ "codegen", "CodeGenTokenizer" },
	{ "distilbert", "DistilBertTokenizer" },
	{ "gemma", "GemmaTokenizer" },
	{ "gemma2", "GemmaTokenizer" },
	{ "gpt2", "GPT2Tokenizer" },
	{ "gpt_neox", "GPTNeoXTokenizer" },
	{ "llama", "LlamaTokenizer" },
	{ "mistral", "LlamaTokenizer" },
	{ "mixtral", "LlamaTokenizer" },
	{ "mpnet", "MPNetTokenizer" },
	{ "qwen2", "Qwen2Tokenizer" },
	{ "qwen2_moe", "Qwen2Tokenizer" },
	{ "qwen3", "Qwen2Tokenizer" },
	{ "qwen3_moe", "Qwen2Tokenizer" },
	{ "roberta", "RobertaTokenizer" },
	{ "xlm-roberta", "XLMRobertaTokenizer" },
};

const char *
df_tok_class_of_model(const char *model_type)
{
	for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++)
		if (strcmp(models[i].model_type, model_type) == 0)
			return models[i].class;
	return "";
}

bool
df_tok_class_is(const char *class, const char *name)
{
	const size_t n = strlen(name);

	return strncmp(class, name, n) == 0 && (class[n] == '\0' || strcmp(class + n, "Fast") == 0);
}

const char *
df_tok_class_token(const char *class, size_t i)
{
	for (size_t k = 0; k < sizeof(classes) / sizeof(classes[0]); k++)
		if (df_tok_class_is(class, classes[k].name)) {
			const char *const token[TOK_N_SPECIALS] = { classes[k].bos, classes[k].eos, classes[k].unk,
				classes[k].sep, classes[k].pad, classes[k].cls, classes[k].mask };

			return token[i];
		}
	return NULL;
}

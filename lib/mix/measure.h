/*
 * measure.h - what mixers learn from, read from files: losses, losses of a reference, loads of experts, a log.
 *
 * The domains are those that are given, in their order: then rows of another domain are an error.  If none are given,
 * they are those of the files, in the order in which they come first.
 */
#ifndef DF_MIX_MEASURE_H
#define DF_MIX_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mix/mix.h"
#include "shard/meta.h"

struct df_mix_files {
	const char *const *losses, *const *loads; /* paths; each is a set of its own */
	size_t n_losses, n_loads;
	const char *reference; /* losses of all targets; NULL: none */
	bool all_layers;       /* loads of all layers together; false: of the last */
};

struct df_mix_measured {
	struct df_mix_sum *sum; /* [n_domains]; NULL: no losses were read */
	double *load;           /* [n_domains x n_experts]; NULL: no loads were read */
	size_t n_experts;
	uint64_t n_skipped;     /* targets that have no finite loss, or reference loss */
};

/*
 * Read the files, whose domains are joined with those of `meta`, and added to them where it has none; each file is
 * noted there as an input, in the role of its option.  DF_EFORMAT: no domains, no numbers of targets, other numbers of
 * experts; DF_ELINEAGE: a row of another domain, losses of a reference that are of other tokens.
 */
int df_mix_measure(const struct df_mix_files *files, struct df_meta *meta, struct df_mix_measured *out,
    struct df_err *err) DF_MUST_CHECK;
void df_mix_measured_release(struct df_mix_measured *m);

/* Of one line of mixture_log.jsonl (mix/line.h), what a mixer learns from. */
struct df_mix_line {
	uint64_t step;
	const struct df_mix_sum *sum; /* [n_domains of meta]; NULL: nothing was measured */
};
/*
 * Call fn() for each line of the log of `method`, a mixer's name; the domains of the lines are joined with those of
 * meta, which gets them if it has none.  DF_EFORMAT with file and line: not such a log, steps that do not rise.
 */
int df_mix_history(const char *path, const char *method, struct df_meta *meta,
    int (*fn)(void *ctx, const struct df_mix_line *line, struct df_err *err), void *ctx,
    struct df_err *err) DF_MUST_CHECK;

#endif

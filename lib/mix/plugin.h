/*
 * plugin.h - a mixer in a shared library: component_name: custom of a mixture, with the parameter plugin: ./mine.so;
 * and df-mix --plugin ./mine.so METHOD.
 *
 * The library has a struct df_mixer as those of df-mix itself (mix.h), and one line at its end:
 *
 *     DF_MIXER(my_mixer);
 *
 *     cc -shared -fPIC -I PREFIX/include/df-tools mine.c -o mine.so
 *
 * The other parameters of the component are its options.  It runs in the process of df-train or df-mix, in one thread;
 * its state is saved in checkpoints, and its proportions are checked (df_mix_check()).
 */
#ifndef DF_MIX_PLUGIN_H
#define DF_MIX_PLUGIN_H

#include <stdint.h>

#include "mix/mix.h"

#define DF_MIXER_ABI 1 /* counts changes of meaning; changes of size are seen below */

struct df_mix_plugin {
	uint32_t abi;
	/* Sizes of the structs, as the plug-in was compiled. */
	uint32_t mixer, seen, sum, opt, err;
	const struct df_mixer *method;
};
#define DF_MIXER_SIZES                                                                                         \
	DF_MIXER_ABI, sizeof(struct df_mixer), sizeof(struct df_mix_seen), sizeof(struct df_mix_sum),          \
	    sizeof(struct df_opt), sizeof(struct df_err)
#define DF_MIXER(mixer)                                  \
	extern const struct df_mix_plugin df_mix_plugin; \
	const struct df_mix_plugin df_mix_plugin = { DF_MIXER_SIZES, &(mixer) }

/*
 * *out = the mixer of the shared library at `path`, which stays loaded.  Its record is checked as far as one can see.
 * DF_ENOINPUT; DF_EFORMAT for a file that cannot be loaded, is no plug-in, was compiled for another version, or has a
 * record that cannot be right.
 */
int df_mix_plugin_load(const struct df_mixer **out, const char *path, struct df_err *err) DF_MUST_CHECK;

#endif

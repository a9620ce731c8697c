/*
 * emu.h - kernels without a GPU: what runs a grid on the CPU, for rt.cc and for tests.
 */
#ifndef DF_BACKEND_CUDA_EMU_EMU_H
#define DF_BACKEND_CUDA_EMU_EMU_H

#include "backend/cuda/emu/simt.h"
#include "base/err.h"

#define EMU_MOST_THREADS 1024 /* of a block */
int emu_arch(void); /* the compute capability, 90 or DF_EMU_ARCH */
size_t emu_most_shared(void); /* bytes of a block */

/* The order of everything that has no order; 0 is the order of numbers.  At first it is DF_EMU_SEED's. */
uint64_t emu_seed(void);
extern "C" void emu_set_seed(uint64_t seed); /* tests in C call it */

/* Numbers that follow from the seed. */
struct emu_random {
	uint64_t state;
};
uint32_t emu_draw(struct emu_random *r, uint32_t n); /* in [0, n) */

/* DF_EDEVICE where a device would refuse to begin. */
int emu_check_launch(const struct emu_launch *l, struct df_err *err) DF_MUST_CHECK;
/* Run all blocks now.  DF_EDEVICE, with kernel, block, threads and place, for what is undefined on a device. */
int emu_run(const struct emu_launch *l, struct df_err *err) DF_MUST_CHECK;

/* Where a fault at `text` (an address in words) happened, on stderr: the kernel, block and thread.  For signal handlers. */
void emu_say_fault(const char *text);

#endif

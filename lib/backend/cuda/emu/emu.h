/*
 * emu.h - kernels without a GPU: the emulator.  g++ compiles the .cu files as they are (DF_EMULATOR), and here is what
 * runs them, for rt.cc and for tests.  It is slow and strict: it is for finding faults, not for work.
 *
 * Threads.  Each thread of a block is a fiber with 64 KiB of stack, and all are fibers of one thread of the host.  A
 * fiber runs until it ends or waits: for its block in sync_block(), for its warp in a shuffle, a ballot, sync_warp(),
 * mma_bf16() or ldmatrix().  Blocks run one after the other.
 * Order.  DF_EMU_SEED (0) chooses the order of blocks, of warps between two barriers and of lanes within a warp; 0 is
 * the order of numbers.  Whatever the order, results must be right.
 * Meetings.  A barrier waits for all threads of the block, a warp's meeting for all of its lanes that have not ended.
 * Those who meet must come from the same line.  Who waits for somebody that has ended, or that waits elsewhere, is an
 * error that names kernel, block, threads and lines: on a device that is undefined.
 * Memory.  Shared memory has exactly the size that the launch gave and is NaN when a block begins.  The device's memory
 * is NaN when it is allocated, stands between guard pages, and is closed while the host runs (rt.cc).
 * What runs beside is late.  cp_async() leaves NaN and copies at the wait, or, with some seeds, copies at once: who
 * reads before the wait, or overwrites the source, is wrong in one of the two.  wgmma_bf16() likewise.  What is put
 * into a stream waits there until somebody waits for it, and runs in any order between streams that events allow; only
 * then is the host's pinned memory read and written, and it must not have changed since.
 * Sanitizers.  With ASan every byte beyond shared memory or an allocation of the device is an error at once.  With TSan
 * (make check-race; kernels are watched, the emulator is not) each thread of a block is a context of its own.  A switch
 * orders nothing; sync_block() and sync_warp() order those who come, the begin and end of a launch order it with the
 * host.  Shuffles, ballots and products order no memory: CUDA does not promise it.  Two sets of contexts take turns
 * between blocks, so that a race of two neighbours in the order is seen.
 *
 * It finds: wrong indices and layouts of fragments, bytes out of bounds, memory that was never written, missing and
 * divergent barriers, races within and between blocks, missing waits, wrong order of streams, a host that touches the
 * device's memory or pinned memory too early, launches that a device would refuse.  tests/cuda/test_emu.c plants these.
 * It cannot find: what hardware may reorder beyond that (kernels where blocks spin on each other's flags: do not write
 * them), faults in the PTX of simt.h's CUDA body, faults of the compiler, the last bits of tensor cores (products here
 * are float32 sums in the order of k), blocks of more threads than DF_KERNEL() says, registers, bank conflicts, speed.
 *
 * Other knobs: DF_EMU_ARCH (90) is the compute capability that is told, which also limits shared memory; DF_EMU_MEMORY
 * the device's bytes (half of the machine's); DF_EMU_NOW=1 runs everything as soon as it is enqueued, for debuggers.
 *
 * Any thread of the host may call this; work runs in one at a time.
 */
#ifndef DF_BACKEND_CUDA_EMU_EMU_H
#define DF_BACKEND_CUDA_EMU_EMU_H

#include "backend/cuda/emu/simt.h"
#include "base/err.h"

#define EMU_MOST_THREADS 1024 /* of a block */
int emu_arch(void);
size_t emu_most_shared(void); /* bytes of a block */

uint64_t emu_seed(void);
extern "C" void emu_set_seed(uint64_t seed); /* instead of DF_EMU_SEED; tests in C call it */

/* Numbers that follow from the seed. */
struct emu_random {
	uint64_t state;
};
uint32_t emu_draw(struct emu_random *r, uint32_t n); /* in [0, n) */

/* DF_EDEVICE where a device would refuse to begin. */
int emu_check_launch(const struct emu_launch *l, struct df_err *err) DF_MUST_CHECK;
/* Run all blocks now.  DF_EDEVICE, with kernel, block, threads and place, for what is undefined on a device. */
int emu_run(const struct emu_launch *l, struct df_err *err) DF_MUST_CHECK;

/* On stderr: in which kernel, block and thread the fault at `text` (an address in words) is.  For signal handlers. */
void emu_say_fault(const char *text);

#endif

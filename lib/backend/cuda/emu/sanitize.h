/*
 * sanitize.h - what the emulator tells ASan and TSan: the stacks of fibers, memory that must not be touched, and what
 * is ordered (emu.h).
 *
 * Under TSan (DF_EMU_TSAN) kernels are instrumented and the emulator is not.
 */
#ifndef DF_BACKEND_CUDA_EMU_SANITIZE_H
#define DF_BACKEND_CUDA_EMU_SANITIZE_H

#if defined(__SANITIZE_ADDRESS__)
#define EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMU_ASAN 1
#endif
#endif

#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define san_open(p, n) __asan_unpoison_memory_region((p), (n))
#define san_close(p, n) __asan_poison_memory_region((p), (n))
#else
#define EMU_ASAN 0
#define san_open(p, n) ((void)(p), (void)(n))
#define san_close(p, n) ((void)(p), (void)(n))
#endif

#ifdef DF_EMU_TSAN
#define EMU_TSAN 1
#include <stddef.h>
extern "C" {
void __tsan_acquire(void *p);
void __tsan_release(void *p);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *f);
void *__tsan_get_current_fiber(void);
void __tsan_switch_to_fiber(void *f, unsigned flags);
void __tsan_read2(void *p);
void __tsan_read16(void *p);
void __tsan_write16(void *p);
}
#else
#define EMU_TSAN 0
static inline void __tsan_acquire(void *) {}
static inline void __tsan_release(void *) {}
static inline void *__tsan_create_fiber(unsigned) { return 0; }
static inline void __tsan_destroy_fiber(void *) {}
static inline void *__tsan_get_current_fiber(void) { return 0; }
static inline void __tsan_switch_to_fiber(void *, unsigned) {}
static inline void __tsan_read2(void *) {}
static inline void __tsan_read16(void *) {}
static inline void __tsan_write16(void *) {}
#endif
#define NO_ORDER 1 /* __tsan_switch_to_fiber(): the switch orders nothing */

#endif

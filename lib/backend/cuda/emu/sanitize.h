/*
 * sanitize.h - what the emulator tells ASan: the stacks of fibers, and memory that must not be touched.
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

#endif

/*
 * rt.h - what the host asks of the CUDA runtime, and nothing else does.
 *
 * Two bodies: rt.c on libcudart, which is linked statically so that the plug-in loads where there is no driver, and
 * emu/rt.cc.  Functions return DF_OK or an error of df_err with CUDA's own words.
 */
#ifndef DF_BACKEND_CUDA_RT_H
#define DF_BACKEND_CUDA_RT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rt_stream *rt_stream_t; /* a cudaStream_t */
typedef struct rt_event *rt_event_t;

struct rt_device {
	char name[64];
	int major, minor;    /* compute capability: 9, 0 */
	int n_processors;
	size_t shared_bytes; /* most shared memory of a block, by consent */
	size_t l2_bytes, memory_bytes;
	bool emulated;
};

/*
 * Devices that there are.  Else the reason in words, and 0 where there is no driver or no device, -1 where there is one
 * that cannot be used.
 */
int rt_count(char *why, size_t size);
int rt_device(int number, struct rt_device *out, struct df_err *err) DF_MUST_CHECK;
int rt_use(int number, struct df_err *err) DF_MUST_CHECK; /* this thread's device; cheap to repeat */
int rt_memory(size_t *unused, struct df_err *err) DF_MUST_CHECK;

int rt_malloc(void **out, size_t nbytes, struct df_err *err) DF_MUST_CHECK; /* DF_ENOMEM; 256-byte aligned */
void rt_free(void *p);
int rt_malloc_pinned(void **out, size_t nbytes, struct df_err *err) DF_MUST_CHECK;
void rt_free_pinned(void *p);

/* Copies of n rows of `row` bytes, in a stream; host memory must be pinned to run beside, else they wait. */
int rt_to_device(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t row, size_t n, rt_stream_t s,
    struct df_err *err) DF_MUST_CHECK;
int rt_to_host(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t row, size_t n, rt_stream_t s,
    struct df_err *err) DF_MUST_CHECK;

int rt_stream_new(rt_stream_t *out, struct df_err *err) DF_MUST_CHECK;
void rt_stream_free(rt_stream_t s);
int rt_stream_wait(rt_stream_t s, struct df_err *err) DF_MUST_CHECK; /* all of it is done */
int rt_event_new(rt_event_t *out, struct df_err *err) DF_MUST_CHECK;
void rt_event_free(rt_event_t e);
int rt_event_record(rt_event_t e, rt_stream_t s, struct df_err *err) DF_MUST_CHECK;
int rt_event_wait(rt_event_t e, struct df_err *err) DF_MUST_CHECK;                /* the host waits */
int rt_stream_after(rt_stream_t s, rt_event_t e, struct df_err *err) DF_MUST_CHECK; /* the stream waits */

/* The error of a launch in this thread, if there was one; `what` names the kernel's operation. */
int rt_last_error(const char *what, struct df_err *err) DF_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif

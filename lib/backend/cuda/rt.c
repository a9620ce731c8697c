/*
 * rt.c - rt.h on the CUDA runtime.
 *
 * The runtime is linked statically and opens the driver itself, so this loads where there is none.
 */
#include "backend/cuda/rt.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <string.h>

static int
check(cudaError_t e, const char *what, struct df_err *err)
{
	if (e == cudaSuccess)
		return DF_OK;
	return df_fail(
	    err, e == cudaErrorMemoryAllocation ? DF_ENOMEM : DF_EDEVICE, "CUDA: %s: %s", what, cudaGetErrorString(e));
}

/* ---- devices -------------------------------------------------------------------------------------------------- */

int
rt_count(char *why, size_t size)
{
	int n = 0, driver = 0, runtime = 0;
	cudaError_t e = cudaGetDeviceCount(&n);

	if (size > 0)
		*why = '\0';
	if (e == cudaSuccess && n > 0)
		return n;
	cudaGetLastError();
	if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
		snprintf(why, size, "no NVIDIA driver here");
		return 0;
	}
	if (e == cudaErrorNoDevice || e == cudaSuccess) {
		snprintf(why, size, "no NVIDIA GPU here, or none that CUDA_VISIBLE_DEVICES shows");
		return 0;
	}
	if (e == cudaErrorInsufficientDriver && cudaRuntimeGetVersion(&runtime) == cudaSuccess)
		snprintf(why, size, "the NVIDIA driver here is for CUDA %d.%d, and %d.%d is needed", driver / 1000,
		    driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
	else
		snprintf(why, size, "%s", cudaGetErrorString(e));
	return -1;
}

int
rt_device(int number, struct rt_device *out, struct df_err *err)
{
	struct cudaDeviceProp p;
	int rc;

	DF_TRY(check(cudaGetDeviceProperties(&p, number), "cudaGetDeviceProperties", err));
	*out = (struct rt_device){ .major = p.major,
		.minor = p.minor,
		.n_processors = p.multiProcessorCount,
		.shared_bytes = p.sharedMemPerBlockOptin,
		.l2_bytes = (size_t)p.l2CacheSize,
		.memory_bytes = p.totalGlobalMem };
	snprintf(out->name, sizeof(out->name), "%.63s", p.name);
out:
	return rc;
}

int
rt_use(int number, struct df_err *err)
{
	return check(cudaSetDevice(number), "cudaSetDevice", err);
}

int
rt_memory(size_t *unused, struct df_err *err)
{
	size_t all;

	return check(cudaMemGetInfo(unused, &all), "cudaMemGetInfo", err);
}

/* ---- memory --------------------------------------------------------------------------------------------------- */

/* Out of memory is no fault of what follows. */
static int
check_alloc(cudaError_t e, const char *what, struct df_err *err)
{
	if (e == cudaErrorMemoryAllocation)
		cudaGetLastError();
	return check(e, what, err);
}

int
rt_malloc(void **out, size_t nbytes, struct df_err *err)
{
	return check_alloc(cudaMalloc(out, nbytes), "cudaMalloc", err);
}

void
rt_free(void *p)
{
	cudaFree(p);
}

int
rt_malloc_pinned(void **out, size_t nbytes, struct df_err *err)
{
	return check_alloc(cudaMallocHost(out, nbytes), "cudaMallocHost", err);
}

void
rt_free_pinned(void *p)
{
	cudaFreeHost(p);
}

/* ---- copies --------------------------------------------------------------------------------------------------- */

/* Dense windows are one run of bytes, which is copied faster than rows are. */
static cudaError_t
copy(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t row, size_t n, enum cudaMemcpyKind kind,
    rt_stream_t s)
{
	if (n == 1 || (to_pitch == row && from_pitch == row))
		return cudaMemcpyAsync(to, from, row * n, kind, (cudaStream_t)s);
	return cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, row, n, kind, (cudaStream_t)s);
}

int
rt_to_device(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t row, size_t n, rt_stream_t s,
    struct df_err *err)
{
	return check(
	    copy(to, to_pitch, from, from_pitch, row, n, cudaMemcpyHostToDevice, s), "a copy to the device", err);
}

int
rt_to_host(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t row, size_t n, rt_stream_t s,
    struct df_err *err)
{
	return check(
	    copy(to, to_pitch, from, from_pitch, row, n, cudaMemcpyDeviceToHost, s), "a copy to the host", err);
}

/* ---- order ---------------------------------------------------------------------------------------------------- */

int
rt_stream_new(rt_stream_t *out, struct df_err *err)
{
	/* not ordered with the default stream, which nothing here uses */
	return check(
	    cudaStreamCreateWithFlags((cudaStream_t *)out, cudaStreamNonBlocking), "cudaStreamCreateWithFlags", err);
}

void
rt_stream_free(rt_stream_t s)
{
	cudaStreamDestroy((cudaStream_t)s);
}

int
rt_stream_wait(rt_stream_t s, struct df_err *err)
{
	return check(cudaStreamSynchronize((cudaStream_t)s), "an operation before this", err);
}

int
rt_event_new(rt_event_t *out, struct df_err *err)
{
	return check(
	    cudaEventCreateWithFlags((cudaEvent_t *)out, cudaEventDisableTiming), "cudaEventCreateWithFlags", err);
}

void
rt_event_free(rt_event_t e)
{
	cudaEventDestroy((cudaEvent_t)e);
}

int
rt_event_record(rt_event_t e, rt_stream_t s, struct df_err *err)
{
	return check(cudaEventRecord((cudaEvent_t)e, (cudaStream_t)s), "cudaEventRecord", err);
}

int
rt_event_wait(rt_event_t e, struct df_err *err)
{
	return check(cudaEventSynchronize((cudaEvent_t)e), "an operation before this", err);
}

int
rt_stream_after(rt_stream_t s, rt_event_t e, struct df_err *err)
{
	return check(cudaStreamWaitEvent((cudaStream_t)s, (cudaEvent_t)e, 0), "cudaStreamWaitEvent", err);
}

int
rt_last_error(const char *what, struct df_err *err)
{
	return check(cudaGetLastError(), what, err);
}

/*
 * h5drive.c - our HDF5 file driver: how the library reads the bytes of a df_bytes.
 *
 * HDF5's own drivers would be enough, except for two questions that only a driver can answer in every version of
 * the library:
 *
 *   where does this chunk lie?      While a df_h5place is asked for, a read of raw data is noted, and not done.
 *   what will the library walk?     While strings of variable length are read, each global heap collection is walked by
 *                                   us first (h5heap.c): HDF5 1.10 may walk in place for ever in a damaged one.
 *                                   So is each object header (h5header.c), whose lengths it believes.
 *
 * The driver has none of the library's caches of metadata bytes before it (no H5FD_FEAT_ACCUMULATE_METADATA), so every
 * read arrives here as it is asked for.
 */
#include "shard/h5_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct drive {
	H5FD_t pub; /* the library's; must be first */
	int fd;     /* our own copy, because a second open of a file shares the first one's driver; -1: an image */
	const char *image;
	haddr_t eoa, eof;
	dev_t dev;
	ino_t ino;
	struct df_h5chunks walked; /* of object headers */
};

/* The requests to the driver in this thread's calls. */
static _Thread_local struct {
	struct df_h5place *place;
	bool heaps, unsound;
	const char *fault;
	haddr_t rest_at; /* the offset at which the read of the last walked collection continues */
} watch;

static hid_t driver = -1;

/* The library also opens the sources of a virtual dataset; it opens them by name, with the file's own property list. */
static void *
drive_fapl_get(H5FD_t *f)
{
	struct df_h5source *src = malloc(sizeof(*src));

	(void)f;
	if (src)
		*src = (struct df_h5source){ .fd = -1 };
	return src;
}

static void *
drive_fapl_copy(const void *fapl)
{
	struct df_h5source *src = malloc(sizeof(*src));

	if (src)
		*src = *(const struct df_h5source *)fapl;
	return src;
}

static herr_t
drive_fapl_free(void *fapl)
{
	free(fapl);
	return 0;
}

static H5FD_t *
drive_open(const char *name, unsigned flags, hid_t fapl, haddr_t maxaddr)
{
	const struct df_h5source *src = H5Pget_driver_info(fapl);
	struct drive *d;
	struct stat st;

	(void)maxaddr;
	if (flags & (H5F_ACC_RDWR | H5F_ACC_CREAT | H5F_ACC_TRUNC) || (d = calloc(1, sizeof(*d))) == NULL)
		return NULL;
	d->fd = -1;
	if (src && src->image) {
		d->image = src->image;
		d->eof = src->len;
		return &d->pub;
	}
	d->fd =
	    src && src->fd >= 0 ? fcntl(src->fd, F_DUPFD_CLOEXEC, 3) : open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (d->fd < 0 || fstat(d->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		if (d->fd >= 0)
			close(d->fd);
		free(d);
		return NULL;
	}
	d->eof = (haddr_t)st.st_size;
	d->dev = st.st_dev;
	d->ino = st.st_ino;
	return &d->pub;
}

static herr_t
drive_close(H5FD_t *f)
{
	struct drive *d = (struct drive *)f;

	if (d->fd >= 0)
		close(d->fd);
	free(d->walked.v);
	free(d);
	return 0;
}

/* Two handles that compare equal are one file to the library. */
static int
drive_cmp(const H5FD_t *f, const H5FD_t *g)
{
	const struct drive *a = (const struct drive *)f, *b = (const struct drive *)g;

	if (a->image || b->image)
		return (a->image > b->image) - (a->image < b->image);
	if (a->dev != b->dev)
		return a->dev < b->dev ? -1 : 1;
	return (a->ino > b->ino) - (a->ino < b->ino);
}

static herr_t
drive_query(const H5FD_t *f, unsigned long *flags)
{
	*flags = H5FD_FEAT_DATA_SIEVE;
	/* The library looks through symbolic links for the sources of a virtual dataset when it gets the descriptor. */
	if (f && ((const struct drive *)f)->fd >= 0)
		*flags |= H5FD_FEAT_POSIX_COMPAT_HANDLE;
	return 0;
}

static herr_t
drive_get_handle(H5FD_t *f, hid_t fapl, void **handle)
{
	struct drive *d = (struct drive *)f;

	(void)fapl;
	*handle = &d->fd;
	return d->fd >= 0 ? 0 : -1;
}

static haddr_t
drive_get_eoa(const H5FD_t *f, H5FD_mem_t type)
{
	(void)type;
	return ((const struct drive *)f)->eoa;
}

static herr_t
drive_set_eoa(H5FD_t *f, H5FD_mem_t type, haddr_t addr)
{
	(void)type;
	((struct drive *)f)->eoa = addr;
	return 0;
}

static haddr_t
drive_get_eof(const H5FD_t *f, H5FD_mem_t type)
{
	(void)type;
	return ((const struct drive *)f)->eof;
}

/* As in the library's own drivers, bytes after the end are zero. */
static herr_t
read_bytes(const struct drive *d, haddr_t at, char *to, size_t n)
{
	if (d->image && at < d->eof) {
		size_t have = d->eof - at < n ? (size_t)(d->eof - at) : n;

		memcpy(to, d->image + at, have);
		to += have;
		n -= have;
	}
	while (!d->image && n > 0) {
		ssize_t got = pread(d->fd, to, n, (off_t)at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		if (got == 0)
			break;
		at += (haddr_t)got;
		to += got;
		n -= (size_t)got;
	}
	memset(to, 0, n);
	return 0;
}

/* The first n bytes of an object at `at` were read.  If it is a collection, may the library walk all of it? */
static bool
heap_sound(const struct drive *d, haddr_t at, const char *bytes, size_t n)
{
	uint64_t size = df_h5_heap_size(bytes, n);
	char *whole;
	bool ok;

	if (size == 0 || at == watch.rest_at)
		return true;
	if (at > d->eof || size > d->eof - at)
		return false;
	if ((whole = malloc((size_t)size)) == NULL)
		return false;
	ok = read_bytes(d, at, whole, (size_t)size) == 0 && df_h5_heap_sound(whole, size);
	free(whole);
	watch.rest_at = at + n;
	return ok;
}

static bool
read_for_walk(void *ctx, uint64_t at, void *to, size_t n)
{
	return read_bytes(ctx, at, to, n) == 0;
}

/* The first n bytes of something of object headers were read: what keeps the library from going on? */
static const char *
header_fault(struct drive *d, haddr_t at, const char *bytes, size_t n)
{
	const struct df_h5walk w = { .read = read_for_walk, .ctx = d, .base = d->pub.base_addr, .end = d->eof };

	/* The rest of a header, and what it led to, were walked with it. */
	for (size_t i = 0; i < d->walked.n; i++)
		if (at >= d->walked.v[i].at && at - d->walked.v[i].at < d->walked.v[i].len)
			return NULL;
	return df_h5_header_fault(&w, at, bytes, n, &d->walked);
}

static herr_t
drive_read(H5FD_t *f, H5FD_mem_t type, hid_t dxpl, haddr_t addr, size_t size, void *buf)
{
	struct drive *d = (struct drive *)f;
	const char *fault;

	(void)dxpl;
	if (addr == HADDR_UNDEF || addr > INT64_MAX || size > INT64_MAX - addr)
		return -1;
	if (watch.place && type == H5FD_MEM_DRAW) {
		*watch.place = (struct df_h5place){ .at = addr, .len = size };
		return 0;
	}
	if (read_bytes(d, addr, buf, size) != 0)
		return -1;
	/* A collection comes as raw data. */
	if (watch.heaps && (type == H5FD_MEM_DRAW || type == H5FD_MEM_GHEAP) && !heap_sound(d, addr, buf, size)) {
		watch.unsound = true;
		return -1;
	}
	if (type == H5FD_MEM_OHDR && (fault = header_fault(d, addr, buf, size)) != NULL) {
		watch.fault = fault;
		return -1;
	}
	return 0;
}

static herr_t
drive_write(H5FD_t *f, H5FD_mem_t type, hid_t dxpl, haddr_t addr, size_t size, const void *buf)
{
	(void)f;
	(void)type;
	(void)dxpl;
	(void)addr;
	(void)size;
	(void)buf;
	return -1;
}

void
df_h5drive_init(void)
{
	static const H5FD_class_t class = {
#ifdef H5FD_CLASS_VERSION
		.version = H5FD_CLASS_VERSION,
		.value = (H5FD_class_value_t)600, /* the number that only has to be unique within one place */
#endif
		.name = "df-tools",
		.maxaddr = INT64_MAX,
		.fc_degree = H5F_CLOSE_WEAK,
		.fapl_size = sizeof(struct df_h5source),
		.fapl_get = drive_fapl_get,
		.fapl_copy = drive_fapl_copy,
		.fapl_free = drive_fapl_free,
		.open = drive_open,
		.close = drive_close,
		.cmp = drive_cmp,
		.query = drive_query,
		.get_eoa = drive_get_eoa,
		.set_eoa = drive_set_eoa,
		.get_eof = drive_get_eof,
		.get_handle = drive_get_handle,
		.read = drive_read,
		.write = drive_write,
		.fl_map = H5FD_FLMAP_DICHOTOMY,
	};

	driver = H5FDregister(&class);
}

int
df_h5drive_set(hid_t fapl, const struct df_bytes *bytes)
{
	struct df_h5source src = { .fd = df_bytes_fd(bytes) };

	src.image = df_bytes_memory(bytes, &src.len);
	return H5Pset_driver(fapl, driver, &src);
}

int
df_h5drive_place(hid_t dataset, const hsize_t *chunk, struct df_h5place *place, uint32_t *mask)
{
	char nothing[1];
	herr_t rc;

	*place = (struct df_h5place){ 0, 0 };
	watch.place = place;
	rc = H5Dread_chunk(dataset, H5P_DEFAULT, chunk, mask, nothing);
	watch.place = NULL;
	return rc < 0 || place->len == 0 ? -1 : 0;
}

const char *
df_h5drive_fault(void)
{
	return watch.fault;
}

void
df_h5drive_forget_fault(void)
{
	watch.fault = NULL;
}

void
df_h5drive_watch_heaps(void)
{
	watch.heaps = true;
	watch.unsound = false;
	watch.rest_at = HADDR_UNDEF;
}

bool
df_h5drive_heaps_sound(void)
{
	watch.heaps = false;
	return !watch.unsound;
}

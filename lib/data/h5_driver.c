/*
 * How HDF5 reads a file here: by a driver of its own, which reads what lies within the file and nothing else, and
 * declares none of the optimisations that HDF5 offers to drivers. In HDF5 1.10 the accumulator of metadata (H5Faccum.c)
 * adds lengths to addresses of a damaged file until they wrap around, and copies from before its buffer; a driver that
 * does not ask for it goes around it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/h5.h"

typedef struct reader {
    H5FD_t base; /* HDF5's part comes first */
    int descriptor;
    haddr_t size, allocated;
    dev_t device;
    ino_t inode;
} reader;

/* HDF5 keeps the struct and calls back without an env, so it is malloc's, as everything that HDF5 allocates. */
static H5FD_t *reader_open(const char *path, unsigned flags, hid_t access, haddr_t most)
{
    struct stat info;
    (void)access, (void)most;
    if (flags & H5F_ACC_RDWR) return NULL;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) return NULL;
    reader *r = fstat(descriptor, &info) == 0 && S_ISREG(info.st_mode) ? calloc(1, sizeof *r) : NULL;
    if (!r) {
        close(descriptor);
        return NULL;
    }
    r->descriptor = descriptor;
    r->size = (haddr_t)info.st_size;
    r->device = info.st_dev;
    r->inode = info.st_ino;
    return &r->base;
}

static herr_t reader_close(H5FD_t *file)
{
    close(((reader *)file)->descriptor);
    free(file);
    return 0;
}

/* Whether two open files are one, which HDF5 then shares. */
static int reader_compare(const H5FD_t *a, const H5FD_t *b)
{
    const reader *x = (const reader *)a, *y = (const reader *)b;
    if (x->device != y->device) return x->device < y->device ? -1 : 1;
    return x->inode < y->inode ? -1 : x->inode > y->inode;
}

static herr_t reader_query(const H5FD_t *file, unsigned long *flags)
{
    (void)file;
    if (flags) *flags = 0;
    return 0;
}

static haddr_t reader_allocated(const H5FD_t *file, H5FD_mem_t type)
{
    (void)type;
    return ((const reader *)file)->allocated;
}

static herr_t reader_set_allocated(H5FD_t *file, H5FD_mem_t type, haddr_t end)
{
    (void)type;
    ((reader *)file)->allocated = end;
    return 0;
}

static haddr_t reader_end(const H5FD_t *file, H5FD_mem_t type)
{
    (void)type;
    return ((const reader *)file)->size;
}

static herr_t reader_read(H5FD_t *file, H5FD_mem_t type, hid_t transfer, haddr_t at, size_t size, void *out)
{
    const reader *r = (const reader *)file;
    (void)type, (void)transfer;
    if (at > r->size || size > r->size - at) return -1;
    for (char *to = out; size;) {
        ssize_t n = pread(r->descriptor, to, size, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        to += n, at += (haddr_t)n, size -= (size_t)n;
    }
    return 0;
}

static herr_t reader_write(H5FD_t *file, H5FD_mem_t type, hid_t transfer, haddr_t at, size_t size, const void *data)
{
    (void)file, (void)type, (void)transfer, (void)at, (void)size, (void)data;
    return -1;
}

static const H5FD_class_t reader_class = {
    .name = "encdiff-reader",
    .maxaddr = INT64_MAX,
    .fc_degree = H5F_CLOSE_STRONG,
    .open = reader_open,
    .close = reader_close,
    .cmp = reader_compare,
    .query = reader_query,
    .get_eoa = reader_allocated,
    .set_eoa = reader_set_allocated,
    .get_eof = reader_end,
    .read = reader_read,
    .write = reader_write,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

/* A driver for each file: HDF5 shares files of one driver alone, and a file that is shared outlives its first handle.
 */
hid_t ed_h5_open_file(const char *path, hid_t *driver)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), file = -1;
    *driver = H5FDregister(&reader_class);
    if (*driver >= 0 && access >= 0 && H5Pset_driver(access, *driver, NULL) >= 0)
        file = H5Fopen(path, H5F_ACC_RDONLY, access);
    hid_t reason = file < 0 ? H5Eget_current_stack() : -1; /* any further call would forget it */
    if (access >= 0) H5Pclose(access);
    if (reason >= 0) H5Eset_current_stack(reason);
    return file;
}

void ed_h5_close_file(hid_t file, hid_t driver)
{
    if (file >= 0) H5Fclose(file);
    if (driver >= 0) H5FDunregister(driver);
}

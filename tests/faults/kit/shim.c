/* What a machine does on its own: a disk that answers EIO, a wall clock that jumps. Preloaded into an Umbel (kit/shim.py), told what to do
 * through a shared page, while it runs. The monotonic clock is left alone, as a real jump leaves it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { WRITES = 1, SYNCS = 2, READS = 4 };

static volatile struct page {
    int64_t clock_ns;   /* added to CLOCK_REALTIME */
    uint32_t fails;     /* what of the disk fails */
    uint32_t failed;    /* how often it has: for the test to see that it did */
} *page, none;

static const char *below;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("SHIM_PAGE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    page = map == MAP_FAILED ? &none : map;
    below = getenv("SHIM_BELOW");
    if (fd >= 0)
        close(fd);
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* Whether this call on this file is to fail. */
static int hit(int fd, uint32_t kind)
{
    char link[40], path[4096];
    if (!page || !(page->fails & kind) || !below)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0 || strncmp(path, below, strlen(below)) != 0)
        return 0;
    __atomic_add_fetch((uint32_t *)&page->failed, 1, __ATOMIC_RELAXED);
    errno = EIO;
    return 1;
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    static __typeof__(&clock_gettime) known;
    if (!known)
        known = (__typeof__(&clock_gettime))dlsym(RTLD_NEXT, "clock_gettime");
    int outcome = known(clock, at);
    if (outcome == 0 && clock == CLOCK_REALTIME && page) {
        int64_t ns = at->tv_nsec + page->clock_ns % 1000000000;
        int64_t carry = ns < 0 ? -1 : ns / 1000000000;
        at->tv_sec += page->clock_ns / 1000000000 + carry;
        at->tv_nsec = ns - carry * 1000000000;
    }
    return outcome;
}

ssize_t write(int fd, const void *from, size_t n)
{
    REAL(write);
    return hit(fd, WRITES) ? -1 : real(fd, from, n);
}

ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at)
{
    REAL(pwrite64);
    return hit(fd, WRITES) ? -1 : real(fd, from, n, at);
}

ssize_t pread64(int fd, void *to, size_t n, off64_t at)
{
    REAL(pread64);
    return hit(fd, READS) ? -1 : real(fd, to, n, at);
}

int ftruncate64(int fd, off64_t length)
{
    REAL(ftruncate64);
    return hit(fd, WRITES) ? -1 : real(fd, length);
}

int fsync(int fd)
{
    REAL(fsync);
    return hit(fd, SYNCS) ? -1 : real(fd);
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    return hit(fd, SYNCS) ? -1 : real(fd);
}

/* Loaded before libc (LD_PRELOAD) into every process of a run: the wall clock as if somebody had set it, by SKEW's first 8 bytes, ns,
 * and the clock that goes on while the machine is suspended, as if it had been, by the next 8. The monotonic clock no one can set. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <dlfcn.h>

static volatile int64_t *skew;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SKEW");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *at = fd < 0 ? MAP_FAILED : mmap(0, 16, PROT_READ, MAP_SHARED, fd, 0);
    if (fd >= 0) close(fd);
    skew = at == MAP_FAILED ? 0 : at;
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
}

int clock_gettime(clockid_t id, struct timespec *to) {
    int failed = real ? real(id, to) : (int)syscall(SYS_clock_gettime, id, to);
    int set = id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE;
    if (!failed && skew && (set || id == CLOCK_BOOTTIME)) {
        int64_t ns = to->tv_sec * 1000000000LL + to->tv_nsec + skew[set ? 0 : 1];
        to->tv_sec = ns / 1000000000LL;
        to->tv_nsec = ns % 1000000000LL;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict to, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    to->tv_sec = now.tv_sec;
    to->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}

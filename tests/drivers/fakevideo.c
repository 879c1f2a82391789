/* A kernel with one camera, in front of the real one (LD_PRELOAD): what the driver says is read by the C structures of the
 * system's own header, never by the driver's. FAKE_DEVICE is its path; FAKE_JPEG a file that is its frame (two bytes of its comment
 * are the frame's number); FAKE_LOG gets a line a request; FAKE_GONE: once that file exists the camera is unplugged; FAKE_WHAT may
 * say: smaller, slow, yuyv, nolock, metadata, realtime, broken. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <linux/videodev2.h>

#define BUFFERS 4
#define SIZE 65536
#define BASE 0x10000000LL

static int device = -1, memory = -1, queue[BUFFERS], queued, streaming;
static unsigned sequence;
static int controls[8][2];
static struct v4l2_fract interval = {1, 30};

static int says(const char *word) { const char *w = getenv("FAKE_WHAT"); return w && strstr(w, word); }

static void note(const char *format, ...) {
    const char *path = getenv("FAKE_LOG");
    FILE *log = path ? fopen(path, "a") : NULL;
    if (!log) return;
    va_list words;
    va_start(words, format);
    vfprintf(log, format, words);
    va_end(words);
    fclose(log);
}

static int make_device(void) {
    device = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (memory < 0) memory = memfd_create("fakevideo", MFD_CLOEXEC);
    if (ftruncate(memory, BUFFERS * SIZE)) return -1;
    queued = streaming = 0;
    return device;
}

static int opened(const char *name, const char *path, int flags, mode_t mode) {
    const char *mine = getenv("FAKE_DEVICE"), *gone = getenv("FAKE_GONE");
    if (mine && !strcmp(path, mine)) {
        if (gone && !access(gone, F_OK)) { errno = ENOENT; return -1; }
        return make_device();
    }
    int (*next)(const char *, int, ...) = dlsym(RTLD_NEXT, name);
    return next(path, flags, mode);
}
#define OPEN(name) int name(const char *path, int flags, ...) { \
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, int); va_end(more); return opened(#name, path, flags, mode); }
OPEN(open)
OPEN(open64)

void *mmap64(void *at, size_t length, int prot, int flags, int fd, off64_t offset) {
    void *(*next)(void *, size_t, int, int, int, off64_t) = dlsym(RTLD_NEXT, "mmap64");
    if (offset >= BASE && fd >= 0) { fd = memory; offset -= BASE; }
    return next(at, length, prot, flags, fd, offset);
}
void *mmap(void *at, size_t length, int prot, int flags, int fd, off_t offset) {
    return mmap64(at, length, prot, flags, fd, offset);
}

static int *control(int id) {
    for (int i = 0; i < 8; i++) {
        if (!controls[i][0]) controls[i][0] = id;
        if (controls[i][0] == id) return &controls[i][1];
    }
    return NULL;
}

static int filled(struct v4l2_buffer *b) {
    uint64_t ticks;
    if (read(device, &ticks, sizeof ticks) != sizeof ticks || !queued) { errno = EAGAIN; return -1; }
    int i = queue[0];
    memmove(queue, queue + 1, --queued * sizeof *queue);
    char *at = mmap64(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, i * SIZE);
    FILE *file = fopen(getenv("FAKE_JPEG"), "rb");
    b->bytesused = fread(at, 1, SIZE, file);
    fclose(file);
    at[6] = sequence >> 8 | 1, at[7] = sequence & 255 | 1;
    munmap(at, SIZE);
    struct timespec now;
    clock_gettime(says("realtime") ? CLOCK_REALTIME : CLOCK_MONOTONIC, &now);
    b->index = i, b->sequence = sequence++, b->length = SIZE, b->m.offset = BASE + i * SIZE;
    b->timestamp.tv_sec = now.tv_sec - 1, b->timestamp.tv_usec = now.tv_nsec / 1000; /* a second ago */
    b->flags = says("realtime") ? V4L2_BUF_FLAG_TIMESTAMP_UNKNOWN : V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    if (says("broken") && sequence % 2) b->flags |= V4L2_BUF_FLAG_ERROR;
    return 0;
}

static int answer(unsigned long request, void *data) {
    const char *gone = getenv("FAKE_GONE");
    if (gone && !access(gone, F_OK)) { errno = ENODEV; return -1; }
    struct v4l2_capability *cap = data;
    struct v4l2_format *format = data;
    struct v4l2_streamparm *parm = data;
    struct v4l2_requestbuffers *req = data;
    struct v4l2_buffer *b = data;
    struct v4l2_control *c = data;
    struct itimerspec every = {{0, 5000000}, {0, 5000000}};
    errno = EINVAL;
    switch (request) {
    case VIDIOC_QUERYCAP:
        memset(cap, 0, sizeof *cap);
        strcpy((char *)cap->card, "Fake Camera");
        cap->capabilities = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING | V4L2_CAP_DEVICE_CAPS | V4L2_CAP_META_CAPTURE;
        cap->device_caps = says("metadata") ? V4L2_CAP_META_CAPTURE : V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    case VIDIOC_S_FMT:
        note("format %u %ux%u %.4s\n", format->type, format->fmt.pix.width, format->fmt.pix.height,
             (char *)&format->fmt.pix.pixelformat);
        if (format->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return -1;
        if (says("smaller")) format->fmt.pix.width = 320, format->fmt.pix.height = 240;
        if (says("yuyv")) format->fmt.pix.pixelformat = V4L2_PIX_FMT_YUYV;
        return 0;
    case VIDIOC_S_PARM:
        note("interval %u/%u\n", parm->parm.capture.timeperframe.numerator, parm->parm.capture.timeperframe.denominator);
        if (says("slow")) parm->parm.capture.timeperframe = interval;
        parm->parm.capture.timeperframe.denominator *= 2, parm->parm.capture.timeperframe.numerator *= 2;
        return 0;
    case VIDIOC_REQBUFS:
        if (req->memory != V4L2_MEMORY_MMAP || req->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return -1;
        note("buffers %u\n", req->count);
        req->count = BUFFERS;
        return 0;
    case VIDIOC_QUERYBUF:
        if (b->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || b->index >= BUFFERS) return -1;
        b->length = SIZE, b->m.offset = BASE + b->index * SIZE;
        return 0;
    case VIDIOC_QBUF:
        if (b->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || b->memory != V4L2_MEMORY_MMAP || b->index >= BUFFERS) return -1;
        for (int i = 0; i < queued; i++) if (queue[i] == (int)b->index) return -1;
        queue[queued++] = b->index;
        return 0;
    case VIDIOC_DQBUF:
        if (!streaming || b->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || b->memory != V4L2_MEMORY_MMAP) return -1;
        return filled(b);
    case VIDIOC_STREAMON:
        if (*(int *)data != V4L2_BUF_TYPE_VIDEO_CAPTURE) return -1;
        streaming = 1;
        note("on with %d\n", queued);
        return timerfd_settime(device, 0, &every, NULL);
    case VIDIOC_S_CTRL:
        if (says("nolock") && c->id == V4L2_CID_EXPOSURE_AUTO) return -1;
        if (c->id == V4L2_CID_FOCUS_AUTO && says("fixedfocus")) return -1;
        note("control %s %d\n", c->id == V4L2_CID_EXPOSURE_AUTO ? "exposure_auto"
             : c->id == V4L2_CID_EXPOSURE_ABSOLUTE ? "exposure_absolute" : c->id == V4L2_CID_FOCUS_AUTO ? "focus_auto"
             : c->id == V4L2_CID_FOCUS_ABSOLUTE ? "focus_absolute" : c->id == V4L2_CID_AUTO_WHITE_BALANCE ? "auto_white_balance"
             : c->id == V4L2_CID_EXPOSURE_AUTO_PRIORITY ? "exposure_auto_priority" : "?", c->value);
        *control(c->id) = c->id == V4L2_CID_FOCUS_ABSOLUTE ? c->value / 5 * 5 : c->value;
        return 0;
    case VIDIOC_G_CTRL:
        c->value = *control(c->id);
        return 0;
    }
    note("? %lx\n", request);
    errno = ENOTTY;
    return -1;
}

int ioctl(int fd, unsigned long request, ...) {
    va_list more;
    va_start(more, request);
    void *data = va_arg(more, void *);
    va_end(more);
    if (fd == device && device >= 0) return answer(request, data);
    int (*next)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return next(fd, request, data);
}

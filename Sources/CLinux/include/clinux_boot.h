#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

// What PID 1 of a guest needs: mounts, modules, power, the random pool.
enum {
    CLINUX_MS_NOSUID = MS_NOSUID,
    CLINUX_MS_NODEV = MS_NODEV,
    CLINUX_MS_NOEXEC = MS_NOEXEC,
    CLINUX_MS_NOATIME = MS_NOATIME,
    CLINUX_MS_MOVE = MS_MOVE,
    CLINUX_MS_PRIVATE_RECURSIVE = MS_PRIVATE | MS_REC,
};

static inline int clinux_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *options) {
    return mount(source, target, type, flags, options);
}
static inline int clinux_power_off(void) { return reboot(RB_POWER_OFF); }

/// Writes a filesystem's dirty pages, named by a descriptor in it (syncfs(2)); Swift's Glibc module leaves it out.
static inline int clinux_syncfs(int descriptor) { return syncfs(descriptor); }
static inline int clinux_finit_module(int fd, const char *options) { return (int)syscall(SYS_finit_module, fd, options, 0); }

// Credits `length` (at most 512) bytes in full, and has the generator take a new seed from the pool at once, random(4): by itself it does
// so once a minute.
static inline int clinux_add_entropy(const void *bytes, int length) {
    // struct rand_pool_info with its array.
    struct { int entropy_count, buf_size; unsigned char buf[512]; } pool = { length * 8, length, { 0 } };
    if (length < 0 || length > (int)sizeof pool.buf) return -1;
    memcpy(pool.buf, bytes, (size_t)length);
    int fd = open("/dev/random", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    int result = ioctl(fd, RNDADDENTROPY, &pool);
    // ENODATA: it has had no seed yet, and takes one when there is enough.
    if (result == 0 && ioctl(fd, RNDRESEEDCRNG) != 0 && errno != ENODATA) result = -1;
    close(fd);
    return result;
}

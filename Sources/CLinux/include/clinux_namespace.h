#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sys/mount.h>
#include <sys/vfs.h>
#include <linux/magic.h>

enum {
    CLINUX_NSFS_MAGIC = 0x6e736673,
    CLINUX_CGROUP2_SUPER_MAGIC = CGROUP2_SUPER_MAGIC,
    CLINUX_TMPFS_MAGIC = TMPFS_MAGIC,
    CLINUX_MS_BIND = MS_BIND,
    CLINUX_MNT_DETACH = MNT_DETACH,
    CLINUX_UMOUNT_NOFOLLOW = UMOUNT_NOFOLLOW,
};

// The file system's magic number, or -1 with errno. statfs(2) truncates nothing on 64-bit machines.
static inline long clinux_filesystem_magic(const char *path) {
    struct statfs information;
    return statfs(path, &information) < 0 ? -1 : (long)information.f_type;
}

#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <unistd.h>

// Sparse files (lseek(2)) and copies inside the kernel (copy_file_range(2)).
enum {
    CLINUX_SEEK_DATA = SEEK_DATA,
    CLINUX_SEEK_HOLE = SEEK_HOLE,
};

// Gives a range back to the file system (fallocate(2)); it reads as zeros then.
static inline int clinux_punch_hole(int fd, off_t start, off_t count) {
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, count);
}

static inline ssize_t clinux_copy_file_range(int from, int64_t *from_offset, int to, int64_t *to_offset, size_t count) {
    return copy_file_range(from, from_offset, to, to_offset, count, 0);
}

// Locks `count` bytes from `start` on for writing, whether the file has them or not, until the last copy of the descriptor is closed
// (F_OFD_SETLK, fcntl(2)). Does not wait: EAGAIN when another has some of them.
static inline int clinux_lock_range(int fd, off_t start, off_t count) {
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = count};
    return fcntl(fd, F_OFD_SETLK, &range);
}

// Opens a file below a directory, through no link and no "..", whatever others put in the way (openat2(2)).
static inline int clinux_open_beneath(int directory, const char *path, int flags, mode_t mode) {
    struct open_how how = {
        .flags = (uint64_t)(unsigned)flags,
        .mode = (flags & 0100) ? mode : 0,  // O_CREAT
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
    };
    return (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
}

// Opens a file below a directory, through links as long as they stay below it (openat2(2)). Never creates one.
static inline int clinux_open_within(int directory, const char *path, int flags) {
    struct open_how how = {
        .flags = (uint64_t)(unsigned)flags,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    return (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
}

// Gives a file, and not what a link leads to, an SELinux label.
static inline int clinux_set_label(const char *path, const char *label) {
    return lsetxattr(path, "security.selinux", label, strlen(label) + 1, 0);
}

// The label of a file, with its zero byte.
static inline ssize_t clinux_label(const char *path, char *label, size_t size) {
    return lgetxattr(path, "security.selinux", label, size);
}

// The name of what readdir(3) found. d_name is declared longer than the entry may be: whoever copies it as a value, as Swift does for
// `pointee.d_name`, reads beyond the end of the directory's buffer.
static inline const char *clinux_entry_name(const struct dirent *entry) { return entry->d_name; }

#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

// Mount trees by descriptor: open_tree(2), mount_setattr(2), move_mount(2).
enum {
    CLINUX_O_PATH = O_PATH,
    CLINUX_MOUNT_ATTR_RDONLY = 0x1,
    CLINUX_MOUNT_ATTR_NOSUID = 0x2,
    CLINUX_MOUNT_ATTR_NODEV = 0x4,
    CLINUX_MOUNT_ATTR_NOEXEC = 0x8,
    CLINUX_MOUNT_ATTR_IDMAP = 0x100000,
    CLINUX_MS_PRIVATE = MS_PRIVATE,
    CLINUX_MS_SLAVE = MS_SLAVE,
    CLINUX_MS_SHARED = MS_SHARED,
};

// A detached copy of what is mounted at the open file `fd`; `recursive`: with the mounts below. Or -1 with errno.
static inline int clinux_clone_tree(int fd, int recursive) {
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
    return (int)syscall(SYS_open_tree, fd, "", flags);
}

// `propagation` 0 keeps the type; `idmap` is a user namespace's descriptor or -1.
static inline int clinux_set_mount(int tree, int recursive, uint64_t attributes, uint64_t propagation, int idmap) {
    struct mount_attr value = { .attr_set = attributes, .propagation = propagation };
    if (idmap >= 0) {
        value.attr_set |= CLINUX_MOUNT_ATTR_IDMAP;
        value.userns_fd = (uint64_t)idmap;
    }
    return (int)syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &value, sizeof value);
}

// Mounts a detached tree at `path`, which may be no link.
static inline int clinux_attach_tree(int tree, const char *path) {
    return (int)syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH);
}

// umount2(2), lazily and with all mounts below.
static inline int clinux_detach_mount(const char *path) { return umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW); }

static inline int clinux_write_map(pid_t pid, const char *name, const char *map, size_t length) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t written = write(fd, map, length);
    int error = errno;
    close(fd);
    errno = error;
    return written == (ssize_t)length ? 0 : -1;
}

// A user namespace with these maps (user_namespaces(7)), held by its descriptor alone. Or -1 with errno.
static inline int clinux_user_namespace(const char *uids, size_t uids_length, const char *gids, size_t gids_length) {
    // A raw clone: the child does nothing but wait to be killed, on the parent's copied stack.
    pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid < 0) return -1;
    if (pid == 0) {
        for (;;) syscall(SYS_ppoll, 0, 0, 0, 0, 0);
    }
    int fd = -1;
    if (clinux_write_map(pid, "uid_map", uids, uids_length) == 0 && clinux_write_map(pid, "gid_map", gids, gids_length) == 0) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    int error = errno;
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
    errno = error;
    return fd;
}

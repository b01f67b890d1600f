#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static inline int clinux_setns(int fd, int nstype) { return setns(fd, nstype); }
static inline int clinux_unshare(int flags) { return unshare(flags); }
static inline int clinux_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
    return prctl(option, a, b, c, d);
}
// Takes every capability out of the calling thread's bounding set: no program can give it back.
static inline int clinux_drop_bounding_set(void) {
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++) {
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) return -1;
    }
    return 0;
}

// Takes every capability from the calling thread's effective, permitted, inheritable and ambient sets.
static inline int clinux_drop_capabilities(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    memset(data, 0, sizeof(data));
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return -1;
    return (int)syscall(SYS_capset, &header, data);
}

static inline int clinux_pidfd_open(pid_t pid, unsigned int flags) { return (int)syscall(SYS_pidfd_open, pid, flags); }
// Another process's descriptor, here as well: pidfd_getfd(2).
static inline int clinux_pidfd_getfd(int pidfd, int descriptor) { return (int)syscall(SYS_pidfd_getfd, pidfd, descriptor, 0); }
static inline int clinux_pidfd_send_signal(int pidfd, int sig) { return (int)syscall(SYS_pidfd_send_signal, pidfd, sig, (void *)0, 0); }

enum {
    CLINUX_CLONE_NEWNS = CLONE_NEWNS,
    CLINUX_CLONE_NEWUTS = CLONE_NEWUTS,
    CLINUX_CLONE_NEWIPC = CLONE_NEWIPC,
    CLINUX_CLONE_NEWPID = CLONE_NEWPID,
    CLINUX_CLONE_NEWNET = CLONE_NEWNET,
    CLINUX_CLONE_NEWUSER = CLONE_NEWUSER,
    CLINUX_CLONE_NEWCGROUP = CLONE_NEWCGROUP,
    CLINUX_CLONE_THREAD = CLONE_THREAD,
    CLINUX_PR_SET_NO_NEW_PRIVS = PR_SET_NO_NEW_PRIVS,
    CLINUX_PR_SET_DUMPABLE = PR_SET_DUMPABLE,
    CLINUX_PR_SET_PDEATHSIG = PR_SET_PDEATHSIG,
    CLINUX_PR_SET_CHILD_SUBREAPER = PR_SET_CHILD_SUBREAPER,
};

#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
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
static inline int clinux_pidfd_open(pid_t pid, unsigned int flags) { return (int)syscall(SYS_pidfd_open, pid, flags); }
static inline int clinux_pidfd_send_signal(int pidfd, int sig) { return (int)syscall(SYS_pidfd_send_signal, pidfd, sig, (void *)0, 0); }

enum {
    CLINUX_CLONE_NEWNS = CLONE_NEWNS,
    CLINUX_CLONE_NEWUTS = CLONE_NEWUTS,
    CLINUX_CLONE_NEWIPC = CLONE_NEWIPC,
    CLINUX_CLONE_NEWPID = CLONE_NEWPID,
    CLINUX_CLONE_NEWNET = CLONE_NEWNET,
    CLINUX_CLONE_NEWUSER = CLONE_NEWUSER,
    CLINUX_CLONE_NEWCGROUP = CLONE_NEWCGROUP,
    CLINUX_PR_SET_PDEATHSIG = PR_SET_PDEATHSIG,
    CLINUX_PR_SET_CHILD_SUBREAPER = PR_SET_CHILD_SUBREAPER,
};

#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "clinux_code.h"
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

// The parent's whole life: reap whatever lands here, pass signals on, end as the child ends. Only C, because it runs
// in the process that fork(2) left behind and must stay as small as it is.
static inline void clinux_reap_until_end_of(pid_t child, const sigset_t *signals) {
    for (;;) {
        siginfo_t information;
        int signal = sigwaitinfo(signals, &information);
        if (signal < 0) continue;
        if (signal != SIGCHLD) {
            // The terminal has sent its signals to the whole foreground group already.
            if (information.si_code != SI_KERNEL) kill(child, signal);
            continue;
        }
        for (;;) {
            int status = 0;
            pid_t ended = waitpid(-1, &status, WNOHANG);
            if (ended <= 0) break;
            if (ended == child) _exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
        }
    }
}

// Returns 0 in the child, and -1 with errno when nothing was forked. Never returns in the parent.
static inline int clinux_run_below_subreaper(void) {
    sigset_t signals, before;
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGQUIT);
    sigaddset(&signals, SIGUSR1);
    sigaddset(&signals, SIGUSR2);
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) return -1;
    // An inherited SIG_IGN would make the kernel reap in our place and hide the child's status.
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_BLOCK, &signals, &before);
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0) {
        int failure = errno;
        sigprocmask(SIG_SETMASK, &before, (sigset_t *)0);
        errno = failure;
        return -1;
    }
    if (child > 0) {
        clinux_forget_code();
        clinux_reap_until_end_of(child, &signals);
        _exit(255);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent) _exit(255);
    sigprocmask(SIG_SETMASK, &before, (sigset_t *)0);
    return 0;
}

#pragma once
#include <signal.h>
#include <sys/signalfd.h>

// Blocks SIGTERM and SIGINT for the calling thread and returns a descriptor that becomes readable when one arrives.
static inline int clinux_signalfd_for_termination(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, (sigset_t *)0) != 0) return -1;
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

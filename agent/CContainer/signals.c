// Signal masks and actions by raw system calls: glibc hides signals 32 and 33 from its own.
#include "child.h"
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

static void set_mask(const uint64_t *mask, uint64_t *before) {
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, mask, before, sizeof *mask);
}

void cc_block_signals(uint64_t *before) {
    uint64_t all = UINT64_MAX;
    set_mask(&all, before);
}

void cc_restore_signals(const uint64_t *before) { set_mask(before, NULL); }

void cc_unblock_signals(void) {
    uint64_t none = 0;
    set_mask(&none, NULL);
}

void cc_reset_signals(void) {
    // The clone has cleared the handlers (CLONE_CLEAR_SIGHAND), but what the caller ignores is left.
    // The kernel's struct sigaction, all zero: SIG_DFL, no flags, no mask.
    struct { void *handler; unsigned long flags; void *restorer; uint64_t mask; } action = { 0 };
    for (int signal = 1; signal <= 64; signal++) {
        if (signal != SIGKILL && signal != SIGSTOP) syscall(SYS_rt_sigaction, signal, &action, NULL, sizeof action.mask);
    }
}

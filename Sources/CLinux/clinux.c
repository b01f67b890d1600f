#include "CLinux.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int crash_signals[] = { SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV };
static struct clinux_crash_record *crash_record;
static struct sigaction before_crash[NSIG];
static __thread int32_t crash_slot;

int32_t clinux_crash_enter(int32_t slot) {
    int32_t before = crash_slot;
    crash_slot = slot;
    return before;
}

static void note_crash(int number, siginfo_t *info, void *context) {
    (void)context;
    if (info->si_code > 0 || info->si_pid == getpid()) {
        crash_record->accused = crash_slot;
        crash_record->signal = number;
    }
    sigaction(number, &before_crash[number], NULL);
    // An instruction that failed fails again on return. A trap, and a signal that was sent, do not come again by themselves.
    if (info->si_code <= 0 || number == SIGTRAP) syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), number);
}

int clinux_note_crashes(struct clinux_crash_record *record) {
    crash_record = record;
    struct sigaction action = { .sa_sigaction = note_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    sigfillset(&action.sa_mask);
    for (unsigned i = 0; i < sizeof crash_signals / sizeof *crash_signals; i++) {
        if (sigaction(crash_signals[i], &action, &before_crash[crash_signals[i]]) != 0) return -1;
    }
    return 0;
}

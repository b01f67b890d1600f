#include "CLinux.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int crash_signals[] = { SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV };
static struct clinux_crash_record *crash_record;
static struct sigaction before_crash[NSIG];

static void note_crash(int number, siginfo_t *info, void *context) {
    (void)context;
    crash_record->signal = number;
    sigaction(number, &before_crash[number], NULL);
    // An instruction that failed fails again on return. A signal that was sent does not come again by itself.
    if (info->si_code <= 0) syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), number);
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

// The caller's side: clone, and wait for the report; first processes that are held until their start; the pause process of a shared
// PID namespace.
#include "child.h"
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int refuse(struct cc_failure *failure, int step, int error) {
    memset(failure, 0, sizeof *failure);
    failure->step = step;
    failure->error = error;
    return -1;
}

/// Reads until exec closes the pipe (0) or a failure is complete (-1).
static int await_report(int report, int timeout_ms, struct cc_failure *failure) {
    int64_t deadline = now_ms() + timeout_ms;
    struct cc_failure received;
    size_t used = 0;
    while (used < sizeof received) {
        int64_t left = deadline - now_ms();
        struct pollfd waited = { .fd = report, .events = POLLIN };
        int ready = poll(&waited, 1, left > 0 ? (int)left : 0);
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) return refuse(failure, CC_STEP_TIMEOUT, ETIMEDOUT);
        ssize_t count = read(report, (char *)&received + used, sizeof received - used);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return 0;
        used += (size_t)count;
    }
    received.detail[CC_DETAIL_LENGTH - 1] = 0;
    *failure = received;
    return -1;
}

/// Kills and reaps a child that did not get as far as exec. Somebody else may have reaped it already; one that hangs in the
/// kernel beyond SIGKILL is left to whoever reaps orphans.
static void discard(int pidfd) {
    enum { DEAD_WITHIN_MS = 5000 };
    cc_signal(pidfd, SIGKILL);
    struct pollfd waited = { .fd = pidfd, .events = POLLIN };
    while (poll(&waited, 1, DEAD_WITHIN_MS) < 0 && errno == EINTR) {}
    siginfo_t status;
    syscall(SYS_waitid, P_PIDFD, pidfd, &status, WEXITED | WNOHANG, NULL);
    close(pidfd);
}

static struct clone_args clone_arguments(uint64_t flags, int cgroup, int *pidfd) {
    return (struct clone_args){
        .flags = flags | CLONE_PIDFD | CLONE_CLEAR_SIGHAND | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
        .pidfd = (uint64_t)(uintptr_t)pidfd,
        .exit_signal = SIGCHLD,
        .cgroup = cgroup >= 0 ? (uint64_t)cgroup : 0,
    };
}

/// clone3(2) as fork; in the child returns 0.
static pid_t clone_child(uint64_t flags, int cgroup, int *pidfd) {
    struct clone_args arguments = clone_arguments(flags, cgroup, pidfd);
    return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}

/// Moves this thread's future children into the PID namespace of `target`, or back with -1. Other threads are not concerned.
static int enter_pid_namespace(int target) {
    static _Atomic int own = -1;  // stays open: a process never changes its own
    if (own < 0) {
        int opened = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
        if (opened < 0) return -1;
        int none = -1;
        if (!atomic_compare_exchange_strong(&own, &none, opened)) close(opened);
    }
    if (target >= 0) return (int)syscall(SYS_setns, target, CLONE_NEWPID);
    // Cannot fail for the caller's own namespace; a thread left in the other one must not go on.
    if (syscall(SYS_setns, own, CLONE_NEWPID) < 0) _exit(126);
    return 0;
}

/// A child that builds a root: a copy of the caller.
static int clone_first(const struct cc_spawn *spawn, int report, pid_t *pid, int *pidfd, struct cc_failure *failure) {
    bool joins = spawn->pid_namespace_pidfd >= 0;
    uint64_t mask;
    cc_block_signals(&mask);
    int step = CC_STEP_JOIN_PID_NAMESPACE;
    pid_t child = -1;
    int error = 0;
    if (!joins || enter_pid_namespace(spawn->pid_namespace_pidfd) == 0) {
        step = CC_STEP_CLONE;
        uint64_t own = (joins ? 0 : CLONE_NEWPID) | (spawn->new_ipc_namespace ? CLONE_NEWIPC : 0);
        child = clone_child(CLONE_NEWNS | own, spawn->cgroup, pidfd);
        if (child == 0) cc_child(spawn, report);
        error = errno;
        if (joins) enter_pid_namespace(-1);
    } else {
        error = errno;
    }
    cc_restore_signals(&mask);
    *pid = child;
    return child < 0 ? refuse(failure, step, error) : 0;
}

/// Follows the traced child to the first instruction of its command. Signals that come before are passed on, but for those that
/// would only stop it on its way. Returns 0, or -1 and fills `failure`.
static int follow(const struct cc_held *held, int timeout_ms, struct cc_failure *failure) {
    enum { WHILE_IT_WORKS_MS = 5, AFTER_EXEC_MS = 1 };
    int64_t deadline = now_ms() + timeout_ms;
    struct pollfd waited[] = { { .fd = held->report, .events = POLLIN }, { .fd = held->pidfd, .events = POLLIN } };
    for (;;) {
        siginfo_t stop;
        // Asks, and does not wait: wait(2) belongs to whoever reaps the caller's children. ESRCH: it runs.
        if (ptrace(PTRACE_GETSIGINFO, held->pid, NULL, &stop) == 0) {
            if (stop.si_code == (SIGTRAP | PTRACE_EVENT_EXEC << 8)) return 0;
            bool is_group_stop = stop.si_code >> 8 == PTRACE_EVENT_STOP;
            ptrace(PTRACE_CONT, held->pid, NULL, is_group_stop ? 0L : (long)stop.si_signo);
        } else if (errno != ESRCH) {
            return refuse(failure, CC_STEP_HOLD, errno);
        }
        if (now_ms() >= deadline) return refuse(failure, CC_STEP_TIMEOUT, ETIMEDOUT);
        int ready = poll(waited, 2, waited[0].fd >= 0 ? WHILE_IT_WORKS_MS : AFTER_EXEC_MS);
        if (ready <= 0) continue;
        struct cc_failure said;
        ssize_t count = waited[0].revents ? read(held->report, &said, sizeof said) : -1;
        if (count == sizeof said) {  // at most PIPE_BUF bytes: read whole
            said.detail[CC_DETAIL_LENGTH - 1] = 0;
            *failure = said;
            return -1;
        }
        if (count == 0) waited[0].fd = -1;  // exec has closed it, or the end of the process
        if (count < 0 && waited[1].revents) return refuse(failure, CC_STEP_KILLED, EINTR);
    }
}

int cc_create(const struct cc_spawn *spawn, struct cc_held *held, struct cc_failure *failure) {
    int report[2];
    if (pipe2(report, O_CLOEXEC) < 0) return refuse(failure, CC_STEP_CLONE, errno);
    memset(held, 0, sizeof *held);
    held->report = report[0];
    held->gate = eventfd(0, EFD_CLOEXEC);
    // The child inherits this, so that there is no moment in which the container could trace it.
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    struct cc_spawn waiting = *spawn;
    waiting.gate = held->gate;
    int result = held->gate < 0 ? refuse(failure, CC_STEP_CLONE, errno)
        : clone_first(&waiting, report[1], &held->pid, &held->pidfd, failure);
    close(report[1]);
    if (result < 0) {
        close(report[0]);
        if (held->gate >= 0) close(held->gate);
    }
    return result;
}

static void open_gate(const struct cc_held *held) { eventfd_write(held->gate, 1); }

/// Ends a held process that failed.
static int fail(struct cc_held *held) {
    close(held->report);
    close(held->gate);
    discard(held->pidfd);
    held->pidfd = -1;
    return -1;
}

int cc_hold(struct cc_held *held, int timeout_ms, struct cc_failure *failure) {
    if (ptrace(PTRACE_SEIZE, held->pid, NULL, (long)(PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)) == 0) {
        held->is_traced = true;
        open_gate(held);
        return follow(held, timeout_ms, failure) == 0 ? 0 : fail(held);
    }
    int error = errno;
    struct pollfd death = { .fd = held->pidfd, .events = POLLIN };
    if (poll(&death, 1, 0) > 0) {
        // One that is dead already has said why.
        if (await_report(held->report, timeout_ms, failure) == 0) refuse(failure, CC_STEP_KILLED, EINTR);
        return fail(held);
    }
    // Yama may forbid all tracing for good (kernel.yama.ptrace_scope = 3): then it waits where it is.
    if (error == EPERM) return 0;
    refuse(failure, CC_STEP_HOLD, error);
    return fail(held);
}

int cc_release(struct cc_held *held, int timeout_ms, struct cc_failure *failure) {
    if (!held->is_traced) {
        open_gate(held);
        if (await_report(held->report, timeout_ms, failure) < 0) return fail(held);
    } else if (ptrace(PTRACE_DETACH, held->pid, NULL, 0L) < 0) {
        refuse(failure, CC_STEP_KILLED, EINTR);
        return fail(held);
    }
    close(held->report);
    close(held->gate);
    return 0;
}

void cc_abandon(struct cc_held *held) { fail(held); }

static void run_further(void *spawn) { cc_child(spawn, -1); }

/// clone3(2) as vfork: the child runs `body` on `stack` in the caller's memory, which sleeps until exec or exit.
static pid_t clone_sharing(struct clone_args *arguments, void (*body)(void *), void *argument) {
    long result;
#if defined(__x86_64__)
    register void (*body_register)(void *) __asm__("r12") = body;
    register void *argument_register __asm__("r13") = argument;
    __asm__ volatile(
        "syscall\n\t"
        "testq %%rax, %%rax\n\t"
        "jnz 1f\n\t"
        "xorl %%ebp, %%ebp\n\t"
        "movq %%r13, %%rdi\n\t"
        "callq *%%r12\n\t"
        "ud2\n"
        "1:"
        : "=a"(result)
        : "0"((long)SYS_clone3), "D"(arguments), "S"(sizeof *arguments), "r"(body_register), "r"(argument_register)
        : "rcx", "r11", "memory");
#else
#error "cc_spawn needs clone3 with a stack of its own for this machine"
#endif
    if (result >= 0) return (pid_t)result;
    errno = (int)-result;
    return -1;
}

// The child borrows the caller's memory until exec, which is several times faster under emulation than a copy. The failure
// comes back in memory; SIGALRM bounds the time.
int cc_spawn(const struct cc_spawn *spawn, pid_t *pid, int *pidfd, struct cc_failure *failure) {
    enum { STACK_SIZE = 65536 };
    _Alignas(64) char stack[STACK_SIZE];
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    refuse(failure, CC_STEP_KILLED, EINTR);  // true until the child says otherwise
    struct clone_args arguments = clone_arguments(CLONE_VM | CLONE_VFORK, spawn->cgroup, pidfd);
    arguments.stack = (uint64_t)(uintptr_t)stack;
    arguments.stack_size = sizeof stack;
    uint64_t mask;
    cc_block_signals(&mask);
    int step = CC_STEP_JOIN_PID_NAMESPACE;
    pid_t child = -1;
    int error = 0;
    if (enter_pid_namespace(spawn->pid_namespace_pidfd) == 0) {
        step = CC_STEP_CLONE;
        cc_shared_report = failure;
        child = clone_sharing(&arguments, run_further, (void *)spawn);
        error = errno;
        cc_shared_report = NULL;
        enter_pid_namespace(-1);
    } else {
        error = errno;
    }
    cc_restore_signals(&mask);
    *pid = child;
    if (child < 0) return refuse(failure, step, error);
    if (failure->step == CC_STEP_NONE) return 0;
    discard(*pidfd);
    return -1;
}

static void reap_forever(void) {
    uint64_t child_signal = 1ULL << (SIGCHLD - 1);
    for (;;) {
        siginfo_t status;
        // Signals are blocked and so stay pending: a child that ends between the two calls is not missed.
        if (syscall(SYS_waitid, P_ALL, 0, &status, WEXITED, NULL) < 0 && errno == ECHILD) {
            syscall(SYS_rt_sigtimedwait, &child_signal, NULL, NULL, sizeof child_signal);
        }
    }
}

_Noreturn static void become_pause(const char *directory, int report) {
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    cc_reset_signals();
    int moved = fcntl(report, F_DUPFD_CLOEXEC, 64);
    if (moved < 0 || dup3(moved, CC_REPORT_FD, O_CLOEXEC) < 0) _exit(127);
    close(moved);
    if (syscall(SYS_close_range, 0, CC_REPORT_FD - 1, 0) < 0 || syscall(SYS_close_range, CC_REPORT_FD + 1, ~0U, 0) < 0) {
        cc_fail(CC_STEP_STDIO, "close_range");
    }
    prctl(PR_SET_NAME, "pause", 0, 0, 0);
    if (syscall(SYS_setsid) < 0) cc_fail(CC_STEP_SESSION, "");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) cc_fail(CC_STEP_PROPAGATION, "/");
    if (mount("tmpfs", directory, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,nr_inodes=1") < 0
        || chdir(directory) < 0) cc_fail(CC_STEP_ROOT, directory);
    if (cc_pivot_here() < 0) cc_fail(CC_STEP_PIVOT, directory);
    if (!cc_drop_capabilities()) cc_fail(CC_STEP_CAPABILITIES, "");
    close(CC_REPORT_FD);
    reap_forever();
    _exit(0);
}

int cc_pause(const char *directory, pid_t *pid, int *pidfd) {
    int report[2];
    if (pipe2(report, O_CLOEXEC) < 0) return -1;
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    uint64_t mask;
    cc_block_signals(&mask);
    pid_t child = clone_child(CLONE_NEWNS | CLONE_NEWPID, -1, pidfd);
    if (child == 0) become_pause(directory, report[1]);
    int error = errno;
    cc_restore_signals(&mask);
    close(report[1]);
    struct cc_failure failure = { .error = error };
    enum { READY_WITHIN_MS = 30000 };
    int result = child < 0 ? -1 : await_report(report[0], READY_WITHIN_MS, &failure);
    close(report[0]);
    if (child > 0 && result < 0) discard(*pidfd);
    *pid = child;
    errno = failure.error;
    return result;
}

_Noreturn static void hold_until_killed(void) {
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    // Or the streams of processes would never end.
    syscall(SYS_close_range, 0, ~0U, 0);
    cc_reset_signals();
    uint64_t none = 0;
    for (;;) syscall(SYS_rt_sigtimedwait, &none, NULL, NULL, sizeof none);
}

pid_t cc_hold_user_namespace(int *pidfd) {
    uint64_t mask;
    cc_block_signals(&mask);
    pid_t child = clone_child(CLONE_NEWUSER, -1, pidfd);
    if (child == 0) hold_until_killed();
    int error = errno;
    cc_restore_signals(&mask);
    errno = error;
    return child;
}

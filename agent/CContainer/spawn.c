// The caller's side: clone, wait for the report, and the pause process of a shared PID namespace.
#include "child.h"
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
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

/// clone3(2) as fork; in the child returns 0.
static pid_t clone_child(uint64_t flags, int cgroup, int *pidfd) {
    struct clone_args arguments = {
        .flags = flags | CLONE_PIDFD | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
        .pidfd = (uint64_t)(uintptr_t)pidfd,
        .exit_signal = SIGCHLD,
        .cgroup = cgroup >= 0 ? (uint64_t)cgroup : 0,
    };
    return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}

/// Clones into the PID namespace of `target`. Only this thread's future children are concerned, and only for the moment.
static pid_t clone_into(int target, uint64_t flags, int cgroup, int *pidfd, int *step) {
    int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    *step = CC_STEP_JOIN_PID_NAMESPACE;
    if (own < 0) return -1;
    pid_t pid = -1;
    int error;
    if (syscall(SYS_setns, target, CLONE_NEWPID) == 0) {
        *step = CC_STEP_CLONE;
        pid = clone_child(flags, cgroup, pidfd);
        if (pid == 0) return 0;
        error = errno;
        // Cannot fail for the caller's own namespace; a thread left in the other one must not go on.
        if (syscall(SYS_setns, own, CLONE_NEWPID) < 0) _exit(126);
    } else {
        error = errno;
    }
    close(own);
    errno = error;
    return pid;
}

int cc_spawn(const struct cc_spawn *spawn, pid_t *pid, int *pidfd, struct cc_failure *failure) {
    int report[2];
    if (pipe2(report, O_CLOEXEC) < 0) return refuse(failure, CC_STEP_CLONE, errno);
    // The child is born with this, so that there is no moment in which the container could trace it.
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    uint64_t mask;
    cc_block_signals(&mask);
    uint64_t flags = spawn->root ? CLONE_NEWNS : 0;
    int step = CC_STEP_CLONE;
    pid_t child = spawn->pid_namespace_pidfd < 0
        ? clone_child(flags | CLONE_NEWPID, spawn->cgroup, pidfd)
        : clone_into(spawn->pid_namespace_pidfd, flags, spawn->cgroup, pidfd, &step);
    if (child == 0) cc_child(spawn, report[1]);
    int error = errno;
    cc_restore_signals(&mask);
    close(report[1]);
    int result = child < 0 ? refuse(failure, step, error) : await_report(report[0], spawn->timeout_ms, failure);
    close(report[0]);
    if (child > 0 && result < 0) discard(*pidfd);
    *pid = child;
    return result;
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

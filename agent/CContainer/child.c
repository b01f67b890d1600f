// Between clone and exec: no allocation, no lock, no library state.
#include "child.h"
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

_Thread_local struct cc_failure *cc_shared_report;

void cc_fail(int step, const char *detail) {
    struct cc_failure failure = { .step = step, .error = errno };
    cc_copy(failure.detail, sizeof failure.detail, detail);
    if (cc_shared_report) {
        *cc_shared_report = failure;
        _exit(127);
    }
    // At most PIPE_BUF bytes: written whole.
    while (write(CC_REPORT_FD, &failure, sizeof failure) < 0 && errno == EINTR) {}
    _exit(127);
}

/// Stdio to 0, 1, 2, the report to 3, the root's tree or the process to join to 4, the user namespace to 5, the gate to 6,
/// everything else closed.
static void arrange_descriptors(const struct cc_spawn *spawn, int report) {
    enum { ABOVE = 64 };
    int kept = spawn->root ? spawn->root->tree : spawn->join_pidfd;
    // A number that has nothing to hold gets one descriptor more of what is kept.
    int user = spawn->user_namespace >= 0 ? spawn->user_namespace : kept;
    int wanted[] = {
        spawn->process->stdio[0], spawn->process->stdio[1], spawn->process->stdio[2], report < 0 ? kept : report, kept, user,
        spawn->gate >= 0 ? spawn->gate : kept,
    };
    const int count = sizeof wanted / sizeof wanted[0];
    // First out of the way of the numbers to fill, then into place.
    for (int i = 0; i < count; i++) {
        wanted[i] = fcntl(wanted[i], F_DUPFD_CLOEXEC, ABOVE);
        if (wanted[i] < 0) {
            if (report >= 0) dup3(report, CC_REPORT_FD, O_CLOEXEC);
            cc_fail(CC_STEP_STDIO, "");
        }
    }
    dup3(wanted[CC_REPORT_FD], CC_REPORT_FD, O_CLOEXEC);
    for (int i = 0; i < count; i++) {
        if (i != CC_REPORT_FD && dup3(wanted[i], i, i > STDERR_FILENO ? O_CLOEXEC : 0) < 0) cc_fail(CC_STEP_STDIO, "");
    }
    if (syscall(SYS_close_range, CC_LAST_FD + 1, ~0U, 0) < 0) cc_fail(CC_STEP_STDIO, "close_range");
}

static void take_terminal(const struct cc_process *process) {
    if (syscall(SYS_setsid) < 0) cc_fail(CC_STEP_SESSION, "");
    if (process->terminal && ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0) cc_fail(CC_STEP_TERMINAL, "");
}

/// Gives pipes and terminals to the user, who may open them again by /dev/stdout. Best effort.
static void give_stdio(const struct cc_process *process) {
    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        struct stat status;
        if (fstat(fd, &status) < 0 || status.st_uid == process->stdio_owner) continue;
        bool own = S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode) || (S_ISCHR(status.st_mode) && process->terminal);
        if (own && fchown(fd, process->stdio_owner, (gid_t)-1) < 0) continue;
    }
}

/// Waits until the caller traces this child.
static void wait_at_gate(void) {
    uint64_t opened;
    while (read(CC_GATE_FD, &opened, sizeof opened) < 0) {
        if (errno != EINTR) _exit(127);
    }
    close(CC_GATE_FD);
}

static void set_oom_score(const struct cc_process *process) {
    if (!process->has_oom_score_adj) return;
    char digits[16];
    int at = sizeof digits;
    int64_t value = process->oom_score_adj;
    uint64_t magnitude = (uint64_t)(value < 0 ? -value : value);
    do { digits[--at] = (char)('0' + magnitude % 10); magnitude /= 10; } while (magnitude);
    if (value < 0) digits[--at] = '-';
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0) cc_fail(CC_STEP_OOM_SCORE, "/proc/self/oom_score_adj");
    // Lowering needs CAP_SYS_RESOURCE; where the machine denies it to everybody the default stays.
    ssize_t written = write(fd, digits + at, sizeof digits - (size_t)at);
    if (written < 0 && errno != EACCES && errno != EPERM) cc_fail(CC_STEP_OOM_SCORE, "/proc/self/oom_score_adj");
    close(fd);
}

static void join(const struct cc_spawn *spawn) {
    if (syscall(SYS_setns, CC_ROOT_FD, CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWIPC) < 0) cc_fail(CC_STEP_JOIN_NAMESPACES, "");
    // setns has moved the root and the working directory to the container's root.
    if (strcmp(spawn->process->working_directory, "/") == 0) return;
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || dup3(root, CC_ROOT_FD, O_CLOEXEC) < 0) cc_fail(CC_STEP_JOIN_NAMESPACES, "/");
    close(root);
    cc_enter_directory(spawn->process->working_directory);
}

/// Lets SIGALRM end a child for which its caller cannot watch a clock. Only for a moment before exec, and never in PID 1 of a
/// namespace, which does not hear it.
static void limit_time(int milliseconds) {
    uint64_t all_but_alarm = ~(1ULL << (SIGALRM - 1));
    cc_restore_signals(&all_but_alarm);
    alarm((unsigned)(milliseconds + 999) / 1000);
}

void cc_child(const struct cc_spawn *spawn, int report) {
    const struct cc_process *process = spawn->process;
    // Until exec nobody else in the container may trace this copy of the caller or look at its files.
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    cc_reset_signals();
    if (report < 0) limit_time(spawn->timeout_ms);
    umask(0);
    cc_owner_uid = spawn->owner_uid;
    cc_owner_gid = spawn->owner_gid;
    if (spawn->root && spawn->ipc_namespace_pidfd >= 0 && syscall(SYS_setns, spawn->ipc_namespace_pidfd, CLONE_NEWIPC) < 0) {
        if (report >= 0) dup3(report, CC_REPORT_FD, O_CLOEXEC);
        cc_fail(CC_STEP_JOIN_NAMESPACES, "ipc");
    }
    arrange_descriptors(spawn, report);
    take_terminal(process);
    give_stdio(process);
    set_oom_score(process);
    if (spawn->root) {
        // Here, not by clone3: a cgroup namespace begins at the cgroup its maker is in at that moment.
        if (unshare(CLONE_NEWCGROUP) < 0) cc_fail(CC_STEP_CGROUP_NAMESPACE, "");
        cc_make_root(spawn->root, process);
        wait_at_gate();
    } else {
        join(spawn);
    }
    umask(022);
    cc_apply_credentials(process, spawn->user_namespace >= 0);
    if (report < 0) alarm(0);
    if (cc_shared_report) cc_shared_report->step = CC_STEP_NONE;
    // Not the caller's, which comes before all containers.
    setpriority(PRIO_PROCESS, 0, 0);
    cc_unblock_signals();
    cc_execute(process);
}

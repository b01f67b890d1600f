// swiftlet-pause: the first process of the PID namespace that a pod's containers on the node share (pid_namespaces(7)). The kernel gives
// it the children of processes that have ended, and ends the namespace with it.
//
// The daemon starts it in the pod's namespaces. It reads a byte from START before it does anything, and ends where the daemon has;
// it writes a line to ANSWER: empty when it is ready, else what has failed. Its argument says whose it is to who lists processes.
//
// Containers see it as /proc/1. One that may trace processes can have what it has, and have it do what it may: no file of the node, no
// capability, no descriptor, and no system call but to wait and to end.
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ANSWER = 3, START = 4, NOBODY = 65534 };
static const char NAME[] = "swiftlet-pause";

static void require(int result, const char *step) {
    if (result >= 0) return;
    dprintf(ANSWER, "%s: %s\n", step, strerror(errno));
    _exit(1);
}

// An empty, read-only tmpfs in a mount namespace of its own.
static void leave_files(void) {
    require(unshare(CLONE_NEWNS | CLONE_NEWCGROUP), "unshare the mount and control group namespaces");
    // What is unmounted here stays on the node.
    require(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), "make the mounts private");
    // Any directory that every node has.
    require(mount("none", "/proc", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,nr_inodes=2,mode=555"), "mount a tmpfs");
    require(chdir("/proc"), "enter the tmpfs");
    require((int)syscall(SYS_pivot_root, ".", "."), "pivot_root");
    require(umount2(".", MNT_DETACH), "unmount the node's root");
    require(chdir("/"), "enter the root");
}

static void leave_privileges(void) {
    require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "set no_new_privs");
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++) {
        require(prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "drop the bounding set");
    }
    require(setgroups(0, NULL), "leave the groups");
    require(setresgid(NOBODY, NOBODY, NOBODY), "become nobody's group");
    require(setresuid(NOBODY, NOBODY, NOBODY), "become nobody");
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
    require((int)syscall(SYS_capset, &header, none), "drop the capabilities");
    // Nobody of the same id looks into /proc/1 (proc(5)).
    require(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "refuse to be traced");
}

#define IS(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))

// It is judged behind tracers (ptrace(2)): containers' own profiles are not this process's, nor are the bounds of their memory and processes.
// x32's numbers are none of these.
static void leave_system_calls(void) {
    struct sock_filter code[] = {
        LOAD(arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        LOAD(nr),
        IS(SYS_pause),
        IS(SYS_restart_syscall),
        IS(SYS_rt_sigreturn),
        IS(SYS_exit_group),
        // The answer.
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close, 0, 3),
        LOAD(args[0]),
        IS(ANSWER),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    };
    struct sock_fprog filter = {.len = sizeof code / sizeof code[0], .filter = code};
    require(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0), "leave the system calls");
}

int main(int argc, char **argv) {
    char byte;
    if (read(START, &byte, 1) != 1) return 1;
    if (getpid() != 1) {
        dprintf(ANSWER, "it is not the first process of a PID namespace\n");
        return 1;
    }
    // It was started by the name of a descriptor.
    prctl(PR_SET_NAME, NAME);
    if (argc > 0 && strlen(argv[0]) >= strlen(NAME)) strcpy(argv[0], NAME);
    // The kernel buries its children itself (wait(2), NOTES).
    struct sigaction bury = {.sa_handler = SIG_IGN, .sa_flags = SA_NOCLDWAIT};
    require(sigaction(SIGCHLD, &bury, NULL), "leave children to the kernel");
    leave_files();
    leave_privileges();
    // What it is executed from as well.
    require((int)syscall(SYS_close_range, 0U, ANSWER - 1U, 0U), "close the standard streams");
    require((int)syscall(SYS_close_range, ANSWER + 1U, ~0U, 0U), "close the descriptors");
    leave_system_calls();
    // The line says that it is ready, and the end that it has nothing any more.
    require((int)write(ANSWER, "\n", 1), "answer");
    close(ANSWER);
    // Any other signal is nothing to the first process of a namespace that has no handler for it.
    for (;;) pause();
}

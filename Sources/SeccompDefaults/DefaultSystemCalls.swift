/// System calls by subject, by the names of all machines; libseccomp knows which machine has which.
public enum DefaultSystemCalls {
    /// Always allowed.
    public static let always: [String] = [
        // Files: open, read, write, close.
        "_llseek", "close", "close_range", "copy_file_range", "creat", "dup", "dup2", "dup3", "fadvise64", "fadvise64_64",
        "fallocate", "fcntl", "fcntl64", "fdatasync", "flock", "fsync", "ftruncate", "ftruncate64", "ioctl", "lseek",
        "memfd_create", "memfd_secret", "open", "openat", "openat2", "pread64", "preadv", "preadv2", "pwrite64", "pwritev",
        "pwritev2", "read", "readahead", "readv", "sendfile", "sendfile64", "splice", "sync", "sync_file_range", "syncfs", "tee",
        "truncate", "truncate64", "vmsplice", "write", "writev",
        // Names and what they point at.
        "access", "chdir", "chmod", "chown", "chown32", "faccessat", "faccessat2", "fanotify_mark", "fchdir", "fchmod", "fchmodat",
        "fchown", "fchown32", "fchownat", "fgetxattr", "flistxattr", "fremovexattr", "fsetxattr", "fstat", "fstat64", "fstatat64",
        "fstatfs", "fstatfs64", "futimesat", "getcwd", "getdents", "getdents64", "getxattr", "inotify_add_watch", "inotify_init",
        "inotify_init1", "inotify_rm_watch", "lchown", "lchown32", "lgetxattr", "link", "linkat", "listxattr", "llistxattr",
        "lremovexattr", "lsetxattr", "lstat", "lstat64", "mkdir", "mkdirat", "mknod", "mknodat", "name_to_handle_at", "newfstatat",
        "oldfstat", "oldlstat", "oldstat", "readlink", "readlinkat", "removexattr", "rename", "renameat", "renameat2", "rmdir",
        "setxattr", "stat", "stat64", "statfs", "statfs64", "statx", "symlink", "symlinkat", "umask", "unlink", "unlinkat", "utime",
        "utimensat", "utimensat_time64", "utimes",
        // Waiting for descriptors, and input and output in the background.
        "_newselect", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait",
        "epoll_wait_old", "eventfd", "eventfd2", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_pgetevents_time64",
        "io_setup", "io_submit", "pipe", "pipe2", "poll", "ppoll", "ppoll_time64", "pselect6", "pselect6_time64", "select",
        "signalfd", "signalfd4", "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime", "timerfd_settime64",
        // Sockets; socket(2) itself has a rule of its own.
        "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recv", "recvfrom",
        "recvmmsg", "recvmmsg_time64", "recvmsg", "send", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socketcall",
        "socketpair",
        // Memory.
        "brk", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "madvise", "membarrier", "mincore",
        "mlock", "mlock2", "mlockall", "mmap", "mmap2", "mprotect", "mremap", "msync", "munlock", "munlockall", "munmap",
        "pkey_alloc", "pkey_free", "pkey_mprotect", "process_madvise", "process_mrelease", "remap_file_pages", "shmat", "shmctl",
        "shmdt", "shmget",
        // Processes and threads.
        "arch_prctl", "capget", "capset", "execve", "execveat", "exit", "exit_group", "fork", "futex", "futex_time64",
        "futex_waitv", "get_robust_list", "get_thread_area", "getpgid", "getpgrp", "getpid", "getppid", "getsid", "gettid",
        "modify_ldt", "pidfd_open", "pidfd_send_signal", "prctl", "process_vm_readv", "process_vm_writev", "ptrace", "rseq",
        "seccomp", "set_robust_list", "set_thread_area", "set_tid_address", "setpgid", "setsid", "vfork", "wait4", "waitid",
        "waitpid",
        // Users and groups.
        "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups", "getgroups32", "getresgid",
        "getresgid32", "getresuid", "getresuid32", "getuid", "getuid32", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32",
        "setgid", "setgid32", "setgroups", "setgroups32", "setregid", "setregid32", "setresgid", "setresgid32", "setresuid",
        "setresuid32", "setreuid", "setreuid32", "setuid", "setuid32",
        // Scheduling and limits.
        "getcpu", "getpriority", "getrlimit", "getrusage", "ioprio_get", "ioprio_set", "nice", "prlimit64",
        "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam",
        "sched_getscheduler", "sched_rr_get_interval", "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr",
        "sched_setparam", "sched_setscheduler", "sched_yield", "setpriority", "setrlimit", "sysinfo", "times", "ugetrlimit",
        "uname",
        // Signals.
        "alarm", "kill", "pause", "restart_syscall", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo",
        "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sigaction",
        "sigaltstack", "signal", "sigprocmask", "sigreturn", "tgkill", "tkill",
        // Time.
        "adjtimex", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64", "clock_gettime", "clock_gettime64",
        "clock_nanosleep", "clock_nanosleep_time64", "getitimer", "gettimeofday", "nanosleep", "setitimer", "time", "timer_create",
        "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime", "timer_settime64",
        // Messages and semaphores.
        "getrandom", "ipc", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64", "mq_timedsend",
        "mq_timedsend_time64", "mq_unlink", "msgctl", "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop", "semtimedop",
        "semtimedop_time64",
        // Of 32-bit ARM.
        "arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls", "sync_file_range2",
    ]

    /// Allowed together with any of some capabilities.
    public static let byCapability: [(capabilities: [String], calls: [String])] = [
        (["CAP_DAC_READ_SEARCH"], ["open_by_handle_at"]),
        (
            ["CAP_SYS_ADMIN"],
            [
                "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie", "mount",
                "mount_setattr", "move_mount", "open_tree", "perf_event_open", "quotactl", "quotactl_fd", "setdomainname",
                "sethostname", "setns", "syslog", "umount", "umount2", "unshare",
            ]
        ),
        (["CAP_SYS_BOOT"], ["reboot"]),
        (["CAP_SYS_CHROOT"], ["chroot"]),
        (["CAP_SYS_MODULE"], ["delete_module", "finit_module", "init_module"]),
        (["CAP_SYS_PACCT"], ["acct"]),
        (["CAP_SYS_PTRACE"], ["kcmp", "pidfd_getfd"]),
        (["CAP_SYS_RAWIO"], ["ioperm", "iopl"]),
        (["CAP_SYS_TIME"], ["clock_settime", "clock_settime64", "settimeofday", "stime"]),
        (["CAP_SYS_TTY_CONFIG"], ["vhangup"]),
        (["CAP_SYS_NICE"], ["get_mempolicy", "mbind", "migrate_pages", "move_pages", "set_mempolicy", "set_mempolicy_home_node"]),
        (["CAP_SYSLOG"], ["syslog"]),
        (["CAP_BPF"], ["bpf"]),
        (["CAP_PERFMON"], ["perf_event_open"]),
    ]
}

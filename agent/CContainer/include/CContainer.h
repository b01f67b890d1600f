// Makes a container's process between clone and exec.
//
// The caller (Swift) resolves names, allocates every string and fills one flat `cc_spawn`; from the clone on only
// async-signal-safe C runs, on memory that was there before. All paths of a container are resolved with openat2 below
// its root, so that no link in an image leads out of it.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/// What the child, or the caller just before it, was doing when it failed.
enum cc_step {
    CC_STEP_NONE = 0,
    CC_STEP_JOIN_PID_NAMESPACE,
    CC_STEP_CLONE,
    CC_STEP_TIMEOUT,
    CC_STEP_KILLED,
    CC_STEP_HOLD,
    CC_STEP_SESSION,
    CC_STEP_STDIO,
    CC_STEP_TERMINAL,
    CC_STEP_OOM_SCORE,
    CC_STEP_JOIN_NAMESPACES,
    CC_STEP_PROPAGATION,
    CC_STEP_ROOT,
    CC_STEP_CGROUP_NAMESPACE,
    CC_STEP_MOUNT_SOURCE,
    CC_STEP_MOUNT_CREATE,
    CC_STEP_MOUNT_OPTION,
    CC_STEP_MOUNT_ATTRIBUTES,
    CC_STEP_MOUNT_TARGET,
    CC_STEP_MOUNT_ATTACH,
    CC_STEP_DEVICE,
    CC_STEP_LINK,
    CC_STEP_MASK,
    CC_STEP_READONLY,
    CC_STEP_PIVOT,
    CC_STEP_WORKING_DIRECTORY,
    CC_STEP_RLIMIT,
    CC_STEP_CAPABILITIES,
    CC_STEP_USER,
    CC_STEP_NO_NEW_PRIVILEGES,
    CC_STEP_USER_NAMESPACE,
    CC_STEP_SECCOMP,
    CC_STEP_COMMAND_NOT_FOUND,
    CC_STEP_EXEC,
    CC_STEP_INTERPRETER,
};

/// Longest part of a path that a failure carries.
#define CC_DETAIL_LENGTH 512

struct cc_failure {
    int32_t step;   ///< enum cc_step
    int32_t error;  ///< errno
    char detail[CC_DETAIL_LENGTH];  ///< the path or name concerned, cut at the end; may be empty
};

/// A parameter of a filesystem as fsconfig(2) takes it; `value` NULL is a flag.
struct cc_option {
    const char *key;
    const char *value;
};

enum cc_mount_flags {
    CC_MOUNT_RECURSIVE = 1,             ///< bind: with the mounts below the source
    CC_MOUNT_ATTRIBUTES_RECURSIVE = 2,  ///< attributes hold for the mounts below as well
    CC_MOUNT_TARGET_NO_LINKS = 4,       ///< refuse a target that is reached over a symbolic link
    CC_MOUNT_IF_SUPPORTED = 8,          ///< leave out when the kernel lacks the filesystem
    CC_MOUNT_OWN = 16,                  ///< a directory of the root itself, which is to be there and writable
};

/// One mount, made in the order of the array.
struct cc_mount {
    const char *target;      ///< absolute, in the container; made when it is missing
    const char *source;      ///< bind: path in the caller's mount namespace. Filesystem: its "source", may be NULL
    const char *filesystem;  ///< NULL for a bind mount
    const struct cc_option *options;
    uint32_t option_count;
    uint32_t flags;          ///< enum cc_mount_flags
    uint64_t attributes_set;      ///< MOUNT_ATTR_*
    uint64_t attributes_cleared;  ///< MOUNT_ATTR_*
    uint64_t propagation;    ///< MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE, or 0: keep
};

struct cc_device {
    const char *path;
    uint32_t mode;  ///< with S_IFCHR or S_IFBLK
    uint32_t major, minor;
    uint32_t uid, gid;
};

struct cc_link {
    const char *path;
    const char *destination;
};

struct cc_rlimit {
    int32_t resource;
    uint64_t soft, hard;
};

/// Bit n is capability n of capabilities(7).
struct cc_capabilities {
    uint64_t bounding, permitted, effective, inheritable, ambient;
};

/// A seccomp program in classic BPF.
struct cc_filter {
    const uint64_t *instructions;  ///< struct sock_filter each
    uint16_t instruction_count;
    uint32_t flags;  ///< SECCOMP_FILTER_FLAG_*
};

struct cc_process {
    const char *const *arguments;    ///< NULL-terminated, not empty
    const char *const *environment;  ///< NULL-terminated
    const char *search_path;         ///< PATH for a command without a slash
    const char *working_directory;   ///< absolute; made when it is missing
    uint32_t uid, gid;
    const uint32_t *groups;
    uint32_t group_count;
    struct cc_capabilities capabilities;
    const struct cc_rlimit *rlimits;
    uint32_t rlimit_count;
    bool no_new_privileges;
    const struct cc_filter *filter;  ///< NULL: every system call is allowed
    bool has_oom_score_adj;
    int32_t oom_score_adj;
    int32_t stdio[3];
    uint32_t stdio_owner;  ///< `uid` as the caller's user namespace calls it
    bool terminal;  ///< stdio is the slave of a terminal that becomes the controlling one
};

/// The root of a container that starts.
struct cc_root {
    int32_t tree;              ///< detached mount of the root (open_tree)
    const char *attach_point;  ///< an empty directory of the caller's mount namespace
    const struct cc_mount *mounts;  ///< before the devices: what makes /proc, /sys and /dev
    uint32_t mount_count;
    const struct cc_device *devices;
    uint32_t device_count;
    const struct cc_link *links;
    uint32_t link_count;
    const struct cc_mount *volumes;  ///< after the devices
    uint32_t volume_count;
    const char *const *masked_paths;
    uint32_t masked_count;
    const char *const *readonly_paths;
    uint32_t readonly_count;
    bool readonly;
};

struct cc_spawn {
    const struct cc_process *process;
    const struct cc_root *root;  ///< of a first process; NULL: join the namespaces of `join_pidfd`
    int32_t join_pidfd;          ///< -1 with `root`
    int32_t pid_namespace_pidfd; ///< a process whose PID namespace is joined; -1: make a new one
    int32_t ipc_namespace_pidfd; ///< with `root`: a process whose IPC namespace is joined; -1: the caller's, or a new one
    bool new_ipc_namespace;      ///< with `root`
    int32_t user_namespace;      ///< a user namespace's file; -1: the caller's
    uint32_t owner_uid, owner_gid;  ///< of what is made in the container, as the caller's user namespace calls them
    int32_t cgroup;              ///< directory of the cgroup v2 that the child is cloned into
    int32_t timeout_ms;          ///< until exec
    int32_t gate;                ///< -1; `cc_create` sets it
};

/// Clones a further process of a container as a direct child of the caller and waits until it has executed its command.
/// Returns 0 and sets `pid` (of the caller's PID namespace) and `pidfd` (CLOEXEC), or -1 and fills `failure`; then the
/// child is gone and reaped.
int cc_spawn(const struct cc_spawn *spawn, pid_t *pid, int *pidfd, struct cc_failure *failure);

/// A container's first process before its start. All descriptors are CLOEXEC.
struct cc_held {
    pid_t pid;      ///< of the caller's PID namespace
    int pidfd;
    int report, gate;
    bool is_traced;
};

/// Clones a first process as a direct child of the caller: it makes its root and waits at its gate. Returns 0, or -1 and fills
/// `failure`. The calling thread is the child's parent, whose end some processes ask to be signalled (PR_SET_PDEATHSIG).
int cc_create(const struct cc_spawn *spawn, struct cc_held *held, struct cc_failure *failure);

/// Has the child execute its command and holds it before the first instruction of it. Returns 0, or -1 and fills `failure`; then
/// the child is gone and `held` over. Where the kernel lets nobody trace, the child stays at its gate.
///
/// The calling thread traces the child (ptrace(2)): only it can release it, and with its end the child ends as well. A caller
/// of wait(2) for all children sees a child trapped once.
int cc_hold(struct cc_held *held, int timeout_ms, struct cc_failure *failure);

/// Lets it run; after that it is a process like any other, and its pidfd the caller's. Returns 0, or -1 and fills `failure`;
/// then the child is gone and `held` over.
int cc_release(struct cc_held *held, int timeout_ms, struct cc_failure *failure);

/// Ends it and closes its pidfd.
void cc_abandon(struct cc_held *held);

/// Clones PID 1 of a new PID namespace: it reaps what it inherits and does nothing else, without capabilities, files or a
/// file tree of its own. `directory` is an empty directory. Returns 0, or -1 with errno.
int cc_pause(const char *directory, pid_t *pid, int *pidfd);

/// Finds `path` below the directory `root`, out of which no link leads. Returns an O_PATH descriptor or -1 with errno.
int cc_find_in_root(int root, const char *path);

/// Opens a terminal of the /dev/pts below the directory `root`, neither end controlling. Returns 0, or -1 with errno: also
/// when no devpts is mounted there.
int cc_open_terminal(int root, int *master, int *slave);

/// Clones the tree mounted at `path` as a detached one, not recursively. Returns its descriptor or -1 with errno.
int cc_clone_tree(const char *path);

/// Shows the tree mounted at `path` with the ids of `user_namespace`, by a further mount on top of it. Returns 0, or -1 with
/// errno: EINVAL when the filesystem cannot do that.
int cc_map_mount(const char *path, int user_namespace);

/// Devices that the processes of a cgroup may use.
struct cc_device_rule {
    bool block;
    int32_t major, minor;  ///< -1: any
    uint32_t access;       ///< bits: 1 make a node, 2 read, 4 write
};

/// Allows the processes of a cgroup v2, and of those below, only what one of the rules covers. Holds as long as the cgroup
/// exists. Returns 0, or -1 with errno.
int cc_restrict_devices(int cgroup, const struct cc_device_rule *rules, uint32_t count);

/// Makes a user namespace whose ids the caller still has to map: returns a process that holds it until it is killed, as a
/// child of the caller, or -1 with errno.
pid_t cc_hold_user_namespace(int *pidfd);

/// Whether somebody on this machine keeps its clock: the kernel takes it for synchronized (adjtimex(2)).
bool cc_clock_is_kept(void);

/// The calling process's permitted capabilities, or 0.
uint64_t cc_permitted_capabilities(void);

/// mount(2); Swift's importer lacks its flags.
int cc_mount_readonly(const char *source, const char *target, const char *filesystem);
int cc_mount_overlay(const char *target, const char *options);
int cc_mount_tmpfs(const char *target, const char *options);
/// umount2(2), lazily: never waits, and what still uses the mount keeps it.
int cc_unmount(const char *target);

/// pidfd_send_signal(2).
int cc_signal(int pidfd, int signal);
int cc_pidfd_open(pid_t pid);

/// Opens a directory for reading, unless it is a link.
int cc_open_directory_at(int directory, const char *name);

// Who the process is: limits, capabilities, user, no_new_privs.
#include "internal.h"
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

// Raw system calls: glibc's setuid family signals the threads of the caller, of which the child has none.

static int set_capabilities(uint64_t permitted, uint64_t effective, uint64_t inheritable) {
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2] = {
        { (uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable },
        { (uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32) },
    };
    return (int)syscall(SYS_capset, &header, data);
}

uint64_t cc_permitted_capabilities(void) {
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2] = { { 0 } };
    if (syscall(SYS_capget, &header, data) < 0) return 0;
    return data[0].permitted | (uint64_t)data[1].permitted << 32;
}

static int drop_bounding(uint64_t kept) {
    for (unsigned long capability = 0; capability < 64; capability++) {
        if (kept >> capability & 1) continue;
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0) continue;
        return errno == EINVAL ? 0 : -1;  // EINVAL: past the last one that the kernel knows
    }
    return 0;
}

bool cc_drop_capabilities(void) {
    if (drop_bounding(0) < 0) return false;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return set_capabilities(0, 0, 0) == 0;
}

static void set_limits(const struct cc_process *process) {
    for (uint32_t i = 0; i < process->rlimit_count; i++) {
        const struct cc_rlimit *limit = &process->rlimits[i];
        struct { uint64_t soft, hard; } value = { limit->soft, limit->hard };
        if (syscall(SYS_prlimit64, 0, limit->resource, &value, NULL) < 0) cc_fail(CC_STEP_RLIMIT, "");
    }
}

static void set_user(const struct cc_process *process) {
    if (syscall(SYS_setgroups, (size_t)process->group_count, process->groups) < 0) cc_fail(CC_STEP_USER, "setgroups");
    if (syscall(SYS_setresgid, process->gid, process->gid, process->gid) < 0) cc_fail(CC_STEP_USER, "setresgid");
    if (syscall(SYS_setresuid, process->uid, process->uid, process->uid) < 0) cc_fail(CC_STEP_USER, "setresuid");
}

void cc_apply_credentials(const struct cc_process *process, bool changes_namespace) {
    const struct cc_capabilities *wanted = &process->capabilities;
    set_limits(process);
    if (changes_namespace && syscall(SYS_setns, CC_USER_FD, CLONE_NEWUSER) < 0) cc_fail(CC_STEP_USER_NAMESPACE, "");
    if (drop_bounding(wanted->bounding) < 0) cc_fail(CC_STEP_CAPABILITIES, "bounding");
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) cc_fail(CC_STEP_CAPABILITIES, "keep");
    set_user(process);
    // Changing the user cleared the effective set; what was permitted is still there, thanks to KEEPCAPS.
    // A filter without no_new_privs needs CAP_SYS_ADMIN (seccomp(2)). It does not outlive exec, which makes the permitted set
    // anew from the bounding, inheritable and ambient ones.
    uint64_t for_filter = process->filter && !process->no_new_privileges ? 1ULL << CAP_SYS_ADMIN : 0;
    if (set_capabilities(wanted->permitted | for_filter, wanted->effective | for_filter, wanted->inheritable) < 0) cc_fail(CC_STEP_CAPABILITIES, "set");
    if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0) cc_fail(CC_STEP_CAPABILITIES, "keep");
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0) cc_fail(CC_STEP_CAPABILITIES, "ambient");
    for (unsigned long capability = 0; capability < 64; capability++) {
        if (!(wanted->ambient >> capability & 1)) continue;
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) < 0) cc_fail(CC_STEP_CAPABILITIES, "ambient");
    }
    if (process->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) cc_fail(CC_STEP_NO_NEW_PRIVILEGES, "");
}

void cc_load_filter(const struct cc_filter *filter) {
    if (!filter) return;
    struct sock_fprog program = { .len = filter->instruction_count, .filter = (struct sock_filter *)filter->instructions };
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, filter->flags, &program) < 0) cc_fail(CC_STEP_SECCOMP, "");
}

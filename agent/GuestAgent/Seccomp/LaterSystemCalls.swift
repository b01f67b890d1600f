/// System calls of Linux 5.18 to 6.17, which neither libseccomp 2.5 knows nor a guest's kernel 6.1 has: a profile that forbids
/// them is kept without a rule. From the kernel's scripts/syscall.tbl.
enum LaterSystemCalls {
    static let names: Set<String> = [
        "cachestat", "fchmodat2", "file_getattr", "file_setattr", "futex_requeue", "futex_wait", "futex_wake", "getxattrat", "listmount",
        "listxattrat", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "map_shadow_stack", "mseal", "open_tree_attr",
        "removexattrat", "setxattrat", "statmount", "uretprobe", "uprobe",
    ]
}

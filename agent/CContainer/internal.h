// Shared by the files of CContainer; everything here is safe between clone and exec.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "include/CContainer.h"
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>

/// Descriptors of a child once `arrange_descriptors` (child.c) has closed all others.
enum { CC_REPORT_FD = 3, CC_ROOT_FD = 4, CC_USER_FD = 5, CC_GATE_FD = 6, CC_LAST_FD = CC_GATE_FD };

enum cc_resolve_flags {
    CC_RESOLVE_CREATE_DIRECTORY = 1,
    CC_RESOLVE_CREATE_FILE = 2,
    CC_RESOLVE_NO_LINKS = 4,
};

/// Writes the failure (with errno) to the caller and ends the child.
_Noreturn void cc_fail(int step, const char *detail);

/// Copies at most `size` - 1 bytes and ends them with NUL; false when `text` was longer.
bool cc_copy(char *to, size_t size, const char *text);

/// Who owns what `cc_resolve` makes.
extern _Thread_local uint32_t cc_owner_uid, cc_owner_gid;

/// An O_PATH descriptor of `path` below `root`, made when it is missing and `flags` say so; -1 with errno.
int cc_resolve(int root, const char *path, int flags);

void cc_make_root(const struct cc_root *root, const struct cc_process *process);
void cc_enter_directory(const char *path);
/// `changes_namespace`: the process first enters the user namespace CC_USER_FD.
void cc_apply_credentials(const struct cc_process *process, bool changes_namespace);
/// The last thing before exec.
void cc_load_filter(const struct cc_filter *filter);
_Noreturn void cc_execute(const struct cc_process *process);
/// Makes the working directory, a mount point, the root of the mount namespace; -1 with errno.
int cc_pivot_here(void);
/// Drops every capability, for a process that needs none; false with errno.
bool cc_drop_capabilities(void);

// The steps of a child, from clone to exec.
#pragma once
#include "internal.h"

/// Where `cc_fail` writes: memory that the child shares with its caller, or the pipe CC_REPORT_FD when it is NULL.
extern _Thread_local struct cc_failure *cc_shared_report;

/// `report` is the pipe's end for writing, or -1 with `cc_shared_report`.
_Noreturn void cc_child(const struct cc_spawn *spawn, int report);
/// Every signal at its default action; the mask stays as it is.
void cc_reset_signals(void);
void cc_unblock_signals(void);
/// Blocks everything, also what glibc keeps for itself; `before` takes the old mask.
void cc_block_signals(uint64_t *before);
void cc_restore_signals(const uint64_t *before);

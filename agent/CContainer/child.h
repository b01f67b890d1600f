// The steps of a child, from clone to exec.
#pragma once
#include "internal.h"

_Noreturn void cc_child(const struct cc_spawn *spawn, int report);
/// Every signal at its default action; the mask stays as it is.
void cc_reset_signals(void);
void cc_unblock_signals(void);
/// Blocks everything, also what glibc keeps for itself; `before` takes the old mask.
void cc_block_signals(uint64_t *before);
void cc_restore_signals(const uint64_t *before);

#pragma once
#include <malloc.h>
#include <stddef.h>

// glibc's heap (mallopt(3), malloc_trim(3)).
static inline void clinux_limit_heaps(int arenas, int trim_threshold) {
    mallopt(M_ARENA_MAX, arenas);
    mallopt(M_TRIM_THRESHOLD, trim_threshold);
    // Which otherwise stays at 128 KiB from here on, and grows no more with what is freed: each larger block would be mapped, and its
    // pages faulted in, anew.
    mallopt(M_MMAP_THRESHOLD, trim_threshold);
}
static inline void clinux_trim_heaps(void) { malloc_trim(0); }

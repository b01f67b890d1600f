#pragma once
#include <stdint.h>
#include <time.h>

// The processor's time stamp counter.

struct clinux_tsc_sample {
    uint64_t ticks;
    // Of CLOCK_MONOTONIC_RAW, which no daemon adjusts.
    uint64_t nanoseconds;
};

static inline uint64_t clinux_raw_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_RAW, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// Reads both as nearly at once as several attempts allow: the process may be preempted between them. Returns -1 without a counter.
static inline int clinux_sample_tsc(struct clinux_tsc_sample *sample) {
#if defined(__x86_64__)
    uint64_t best = UINT64_MAX;
    for (int attempt = 0; attempt < 50; attempt++) {
        uint64_t before = clinux_raw_nanoseconds();
        uint64_t ticks = __builtin_ia32_rdtsc();
        uint64_t after = clinux_raw_nanoseconds();
        if (after - before >= best) continue;
        best = after - before;
        sample->ticks = ticks;
        sample->nanoseconds = before + best / 2;
    }
    return 0;
#else
    (void)sample;
    return -1;
#endif
}

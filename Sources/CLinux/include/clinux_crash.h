#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdint.h>

// A file that is mapped by the process and outlives its crash: whose data was being worked on, and which signal ended it.
enum {
    CLINUX_CRASH_SLOTS = 1024,
    CLINUX_CRASH_NAME = 64,
};

struct clinux_crash_slot {
    // NUL-terminated; empty: free.
    char name[CLINUX_CRASH_NAME];
    // Pieces of work under way.
    int32_t work;
};

struct clinux_crash_record {
    uint64_t version;
    // Of the crash; 0: none.
    int32_t signal;
    // Processes in a row that crashed.
    int32_t crashes;
    struct clinux_crash_slot slots[CLINUX_CRASH_SLOTS];
};

static inline void clinux_crash_work(struct clinux_crash_slot *slot, int32_t change) {
    __atomic_add_fetch(&slot->work, change, __ATOMIC_RELAXED);
}

static inline struct clinux_crash_slot *clinux_crash_slot(struct clinux_crash_record *record, int number) {
    return &record->slots[number];
}

// Notes the signal of a crash in `record` from now on, then lets happen what would have happened without.
// One record a process; it must stay mapped. 0, or -1 with errno.
int clinux_note_crashes(struct clinux_crash_record *record);

#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdint.h>

// A file that is mapped by the process and outlives its crash: which signal ended it, and on whose data it was working then.
enum {
    CLINUX_CRASH_SLOTS = 1024,
    // NUL-terminated names.
    CLINUX_CRASH_NAME = 72,
};

struct clinux_crash_name {
    char bytes[CLINUX_CRASH_NAME];
};

struct clinux_crash_record {
    uint64_t version;
    // Of the crash; 0: none.
    int32_t signal;
    // Processes in a row that crashed.
    int32_t crashes;
    // Slot on whose data the thread that crashed was working, counted from 1; 0: none.
    int32_t accused;
    // Slot that alone is looked at, counted from 1; 0: none.
    int32_t alone;
    // Who was alone when a process before crashed.
    struct clinux_crash_name suspect;
    // Empty: free.
    struct clinux_crash_name slots[CLINUX_CRASH_SLOTS];
};

static inline struct clinux_crash_name *clinux_crash_slot(struct clinux_crash_record *record, int number) {
    return &record->slots[number];
}

// The calling thread works on a slot's data from now on (counted from 1; 0: on nobody's). What it worked on before.
int32_t clinux_crash_enter(int32_t slot);

// Notes the crash of the process in `record` from now on, then lets happen what would have happened without. Signals of other
// processes are no crash. One record a process; it must stay mapped. 0, or -1 with errno.
int clinux_note_crashes(struct clinux_crash_record *record);

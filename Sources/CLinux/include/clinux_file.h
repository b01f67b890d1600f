#pragma once
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

// Sparse files (lseek(2)) and copies inside the kernel (copy_file_range(2)).
enum {
    CLINUX_SEEK_DATA = SEEK_DATA,
    CLINUX_SEEK_HOLE = SEEK_HOLE,
};

static inline ssize_t clinux_copy_file_range(int from, int64_t *from_offset, int to, int64_t *to_offset, size_t count) {
    return copy_file_range(from, from_offset, to, to_offset, count, 0);
}

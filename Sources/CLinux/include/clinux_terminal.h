#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

// Opens a terminal's master and slave, neither of them controlling. Returns 0, or -1 with errno and nothing open.
static inline int clinux_open_terminal(int *master, int *slave) {
    char name[64];
    *slave = -1;
    *master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*master < 0) return -1;
    if (grantpt(*master) == 0 && unlockpt(*master) == 0 && ptsname_r(*master, name, sizeof name) == 0) {
        *slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    }
    if (*slave >= 0) return 0;
    close(*master);
    return -1;
}

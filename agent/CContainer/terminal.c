// Terminals out of a container's own /dev/pts, so that tty(1) finds their name there.
#include "internal.h"
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include <unistd.h>

/// Opens the multiplexer if it is one of a devpts: opening what else a container may put there has effects.
static int open_multiplexer(int root) {
    int found = cc_find_in_root(root, "dev/pts/ptmx");
    if (found < 0) return -1;
    struct stat status;
    struct statfs filesystem;
    char path[64];
    int opened = -1;
    if (fstat(found, &status) == 0 && fstatfs(found, &filesystem) == 0) {
        // 5:2 is ptmx (Documentation/admin-guide/devices.txt).
        if (S_ISCHR(status.st_mode) && status.st_rdev == makedev(5, 2) && filesystem.f_type == DEVPTS_SUPER_MAGIC) {
            snprintf(path, sizeof path, "/proc/self/fd/%d", found);
            opened = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
        } else {
            errno = ENODEV;
        }
    }
    int error = errno;
    close(found);
    errno = error;
    return opened;
}

int cc_open_terminal(int root, int *master, int *slave) {
    *slave = -1;
    *master = open_multiplexer(root);
    if (*master < 0) return -1;
    int unlocked = 0;
    if (ioctl(*master, TIOCSPTLCK, &unlocked) == 0) *slave = ioctl(*master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*slave >= 0) return 0;
    int error = errno;
    close(*master);
    *master = -1;
    errno = error;
    return -1;
}

// What has to exist before main of a guest's PID 1: the Swift runtime reads /proc/self/exe when it starts, and
// descriptors 0 to 2 must be taken before anything else opens one.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

__attribute__((constructor(101))) static void make_first_mounts(void) {
    // Elsewhere than in a guest's initramfs /proc is there.
    if (getpid() != 1 || access("/proc/self", F_OK) == 0) return;
    mkdir("/proc", 0555);
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
    mkdir("/dev", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
    int console = open("/dev/console", O_RDWR | O_NOCTTY);
    if (console < 0) console = open("/dev/null", O_RDWR);
    for (int fd = console; fd >= 0 && fd < STDERR_FILENO;) fd = dup(console);
}

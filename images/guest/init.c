// The initramfs's first program: makes the disk with the agent the root, and becomes the agent. The kernel cannot mount it by itself, because
// Debian's has the drivers as modules. Without a C library, which would be most of the initramfs.
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/mount.h>
#include <linux/time.h>

#define LIST "/lib/modules/first"
#define DISK "/dev/sda"
#define SCAN "/sys/class/scsi_host/host0/scan"
#define ROOT "/root"

// Milliseconds for the disk to appear: an emulated guest needs 20.
#define PATIENCE 30000

static long call(long number, long a, long b, long c, long d, long e) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return result;
}
#define CALL(name, a, b, c, d, e) call(__NR_##name, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))

static long length(const char *text) {
    long count = 0;
    while (text[count]) count++;
    return count;
}

static void say(const char *text) { CALL(write, 2, text, length(text), 0, 0); }

// Without PID 1 the kernel panics, and the host shows the console's last line.
__attribute__((noreturn)) static void fail(const char *what) {
    say("swiftlet-init: ");
    say(what);
    say("\n");
    for (;;) CALL(exit_group, 1, 0, 0, 0, 0);
}

static long make_directory(const char *path) { return CALL(mkdir, path, 0755, 0, 0, 0); }

// Lines "NAME OPTIONS" name files beside the list, in the order in which they have to be loaded. A module that is there, or whose device is
// missing, is no reason to stop: what needs it says so.
static void load_modules(void) {
    static char list[4096], path[256] = "/lib/modules/";
    long file = CALL(open, LIST, O_RDONLY, 0, 0, 0);
    if (file < 0) return; // a kernel that has them built in
    long size = CALL(read, file, list, sizeof list - 1, 0, 0);
    CALL(close, file, 0, 0, 0, 0);
    long prefix = length(path), start = 0;
    while (start < size) {
        long end = start, name = start;
        while (end < size && list[end] != '\n') end++;
        list[end] = 0;
        while (list[name] && list[name] != ' ' && name - start < 200) {
            path[prefix + name - start] = list[name];
            name++;
        }
        path[prefix + name - start] = 0;
        const char *options = list[name] == ' ' ? list + name + 1 : "";
        file = CALL(open, path, O_RDONLY, 0, 0, 0);
        if (file >= 0) {
            CALL(finit_module, file, options, 0, 0, 0);
            CALL(close, file, 0, 0, 0, 0);
        } else {
            say("swiftlet-init: a module is missing: ");
            say(path);
            say("\n");
        }
        // Memory that a guest would never get back otherwise.
        CALL(unlink, path, 0, 0, 0, 0);
        start = end + 1;
    }
    CALL(unlink, LIST, 0, 0, 0, 0);
}

// The first unit of the first target is the host's to choose: the disk with the agent. A kernel that scans by itself has seen it already.
static void find_disk(void) {
    long file = CALL(open, SCAN, O_WRONLY, 0, 0, 0);
    if (file >= 0) {
        CALL(write, file, "0 0 0", 5, 0, 0);
        CALL(close, file, 0, 0, 0, 0);
    }
    struct __kernel_timespec millisecond = {0, 1000000};
    for (int waited = 0; waited < PATIENCE; waited++) {
        if ((file = CALL(open, DISK, O_RDONLY, 0, 0, 0)) >= 0) {
            CALL(close, file, 0, 0, 0, 0);
            return;
        }
        CALL(nanosleep, &millisecond, 0, 0, 0, 0);
    }
    fail("the disk with the agent does not appear");
}

__attribute__((noreturn, used)) static void boot(char **arguments) {
    make_directory("/dev");
    make_directory("/sys");
    make_directory(ROOT);
    if (CALL(mount, "devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755") < 0) fail("devtmpfs cannot be mounted");
    if (CALL(mount, "sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0) < 0) fail("sysfs cannot be mounted");
    load_modules();
    find_disk();
    CALL(umount2, "/sys", 0, 0, 0, 0);
    if (CALL(mount, DISK, ROOT, "erofs", MS_RDONLY | MS_NODEV | MS_NOSUID, 0) < 0) fail("the disk with the agent cannot be mounted");
    CALL(umount2, "/dev", 0, 0, 0, 0);
    CALL(unlink, "/init", 0, 0, 0, 0);
    if (CALL(chdir, ROOT, 0, 0, 0, 0) < 0 || CALL(mount, ".", "/", 0, MS_MOVE, 0) < 0 || CALL(chroot, ".", 0, 0, 0, 0) < 0)
        fail("the disk with the agent cannot become the root");
    // Behind the arguments and a null. What the kernel has left open is the initramfs's console.
    char **environment = arguments;
    while (*environment++) {}
    CALL(execve, "/init", arguments, environment, 0, 0);
    fail("the agent cannot be started");
}

// What the kernel hands over lies on the stack: the number of arguments, the arguments, a null, the environment.
__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tadd $8, %rdi\n\tand $-16, %rsp\n\tcall boot\n");

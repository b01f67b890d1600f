// PID 1 of a guest that only has vsock. It takes the place of /init in the initramfs of `make guest`, loads the modules
// listed there in /lib/modules/first, and serves these ports with one thread per connection.
// Build: gcc -O2 -static -pthread -o init vsock_guest.c
//
//   7  echo: sends back what it gets; ends its side when the host has ended its own
//   9  sink: reads to the end, then answers with an FNV-1a hash over words and the count as "<hex> <bytes>\n"
//   19 source: reads "<bytes>\n", sends that many pattern bytes, ends its side
//   20 call: reads "<port>\n", connects to that port of the host, sends "guest\n", relays one line back to the caller
//   22 forward: as 19, but the bytes come by a TCP connection on the guest's loopback, as those of a forwarded port
//   21 control: reads a line, "reboot", "poweroff" (answers "going\n", then is off at once) or "uptime" (answers seconds)
//
// Pattern byte number i is (i * 31 + (i >> 8)) & 0xff.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/vm_sockets.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 256 * 1024 };

static int write_all(int fd, const void *bytes, size_t length) {
    while (length > 0) {
        ssize_t n = send(fd, bytes, length, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        bytes = (const char *)bytes + n;
        length -= (size_t)n;
    }
    return 0;
}

static int read_line(int fd, char *line, size_t size) {
    size_t n = 0;
    while (n + 1 < size && read(fd, line + n, 1) == 1 && line[n] != '\n') n++;
    line[n] = 0;
    return n > 0 ? 0 : -1;
}

static void echo_to(int from, int to) {
    char *buffer = malloc(BUFFER);
    ssize_t n;
    while ((n = read(from, buffer, BUFFER)) > 0)
        if (write_all(to, buffer, (size_t)n) != 0) break;
    shutdown(to, SHUT_WR);
    free(buffer);
}

static void echo(int fd) { echo_to(fd, fd); }

static void sink(int fd) {
    unsigned char *buffer = malloc(BUFFER);
    uint64_t hash = 0xcbf29ce484222325u, total = 0;
    ssize_t n;
    while ((n = read(fd, buffer, BUFFER)) > 0) {
        // FNV-1a over little-endian words: bytes one by one would measure the emulated processor.
        ssize_t i = 0;
        while (i < n) {
            unsigned phase = (unsigned)(total + (uint64_t)i) & 7;
            if (phase == 0 && n - i >= 8) {
                uint64_t word;
                memcpy(&word, buffer + i, 8);
                hash = (hash ^ word) * 0x100000001b3u;
                i += 8;
            } else {
                hash ^= (uint64_t)buffer[i++] << (8 * phase);
                if (phase == 7) hash *= 0x100000001b3u;
            }
        }
        total += (uint64_t)n;
    }
    char line[64];
    int length = snprintf(line, sizeof line, "%016llx %llu\n", (unsigned long long)hash, (unsigned long long)total);
    write_all(fd, line, (size_t)length);
    free(buffer);
}

static void send_pattern(int fd, uint64_t left) {
    // The pattern repeats every 64 KiB.
    unsigned char *pattern = malloc(65536);
    for (unsigned i = 0; i < 65536; i++) pattern[i] = (unsigned char)(i * 31 + (i >> 8));
    while (left > 0) {
        size_t n = left < 65536 ? (size_t)left : 65536;
        if (write_all(fd, pattern, n) != 0) break;
        left -= n;
    }
    free(pattern);
}

static void source(int fd) {
    char line[32];
    if (read_line(fd, line, sizeof line) != 0) return;
    send_pattern(fd, strtoull(line, 0, 10));
    shutdown(fd, SHUT_WR);
}

struct sender {
    int listener;
    uint64_t bytes;
};

static void *send_by_tcp(void *argument) {
    struct sender *sender = argument;
    int s = accept4(sender->listener, 0, 0, SOCK_CLOEXEC);
    if (s < 0) return 0;
    send_pattern(s, sender->bytes);
    close(s);
    return 0;
}

static void forward(int fd) {
    char line[32];
    if (read_line(fd, line, sizeof line) != 0) return;
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    ioctl(s, SIOCSIFFLAGS, &loopback);
    struct sender sender = {socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), strtoull(line, 0, 10)};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    pthread_t thread;
    if (bind(sender.listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(sender.listener, 1) != 0 ||
        getsockname(sender.listener, (struct sockaddr *)&address, &length) != 0 ||
        connect(s, (struct sockaddr *)&address, sizeof address) != 0 || pthread_create(&thread, 0, send_by_tcp, &sender) != 0) {
        printf("forward: %s\n", strerror(errno));
    } else {
        echo_to(s, fd);
        pthread_join(thread, 0);
    }
    close(sender.listener);
    close(s);
}

static void call_host(int fd) {
    char line[256];
    if (read_line(fd, line, sizeof line) != 0) return;
    struct sockaddr_vm host = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = (unsigned)strtoul(line, 0, 10)};
    int s = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(s, (struct sockaddr *)&host, sizeof host) != 0) {
        int n = snprintf(line, sizeof line, "error %s\n", strerror(errno));
        write_all(fd, line, (size_t)n);
    } else if (write_all(s, "guest\n", 6) == 0 && read_line(s, line, sizeof line - 1) == 0) {
        strcat(line, "\n");
        write_all(fd, line, strlen(line));
    }
    close(s);
}

static void control(int fd) {
    char line[64];
    if (read_line(fd, line, sizeof line) != 0) return;
    if (strcmp(line, "reboot") == 0) reboot(RB_AUTOBOOT);
    if (strcmp(line, "poweroff") == 0) {
        write_all(fd, "going\n", 6);
        reboot(RB_POWER_OFF);
    }
    if (strcmp(line, "uptime") == 0) {
        struct timespec now;
        clock_gettime(CLOCK_BOOTTIME, &now);
        int n = snprintf(line, sizeof line, "%ld.%03ld\n", (long)now.tv_sec, now.tv_nsec / 1000000);
        write_all(fd, line, (size_t)n);
    }
}

struct service {
    unsigned port;
    void (*run)(int fd);
};

static const struct service services[] = {{7, echo}, {9, sink}, {19, source}, {20, call_host}, {21, control}, {22, forward}};

struct job {
    void (*run)(int fd);
    int fd;
};

static void *serve_one(void *argument) {
    struct job job = *(struct job *)argument;
    free(argument);
    job.run(job.fd);
    close(job.fd);
    return 0;
}

static void *serve(void *argument) {
    const struct service *service = argument;
    struct sockaddr_vm any = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = service->port};
    int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&any, sizeof any) != 0 || listen(listener, 512) != 0) {
        printf("port %u: %s\n", service->port, strerror(errno));
        return 0;
    }
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 65536);
    while (1) {
        int fd = accept4(listener, 0, 0, SOCK_CLOEXEC);
        if (fd < 0) continue;
        struct job *job = malloc(sizeof *job);
        *job = (struct job){service->run, fd};
        pthread_t thread;
        if (pthread_create(&thread, &attributes, serve_one, job) != 0) {
            close(fd);
            free(job);
        }
    }
}

int main(void) {
    mount("proc", "/proc", "proc", 0, 0);
    mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
    FILE *list = fopen("/lib/modules/first", "r");
    char name[128];
    while (chdir("/lib/modules") == 0 && list && fgets(name, sizeof name, list)) {
        name[strcspn(name, "\n")] = 0;
        int fd = open(name, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) != 0) printf("%s: %s\n", name, strerror(errno));
        close(fd);
    }
    for (size_t i = 0; i < sizeof services / sizeof *services; i++) {
        pthread_t thread;
        pthread_create(&thread, 0, serve, (void *)&services[i]);
    }
    printf("vsock guest ready\n");
    fflush(stdout);
    while (1) pause();
}

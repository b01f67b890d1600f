// What a container can reach by AF_VSOCK, one line each: by socket(2), and by the 32-bit socketcall(2), whose arguments no seccomp
// filter sees. Prints "reached ..." for each way that leads anywhere.
// Build: gcc -O2 -static -no-pie -o vsock-container vsock_container.c (no pie: its data lies below 4 GiB, where 32-bit calls find it).
#include <errno.h>
#include <linux/vm_sockets.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

static long call32(long number, long a, void *b) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b) : "memory", "r8", "r9", "r10", "r11");
    return result;
}

static uint32_t words[3];

static int open_socket(int by_socketcall) {
    if (!by_socketcall) return socket(AF_VSOCK, SOCK_STREAM, 0);
    words[0] = AF_VSOCK, words[1] = SOCK_STREAM, words[2] = 0;
    // i386: 102 is socketcall, 1 is SYS_SOCKET.
    long result = call32(102, 1, words);
    if (result < 0) errno = (int)-result;
    return result < 0 ? -1 : (int)result;
}

static void attempt(int by_socketcall, unsigned cid, unsigned port) {
    int fd = open_socket(by_socketcall);
    if (fd < 0) return;
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
    struct timeval limit = {.tv_sec = 3};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
        // The agent hangs up on whoever is not the host.
        char byte = 0;
        send(fd, "\0\0\0\0\0\0\0\1\1\0", 10, MSG_NOSIGNAL);
        long count = recv(fd, &byte, 1, 0);
        if (count > 0 || (count < 0 && errno == EAGAIN)) printf("reached cid %u port %u by %s\n", cid, port, by_socketcall ? "socketcall" : "socket");
    }
    close(fd);
}

int main(void) {
    unsigned own = 0;
    int device = open("/dev/vsock", O_RDONLY);
    if (device >= 0) ioctl(device, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &own);
    for (int way = 0; way < 2; way++) {
        int fd = open_socket(way);
        printf("%s %s\n", way ? "socketcall" : "socket", fd >= 0 ? "opens" : strerror(errno));
        if (fd >= 0) close(fd);
        // The host's, the loopback's, its own, and anybody's.
        unsigned cids[] = {VMADDR_CID_HOST, VMADDR_CID_LOCAL, own, VMADDR_CID_ANY, VMADDR_CID_HYPERVISOR};
        unsigned ports[] = {1, 22, 80, 1023, 1024, 1025, 9999};
        for (unsigned i = 0; i < sizeof cids / sizeof *cids; i++)
            for (unsigned j = 0; j < sizeof ports / sizeof *ports; j++) attempt(way, cids[i], ports[j]);
        // The agent's own ports are taken.
        for (unsigned port = 1024; port <= 1025; port++) {
            int listener = open_socket(way);
            struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};
            if (listener >= 0 && bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 1) == 0)
                printf("reached port %u to listen on\n", port);
            if (listener >= 0) close(listener);
        }
    }
    puts("done");
    return 0;
}

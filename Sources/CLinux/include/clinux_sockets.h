#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

// What is asked of a process that opens sockets in network namespaces: a TCP socket bound to an address there, and to the device that has
// the address.
struct clinux_socket_request {
    int32_t family;
    uint8_t source[16];
    char namespace_path[232];
};

static inline int clinux_bind_where_it_is(int fd, const struct clinux_socket_request *request) {
    struct ifaddrs *all;
    if (getifaddrs(&all) != 0) return -1;
    int result = -1;
    errno = EADDRNOTAVAIL;
    for (struct ifaddrs *each = all; each; each = each->ifa_next) {
        if (!each->ifa_addr || each->ifa_addr->sa_family != request->family) continue;
        const void *address = request->family == AF_INET ? (void *)&((struct sockaddr_in *)each->ifa_addr)->sin_addr
                                                         : (void *)&((struct sockaddr_in6 *)each->ifa_addr)->sin6_addr;
        if (memcmp(address, request->source, request->family == AF_INET ? 4 : 16) != 0) continue;
        socklen_t length = request->family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
        if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, each->ifa_name, strlen(each->ifa_name)) == 0 &&
            bind(fd, each->ifa_addr, length) == 0)
            result = 0;
        break;
    }
    int number = errno;
    freeifaddrs(all);
    errno = number;
    return result;
}

static inline int clinux_open_socket_in(const struct clinux_socket_request *request) {
    int namespace = open(request->namespace_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (namespace < 0) return -1;
    // EINVAL for what is no network namespace.
    int entered = setns(namespace, CLONE_NEWNET);
    int number = errno;
    close(namespace);
    errno = number;
    if (entered != 0) return -1;
    int fd = socket(request->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    // The port is chosen with the peer: as many connections to each peer as there are ports.
    int one = 1;
    setsockopt(fd, IPPROTO_IP, 24 /* IP_BIND_ADDRESS_NO_PORT */, &one, sizeof(one));
    if (clinux_bind_where_it_is(fd, request) == 0) return fd;
    number = errno;
    close(fd);
    errno = number;
    return -1;
}

// Answers requests on `control`, a socket of whole messages, until its other end is closed: an errno, with the socket where it is 0.
static inline void clinux_serve_sockets(int control) {
    struct clinux_socket_request request;
    for (;;) {
        ssize_t count = recv(control, &request, sizeof(request), 0);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return;
        request.namespace_path[sizeof(request.namespace_path) - 1] = 0;
        int valid = count == sizeof(request) && (request.family == AF_INET || request.family == AF_INET6);
        int fd = -1;
        int32_t number = EINVAL;
        if (valid) {
            fd = clinux_open_socket_in(&request);
            number = fd < 0 ? errno : 0;
        }
        struct iovec part = {.iov_base = &number, .iov_len = sizeof(number)};
        union {
            char space[CMSG_SPACE(sizeof(int))];
            struct cmsghdr head;
        } buffer;
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        if (fd >= 0) {
            message.msg_control = buffer.space;
            message.msg_controllen = sizeof(buffer.space);
            struct cmsghdr *head = CMSG_FIRSTHDR(&message);
            head->cmsg_level = SOL_SOCKET;
            head->cmsg_type = SCM_RIGHTS;
            head->cmsg_len = CMSG_LEN(sizeof(int));
            memcpy(CMSG_DATA(head), &fd, sizeof(int));
        }
        while (sendmsg(control, &message, MSG_NOSIGNAL) < 0 && errno == EINTR) {}
        if (fd >= 0) close(fd);
    }
}

// Asks for a socket. Blocks for as long as the process takes. -1 with errno; EPIPE when it is gone.
static inline int clinux_request_socket(int control, const struct clinux_socket_request *request) {
    while (send(control, request, sizeof(*request), MSG_NOSIGNAL) < 0) {
        if (errno != EINTR) return -1;
    }
    int32_t number = EPIPE;
    struct iovec part = {.iov_base = &number, .iov_len = sizeof(number)};
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr head;
    } buffer;
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = buffer.space, .msg_controllen = sizeof(buffer.space)};
    ssize_t count;
    while ((count = recvmsg(control, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) {}
    if (count <= 0) {
        if (count == 0) errno = EPIPE;
        return -1;
    }
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (number == 0 && head && head->cmsg_type == SCM_RIGHTS) {
        int fd;
        memcpy(&fd, CMSG_DATA(head), sizeof(int));
        return fd;
    }
    errno = number ? number : EPROTO;
    return -1;
}

static inline int clinux_socket_pair(int pair[2]) { return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair); }

// Begins to connect; EINPROGRESS is 0.
static inline int clinux_connect_tcp(int fd, int family, const uint8_t *address, uint16_t port) {
    int result;
    if (family == AF_INET) {
        struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&peer.sin_addr, address, 4);
        result = connect(fd, (struct sockaddr *)&peer, sizeof(peer));
    } else {
        struct sockaddr_in6 peer = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        memcpy(&peer.sin6_addr, address, 16);
        result = connect(fd, (struct sockaddr *)&peer, sizeof(peer));
    }
    return result != 0 && errno == EINPROGRESS ? 0 : result;
}

// The errno that a connection has come to.
static inline int clinux_socket_error(int fd) {
    int number = 0;
    socklen_t length = sizeof(number);
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &length) == 0 ? number : errno;
}

// A copy of this process, for clinux_serve_sockets alone. Called before any thread exists.
static inline pid_t clinux_fork_alone(void) { return fork(); }

// Closes all descriptors but the standard ones and `kept`, which becomes 3.
static inline int clinux_keep_descriptor(int kept) {
    if (kept != 3 && dup3(kept, 3, O_CLOEXEC) != 3) return -1;
    return (int)syscall(SYS_close_range, 4u, ~0u, 0u);
}

// Takes the arguments behind the first from what ps shows: whoever looks for a process by them finds the one that this is a copy of.
static inline void clinux_clear_arguments(void) {
    char text[2048];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    ssize_t count = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (count <= 0) return;
    text[count] = 0;
    char *rest = strrchr(text, ')');
    // arg_start and arg_end are fields 48 and 49 (proc(5)); behind the parenthesis comes field 3.
    for (int field = 2; rest && field < 48; field++) rest = strchr(rest + 1, ' ');
    if (!rest) return;
    char *start = (char *)strtoul(rest, &rest, 10);
    char *end = (char *)strtoul(rest, &rest, 10);
    if (!start || end <= start) return;
    char *first = (char *)memchr(start, 0, (size_t)(end - start));
    if (first) memset(first, 0, (size_t)(end - first));
}

#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/uio.h>
#include <unistd.h>

// A non-blocking stream socket of the unix family, or -1.
static inline int clinux_unix_socket(void) { return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); }

// One that keeps the limits of what was written.
static inline int clinux_unix_packet_socket(void) { return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); }

static inline int clinux_unix_address(struct sockaddr_un *address, const char *path) {
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof(address->sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memset(address, 0, sizeof(*address));
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, length);
    return 0;
}

// The mode given to an unbound socket is the one its file is made with (umask may only take bits away), so the
// file is never open to more than `mode`, not even for a moment.
static inline int clinux_unix_bind(int fd, const char *path, mode_t mode) {
    struct sockaddr_un address;
    if (clinux_unix_address(&address, path) != 0 || fchmod(fd, mode) != 0) return -1;
    return bind(fd, (struct sockaddr *)&address, sizeof(address));
}

static inline int clinux_unix_connect(int fd, const char *path) {
    struct sockaddr_un address;
    if (clinux_unix_address(&address, path) != 0) return -1;
    return connect(fd, (struct sockaddr *)&address, sizeof(address));
}

static inline int clinux_unix_accept(int fd) { return accept4(fd, (struct sockaddr *)0, (socklen_t *)0, SOCK_CLOEXEC | SOCK_NONBLOCK); }

// The process that the other end of a connection was made by: of a server, the one that listened (SO_PEERCRED, unix(7)).
static inline pid_t clinux_unix_peer_process(int fd) {
    struct ucred peer;
    socklen_t length = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return -1;
    return peer.pid;
}

// The user that the other end of a connection had when it connected (SO_PEERCRED, unix(7)).
static inline int clinux_unix_peer(int fd, uid_t *user) {
    struct ucred peer;
    socklen_t length = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return -1;
    *user = peer.uid;
    return 0;
}

// Gathers from and scatters to sockets without blocking and without SIGPIPE.
static inline ssize_t clinux_send_vector(int fd, const struct iovec *vector, size_t count) {
    struct msghdr message = {.msg_iov = (struct iovec *)vector, .msg_iovlen = count};
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}
static inline ssize_t clinux_receive_vector(int fd, const struct iovec *vector, size_t count) {
    struct msghdr message = {.msg_iov = (struct iovec *)vector, .msg_iovlen = count};
    return recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
}
static inline ssize_t clinux_send(int fd, const void *bytes, size_t length) { return send(fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT); }
static inline ssize_t clinux_peek(int fd, void *bytes, size_t length) { return recv(fd, bytes, length, MSG_PEEK | MSG_DONTWAIT); }
static inline ssize_t clinux_receive(int fd, void *bytes, size_t length) { return recv(fd, bytes, length, MSG_DONTWAIT); }

enum { CLINUX_MAX_PASSED_FDS = 16 };

// Receives bytes and the descriptors that came with them (close-on-exec). Descriptors beyond `capacity` are closed.
static inline ssize_t clinux_receive_with_fds(int fd, void *bytes, size_t length, int *fds, int capacity, int *received) {
    union {
        char space[CMSG_SPACE(CLINUX_MAX_PASSED_FDS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec vector = {.iov_base = bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    *received = 0;
    ssize_t result = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (result < 0) return result;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int passed;
            memcpy(&passed, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (*received < capacity) fds[(*received)++] = passed;
            else close(passed);
        }
    }
    return result;
}

static inline ssize_t clinux_send_with_fds(int fd, const void *bytes, size_t length, const int *fds, int count) {
    union {
        char space[CMSG_SPACE(CLINUX_MAX_PASSED_FDS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec vector = {.iov_base = (void *)bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (count < 0 || count > CLINUX_MAX_PASSED_FDS) {
        errno = EINVAL;
        return -1;
    }
    if (count > 0) {
        memset(&control, 0, sizeof(control));
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, (size_t)count * sizeof(int));
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

static inline int clinux_memfd(const char *name) { return memfd_create(name, MFD_CLOEXEC); }

// A memory file with this content that nobody can change, whatever capabilities they have, and that can be executed. Or -1 with errno.
static inline int clinux_sealed_memfd(const char *name, const void *content, size_t length) {
    // MFD_EXEC, which kernels before 6.3 neither know nor need.
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | 0x10U);
    if (fd < 0 && errno == EINVAL) fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -1;
    size_t written = 0;
    while (written < length) {
        ssize_t count = write(fd, (const char *)content + written, length - written);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) break;
        written += (size_t)count;
    }
    if (written == length && fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE | F_SEAL_SEAL) == 0) return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

// A memory file of `size` bytes that can neither grow nor shrink: what is written past its end is lost (memfd_create(2)).
static inline int clinux_bounded_memfd(const char *name, off_t size) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -1;
    if (ftruncate(fd, size) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0) return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

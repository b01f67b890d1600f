#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    CLINUX_IFF_TAP = IFF_TAP,
    CLINUX_IFF_NO_PI = IFF_NO_PI,
    CLINUX_IFF_VNET_HDR = IFF_VNET_HDR,
};

// Opens /dev/net/tun and attaches it to the tap `name`, made when it does not exist. Returns the descriptor or -1 with errno.
static inline int clinux_tun_attach(const char *name, int flags) {
    struct ifreq request;
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return -1;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = (short)flags;
    if (ioctl(fd, TUNSETIFF, &request) < 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}
static inline int clinux_tun_set_owner(int fd, uid_t uid) { return ioctl(fd, TUNSETOWNER, (unsigned long)uid); }
static inline int clinux_tun_set_group(int fd, gid_t gid) { return ioctl(fd, TUNSETGROUP, (unsigned long)gid); }
static inline int clinux_tun_set_persist(int fd, int on) { return ioctl(fd, TUNSETPERSIST, (unsigned long)on); }

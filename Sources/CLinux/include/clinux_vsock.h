#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sys/socket.h>
#include <linux/vm_sockets.h>
#include <string.h>

// sockaddr_vm imports as it is from linux/vm_sockets.h; AF_VSOCK is a macro Swift does see (40).
static inline int clinux_accept4(int fd, int flags) { return accept4(fd, (struct sockaddr *)0, (socklen_t *)0, flags); }

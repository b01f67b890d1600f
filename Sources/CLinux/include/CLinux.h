// What Swift's Glibc module lacks: kernel interfaces as constants, structs and inline wrappers.
// One header per kernel interface; this one only gathers them.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "clinux_features.h"
#include "clinux_boot.h"
#include "clinux_bpf.h"
#include "clinux_epoll.h"
#include "clinux_code.h"
#include "clinux_crash.h"
#include "clinux_heap.h"
#include "clinux_namespace.h"
#include "clinux_netlink.h"
#include "clinux_file.h"
#include "clinux_mount.h"
#include "clinux_process.h"
#include "clinux_signalfd.h"
#include "clinux_spawn.h"
#include "clinux_subreaper.h"
#include "clinux_tap.h"
#include "clinux_tsc.h"
#include "clinux_terminal.h"
#include "clinux_unix_socket.h"
#include "clinux_vring.h"
#include "clinux_vsock.h"

// What Swift's Glibc module lacks: kernel interfaces as constants, structs and inline wrappers.
// One header per kernel interface; this one only gathers them.
#pragma once
#include "clinux_netlink.h"
#include "clinux_process.h"
#include "clinux_vsock.h"

#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <seccomp.h>
#include <sys/mman.h>

/// An action with its data, as the function-like macros of seccomp.h make it.
static inline uint32_t cseccomp_errno(uint16_t number) { return SCMP_ACT_ERRNO(number); }
static inline uint32_t cseccomp_trace(uint16_t message) { return SCMP_ACT_TRACE(message); }

/// The latest system call that this library can name; since Linux 5.1 new ones have one number on all machines.
static const uint32_t cseccomp_last_named = __NR_set_mempolicy_home_node;

/// An unnamed file in memory for a program; its descriptor or -1 with errno.
static inline int cseccomp_memory_file(void) { return memfd_create("seccomp", MFD_CLOEXEC); }

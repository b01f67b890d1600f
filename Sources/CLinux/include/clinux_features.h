#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
// Under _GNU_SOURCE glibc names the member of fd_set as X/Open does. Swift's own modules (Glibc, Dispatch) are built without
// it, and two modules with two different fd_sets cannot be imported together: this one follows theirs.
#include <features.h>
#undef __USE_XOPEN
#include <sys/select.h>
#define __USE_XOPEN 1

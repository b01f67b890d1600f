#pragma once
#include <errno.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>

// EPOLL* are enum constants of a type that Swift cannot combine; these are plain numbers.
enum {
    CLINUX_EPOLLIN = 0x001,
    CLINUX_EPOLLOUT = 0x004,
    CLINUX_EPOLLERR = 0x008,
    CLINUX_EPOLLHUP = 0x010,
};

static inline int clinux_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }
// `tag` comes back in clinux_epoll_tag.
static inline int clinux_epoll_ctl(int epoll, int operation, int fd, uint32_t events, uint64_t tag) {
    struct epoll_event event = {.events = events, .data = {.u64 = tag}};
    return epoll_ctl(epoll, operation, fd, &event);
}
// As epoll_wait(2), to the nanosecond; a negative `limit` is none. Linux before 5.11 waits in milliseconds, rounded up.
static inline int clinux_epoll_wait(int epoll, struct epoll_event *events, int count, int64_t limit) {
    struct timespec time = {.tv_sec = limit / 1000000000, .tv_nsec = limit % 1000000000};
    int result = epoll_pwait2(epoll, events, count, limit < 0 ? 0 : &time, 0);
    if (result >= 0 || errno != ENOSYS) return result;
    return epoll_wait(epoll, events, count, limit < 0 ? -1 : (int)((limit + 999999) / 1000000));
}
static inline uint64_t clinux_epoll_tag(const struct epoll_event *event) { return event->data.u64; }
static inline uint32_t clinux_epoll_events(const struct epoll_event *event) { return event->events; }
static inline int clinux_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

// At most 15 bytes of the name show in ps and top.
static inline void clinux_name_thread(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

// Blocking: each read takes one of what was written, and waits while there is none.
static inline int clinux_semaphore(void) { return eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE); }

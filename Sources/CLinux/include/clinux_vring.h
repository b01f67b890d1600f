#pragma once
#include <stdint.h>

// Split virtqueues (virtio 1.2, section 2.7) live in memory the guest writes while we read: every field is loaded
// once, by an atomic load the compiler may neither repeat nor tear.
struct clinux_vring_desc {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
};

static inline struct clinux_vring_desc clinux_vring_load_desc(const void *table, uint16_t index) {
    const struct clinux_vring_desc *d = (const struct clinux_vring_desc *)table + index;
    struct clinux_vring_desc copy;
    copy.address = __atomic_load_n(&d->address, __ATOMIC_RELAXED);
    copy.length = __atomic_load_n(&d->length, __ATOMIC_RELAXED);
    copy.flags = __atomic_load_n(&d->flags, __ATOMIC_RELAXED);
    copy.next = __atomic_load_n(&d->next, __ATOMIC_RELAXED);
    return copy;
}

// flags and idx are the first two 16-bit fields of both the available and the used ring.
static inline uint16_t clinux_vring_load_flags(const void *ring) { return __atomic_load_n((const uint16_t *)ring, __ATOMIC_RELAXED); }
static inline uint16_t clinux_vring_load_index(const void *ring) { return __atomic_load_n((const uint16_t *)ring + 1, __ATOMIC_ACQUIRE); }
static inline uint16_t clinux_vring_load_available(const void *ring, uint16_t slot) {
    return __atomic_load_n((const uint16_t *)ring + 2 + slot, __ATOMIC_RELAXED);
}
static inline void clinux_vring_store_flags(void *ring, uint16_t flags) { __atomic_store_n((uint16_t *)ring, flags, __ATOMIC_RELAXED); }
static inline void clinux_vring_store_index(void *ring, uint16_t index) { __atomic_store_n((uint16_t *)ring + 1, index, __ATOMIC_RELEASE); }
static inline void clinux_vring_store_used(void *ring, uint16_t slot, uint32_t head, uint32_t length) {
    uint32_t *element = (uint32_t *)((char *)ring + 4 + 8 * (uint32_t)slot);
    __atomic_store_n(element, head, __ATOMIC_RELAXED);
    __atomic_store_n(element + 1, length, __ATOMIC_RELAXED);
}
static inline void clinux_full_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

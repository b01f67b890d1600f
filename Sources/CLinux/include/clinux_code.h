#pragma once
#include <link.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

static inline int clinux_forget_object(struct dl_phdr_info *object, size_t size, void *unused) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD || segment->p_flags & PF_W) continue;
        uintptr_t start = (object->dlpi_addr + segment->p_vaddr + page - 1) & ~(page - 1);
        uintptr_t end = (object->dlpi_addr + segment->p_vaddr + segment->p_memsz) & ~(page - 1);
        if (start < end) madvise((void *)start, end - start, MADV_DONTNEED);
    }
    return 0;
}

// Unmaps the pages of code and constants, of the program and its libraries. They are in the page cache: what is used
// again comes back with a minor fault, and what was needed only once no longer counts as in use. Segments that
// relocation writes to are left alone.
static inline void clinux_forget_code(void) { dl_iterate_phdr(clinux_forget_object, NULL); }

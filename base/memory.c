/* memory.c - the only place that calls the malloc family. */
#include "base/memory.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static _Atomic uint64_t calls;
static _Atomic int64_t live;
static _Atomic uint64_t fail_call; /* number of the call that fails; 0 = none */
static _Atomic bool fail_for_good;

/* Counts an allocation; true when a test wants it to fail. */
static bool refused(void) {
    uint64_t call = atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed) + 1;
    uint64_t nth = atomic_load_explicit(&fail_call, memory_order_relaxed);
    return nth && (call == nth || (call > nth && atomic_load_explicit(&fail_for_good, memory_order_relaxed)));
}

static void *counted(void *p) {
    if (p) atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return p;
}

void *mem_alloc(size_t size) {
    return refused() ? NULL : counted(malloc(size ? size : 1));
}

void *mem_calloc(size_t n, size_t size) {
    size_t bytes;
    if (refused() || !mem_mul(&bytes, n, size)) return NULL;
    return counted(calloc(1, bytes ? bytes : 1));
}

void *mem_resize(void *p, size_t n, size_t size) {
    size_t bytes;
    if (refused() || !mem_mul(&bytes, n, size)) return NULL;
    void *moved = realloc(p, bytes ? bytes : 1);
    return p ? moved : counted(moved);
}

void *mem_alloc_vectors(size_t size) {
    size_t room;
    if (refused() || !mem_add(&room, size ? size : 1, MEM_ALIGN - 1)) return NULL;
    return counted(aligned_alloc(MEM_ALIGN, room - room % MEM_ALIGN));
}

void *mem_alloc_aligned(size_t size) {
    void *p = mem_alloc_vectors(size);
    if (p) memset(p, 0, size);
    return p;
}

void *mem_copy(const void *p, size_t size) {
    void *copy = mem_alloc(size);
    if (copy && size) memcpy(copy, p, size);
    return copy;
}

char *mem_string(const char *text) {
    return mem_copy(text, strlen(text) + 1);
}

void mem_free(void *p) {
    if (p) atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    free(p);
}

void mem_free_aligned(void *p) {
    mem_free(p);
}

/* Setting the threshold also keeps glibc from raising it to 32 MiB when such a block is freed. */
void mem_return_large(void) {
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
}

bool mem_mul(size_t *out, size_t a, size_t b) {
    size_t product;
    if (__builtin_mul_overflow(a, b, &product)) return false;
    *out = product;
    return true;
}

bool mem_add(size_t *out, size_t a, size_t b) {
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum)) return false;
    *out = sum;
    return true;
}

void mem_fail_at(uint64_t n, bool for_good) {
    atomic_store(&fail_for_good, for_good);
    atomic_store(&fail_call, n ? atomic_load(&calls) + n : 0);
}

uint64_t mem_calls(void) {
    return atomic_load(&calls);
}

int64_t mem_live(void) {
    return atomic_load(&live);
}

/* memory.h - the one allocator of retort.
 *
 * Every allocation of the project goes through here, so that tests can make the
 * nth call fail and count what is still alive. Third-party libraries that take
 * allocator hooks (cJSON) are pointed here as well. */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Cache-line and vector alignment of mem_alloc_aligned. */
#define MEM_ALIGN 64

/* Uninitialised bytes, or NULL. Size 0 gives a unique pointer. Free with mem_free. */
void *mem_alloc(size_t size) __attribute__((malloc, warn_unused_result));

/* n * size zeroed bytes with overflow check, or NULL. Free with mem_free. */
void *mem_calloc(size_t n, size_t size) __attribute__((malloc, warn_unused_result));

/* Resizes to n * size bytes (contents kept, new bytes undefined); NULL leaves p alone. */
void *mem_resize(void *p, size_t n, size_t size) __attribute__((warn_unused_result));

/* Zeroed bytes aligned to MEM_ALIGN, or NULL. Free with mem_free_aligned. */
void *mem_alloc_aligned(size_t size) __attribute__((malloc, warn_unused_result));

/* Uninitialised bytes aligned to MEM_ALIGN, or NULL: what will be computed with and is filled at once. Free with
 * mem_free. */
void *mem_alloc_vectors(size_t size) __attribute__((malloc, warn_unused_result));

/* A copy of `size` bytes, or NULL. */
void *mem_copy(const void *p, size_t size) __attribute__((malloc, warn_unused_result));

/* A copy of a C string, or NULL. */
char *mem_string(const char *text) __attribute__((malloc, warn_unused_result));

void mem_free(void *p);
void mem_free_aligned(void *p);

/* a * b or a + b into *out; false when it overflows (and *out is untouched). */
bool mem_mul(size_t *out, size_t a, size_t b) __attribute__((warn_unused_result));
bool mem_add(size_t *out, size_t a, size_t b) __attribute__((warn_unused_result));

/* From now on large blocks go back to the system when they are freed, not when it suits the allocator. */
void mem_return_large(void);

/* Makes the nth allocation of this process from now fail (1 = the next), and every later
 * one too when `for_good`; n = 0 switches it off. For tests. */
void mem_fail_at(uint64_t n, bool for_good);

/* Allocations asked for since the start, and blocks alive now. For tests. */
uint64_t mem_calls(void);
int64_t mem_live(void);

#endif

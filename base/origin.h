/* origin.h - bytes that lie somewhere and can be read in any order: a file, a blob, memory. What is read from
 * an origin never needs to be in memory as a whole. */
#ifndef BASE_ORIGIN_H
#define BASE_ORIGIN_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct byte_origin {
    uint64_t size;
    /* Copies bytes [offset, offset + size), which are there. */
    int (*read)(void *to, size_t size, uint64_t offset, void *context, struct err *e);
    void *context;
};

/* Borrowed memory. */
struct byte_origin byte_origin_memory(const void *bytes, size_t size);

#endif

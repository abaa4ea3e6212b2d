/* checkpoint.h - several blocks of memory as one checksummed block of bytes, and back.
 *
 * For a run that continues on the same kind of machine: numbers are stored as they lie in memory.
 * Layout: magic, number of parts, identity, the parts' sizes, the parts, SHA-256 of all before. */
#ifndef ENGINE_NN_CHECKPOINT_H
#define ENGINE_NN_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/error.h"

#define CHECKPOINT_MAX_PARTS 16

struct checkpoint_part {
    void *data;
    size_t size;
};

/* *out is to be freed with mem_free. `identity` tells runs apart whose parts have the same sizes. */
int checkpoint_pack(void **out, size_t *size, const struct digest *identity, const struct checkpoint_part *parts, int n,
                    struct err *e);

/* Fills the parts; false, with the parts untouched, when the bytes are damaged, of another version, of
 * another run, or when the sizes differ. */
bool checkpoint_unpack(const struct checkpoint_part *parts, int n, const struct digest *identity, const void *bytes,
                       size_t size);

#endif

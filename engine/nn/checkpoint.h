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

/* Where a checkpoint goes: its bytes in pieces, one behind the other, to be kept all or not at all. */
typedef int checkpoint_put(const struct checkpoint_part *pieces, int n, void *context, struct err *e);

/* Where one comes from: `read` copies bytes [offset, offset + size) out. */
struct checkpoint_source {
    size_t size; /* 0: there is none */
    int (*read)(void *to, size_t size, size_t offset, void *context, struct err *e);
    void *context;
};

/* `identity` tells runs apart whose parts have the same sizes. The parts are not copied. */
int checkpoint_write(const struct digest *identity, const struct checkpoint_part *parts, int n, checkpoint_put *put,
                     void *context, struct err *e);

/* Fills the parts. *good is false, with the parts untouched, when the bytes are damaged, of another
 * version, of another run, or when the sizes differ. After an error the parts hold anything. */
int checkpoint_read(bool *good, const struct checkpoint_part *parts, int n, const struct digest *identity,
                    const struct checkpoint_source *source, struct err *e);

#endif

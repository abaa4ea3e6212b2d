/* idx.h - the header of IDX files, the format of MNIST: magic, element type, dimensions, then
 * big-endian elements. */
#ifndef ENGINE_FORMATS_IDX_H
#define ENGINE_FORMATS_IDX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "engine/nn/array.h"

#define IDX_PREFIX 4 /* bytes that say how long the header is */
#define IDX_MAX_HEADER (IDX_PREFIX + 4 * SHAPE_MAX_RANK)

struct idx_header {
    enum dtype type; /* uint8, int8, int16, int32, float32 or float64 */
    struct shape shape;
    size_t count; /* elements; count * dtype_size(type) does not overflow */
    size_t data_offset;
};

/* True when the bytes start like an IDX file (4 are needed). */
bool idx_recognise(const void *bytes, size_t size);

/* Size of the whole header; `prefix` has IDX_PREFIX bytes. */
int idx_header_size(size_t *out, const void *prefix, struct err *e);

/* Reads the header at the start of bytes[0..size). */
int idx_header_read(struct idx_header *out, const void *bytes, size_t size, struct err *e);

/* Turns n big-endian elements into little-endian ones, in place. */
void idx_swap(void *bytes, enum dtype type, size_t n);

#endif

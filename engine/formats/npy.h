/* npy.h - the header of numpy's .npy files, versions 1 to 3. What follows it are the raw elements.
 *
 * Accepted: C order, little endian, the types of array.h. numpy has no bfloat16: it travels as
 * '<V2', which is what numpy writes for the bfloat16 of ml_dtypes. Fortran order, big endian,
 * strings, objects and records are E_UNSUPPORTED with what to do in numpy. */
#ifndef ENGINE_FORMATS_NPY_H
#define ENGINE_FORMATS_NPY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "engine/nn/array.h"

#define NPY_PREFIX 12        /* bytes that say how long the header is; every valid file has them */
#define NPY_MAX_HEADER 16384 /* of a file that is read, prefix included */
#define NPY_HEADER_ROOM 320  /* of one that is written */

struct npy_header {
    enum dtype type;
    struct shape shape;
    size_t count;       /* elements; count * dtype_size(type) does not overflow */
    size_t data_offset; /* of the first element */
};

/* True when the bytes start like a .npy file (6 are enough). */
bool npy_recognise(const void *bytes, size_t size);

/* Size of the whole header, prefix included, at most NPY_MAX_HEADER; `prefix` has NPY_PREFIX bytes. */
int npy_header_size(size_t *out, const void *prefix, struct err *e);

/* Reads the header at the start of bytes[0..size). What comes after it is not looked at. */
int npy_header_read(struct npy_header *out, const void *bytes, size_t size, struct err *e);

/* Writes a version 1 header, *size bytes (a multiple of 64) with the prefix; shape without DIM_BATCH. */
int npy_header_write(char out[NPY_HEADER_ROOM], size_t *size, enum dtype type, const struct shape *shape,
                     struct err *e);

/* Reads a whole file in memory. */
int npy_read(struct array **out, const void *bytes, size_t size, struct err *e);

#endif

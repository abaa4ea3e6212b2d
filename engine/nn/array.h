/* array.h - element types, shapes, and constant arrays: what files hold and graphs carry.
 * Not what the engine computes on while training (that is engine/nn/net.h). */
#ifndef ENGINE_NN_ARRAY_H
#define ENGINE_NN_ARRAY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define SHAPE_MAX_RANK 8
#define DIM_BATCH (-1)     /* the free first dimension of a graph's inputs and what follows from it */
#define DIM_FREE INT64_MIN /* another dimension of a graph's input that data has to fix (graph_bind_input) */

/* clang-format off */
/* Element types: name in npy and in messages, bytes. Order is our own; formats map theirs. */
#define DTYPES(X) \
    X(DT_FLOAT32, "float32", 4) X(DT_FLOAT64, "float64", 8) X(DT_FLOAT16, "float16", 2) \
    X(DT_BFLOAT16, "bfloat16", 2) X(DT_INT64, "int64", 8) X(DT_INT32, "int32", 4) \
    X(DT_INT16, "int16", 2) X(DT_INT8, "int8", 1) X(DT_UINT64, "uint64", 8) X(DT_UINT32, "uint32", 4) \
    X(DT_UINT16, "uint16", 2) X(DT_UINT8, "uint8", 1) X(DT_BOOL, "bool", 1)

enum dtype {
#define X(type, name, size) type,
    DTYPES(X)
#undef X
    DTYPE_COUNT
};
/* clang-format on */

const char *dtype_name(enum dtype type);
size_t dtype_size(enum dtype type);
/* false when the name is none of them. */
bool dtype_from_name(enum dtype *out, const char *name);
bool dtype_is_real(enum dtype type); /* one of the four float types */

struct shape {
    int rank;
    int64_t dim[SHAPE_MAX_RANK]; /* >= 0, or DIM_BATCH, or DIM_FREE */
};

/* Number of elements; E_TOO_LARGE when it or its size in 8-byte elements overflows. A free dimension counts as 1. */
int shape_count(size_t *out, const struct shape *s, struct err *e);
bool shape_equal(const struct shape *a, const struct shape *b);
/* "[N,3,32,32]", N for DIM_BATCH, ? for DIM_FREE. */
void shape_print(char *out, size_t room, const struct shape *s);

/* An immutable block of elements in C order, little endian. Clones share the block. */
struct array {
    enum dtype type;
    struct shape shape;
    size_t count;       /* elements */
    void *data;         /* count * dtype_size(type) bytes from mem_alloc */
    atomic_int *owners; /* arrays that share data */
};

/* Zeroed array of that shape; shape must have no free dimension. */
int array_new(struct array **out, enum dtype type, const struct shape *shape, struct err *e);
/* An array around `data` (as above, of the right size), which is taken, on failure too. */
int array_new_take(struct array **out, enum dtype type, const struct shape *shape, void *data, struct err *e);
void array_free(struct array *a);
int array_clone(struct array **out, const struct array *a, struct err *e);

/* Before anything is written to an array that may have been cloned: gives it a block of its own. */
int array_own(struct array *a, struct err *e);

/* Leaves the array without elements, which others that share them keep. */
void array_empty(struct array *a);

/* Converts elements from..from+n of `a` to float or double; integers and bools too. */
void array_to_float(float *out, const struct array *a, size_t from, size_t n);
void array_to_double(double *out, const struct array *a, size_t from, size_t n);
/* One element as an integer: reals truncate, what does not fit is clamped, NaN is 0. */
int64_t array_int(const struct array *a, size_t i);

/* Converts n elements of raw memory, aligned or not, as above: for streams that are not arrays. */
void dtype_to_float(float *out, enum dtype type, const void *from, size_t n);
void dtype_to_double(double *out, enum dtype type, const void *from, size_t n);

/* Index of the first element that is NaN, or with `infinite` not finite; a->count when there is none. */
size_t array_find_odd(const struct array *a, bool infinite);

#endif

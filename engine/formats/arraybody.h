/* arraybody.h - one .npy or IDX file in push style, without anything around it: the common part of
 * arraystream.c and npz.c, for them only. */
#ifndef ENGINE_FORMATS_ARRAYBODY_H
#define ENGINE_FORMATS_ARRAYBODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/formats/npy.h"
#include "engine/formats/sink.h"

#define BODY_PREFIX 4    /* bytes that tell the formats apart */
#define BODY_PIECE 65536 /* IDX elements are swapped in a buffer of that size */

enum body_kind { BODY_UNKNOWN, BODY_NPY, BODY_IDX };

struct arraybody {
    struct array_sink sink;
    const char *name; /* for the sink; borrowed */
    uint64_t budget;  /* most bytes of elements */
    enum body_kind kind;
    unsigned char header[NPY_MAX_HEADER];
    size_t have, need; /* bytes of the header: here, and until more can be said */
    bool begun;        /* the sink knows type and shape */
    enum dtype type;
    struct shape shape;
    uint64_t size;    /* bytes of elements */
    uint64_t missing; /* of them */
    unsigned char piece[BODY_PIECE];
    size_t pending; /* bytes in piece */
};

/* Forgets what was, and begins. The name is kept, not copied. */
void arraybody_start(struct arraybody *b, struct array_sink sink, const char *name, uint64_t budget);
/* True when every byte has come. */
bool arraybody_complete(const struct arraybody *b);
/* How many more bytes are known to come; 1 at least while it is not complete. */
uint64_t arraybody_missing(const struct arraybody *b);
/* Bytes beyond the end are E_SYNTAX. */
int arraybody_feed(struct arraybody *b, const void *bytes, size_t size, struct err *e);
/* Says that there is no more; ends the array in the sink. */
int arraybody_finish(struct arraybody *b, struct err *e);

#endif

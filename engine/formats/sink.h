/* sink.h - where the readers and writers of this folder put what they make, piece by piece. */
#ifndef ENGINE_FORMATS_SINK_H
#define ENGINE_FORMATS_SINK_H

#include <stddef.h>

#include "base/error.h"
#include "base/text.h"
#include "engine/nn/array.h"

/* Takes bytes in order. A result other than 0 stops the writer, which returns it. */
struct byte_sink {
    int (*put)(void *context, const void *bytes, size_t size, struct err *e);
    void *context;
};

/* A sink that appends to a text, up to the text's own maximum. */
struct byte_sink byte_sink_text(struct text *t);

/* Takes arrays one after the other: begin, data as often as needed, end. The bytes of all data
 * calls are exactly the elements that begin announced: C order, little endian. `name` is "" where
 * the format has none, and lives as long as the call. A result other than 0 stops the reader,
 * which returns it. */
struct array_sink {
    int (*begin)(void *context, const char *name, enum dtype type, const struct shape *shape, struct err *e);
    int (*data)(void *context, const void *bytes, size_t size, struct err *e);
    int (*end)(void *context, struct err *e);
    void *context;
};

#endif

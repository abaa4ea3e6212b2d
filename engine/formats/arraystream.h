/* arraystream.h - one array out of a stream of bytes: .npy or IDX, either of them gzipped,
 * recognised by the first bytes. Push style, constant memory: feed pieces of any size, the sink
 * gets begin (dtype, shape), the elements as little-endian C-order bytes, and end.
 *
 * The size must fit the header exactly; inflated bytes beyond it are refused as they appear. */
#ifndef ENGINE_FORMATS_ARRAYSTREAM_H
#define ENGINE_FORMATS_ARRAYSTREAM_H

#include <stddef.h>
#include <stdint.h>

#include "engine/formats/sink.h"

struct arraystream;

/* An array of more than `budget` bytes is E_TOO_LARGE, before anything reaches the sink. */
int arraystream_new(struct arraystream **out, struct array_sink sink, uint64_t budget, struct err *e);
void arraystream_free(struct arraystream *s);

/* After an error the stream is good for nothing but freeing. */
int arraystream_feed(struct arraystream *s, const void *bytes, size_t size, struct err *e);

/* Says that the input has ended; E_SYNTAX when something is missing. */
int arraystream_finish(struct arraystream *s, struct err *e);

#endif

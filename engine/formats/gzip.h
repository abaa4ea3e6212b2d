/* gzip.h - gunzip in push style: feed it pieces, the sink gets what is inside. Constant memory.
 * Several members one after the other are one stream, as in gzip(1). */
#ifndef ENGINE_FORMATS_GZIP_H
#define ENGINE_FORMATS_GZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/formats/sink.h"

struct gunzip;

/* True when the bytes start like a gzip file (2 are needed). */
bool gzip_recognise(const void *bytes, size_t size);

/* More than `budget` bytes of output are E_TOO_LARGE; they never reach the sink. */
int gunzip_new(struct gunzip **out, struct byte_sink sink, uint64_t budget, struct err *e);
void gunzip_free(struct gunzip *g);
int gunzip_feed(struct gunzip *g, const void *bytes, size_t size, struct err *e);
/* Says that the input has ended; E_SYNTAX when it ended too early. */
int gunzip_finish(struct gunzip *g, struct err *e);

#endif

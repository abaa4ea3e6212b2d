/* inflate.h - zlib's inflate in push style, for gzip.c and npz.c only. */
#ifndef ENGINE_FORMATS_INFLATE_H
#define ENGINE_FORMATS_INFLATE_H

#include <stdbool.h>
#include <stddef.h>

#define ZLIB_CONST /* next_in is const */
#include <zlib.h>

#include "engine/formats/sink.h"

#define INFLATE_PIECE 65536

/* What wraps the deflated bytes; the values are zlib's window bits. */
enum inflate_kind { INFLATE_RAW = -15, INFLATE_GZIP = 31 };

struct inflater {
    z_stream z;
    unsigned char piece[INFLATE_PIECE]; /* the sink gets at most that much at once */
};

/* Takes memory from base/memory.h. The inflater must not move while it is open. */
int inflater_open(struct inflater *f, enum inflate_kind kind, struct err *e);
/* Ready for the next stream of the same kind. */
void inflater_reset(struct inflater *f);
void inflater_close(struct inflater *f);

/* Inflates until the bytes are used up or the deflated stream ends (*ended); *used says how many
 * bytes belonged to it. */
int inflater_feed(struct inflater *f, struct byte_sink sink, const void *bytes, size_t size, size_t *used, bool *ended,
                  struct err *e);

#endif

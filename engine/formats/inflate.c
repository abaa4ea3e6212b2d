/* inflate.c - a loop around zlib. */
#include "engine/formats/inflate.h"

#include "base/memory.h"

static void *take(void *context, unsigned n, unsigned size) {
    (void)context;
    return mem_calloc(n, size);
}

static void give(void *context, void *p) {
    (void)context;
    mem_free(p);
}

int inflater_open(struct inflater *f, enum inflate_kind kind, struct err *e) {
    f->z = (z_stream){.zalloc = take, .zfree = give};
    return inflateInit2(&f->z, (int)kind) == Z_OK ? 0 : err_memory(e, 1u << 15);
}

void inflater_reset(struct inflater *f) {
    inflateReset(&f->z);
}

void inflater_close(struct inflater *f) {
    inflateEnd(&f->z);
}

/* One call of zlib; the piece it made goes to the sink. */
static int inflate_piece(struct inflater *f, struct byte_sink sink, bool *ended, struct err *e) {
    f->z.next_out = f->piece;
    f->z.avail_out = INFLATE_PIECE;
    int z = inflate(&f->z, Z_NO_FLUSH);
    if (z == Z_MEM_ERROR) return err_memory(e, 1u << 15);
    if (z == Z_NEED_DICT || (z != Z_OK && z != Z_STREAM_END && z != Z_BUF_ERROR))
        return err_set(e, E_SYNTAX, "the compressed bytes are damaged: %s", f->z.msg ? f->z.msg : "no reason known");
    *ended = z == Z_STREAM_END;
    size_t made = INFLATE_PIECE - f->z.avail_out;
    return made ? sink.put(sink.context, f->piece, made, e) : 0;
}

int inflater_feed(struct inflater *f, struct byte_sink sink, const void *bytes, size_t size, size_t *used, bool *ended,
                  struct err *e) {
    const unsigned most = 1u << 30; /* zlib counts in unsigned int */
    *used = 0;
    *ended = false;
    while (!*ended) {
        unsigned given = size - *used < most ? (unsigned)(size - *used) : most;
        f->z.next_in = (const unsigned char *)bytes + *used;
        f->z.avail_in = given;
        int rc = inflate_piece(f, sink, ended, e);
        if (rc) return rc;
        *used += given - f->z.avail_in;
        /* With room left in the piece, zlib has nothing more to say about these bytes. */
        if (*used == size && f->z.avail_out > 0) break;
    }
    return 0;
}

/* intake.c - arrays out of uploads, and the table that handlers see. */
#include "server/intake.h"

#include <string.h>

#include "base/memory.h"
#include "engine/formats/arraystream.h"
#include "engine/formats/npy.h"
#include "engine/formats/npz.h"

/* One of the two readers, told to speak in names instead of the engine's types. */
struct array_reader {
    struct array_taker to;
    struct arraystream *stream;
    struct npz_reader *archive;
};

static int begin(void *context, const char *name, enum dtype type, const struct shape *shape, struct err *e) {
    struct array_reader *r = context;
    return r->to.begin(r->to.state, name, dtype_name(type), shape->rank, shape->dim, e);
}

static int data(void *context, const void *bytes, size_t size, struct err *e) {
    struct array_reader *r = context;
    return r->to.data(r->to.state, bytes, size, e);
}

static int end(void *context, struct err *e) {
    struct array_reader *r = context;
    return r->to.end(r->to.state, e);
}

static void arrays_close(struct array_reader *r) {
    if (!r) return;
    arraystream_free(r->stream);
    npz_reader_free(r->archive);
    mem_free(r);
}

static int arrays_open(struct array_reader **out, const struct array_taker *to, bool archive, uint64_t budget,
                       struct err *e) {
    struct array_reader *r = mem_calloc(1, sizeof *r);
    *out = NULL;
    if (!r) return err_memory(e, sizeof *r);
    r->to = *to;
    struct array_sink sink = {begin, data, end, r};
    int code = archive ? npz_reader_new(&r->archive, sink, budget, e) : arraystream_new(&r->stream, sink, budget, e);
    if (code)
        arrays_close(r);
    else
        *out = r;
    return code;
}

static int arrays_feed(struct array_reader *r, const void *bytes, size_t size, struct err *e) {
    return r->archive ? npz_reader_feed(r->archive, bytes, size, e) : arraystream_feed(r->stream, bytes, size, e);
}

static int arrays_finish(struct array_reader *r, struct err *e) {
    return r->archive ? npz_reader_finish(r->archive, e) : arraystream_finish(r->stream, e);
}

_Static_assert(NPY_HEADER_MAX >= NPY_HEADER_ROOM, "a header fits");

static int npy_header(char out[NPY_HEADER_MAX], size_t *size, const char *dtype, int rank, const int64_t *dims,
                      struct err *e) {
    enum dtype type;
    struct shape shape = {.rank = rank};
    if (!dtype_from_name(&type, dtype) || rank > SHAPE_MAX_RANK)
        return err_set(e, E_INTERNAL, "an array of type \"%s\" and rank %d is stored", dtype, rank);
    memcpy(shape.dim, dims, (size_t)rank * sizeof dims[0]);
    return npy_header_write(out, size, type, &shape, e);
}

const struct intake engine_intake = {
    .network = intake_network,
    .graph = intake_graph,
    .arrays_open = arrays_open,
    .arrays_feed = arrays_feed,
    .arrays_finish = arrays_finish,
    .arrays_close = arrays_close,
    .npy_header = npy_header,
};

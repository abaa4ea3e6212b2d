/* intake.c - arrays out of uploads, and the table that handlers see. */
#include "server/intake.h"

#include <string.h>

#include "base/memory.h"
#include "engine/formats/arraystream.h"
#include "engine/formats/npy.h"
#include "engine/formats/npz.h"
#include "engine/formats/safetensors.h"

/* One of the readers, told to speak in names instead of the engine's types. */
struct array_reader {
    struct array_taker to;
    struct arraystream *stream;
    struct npz_reader *archive;
    struct safetensors_reader *tensors;
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
    safetensors_reader_free(r->tensors);
    mem_free(r);
}

static int open_body(struct array_reader *r, enum array_body body, uint64_t budget, struct err *e) {
    struct array_sink sink = {begin, data, end, r};
    switch (body) {
        case ARRAY_ALONE: return arraystream_new(&r->stream, sink, budget, e);
        case ARRAYS_NPZ: return npz_reader_new(&r->archive, sink, budget, e);
        case ARRAYS_SAFETENSORS: break;
    }
    return safetensors_reader_new(&r->tensors, sink, budget, e);
}

static int arrays_open(struct array_reader **out, const struct array_taker *to, enum array_body body, uint64_t budget,
                       struct err *e) {
    struct array_reader *r = mem_calloc(1, sizeof *r);
    *out = NULL;
    if (!r) return err_memory(e, sizeof *r);
    r->to = *to;
    int code = open_body(r, body, budget, e);
    if (code)
        arrays_close(r);
    else
        *out = r;
    return code;
}

static int arrays_feed(struct array_reader *r, const void *bytes, size_t size, struct err *e) {
    if (r->archive) return npz_reader_feed(r->archive, bytes, size, e);
    if (r->tensors) return safetensors_reader_feed(r->tensors, bytes, size, e);
    return arraystream_feed(r->stream, bytes, size, e);
}

static int arrays_finish(struct array_reader *r, struct err *e) {
    if (r->archive) return npz_reader_finish(r->archive, e);
    if (r->tensors) return safetensors_reader_finish(r->tensors, e);
    return arraystream_finish(r->stream, e);
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
    .weights = intake_weights,
    .weights_open = intake_weights_open,
    .weights_feed = intake_weights_feed,
    .weights_finish = intake_weights_finish,
    .weights_close = intake_weights_close,
    .arrays_open = arrays_open,
    .arrays_feed = arrays_feed,
    .arrays_finish = arrays_finish,
    .arrays_close = arrays_close,
    .npy_header = npy_header,
};

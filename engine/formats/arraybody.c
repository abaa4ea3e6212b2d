/* arraybody.c - gathers a header, announces it, then lets exactly the announced bytes through. */
#include "engine/formats/arraybody.h"

#include <string.h>

#include "engine/formats/idx.h"

void arraybody_start(struct arraybody *b, struct array_sink sink, const char *name, uint64_t budget) {
    b->sink = sink;
    b->name = name;
    b->budget = budget;
    b->kind = BODY_UNKNOWN;
    b->have = b->pending = 0;
    b->need = BODY_PREFIX;
    b->begun = false;
    b->size = b->missing = 0;
}

bool arraybody_complete(const struct arraybody *b) {
    return b->begun && b->missing == 0;
}

uint64_t arraybody_missing(const struct arraybody *b) {
    return b->begun ? b->missing : b->need - b->have;
}

/* ---- header ---- */

static int recognise(struct arraybody *b, struct err *e) {
    const unsigned char *h = b->header;
    if (npy_recognise(h, b->have)) {
        b->kind = BODY_NPY;
        b->need = NPY_PREFIX;
        return 0;
    }
    if (idx_recognise(h, b->have)) {
        b->kind = BODY_IDX;
        return idx_header_size(&b->need, h, e);
    }
    return err_set(e, E_SYNTAX, "neither an .npy nor an IDX file: it starts with %02x %02x %02x %02x", h[0], h[1], h[2],
                   h[3]);
}

static int announce(struct arraybody *b, enum dtype type, const struct shape *shape, size_t count, struct err *e) {
    b->type = type;
    b->shape = *shape;
    b->size = b->missing = count * dtype_size(type);
    if (b->size > b->budget) {
        char text[SHAPE_MAX_RANK * 24];
        shape_print(text, sizeof text, shape);
        return err_set(e, E_TOO_LARGE, "%s %s has %llu bytes; %llu are allowed", dtype_name(type), text,
                       (unsigned long long)b->size, (unsigned long long)b->budget);
    }
    b->begun = true;
    return b->sink.begin(b->sink.context, b->name, type, shape, e);
}

static int read_npy(struct arraybody *b, struct err *e) {
    struct npy_header h;
    int rc = npy_header_read(&h, b->header, b->have, e);
    return rc ? rc : announce(b, h.type, &h.shape, h.count, e);
}

static int read_idx(struct arraybody *b, struct err *e) {
    struct idx_header h;
    int rc = idx_header_read(&h, b->header, b->have, e);
    return rc ? rc : announce(b, h.type, &h.shape, h.count, e);
}

/* All bytes asked for are here: asks for more, or announces the array. */
static int read_header(struct arraybody *b, struct err *e) {
    if (b->kind == BODY_UNKNOWN) return recognise(b, e);
    if (b->kind == BODY_IDX) return read_idx(b, e);
    size_t whole;
    int rc = npy_header_size(&whole, b->header, e);
    if (rc) return rc;
    b->need = whole;
    return b->have == whole ? read_npy(b, e) : 0;
}

static int feed_header(struct arraybody *b, const unsigned char **bytes, size_t *size, struct err *e) {
    int rc = 0;
    while (!rc && !b->begun && *size) {
        size_t n = b->need - b->have < *size ? b->need - b->have : *size;
        memcpy(b->header + b->have, *bytes, n);
        b->have += n;
        *bytes += n;
        *size -= n;
        if (b->have == b->need) rc = read_header(b, e);
    }
    return rc;
}

/* ---- elements ---- */

/* Hands over the whole elements in the piece, turned round; a part of one stays. */
static int flush(struct arraybody *b, struct err *e) {
    size_t n = b->pending / dtype_size(b->type), whole = n * dtype_size(b->type);
    idx_swap(b->piece, b->type, n);
    int rc = whole ? b->sink.data(b->sink.context, b->piece, whole, e) : 0;
    b->pending -= whole;
    memmove(b->piece, b->piece + whole, b->pending);
    return rc;
}

static int feed_swapped(struct arraybody *b, const unsigned char *bytes, size_t size, struct err *e) {
    int rc = 0;
    while (!rc && size) {
        size_t n = BODY_PIECE - b->pending < size ? BODY_PIECE - b->pending : size;
        memcpy(b->piece + b->pending, bytes, n);
        b->pending += n;
        bytes += n;
        size -= n;
        rc = flush(b, e);
    }
    return rc;
}

static int size_error(const struct arraybody *b, const char *what, struct err *e) {
    char text[SHAPE_MAX_RANK * 24];
    shape_print(text, sizeof text, &b->shape);
    return err_set(e, E_SYNTAX, "%s the %llu bytes of %s %s", what, (unsigned long long)b->size, dtype_name(b->type),
                   text);
}

int arraybody_feed(struct arraybody *b, const void *bytes, size_t size, struct err *e) {
    const unsigned char *at = bytes;
    int rc = feed_header(b, &at, &size, e);
    if (rc || !size) return rc;
    if (size > b->missing) return size_error(b, "there are bytes after", e);
    b->missing -= size;
    if (b->kind == BODY_IDX) return feed_swapped(b, at, size, e);
    return b->sink.data(b->sink.context, at, size, e);
}

int arraybody_finish(struct arraybody *b, struct err *e) {
    char what[80];
    if (!b->begun) return err_set(e, E_SYNTAX, "the data ends in its header, after %zu bytes", b->have);
    if (b->missing) {
        text_print(what, sizeof what, "the data ends %llu bytes short of", (unsigned long long)b->missing);
        return size_error(b, what, e);
    }
    return b->sink.end(b->sink.context, e);
}

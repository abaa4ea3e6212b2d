/* arraystream.c - tells gzip from plain, and lets an array body do the rest. */
#include "engine/formats/arraystream.h"

#include <string.h>

#include "base/memory.h"
#include "engine/formats/arraybody.h"
#include "engine/formats/gzip.h"
#include "engine/formats/npz.h"

struct arraystream {
    struct arraybody body;
    struct gunzip *gunzip; /* NULL when the stream is not compressed */
    unsigned char first[BODY_PREFIX];
    size_t have; /* bytes of `first`, until it is full */
};

int arraystream_new(struct arraystream **out, struct array_sink sink, uint64_t budget, struct err *e) {
    struct arraystream *s = mem_calloc(1, sizeof *s);
    if (!s) return err_memory(e, sizeof *s);
    arraybody_start(&s->body, sink, "", budget);
    *out = s;
    return 0;
}

void arraystream_free(struct arraystream *s) {
    if (!s) return;
    gunzip_free(s->gunzip);
    mem_free(s);
}

static int put_body(void *context, const void *bytes, size_t size, struct err *e) {
    struct arraystream *s = context;
    return arraybody_feed(&s->body, bytes, size, e);
}

static int pass(struct arraystream *s, const void *bytes, size_t size, struct err *e) {
    return s->gunzip ? gunzip_feed(s->gunzip, bytes, size, e) : arraybody_feed(&s->body, bytes, size, e);
}

/* The first bytes are here: opens what they call for, and lets it have them. */
static int open_stream(struct arraystream *s, struct err *e) {
    int rc = 0;
    if (npz_recognise(s->first, s->have))
        return err_set(e, E_SYNTAX, "this is an .npz archive of several arrays, not one array");
    if (gzip_recognise(s->first, s->have)) {
        /* What comes out is bounded by its header, so gzip needs no budget of its own. */
        rc = gunzip_new(&s->gunzip, (struct byte_sink){put_body, s}, UINT64_MAX, e);
    }
    return rc ? rc : pass(s, s->first, s->have, e);
}

int arraystream_feed(struct arraystream *s, const void *bytes, size_t size, struct err *e) {
    const unsigned char *at = bytes;
    while (size && s->have < BODY_PREFIX) {
        s->first[s->have++] = *at++;
        size--;
        int rc = s->have == BODY_PREFIX ? open_stream(s, e) : 0;
        if (rc) return rc;
    }
    return size ? pass(s, at, size, e) : 0;
}

int arraystream_finish(struct arraystream *s, struct err *e) {
    if (s->have < BODY_PREFIX) return err_set(e, E_SYNTAX, "only %zu bytes came: no array", s->have);
    int rc = s->gunzip ? gunzip_finish(s->gunzip, e) : 0;
    return rc ? rc : arraybody_finish(&s->body, e);
}

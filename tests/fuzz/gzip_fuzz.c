/* gzip_fuzz.c - any bytes as a gzip stream, whole and in pieces whose size the last byte says: the same must come
 * out. */
#include <string.h>

#include "engine/formats/gzip.h"
#include "tests/fuzz/fuzz.h"

#define BUDGET (1u << 20)

struct output {
    size_t size;
    uint64_t sum;
};

static int take(void *context, const void *bytes, size_t size, struct err *e) {
    struct output *o = context;
    (void)e;
    o->size += size;
    for (size_t i = 0; i < size; i++) o->sum = o->sum * 31 + ((const unsigned char *)bytes)[i];
    must(o->size <= BUDGET, "%zu bytes", o->size);
    return 0;
}

static int inflate_all(struct output *o, const uint8_t *bytes, size_t size, size_t piece) {
    struct gunzip *g = NULL;
    struct err e = {0};
    int rc = gunzip_new(&g, (struct byte_sink){take, o}, BUDGET, &e);
    for (size_t at = 0; !rc && at < size; at += piece)
        rc = gunzip_feed(g, bytes + at, size - at < piece ? size - at : piece, &e);
    if (!rc) rc = gunzip_finish(g, &e);
    must(rc == 0 || *e.text, "%d without a word", rc);
    gunzip_free(g);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct output whole = {0}, parts = {0};
    gzip_recognise(bytes, size);
    int one = inflate_all(&whole, bytes, size, size + 1);
    int other = inflate_all(&parts, bytes, size, size && bytes[size - 1] ? bytes[size - 1] : 1);
    /* what is damaged and too long may be refused for the one or the other, depending on which is met first */
    must(!one == !other, "%d and %d", one, other);
    must(one || (whole.size == parts.size && whole.sum == parts.sum), "%zu and %zu bytes", whole.size, parts.size);
    return 0;
}

/* gzip.c - members of a gzip stream, counted against a budget. */
#include "engine/formats/gzip.h"

#include "base/memory.h"
#include "engine/formats/inflate.h"

struct gunzip {
    struct inflater inflater;
    struct byte_sink sink;
    uint64_t budget, made, members;
    bool inside; /* a member has begun and not ended */
};

bool gzip_recognise(const void *bytes, size_t size) {
    const unsigned char *p = bytes;
    return size >= 2 && p[0] == 0x1f && p[1] == 0x8b;
}

int gunzip_new(struct gunzip **out, struct byte_sink sink, uint64_t budget, struct err *e) {
    struct gunzip *g = mem_calloc(1, sizeof *g);
    if (!g) return err_memory(e, sizeof *g);
    g->sink = sink;
    g->budget = budget;
    int rc = inflater_open(&g->inflater, INFLATE_GZIP, e);
    if (rc) {
        mem_free(g);
        return rc;
    }
    *out = g;
    return 0;
}

void gunzip_free(struct gunzip *g) {
    if (!g) return;
    inflater_close(&g->inflater);
    mem_free(g);
}

static int put_counted(void *context, const void *bytes, size_t size, struct err *e) {
    struct gunzip *g = context;
    if (size > g->budget - g->made)
        return err_set(e, E_TOO_LARGE, "the gzip stream unpacks to more than %llu bytes",
                       (unsigned long long)g->budget);
    g->made += size;
    return g->sink.put(g->sink.context, bytes, size, e);
}

int gunzip_feed(struct gunzip *g, const void *bytes, size_t size, struct err *e) {
    const unsigned char *at = bytes;
    while (size) {
        if (!g->inside) inflater_reset(&g->inflater);
        g->inside = true;
        size_t used;
        bool ended;
        int rc = inflater_feed(&g->inflater, (struct byte_sink){put_counted, g}, at, size, &used, &ended, e);
        if (rc) return rc;
        if (ended) {
            g->inside = false;
            g->members++;
        }
        at += used;
        size -= used;
    }
    return 0;
}

int gunzip_finish(struct gunzip *g, struct err *e) {
    if (!g->inside && g->members) return 0;
    return err_set(e, E_SYNTAX, "the gzip stream is cut off after %llu unpacked bytes", (unsigned long long)g->made);
}

/* blob_source.c - blobs as sources. */
#include "handlers/blob_source.h"

#include <string.h>

#include "base/memory.h"
#include "store/blobs.h"

struct blob_source {
    int64_t blob, offset;
    size_t header_size;
    char header[];
};

static int blob_read(size_t *got, void *to, size_t room, uint64_t from, void *state, struct store *store,
                     struct err *e) {
    const struct blob_source *b = state;
    if (from < b->header_size) {
        size_t left = b->header_size - (size_t)from;
        *got = left < room ? left : room;
        memcpy(to, b->header + from, *got);
        return 0;
    }
    *got = room;
    return store_blob_read(to, room, store, b->blob, b->offset + (int64_t)(from - b->header_size), e);
}

static void blob_close(void *state, struct store *store) {
    (void)store;
    mem_free(state);
}

int reply_blob(struct response *out, const char *type, const void *header, size_t header_size, int64_t blob,
               int64_t offset, int64_t size, struct err *e) {
    struct blob_source *b = mem_alloc(sizeof *b + header_size);
    if (!b) return err_memory(e, sizeof *b + header_size);
    b->blob = blob;
    b->offset = offset;
    b->header_size = header_size;
    if (header_size) memcpy(b->header, header, header_size);
    out->status = 200;
    out->type = type;
    out->kind = REPLY_SOURCE;
    out->source = (struct byte_source){
        .state = b,
        .size = header_size + (uint64_t)size,
        .read = blob_read,
        .close = blob_close,
    };
    return 0;
}

/* checkpoint.c - see checkpoint.h for the layout. */
#include "engine/nn/checkpoint.h"

#include <string.h>

#include "base/memory.h"

static const char magic[8] = "RTRTCP01"; /* the last two digits: version of the layout */

struct header {
    char magic[8];
    uint64_t parts;
    struct digest identity;
    uint64_t size[CHECKPOINT_MAX_PARTS];
};

static struct header make_header(const struct digest *identity, const struct checkpoint_part *parts, int n) {
    struct header h;
    memset(&h, 0, sizeof h);
    memcpy(h.magic, magic, sizeof magic);
    h.parts = (uint64_t)n;
    h.identity = *identity;
    for (int i = 0; i < n; i++) h.size[i] = parts[i].size;
    return h;
}

int checkpoint_write(const struct digest *identity, const struct checkpoint_part *parts, int n, checkpoint_put *put,
                     void *context, struct err *e) {
    struct header h = make_header(identity, parts, n);
    struct checkpoint_part pieces[CHECKPOINT_MAX_PARTS + 2] = {{&h, sizeof h}};
    struct hasher hasher;
    hasher_init(&hasher);
    for (int i = 0; i < n; i++) pieces[i + 1] = parts[i];
    for (int i = 0; i <= n; i++)
        if (pieces[i].size) hasher_add(&hasher, pieces[i].data, pieces[i].size);
    struct digest sum = hasher_finish(&hasher);
    pieces[n + 1] = (struct checkpoint_part){sum.bytes, DIGEST_SIZE};
    return put(pieces, n + 2, context, e);
}

/* ---- reading ---- */

#define PIECE ((size_t)1 << 20) /* bytes summed up at a time */

static bool total_size(size_t *out, const struct checkpoint_part *parts, int n) {
    *out = sizeof(struct header) + DIGEST_SIZE;
    for (int i = 0; i < n; i++)
        if (!mem_add(out, *out, parts[i].size)) return false;
    return true;
}

/* Whether the bytes hash to what stands behind them. */
static int check_sum(bool *good, const struct checkpoint_source *source, struct err *e) {
    size_t body = source->size - DIGEST_SIZE;
    uint8_t stored[DIGEST_SIZE];
    uint8_t *piece = mem_alloc(PIECE);
    if (!piece) return err_memory(e, PIECE);
    struct hasher hasher;
    hasher_init(&hasher);
    int status = source->read(stored, DIGEST_SIZE, body, source->context, e);
    for (size_t at = 0; at < body && !status; at += PIECE) {
        size_t size = body - at < PIECE ? body - at : PIECE;
        status = source->read(piece, size, at, source->context, e);
        if (!status) hasher_add(&hasher, piece, size);
    }
    mem_free(piece);
    struct digest sum = hasher_finish(&hasher);
    *good = !status && memcmp(sum.bytes, stored, DIGEST_SIZE) == 0;
    return status;
}

int checkpoint_read(bool *good, const struct checkpoint_part *parts, int n, const struct digest *identity,
                    const struct checkpoint_source *source, struct err *e) {
    size_t total, at = sizeof(struct header);
    struct header have, want = make_header(identity, parts, n);
    *good = false;
    if (!total_size(&total, parts, n) || source->size != total) return 0;
    int status = source->read(&have, sizeof have, 0, source->context, e);
    if (status || memcmp(&have, &want, sizeof want) != 0) return status;
    status = check_sum(good, source, e);
    for (int i = 0; i < n && *good && !status; i++) {
        if (parts[i].size) status = source->read(parts[i].data, parts[i].size, at, source->context, e);
        at += parts[i].size;
    }
    return status;
}

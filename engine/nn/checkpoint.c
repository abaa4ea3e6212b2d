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

static bool total_size(size_t *out, const struct checkpoint_part *parts, int n) {
    *out = sizeof(struct header) + DIGEST_SIZE;
    for (int i = 0; i < n; i++)
        if (!mem_add(out, *out, parts[i].size)) return false;
    return true;
}

int checkpoint_pack(void **out, size_t *size, const struct digest *identity, const struct checkpoint_part *parts, int n,
                    struct err *e) {
    size_t total;
    if (!total_size(&total, parts, n)) return err_set(e, E_TOO_LARGE, "the checkpoint is larger than memory");
    uint8_t *bytes = mem_alloc(total), *at = bytes;
    if (!bytes) return err_memory(e, total);
    struct header h = make_header(identity, parts, n);
    memcpy(at, &h, sizeof h);
    at += sizeof h;
    for (int i = 0; i < n; i++) {
        if (parts[i].size) memcpy(at, parts[i].data, parts[i].size);
        at += parts[i].size;
    }
    struct digest sum = digest_of(bytes, (size_t)(at - bytes));
    memcpy(at, sum.bytes, DIGEST_SIZE);
    *out = bytes;
    *size = total;
    return 0;
}

bool checkpoint_unpack(const struct checkpoint_part *parts, int n, const struct digest *identity, const void *bytes,
                       size_t size) {
    size_t total;
    if (!total_size(&total, parts, n) || size != total) return false;
    struct header h = make_header(identity, parts, n);
    if (memcmp(bytes, &h, sizeof h) != 0) return false;
    struct digest sum = digest_of(bytes, size - DIGEST_SIZE);
    const uint8_t *at = (const uint8_t *)bytes + sizeof h;
    if (memcmp(sum.bytes, (const uint8_t *)bytes + size - DIGEST_SIZE, DIGEST_SIZE) != 0) return false;
    for (int i = 0; i < n; i++) {
        if (parts[i].size) memcpy(parts[i].data, at, parts[i].size);
        at += parts[i].size;
    }
    return true;
}

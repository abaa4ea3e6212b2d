/* checkpoint_fuzz.c - any bytes as a checkpoint; and a sound one, changed as the bytes say: three of them are where and
 * what. It must be refused, and a refused one leaves what was there. */
#include <string.h>

#include "engine/nn/checkpoint.h"
#include "tests/fuzz/fuzz.h"

struct state {
    unsigned char one[5], two[64];
};

enum { PACKED_MOST = 1024 };

struct packed {
    unsigned char bytes[PACKED_MOST];
    size_t size;
};

static int put(const struct checkpoint_part *pieces, int n, void *context, struct err *e) {
    struct packed *p = context;
    (void)e;
    for (int i = 0; i < n; i++) {
        must(p->size + pieces[i].size <= PACKED_MOST, "%zu bytes more", pieces[i].size);
        if (pieces[i].size) memcpy(p->bytes + p->size, pieces[i].data, pieces[i].size);
        p->size += pieces[i].size;
    }
    return 0;
}

struct given {
    const unsigned char *bytes;
    size_t size;
};

static int take(void *to, size_t size, size_t offset, void *context, struct err *e) {
    const struct given *g = context;
    (void)e;
    must(offset <= g->size && size <= g->size - offset, "reads %zu bytes at %zu of %zu", size, offset, g->size);
    memcpy(to, g->bytes + offset, size);
    return 0;
}

static bool unpack(struct state *s, const unsigned char *bytes, size_t size) {
    struct checkpoint_part parts[] = {{s->one, sizeof s->one}, {NULL, 0}, {s->two, sizeof s->two}};
    struct digest identity = {{7}};
    struct given given = {bytes, size};
    struct checkpoint_source source = {size, take, &given};
    struct err e = {0};
    bool good = false;
    must(checkpoint_read(&good, parts, 3, &identity, &source, &e) == 0, "%s", e.text);
    return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct state before = {{1, 2, 3, 4, 5}, {6}}, after = before;
    struct checkpoint_part parts[] = {{before.one, sizeof before.one}, {NULL, 0}, {before.two, sizeof before.two}};
    struct digest identity = {{7}};
    struct packed packed = {.size = 0}, changed;
    struct err e = {0};
    must(!unpack(&after, bytes, size) || size > DIGEST_SIZE, "%zu bytes are a checkpoint", size);
    after = before;
    must(checkpoint_write(&identity, parts, 3, put, &packed, &e) == 0, "%s", e.text);
    must(unpack(&after, packed.bytes, packed.size), "a sound one is refused");
    changed = packed;
    for (size_t i = 0; i + 3 <= size; i += 3)
        changed.bytes[(bytes[i] * 256u + bytes[i + 1]) % packed.size] ^= bytes[i + 2];
    size_t cut = size % 3 == 1 ? bytes[size - 1] % packed.size : 0;
    bool same = !cut && memcmp(changed.bytes, packed.bytes, packed.size) == 0;
    memset(&after, 9, sizeof after);
    struct state untouched = after;
    must(unpack(&after, changed.bytes, packed.size - cut) == same, "a changed one is taken");
    must(same || memcmp(&after, &untouched, sizeof after) == 0, "a refused one leaves traces");
    return 0;
}

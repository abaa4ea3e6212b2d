/* checkpoint_fuzz.c - any bytes as a checkpoint; and a sound one, changed as the bytes say: three of them are where and
 * what. It must be refused, and a refused one leaves what was there. */
#include <string.h>

#include "base/memory.h"
#include "engine/nn/checkpoint.h"
#include "tests/fuzz/fuzz.h"

struct state {
    unsigned char one[5], two[64];
};

static bool unpack(struct state *s, const void *bytes, size_t size) {
    struct checkpoint_part parts[] = {{s->one, sizeof s->one}, {NULL, 0}, {s->two, sizeof s->two}};
    struct digest identity = {{7}};
    return checkpoint_unpack(parts, 3, &identity, bytes, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct state before = {{1, 2, 3, 4, 5}, {6}}, after = before;
    struct checkpoint_part parts[] = {{before.one, sizeof before.one}, {NULL, 0}, {before.two, sizeof before.two}};
    struct digest identity = {{7}};
    void *packed = NULL;
    size_t packed_size = 0;
    struct err e = {0};
    must(!unpack(&after, bytes, size) || size > DIGEST_SIZE, "%zu bytes are a checkpoint", size);
    after = before;
    must(checkpoint_pack(&packed, &packed_size, &identity, parts, 3, &e) == 0, "%s", e.text);
    must(unpack(&after, packed, packed_size), "a sound one is refused");
    unsigned char *changed = mem_copy(packed, packed_size);
    must(changed, "memory");
    for (size_t i = 0; i + 3 <= size; i += 3) changed[(bytes[i] * 256u + bytes[i + 1]) % packed_size] ^= bytes[i + 2];
    size_t cut = size % 3 == 1 ? bytes[size - 1] % packed_size : 0;
    bool same = !cut && memcmp(changed, packed, packed_size) == 0;
    memset(&after, 9, sizeof after);
    struct state untouched = after;
    must(unpack(&after, changed, packed_size - cut) == same, "a changed one is taken");
    must(same || memcmp(&after, &untouched, sizeof after) == 0, "a refused one leaves traces");
    mem_free(changed);
    mem_free(packed);
    return 0;
}

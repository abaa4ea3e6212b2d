/* names.c - open addressing, linear probing, at most half full. Names come from files: so that nobody can choose a
 * million of them that meet in one place, where they lie depends on a number of this process. */
#include "engine/nn/names.h"

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

#include "base/memory.h"

static _Atomic uint64_t process_secret; /* 0 = not drawn yet */

static uint64_t secret(void) {
    uint64_t have = atomic_load_explicit(&process_secret, memory_order_relaxed), drawn;
    if (have) return have;
    if (getrandom(&drawn, sizeof drawn, GRND_NONBLOCK) != sizeof drawn) drawn = (uintptr_t)&drawn;
    drawn |= 1;
    return atomic_compare_exchange_strong(&process_secret, &have, drawn) ? drawn : have;
}

/* FNV-1a, 64 bits, from the secret on, and mixed (Murmur3's finaliser), so that every bit depends on all of it. */
static size_t hash(const char *name) {
    uint64_t h = 0xcbf29ce484222325u ^ secret();
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    h = (h ^ (h >> 33)) * 0xff51afd7ed558ccdu;
    return (size_t)(h ^ (h >> 33));
}

static size_t slot_of(const struct names *n, const char *name) {
    size_t i = hash(name) & (n->room - 1);
    while (n->slots[i].name && strcmp(n->slots[i].name, name) != 0) i = (i + 1) & (n->room - 1);
    return i;
}

int names_find(const struct names *n, const char *name) {
    if (n->room == 0) return -1;
    size_t i = slot_of(n, name);
    return n->slots[i].name ? n->slots[i].index : -1;
}

static int grow(struct names *n, struct err *e) {
    struct names bigger = {.room = n->room ? n->room * 2 : 64, .used = n->used};
    bigger.slots = mem_calloc(bigger.room, sizeof *bigger.slots);
    if (!bigger.slots) return err_memory(e, bigger.room * sizeof *bigger.slots);
    for (size_t i = 0; i < n->room; i++)
        if (n->slots[i].name) bigger.slots[slot_of(&bigger, n->slots[i].name)] = n->slots[i];
    mem_free(n->slots);
    *n = bigger;
    return 0;
}

int names_add(struct names *n, const char *name, int index, struct err *e) {
    if (2 * (n->used + 1) > n->room) {
        int status = grow(n, e);
        if (status) return status;
    }
    size_t i = slot_of(n, name);
    n->slots[i].name = name;
    n->slots[i].index = index;
    n->used++;
    return 0;
}

void names_free(struct names *n) {
    mem_free(n->slots);
    *n = (struct names){0};
}

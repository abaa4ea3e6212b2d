/* Checkpoints: what was put in comes out, and nothing else does. */
#include "engine/nn/checkpoint.h"

#include "tests/base/starve.h"

struct things {
    int64_t numbers[3];
    float weights[5];
};

static struct things made(int64_t seed) {
    struct things t = {.numbers = {seed, seed + 1, -seed}};
    for (int i = 0; i < 5; i++) t.weights[i] = (float)(seed * i);
    return t;
}

static void list(struct checkpoint_part parts[3], struct things *t) {
    parts[0] = (struct checkpoint_part){t->numbers, sizeof t->numbers};
    parts[1] = (struct checkpoint_part){NULL, 0};
    parts[2] = (struct checkpoint_part){t->weights, sizeof t->weights};
}

static struct digest identity(const char *text) {
    return digest_of(text, strlen(text));
}

TEST(what_goes_in_comes_out) {
    struct things one = made(7), other = made(0);
    struct checkpoint_part parts[3];
    struct digest run = identity("run"), foreign = identity("another");
    void *bytes;
    size_t size;
    list(parts, &one);
    need(checkpoint_pack(&bytes, &size, &run, parts, 3, NULL) == 0, "pack");
    list(parts, &other);
    ok(!checkpoint_unpack(parts, 3, &foreign, bytes, size), "another run");
    ok(!checkpoint_unpack(parts, 2, &run, bytes, size), "other parts");
    ok(checkpoint_unpack(parts, 3, &run, bytes, size) && !memcmp(&one, &other, sizeof one), "this run");
    mem_free(bytes);
}

TEST(damage_is_refused_and_changes_nothing) {
    struct things one = made(7), other = made(3), before = other;
    struct checkpoint_part parts[3];
    struct digest run = identity("run");
    uint8_t *bytes;
    size_t size;
    list(parts, &one);
    need(checkpoint_pack((void **)&bytes, &size, &run, parts, 3, NULL) == 0, "pack");
    list(parts, &other);
    for (size_t i = 0; i < size; i++) {
        bytes[i] ^= 0x10;
        ok(!checkpoint_unpack(parts, 3, &run, bytes, size), "byte %zu of %zu", i, size);
        bytes[i] ^= 0x10;
        ok(!checkpoint_unpack(parts, 3, &run, bytes, i), "cut after %zu", i);
    }
    ok(memcmp(&other, &before, sizeof other) == 0, "untouched");
    mem_free(bytes);
}

static int pack_once(void) {
    struct things one = made(7);
    struct checkpoint_part parts[3];
    struct digest run = identity("run");
    void *bytes;
    size_t size;
    list(parts, &one);
    int status = checkpoint_pack(&bytes, &size, &run, parts, 3, NULL);
    if (!status) mem_free(bytes);
    return status;
}

TEST(memory_may_run_out) {
    starve("packing", pack_once);
}

TEST_MAIN

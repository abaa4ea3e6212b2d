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

/* Bytes that were written, or a part of them. */
struct stored {
    uint8_t *bytes;
    size_t size;
};

static int keep(const struct checkpoint_part *pieces, int n, void *context, struct err *e) {
    struct stored *s = context;
    for (int i = 0; i < n; i++) {
        uint8_t *moved = mem_resize(s->bytes, s->size + pieces[i].size, 1);
        if (!moved) return err_memory(e, s->size);
        s->bytes = moved;
        if (pieces[i].size) memcpy(s->bytes + s->size, pieces[i].data, pieces[i].size);
        s->size += pieces[i].size;
    }
    return 0;
}

static int copy(void *to, size_t size, size_t offset, void *context, struct err *e) {
    const struct stored *s = context;
    if (offset + size > s->size) return err_set(e, E_IO, "beyond the end");
    memcpy(to, s->bytes + offset, size);
    return 0;
}

static bool reads(struct checkpoint_part *parts, int n, const struct digest *run, struct stored *s, size_t size) {
    struct checkpoint_source source = {size, copy, s};
    struct err e = {0};
    bool good = true;
    ok(checkpoint_read(&good, parts, n, run, &source, &e) == 0, "%s", e.text);
    return good;
}

TEST(what_goes_in_comes_out) {
    struct things one = made(7), other = made(0);
    struct checkpoint_part parts[3];
    struct digest run = identity("run"), foreign = identity("another");
    struct stored s = {0};
    list(parts, &one);
    need(checkpoint_write(&run, parts, 3, keep, &s, NULL) == 0, "write");
    list(parts, &other);
    ok(!reads(parts, 3, &foreign, &s, s.size), "another run");
    ok(!reads(parts, 2, &run, &s, s.size), "other parts");
    ok(reads(parts, 3, &run, &s, s.size) && !memcmp(&one, &other, sizeof one), "this run");
    mem_free(s.bytes);
}

TEST(damage_is_refused_and_changes_nothing) {
    struct things one = made(7), other = made(3), before = other;
    struct checkpoint_part parts[3];
    struct digest run = identity("run");
    struct stored s = {0};
    list(parts, &one);
    need(checkpoint_write(&run, parts, 3, keep, &s, NULL) == 0, "write");
    list(parts, &other);
    for (size_t i = 0; i < s.size; i++) {
        s.bytes[i] ^= 0x10;
        ok(!reads(parts, 3, &run, &s, s.size), "byte %zu of %zu", i, s.size);
        s.bytes[i] ^= 0x10;
        ok(!reads(parts, 3, &run, &s, i), "cut after %zu", i);
    }
    ok(memcmp(&other, &before, sizeof other) == 0, "untouched");
    mem_free(s.bytes);
}

TEST(large_parts_are_summed_in_pieces) {
    size_t size = (size_t)5 << 19; /* two pieces and a half */
    uint8_t *one = mem_alloc(size), *other = mem_calloc(size, 1);
    need(one && other, "memory");
    for (size_t i = 0; i < size; i++) one[i] = (uint8_t)(i * 31 >> 3);
    struct digest run = identity("run");
    struct stored s = {0};
    need(checkpoint_write(&run, &(struct checkpoint_part){one, size}, 1, keep, &s, NULL) == 0, "write");
    struct checkpoint_part part = {other, size};
    s.bytes[s.size - 100] ^= 1;
    ok(!reads(&part, 1, &run, &s, s.size), "damaged in the last piece");
    s.bytes[s.size - 100] ^= 1;
    ok(reads(&part, 1, &run, &s, s.size) && !memcmp(one, other, size), "the same");
    mem_free(one);
    mem_free(other);
    mem_free(s.bytes);
}

static int write_and_read(void) {
    struct things one = made(7);
    struct checkpoint_part parts[3];
    struct digest run = identity("run");
    struct stored s = {0};
    bool good;
    list(parts, &one);
    int status = checkpoint_write(&run, parts, 3, keep, &s, NULL);
    struct checkpoint_source source = {s.size, copy, &s};
    if (!status) status = checkpoint_read(&good, parts, 3, &run, &source, NULL);
    mem_free(s.bytes);
    return status;
}

TEST(memory_may_run_out) {
    starve("a checkpoint", write_and_read);
}

TEST_MAIN

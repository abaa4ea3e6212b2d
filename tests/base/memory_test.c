/* memory_test.c - the allocator: overflow, alignment, counting, failing on demand. */
#include "base/memory.h"

#include <pthread.h>

#include "tests/test.h"

TEST(sizes_that_overflow_are_refused) {
    size_t out = 7;
    ok(!mem_mul(&out, SIZE_MAX, 2) && out == 7, "product overflows, out is untouched");
    ok(!mem_add(&out, SIZE_MAX, 1) && out == 7, "sum overflows, out is untouched");
    ok(mem_mul(&out, SIZE_MAX / 2, 2) && out == SIZE_MAX - 1, "largest product");
    ok(mem_add(&out, SIZE_MAX - 1, 1) && out == SIZE_MAX, "largest sum");
    int64_t live = mem_live();
    ok(!mem_calloc(SIZE_MAX / 2, 3), "calloc");
    ok(!mem_resize(NULL, SIZE_MAX / 2, 3), "resize");
    ok(!mem_alloc_aligned(SIZE_MAX - 3), "aligned");
    ok(mem_live() == live, "nothing is alive");
}

/* Leaves memory behind that is not zero, for the next block of that size. */
static void soil(void *block, size_t size) {
    if (block) memset(block, 0x5a, size);
    mem_free(block);
}

TEST(calloc_and_aligned_are_zeroed) {
    for (size_t size = 0; size < 300; size += 37) {
        soil(mem_alloc(3 * size), 3 * size);
        soil(mem_alloc_aligned(100000), 100000);
        unsigned char *a = mem_calloc(size, 3), *b = mem_alloc_aligned(size);
        need(a && b, "size %zu", size);
        ok((uintptr_t)b % MEM_ALIGN == 0, "size %zu is aligned", size);
        for (size_t i = 0; i < size; i++) ok(a[3 * i] == 0 && b[i] == 0, "byte %zu of %zu", i, size);
        mem_free(a);
        mem_free_aligned(b);
    }
}

TEST(size_zero_gives_unique_pointers) {
    void *a = mem_alloc(0), *b = mem_alloc(0), *c = mem_calloc(0, 8);
    ok(a && b && c && a != b && b != c, "three pointers");
    mem_free(a);
    mem_free(b);
    mem_free(c);
    ok(mem_live() == 0, "%lld alive", (long long)mem_live());
}

TEST(copies_are_copies) {
    char text[] = "longer than what the heap clears";
    for (int i = 0; i < 4; i++) soil(mem_alloc(sizeof text), sizeof text);
    char *copy = mem_string(text), *bytes = mem_copy(text, 6);
    need(copy && bytes, "copies");
    text[0] = 'x';
    ok(strcmp(copy, "longer than what the heap clears") == 0 && memcmp(bytes, "longer", 6) == 0, "%s", copy);
    mem_free(copy);
    mem_free(bytes);
}

TEST(live_counts_blocks) {
    int64_t before = mem_live();
    int *p = mem_resize(NULL, 4, sizeof *p);
    need(p, "first");
    p[3] = 42;
    ok(mem_live() == before + 1, "a new block");
    int *q = mem_resize(p, 4000, sizeof *q);
    need(q, "second");
    ok(q[3] == 42 && mem_live() == before + 1, "resizing keeps contents and count");
    mem_free(NULL);
    mem_free_aligned(NULL);
    ok(mem_live() == before + 1, "freeing NULL is nothing");
    mem_free(q);
    ok(mem_live() == before, "gone");
}

/* Which of five allocations succeed, as bits from the left. */
static unsigned pattern(void) {
    unsigned bits = 0;
    for (int i = 0; i < 5; i++) {
        void *p = mem_alloc(8);
        bits = bits << 1 | (p != NULL);
        mem_free(p);
    }
    return bits;
}

TEST(fails_at_the_nth_call) {
    mem_fail_at(1, false);
    ok(pattern() == 0x0f, "first only");
    mem_fail_at(3, false);
    ok(pattern() == 0x1b, "third only");
    mem_fail_at(3, true);
    ok(pattern() == 0x18, "third and later");
    ok(pattern() == 0, "still");
    mem_fail_at(0, false);
    ok(pattern() == 0x1f, "off");
    uint64_t calls = mem_calls();
    pattern();
    ok(mem_calls() == calls + 5, "counted");
}

TEST(every_way_to_allocate_can_fail) {
    int block;
    mem_fail_at(1, true);
    ok(!mem_alloc(1) && !mem_calloc(1, 1) && !mem_alloc_aligned(1) && !mem_copy(&block, 0) && !mem_string("a"), "new");
    mem_fail_at(0, false);
    char *p = mem_string("kept");
    need(p, "string");
    mem_fail_at(1, true);
    ok(!mem_resize(p, 100, 1), "resize");
    mem_fail_at(0, false);
    ok(strcmp(p, "kept") == 0, "a failed resize leaves the block alone");
    mem_free(p);
    ok(mem_live() == 0, "nothing is alive");
}

static void *churn(void *unused) {
    for (int i = 0; i < 20000; i++) mem_free(mem_alloc(16));
    return unused;
}

TEST(counts_hold_among_threads) {
    pthread_t threads[4];
    uint64_t calls = mem_calls();
    for (int i = 0; i < 4; i++) ok(pthread_create(&threads[i], NULL, churn, NULL) == 0, "thread %d", i);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    ok(mem_live() == 0, "%lld alive", (long long)mem_live());
    ok(mem_calls() - calls == 80000, "%llu calls", (unsigned long long)(mem_calls() - calls));
}

TEST_MAIN

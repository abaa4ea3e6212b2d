/* random_test.c - determinism, independence, rough shape of the distributions. */
#include "base/random.h"

#include "base/memory.h"
#include "tests/test.h"

TEST(same_seed_same_numbers) {
    struct random a = random_seed(7), b = random_seed(7), c = random_seed(8);
    int same = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t x = random_u64(&a);
        ok(x == random_u64(&b), "number %d", i);
        same += x == random_u64(&c);
    }
    ok(same == 0, "%d numbers of another seed are the same", same);
}

/* Students must stay the same from one release to the next, so these values are for ever. */
TEST(numbers_are_pinned) {
    ok(random_seed(0).key == 0xe220a8397b1dcdafu, "the first number of SplitMix64 from 0, as published");
    ok(random_seed(1).key == 0x910a2dec89025cc1u, "the first number of SplitMix64 from 1, as published");
    struct random r = random_seed(1), s = random_split(&r, 2);
    uint64_t first = random_u64(&r), split = random_u64(&s);
    ok(first == 0x5e41ab087439611eu, "%#llx", (unsigned long long)first);
    ok(split == 0xbfc2b08ec19bd5f5u, "%#llx", (unsigned long long)split);
}

TEST(counter_seeks) {
    struct random r = random_seed(3), again = r;
    uint64_t numbers[50];
    for (int i = 0; i < 50; i++) numbers[i] = random_u64(&r);
    ok(r.counter == 50, "%llu", (unsigned long long)r.counter);
    for (int i = 49; i >= 0; i--) {
        again.counter = (uint64_t)i;
        ok(random_u64(&again) == numbers[i], "number %d", i);
    }
}

TEST(splits_are_independent) {
    struct random r = random_seed(1), moved = r;
    random_u64(&moved);
    struct random a = random_split(&r, 0), b = random_split(&moved, 0);
    ok(a.key == b.key && a.counter == 0, "the counter does not matter");
    enum { N = 2000 };
    uint64_t keys[N];
    for (uint64_t i = 0; i < N / 2; i++) {
        keys[2 * i] = random_split(&r, i).key;
        struct random other = random_seed(i + 2);
        keys[2 * i + 1] = random_split(&other, 0).key;
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < i; j++) ok(keys[i] != keys[j], "splits %d and %d", i, j);
    struct random inner = random_split(&a, 1), outer = random_split(&r, 1);
    ok(inner.key != outer.key && random_split(&inner, 2).key != random_split(&outer, 2).key, "nested");
}

/* Correlation of the first numbers of neighbouring splits. */
TEST(neighbouring_splits_do_not_correlate) {
    struct random r = random_seed(test_seed());
    double sum = 0, before = 0;
    enum { N = 20000 };
    for (uint64_t i = 0; i < N; i++) {
        struct random s = random_split(&r, i);
        double x = random_unit(&s) - 0.5;
        sum += x * before;
        before = x;
    }
    double correlation = sum / N * 12;
    ok(fabs(correlation) < 5 / sqrt(N), "%g", correlation);
}

TEST(below_is_uniform) {
    struct random r = random_seed(test_seed());
    enum { SIDES = 7, N = 70000 };
    int count[SIDES] = {0};
    for (int i = 0; i < N; i++) {
        uint64_t side = random_below(&r, SIDES);
        need(side < SIDES, "%llu", (unsigned long long)side);
        count[side]++;
    }
    double chi2 = 0, expected = (double)N / SIDES;
    for (int i = 0; i < SIDES; i++) chi2 += (count[i] - expected) * (count[i] - expected) / expected;
    ok(chi2 < 30, "chi squared %g with 6 degrees of freedom", chi2);
    ok(random_below(&r, 1) == 0, "one side");
}

/* With n just above 2^63, half of all draws are refused; bias would fill the lower part. */
TEST(below_has_no_modulo_bias) {
    struct random r = random_seed(test_seed());
    uint64_t n = (UINT64_C(1) << 63) + (UINT64_C(1) << 62);
    int low = 0;
    for (int i = 0; i < 30000; i++) low += random_below(&r, n) < n / 3;
    ok(abs(low - 10000) < 500, "%d of 30000 in the lower third", low);
}

TEST(unit_is_uniform) {
    struct random r = random_seed(test_seed());
    enum { N = 100000, BINS = 20 };
    int count[BINS] = {0};
    double sum = 0;
    for (int i = 0; i < N; i++) {
        double x = random_unit(&r);
        need(x >= 0 && x < 1, "%g", x);
        sum += x;
        count[(int)(x * BINS)]++;
    }
    ok(fabs(sum / N - 0.5) < 0.005, "mean %g", sum / N);
    for (int i = 0; i < BINS; i++) ok(abs(count[i] - N / BINS) < 400, "bin %d has %d", i, count[i]);
}

TEST(normal_has_its_moments) {
    struct random r = random_seed(test_seed());
    enum { N = 200000 };
    double m1 = 0, m2 = 0, m3 = 0, m4 = 0;
    for (int i = 0; i < N; i++) {
        double x = random_normal(&r);
        need(isfinite(x), "number %d", i);
        m1 += x;
        m2 += x * x;
        m3 += x * x * x;
        m4 += x * x * x * x;
    }
    ok(fabs(m1 / N) < 0.015, "mean %g", m1 / N);
    ok(fabs(m2 / N - 1) < 0.02, "variance %g", m2 / N);
    ok(fabs(m3 / N) < 0.05, "third moment %g", m3 / N);
    ok(fabs(m4 / N - 3) < 0.15, "fourth moment %g", m4 / N);
    ok(r.counter == 2 * N, "two draws each");
}

TEST(permutation_is_a_permutation) {
    struct random r = random_seed(test_seed());
    for (size_t n = 0; n < 200; n += 11) {
        uint32_t order[200];
        bool seen[200] = {false};
        random_permutation(&r, order, n);
        for (size_t i = 0; i < n; i++) {
            need(order[i] < n && !seen[order[i]], "%u at %zu of %zu", order[i], i, n);
            seen[order[i]] = true;
        }
        ok(true, "size %zu", n);
    }
}

TEST(permutations_are_equally_likely) {
    struct random r = random_seed(test_seed());
    int count[27] = {0};
    for (int i = 0; i < 12000; i++) {
        uint32_t order[3];
        random_permutation(&r, order, 3);
        count[order[0] * 9 + order[1] * 3 + order[2]]++;
    }
    static const int all[] = {5, 7, 11, 15, 19, 21};
    for (int i = 0; i < 6; i++) ok(abs(count[all[i]] - 2000) < 250, "permutation %d: %d times", all[i], count[all[i]]);
}

TEST_MAIN

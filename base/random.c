/* random.c - a counter through a bijective mix. */
#include "base/random.h"

#include <math.h>

#define WEYL 0x9e3779b97f4a7c15u /* odd, near 2^64 / golden ratio */

/* Stafford's variant 13 of the MurmurHash3 finaliser, as in SplitMix64. */
static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

struct random random_seed(uint64_t seed) {
    return (struct random){.key = mix(seed + WEYL)};
}

struct random random_split(const struct random *r, uint64_t label) {
    /* Two rounds: labels and keys that are close must not give keys that are. */
    return (struct random){.key = mix(mix(r->key ^ 0x6a09e667f3bcc909u) + mix(label + WEYL))};
}

uint64_t random_u64(struct random *r) {
    return mix(r->key + ++r->counter * WEYL);
}

uint64_t random_below(struct random *r, uint64_t n) {
    uint64_t uneven = (0 - n) % n; /* 2^64 mod n: so many numbers would be drawn once too often */
    uint64_t x;
    do {
        x = random_u64(r);
    } while (x < uneven);
    return x % n;
}

double random_unit(struct random *r) {
    return (double)(random_u64(r) >> 11) * 0x1p-53;
}

double random_normal(struct random *r) {
    double radius = sqrt(-2.0 * log(1.0 - random_unit(r))); /* of (0, 1]: never the logarithm of 0 */
    return radius * cos(6.283185307179586477 * random_unit(r));
}

void random_permutation(struct random *r, uint32_t *out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        size_t j = random_below(r, i + 1);
        out[i] = (uint32_t)i; /* first, for j may be i */
        out[i] = out[j];
        out[j] = (uint32_t)i;
    }
}

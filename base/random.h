/* random.h - seeded, splittable, seekable random numbers.
 *
 * A generator is a key and a counter: number i is a bijective mix (the finaliser of
 * SplitMix64, Steele et al. 2014) of key + i * odd constant. So a generator can be saved,
 * moved to any position and split into independent ones by label, and the numbers do not
 * depend on who draws them in which thread. Not for cryptography. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct random {
    uint64_t key;
    uint64_t counter;
};

struct random random_seed(uint64_t seed);

/* An independent generator that depends on r's key and the label only, not on its counter. */
struct random random_split(const struct random *r, uint64_t label);

uint64_t random_u64(struct random *r);

/* Uniform in [0, n), without modulo bias; n > 0. */
uint64_t random_below(struct random *r, uint64_t n);

/* Uniform in [0, 1) with 53 bits. */
double random_unit(struct random *r);

/* Standard normal (Box-Muller; draws two numbers each time). */
double random_normal(struct random *r);

/* A permutation of 0..n-1 into out (Fisher-Yates). */
void random_permutation(struct random *r, uint32_t *out, size_t n);

#endif

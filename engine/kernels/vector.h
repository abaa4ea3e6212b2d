/* vector.h - 64 bytes of numbers at once, in the compiler's own vectors: one AVX-512 register. For loops marked
 * VECTORISED, on machines that have such registers; elsewhere the compiler keeps these vectors in memory, which is ten
 * times slower than plain loops. */
#ifndef ENGINE_KERNELS_VECTOR_H
#define ENGINE_KERNELS_VECTOR_H

#include <stdbool.h>
#include <string.h>

#include "engine/kernels/real.h"

enum { LANES = 64 / sizeof(real) }; /* numbers of one vector */

typedef real vec __attribute__((vector_size(64), may_alias));
typedef real loose __attribute__((vector_size(64), aligned(sizeof(real)), may_alias)); /* anywhere in memory */

/* Whether the machine has registers of that size. */
static inline bool vector_is_wide(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512f");
#else
    return false;
#endif
}

#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 16")

INLINE void load(vec *v, const real *from) {
    *v = *(const loose *)(const void *)from;
}

INLINE void store(real *to, const vec *v) {
    *(loose *)(void *)to = *v;
}

/* The first n of a vector's numbers; the others are zero. */
INLINE void load_some(vec *v, const real *from, int n) {
    if (n >= LANES) {
        load(v, from);
        return;
    }
    *v = (vec){0};
    memcpy(v, from, (size_t)n * sizeof(real));
}

INLINE void store_some(real *to, const vec *v, int n) {
    if (n >= LANES)
        store(to, v);
    else
        memcpy(to, v, (size_t)n * sizeof(real));
}

/* v where y is above 0, else 0: by the bits of the comparison. */
#define WHERE_POSITIVE(y, v) ((vec)((__typeof__((v) > 0))(v) & ((y) > 0)))
/* max(0, v) */
#define POSITIVE(v) WHERE_POSITIVE(v, v)

#endif

/* gemm.c - see gemm.h. */
#include "engine/kernels/gemm.h"

#include "engine/kernels/vector.h"

/* Products summed in one go, so that the rows of a stay in the cache while those of b pass. */
enum { LENGTH = 1024 };

struct rows {
    const real *at;
    size_t step;
};

/* ---- four vectors to the four sums of their numbers ---- */

typedef __typeof__((vec){0} > 0) lanes; /* where each number of a vector comes from: in the first or the second */
typedef real four __attribute__((vector_size(4 * sizeof(real)), aligned(sizeof(real)), may_alias));

/* Numbers in runs of `run`, of a and b in turn, each the sum of two. */
INLINE void fold(vec *out, const vec *a, const vec *b, int run) {
#if defined(__clang__) /* only for fuzzing */
    for (int i = 0; i < LANES; i++) {
        const vec *from = i / run % 2 ? b : a;
        int at = i - (i / run % 2 ? run : 0);
        (*out)[i] = (*from)[at] + (*from)[at + run];
    }
#else
    lanes even, odd;
    UNROLLED
    for (int i = 0; i < LANES; i++) {
        even[i] = (i / run % 2 ? LANES - run : 0) + i;
        odd[i] = even[i] + run;
    }
    *out = __builtin_shuffle(*a, *b, even) + __builtin_shuffle(*a, *b, odd);
#endif
}

INLINE void four_sums(real *out, const vec v[4], bool add) {
    vec low, high, all;
    fold(&low, &v[0], &v[1], 1);
    fold(&high, &v[2], &v[3], 1);
    fold(&all, &low, &high, 2);
    const four *quarters = (const four *)(const void *)&all;
    four sum = quarters[0];
    for (int i = 1; i < LANES / 4; i++) sum += quarters[i];
    if (add) sum += *(const four *)(const void *)out;
    *(four *)(void *)out = sum;
}

INLINE real one_sum(const vec *v) {
    real sum[LANES];
    store(sum, v);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int k = 0; k < half; k++) sum[k] += sum[k + half];
    return sum[0];
}

/* ---- blocks of dot products ---- */

INLINE void multiply_step(int tall, int wide, struct rows a, struct rows b, int at, int n, vec sums[][8]) {
    vec x[4], y;
    for (int r = 0; r < tall; r++) load_some(&x[r], a.at + (size_t)r * a.step + at, n);
    for (int j = 0; j < wide; j++) {
        load_some(&y, b.at + (size_t)j * b.step + at, n);
        for (int r = 0; r < tall; r++) sums[r][j] += x[r] * y;
    }
}

/* c[tall][wide] = or += a . b^T over `length` products. */
INLINE void block(int tall, int wide, struct rows a, struct rows b, int length, real *c, size_t ldc, bool add) {
    vec sums[4][8] = {{{0}}};
    int i = 0;
    for (; i + LANES <= length; i += LANES) multiply_step(tall, wide, a, b, i, LANES, sums);
    if (i < length) multiply_step(tall, wide, a, b, i, length - i, sums);
    for (int r = 0; r < tall; r++, c += ldc)
        for (int j = 0; j < wide; j += wide < 4 ? 1 : 4)
            if (wide < 4)
                c[j] = one_sum(&sums[r][j]) + (add ? c[j] : 0);
            else
                four_sums(c + j, &sums[r][j], add);
}

/* `tall` rows of a by all n of b, `wide` at a time and then one by one. */
INLINE void band(int tall, int wide, int n, int length, struct rows a, struct rows b, real *c, size_t ldc, bool add) {
    int j = 0;
    for (; j + wide <= n; j += wide, b.at += (size_t)wide * b.step) block(tall, wide, a, b, length, c + j, ldc, add);
    for (; j < n; j++, b.at += b.step) block(tall, 1, a, b, length, c + j, ldc, add);
}

VECTORISED static void bands(int m, int n, int length, struct rows a, struct rows b, real *c, size_t ldc, bool add) {
    int i = 0;
    for (; i + 4 <= m; i += 4, a.at += 4 * a.step, c += 4 * ldc) band(4, 4, n, length, a, b, c, ldc, add);
    for (; i < m; i++, a.at += a.step, c += ldc) band(1, 8, n, length, a, b, c, ldc, add);
}

void gemm_rows(int m, int n, int k, const real *a, int lda, const real *b, int ldb, real *c, int ldc, bool add) {
    enum { NEAR = 8 }; /* rows of b that the nearest cache holds while all of a's pass */
    for (int from = 0; from < k || from == 0; from += LENGTH) {
        int length = k - from < LENGTH ? k - from : LENGTH;
        for (int j = 0; j < n; j += NEAR)
            bands(m, n - j < NEAR ? n - j : NEAR, length, (struct rows){a + from, (size_t)lda},
                  (struct rows){b + (size_t)j * (size_t)ldb + from, (size_t)ldb}, c + j, (size_t)ldc, add || from > 0);
    }
}

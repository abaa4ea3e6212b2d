/* channels_last.c - see channels_last.h. A block of rows is walked one vector of channels at a time, so that what is
 * kept per channel stays in registers and the block in the nearest cache. Without wide registers: plain loops. */
#include "engine/kernels/channels_last.h"

#include "engine/kernels/loops.h"
#include "engine/kernels/vector.h"

enum { BLOCK_ROWS = 128, CHAINS = 4 };

/* One vector of channels of a block: `n` of them are there, rows lie `step` apart. */
struct strip {
    size_t rows, step;
    int n;
};

/* Walks a block of rows strip by strip, with `channel` and `strip` set. Whole vectors and the last, shorter one are
 * compiled apart. */
#define EACH_STRIP(s, statement) \
    for (size_t row = 0; row < (s).rows; row += BLOCK_ROWS) { \
        size_t left = (s).rows - row, channel = 0; \
        struct strip strip = {left < BLOCK_ROWS ? left : BLOCK_ROWS, (s).channels, LANES}; \
        for (; channel + LANES <= (s).channels; channel += LANES) statement; \
        strip.n = (int)((s).channels - channel); \
        if (strip.n > 0) statement; \
    }

/* Where the strip begins. */
#define AT (row * s.channels + channel)

/* for r = 0 ... rows - 1, in CHAINS independent chains k of sums. */
#define EACH_ROW(rows, statement) \
    { \
        size_t r = 0; \
        for (; r + CHAINS <= (rows); r += CHAINS) { \
            UNROLLED \
            for (size_t k = 0; k < CHAINS; k++) statement(r + k, k); \
        } \
        for (; r < (rows); r++) statement(r, 0); \
    }

INLINE void add_chains(vec *sum, const vec chains[CHAINS]) {
    *sum = chains[0] + chains[1] + (chains[2] + chains[3]);
}

/* ---- moments ---- */

INLINE void add_row(vec *sum, const real *x, int n) {
    vec v;
    load_some(&v, x, n);
    *sum += v;
}

INLINE void add_distance(vec *sum, const real *x, int n, const vec *mean) {
    vec v;
    load_some(&v, x, n);
    *sum += (v - *mean) * (v - *mean);
}

/* The moments of a strip joined with those of `before` rows. */
INLINE void strip_moments(struct strip s, const real *x, size_t before, real *mean, real *squares) {
    vec sums[CHAINS] = {{0}}, distances[CHAINS] = {{0}}, own, apart, all, of_squares;
#define ROW(r, k) add_row(&sums[k], x + (r)*s.step, s.n)
    EACH_ROW(s.rows, ROW)
#undef ROW
    add_chains(&own, sums);
    own /= (real)s.rows;
#define ROW(r, k) add_distance(&distances[k], x + (r)*s.step, s.n, &own)
    EACH_ROW(s.rows, ROW)
#undef ROW
    add_chains(&apart, distances);
    load_some(&all, mean, s.n);
    load_some(&of_squares, squares, s.n);
    real share = (real)s.rows / (real)(before + s.rows);
    of_squares += apart + (own - all) * (own - all) * (share * (real)before);
    all += (own - all) * share;
    store_some(mean, &all, s.n);
    store_some(squares, &of_squares, s.n);
}

VECTORISED static void wide_moments(struct rows_of_channels s, const real *x, real *mean, real *squares) {
    memset(mean, 0, s.channels * sizeof(real));
    memset(squares, 0, s.channels * sizeof(real));
    EACH_STRIP(s, strip_moments(strip, x + AT, row, mean + channel, squares + channel))
}

/* ---- scaling ---- */

INLINE void strip_scale(struct strip s, const real *x, const real *residual, real *y, const real *gain,
                        const real *offset, bool relu) {
    vec factor, constant;
    load_some(&factor, gain, s.n);
    load_some(&constant, offset, s.n);
    for (size_t r = 0; r < s.rows; r++, x += s.step, y += s.step) {
        vec v, more = {0};
        load_some(&v, x, s.n);
        if (residual) load_some(&more, residual + r * s.step, s.n);
        v = v * factor + constant + more;
        if (relu) v = POSITIVE(v);
        store_some(y, &v, s.n);
    }
}

VECTORISED static void wide_scale(struct rows_of_channels s, const real *x, const real *residual, real *y,
                                  const real *gain, const real *offset, bool relu) {
    if (residual)
        EACH_STRIP(s, strip_scale(strip, x + AT, residual + AT, y + AT, gain + channel, offset + channel, relu))
    else
        EACH_STRIP(s, strip_scale(strip, x + AT, NULL, y + AT, gain + channel, offset + channel, relu))
}

/* ---- the way back ---- */

/* Row r of a strip: dy is masked and passed on; its sum and its product with x grow. */
INLINE void gradient_row(const struct channels_gradient *g, size_t at, int n, bool masks, bool gives, const vec *mean,
                         vec *sum, vec *product) {
    vec dy, x, y;
    load_some(&dy, g->dy + at, n);
    load_some(&x, g->x + at, n);
    if (masks) {
        load_some(&y, g->y + at, n);
        dy = WHERE_POSITIVE(y, dy);
        store_some(g->dy + at, &dy, n);
    }
    *sum += dy;
    *product += dy * (x - *mean);
    if (!gives) return;
    if (g->add) {
        load_some(&y, g->residual + at, n);
        dy += y;
    }
    store_some(g->residual + at, &dy, n);
}

INLINE void strip_sums(struct strip s, const struct channels_gradient *g, size_t at, bool masks, bool gives,
                       const real *mean, real *sum, real *product) {
    vec sums[CHAINS] = {{0}}, products[CHAINS] = {{0}}, middle, all, own;
    load_some(&middle, mean, s.n);
#define ROW(r, k) gradient_row(g, at + (r)*s.step, s.n, masks, gives, &middle, &sums[k], &products[k])
    EACH_ROW(s.rows, ROW)
#undef ROW
    load_some(&all, sum, s.n);
    add_chains(&own, sums);
    all += own;
    store_some(sum, &all, s.n);
    load_some(&all, product, s.n);
    add_chains(&own, products);
    all += own;
    store_some(product, &all, s.n);
}

VECTORISED static void wide_sums(struct rows_of_channels s, const struct channels_gradient *g, real *sum,
                                 real *product) {
    memset(sum, 0, s.channels * sizeof(real));
    memset(product, 0, s.channels * sizeof(real));
#define SUMS(masks, gives) \
    EACH_STRIP(s, strip_sums(strip, g, AT, masks, gives, g->mean + channel, sum + channel, product + channel))
    if (g->y && g->residual)
        SUMS(true, true)
    else if (g->y)
        SUMS(true, false)
    else
        SUMS(false, g->residual != NULL)
#undef SUMS
}

INLINE void strip_combine(struct strip s, const real *dy, const real *x, real *dx, const real *a, const real *b,
                          const real *d, bool add) {
    vec of_dy, of_x, constant;
    load_some(&of_dy, a, s.n);
    load_some(&of_x, b, s.n);
    load_some(&constant, d, s.n);
    for (size_t r = 0; r < s.rows; r++) {
        vec v, w, old = {0};
        load_some(&v, dy + r * s.step, s.n);
        load_some(&w, x + r * s.step, s.n);
        if (add) load_some(&old, dx + r * s.step, s.n);
        v = v * of_dy + (w * of_x + constant) + old;
        store_some(dx + r * s.step, &v, s.n);
    }
}

VECTORISED static void wide_combine(struct rows_of_channels s, const real *dy, const real *x, real *dx, const real *a,
                                    const real *b, const real *d, bool add){
    EACH_STRIP(s, strip_combine(strip, dy + AT, x + AT, dx + AT, a + channel, b + channel, d + channel, add))}

/* ---- plain loops ---- */

VECTORISED static void plain_moments(struct rows_of_channels s, const real *x, real *mean, real *squares) {
    loop_column_sums(mean, x, s.rows, s.channels);
    for (size_t k = 0; k < s.channels; k++) mean[k] /= (real)s.rows, squares[k] = 0;
    for (size_t r = 0; r < s.rows; r++, x += s.channels)
        for (size_t k = 0; k < s.channels; k++) squares[k] += (x[k] - mean[k]) * (x[k] - mean[k]);
}

VECTORISED static void plain_scale(struct rows_of_channels s, const real *x, const real *residual, real *y,
                                   const real *gain, const real *offset, bool relu) {
    for (size_t r = 0; r < s.rows; r++, x += s.channels, y += s.channels) {
        for (size_t k = 0; k < s.channels; k++) y[k] = x[k] * gain[k] + offset[k];
        if (residual) loop_add(y, residual + r * s.channels, s.channels);
        for (size_t k = 0; k < s.channels && relu; k++) y[k] = y[k] > 0 ? y[k] : 0;
    }
}

VECTORISED static void plain_sums(struct rows_of_channels s, const struct channels_gradient *g, real *sum,
                                  real *product) {
    size_t n = s.rows * s.channels;
    const real *x = g->x, *dy = g->dy;
    if (g->y) loop_relu_mask(g->dy, g->y, n);
    if (g->residual) loop_give(g->residual, g->dy, n, g->add);
    memset(sum, 0, s.channels * sizeof(real));
    memset(product, 0, s.channels * sizeof(real));
    for (size_t r = 0; r < s.rows; r++, x += s.channels, dy += s.channels)
        for (size_t k = 0; k < s.channels; k++) {
            sum[k] += dy[k];
            product[k] += dy[k] * (x[k] - g->mean[k]);
        }
}

VECTORISED static void plain_combine(struct rows_of_channels s, const real *dy, const real *x, real *dx, const real *a,
                                     const real *b, const real *d, bool add) {
    for (size_t r = 0; r < s.rows; r++, x += s.channels, dy += s.channels, dx += s.channels)
        for (size_t k = 0; k < s.channels; k++) dx[k] = dy[k] * a[k] + (x[k] * b[k] + d[k]) + (add ? dx[k] : 0);
}

/* ---- the choice ---- */

void channels_moments(struct rows_of_channels s, const real *x, real *mean, real *squares) {
    (vector_is_wide() ? wide_moments : plain_moments)(s, x, mean, squares);
}

void channels_scale(struct rows_of_channels s, const real *x, const real *residual, real *y, const real *gain,
                    const real *offset, bool relu) {
    (vector_is_wide() ? wide_scale : plain_scale)(s, x, residual, y, gain, offset, relu);
}

void channels_sums(struct rows_of_channels s, const struct channels_gradient *g, real *sum, real *product) {
    (vector_is_wide() ? wide_sums : plain_sums)(s, g, sum, product);
}

void channels_combine(struct rows_of_channels s, const real *dy, const real *x, real *dx, const real *a, const real *b,
                      const real *d, bool add) {
    (vector_is_wide() ? wide_combine : plain_combine)(s, dy, x, dx, a, b, d, add);
}

/* conv_winograd.c - 3x3 convolutions of stride 1 by Winograd's minimal filtering F(4x4, 3x3) (Lavin & Gray 2016): a
 * tile of 4x4 results takes 36 products per pair of channels instead of 144, in all three directions.
 *
 * A tile is transformed to 36 positions, at each position channels are multiplied by a small matrix, and the results
 * are transformed back. Tiles go through in chunks that stay in the cache. The interpolation points 0, +-5/8, +-3/2
 * and infinity keep the error within a few times that of a direct sum. */
#include "engine/kernels/conv.h"

#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "engine/kernels/vector.h"

enum {
    TILE = 4,
    POINTS = 6,
    POSITIONS = POINTS * POINTS,
    TAPS = 9,
    CHUNK = 32,            /* tiles transformed together */
    BLOCK = CHUNK * LANES, /* LANES channels of a chunk */
    GAP = LANES            /* between positions, so that they do not fall into the same cache sets */
};

/* The points a and b. */
#define A ((real)0.625)
#define B ((real)1.5)
#define AA (A * A)
#define BB (B * B)

/* One way through the convolution: forward, or from dy back to dx, which is a convolution too. */
struct pass {
    int n, in_channels, in_height, in_width, out_channels, out_height, out_width, pad_top, pad_left;
    int in_blocks, out_blocks; /* of LANES channels; the last may be filled up with zeros */
    int tile_rows, tile_columns;
};

struct conv {
    struct pass forward, backward;
    struct conv_uses uses;
};

/* ---- the transforms of six, four and three numbers, each a vector of channels ---- */

/* Data at the points: B^T d. */
INLINE void data_to_points(vec out[POINTS], const vec d[POINTS]) {
    vec even_a = d[4] - BB * d[2], odd_a = d[3] - BB * d[1];
    vec even_b = d[4] - AA * d[2], odd_b = d[3] - AA * d[1];
    out[0] = AA * BB * d[0] - (AA + BB) * d[2] + d[4];
    out[1] = even_a + A * odd_a;
    out[2] = even_a - A * odd_a;
    out[3] = even_b + B * odd_b;
    out[4] = even_b - B * odd_b;
    out[5] = AA * BB * d[1] - (AA + BB) * d[3] + d[5];
}

/* Products at the points back to results: A^T m. */
INLINE void points_to_results(vec out[TILE], const vec m[POINTS]) {
    vec sum_a = m[1] + m[2], gap_a = m[1] - m[2], sum_b = m[3] + m[4], gap_b = m[3] - m[4];
    out[0] = m[0] + sum_a + sum_b;
    out[1] = A * gap_a + B * gap_b;
    out[2] = AA * sum_a + BB * sum_b;
    out[3] = A * AA * gap_a + B * BB * gap_b + m[5];
}

/* Gradients of results at the points: A dy. */
INLINE void results_to_points(vec out[POINTS], const vec dy[TILE]) {
    vec even_a = dy[0] + AA * dy[2], odd_a = A * dy[1] + A * AA * dy[3];
    vec even_b = dy[0] + BB * dy[2], odd_b = B * dy[1] + B * BB * dy[3];
    out[0] = dy[0];
    out[1] = even_a + odd_a;
    out[2] = even_a - odd_a;
    out[3] = even_b + odd_b;
    out[4] = even_b - odd_b;
    out[5] = dy[3];
}

/* Weights at the points are G w. The scale of each row is 1 over the derivative there of
 * x (x^2 - a^2) (x^2 - b^2). */
static const double point_of[POINTS - 1] = {0, 0.625, -0.625, 1.5, -1.5};
static const double scale_of[POINTS] = {
    1 / (0.390625 * 2.25),     -1 / (2 * 0.390625 * 1.859375), -1 / (2 * 0.390625 * 1.859375),
    1 / (2 * 2.25 * 1.859375), 1 / (2 * 2.25 * 1.859375),      1,
};

static double weight_factor(int point, int tap) {
    if (point == POINTS - 1) return tap == 2;
    double p = point_of[point];
    return scale_of[point] * (tap == 0 ? 1 : tap == 1 ? p : p * p);
}

/* ---- a tile in and out ---- */

/* Where a tile lies: its sample's data and the corner, which may lie in the padding. */
struct place {
    int sample, row, column;
};

static struct place place_of(const struct pass *s, int tile) {
    int each = s->tile_rows * s->tile_columns, within = tile % each;
    return (struct place){tile / each, within / s->tile_columns * TILE, within % s->tile_columns * TILE};
}

/* A square of pixels of an image, some of which may lie outside, where there are zeros. */
struct window {
    const real *corner;           /* where its first pixel is, or would be */
    size_t pixel, line;           /* steps */
    int top, bottom, left, right; /* rows and columns inside: [top, bottom), [left, right) */
    bool whole;
};

static int between(int least, int x, int most) {
    return x < least ? least : x > most ? most : x;
}

static struct window window_at(const real *image, int height, int width, int channels, int row, int column, int size) {
    struct window w = {.pixel = (size_t)channels,
                       .line = (size_t)width * (size_t)channels,
                       .top = between(0, -row, size),
                       .bottom = between(0, height - row, size),
                       .left = between(0, -column, size),
                       .right = between(0, width - column, size)};
    w.corner = image + (ptrdiff_t)row * (ptrdiff_t)w.line + (ptrdiff_t)column * channels;
    w.whole = w.top == 0 && w.left == 0 && w.bottom == size && w.right == size;
    return w;
}

/* A window of `size` numbers per axis to all positions, n channels from c on; `out` steps by `gap`. */
#define TO_POSITIONS(name, size, transform) \
    INLINE void name##_of(real *out, size_t gap, const struct window *w, int c, int n, bool whole) { \
        vec columns[size][POINTS], line[POINTS]; \
        UNROLLED \
        for (int k = 0; k < size; k++) { \
            const real *from = w->corner + (size_t)k * w->pixel + c; \
            UNROLLED \
            for (int r = 0; r < size; r++) \
                if (whole || (k >= w->left && k < w->right && r >= w->top && r < w->bottom)) \
                    load_some(&line[r], from + (size_t)r * w->line, n); \
                else \
                    line[r] = (vec){0}; \
            transform(columns[k], line); \
        } \
        UNROLLED \
        for (int r = 0; r < POINTS; r++) { \
            vec made[POINTS]; \
            UNROLLED \
            for (int k = 0; k < size; k++) line[k] = columns[k][r]; \
            transform(made, line); \
            UNROLLED \
            for (int k = 0; k < POINTS; k++) store(out + (size_t)(r * POINTS + k) * gap, &made[k]); \
        } \
    } \
    INLINE void name(real *out, size_t gap, const struct window *w, int c, int channels) { \
        if (channels - c < LANES) \
            name##_of(out, gap, w, c, channels - c, false); \
        else if (w->whole) \
            name##_of(out, gap, w, c, LANES, true); \
        else \
            name##_of(out, gap, w, c, LANES, false); \
    }
TO_POSITIONS(data_to_positions, POINTS, data_to_points)
TO_POSITIONS(results_to_positions, TILE, results_to_points)

/* Numbers from one position of a chunk to the next. */
static size_t gap_of(int blocks) {
    return (size_t)blocks * BLOCK + GAP;
}

/* Data tiles [first, first + count) of the pass, transformed: v[position][block][tile][channel in block]. */
VECTORISED static void transform_data(const struct pass *s, const real *x, int first, int count, real *v) {
    size_t image = (size_t)s->in_height * (size_t)s->in_width * (size_t)s->in_channels;
    for (int t = 0; t < count; t++) {
        struct place p = place_of(s, first + t);
        struct window w = window_at(x + (size_t)p.sample * image, s->in_height, s->in_width, s->in_channels,
                                    p.row - s->pad_top, p.column - s->pad_left, POINTS);
        for (int c = 0; c < s->in_channels; c += LANES)
            data_to_positions(v + c * CHUNK + t * LANES, gap_of(s->in_blocks), &w, c, s->in_channels);
    }
}

/* The same of results' gradients, for the gradient of the weights. */
VECTORISED static void transform_gradient(const struct pass *s, const real *dy, int first, int count, real *z) {
    size_t image = (size_t)s->out_height * (size_t)s->out_width * (size_t)s->out_channels;
    for (int t = 0; t < count; t++) {
        struct place p = place_of(s, first + t);
        struct window w = window_at(dy + (size_t)p.sample * image, s->out_height, s->out_width, s->out_channels, p.row,
                                    p.column, TILE);
        for (int c = 0; c < s->out_channels; c += LANES)
            results_to_positions(z + c * CHUNK + t * LANES, gap_of(s->out_blocks), &w, c, s->out_channels);
    }
}

/* What happens to a result on its way out. */
struct ending {
    const real *bias, *residual; /* NULL: none */
    bool relu;
};

INLINE void gather_results(vec out[TILE * TILE], const real *m, size_t gap) {
    vec rows[TILE][POINTS], line[POINTS], made[TILE];
    UNROLLED
    for (int k = 0; k < POINTS; k++) {
        UNROLLED
        for (int r = 0; r < POINTS; r++) load(&line[r], m + (size_t)(r * POINTS + k) * gap);
        points_to_results(made, line);
        UNROLLED
        for (int r = 0; r < TILE; r++) rows[r][k] = made[r];
    }
    UNROLLED
    for (int r = 0; r < TILE; r++) points_to_results(out + r * TILE, rows[r]);
}

VECTORISED static void transform_results(const struct pass *s, const real *m, int first, int count,
                                         const struct ending *end, real *y) {
    for (int t = 0; t < count; t++) {
        struct place p = place_of(s, first + t);
        int rows = s->out_height - p.row < TILE ? s->out_height - p.row : TILE;
        int columns = s->out_width - p.column < TILE ? s->out_width - p.column : TILE;
        for (int c = 0; c < s->out_channels; c += LANES) {
            vec made[TILE * TILE], bias = {0};
            int n = s->out_channels - c;
            gather_results(made, m + c * CHUNK + t * LANES, gap_of(s->out_blocks));
            if (end->bias) load_some(&bias, end->bias + c, n);
            for (int r = 0; r < rows; r++)
                for (int k = 0; k < columns; k++) {
                    size_t at =
                        (((size_t)p.sample * (size_t)s->out_height + (size_t)(p.row + r)) * (size_t)s->out_width +
                         (size_t)(p.column + k)) *
                            (size_t)s->out_channels +
                        (size_t)c;
                    vec value = made[r * TILE + k] + bias, more = {0};
                    if (end->residual) load_some(&more, end->residual + at, n);
                    value += more;
                    if (end->relu) value = POSITIVE(value);
                    store_some(y + at, &value, n);
                }
        }
    }
}

/* ---- products at one position ---- */

/* Results of `rows` tiles and `width` blocks of channels: m = v . u over `blocks` blocks of channels. */
INLINE void product_block(int rows, int width, int blocks, const real *v, const real *u, size_t n, real *m) {
    vec sums[16][4] = {{{0}}};
    for (int b = 0; b < blocks; b++, v += BLOCK)
        for (int i = 0; i < LANES; i++, u += n)
            for (int w = 0; w < width; w++) {
                vec weights;
                load(&weights, u + w * LANES);
                for (int r = 0; r < rows; r++) sums[r][w] += v[r * LANES + i] * weights;
            }
    for (int r = 0; r < rows; r++)
        for (int w = 0; w < width; w++) store(m + w * BLOCK + r * LANES, &sums[r][w]);
}

/* Tiles in groups whose sums stay in registers; then what is left. */
#define PRODUCT_ROWS(rows, width) \
    for (; t + (rows) <= count; t += (rows)) product_block(rows, width, blocks, v + t * LANES, u, n, m + t * LANES);

INLINE void product_columns(int width, int count, int blocks, const real *v, const real *u, size_t n, real *m) {
    int t = 0;
    if (width == 1) PRODUCT_ROWS(16, width)
    PRODUCT_ROWS(8, width)
    PRODUCT_ROWS(1, width)
}

/* m = v . u, with u as [in][out]. */
VECTORISED static void products(int count, int in_blocks, int out_blocks, const real *v, const real *u, real *m) {
    size_t n = (size_t)out_blocks * LANES;
    int w = 0;
    for (; w + 2 <= out_blocks; w += 2) product_columns(2, count, in_blocks, v, u + w * LANES, n, m + w * BLOCK);
    if (w < out_blocks) product_columns(1, count, in_blocks, v, u + w * LANES, n, m + w * BLOCK);
}

enum { GRADIENT_ROWS = 8 };

/* du[in][out] = v^T . z, or adds it, for a few rows of `in` and `width` blocks of `out`. */
INLINE void gradient_block(int width, int count, const real *v, const real *z, size_t n, real *du, bool add) {
    vec sums[GRADIENT_ROWS][4] = {{{0}}};
    for (int r = 0; r < GRADIENT_ROWS && add; r++)
        for (int w = 0; w < width; w++) load(&sums[r][w], du + (size_t)r * n + w * LANES);
    for (int t = 0; t < count; t++, v += LANES, z += LANES)
        for (int w = 0; w < width; w++) {
            vec gradient;
            load(&gradient, z + w * BLOCK);
            for (int r = 0; r < GRADIENT_ROWS; r++) sums[r][w] += v[r] * gradient;
        }
    for (int r = 0; r < GRADIENT_ROWS; r++)
        for (int w = 0; w < width; w++) store(du + (size_t)r * n + w * LANES, &sums[r][w]);
}

VECTORISED static void gradient_products(int count, int in_blocks, int out_blocks, const real *v, const real *z,
                                         real *du, bool add) {
    size_t n = (size_t)out_blocks * LANES;
    for (int b = 0; b < in_blocks; b++)
        for (int r = 0; r < LANES; r += GRADIENT_ROWS, du += GRADIENT_ROWS * n) {
            int w = 0;
            for (; w + 2 <= out_blocks; w += 2)
                gradient_block(2, count, v + b * BLOCK + r, z + w * BLOCK, n, du + w * LANES, add);
            if (w < out_blocks) gradient_block(1, count, v + b * BLOCK + r, z + w * BLOCK, n, du + w * LANES, add);
        }
}

/* ---- the directions ---- */

/* Weights at one position: [in][out], both filled up to whole blocks. */
static size_t plane(const struct pass *s) {
    return (size_t)(s->in_blocks * LANES) * (size_t)(s->out_blocks * LANES);
}

static void convolve(const struct pass *s, const real *x, const real *packed, const struct ending *end, real *y,
                     real *scratch) {
    real *v = scratch, *m = v + POSITIONS * gap_of(s->in_blocks);
    int tiles = s->n * s->tile_rows * s->tile_columns;
    for (int first = 0; first < tiles; first += CHUNK) {
        int count = tiles - first < CHUNK ? tiles - first : CHUNK;
        transform_data(s, x, first, count, v);
        for (int p = 0; p < POSITIONS; p++)
            products(count, s->in_blocks, s->out_blocks, v + (size_t)p * gap_of(s->in_blocks),
                     packed + (size_t)p * plane(s), m + (size_t)p * gap_of(s->out_blocks));
        transform_results(s, m, first, count, end, y);
    }
}

static void winograd_forward(struct conv *c, int thread, const real *x, const real *packed, const real *bias,
                             const real *residual, real *y, real *scratch) {
    (void)thread;
    convolve(&c->forward, x, packed, &(struct ending){bias, residual, c->uses.relu}, y, scratch);
}

static void winograd_backward_data(struct conv *c, int thread, const real *dy, const real *packed, real *dx,
                                   real *scratch) {
    (void)thread;
    convolve(&c->backward, dy, packed, &(struct ending){0}, dx, scratch);
}

/* From the positions to the taps: G^T du G, as [tap][in][out]. */
VECTORISED static void gather_taps(size_t n, const real *du, real *gradient) {
    real factors[TAPS][POSITIONS];
    for (int t = 0; t < TAPS; t++)
        for (int p = 0; p < POSITIONS; p++)
            factors[t][p] = (real)(weight_factor(p / POINTS, t / 3) * weight_factor(p % POINTS, t % 3));
    for (size_t i = 0; i < n; i += LANES) {
        vec sums[TAPS] = {{0}};
        for (int p = 0; p < POSITIONS; p++) {
            vec at;
            load(&at, du + (size_t)p * n + i);
            for (int t = 0; t < TAPS; t++) sums[t] += factors[t][p] * at;
        }
        for (int t = 0; t < TAPS; t++) store(gradient + (size_t)t * n + i, &sums[t]);
    }
}

VECTORISED static void sum_gradient(const real *dy, size_t pixels, size_t channels, real *d_bias) {
    memset(d_bias, 0, channels * sizeof(real));
    for (size_t p = 0; p < pixels; p++)
        for (size_t o = 0; o < channels; o++) d_bias[o] += dy[p * channels + o];
}

static void winograd_backward_weights(struct conv *c, int thread, const real *x, const real *dy, real *gradient,
                                      real *d_bias, real *scratch) {
    (void)thread;
    const struct pass *s = &c->forward;
    real *v = scratch, *z = v + POSITIONS * gap_of(s->in_blocks), *du = z + POSITIONS * gap_of(s->out_blocks);
    int tiles = s->n * s->tile_rows * s->tile_columns;
    for (int first = 0; first < tiles; first += CHUNK) {
        int count = tiles - first < CHUNK ? tiles - first : CHUNK;
        transform_data(s, x, first, count, v);
        transform_gradient(s, dy, first, count, z);
        for (int p = 0; p < POSITIONS; p++)
            gradient_products(count, s->in_blocks, s->out_blocks, v + (size_t)p * gap_of(s->in_blocks),
                              z + (size_t)p * gap_of(s->out_blocks), du + (size_t)p * plane(s), first > 0);
    }
    gather_taps(plane(s), du, gradient);
    if (d_bias)
        sum_gradient(dy, (size_t)s->n * (size_t)s->out_height * (size_t)s->out_width, (size_t)s->out_channels, d_bias);
}

/* ---- packing ---- */

/* Three taps at the points: G w. */
INLINE void taps_to_points(vec out[POINTS], const vec w[3]) {
    for (int p = 0; p < POINTS; p++)
        out[p] = (real)weight_factor(p, 0) * w[0] + (real)weight_factor(p, 1) * w[1] + (real)weight_factor(p, 2) * w[2];
}

/* G w G^T of the filters that lead from one input channel to a block of outputs, `n` of them there; filter k begins at
 * w[k * step] and is read forwards or, for the way back, backwards. */
INLINE void pack_block(const real *w, size_t step, int n, bool turned, real *u, size_t gap) {
    vec filter[TAPS] = {{0}}, columns[3][POINTS], line[3], made[POINTS];
    for (int t = 0; t < TAPS; t++)
        for (int k = 0; k < n; k++) filter[t][k] = w[(size_t)k * step + (size_t)(turned ? TAPS - 1 - t : t)];
    for (int k = 0; k < 3; k++) {
        for (int r = 0; r < 3; r++) line[r] = filter[r * 3 + k];
        taps_to_points(columns[k], line);
    }
    for (int r = 0; r < POINTS; r++) {
        for (int k = 0; k < 3; k++) line[k] = columns[k][r];
        taps_to_points(made, line);
        for (int k = 0; k < POINTS; k++) store(u + (size_t)(r * POINTS + k) * gap, &made[k]);
    }
}

/* Filter from input i to output o begins at weights[i * in_step + o * out_step]. */
VECTORISED static void pack(const struct pass *s, const real *weights, size_t in_step, size_t out_step, bool turned,
                            real *packed) {
    size_t row = (size_t)(s->out_blocks * LANES), rows = (size_t)(s->in_blocks * LANES);
    for (size_t i = 0; i < rows; i++, packed += row)
        for (int o = 0; o < s->out_blocks * LANES; o += LANES) {
            int n = i >= (size_t)s->in_channels ? 0 : s->out_channels - o < LANES ? s->out_channels - o : LANES;
            pack_block(weights + i * in_step + (size_t)o * out_step, out_step, n, turned, packed + o, plane(s));
        }
}

static void winograd_pack(struct conv *c, const real *weights, real *packed) {
    pack(&c->forward, weights, TAPS, (size_t)c->forward.in_channels * TAPS, false, packed);
}

static void winograd_pack_backward(struct conv *c, const real *weights, real *packed) {
    pack(&c->backward, weights, (size_t)c->forward.in_channels * TAPS, TAPS, true, packed);
}

static void winograd_unpack(struct conv *c, const real *gradient, real *dw, bool add) {
    const struct pass *s = &c->forward;
    for (int o = 0; o < s->out_channels; o++)
        for (int i = 0; i < s->in_channels; i++)
            for (int t = 0; t < TAPS; t++, dw++)
                *dw = gradient[(size_t)t * plane(s) + (size_t)(i * s->out_blocks * LANES + o)] + (add ? *dw : 0);
}

/* ---- opening ---- */

static int blocks_of(int channels) {
    return (channels + LANES - 1) / LANES;
}

static struct pass complete(struct pass s) {
    s.in_blocks = blocks_of(s.in_channels);
    s.out_blocks = blocks_of(s.out_channels);
    s.tile_rows = (s.out_height + TILE - 1) / TILE;
    s.tile_columns = (s.out_width + TILE - 1) / TILE;
    return s;
}

/* Few channels leave nothing to gain; of many, the transformed weights no longer fit into a core's cache; and where the
 * results fill their tiles badly, the products saved are lost again. */
static bool is_suited(const struct conv_shape *s) {
    enum { CHANNELS_LEAST = 12, CHANNELS_MOST = 128 };
    int rows = (s->out_height + TILE - 1) / TILE, columns = (s->out_width + TILE - 1) / TILE;
    bool filled = 2 * (int64_t)s->out_height * s->out_width >= (int64_t)rows * columns * TILE * TILE;
    bool plain = s->stride_height == 1 && s->stride_width == 1 && s->dilation_height == 1 && s->dilation_width == 1 &&
                 s->groups == 1 && s->kernel_height == 3 && s->kernel_width == 3;
    return vector_is_wide() && plain && filled && s->in_channels >= CHANNELS_LEAST &&
           s->out_channels >= CHANNELS_LEAST && s->in_channels <= CHANNELS_MOST && s->out_channels <= CHANNELS_MOST &&
           s->pad_top <= 2 && s->pad_left <= 2 && s->pad_bottom <= 2 && s->pad_right <= 2;
}

static int winograd_open(struct conv **out, const struct conv_shape *shape, const struct conv_uses *uses,
                         struct err *e) {
    if (!is_suited(shape))
        return err_set(e, E_UNSUPPORTED,
                       "Winograd's filtering is for 3x3 kernels of stride 1, 12 to 128 channels, by AVX-512");
    struct conv *c = mem_calloc(1, sizeof *c);
    if (!c) return err_memory(e, sizeof *c);
    c->uses = *uses;
    c->forward = complete((struct pass){.n = shape->n,
                                        .in_channels = shape->in_channels,
                                        .in_height = shape->in_height,
                                        .in_width = shape->in_width,
                                        .out_channels = shape->out_channels,
                                        .out_height = shape->out_height,
                                        .out_width = shape->out_width,
                                        .pad_top = shape->pad_top,
                                        .pad_left = shape->pad_left});
    c->backward = complete((struct pass){.n = shape->n,
                                         .in_channels = shape->out_channels,
                                         .in_height = shape->out_height,
                                         .in_width = shape->out_width,
                                         .out_channels = shape->in_channels,
                                         .out_height = shape->in_height,
                                         .out_width = shape->in_width,
                                         .pad_top = 2 - shape->pad_top,
                                         .pad_left = 2 - shape->pad_left});
    *out = c;
    return 0;
}

static void winograd_close(struct conv *c) {
    mem_free(c);
}

static struct conv_sizes winograd_sizes(const struct conv *c) {
    const struct pass *s = &c->forward;
    size_t chunks = POSITIONS * (gap_of(s->in_blocks) + gap_of(s->out_blocks));
    return (struct conv_sizes){
        .packed = POSITIONS * plane(s),
        .packed_backward = c->uses.backward_data ? POSITIONS * plane(s) : 0,
        .gradient = TAPS * plane(s),
        .scratch = chunks + (c->uses.backward_weights ? POSITIONS * plane(s) : 0),
        .rows = TILE,
    };
}

const struct conv_backend conv_winograd = {
    .name = "winograd",
    .open = winograd_open,
    .close = winograd_close,
    .sizes = winograd_sizes,
    .pack = winograd_pack,
    .pack_backward = winograd_pack_backward,
    .forward = winograd_forward,
    .backward_data = winograd_backward_data,
    .backward_weights = winograd_backward_weights,
    .unpack = winograd_unpack,
};

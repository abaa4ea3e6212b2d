/* The kernel table against naive loops: matrix products, convolutions of every backend, the crew. */
#define TEST_SECONDS 60
#include "tests/test.h"

#include <float.h>
#include <stdatomic.h>

#include "base/memory.h"
#include "base/random.h"
#include "engine/kernels/blas.h"
#include "engine/kernels/conv.h"
#include "engine/kernels/crew.h"
#include "engine/kernels/loops.h"

#define EPSILON (sizeof(real) == sizeof(double) ? DBL_EPSILON : (double)FLT_EPSILON)

static real *numbers(struct random *r, size_t n) {
    real *x = mem_calloc(n + 1, sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = (real)(2 * random_unit(r) - 1);
    return x;
}

/* ---- matrix products ---- */

struct product {
    bool ta, tb, add;
    int m, n, k, lda, ldb, ldc;
};

static void check_product(const struct product *p, struct random *r) {
    real *a = numbers(r, (size_t)((p->ta ? p->k : p->m) * p->lda)),
         *b = numbers(r, (size_t)((p->tb ? p->n : p->k) * p->ldb));
    real *c = numbers(r, (size_t)(p->m * p->ldc)), *before = mem_copy(c, (size_t)(p->m * p->ldc) * sizeof *c + 1);
    blas_gemm(p->ta, p->tb, p->m, p->n, p->k, a, p->lda, b, p->ldb, c, p->ldc, p->add);
    double worst = 0;
    bool outside = true;
    for (int i = 0; i < p->m; i++)
        for (int j = 0; j < p->ldc; j++) {
            double sum = p->add ? (double)before[i * p->ldc + j] : 0;
            if (j >= p->n) {
                outside = outside && c[i * p->ldc + j] == before[i * p->ldc + j];
                continue;
            }
            for (int t = 0; t < p->k; t++)
                sum += (double)a[p->ta ? t * p->lda + i : i * p->lda + t] *
                       (double)b[p->tb ? j * p->ldb + t : t * p->ldb + j];
            worst = fmax(worst, fabs(sum - (double)c[i * p->ldc + j]));
        }
    ok(worst <= (p->k + 2) * EPSILON, "%d x %d x %d, %d%d%d: off by %g", p->m, p->n, p->k, p->ta, p->tb, p->add, worst);
    ok(outside, "%d x %d x %d: wrote between the rows", p->m, p->n, p->k);
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_free(before);
}

TEST(products_agree_with_loops) {
    static const int sizes[] = {0, 1, 3, 17, 64, 65, 200};
    struct random r = random_seed(test_seed());
    blas_enter_thread();
    for (int i = 0; i < 7 * 7 * 7 * 8; i++) {
        struct product p = {
            .ta = i & 1, .tb = i & 2, .add = i & 4, .m = sizes[i / 8 % 7], .n = sizes[i / 56 % 7], .k = sizes[i / 392]};
        int gap = i % 3;
        p.lda = (p.ta ? p.m : p.k) + gap + 1, p.ldb = (p.tb ? p.k : p.n) + gap + 1, p.ldc = p.n + gap + 1;
        check_product(&p, &r);
    }
}

/* ---- convolutions ---- */

static const struct conv_shape shapes[] = {
    {.n = 2,
     .in_channels = 3,
     .in_height = 6,
     .in_width = 5,
     .out_channels = 4,
     .kernel_height = 3,
     .kernel_width = 3,
     .pad_top = 1,
     .pad_left = 1,
     .pad_bottom = 1,
     .pad_right = 1},
    {.n = 1, .in_channels = 1, .in_height = 1, .in_width = 1, .out_channels = 1, .kernel_height = 1, .kernel_width = 1},
    {.n = 3,
     .in_channels = 16,
     .in_height = 7,
     .in_width = 9,
     .out_channels = 32,
     .kernel_height = 1,
     .kernel_width = 1},
    {.n = 2,
     .in_channels = 8,
     .in_height = 9,
     .in_width = 8,
     .out_channels = 12,
     .kernel_height = 1,
     .kernel_width = 1,
     .stride_height = 2,
     .stride_width = 2},
    {.n = 2,
     .in_channels = 4,
     .in_height = 7,
     .in_width = 9,
     .out_channels = 6,
     .kernel_height = 3,
     .kernel_width = 2,
     .stride_height = 2,
     .stride_width = 3,
     .pad_top = 1,
     .pad_bottom = 2,
     .pad_right = 1,
     .groups = 2},
    {.n = 2,
     .in_channels = 17,
     .in_height = 8,
     .in_width = 8,
     .out_channels = 17,
     .kernel_height = 3,
     .kernel_width = 3,
     .pad_top = 1,
     .pad_left = 1,
     .pad_bottom = 1,
     .pad_right = 1,
     .groups = 17},
    {.n = 1,
     .in_channels = 16,
     .in_height = 8,
     .in_width = 7,
     .out_channels = 32,
     .kernel_height = 5,
     .kernel_width = 3,
     .pad_top = 2,
     .pad_left = 1,
     .pad_bottom = 2,
     .pad_right = 1,
     .groups = 16},
    {.n = 2,
     .in_channels = 3,
     .in_height = 11,
     .in_width = 12,
     .out_channels = 5,
     .kernel_height = 3,
     .kernel_width = 3,
     .dilation_height = 2,
     .dilation_width = 3,
     .pad_top = 2,
     .pad_left = 3,
     .pad_bottom = 1},
    {.n = 2,
     .in_channels = 4,
     .in_height = 12,
     .in_width = 12,
     .out_channels = 16,
     .kernel_height = 8,
     .kernel_width = 8,
     .stride_height = 4,
     .stride_width = 4},
    {.n = 2,
     .in_channels = 32,
     .in_height = 10,
     .in_width = 10,
     .out_channels = 64,
     .kernel_height = 4,
     .kernel_width = 4,
     .stride_height = 2,
     .stride_width = 2},
    {.n = 2,
     .in_channels = 5,
     .in_height = 1,
     .in_width = 20,
     .out_channels = 7,
     .kernel_height = 1,
     .kernel_width = 5,
     .stride_width = 2,
     .pad_left = 2,
     .pad_right = 1},
    {.n = 1,
     .in_channels = 33,
     .in_height = 5,
     .in_width = 5,
     .out_channels = 31,
     .kernel_height = 5,
     .kernel_width = 5},
    {.n = 2,
     .in_channels = 2,
     .in_height = 4,
     .in_width = 4,
     .out_channels = 3,
     .kernel_height = 2,
     .kernel_width = 2,
     .pad_top = 3,
     .pad_left = 0,
     .pad_bottom = 0,
     .pad_right = 4,
     .stride_height = 3,
     .stride_width = 1},
    {.n = 3,
     .in_channels = 16,
     .in_height = 8,
     .in_width = 12,
     .out_channels = 32,
     .kernel_height = 3,
     .kernel_width = 3,
     .pad_top = 1,
     .pad_left = 1,
     .pad_bottom = 1,
     .pad_right = 1},
    {.n = 5,
     .in_channels = 35,
     .in_height = 9,
     .in_width = 13,
     .out_channels = 21,
     .kernel_height = 3,
     .kernel_width = 3,
     .pad_top = 2,
     .pad_right = 1},
    /* kernels that reach farther than the map */
    {.n = 3,
     .in_channels = 7,
     .in_height = 4,
     .in_width = 3,
     .out_channels = 6,
     .kernel_height = 5,
     .kernel_width = 5,
     .stride_height = 1,
     .stride_width = 1,
     .dilation_height = 2,
     .dilation_width = 2,
     .pad_top = 4,
     .pad_left = 4,
     .pad_bottom = 4,
     .pad_right = 4},
    {.n = 3,
     .in_channels = 4,
     .in_height = 7,
     .in_width = 6,
     .out_channels = 7,
     .kernel_height = 5,
     .kernel_width = 5,
     .stride_height = 2,
     .stride_width = 2,
     .dilation_height = 2,
     .dilation_width = 2,
     .pad_top = 4,
     .pad_left = 4,
     .pad_bottom = 4,
     .pad_right = 4},
    {.n = 2,
     .in_channels = 6,
     .in_height = 4,
     .in_width = 3,
     .out_channels = 8,
     .kernel_height = 5,
     .kernel_width = 5,
     .stride_height = 1,
     .stride_width = 1,
     .dilation_height = 1,
     .dilation_width = 1,
     .pad_top = 2,
     .pad_left = 2,
     .pad_bottom = 2,
     .pad_right = 2},
    {.n = 3,
     .in_channels = 8,
     .in_height = 4,
     .in_width = 3,
     .out_channels = 6,
     .kernel_height = 5,
     .kernel_width = 5,
     .stride_height = 1,
     .stride_width = 1,
     .dilation_height = 2,
     .dilation_width = 2,
     .pad_top = 4,
     .pad_left = 4,
     .pad_bottom = 4,
     .pad_right = 4},
    {.n = 3,
     .in_channels = 7,
     .in_height = 4,
     .in_width = 3,
     .out_channels = 3,
     .kernel_height = 5,
     .kernel_width = 5,
     .stride_height = 1,
     .stride_width = 1,
     .dilation_height = 2,
     .dilation_width = 2,
     .pad_top = 4,
     .pad_left = 4,
     .pad_bottom = 4,
     .pad_right = 4},
    /* windows over both borders of a narrow map at once */
    {.n = 2,
     .in_channels = 20,
     .in_height = 2,
     .in_width = 1,
     .out_channels = 40,
     .kernel_height = 5,
     .kernel_width = 5,
     .pad_top = 2,
     .pad_left = 2,
     .pad_bottom = 2,
     .pad_right = 2},
    {.n = 2,
     .in_channels = 4,
     .in_height = 3,
     .in_width = 2,
     .out_channels = 16,
     .kernel_height = 7,
     .kernel_width = 7,
     .pad_top = 3,
     .pad_left = 3,
     .pad_bottom = 3,
     .pad_right = 3},
};

static int size_out(int in, int before, int after, int kernel, int stride, int dilation) {
    return (in + before + after - (kernel - 1) * dilation - 1) / stride + 1;
}

static struct conv_shape completed(struct conv_shape s) {
    if (!s.stride_height) s.stride_height = 1;
    if (!s.stride_width) s.stride_width = 1;
    if (!s.dilation_height) s.dilation_height = 1;
    if (!s.dilation_width) s.dilation_width = 1;
    if (!s.groups) s.groups = 1;
    s.out_height = size_out(s.in_height, s.pad_top, s.pad_bottom, s.kernel_height, s.stride_height, s.dilation_height);
    s.out_width = size_out(s.in_width, s.pad_left, s.pad_right, s.kernel_width, s.stride_width, s.dilation_width);
    return s;
}

/* Calls `touch` with the indices of every product that the convolution is made of. */
struct sums {
    const real *x, *w, *dy;
    double *y, *dx, *dw;
};

static void multiply_out(const struct conv_shape *s, const struct sums *t, int n, int o, int oh, int ow) {
    int in_each = s->in_channels / s->groups, group = o / (s->out_channels / s->groups);
    size_t y = (((size_t)n * (size_t)s->out_height + (size_t)oh) * (size_t)s->out_width + (size_t)ow) *
                   (size_t)s->out_channels +
               (size_t)o;
    for (int kh = 0; kh < s->kernel_height; kh++)
        for (int kw = 0; kw < s->kernel_width; kw++)
            for (int c = 0; c < in_each; c++) {
                int h = oh * s->stride_height - s->pad_top + kh * s->dilation_height;
                int v = ow * s->stride_width - s->pad_left + kw * s->dilation_width;
                if (h < 0 || h >= s->in_height || v < 0 || v >= s->in_width) continue;
                int at = ((n * s->in_height + h) * s->in_width + v) * s->in_channels + group * in_each + c;
                int w = ((o * in_each + c) * s->kernel_height + kh) * s->kernel_width + kw;
                t->y[y] += (double)t->x[at] * (double)t->w[w];
                t->dx[at] += (double)t->dy[y] * (double)t->w[w];
                t->dw[w] += (double)t->dy[y] * (double)t->x[at];
            }
}

static void multiply(const struct conv_shape *s, const struct sums *t) {
    for (int n = 0; n < s->n; n++)
        for (int h = 0; h < s->out_height; h++)
            for (int w = 0; w < s->out_width; w++)
                for (int o = 0; o < s->out_channels; o++) multiply_out(s, t, n, o, h, w);
}

static void near(const char *what, const struct conv_backend *b, int index, const real *got, const double *right,
                 size_t n, double terms) {
    for (size_t i = 0; i < n; i++)
        if (!ok(fabs((double)got[i] - right[i]) <= 4 * (terms + 8) * EPSILON,
                "%s, shape %d, %s, element %zu: %.9g is %.9g", b->name, index, what, i, right[i], (double)got[i]))
            return;
}

struct bench {
    struct conv_shape s;
    size_t n_x, n_w, n_y;
    real *x, *w, *dy, *bias, *residual, *y, *dx, *dw, *d_bias, *packed, *packed_backward, *gradient, *scratch;
    double *right_y, *right_dx, *right_dw, *right_bias;
};

static void bench_start(struct bench *b, const struct conv_shape *shape) {
    struct random r = random_seed(test_seed());
    struct conv_shape s = completed(*shape);
    *b = (struct bench){.s = s};
    b->n_x = (size_t)(s.n * s.in_height * s.in_width * s.in_channels);
    b->n_y = (size_t)(s.n * s.out_height * s.out_width * s.out_channels);
    b->n_w = (size_t)(s.out_channels * (s.in_channels / s.groups) * s.kernel_height * s.kernel_width);
    b->x = numbers(&r, b->n_x), b->w = numbers(&r, b->n_w), b->dy = numbers(&r, b->n_y);
    b->bias = numbers(&r, (size_t)s.out_channels), b->residual = numbers(&r, b->n_y);
    b->y = numbers(&r, b->n_y), b->dx = numbers(&r, b->n_x), b->dw = numbers(&r, b->n_w);
    b->d_bias = numbers(&r, (size_t)s.out_channels);
    b->right_y = mem_calloc(b->n_y, sizeof(double)), b->right_dx = mem_calloc(b->n_x, sizeof(double));
    b->right_dw = mem_calloc(b->n_w, sizeof(double)),
    b->right_bias = mem_calloc((size_t)s.out_channels, sizeof(double));
    multiply(&s, &(struct sums){b->x, b->w, b->dy, b->right_y, b->right_dx, b->right_dw});
    for (size_t i = 0; i < b->n_y; i++) b->right_bias[i % (size_t)s.out_channels] += (double)b->dy[i];
}

static void bench_end(struct bench *b) {
    real *all[] = {b->x, b->w, b->dy, b->bias, b->residual, b->y, b->dx, b->dw, b->d_bias};
    double *right[] = {b->right_y, b->right_dx, b->right_dw, b->right_bias};
    real *aligned[] = {b->packed, b->packed_backward, b->gradient, b->scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mem_free(all[i]);
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) mem_free(right[i]);
    for (size_t i = 0; i < sizeof aligned / sizeof *aligned; i++) mem_free_aligned(aligned[i]);
}

static struct conv *open_conv(struct bench *b, const struct conv_backend *backend, const struct conv_uses *uses,
                              int index) {
    struct conv *c = NULL;
    struct err e = {0};
    int status = backend->open(&c, &b->s, uses, &e);
    bool last = backend == &conv_blas;
    ok(status == 0 || (status == E_UNSUPPORTED && !last), "%s, shape %d: %s", backend->name, index, e.text);
    if (status) return NULL;
    struct conv_sizes z = backend->sizes(c);
    b->packed = mem_alloc_aligned((z.packed + 1) * sizeof(real));
    b->packed_backward = mem_alloc_aligned((z.packed_backward + 1) * sizeof(real));
    b->gradient = mem_alloc_aligned((z.gradient + 1) * sizeof(real));
    b->scratch = mem_alloc_aligned((z.scratch + 1) * sizeof(real));
    return c;
}

static void check_training(const struct conv_backend *backend, int index) {
    struct bench b;
    bench_start(&b, &shapes[index]);
    struct conv_uses uses = {.backward_weights = true, .backward_data = true, .bias = true, .threads = 1};
    struct conv *c = open_conv(&b, backend, &uses, index);
    if (c) {
        double taps = (double)b.n_w / b.s.out_channels, pixels = (double)b.n_y / b.s.out_channels;
        backend->pack(c, b.w, b.packed);
        backend->pack_backward(c, b.w, b.packed_backward);
        backend->forward(c, 0, b.x, b.packed, b.bias, NULL, b.y, b.scratch);
        backend->backward_data(c, 0, b.dy, b.packed_backward, b.dx, b.scratch);
        backend->backward_weights(c, 0, b.x, b.dy, b.gradient, b.d_bias, b.scratch);
        for (size_t i = 0; i < b.n_y; i++) b.right_y[i] += (double)b.bias[i % (size_t)b.s.out_channels];
        near("forward", backend, index, b.y, b.right_y, b.n_y, taps);
        near("backward to data", backend, index, b.dx, b.right_dx, b.n_x,
             taps * b.s.out_channels / b.s.in_channels * b.s.groups);
        near("backward to bias", backend, index, b.d_bias, b.right_bias, (size_t)b.s.out_channels, pixels);
        backend->unpack(c, b.gradient, b.dw, false);
        near("backward to weights", backend, index, b.dw, b.right_dw, b.n_w, pixels);
        backend->unpack(c, b.gradient, b.dw, true);
        for (size_t i = 0; i < b.n_w; i++) b.right_dw[i] *= 2;
        near("backward to weights, added", backend, index, b.dw, b.right_dw, b.n_w, pixels);
        backend->close(c);
    }
    bench_end(&b);
}

static void check_fused(const struct conv_backend *backend, int index, bool bias, bool residual, bool relu) {
    struct bench b;
    bench_start(&b, &shapes[index]);
    struct conv_uses uses = {.bias = bias, .residual = residual, .relu = relu, .threads = 1};
    struct conv *c = open_conv(&b, backend, &uses, index);
    if (c) {
        backend->pack(c, b.w, b.packed);
        backend->forward(c, 0, b.x, b.packed, bias ? b.bias : NULL, residual ? b.residual : NULL, b.y, b.scratch);
        for (size_t i = 0; i < b.n_y; i++) {
            if (bias) b.right_y[i] += (double)b.bias[i % (size_t)b.s.out_channels];
            if (residual) b.right_y[i] += (double)b.residual[i];
            if (relu && b.right_y[i] < 0) b.right_y[i] = 0;
        }
        near("forward and more", backend, index, b.y, b.right_y, b.n_y, (double)b.n_w / b.s.out_channels);
        backend->close(c);
    }
    bench_end(&b);
}

TEST(convolutions_agree_with_loops) {
    blas_enter_thread();
    for (int k = 0; conv_backends[k]; k++)
        for (int i = 0; i < (int)(sizeof shapes / sizeof *shapes); i++) check_training(conv_backends[k], i);
}

TEST(convolutions_add_and_cut_as_asked) {
    blas_enter_thread();
    for (int k = 0; conv_backends[k]; k++)
        for (int i = 0; i < (int)(sizeof shapes / sizeof *shapes); i++)
            for (int uses = 0; uses < 8; uses++) check_fused(conv_backends[k], i, uses & 1, uses & 2, uses & 4);
}

TEST(some_backend_takes_every_shape) {
    struct err e = {0};
    for (int i = 0; i < (int)(sizeof shapes / sizeof *shapes); i++) {
        struct conv_shape s = completed(shapes[i]);
        struct conv *c;
        const struct conv_backend *backend;
        need(!conv_open(&c, &backend, &s, &(struct conv_uses){.threads = 2}, &e), "shape %d: %s", i, e.text);
        backend->close(c);
    }
}

/* ---- loops ---- */

TEST(loops_do_what_they_say) {
    struct random r = random_seed(test_seed());
    for (size_t n = 0; n < 70; n += n < 20 ? 1 : 13) {
        real *x = numbers(&r, 3 * n), *y = numbers(&r, 3 * n), *was = mem_copy(y, 3 * n * sizeof *y + 1),
             *sums = numbers(&r, n);
        bool right = true;
        loop_add(y, x, n);
        for (size_t i = 0; i < n; i++) right = right && y[i] == was[i] + x[i];
        loop_give(y, x, n, false);
        for (size_t i = 0; i < n; i++) right = right && y[i] == x[i];
        loop_relu_mask(y, was, n);
        for (size_t i = 0; i < n; i++) right = right && y[i] == (was[i] > 0 ? x[i] : 0);
        loop_column_sums(sums, x, 3, n);
        for (size_t i = 0; i < n; i++)
            right = right && fabs((double)(sums[i] - (x[i] + x[i + n] + x[i + 2 * n]))) < 1e-6;
        memcpy(y, was, 3 * n * sizeof *y);
        loop_bias_relu(y, x, 3, n, true);
        for (size_t i = 0; i < 3 * n; i++) right = right && y[i] == (was[i] + x[i % n] > 0 ? was[i] + x[i % n] : 0);
        ok(right, "loops of %zu", n);
        mem_free(x), mem_free(y), mem_free(was), mem_free(sums);
    }
}

/* ---- the crew ---- */

enum { UNITS = 257, RUNS = 2000 };
static atomic_int done[UNITS];
static atomic_int wrong_thread;

static void count_unit(void *context, int unit, int thread) {
    atomic_fetch_add(&done[unit], 1);
    if (thread < 0 || thread >= *(int *)context) atomic_fetch_add(&wrong_thread, 1);
}

static void run_crew(int threads) {
    struct err e = {0};
    struct crew *crew;
    need(!crew_new(&crew, threads, &e), "%s", e.text);
    int n = crew_threads(crew);
    ok(threads ? n == threads : n >= 1, "%d threads, asked for %d", n, threads);
    for (int i = 0; i < UNITS; i++) atomic_store(&done[i], 0);
    for (int run = 0; run < RUNS; run++) crew_run(crew, count_unit, &n, run % (UNITS + 1));
    for (int unit = 0, expected = 0; unit < UNITS; unit++, expected = 0) {
        for (int run = 0; run < RUNS; run++) expected += run % (UNITS + 1) > unit;
        if (!ok(atomic_load(&done[unit]) == expected, "%d threads: unit %d ran %d times, not %d", n, unit,
                atomic_load(&done[unit]), expected))
            break;
    }
    ok(atomic_load(&wrong_thread) == 0, "a thread that is none");
    crew_free(crew);
}

TEST(crew_does_every_unit_once) {
    static const int threads[] = {1, 2, 3, 7, 0};
    for (int i = 0; i < 5; i++) run_crew(threads[i]);
}

TEST(crew_refuses_too_many) {
    struct crew *crew = NULL;
    struct err e = {0};
    ok(crew_new(&crew, CREW_MAX_THREADS + 1, &e) && e.text[0], "more threads than allowed");
    ok(crew_new(&crew, -1, NULL), "fewer than none");
    crew_free(NULL);
}

TEST_MAIN

/* images.h - convolutions by plain loops in double, to hold the algebra of filters against. */
#ifndef TESTS_ENGINE_IMAGES_H
#define TESTS_ENGINE_IMAGES_H

#include "base/memory.h"
#include "base/random.h"
#include "engine/surgery/filter.h"
#include "tests/test.h"

struct image {
    int c, h, w;
    double *data;
};

static inline struct image image_noise(int c, int h, int w, uint64_t seed) {
    struct image x = {c, h, w, mem_alloc((size_t)(c * h * w) * sizeof(double))};
    struct random r = random_seed(seed);
    for (int i = 0; i < c * h * w; i++) x.data[i] = random_normal(&r);
    return x;
}

static inline struct filter filter_noise(int out, int in, int h, int w, uint64_t seed) {
    struct filter f;
    struct random r = random_seed(seed);
    filter_init(&f, out, in, h, w, NULL);
    for (size_t i = 0; i < filter_count(&f); i++) f.data[i] = random_normal(&r);
    return f;
}

/* Strides and dilations 1. */
static inline struct filter_window window_padded(int pad) {
    return (struct filter_window){{1, 1}, {1, 1}, {pad, pad}, {pad, pad}};
}

static inline int image_size(int n, int taps, const struct filter_window *w, int axis) {
    return (n + w->begin[axis] + w->end[axis] - (taps - 1) * w->dilation[axis] - 1) / w->stride[axis] + 1;
}

static inline double image_at(const struct image *x, int c, int h, int w) {
    return h < 0 || w < 0 || h >= x->h || w >= x->w ? 0 : x->data[(c * x->h + h) * x->w + w];
}

static inline struct image image_convolved(const struct image *x, const struct filter *f, const struct filter_window *w,
                                           const double *bias) {
    struct image y = {f->out, image_size(x->h, f->h, w, 0), image_size(x->w, f->w, w, 1), NULL};
    y.data = mem_calloc((size_t)(y.c * y.h * y.w), sizeof(double));
    for (int o = 0; o < y.c; o++)
        for (int r = 0; r < y.h; r++)
            for (int c = 0; c < y.w; c++) {
                double sum = bias ? bias[o] : 0;
                for (int i = 0; i < f->in; i++)
                    for (int u = 0; u < f->h; u++)
                        for (int v = 0; v < f->w; v++)
                            sum += f->data[((o * f->in + i) * f->h + u) * f->w + v] *
                                   image_at(x, i, r * w->stride[0] + u * w->dilation[0] - w->begin[0],
                                            c * w->stride[1] + v * w->dilation[1] - w->begin[1]);
                y.data[(o * y.h + r) * y.w + c] = sum;
            }
    return y;
}

/* The largest difference, over everything but a frame; -1 when the sizes differ. */
static inline double image_error(const struct image *a, const struct image *b, int frame) {
    if (a->c != b->c || a->h != b->h || a->w != b->w) return -1;
    double worst = 0;
    for (int c = 0; c < a->c; c++)
        for (int h = frame; h < a->h - frame; h++)
            for (int w = frame; w < a->w - frame; w++)
                worst = fmax(worst, fabs(image_at(a, c, h, w) - image_at(b, c, h, w)));
    return worst;
}

static inline double filter_error(const struct filter *a, const struct filter *b) {
    if (a->out != b->out || a->in != b->in || a->h != b->h || a->w != b->w) return -1;
    double worst = 0;
    for (size_t i = 0; i < filter_count(a); i++) worst = fmax(worst, fabs(a->data[i] - b->data[i]));
    return worst;
}

/* For comparisons of errors: small, and the sizes agreed. */
#define EXACT(error) ((error) >= 0 && (error) < 1e-11)

#endif

/* filter.c - embedding, adding and composing convolution weights. */
#include "engine/surgery/filter.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "engine/kernels/lapack.h"

int filter_init(struct filter *f, int out, int in, int h, int w, struct err *e) {
    *f = (struct filter){.out = out, .in = in, .h = h, .w = w};
    if (out < 1 || in < 1 || h < 1 || w < 1)
        return err_set(e, E_INVALID, "a filter of %d by %d channels and %d by %d taps has nothing in it", out, in, h,
                       w);
    size_t count;
    if (!mem_mul(&count, (size_t)out * (size_t)in, (size_t)h * (size_t)w) || count > LAPACK_MOST)
        return err_set(e, E_TOO_LARGE, "a filter of %d by %d channels and %d by %d taps has more than %zu weights", out,
                       in, h, w, LAPACK_MOST);
    f->data = mem_alloc_aligned(count * sizeof *f->data);
    return f->data ? 0 : err_memory(e, count * sizeof *f->data);
}

void filter_fini(struct filter *f) {
    mem_free_aligned(f->data);
    f->data = NULL;
}

static size_t taps(const struct filter *f) {
    return (size_t)f->h * (size_t)f->w;
}

static size_t planes(const struct filter *f) {
    return (size_t)f->out * (size_t)f->in;
}

size_t filter_count(const struct filter *f) {
    return planes(f) * taps(f);
}

double filter_norm(const struct filter *f) {
    double sum = 0;
    for (size_t i = 0; i < filter_count(f); i++) sum += f->data[i] * f->data[i];
    return sqrt(sum);
}

int filter_copy(struct filter *out, const struct filter *f, struct err *e) {
    return filter_embed_at(out, f, f->h, f->w, 0, 0, e);
}

int filter_offset(int inner, int outer) {
    return (outer - inner) / 2;
}

int filter_embed(struct filter *out, const struct filter *f, int h, int w, struct err *e) {
    return filter_embed_at(out, f, h, w, filter_offset(f->h, h), filter_offset(f->w, w), e);
}

/* out's taps from (top, left) on := or += scale * those of f. */
static void put(struct filter *out, const struct filter *f, int top, int left, double scale) {
    for (size_t p = 0; p < planes(f); p++)
        for (int u = 0; u < f->h; u++) {
            double *to = out->data + p * taps(out) + (size_t)(u + top) * (size_t)out->w + (size_t)left;
            const double *from = f->data + p * taps(f) + (size_t)u * (size_t)f->w;
            for (int v = 0; v < f->w; v++) to[v] += scale * from[v];
        }
}

int filter_embed_at(struct filter *out, const struct filter *f, int h, int w, int top, int left, struct err *e) {
    out->data = NULL;
    if (f->h > h || f->w > w || top < 0 || left < 0 || top > h - f->h || left > w - f->w)
        return err_set(e, E_UNSUPPORTED, "%d by %d taps do not fit into %d by %d at %d,%d", f->h, f->w, h, w, top,
                       left);
    int status = filter_init(out, f->out, f->in, h, w, e);
    if (!status) put(out, f, top, left, 1);
    return status;
}

int filter_crop(struct filter *out, const struct filter *f, int h, int w, int top, int left, struct err *e) {
    out->data = NULL;
    if (top < 0 || left < 0 || h > f->h - top || w > f->w - left)
        return err_set(e, E_INVALID, "%d by %d taps from %d,%d on are not within %d by %d", h, w, top, left, f->h,
                       f->w);
    int status = filter_init(out, f->out, f->in, h, w, e);
    for (size_t p = 0; !status && p < planes(f); p++)
        for (int u = 0; u < h; u++)
            memcpy(out->data + (p * (size_t)h + (size_t)u) * (size_t)w,
                   f->data + p * taps(f) + (size_t)(u + top) * (size_t)f->w + (size_t)left,
                   (size_t)w * sizeof *f->data);
    return status;
}

int filter_transpose(struct filter *out, const struct filter *f, struct err *e) {
    int status = filter_init(out, f->in, f->out, f->h, f->w, e);
    if (status) return status;
    size_t size = taps(f);
    for (size_t j = 0; j < (size_t)f->out; j++)
        for (size_t i = 0; i < (size_t)f->in; i++)
            memcpy(out->data + (i * (size_t)f->out + j) * size, f->data + (j * (size_t)f->in + i) * size,
                   size * sizeof *f->data);
    return 0;
}

int filter_add(struct filter *f, double scale, const struct filter *g, struct err *e) {
    if (f->out != g->out || f->in != g->in || g->h > f->h || g->w > f->w)
        return err_set(e, E_UNSUPPORTED,
                       "a filter of %d by %d channels and %d by %d taps cannot be added to one of %d by "
                       "%d and %d by %d",
                       g->out, g->in, g->h, g->w, f->out, f->in, f->h, f->w);
    put(f, g, filter_offset(g->h, f->h), filter_offset(g->w, f->w), scale);
    return 0;
}

static bool line_is_zero(const struct filter *f, bool row, int index) {
    for (size_t p = 0; p < planes(f); p++)
        for (int k = 0; k < (row ? f->w : f->h); k++)
            if (f->data[p * taps(f) + (size_t)(row ? index * f->w + k : k * f->w + index)] != 0) return false;
    return true;
}

void filter_margins(int margins[4], const struct filter *f) {
    for (int axis = 0; axis < 2; axis++) {
        int size = axis ? f->w : f->h, first = 0, last = size - 1;
        while (last > 0 && line_is_zero(f, !axis, last)) last--;
        while (first < last && line_is_zero(f, !axis, first)) first++;
        margins[axis] = first;
        margins[axis + 2] = size - 1 - last;
    }
}

/* ---- composition ---- */

/* One axis of two convolutions one after the other; steps in taps of the result. */
struct axis {
    int step1, step2, size, dilation;
};

/* [j][l] of one tap of `second`, as a matrix. */
static void gather_tap(double *out, const struct filter *second, size_t tap) {
    for (size_t p = 0; p < planes(second); p++) out[p] = second->data[p * taps(second) + tap];
}

/* out's taps += product[j][i][u1][v1], tap (0,0) at (top, left). */
static void scatter(struct filter *out, const double *product, const struct filter *first, const struct axis axes[2],
                    int top, int left) {
    for (size_t p = 0; p < planes(out); p++) {
        const double *from = product + p * taps(first);
        for (int u = 0; u < first->h; u++) {
            double *to = out->data + p * taps(out) + (size_t)(top + u * axes[0].step1) * (size_t)out->w + (size_t)left;
            for (int v = 0; v < first->w; v++) to[(size_t)(v * axes[1].step1)] += *from++;
        }
    }
}

/* The sum over l is a matrix product for each tap of `second`; what remains is to put the results in their places. */
static int compose(struct filter *out, const struct filter *first, const struct filter *second,
                   const struct axis axes[2], struct err *e) {
    struct filter tap = {0}, product = {0};
    out->data = NULL;
    if (first->out != second->in)
        return err_set(e, E_INVALID, "%d channels go into a filter for %d", first->out, second->in);
    int status = filter_init(out, second->out, first->in, axes[0].size, axes[1].size, e);
    if (!status) status = filter_init(&tap, second->out, second->in, 1, 1, e);
    if (!status) status = filter_init(&product, second->out, first->in, first->h, first->w, e);
    for (int u = 0; !status && u < second->h; u++)
        for (int v = 0; v < second->w; v++) {
            size_t columns = (size_t)first->in * taps(first), inner = (size_t)first->out;
            gather_tap(tap.data, second, (size_t)(u * second->w + v));
            lapack_product(false, false, (size_t)second->out, columns, inner, tap.data, inner, first->data, columns,
                           product.data, columns, false);
            scatter(out, product.data, first, axes, u * axes[0].step2, v * axes[1].step2);
        }
    filter_fini(&tap);
    filter_fini(&product);
    if (status) filter_fini(out);
    return status;
}

int filter_compose(struct filter *out, const struct filter *first, const struct filter *second, struct err *e) {
    struct axis axes[2] = {{.step1 = 1, .step2 = 1, .size = first->h + second->h - 1},
                           {.step1 = 1, .step2 = 1, .size = first->w + second->w - 1}};
    return compose(out, first, second, axes, e);
}

static int common_divisor(int a, int b) {
    while (b) {
        int rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

enum { STEP_MOST = 1 << 12 }; /* strides, dilations and taps per axis; their products fit an int */

static int chain_axis(struct axis *out, int taps1, int stride1, int dilation1, int taps2, int stride2, int dilation2,
                      struct err *e) {
    if (stride2 < 1 || stride2 > STEP_MOST || stride1 < 1 || dilation1 < 1 || dilation2 < 1 || stride1 > STEP_MOST ||
        dilation1 > STEP_MOST || dilation2 > STEP_MOST / stride1 || taps1 > STEP_MOST || taps2 > STEP_MOST)
        return err_set(e, E_INVALID, "strides %d and %d, dilations %d and %d, %d and %d taps: not from 1 to %d",
                       stride1, stride2, dilation1, dilation2, taps1, taps2, STEP_MOST);
    int apart = stride1 * dilation2; /* pixels from tap to tap of the second */
    out->dilation = taps1 == 1 && taps2 == 1 ? 1 : common_divisor(taps1 > 1 ? dilation1 : 0, taps2 > 1 ? apart : 0);
    out->step1 = taps1 > 1 ? dilation1 / out->dilation : 1;
    out->step2 = taps2 > 1 ? apart / out->dilation : 1;
    out->size = (taps1 - 1) * out->step1 + (taps2 - 1) * out->step2 + 1;
    return 0;
}

/* b = bias2 + sum over l, v of second[:,l,v] bias1[l] */
static int chain_bias(double **out, const double *bias1, const struct filter *second, const double *bias2,
                      struct err *e) {
    *out = NULL;
    if (!bias1 && !bias2) return 0;
    double *b = mem_calloc((size_t)second->out, sizeof *b);
    if (!b) return err_memory(e, (size_t)second->out * sizeof *b);
    for (size_t j = 0; j < (size_t)second->out; j++) {
        b[j] = bias2 ? bias2[j] : 0;
        for (size_t l = 0; bias1 && l < (size_t)second->in; l++)
            for (size_t v = 0; v < taps(second); v++)
                b[j] += second->data[(j * (size_t)second->in + l) * taps(second) + v] * bias1[l];
    }
    *out = b;
    return 0;
}

static bool all_zero(const double *p, int n) {
    for (int i = 0; p && i < n; i++)
        if (p[i] != 0) return false;
    return true;
}

/* Whether the zeros that pad the map between the two are what the merged convolution sees there. */
static bool padding_is_true(const struct filter *first, const struct filter_window *w1, const double *bias1,
                            const struct filter *second, const struct filter_window *w2) {
    int margins[4];
    filter_margins(margins, second);
    for (int side = 0; side < 4; side++) {
        int axis = side % 2, reach = ((axis ? first->w : first->h) - 1) * w1->dilation[axis];
        int pad1 = side < 2 ? w1->begin[axis] : w1->end[axis], pad2 = side < 2 ? w2->begin[axis] : w2->end[axis];
        bool unread = margins[side] * w2->dilation[axis] >= pad2;
        bool zero_there = pad1 >= reach && all_zero(bias1, first->out);
        if (!unread && !zero_there) return false;
    }
    return true;
}

int filter_chain(struct filter_chain *out, const struct filter *first, const struct filter_window *window1,
                 const double *bias1, const struct filter *second, const struct filter_window *window2,
                 const double *bias2, struct err *e) {
    struct axis axes[2];
    *out = (struct filter_chain){0};
    for (int a = 0; a < 2; a++) {
        const struct filter_window *w1 = window1, *w2 = window2;
        int taps1 = a ? first->w : first->h, taps2 = a ? second->w : second->h;
        int status =
            chain_axis(&axes[a], taps1, w1->stride[a], w1->dilation[a], taps2, w2->stride[a], w2->dilation[a], e);
        if (status) return status;
        out->window.stride[a] = w1->stride[a] * w2->stride[a];
        out->window.dilation[a] = axes[a].dilation;
        out->window.begin[a] = w1->begin[a] + w1->stride[a] * w2->begin[a];
        out->window.end[a] = w1->end[a] + w1->stride[a] * w2->end[a];
    }
    int status = compose(&out->filter, first, second, axes, e);
    if (!status) status = chain_bias(&out->bias, bias1, second, bias2, e);
    out->exact = !status && padding_is_true(first, window1, bias1, second, window2);
    if (status) filter_chain_fini(out);
    return status;
}

void filter_chain_fini(struct filter_chain *c) {
    filter_fini(&c->filter);
    mem_free(c->bias);
    c->bias = NULL;
}

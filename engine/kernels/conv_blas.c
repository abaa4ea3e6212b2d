/* conv_blas.c - the portable convolution: patches as rows of a matrix (im2col), then one matrix
 * product per group. With one kernel tap and stride 1 the data is that matrix already. */
#include <string.h>

#include "base/memory.h"
#include "engine/kernels/blas.h"
#include "engine/kernels/conv.h"
#include "engine/kernels/loops.h"

struct conv {
    struct conv_shape s;
    struct conv_uses uses;
    int group_in, group_out; /* channels of one group */
    int taps, patch;         /* kernel taps; taps * group_in */
    bool pointwise;          /* the data is the patch matrix */
};

static int blas_open(struct conv **out, const struct conv_shape *shape, const struct conv_uses *uses, struct err *e) {
    struct conv *c = mem_calloc(1, sizeof *c);
    if (!c) return err_memory(e, sizeof *c);
    c->s = *shape;
    c->uses = *uses;
    c->group_in = shape->in_channels / shape->groups;
    c->group_out = shape->out_channels / shape->groups;
    c->taps = shape->kernel_height * shape->kernel_width;
    c->patch = c->taps * c->group_in;
    c->pointwise = c->taps == 1 && shape->stride_height == 1 && shape->stride_width == 1 && shape->pad_top == 0 &&
                   shape->pad_left == 0 && shape->pad_bottom == 0 && shape->pad_right == 0 && shape->groups == 1;
    *out = c;
    return 0;
}

static void blas_close(struct conv *c) {
    mem_free(c);
}

static size_t pixels(const struct conv *c) {
    return (size_t)c->s.out_height * (size_t)c->s.out_width;
}

static struct conv_sizes blas_sizes(const struct conv *c) {
    size_t weights = (size_t)c->s.out_channels * (size_t)c->patch;
    return (struct conv_sizes){
        .packed = weights,
        .packed_backward = c->uses.backward_data ? weights : 0,
        .gradient = weights,
        .scratch = pixels(c) * (size_t)c->patch,
        .rows = 1,
    };
}

/* [out][in/g][tap] to [out][tap][in/g] (and back, to `onnx`). */
static void blas_pack(struct conv *c, const real *weights, real *packed) {
    for (int o = 0; o < c->s.out_channels; o++)
        for (int i = 0; i < c->group_in; i++)
            for (int t = 0; t < c->taps; t++)
                packed[((size_t)o * (size_t)c->taps + (size_t)t) * (size_t)c->group_in + (size_t)i] =
                    weights[((size_t)o * (size_t)c->group_in + (size_t)i) * (size_t)c->taps + (size_t)t];
}

static void blas_unpack(struct conv *c, const real *gradient, real *dw, bool add) {
    for (int o = 0; o < c->s.out_channels; o++)
        for (int i = 0; i < c->group_in; i++)
            for (int t = 0; t < c->taps; t++) {
                real *to = &dw[((size_t)o * (size_t)c->group_in + (size_t)i) * (size_t)c->taps + (size_t)t];
                real from = gradient[((size_t)o * (size_t)c->taps + (size_t)t) * (size_t)c->group_in + (size_t)i];
                *to = add ? *to + from : from;
            }
}

/* Calls visit(patch pointer, data index or -1) for each tap of each output pixel of one group. */
static void gather(const struct conv *c, int group, const real *x, real *rows) {
    const struct conv_shape *s = &c->s;
    size_t run = (size_t)c->group_in * sizeof(real);
    for (int oy = 0; oy < s->out_height; oy++)
        for (int ox = 0; ox < s->out_width; ox++)
            for (int ky = 0; ky < s->kernel_height; ky++) {
                int y = oy * s->stride_height - s->pad_top + ky * s->dilation_height;
                for (int kx = 0; kx < s->kernel_width; kx++, rows += c->group_in) {
                    int xx = ox * s->stride_width - s->pad_left + kx * s->dilation_width;
                    if (y < 0 || y >= s->in_height || xx < 0 || xx >= s->in_width) {
                        memset(rows, 0, run);
                        continue;
                    }
                    size_t at = ((size_t)y * (size_t)s->in_width + (size_t)xx) * (size_t)s->in_channels;
                    memcpy(rows, x + at + (size_t)(group * c->group_in), run);
                }
            }
}

/* The way back of gather: adds each row's values to the pixels they came from. */
static void scatter_add(const struct conv *c, int group, const real *rows, real *dx) {
    const struct conv_shape *s = &c->s;
    for (int oy = 0; oy < s->out_height; oy++)
        for (int ox = 0; ox < s->out_width; ox++)
            for (int ky = 0; ky < s->kernel_height; ky++) {
                int y = oy * s->stride_height - s->pad_top + ky * s->dilation_height;
                for (int kx = 0; kx < s->kernel_width; kx++, rows += c->group_in) {
                    int xx = ox * s->stride_width - s->pad_left + kx * s->dilation_width;
                    if (y < 0 || y >= s->in_height || xx < 0 || xx >= s->in_width) continue;
                    size_t at = ((size_t)y * (size_t)s->in_width + (size_t)xx) * (size_t)s->in_channels;
                    real *to = dx + at + (size_t)(group * c->group_in);
                    for (int i = 0; i < c->group_in; i++) to[i] += rows[i];
                }
            }
}

/* The patch matrix of one sample and group: [pixels, patch]. */
static const real *patches(const struct conv *c, int group, const real *x, real *scratch) {
    if (c->pointwise) return x;
    gather(c, group, x, scratch);
    return scratch;
}

static size_t in_size(const struct conv *c) {
    return (size_t)c->s.in_height * (size_t)c->s.in_width * (size_t)c->s.in_channels;
}

static size_t out_size(const struct conv *c) {
    return pixels(c) * (size_t)c->s.out_channels;
}

static const real *group_weights(const struct conv *c, int group, const real *packed) {
    return packed + (size_t)(group * c->group_out) * (size_t)c->patch;
}

static void blas_forward(struct conv *c, int thread, const real *x, const real *packed, const real *bias,
                         const real *residual, real *y, real *scratch) {
    (void)thread;
    bool in_place = residual == y;
    for (int n = 0; n < c->s.n; n++, x += in_size(c), y += out_size(c)) {
        for (int g = 0; g < c->s.groups; g++)
            blas_gemm(false, true, (int)pixels(c), c->group_out, c->patch, patches(c, g, x, scratch), c->patch,
                      group_weights(c, g, packed), c->patch, y + g * c->group_out, c->s.out_channels, in_place);
        if (residual && !in_place) loop_add(y, residual + (size_t)n * out_size(c), out_size(c));
        if (bias || c->uses.relu) loop_bias_relu(y, bias, pixels(c), (size_t)c->s.out_channels, c->uses.relu);
    }
}

static void blas_backward_data(struct conv *c, int thread, const real *dy, const real *packed, real *dx,
                               real *scratch) {
    (void)thread;
    for (int n = 0; n < c->s.n; n++, dx += in_size(c), dy += out_size(c)) {
        if (!c->pointwise) memset(dx, 0, in_size(c) * sizeof(real));
        for (int g = 0; g < c->s.groups; g++) {
            blas_gemm(false, false, (int)pixels(c), c->patch, c->group_out, dy + g * c->group_out, c->s.out_channels,
                      group_weights(c, g, packed), c->patch, c->pointwise ? dx : scratch, c->patch, false);
            if (!c->pointwise) scatter_add(c, g, scratch, dx);
        }
    }
}

static void blas_backward_weights(struct conv *c, int thread, const real *x, const real *dy, real *gradient,
                                  real *d_bias, real *scratch) {
    (void)thread;
    int channels = c->s.out_channels;
    if (d_bias) memset(d_bias, 0, (size_t)channels * sizeof(real));
    for (int n = 0; n < c->s.n; n++, x += in_size(c), dy += out_size(c)) {
        for (int g = 0; g < c->s.groups; g++)
            blas_gemm(true, false, c->group_out, c->patch, (int)pixels(c), dy + g * c->group_out, channels,
                      patches(c, g, x, scratch), c->patch, gradient + (size_t)(g * c->group_out) * (size_t)c->patch,
                      c->patch, n > 0);
        if (d_bias)
            for (size_t p = 0; p < pixels(c); p++)
                for (int o = 0; o < channels; o++) d_bias[o] += dy[p * (size_t)channels + (size_t)o];
    }
}

const struct conv_backend conv_blas = {
    .name = "blas",
    .open = blas_open,
    .close = blas_close,
    .sizes = blas_sizes,
    .pack = blas_pack,
    .pack_backward = blas_pack,
    .forward = blas_forward,
    .backward_data = blas_backward_data,
    .backward_weights = blas_backward_weights,
    .unpack = blas_unpack,
};

/* conv.c - Conv: y[n,o] = bias[o] + sum over i of x[n,i] * w[o,i] (ONNX Conv-11), one or two
 * spatial axes. A BatchNormalization with fixed statistics and a Relu may be merged into it. */
#include "engine/kernels/conv.h"

#include <string.h>

#include "engine/kernels/loops.h"
#include "engine/ops/common.h"
#include "engine/ops/window.h"

enum { DATA, WEIGHTS, BIAS };

static int conv_infer(struct inference *i, struct err *e) {
    const struct shape *x = &i->in[DATA]->shape, *w = &i->in[WEIGHTS]->shape;
    struct window window;
    if (w->rank != x->rank)
        return err_set(e, E_INVALID, "weights of rank %d for data of rank %d; they must agree", w->rank, x->rank);
    int status = window_read(&window, i->node, x, &w->dim[2], e);
    if (status) return status;
    int64_t groups = node_int(i->node, "group", 1);
    if (groups < 1 || w->dim[1] * groups != x->dim[1] || w->dim[0] % groups)
        return err_set(e, E_INVALID,
                       "the data has %lld channels, the weights are made for %lld (%lld groups of %lld, %lld out)",
                       (long long)x->dim[1], (long long)(w->dim[1] * groups), (long long)groups, (long long)w->dim[1],
                       (long long)w->dim[0]);
    for (int d = 2; d < w->rank; d++)
        if (window.kernel[d - 2 + 4 - w->rank] != w->dim[d])
            return err_set(e, E_INVALID, "kernel_shape says %d, the weights are %lld wide",
                           window.kernel[d - 2 + 4 - w->rank], (long long)w->dim[d]);
    if (i->n_in > BIAS && i->in[BIAS] && (i->in[BIAS]->shape.rank != 1 || i->in[BIAS]->shape.dim[0] != w->dim[0])) {
        char shape[96];
        shape_print(shape, sizeof shape, &i->in[BIAS]->shape);
        return err_set(e, E_INVALID, "a bias of shape %s for %lld channels", shape, (long long)w->dim[0]);
    }
    i->out[0].shape = window_shape(&window, x, w->dim[0]);
    return 0;
}

/* One image has no lanes for the threads: it is cut into bands of rows. */
enum { BANDS = 2 };

struct band {
    struct conv *conv;
    size_t x, y; /* where its data and its results begin */
};

struct conv_state {
    const struct conv_backend *backend;
    struct conv *whole, *tail; /* for full lanes; for the last lane when it is shorter */
    struct conv *share;        /* for the gradient of large weights, by shares of the batch; else NULL */
    int shares;                /* that gather: lanes when there is no `share` */
    int tail_samples;
    size_t n_weights, n_out; /* parameters; output channels */
    real *packed, *packed_backward, *bias;
    struct gathering weights_gradient, bias_gradient;
    size_t kernel_scratch;
    struct band bands[BANDS]; /* of one image, instead of whole */
};

/* For a lane of that many samples, of which each may have several images (dimension 0 is theirs all). */
static struct conv_shape shape_of(const struct call *c, const struct window *w, int samples) {
    const struct shape *x = &c->in[DATA]->shape, *weights = &c->in[WEIGHTS]->shape;
    return (struct conv_shape){
        .n = (int)(x->dim[0] * samples / c->batch),
        .in_channels = (int)x->dim[1],
        .in_height = w->in[0],
        .in_width = w->in[1],
        .out_channels = (int)weights->dim[0],
        .out_height = w->out[0],
        .out_width = w->out[1],
        .kernel_height = w->kernel[0],
        .kernel_width = w->kernel[1],
        .stride_height = w->stride[0],
        .stride_width = w->stride[1],
        .dilation_height = w->dilation[0],
        .dilation_width = w->dilation[1],
        .pad_top = w->pad_begin[0],
        .pad_left = w->pad_begin[1],
        .pad_bottom = w->pad_end[0],
        .pad_right = w->pad_end[1],
        .groups = (int)node_int(c->node, "group", 1),
    };
}

static struct conv *conv_of(const struct conv_state *s, const struct part *p) {
    return s->tail && p->count == s->tail_samples ? s->tail : s->whole;
}

/* Weights times scale / sqrt(variance + epsilon) of the output channel, and the bias to go with it. */
static const real *fold(const struct call *c, struct conv_state *s, real *scratch) {
    const real *w = c->in[WEIGHTS]->base, *bias = c->n_in > BIAS && c->in[BIAS] ? c->in[BIAS]->base : NULL;
    const struct folded_norm *f = c->norm;
    if (!f) {
        if (bias) memcpy(s->bias, bias, s->n_out * sizeof(real));
        return w;
    }
    size_t each = s->n_weights / s->n_out;
    for (size_t o = 0; o < s->n_out; o++) {
        real gain = f->scale->base[o] / real_sqrt(f->variance->base[o] + f->epsilon);
        s->bias[o] = f->shift->base[o] + ((bias ? bias[o] : 0) - f->mean->base[o]) * gain;
        for (size_t i = 0; i < each; i++) scratch[o * each + i] = w[o * each + i] * gain;
    }
    return scratch;
}

static void conv_prepare(const struct call *c, const struct part *p) {
    struct conv_state *s = c->state;
    s->backend->pack(s->whole, fold(c, s, p->scratch), s->packed);
}

static void conv_repack(const struct call *c, const struct part *p) {
    struct conv_state *s = c->state;
    (void)p;
    s->backend->pack_backward(s->whole, c->in[WEIGHTS]->base, s->packed_backward);
}

static void conv_forward(const struct call *c, const struct part *p) {
    struct conv_state *s = c->state;
    s->backend->forward(conv_of(s, p), p->thread, tensor_at(c->in[DATA], p), s->packed, s->bias,
                        c->residual ? tensor_at(c->residual, p) : NULL, tensor_at(c->out[0], p), p->scratch);
}

static void conv_forward_band(const struct call *c, const struct part *p) {
    struct conv_state *s = c->state;
    const struct band *b = &s->bands[p->index];
    s->backend->forward(b->conv, p->thread, c->in[DATA]->base + b->x, s->packed, s->bias,
                        c->residual ? c->residual->base + b->y : NULL, c->out[0]->base + b->y, p->scratch);
}

/* Weights and bias by samples whose data and output's gradient these are, into slot `slot`. */
static void gather(struct conv_state *s, struct conv *conv, const struct part *p, const real *x, const real *dy,
                   int slot) {
    real *bias = s->bias_gradient.slots ? s->bias_gradient.slots + (size_t)slot * s->bias_gradient.size : NULL;
    s->backend->backward_weights(conv, p->thread, x, dy,
                                 s->weights_gradient.slots + (size_t)slot * s->weights_gradient.size, bias, p->scratch);
}

static void conv_backward_lane(const struct call *c, const struct part *p) {
    struct conv_state *s = c->state;
    real *dy = tensor_at(c->d_out[0], p);
    if (c->activation == ACTIVATION_RELU) loop_relu_mask(dy, tensor_at(c->out[0], p), tensor_count(c->out[0], p));
    if (s->weights_gradient.slots) gather(s, conv_of(s, p), p, tensor_at(c->in[DATA], p), dy, p->index);
}

/* A share of the batch. */
static void conv_backward_share(const struct call *c, const struct part *p) {
    struct conv_state *s = c->state;
    size_t samples = (size_t)(c->batch / s->shares), first = (size_t)p->index * samples;
    const struct tensor *y = c->out[0];
    real *dy = c->d_out[0]->base + first * y->row;
    if (c->activation == ACTIVATION_RELU) loop_relu_mask(dy, y->base + first * y->row, samples * y->row);
    gather(s, s->share, p, c->in[DATA]->base + first * c->in[DATA]->row, dy, p->index);
}

static void conv_backward_data(const struct call *c, const struct part *p) {
    struct conv_state *s = c->state;
    const real *dy = tensor_at(c->d_out[0], p);
    real *dx = tensor_at(c->d_in[DATA], p), *made = c->add[DATA] ? p->scratch + s->kernel_scratch : dx;
    s->backend->backward_data(conv_of(s, p), p->thread, dy, s->packed_backward, made, p->scratch);
    if (c->add[DATA]) loop_add(dx, made, tensor_count(c->d_in[DATA], p));
}

static void conv_finish(const struct call *c, const struct part *p) {
    struct conv_state *s = c->state;
    (void)p;
    if (c->d_in[WEIGHTS])
        s->backend->unpack(s->share ? s->share : s->whole, gathering_total(&s->weights_gradient, s->shares),
                           c->d_in[WEIGHTS]->base, c->add[WEIGHTS]);
    if (c->n_in > BIAS && c->d_in[BIAS])
        gathering_sum(&s->bias_gradient, s->shares, 0, s->n_out, c->d_in[BIAS]->base, c->add[BIAS]);
}

/* Rows [from, to) of the results as a convolution of its own. */
static struct conv_shape band_shape(const struct conv_shape *whole, int from, int to, int *first_row) {
    struct conv_shape band = *whole;
    int top = from * whole->stride_height - whole->pad_top;
    int end =
        (to - 1) * whole->stride_height - whole->pad_top + (whole->kernel_height - 1) * whole->dilation_height + 1;
    *first_row = top > 0 ? top : 0;
    band.pad_top = *first_row - top;
    band.pad_bottom = end > whole->in_height ? end - whole->in_height : 0;
    band.in_height = end - band.pad_bottom - *first_row;
    band.out_height = to - from;
    return band;
}

/* Opens the bands where the plan has one lane of one image and enough to do. No bands are no error. */
static int open_bands(struct call *c, struct conv_state *s, const struct conv_shape *whole, struct conv_uses uses,
                      struct err *e) {
    enum { MACS_LEAST = 1 << 18 };
    int rows = s->backend->sizes(s->whole).rows, blocks = whole->out_height / rows;
    int64_t macs = (int64_t)whole->out_height * whole->out_width * (int64_t)s->n_weights;
    if (c->lanes > 1 || c->training || whole->n != 1 || blocks < BANDS || macs < MACS_LEAST) return 0;
    uses.like = s->whole;
    for (int i = 0; i < BANDS; i++) {
        int from = blocks * i / BANDS * rows, to = i + 1 < BANDS ? blocks * (i + 1) / BANDS * rows : whole->out_height;
        int first_row;
        struct conv_shape shape = band_shape(whole, from, to, &first_row);
        struct err refused = {0};
        int status = shape.in_height > 0 ? s->backend->open(&s->bands[i].conv, &shape, &uses, &refused) : E_UNSUPPORTED;
        if (status == E_UNSUPPORTED) break;
        if (status) return err_set(e, status, "%s", refused.text);
        s->bands[i].x = (size_t)first_row * (size_t)whole->in_width * (size_t)whole->in_channels;
        s->bands[i].y = (size_t)from * (size_t)whole->out_width * (size_t)whole->out_channels;
    }
    return 0;
}

static bool has_bands(const struct conv_state *s) {
    return s->bands[BANDS - 1].conv != NULL;
}

static int open_backend(struct call *c, struct conv_state *s, bool has_bias, bool train, struct err *e) {
    struct window w;
    int status = window_read(&w, c->node, &c->in[DATA]->shape, &c->in[WEIGHTS]->shape.dim[2], e);
    if (status) return status;
    struct conv_uses uses = {.backward_weights = train,
                             .backward_data = c->d_in[DATA] != NULL,
                             .bias = has_bias,
                             .residual = c->residual != NULL,
                             .relu = c->activation == ACTIVATION_RELU,
                             .threads = c->threads};
    struct conv_shape shape = shape_of(c, &w, c->lane_size);
    status = conv_open(&s->whole, &s->backend, &shape, &uses, e);
    s->tail_samples = c->batch % c->lane_size;
    if (status) return status;
    if (!c->training || s->tail_samples == 0) return open_bands(c, s, &shape, uses, e);
    struct conv_shape tail = shape;
    tail.n = s->tail_samples;
    uses.like = s->whole;
    status = s->backend->open(&s->tail, &tail, &uses, e);
    if (status != E_UNSUPPORTED) return status;
    s->backend->close(s->whole);
    s->whole = NULL;
    s->backend = &conv_blas; /* takes every shape, with weights in one order */
    uses.like = NULL;
    status = s->backend->open(&s->whole, &shape, &uses, e);
    return status ? status : s->backend->open(&s->tail, &tail, &uses, e);
}

static int open_share(struct call *c, struct conv_state *s, bool has_bias, struct err *e) {
    struct window w;
    int status = window_read(&w, c->node, &c->in[DATA]->shape, &c->in[WEIGHTS]->shape.dim[2], e);
    if (status) return status;
    struct conv_uses uses = {.backward_weights = true, .bias = has_bias, .threads = c->threads};
    struct conv_shape shape = shape_of(c, &w, c->batch / s->shares);
    return s->backend->open(&s->share, &shape, &uses, e);
}

/* What the gradient of the weights takes, and the step that gathers it. */
static int plan_training(struct call *c, struct plan *p, bool has_bias, size_t gradient, struct err *e) {
    struct conv_state *s = c->state;
    int status = 0;
    struct err refused = {0};
    s->shares = plan_shares(p, s->n_weights);
    if (s->shares < c->lanes) status = open_share(c, s, has_bias, &refused);
    if (status == E_UNSUPPORTED) s->shares = c->lanes;
    if (status && status != E_UNSUPPORTED) return err_set(e, status, "%s", refused.text);
    if (s->share) {
        struct conv_sizes sizes = s->backend->sizes(s->share);
        gradient = sizes.gradient;
        plan_scratch(p, sizes.scratch);
    }
    status = plan_gathering_of(&s->weights_gradient, p, gradient, s->shares, e);
    if (!status && has_bias) status = plan_gathering_of(&s->bias_gradient, p, s->n_out, s->shares, e);
    if (status) return status;
    return s->share ? plan_units(p, PHASE_BACKWARD, conv_backward_share, s->shares, e)
                    : plan_lanes(p, PHASE_BACKWARD, conv_backward_lane, false, e);
}

static int conv_plan(struct call *c, struct plan *p, struct err *e) {
    struct conv_state *s = c->state;
    if (!is_constant(c, WEIGHTS) || (c->n_in > BIAS && c->in[BIAS] && !is_constant(c, BIAS)) || is_constant(c, DATA))
        return err_set(e, E_UNSUPPORTED, "retort convolves computed data by constant weights");
    bool train = c->d_out[0] && c->d_in[WEIGHTS], has_bias = c->norm || (c->n_in > BIAS && c->in[BIAS]);
    s->n_weights = c->in[WEIGHTS]->row;
    s->n_out = (size_t)c->in[WEIGHTS]->shape.dim[0];
    int status = open_backend(c, s, has_bias, train, e);
    if (status) return status;
    struct conv_sizes sizes = s->backend->sizes(s->whole);
    s->kernel_scratch = (sizes.scratch + 15) / 16 * 16;
    for (int i = 0; i < BANDS && has_bands(s); i++) {
        size_t scratch = s->backend->sizes(s->bands[i].conv).scratch;
        if (scratch > s->kernel_scratch) s->kernel_scratch = scratch;
    }
    status = plan_packed(&s->packed, p, sizes.packed, PHASE_FORWARD, e);
    if (!status && has_bias) status = plan_memory(&s->bias, p, s->n_out, e);
    if (!status && sizes.packed_backward)
        status = plan_packed(&s->packed_backward, p, sizes.packed_backward, PHASE_BACKWARD, e);
    plan_scratch(p, s->kernel_scratch + (c->add[DATA] ? lane_room(c, c->in[DATA]) : 0));
    if (c->norm) plan_scratch(p, s->n_weights);
    if (!status) status = plan_units(p, PHASE_PREPARE, conv_prepare, 1, e);
    if (!status && sizes.packed_backward) status = plan_units(p, PHASE_REPACK, conv_repack, 1, e);
    if (!status)
        status = has_bands(s) ? plan_units(p, PHASE_FORWARD, conv_forward_band, BANDS, e)
                              : plan_lanes(p, PHASE_FORWARD, conv_forward, false, e);
    if (status || !c->d_out[0]) return status;
    if (train)
        status = plan_training(c, p, has_bias, sizes.gradient, e);
    else if (c->activation == ACTIVATION_RELU)
        status = plan_lanes(p, PHASE_BACKWARD, conv_backward_lane, false, e);
    if (!status && c->d_in[DATA]) status = plan_lanes(p, PHASE_BACKWARD, conv_backward_data, false, e);
    return status || !train ? status : plan_units(p, PHASE_FINISH, conv_finish, 1, e);
}

static void conv_close(void *state) {
    struct conv_state *s = state;
    if (s->whole) s->backend->close(s->whole);
    if (s->tail) s->backend->close(s->tail);
    if (s->share) s->backend->close(s->share);
    for (int i = 0; i < BANDS; i++)
        if (s->bands[i].conv) s->backend->close(s->bands[i].conv);
}

static int64_t conv_macs(const struct node *n, const struct shape *const *in, const struct shape *const *out) {
    (void)n;
    int64_t macs = 1;
    for (int d = 1; d < out[0]->rank; d++) macs *= out[0]->dim[d];
    for (int d = 1; d < in[WEIGHTS]->rank; d++) macs *= in[WEIGHTS]->dim[d];
    return macs;
}

static const struct op_sample conv_samples[] = {
    {"2x3x6x5 4x3x3x3 4", "pads=1,1,1,1", "same padding, bias"},
    {"2x3x6x5 4x3x3x3", "", "no bias, no padding"},
    {"3x4x7x9 6x2x3x2 6", "group=2 strides=2,3 pads=1,0,2,1", "groups, strides, uneven pads"},
    {"2x4x7x7 4x1x3x3 4", "group=4 pads=1,1,1,1", "depthwise"},
    {"2x3x9x9 2x3x3x3", "dilations=2,2 pads=2,2,2,2", "dilated"},
    {"2x3x7x6 5x3x1x1 5", "", "pointwise"},
    {"2x3x8x7 4x3x3x3 4", "auto_pad=SAME_UPPER strides=2,2", "same, upper"},
    {"2x3x8x7 4x3x3x3 4", "auto_pad=SAME_LOWER strides=2,2", "same, lower"},
    {"2x3x11 4x3x3 4", "strides=2 pads=1,1", "one spatial axis"},
    {"2x12x7x5 13x12x3x3 13", "pads=1,2,0,1", "by Winograd's filtering, tiles cut off"},
    {NULL, NULL, NULL},
};

const struct op op_Conv = {
    .name = "Conv",
    .help = "y = x * w + bias, cross-correlation over one or two spatial axes",
    .min_inputs = 2,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "auto_pad dilations group kernel_shape pads strides",
    .layout = WISH_LAST,
    .traits = OP_ACTIVATES | OP_FOLDS_NORM | OP_ADDS,
    .keeps = KEEP_INPUT(DATA) | KEEP_INPUT(WEIGHTS),
    .parameters = 1u << WEIGHTS | 1u << BIAS,
    .state_size = sizeof(struct conv_state),
    .infer = conv_infer,
    .plan = conv_plan,
    .close = conv_close,
    .macs = conv_macs,
    .samples = conv_samples,
};

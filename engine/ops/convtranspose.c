/* convtranspose.c - ConvTranspose: the convolution that would have made x from y, read backward. So its
 * forward pass is a convolution's gradient by the data, and its gradients are a convolution's forward
 * pass and gradient by the weights; one or two spatial axes. */
#include <string.h>

#include "engine/kernels/conv.h"
#include "engine/kernels/loops.h"
#include "engine/ops/common.h"

enum { DATA, WEIGHTS, BIAS };
enum { LARGEST = 1 << 20 };

/* ---- shapes ---- */

/* One spatial axis. */
struct span {
    int64_t in, kernel, stride, dilation, before, after, extra, out;
};

static int64_t listed(const struct node *n, const char *name, int at, int64_t standard) {
    const struct attribute *a = node_attribute(n, name);
    return a && a->type == ATTRIBUTE_INTS && (size_t)at < a->count ? a->integers[at] : standard;
}

/* ONNX: pads may follow from the size of the output, which auto_pad SAME_* sets to in * stride. What is
 * missing then is added at the end. */
static void pads_from_size(struct span *s, int64_t wanted, bool upper) {
    int64_t total = s->out - wanted, half = total / 2;
    if (total < 0) {
        s->extra -= total;
        s->out -= total;
        return;
    }
    s->before = upper ? half : total - half;
    s->after = total - s->before;
}

static int read_span(struct span *s, const struct inference *i, int axis, struct err *e) {
    const struct node *n = i->node;
    const struct shape *x = &i->in[DATA]->shape, *w = &i->in[WEIGHTS]->shape;
    const char *automatic = node_string(n, "auto_pad", "NOTSET");
    bool same = strncmp(automatic, "SAME", 4) == 0, sized = node_attribute(n, "output_shape") != NULL;
    *s = (struct span){.in = x->dim[2 + axis],
                       .kernel = w->dim[2 + axis],
                       .stride = listed(n, "strides", axis, 1),
                       .dilation = listed(n, "dilations", axis, 1),
                       .extra = listed(n, "output_padding", axis, 0)};
    if (s->in < 1 || s->in > LARGEST || s->kernel < 1 || s->kernel > LARGEST || s->stride < 1 || s->stride > LARGEST ||
        s->dilation < 1 || s->dilation > LARGEST || s->extra < 0)
        return err_set(e, E_INVALID, "size %lld, kernel %lld, stride %lld, dilation %lld", (long long)s->in,
                       (long long)s->kernel, (long long)s->stride, (long long)s->dilation);
    s->out = s->stride * (s->in - 1) + s->extra + (s->kernel - 1) * s->dilation + 1;
    if (sized)
        pads_from_size(
            s, listed(n, "output_shape", axis + (int)node_attribute(n, "output_shape")->count - (x->rank - 2), 0),
            strcmp(automatic, "SAME_UPPER") == 0);
    else if (same)
        pads_from_size(s, s->in * s->stride, strcmp(automatic, "SAME_UPPER") == 0);
    else if (strcmp(automatic, "VALID") != 0) {
        s->before = listed(n, "pads", axis, 0);
        s->after = listed(n, "pads", axis + x->rank - 2, 0);
    }
    s->out -= s->before + s->after;
    if (s->before < 0 || s->after < 0 || s->extra >= s->stride || s->out < 1 || s->out > LARGEST)
        return err_set(e, E_UNSUPPORTED, "pads of %lld and %lld, %lld more, for %lld of stride %lld",
                       (long long)s->before, (long long)s->after, (long long)s->extra, (long long)s->out,
                       (long long)s->stride);
    return 0;
}

static int transposed_infer(struct inference *i, struct err *e) {
    const struct shape *x = &i->in[DATA]->shape, *w = &i->in[WEIGHTS]->shape;
    int64_t groups = node_int(i->node, "group", 1);
    if (x->rank < 3 || x->rank > 4)
        return err_set(e, E_UNSUPPORTED, "data of rank %d; retort slides over one or two axes", x->rank);
    if (w->rank != x->rank || groups < 1 || w->dim[0] != x->dim[1] || x->dim[1] % groups)
        return err_set(e, E_INVALID, "the data has %lld channels, the weights are made for %lld in %lld groups",
                       (long long)x->dim[1], (long long)w->dim[0], (long long)groups);
    if (has_input(i, BIAS) && (i->in[BIAS]->shape.rank != 1 || i->in[BIAS]->shape.dim[0] != w->dim[1] * groups))
        return err_set(e, E_INVALID, "the bias does not have %lld numbers", (long long)(w->dim[1] * groups));
    struct shape *y = &i->out[0].shape;
    *y = (struct shape){.rank = x->rank, .dim = {x->dim[0], w->dim[1] * groups}};
    for (int axis = 0; axis < x->rank - 2; axis++) {
        struct span s;
        int status = read_span(&s, i, axis, e);
        if (status) return status;
        y->dim[2 + axis] = s.out;
    }
    return 0;
}

/* ---- steps ---- */

struct transposed_state {
    const struct conv_backend *backend;
    struct conv *whole, *tail;
    int tail_samples;
    size_t n_out; /* channels */
    real *packed, *packed_backward;
    struct gathering weights_gradient, bias_gradient;
    size_t kernel_scratch;
};

static struct conv *conv_of(const struct transposed_state *s, const struct part *p) {
    return s->tail && p->count == s->tail_samples ? s->tail : s->whole;
}

static bool has_bias(const struct call *c) {
    return c->n_in > BIAS && c->in[BIAS];
}

static void transposed_prepare(const struct call *c, const struct part *p) {
    const struct transposed_state *s = c->state;
    (void)p;
    s->backend->pack_backward(s->whole, c->in[WEIGHTS]->base, s->packed_backward);
}

static void transposed_repack(const struct call *c, const struct part *p) {
    const struct transposed_state *s = c->state;
    (void)p;
    s->backend->pack(s->whole, c->in[WEIGHTS]->base, s->packed);
}

static void transposed_forward(const struct call *c, const struct part *p) {
    const struct transposed_state *s = c->state;
    real *y = tensor_at(c->out[0], p);
    bool relu = c->activation == ACTIVATION_RELU;
    s->backend->backward_data(conv_of(s, p), p->thread, tensor_at(c->in[DATA], p), s->packed_backward, y, p->scratch);
    if (has_bias(c) || relu)
        loop_bias_relu(y, has_bias(c) ? c->in[BIAS]->base : NULL, tensor_count(c->out[0], p) / s->n_out, s->n_out,
                       relu);
}

static void transposed_backward(const struct call *c, const struct part *p) {
    const struct transposed_state *s = c->state;
    struct conv *conv = conv_of(s, p);
    real *dy = tensor_at(c->d_out[0], p);
    size_t n = tensor_count(c->d_out[0], p);
    if (c->activation == ACTIVATION_RELU) loop_relu_mask(dy, tensor_at(c->out[0], p), n);
    if (s->bias_gradient.slots)
        loop_column_sums(s->bias_gradient.slots + (size_t)p->index * s->bias_gradient.size, dy, n / s->n_out, s->n_out);
    if (s->weights_gradient.slots)
        s->backend->backward_weights(conv, p->thread, dy, tensor_at(c->in[DATA], p),
                                     s->weights_gradient.slots + (size_t)p->index * s->weights_gradient.size, NULL,
                                     p->scratch);
    if (!c->d_in[DATA]) return;
    real *dx = tensor_at(c->d_in[DATA], p), *made = c->add[DATA] ? p->scratch + s->kernel_scratch : dx;
    s->backend->forward(conv, p->thread, dy, s->packed, NULL, NULL, made, p->scratch);
    if (c->add[DATA]) loop_add(dx, made, tensor_count(c->d_in[DATA], p));
}

static void transposed_finish(const struct call *c, const struct part *p) {
    const struct transposed_state *s = c->state;
    (void)p;
    if (s->weights_gradient.slots)
        s->backend->unpack(s->whole, gathering_total(&s->weights_gradient, c->lanes), c->d_in[WEIGHTS]->base,
                           c->add[WEIGHTS]);
    if (s->bias_gradient.slots)
        gathering_sum(&s->bias_gradient, c->lanes, 0, s->n_out, c->d_in[BIAS]->base, c->add[BIAS]);
}

/* ---- planning ---- */

/* The convolution from y to x. An axis that is not there has size 1. */
static int conv_shape_of(struct conv_shape *out, const struct call *c, struct err *e) {
    const struct shape *x = &c->in[DATA]->shape, *y = &c->out[0]->shape;
    struct known known[3] = {{.shape = *x}, {.shape = c->in[WEIGHTS]->shape}};
    const struct known *in[3] = {&known[0], &known[1]};
    struct inference i = {.node = c->node, .opset = c->graph->opset, .n_in = 2, .in = in};
    struct span h = {.in = 1, .kernel = 1, .stride = 1, .dilation = 1, .out = 1}, w;
    int status = x->rank == 4 ? read_span(&h, &i, 0, e) : 0;
    if (!status) status = read_span(&w, &i, x->rank - 3, e);
    if (status) return status;
    *out = (struct conv_shape){
        .in_channels = (int)y->dim[1],
        .in_height = (int)h.out,
        .in_width = (int)w.out,
        .out_channels = (int)x->dim[1],
        .out_height = (int)h.in,
        .out_width = (int)w.in,
        .kernel_height = (int)h.kernel,
        .kernel_width = (int)w.kernel,
        .stride_height = (int)h.stride,
        .stride_width = (int)w.stride,
        .dilation_height = (int)h.dilation,
        .dilation_width = (int)w.dilation,
        .pad_top = (int)h.before,
        .pad_left = (int)w.before,
        .pad_bottom = (int)h.after,
        .pad_right = (int)w.after,
        .groups = (int)node_int(c->node, "group", 1),
    };
    return 0;
}

static int open_backend(const struct call *c, struct transposed_state *s, struct err *e) {
    struct conv_uses uses = {
        .backward_weights = c->d_out[0] && c->d_in[WEIGHTS], .backward_data = true, .threads = c->threads};
    struct conv_shape shape;
    int status = conv_shape_of(&shape, c, e);
    if (status) return status;
    int64_t images = c->in[DATA]->shape.dim[0];
    shape.n = (int)(images * c->lane_size / c->batch);
    status = conv_open(&s->whole, &s->backend, &shape, &uses, e);
    s->tail_samples = c->batch % c->lane_size;
    if (status || !c->training || s->tail_samples == 0) return status;
    shape.n = (int)(images * s->tail_samples / c->batch);
    return s->backend->open(&s->tail, &shape, &uses, e);
}

static int plan_memories(struct call *c, struct plan *p, struct err *e) {
    struct transposed_state *s = c->state;
    struct conv_sizes sizes = s->backend->sizes(s->whole);
    s->kernel_scratch = (sizes.scratch + 15) / 16 * 16;
    plan_scratch(p, s->kernel_scratch + (c->add[DATA] ? lane_room(c, c->in[DATA]) : 0));
    int status = plan_packed(&s->packed_backward, p, sizes.packed_backward, PHASE_FORWARD, e);
    if (!status && c->d_in[DATA]) status = plan_packed(&s->packed, p, sizes.packed, PHASE_BACKWARD, e);
    if (!status && c->d_out[0] && c->d_in[WEIGHTS]) status = plan_gathering(&s->weights_gradient, p, sizes.gradient, e);
    if (!status && c->d_out[0] && has_bias(c) && c->d_in[BIAS])
        status = plan_gathering(&s->bias_gradient, p, s->n_out, e);
    return status;
}

static int transposed_plan(struct call *c, struct plan *p, struct err *e) {
    struct transposed_state *s = c->state;
    if (is_constant(c, DATA) || !is_constant(c, WEIGHTS) || (has_bias(c) && !is_constant(c, BIAS)))
        return err_set(e, E_UNSUPPORTED, "retort convolves computed data by constant weights");
    s->n_out = (size_t)c->out[0]->shape.dim[1];
    if (c->in[DATA]->row == 0 || c->out[0]->row == 0) return err_set(e, E_INVALID, "the data has no elements");
    int status = open_backend(c, s, e);
    if (!status) status = plan_memories(c, p, e);
    if (!status) status = plan_units(p, PHASE_PREPARE, transposed_prepare, 1, e);
    if (!status && c->d_in[DATA]) status = plan_units(p, PHASE_REPACK, transposed_repack, 1, e);
    if (!status) status = plan_lanes(p, PHASE_FORWARD, transposed_forward, false, e);
    if (status || !c->d_out[0]) return status;
    status = plan_lanes(p, PHASE_BACKWARD, transposed_backward, false, e);
    bool gathers = s->weights_gradient.size || s->bias_gradient.size;
    return status || !gathers ? status : plan_units(p, PHASE_FINISH, transposed_finish, 1, e);
}

static void transposed_close(void *state) {
    struct transposed_state *s = state;
    if (s->whole) s->backend->close(s->whole);
    if (s->tail) s->backend->close(s->tail);
}

static int64_t transposed_macs(const struct node *n, const struct shape *const *in, const struct shape *const *out) {
    int64_t macs = 1;
    (void)n, (void)out;
    for (int d = 1; d < in[DATA]->rank; d++) macs *= in[DATA]->dim[d];
    for (int d = 1; d < in[WEIGHTS]->rank; d++) macs *= in[WEIGHTS]->dim[d];
    return macs;
}

static const struct op_sample samples[] = {
    {"2x3x4x5 3x4x3x3 4", "", "bias"},
    {"2x3x4x5 3x4x3x3", "strides=2,2 pads=1,1,1,1 output_padding=1,1", "twice as large"},
    {"2x4x5x4 4x3x3x2 6", "group=2 strides=3,2 pads=1,0,2,1", "groups, uneven pads"},
    {"2x2x4x4 2x3x2x2", "dilations=2,3", "dilated"},
    {"2x3x6 3x4x3 4", "strides=2 auto_pad=SAME_UPPER", "one spatial axis, same size"},
    {"2x2x3x3 2x2x3x3", "strides=2,2 output_shape=6,6", "a given size"},
    {NULL, NULL, NULL},
};

const struct op op_ConvTranspose = {
    .name = "ConvTranspose",
    .help = "y = bias + the gradient by the data of a convolution whose result had the gradient x",
    .min_inputs = 2,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "auto_pad dilations group kernel_shape output_padding output_shape pads strides",
    .layout = WISH_LAST,
    .traits = OP_ACTIVATES,
    .keeps = KEEP_INPUT(DATA) | KEEP_INPUT(WEIGHTS),
    .parameters = 1u << WEIGHTS | 1u << BIAS,
    .state_size = sizeof(struct transposed_state),
    .infer = transposed_infer,
    .plan = transposed_plan,
    .close = transposed_close,
    .macs = transposed_macs,
    .samples = samples,
};

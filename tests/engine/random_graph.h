/* random_graph.h - networks drawn at random, for properties that must hold of any network.
 *
 *     struct random_graph r;
 *     struct random_graph_options o = {.with = RG_NORM | RG_ADD, .without = RG_VECTORS};
 *     int status = random_graph(&r, seed, &o, &e);     the graph is finished; yours to free with graph_free
 *
 * The same seed and options give the same graph, to the bit. Networks are small (a few hundred to a few
 * ten thousand parameters), take one input, of images [N, c, h, w] with h != w more often than not or of vectors
 * [N, c], and give one output, logits [N, classes], or a map [N, c, h, w] when RG_MAP is asked for.
 *
 * A body of blocks - a plain layer, depthwise and pointwise, grouped, a residual block with or without projection,
 * branches that are concatenated, a pool - is followed by a head: global average or flatten, perhaps a hidden
 * layer, then Gemm, or MatMul and Add. A layer is a convolution or a product, perhaps a BatchNormalization, perhaps an
 * activation.
 *
 * No parameter is trivial: biases, scales, shifts, means, variances (0.4 to 2) and slopes are all random, so that what
 * forgets one of them shows. Weights are scaled by fan-in and by the activation in front, so that activations
 * neither vanish nor explode.
 *
 * Names: node "conv3" makes the value "conv3_out" from "conv3_weight" and "conv3_bias"; "norm4" has
 * "norm4_scale", "_shift", "_mean", "_variance"; "prelu5" has "prelu5_slope". The input is "x".
 *
 * Features are bits. Those of RG_RARE appear only when `with` asks for them. A graph that lacks a wished one is drawn
 * again, from the next of the seed's generators; E_NOT_FOUND when 2000 did not do, as for what
 * contradicts itself. */
#ifndef TESTS_ENGINE_RANDOM_GRAPH_H
#define TESTS_ENGINE_RANDOM_GRAPH_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "engine/nn/graph.h"

/* clang-format off */
#define RG_FEATURES(X) \
    X(RG_VECTORS, "vectors")         /* the input is [N, c]: dense layers only */ \
    X(RG_OBLONG, "oblong")           /* a map of different height and width */ \
    X(RG_CONV, "conv") \
    X(RG_BIAS, "bias")               /* a Conv or Gemm of the body with one */ \
    X(RG_NO_BIAS, "no bias")         /* and without */ \
    X(RG_STRIDE, "stride")           /* a Conv with stride 2 somewhere */ \
    X(RG_RAGGED, "ragged")           /* a stride that does not divide what it walks over */ \
    X(RG_UNEVEN, "uneven pads")      /* pads that differ between the sides */ \
    X(RG_VALID, "no pads")           /* a kernel above 1 without pads: the map shrinks */ \
    X(RG_GROUPS, "groups")           /* 1 < group < channels */ \
    X(RG_DEPTHWISE, "depthwise")     /* group = channels, perhaps several outputs for each */ \
    X(RG_NORM, "norm")               /* BatchNormalization */ \
    X(RG_RELU, "relu") \
    X(RG_LEAKY, "leaky relu") \
    X(RG_PRELU, "prelu") \
    X(RG_TANH, "tanh") \
    X(RG_SIGMOID, "sigmoid") \
    X(RG_ELU, "elu") \
    X(RG_CLIP, "clip") \
    X(RG_NO_ACTIVATION, "linear")    /* a layer of the body without activation */ \
    X(RG_MAX_POOL, "max pool") \
    X(RG_AVERAGE_POOL, "average pool") \
    X(RG_ADD, "residual")            /* Add with the block's own input */ \
    X(RG_PROJECTION, "projection")   /* Add with a projection of it */ \
    X(RG_CONCAT, "concat") \
    X(RG_DENSE_CONCAT, "dense concat") /* the block's own input is one of the branches */ \
    X(RG_GLOBAL_POOL, "global pool") \
    X(RG_FLATTEN, "flatten")         /* Flatten of a map larger than one pixel */ \
    X(RG_HIDDEN, "hidden layer")     /* two dense layers in the head */ \
    X(RG_GEMM, "gemm") \
    X(RG_GEMM_PLAIN, "gemm [in,out]") /* transB = 0 */ \
    X(RG_MATMUL, "matmul and add") \
    /* rare */ \
    X(RG_MAP, "map")                 /* no head: the output is a map */ \
    X(RG_TIED, "tied")               /* two convolutions with the same weights */ \
    X(RG_EVEN, "even kernel") \
    X(RG_DILATION, "dilation") \
    X(RG_AUTO_PAD, "auto pad")       /* SAME_UPPER or SAME_LOWER instead of pads */ \
    X(RG_DROPOUT, "dropout")         /* in the head */ \
    X(RG_UNIT_SLOPE, "unit slope")   /* a PRelu that is the identity */ \
    X(RG_ZERO_SLOPE, "zero slope")   /* a PRelu that is a Relu */

enum {
#define X(bit, name) bit##_INDEX_,
    RG_FEATURES(X)
#undef X
    RG_FEATURE_COUNT
};
#define X(bit, name) static const uint64_t bit = UINT64_C(1) << bit##_INDEX_;
RG_FEATURES(X)
#undef X
/* clang-format on */

#define RG_RARE (RG_MAP | RG_TIED | RG_EVEN | RG_DILATION | RG_AUTO_PAD | RG_DROPOUT | RG_UNIT_SLOPE | RG_ZERO_SLOPE)

/* Zeros stand for what is said behind them. */
struct random_graph_options {
    uint64_t with, without;   /* features */
    int least_blocks, blocks; /* blocks of the body: 2 to 5 */
    int channels;             /* at most in one layer, but for concatenated ones: 8; at least 2 */
    int least_side, side;     /* of the input map: 6 to 13; at least 5 */
    int classes;              /* elements of an output row: 2 to 6, drawn */
    int64_t batch;            /* of the input as written down: free */
};

struct random_graph {
    struct graph *graph;
    uint64_t features; /* that it has */
};

/* ---- drawing ---- */

/* A graph being built. The first error stays. */
struct rg {
    struct graph *g;
    struct random r;
    struct random_graph_options o;
    uint64_t features;
    int n_nodes, status;
    struct err *e;
};

/* Something computed: [N, c, h, w], or [N, c] with h = 0. */
struct rg_value {
    int index;
    int64_t c, h, w;
    double gain; /* what weights that read it are to be multiplied with */
};

static inline int rg_below(struct rg *b, int n) {
    return (int)random_below(&b->r, (uint64_t)n);
}

/* Whether to have the feature this time: never when it is not wanted, and then it is noted. */
static inline bool rg_take(struct rg *b, uint64_t feature, int percent) {
    uint64_t never = b->o.without | (RG_RARE & ~b->o.with);
    bool lucky = rg_below(b, 100) < (feature & b->o.with ? 50 + percent / 2 : percent);
    if (!lucky || (feature & never)) return false;
    b->features |= feature;
    return true;
}

static inline double rg_around(struct rg *b, double mean, double deviation) {
    return mean + deviation * random_normal(&b->r);
}

enum rg_numbers { RG_WEIGHTS, RG_BIASES, RG_SCALES, RG_VARIANCES, RG_SLOPES };

static inline double rg_draw(struct rg *b, enum rg_numbers what, double deviation) {
    switch (what) {
        case RG_WEIGHTS: return rg_around(b, 0, deviation);
        case RG_BIASES: return rg_around(b, 0, 0.3);
        case RG_SCALES: return rg_below(b, 5) ? 0.6 + 0.8 * random_unit(&b->r) : -0.6 - 0.8 * random_unit(&b->r);
        case RG_VARIANCES: return 0.4 + 1.6 * random_unit(&b->r);
        case RG_SLOPES: return 0.05 + 0.5 * random_unit(&b->r);
    }
    return 0;
}

/* ---- building ---- */

static inline int rg_constant(struct rg *b, const char *node, const char *part, enum rg_numbers what, double deviation,
                              struct shape shape) {
    struct array *a;
    char name[64];
    int value = VALUE_NONE;
    snprintf(name, sizeof name, "%s_%s", node, part);
    if (!b->status) b->status = array_new(&a, DT_FLOAT32, &shape, b->e);
    if (b->status) return VALUE_NONE;
    for (size_t i = 0; i < a->count; i++) ((float *)a->data)[i] = (float)rg_draw(b, what, deviation);
    b->status = graph_add_constant_take(&value, b->g, name, a, b->e);
    return value;
}

/* A number without axes that is no parameter. */
static inline int rg_number(struct rg *b, const char *node, const char *part, double number) {
    int value = rg_constant(b, node, part, RG_BIASES, 0, (struct shape){.rank = 0});
    if (b->status) return VALUE_NONE;
    ((float *)b->g->values[value].constant->data)[0] = (float)number;
    b->g->values[value].literal = true;
    return value;
}

static inline void rg_name(char out[32], struct rg *b, const char *stem) {
    snprintf(out, 32, "%s%d", stem, ++b->n_nodes);
}

static inline int rg_node(struct rg *b, const char *op, const char *name, const int *inputs, int n) {
    int value = VALUE_NONE;
    char made[64];
    snprintf(made, sizeof made, "%s_out", name);
    if (!b->status) b->status = graph_add_value(&value, b->g, made, NULL, b->e);
    if (!b->status) b->status = graph_add_node(NULL, b->g, op, name, inputs, n, &value, 1, b->e);
    return value;
}

static inline void rg_int(struct rg *b, const char *name, int64_t x) {
    if (!b->status) b->status = graph_set_int(b->g, b->g->n_nodes - 1, name, x, b->e);
}
static inline void rg_ints(struct rg *b, const char *name, const int64_t *x, size_t n) {
    if (!b->status) b->status = graph_set_ints(b->g, b->g->n_nodes - 1, name, x, n, b->e);
}
static inline void rg_real(struct rg *b, const char *name, double x) {
    if (!b->status) b->status = graph_set_real(b->g, b->g->n_nodes - 1, name, x, b->e);
}
static inline void rg_string(struct rg *b, const char *name, const char *x) {
    if (!b->status) b->status = graph_set_string(b->g, b->g->n_nodes - 1, name, x, b->e);
}

/* ---- activations ---- */

static inline struct rg_value rg_simple(struct rg *b, struct rg_value x, const char *op, const char *stem,
                                        double gain) {
    char name[32];
    rg_name(name, b, stem);
    x.index = rg_node(b, op, name, &x.index, 1);
    x.gain = gain;
    return x;
}

static inline struct rg_value rg_prelu(struct rg *b, struct rg_value x) {
    char name[32];
    rg_name(name, b, "prelu");
    struct shape shape = {.rank = x.h ? 3 : 1, .dim = {x.c, 1, 1}};
    int in[2] = {x.index, rg_constant(b, name, "slope", RG_SLOPES, 0, shape)};
    bool unit = rg_take(b, RG_UNIT_SLOPE, 50), zero = !unit && rg_take(b, RG_ZERO_SLOPE, 50);
    for (int64_t i = 0; i < x.c && (unit || zero) && !b->status; i++)
        ((float *)b->g->values[in[1]].constant->data)[i] = (float)unit;
    x.index = rg_node(b, "PRelu", name, in, 2);
    x.gain = 1.3;
    return x;
}

static inline struct rg_value rg_clip(struct rg *b, struct rg_value x) {
    char name[32];
    rg_name(name, b, "clip");
    bool low = rg_below(b, 2);
    int in[3] = {x.index};
    in[1] = rg_number(b, name, "min", low ? -0.5 : 0);
    in[2] = rg_number(b, name, "max", low ? 1.5 : 6);
    x.index = rg_node(b, "Clip", name, in, 3);
    x.gain = 1.4;
    return x;
}

static inline struct rg_value rg_activation(struct rg *b, struct rg_value x) {
    for (int tries = 0; tries < 40; tries++) switch (rg_below(b, 8)) {
            case 0:
            case 1: /* narrow layers would die */
                if (x.c * (x.h ? x.h * x.w : 1) > 3 && rg_take(b, RG_RELU, 100))
                    return rg_simple(b, x, "Relu", "relu", 1.4);
                break;
            case 2:
                if (!rg_take(b, RG_LEAKY, 100)) break;
                x = rg_simple(b, x, "LeakyRelu", "leaky", 1.35);
                rg_real(b, "alpha", 0.05 + 0.2 * random_unit(&b->r));
                return x;
            case 3:
                if (rg_take(b, RG_PRELU, 100)) return rg_prelu(b, x);
                break;
            case 4:
                if (rg_take(b, RG_TANH, 100)) return rg_simple(b, x, "Tanh", "tanh", 1.6);
                break;
            case 5:
                if (rg_take(b, RG_SIGMOID, 50)) return rg_simple(b, x, "Sigmoid", "sigmoid", 3);
                break;
            case 6:
                if (!rg_take(b, RG_ELU, 100)) break;
                x = rg_simple(b, x, "Elu", "elu", 1.25);
                rg_real(b, "alpha", 0.5 + random_unit(&b->r));
                return x;
            case 7:
                if (rg_take(b, RG_CLIP, 100)) return rg_clip(b, x);
                break;
        }
    return x;
}

/* ---- layers ---- */

static inline struct rg_value rg_norm(struct rg *b, struct rg_value x) {
    char name[32];
    struct shape shape = {.rank = 1, .dim = {x.c}};
    rg_name(name, b, "norm");
    int in[5] = {x.index};
    in[1] = rg_constant(b, name, "scale", RG_SCALES, 0, shape);
    in[2] = rg_constant(b, name, "shift", RG_BIASES, 0, shape);
    in[3] = rg_constant(b, name, "mean", RG_BIASES, 0, shape);
    in[4] = rg_constant(b, name, "variance", RG_VARIANCES, 0, shape);
    x.index = rg_node(b, "BatchNormalization", name, in, 5);
    x.gain = 1;
    if (rg_below(b, 2)) rg_real(b, "epsilon", 1e-3);
    return x;
}

/* Perhaps a normalisation, perhaps an activation. */
static inline struct rg_value rg_follow(struct rg *b, struct rg_value x, bool activated) {
    if (rg_take(b, RG_NORM, 50)) x = rg_norm(b, x);
    if (!activated) return x;
    return rg_take(b, RG_NO_ACTIVATION, 10) ? x : rg_activation(b, x);
}

/* A convolution to be: along the height and along the width. */
struct rg_window {
    int64_t kernel[2], stride[2], dilation[2], pad[4]; /* ONNX: both beginnings, then both ends */
    const char *auto_pad;
};

static inline int64_t rg_length(int64_t n, const struct rg_window *w, int d) {
    if (w->auto_pad) return (n + w->stride[d] - 1) / w->stride[d];
    return (n + w->pad[d] + w->pad[2 + d] - w->dilation[d] * (w->kernel[d] - 1) - 1) / w->stride[d] + 1;
}

/* A kernel of odd sides that keeps the map as it is, but for the stride. */
static inline struct rg_window rg_same(struct rg *b, struct rg_value x, int64_t stride) {
    static const int64_t sizes[] = {1, 3, 3, 3, 5};
    struct rg_window w = {.stride = {stride, stride}, .dilation = {1, 1}};
    w.kernel[0] = w.kernel[1] = sizes[rg_below(b, 5)];
    if (rg_below(b, 4) == 0) w.kernel[1] = sizes[rg_below(b, 5)];
    if (rg_take(b, RG_DILATION, 30)) w.dilation[0] = w.dilation[1] = 2;
    for (int d = 0; d < 2; d++) {
        w.pad[d] = w.pad[2 + d] = w.dilation[d] * (w.kernel[d] - 1) / 2;
        if (stride > 1 && ((d ? x.w : x.h) - 1) % stride) b->features |= RG_RAGGED;
    }
    if (stride > 1) b->features |= RG_STRIDE;
    return w;
}

/* Any kernel that fits. */
static inline struct rg_window rg_any_window(struct rg *b, struct rg_value x) {
    int64_t stride = x.h > 4 && x.w > 4 && rg_take(b, RG_STRIDE, 25) ? 2 : 1;
    struct rg_window w = rg_same(b, x, stride);
    if (x.h > 4 && x.w > 4 && w.dilation[0] == 1 && rg_take(b, RG_EVEN, 40))
        w.kernel[rg_below(b, 2)] = 2 + 2 * rg_below(b, 2);
    if (w.dilation[0] == 1 && rg_take(b, RG_AUTO_PAD, 40)) {
        w.auto_pad = rg_below(b, 2) ? "SAME_UPPER" : "SAME_LOWER";
        return w;
    }
    bool large = x.h > 6 && x.w > 6 && w.kernel[0] * w.kernel[1] > 1 && w.dilation[0] == 1;
    if (large && rg_take(b, RG_VALID, 15))
        memset(w.pad, 0, sizeof w.pad);
    else if (rg_take(b, RG_UNEVEN, 15))
        w.pad[rg_below(b, 4)] += 1;
    return w;
}

static inline void rg_set_window(struct rg *b, const struct rg_window *w, bool always) {
    rg_ints(b, "kernel_shape", w->kernel, 2);
    if (always || w->stride[0] > 1) rg_ints(b, "strides", w->stride, 2);
    if (w->auto_pad)
        rg_string(b, "auto_pad", w->auto_pad);
    else
        rg_ints(b, "pads", w->pad, 4);
    if (w->dilation[0] > 1) rg_ints(b, "dilations", w->dilation, 2);
}

/* A bare convolution; `weights` (VALUE_NONE: fresh ones) are those of another. */
static inline struct rg_value rg_conv(struct rg *b, struct rg_value x, struct rg_window w, int64_t channels,
                                      int64_t groups, int weights) {
    char name[32];
    rg_name(name, b, "conv");
    struct shape shape = {.rank = 4, .dim = {channels, x.c / groups, w.kernel[0], w.kernel[1]}};
    double fan_in = (double)(shape.dim[1] * shape.dim[2] * shape.dim[3]);
    int in[3] = {x.index, weights, VALUE_NONE}, n = 2;
    if (weights == VALUE_NONE) in[1] = rg_constant(b, name, "weight", RG_WEIGHTS, x.gain / sqrt(fan_in), shape);
    bool bare = rg_take(b, RG_NO_BIAS, 40);
    if (!bare) in[n++] = rg_constant(b, name, "bias", RG_BIASES, 0, (struct shape){.rank = 1, .dim = {channels}});
    b->features |= RG_CONV | (bare ? 0 : RG_BIAS);
    struct rg_value y = {rg_node(b, "Conv", name, in, n), channels, rg_length(x.h, &w, 0), rg_length(x.w, &w, 1), 1};
    rg_set_window(b, &w, rg_below(b, 2));
    if (groups > 1) rg_int(b, "group", groups);
    return y;
}

/* A convolution that keeps the map as it is, but for the stride, and what follows it. */
static inline struct rg_value rg_layer(struct rg *b, struct rg_value x, int64_t stride, int64_t channels,
                                       bool activated) {
    struct rg_window w = rg_same(b, x, stride);
    return rg_follow(b, rg_conv(b, x, w, channels, 1, VALUE_NONE), activated);
}

static inline int64_t rg_width(struct rg *b) {
    int least = b->o.channels < 3 ? b->o.channels : 3;
    return least + rg_below(b, b->o.channels - least + 1);
}

/* A dense layer without what follows: Gemm, or MatMul and Add. */
static inline struct rg_value rg_dense(struct rg *b, struct rg_value x, int64_t width, bool head) {
    char name[32];
    bool product = rg_take(b, RG_MATMUL, 30), plain = product || rg_take(b, RG_GEMM_PLAIN, 30);
    bool bare = !product && !head && rg_take(b, RG_NO_BIAS, 30);
    rg_name(name, b, product ? "matmul" : "gemm");
    struct shape shape = {.rank = 2, .dim = {plain ? x.c : width, plain ? width : x.c}};
    int in[3] = {x.index, rg_constant(b, name, "weight", RG_WEIGHTS, x.gain / sqrt((double)x.c), shape)};
    int bias = bare ? VALUE_NONE : rg_constant(b, name, "bias", RG_BIASES, 0, (struct shape){1, {width}});
    struct rg_value y = {.c = width, .gain = 1};
    in[2] = bias;
    y.index = rg_node(b, product ? "MatMul" : "Gemm", name, in, product || bare ? 2 : 3);
    if (!bare && !head) b->features |= RG_BIAS;
    if (!product) b->features |= RG_GEMM;
    if (!plain) rg_int(b, "transB", 1);
    if (!product) return y;
    rg_name(name, b, "add");
    y.index = rg_node(b, "Add", name, (int[]){y.index, bias}, 2);
    return y;
}

/* ---- blocks ---- */

static inline struct rg_value rg_plain(struct rg *b, struct rg_value x) {
    int64_t width = rg_width(b);
    if (!x.h) return rg_follow(b, rg_dense(b, x, width, false), true);
    struct rg_window w = rg_any_window(b, x);
    return rg_follow(b, rg_conv(b, x, w, width, 1, VALUE_NONE), true);
}

static inline struct rg_value rg_depthwise(struct rg *b, struct rg_value x) {
    int64_t multiple = rg_below(b, 4) ? 1 : 2;
    if (x.c < 2) return rg_plain(b, x);
    struct rg_value y = rg_follow(b, rg_conv(b, x, rg_any_window(b, x), multiple * x.c, x.c, VALUE_NONE), true);
    b->features |= RG_DEPTHWISE;
    return rg_layer(b, y, 1, rg_width(b), true);
}

/* Two layers: the first makes the channels divide, the second has groups. */
static inline struct rg_value rg_grouped(struct rg *b, struct rg_value x) {
    int64_t groups = 2 + rg_below(b, 2);
    if (x.c % groups || x.c == groups) x = rg_layer(b, x, 1, 2 * groups, true);
    int64_t channels = groups * (1 + rg_below(b, 3));
    b->features |= RG_GROUPS;
    return rg_follow(b, rg_conv(b, x, rg_any_window(b, x), channels, groups, VALUE_NONE), true);
}

static inline struct rg_value rg_sum(struct rg *b, struct rg_value x, struct rg_value y) {
    char name[32];
    rg_name(name, b, "add");
    x.index = rg_node(b, "Add", name, (int[]){y.index, x.index}, 2);
    x.gain = 0.75; /* of about twice the variance */
    return rg_below(b, 3) ? rg_activation(b, x) : x;
}

static inline struct rg_value rg_residual(struct rg *b, struct rg_value x) {
    struct rg_value y;
    if (!x.h) {
        y = rg_follow(b, rg_dense(b, x, rg_width(b), false), true);
        y = rg_follow(b, rg_dense(b, y, x.c, false), false);
    } else if (rg_take(b, RG_TIED, 40)) {
        struct rg_window w = rg_same(b, x, 1);
        y = rg_conv(b, x, w, x.c, 1, VALUE_NONE);
        int weights = b->status ? VALUE_NONE : b->g->nodes[b->g->n_nodes - 1].inputs[1];
        y = rg_conv(b, rg_follow(b, y, true), w, x.c, 1, weights);
    } else {
        y = rg_layer(b, x, 1, rg_width(b), true);
        y = rg_layer(b, y, 1, x.c, false);
    }
    return rg_sum(b, x, y);
}

static inline struct rg_value rg_projected(struct rg *b, struct rg_value x) {
    int64_t width = rg_width(b), stride = x.h > 4 && x.w > 4 && rg_take(b, RG_STRIDE, 50) ? 2 : 1;
    struct rg_window one = {.kernel = {1, 1}, .stride = {stride, stride}, .dilation = {1, 1}};
    struct rg_value y, z;
    if (x.h) {
        y = rg_layer(b, x, stride, width, true);
        y = rg_layer(b, y, 1, width, false);
        z = rg_follow(b, rg_conv(b, x, one, width, 1, VALUE_NONE), false);
    } else {
        y = rg_follow(b, rg_dense(b, x, width, false), false);
        z = rg_follow(b, rg_dense(b, x, width, false), false);
    }
    return rg_sum(b, z, y);
}

static inline struct rg_value rg_pool(struct rg *b, struct rg_value x, bool same) {
    bool most = !(b->o.without & RG_MAX_POOL) && (rg_below(b, 2) || (b->o.without & RG_AVERAGE_POOL));
    int64_t kernel = same ? 3 : 2 + rg_below(b, 2), stride = same ? 1 : 2, pad = same || rg_below(b, 2);
    struct rg_window w = {{kernel, kernel}, {stride, stride}, {1, 1}, {pad, pad, pad, pad}, NULL};
    char name[32];
    if (!most && (b->o.without & RG_AVERAGE_POOL)) return x;
    rg_name(name, b, most ? "maxpool" : "averagepool");
    b->features |= most ? RG_MAX_POOL : RG_AVERAGE_POOL;
    struct rg_value y = {rg_node(b, most ? "MaxPool" : "AveragePool", name, &x.index, 1), x.c, rg_length(x.h, &w, 0),
                         rg_length(x.w, &w, 1), most ? x.gain : 1.5 * x.gain};
    rg_set_window(b, &w, true);
    if (!most && rg_below(b, 2)) rg_int(b, "count_include_pad", 1);
    return y;
}

static inline struct rg_value rg_branch(struct rg *b, struct rg_value x, int kind) {
    if (kind == 0 && rg_take(b, RG_DENSE_CONCAT, 100)) return x;
    if (!x.h) return rg_follow(b, rg_dense(b, x, rg_width(b), false), true);
    if (kind == 1) x = rg_pool(b, x, true);
    struct rg_value y = rg_layer(b, x, 1, rg_width(b), true);
    if (kind == 2) y = rg_layer(b, y, 1, rg_width(b), true);
    return y;
}

static inline struct rg_value rg_concat(struct rg *b, struct rg_value x) {
    struct rg_value y = x;
    int n = 2 + rg_below(b, 2), in[3], own = rg_below(b, 6);
    char name[32];
    y.c = 0, y.gain = 0;
    for (int i = 0; i < n; i++) {
        struct rg_value z = rg_branch(b, x, i == own ? 0 : 1 + rg_below(b, 4));
        in[i] = z.index;
        y.c += z.c;
        y.gain += z.gain / n;
    }
    rg_name(name, b, "concat");
    y.index = rg_node(b, "Concat", name, in, n);
    rg_int(b, "axis", 1);
    return y;
}

static inline struct rg_value rg_block(struct rg *b, struct rg_value x) {
    for (int tries = 0; tries < 40; tries++) switch (rg_below(b, 9)) {
            case 0:
            case 1: return rg_plain(b, x);
            case 2:
                if (x.h && !(b->o.without & RG_DEPTHWISE)) return rg_depthwise(b, x);
                break;
            case 3:
                if (x.h && !(b->o.without & RG_GROUPS)) return rg_grouped(b, x);
                break;
            case 4:
            case 5:
                if (rg_take(b, RG_ADD, 80)) return rg_residual(b, x);
                break;
            case 6:
                if (rg_take(b, RG_PROJECTION, 80)) return rg_projected(b, x);
                break;
            case 7:
                if (rg_take(b, RG_CONCAT, 80)) return rg_concat(b, x);
                break;
            case 8:
                if (x.h > 4 && x.w > 4) return rg_pool(b, x, false);
                break;
        }
    return rg_plain(b, x);
}

/* ---- the whole ---- */

static inline struct rg_value rg_head(struct rg *b, struct rg_value x) {
    if (x.h && rg_take(b, RG_GLOBAL_POOL, 50)) {
        x = rg_simple(b, x, "GlobalAveragePool", "pool", 3 * x.gain); /* means vary little */
        x.h = x.w = 1;
    }
    if (x.h) {
        if (x.h * x.w > 1) b->features |= RG_FLATTEN;
        x = rg_simple(b, x, "Flatten", "flatten", x.gain);
        x = (struct rg_value){.index = x.index, .c = x.c * x.h * x.w, .gain = x.gain};
    }
    if (rg_take(b, RG_HIDDEN, 40)) x = rg_follow(b, rg_dense(b, x, b->o.channels + 2, false), true);
    if (rg_take(b, RG_DROPOUT, 60)) x = rg_simple(b, x, "Dropout", "dropout", x.gain);
    return rg_dense(b, x, b->o.classes ? b->o.classes : 2 + rg_below(b, 5), true);
}

static inline struct rg_value rg_input(struct rg *b) {
    struct rg_value x = {.c = 1 + rg_below(b, 4), .gain = 1};
    struct shape shape = {.rank = 2, .dim = {b->o.batch ? b->o.batch : DIM_BATCH}};
    if (rg_take(b, RG_VECTORS, 10)) {
        x.c = 3 + rg_below(b, 8);
    } else {
        int range = b->o.side - b->o.least_side + 1;
        x.h = x.w = b->o.least_side + rg_below(b, range);
        if (rg_take(b, RG_OBLONG, 75)) x.w = b->o.least_side + (x.h - b->o.least_side + 1 + rg_below(b, range)) % range;
        if (x.h == x.w) b->features &= ~RG_OBLONG;
        shape = (struct shape){.rank = 4, .dim = {shape.dim[0], x.c, x.h, x.w}};
    }
    shape.dim[1] = x.c;
    if (!b->status) b->status = graph_add_value(&x.index, b->g, "x", NULL, b->e);
    if (!b->status) b->status = graph_add_input(b->g, x.index, DT_FLOAT32, &shape, b->e);
    return x;
}

static inline void rg_build(struct rg *b) {
    b->status = graph_new(&b->g, "random", 17, b->e);
    struct rg_value x = rg_input(b);
    int blocks = b->o.least_blocks + rg_below(b, b->o.blocks - b->o.least_blocks + 1);
    for (int i = 0; i < blocks && !b->status; i++) x = rg_block(b, x);
    if (!x.h || !rg_take(b, RG_MAP, 100)) x = rg_head(b, x);
    if (!b->status) b->status = graph_add_output(b->g, x.index, b->e);
    if (!b->status) b->status = graph_finish(b->g, b->e);
}

/* 0, E_NOMEM or E_NOT_FOUND; see above. The features do not contain what `without` says. */
static inline int random_graph(struct random_graph *out, uint64_t seed, const struct random_graph_options *options,
                               struct err *e) {
    struct random_graph_options o = options ? *options : (struct random_graph_options){0};
    if (!o.blocks) o.blocks = o.least_blocks > 5 ? o.least_blocks : 5;
    if (!o.least_blocks) o.least_blocks = o.blocks < 2 ? o.blocks : 2;
    if (!o.channels) o.channels = 8;
    if (!o.side) o.side = o.least_side > 13 ? o.least_side : 13;
    if (!o.least_side) o.least_side = o.side < 6 ? o.side : 6;
    struct random first = random_seed(seed);
    for (uint64_t attempt = 0; attempt < 2000; attempt++) {
        struct rg b = {.r = random_split(&first, attempt), .o = o, .e = e};
        rg_build(&b);
        if (!b.status && (b.features & o.with) == o.with && !(b.features & o.without)) {
            *out = (struct random_graph){b.g, b.features};
            return 0;
        }
        graph_free(b.g);
        if (b.status) return b.status;
    }
    return err_set(e, E_NOT_FOUND, "no graph of 2000 has all the features");
}

/* "conv, bias, relu" into out. */
static inline const char *random_graph_describe(char *out, size_t room, uint64_t features) {
    static const char *const names[] = {
#define X(bit, name) name,
        RG_FEATURES(X)
#undef X
    };
    size_t used = 0;
    if (room) out[0] = '\0';
    for (int i = 0; i < RG_FEATURE_COUNT && used < room; i++)
        if (features >> i & 1) used += (size_t)snprintf(out + used, room - used, "%s%s", used ? ", " : "", names[i]);
    return out;
}

#endif

/* student_layers.c - a student from a short list of layers. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/transfer/student.h"

#define OPSET 15 /* the first with HardSwish and the BatchNormalization of today */
#define LAYER_OPS "relu leaky_relu sigmoid tanh hardswish softmax batchnorm flatten global_avgpool"

enum { PAD_SAME = -1 };
enum layer_op { LAYER_BATCHNORM = 6, LAYER_FLATTEN = 7, LAYER_GLOBAL_AVGPOOL = 8 };

/* ONNX operators of the ops that are one node with one input, in the order of LAYER_OPS. */
static const char *const simple_ops[] = {"Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "Softmax"};

const struct param layer_params[] = {
    {.name = "op",
     .type = PARAM_TYPE_CHOICE,
     PARAM_AT(struct layer_spec, op),
     .choices = LAYER_OPS,
     .help = "a layer without numbers of its own"},
    PARAM_INT(struct layer_spec, conv, NULL, 1, 1 << 20, "convolution with so many output channels"),
    PARAM_INT(struct layer_spec, dense, NULL, 1, 1 << 24, "dense layer with so many outputs"),
    PARAM_INT(struct layer_spec, maxpool, NULL, 1, 1 << 16, "largest of windows of so many pixels each way"),
    PARAM_INT(struct layer_spec, avgpool, NULL, 1, 1 << 16, "mean of windows of so many pixels each way"),
    PARAM_REAL(struct layer_spec, dropout, NULL, 0, 0.99, "share of values dropped while training"),
    PARAM_INT(struct layer_spec, kernel, NULL, 1, 1 << 12, "of conv: pixels each way; 3 when not given"),
    PARAM_INT(struct layer_spec, stride, NULL, 1, 1 << 12, "of conv: 1, of pools: their size when not given"),
    {.name = "pad",
     .type = PARAM_TYPE_INT,
     PARAM_AT(struct layer_spec, pad),
     .low = 0,
     .high = 1 << 12,
     .choices = "same",
     .help = "of conv: zeros on each side; \"same\", the default, keeps the size at stride 1"},
    PARAM_INT(struct layer_spec, groups, NULL, 1, 1 << 20, "of conv: groups of channels; 1 when not given"),
    PARAM_END,
};

static bool given(int64_t x) {
    return x != PARAM_ABSENT;
}

static int check_layer(struct layer_spec *l, const char *at, struct err *e) {
    bool conv = given(l->conv), pool = given(l->maxpool) || given(l->avgpool);
    int kinds = (l->op >= 0) + conv + given(l->dense) + given(l->maxpool) + given(l->avgpool) + !isnan(l->dropout);
    if (kinds != 1)
        return err_set_at(e, E_INVALID, at, "%s: give one of op, conv, dense, maxpool, avgpool, dropout",
                          kinds ? "this is several layers in one" : "what kind of layer this is is missing");
    if (!conv && (given(l->kernel) || given(l->pad) || given(l->groups)))
        return err_set_at(e, E_INVALID, at, "only conv has kernel, pad and groups");
    if (!conv && !pool && given(l->stride)) return err_set_at(e, E_INVALID, at, "only conv and pools have a stride");
    if (conv && !given(l->kernel)) l->kernel = 3;
    if (conv && !given(l->pad)) l->pad = PAD_SAME;
    if (conv && !given(l->groups)) l->groups = 1;
    if (conv && !given(l->stride)) l->stride = 1;
    if (pool && !given(l->stride)) l->stride = given(l->maxpool) ? l->maxpool : l->avgpool;
    return 0;
}

int student_check_layers(struct layer_spec *layers, int n_layers, struct err *e) {
    int status = 0;
    for (int i = 0; i < n_layers && !status; i++) {
        char at[64];
        text_print(at, sizeof at, "/student/layers/%d", i);
        status = check_layer(&layers[i], at, e);
    }
    return status;
}

/* ---- the chain ---- */

struct chain {
    struct graph *g;
    int value;          /* what the next layer reads */
    struct shape shape; /* of it, batch first */
    char at[64];        /* pointer of the layer being added */
    int number;         /* of the layer, from 1, for names */
    bool normed;        /* a BatchNormalization follows: a bias would be in vain */
    size_t left;        /* elements that parameters may still take */
};

static int channels_of(const struct chain *c) {
    return (int)c->shape.dim[1];
}

/* A parameter of zeros named "<stem><number>.<part>". */
static int add_weights(int *out, struct chain *c, const char *stem, const char *part, const struct shape *shape,
                       struct err *e) {
    char name[64];
    text_print(name, sizeof name, "%s%d.%s", stem, c->number, part);
    struct array *a;
    size_t count;
    int status = shape_count(&count, shape, e);
    if (status) return status;
    if (count > c->left)
        return err_set_at(e, E_TOO_LARGE, c->at, "this layer's %zu weights are more than fits into the memory of a job",
                          count);
    c->left -= count;
    status = array_new(&a, DT_FLOAT32, shape, e);
    return status ? status : graph_add_constant_take(out, c->g, name, a, e);
}

/* Appends a node that reads the chain and `extra`; the chain goes on from its output. */
static int add_node(int *node, struct chain *c, const char *op, const char *stem, const int *extra, int n_extra,
                    struct err *e) {
    char name[64];
    text_print(name, sizeof name, "%s%d", stem, c->number);
    int inputs[8] = {c->value}, out;
    for (int i = 0; i < n_extra; i++) inputs[1 + i] = extra[i];
    int status = graph_add_value(&out, c->g, NULL, name, e);
    if (!status) status = graph_add_node(node, c->g, op, name, inputs, 1 + n_extra, &out, 1, e);
    c->value = out;
    return status;
}

/* The shape after a window goes over the pixels; too large a window is refused. */
static int slide(struct chain *c, int64_t channels, int64_t kernel, int64_t stride, int64_t pads, struct err *e) {
    for (int d = 2; d < c->shape.rank; d++) {
        int64_t room = c->shape.dim[d] + pads - kernel;
        if (room < 0) {
            char text[128];
            shape_print(text, sizeof text, &c->shape);
            return err_set_at(e, E_INVALID, c->at, "a window of %lld does not fit into what arrives here, %s",
                              (long long)kernel, text);
        }
        c->shape.dim[d] = room / stride + 1;
    }
    c->shape.dim[1] = channels;
    return 0;
}

static int need_pixels(const struct chain *c, const char *what, struct err *e) {
    if (c->shape.rank == 3 || c->shape.rank == 4) return 0;
    char text[128];
    shape_print(text, sizeof text, &c->shape);
    return err_set_at(e, E_INVALID, c->at, "%s works on images [N,C,H,W] or signals [N,C,L]; what arrives here is %s",
                      what, text);
}

static int set_window(struct chain *c, int node, int64_t kernel, int64_t stride, int64_t before, int64_t after,
                      struct err *e) {
    size_t axes = (size_t)(c->shape.rank - 2);
    int64_t kernels[2] = {kernel, kernel}, strides[2] = {stride, stride}, pads[4];
    for (size_t i = 0; i < axes; i++) pads[i] = before, pads[axes + i] = after;
    int status = graph_set_ints(c->g, node, "kernel_shape", kernels, axes, e);
    if (!status) status = graph_set_ints(c->g, node, "strides", strides, axes, e);
    return status ? status : graph_set_ints(c->g, node, "pads", pads, 2 * axes, e);
}

static int add_conv(struct chain *c, const struct layer_spec *l, struct err *e) {
    int status = need_pixels(c, "conv", e);
    if (status) return status;
    if (channels_of(c) % l->groups || l->conv % l->groups)
        return err_set_at(e, E_INVALID, c->at, "%lld groups do not divide %d channels in and %lld out",
                          (long long)l->groups, channels_of(c), (long long)l->conv);
    int64_t before = l->pad == PAD_SAME ? (l->kernel - 1) / 2 : l->pad;
    int64_t after = l->pad == PAD_SAME ? l->kernel / 2 : l->pad;
    struct shape shape = {.rank = c->shape.rank, .dim = {l->conv, channels_of(c) / l->groups}};
    for (int d = 2; d < shape.rank; d++) shape.dim[d] = l->kernel;
    int extra[2], node, n_extra = c->normed ? 1 : 2;
    status = add_weights(&extra[0], c, "conv", "weight", &shape, e);
    if (!status && !c->normed)
        status = add_weights(&extra[1], c, "conv", "bias", &(struct shape){.rank = 1, .dim = {l->conv}}, e);
    if (!status) status = add_node(&node, c, "Conv", "conv", extra, n_extra, e);
    if (!status) status = set_window(c, node, l->kernel, l->stride, before, after, e);
    if (!status && l->groups > 1) status = graph_set_int(c->g, node, "group", l->groups, e);
    return status ? status : slide(c, l->conv, l->kernel, l->stride, before + after, e);
}

static int add_pool(struct chain *c, const char *op, const char *stem, int64_t kernel, int64_t stride, struct err *e) {
    int node, status = need_pixels(c, stem, e);
    if (!status) status = add_node(&node, c, op, stem, NULL, 0, e);
    if (!status) status = set_window(c, node, kernel, stride, 0, 0, e);
    return status ? status : slide(c, channels_of(c), kernel, stride, 0, e);
}

static int add_flatten(struct chain *c, struct err *e) {
    if (c->shape.rank == 2) return 0;
    int64_t features = 1;
    for (int d = 1; d < c->shape.rank; d++) features *= c->shape.dim[d];
    int node, status = add_node(&node, c, "Flatten", "flatten", NULL, 0, e);
    if (!status) status = graph_set_int(c->g, node, "axis", 1, e);
    c->shape = (struct shape){.rank = 2, .dim = {DIM_BATCH, features}};
    return status;
}

static int add_dense(struct chain *c, const struct layer_spec *l, struct err *e) {
    int extra[2], node, n_extra = c->normed ? 1 : 2, status = add_flatten(c, e);
    struct shape weights = {.rank = 2, .dim = {l->dense, c->shape.dim[1]}}, bias = {.rank = 1, .dim = {l->dense}};
    if (!status) status = add_weights(&extra[0], c, "dense", "weight", &weights, e);
    if (!status && !c->normed) status = add_weights(&extra[1], c, "dense", "bias", &bias, e);
    if (!status) status = add_node(&node, c, "Gemm", "dense", extra, n_extra, e);
    c->shape.dim[1] = l->dense;
    return status ? status : graph_set_int(c->g, node, "transB", 1, e);
}

static int add_norm(struct chain *c, struct err *e) {
    static const char *const parts[] = {"weight", "bias", "running_mean", "running_var"};
    struct shape shape = {.rank = 1, .dim = {c->shape.dim[1]}};
    int extra[4], node, status = 0;
    for (int k = 0; k < 4 && !status; k++) status = add_weights(&extra[k], c, "norm", parts[k], &shape, e);
    return status ? status : add_node(&node, c, "BatchNormalization", "norm", extra, 4, e);
}

static int add_global_pool(struct chain *c, struct err *e) {
    int node, status = need_pixels(c, "global_avgpool", e);
    for (int d = 2; d < c->shape.rank; d++) c->shape.dim[d] = 1;
    return status ? status : add_node(&node, c, "GlobalAveragePool", "pool", NULL, 0, e);
}

static int add_dropout(struct chain *c, double ratio, struct err *e) {
    struct array *a;
    int value, node, status = array_new(&a, DT_FLOAT32, &(struct shape){.rank = 0}, e);
    if (status) return status;
    *(float *)a->data = (float)ratio;
    status = graph_add_constant_take(&value, c->g, NULL, a, e);
    return status ? status : add_node(&node, c, "Dropout", "dropout", &value, 1, e);
}

static int add_op(struct chain *c, int op, struct err *e) {
    static const char *const stems[] = {"relu", "leaky_relu", "sigmoid", "tanh", "hardswish", "softmax"};
    int node;
    if (op == LAYER_BATCHNORM) return add_norm(c, e);
    if (op == LAYER_FLATTEN) return add_flatten(c, e);
    if (op == LAYER_GLOBAL_AVGPOOL) return add_global_pool(c, e);
    return add_node(&node, c, simple_ops[op], stems[op], NULL, 0, e);
}

static int add_layer(struct chain *c, const struct layer_spec *l, struct err *e) {
    if (given(l->conv)) return add_conv(c, l, e);
    if (given(l->dense)) return add_dense(c, l, e);
    if (given(l->maxpool)) return add_pool(c, "MaxPool", "maxpool", l->maxpool, l->stride, e);
    if (given(l->avgpool)) return add_pool(c, "AveragePool", "avgpool", l->avgpool, l->stride, e);
    if (!isnan(l->dropout)) return add_dropout(c, l->dropout, e);
    return add_op(c, l->op, e);
}

static int add_all(struct chain *c, const struct layer_spec *layers, int n_layers, struct err *e) {
    int status = graph_add_value(&c->value, c->g, "input", NULL, e);
    if (!status) status = graph_add_input(c->g, c->value, DT_FLOAT32, &c->shape, e);
    for (int i = 0; i < n_layers && !status; i++) {
        text_print(c->at, sizeof c->at, "/student/layers/%d", i);
        c->number = i + 1;
        c->normed = i + 1 < n_layers && layers[i + 1].op == LAYER_BATCHNORM;
        status = add_layer(c, &layers[i], e);
    }
    c->number = n_layers + 1;
    if (!status) status = add_flatten(c, e);
    if (!status) status = graph_add_output(c->g, c->value, e);
    return status ? status : graph_finish(c->g, e);
}

int student_chain(struct graph **out, const struct layer_spec *layers, int n_layers, const struct shape *input,
                  size_t room, struct err *e) {
    struct chain c = {.shape = *input, .left = room};
    c.shape.dim[0] = DIM_BATCH;
    int status = graph_new(&c.g, "student", OPSET, e);
    if (!status) status = add_all(&c, layers, n_layers, e);
    if (status) {
        graph_free(c.g);
        return status;
    }
    *out = c.g;
    return 0;
}

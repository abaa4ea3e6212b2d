/* fold_branches.c - parallel branches that meet in an addition become one layer, as RepVGG does (Ding et al. 2021,
 * arXiv:2101.03697): convolutions of the same stride, the common input itself (a kernel with a one in it), scaled and
 * shifted channels of it, and average pools that count the padding. */
#include <string.h>

#include "base/memory.h"
#include "engine/nn/op.h"
#include "engine/surgery/fold.h"

struct branch {
    int node;   /* what makes it, and disappears or takes the others in; -1: the common input itself */
    int source; /* value that it reads */
    bool layer; /* has weights of its own */
    struct linear l;
    struct edit_window window;
};

static void branch_fini(struct branch *b) {
    linear_fini(&b->l);
}

static bool is_op(const struct graph *g, int node, const char *name) {
    return strcmp(g->nodes[node].op->name, name) == 0;
}

/* A kernel with one weight per channel and tap: what is done to every channel by itself. */
static int each_channel(struct branch *b, const struct graph *g, const int64_t kernel[2], double weight,
                        struct err *e) {
    int64_t channels = g->values[b->source].shape.dim[1], taps = kernel[0] * kernel[1];
    b->l = (struct linear){.node = b->node,
                           .data = b->source,
                           .out = channels,
                           .in = 1,
                           .groups = channels,
                           .axes = edit_axes(g, b->source),
                           .kernel = {kernel[0], kernel[1]}};
    if (channels < 1 || taps > 4096) return err_set(e, E_UNSUPPORTED, "one of its branches is too large");
    b->l.weights = mem_calloc((size_t)(channels * taps), sizeof *b->l.weights);
    b->l.bias = mem_calloc((size_t)channels, sizeof *b->l.bias);
    if (!b->l.weights || !b->l.bias) return err_memory(e, (size_t)(channels * taps) * sizeof *b->l.weights);
    for (int64_t i = 0; i < channels * taps; i++) b->l.weights[i] = weight;
    return 0;
}

static int open_layer(struct branch *b, const struct graph *g, struct err *e) {
    int status = linear_read(&b->l, g, b->node, e);
    if (!status && b->l.axes) status = linear_window(&b->window, g, b->node, b->l.kernel, e);
    return status;
}

static int open_affine(struct branch *b, const struct graph *g, struct err *e) {
    static const int64_t one[2] = {1, 1};
    struct affine a;
    int status = affine_read(&a, g, b->node, e);
    if (status) return status;
    status = each_channel(b, g, one, 1, e);
    if (!status) {
        memcpy(b->l.weights, a.scale, (size_t)a.channels * sizeof *a.scale);
        memcpy(b->l.bias, a.shift, (size_t)a.channels * sizeof *a.shift);
    }
    affine_fini(&a);
    return status;
}

static int open_pool(struct branch *b, const struct graph *g, struct err *e) {
    const struct node *n = &g->nodes[b->node];
    const struct attribute *shape = node_attribute(n, "kernel_shape");
    int axes = edit_axes(g, b->source);
    if (!shape || axes < 1 || axes > 2 || shape->count != (size_t)axes)
        return err_set(e, E_UNSUPPORTED, "'%s' pools over no axis or more than two", n->name);
    int64_t kernel[2] = {axes == 2 ? shape->integers[0] : 1, shape->integers[axes - 1]};
    int status = linear_window(&b->window, g, b->node, kernel, e);
    if (status) return status;
    if (node_int(n, "ceil_mode", 0) || (linear_is_padded(&b->window) && !node_int(n, "count_include_pad", 0)))
        return err_set(e, E_UNSUPPORTED, "'%s' averages over fewer pixels at the border (count_include_pad is not set)",
                       n->name);
    return each_channel(b, g, kernel, 1 / (double)(kernel[0] * kernel[1]), e);
}

/* What the branch is that ends in the value; with `whole`, the common input itself. */
static void describe(struct branch *b, const struct folding *f, int value, int adder, bool whole) {
    const struct graph *g = f->m->graph;
    struct err e = {0};
    *b = (struct branch){.node = -1, .source = value, .window = {.stride = {1, 1}, .dilation = {1, 1}}};
    int maker = g->values[value].producer;
    if (whole || maker < 0 || uses_only_reader(f->uses, value) != adder) return;
    bool layer = !fold_check_layer(f, maker, &e) && !is_op(g, maker, "ConvTranspose");
    if (!layer && !is_op(g, maker, "AveragePool") && affine_check(g, maker, &e)) return;
    b->node = maker;
    b->layer = layer;
    b->source = g->nodes[maker].inputs[g->values[g->nodes[maker].inputs[0]].constant ? 1 : 0];
}

static int open_branch(struct branch *b, const struct graph *g, struct err *e) {
    static const int64_t one[2] = {1, 1};
    if (b->layer) return open_layer(b, g, e);
    if (b->node < 0) return each_channel(b, g, one, 1, e);
    return is_op(g, b->node, "AveragePool") ? open_pool(b, g, e) : open_affine(b, g, e);
}

/* The two branches of an addition, opened; the first has weights of its own. */
static int find_branches(struct branch b[2], const struct folding *f, int node, struct err *e) {
    const struct graph *g = f->m->graph;
    const struct node *n = &g->nodes[node];
    memset(b, 0, 2 * sizeof *b);
    if (strcmp(n->op->name, "Add") != 0 || g->values[n->inputs[0]].constant || g->values[n->inputs[1]].constant)
        return err_set(e, E_UNSUPPORTED, "it does not add two computed values");
    if (!shape_equal(&g->values[n->inputs[0]].shape, &g->values[n->inputs[1]].shape) || n->inputs[0] == n->inputs[1] ||
        g->values[n->inputs[0]].shape.rank < 2)
        return err_set(e, E_UNSUPPORTED, "what it adds are not two values of one shape");
    for (int way = 0; way < 4; way++) { /* each operand may be the common input, or made of it */
        for (int k = 0; k < 2; k++) describe(&b[k], f, n->inputs[k], node, way >> k & 1);
        if (b[0].source != b[1].source || (!b[0].layer && !b[1].layer)) continue;
        if (!b[0].layer) {
            struct branch other = b[0];
            b[0] = b[1];
            b[1] = other;
        }
        int status = open_branch(&b[0], g, e);
        return status ? status : open_branch(&b[1], g, e);
    }
    memset(b, 0, 2 * sizeof *b);
    return err_set(e, E_UNSUPPORTED,
                   "it does not add two branches from one value that are linear and read nowhere else, one of them a "
                   "layer");
}

/* ---- merging ---- */

/* Kernel and window that hold both, and where each kernel begins in it. */
struct hull {
    int64_t kernel[2], start[2][2]; /* start[branch][axis] */
    struct edit_window window;
    int64_t groups;
};

static int64_t common_divisor(int64_t a, int64_t b) {
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static int hull_axis(struct hull *h, const struct branch b[2], int axis, int64_t in, int64_t out, struct err *e) {
    int64_t dilation = 1, begin = 0, size = 1;
    for (int k = 0; k < 2; k++) {
        if (b[k].l.kernel[axis] > 1) dilation = b[k].window.dilation[axis];
        if (b[k].window.begin[axis] > begin) begin = b[k].window.begin[axis];
    }
    bool differ =
        b[0].l.kernel[axis] > 1 && b[1].l.kernel[axis] > 1 && b[0].window.dilation[axis] != b[1].window.dilation[axis];
    if (differ || b[0].window.stride[axis] != b[1].window.stride[axis])
        return err_set(e, E_UNSUPPORTED, "its branches have different strides or dilations");
    for (int k = 0; k < 2; k++) {
        int64_t apart = begin - b[k].window.begin[axis];
        if (apart % dilation) return err_set(e, E_UNSUPPORTED, "the taps of its branches fall between each other");
        h->start[k][axis] = apart / dilation;
        if (h->start[k][axis] + b[k].l.kernel[axis] > size) size = h->start[k][axis] + b[k].l.kernel[axis];
    }
    int64_t end = (out - 1) * b[0].window.stride[axis] + (size - 1) * dilation + 1 - in - begin;
    h->kernel[axis] = size;
    h->window.stride[axis] = b[0].window.stride[axis];
    h->window.dilation[axis] = dilation;
    h->window.begin[axis] = begin;
    h->window.end[axis] = end > 0 ? end : 0;
    return size <= 4096 ? 0 : err_set(e, E_UNSUPPORTED, "a kernel of %lld would hold both", (long long)size);
}

static int make_hull(struct hull *h, const struct graph *g, const struct branch b[2], int made, struct err *e) {
    const struct shape *in = &g->values[b[0].source].shape, *out = &g->values[made].shape;
    int axes = b[0].l.axes, status = 0;
    *h = (struct hull){.kernel = {1, 1}, .window = {.stride = {1, 1}, .dilation = {1, 1}}};
    h->groups = common_divisor(b[0].l.groups, b[1].l.groups);
    if (b[0].l.out != b[1].l.out || b[0].l.in * b[0].l.groups != b[1].l.in * b[1].l.groups)
        return err_set(e, E_UNSUPPORTED, "its branches differ in channels");
    for (int axis = 2 - axes; axis < 2 && !status; axis++) {
        int64_t from = in->dim[axis + axes], to = out->dim[axis + axes];
        if (from < 1 || to < 1) return err_set(e, E_UNSUPPORTED, "the size of its maps is open");
        status = hull_axis(h, b, axis, from, to, e);
    }
    return status;
}

/* Adds a branch to the hull's weights, [out][in][taps]. */
static void put(double *weights, int64_t in, const struct hull *h, int k, const struct linear *l) {
    int64_t times = l->groups / h->groups, outs = l->out / l->groups, taps = h->kernel[0] * h->kernel[1];
    const double *from = l->weights;
    for (int64_t o = 0; o < l->out; o++)
        for (int64_t i = 0; i < l->in; i++) {
            double *to = weights + (o * in + o / outs % times * l->in + i) * taps;
            for (int64_t row = 0; row < l->kernel[0]; row++)
                for (int64_t column = 0; column < l->kernel[1]; column++)
                    to[(h->start[k][0] + row) * h->kernel[1] + h->start[k][1] + column] += *from++;
        }
}

static int64_t weights_of(const struct branch *b) {
    return b->layer ? b->l.out * linear_fan_in(&b->l) : 0;
}

static int merge(struct linear *out, const struct hull *h, const struct branch b[2], struct err *e) {
    *out = b[0].l;
    out->groups = h->groups;
    out->has_bias = b[0].l.has_bias || b[1].l.has_bias;
    out->in = b[0].l.in * b[0].l.groups / h->groups;
    out->kernel[0] = h->kernel[0], out->kernel[1] = h->kernel[1];
    size_t n = (size_t)(out->out * linear_fan_in(out));
    out->weights = mem_calloc(n, sizeof *out->weights);
    out->bias = mem_calloc((size_t)out->out, sizeof *out->bias);
    if (!out->weights || !out->bias) {
        linear_fini(out);
        return err_memory(e, n * sizeof *out->weights);
    }
    for (int k = 0; k < 2; k++) {
        put(out->weights, out->in, h, k, &b[k].l);
        for (int64_t o = 0; o < out->out; o++) out->bias[o] += b[k].l.bias[o];
    }
    return 0;
}

/* ---- the way ---- */

static int plan(struct hull *hull, struct branch b[2], struct folding *f, int node, struct err *e) {
    const struct graph *g = f->m->graph;
    int status = find_branches(b, f, node, e);
    if (!status) status = make_hull(hull, g, b, g->nodes[node].outputs[0], e);
    if (status) return status;
    double size = (double)b[0].l.out * (double)(b[0].l.in * b[0].l.groups / hull->groups) *
                  (double)(hull->kernel[0] * hull->kernel[1]);
    if (size > LINEAR_WEIGHTS_MOST)
        return err_set(e, E_TOO_LARGE, "one layer for both branches would have %.0f weights", size);
    if (f->thrifty && size > (double)(weights_of(&b[0]) + weights_of(&b[1])))
        return err_set(e, E_UNSUPPORTED,
                       "one layer for both branches would have %.0f weights instead of %lld; mode branches does it all "
                       "the same",
                       size, (long long)(weights_of(&b[0]) + weights_of(&b[1])));
    return 0;
}

static int branches_can(struct folding *f, int node, struct err *e) {
    struct branch b[2];
    struct hull hull;
    int status = plan(&hull, b, f, node, e);
    branch_fini(&b[0]);
    branch_fini(&b[1]);
    return status;
}

static int write_merged(struct folding *f, const struct branch b[2], const struct hull *hull, struct err *e) {
    struct fold_meeting how = {.sum = true, .groups = hull->groups, .step = {{1, 1}, {1, 1}}};
    struct linear merged;
    memcpy(how.start, hull->start, sizeof how.start);
    int status = merge(&merged, hull, b, e);
    if (status) return status;
    status = fold_write(f->m->graph, &merged, &hull->window, &b[0].l, b[1].layer ? &b[1].l : NULL, &how, e);
    linear_fini(&merged);
    return status;
}

static int branches_apply(struct folding *f, int node, struct err *e) {
    struct branch b[2];
    struct hull hull;
    int status = plan(&hull, b, f, node, e);
    bool busy = !status && (f->busy[node] || f->busy[b[0].node] || (b[1].node >= 0 && f->busy[b[1].node]));
    if (!status && !busy) status = write_merged(f, b, &hull, e);
    if (!status && !busy) {
        int made = f->m->graph->nodes[node].outputs[0];
        f->norms = f->norms || (b[1].node >= 0 && is_op(f->m->graph, b[1].node, "BatchNormalization"));
        fold_done(f, node, b[0].node, "two branches as one layer");
        if (b[1].node >= 0) fold_drop(f, b[1].node);
        fold_drop(f, node);
        fold_make(f, b[0].node, made);
    }
    branch_fini(&b[0]);
    branch_fini(&b[1]);
    return status;
}

const struct fold_way fold_branches = {"branches", branches_can, branches_apply};

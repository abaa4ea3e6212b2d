/* channel_rules.c - what each operator does to the channel axes of its inputs.
 *
 * An operator without a row here passes channels on when it works element by element, and else
 * fixes everything it meets: a missing rule makes a network less changeable, never wrong. */
#include <string.h>

#include "base/memory.h"
#include "engine/nn/op.h"
#include "engine/surgery/channel_finder.h"

static const struct node *node_of(const struct finder *f, int node) {
    return &f->graph->nodes[node];
}

/* Input k, or VALUE_NONE. */
static int input_of(const struct node *n, int k) {
    return k < n->n_inputs ? n->inputs[k] : VALUE_NONE;
}

static const struct shape *shape_of(const struct finder *f, int value) {
    const struct value *v = &f->graph->values[value];
    return v->constant ? &v->constant->shape : &v->shape;
}

static bool is_constant(const struct finder *f, int value) {
    return value != VALUE_NONE && f->graph->values[value].constant;
}

/* An activation with a channel axis that the groups know. */
static bool has_channels(const struct finder *f, int value) {
    return value != VALUE_NONE && !f->graph->values[value].constant && f->values[value].n > 0;
}

/* Outputs get fixed groups of their own, inputs are fixed. */
static int fix_around(struct finder *f, int node, struct err *e) {
    const struct node *n = node_of(f, node);
    int status = 0;
    for (int k = 0; k < n->n_inputs; k++)
        if (has_channels(f, n->inputs[k])) finder_fix(f, f->values[n->inputs[k]], node);
    for (int k = 0; k < n->n_outputs && !status; k++) {
        if (n->outputs[k] == VALUE_NONE) continue;
        const struct shape *s = shape_of(f, n->outputs[k]);
        if (s->rank > 1) status = finder_new_list(&f->values[n->outputs[k]], f, s->dim[1], node, -1, e);
    }
    return status;
}

/* All outputs have the list. */
static void set_outputs(struct finder *f, const struct node *n, struct channel_list list) {
    for (int k = 0; k < n->n_outputs; k++)
        if (n->outputs[k] != VALUE_NONE) f->values[n->outputs[k]] = list;
}

/* The output keeps the channels of the first input. */
static int rule_pass(struct finder *f, int node, struct err *e) {
    const struct node *n = node_of(f, node);
    if (!has_channels(f, n->inputs[0])) return fix_around(f, node, e);
    set_outputs(f, n, f->values[n->inputs[0]]);
    return 0;
}

/* ---- layers with weights ---- */

static int claim_bias(struct finder *f, int value, struct channel_list list, int node, struct err *e) {
    if (value == VALUE_NONE) return 0;
    if (!is_constant(f, value)) {
        finder_fix(f, list, node);
        return 0;
    }
    const struct shape *s = shape_of(f, value);
    bool one = s->rank == 0 || s->dim[s->rank - 1] == 1, alone = shape_of(f, node_of(f, node)->outputs[0])->dim[1] == 1;
    if (s->rank == 0 || (one && !alone)) return 0; /* one for all channels */
    if (s->rank > 2) {
        finder_fix(f, list, node);
        return 0;
    }
    return finder_claim(f, value, s->rank - 1, CHANNELS_EACH, 1, list, node, e);
}

/* Every input channel has filters of its own: outputs follow the inputs. */
static int depthwise(struct finder *f, int node, int64_t multiplier, struct err *e) {
    const struct node *n = node_of(f, node);
    struct channel_list list;
    bool fits;
    int status = finder_scale_list(&list, &fits, f, f->values[n->inputs[0]], multiplier, false, e);
    if (!status) status = finder_claim(f, n->inputs[1], 0, CHANNELS_EACH, 1, list, node, e);
    if (!status) status = claim_bias(f, input_of(n, 2), list, node, e);
    set_outputs(f, n, list);
    return status;
}

static int rule_conv(struct finder *f, int node, struct err *e) {
    const struct node *n = node_of(f, node);
    if (!is_constant(f, n->inputs[1]) || !has_channels(f, n->inputs[0])) return fix_around(f, node, e);
    const struct shape *w = shape_of(f, n->inputs[1]);
    int64_t groups = node_int(n, "group", 1);
    if (groups > 1 && w->dim[1] == 1) return depthwise(f, node, w->dim[0] / groups, e);
    struct channel_list in = f->values[n->inputs[0]], made;
    int status = finder_new_list(&made, f, w->dim[0], CHANNELS_FREE, node, e);
    if (groups > 1) {
        finder_need_multiple(f, in, groups, node);
        finder_need_multiple(f, made, groups, node);
    }
    if (!status) status = finder_claim(f, n->inputs[1], 0, CHANNELS_MADE, 1, made, node, e);
    if (!status) status = finder_claim(f, n->inputs[1], 1, CHANNELS_READ, groups, in, node, e);
    if (!status) status = claim_bias(f, input_of(n, 2), made, node, e);
    set_outputs(f, n, made);
    return status;
}

/* Gemm, and MatMul of rows with a constant matrix. */
static int rule_dense(struct finder *f, int node, struct err *e) {
    const struct node *n = node_of(f, node);
    bool simple = is_constant(f, n->inputs[1]) && has_channels(f, n->inputs[0]) && !node_int(n, "transA", 0) &&
                  shape_of(f, n->inputs[0])->rank == 2 && shape_of(f, n->inputs[1])->rank == 2;
    if (!simple) return fix_around(f, node, e);
    const struct shape *w = shape_of(f, n->inputs[1]);
    int out_dim = node_int(n, "transB", 0) ? 0 : 1;
    struct channel_list made;
    int status = finder_new_list(&made, f, w->dim[out_dim], CHANNELS_FREE, node, e);
    if (!status) status = finder_claim(f, n->inputs[1], out_dim, CHANNELS_MADE, 1, made, node, e);
    if (!status)
        status = finder_claim(f, n->inputs[1], 1 - out_dim, CHANNELS_READ, 1, f->values[n->inputs[0]], node, e);
    if (!status) status = claim_bias(f, input_of(n, 2), made, node, e);
    set_outputs(f, n, made);
    return status;
}

static int rule_norm(struct finder *f, int node, struct err *e) {
    const struct node *n = node_of(f, node);
    if (!has_channels(f, n->inputs[0])) return fix_around(f, node, e);
    int status = 0;
    for (int k = 1; k < n->n_inputs && !status; k++)
        status = claim_bias(f, n->inputs[k], f->values[n->inputs[0]], node, e);
    set_outputs(f, n, f->values[n->inputs[0]]);
    return status;
}

/* ---- element by element ---- */

/* Ties one operand of an output of shape `out` to `list` (made of the first such operand). Operands
 * are aligned at their last dimensions. Those that are 1 wide along the channels are not tied: of what is spread over
 * all channels there must stay one. */
static int tie_operand(struct channel_list *list, struct finder *f, int value, const struct shape *out, int node,
                       struct err *e) {
    const struct shape *s = shape_of(f, value);
    int dim = s->rank - out->rank + 1;
    bool batched = is_constant(f, value) || dim == 1; /* or an activation without batch axis */
    if (dim < 0 || s->dim[dim] != out->dim[1] || !batched) {
        if (has_channels(f, value)) finder_fix(f, f->values[value], node);
        return 0;
    }
    if (is_constant(f, value)) {
        if (!list->n || out->dim[1] == 1) return 0;
        if (dtype_is_real(f->graph->values[value].type))
            return finder_claim(f, value, dim, CHANNELS_EACH, 1, *list, node, e);
        finder_fix(f, *list, node); /* a mask that nothing rewrites */
        return 0;
    }
    if (!has_channels(f, value)) return 0;
    if (list->n) return finder_tie(f, *list, f->values[value], node, e);
    *list = f->values[value];
    return 0;
}

static int rule_elements(struct finder *f, int node, struct err *e) {
    const struct node *n = node_of(f, node);
    const struct shape *out = shape_of(f, n->outputs[0]);
    struct channel_list list = {0};
    int status = 0;
    if (out->rank < 2) return 0;
    for (int constants = 0; constants < 2 && !status; constants++)
        for (int k = 0; k < n->n_inputs && !status; k++)
            if (n->inputs[k] != VALUE_NONE && is_constant(f, n->inputs[k]) == constants)
                status = tie_operand(&list, f, n->inputs[k], out, node, e);
    if (!list.n) return status ? status : fix_around(f, node, e);
    set_outputs(f, n, list);
    return status;
}

/* Scales of an axis have no dimensions to be aligned by, and zero points are rewritten by nobody. */
static int rule_quantize(struct finder *f, int node, struct err *e) {
    const struct shape *scale = shape_of(f, node_of(f, node)->inputs[1]);
    bool one = scale->rank == 0 || (scale->rank == 1 && scale->dim[0] == 1);
    return one ? rule_pass(f, node, e) : fix_around(f, node, e);
}

/* ---- shapes ---- */

/* Elements of a shape from dimension `from` on; 0 when the batch is among them. */
static int64_t elements_from(const struct shape *s, int from) {
    int64_t n = 1;
    for (int d = from; d < s->rank; d++) n *= s->dim[d] < 0 ? 0 : s->dim[d];
    return n;
}

/* Anything that only changes the shape, judged by the shapes: channels kept, flattened, unflattened. */
static int rule_view(struct finder *f, int node, struct err *e) {
    const struct node *n = node_of(f, node);
    const struct shape *in = shape_of(f, n->inputs[0]), *out = shape_of(f, n->outputs[0]);
    if (!has_channels(f, n->inputs[0]) || out->rank < 2 || in->dim[0] != out->dim[0]) return fix_around(f, node, e);
    struct channel_list list = f->values[n->inputs[0]];
    bool fits = true;
    int status = 0;
    if (in->dim[1] == out->dim[1] && elements_from(in, 2) == elements_from(out, 2)) {
        /* as it was */
    } else if (elements_from(in, 1) == out->dim[1] && elements_from(out, 2) == 1) {
        status = finder_scale_list(&list, &fits, f, list, elements_from(in, 2), false, e);
    } else if (in->dim[1] == elements_from(out, 1) && elements_from(in, 2) == 1 && elements_from(out, 2) > 0) {
        status = finder_scale_list(&list, &fits, f, list, elements_from(out, 2), true, e);
    } else {
        fits = false;
    }
    if (status || !fits) return status ? status : fix_around(f, node, e);
    set_outputs(f, n, list);
    return 0;
}

static int rule_concat(struct finder *f, int node, struct err *e) {
    const struct node *n = node_of(f, node);
    int rank = shape_of(f, n->outputs[0])->rank;
    int64_t axis = node_int(n, "axis", 1);
    if (axis < 0) axis += rank;
    for (int k = 0; k < n->n_inputs; k++)
        if (!has_channels(f, n->inputs[k]) || axis == 0) return fix_around(f, node, e);
    struct channel_list joined = f->values[n->inputs[0]];
    int status = 0;
    if (axis > 1) {
        for (int k = 1; k < n->n_inputs && !status; k++)
            status = finder_tie(f, joined, f->values[n->inputs[k]], node, e);
    } else {
        struct channel_list *lists = mem_calloc((size_t)n->n_inputs, sizeof *lists);
        if (!lists) return err_memory(e, (size_t)n->n_inputs * sizeof *lists);
        for (int k = 0; k < n->n_inputs; k++) lists[k] = f->values[n->inputs[k]];
        status = finder_join_lists(&joined, f, lists, n->n_inputs, e);
        mem_free(lists);
    }
    set_outputs(f, n, joined);
    return status;
}

/* Integers that a node has as an attribute, or as an input since some opset. */
struct setting {
    const int64_t *integers;   /* of the attribute */
    const struct array *input; /* or the constant */
    size_t count;
    bool known; /* or not given at all; else it is computed */
};

static struct setting setting_of(const struct finder *f, const struct node *n, const char *name, int k) {
    const struct attribute *a = node_attribute(n, name);
    int value = input_of(n, k);
    if (a) return (struct setting){.integers = a->integers, .count = a->count, .known = true};
    if (!is_constant(f, value)) return (struct setting){.known = value == VALUE_NONE};
    const struct array *input = f->graph->values[value].constant;
    return (struct setting){.input = input, .count = input->count, .known = true};
}

static int64_t setting_at(const struct setting *s, size_t i) {
    return s->input ? array_int(s->input, i) : s->integers[i];
}

/* Axis i of those listed, counted from the front; without a list it is axis i. */
static int64_t setting_axis(const struct setting *axes, size_t i, int rank) {
    int64_t axis = i < axes->count ? setting_at(axes, i) : (int64_t)i;
    return axis < 0 ? axis + rank : axis;
}

/* Cuts and borders along the pixels leave the channels alone, in all that is made. */
static int rule_keep(struct finder *f, int node, struct err *e) {
    const struct node *n = node_of(f, node);
    const struct shape *in = shape_of(f, n->inputs[0]);
    bool keeps = in->rank > 1;
    for (int k = 0; k < n->n_outputs && keeps; k++) {
        if (n->outputs[k] == VALUE_NONE) continue;
        const struct shape *out = shape_of(f, n->outputs[k]);
        keeps = out->rank == in->rank && out->dim[0] == in->dim[0] && out->dim[1] == in->dim[1];
    }
    return keeps ? rule_pass(f, node, e) : fix_around(f, node, e);
}

/* All channels may be the only part, or one beside empty ones, and its size is written down. */
static int rule_split(struct finder *f, int node, struct err *e) {
    const struct node *n = node_of(f, node);
    int64_t axis = node_int(n, "axis", 0);
    if (axis < 0) axis += shape_of(f, n->inputs[0])->rank;
    return axis > 1 ? rule_keep(f, node, e) : fix_around(f, node, e);
}

/* A pad may cut as much off one end of the channels as it adds to the other. Pads are those before every axis, then those
 * behind; since opset 18 perhaps of some axes only. */
static int rule_pad(struct finder *f, int node, struct err *e) {
    const struct node *n = node_of(f, node);
    struct setting pads = setting_of(f, n, "pads", 1), axes = setting_of(f, n, "axes", 3);
    int rank = shape_of(f, n->inputs[0])->rank;
    bool keeps = pads.known && axes.known;
    for (size_t i = 0; i < pads.count && keeps; i++) {
        size_t k = i % (pads.count / 2);
        keeps = setting_at(&pads, i) == 0 || setting_axis(&axes, k, rank) > 1;
    }
    return keeps ? rule_keep(f, node, e) : fix_around(f, node, e);
}

/* All channels by their number are no longer all when there are more, and backwards they are in another order. */
static int rule_slice(struct finder *f, int node, struct err *e) {
    const struct node *n = node_of(f, node);
    struct setting starts = setting_of(f, n, "starts", 1), axes = setting_of(f, n, "axes", 3);
    int rank = shape_of(f, n->inputs[0])->rank;
    bool keeps = starts.known && axes.known;
    for (size_t i = 0; i < starts.count && keeps; i++) keeps = setting_axis(&axes, i, rank) != 1;
    return keeps ? rule_keep(f, node, e) : fix_around(f, node, e);
}

/* Whether a reduction is known to leave the first two dimensions alone. Shapes do not say it: of one channel, or of as many
 * as there are rows of pixels, the wrong axis leaves the same number. */
static bool reduces_pixels(const struct finder *f, const struct node *n, int rank) {
    struct setting axes = setting_of(f, n, "axes", 1);
    for (size_t i = 0; i < axes.count; i++)
        if (setting_axis(&axes, i, rank) < 2) return false;
    return axes.count > 0;
}

/* Sums and means over pixels leave the channels alone. */
static int rule_reduce(struct finder *f, int node, struct err *e) {
    const struct node *n = node_of(f, node);
    const struct shape *out = shape_of(f, n->outputs[0]);
    bool keeps = reduces_pixels(f, n, shape_of(f, n->inputs[0])->rank) && elements_from(out, 2) == 1;
    return keeps ? rule_pass(f, node, e) : fix_around(f, node, e);
}

/* ---- the table ---- */

static const struct {
    const char *op;
    int (*rule)(struct finder *f, int node, struct err *e);
} rules[] = {
    {"Conv", rule_conv},
    {"Gemm", rule_dense},
    {"MatMul", rule_dense},
    {"BatchNormalization", rule_norm},
    {"MaxPool", rule_pass},
    {"AveragePool", rule_pass},
    {"GlobalAveragePool", rule_pass},
    {"GlobalMaxPool", rule_pass},
    {"Dropout", rule_pass},
    {"QuantizeLinear", rule_quantize},
    {"DequantizeLinear", rule_quantize},
    {"ReduceL1", rule_reduce},
    {"ReduceL2", rule_reduce},
    {"ReduceLogSum", rule_reduce},
    {"ReduceLogSumExp", rule_reduce},
    {"ReduceMax", rule_reduce},
    {"ReduceMean", rule_reduce},
    {"ReduceMin", rule_reduce},
    {"ReduceProd", rule_reduce},
    {"ReduceSum", rule_reduce},
    {"ReduceSumSquare", rule_reduce},
    {"Pad", rule_pad},
    {"Split", rule_split},
    {"Slice", rule_slice},
    {"Flatten", rule_view},
    {"Reshape", rule_view},
    {"Squeeze", rule_view},
    {"Unsqueeze", rule_view},
    {"Concat", rule_concat},
};

int channel_rule(struct finder *f, int node, struct err *e) {
    const struct op *op = node_of(f, node)->op;
    if (op->traits & OP_SHAPES_ONLY) return 0; /* numbers about shapes, which follow by themselves */
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strcmp(rules[i].op, op->name) == 0) return rules[i].rule(f, node, e);
    return op->layout == WISH_ANY ? rule_elements(f, node, e) : fix_around(f, node, e);
}

/* edit.c - layers and what belongs to them, windows, names; see edit.h. */
#include "engine/surgery/edit.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/op.h"
#include "engine/surgery/channels.h"

/* ---- who reads what ---- */

void uses_free(struct uses *u) {
    if (!u) return;
    mem_free(u->readers);
    mem_free(u->reader);
    mem_free(u->first);
    mem_free(u->nodes);
    mem_free(u);
}

static void count_uses(struct uses *u, const struct graph *g) {
    for (int v = 0; v < g->n_values; v++) u->reader[v] = -1;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_inputs; k++) {
            int v = g->nodes[i].inputs[k];
            if (v == VALUE_NONE) continue;
            u->readers[v]++;
            u->reader[v] = i;
        }
    for (int v = 0; v < g->n_values; v++) u->first[v + 1] = u->first[v] + u->readers[v];
    for (int i = 0; i < g->n_outputs; i++) {
        u->readers[g->outputs[i]]++;
        u->reader[g->outputs[i]] = -1;
    }
}

/* Each list begins where the one before it ends, which is where it has grown to when all are filled. */
static void list_uses(struct uses *u, const struct graph *g) {
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_inputs; k++)
            if (g->nodes[i].inputs[k] != VALUE_NONE) u->nodes[u->first[g->nodes[i].inputs[k]]++] = i;
    memmove(u->first + 1, u->first, (size_t)g->n_values * sizeof *u->first);
    u->first[0] = 0;
}

static int find_uses(struct uses *u, const struct graph *g, struct err *e) {
    size_t n = (size_t)g->n_values + 1;
    u->readers = mem_calloc(n, sizeof *u->readers);
    u->reader = mem_calloc(n, sizeof *u->reader);
    u->first = mem_calloc(n, sizeof *u->first);
    if (!u->readers || !u->reader || !u->first) return err_memory(e, n * sizeof *u->reader);
    count_uses(u, g);
    u->nodes = mem_calloc((size_t)u->first[g->n_values] + 1, sizeof *u->nodes);
    if (!u->nodes) return err_memory(e, (size_t)u->first[g->n_values] * sizeof *u->nodes);
    list_uses(u, g);
    return 0;
}

int morphing_uses(const struct uses **out, struct morphing *m, struct err *e) {
    if (!m->uses) {
        struct uses *u = mem_calloc(1, sizeof *u);
        int status = u ? find_uses(u, m->graph, e) : err_memory(e, sizeof *u);
        if (status) {
            uses_free(u);
            return status;
        }
        m->uses = u;
    }
    *out = m->uses;
    return 0;
}

int uses_only_reader(const struct uses *u, int value) {
    return u->readers[value] == 1 ? u->reader[value] : -1;
}

/* ---- layers ---- */

static bool is(const struct node *n, const char *op) {
    return strcmp(n->op->name, op) == 0;
}

static void describe_conv(struct edit_layer *l, const struct node *n, const struct shape *w) {
    l->axes = w->rank - 2;
    l->out = w->dim[0];
    l->group = node_int(n, "group", 1);
    l->in = w->dim[1] * l->group;
    if (l->axes > 1) l->kernel[0] = w->dim[2];
    l->kernel[1] = w->dim[w->rank - 1];
    l->fan_in = w->dim[1] * l->kernel[0] * l->kernel[1];
}

static void describe_dense(struct edit_layer *l, const struct node *n, const struct shape *w) {
    l->transposed = node_int(n, "transB", 0) != 0;
    l->out = w->dim[!l->transposed];
    l->in = l->fan_in = w->dim[l->transposed];
}

const char *edit_article(const char *op) {
    return *op && strchr("AEIOU", *op) ? "an" : "a";
}

int edit_layer(struct edit_layer *out, const struct graph *g, int node, struct err *e) {
    const struct node *n = &g->nodes[node];
    bool conv = is(n, "Conv"), dense = is(n, "Gemm") || is(n, "MatMul");
    *out = (struct edit_layer){.node = node, .bias = VALUE_NONE, .group = 1, .kernel = {1, 1}};
    if (!conv && !dense)
        return err_set(e, E_UNSUPPORTED, "%s %s is no convolution and no dense layer", edit_article(n->op->name),
                       n->op->name);
    out->weights = n->inputs[1];
    if (!is(n, "MatMul") && n->n_inputs > 2) out->bias = n->inputs[2];
    const struct value *w = &g->values[out->weights];
    if (!w->constant || g->values[n->inputs[0]].constant)
        return err_set(e, E_UNSUPPORTED, "it does not multiply computed data with constant weights");
    if (!dtype_is_real(w->type) || w->constant->count == 0 || node_int(n, "transA", 0))
        return err_set(e, E_UNSUPPORTED, "its weights are of a kind that no step changes");
    if (w->shape.rank != 2 && !(conv && (w->shape.rank == 3 || w->shape.rank == 4)))
        return err_set(e, E_UNSUPPORTED, "its weights have %d dimensions", w->shape.rank);
    if (conv)
        describe_conv(out, n, &w->shape);
    else
        describe_dense(out, n, &w->shape);
    return 0;
}

int edit_own_layer(struct edit_layer *out, const struct graph *g, const struct uses *u, int node, struct err *e) {
    int status = edit_layer(out, g, node, e);
    if (!status && u->readers[out->weights] > 1)
        status = err_set(e, E_UNSUPPORTED, "its weights '%s' are used elsewhere too: they would no longer be shared",
                         g->values[out->weights].name);
    return status;
}

double edit_deviation(const struct array *a) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < a->count; i++) {
        double x;
        array_to_double(&x, a, i, 1);
        sum += x, squares += x * x;
    }
    if (!a->count) return 0;
    double mean = sum / (double)a->count, variance = squares / (double)a->count - mean * mean;
    return variance > 0 ? sqrt(variance) : 0;
}

static const struct edit_activation activations[] = {
    /* idempotent, f(0) = 0, slope there */
    {"Relu", true, true, false},
    {"Clip", true, false, false},
    {"Abs", true, true, false},
    {"LeakyRelu", false, true, true},
    {"PRelu", false, true, true},
    {"Elu", false, true, true},
    {"Celu", false, true, true},
    {"Selu", false, true, true},
    {"Tanh", false, true, true},
    {"Softsign", false, true, true},
    {"Gelu", false, true, true},
    {"Mish", false, true, true},
    {"HardSwish", false, true, true},
    {"Erf", false, true, true},
    {"Sin", false, true, true},
    {"Atan", false, true, true},
    {"Asinh", false, true, true},
    {"Sigmoid", false, false, true},
    {"Exp", false, false, true},
    {"HardSigmoid", false, false, true},
    {"Softplus", false, false, true},
    {"Cos", false, false, false},
    {"ThresholdedRelu", false, false, false},
};

const struct edit_activation *edit_activation(const struct graph *g, const struct node *n) {
    if (g->values[n->inputs[0]].constant) return NULL;
    for (int k = 1; k < n->n_inputs; k++) /* slopes and bounds are constants */
        if (n->inputs[k] != VALUE_NONE && !g->values[n->inputs[k]].constant) return NULL;
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++)
        if (is(n, activations[i].op)) return &activations[i];
    return NULL;
}

/* Whether the node adds one number per channel, or one for all, to that value. */
static bool adds_bias(const struct graph *g, const struct node *n, int value) {
    if (!is(n, "Add")) return false;
    const struct value *other = &g->values[n->inputs[n->inputs[0] == value]];
    if (!other->constant || !dtype_is_real(other->type)) return false;
    int wide = 0;
    for (int d = 0; d < other->shape.rank; d++) wide += other->shape.dim[d] != 1;
    return wide <= 1 && other->shape.rank <= g->values[value].shape.rank;
}

void edit_tail(struct edit_tail *out, const struct graph *g, const struct uses *u, int node) {
    *out = (struct edit_tail){.bias = -1, .norm = -1, .activation = -1};
    int value = g->nodes[node].outputs[0], next = uses_only_reader(u, value);
    if (next >= 0 && adds_bias(g, &g->nodes[next], value)) {
        out->bias = next;
        value = g->nodes[next].outputs[0];
        next = uses_only_reader(u, value);
    }
    if (next >= 0 && is(&g->nodes[next], "BatchNormalization") && g->nodes[next].inputs[0] == value) {
        out->norm = next;
        value = g->nodes[next].outputs[0];
        next = uses_only_reader(u, value);
    }
    out->linear = out->end = value;
    if (next < 0 || g->nodes[next].inputs[0] != value || !edit_activation(g, &g->nodes[next])) return;
    out->activation = next;
    out->end = g->nodes[next].outputs[0];
}

int edit_no_layer(const struct graph *g, const char *name, struct err *e) {
    const char **names = mem_calloc((size_t)g->n_nodes + 1, sizeof *names);
    if (!names) return err_memory(e, (size_t)g->n_nodes * sizeof *names);
    for (int i = 0; i < g->n_nodes; i++) names[i] = g->nodes[i].name;
    const char *nearest = param_nearest(name, names, (size_t)g->n_nodes);
    int status = nearest ? err_set(e, E_INVALID, "no layer is called '%s'; the nearest is '%s'", name, nearest)
                         : err_set(e, E_INVALID, "no layer is called '%s'; GET .../graph lists them", name);
    mem_free(names);
    return status;
}

/* ---- windows of convolutions ---- */

/* Number k of the list of a window's attribute, `offset` into it. */
static int64_t listed(const struct node *n, const char *name, int axes, int axis, int offset, int64_t standard) {
    const struct attribute *a = node_attribute(n, name);
    int at = axis - (2 - axes) + offset;
    if (axis < 2 - axes || !a || a->type != ATTRIBUTE_INTS || (size_t)at >= a->count) return standard;
    return a->integers[at];
}

/* ONNX: SAME_* makes out = ceil(in / stride), the odd pixel going to the end (upper) or to the beginning. */
static int resolve_same(struct edit_window *w, const struct graph *g, const struct edit_layer *l, bool upper,
                        struct err *e) {
    const struct shape *s = &g->values[g->nodes[l->node].inputs[0]].shape;
    for (int axis = 2 - l->axes; axis < 2; axis++) {
        int64_t size = s->rank == l->axes + 2 ? s->dim[axis + l->axes] : -1;
        if (size < 0)
            return err_set(e, E_UNSUPPORTED, "its padding is automatic, and the size of what it reads is not known");
        int64_t out = (size + w->stride[axis] - 1) / w->stride[axis];
        int64_t total = (out - 1) * w->stride[axis] + (l->kernel[axis] - 1) * w->dilation[axis] + 1 - size;
        if (total < 0) total = 0;
        w->begin[axis] = upper ? total / 2 : total - total / 2;
        w->end[axis] = total - w->begin[axis];
    }
    return 0;
}

int edit_window(struct edit_window *out, const struct graph *g, const struct edit_layer *l, struct err *e) {
    const struct node *n = &g->nodes[l->node];
    const char *automatic = node_string(n, "auto_pad", "NOTSET");
    bool upper = strcmp(automatic, "SAME_UPPER") == 0, explicit = strcmp(automatic, "NOTSET") == 0;
    for (int axis = 0; axis < 2; axis++) {
        out->stride[axis] = listed(n, "strides", l->axes, axis, 0, 1);
        out->dilation[axis] = listed(n, "dilations", l->axes, axis, 0, 1);
        out->begin[axis] = explicit ? listed(n, "pads", l->axes, axis, 0, 0) : 0;
        out->end[axis] = explicit ? listed(n, "pads", l->axes, axis, l->axes, 0) : 0;
    }
    if (upper || strcmp(automatic, "SAME_LOWER") == 0) return resolve_same(out, g, l, upper, e);
    return 0;
}

int edit_set_window(struct graph *g, int node, int axes, const int64_t kernel[2], const struct edit_window *w,
                    struct err *e) {
    int first = 2 - axes;
    size_t n = (size_t)axes;
    int64_t pads[4];
    for (int i = 0; i < axes; i++) {
        pads[i] = w->begin[first + i];
        pads[axes + i] = w->end[first + i];
    }
    graph_drop_attribute(g, node, "auto_pad");
    int status = graph_set_ints(g, node, "kernel_shape", kernel + first, n, e);
    if (!status) status = graph_set_ints(g, node, "strides", w->stride + first, n, e);
    if (!status) status = graph_set_ints(g, node, "dilations", w->dilation + first, n, e);
    if (!status) status = graph_set_ints(g, node, "pads", pads, 2 * n, e);
    return status;
}

/* ---- adding ---- */

/* "<stem>_<part>"; of a stem that is too long, its beginning. */
static const char *compound(char out[GRAPH_MAX_NAME + 1], const char *stem, const char *part) {
    int room = GRAPH_MAX_NAME - 24 - (int)strlen(part);
    char cut[GRAPH_MAX_NAME + 1];
    text_copy(cut, (size_t)room, stem);
    text_print(out, GRAPH_MAX_NAME + 1, "%s%s%s", cut, *part ? "_" : "", part);
    return out;
}

int edit_add_value(int *out, struct graph *g, const char *stem, const char *part, struct err *e) {
    char name[GRAPH_MAX_NAME + 1];
    compound(name, stem, part);
    bool taken = graph_find_value(g, name) != VALUE_NONE;
    return graph_add_value(out, g, taken ? NULL : name, name, e);
}

int edit_add_constant_take(int *out, struct graph *g, const char *stem, const char *part, struct array *a,
                           struct err *e) {
    int status = edit_add_value(out, g, stem, part, e);
    if (status) {
        array_free(a);
        return status;
    }
    struct value *v = &g->values[*out];
    v->constant = a;
    v->type = a->type;
    v->shape = a->shape;
    v->trainable = dtype_is_real(a->type);
    return 0;
}

int edit_add_node(int *out, struct graph *g, const char *op, const char *stem, const char *part, const int *inputs,
                  int n_inputs, int output, struct err *e) {
    char name[GRAPH_MAX_NAME + 1];
    if (g->n_nodes >= MORPH_MAX_NODES)
        return err_set(e, E_TOO_LARGE, "the network would have more than the %d nodes that steps may make it of",
                       MORPH_MAX_NODES);
    return graph_add_node(out, g, op, compound(name, stem, part), inputs, n_inputs, &output, 1, e);
}

int edit_add_filled(int *out, struct graph *g, const char *stem, const char *part, const struct shape *shape,
                    double number, struct err *e) {
    struct array *a;
    int status = array_new(&a, DT_FLOAT32, shape, e);
    if (status) return status;
    for (size_t i = 0; i < a->count; i++) ((float *)a->data)[i] = (float)number;
    return edit_add_constant_take(out, g, stem, part, a, e);
}

enum { ONNX_FILE = INT32_MAX }; /* bytes at most: what is larger could not be stored */

static double count_weights(const struct graph *g) {
    double n = 0;
    for (int v = 0; v < g->n_values; v++)
        if (g->values[v].constant) n += (double)g->values[v].constant->count;
    return n;
}

/* A step asks for every layer, so all is counted again only where what was granted might be too much. */
int edit_afford(struct morphing *m, double weights, struct err *e) {
    bool limited = m->memory && m->memory < ONNX_FILE, fresh = m->weights <= 0;
    size_t most = limited ? m->memory : ONNX_FILE;
    if (fresh || (m->weights + weights) * sizeof(float) > (double)most) m->weights = count_weights(m->graph);
    m->weights += weights;
    double bytes = m->weights * sizeof(float);
    if (bytes <= (double)most) return 0;
    return err_set(e, E_TOO_LARGE, "the network would take %.3g bytes, and %s %zu", bytes,
                   limited ? "a job may take" : "an ONNX file can hold", most);
}

int edit_afford_groups(const struct morphing *m, int64_t groups, size_t each, struct err *e) {
    double bytes = (double)groups * (double)each;
    if (!m->memory || bytes <= (double)m->memory) return 0;
    return err_set(e, E_TOO_LARGE, "to solve for its %lld groups takes %.0f bytes, and a job may take %zu",
                   (long long)groups, bytes, m->memory);
}

int edit_add_literal(int *out, struct graph *g, const char *stem, const char *part, double number, struct err *e) {
    int status = edit_add_filled(out, g, stem, part, &(struct shape){.rank = 0}, number, e);
    if (status) return status;
    g->values[*out].literal = true;
    g->values[*out].trainable = false;
    return 0;
}

static int copy_attribute(struct graph *g, int node, const struct attribute *a, struct err *e) {
    struct array *array;
    int status = 0;
    switch (a->type) {
        case ATTRIBUTE_INT: return graph_set_int(g, node, a->name, a->integer, e);
        case ATTRIBUTE_REAL: return graph_set_real(g, node, a->name, a->real, e);
        case ATTRIBUTE_STRING: return graph_set_string(g, node, a->name, a->string, e);
        case ATTRIBUTE_INTS: return graph_set_ints(g, node, a->name, a->integers, a->count, e);
        case ATTRIBUTE_REALS: return graph_set_reals(g, node, a->name, a->reals, a->count, e);
        case ATTRIBUTE_ARRAY:
            status = array_clone(&array, a->array, e);
            return status ? status : graph_set_array_take(g, node, a->name, array, e);
    }
    return status;
}

int edit_add_like(int *out, struct graph *g, int node, const char *stem, const char *part, int input, int output,
                  struct err *e) {
    int index, n_inputs = g->nodes[node].n_inputs;
    int *inputs = mem_copy(g->nodes[node].inputs, (size_t)n_inputs * sizeof *inputs);
    if (!inputs) return err_memory(e, (size_t)n_inputs * sizeof *inputs);
    inputs[0] = input;
    int status = edit_add_node(&index, g, g->nodes[node].op->name, stem, part, inputs, n_inputs, output, e);
    mem_free(inputs);
    for (int i = 0; !status && i < g->nodes[node].n_attributes; i++)
        status = copy_attribute(g, index, &g->nodes[node].attributes[i], e);
    if (!status && out) *out = index;
    return status;
}

int edit_split_value(int *before, struct graph *g, int value, const char *stem, const char *part, struct err *e) {
    int producer = g->values[value].producer, status = edit_add_value(before, g, stem, part, e);
    if (status) return status;
    struct node *n = &g->nodes[producer];
    for (int k = 0; k < n->n_outputs; k++)
        if (n->outputs[k] == value) n->outputs[k] = *before;
    g->values[*before].producer = producer;
    g->values[*before].type = g->values[value].type;
    g->values[*before].shape = g->values[value].shape;
    g->values[value].producer = -1;
    return 0;
}

struct shape edit_channel_shape(int64_t channels, int axes) {
    struct shape s = {.rank = 1 + axes, .dim = {channels}};
    for (int d = 1; d <= axes; d++) s.dim[d] = 1;
    return s;
}

int edit_axes(const struct graph *g, int value) {
    int rank = g->values[value].shape.rank;
    return rank < 2 ? -1 : rank - 2;
}

/* ---- numbers of channels ---- */

const char *edit_maker(const struct graph *g, const struct channel_group *group) {
    return group->maker < 0 ? "" : g->nodes[group->maker].name;
}

int64_t edit_width(const struct channel_group *group, const struct morph_step *s) {
    double wish = s->to != PARAM_ABSENT ? (double)s->to : (double)group->size * s->factor;
    int64_t parts = (int64_t)ceil(wish / (double)group->multiple - 1e-9);
    return (parts < 1 ? 1 : parts) * group->multiple;
}

static int check_free(const struct channels *c, const struct graph *g, struct channel_list list, struct err *e) {
    for (int i = 0; i < list.n; i++) {
        const struct channel_group *group = &c->groups[c->segments[list.first + i].group];
        char reason[GRAPH_MAX_NAME + 64];
        channels_reason(reason, sizeof reason, g, group);
        if (group->fixed_by != CHANNELS_FREE)
            return err_set(e, E_INVALID, "%s needs its %lld channels as they are", reason, (long long)group->size);
    }
    return 0;
}

static int makes_none(const struct graph *g, int node, const char *kind, struct err *e) {
    struct edit_layer layer;
    struct err unused = {0};
    const char *op = g->nodes[node].op->name;
    if (edit_layer(&layer, g, node, &unused) && !is(&g->nodes[node], "ConvTranspose"))
        return err_set(e, E_UNSUPPORTED, "%s %s makes no channels of its own: %s the layers before it",
                       edit_article(op), op, kind);
    if (layer.group > 1)
        return err_set(e, E_UNSUPPORTED, "a depthwise %s makes no channels of its own: %s the layers before it", op,
                       kind);
    return err_set(e, E_UNSUPPORTED,
                   "%s does not follow the channels of this %s, only those of a Conv and of a dense layer that reads "
                   "rows [N,C]",
                   kind, op);
}

int edit_channels(struct channel_list *out, struct morphing *m, int node, const struct morph_step *s, struct err *e) {
    const struct channels *c;
    const char *kind = morph_table[s->op]->name;
    int status = morphing_channels(&c, m, e);
    if (status) return status;
    *out = channels_made_by(c, m->graph, node);
    if (!out->n) return makes_none(m->graph, node, kind, e);
    if (out->n > 1 && s->to != PARAM_ABSENT)
        return err_set(e, E_UNSUPPORTED, "its channels belong to %d groups, so only a factor can %s it", out->n, kind);
    return check_free(c, m->graph, *out, e);
}

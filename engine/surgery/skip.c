/* skip.c - a new edge past layers: from the result of one layer to the input of a later one, where it adds nothing yet.
 *
 *   add      input + scale * result, one scale of 0 per channel; where the shapes differ, input + a convolution of 1x1
 *            (or a dense layer) of zeros, with the stride that fits
 *   concat   a convolution of 1x1 over both, the identity for the input and zeros for the result
 *
 * There is one layer of zeros on the way and what it reads is not zero, so that its gradient is not zero either: two in
 * a row would never learn. Only `layer` sees the sum; others that read its input read it as it was. */
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/op.h"
#include "engine/surgery/edit.h"

enum { LOOK_BACK = 256 }; /* nodes that a pattern for `from` is compared with */

struct edge {
    int from, to; /* values: what is led past, what it joins */
    int axes;
    int64_t in, out; /* channels */
    int64_t stride[2];
};

static bool is_concat(const struct morph_step *s) {
    return strcmp(s->mode, "concat") == 0;
}

/* The strides with which the longer of two maps becomes the shorter; false when there are none. */
static bool find_strides(struct edge *edge, const struct shape *from, const struct shape *to) {
    for (int axis = 2; axis < to->rank; axis++) {
        int64_t a = from->dim[axis], b = to->dim[axis], stride = b > 0 ? (a + b - 1) / b : 0;
        if (a <= 0 || b <= 0 || (a - 1) / stride + 1 != b) return false;
        edge->stride[axis + 2 - to->rank] = stride;
    }
    return true;
}

/* Whether the result of a node can be led to the input of another, which comes later. */
static int fit(struct edge *edge, const struct graph *g, int source, int node, const struct morph_step *s,
               struct err *e) {
    *edge = (struct edge){.from = g->nodes[source].outputs[0], .to = g->nodes[node].inputs[0], .stride = {1, 1}};
    const struct value *from = &g->values[edge->from], *to = &g->values[edge->to];
    const char *name = g->nodes[source].name;
    char left[SHAPE_TEXT], right[SHAPE_TEXT];
    edge->axes = edit_axes(g, edge->to);
    if (edge->from == edge->to) return err_set(e, E_INVALID, "it reads the result of '%s' already", name);
    if (edge->axes < 0 || edge->axes > 2 || edit_axes(g, edge->from) < 0)
        return err_set(e, E_UNSUPPORTED, "the shapes of what it reads and of what '%s' makes are not both known", name);
    graph_print_shape(left, sizeof left, g, edge->from);
    graph_print_shape(right, sizeof right, g, edge->to);
    bool floats = dtype_is_real(from->type) && dtype_is_real(to->type) && !from->constant && !to->constant;
    bool alike = from->shape.rank == to->shape.rank && from->shape.dim[0] == to->shape.dim[0];
    edge->in = from->shape.dim[1];
    edge->out = to->shape.dim[1];
    if (!floats || !alike || edge->in < 1 || edge->out < 1 || !find_strides(edge, &from->shape, &to->shape))
        return err_set(e, E_UNSUPPORTED, "'%s' makes %s and it reads %s: no stride leads from one to the other", name,
                       left, right);
    if (is_concat(s) && (edge->stride[0] > 1 || edge->stride[1] > 1))
        return err_set(e, E_UNSUPPORTED, "'%s' makes %s and it reads %s: what is concatenated has the same size", name,
                       left, right);
    return 0;
}

static int no_source(const struct graph *g, const char *name, struct err *e) {
    for (int i = 0; i < g->n_inputs; i++)
        if (strcmp(g->values[g->inputs[i]].name, name) == 0)
            return err_set(e, E_INVALID, "'%s' is an input of the network, and edges begin at a layer", name);
    return edit_no_layer(g, name, e);
}

/* The node that `from` names, or the nearest one in front that its pattern names and that fits. */
static int find_edge(struct edge *edge, struct morphing *m, int node, const struct morph_step *s, struct err *e) {
    const struct graph *g = m->graph;
    if (g->nodes[node].n_inputs < 1 || g->nodes[node].inputs[0] == VALUE_NONE ||
        g->values[g->nodes[node].inputs[0]].constant)
        return err_set(e, E_UNSUPPORTED, "it reads nothing that is computed");
    if (!strpbrk(s->from, "*?")) {
        int source = graph_find_node(g, s->from);
        if (source < 0) return no_source(g, s->from, e);
        if (source >= node)
            return err_set(e, E_INVALID, "'%s' does not come before it, and the edge would go backwards", s->from);
        return fit(edge, g, source, node, s, e);
    }
    for (int i = node - 1; i >= 0 && i >= node - LOOK_BACK; i--) {
        struct err unfit = {0};
        if (text_matches(s->from, g->nodes[i].name) && !fit(edge, g, i, node, s, &unfit)) return 0;
    }
    return err_set(e, E_UNSUPPORTED, "nothing in front of it that '%s' names fits what it reads", s->from);
}

static int skip_can(struct morphing *m, int node, const struct morph_step *s, struct err *e) {
    struct edge edge;
    return find_edge(&edge, m, node, s, e);
}

/* ---- the branch ---- */

static struct shape matrix(int64_t rows, int64_t columns, int axes) {
    struct shape s = {.rank = 2 + axes, .dim = {rows, columns}};
    for (int d = 2; d < s.rank; d++) s.dim[d] = 1;
    return s;
}

/* A layer of one tap with those weights, from value to value. */
static int add_layer(struct graph *g, const char *stem, const char *part, const struct edge *edge, int from,
                     int weights, int to, struct err *e) {
    static const int64_t one[2] = {1, 1};
    const struct edit_window w = {.stride = {edge->stride[0], edge->stride[1]}, .dilation = {1, 1}};
    int node,
        status = edit_add_node(&node, g, edge->axes ? "Conv" : "Gemm", stem, part, (int[]){from, weights}, 2, to, e);
    if (status) return status;
    return edge->axes ? edit_set_window(g, node, edge->axes, one, &w, e) : graph_set_int(g, node, "transB", 1, e);
}

static bool same_shape(const struct edge *edge) {
    return edge->in == edge->out && edge->stride[0] == 1 && edge->stride[1] == 1;
}

/* joined = to + 0 from */
static int add_sum(struct graph *g, const char *stem, const struct edge *edge, int joined, struct err *e) {
    int zeros, branch, status = edit_add_value(&branch, g, stem, "skip_out", e);
    struct shape scales = edit_channel_shape(edge->out, edge->axes), weights = matrix(edge->out, edge->in, edge->axes);
    bool scale = same_shape(edge);
    if (!status)
        status =
            edit_add_filled(&zeros, g, stem, scale ? "skip_scale" : "skip_weight", scale ? &scales : &weights, 0, e);
    if (!status && scale)
        status = edit_add_node(NULL, g, "Mul", stem, "skip", (int[]){edge->from, zeros}, 2, branch, e);
    else if (!status)
        status = add_layer(g, stem, "skip", edge, edge->from, zeros, branch, e);
    return status ? status : edit_add_node(NULL, g, "Add", stem, "skip_add", (int[]){edge->to, branch}, 2, joined, e);
}

/* joined = [I 0] (to, from) */
static int add_concat(struct graph *g, const char *stem, const struct edge *edge, int joined, struct err *e) {
    int weights, both, node, status = edit_add_value(&both, g, stem, "skip_out", e);
    struct shape shape = matrix(edge->out, edge->out + edge->in, edge->axes);
    if (!status) status = edit_add_filled(&weights, g, stem, "skip_weight", &shape, 0, e);
    if (status) return status;
    for (int64_t i = 0; i < edge->out; i++) ((float *)g->values[weights].constant->data)[i * shape.dim[1] + i] = 1;
    status = edit_add_node(&node, g, "Concat", stem, "skip_concat", (int[]){edge->to, edge->from}, 2, both, e);
    if (!status) status = graph_set_int(g, node, "axis", 1, e);
    return status ? status : add_layer(g, stem, "skip", edge, both, weights, joined, e);
}

static double weights_of(const struct edge *edge, const struct morph_step *s) {
    if (!is_concat(s) && same_shape(edge)) return (double)edge->out;
    return (double)edge->out * (double)(is_concat(s) ? edge->out + edge->in : edge->in);
}

static int skip_apply(struct morphing *m, const int *nodes, int n, const struct morph_step *s, struct json_writer *w,
                      struct err *e) {
    struct edge *edges = mem_calloc((size_t)n + 1, sizeof *edges);
    int status = edges ? 0 : err_memory(e, (size_t)n * sizeof *edges);
    for (int i = 0; i < n && !status; i++) status = find_edge(&edges[i], m, nodes[i], s, e); /* before anything moves */
    if (w) json_open_array(w, "edges");
    for (int i = 0; i < n && !status; i++) {
        struct graph *g = m->graph;
        const char *stem = g->nodes[nodes[i]].name;
        int joined;
        if (w) {
            json_open_object(w, NULL);
            json_put_string(w, "from", g->values[edges[i].from].name);
            json_put_string(w, "to", stem);
            json_put_string(w, "by", is_concat(s) ? "concat" : same_shape(&edges[i]) ? "scale" : "projection");
            json_close_object(w);
        }
        status = edit_afford(m, weights_of(&edges[i], s), e);
        if (!status) status = edit_add_value(&joined, g, stem, "skip_in", e);
        if (!status && is_concat(s))
            status = add_concat(g, stem, &edges[i], joined, e);
        else if (!status)
            status = add_sum(g, stem, &edges[i], joined, e);
        if (!status) g->nodes[nodes[i]].inputs[0] = joined;
    }
    if (w) json_close_array(w);
    mem_free(edges);
    return status ? status : morphing_finish(m, e);
}

static const char *const samples[] = {
    "{\"op\":\"skip\",\"layer\":\"*\",\"from\":\"*\"}",
    "{\"op\":\"skip\",\"layer\":\"conv*\",\"from\":\"conv*\"}",
    "{\"op\":\"skip\",\"layer\":\"*\",\"from\":\"*\",\"mode\":\"concat\"}",
    NULL,
};

const struct morph_kind morph_skip = {
    .name = "skip",
    .summary = "an edge past layers, which adds nothing yet",
    .takes = "from",
    .needs = "from",
    .modes = "add concat",
    .samples = samples,
    .can = skip_can,
    .apply = skip_apply,
};

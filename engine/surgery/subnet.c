/* subnet.c - several layers in the place of one (Network Morphism, Wei et al. 2016, subnet morph).
 *
 *   sequential   a chain of `parts` layers: the depth morph, repeated
 *   stacked      `parts` branches that are added, G = sum of G_i, each then a chain of two
 *
 * `to`: channels inside, those of the layer by default; `size`: kernels of the layers that are put behind the first. */
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/op.h"
#include "engine/nn/origin.h"
#include "engine/surgery/pieces.h"

struct plan {
    struct edit_layer layer;
    struct edit_tail tail;
    struct split split;
    int64_t parts;
};

static bool is_stacked(const struct morph_step *s) {
    return strcmp(s->mode, "stacked") == 0;
}

static int make_plan(struct plan *p, struct morphing *m, int node, const struct morph_step *s, struct err *e) {
    const struct uses *u;
    int status = morphing_uses(&u, m, e);
    if (!status) status = edit_own_layer(&p->layer, m->graph, u, node, e);
    if (!status) status = pieces_check(m->graph, &p->layer, e);
    if (status) return status;
    edit_tail(&p->tail, m->graph, u, node);
    p->parts = s->parts != PARAM_ABSENT ? s->parts : is_stacked(s) ? 2 : 3;
    p->split = (struct split){.inner = s->to == PARAM_ABSENT ? p->layer.out : s->to,
                              .part = "next",
                              .sketch = m->sketch,
                              .memory = m->memory};
    for (int d = 0; d < 2; d++) {
        bool axis = d >= 2 - p->layer.axes;
        p->split.second[d] = !axis ? 1 : s->n_size ? s->size[d] : p->layer.kernel[d] > 1 ? 3 : 1;
    }
    if (is_stacked(s)) return pieces_can_split(&p->layer, &p->split, e);
    p->split.chain = p->parts - 1;
    struct edit_layer again = p->layer; /* as the first of two: its outputs are those inside */
    status = pieces_can_split(&p->layer, &p->split, e);
    again.out = p->split.inner;
    return status ? status : pieces_can_split(&again, &p->split, e);
}

static int subnet_can(struct morphing *m, int node, const struct morph_step *s, struct err *e) {
    struct plan p;
    return make_plan(&p, m, node, s, e);
}

/* The layer becomes the first of the chain; what it is split into is described anew each time. */
static int chain(struct morphing *m, const struct plan *p, struct random *r, struct json_writer *w, struct err *e) {
    struct edit_layer l = p->layer;
    int status = 0, second;
    for (int64_t k = 1; k < p->parts && !status; k++) {
        status = pieces_split(&second, m->graph, &l, &p->split, p->tail.activation, r, w, e);
        if (!status) status = edit_layer(&l, m->graph, p->layer.node, e);
    }
    return status;
}

/* ---- branches ---- */

/* Weights times share, in double; the last branch has what the others leave. */
static int share_weights(struct array **out, struct array *left, double share, bool last, struct err *e) {
    int status = array_new(out, DT_FLOAT64, &left->shape, e);
    double *to = status ? NULL : (*out)->data, *from = left->data;
    for (size_t i = 0; i < left->count && to; i++) {
        to[i] = last ? from[i] : from[i] * share;
        from[i] -= to[i];
    }
    return status;
}

/* The layer, and as many more beside it as there are branches, which add up to what it made. The layer's branch carries
 * its training on. */
static int branch_out(int *branches, struct graph *g, const struct plan *p, const char *stem, struct err *e) {
    struct array *left = NULL, *weights;
    struct origin *origin = NULL;
    const struct array *a = g->values[p->layer.weights].constant;
    int sink = g->nodes[p->layer.node].outputs[0], input = g->nodes[p->layer.node].inputs[0], so_far, sum, made, in[2];
    int status = array_new(&left, DT_FLOAT64, &a->shape, e);
    if (!status) array_to_double(left->data, a, 0, a->count);
    if (!status) status = origin_begin(&origin, g, p->layer.weights, e);
    if (!status) status = edit_split_value(&so_far, g, sink, stem, "branch", e);
    branches[0] = p->layer.node;
    for (int64_t k = 0; k < p->parts && !status; k++) {
        status = share_weights(&weights, left, 1.0 / (double)(p->parts - k), k == p->parts - 1, e);
        if (status) break;
        if (k == 0) {
            graph_replace_constant_take(g, p->layer.weights, weights);
            status = origin_end(g, p->layer.weights, origin, 0, NULL, e);
            origin = NULL;
            continue;
        }
        in[0] = input;
        status = edit_add_constant_take(&in[1], g, stem, "branch_weight", weights, e);
        if (!status) status = edit_add_value(&made, g, stem, "branch", e);
        if (!status) status = edit_add_like(&branches[k], g, p->layer.node, stem, "branch", input, made, e);
        if (status) break;
        g->nodes[branches[k]].inputs[1] = in[1];
        if (g->nodes[branches[k]].n_inputs > 2) g->nodes[branches[k]].n_inputs = 2; /* one bias is enough */
        sum = sink;
        if (k < p->parts - 1) status = edit_add_value(&sum, g, stem, "branches", e);
        if (!status) status = edit_add_node(NULL, g, "Add", stem, "branches", (int[]){so_far, made}, 2, sum, e);
        so_far = sum;
    }
    array_free(left);
    origin_free(origin);
    return status;
}

static int stack(struct morphing *m, const struct plan *p, struct random *r, struct json_writer *w, struct err *e) {
    char stem[GRAPH_MAX_NAME + 1];
    struct edit_layer l;
    int branches[8], second;
    text_copy(stem, sizeof stem, m->graph->nodes[p->layer.node].name);
    int status = branch_out(branches, m->graph, p, stem, e);
    for (int64_t k = 0; k < p->parts && !status; k++) {
        status = edit_layer(&l, m->graph, branches[k], e);
        if (!status) status = pieces_split(&second, m->graph, &l, &p->split, p->tail.activation, r, w, e);
    }
    return status;
}

/* ---- the step ---- */

static int subnet_apply(struct morphing *m, const int *nodes, int n, const struct morph_step *s, struct json_writer *w,
                        struct err *e) {
    int status = 0;
    if (w) json_open_array(w, "factors");
    for (int i = 0; i < n && !status; i++) {
        struct random r = random_split(&m->random, (uint64_t)nodes[i]);
        struct plan p;
        status = make_plan(&p, m, nodes[i], s, e);
        if (!status) status = edit_afford(m, (double)p.parts * pieces_weights(&p.layer, &p.split), e);
        if (!status) status = edit_afford_groups(m, p.layer.group, sizeof(struct module_filters), e);
        if (!status) status = is_stacked(s) ? stack(m, &p, &r, w, e) : chain(m, &p, &r, w, e);
        if (status) err_prefix(e, "'%s'", m->graph->nodes[nodes[i]].name);
    }
    if (w) json_close_array(w);
    m->random = random_split(&m->random, (uint64_t)m->graph->n_nodes);
    return status ? status : morphing_finish(m, e);
}

static const char *const samples[] = {
    "{\"op\":\"subnet\",\"layer\":\"*\"}",
    "{\"op\":\"subnet\",\"layer\":\"*\",\"parts\":2,\"size\":[1,3]}",
    "{\"op\":\"subnet\",\"layer\":\"*\",\"mode\":\"stacked\"}",
    "{\"op\":\"subnet\",\"layer\":\"*\",\"mode\":\"stacked\",\"parts\":3,\"to\":12}",
    NULL,
};

const struct morph_kind morph_subnet = {
    .name = "subnet",
    .summary = "several layers in the place of one: a chain, or branches that are added",
    .takes = "parts to size",
    .modes = "sequential stacked",
    .parametric = true,
    .samples = samples,
    .can = subnet_can,
    .apply = subnet_apply,
};

/* deepen.c - another layer behind a layer.
 *
 *   identity   Net2DeeperNet (Chen et al. 2016, arXiv:1511.05641): a layer that computes the identity, and the activation
 *              once more. Exact where the activation is idempotent: Relu, Clip, Abs, none. With a normalisation if the
 *              layer has one and there are data for its statistics: in inference any statistics make it the identity,
 *              but the first step of a training would see others.
 *   netmorph   the depth morph of Network Morphism (Wei et al. 2016, arXiv:1603.01670): the layer as two dense ones with a
 *              P-activation in between, see pieces.h. Exact whatever activation follows. `to`: channels in between, those
 *              of the layer by default; `size`: the second kernel
 *
 * An identity never stands between a layer and its normalisation, or between a sum and what it adds up. It has no
 * stride and no dilation, and a centre. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/nn/op.h"
#include "engine/surgery/pieces.h"

/* What the identity is put behind. */
struct place {
    struct edit_layer layer;
    struct edit_tail tail;
    int64_t kernel[2];
    struct morph_statistics statistics; /* mean NULL: no normalisation */
};

static void place_fini(struct place *p) {
    mem_free(p->statistics.mean);
    mem_free(p->statistics.variance);
}

/* Kernel of the identity: `size`, or 3 where the layer looks around itself. */
static int choose_kernel(struct place *p, const struct morph_step *s, struct err *e) {
    for (int d = 0; d < 2; d++) {
        bool axis = d >= 2 - p->layer.axes;
        p->kernel[d] = !axis ? 1 : s->n_size ? s->size[d] : p->layer.kernel[d] > 1 ? 3 : 1;
        if (p->kernel[d] % 2 == 0)
            return err_set(e, E_INVALID, "a kernel of %lld has no centre, which an identity needs",
                           (long long)p->kernel[d]);
    }
    return 0;
}

static int find_place(struct place *p, struct morphing *m, int node, const struct morph_step *s, struct err *e) {
    const struct graph *g = m->graph;
    const struct uses *u;
    *p = (struct place){0};
    int status = morphing_uses(&u, m, e);
    if (!status) status = edit_layer(&p->layer, g, node, e);
    if (!status) status = choose_kernel(p, s, e);
    if (status) return status;
    edit_tail(&p->tail, g, u, node);
    const struct shape *made = &g->values[p->tail.end].shape;
    int channels = p->layer.axes ? 1 : made->rank - 1;
    if (made->rank < 2 || made->dim[channels] != p->layer.out)
        return err_set(e, E_UNSUPPORTED, "the shape of what it makes is not known");
    if (p->tail.activation < 0 || edit_activation(g, &g->nodes[p->tail.activation])->idempotent) return 0;
    const struct node *n = &g->nodes[p->tail.activation];
    return err_set(
        e, E_UNSUPPORTED,
        "its activation '%s' (%s) applied twice is not what it is once, so an identity behind it changes the "
        "function; mode netmorph does not",
        n->name, n->op->name);
}

/* ---- the identity ---- */

/* The identity's weights; in groups like those of the layer, each with channels of its own. */
static int add_identity(int *out, struct graph *g, const struct place *p, const char *stem, const struct morph_step *s,
                        struct random *r, struct err *e) {
    int64_t each = p->layer.out / p->layer.group;
    struct shape shape = {.rank = 2 + p->layer.axes, .dim = {p->layer.out, each}};
    for (int i = 0; i < p->layer.axes; i++) shape.dim[2 + i] = p->kernel[2 - p->layer.axes + i];
    int status = edit_add_filled(out, g, stem, "deeper_weight", &shape, 0, e);
    if (status) return status;
    float *w = g->values[*out].constant->data;
    int64_t taps = p->kernel[0] * p->kernel[1];
    for (int64_t o = 0; o < p->layer.out; o++) w[(o * each + o % each) * taps + taps / 2] = 1;
    double deviation = s->noise * edit_deviation(g->values[p->layer.weights].constant);
    for (size_t i = 0; i < g->values[*out].constant->count && deviation > 0; i++)
        w[i] = (float)((double)w[i] + deviation * random_normal(r));
    return 0;
}

/* The layer itself, from value to value, with a bias unless a normalisation follows. */
static int add_layer(struct graph *g, const struct place *p, const char *stem, const struct morph_step *s,
                     struct random *r, int from, int to, struct err *e) {
    struct edit_window w = {.stride = {1, 1}, .dilation = {1, 1}};
    int in[3] = {from, VALUE_NONE, VALUE_NONE}, node, biased = VALUE_NONE;
    bool bias = !p->statistics.mean, product = !p->layer.axes && g->values[p->tail.end].shape.rank != 2;
    struct shape vector = {.rank = 1, .dim = {p->layer.out}};
    int status = add_identity(&in[1], g, p, stem, s, r, e);
    if (!status && bias) status = edit_add_filled(&in[2], g, stem, "deeper_bias", &vector, 0, e);
    if (!status && product && bias) status = edit_add_value(&biased, g, stem, "deeper_product", e);
    if (status) return status;
    if (product) { /* rows of more than two dimensions */
        status = edit_add_node(NULL, g, "MatMul", stem, "deeper", in, 2, bias ? biased : to, e);
        if (!status && bias)
            status = edit_add_node(NULL, g, "Add", stem, "deeper_add", (int[]){biased, in[2]}, 2, to, e);
        return status;
    }
    status = edit_add_node(&node, g, p->layer.axes ? "Conv" : "Gemm", stem, "deeper", in, bias ? 3 : 2, to, e);
    if (!status && !p->layer.axes) status = graph_set_int(g, node, "transB", 1, e);
    if (status || !p->layer.axes) return status;
    for (int d = 0; d < 2; d++) w.begin[d] = w.end[d] = p->kernel[d] / 2;
    status = edit_set_window(g, node, p->layer.axes, p->kernel, &w, e);
    if (!status && p->layer.group > 1) status = graph_set_int(g, node, "group", p->layer.group, e);
    return status;
}

/* ---- its normalisation ---- */

static int add_vector(int *out, struct graph *g, const char *stem, const char *part, const double *numbers, int64_t n,
                      struct err *e) {
    struct array *a;
    int status = array_new(&a, DT_FLOAT64, &(struct shape){.rank = 1, .dim = {n}}, e);
    if (status) return status;
    memcpy(a->data, numbers, a->count * sizeof *numbers);
    return edit_add_constant_take(out, g, stem, part, a, e);
}

/* Scale sqrt(variance + epsilon), shift mean: with these very statistics the identity. */
static int add_norm(struct graph *g, const struct place *p, const char *stem, int from, int to, struct err *e) {
    const struct morph_statistics *t = &p->statistics;
    double epsilon = node_real(&g->nodes[p->tail.norm], "epsilon", 1e-5);
    double *scale = mem_calloc(t->channels + 1, sizeof *scale);
    int in[5] = {from}, node, status = scale ? 0 : err_memory(e, t->channels * sizeof *scale);
    int64_t n = (int64_t)t->channels;
    for (size_t c = 0; c < t->channels && !status; c++) scale[c] = sqrt(t->variance[c] + epsilon);
    if (!status) status = add_vector(&in[1], g, stem, "deeper_norm_scale", scale, n, e);
    if (!status) status = add_vector(&in[2], g, stem, "deeper_norm_shift", t->mean, n, e);
    if (!status) status = add_vector(&in[3], g, stem, "deeper_norm_mean", t->mean, n, e);
    if (!status) status = add_vector(&in[4], g, stem, "deeper_norm_variance", t->variance, n, e);
    if (!status) status = edit_add_node(&node, g, "BatchNormalization", stem, "deeper_norm", in, 5, to, e);
    if (!status) status = graph_set_real(g, node, "epsilon", epsilon, e);
    mem_free(scale);
    return status;
}

static int measure(struct place *p, struct morphing *m, struct err *e) {
    if (p->tail.norm < 0 || !m->data || !m->data->statistics) return 0;
    int status = m->data->statistics(&p->statistics, m->data->context, m->graph, p->tail.end, e);
    if (!status && p->statistics.channels != (size_t)p->layer.out)
        status = err_set(e, E_INTERNAL, "statistics of %zu channels for %lld", p->statistics.channels,
                         (long long)p->layer.out);
    return status;
}

/* What the identity weighs. */
static double weights_of(const struct place *p) {
    return (double)(p->layer.out * p->layer.out / p->layer.group) * (double)(p->kernel[0] * p->kernel[1]);
}

static int insert(struct morphing *m, const struct place *p, const struct morph_step *s, struct json_writer *w,
                  struct err *e) {
    struct graph *g = m->graph;
    const char *stem = g->nodes[p->layer.node].name;
    bool norm = p->statistics.mean, active = p->tail.activation >= 0;
    struct random r = random_split(&m->random, (uint64_t)p->layer.node);
    int before, linear = p->tail.end, normed = p->tail.end;
    int status = edit_split_value(&before, g, p->tail.end, stem, "shallow", e);
    if (!status && active) status = edit_add_value(&normed, g, stem, norm ? "deeper_normed" : "deeper_out", e);
    linear = normed;
    if (!status && norm) status = edit_add_value(&linear, g, stem, "deeper_out", e);
    if (!status) status = add_layer(g, p, stem, s, &r, before, linear, e);
    if (!status && norm) status = add_norm(g, p, stem, linear, normed, e);
    if (!status && active)
        status = edit_add_like(NULL, g, p->tail.activation, stem, "deeper_activation", normed, p->tail.end, e);
    if (status || !w) return status;
    json_open_object(w, NULL);
    json_put_string(w, "behind", stem);
    json_put_bool(w, "normalisation", norm);
    json_put_string(w, "activation", active ? g->nodes[p->tail.activation].op->name : "none");
    json_close_object(w);
    return 0;
}

static int insert_all(struct morphing *m, const int *nodes, int n, const struct morph_step *s, struct json_writer *w,
                      struct err *e) {
    struct place *places = mem_calloc((size_t)n + 1, sizeof *places);
    int status = places ? 0 : err_memory(e, (size_t)n * sizeof *places);
    double weights = 0;
    for (int i = 0; i < n && !status; i++) { /* measured in the graph as it was */
        status = find_place(&places[i], m, nodes[i], s, e);
        if (!status) status = measure(&places[i], m, e);
        weights += weights_of(&places[i]);
    }
    if (!status) status = edit_afford(m, weights, e);
    if (w) json_open_array(w, "inserted");
    for (int i = 0; i < n && !status; i++) status = insert(m, &places[i], s, w, e);
    if (w) json_close_array(w);
    for (int i = 0; i < n && places; i++) place_fini(&places[i]);
    mem_free(places);
    return status;
}

/* ---- the depth morph ---- */

static int find_split(struct place *p, struct split *split, struct morphing *m, int node, const struct morph_step *s,
                      struct err *e) {
    const struct uses *u;
    *p = (struct place){0};
    int status = morphing_uses(&u, m, e);
    if (!status) status = edit_own_layer(&p->layer, m->graph, u, node, e);
    if (!status) status = pieces_check(m->graph, &p->layer, e);
    if (status) return status;
    edit_tail(&p->tail, m->graph, u, node);
    *split = (struct split){.inner = s->to == PARAM_ABSENT ? p->layer.out : s->to,
                            .part = "deeper",
                            .sketch = m->sketch,
                            .memory = m->memory};
    for (int d = 0; d < 2; d++) {
        bool axis = d >= 2 - p->layer.axes;
        split->second[d] = !axis ? 1 : s->n_size ? s->size[d] : p->layer.kernel[d] > 1 ? 3 : 1;
    }
    return pieces_can_split(&p->layer, split, e);
}

static int split_all(struct morphing *m, const int *nodes, int n, const struct morph_step *s, struct json_writer *w,
                     struct err *e) {
    int status = 0;
    if (w) json_open_array(w, "factors");
    for (int i = 0; i < n && !status; i++) {
        struct random r = random_split(&m->random, (uint64_t)nodes[i]);
        struct place p;
        struct split split;
        int second;
        status = find_split(&p, &split, m, nodes[i], s, e);
        if (!status) status = edit_afford(m, pieces_weights(&p.layer, &split), e);
        if (!status) status = edit_afford_groups(m, p.layer.group, sizeof(struct module_filters), e);
        if (!status) status = pieces_split(&second, m->graph, &p.layer, &split, p.tail.activation, &r, w, e);
        if (status) err_prefix(e, "'%s'", m->graph->nodes[nodes[i]].name);
    }
    if (w) json_close_array(w);
    return status;
}

/* ---- the step ---- */

static bool is_identity(const struct morph_step *s) {
    return strcmp(s->mode, "identity") == 0;
}

static int deepen_can(struct morphing *m, int node, const struct morph_step *s, struct err *e) {
    struct place p;
    struct split split;
    if (!is_identity(s) && s->noise > 0)
        return err_set(e, E_INVALID, "netmorph takes no noise: its factors are dense and random already");
    if (is_identity(s) && s->to != PARAM_ABSENT)
        return err_set(e, E_INVALID, "mode identity takes no 'to': it has the channels of the layer");
    return is_identity(s) ? find_place(&p, m, node, s, e) : find_split(&p, &split, m, node, s, e);
}

static int deepen_apply(struct morphing *m, const int *nodes, int n, const struct morph_step *s, struct json_writer *w,
                        struct err *e) {
    int status = is_identity(s) ? insert_all(m, nodes, n, s, w, e) : split_all(m, nodes, n, s, w, e);
    m->random = random_split(&m->random, (uint64_t)m->graph->n_nodes);
    return status ? status : morphing_finish(m, e);
}

static const char *const samples[] = {
    "{\"op\":\"deepen\",\"layer\":\"*\"}",
    "{\"op\":\"deepen\",\"layer\":\"*\",\"size\":[1,5]}",
    "{\"op\":\"deepen\",\"layer\":\"*\",\"mode\":\"netmorph\"}",
    "{\"op\":\"deepen\",\"layer\":\"*\",\"mode\":\"netmorph\",\"to\":24}",
    "{\"op\":\"deepen\",\"layer\":\"*\",\"mode\":\"netmorph\",\"size\":[5,2]}",
    NULL,
};

const struct morph_kind morph_deepen = {
    .name = "deepen",
    .summary = "another layer behind a layer",
    .takes = "size to noise",
    .modes = "identity netmorph",
    .training = "the normalisation of an identity has the statistics of the data that it was measured on",
    .parametric = true,
    .samples = samples,
    .can = deepen_can,
    .apply = deepen_apply,
};

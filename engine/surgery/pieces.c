/* pieces.c - several convolutions in the place of one; see pieces.h. */
#include "engine/surgery/pieces.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/op.h"
#include "engine/surgery/carrier.h"

static bool is(const struct node *n, const char *op) {
    return strcmp(n->op->name, op) == 0;
}

/* ---- from a layer ---- */

int pieces_check(const struct graph *g, const struct edit_layer *l, struct err *e) {
    const struct node *n = &g->nodes[l->node];
    double alpha = node_real(n, "alpha", 1), beta = node_real(n, "beta", 1);
    struct edit_window unused;
    if (alpha < 1 || alpha > 1 || beta < 1 || beta > 1)
        return err_set(e, E_UNSUPPORTED, "its factors alpha and beta are %g and %g; only 1 is supported", alpha, beta);
    if (array_find_odd(g->values[l->weights].constant, true) < g->values[l->weights].constant->count)
        return err_set(e, E_UNSUPPORTED, "its weights are not all finite");
    return l->axes ? edit_window(&unused, g, l, e) : 0;
}

void pieces_of_layer(struct pieces *p, struct graph *g, const struct edit_layer *l, int activation) {
    const struct node *n = &g->nodes[l->node];
    *p = (struct pieces){
        .graph = g,
        .node = l->node,
        .source = n->inputs[0],
        .sink = n->outputs[0],
        .axes = l->axes,
        .product = is(n, "MatMul"),
        .transposed = l->transposed,
        .bias = l->bias,
        .group = (int)l->group,
        .kernel = {(int)l->kernel[0], (int)l->kernel[1]},
        .like = activation,
    };
    text_copy(p->stem, sizeof p->stem, n->name);
}

int pieces_filter(struct filter *out, const struct graph *g, const struct edit_layer *l, int group, struct err *e) {
    const struct array *w = g->values[l->weights].constant;
    int rows = (int)(l->out / l->group), columns = (int)(l->in / l->group);
    int status = filter_init(out, rows, columns, (int)l->kernel[0], (int)l->kernel[1], e);
    if (status) return status;
    if (l->axes || l->transposed) {
        array_to_double(out->data, w, (size_t)group * filter_count(out), filter_count(out));
        return 0;
    }
    for (size_t i = 0; i < (size_t)columns; i++)
        for (size_t o = 0; o < (size_t)rows; o++)
            array_to_double(&out->data[o * (size_t)columns + i], w, i * (size_t)rows + o, 1);
    return 0;
}

struct filter_window pieces_window(const struct edit_window *w) {
    struct filter_window out;
    for (int d = 0; d < 2; d++) {
        out.stride[d] = (int)w->stride[d];
        out.dilation[d] = (int)w->dilation[d];
        out.begin[d] = (int)w->begin[d];
        out.end[d] = (int)w->end[d];
    }
    return out;
}

/* ---- weights ---- */

/* The filters of all groups, one after another, as the operator stores them, in double. */
static void lay_out(double *to, const struct pieces *p, const struct module_filters *filters, int edge) {
    for (int k = 0; k < p->group; k++) {
        const struct filter *f = &filters[k].filters[edge];
        size_t n = filter_count(f), rows = (size_t)f->out, columns = (size_t)f->in;
        if (p->axes || p->transposed)
            memcpy(to + (size_t)k * n, f->data, n * sizeof *to);
        else
            for (size_t i = 0; i < n; i++) to[i % columns * rows + i / columns] = f->data[i];
    }
}

static bool all_float32(const double *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double rounded = (double)(float)x[i];
        if (rounded < x[i] || rounded > x[i]) return false;
    }
    return true;
}

static int weights_of(struct array **out, const struct pieces *p, const struct module_filters *filters, int edge,
                      struct err *e) {
    const struct filter *f = &filters[0].filters[edge];
    bool flip = !p->axes && !p->transposed;
    struct shape shape = {.rank = 2 + p->axes, .dim = {(int64_t)f->out * p->group, f->in, f->h, f->w}};
    if (flip) shape.dim[0] = f->in, shape.dim[1] = f->out;
    if (p->axes == 1) shape.dim[2] = f->w;
    struct array *wide, *narrow;
    int status = array_new(&wide, DT_FLOAT64, &shape, e);
    if (status) return status;
    lay_out(wide->data, p, filters, edge);
    *out = wide;
    if (!all_float32(wide->data, wide->count)) return 0;
    status = array_new(&narrow, DT_FLOAT32, &shape, e);
    if (!status) array_to_float(narrow->data, wide, 0, wide->count);
    array_free(wide);
    if (!status) *out = narrow;
    return status;
}

/* ---- nodes ---- */

static int set_attributes(const struct pieces *p, int node, const struct filter *f, const struct filter_window *w,
                          struct err *e) {
    struct graph *g = p->graph;
    if (!p->axes) return p->product || !p->transposed ? 0 : graph_set_int(g, node, "transB", 1, e);
    int64_t kernel[2] = {f->h, f->w};
    struct edit_window window;
    for (int d = 0; d < 2; d++) {
        window.stride[d] = w->stride[d];
        window.dilation[d] = w->dilation[d];
        window.begin[d] = w->begin[d];
        window.end[d] = w->end[d];
    }
    int status = edit_set_window(g, node, p->axes, kernel, &window, e);
    return status || p->group == 1 ? status : graph_set_int(g, node, "group", p->group, e);
}

/* One edge as a new node, or as the layer. *value: its weights. */
static int put_edge(int *value, const struct pieces *p, const struct module_filters *filters, int edge, bool old,
                    bool biased, int from, int to, const struct filter_window *w, struct err *e) {
    struct graph *g = p->graph;
    struct array *weights;
    int in[3] = {from, VALUE_NONE, p->bias}, node = p->node;
    char part[PIECES_PART + 8];
    text_print(part, sizeof part, "%s_weight", p->parts[edge]);
    int status = weights_of(&weights, p, filters, edge, e);
    if (status) return status;
    if (old) {
        struct node *n = &g->nodes[node];
        graph_replace_constant_take(g, n->inputs[1], weights);
        if (!biased && n->n_inputs > 2) n->n_inputs = 2;
        n->outputs[0] = to;
        g->values[to].producer = node;
    } else {
        const char *op = p->axes ? "Conv" : p->product ? "MatMul" : "Gemm";
        status = edit_add_constant_take(&in[1], g, p->stem, part, weights, e);
        if (!status)
            status = edit_add_node(&node, g, op, p->stem, p->parts[edge], in, biased && p->bias != VALUE_NONE ? 3 : 2,
                                   to, e);
    }
    if (!status) *value = g->nodes[node].inputs[1];
    return status ? status : set_attributes(p, node, &filters[0].filters[edge], w, e);
}

/* What is left of a shortcut: a multiple of the identity, which takes no layer. *by times the source. */
static bool scales(double *by, const struct pieces *p, const struct module *m, const struct module_filters *filters,
                   int edge) {
    const struct filter *f = &filters[0].filters[edge];
    bool direct = m->edges[edge].from == 0 && m->edges[edge].to == m->n_vertices - 1;
    if (p->node >= 0 || !direct || f->h != 1 || f->w != 1 || f->out != f->in) return false;
    *by = f->data[0];
    if (!all_float32(by, 1)) return false;
    for (int i = 0; i < f->out * f->in; i++) {
        double wish = i % (f->in + 1) ? 0 : *by;
        if (f->data[i] < wish || f->data[i] > wish) return false;
    }
    return true;
}

static int put_scale(const struct pieces *p, int edge, double by, int from, int to, struct err *e) {
    int number;
    char part[PIECES_PART + 8];
    text_print(part, sizeof part, "%s_share", p->parts[edge]);
    int status = edit_add_literal(&number, p->graph, p->stem, part, by, e);
    if (status) return status;
    return edit_add_node(NULL, p->graph, "Mul", p->stem, p->parts[edge], (int[]){from, number}, 2, to, e);
}

int pieces_activation(struct graph *g, const char *stem, const char *part, int from, int to, int64_t channels, int axes,
                      int like, struct err *e) {
    struct shape shape = edit_channel_shape(channels, axes);
    char text[PIECES_PART + 24];
    bool rectifies = like < 0 || is(&g->nodes[like], "Relu") || is(&g->nodes[like], "LeakyRelu") ||
                     is(&g->nodes[like], "PRelu") || is(&g->nodes[like], "Exp"); /* no inf times 0 */
    int numbers, bent, off, share, status;
    text_print(text, sizeof text, "%s_%s", part, rectifies ? "slope" : "blend");
    status = edit_add_filled(&numbers, g, stem, text, &shape, rectifies, e);
    text_print(text, sizeof text, "%s_activation", part);
    if (status) return status;
    if (rectifies) return edit_add_node(NULL, g, "PRelu", stem, text, (int[]){from, numbers}, 2, to, e);
    status = edit_add_value(&bent, g, stem, text, e);
    if (!status) status = edit_add_like(NULL, g, like, stem, text, from, bent, e);
    text_print(text, sizeof text, "%s_difference", part);
    if (!status) status = edit_add_value(&off, g, stem, text, e);
    if (!status) status = edit_add_node(NULL, g, "Sub", stem, text, (int[]){bent, from}, 2, off, e);
    text_print(text, sizeof text, "%s_share", part);
    if (!status) status = edit_add_value(&share, g, stem, text, e);
    if (!status) status = edit_add_node(NULL, g, "Mul", stem, text, (int[]){off, numbers}, 2, share, e);
    text_print(text, sizeof text, "%s_blended", part);
    if (!status) status = edit_add_node(NULL, g, "Add", stem, text, (int[]){from, share}, 2, to, e);
    return status;
}

/* ---- the whole ---- */

/* Values in front of and behind the activations of the vertices. */
struct vertices {
    int before[MODULE_VERTICES], behind[MODULE_VERTICES], n_in[MODULE_VERTICES];
};

static int put_vertices(struct vertices *v, const struct pieces *p, const struct module *m, struct err *e) {
    int last = m->n_vertices - 1, status = 0;
    *v = (struct vertices){.behind = {p->source}};
    v->before[last] = p->sink;
    for (int k = 0; k < m->n_edges; k++) v->n_in[m->edges[k].to]++;
    for (int i = 1; i < last && !status; i++) {
        const char *part = p->parts[m->n_edges + i];
        char text[PIECES_PART + 8];
        text_print(text, sizeof text, "%s_in", part);
        status = edit_add_value(&v->before[i], p->graph, p->stem, text, e);
        text_print(text, sizeof text, "%s_out", part);
        if (!status) status = edit_add_value(&v->behind[i], p->graph, p->stem, text, e);
        if (!status)
            status = pieces_activation(p->graph, p->stem, part, v->before[i], v->behind[i],
                                       (int64_t)m->channels[i] * p->group, p->axes, p->like, e);
    }
    return status;
}

/* The edge that becomes the layer: the last from source to sink, of the layer's kernel if there is one, which then carries
 * its training on (carrier_find) and must have the bias beside it; else the first from the source. */
static int choose_old(const struct pieces *p, const struct module *m) {
    int first = -1, direct = -1;
    for (int k = m->n_edges - 1; k >= 0 && p->node >= 0; k--) {
        const struct module_edge *edge = &m->edges[k];
        if (edge->from != 0) continue;
        first = k;
        if (edge->to != m->n_vertices - 1) continue;
        if (edge->h == p->kernel[0] && edge->w == p->kernel[1]) return k;
        if (direct < 0) direct = k;
    }
    return direct < 0 ? first : direct;
}

/* The edge into the sink that has the bias: the layer if it is one, else the first. */
static int choose_biased(const struct module *m, int old) {
    if (old >= 0 && m->edges[old].to == m->n_vertices - 1) return old;
    for (int k = 0; k < m->n_edges; k++)
        if (m->edges[k].to == m->n_vertices - 1) return k;
    return -1;
}

/* sum = sum so far + one more edge; the last sum is the vertex. */
static int put_sum(const struct pieces *p, const char *part, int *so_far, int more, int to, struct err *e) {
    char text[PIECES_PART + 8];
    int sum = to, status = 0;
    text_print(text, sizeof text, "%s_sum", part);
    if (to == VALUE_NONE) status = edit_add_value(&sum, p->graph, p->stem, text, e);
    if (!status) status = edit_add_node(NULL, p->graph, "Add", p->stem, text, (int[]){*so_far, more}, 2, sum, e);
    *so_far = sum;
    return status;
}

static int put_all(int weights[MODULE_EDGES], const struct pieces *p, const struct module *m,
                   const struct module_filters *filters, const struct filter_window *windows, struct err *e) {
    struct graph *g = p->graph;
    struct vertices v;
    int old = choose_old(p, m), biased = choose_biased(m, old), seen[MODULE_VERTICES] = {0};
    int sum[MODULE_VERTICES], status = 0;
    g->values[p->sink].producer = -1;
    status = put_vertices(&v, p, m, e);
    for (int k = 0; k < m->n_edges && !status; k++) {
        int to = m->edges[k].to, into = v.before[to], from = v.behind[m->edges[k].from];
        double by;
        if (v.n_in[to] > 1) status = edit_add_value(&into, g, p->stem, p->parts[k], e);
        if (!status && scales(&by, p, m, filters, k))
            status = put_scale(p, k, by, from, into, e);
        else if (!status)
            status = put_edge(&weights[k], p, filters, k, k == old, k == biased, from, into, &windows[k], e);
        if (status || v.n_in[to] == 1) continue;
        if (!seen[to]++)
            sum[to] = into;
        else
            status = put_sum(p, p->parts[m->n_edges + to], &sum[to], into,
                             seen[to] == v.n_in[to] ? v.before[to] : VALUE_NONE, e);
    }
    return status;
}

int pieces_put(const struct pieces *p, const struct module *m, const struct module_filters *filters,
               const struct filter_window *windows, struct err *e) {
    int weights[MODULE_EDGES], old = p->node < 0 ? VALUE_NONE : p->graph->nodes[p->node].inputs[1];
    struct origin *origin = NULL;
    struct carrier carrier = {.edge = -1};
    int status = old == VALUE_NONE ? 0 : origin_begin(&origin, p->graph, old, e);
    if (!status && origin) status = carrier_find(&carrier, m, filters, p->group, p->kernel, e);
    if (!status) status = put_all(weights, p, m, filters, windows, e);
    if (status || carrier.edge < 0) {
        array_free(carrier.map);
        origin_free(origin);
        return status;
    }
    int dim = !p->axes && !p->transposed ? !carrier.dim : carrier.dim;
    return origin_end(p->graph, weights[carrier.edge], origin, dim, carrier.map, e);
}

/* ---- the depth morph ---- */

int pieces_can_split(const struct edit_layer *l, const struct split *s, struct err *e) {
    int64_t least = l->out < l->in ? l->out : l->in;
    if (s->inner % l->group)
        return err_set(e, E_INVALID, "it has %lld groups, which %lld channels do not suit", (long long)l->group,
                       (long long)s->inner);
    if (s->inner < least)
        return err_set(e, E_INVALID, "with %lld channels in between it is not exact; at least %lld are needed",
                       (long long)s->inner, (long long)least);
    return 0;
}

double pieces_weights(const struct edit_layer *l, const struct split *s) {
    double first = (double)(l->in * l->kernel[0] * l->kernel[1]),
           second = (double)(l->out * s->second[0] * s->second[1]);
    return (double)(s->inner / l->group) * (first + second);
}

static const char *way_name(enum factor_way way) {
    return way == FACTOR_GENERAL ? "general" : "practical";
}

/* The factors of all groups. */
struct factors {
    struct module_filters *filters; /* [groups], of two edges */
    struct factor_pair pair;        /* what they have in common: figures, margins, offset */
    double residual, gain;          /* the largest; gain: norms of both factors / norm of the filter */
    bool alike;                     /* the parent's taps are in the same place in all */
    bool general;                   /* some group was split in the general way */
};

static void factors_fini(struct factors *f, const struct edit_layer *l) {
    for (int k = 0; k < l->group && f->filters; k++) module_filters_fini(&f->filters[k]);
    mem_free(f->filters);
    f->filters = NULL;
}

static void take_group(struct factors *f, int k, struct factor_pair *found, double norm) {
    double gain = filter_norm(&found->first) * filter_norm(&found->second);
    f->residual = fmax(f->residual, found->residual);
    f->gain = fmax(f->gain, norm > 0 ? gain / norm : 0);
    f->general = f->general || found->way == FACTOR_GENERAL;
    f->filters[k].filters[0] = found->first;
    f->filters[k].filters[1] = found->second;
    found->first.data = found->second.data = NULL;
    for (int i = 0; k && i < 2; i++) f->alike = f->alike && found->offset[i] == f->pair.offset[i];
    for (int i = 0; k && i < 4; i++) { /* zeros that all groups have */
        if (f->pair.margins1[i] < found->margins1[i]) found->margins1[i] = f->pair.margins1[i];
        if (f->pair.margins2[i] < found->margins2[i]) found->margins2[i] = f->pair.margins2[i];
    }
    f->pair = *found;
}

static int split_groups(struct factors *f, struct graph *g, const struct edit_layer *l, const struct split *s,
                        enum factor_way way, double gain, struct random *r, struct err *e) {
    struct factor_options o = {.inner = (int)(s->inner / l->group),
                               .first = {(int)l->kernel[0], (int)l->kernel[1]},
                               .second = {(int)s->second[0], (int)s->second[1]},
                               .way = way,
                               .gain = gain,
                               .sketch = s->sketch,
                               .memory = s->memory};
    int status = 0;
    *f = (struct factors){.filters = mem_calloc((size_t)l->group, sizeof *f->filters), .alike = true};
    if (!f->filters) return err_memory(e, (size_t)l->group * sizeof *f->filters);
    for (int k = 0; k < l->group && !status; k++) {
        struct filter part = {0};
        struct factor_pair found = {0};
        status = pieces_filter(&part, g, l, k, e);
        if (!status) status = factor_split(&found, &part, &o, r, e);
        if (!status) take_group(f, k, &found, filter_norm(&part));
        filter_fini(&part);
    }
    return status;
}

/* Dense factors of a system that is hardly determined are so large that float32 loses digits where they cancel: above
 * this gain, or when the groups differ, the practical way is tried, whose factors are no larger than they must be. A chain
 * may have the gain of two such splits, which is what the usual three layers have: longer ones, less for each. */
#define GAIN_MOST 12

static double gain_most(const struct split *s) {
    return s->chain > 2 ? pow(GAIN_MOST, 2.0 / (double)s->chain) : GAIN_MOST;
}

static int split_well(struct factors *f, struct graph *g, const struct edit_layer *l, const struct split *s,
                      struct random *r, struct err *e) {
    struct factors other = {0};
    int status = split_groups(f, g, l, s, FACTOR_ANY, 0, r, e);
    if (status || s->sketch || (f->alike && (!f->general || f->gain <= gain_most(s)))) return status;
    status = split_groups(&other, g, l, s, FACTOR_PRACTICAL, gain_most(s), r, e);
    if (!status && other.alike && (other.gain < f->gain || !f->alike)) {
        struct factors swap = *f;
        *f = other;
        other = swap;
    }
    factors_fini(&other, l);
    if (!status && !f->alike)
        status = err_set(e, E_UNSUPPORTED, "its groups, of an even kernel, do not split alike; grow the kernel first");
    return status;
}

static void tell_split(struct json_writer *w, const struct pieces *p, const struct factors *f) {
    if (!w) return;
    json_open_object(w, NULL);
    json_put_string(w, "layer", p->stem);
    json_put_string(w, "way", way_name(f->pair.way));
    json_put_string(w, "solved", f->pair.solved_first ? "first" : "second");
    json_put_number(w, "residual", f->residual);
    json_put_number(w, "gain", f->gain);
    json_put_int(w, "rank", f->pair.rank);
    json_put_int(w, "equations", f->pair.equations);
    json_put_int(w, "unknowns", f->pair.unknowns);
    json_put_int(w, "sweeps", f->pair.sweeps);
    json_close_object(w);
}

int pieces_split(int *second, struct graph *g, const struct edit_layer *l, const struct split *s, int activation,
                 struct random *r, struct json_writer *w, struct err *e) {
    struct module m = {.n_vertices = 3, .n_edges = 2, .edges = {{.from = 0, .to = 1}, {.from = 1, .to = 2}}};
    struct filter_window windows[2], parent = {.stride = {1, 1}, .dilation = {1, 1}};
    struct filter shape = {.h = (int)l->kernel[0], .w = (int)l->kernel[1]};
    struct factors factors = {0};
    struct edit_window window;
    struct pieces p;
    char parts[5][PIECES_PART] = {""};
    int status = 0;
    pieces_of_layer(&p, g, l, activation);
    p.parts = parts;
    text_copy(parts[1], PIECES_PART, s->part);
    text_copy(parts[3], PIECES_PART, "between");
    if (l->axes) status = edit_window(&window, g, l, e);
    if (!status && l->axes) parent = pieces_window(&window);
    if (!status) status = split_well(&factors, g, l, s, r, e);
    if (!status) {
        m.channels[0] = (int)(l->in / l->group);
        m.channels[1] = (int)(s->inner / l->group);
        m.channels[2] = (int)(l->out / l->group);
        factor_windows(&windows[0], &windows[1], &factors.pair, &shape, &parent, false);
        status = pieces_put(&p, &m, factors.filters, windows, e);
    }
    if (!status) tell_split(w, &p, &factors);
    if (!status) *second = g->values[p.sink].producer;
    factors_fini(&factors, l);
    return status;
}

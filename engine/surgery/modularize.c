/* modularize.c - a module in the place of an edge: Modularized Morphing (Wei et al. 2017, arXiv:1701.03281).
 *
 * The edge is a layer, or the identity shortcut of a residual block, which is named by its Add; a shortcut is split into
 * 0.5 x + 0.5 x, of which a chain of convolutions takes one half (or two chains both). What the module looks like is a
 * recipe - 1c1, 3c1, 3c3, 1c1_2branch; with "-half" behind it only every other of the edges that match, the first, the
 * third and so on - or `edges`. Filters come from module.h, nodes from pieces.h. There are no normalisations inside:
 * without data they would not be exact. */
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/op.h"
#include "engine/surgery/pieces.h"

enum { LOOK_BACK = 4096 }; /* nodes that a block may have */

/* What the module replaces. */
struct edge {
    bool shortcut;
    struct edit_layer layer; /* of a shortcut: what it is as a layer */
    int activation;
    int operand; /* of the Add */
};

struct plan {
    struct edge edge;
    struct module module; /* of one group */
    char parts[MODULE_EDGES + MODULE_VERTICES][PIECES_PART];
};

/* ---- edges of the network ---- */

/* Whether b is computed from a, over at most LOOK_BACK nodes. */
static int leads_to(bool *out, const struct graph *g, int a, int b, struct err *e) {
    int low = g->values[a].producer, high = g->values[b].producer;
    *out = false;
    if (high <= low || high - low > LOOK_BACK) return 0;
    bool *needed = mem_calloc((size_t)(high - low), sizeof *needed); /* node low + 1 + i */
    if (!needed) return err_memory(e, (unsigned)(high - low));
    needed[high - low - 1] = true;
    for (int i = high; i > low && !*out; i--)
        for (int k = 0; needed[i - low - 1] && k < g->nodes[i].n_inputs; k++) {
            int v = g->nodes[i].inputs[k], producer = v == VALUE_NONE ? -1 : g->values[v].producer;
            *out = *out || v == a;
            if (producer > low) needed[producer - low - 1] = true;
        }
    mem_free(needed);
    return 0;
}

static int find_shortcut(struct edge *out, const struct graph *g, int node, struct err *e) {
    const struct node *n = &g->nodes[node];
    const struct shape *s = &g->values[n->outputs[0]].shape;
    *out = (struct edge){.shortcut = true, .activation = -1, .operand = -1};
    for (int k = 0; k < 2 && out->operand < 0; k++) {
        int a = n->inputs[k], b = n->inputs[!k];
        bool leads = false;
        int status = g->values[a].constant || g->values[b].constant ? 0 : leads_to(&leads, g, a, b, e);
        if (status) return status;
        if (leads && shape_equal(&g->values[a].shape, s) && shape_equal(&g->values[b].shape, s)) out->operand = k;
    }
    if (out->operand < 0)
        return err_set(e, E_UNSUPPORTED, "it adds no residual block to the block's own input: there is no shortcut");
    if ((s->rank != 2 && s->rank != 4) || s->dim[1] < 1 || s->dim[1] > 1 << 20)
        return err_set(e, E_UNSUPPORTED, "its shortcut is neither a map with channels nor rows of numbers");
    out->layer = (struct edit_layer){.node = -1,
                                     .weights = VALUE_NONE,
                                     .bias = VALUE_NONE,
                                     .axes = s->rank - 2,
                                     .transposed = true,
                                     .out = s->dim[1],
                                     .in = s->dim[1],
                                     .group = 1,
                                     .kernel = {1, 1}};
    return 0;
}

static int find_edge(struct edge *out, struct morphing *m, int node, struct err *e) {
    const struct uses *u;
    struct edit_tail tail;
    if (strcmp(m->graph->nodes[node].op->name, "Add") == 0) return find_shortcut(out, m->graph, node, e);
    *out = (struct edge){.operand = -1};
    int status = morphing_uses(&u, m, e);
    if (!status) status = edit_own_layer(&out->layer, m->graph, u, node, e);
    if (!status) status = pieces_check(m->graph, &out->layer, e);
    if (status) return status;
    edit_tail(&tail, m->graph, u, node);
    out->activation = tail.activation;
    return 0;
}

/* ---- modules ---- */

static bool by_halves(const struct morph_step *s) {
    size_t n = strlen(s->recipe);
    return n > 5 && strcmp(s->recipe + n - 5, "-half") == 0;
}

static int64_t odd(int64_t kernel) {
    return kernel | 1;
}

/* The name of the module that is meant. */
static void recipe_of(char name[MORPH_WORD_SIZE], const struct morph_step *s) {
    text_copy(name, MORPH_WORD_SIZE, s->recipe);
    if (by_halves(s)) name[strlen(name) - 5] = '\0';
}

static int module_check_step(const struct morph_step *s, const char *at, struct err *e) {
    char pointer[JSON_POINTER_SIZE], name[MORPH_WORD_SIZE];
    struct module unused;
    struct err why = {0};
    text_print(pointer, sizeof pointer, "%s/%s", at, s->n_edges ? "to" : "recipe");
    if (s->n_edges && s->to != PARAM_ABSENT)
        return err_set_at(e, E_INVALID, pointer,
                          "'to' is for recipes; 'edges' say themselves how many channels they lead to");
    if (s->n_edges) return 0;
    recipe_of(name, s);
    if (!module_named(&unused, name, 1, 1, 1, 1, 1, &why)) return 0;
    return err_set_at(e, E_INVALID, pointer, "%s, and each with -half behind it", why.text);
}

static int from_recipe(struct plan *p, const struct morph_step *s, struct err *e) {
    const struct edit_layer *l = &p->edge.layer;
    struct split inside = {.inner = s->to == PARAM_ABSENT ? l->out : s->to};
    char name[MORPH_WORD_SIZE];
    recipe_of(name, s);
    int status = pieces_can_split(l, &inside, e);
    if (!status)
        status = module_named(&p->module, name, (int)(l->in / l->group), (int)(inside.inner / l->group),
                              (int)(l->out / l->group), (int)odd(l->kernel[0]), (int)odd(l->kernel[1]), e);
    for (int k = 0; k < p->module.n_edges && !status && l->axes == 1; k++) p->module.edges[k].h = 1;
    for (int k = 0; k < p->module.n_edges && !status && l->axes == 0; k++)
        p->module.edges[k].h = p->module.edges[k].w = 1;
    for (int v = 0; v < p->module.n_vertices && !status; v++)
        text_print(p->parts[p->module.n_edges + v], PIECES_PART, "%s",
                   v == 0                          ? "s"
                   : v == p->module.n_vertices - 1 ? "t"
                   : v == 1                        ? "a"
                                                   : "b");
    return status;
}

/* The number of a vertex of that name; a new one for a new name. */
static int vertex_of(struct plan *p, char names[MODULE_VERTICES][MORPH_WORD_SIZE], const char *name) {
    for (int v = 0; v < p->module.n_vertices; v++)
        if (strcmp(names[v], name) == 0) return v;
    if (p->module.n_vertices == MODULE_VERTICES - 1) return -1;
    text_copy(names[p->module.n_vertices], MORPH_WORD_SIZE, name);
    return p->module.n_vertices++;
}

/* Channels of the blob that an edge leads to: what this edge says, or one before it (`asked`, 0: none), or the layer's. */
static int blob_channels(int64_t *channels, int64_t *asked, const struct edit_layer *l, const struct morph_edge *edge,
                         struct err *e) {
    bool asks = edge->channels != PARAM_ABSENT;
    *channels = asks ? edge->channels : *asked ? *asked : l->out;
    if (asks && *asked && *asked != *channels)
        return err_set(e, E_INVALID, "'%s' cannot have %lld channels and %lld as well", edge->to, (long long)*asked,
                       (long long)*channels);
    if (asks) *asked = *channels;
    if (strcmp(edge->to, "t") == 0 && *channels != l->out)
        return err_set(e, E_INVALID, "the sink has %lld channels, not %lld", (long long)l->out, (long long)*channels);
    return *channels % l->group == 0
               ? 0
               : err_set(e, E_INVALID, "it has %lld groups, which %lld channels of '%s' do not suit",
                         (long long)l->group, (long long)*channels, edge->to);
}

/* The sink gets its number when all others have theirs. */
static int from_edges(struct plan *p, const struct morph_step *s, struct err *e) {
    const struct edit_layer *l = &p->edge.layer;
    char names[MODULE_VERTICES][MORPH_WORD_SIZE] = {"s"};
    struct module *m = &p->module;
    int64_t asked[MODULE_VERTICES + 1] = {0}; /* of each blob by an edge before; the sink's last */
    m->n_vertices = 1;
    m->channels[0] = (int)(l->in / l->group);
    for (int k = 0; k < s->n_edges; k++) {
        const struct morph_edge *from = &s->edges[k];
        struct module_edge *to = &m->edges[m->n_edges++];
        to->from = strcmp(from->from, "t") == 0 ? MODULE_VERTICES : vertex_of(p, names, from->from);
        to->to = strcmp(from->to, "t") == 0 ? MODULE_VERTICES : vertex_of(p, names, from->to);
        if (to->from < 0 || to->to < 0)
            return err_set(e, E_TOO_LARGE, "a module has at most %d blobs", MODULE_VERTICES);
        to->h = l->axes < 2 ? 1 : (int)(from->n_kernel ? from->kernel[0] : odd(l->kernel[0]));
        to->w = l->axes < 1 ? 1 : (int)(from->n_kernel ? from->kernel[1] : odd(l->kernel[1]));
        int64_t channels;
        int status = blob_channels(&channels, &asked[to->to], l, from, e);
        if (status) return status;
        if (to->to < MODULE_VERTICES) m->channels[to->to] = (int)(channels / l->group);
    }
    for (int k = 0; k < m->n_edges; k++) {
        if (m->edges[k].from == MODULE_VERTICES) m->edges[k].from = m->n_vertices;
        if (m->edges[k].to == MODULE_VERTICES) m->edges[k].to = m->n_vertices;
    }
    text_copy(names[m->n_vertices], MORPH_WORD_SIZE, "t");
    m->channels[m->n_vertices++] = (int)(l->out / l->group);
    for (int v = 0; v < m->n_vertices; v++) {
        text_copy(p->parts[m->n_edges + v], PIECES_PART, names[v]);
        m->names[v] = p->parts[m->n_edges + v];
    }
    return module_check(m, e);
}

static struct filter_window parent_window(const struct graph *g, const struct edge *edge) {
    struct edit_window w = {.stride = {1, 1}, .dilation = {1, 1}};
    if (edge->layer.axes && !edge->shortcut)
        (void)edit_window(&w, g, &edge->layer, NULL); /* pieces_check was content */
    return pieces_window(&w);
}

/* Whether the module's maps can be aligned, if all taps of its kernels were used. */
static int check_windows(const struct plan *p, const struct graph *g, struct err *e) {
    struct module_filters *full = mem_calloc(1, sizeof *full);
    struct filter_window windows[MODULE_EDGES], parent = parent_window(g, &p->edge);
    struct filter shape = {.h = (int)p->edge.layer.kernel[0], .w = (int)p->edge.layer.kernel[1]};
    if (!full) return err_memory(e, sizeof *full);
    for (int k = 0; k < p->module.n_edges; k++) {
        full->reach[k][0] = p->module.edges[k].h / 2;
        full->reach[k][1] = p->module.edges[k].w / 2;
    }
    int status = module_windows(windows, &p->module, full, &shape, &parent, e);
    mem_free(full);
    return status;
}

/* The sum over the ways from source to sink is the layer's filter: none of its taps may be out of their reach. */
static int check_reach(const struct plan *p, struct err *e) {
    const struct module *m = &p->module;
    int most[2] = {1, 1};
    for (int axis = 0; axis < 2; axis++) {
        int taps[MODULE_VERTICES] = {0}; /* of the longest way from the source, less one */
        for (int round = 1; round < m->n_vertices; round++)
            for (int k = 0; k < m->n_edges; k++) {
                int there = taps[m->edges[k].from] + (axis ? m->edges[k].w : m->edges[k].h) - 1;
                if (there > taps[m->edges[k].to]) taps[m->edges[k].to] = there;
            }
        most[axis] = taps[m->n_vertices - 1] + 1;
    }
    const int64_t *kernel = p->edge.layer.kernel;
    if (most[0] >= kernel[0] && most[1] >= kernel[1]) return 0;
    return err_set(
        e, E_UNSUPPORTED,
        "its kernel is %lldx%lld, and no way through the module reaches further than %dx%d: the recipes 1c1, 3c1 "
        "and 3c3 have an edge as large as the layer, and edges may say their kernel",
        (long long)kernel[0], (long long)kernel[1], most[0], most[1]);
}

static int make_plan(struct plan *p, const struct graph *g, const struct edge *edge, const struct morph_step *s,
                     struct err *e) {
    *p = (struct plan){.edge = *edge};
    int status = s->recipe[0] ? from_recipe(p, s, e) : from_edges(p, s, e);
    for (int k = 0; k < p->module.n_edges && !status; k++)
        text_print(p->parts[k], PIECES_PART, "%s_%s", p->parts[p->module.n_edges + p->module.edges[k].from],
                   p->parts[p->module.n_edges + p->module.edges[k].to]);
    if (!status) status = check_reach(p, e);
    return status ? status : check_windows(p, g, e);
}

static int module_can(struct morphing *m, int node, const struct morph_step *s, struct err *e) {
    struct plan *p = mem_calloc(1, sizeof *p);
    struct edge edge;
    if (!p) return err_memory(e, sizeof *p);
    int status = find_edge(&edge, m, node, e);
    if (!status) status = make_plan(p, m->graph, &edge, s, e);
    mem_free(p);
    return status;
}

/* ---- the step ---- */

/* The filter that the module of one group has to be. */
static int parent_filter(struct filter *out, const struct graph *g, const struct edge *edge, int group, struct err *e) {
    if (!edge->shortcut) return pieces_filter(out, g, &edge->layer, group, e);
    int status = filter_init(out, (int)edge->layer.out, (int)edge->layer.out, 1, 1, e);
    for (int i = 0; i < out->out && !status; i++) out->data[i * (out->out + 1)] = 1;
    return status;
}

/* Fills every group; the first is told in how far taps are used by any of them. */
static int fill(struct module_filters *filters, double *residual, const struct morphing *m, const struct plan *p,
                struct random *r, struct err *e) {
    const struct module_options o = {.share = MODULE_ANY, .sketch = m->sketch, .memory = m->memory};
    int status = 0;
    *residual = 0;
    for (int k = 0; k < p->edge.layer.group && !status; k++) {
        struct filter parent = {0};
        status = parent_filter(&parent, m->graph, &p->edge, k, e);
        if (!status) status = module_fill(&filters[k], &p->module, &parent, &o, r, e);
        filter_fini(&parent);
        if (status) return status;
        if (filters[k].residual > *residual) *residual = filters[k].residual;
        for (int i = 0; i < p->module.n_edges; i++)
            for (int d = 0; d < 2; d++)
                if (filters[k].reach[i][d] > filters[0].reach[i][d]) filters[0].reach[i][d] = filters[k].reach[i][d];
    }
    return status;
}

static void tell(struct json_writer *w, const char *layer, const struct plan *p, double residual, int sweeps) {
    if (!w) return;
    json_open_object(w, NULL);
    json_put_string(w, "layer", layer);
    json_put_string(w, "edge", p->edge.shortcut ? "shortcut" : "layer");
    json_put_int(w, "convolutions", p->module.n_edges);
    json_put_number(w, "residual", residual);
    json_put_int(w, "sweeps", sweeps);
    json_close_object(w);
}

static int put(struct graph *g, int node, struct plan *p, const struct module_filters *filters,
               const struct filter_window *windows, struct err *e) {
    struct pieces pieces;
    const struct edit_layer *l = &p->edge.layer;
    if (!p->edge.shortcut) {
        pieces_of_layer(&pieces, g, l, p->edge.activation);
        pieces.parts = p->parts;
        return pieces_put(&pieces, &p->module, filters, windows, e);
    }
    pieces = (struct pieces){.graph = g,
                             .node = -1,
                             .source = g->nodes[node].inputs[p->edge.operand],
                             .axes = l->axes,
                             .transposed = true,
                             .bias = VALUE_NONE,
                             .group = 1,
                             .like = -1,
                             .parts = p->parts};
    text_copy(pieces.stem, sizeof pieces.stem, g->nodes[node].name);
    int status = edit_add_value(&pieces.sink, g, pieces.stem, "shortcut", e);
    if (!status) status = pieces_put(&pieces, &p->module, filters, windows, e);
    if (!status) g->nodes[node].inputs[p->edge.operand] = pieces.sink;
    return status;
}

static double weights_of(const struct plan *p) {
    double weights = 0;
    for (int k = 0; k < p->module.n_edges; k++) {
        const struct module_edge *edge = &p->module.edges[k];
        weights += (double)p->module.channels[edge->from] * p->module.channels[edge->to] * edge->h * edge->w;
    }
    return weights * (double)p->edge.layer.group;
}

/* *possible: nothing was changed yet when it failed. */
static int replace(bool *possible, struct morphing *m, int node, const struct edge *edge, const struct morph_step *s,
                   struct random *r, struct json_writer *w, struct err *e) {
    struct filter_window windows[MODULE_EDGES];
    struct module_filters *filters = NULL;
    struct plan *p = mem_calloc(1, sizeof *p);
    double residual;
    int status = p ? make_plan(p, m->graph, edge, s, e) : err_memory(e, sizeof *p), group = 0;
    if (!status) status = edit_afford(m, weights_of(p), e);
    if (!status) status = edit_afford_groups(m, p->edge.layer.group, sizeof *filters, e);
    *possible = false;
    if (!status) {
        group = (int)p->edge.layer.group;
        filters = mem_calloc((size_t)group, sizeof *filters);
        if (!filters) status = err_memory(e, (size_t)group * sizeof *filters);
    }
    if (!status) status = fill(filters, &residual, m, p, r, e);
    if (!status) {
        struct filter parent = {.h = (int)p->edge.layer.kernel[0], .w = (int)p->edge.layer.kernel[1]};
        struct filter_window window = parent_window(m->graph, &p->edge);
        status = module_windows(windows, &p->module, &filters[0], &parent, &window, e);
    }
    if (!status) {
        *possible = true;
        status = put(m->graph, node, p, filters, windows, e);
    }
    if (!status) tell(w, m->graph->nodes[node].name, p, residual, filters[0].sweeps);
    for (int k = 0; k < group && filters; k++) module_filters_fini(&filters[k]);
    mem_free(filters);
    mem_free(p);
    return status;
}

static int module_apply(struct morphing *m, const int *nodes, int n, const struct morph_step *s, struct json_writer *w,
                        struct err *e) {
    int status = 0, made = 0;
    struct err first = {0};
    struct edge *edges = mem_calloc((size_t)n + 1, sizeof *edges);
    if (!edges) return err_memory(e, (size_t)n * sizeof *edges);
    for (int i = 0; i < n && !status; i++)
        status = find_edge(&edges[i], m, nodes[i], &first); /* while nodes are sorted */
    if (w) json_open_array(w, "modules");
    for (int i = 0; i < n && !status; i++) {
        if (by_halves(s) && i % 2) {
            morph_leave(m, i);
            continue;
        }
        struct random r = random_split(&m->random, (uint64_t)nodes[i]);
        struct err why = {0};
        bool possible;
        status = replace(&possible, m, nodes[i], &edges[i], s, &r, w, &why);
        made += !status;
        if (status && status != E_UNSUPPORTED) err_prefix(&why, "'%s'", m->graph->nodes[nodes[i]].name);
        if (status && (status != E_UNSUPPORTED || !first.text[0])) first = why;
        if (status == E_UNSUPPORTED && !possible) { /* that one stays as it is */
            status = 0;
            morph_leave(m, i);
            if (w) json_open_object(w, NULL);
            if (w) json_put_string(w, "layer", m->graph->nodes[nodes[i]].name);
            if (w) json_put_string(w, "unchanged", why.text);
            if (w) json_close_object(w);
        }
    }
    if (w) json_close_array(w);
    mem_free(edges);
    m->random = random_split(&m->random, (uint64_t)m->graph->n_nodes);
    if (status || !made) return err_set(e, status ? status : E_UNSUPPORTED, "%s", first.text);
    return morphing_finish(m, e);
}

#define DIAMOND \
    "[{\"from\":\"s\",\"to\":\"a\"},{\"from\":\"s\",\"to\":\"b\",\"kernel\":1},{\"from\":\"a\",\"to\":\"c\"," \
    "\"kernel\":1},{\"from\":\"b\",\"to\":\"c\"},{\"from\":\"a\",\"to\":\"t\"},{\"from\":\"c\",\"to\":\"t\"," \
    "\"kernel\":1},{\"from\":\"b\",\"to\":\"t\",\"kernel\":1}]"

static const char *const samples[] = {
    "{\"op\":\"module\",\"layer\":\"*\",\"recipe\":\"1c1\"}",
    "{\"op\":\"module\",\"layer\":\"add*\",\"recipe\":\"3c1-half\"}",
    "{\"op\":\"module\",\"layer\":\"*\",\"recipe\":\"3c3\"}",
    "{\"op\":\"module\",\"layer\":\"*\",\"recipe\":\"1c1_2branch\"}",
    "{\"op\":\"module\",\"layer\":\"*\",\"edges\":[{\"from\":\"s\",\"to\":\"a\",\"channels\":12},"
    "{\"from\":\"a\",\"to\":\"t\",\"kernel\":1},{\"from\":\"s\",\"to\":\"t\",\"kernel\":[1,3]}]}",
    "{\"op\":\"module\",\"layer\":\"*\",\"edges\":" DIAMOND "}",
    NULL,
};

const struct morph_kind morph_module = {
    .name = "module",
    .summary = "a module of several convolutions in the place of a layer or of a shortcut",
    .takes = "recipe edges to",
    .needs = "recipe edges",
    .samples = samples,
    .check = module_check_step,
    .can = module_can,
    .apply = module_apply,
};

/* module.c - modules as graphs: checks, reduction to an edge, paths, composition, padding. Filters: module_fill.c. */
#include "engine/surgery/module.h"

#include <string.h>

#include "base/text.h"

static int larger(int a, int b) {
    return a > b ? a : b;
}

static int smaller(int a, int b) {
    return a < b ? a : b;
}

/* ---- the graph ---- */

/* Vertices so that edges go forward; false when there is a cycle. */
static bool sort_vertices(int order[MODULE_VERTICES], const struct module *m) {
    int waiting[MODULE_VERTICES] = {0}, n = 0;
    for (int k = 0; k < m->n_edges; k++) waiting[m->edges[k].to]++;
    for (int v = 0; v < m->n_vertices; v++)
        if (!waiting[v]) order[n++] = v;
    for (int done = 0; done < n; done++)
        for (int k = 0; k < m->n_edges; k++)
            if (m->edges[k].from == order[done] && --waiting[m->edges[k].to] == 0) order[n++] = m->edges[k].to;
    return n == m->n_vertices;
}

static void vertex_text(char *out, size_t room, const struct module *m, int v) {
    if (v >= 0 && v < m->n_vertices && m->names[v])
        text_print(out, room, "%s", m->names[v]);
    else
        text_print(out, room, "%d", v);
}

const char *module_edge_text(char out[MODULE_EDGE_TEXT], const struct module *m, const struct module_edge *edge) {
    char from[MODULE_EDGE_TEXT / 2 - 2], to[MODULE_EDGE_TEXT / 2 - 2];
    vertex_text(from, sizeof from, m, edge->from);
    vertex_text(to, sizeof to, m, edge->to);
    text_print(out, MODULE_EDGE_TEXT, "%s->%s", from, to);
    return out;
}

static int check_edge(const struct module *m, int k, struct err *e) {
    const struct module_edge *edge = &m->edges[k];
    char name[MODULE_EDGE_TEXT];
    module_edge_text(name, m, edge);
    if (edge->from < 0 || edge->from >= m->n_vertices || edge->to < 0 || edge->to >= m->n_vertices)
        return err_set(e, E_INVALID, "edge %d goes from %d to %d, vertices are 0 to %d", k, edge->from, edge->to,
                       m->n_vertices - 1);
    if (edge->to == 0 || edge->from == m->n_vertices - 1)
        return err_set(e, E_INVALID, "edge %s: none leads into the source and none out of the sink", name);
    if (edge->h < 1 || edge->w < 1 || edge->h > MODULE_TAPS || edge->w > MODULE_TAPS || edge->h % 2 == 0 ||
        edge->w % 2 == 0)
        return err_set(e, E_INVALID, "edge %s has %dx%d taps: only odd numbers up to %d have a middle", name, edge->h,
                       edge->w, MODULE_TAPS);
    return 0;
}

int module_check(const struct module *m, struct err *e) {
    if (m->n_vertices < 2 || m->n_vertices > MODULE_VERTICES || m->n_edges < 1 || m->n_edges > MODULE_EDGES)
        return err_set(e, E_INVALID, "%d vertices and %d edges: 2 to %d and 1 to %d can be", m->n_vertices, m->n_edges,
                       MODULE_VERTICES, MODULE_EDGES);
    int in[MODULE_VERTICES] = {0}, out[MODULE_VERTICES] = {0}, order[MODULE_VERTICES];
    for (int k = 0; k < m->n_edges; k++) {
        int status = check_edge(m, k, e);
        if (status) return status;
        out[m->edges[k].from]++;
        in[m->edges[k].to]++;
    }
    for (int v = 0; v < m->n_vertices; v++) {
        char name[MODULE_EDGE_TEXT];
        vertex_text(name, sizeof name, m, v);
        if (m->channels[v] < 1) return err_set(e, E_INVALID, "'%s' has %d channels", name, m->channels[v]);
        if ((v && !in[v]) || (v < m->n_vertices - 1 && !out[v]))
            return err_set(e, E_INVALID, "'%s' is on no path from the source s to the sink t", name);
    }
    if (!sort_vertices(order, m)) return err_set(e, E_INVALID, "the edges make a cycle");
    return 0;
}

static const struct recipe {
    const char *name;
    int first, second, chains;
} recipes[] = {{"1c1", 1, 1, 1}, {"3c1", 3, 1, 1}, {"3c3", 3, 3, 1}, {"1c1_2branch", 1, 1, 2}};

int module_named(struct module *out, const char *name, int in, int inner, int out_channels, int h, int w,
                 struct err *e) {
    for (size_t k = 0; k < sizeof recipes / sizeof *recipes; k++) {
        const struct recipe *r = &recipes[k];
        if (strcmp(r->name, name) != 0) continue;
        static const char *const inner_names[] = {"a", "b"};
        int sink = 1 + r->chains;
        *out = (struct module){.n_vertices = sink + 1, .channels = {in}, .names = {"s"}};
        for (int c = 1; c <= r->chains; c++) {
            out->channels[c] = inner;
            out->names[c] = inner_names[c - 1];
            out->edges[out->n_edges++] = (struct module_edge){0, c, r->first, r->first};
            out->edges[out->n_edges++] = (struct module_edge){c, sink, r->second, r->second};
        }
        out->channels[sink] = out_channels;
        out->names[sink] = "t";
        if (r->chains == 1) out->edges[out->n_edges++] = (struct module_edge){0, sink, h, w};
        return module_check(out, e);
    }
    return err_set(e, E_NOT_FOUND, "no module is called '%s': there are 1c1, 3c1, 3c3 and 1c1_2branch", name);
}

/* ---- reduction ---- */

static void merge(struct module_plan *p, bool series, int at_first, int at_second) {
    int first = p->left[at_first], second = p->left[at_second], merged = p->n_edges++;
    const struct module_edge *a = &p->edges[first], *b = &p->edges[second];
    p->edges[merged] = series ? (struct module_edge){a->from, b->to, a->h + b->h - 1, a->w + b->w - 1}
                              : (struct module_edge){a->from, a->to, larger(a->h, b->h), larger(a->w, b->w)};
    p->steps[p->n_steps++] = (struct module_step){series, merged, first, second};
    p->left[smaller(at_first, at_second)] = merged;
    p->n_left--;
    memmove(&p->left[larger(at_first, at_second)], &p->left[larger(at_first, at_second) + 1],
            (size_t)(p->n_left - larger(at_first, at_second)) * sizeof *p->left);
}

/* Fuses the two edges at an inner vertex that has no others. */
static bool fuse_series(struct module_plan *p, int n_vertices) {
    for (int v = 1; v < n_vertices - 1; v++) {
        int in = -1, out = -1, n_in = 0, n_out = 0;
        for (int k = 0; k < p->n_left; k++) {
            if (p->edges[p->left[k]].to == v) in = k, n_in++;
            if (p->edges[p->left[k]].from == v) out = k, n_out++;
        }
        if (n_in != 1 || n_out != 1) continue;
        merge(p, true, in, out);
        return true;
    }
    return false;
}

static bool fuse_parallel(struct module_plan *p) {
    for (int a = 0; a < p->n_left; a++)
        for (int b = a + 1; b < p->n_left; b++) {
            const struct module_edge *x = &p->edges[p->left[a]], *y = &p->edges[p->left[b]];
            if (x->from != y->from || x->to != y->to) continue;
            merge(p, false, a, b);
            return true;
        }
    return false;
}

int module_reduce(struct module_plan *out, const struct module *m, struct err *e) {
    int status = module_check(m, e);
    if (status) return status;
    *out = (struct module_plan){.n_edges = m->n_edges, .n_left = m->n_edges};
    memcpy(out->edges, m->edges, (size_t)m->n_edges * sizeof *m->edges);
    for (int k = 0; k < m->n_edges; k++) out->left[k] = k;
    while (fuse_series(out, m->n_vertices) || fuse_parallel(out)) continue;
    for (int k = 0; k < out->n_steps / 2; k++) { /* what was fused last is split first */
        struct module_step step = out->steps[k];
        out->steps[k] = out->steps[out->n_steps - 1 - k];
        out->steps[out->n_steps - 1 - k] = step;
    }
    out->simple = out->n_left == 1;
    return 0;
}

/* ---- composition ---- */

static int middle_sum(struct filter *sum, struct filter *part, struct err *e) {
    struct filter both;
    if (!sum->data) {
        *sum = *part;
        part->data = NULL;
        return 0;
    }
    int status = filter_embed(&both, sum, larger(sum->h, part->h), larger(sum->w, part->w), e);
    if (!status) status = filter_add(&both, 1, part, e);
    if (status) {
        filter_fini(&both);
        return status;
    }
    filter_fini(sum);
    *sum = both;
    return 0;
}

int module_compose(struct filter *out, const struct module *m, const struct filter *filters, struct err *e) {
    struct filter at[MODULE_VERTICES] = {0}; /* from the source; at the source itself nothing */
    int order[MODULE_VERTICES], status = module_check(m, e);
    out->data = NULL;
    if (status) return status;
    sort_vertices(order, m);
    for (int n = 0; n < m->n_vertices && !status; n++)
        for (int k = 0; k < m->n_edges && !status; k++) {
            if (m->edges[k].from != order[n]) continue;
            struct filter part = {0};
            status =
                order[n] ? filter_compose(&part, &at[order[n]], &filters[k], e) : filter_copy(&part, &filters[k], e);
            if (!status) status = middle_sum(&at[m->edges[k].to], &part, e);
            filter_fini(&part);
        }
    if (!status) {
        *out = at[m->n_vertices - 1];
        at[m->n_vertices - 1].data = NULL;
    }
    for (int v = 0; v < m->n_vertices; v++) filter_fini(&at[v]);
    return status;
}

int module_paths(struct module_path *paths, int *n_paths, const struct module *m, struct err *e) {
    struct module_path path = {.h = 1, .w = 1};
    int next[MODULE_VERTICES + 1] = {0}, status = module_check(m, e); /* the edge to look at, by depth */
    *n_paths = 0;
    if (status) return status;
    for (;;) {
        int at = path.n ? m->edges[path.edges[path.n - 1]].to : 0, *k = &next[path.n];
        while (*k < m->n_edges && m->edges[*k].from != at) (*k)++;
        if (at == m->n_vertices - 1) {
            if (*n_paths == MODULE_PATHS)
                return err_set(e, E_TOO_LARGE, "the module has more than %d paths", MODULE_PATHS);
            paths[(*n_paths)++] = path;
        }
        if (*k == m->n_edges) { /* back, and on with the edge after the one that led here */
            if (!path.n) return 0;
            const struct module_edge *last = &m->edges[path.edges[--path.n]];
            path.h -= last->h - 1;
            path.w -= last->w - 1;
            continue;
        }
        path.edges[path.n++] = *k;
        path.h += m->edges[*k].h - 1;
        path.w += m->edges[(*k)++].w - 1;
        next[path.n] = 0;
    }
}

int module_path_filter(struct filter *out, const struct module_path *path, const struct filter *filters,
                       struct err *e) {
    int status = filter_copy(out, &filters[path->edges[0]], e);
    for (int k = 1; k < path->n && !status; k++) {
        struct filter longer;
        status = filter_compose(&longer, out, &filters[path->edges[k]], e);
        filter_fini(out);
        if (!status) *out = longer;
    }
    return status;
}

/* ---- padding ---- */

struct margins {
    int before[MODULE_VERTICES], after[MODULE_VERTICES]; /* taps that paths from the source, to the sink reach */
    int margin[MODULE_VERTICES];                         /* pixels that a map has beyond the image on one side */
};

/* A map needs what the sink reads of it or what is not zero in it, whichever is less; and an edge cannot crop. */
static int find_margins(struct margins *out, const struct module *m, const struct module_filters *f, int axis, int step,
                        int sink, struct err *e) {
    int order[MODULE_VERTICES], last = m->n_vertices - 1;
    *out = (struct margins){0};
    sort_vertices(order, m);
    for (int n = 0; n < m->n_vertices; n++)
        for (int k = 0; k < m->n_edges; k++) {
            const struct module_edge *there = &m->edges[k];
            if (there->from == order[n])
                out->before[there->to] = larger(out->before[there->to], out->before[there->from] + f->reach[k][axis]);
            if (there->to == order[last - n])
                out->after[there->from] = larger(out->after[there->from], out->after[there->to] + f->reach[k][axis]);
        }
    for (int v = 1; v < last; v++) out->margin[v] = smaller(step * out->before[v], step * out->after[v] + sink);
    out->margin[last] = sink;
    for (int n = 0; n < m->n_vertices; n++)
        for (int k = 0; k < m->n_edges; k++) {
            const struct module_edge *edge = &m->edges[k];
            if (edge->from != order[n]) continue;
            char name[MODULE_EDGE_TEXT];
            int least = out->margin[edge->from] - step * ((axis ? edge->w : edge->h) / 2);
            if (least <= out->margin[edge->to]) continue;
            if (edge->to == last)
                return err_set(
                    e, E_UNSUPPORTED,
                    "edge %s would have to crop %d pixels: its kernel of %dx%d is too small beside the others",
                    module_edge_text(name, m, edge), least - sink, edge->h, edge->w);
            out->margin[edge->to] = least;
        }
    return 0;
}

int module_windows(struct filter_window windows[MODULE_EDGES], const struct module *m, const struct module_filters *f,
                   const struct filter *g, const struct filter_window *parent, struct err *e) {
    int status = module_check(m, e);
    for (int side = 0; side < 4 && !status; side++) {
        struct margins margins;
        int axis = side % 2, step = parent->dilation[axis], taps = axis ? g->w : g->h;
        /* the parent's padding, less what a kernel of this size needs to keep the size of the map */
        int sink = side < 2 ? parent->begin[axis] - step * (taps / 2) : parent->end[axis] - step * ((taps - 1) / 2);
        status = find_margins(&margins, m, f, axis, step, sink, e);
        for (int k = 0; k < m->n_edges && !status; k++) {
            const struct module_edge *edge = &m->edges[k];
            int pad = step * ((axis ? edge->w : edge->h) / 2) + margins.margin[edge->to] - margins.margin[edge->from];
            *(side < 2 ? &windows[k].begin[axis] : &windows[k].end[axis]) = pad;
            windows[k].dilation[axis] = step;
            windows[k].stride[axis] = edge->to == m->n_vertices - 1 ? parent->stride[axis] : 1;
        }
    }
    return status;
}

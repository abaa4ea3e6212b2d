/* module_fill.c - filters for a module that has to be a given convolution.
 *
 * The recipe of the reduction is a tree: its leaves are the module's edges, its inner nodes edges merged in series or in
 * parallel. `solve` gives a node the filter it has to be, `draw` fills one with noise and says what it composes to. What
 * `draw` makes is always possible, so noise is drawn at the leaves and what is solved for goes down a single line. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/surgery/factor.h"
#include "engine/surgery/module.h"

enum { SPLITS_MOST = 64, SWEEPS = 20 }; /* attempts at splitting composite edges; rounds over irreducible ones */
#define NOISE 0.25

struct filling {
    const struct module *m;
    const struct module_plan *plan;
    const struct module_options *o;
    const struct filter *g;
    struct random *random;
    struct module_filters *out;
    int splits;
    bool sketch;
};

static int larger(int a, int b) {
    return a > b ? a : b;
}

static int smaller(int a, int b) {
    return a < b ? a : b;
}

static const struct module_step *parts_of(const struct filling *f, int edge) {
    for (int k = 0; k < f->plan->n_steps; k++)
        if (f->plan->steps[k].merged == edge) return &f->plan->steps[k];
    return NULL;
}

static int channels_at(const struct filling *f, int vertex) {
    return f->m->channels[vertex];
}

/* The edge's filter is x amid zeros. */
static int place(struct filling *f, int edge, const struct filter *x, struct err *e) {
    const struct module_edge *there = &f->plan->edges[edge];
    struct filter placed;
    char name[MODULE_EDGE_TEXT];
    if (x->h > there->h || x->w > there->w)
        return err_set(e, E_UNSUPPORTED, "edge %s has %dx%d taps and would need %dx%d",
                       module_edge_text(name, f->m, there), there->h, there->w, x->h, x->w);
    int status = filter_embed(&placed, x, there->h, there->w, e);
    if (status) return status;
    filter_fini(&f->out->filters[edge]);
    f->out->filters[edge] = placed;
    return 0;
}

static void scale(struct filter *x, double by) {
    for (size_t i = 0; i < filter_count(x); i++) x->data[i] *= by;
}

/* ---- noise ---- */

static int sum_of(struct filter *out, const struct filter *a, double by, const struct filter *b, struct err *e) {
    int status = filter_embed(out, a, larger(a->h, b->h), larger(a->w, b->w), e);
    if (!status) status = filter_add(out, by, b, e);
    if (status) filter_fini(out);
    return status;
}

/* Noise of at most h by w taps for everything below an edge; *x is what it composes to. */
static int draw(struct filter *x, struct filling *f, int edge, int h, int w, struct err *e) {
    const struct module_edge *there = &f->plan->edges[edge];
    const struct module_step *parts = parts_of(f, edge);
    *x = (struct filter){0};
    h = smaller(h, there->h);
    w = smaller(w, there->w);
    if (!parts) {
        int in = channels_at(f, there->from), status = filter_init(x, channels_at(f, there->to), in, h, w, e);
        if (!status && f->sketch) factor_sketch(x, f->random);
        if (!status && !f->sketch) status = factor_noise(x, sqrt(2.0 / ((double)in * h * w)), f->random, e);
        return status ? status : place(f, edge, x, e);
    }
    struct filter a = {0}, b = {0};
    int status = draw(&a, f, parts->first, h, w, e);
    if (!status && parts->series) status = draw(&b, f, parts->second, h - a.h + 1, w - a.w + 1, e);
    if (!status && parts->series) status = filter_compose(x, &a, &b, e);
    if (!status && !parts->series) status = draw(&b, f, parts->second, h, w, e);
    if (!status && !parts->series) status = sum_of(x, &a, 1, &b, e);
    filter_fini(&a);
    filter_fini(&b);
    return status;
}

/* What an edge composes to, times a factor, shared by the filters of a chain. */
static void scale_edge(struct filling *f, int edge, double by) {
    const struct module_step *parts = parts_of(f, edge);
    if (!parts) {
        scale(&f->out->filters[edge], by);
        return;
    }
    scale_edge(f, parts->first, parts->series ? sqrt(by) : by);
    scale_edge(f, parts->second, parts->series ? sqrt(by) : by);
}

/* Noise of the norm that the options say. */
static int draw_scaled(struct filter *x, struct filling *f, int edge, int h, int w, struct err *e) {
    int status = draw(x, f, edge, h, w, e);
    double norm = filter_norm(f->g), now = status ? 0 : filter_norm(x);
    if (status || !(norm > 0) || !(now > 0)) return status;
    double by = (f->o->noise > 0 ? f->o->noise : NOISE) * norm / now;
    scale(x, by);
    scale_edge(f, edge, by);
    return 0;
}

/* ---- the recipe, forward ---- */

static int solve(struct filling *f, int edge, const struct filter *x, struct err *e);

/* Runs another way when the last one was impossible: true, with the error forgotten. */
static bool may_go_on(int status, struct filling *f, struct err *e) {
    if (status != E_UNSUPPORTED || ++f->splits > SPLITS_MOST) return false;
    err_clear(e);
    return true;
}

/* Two single convolutions. */
static int split_leaves(struct filling *f, const struct module_step *s, const struct filter *x, struct err *e) {
    const struct module_edge *a = &f->plan->edges[s->first], *b = &f->plan->edges[s->second];
    struct factor_options o = {.inner = channels_at(f, a->to),
                               .first = {a->h, a->w},
                               .second = {b->h, b->w},
                               .approximate = f->o->approximate,
                               .sketch = f->sketch,
                               .memory = f->o->memory};
    struct factor_pair pair;
    char first[MODULE_EDGE_TEXT], second[MODULE_EDGE_TEXT];
    int status = factor_split(&pair, x, &o, f->random, e);
    if (status)
        return err_prefix(e, "edges %s and %s", module_edge_text(first, f->m, a), module_edge_text(second, f->m, b));
    status = place(f, s->first, &pair.first, e);
    if (!status) status = place(f, s->second, &pair.second, e);
    factor_pair_fini(&pair);
    return status;
}

/* Noise of h by w taps at most in one part, the other solved for and then split further. */
static int solve_beside_noise(struct filling *f, const struct module_step *s, bool first, const struct filter *x, int h,
                              int w, struct err *e) {
    int carrier = first ? s->first : s->second, other = first ? s->second : s->first;
    const struct module_edge *to = &f->plan->edges[carrier];
    struct filter noise = {0}, solved = {0};
    char name[MODULE_EDGE_TEXT];
    double residual = 0;
    module_edge_text(name, f->m, to);
    int status = draw(&noise, f, other, h, w, e);
    int wanted_h = larger(1, x->h - noise.h + 1), wanted_w = larger(1, x->w - noise.w + 1);
    if (!status && (to->h < wanted_h || to->w < wanted_w))
        status = err_set(e, E_UNSUPPORTED, "edge %s has too few taps", name);
    /* One tap of noise leaves the taps as they are; of more, the solution takes all there are. */
    bool point = noise.h == 1 && noise.w == 1;
    int size[2] = {point ? wanted_h : to->h, point ? wanted_w : to->w};
    if (!status) status = filter_init(&solved, channels_at(f, to->to), channels_at(f, to->from), size[0], size[1], e);
    double unknowns = (double)f->m->channels[f->plan->edges[s->first].to] * size[0] * size[1];
    double equations = (double)(first ? x->out : x->in) * (size[0] + noise.h - 1) * (size[1] + noise.w - 1);
    if (!status && unknowns < equations)
        status = err_set(e, E_UNSUPPORTED, "edge %s has %.0f unknowns for %.0f equations per channel", name, unknowns,
                         equations);
    if (!status) status = factor_afford(&solved, &noise, first, x, f->o->memory, e);
    if (!status && f->sketch) factor_sketch(&solved, f->random);
    if (!status && !f->sketch) status = factor_solve(&solved, &residual, &noise, first, x, e);
    if (!status && residual > FACTOR_EXACT)
        status = err_set(e, E_UNSUPPORTED, "edge %s leaves a residual of %.3g", name, residual);
    if (!status) status = solve(f, carrier, &solved, e);
    filter_fini(&noise);
    filter_fini(&solved);
    return status;
}

/* Less noise, at last one tap of it. Edges have odd kernels. */
static int shrunk(int size) {
    return size > 2 ? size - 2 : 1;
}

static int solve_series(struct filling *f, const struct module_step *s, const struct filter *x, struct err *e) {
    if (!parts_of(f, s->first) && !parts_of(f, s->second)) return split_leaves(f, s, x, e);
    const struct module_edge *a = &f->plan->edges[s->first], *b = &f->plan->edges[s->second];
    int h = larger(a->h, b->h), w = larger(a->w, b->w);
    for (;; h = shrunk(h), w = shrunk(w)) {
        int status = solve_beside_noise(f, s, true, x, h, w, e);
        if (may_go_on(status, f, e)) status = solve_beside_noise(f, s, false, x, h, w, e);
        bool last = h == 1 && w == 1;
        if (last || !may_go_on(status, f, e)) return status;
    }
}

static int solve_halves(struct filling *f, const struct module_step *s, const struct filter *x, struct err *e) {
    struct filter half;
    int status = filter_copy(&half, x, e);
    if (status) return status;
    scale(&half, 0.5);
    status = solve(f, s->first, &half, e);
    if (!status) status = solve(f, s->second, &half, e);
    filter_fini(&half);
    return status;
}

static int solve_rest(struct filling *f, const struct module_step *s, bool first, const struct filter *x,
                      struct err *e) {
    int carrier = first ? s->first : s->second, other = first ? s->second : s->first;
    const struct module_edge *to = &f->plan->edges[carrier];
    struct filter noise = {0}, rest = {0};
    int status = draw_scaled(&noise, f, other, to->h, to->w, e);
    if (!status) status = sum_of(&rest, x, -1, &noise, e);
    if (!status) status = solve(f, carrier, &rest, e);
    filter_fini(&noise);
    filter_fini(&rest);
    return status;
}

static int solve_parallel(struct filling *f, const struct module_step *s, const struct filter *x, struct err *e) {
    int status = E_UNSUPPORTED;
    if (f->o->share != MODULE_NOISE) status = solve_halves(f, s, x, e);
    if (f->o->share == MODULE_HALVES || (status != E_UNSUPPORTED)) return status;
    if (f->o->share == MODULE_ANY && !may_go_on(status, f, e)) return status;
    const struct module_edge *a = &f->plan->edges[s->first], *b = &f->plan->edges[s->second];
    bool first = a->h * a->w > b->h * b->w; /* the larger one takes the rest */
    status = solve_rest(f, s, first, x, e);
    if (!may_go_on(status, f, e)) return status;
    return solve_rest(f, s, !first, x, e);
}

/* Filters below an edge for which it is x. */
static int solve(struct filling *f, int edge, const struct filter *x, struct err *e) {
    const struct module_step *parts = parts_of(f, edge);
    if (!parts) return place(f, edge, x, e);
    return parts->series ? solve_series(f, parts, x, e) : solve_parallel(f, parts, x, e);
}

/* ---- irreducible modules ---- */

/* What is left of the module, its edges' filters, and how many taps they have got. */
struct remainder {
    struct module m;
    struct filter filters[MODULE_EDGES];
    bool changed[MODULE_EDGES]; /* differs from what the parts below compose to */
};

static void remainder_fini(struct remainder *r) {
    for (int k = 0; k < MODULE_EDGES; k++) filter_fini(&r->filters[k]);
}

/* Vertices that went into merged edges are gone. */
static void remainder_init(struct remainder *r, const struct filling *f) {
    int number[MODULE_VERTICES] = {0};
    *r = (struct remainder){0};
    for (int v = 0; v < f->m->n_vertices; v++) {
        bool used = false;
        for (int k = 0; k < f->plan->n_left; k++)
            used = used || f->plan->edges[f->plan->left[k]].from == v || f->plan->edges[f->plan->left[k]].to == v;
        if (!used) continue;
        number[v] = r->m.n_vertices;
        r->m.names[number[v]] = f->m->names[v];
        r->m.channels[r->m.n_vertices++] = channels_at(f, v);
    }
    for (int k = 0; k < f->plan->n_left; k++) {
        struct module_edge edge = f->plan->edges[f->plan->left[k]];
        edge.from = number[edge.from];
        edge.to = number[edge.to];
        r->m.edges[r->m.n_edges++] = edge;
    }
}

/* The sum over the paths between two vertices, without edge `skip`; no data when there is none. */
static int between(struct filter *out, const struct remainder *r, int from, int to, int skip, struct err *e) {
    struct filter at[MODULE_VERTICES] = {0};
    bool reached[MODULE_VERTICES] = {false}, ready[MODULE_VERTICES] = {false};
    int n = r->m.n_vertices, status = 0;
    reached[from] = true;
    *out = (struct filter){0};
    /* Vertices in an order in which edges go forward. */
    for (int round = 0; round < n && !status; round++) {
        int v = -1;
        for (int c = 0; c < n && v < 0; c++) {
            bool free = !ready[c];
            for (int k = 0; k < r->m.n_edges; k++) free = free && (r->m.edges[k].to != c || ready[r->m.edges[k].from]);
            if (free) v = c;
        }
        ready[v] = true;
        for (int k = 0; reached[v] && k < r->m.n_edges && !status; k++) {
            if (r->m.edges[k].from != v || k == skip) continue;
            struct filter part = {0}, sum = {0}, *there = &at[r->m.edges[k].to];
            status =
                v == from ? filter_copy(&part, &r->filters[k], e) : filter_compose(&part, &at[v], &r->filters[k], e);
            if (!status && there->data) status = sum_of(&sum, there, 1, &part, e);
            if (!status && there->data) filter_fini(there);
            if (!status) *there = sum.data ? sum : part;
            if (status || sum.data) filter_fini(&part);
            reached[r->m.edges[k].to] = true;
        }
    }
    if (!status) {
        *out = at[to];
        at[to].data = NULL;
    }
    for (int v = 0; v < n; v++) filter_fini(&at[v]);
    return status;
}

/* Taps that a solution may have: those of the edge, or fewer when G and the other paths need no more. */
static int wanted_taps(int g, int others, int before, int after, int edge) {
    int needed = larger(g, others) - (before - 1) - (after - 1);
    if (before > 1 || after > 1) return edge; /* noise with taps: every unknown counts */
    return larger(1, smaller(edge, needed));
}

static int solve_within(struct filter *solved, double *residual, const struct filter *given, bool first,
                        const struct filter *g, size_t memory, struct err *e) {
    int status = factor_afford(solved, given, first, g, memory, e);
    return status ? status : factor_solve(solved, residual, given, first, g, e);
}

/* The filter of edge k for which the module comes closest to G, when one of its sides is the source or the sink; with
 * both sides inside, one after the other, which is right when it is exact. */
static int solve_edge(struct filter *out, double *residual, const struct remainder *r, int k, const struct filter *g,
                      size_t memory, struct err *e) {
    const struct module_edge *edge = &r->m.edges[k];
    struct filter before = {0}, after = {0}, others = {0}, rest = {0}, middle = {0};
    bool from_source = edge->from == 0, to_sink = edge->to == r->m.n_vertices - 1;
    *out = (struct filter){0};
    int status = between(&others, r, 0, r->m.n_vertices - 1, k, e);
    if (!status && !from_source) status = between(&before, r, 0, edge->from, k, e);
    if (!status && !to_sink) status = between(&after, r, edge->to, r->m.n_vertices - 1, k, e);
    if (!status) status = others.data ? sum_of(&rest, g, -1, &others, e) : filter_copy(&rest, g, e);
    if (status) goto out;
    int b[2] = {from_source ? 1 : before.h, from_source ? 1 : before.w},
        a[2] = {to_sink ? 1 : after.h, to_sink ? 1 : after.w};
    int h = wanted_taps(g->h, others.data ? others.h : 1, b[0], a[0], edge->h);
    int w = wanted_taps(g->w, others.data ? others.w : 1, b[1], a[1], edge->w);
    if (rest.h > h + a[0] + b[0] - 2 || rest.w > w + a[1] + b[1] - 2) {
        char name[MODULE_EDGE_TEXT];
        status = err_set(e, E_UNSUPPORTED, "edge %s reaches fewer taps than the rest of the module",
                         module_edge_text(name, &r->m, edge));
        goto out;
    }
    if (from_source && to_sink) {
        status = filter_embed(out, &rest, h, w, e);
        *residual = 0;
        goto out;
    }
    status = filter_init(out, r->m.channels[edge->to], r->m.channels[edge->from], h, w, e);
    if (!status && to_sink) status = solve_within(out, residual, &before, false, &rest, memory, e);
    if (!status && from_source) status = solve_within(out, residual, &after, true, &rest, memory, e);
    if (!status && !to_sink && !from_source) {
        double first = 0;
        status = filter_init(&middle, r->m.channels[edge->to], g->in, h + b[0] - 1, w + b[1] - 1, e);
        if (!status) status = solve_within(&middle, &first, &after, true, &rest, memory, e);
        if (!status) status = solve_within(out, residual, &before, false, &middle, memory, e);
        *residual = fmax(first, *residual);
    }
out:
    filter_fini(&before);
    filter_fini(&after);
    filter_fini(&others);
    filter_fini(&rest);
    filter_fini(&middle);
    return status;
}

/* |G - the remainder| / |G| */
static int remainder_residual(double *out, const struct remainder *r, const struct filter *g, struct err *e) {
    struct filter all = {0}, rest = {0};
    int status = between(&all, r, 0, r->m.n_vertices - 1, -1, e);
    if (!status) status = sum_of(&rest, &all, -1, g, e);
    double norm = filter_norm(g);
    if (!status) *out = filter_norm(&rest) / (norm > 0 ? norm : 1);
    filter_fini(&all);
    filter_fini(&rest);
    return status;
}

static int draw_remainder(struct remainder *r, struct filling *f, int taps, struct err *e) {
    for (int k = 0; k < f->plan->n_left; k++) {
        struct filter x;
        int status = draw(&x, f, f->plan->left[k], taps, taps, e);
        filter_fini(&r->filters[k]);
        r->filters[k] = x;
        r->changed[k] = false;
        if (status) return status;
    }
    return 0;
}

/* Puts a solution in the place of edge k's filter if the module is then nearer to G. */
static int try_edge(struct remainder *r, struct filling *f, int k, double *best, struct err *e) {
    struct filter solved, before = r->filters[k];
    double residual, now;
    int status = solve_edge(&solved, &residual, r, k, f->g, f->o->memory, e);
    if (status) {
        filter_fini(&solved);
        return status;
    }
    r->filters[k] = solved;
    status = remainder_residual(&now, r, f->g, e);
    if (!status && now < *best) {
        *best = now;
        r->changed[k] = true;
        filter_fini(&before);
        return 0;
    }
    filter_fini(&solved);
    r->filters[k] = before;
    return status;
}

/* Filters below the edges that were solved for. */
static int descend(struct remainder *r, struct filling *f, struct err *e) {
    int status = 0;
    for (int k = 0; k < f->plan->n_left && !status; k++)
        if (r->changed[k]) status = solve(f, f->plan->left[k], &r->filters[k], e);
    return status;
}

/* One edge after another as the one that is solved for, all others noise of at most `taps`. *done: exact. */
static int one_solution(bool *done, struct remainder *r, struct filling *f, int taps, struct err *e) {
    *done = false;
    for (int k = 0; k < f->plan->n_left; k++) {
        double best = INFINITY;
        int status = draw_remainder(r, f, taps, e);
        if (!status) status = try_edge(r, f, k, &best, e);
        if (!status && best <= FACTOR_EXACT) {
            status = descend(r, f, e);
            *done = !status;
        }
        if (*done || (status && !may_go_on(status, f, e))) return status;
    }
    return 0;
}

static int solve_irreducible(struct filling *f, struct err *e) {
    struct remainder r;
    int taps = 1, status = 0, sweeps = f->o->sweeps ? f->o->sweeps : SWEEPS;
    bool done = false;
    remainder_init(&r, f);
    for (int k = 0; k < r.m.n_edges; k++) taps = larger(taps, larger(r.m.edges[k].h, r.m.edges[k].w));
    for (int most = taps; !status && !done; most = shrunk(most)) {
        status = one_solution(&done, &r, f, most, e);
        if (most == 1) break;
    }
    if (status || done || sweeps < 0) goto out;
    double best = INFINITY;
    status = draw_remainder(&r, f, taps, e);
    for (int sweep = 0; !status && sweep < sweeps && best > FACTOR_EXACT; sweep++) {
        for (int k = 0; k < r.m.n_edges && !status; k++) {
            status = try_edge(&r, f, k, &best, e);
            if (may_go_on(status, f, e)) status = 0;
        }
        f->splits = 0;
        f->out->sweeps = sweep + 1;
    }
    if (!status) status = descend(&r, f, e);
out:
    remainder_fini(&r);
    return status;
}

/* ---- the result ---- */

static int measure(struct filling *f, struct err *e) {
    struct filter all, rest = {0};
    int status = module_compose(&all, f->m, f->out->filters, e);
    if (!status) status = sum_of(&rest, &all, -1, f->g, e);
    double norm = filter_norm(f->g);
    if (!status) f->out->residual = filter_norm(&rest) / (norm > 0 ? norm : 1);
    filter_fini(&all);
    filter_fini(&rest);
    return status;
}

static int finish(struct filling *f, struct err *e) {
    struct module_filters *out = f->out;
    int status = f->sketch ? 0 : measure(f, e);
    if (status) return status;
    out->exact = out->residual <= FACTOR_EXACT;
    for (int k = 0; k < f->m->n_edges; k++) {
        int margins[4];
        filter_margins(margins, &out->filters[k]);
        for (int a = 0; a < 2; a++)
            out->reach[k][a] = (a ? f->m->edges[k].w : f->m->edges[k].h) / 2 - smaller(margins[a], margins[a + 2]);
    }
    if (out->exact || f->o->approximate) return 0;
    return err_set(e, E_UNSUPPORTED,
                   "the module comes no nearer to the filter than %.3g of its norm, after %d rounds over "
                   "its edges: give its vertices more channels",
                   out->residual, out->sweeps);
}

int module_fill(struct module_filters *out, const struct module *m, const struct filter *g,
                const struct module_options *options, struct random *random, struct err *e) {
    struct module_plan plan;
    struct err scratch = {0}; /* attempts are judged by their errors, also when nobody wants to read them */
    struct filling f = {.m = m, .plan = &plan, .o = options, .g = g, .random = random, .out = out};
    *out = (struct module_filters){.n_edges = m->n_edges};
    e = e ? e : &scratch;
    int status = module_reduce(&plan, m, e);
    if (status) return status;
    if (g->in != m->channels[0] || g->out != m->channels[m->n_vertices - 1])
        return err_set(e, E_INVALID, "a filter of %d by %d channels for a module of %d by %d", g->out, g->in,
                       m->channels[m->n_vertices - 1], m->channels[0]);
    f.sketch = options->sketch && plan.simple;
    status = plan.simple ? solve(&f, plan.left[0], g, e) : solve_irreducible(&f, e);
    if (!status) status = finish(&f, e);
    if (status) module_filters_fini(out);
    return status;
}

void module_filters_fini(struct module_filters *f) {
    for (int k = 0; k < MODULE_EDGES; k++) filter_fini(&f->filters[k]);
}

/* carrier.c - see carrier.h. */
#include "engine/surgery/carrier.h"

#include "engine/surgery/factor.h"

#define REACHED 1e-9 /* residual, relative to the parent's filter */

/* What is asked: of an edge in the module, on one side of which `given` stands. */
struct task {
    bool first;    /* it stands in front of it */
    int channels;  /* of the parent, on the other side of `given` */
    int kernel[2]; /* of the parent */
    int size[2];   /* of the edge */
};

/* sum += x, both in the middle */
static int add(struct filter *sum, const struct filter *x, struct err *e) {
    struct filter both;
    int status = sum->data ? filter_embed(&both, sum, sum->h > x->h ? sum->h : x->h, sum->w > x->w ? sum->w : x->w, e)
                           : filter_copy(&both, x, e);
    if (!status && sum->data) status = filter_add(&both, 1, x, e);
    filter_fini(sum);
    *sum = both;
    return status;
}

/* at[to]: the sum over the paths between two vertices; no data when there is none. */
static int sum_paths(struct filter at[MODULE_VERTICES], bool done[MODULE_VERTICES], const struct module *m,
                     const struct filter *filters, int from, int to, struct err *e) {
    int status = 0;
    if (done[to] || to == from) return 0;
    done[to] = true;
    for (int k = 0; k < m->n_edges && !status; k++) {
        int v = m->edges[k].from;
        struct filter x = {0};
        if (m->edges[k].to != to) continue;
        status = sum_paths(at, done, m, filters, from, v, e);
        if (status || (v != from && !at[v].data)) continue;
        status = v == from ? filter_copy(&x, &filters[k], e) : filter_compose(&x, &at[v], &filters[k], e);
        if (!status) status = add(&at[to], &x, e);
        filter_fini(&x);
    }
    return status;
}

static int crop(struct filter *out, int margins[4], const struct filter *f, struct err *e) {
    filter_margins(margins, f);
    return filter_crop(out, f, f->h - margins[0] - margins[2], f->w - margins[1] - margins[3], margins[0], margins[1],
                       e);
}

/* What the module does behind an edge (`first`) or before it, cropped to what is not zero. */
static int around(struct filter *out, const struct module *m, const struct filter *filters,
                  const struct module_edge *edge, bool first, struct err *e) {
    struct filter at[MODULE_VERTICES] = {0};
    bool done[MODULE_VERTICES] = {false};
    int end = first ? m->n_vertices - 1 : edge->from, margins[4];
    int status = sum_paths(at, done, m, filters, first ? edge->to : 0, end, e);
    *out = (struct filter){0};
    if (!status) status = crop(out, margins, &at[end], e);
    for (int v = 0; v < m->n_vertices; v++) filter_fini(&at[v]);
    return status;
}

/* Of every single weight of the parent's, along one dimension, the smallest solution: solved[(c,u)][l,v], or with channels
 * turned over when it is first. */
static int solve_units(struct filter *solved, double *residual, const struct filter *given, const struct task *t,
                       struct err *e) {
    struct filter unit;
    int taps = t->kernel[0] * t->kernel[1], n = t->channels * taps, inner = t->first ? given->in : given->out;
    int status =
        filter_init(&unit, t->first ? t->channels : n, t->first ? n : t->channels, t->kernel[0], t->kernel[1], e);
    for (int a = 0; a < n && !status; a++)
        unit.data[(t->first ? a / taps * n + a : a * t->channels + a / taps) * taps + a % taps] = 1;
    if (!status) status = filter_init(solved, t->first ? inner : n, t->first ? n : inner, t->size[0], t->size[1], e);
    if (!status) status = factor_solve(solved, residual, given, t->first, &unit, e);
    filter_fini(&unit);
    return status;
}

/* Into the map's rows, one per weight of the parent's along the dimension. `repeat`: solved is of one tap, and goes for
 * each of the parent's. */
static void put_rows(float *to, const struct filter *solved, const struct task *t, bool repeat,
                     const struct filter *edge, int top, int left) {
    int n = t->first ? solved->in : solved->out, inner = t->first ? solved->out : solved->in,
        own = solved->h * solved->w;
    int taps = repeat ? t->kernel[0] * t->kernel[1] : own, width = repeat ? t->kernel[1] : solved->w;
    for (int a = 0; a < n; a++)
        for (int l = 0; l < inner; l++)
            for (int v = 0; v < taps; v++) {
                size_t row = repeat ? (size_t)a * (size_t)taps + (size_t)v : (size_t)a;
                size_t column =
                    (size_t)l * (size_t)(edge->h * edge->w) + (size_t)((v / width + top) * edge->w + v % width + left);
                size_t from = ((size_t)(t->first ? l * n + a : a * inner + l)) * (size_t)own + (size_t)(repeat ? 0 : v);
                to[row * (size_t)inner * (size_t)(edge->h * edge->w) + column] = (float)solved->data[from];
            }
}

/* The map of one group, [from][to]; *reached is false when there is none. A carrier reads beyond the taps that it has now
 * only with the parent's. */
static int map_group(float *to, bool *reached, const struct filter *given, const struct filter *edge, struct task t,
                     bool plain, struct err *e) {
    bool point = given->h * given->w == 1;
    const struct filter one = {.h = 1, .w = 1};
    struct filter solved = {0}, inside = {0};
    struct task ask = t;
    int margins[4] = {0}, status = point ? 0 : crop(&inside, margins, edge, e);
    double residual = 1;
    for (int d = 0; d < 2; d++) {
        if (point) ask.kernel[d] = 1;
        ask.size[d] = point ? 1 : d ? inside.w : inside.h;
        int most = point ? t.size[d] : ask.size[d] + (d ? given->w : given->h) - 1;
        *reached = *reached && t.kernel[d] <= most;
    }
    filter_fini(&inside);
    if (!status && *reached) status = solve_units(&solved, &residual, given, &ask, e);
    *reached = *reached && !status && residual <= REACHED;
    if (*reached && plain)
        put_rows(to, &solved, &ask, false, &one, 0, 0);
    else if (*reached)
        put_rows(to, &solved, &t, point, edge, point ? filter_offset(t.kernel[0], edge->h) : margins[0],
                 point ? filter_offset(t.kernel[1], edge->w) : margins[1]);
    filter_fini(&solved);
    return status;
}

/* Tries an edge that has the sink behind it or the source (`first`) in front of it. */
static int try_edge(struct carrier *out, const struct module *m, const struct module_filters *filters, int groups,
                    const int kernel[2], int edge, bool first, struct err *e) {
    struct err why = {0};
    const struct filter *f = &filters[0].filters[edge];
    struct task t = {first, m->channels[first ? m->n_vertices - 1 : 0], {kernel[0], kernel[1]}, {f->h, f->w}};
    bool reached = true, plain = false;
    struct array *map = NULL;
    int status = 0;
    for (int k = 0; k < groups && !status && reached; k++) {
        struct filter given;
        status = around(&given, m, filters[k].filters, &m->edges[edge], first, &why);
        if (status) break;
        if (!map) plain = given.h * given.w == 1 && f->h == kernel[0] && f->w == kernel[1];
        int64_t from = (int64_t)t.channels * (plain ? 1 : kernel[0] * kernel[1]);
        struct shape s = {.rank = 3, .dim = {groups, from, (first ? f->out : f->in) * (plain ? 1 : f->h * f->w)}};
        reached = origin_map_fits(s.dim[0], s.dim[1], s.dim[2]) &&
                  plain == (given.h * given.w == 1 && f->h == kernel[0] && f->w == kernel[1]);
        if (reached && !map) status = array_new(&map, DT_FLOAT32, &s, &why);
        if (reached && !status)
            status = map_group((float *)map->data + k * s.dim[1] * s.dim[2], &reached, &given,
                               &filters[k].filters[edge], t, plain, &why);
        filter_fini(&given);
    }
    if (!status && reached)
        *out = (struct carrier){edge, !first, map};
    else
        array_free(map);
    return status == E_NOMEM ? err_set(e, status, "%s", why.text) : 0;
}

int carrier_find(struct carrier *out, const struct module *m, const struct module_filters *filters, int groups,
                 const int kernel[2], struct err *e) {
    int last = m->n_vertices - 1, status = 0;
    *out = (struct carrier){.edge = -1};
    for (int k = 0; k < m->n_edges; k++) {
        const struct filter *f = &filters[0].filters[k];
        if (m->edges[k].from == 0 && m->edges[k].to == last && f->h == kernel[0] && f->w == kernel[1]) out->edge = k;
    }
    for (int first = 0; first < 2; first++)
        for (int k = 0; k < m->n_edges && out->edge < 0 && !status; k++)
            if ((m->edges[k].from == 0) != (m->edges[k].to == last) &&
                (first ? m->edges[k].from == 0 : m->edges[k].to == last))
                status = try_edge(out, m, filters, groups, kernel, k, first, e);
    return status;
}

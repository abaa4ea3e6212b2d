/* module.h - one convolution as a graph of them: Modularized Morphing (Wei et al. 2017, arXiv:1701.03281).
 *
 * A module is a directed graph without cycles, with one source (vertex 0) and one sink (the last vertex). Edges are
 * convolutions of odd kernels, edges that meet are added, vertices that fork are copied. Along a path filters compose,
 * over all paths they sum: the sum has to be the parent's filter G.
 *
 * Where the graph is series-parallel, module_reduce finds a recipe that makes it from a single edge: an edge becomes two
 * in series (TYPE-I) or two in parallel (TYPE-II). What is left of any other graph is irreducible and is solved filter by
 * filter (Algorithm 2). Nothing that is not exact to FACTOR_EXACT is returned unless asked for. */
#ifndef ENGINE_SURGERY_MODULE_H
#define ENGINE_SURGERY_MODULE_H

#include <stdbool.h>

#include "base/error.h"
#include "base/random.h"
#include "engine/surgery/filter.h"

enum { MODULE_VERTICES = 32, MODULE_EDGES = 64, MODULE_TAPS = 63, MODULE_PATHS = 256, MODULE_EDGE_TEXT = 64 };

struct module_edge {
    int from, to, h, w;
};

struct module {
    int n_vertices, channels[MODULE_VERTICES];
    const char *names[MODULE_VERTICES]; /* of vertices, for errors; borrowed, NULL: its number */
    int n_edges;
    struct module_edge edges[MODULE_EDGES];
};

/* "a->t". Edges of a plan, too, go between vertices of the module. */
const char *module_edge_text(char out[MODULE_EDGE_TEXT], const struct module *m, const struct module_edge *edge);

/* E_INVALID says what is wrong with the graph: a cycle, a vertex on no path, an even kernel. */
int module_check(const struct module *m, struct err *e);

/* The modules of the paper: "1c1", "3c1", "3c3" (an edge of h by w beside a chain of two convolutions of those kernels),
 * "1c1_2branch" (two chains instead). E_NOT_FOUND lists the names. */
int module_named(struct module *out, const char *name, int in, int inner, int out_channels, int h, int w,
                 struct err *e);

/* ---- reduction ---- */

struct module_step {
    bool series;               /* TYPE-I, else TYPE-II */
    int merged, first, second; /* edges; in series first comes first */
};

/* Edges from n_edges of the module on are merged ones: of the taps that their parts compose to. */
struct module_plan {
    struct module_edge edges[2 * MODULE_EDGES];
    int n_edges;
    struct module_step steps[MODULE_EDGES]; /* forward: from what is left to the module */
    int n_steps;
    int left[MODULE_EDGES], n_left; /* one edge: the module is simple */
    bool simple;
};

int module_reduce(struct module_plan *out, const struct module *m, struct err *e);

/* ---- filters ---- */

enum module_share {
    MODULE_ANY,    /* halves where that is possible, else noise */
    MODULE_HALVES, /* parallel edges get G/2 each */
    MODULE_NOISE   /* one of them noise, the other the rest */
};

struct module_options {
    enum module_share share;
    double noise;     /* norm of the noise beside a rest, in units of G's; 0: a quarter */
    int sweeps;       /* over an irreducible module's edges when one solution is not exact; 0: 20, negative: none */
    bool approximate; /* the best there is instead of a refusal */
    bool sketch;      /* see struct morphing; modules that are not simple are solved all the same */
    size_t memory;    /* bytes that a solution may take, also in a sketch; 0: no limit */
};

struct module_filters {
    int n_edges;
    struct filter filters[MODULE_EDGES]; /* of the module's edges */
    int reach[MODULE_EDGES][2];          /* taps from the middle beyond which all are zero */
    bool exact;
    double residual; /* |sum over paths - G| / |G| */
    int sweeps;
};

/* Filters for which the module is G, [channels of the sink][channels of the source]. E_UNSUPPORTED says which edge
 * stands in the way. */
int module_fill(struct module_filters *out, const struct module *m, const struct filter *g,
                const struct module_options *options, struct random *random, struct err *e);
void module_filters_fini(struct module_filters *f);

/* The module as one filter. */
int module_compose(struct filter *out, const struct module *m, const struct filter *filters, struct err *e);

struct module_path {
    int n, edges[MODULE_VERTICES], h, w; /* h, w: taps that the path composes to */
};

/* All paths from the source to the sink; E_TOO_LARGE when there are more than MODULE_PATHS. */
int module_paths(struct module_path *paths, int *n_paths, const struct module *m, struct err *e);
int module_path_filter(struct filter *out, const struct module_path *path, const struct filter *filters, struct err *e);

/* How every edge has to move so that all maps that are added have the same size and the borders are exact: a vertex's map
 * is wider than the image by as much as is needed further on, or as is not zero. Edges into the sink take the parent's
 * stride. E_UNSUPPORTED names an edge that would have to crop. Only the sink may have a bias: the parent's. */
int module_windows(struct filter_window windows[MODULE_EDGES], const struct module *m, const struct module_filters *f,
                   const struct filter *g, const struct filter_window *parent, struct err *e);

#endif

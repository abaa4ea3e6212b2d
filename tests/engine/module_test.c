/* Modules: reduction, filters that make them a given convolution, and their borders. */
#define TEST_SECONDS 30
#include "engine/surgery/module.h"

#include "tests/base/starve.h"
#include "tests/engine/images.h"

#define MODULE(vertices, edge_list, ...) \
    make_module(vertices, (int[]){__VA_ARGS__}, (struct module_edge[])edge_list, \
                sizeof((struct module_edge[])edge_list) / sizeof(struct module_edge))
#define EDGES(...) \
    { __VA_ARGS__ }

static struct module make_module(int n_vertices, const int *channels, const struct module_edge *edges, size_t n_edges) {
    struct module m = {.n_vertices = n_vertices, .n_edges = (int)n_edges};
    memcpy(m.channels, channels, (size_t)n_vertices * sizeof *channels);
    memcpy(m.edges, edges, n_edges * sizeof *edges);
    return m;
}

/* Figure (D) of the paper: s 0, a 1, b 2, c 3, t 4; edges in its order. */
static struct module figure_d(int h, int channels) {
    return MODULE(
        5, EDGES({0, 1, h, h}, {0, 2, h, h}, {1, 3, h, h}, {2, 3, h, h}, {1, 4, h, h}, {3, 4, h, h}, {2, 4, h, h}),
        channels, channels, channels, channels, channels);
}

/* ---- graphs ---- */

TEST(simple_or_not) {
    struct module chain = MODULE(4, EDGES({0, 1, 3, 3}, {1, 2, 1, 3}, {2, 3, 5, 1}), 2, 3, 4, 5);
    struct module_plan plan;
    struct err e = {0};
    need(module_reduce(&plan, &chain, &e) == 0, "%s", e.text);
    ok(plan.simple && plan.n_steps == 2 && plan.steps[0].series && plan.steps[1].series, "a chain");
    ok(plan.edges[plan.left[0]].h == 7 && plan.edges[plan.left[0]].w == 5, "%dx%d", plan.edges[plan.left[0]].h,
       plan.edges[plan.left[0]].w);
    ok(plan.steps[0].merged == plan.left[0], "split first what was fused last");
    struct module nested = MODULE(
        5, EDGES({0, 1, 3, 3}, {1, 2, 1, 1}, {1, 2, 3, 3}, {2, 4, 1, 1}, {0, 3, 1, 1}, {3, 4, 3, 3}, {0, 4, 1, 1}), 2,
        3, 4, 5, 6);
    need(module_reduce(&plan, &nested, &e) == 0, "%s", e.text);
    ok(plan.simple && plan.n_steps == 6, "%d steps", plan.n_steps);
    struct module d = figure_d(3, 4);
    need(module_reduce(&plan, &d, &e) == 0, "%s", e.text);
    ok(!plan.simple && plan.n_left == 7 && plan.n_steps == 0, "(D) is complex, not looped over");
    d.n_vertices = 6, d.channels[5] = 4, d.n_edges = 9; /* (D) with one edge made of two and one of parallels */
    for (int k = 0; k < 9; k++)
        if (d.edges[k].to == 4) d.edges[k].to = 5;
    d.edges[6] = (struct module_edge){2, 4, 3, 3};
    d.edges[7] = (struct module_edge){4, 5, 3, 3};
    d.edges[8] = (struct module_edge){0, 1, 1, 1};
    need(module_reduce(&plan, &d, &e) == 0, "%s", e.text);
    ok(!plan.simple && plan.n_left == 7 && plan.n_steps == 2, "%d left", plan.n_left);
    struct module edge = MODULE(2, EDGES({0, 1, 3, 3}), 2, 3);
    need(module_reduce(&plan, &edge, &e) == 0, "%s", e.text);
    ok(plan.simple && plan.n_steps == 0 && plan.left[0] == 0, "an edge");
}

TEST(what_is_no_module_is_refused) {
    struct err e = {0};
    struct module cycle = MODULE(4, EDGES({0, 1, 1, 1}, {1, 2, 1, 1}, {2, 1, 1, 1}, {2, 3, 1, 1}), 1, 1, 1, 1);
    ok(module_check(&cycle, &e) == E_INVALID && strstr(e.text, "cycle"), "%s", e.text);
    err_clear(&e);
    struct module alone = MODULE(3, EDGES({0, 2, 1, 1}, {0, 1, 1, 1}), 1, 1, 1);
    ok(module_check(&alone, &e) == E_INVALID && strstr(e.text, "'1' is on no path"), "%s", e.text);
    err_clear(&e);
    struct module even = MODULE(2, EDGES({0, 1, 2, 3}), 1, 1);
    ok(module_check(&even, &e) == E_INVALID && strstr(e.text, "2x3"), "%s", e.text);
    struct module back = MODULE(3, EDGES({0, 1, 1, 1}, {1, 2, 1, 1}, {1, 0, 1, 1}), 1, 1, 1);
    ok(module_check(&back, NULL) == E_INVALID, "into the source");
    struct module beyond = MODULE(2, EDGES({0, 7, 1, 1}), 1, 1);
    ok(module_check(&beyond, NULL) == E_INVALID, "a vertex that is not there");
    struct module empty = {0};
    ok(module_check(&empty, NULL) == E_INVALID, "nothing");
    ok(module_named(&empty, "2c2", 1, 1, 1, 1, 1, &e) == E_INVALID || strlen(e.text) > 0, "an error is there");
    err_clear(&e);
    ok(module_named(&empty, "2c2", 1, 1, 1, 1, 1, &e) == E_NOT_FOUND && strstr(e.text, "1c1_2branch"), "%s", e.text);
}

/* ---- filters ---- */

static struct image run(const struct image *x, const struct module *m, const struct filter *filters,
                        const struct filter_window *windows, const double *bias) {
    struct image at[MODULE_VERTICES] = {{0}};
    at[0] = *x;
    for (int done = 1; done < m->n_vertices; done++) /* the tests number vertices so that edges go forward */
        for (int k = 0; k < m->n_edges; k++) {
            if (m->edges[k].to != done) continue;
            struct image part = image_convolved(&at[m->edges[k].from], &filters[k], &windows[k], NULL);
            struct image *sum = &at[done];
            if (!sum->data) {
                *sum = part;
                continue;
            }
            ok(sum->h == part.h && sum->w == part.w, "edge %d: maps of %dx%d and %dx%d meet", k, sum->h, sum->w, part.h,
               part.w);
            for (int i = 0; i < sum->c * sum->h * sum->w && sum->h == part.h && sum->w == part.w; i++)
                sum->data[i] += part.data[i];
            mem_free(part.data);
        }
    for (int v = 1; v < m->n_vertices - 1; v++) mem_free(at[v].data);
    struct image y = at[m->n_vertices - 1];
    for (int i = 0; bias && i < y.c * y.h * y.w; i++) y.data[i] += bias[i / (y.h * y.w)];
    return y;
}

/* Whether the parent is padded on some side by less than half of h and w taps. */
static bool is_short(const struct filter_window *parent, int h, int w) {
    int missing[2] = {parent->dilation[0] * h / 2, parent->dilation[1] * w / 2};
    return parent->begin[0] < missing[0] || parent->end[0] < missing[0] || parent->begin[1] < missing[1] ||
           parent->end[1] < missing[1];
}

/* Whether the shortest path would have to read less of the image than the parent does. */
static bool would_crop(const struct module *m, const struct filter *g, const struct filter_window *parent) {
    static struct module_path paths[MODULE_PATHS];
    int n, h = MODULE_TAPS, w = MODULE_TAPS;
    module_paths(paths, &n, m, NULL);
    for (int k = 0; k < n; k++) h = h < paths[k].h ? h : paths[k].h, w = w < paths[k].w ? w : paths[k].w;
    return is_short(parent, g->h - h, g->w - w);
}

static void check_borders(const struct module *m, const struct module_filters *f, const struct filter *g) {
    double bias[16];
    for (int i = 0; i < 16; i++) bias[i] = i - 3;
    for (int stride = 1; stride <= 2; stride++)
        for (int dilation = 1; dilation <= 2; dilation++)
            for (int pad = 0; pad <= 3; pad++) {
                struct filter_window parent = {{stride, 1}, {dilation, dilation}, {pad, 1}, {1, pad}};
                struct filter_window windows[MODULE_EDGES];
                struct err e = {0};
                int status = module_windows(windows, m, f, g, &parent, &e);
                /* Maps that are wider than the image within the module may be in the way of unpadded parents too. */
                bool possible = !would_crop(m, g, &parent), must = !is_short(&parent, g->h - 1, g->w - 1);
                ok(status ? status == E_UNSUPPORTED && !must : possible, "padding %d: %d, %s", pad, status, e.text);
                if (status) continue;
                struct image x = image_noise(g->in, 12, 13, 5), y = image_convolved(&x, g, &parent, bias);
                struct image z = run(&x, m, f->filters, windows, bias);
                ok(EXACT(image_error(&y, &z, 0)), "stride %d dilation %d padding %d: %g", stride, dilation, pad,
                   image_error(&y, &z, 0));
                for (int k = 0; k < m->n_edges; k++)
                    for (int a = 0; a < 2; a++)
                        ok(windows[k].begin[a] >= 0 && windows[k].end[a] >= 0, "edge %d crops", k);
                mem_free(x.data), mem_free(y.data), mem_free(z.data);
            }
}

/* The sum over all paths is the filter, and so is what the module composes to. */
static void check_paths(const struct module *m, const struct module_filters *f, const struct filter *g) {
    static struct module_path paths[MODULE_PATHS];
    int n, h = 1, w = 1;
    struct filter sum, part, all;
    need(module_paths(paths, &n, m, NULL) == 0 && n > 0, "paths");
    for (int k = 0; k < n; k++) h = h > paths[k].h ? h : paths[k].h, w = w > paths[k].w ? w : paths[k].w;
    need(filter_init(&sum, g->out, g->in, h, w, NULL) == 0, "room");
    for (int k = 0; k < n; k++) {
        need(module_path_filter(&part, &paths[k], f->filters, NULL) == 0, "composes");
        ok(part.h == paths[k].h && part.w == paths[k].w, "path %d: %dx%d", k, part.h, part.w);
        need(filter_add(&sum, 1, &part, NULL) == 0, "adds");
        filter_fini(&part);
    }
    need(module_compose(&all, m, f->filters, NULL) == 0, "composes");
    ok(EXACT(filter_error(&sum, &all)), "paths against the whole: %g", filter_error(&sum, &all));
    need(filter_add(&all, -1, g, NULL) == 0, "subtracts");
    ok(filter_norm(&all) < 1e-11 * (filter_norm(g) + 1), "%g", filter_norm(&all));
    filter_fini(&sum), filter_fini(&all);
}

static void check_nonzero(const struct module_filters *f) {
    for (int k = 0; k < f->n_edges; k++) ok(filter_norm(&f->filters[k]) > 0, "edge %d is all zeros", k);
}

static int fill(struct module_filters *f, const struct module *m, const struct filter *g, enum module_share share,
                struct err *e) {
    struct module_options o = {.share = share};
    struct random random = random_seed(77);
    return module_fill(f, m, g, &o, &random, e);
}

/* Fills, and checks everything there is to check. */
static void check_module(const char *what, const struct module *m, const struct filter *g, enum module_share share) {
    static struct module_filters f;
    struct err e = {0};
    if (!ok(fill(&f, m, g, share, &e) == 0, "%s: %s", what, e.text)) return;
    ok(f.exact && f.residual <= 1e-12, "%s: %g", what, f.residual);
    check_paths(m, &f, g);
    check_borders(m, &f, g);
    check_nonzero(&f);
    module_filters_fini(&f);
}

static struct filter identity(int channels, double scale) {
    struct filter f;
    filter_init(&f, channels, channels, 1, 1, NULL);
    for (int i = 0; i < channels; i++) f.data[i * channels + i] = scale;
    return f;
}

/* The shortcut of a residual block: 0.5 I stays, 0.5 I becomes two convolutions. */
TEST(named_modules_of_an_identity) {
    static const char *const names[] = {"1c1", "3c1", "3c3", "1c1_2branch"};
    struct filter g = identity(4, 1), half = identity(4, 0.5);
    for (int k = 0; k < 4; k++)
        for (int inner = 4; inner <= 12; inner += 8) {
            struct module m;
            static struct module_filters f;
            struct err e = {0};
            need(module_named(&m, names[k], 4, inner, 4, 1, 1, &e) == 0, "%s", e.text);
            check_module(names[k], &m, &g, MODULE_HALVES);
            need(fill(&f, &m, &g, MODULE_HALVES, &e) == 0, "%s", e.text);
            if (k < 3) ok(filter_error(&f.filters[2], &half) == 0, "%s: the other half is 0.5 I", names[k]);
            module_filters_fini(&f);
        }
    filter_fini(&g), filter_fini(&half);
}

TEST(named_modules_of_a_convolution) {
    struct filter g = filter_noise(5, 3, 3, 3, 1), point = filter_noise(5, 3, 1, 1, 2);
    struct module m;
    static struct module_filters f;
    struct err e = {0};
    need(module_named(&m, "3c1", 3, 6, 5, 3, 3, &e) == 0, "%s", e.text);
    check_module("3c1, halves", &m, &g, MODULE_HALVES);
    check_module("3c1, noise", &m, &g, MODULE_NOISE);
    need(module_named(&m, "3c3", 3, 16, 5, 3, 3, &e) == 0, "%s", e.text);
    check_module("3c3 dense", &m, &g, MODULE_HALVES);
    need(module_named(&m, "1c1", 3, 6, 5, 3, 3, &e) == 0, "%s", e.text);
    ok(fill(&f, &m, &g, MODULE_HALVES, &e) == E_UNSUPPORTED, "half of 3x3 is in no 1x1");
    err_clear(&e);
    check_module("1c1, noise beside the rest", &m, &g, MODULE_ANY);
    need(module_named(&m, "1c1_2branch", 3, 6, 5, 3, 3, &e) == 0, "%s", e.text);
    ok(fill(&f, &m, &g, MODULE_ANY, &e) == E_UNSUPPORTED && strstr(e.text, "3"), "%s", e.text);
    err_clear(&e);
    check_module("1c1_2branch", &m, &point, MODULE_HALVES);
    check_module("1c1_2branch, noise", &m, &point, MODULE_NOISE);
    need(module_named(&m, "1c1", 3, 2, 5, 3, 3, &e) == 0, "%s", e.text);
    ok(fill(&f, &m, &point, MODULE_HALVES, &e) == E_UNSUPPORTED && strstr(e.text, "2 channels"), "%s", e.text);
    err_clear(&e);
    check_module("1c1 with a bottleneck: noise passes it, the rest does not have to", &m, &g, MODULE_NOISE);
    ok(fill(&f, &m, &(struct filter){.out = 3, .in = 3, .h = 1, .w = 1}, MODULE_ANY, NULL) == E_INVALID, "channels");
    filter_fini(&g), filter_fini(&point);
}

TEST(longer_recipes) {
    struct filter g = filter_noise(4, 4, 3, 3, 3);
    struct module chain = MODULE(4, EDGES({0, 1, 3, 3}, {1, 2, 3, 3}, {2, 3, 3, 3}), 4, 5, 6, 4);
    check_module("a chain of three", &chain, &g, MODULE_ANY);
    struct module inception = MODULE(
        5, EDGES({0, 1, 1, 1}, {1, 4, 3, 3}, {0, 2, 1, 1}, {2, 3, 3, 3}, {3, 4, 3, 3}, {0, 4, 1, 1}), 4, 4, 4, 6, 4);
    check_module("branches of several lengths", &inception, &g, MODULE_ANY);
    check_module("branches of several lengths", &inception, &g, MODULE_NOISE);
    struct module inside =
        MODULE(4, EDGES({0, 1, 3, 3}, {1, 2, 1, 1}, {1, 2, 3, 3}, {2, 3, 1, 1}, {0, 3, 3, 3}), 4, 5, 6, 4);
    check_module("parallels within a chain", &inside, &g, MODULE_ANY);
    check_module("parallels within a chain", &inside, &g, MODULE_NOISE);
    struct module flat = MODULE(3, EDGES({0, 1, 3, 1}, {1, 2, 1, 3}, {0, 2, 3, 3}), 4, 16, 4);
    check_module("an axis each", &flat, &g, MODULE_NOISE);
    filter_fini(&g);
}

/* ---- irreducible modules ---- */

TEST(figure_d_is_solved_by_one_filter) {
    for (int channels = 2; channels <= 6; channels += 2) {
        struct filter g = filter_noise(channels, channels, 1, 1, 4);
        struct module d = figure_d(1, channels);
        check_module("(D) with 1x1 filters", &d, &g, MODULE_ANY);
        filter_fini(&g);
    }
}

TEST(figure_d_with_taps) {
    struct filter g = filter_noise(3, 3, 3, 3, 5);
    struct module d = figure_d(3, 3);
    check_module("(D) with 3x3 filters", &d, &g, MODULE_ANY);
    d = figure_d(1, 3);
    d.edges[4].h = d.edges[4].w = 3; /* F5 alone has taps enough */
    check_module("(D) with one 3x3 filter", &d, &g, MODULE_ANY);
    filter_fini(&g);
}

TEST(irreducible_around_composite_edges) {
    struct filter g = filter_noise(3, 3, 3, 3, 6);
    struct module m = MODULE(6,
                             EDGES({0, 1, 3, 3}, {0, 2, 1, 1}, {1, 3, 1, 1}, {2, 3, 3, 3}, {1, 4, 3, 3}, {4, 5, 1, 1},
                                   {3, 5, 1, 1}, {2, 5, 1, 1}, {2, 5, 3, 3}),
                             3, 4, 4, 4, 5, 3);
    check_module("(D) with a chain and a pair", &m, &g, MODULE_ANY);
    filter_fini(&g);
}

/* Too few channels for any one filter to carry G. */
TEST(figure_d_too_narrow) {
    struct filter g = filter_noise(8, 8, 1, 1, 7);
    struct module d = figure_d(1, 8);
    static struct module_filters f;
    struct err e = {0};
    d.channels[1] = d.channels[2] = 2; /* every path goes through a or b: rank 4 */
    ok(fill(&f, &d, &g, MODULE_ANY, &e) == E_UNSUPPORTED && strstr(e.text, "channels"), "%s", e.text);
    err_clear(&e);
    struct module_options o = {.approximate = true};
    struct random random = random_seed(8);
    need(module_fill(&f, &d, &g, &o, &random, &e) == 0, "%s", e.text);
    ok(!f.exact && f.residual < 1 && f.residual > 0.05 && f.sweeps > 0, "%g", f.residual);
    module_filters_fini(&f);
    d.channels[1] = d.channels[2] = 4; /* rank 8, though no single path has it: the alternation finds it */
    o.sweeps = 200;
    need(module_fill(&f, &d, &g, &o, &random, &e) == 0, "%s", e.text);
    ok(f.residual < 1e-6, "%g after %d", f.residual, f.sweeps);
    module_filters_fini(&f), filter_fini(&g);
}

/* ---- housekeeping ---- */

TEST(windows_that_would_crop_are_refused) {
    struct module m = MODULE(4, EDGES({0, 1, 3, 3}, {1, 2, 3, 3}, {2, 3, 3, 3}, {1, 3, 1, 1}), 3, 8, 40, 3);
    struct filter g = filter_noise(3, 3, 3, 3, 9);
    static struct module_filters f;
    struct filter_window windows[MODULE_EDGES], parent = window_padded(1);
    struct err e = {0};
    need(fill(&f, &m, &g, MODULE_ANY, &e) == 0, "%s", e.text);
    for (int k = 0; k < 4; k++) f.reach[k][0] = f.reach[k][1] = k < 3; /* as if all had been dense */
    ok(module_windows(windows, &m, &f, &g, &parent, &e) == E_UNSUPPORTED && strstr(e.text, "edge 1->3"), "%s", e.text);
    module_filters_fini(&f), filter_fini(&g);
}

TEST(paths_have_a_maximum) {
    struct module m = {.n_vertices = 10, .n_edges = 18};
    static struct module_path paths[MODULE_PATHS];
    int n;
    for (int k = 0; k < 18; k++) m.edges[k] = (struct module_edge){k / 2, k / 2 + 1, 1, 1};
    for (int v = 0; v < 10; v++) m.channels[v] = 1;
    ok(module_paths(paths, &n, &m, NULL) == E_TOO_LARGE, "512 paths");
    struct module d = figure_d(3, 2);
    need(module_paths(paths, &n, &d, NULL) == 0, "(D)");
    ok(n == 4, "%d paths through (D)", n);
}

TEST(same_seed_same_bytes) {
    struct filter g = filter_noise(3, 3, 3, 3, 10);
    struct module m = figure_d(3, 3);
    static struct module_filters a, b;
    need(fill(&a, &m, &g, MODULE_ANY, NULL) == 0 && fill(&b, &m, &g, MODULE_ANY, NULL) == 0, "fills");
    for (int k = 0; k < 7; k++) ok(filter_error(&a.filters[k], &b.filters[k]) == 0, "edge %d", k);
    module_filters_fini(&a), module_filters_fini(&b), filter_fini(&g);
}

static struct module starved;
static struct filter wanted;
static struct module_filters filled;

static int fill_starved(void) {
    int status = fill(&filled, &starved, &wanted, MODULE_ANY, NULL);
    module_filters_fini(&filled);
    return status;
}

TEST(starving) {
    wanted = filter_noise(2, 2, 3, 3, 11);
    starved = MODULE(4, EDGES({0, 1, 3, 3}, {1, 2, 1, 1}, {1, 2, 1, 1}, {2, 3, 1, 1}, {0, 3, 3, 3}), 2, 2, 2, 2);
    starve("a recipe", fill_starved);
    filter_fini(&wanted);
    wanted = filter_noise(2, 2, 1, 1, 12);
    starved = figure_d(1, 2);
    starve("(D)", fill_starved);
    filter_fini(&wanted);
}

TEST_MAIN

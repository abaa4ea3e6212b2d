/* Depth morphs: when two filters can be one, and whether they then are. */
#define TEST_SECONDS 30
#include "engine/surgery/factor.h"

#include "tests/base/starve.h"
#include "tests/engine/images.h"

static double composed_error(const struct factor_pair *p, const struct filter *g) {
    struct filter composed, target;
    if (filter_compose(&composed, &p->first, &p->second, NULL)) return -1;
    if (filter_embed_at(&target, g, composed.h, composed.w, p->offset[0], p->offset[1], NULL)) return -1;
    double error = filter_error(&composed, &target);
    filter_fini(&composed), filter_fini(&target);
    return error;
}

static double largest(const struct filter *f) {
    double worst = 0;
    for (size_t i = 0; i < filter_count(f); i++) worst = fmax(worst, fabs(f->data[i]));
    return worst;
}

static struct factor_options through(int inner, int k1, int k2, enum factor_way way) {
    return (struct factor_options){.inner = inner, .first = {k1, k1}, .second = {k2, k2}, .way = way};
}

/* ---- the rank ---- */

/* Section 3 of Network Morphism: counts, ranks, and what one solution for the second factor leaves. */
TEST(the_count_of_unknowns_does_not_decide) {
    static const struct {
        int in, inner, k1, k2;
        int64_t unknowns, equations, rank;
    } rows[] = {{2, 6, 3, 3, 54, 50, 50},  {3, 9, 3, 3, 81, 75, 75}, {4, 12, 3, 3, 108, 100, 100},
                {1, 3, 3, 3, 27, 25, 24},  {1, 4, 3, 3, 36, 25, 25}, {1, 6, 5, 3, 54, 49, 49},
                {1, 2, 3, 5, 50, 49, 41},  {1, 3, 3, 5, 75, 49, 49}, {2, 4, 3, 5, 100, 98, 96},
                {2, 5, 3, 5, 125, 98, 98}, {2, 2, 1, 3, 18, 18, 18}};
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        /* One output more than anything else needs, so that it is the second factor that is solved for. */
        struct filter g =
            filter_noise(rows[k].in + 40, rows[k].in, rows[k].k1 == 1 ? 3 : 1, rows[k].k1 == 1 ? 3 : 1, k);
        struct factor_options o = through(rows[k].inner, rows[k].k1, rows[k].k2, FACTOR_GENERAL);
        o.sweeps = 1, o.approximate = true;
        struct random random = random_seed(k + 1);
        struct factor_pair p;
        struct err e = {0};
        need(factor_split(&p, &g, &o, &random, &e) == 0, "%s", e.text);
        bool full = rows[k].rank == rows[k].equations;
        ok(!p.solved_first && p.unknowns == rows[k].unknowns && p.equations == rows[k].equations, "%zu: %lld %lld", k,
           (long long)p.unknowns, (long long)p.equations);
        ok(p.exact == full && (full ? p.sweeps == 0 : p.residual > 1e-9), "%zu: residual %g", k, p.residual);
        ok(!full || p.rank == rows[k].rank, "%zu: rank %lld", k, (long long)p.rank);
        factor_pair_fini(&p), filter_fini(&g);
    }
}

/* The same, without a sweep that would make other numbers of the noise: the ranks that are too low. */
TEST(low_ranks_are_seen) {
    static const struct {
        int in, inner, k2;
        int64_t rank;
    } rows[] = {{1, 3, 3, 24}, {1, 2, 5, 41}, {2, 4, 5, 96}};
    for (size_t k = 0; k < 3; k++)
        for (uint64_t seed = 1; seed <= 3; seed++) {
            struct filter g = filter_noise(40, rows[k].in, 3, 3, seed);
            struct factor_options o = through(rows[k].inner, 3, rows[k].k2, FACTOR_GENERAL);
            o.sweeps = -1, o.approximate = true;
            struct random random = random_seed(seed);
            struct factor_pair p;
            need(factor_split(&p, &g, &o, &random, NULL) == 0, "splits");
            ok(p.rank == rows[k].rank && !p.exact && p.sweeps == 0, "%zu: rank %lld, residual %g", k, (long long)p.rank,
               p.residual);
            factor_pair_fini(&p), filter_fini(&g);
        }
}

TEST(alternation_reaches_what_one_solution_does_not) {
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct filter g = filter_noise(1, 1, 3, 3, seed);
        struct factor_options o = through(3, 3, 3, FACTOR_GENERAL);
        struct random random = random_seed(seed + 100); /* g must not be among the noise */
        struct factor_pair p;
        struct err e = {0};
        need(factor_split(&p, &g, &o, &random, &e) == 0, "%s", e.text);
        ok(p.exact && p.sweeps > 0 && p.equations == 25 && p.unknowns == 27, "residual %g after %d", p.residual,
           p.sweeps);
        ok(EXACT(composed_error(&p, &g)), "%g", composed_error(&p, &g));
        factor_pair_fini(&p), filter_fini(&g);
    }
}

/* Below the count the loss falls and stalls: about 2e-2, 1e-3, 5e-5 of the square after 12 sweeps. */
TEST(below_the_count_it_stalls) {
    double before = 1;
    for (int inner = 2; inner <= 4; inner++) {
        struct filter g = filter_noise(2, 2, 3, 3, 5);
        struct factor_options o = through(inner, 3, 3, FACTOR_GENERAL);
        struct random random = random_seed(6);
        struct factor_pair p;
        struct err e = {0};
        ok(factor_split(&p, &g, &o, &random, &e) == E_UNSUPPORTED && strstr(e.text, "equations"), "%s", e.text);
        ok(!p.first.data && !p.second.data, "nothing is left");
        o.approximate = true;
        double once = 0;
        for (int sweeps = 1; sweeps <= 12; sweeps += 11) {
            o.sweeps = sweeps;
            random = random_seed(6);
            need(factor_split(&p, &g, &o, &random, NULL) == 0, "splits");
            double loss = p.residual * p.residual;
            ok(!p.exact && p.sweeps == sweeps, "%d channels: %g", inner, loss);
            if (sweeps == 1)
                once = loss;
            else
                ok(loss < once && loss > 1e-8 && loss < before, "%d channels: %g, then %g", inner, once, loss);
            if (sweeps > 1) before = loss;
            factor_pair_fini(&p);
        }
        filter_fini(&g);
    }
}

TEST(more_channels_make_smaller_numbers) {
    double before = INFINITY;
    for (int inner = 6; inner <= 24; inner *= 2) {
        struct filter g = filter_noise(2, 2, 3, 3, 7);
        struct factor_options o = through(inner, 3, 3, FACTOR_GENERAL);
        struct random random = random_seed(8);
        struct factor_pair p;
        need(factor_split(&p, &g, &o, &random, NULL) == 0 && p.exact, "splits");
        double size = largest(&p.second) * largest(&p.first); /* what equal deviations leave alone */
        ok(size < before, "%d channels: %g after %g", inner, size, before);
        before = size;
        factor_pair_fini(&p), filter_fini(&g);
    }
}

/* ---- both ways ---- */

TEST(equal_deviations) {
    struct filter g = filter_noise(5, 4, 3, 3, 9);
    struct factor_options o = through(16, 3, 3, FACTOR_GENERAL);
    struct random random = random_seed(10);
    struct factor_pair p;
    need(factor_split(&p, &g, &o, &random, NULL) == 0, "splits");
    double a = filter_norm(&p.first) / sqrt((double)filter_count(&p.first));
    double b = filter_norm(&p.second) / sqrt((double)filter_count(&p.second));
    ok(fabs(a / b - 1) < 1e-12, "%g %g", a, b);
    factor_pair_fini(&p), filter_fini(&g);
}

/* Algorithm 2: the noise shrinks until the rest can be solved. */
TEST(noise_shrinks_to_what_is_solvable) {
    struct filter g = filter_noise(2, 2, 3, 3, 11);
    struct factor_options o = through(2, 3, 3, FACTOR_ANY);
    struct random random = random_seed(12);
    struct factor_pair p;
    need(factor_split(&p, &g, &o, &random, NULL) == 0, "splits");
    ok(p.exact && p.way == FACTOR_PRACTICAL && p.solved_first, "residual %g", p.residual);
    ok(p.margins2[0] == 1 && p.margins2[3] == 1 && p.margins1[0] == 0, "the second has one tap amid zeros");
    ok(p.second.h == 3 && EXACT(composed_error(&p, &g)), "%g", composed_error(&p, &g));
    factor_pair_fini(&p);
    /* 5x5 noise becomes 3x3 */
    o = through(8, 3, 5, FACTOR_PRACTICAL);
    o.inner = 6 * 25 / 9 / 3;
    struct filter tall = filter_noise(2, 30, 3, 3, 13);
    need(factor_split(&p, &tall, &o, &random, NULL) == 0, "splits");
    ok(p.exact && p.solved_first && p.margins2[0] == 2, "%d: %g", p.margins2[0], p.residual);
    factor_pair_fini(&p);
    o.inner = 6;
    need(factor_split(&p, &tall, &o, &random, NULL) == 0, "splits");
    ok(p.exact && p.margins2[0] == 1 && p.margins2[1] == 1, "%d: %g", p.margins2[0], p.residual);
    factor_pair_fini(&p), filter_fini(&g), filter_fini(&tall);
}

TEST(practical_both_ways_and_bottlenecks) {
    struct random random = random_seed(14);
    struct factor_pair p;
    struct err e = {0};
    struct filter wide = filter_noise(8, 3, 3, 3, 15);
    struct factor_options o = through(3, 3, 3, FACTOR_ANY); /* fewer than outputs, as many as inputs */
    need(factor_split(&p, &wide, &o, &random, &e) == 0, "%s", e.text);
    ok(p.exact && !p.solved_first && p.margins1[0] == 1 && EXACT(composed_error(&p, &wide)), "%g", p.residual);
    factor_pair_fini(&p);
    o.inner = 2;
    ok(factor_split(&p, &wide, &o, &random, &e) == E_UNSUPPORTED && strstr(e.text, "As many channels"), "%s", e.text);
    err_clear(&e);
    o.approximate = true;
    need(factor_split(&p, &wide, &o, &random, &e) == 0, "%s", e.text);
    ok(!p.exact && p.residual > 1e-3 && p.residual < 1, "%g", p.residual);
    factor_pair_fini(&p);
    o = through(8, 1, 1, FACTOR_ANY);
    ok(factor_split(&p, &wide, &o, &random, &e) == E_UNSUPPORTED && strstr(e.text, "taps"), "%s", e.text);
    err_clear(&e);
    o.inner = 0, o.first[0] = 3, o.first[1] = 3;
    ok(factor_split(&p, &wide, &o, &random, NULL) == E_INVALID, "no channels");
    wide.data[5] = NAN;
    o.inner = 9;
    ok(factor_split(&p, &wide, &o, &random, NULL) == E_INVALID, "not a number");
    filter_fini(&wide);
}

/* Large systems fall into parts, each with the count of its own; what comes out is as dense as other noise. */
TEST(large_systems_in_parts) {
    static const int inner[] = {192, 200, 178}; /* 178: the least, only parts of multiples of nine fit */
    for (int k = 0; k < 3; k++) {
        struct filter g = filter_noise(70, 64, 3, 3, 16);
        struct factor_options o = through(inner[k], 3, 3, FACTOR_GENERAL);
        struct random random = random_seed(17);
        struct factor_pair p;
        struct err e = {0};
        need(factor_split(&p, &g, &o, &random, &e) == 0, "%s", e.text);
        ok(p.exact && p.rank == 1600 && EXACT(composed_error(&p, &g)), "%d: %g", inner[k], composed_error(&p, &g));
        int small = 0;
        double rms = filter_norm(&p.first) / sqrt((double)filter_count(&p.first));
        for (size_t i = 0; i < filter_count(&p.first); i++) small += fabs(p.first.data[i]) < 1e-3 * rms;
        ok(small < (int)filter_count(&p.first) / 200, "%d: %d of the noise are zero", inner[k], small);
        factor_pair_fini(&p), filter_fini(&g);
    }
}

TEST(dense_layers_odd_and_even_kernels) {
    static const struct {
        int out, in, h, w, inner, first[2], second[2];
    } cases[] = {{7, 5, 1, 1, 9, {1, 1}, {1, 1}}, {7, 5, 1, 1, 5, {1, 1}, {1, 1}},  {4, 3, 3, 1, 4, {3, 1}, {1, 3}},
                 {4, 3, 2, 2, 4, {2, 2}, {2, 2}}, {4, 3, 2, 3, 20, {2, 2}, {1, 2}}, {4, 4, 5, 5, 16, {3, 3}, {3, 3}},
                 {1, 1, 7, 7, 9, {4, 4}, {4, 4}}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct filter g = filter_noise(cases[k].out, cases[k].in, cases[k].h, cases[k].w, k);
        struct factor_options o = {.inner = cases[k].inner};
        memcpy(o.first, cases[k].first, sizeof o.first), memcpy(o.second, cases[k].second, sizeof o.second);
        struct random random = random_seed(k);
        struct factor_pair p;
        struct err e = {0};
        need(factor_split(&p, &g, &o, &random, &e) == 0, "%zu: %s", k, e.text);
        ok(p.exact && EXACT(composed_error(&p, &g)), "%zu: %g", k, composed_error(&p, &g));
        factor_pair_fini(&p), filter_fini(&g);
    }
    struct filter none;
    need(filter_init(&none, 3, 3, 3, 3, NULL) == 0, "a filter of zeros");
    struct factor_options o = through(3, 3, 1, FACTOR_ANY);
    struct random random = random_seed(1);
    struct factor_pair p;
    ok(factor_split(&p, &none, &o, &random, NULL) == 0 && p.exact, "zeros");
    factor_pair_fini(&p), filter_fini(&none);
}

/* ---- borders ---- */

/* Section 5: errors over the whole map and inside for paddings of the two factors. */
static void layout(const struct factor_pair *p, const struct filter *g, int pad1, int pad2, const double *bias1,
                   const double *bias2, bool whole, bool inside) {
    struct image x = image_noise(g->in, 9, 8, 20);
    struct filter_window pad = window_padded(1), w1 = window_padded(pad1), w2 = window_padded(pad2);
    struct image y = image_convolved(&x, g, &pad, NULL), l = image_convolved(&x, &p->first, &w1, bias1);
    struct image z = image_convolved(&l, &p->second, &w2, bias2);
    double all = image_error(&y, &z, 0), in = image_error(&y, &z, 2);
    ok(EXACT(all) == whole && (whole || all > 0.1), "pads %d %d: whole map %g", pad1, pad2, all);
    ok(EXACT(in) == inside, "pads %d %d: inside %g", pad1, pad2, in);
    mem_free(x.data), mem_free(y.data), mem_free(l.data), mem_free(z.data);
}

static struct factor_pair split(const struct filter *g, int inner, int k1, int k2, enum factor_way way) {
    struct factor_options o = through(inner, k1, k2, way);
    struct random random = random_seed(21);
    struct factor_pair p;
    struct err e = {0};
    ok(factor_split(&p, g, &o, &random, &e) == 0, "%s", e.text);
    return p;
}

TEST(where_the_padding_goes) {
    struct filter g = filter_noise(2, 2, 3, 3, 22);
    struct factor_pair p = split(&g, 6, 3, 3, FACTOR_GENERAL);
    layout(&p, &g, 1, 1, NULL, NULL, false, true);
    layout(&p, &g, 2, 0, NULL, NULL, true, true);
    factor_pair_fini(&p);
    p = split(&g, 6, 1, 3, FACTOR_GENERAL);
    layout(&p, &g, 0, 1, NULL, NULL, true, true);
    double bias1[6] = {1, 2, 3, 4, 5, 6}, bias2[2] = {0};
    for (int j = 0; j < 2; j++)
        for (int l = 0; l < 6; l++)
            for (int v = 0; v < 9; v++) bias2[j] -= p.second.data[(j * 6 + l) * 9 + v] * bias1[l];
    layout(&p, &g, 0, 1, bias1, bias2, false, true);
    factor_pair_fini(&p);
    p = split(&g, 6, 3, 1, FACTOR_GENERAL);
    layout(&p, &g, 1, 0, NULL, NULL, true, true);
    factor_pair_fini(&p);
    p = split(&g, 2, 3, 3, FACTOR_PRACTICAL);
    layout(&p, &g, 1, 1, NULL, NULL, true, true);
    factor_pair_fini(&p), filter_fini(&g);
}

/* The rule for the windows, under every kind of parent. */
static void check_windows(const struct factor_pair *p, const struct filter *g, const struct filter_window *parent,
                          bool early) {
    struct filter_window w1, w2;
    factor_windows(&w1, &w2, p, g, parent, early);
    for (int a = 0; a < 2; a++)
        ok(w1.begin[a] >= 0 && w1.end[a] >= 0 && w2.begin[a] >= 0 && w2.end[a] >= 0, "paddings are not negative");
    for (int size = 11; size <= 14; size++) {
        struct image x = image_noise(g->in, size, size + 1, 23), y = image_convolved(&x, g, parent, NULL);
        struct image l = image_convolved(&x, &p->first, &w1, NULL), z = image_convolved(&l, &p->second, &w2, NULL);
        ok(EXACT(image_error(&y, &z, 0)), "%dx%d after %dx%d, stride %d, dilation %d, padding %d: %g", p->second.h,
           p->second.w, p->first.h, p->first.w, parent->stride[0], parent->dilation[0], parent->begin[0],
           image_error(&y, &z, 0));
        mem_free(x.data), mem_free(y.data), mem_free(l.data), mem_free(z.data);
    }
}

TEST(windows_for_every_parent) {
    static const struct {
        int k, inner, k1, k2;
        enum factor_way way;
    } cases[] = {{3, 6, 3, 3, FACTOR_GENERAL},   {3, 6, 1, 3, FACTOR_GENERAL},   {3, 6, 3, 1, FACTOR_GENERAL},
                 {3, 2, 3, 3, FACTOR_PRACTICAL}, {3, 2, 1, 3, FACTOR_PRACTICAL}, {3, 2, 5, 3, FACTOR_PRACTICAL},
                 {2, 2, 2, 2, FACTOR_ANY},       {3, 4, 2, 4, FACTOR_ANY},       {1, 2, 3, 3, FACTOR_ANY}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct filter g = filter_noise(2, 2, cases[k].k, cases[k].k, k);
        struct factor_pair p = split(&g, cases[k].inner, cases[k].k1, cases[k].k2, cases[k].way);
        for (int stride = 1; stride <= 3; stride++)
            for (int dilation = 1; dilation <= 2; dilation++)
                for (int pad = 0; pad <= 3; pad++) {
                    struct filter_window parent = {{stride, 1}, {dilation, dilation}, {pad, 1}, {pad / 2, pad}};
                    check_windows(&p, &g, &parent, false);
                    check_windows(&p, &g, &parent, true);
                }
        factor_pair_fini(&p), filter_fini(&g);
    }
}

TEST(early_stride_computes_less) {
    struct filter g = filter_noise(2, 2, 3, 3, 24);
    struct factor_pair p = split(&g, 2, 3, 3, FACTOR_PRACTICAL);
    struct filter_window parent = {{2, 2}, {1, 1}, {1, 1}, {1, 1}}, w1, w2;
    factor_windows(&w1, &w2, &p, &g, &parent, true);
    ok(w1.stride[0] == 2 && w2.stride[0] == 1 && w1.begin[0] == 1 && w2.begin[0] == 1, "in the first");
    factor_windows(&w1, &w2, &p, &g, &parent, false);
    ok(w1.stride[0] == 1 && w2.stride[0] == 2, "in the second");
    factor_pair_fini(&p);
    p = split(&g, 6, 3, 3, FACTOR_GENERAL);
    factor_windows(&w1, &w2, &p, &g, &parent, true);
    ok(w1.stride[0] == 1 && w2.stride[0] == 2 && w1.begin[0] == 2 && w2.begin[0] == 0, "the second reads neighbours");
    factor_pair_fini(&p), filter_fini(&g);
}

/* ---- housekeeping ---- */

/* What a solution takes is refused before it is made, in a sketch alike. */
TEST(solutions_beyond_the_memory) {
    struct filter g = filter_noise(8, 6, 3, 3, 91);
    for (int sketch = 0; sketch < 2; sketch++) {
        struct factor_options o = through(10000, 3, 3, FACTOR_ANY);
        struct random random = random_seed(92);
        struct factor_pair p;
        struct err e = {0};
        o.sketch = sketch;
        o.memory = (size_t)100 << 20; /* 150 equations with 90000 unknowns, twice: 216 MB */
        ok(factor_split(&p, &g, &o, &random, &e) == E_TOO_LARGE && strstr(e.text, "104857600"), "%s", e.text);
        err_clear(&e);
        o.inner = 1000;
        ok(factor_split(&p, &g, &o, &random, &e) == 0, "%s", e.text);
        factor_pair_fini(&p);
    }
    filter_fini(&g);
}

TEST(same_seed_same_bytes) {
    struct filter g = filter_noise(30, 64, 3, 3, 25);
    struct factor_pair p[2];
    for (int k = 0; k < 2; k++) {
        void *between = mem_alloc(1000);
        struct factor_options o = through(190, 3, 3, FACTOR_ANY);
        struct random random = random_seed(26);
        need(factor_split(&p[k], &g, &o, &random, NULL) == 0, "splits");
        mem_free(between);
    }
    ok(filter_error(&p[0].first, &p[1].first) == 0 && filter_error(&p[0].second, &p[1].second) == 0, "bytes");
    struct factor_options o = through(190, 3, 3, FACTOR_ANY);
    struct random random = random_seed(27);
    factor_pair_fini(&p[1]);
    need(factor_split(&p[1], &g, &o, &random, NULL) == 0, "splits");
    ok(filter_error(&p[0].first, &p[1].first) > 0, "another seed");
    factor_pair_fini(&p[0]), factor_pair_fini(&p[1]), filter_fini(&g);
}

static struct filter starved;
static struct factor_options starved_options;

static int split_starved(void) {
    struct random random = random_seed(28);
    struct factor_pair p;
    int status = factor_split(&p, &starved, &starved_options, &random, NULL);
    factor_pair_fini(&p);
    return status;
}

TEST(starving) {
    starved = filter_noise(1, 1, 3, 3, 29);
    starved_options = through(3, 3, 3, FACTOR_ANY); /* with alternation */
    starved_options.sweeps = 2, starved_options.approximate = true;
    starve("alternation", split_starved);
    starved_options = through(1, 3, 3, FACTOR_ANY);
    starve("practical", split_starved);
    filter_fini(&starved);
    starved = filter_noise(2, 64, 1, 1, 30);
    starved_options = through(65, 2, 2, FACTOR_GENERAL);
    starved_options.inner = 150;
    starve("parts", split_starved);
    filter_fini(&starved);
}

TEST_MAIN

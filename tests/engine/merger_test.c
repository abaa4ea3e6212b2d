/* Layers of two: what they compute against every weight of both by itself, and gradients against differences. */
#include "engine/nn/merger.h"

#include "base/memory.h"
#include "base/random.h"
#include "engine/nn/origin.h"
#include "tests/test.h"

enum { MOST = 4096 };

/* A layer without a merged one's groups; the weights are [out][in][height][width], or [in][out]. */
struct layer {
    int out, in, groups, kernel[2]; /* in: of one group */
    bool columns;
};

struct geometry {
    bool sum;
    int groups, step[2][2], start[2][2];
    struct layer a, b, c;
};

static const struct geometry geometries[] = {
    {.groups = 1, .a = {4, 3, 1, {1, 1}}, .b = {5, 4, 1, {1, 1}}, .c = {5, 3, 1, {1, 1}}},
    {.groups = 1, .a = {4, 3, 1, {1, 1}, true}, .b = {5, 4, 1, {1, 1}, false}, .c = {5, 3, 1, {1, 1}, true}},
    {.groups = 1, .step = {{1, 2}, {2, 1}}, .a = {4, 3, 1, {3, 2}}, .b = {5, 4, 1, {2, 3}}, .c = {5, 3, 1, {5, 5}}},
    {.groups = 2, .step = {{1, 1}, {1, 1}}, .a = {8, 3, 2, {1, 3}}, .b = {4, 4, 2, {1, 2}}, .c = {4, 3, 2, {1, 4}}},
    {.groups = 1, .step = {{1, 1}, {1, 1}}, .a = {6, 1, 6, {3, 3}}, .b = {4, 6, 1, {1, 1}}, .c = {4, 6, 1, {3, 3}}},
    {.groups = 2, .step = {{1, 1}, {1, 1}}, .a = {8, 4, 2, {1, 1}}, .b = {8, 2, 4, {2, 2}}, .c = {8, 4, 2, {2, 2}}},
    {.sum = true,
     .groups = 1,
     .step = {{1, 1}, {2, 1}},
     .start = {{0, 1}, {1, 0}},
     .a = {4, 3, 1, {3, 2}},
     .b = {4, 3, 1, {2, 3}},
     .c = {4, 3, 1, {4, 3}}},
    {.sum = true,
     .groups = 2,
     .step = {{1, 1}, {1, 1}},
     .start = {{0, 0}, {1, 1}},
     .a = {4, 2, 2, {3, 3}},
     .b = {4, 1, 4, {1, 1}},
     .c = {4, 2, 2, {3, 3}}},
    {.sum = true, .groups = 1, .a = {4, 3, 1, {1, 1}, true}, .b = {4, 3, 1, {1, 1}}, .c = {4, 3, 1, {1, 1}, true}},
};
enum { GEOMETRIES = sizeof geometries / sizeof *geometries };

static size_t count(const struct layer *l) {
    return (size_t)(l->out * l->in * l->kernel[0] * l->kernel[1]);
}

/* A weight that reads one of all channels; NULL when the group has none for it. */
static double *weight(double *w, const struct layer *l, int o, int channel, int y, int x) {
    int group = o / (l->out / l->groups), i = channel - group * l->in;
    if (i < 0 || i >= l->in) return NULL;
    return &w[l->columns ? i * l->out + o : ((o * l->in + i) * l->kernel[0] + y) * l->kernel[1] + x];
}

/* Weights and bias of the merged layer, term by term. */
static void merge(double *c, double *bias, double *const factor[MERGER_FACTORS], const struct geometry *g) {
    memset(c, 0, count(&g->c) * sizeof *c);
    for (int o = 0; o < g->c.out; o++) bias[o] = factor[FACTOR_B_BIAS][o] + (g->sum ? factor[FACTOR_A_BIAS][o] : 0);
    for (int k = 0; k < 2 && g->sum; k++)
        for (int o = 0; o < g->c.out; o++)
            for (int i = 0; i < g->c.in * g->c.groups; i++)
                for (int y = 0; y < (k ? g->b : g->a).kernel[0]; y++)
                    for (int x = 0; x < (k ? g->b : g->a).kernel[1]; x++) {
                        double *from = weight(factor[k ? FACTOR_B : FACTOR_A], k ? &g->b : &g->a, o, i, y, x);
                        double *to = weight(c, &g->c, o, i, g->start[k][0] + y * g->step[k][0],
                                            g->start[k][1] + x * g->step[k][1]);
                        if (from) *to += *from;
                    }
    for (int o = 0; o < g->b.out && !g->sum; o++)
        for (int m = 0; m < g->a.out; m++)
            for (int v = 0; v < g->b.kernel[0] * g->b.kernel[1]; v++) {
                int vy = v / g->b.kernel[1], vx = v % g->b.kernel[1];
                double *b = weight(factor[FACTOR_B], &g->b, o, m, vy, vx);
                if (!b) continue;
                bias[o] += *b * factor[FACTOR_A_BIAS][m];
                for (int i = 0; i < g->c.in * g->c.groups; i++)
                    for (int u = 0; u < g->a.kernel[0] * g->a.kernel[1]; u++) {
                        int uy = u / g->a.kernel[1], ux = u % g->a.kernel[1];
                        double *a = weight(factor[FACTOR_A], &g->a, m, i, uy, ux);
                        if (!a) continue;
                        *weight(c, &g->c, o, i, uy * g->step[0][0] + vy * g->step[1][0],
                                ux * g->step[0][1] + vx * g->step[1][1]) += *b * *a;
                    }
            }
}

static void shape_of(struct shape *out, const struct layer *l) {
    int64_t rows = l->columns ? l->in : l->out, columns = l->columns ? l->out : l->in;
    bool dense = l->kernel[0] * l->kernel[1] == 1;
    *out = (struct shape){.rank = dense ? 2 : 4, .dim = {rows, columns, l->kernel[0], l->kernel[1]}};
}

static void need_array(struct array **out, const struct shape *shape) {
    enum dtype type = sizeof(real) == sizeof(float) ? DT_FLOAT32 : DT_FLOAT64;
    need(!array_new(out, type, shape, NULL), "an array");
}

/* As a fold leaves it; the factors are zeros. */
static void make(struct merger **out, const struct geometry *g) {
    struct merger *m = *out = mem_calloc(1, sizeof *m);
    const struct layer *layers[] = {&g->a, &g->b};
    need(m != NULL, "memory");
    need_array(&m->plan, &(struct shape){1, {MERGER_NUMBERS}});
    real *number = m->plan->data;
    number[MERGER_IS_SUM] = g->sum;
    number[MERGER_GROUPS] = (real)g->groups;
    number[MERGER_COLUMNS] = g->c.columns;
    for (int k = 0; k < 2; k++) {
        struct shape shape;
        number[MERGER_COLUMNS + 1 + k] = layers[k]->columns;
        for (int axis = 0; axis < 2; axis++) {
            number[MERGER_STEP + 2 * k + axis] = (real)g->step[k][axis];
            number[MERGER_START + 2 * k + axis] = (real)g->start[k][axis];
        }
        shape_of(&shape, layers[k]);
        need_array(&m->factor[2 * k], &shape);
        need_array(&m->factor[2 * k + 1], &(struct shape){1, {layers[k]->out}});
    }
}

static size_t sizes(size_t n[MERGER_FACTORS], const struct geometry *g) {
    n[FACTOR_A] = count(&g->a), n[FACTOR_A_BIAS] = (size_t)g->a.out;
    n[FACTOR_B] = count(&g->b), n[FACTOR_B_BIAS] = (size_t)g->b.out;
    return n[0] + n[1] + n[2] + n[3];
}

struct numbers {
    double exact[MERGER_FACTORS][MOST];
    real rounded[MERGER_FACTORS][MOST];
};

static void draw(struct numbers *f, const size_t n[MERGER_FACTORS], struct random *r) {
    for (int k = 0; k < MERGER_FACTORS; k++)
        for (size_t i = 0; i < n[k]; i++) f->exact[k][i] = (double)(f->rounded[k][i] = (real)random_normal(r));
}

static void point(const void *out[MERGER_FACTORS], const struct numbers *f, bool exact) {
    for (int k = 0; k < MERGER_FACTORS; k++) out[k] = exact ? (const void *)f->exact[k] : (const void *)f->rounded[k];
}

static double product(const real *a, const double *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

static const double close_to = sizeof(real) == sizeof(float) ? 1e-4 : 1e-11;

/* From nothing to factors, and from these to others. */
static void follows(const struct geometry *g, const struct joint *j, int row) {
    static struct numbers factor, change, after;
    static double c[MOST], bias[64];
    static real followed[MOST], followed_bias[64], scratch[8 * MOST];
    size_t n[MERGER_FACTORS];
    struct random r = random_seed((uint64_t)row);
    const void *now[MERGER_FACTORS], *by[MERGER_FACTORS], *exact[MERGER_FACTORS];
    sizes(n, g);
    draw(&factor, n, &r);
    draw(&change, n, &r);
    memset(followed, 0, sizeof followed);
    memset(followed_bias, 0, sizeof followed_bias);
    need(joint_scratch(j) <= 8 * MOST, "%zu", joint_scratch(j));
    for (int step = 0; step < 2; step++) {
        for (int k = 0; k < MERGER_FACTORS; k++)
            for (size_t i = 0; i < n[k]; i++) {
                after.rounded[k][i] = factor.rounded[k][i] + (step ? change.rounded[k][i] : 0);
                after.exact[k][i] = (double)after.rounded[k][i];
            }
        point(now, &after, false);
        point(by, step ? &change : &factor, false);
        point(exact, &after, true);
        joint_push(followed, followed_bias, (const real *const *)now, (const real *const *)by, j, scratch);
        merge(c, bias, (double *const *)exact, g);
        double worst = 0;
        for (size_t i = 0; i < count(&g->c); i++) worst = fmax(worst, fabs((double)followed[i] - c[i]));
        for (int o = 0; o < g->c.out; o++) worst = fmax(worst, fabs((double)followed_bias[o] - bias[o]));
        ok(worst < close_to, "row %d, step %d: off by %g", row, step, worst);
    }
}

/* The layer is linear in every factor by itself, so differences are derivatives. */
static void differentiates(const struct geometry *g, const struct joint *j, int row) {
    static struct numbers factor, gradient, direction, moved;
    static double c[2][MOST], bias[2][64];
    static real of_c[MOST], of_bias[64], scratch[8 * MOST];
    size_t n[MERGER_FACTORS];
    struct random r = random_seed((uint64_t)row + 100);
    const void *at[MERGER_FACTORS], *out[MERGER_FACTORS], *exact[MERGER_FACTORS];
    sizes(n, g);
    draw(&factor, n, &r);
    draw(&direction, n, &r);
    for (size_t i = 0; i < count(&g->c); i++) of_c[i] = (real)random_normal(&r);
    for (int o = 0; o < g->c.out; o++) of_bias[o] = (real)random_normal(&r);
    point(at, &factor, false);
    point(out, &gradient, false);
    joint_pull((real *const *)out, (const real *const *)at, of_c, of_bias, j, scratch);
    for (int k = 0; k < MERGER_FACTORS; k++) {
        for (int side = 0; side < 2; side++) {
            moved = factor;
            for (size_t i = 0; i < n[k]; i++) moved.exact[k][i] += side ? direction.exact[k][i] : 0;
            point(exact, &moved, true);
            merge(c[side], bias[side], (double *const *)exact, g);
        }
        double slope = product(of_c, c[1], count(&g->c)) - product(of_c, c[0], count(&g->c)) +
                       product(of_bias, bias[1], (size_t)g->c.out) - product(of_bias, bias[0], (size_t)g->c.out);
        double found = product(gradient.rounded[k], direction.exact[k], n[k]);
        ok(fabs(slope - found) <= close_to * (1 + fabs(slope)), "row %d, factor %d: %g, by differences %g", row, k,
           found, slope);
    }
}

TEST(merged_layers_follow_and_are_differentiated) {
    for (int i = 0; i < GEOMETRIES; i++) {
        const struct geometry *g = &geometries[i];
        struct merger *m;
        struct joint j;
        struct shape shape;
        struct err e = {0};
        make(&m, g);
        shape_of(&shape, &g->c);
        if (ok(!joint_init(&j, m, &shape, "c", &e), "row %d: %s", i, e.text)) {
            follows(g, &j, i);
            differentiates(g, &j, i);
        }
        merger_free(m);
    }
}

/* What is added to a layer may be none. */
TEST(a_sum_with_what_is_no_layer_is_the_layer_at_its_taps) {
    struct geometry g = geometries[6];
    struct merger *m;
    struct joint j;
    struct shape shape;
    struct err e = {0};
    static real c[MOST], bias[64], scratch[8 * MOST];
    static struct numbers factor;
    size_t n[MERGER_FACTORS];
    struct random r = random_seed(1);
    make(&m, &g);
    shape_of(&shape, &g.c);
    array_free(m->factor[FACTOR_B]);
    array_free(m->factor[FACTOR_B_BIAS]);
    m->factor[FACTOR_B] = m->factor[FACTOR_B_BIAS] = NULL;
    need(!joint_init(&j, m, &shape, "c", &e), "%s", e.text);
    sizes(n, &g);
    draw(&factor, n, &r);
    real *one[MERGER_FACTORS] = {factor.rounded[FACTOR_A], factor.rounded[FACTOR_A_BIAS], NULL, NULL};
    joint_push(c, bias, (const real *const *)one, (const real *const *)one, &j, scratch);
    double sum = 0, expected = 0;
    for (size_t i = 0; i < count(&g.c); i++) sum += (double)c[i];
    for (size_t i = 0; i < n[FACTOR_A]; i++) expected += factor.exact[FACTOR_A][i];
    ok(fabs(sum - expected) < close_to && bias[3] == factor.rounded[FACTOR_A_BIAS][3], "%g, not %g", sum, expected);
    static struct numbers gradient;
    real *of[MERGER_FACTORS] = {gradient.rounded[FACTOR_A], gradient.rounded[FACTOR_A_BIAS], NULL, NULL};
    joint_pull(of, (const real *const *)one, c, bias, &j, scratch);
    ok(!memcmp(of[FACTOR_A], one[FACTOR_A], n[FACTOR_A] * sizeof(real)), "and back");
    merger_free(m);
}

/* Stored plans are read back: whatever they say, it fits or it is refused. */
TEST(plans_that_do_not_fit_are_refused) {
    static const double odd[] = {-1, 0, 1, 2, 3, 7, 1e5, 1e30, 0.5, INFINITY, -INFINITY, NAN};
    static real c[MOST], bias[64], scratch[8 * MOST];
    static struct numbers factor, gradient;
    int refused = 0;
    for (int i = 0; i < GEOMETRIES; i++)
        for (int at = 0; at < MERGER_NUMBERS; at++)
            for (size_t k = 0; k < sizeof odd / sizeof *odd; k++) {
                struct merger *m;
                struct joint j;
                struct shape shape;
                struct err e = {0};
                make(&m, &geometries[i]);
                shape_of(&shape, &geometries[i].c);
                ((real *)m->plan->data)[at] = (real)odd[k];
                const void *f[MERGER_FACTORS], *of[MERGER_FACTORS];
                point(f, &factor, false);
                point(of, &gradient, false);
                int status = joint_init(&j, m, &shape, "c", &e);
                ok(!status || status == E_INVALID, "row %d, number %d: %s", i, at, e.text);
                if (!status && joint_scratch(&j) <= 8 * MOST) {
                    joint_pull((real *const *)of, (const real *const *)f, c, bias, &j, scratch);
                    joint_push(c, bias, (const real *const *)f, (const real *const *)f, &j, scratch);
                }
                refused += status != 0;
                merger_free(m);
            }
    ok(refused > 200, "%d refused", refused);
}

TEST_MAIN

/* Update rules against PyTorch 1.13, five steps with a gradient that depends on the parameters. */
#include "engine/nn/optimizer.h"

#include "base/random.h"
#include "tests/test.h"

struct reference {
    int rule;
    double rate, momentum, decay;
    double expected[4];
};

enum { SGD, ADAM, RMSPROP };

static const struct reference references[] = {
    {SGD, 0.1, 0.9, 0.01, {0.319921613, -0.639843225, -0.594168246, 3.07132578}},
    {SGD, 0.1, 0, 0, {0.714600623, -1.42920125, -0.00303316349, 3.15273571}},
    {ADAM, 0.1, NAN, 0.01, {0.49794212, -1.49832463, 0.00633247942, 2.89440608}},
    {ADAM, 0.1, NAN, 0, {0.497996658, -1.49840581, 0.00653360039, 2.91316295}},
    {RMSPROP, 0.01, NAN, 0.01, {0.640233994, -1.6363461, 0.104163788, 3.08200669}},
    {RMSPROP, 0.01, 0.9, 0, {-0.00715854159, -0.97424078, -0.598797739, 2.92629385}},
};

TEST(rules_are_pytorchs) {
    struct crew *crew;
    need(crew_new(&crew, 1, NULL) == 0, "crew");
    for (size_t r = 0; r < sizeof references / sizeof *references; r++) {
        const struct reference *ref = &references[r];
        struct optimizer o;
        need(optimizer_init(&o, &optimizer_table[ref->rule], 4, ref->momentum, ref->decay, NULL) == 0, "init");
        real p[] = {1, -2, (real)0.5, 3};
        const double slope[] = {0.1, -0.2, 0.3, -0.4};
        for (int t = 1; t <= 5; t++) {
            real g[4];
            for (int i = 0; i < 4; i++) g[i] = (real)(0.3 * (double)p[i] + slope[i] * t);
            optimizer_step(&o, crew, p, g, ref->rate, 0);
        }
        for (int i = 0; i < 4; i++)
            ok(test_relative((double)p[i], ref->expected[i]) < 2e-6, "%s (row %zu) p[%d] = %.9g, PyTorch %.9g",
               optimizer_table[ref->rule].name, r, i, (double)p[i], ref->expected[i]);
        optimizer_fini(&o);
    }
    crew_free(crew);
}

TEST(clipping_is_pytorchs) {
    struct crew *crew;
    struct optimizer o;
    need(crew_new(&crew, 1, NULL) == 0 && optimizer_init(&o, &optimizer_table[SGD], 4, 0, 0, NULL) == 0, "init");
    real p[4] = {0};
    const real g[] = {3, 4, 0, 12}, broken[] = {3, (real)NAN, 0, 0};
    ok(optimizer_step(&o, crew, p, g, 1, 2) == 13, "norm");
    const double expected[] = {-0.461538434, -0.615384579, 0, -1.84615374};
    for (int i = 0; i < 4; i++) ok(fabs((double)p[i] - expected[i]) < 1e-6, "p[%d] = %.9g", i, (double)p[i]);
    real before[4];
    memcpy(before, p, sizeof p);
    ok(isnan(optimizer_step(&o, crew, p, broken, 1, 2)) && !memcmp(before, p, sizeof p), "NaN changes nothing");
    optimizer_fini(&o);
    crew_free(crew);
}

/* Several blocks and a rest that fills no vector. */
#define MANY (3 * OPTIMIZER_BLOCK + 37)

static void run_many(real *p, int rule, int threads) {
    struct crew *crew;
    struct optimizer o;
    need(crew_new(&crew, threads, NULL) == 0, "crew");
    need(optimizer_init(&o, &optimizer_table[rule], MANY, NAN, 0.001, NULL) == 0, "init");
    struct random random = random_seed(test_seed());
    real *g = malloc(MANY * sizeof *g);
    for (size_t i = 0; i < MANY; i++) p[i] = (real)random_normal(&random);
    for (int t = 0; t < 3; t++) {
        for (size_t i = 0; i < MANY; i++) g[i] = (real)random_normal(&random);
        optimizer_step(&o, crew, p, g, 0.01, 1);
    }
    free(g);
    optimizer_fini(&o);
    crew_free(crew);
}

TEST(bits_do_not_depend_on_threads) {
    static real one[MANY], three[MANY];
    for (int rule = SGD; rule <= RMSPROP; rule++) {
        run_many(one, rule, 1);
        run_many(three, rule, 3);
        ok(memcmp(one, three, sizeof one) == 0, "%s", optimizer_table[rule].name);
    }
}

TEST(names_are_the_table) {
    const char *expected[] = {"sgd", "adam", "rmsprop"};
    for (int i = SGD; i <= RMSPROP; i++) ok(!strcmp(optimizer_table[i].name, expected[i]), "row %d", i);
    ok(!strcmp(OPTIMIZER_NAMES, "sgd adam rmsprop") && !optimizer_table[3].name, "no more and no fewer");
}

/* One step on a gradient of 1 from a state of its own, at that age. */
static double moved(int rule, double pace, uint64_t age) {
    struct crew *crew;
    struct optimizer o;
    real p = 0, g = 1;
    if (!ok(!crew_new(&crew, 1, NULL) && !optimizer_init(&o, &optimizer_table[rule], 1, NAN, 0, NULL), "init"))
        return 0;
    if (!ok(!optimizer_take_pace(&o, NULL), "pace")) return 0;
    o.pace[0] = (real)pace;
    o.since = 1000;
    o.steps = o.since + age - 1;
    for (int c = 0; c < o.rule->copies; c++) o.state[c] = 1;
    optimizer_step(&o, crew, &p, &g, 0.1, 0);
    if (age > OPTIMIZER_YOUTH) ok(!o.pace, "given back");
    optimizer_fini(&o);
    crew_free(crew);
    return (double)p;
}

TEST(paces_hold_and_then_go_to_one) {
    for (int rule = 0; optimizer_table[rule].name; rule++) {
        static const struct {
            uint64_t age;
            double factor;
        } ages[] = {{1, 3},
                    {OPTIMIZER_REST, 3},
                    {(OPTIMIZER_REST + OPTIMIZER_YOUTH) / 2, 2.5},
                    {OPTIMIZER_YOUTH, 1},
                    {OPTIMIZER_YOUTH + 1, 1}};
        for (size_t i = 0; i < sizeof ages / sizeof *ages; i++) {
            double off = moved(rule, 3, ages[i].age) / moved(rule, 1, ages[i].age);
            ok(fabs(off - ages[i].factor) < 1e-5, "%s: %g at step %d", optimizer_table[rule].name, off,
               (int)ages[i].age);
        }
        ok(moved(rule, 0, 1) == 0 && moved(rule, 0, OPTIMIZER_REST) == 0, "new ones rest");
        ok(moved(rule, 0, OPTIMIZER_REST + 100) < 0, "and then begin");
    }
}

/* A parameter, and the same one as two copies of shares 1/4 and 3/4 that make a channel: what they do is the same, weight
 * decay and clipping included. */
TEST(copies_do_what_the_one_would_have_done) {
    for (int rule = 0; optimizer_table[rule].name; rule++) {
        struct crew *crew;
        struct optimizer one, two;
        need(!crew_new(&crew, 1, NULL), "crew");
        need(!optimizer_init(&one, &optimizer_table[rule], 1, 0.9, 0.1, NULL), "one");
        need(!optimizer_init(&two, &optimizer_table[rule], 2, 0.9, 0.1, NULL) && !optimizer_take_pace(&two, NULL),
             "two");
        const double share[] = {0.25, 0.75};
        real p = 1, q[2] = {1, 1}, g, h[2];
        for (int i = 0; i < 2; i++) {
            two.pace[i] = (real)pow(share[i], -optimizer_table[rule].power);
            two.pace[2 + i] = (real)share[i];
        }
        for (int t = 0; t < OPTIMIZER_REST; t++) {
            g = (real)cos(t);
            for (int i = 0; i < 2; i++) h[i] = (real)(share[i] * (double)g);
            double norm = optimizer_step(&one, crew, &p, &g, 0.01, 0.3);
            double same = optimizer_step(&two, crew, q, h, 0.01, 0.3);
            ok(fabs(norm - same) < 1e-6, "%s: norm %g and %g", optimizer_table[rule].name, norm, same);
        }
        ok(fabs((double)(p - q[0])) < 1e-4 && fabs((double)(p - q[1])) < 1e-4, "%s: %g, %g and %g",
           optimizer_table[rule].name, (double)p, (double)q[0], (double)q[1]);
        optimizer_fini(&one);
        optimizer_fini(&two);
        crew_free(crew);
    }
}

TEST_MAIN

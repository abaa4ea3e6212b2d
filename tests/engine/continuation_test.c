/* Training that stops and goes on later: as if it had not stopped. */
#define TEST_SECONDS 60
#include "tests/engine/course.h"

/* ---- stopping and starting again ---- */

/* The largest difference of two networks' weights, relative to the largest weight of each. */
static double weights_apart(const struct graph *a, const struct graph *b) {
    double worst = 0;
    for (int v = 0; v < a->n_values; v++) {
        const struct array *x = a->values[v].constant, *y = b->values[v].constant;
        double most = 1e-30, off = 0;
        for (size_t i = 0; x && i < x->count; i++) {
            double p, q;
            array_to_double(&p, x, i, 1);
            array_to_double(&q, y, i, 1);
            most = fmax(most, fabs(p));
            off = fmax(off, fabs(p - q));
        }
        worst = fmax(worst, off / most);
    }
    return worst;
}
TEST(going_on_is_as_not_having_stopped_bit_by_bit) {
    make_data(true); /* so the order of samples, which starts anew, does not matter */
    for (int rule = 0; rule < RULES; rule++) {
        struct course c;
        struct graph *whole = small_net(false), *parts = small_net(false), *fresh = small_net(false);
        course_init(&c, rule, 16, 16);
        c.spec.weight_decay = 0.01;
        need(course_run(&c, whole, 30, 1), "in one go");
        need(course_run(&c, parts, 20, 1) && through_bytes(parts) && course_run(&c, parts, 10, 1), "in two");
        ok(strstr(c.log, "going on with"), "%s", c.log);
        ok(same_weights(whole, parts), "%s: the weights differ", optimizer_table[rule].name);
        ok(parts->training.steps == 30 && parts->training.rule == rule && parts->training.rate == rates[rule],
           "%d steps", (int)parts->training.steps);
        need(course_run(&c, fresh, 20, 1), "first part");
        c.task.go_on = false;
        need(course_run(&c, fresh, 10, 1), "second part");
        ok(!same_weights(whole, fresh), "%s: what is kept does not matter", optimizer_table[rule].name);
        graph_free(whole);
        graph_free(parts);
        graph_free(fresh);
    }
}

TEST(full_batches_of_different_samples) {
    make_data(false);
    for (int rule = 0; rule < RULES; rule++) {
        struct course c;
        struct graph *whole = small_net(true), *parts = small_net(true);
        course_init(&c, rule, 64, 64);
        need(course_run(&c, whole, 30, 1), "in one go");
        need(course_run(&c, parts, 20, 1) && course_run(&c, parts, 10, 1), "in two");
        double off = weights_apart(whole, parts);
        ok(off < 1e-3, "%s: off by %g", optimizer_table[rule].name, off);
        graph_free(whole);
        graph_free(parts);
    }
}

TEST(a_schedule_may_go_on_as_well) {
    make_data(true);
    struct course c;
    struct graph *whole = small_net(false), *parts = small_net(false);
    course_init(&c, ADAM, 16, 16);
    c.spec.schedule.kind = SCHEDULE_COSINE;
    need(course_run(&c, whole, 30, 1), "in one go");
    c.spec.schedule.length = 30;
    need(course_run(&c, parts, 20, 1), "20 steps");
    c.task.schedule_from = 20;
    need(course_run(&c, parts, 10, 1), "10 more");
    ok(same_weights(whole, parts), "the weights differ");
    ok(whole->training.rate == parts->training.rate && whole->training.rate < 0.1 * rates[ADAM], "the last rate is %g",
       parts->training.rate);
    graph_free(whole);
    graph_free(parts);
}

static bool keeps_something(const struct graph *g) {
    for (int v = 0; v < g->n_values; v++)
        for (int k = 0; k < VALUE_MEMORIES; k++)
            if (g->values[v].memory[k]) return true;
    return g->training.rule >= 0;
}

TEST(nothing_is_kept_unless_asked_for) {
    make_data(false);
    struct course c;
    struct graph *g = small_net(true);
    course_init(&c, ADAM, 64, 64);
    c.task.keep_memory = false;
    need(course_run(&c, g, 3, 1), "run");
    ok(!keeps_something(g), "it was not asked for");
    c.task.keep_memory = true;
    need(course_run(&c, g, 3, 1), "run");
    ok(keeps_something(g) && strstr(c.log, "starts fresh"), "it was asked for: %s", c.log);
    for (int v = 0; v < g->n_values; v++)
        ok(!g->values[v].memory[0] == !(g->values[v].constant && g->values[v].trainable), "%s", g->values[v].name);
    c.spec.optimizer = SGD;
    need(course_run(&c, g, 3, 1), "run");
    ok(strstr(c.log, "starts fresh") && g->training.rule == SGD && g->training.steps == 3, "another rule: %s", c.log);
    c.task.keep_memory = false;
    need(course_run(&c, g, 3, 1), "run");
    ok(!keeps_something(g), "it goes with a run that does not keep it");
    graph_free(g);
}

TEST_MAIN

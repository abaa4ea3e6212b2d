/* What holds of every kind of morph step in all its samples: the parent stays, what is new learns, the same seed gives the
 * same child, reports are JSON, and without memory nothing is left behind. */
#define TEST_SECONDS 120
#include "tests/test.h"

#include "base/clock.h"
#include "engine/formats/onnx.h"
#include "tests/base/starve.h"
#include "tests/engine/morph_kit.h"
#include "tests/engine/small_net.h"

static bool same_graph(const struct graph *a, const struct graph *b) {
    bool same = a->n_nodes == b->n_nodes && a->n_values == b->n_values;
    for (int v = 0; v < a->n_values && same; v++) {
        const struct array *x = a->values[v].constant, *y = b->values[v].constant;
        same = strcmp(a->values[v].name, b->values[v].name) == 0 && !x == !y;
        if (x && same) same = x->count == y->count && !memcmp(x->data, y->data, x->count * dtype_size(x->type));
    }
    return same;
}

/* The kinds that this file is about, in all their samples. */
static const char *next_sample(int *kind, int *at) {
    for (; morph_table[*kind]; (*kind)++, *at = 0)
        if (morph_table[*kind]->samples[*at]) return morph_table[*kind]->samples[(*at)++];
    return NULL;
}

TEST(the_parent_stays_as_it_was) {
    struct graph *parent = residual(), *copy;
    struct err e = {0};
    need(parent && !graph_clone(&copy, parent, &e), "%s", e.text);
    for (int v = 0; v < copy->n_values; v++) /* clones share their elements, also with the child */
        if (copy->values[v].constant) need(!array_own(copy->values[v].constant, &e), "%s", e.text);
    int kind = 0, at = 0;
    for (const char *text; (text = next_sample(&kind, &at));) {
        struct err why = {0};
        graph_free(grown(parent, text, &md_data, NULL, &why));
        ok(same_graph(parent, copy), "%s changed its parent", text);
    }
    graph_free(copy);
    graph_free(parent);
}

/* On random networks every new tensor learns at once or when a step of descent has been taken. */
TEST(what_is_new_learns) {
    int kind = 0, at = 0, proofs = 0;
    for (const char *text; (text = next_sample(&kind, &at));) {
        struct morph_step s;
        if (!parse_step(&s, text) || !morph_is_exact(&s)) continue;
        for (uint64_t seed = 1; seed <= 4; seed++) {
            struct random_graph r = {0};
            struct random_graph_options o = {.with = RG_CONV, .without = RG_CLIP, .blocks = 3, .least_blocks = 2};
            struct err e = {0};
            need(!random_graph(&r, 100 + seed, &o, &e), "%s", e.text);
            struct graph *child = grown(r.graph, text, NULL, NULL, &e);
            if (child) prove(r.graph, child, !morph_training(&s, morph_count_norms(r.graph), child), text);
            proofs += child != NULL;
            graph_free(child);
            graph_free(r.graph);
        }
    }
    ok(proofs > 50, "%d proofs", proofs);
}

TEST(the_same_seed_gives_the_same_child) {
    struct graph *parent = residual();
    int kind = 0, at = 0;
    for (const char *text; (text = next_sample(&kind, &at));) {
        struct err e = {0};
        struct graph *a = grown(parent, text, &md_data, NULL, &e), *b = grown(parent, text, &md_data, NULL, &e);
        ok(!a == !b && (!a || same_graph(a, b)), "%s", text);
        graph_free(a);
        graph_free(b);
    }
    graph_free(parent);
}

/* What nobody asked for must not cost the function: without options that it does not need a kind is exact, or none of its modes is. */
TEST(default_options_that_do_not_preserve) {
    for (int k = 0; morph_table[k]; k++) {
        char text[64];
        struct morph_step s;
        const struct morph_kind *kind = morph_table[k];
        snprintf(text, sizeof text, "{\"op\":\"%s\"%s}", kind->name, step_needed(kind));
        need(parse_step(&s, text), "%s", text);
        ok(morph_is_exact(&s) || (kind->inexact && strcmp(kind->inexact, "*") == 0), "%s, mode '%s'", kind->name,
           s.mode);
        ok(s.noise <= 0, "%s has noise", kind->name);
    }
}

/* Written and read again; NULL when that fails. */
static struct graph *through_onnx(const struct graph *g, const char *what) {
    struct graph *back = NULL;
    struct text file;
    struct err e = {0};
    text_init(&file, 1 << 24);
    int status = onnx_write(byte_sink_text(&file), g, &e);
    if (!status) status = onnx_read(&back, file.data, file.length, &e);
    text_free(&file);
    return ok(!status, "%s: %s", what, e.text) ? back : NULL;
}

static void comes_back(const struct graph *parent, const char *text, int *children) {
    struct morph_step s;
    struct err e = {0};
    if (!parse_step(&s, text) || !morph_is_exact(&s)) return;
    struct graph *child = grown(parent, text, NULL, NULL, &e), *back = child ? through_onnx(child, text) : NULL;
    if (back) prove(parent, back, !morph_training(&s, morph_count_norms(parent), child), text);
    *children += back != NULL;
    graph_free(child);
    graph_free(back);
}

/* A bias that was not written, an attribute with its default, a constant in another type: the child in a file is the
 * child. */
TEST(child_that_changes_in_its_file) {
    struct graph *parents[] = {residual(), usual(43, window(3, 2, 1, 1), true, "Relu")};
    int children = 0;
    for (size_t i = 0; i < sizeof parents / sizeof *parents; i++) {
        int kind = 0, at = 0;
        for (const char *text; (text = next_sample(&kind, &at));) comes_back(parents[i], text, &children);
        graph_free(parents[i]);
    }
    ok(children > 30, "%d children", children);
}

TEST(reports_are_json) {
    struct graph *parent = residual();
    int kind = 0, at = 0;
    for (const char *text; (text = next_sample(&kind, &at));) {
        struct err e = {0};
        struct text report;
        struct json *json = NULL;
        text_init(&report, 1 << 20);
        struct graph *child = grown(parent, text, &md_data, &report, &e);
        if (child) ok(!json_parse(&json, report.data, report.length, &e), "%s: %s: %s", text, e.text, report.data);
        json_free(json);
        text_free(&report);
        graph_free(child);
    }
    graph_free(parent);
}

static bool has_name(const struct json *list, const char *name) {
    for (const struct json *at = list ? json_first(list) : NULL; at; at = json_next(at))
        if (strcmp(json_string(at), name) == 0) return true;
    return false;
}

/* "layers" of a report are those that have changed: for each entry of the kind's own list, whether it says so itself. */
TEST(layers_that_stay_as_they_are_are_not_among_those_that_changed) {
    static const struct {
        const char *step, *list, *says; /* a member that is false for what stays */
        int changed, others;
    } cases[] = {
        {"{\"op\":\"factor\",\"layer\":\"*\",\"energy\":0.9}", "factors", "factored", 1, 1},
        {"{\"op\":\"module\",\"layer\":\"sum*\",\"recipe\":\"3c1-half\"}", "modules", "", 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct graph *parent = residual();
        struct err e = {0};
        struct text report;
        struct json *json = NULL;
        int changed = 0, others = 0, told = 0;
        text_init(&report, 1 << 20);
        struct graph *child = grown(parent, cases[i].step, &md_data, &report, &e);
        need(child && !json_parse(&json, report.data, report.length, &e), "%s: %s", cases[i].step, e.text);
        const struct json *layers = json_get(json, "layers"), *list = json_get(json, cases[i].list);
        for (const struct json *at = json_first(list); at; at = json_next(at)) {
            const struct json *says = json_get(at, cases[i].says);
            bool is = !says || json_bool(says);
            ok(has_name(layers, json_string(json_get(at, "layer"))) == is, "%s: %s", cases[i].step, report.data);
            changed += is, others += !is;
        }
        for (const struct json *at = json_first(layers); at; at = json_next(at)) told++;
        ok(told == changed && changed >= cases[i].changed && others >= cases[i].others, "%s: %d told, %d and %d: %s",
           cases[i].step, told, changed, others, report.data);
        json_free(json);
        text_free(&report);
        graph_free(child);
        graph_free(parent);
    }
}

/* Whether the report's list "refused" has that layer. */
static bool is_told(const struct json *report, const char *layer) {
    const struct json *list = json_get(report, "refused");
    for (const struct json *at = list ? json_first(list) : NULL; at; at = json_next(at))
        if (strcmp(json_string(json_get(at, "layer")), layer) == 0) return true;
    return false;
}

/* A pattern for layers with parameters does not mean activations and sums; for what does nothing, it may. */
TEST(refusals_are_told_of_nodes_that_a_kind_could_mean) {
    static const struct {
        const char *step;
        bool all;
    } cases[] = {
        {"{\"op\":\"widen\",\"layer\":\"*\",\"factor\":2}", false},
        {"{\"op\":\"deepen\",\"layer\":\"*\"}", false},
        {"{\"op\":\"activation\",\"layer\":\"*\"}", false},
        {"{\"op\":\"kernel\",\"layer\":\"*\",\"size\":5}", false},
        {"{\"op\":\"subnet\",\"layer\":\"*\"}", false},
        {"{\"op\":\"narrow\",\"layer\":\"*\",\"factor\":0.5}", false},
        {"{\"op\":\"factor\",\"layer\":\"*\",\"rank\":2}", false},
        {"{\"op\":\"module\",\"layer\":\"*\",\"recipe\":\"1c1\"}", true},
        {"{\"op\":\"skip\",\"layer\":\"*\",\"from\":\"*\"}", true},
        {"{\"op\":\"fold\",\"layer\":\"*\"}", true},
        {"{\"op\":\"remove\",\"layer\":\"*\"}", true},
    };
    struct graph *parent = residual();
    need(parent != NULL, "no network");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct morph_step s;
        struct morphing m;
        struct text report;
        struct json *json = NULL;
        struct graph *copy;
        struct err e = {0};
        need(parse_step(&s, cases[i].step) && !graph_clone(&copy, parent, &e), "%s", e.text);
        morphing_init(&m, copy, 5, &md_data);
        text_init(&report, 1 << 16);
        struct json_writer w = json_writer(&report);
        int *nodes = NULL, n, told = 0;
        json_open_object(&w, NULL);
        (void)morph_find(&nodes, &n, &m, &s, &w, &e);
        json_close_object(&w);
        need(!json_parse(&json, report.data, report.length, &e), "%s: %s", cases[i].step, e.text);
        for (int k = 0; k < parent->n_nodes; k++) {
            struct err refused = {0};
            bool refuses = morph_table[s.op]->can(&m, k, &s, &refused) != 0, is = is_told(json, parent->nodes[k].name);
            bool plain = !strcmp(parent->nodes[k].op->name, "Relu") || !strcmp(parent->nodes[k].op->name, "Add");
            bool meant = cases[i].all || !plain;
            ok(is == (refuses && meant), "%s: '%s' is %stold", cases[i].step, parent->nodes[k].name, is ? "" : "not ");
            told += is;
        }
        ok(told > 0, "%s: nothing is told", cases[i].step);
        mem_free(nodes);
        json_free(json);
        text_free(&report);
        morphing_fini(&m);
    }
    graph_free(parent);
}

/* A dozen steps can multiply the nodes each time: the one that makes too many is refused, and tells what it was about. */
TEST(steps_that_multiply_nodes_are_refused) {
    struct morph_step s;
    struct morphing m;
    struct graph *parent = residual();
    struct err e = {0};
    int64_t start = clock_monotonic_ns();
    int status = 0, steps = 0;
    need(parent && parse_step(&s, "{\"op\":\"module\",\"layer\":\"*\",\"recipe\":\"1c1\"}"), "no network");
    morphing_init(&m, parent, 5, NULL);
    m.sketch = true;
    for (; steps < 12 && !status; steps++) status = morph_apply(&m, &s, NULL, &e);
    double seconds = (double)(clock_monotonic_ns() - start) / 1e9;
    ok(status == E_TOO_LARGE && strstr(e.text, "nodes") && m.graph->n_nodes <= MORPH_MAX_NODES, "after %d steps: %s",
       steps, e.text);
    ok(seconds < 20, "%.1f s", seconds);
    morphing_fini(&m);
}

static int count_down(void *left, struct err *e) {
    return --*(int *)left > 0 ? 0 : err_set(e, E_CANCELLED, "enough");
}

TEST(steps_end_when_the_tick_says_so) {
    static const char *const steps[] = {"{\"op\":\"deepen\",\"layer\":\"*\"}", "{\"op\":\"remove\",\"layer\":\"*\"}",
                                        "{\"op\":\"fold\",\"layer\":\"*\"}",
                                        "{\"op\":\"factor\",\"layer\":\"*\",\"rank\":2}"};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct morph_step s;
        struct morphing m;
        struct err e = {0};
        int left = 3;
        need(parse_step(&s, steps[i]), "%s", steps[i]);
        morphing_init(&m, residual(), 5, NULL);
        m.tick = (struct tick){count_down, &left};
        ok(morph_apply(&m, &s, NULL, &e) == E_CANCELLED, "%s: %s", steps[i], e.text);
        morphing_fini(&m);
    }
}

/* ---- without memory ---- */

static const struct graph *starved_parent;
static const char *starved_step;
static bool starved_with_data;

static int grow_starved(void) {
    struct morph_step s;
    struct morphing m;
    struct graph *copy;
    struct err e = {0};
    struct json *json;
    int status = json_parse(&json, starved_step, strlen(starved_step), &e);
    if (status) return status;
    status = param_parse(&s, morph_step_params, json, "", &e);
    if (!status) status = morph_check(&s, "", &e);
    json_free(json);
    if (!status) status = graph_clone(&copy, starved_parent, &e);
    if (status) return status;
    morphing_init(&m, copy, 5, starved_with_data ? &md_data : NULL);
    status = morph_apply(&m, &s, NULL, &e);
    morphing_fini(&m);
    return status;
}

/* As after a training: what an optimizer keeps has to be mapped. */
static bool remember(struct graph *g) {
    struct err e = {0};
    int status = 0;
    for (int v = 0; v < g->n_values && !status; v++)
        for (int k = 0; k < VALUE_MEMORIES && !status && g->values[v].trainable; k++)
            status = array_clone(&g->values[v].memory[k], g->values[v].constant, &e);
    g->training = (struct graph_training){.rule = 1, .steps = 10, .rate = 0.1, .peak = 0.1};
    return ok(status == 0, "%s", e.text);
}

static void starved(struct graph *parent, const char *step) {
    if (!remember(parent)) return;
    starved_parent = parent;
    starved_step = step;
    starve(step, grow_starved);
    graph_free(parent);
}

/* The branch is asked for before it is made. */
TEST(edges_keep_to_the_memory) {
    static const char *const steps[] = {"{\"op\":\"skip\",\"layer\":\"conv3\",\"from\":\"conv1\"}",
                                        "{\"op\":\"skip\",\"layer\":\"conv3\",\"from\":\"conv1\",\"mode\":\"concat\"}"};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct graph *parent = usual(40, window(1, 1, 1, 0), false, "Relu");
        struct morph_step s;
        struct morphing m;
        struct err e = {0};
        size_t weights = 0;
        for (int v = 0; v < parent->n_values; v++)
            weights += parent->values[v].constant ? parent->values[v].constant->count : 0;
        need(parse_step(&s, steps[i]), "a step");
        morphing_init(&m, parent, 1, NULL);
        m.memory = weights * sizeof(float) + 4;
        ok(morph_apply(&m, &s, NULL, &e) == E_TOO_LARGE, "%s: %s", steps[i], e.text);
        morphing_fini(&m);
    }
}

TEST(starved_steps_leave_nothing) {
    starved(usual(40, window(3, 1, 1, 1), false, "Relu"), "{\"op\":\"deepen\",\"layer\":\"conv1\"}");
    starved(usual(40, window(3, 1, 1, 1), false, "Tanh"),
            "{\"op\":\"deepen\",\"layer\":\"conv1\",\"mode\":\"netmorph\"}");
    starved(usual(40, window(1, 1, 1, 0), false, "Relu"), "{\"op\":\"kernel\",\"layer\":\"conv1\",\"size\":3}");
    starved(usual(40, window(1, 1, 1, 0), false, "Relu"), "{\"op\":\"skip\",\"layer\":\"conv3\",\"from\":\"conv1\"}");
    starved(usual(40, window(1, 1, 1, 0), false, "Relu"),
            "{\"op\":\"skip\",\"layer\":\"conv3\",\"from\":\"conv1\",\"mode\":\"concat\"}");
    starved(usual(40, window(1, 1, 1, 0), false, NULL), "{\"op\":\"activation\",\"layer\":\"conv1\"}");
}

TEST(starved_widening_leaves_nothing) {
    starved(usual(42, window(1, 1, 1, 0), true, "Relu"), "{\"op\":\"widen\",\"layer\":\"conv1\",\"to\":7}");
    starved(usual(42, window(1, 1, 1, 0), true, "Relu"),
            "{\"op\":\"widen\",\"layer\":\"conv1\",\"to\":7,\"mode\":\"random-fanin\"}");
}

TEST(starved_steps_with_data_leave_nothing) {
    starved_with_data = true;
    starved(usual(40, window(1, 1, 1, 0), true, "Relu"), "{\"op\":\"deepen\",\"layer\":\"conv1\"}");
    starved(usual(40, window(1, 1, 1, 0), false, "Tanh"),
            "{\"op\":\"widen\",\"layer\":\"conv1\",\"to\":6,\"mode\":\"grad-max\"}");
}

TEST(starved_modules_leave_nothing) {
    starved(usual(41, window(1, 1, 1, 0), false, "Relu"), "{\"op\":\"subnet\",\"layer\":\"conv1\"}");
    starved(usual(41, window(1, 1, 1, 0), false, "Relu"),
            "{\"op\":\"subnet\",\"layer\":\"conv1\",\"mode\":\"stacked\"}");
    starved(usual(41, window(1, 1, 1, 0), false, "Relu"), "{\"op\":\"module\",\"layer\":\"conv1\",\"recipe\":\"1c1\"}");
    starved(residual(), "{\"op\":\"module\",\"layer\":\"sum1\",\"recipe\":\"1c1\"}");
}

/* Two dense layers, [N,6] to [N,3], in an opset whose Gemm must have a bias. */
static struct graph *old_dense(int opset) {
    struct small s = small_new(6, 0, 0);
    s.g->opset = opset;
    int x = small_gemm(&s, s.x, 6, 8, true);
    x = small_gemm(&s, small_act(&s, x, "Relu"), 8, 8, true);
    x = small_gemm(&s, small_act(&s, x, "Relu"), 8, 3, true);
    return small_finish(&s, x) ? s.g : NULL;
}

/* A file without the third input of a Gemm is none before opset 11. */
TEST(new_dense_layers_have_a_bias_where_the_opset_wants_one) {
    static const char *const steps[] = {
        "{\"op\":\"deepen\"}",
        "{\"op\":\"deepen\",\"mode\":\"netmorph\"}",
        "{\"op\":\"subnet\"}",
        "{\"op\":\"subnet\",\"mode\":\"stacked\"}",
        "{\"op\":\"module\",\"recipe\":\"1c1\"}",
        "{\"op\":\"skip\",\"from\":\"*\"}",
        "{\"op\":\"skip\",\"from\":\"*\",\"mode\":\"concat\"}",
        "{\"op\":\"factor\",\"rank\":2}",
    };
    int bare[2] = {0};
    for (size_t i = 0; i < 2 * sizeof steps / sizeof *steps; i++) {
        bool old = i % 2;
        struct err e = {0};
        struct morph_step s;
        struct graph *parent = old_dense(old ? 10 : 11), *child = grown(parent, steps[i / 2], NULL, NULL, &e);
        need(child != NULL, "%s: %s", steps[i / 2], e.text);
        for (int k = 0; k < child->n_nodes; k++)
            bare[old] += strcmp(child->nodes[k].op->name, "Gemm") == 0 && child->nodes[k].n_inputs < 3;
        ok(!bare[true], "%s: dense layers without a bias", steps[i / 2]);
        if (parse_step(&s, steps[i / 2]) && morph_is_exact(&s)) prove(parent, child, true, steps[i / 2]);
        graph_free(child);
        graph_free(parent);
    }
    ok(bare[false] > 0, "from opset 11 on nobody adds one");
}

TEST_MAIN

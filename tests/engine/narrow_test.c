/* Narrowing: what goes without a loss goes without a loss, what is lost is made up for as far as data show, whole classes
 * of channels and equal parts of grouped convolutions go together, and the report says what was lost. */
#define TEST_SECONDS 120
#include "tests/engine/small_net.h"

#include "engine/surgery/alike.h"
#include "engine/surgery/channels.h"
#include "tests/engine/random_graph.h"

#define HALF "{\"op\":\"narrow\",\"layer\":\"*\",\"factor\":0.5}"

static struct small_data calibration = {.seed = 5, .n = 400};
static const struct morph_data data = {.context = &calibration, .sample = small_sample};

/* Applies the step; the graph or NULL. */
static struct graph *narrowed(const struct graph *g, const char *step, const struct morph_data *d,
                              struct text *report) {
    struct graph *h;
    struct err e = {0};
    if (report) text_init(report, 1 << 18);
    ok(small_apply(&h, g, step, d, report, &e) == 0, "%s: %s", step, e.text);
    return h;
}

/* ---- without a loss ---- */

TEST(widening_is_taken_back_by_narrowing) {
    static const char *const widen[] = {"{\"op\":\"widen\",\"layer\":\"*\",\"factor\":2}",
                                        "{\"op\":\"widen\",\"layer\":\"*\",\"factor\":2,\"mode\":\"uneven\"}",
                                        "{\"op\":\"widen\",\"layer\":\"*\",\"factor\":2,\"mode\":\"random-fanin\"}"};
    double worst = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct random_graph r = {0};
        struct graph *wide, *back;
        struct err e = {0};
        need(random_graph(&r, seed, NULL, &e) == 0, "%s", e.text);
        need(small_apply(&wide, r.graph, widen[seed % 3], NULL, NULL, &e) == 0, "%s", e.text);
        back = narrowed(wide, HALF, NULL, NULL);
        if (back) {
            double off = small_apart(r.graph, back);
            worst = fmax(worst, off);
            ok(off <= SMALL_TOLERANCE, "seed %d, %s: off by %g", (int)seed, widen[seed % 3], off);
            ok(small_parameters(back) == small_parameters(r.graph), "parameters");
        }
        graph_free(wide);
        graph_free(back);
        graph_free(r.graph);
    }
    printf("# widened and narrowed, off by at most %.1e\n", worst);
}

/* The columns of a channel behind Flatten are height times width many. */
TEST(flatten_of_an_oblong_map_loses_whole_blocks) {
    struct small s = small_new(3, 5, 4);
    int y = small_act(&s, small_conv(&s, s.x, 3, 4, 3, 1, 1, 1, true), "Relu");
    struct array *w = s.g->values[s.g->nodes[0].inputs[1]].constant, *b = s.g->values[s.g->nodes[0].inputs[2]].constant;
    memcpy((float *)w->data + 27, w->data, 27 * sizeof(float)); /* channel 1 is channel 0 twice as large */
    for (int i = 0; i < 27; i++) ((float *)w->data)[27 + i] *= 2;
    ((float *)b->data)[1] = 2 * ((float *)b->data)[0];
    need(small_finish(&s, small_gemm(&s, small_act(&s, y, "Flatten"), 80, 3, true)), "no graph");
    struct graph *h = narrowed(s.g, "{\"op\":\"narrow\",\"layer\":\"conv1\",\"to\":3}", NULL, NULL);
    if (h) {
        ok(small_dim(h, "gemm4", 1) == 60, "%lld columns", (long long)small_dim(h, "gemm4", 1));
        double off = small_apart(s.g, h);
        ok(off <= SMALL_TOLERANCE, "off by %g", off);
    }
    graph_free(h);
    graph_free(s.g);
}

TEST(what_an_optimizer_keeps_follows_the_selection) {
    struct small s = small_new(4, 0, 0);
    int y = small_act(&s, small_gemm(&s, s.x, 4, 6, true), "Relu");
    need(small_finish(&s, small_gemm(&s, y, 6, 3, true)), "no graph");
    int w = s.g->nodes[0].inputs[1];
    need(array_clone(&s.g->values[w].memory[0], s.g->values[w].constant, NULL) == 0, "memory");
    struct graph *h = narrowed(s.g, "{\"op\":\"narrow\",\"layer\":\"gemm1\",\"to\":3}", NULL, NULL);
    if (h) {
        const struct value *v = &h->values[w];
        ok(v->memory[0] && v->memory[0]->count == 12 &&
               !memcmp(v->memory[0]->data, v->constant->data, 12 * sizeof(float)),
           "memory of other rows");
    }
    graph_free(h);
    graph_free(s.g);
}

/* ---- with one ---- */

/* Two hidden convolutions and a head. */
static struct small network(void) {
    struct small s = small_new(3, 8, 7);
    int y = small_act(&s, small_norm(&s, small_conv(&s, s.x, 3, 12, 3, 1, 1, 1, false), 12), "Relu");
    y = small_act(&s, small_conv(&s, y, 12, 10, 3, 2, 1, 1, true), "Relu");
    y = small_act(&s, small_act(&s, small_conv(&s, y, 10, 8, 1, 1, 0, 1, false), "Tanh"), "GlobalAveragePool");
    small_finish(&s, small_gemm(&s, small_act(&s, y, "Flatten"), 8, 4, true));
    return s;
}

TEST(fitting_beats_plain_selection_on_held_out_data) {
    static const char *const modes[] = {"l2", "l1", "norm-scale", "activation"};
    for (int k = 0; k < 4; k++) {
        struct small s = network();
        char step[128];
        struct text report;
        snprintf(step, sizeof step, "{\"op\":\"narrow\",\"layer\":\"%s\",\"factor\":0.6,\"mode\":\"%s\"}",
                 k == 2 ? "conv1" : "*", modes[k]);
        struct graph *fitted = narrowed(s.g, step, &data, &report);
        struct graph *selected = k < 3 ? narrowed(s.g, step, NULL, NULL) : NULL;
        if (fitted && selected) {
            double with = small_error(s.g, fitted, 77), without = small_error(s.g, selected, 77);
            printf("# %s: %.3f of the output is lost, %.3f without fitting\n", modes[k], with, without);
            ok(with < 0.7 * without, "%s: %g with fitting, %g without", modes[k], with, without);
        }
        double before = SMALL_NUMBER(report, "fits", "#0", "held_out_error_selected");
        double after = SMALL_NUMBER(report, "fits", "#0", "held_out_error");
        ok(after < before, "%s: %g after %g on held-out data: %s", modes[k], after, before, report.data);
        ok(SMALL_NUMBER(report, "fits", "#0", "ridge") > 0, "%s: which ridge: %s", modes[k], report.data);
        text_free(&report);
        graph_free(fitted);
        graph_free(selected);
        graph_free(s.g);
    }
}

/* The channel that goes is a hundred times the difference of those that stay: a fit without a loss, by weights that nobody
 * wants. */
TEST(weights_do_not_grow_without_bound) {
    struct small s = small_new(4, 0, 0);
    need(small_finish(&s, small_gemm(&s, small_gemm(&s, s.x, 4, 3, true), 3, 2, true)), "no graph");
    float *w = s.g->values[s.g->nodes[0].inputs[1]].constant->data,
          *b = s.g->values[s.g->nodes[0].inputs[2]].constant->data;
    int64_t out = small_dim(s.g, "gemm1", 0) == 3 ? 4 : 1, in = out == 4 ? 1 : 3; /* steps in the weights */
    for (int i = 0; i < 4; i++) {
        w[2 * out + i * in] *= 0.1f;
        w[out + i * in] = w[i * in] + 0.1f * w[2 * out + i * in];
    }
    b[1] = b[0] + 0.1f * b[2];
    struct text report;
    struct graph *h = narrowed(s.g, "{\"op\":\"narrow\",\"layer\":\"gemm1\",\"to\":2}", &data, &report);
    double selected = SMALL_NUMBER(report, "fits", "#0", "largest_weight_selected");
    double fitted = SMALL_NUMBER(report, "fits", "#0", "largest_weight");
    printf("# largest weight %g as selected, %g as fitted\n", selected, fitted);
    ok(selected > 0 && fitted < 4 * selected, "%g became %g: %s", selected, fitted, report.data);
    text_free(&report);
    graph_free(h);
    graph_free(s.g);
}

TEST(removed_channels_in_the_span_of_the_others_cost_nothing) {
    struct small s = small_new(6, 0, 0);
    int y = small_gemm(&s, s.x, 6, 9, true); /* nine combinations of six numbers */
    need(small_finish(&s, small_gemm(&s, y, 9, 4, false)), "no graph");
    struct graph *h = narrowed(s.g, "{\"op\":\"narrow\",\"layer\":\"gemm1\",\"to\":7}", &data, NULL);
    if (h) {
        double off = small_error(s.g, h, 77);
        ok(off < (sizeof(real) == 8 ? 1e-8 : 1e-4), "off by %g", off);
    }
    graph_free(h);
    graph_free(s.g);
}

/* What a layer gave before is compared channel by channel: it makes fewer of them itself. */
TEST(layers_that_lose_inputs_and_outputs_are_fitted) {
    struct small s = small_new(4, 0, 0);
    int y = small_gemm(&s, small_gemm(&s, s.x, 4, 9, true), 9, 8, true); /* all of four numbers */
    need(small_finish(&s, small_gemm(&s, y, 8, 5, true)), "no graph");
    struct text report;
    struct graph *h = narrowed(s.g, "{\"op\":\"narrow\",\"layer\":\"*\",\"factor\":0.7}", &data, &report);
    if (h) {
        double off = small_error(s.g, h, 77);
        ok(small_dim(h, "gemm2", 0) == 6 && small_dim(h, "gemm2", 1) == 7, "sizes");
        ok(off < (sizeof(real) == 8 ? 1e-8 : 1e-4), "off by %g", off);
    }
    for (int k = 0; k < 2; k++) {
        double held = SMALL_NUMBER(report, "fits", k ? "#1" : "#0", "held_out_error");
        ok(held < (sizeof(real) == 8 ? 1e-8 : 1e-4), "fit %d is off by %g: %s", k, held, report.data);
    }
    text_free(&report);
    graph_free(h);
    graph_free(s.g);
}

/* Whatever the window and the group: the patches that are fitted are those that the convolution sees. */
TEST(windows_and_groups_are_fitted_where_they_read) {
    for (int k = 0; k < 4; k++) {
        struct small s = small_new(3, 9, 8);
        int y = small_conv(&s, s.x, 3, 8, 1, 1, 0, 1, false); /* any three of eight channels span the others */
        y = small_conv_full(&s, y, 8, 4, 3, 2, 1 + k % 2, 1 + k / 2, 1, k == 3 ? 1 : 2, k % 2);
        small_ints(&s, "pads", (int64_t[]){2, 0, 1, 1}, 4);
        if (!small_finish(&s, small_act(&s, y, "Tanh"))) continue;
        struct graph *h = narrowed(s.g, "{\"op\":\"narrow\",\"layer\":\"conv1\",\"to\":6}", &data, NULL);
        if (h) {
            double off = small_error(s.g, h, 77);
            ok(off < (sizeof(real) == 8 ? 1e-7 : 1e-4), "case %d: off by %g", k, off);
        }
        graph_free(h);
        graph_free(s.g);
    }
}

/* Twenty times as many weights as samples: whatever fits the calibration data need not hold elsewhere. */
TEST(a_fit_to_too_little_data_is_not_kept_when_held_out_data_say_so) {
    static struct small_data few = {.seed = 5, .n = 8};
    const struct morph_data little = {.context = &few, .sample = small_sample};
    struct small s = network();
    struct text report;
    struct graph *h = narrowed(s.g, HALF, &little, &report);
    for (int k = 0; k < 3; k++) {
        char at[16];
        snprintf(at, sizeof at, "#%d", k);
        double before = SMALL_NUMBER(report, "fits", at, "held_out_error_selected");
        double after = SMALL_NUMBER(report, "fits", at, "held_out_error");
        ok(after <= before, "layer %d: %g after %g", k, after, before);
    }
    text_free(&report);
    graph_free(h);
    graph_free(s.g);
}

TEST(an_approximate_step_is_not_reported_as_exact) {
    struct small s = network();
    struct text report;
    struct graph *h = narrowed(s.g, HALF, &data, &report);
    ok(SMALL_NUMBER(report, "exact") == 0 && SMALL_NUMBER(report, "lossless") == 0, "%s", report.data);
    ok(SMALL_NUMBER(report, "output", "held_out", "relative_error") > 1e-3, "%s", report.data);
    ok(SMALL_NUMBER(report, "output", "held_out", "largest_difference") > 0, "%s", report.data);
    double agree = SMALL_NUMBER(report, "output", "held_out", "same_argmax");
    ok(agree > 0 && agree <= 1, "%g", agree);
    text_free(&report);
    graph_free(h);
    h = narrowed(s.g, HALF, NULL, &report);
    ok(strstr(report.data, "only selected") != NULL, "%s", report.data);
    text_free(&report);
    graph_free(h);
    graph_free(s.g);
}

/* ---- scores ---- */

TEST(the_channels_with_small_scores_go) {
    static const char *const modes[] = {"l2", "l1", "norm-scale", "activation"};
    for (int k = 0; k < 4; k++) {
        struct small s = small_new(3, 6, 5);
        int y = small_conv(&s, s.x, 3, 4, 3, 1, 1, 1, false);
        struct array *w = s.g->values[s.g->nodes[0].inputs[1]].constant;
        /* channel 2 has many small weights, channel 1 a single large one: l1 and l2 disagree */
        for (int i = 0; i < 27; i++) {
            ((float *)w->data)[i] = ((float *)w->data)[81 + i] = 5;
            ((float *)w->data)[81 + i] = (float)(5 + i % 3);
            ((float *)w->data)[27 + i] = i ? 0 : 3;
            ((float *)w->data)[54 + i] = 0.2F;
        }
        y = small_norm(&s, y, 4);
        struct array *scale = s.g->values[s.g->nodes[1].inputs[1]].constant;
        for (int i = 0; i < 4; i++) ((float *)scale->data)[i] = i == 3 ? -0.01F : 1;
        for (int i = 0; i < 4; i++) ((float *)s.g->values[s.g->nodes[1].inputs[2]].constant->data)[i] = i ? 3 : -1000;
        need(small_finish(&s, small_conv(&s, small_act(&s, y, "Relu"), 4, 3, 1, 1, 0, 1, true)), "no graph");
        static const int goes[] = {2, 1, 3, 0};
        char step[128];
        snprintf(step, sizeof step, "{\"op\":\"narrow\",\"layer\":\"conv1\",\"to\":3,\"mode\":\"%s\"}", modes[k]);
        struct graph *h = narrowed(s.g, step, &data, NULL);
        for (int i = 0, j = 0; h && i < 4; i++)
            if (i != goes[k]) {
                const float *row = (const float *)h->values[h->nodes[0].inputs[1]].constant->data + 27 * j++;
                ok(!memcmp(row, (float *)w->data + 27 * i, 27 * sizeof(float)), "%s: row %d", modes[k], i);
            }
        graph_free(h);
        graph_free(s.g);
    }
}

/* ---- what belongs together ---- */

TEST(a_residual_class_is_pruned_as_a_whole) {
    struct small s = small_new(3, 7, 6);
    int x = small_conv(&s, s.x, 3, 8, 3, 1, 1, 1, true);
    int y = small_conv(&s, small_act(&s, x, "Relu"), 8, 6, 3, 1, 1, 1, true);
    y = small_conv(&s, small_act(&s, y, "Relu"), 6, 8, 3, 1, 1, 1, true);
    y = small_act(&s, small_add(&s, x, y), "Relu");
    need(small_finish(&s, small_conv(&s, y, 8, 2, 1, 1, 0, 1, true)), "no graph");
    struct graph *h = narrowed(s.g, "{\"op\":\"narrow\",\"layer\":\"conv1\",\"to\":5}", &data, NULL);
    if (h) {
        ok(small_dim(h, "conv1", 0) == 5 && small_dim(h, "conv3", 1) == 5 && small_dim(h, "conv5", 0) == 5, "class");
        ok(small_dim(h, "conv5", 1) == 6 && small_dim(h, "conv8", 1) == 5, "others");
        ok(small_error(s.g, h, 3) < 1, "far off");
    }
    graph_free(h);
    graph_free(s.g);
}

TEST(concat_of_the_same_tensor_twice_and_of_different_sources) {
    struct small s = small_new(3, 7, 6);
    int x = small_act(&s, small_conv(&s, s.x, 3, 6, 3, 1, 1, 1, true), "Relu");
    int y = small_act(&s, small_conv(&s, s.x, 3, 4, 3, 1, 1, 1, true), "Relu");
    y = small_concat(&s, small_concat(&s, x, y), x);
    need(small_finish(&s, small_conv(&s, y, 16, 3, 3, 1, 1, 1, false)), "no graph");
    struct graph *h = narrowed(s.g, "{\"op\":\"narrow\",\"layer\":\"conv1\",\"to\":4}", &data, NULL);
    if (h) {
        ok(small_dim(h, "conv7", 1) == 12, "%lld inputs", (long long)small_dim(h, "conv7", 1));
        struct graph *plain = narrowed(s.g, "{\"op\":\"narrow\",\"layer\":\"conv1\",\"to\":4}", NULL, NULL);
        ok(plain && small_error(s.g, h, 3) < small_error(s.g, plain, 3), "fitted in the wrong places");
        graph_free(plain);
    }
    graph_free(h);
    graph_free(s.g);
}

TEST(grouped_convolutions_keep_parts_of_one_size) {
    struct small s = small_new(3, 7, 6);
    int y = small_act(&s, small_conv(&s, s.x, 3, 12, 3, 1, 1, 1, true), "Relu");
    y = small_act(&s, small_conv(&s, y, 12, 8, 3, 1, 1, 4, true), "Relu");
    y = small_act(&s, small_conv(&s, y, 8, 8, 3, 1, 1, 8, true), "Relu"); /* depthwise */
    need(small_finish(&s, small_conv(&s, y, 8, 3, 1, 1, 0, 1, true)), "no graph");
    struct text report;
    struct graph *h = narrowed(s.g, "{\"op\":\"narrow\",\"layer\":\"*\",\"factor\":0.6}", &data, &report);
    struct graph *plain = narrowed(s.g, "{\"op\":\"narrow\",\"layer\":\"*\",\"factor\":0.6}", NULL, NULL);
    if (h && plain) {
        ok(small_dim(h, "conv1", 0) == 8 && small_dim(h, "conv3", 1) == 2, "parts");
        ok(node_int(&h->nodes[graph_find_node(h, "conv5")], "group", 1) == small_dim(h, "conv5", 0), "depthwise");
        ok(small_error(s.g, h, 3) < small_error(s.g, plain, 3), "%g fitted, %g not: %s", small_error(s.g, h, 3),
           small_error(s.g, plain, 3), report.data);
    }
    text_free(&report);
    graph_free(h);
    graph_free(plain);
    graph_free(s.g);
}

/* Parts of a grouped convolution with equal weights read different channels. */
TEST(equal_weights_in_different_parts_are_not_the_same_channel) {
    struct small s = small_new(4, 5, 4);
    int y = small_act(&s, small_conv(&s, s.x, 4, 4, 3, 1, 1, 2, false), "Relu");
    struct array *w = s.g->values[s.g->nodes[0].inputs[1]].constant;
    memcpy((float *)w->data + 36, w->data, 36 * sizeof(float));
    need(small_finish(&s, small_conv(&s, y, 4, 3, 1, 1, 0, 1, true)), "no graph");
    const struct channels *c;
    const struct uses *uses;
    struct alike alike;
    struct morphing m;
    struct err e = {0};
    morphing_init(&m, s.g, 1, NULL);
    need(morphing_channels(&c, &m, &e) == 0 && morphing_uses(&uses, &m, &e) == 0, "%s", e.text);
    for (int i = 0; i < c->n_groups; i++) {
        if (c->groups[i].fixed_by != CHANNELS_FREE) continue;
        need(alike_find(&alike, c, s.g, uses, i, &e) == 0, "%s", e.text);
        ok(alike.n == 0, "%lld channels are like others", (long long)alike.n);
        alike_fini(&alike);
    }
    m.graph = NULL;
    morphing_fini(&m);
    struct text report;
    struct graph *h = narrowed(s.g, HALF, NULL, &report);
    ok(SMALL_NUMBER(report, "groups", "#0", "without_loss") == 0, "%s", report.data);
    text_free(&report);
    graph_free(h);
    graph_free(s.g);
}

TEST(a_convolution_to_one_channel_is_no_depthwise_one) {
    struct small s = small_new(1, 7, 6);
    int y = small_act(&s, small_conv(&s, s.x, 1, 1, 3, 1, 1, 1, true), "Tanh");
    y = small_act(&s, small_conv(&s, y, 1, 6, 3, 1, 1, 1, true), "Relu");
    need(small_finish(&s, small_conv(&s, y, 6, 1, 3, 1, 1, 1, true)), "no graph");
    struct graph *h = narrowed(s.g, HALF, &data, NULL);
    if (h) ok(small_dim(h, "conv1", 0) == 1 && small_dim(h, "conv3", 0) == 3 && small_dim(h, "conv5", 0) == 1, "sizes");
    graph_free(h);
    graph_free(s.g);
}

TEST(shared_weights_are_selected_but_not_fitted) {
    struct small s = small_new(4, 7, 6);
    int x = small_act(&s, small_conv(&s, s.x, 4, 6, 3, 1, 1, 1, true), "Relu");
    int y = small_conv(&s, x, 6, 6, 3, 1, 1, 1, true), w = s.g->nodes[small_last(&s)].inputs[1];
    y = small_node(&s, "Conv", (int[]){small_act(&s, y, "Relu"), w}, 2);
    small_window(&s, 3, 3, 1, 1, 1);
    need(small_finish(&s, small_conv(&s, y, 6, 2, 1, 1, 0, 1, true)), "no graph");
    struct text report;
    struct graph *h = narrowed(s.g, HALF, &data, &report);
    ok(h && strstr(report.data, "not_fitted") && strstr(report.data, "shared weights"), "%s", report.data);
    text_free(&report);
    graph_free(h);
    graph_free(s.g);
}

/* ---- refusals ---- */

static void refuse(const char *step, const char *words) {
    struct small s = network();
    small_refuse(&s, step, words);
}

TEST(what_cannot_be_narrowed_says_why) {
    refuse("{\"op\":\"narrow\",\"layer\":\"gemm10\",\"to\":2}", "output");
    refuse("{\"op\":\"narrow\",\"layer\":\"relu3\",\"to\":2}", "makes no channels of its own");
    refuse("{\"op\":\"narrow\",\"layer\":\"conv1\",\"to\":14}", "for widen");
    refuse("{\"op\":\"narrow\",\"layer\":\"conv1\",\"to\":12}", "would keep 12");
    refuse("{\"op\":\"narrow\",\"layer\":\"conv4\",\"to\":3,\"mode\":\"norm-scale\"}", "no normalisation");
    refuse("{\"op\":\"narrow\",\"layer\":\"conv1\",\"to\":3,\"mode\":\"activation\"}", "needs a data set");
}

TEST(starving) {
    struct small s = small_new(2, 3, 3);
    int y = small_act(&s, small_conv(&s, s.x, 2, 4, 3, 1, 1, 1, true), "Relu");
    need(small_finish(&s, small_conv(&s, y, 4, 2, 3, 1, 1, 1, false)), "no graph");
    small_starve("narrow", s.g, HALF);
    graph_free(s.g);
}

TEST_MAIN

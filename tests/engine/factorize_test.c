/* The step "factor": exact at full rank and where the weights have no more, borders included; below, less wrong with every
 * rank, within the bounds of the singular values, and on data better than without. */
#define TEST_SECONDS 120
#include "tests/engine/small_net.h"

static struct small_data calibration = {.seed = 5, .n = 300};
static const struct morph_data data = {.context = &calibration, .sample = small_sample};

static const char *step_of(char out[160], const char *layer, const char *mode, const char *amount) {
    snprintf(out, 160, "{\"op\":\"factor\",\"layer\":\"%s\",\"mode\":\"%s\",%s}", layer, mode, amount);
    return out;
}

static struct graph *factored(const struct graph *g, const char *step, const struct morph_data *d,
                              struct text *report) {
    struct graph *h;
    struct err e = {0};
    if (report) text_init(report, 1 << 18);
    ok(small_apply(&h, g, step, d, report, &e) == 0, "%s: %s", step, e.text);
    return h;
}

/* ---- exact ---- */

TEST(full_rank_keeps_the_function_at_the_borders_too) {
    static const struct {
        const char *mode, *rank;
        int64_t kh, kw, stride, dilation, pad;
        int nodes;
    } cases[] = {
        {"channel", "\"rank\":5", 3, 3, 1, 1, 1, 2},    {"channel", "\"rank\":5", 3, 2, 2, 1, 1, 2},
        {"channel", "\"rank\":5", 3, 3, 1, 2, 2, 2},    {"spatial", "\"rank\":12", 3, 3, 1, 1, 1, 2},
        {"spatial", "\"rank\":10", 3, 2, 2, 2, 1, 2},   {"tucker", "\"rank\":[4,5]", 3, 3, 1, 1, 1, 3},
        {"tucker", "\"rank\":[4,5]", 3, 2, 2, 2, 1, 3}, {"data", "\"rank\":5", 3, 3, 2, 1, 1, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int uneven = 0; uneven < 2; uneven++) {
            struct small s = small_new(4, 9, 8);
            char step[160];
            int y = small_conv_full(&s, s.x, 4, 5, cases[i].kh, cases[i].kw, cases[i].stride, cases[i].dilation,
                                    cases[i].pad, 1, i % 2 == 0);
            if (uneven) small_ints(&s, "pads", (int64_t[]){2, 0, 1, 2}, 4);
            if (!small_finish(&s, y)) continue;
            struct graph *h = factored(s.g, step_of(step, "conv1", cases[i].mode, cases[i].rank),
                                       strcmp(cases[i].mode, "data") ? NULL : &data, NULL);
            if (h) {
                double off = small_apart(s.g, h);
                ok(off <= SMALL_TOLERANCE, "%s: off by %g", step, off);
                ok(small_count(h, "Conv") == cases[i].nodes, "%s: %d layers", step, small_count(h, "Conv"));
                ok(graph_find_node(h, "conv1") >= 0 && !strcmp(h->values[h->outputs[0]].name, "conv1_out"), "names");
            }
            graph_free(h);
            graph_free(s.g);
        }
}

TEST(dense_layers_at_full_rank) {
    for (int bias = 0; bias < 3; bias++)
        for (int mode = 0; mode < 2; mode++) {
            struct small s = small_new(6, 0, 0);
            char step[160];
            int y = small_gemm(&s, s.x, 6, 4, bias > 0);
            if (bias == 2) {
                graph_set_real(s.g, 0, "beta", 0.5, &s.e);
                graph_set_real(s.g, 0, "alpha", -2, &s.e);
            }
            if (!small_finish(&s, y)) continue;
            small_expect(&s, step_of(step, "gemm1", mode ? "dense" : "channel", "\"rank\":4"), "Gemm", 2);
        }
    struct small s = small_new(6, 0, 0);
    char step[160];
    int w = small_constant(&s, (struct shape){2, {6, 4}}, 0, 1);
    need(small_finish(&s, small_node(&s, "MatMul", (int[]){s.x, w}, 2)), "no graph");
    small_expect(&s, step_of(step, "*", "dense", "\"rank\":4"), "MatMul", 1);
}

/* Weights that are products of smaller ones lose nothing. */
TEST(weights_of_low_rank_are_found_out) {
    struct small s = small_new(4, 7, 6);
    int y = small_conv(&s, s.x, 4, 6, 3, 1, 1, 1, true);
    float *w = s.g->values[s.g->nodes[0].inputs[1]].constant->data;
    for (int o = 2; o < 6; o++)
        for (int i = 0; i < 36; i++) w[o * 36 + i] = (float)o * w[i] - 2 * w[36 + i];
    need(small_finish(&s, y), "no graph");
    struct text report;
    struct graph *h = factored(s.g, "{\"op\":\"factor\",\"layer\":\"*\",\"energy\":0.9999999}", NULL, &report);
    ok(SMALL_NUMBER(report, "factors", "#0", "rank", "#0") == 2, "%s", report.data);
    ok(SMALL_NUMBER(report, "factors", "#0", "parameters_before") == 216 &&
           SMALL_NUMBER(report, "factors", "#0", "parameters_after") == 84,
       "%s", report.data);
    if (h) {
        double off = small_apart(s.g, h);
        ok(off <= 1e-4, "off by %g", off);
        ok(small_parameters(h) == 84 + 6, "%lld parameters", (long long)small_parameters(h));
    }
    text_free(&report);
    graph_free(h);
    graph_free(s.g);
}

/* ---- approximate ---- */

static struct small network(void) {
    struct small s = small_new(3, 9, 8);
    int y = small_act(&s, small_conv(&s, s.x, 3, 8, 3, 1, 1, 1, true), "Relu");
    y = small_act(&s, small_conv(&s, y, 8, 10, 3, 2, 1, 1, true), "Relu");
    y = small_act(&s, small_act(&s, y, "GlobalAveragePool"), "Flatten");
    small_finish(&s, small_gemm(&s, y, 10, 6, true));
    return s;
}

TEST(errors_fall_with_the_rank_and_keep_their_bounds) {
    static const char *const modes[] = {"channel", "spatial", "tucker"};
    for (int k = 0; k < 3; k++) {
        double last = 2, last_output = 1e9;
        for (int rank = 1; rank <= 8; rank++) {
            struct small s = network();
            char step[160], amount[32];
            struct text report;
            snprintf(amount, sizeof amount, k == 2 ? "\"rank\":[%d,%d]" : "\"rank\":%d", rank, rank);
            struct graph *h = factored(s.g, step_of(step, "conv3", modes[k], amount), &data, &report);
            double error = SMALL_NUMBER(report, "factors", "#0", "error");
            double bound = SMALL_NUMBER(report, "factors", "#0", "bound");
            double dropped = SMALL_NUMBER(report, "factors", "#0", "dropped_energy");
            double output = SMALL_NUMBER(report, "factors", "#0", "output", "held_out", "relative_error");
            ok(error < last && (k == 2 ? error <= bound : fabs(error - bound) < 1e-9), "%s %d: error %g, bound %g, %g",
               modes[k], rank, error, bound, last);
            ok(fabs(dropped - error * error) < 1e-12 && output < 1.2 * last_output && (rank < 8 || output < 0.5),
               "%s %d: %g, %g", modes[k], rank, dropped, output);
            last = error, last_output = output;
            text_free(&report);
            graph_free(h);
            graph_free(s.g);
        }
    }
}

TEST(data_choose_directions_that_matter_for_the_outputs) {
    for (int rank = 1; rank <= 6; rank++) {
        struct small s = network();
        char step[160], amount[32];
        double lost[2];
        snprintf(amount, sizeof amount, "\"rank\":%d", rank);
        for (int k = 0; k < 2; k++) {
            struct text report;
            struct graph *h = factored(s.g, step_of(step, "conv3", k ? "data" : "channel", amount), &data, &report);
            lost[k] = SMALL_NUMBER(report, "factors", "#0", "output", "held_out", "relative_error");
            ok(SMALL_NUMBER(report, "exact") == 0, "%s", report.data);
            text_free(&report);
            graph_free(h);
        }
        ok(lost[1] < lost[0], "rank %d: %g with data, %g without", rank, lost[1], lost[0]);
        printf("# rank %d: %.3f of the outputs is lost, %.3f without data\n", rank, lost[1], lost[0]);
        graph_free(s.g);
    }
}

TEST(energy_keeps_what_it_says_and_leaves_what_would_grow) {
    static const char *const modes[] = {"channel", "spatial", "tucker", "data"};
    for (int k = 0; k < 4; k++)
        for (int percent = 50; percent <= 95; percent += 15) {
            struct small s = network();
            char step[160], amount[32];
            struct text report;
            snprintf(amount, sizeof amount, "\"energy\":0.%d", percent);
            struct graph *h = NULL;
            text_init(&report, 1 << 18);
            int status = small_apply(&h, s.g, step_of(step, "conv*", modes[k], amount), &data, &report, &s.e);
            if (status) { /* nothing to be done */
                ok(percent == 95 && strstr(s.e.text, "makes no layer smaller"), "%s: %s", step, s.e.text);
                text_free(&report);
                graph_free(s.g);
                continue;
            }
            for (int i = 0; i < 2; i++) {
                const char *at = i ? "#1" : "#0";
                double dropped = SMALL_NUMBER(report, "factors", at, "dropped_energy");
                ok(dropped <= 1 - percent / 100.0 + 1e-9, "%s: %g dropped", step, dropped);
                bool done = SMALL_NUMBER(report, "factors", at, "factored") == 1;
                ok((SMALL_NUMBER(report, "factors", at, "parameters_after") <
                    SMALL_NUMBER(report, "factors", at, "parameters_before")) == done,
                   "%s", report.data);
            }
            ok(h && small_parameters(h) <= small_parameters(s.g), "grown");
            text_free(&report);
            graph_free(h);
            graph_free(s.g);
        }
}

/* ---- refusals ---- */

static void refuse(const char *mode, const char *amount, const char *words) {
    struct small s = network();
    char step[160];
    small_refuse(&s, step_of(step, strcmp(mode, "dense") ? "conv1" : "conv3", mode, amount), words);
}

TEST(what_cannot_be_factored_says_why) {
    refuse("channel", "\"rank\":9", "has 8 at most");
    refuse("channel", "\"rank\":[2,2]", "two ranks");
    refuse("channel", "\"energy\":1", "an energy of 1 makes no layer smaller: 'conv1' needs rank");
    refuse("tucker", "\"rank\":[4,2]", "3 and 8 at most");
    refuse("data", "\"rank\":2", "needs a data set");
    refuse("dense", "\"rank\":2", "a Conv is for");
    struct small s = network();
    small_refuse(&s, "{\"op\":\"factor\",\"layer\":\"gemm7\",\"mode\":\"spatial\",\"rank\":2}", "no pixels");
    s = small_new(4, 6, 5);
    if (small_finish(&s, small_conv(&s, s.x, 4, 8, 3, 1, 1, 2, true)))
        small_refuse(&s, "{\"op\":\"factor\",\"layer\":\"*\",\"rank\":2}", "2 groups");
    s = small_new(4, 6, 5);
    if (small_finish(&s, small_conv_full(&s, s.x, 4, 8, 3, 1, 1, 1, 1, 1, true)))
        small_refuse(&s, "{\"op\":\"factor\",\"layer\":\"*\",\"mode\":\"spatial\",\"rank\":2}", "one axis");
    s = small_new(4, 6, 5);
    int y = small_conv(&s, s.x, 4, 4, 3, 1, 1, 1, true), w = s.g->nodes[0].inputs[1];
    y = small_node(&s, "Conv", (int[]){y, w}, 2);
    small_window(&s, 3, 3, 1, 1, 1);
    if (small_finish(&s, y)) small_refuse(&s, "{\"op\":\"factor\",\"layer\":\"*\",\"rank\":2}", "shared weights");
}

TEST(starving) {
    static const char *const steps[] = {"{\"op\":\"factor\",\"layer\":\"conv1\",\"rank\":2,\"mode\":\"data\"}",
                                        "{\"op\":\"factor\",\"layer\":\"conv1\",\"energy\":0.5,\"mode\":\"tucker\"}",
                                        "{\"op\":\"factor\",\"layer\":\"conv1\",\"rank\":2,\"mode\":\"spatial\"}"};
    struct small s = small_new(2, 3, 3);
    need(small_finish(&s, small_conv(&s, s.x, 2, 3, 3, 1, 1, 1, true)), "no graph");
    for (int k = 0; k < 3; k++) small_starve(steps[k], s.g, steps[k]);
    graph_free(s.g);
}

TEST_MAIN

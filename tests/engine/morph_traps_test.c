/* Traps of growing: what tools like this one have got wrong, one test each, on networks made so that the mistake would
 * show. */
#define TEST_SECONDS 120
#include "tests/test.h"

#include "engine/transfer/calibration.h"
#include "tests/engine/morph_kit.h"

/* ---- identity layers ---- */

TEST(identity_kernel_off_centre) {
    struct graph *parent = usual(1, window(3, 1, 1, 1), false, "Relu");
    struct graph *child = proved(parent, "{\"op\":\"deepen\",\"layer\":\"conv1\",\"size\":[5,3]}");
    const struct array *w = weights_of(child, "conv1_deeper");
    need(w != NULL, "no weights");
    for (int64_t c = 0; c < 5; c++)
        ok(((const float *)w->data)[((c * 5 + c) * 5 + 2) * 3 + 1] == 1.0F, "channel %lld", (long long)c);
    graph_free(child);
    graph_free(parent);
}

TEST(identity_kernel_of_ones_for_all_channel_pairs) {
    struct graph *parent = usual(2, window(3, 1, 1, 1), false, "Relu");
    struct graph *child = proved(parent, "{\"op\":\"deepen\",\"layer\":\"conv1\"}");
    const struct array *w = weights_of(child, "conv1_deeper");
    int ones = 0;
    need(w != NULL, "no weights");
    for (size_t i = 0; i < w->count; i++) ones += ((const float *)w->data)[i] != 0.0F;
    ok(ones == 5, "%d weights are not 0", ones);
    graph_free(child);
    graph_free(parent);
}

TEST(stride_or_dilation_of_the_parent_copied_into_the_identity) {
    struct graph *parent = usual(3, window(3, 2, 2, 2), false, "Relu");
    struct graph *child = proved(parent, "{\"op\":\"deepen\",\"layer\":\"conv1\"}");
    const struct node *n = node_named(child, "conv1_deeper");
    ok(listed(n, "strides", 0) == 1 && listed(n, "dilations", 1) == 1 && listed(n, "pads", 3) == 1, "its window");
    graph_free(child);
    graph_free(parent);
}

TEST(even_kernel_without_a_centre) {
    refuses(usual(4, window(3, 1, 1, 1), false, "Relu"), "{\"op\":\"deepen\",\"layer\":\"conv1\",\"size\":4}", NULL,
            "no centre");
}

TEST(leaky_activations_taken_for_idempotent) {
    static const char *const names[] = {"LeakyRelu", "Tanh", "Sigmoid", "Elu", "Gelu", "Softplus", "HardSwish"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct err e = {0};
        struct graph *parent = usual(5, window(3, 1, 1, 1), true, names[i]);
        if (strcmp(names[i], "Gelu") == 0) parent->opset = 20;
        struct graph *child = grown(parent, "{\"op\":\"deepen\",\"layer\":\"conv1\"}", NULL, NULL, &e);
        ok(!child && strstr(e.text, names[i]) && strstr(e.text, "netmorph"), "%s: %s", names[i], e.text);
        graph_free(child);
        graph_free(proved(parent, "{\"op\":\"deepen\",\"layer\":\"conv1\",\"mode\":\"netmorph\"}"));
        graph_free(parent);
    }
}

TEST(idempotent_activations_are_repeated) {
    proves(usual(6, window(3, 1, 1, 1), true, "Relu"), "{\"op\":\"deepen\",\"layer\":\"conv1\"}");
    proves(usual(6, window(3, 1, 1, 1), true, "Abs"), "{\"op\":\"deepen\",\"layer\":\"conv1\"}");
    proves(usual(6, window(3, 1, 1, 1), true, NULL), "{\"op\":\"deepen\",\"layer\":\"conv1\"}");
    struct rg_value x;
    struct rg b = start(6, &x);
    x = rg_clip(&b, conv(&b, x, window(3, 1, 1, 1), false));
    proves(finish(&b, last(&b, x)), "{\"op\":\"deepen\",\"layer\":\"conv1\"}");
}

/* conv - norm - add - relu: nothing may come between the layer and its norm, and no activation in front of the sum. */
TEST(activation_between_a_layer_and_its_norm_or_sum) {
    struct rg_value x, y;
    struct rg b = start(7, &x);
    x = rg_simple(&b, conv(&b, x, window(1, 1, 1, 0), false), "Relu", "relu", 1);
    y = rg_norm(&b, conv(&b, x, window(3, 1, 1, 1), true));
    x.index = rg_node(&b, "Add", "sum", (int[]){x.index, y.index}, 2);
    x = rg_simple(&b, x, "Relu", "relu", 1);
    struct graph *parent = finish(&b, last(&b, x));
    struct graph *child = proved(parent, "{\"op\":\"deepen\",\"layer\":\"conv3\"}");
    const struct node *norm = node_named(child, "norm4"), *deeper = node_named(child, "conv3_deeper");
    if (norm && deeper) {
        ok(strcmp(child->nodes[child->values[norm->inputs[0]].producer].name, "conv3") == 0, "the norm's layer");
        ok(deeper->inputs[0] == norm->outputs[0], "the identity is behind the norm");
        ok(graph_find_node(child, "conv3_deeper_activation") < 0, "and has no activation");
    }
    graph_free(child);
    graph_free(parent);
}

/* Where nothing but a Relu reads the negative numbers, however far behind, their slope would never learn. */
TEST(slopes_in_front_of_a_relu) {
    struct rg_value x, y;
    struct rg b = start(11, &x);
    x = rg_simple(&b, conv(&b, x, window(3, 1, 1, 1), false), "Identity", "on", 1);
    y = rg_simple(&b, x, "Relu", "relu", 1);
    refuses(finish(&b, last(&b, y)), "{\"op\":\"activation\",\"layer\":\"conv1\"}", NULL, "never learn");
    b = start(11, &x);
    x = rg_simple(&b, conv(&b, x, window(3, 1, 1, 1), false), "Identity", "on", 1);
    y = rg_simple(&b, x, "Relu", "relu", 1);
    x.index = rg_node(&b, "Add", "sum", (int[]){x.index, y.index}, 2);
    proves(finish(&b, last(&b, x)), "{\"op\":\"activation\",\"layer\":\"conv1\"}");
}

/* Slopes that are no longer read would stay in the file. */
TEST(slopes_go_with_their_activation) {
    static const char *const steps[] = {"{\"op\":\"activation\",\"layer\":\"prelu*\",\"mode\":\"relu\"}",
                                        "{\"op\":\"activation\",\"layer\":\"prelu*\",\"mode\":\"linear\"}"};
    for (int one = 0; one < 2; one++) {
        struct rg_value x;
        struct rg b = start(12, &x);
        x = conv(&b, x, window(3, 1, 1, 1), false);
        x = rg_prelu(&b, x);
        struct array *slopes = b.g->values[b.g->nodes[b.g->n_nodes - 1].inputs[1]].constant;
        for (size_t i = 0; i < slopes->count; i++) ((float *)slopes->data)[i] = (float)one;
        struct graph *g = finish(&b, last(&b, x)), *child = proved(g, steps[one]);
        for (int v = 0; child && v < child->n_values; v++)
            ok(!child->values[v].constant || !strstr(child->values[v].name, "slope"), "'%s' is left",
               child->values[v].name);
        graph_free(child);
        graph_free(g);
    }
}

/* Noise differs within a kernel, and says that it is not exact. */
TEST(one_number_of_noise_for_a_whole_kernel) {
    struct morph_step s;
    struct err e = {0};
    struct graph *parent = usual(31, window(3, 1, 1, 1), false, "Relu");
    const char *text = "{\"op\":\"deepen\",\"layer\":\"conv1\",\"noise\":0.1}";
    struct graph *child = grown(parent, text, NULL, NULL, &e);
    need(child && parse_step(&s, text), "%s", e.text);
    ok(!morph_is_exact(&s), "noise is not exact");
    const float *w = weights_of(child, "conv1_deeper")->data;
    ok(w[0] != w[1] && w[1] != w[2] && w[0] != 0.0F, "all alike");
    graph_free(child);
    graph_free(parent);
}

/* ---- the norm of an identity ---- */

static double real_at(const struct graph *g, int value, size_t i) {
    double x;
    array_to_double(&x, g->values[value].constant, i, 1);
    return x;
}

/* conv1 - norm2 - act3 - conv4, the identity that deepen puts behind act3, and the statistics it was given. */
struct normed {
    struct graph *parent, *child;
    const struct node *norm;
    struct morph_statistics own;
    double epsilon; /* of the parent's norm */
};

static struct normed normed(void) {
    struct err e = {0};
    struct normed n = {.parent = usual(8, window(3, 1, 1, 1), true, "Relu")};
    n.child = grown(n.parent, "{\"op\":\"deepen\",\"layer\":\"conv1\"}", &md_data, NULL, &e);
    if (ok(n.child != NULL, "%s", e.text)) n.norm = node_named(n.child, "conv1_deeper_norm");
    int status = md_statistics(&n.own, NULL, n.parent, graph_find_value(n.parent, "act3_out"), &e);
    n.epsilon = node_real(node_named(n.parent, "norm2"), "epsilon", 1e-5);
    ok(!status, "%s", e.text);
    return n;
}

static void normed_fini(struct normed *n) {
    mem_free(n->own.mean);
    mem_free(n->own.variance);
    graph_free(n->child);
    graph_free(n->parent);
}

/* Of channel c: what multiplies, what is added, the mean, the variance. */
enum { SCALE = 1, SHIFT, MEAN, VARIANCE };
static double own(const struct normed *n, int k, size_t c) {
    return n->norm ? real_at(n->child, n->norm->inputs[k], c) : (double)NAN;
}

TEST(identity_norm_without_epsilon) {
    struct normed n = normed();
    prove(n.parent, n.child, false, "an identity with a norm");
    ok(n.norm && node_real(n.norm, "epsilon", 1e-5) == n.epsilon, "the parent's");
    for (size_t c = 0; c < 5; c++)
        ok(fabs(pow(own(&n, SCALE, c), 2) - n.own.variance[c] - n.epsilon) < 1e-12, "channel %zu", c);
    normed_fini(&n);
}

TEST(identity_norm_with_the_variance_for_its_root) {
    struct normed n = normed();
    for (size_t c = 0; c < 5; c++)
        ok(fabs(own(&n, SCALE, c) / sqrt(own(&n, VARIANCE, c) + n.epsilon) - 1) < 1e-12, "channel %zu", c);
    normed_fini(&n);
}

TEST(identity_norm_with_statistics_of_another_value) {
    struct normed n = normed();
    for (size_t c = 0; c < 5; c++) ok(own(&n, MEAN, c) == n.own.mean[c], "channel %zu", c);
    normed_fini(&n);
}

TEST(identity_norm_with_an_unbiased_variance) {
    struct normed n = normed();
    for (size_t c = 0; c < 5; c++) ok(own(&n, VARIANCE, c) == n.own.variance[c], "channel %zu", c);
    normed_fini(&n);
}

TEST(identity_norm_of_ones_and_zeros) {
    struct normed n = normed();
    for (size_t c = 0; c < 5; c++) ok(fabs(own(&n, SCALE, c) - 1) > 1e-3 && own(&n, SHIFT, c) != 0, "channel %zu", c);
    normed_fini(&n);
}

TEST(identity_norm_without_running_statistics) {
    struct normed n = normed();
    for (size_t c = 0; c < 5; c++)
        ok(own(&n, SHIFT, c) == own(&n, MEAN, c) && own(&n, VARIANCE, c) != 1, "channel %zu: only in training exact",
           c);
    normed_fini(&n);
}

/* Two passes of 32 samples, of mean 0 and of mean 10: the variance of all of them is 25 and a bit, that within a pass a
 * bit. */
TEST(variances_of_batches_averaged_instead_of_pooled) {
    enum { SAMPLES = 64, ROW = 3 * 9 * 8 };
    static float rows[SAMPLES * ROW];
    struct rg_value x;
    struct rg b = start(44, &x);
    struct graph *g = finish(&b, rg_simple(&b, x, "Identity", "as", 1));
    struct data_array array = {.type = DT_FLOAT32, .shape = {.rank = 4, .dim = {SAMPLES, 3, 9, 8}}, .data = rows};
    struct dataset data;
    struct dataset_spec spec;
    struct selection all = {.data = &data, .n = SAMPLES};
    struct calibration c = {0};
    struct morph_statistics s = {0};
    struct host host = {.threads = 1};
    struct random r = random_seed(45);
    struct err e = {0};
    double sum = 0, squares = 0;
    for (size_t i = 0; i < SAMPLES * ROW; i++) {
        rows[i] = (float)(0.3 * random_normal(&r) + (i < SAMPLES * ROW / 2 ? 0 : 10));
        if (i / 72 % 3 == 1) sum += (double)rows[i], squares += (double)rows[i] * (double)rows[i];
    }
    need(!param_parse(&spec, dataset_params, NULL, "", &e) &&
             !dataset_open(&data, &spec, &array, NULL, &g->values[g->inputs[0]].shape, 0, &e),
         "%s", e.text);
    need(!calibration_open(&c, &all, &host, &e) && !c.data.statistics(&s, c.data.context, g, g->outputs[0], &e), "%s",
         e.text);
    double n = SAMPLES * 72, mean = sum / n, variance = squares / n - mean * mean;
    ok(variance > 25 && fabs(s.mean[1] - mean) < 1e-5 && fabs(s.variance[1] / variance - 1) < 1e-5,
       "mean %g, variance %g, not %g and %g", s.mean[1], s.variance[1], mean, variance);
    mem_free(s.mean);
    mem_free(s.variance);
    calibration_fini(&c);
    graph_free(g);
}

TEST(without_data_there_is_no_norm) {
    struct graph *parent = usual(8, window(3, 1, 1, 1), true, "Relu");
    struct graph *child = proved(parent, "{\"op\":\"deepen\",\"layer\":\"conv1\"}");
    ok(child && graph_find_node(child, "conv1_deeper_norm") < 0, "a norm without statistics");
    graph_free(child);
    graph_free(parent);
}

/* ---- two dense kernels ---- */

/* 6 channels of 3x3 by 3x3 with 24 in between: both factors are dense, and the border would be wrong by 32. */
TEST(dense_second_kernel_behind_padding) {
    struct graph *parent = usual(9, window(3, 1, 1, 1), false, "Relu");
    struct graph *child = proved(parent, "{\"op\":\"deepen\",\"layer\":\"conv1\",\"mode\":\"netmorph\",\"to\":24}");
    const struct node *first = node_named(child, "conv1"), *second = node_named(child, "conv1_deeper");
    ok(listed(first, "pads", 0) == 2 && listed(second, "pads", 0) == 0, "all padding is the first one's");
    ok(first && first->n_inputs == 2 && second && second->n_inputs == 3, "and the bias the second one's");
    graph_free(child);
    graph_free(parent);
    proves(usual(10, window(3, 2, 1, 1), false, "Tanh"),
           "{\"op\":\"deepen\",\"layer\":\"conv1\",\"mode\":\"netmorph\",\"to\":24,\"size\":5}");
    proves(usual(11, window(3, 2, 2, 0), false, "Relu"),
           "{\"op\":\"deepen\",\"layer\":\"conv1\",\"mode\":\"netmorph\",\"to\":24}");
}

TEST(stride_goes_to_the_second_factor) {
    struct graph *parent = usual(12, window(3, 2, 1, 1), false, "Relu");
    struct graph *child = proved(parent, "{\"op\":\"deepen\",\"layer\":\"conv1\",\"mode\":\"netmorph\"}");
    ok(listed(node_named(child, "conv1"), "strides", 0) == 1, "first");
    ok(listed(node_named(child, "conv1_deeper"), "strides", 0) == 2, "second");
    graph_free(child);
    graph_free(parent);
}

TEST(enough_unknowns_but_not_the_rank) { /* one channel in, three between, 3x3 by 3x3: rank 24 of 25 */
    struct rg_value x;
    struct rg b = start(13, &x);
    x = rg_conv(&b, x, window(1, 1, 1, 0), 1, 1, VALUE_NONE);
    x = rg_conv(&b, x, window(3, 1, 1, 1), 3, 1, VALUE_NONE);
    proves(finish(&b, last(&b, x)), "{\"op\":\"deepen\",\"layer\":\"conv2\",\"mode\":\"netmorph\",\"to\":3}");
}

TEST(too_few_channels_between) {
    refuses(usual(14, window(3, 1, 1, 1), false, "Relu"),
            "{\"op\":\"deepen\",\"layer\":\"conv1\",\"mode\":\"netmorph\",\"to\":2}", NULL, "at least 3");
}

/* ---- larger kernels ---- */

TEST(kernel_growth_under_same_padding_with_stride) {
    for (int lower = 0; lower < 2; lower++)
        for (int64_t kernel = 1; kernel <= 3; kernel++) {
            struct rg_window w = window(kernel, 2, 1, 0);
            w.auto_pad = lower ? "SAME_LOWER" : "SAME_UPPER";
            proves(usual(15, w, false, "Relu"), "{\"op\":\"kernel\",\"layer\":\"conv1\",\"size\":5}");
        }
    struct rg_window w = window(3, 2, 1, 0);
    w.auto_pad = "SAME_UPPER";
    proves(usual(15, w, false, "Relu"), "{\"op\":\"kernel\",\"layer\":\"conv1\",\"size\":[5,7]}");
}

TEST(kernels_grow_with_dilation_and_without_padding) {
    proves(usual(16, window(3, 1, 2, 0), false, "Relu"), "{\"op\":\"kernel\",\"layer\":\"conv1\",\"size\":5}");
    proves(usual(17, window(2, 2, 1, 0), true, "Relu"), "{\"op\":\"kernel\",\"layer\":\"conv1\",\"size\":[3,5]}");
}

TEST(kernels_do_not_grow_to_an_even_size) {
    static const char *const even[] = {"4", "[3,4]", "[6,5]"};
    for (size_t i = 0; i < sizeof even / sizeof *even; i++) {
        char step[80];
        snprintf(step, sizeof step, "{\"op\":\"kernel\",\"layer\":\"conv1\",\"size\":%s}", even[i]);
        refuses(usual(18, window(3, 1, 1, 1), false, "Relu"), step, NULL, "no centre");
    }
    proves(usual(17, window(2, 2, 1, 0), true, "Relu"), "{\"op\":\"kernel\",\"layer\":\"conv1\",\"size\":[2,5]}");
}

TEST(kernels_do_not_shrink) {
    refuses(usual(18, window(3, 1, 1, 1), false, "Relu"), "{\"op\":\"kernel\",\"layer\":\"conv1\",\"size\":[5,1]}",
            NULL, "smaller");
}

TEST(what_an_optimizer_keeps_is_embedded_with_the_kernel) {
    struct err e = {0};
    struct graph *parent = usual(19, window(3, 1, 1, 1), false, "Relu");
    struct value *v = &parent->values[graph_find_value(parent, "conv1_weight")];
    need(!array_clone(&v->memory[1], v->constant, &e), "%s", e.text);
    struct graph *child = grown(parent, "{\"op\":\"kernel\",\"layer\":\"conv1\",\"size\":5}", NULL, NULL, &e);
    need(child != NULL, "%s", e.text);
    const struct value *grown_v = &child->values[graph_find_value(child, "conv1_weight")];
    ok(!grown_v->memory[0] && grown_v->memory[1], "which is there");
    if (grown_v->memory[1])
        ok(memcmp(grown_v->memory[1]->data, grown_v->constant->data, grown_v->constant->count * sizeof(float)) == 0,
           "like the weights");
    graph_free(child);
    graph_free(parent);
}

/* ---- skips ---- */

/* Both layers of a new branch zero: a gradient of zero for ever. prove looks at every new tensor. */
TEST(new_branch_with_both_ends_zero) {
    struct graph *parent = usual(20, window(3, 1, 1, 1), false, "Relu");
    graph_free(proved(parent, "{\"op\":\"skip\",\"layer\":\"conv3\",\"from\":\"conv1\"}"));
    graph_free(proved(parent, "{\"op\":\"skip\",\"layer\":\"conv3\",\"from\":\"conv1\",\"mode\":\"concat\"}"));
    graph_free(parent);
    struct rg_value x;
    struct rg b = start(21, &x);
    x = rg_conv(&b, x, window(1, 1, 1, 0), 7, 1, VALUE_NONE);
    x = conv(&b, x, window(3, 2, 1, 1), false);
    x = rg_simple(&b, x, "Relu", "relu", 1);
    proves(finish(&b, last(&b, x)), "{\"op\":\"skip\",\"layer\":\"conv4\",\"from\":\"conv1\"}");
}

TEST(skips_go_forwards) {
    refuses(usual(22, window(3, 1, 1, 1), false, "Relu"), "{\"op\":\"skip\",\"layer\":\"conv1\",\"from\":\"conv3\"}",
            NULL, "backwards");
    refuses(usual(22, window(3, 1, 1, 1), false, "Relu"), "{\"op\":\"skip\",\"layer\":\"act2\",\"from\":\"conv1\"}",
            NULL, "already");
    refuses(usual(22, window(3, 1, 1, 1), false, "Relu"), "{\"op\":\"skip\",\"layer\":\"conv3\",\"from\":\"x\"}", NULL,
            "'x' is an input of the network");
    refuses(usual(22, window(3, 1, 1, 1), false, "Relu"), "{\"op\":\"remove\",\"layer\":\"act2\",\"mode\":\"anneal\"}",
            NULL, "a Relu has no slope");
}

/* ---- shared weights, several readers ---- */

static struct graph *tied(void) {
    struct rg_value x;
    struct rg b = start(23, &x);
    x = rg_simple(&b, conv(&b, x, window(3, 1, 1, 1), false), "Relu", "relu", 1);
    struct rg_value y = rg_conv(&b, x, window(3, 1, 1, 1), 5, 1, VALUE_NONE);
    int weights = b.g->nodes[b.g->n_nodes - 1].inputs[1];
    y = rg_conv(&b, rg_simple(&b, y, "Relu", "relu", 1), window(3, 1, 1, 1), 5, 1, weights);
    return finish(&b, y);
}

TEST(weights_that_are_used_twice) {
    refuses(tied(), "{\"op\":\"kernel\",\"layer\":\"conv3\",\"size\":5}", NULL, "no longer be shared");
    refuses(tied(), "{\"op\":\"deepen\",\"layer\":\"conv5\",\"mode\":\"netmorph\"}", NULL, "no longer be shared");
    refuses(tied(), "{\"op\":\"subnet\",\"layer\":\"conv3\"}", NULL, "no longer be shared");
    refuses(tied(), "{\"op\":\"module\",\"layer\":\"conv3\",\"recipe\":\"1c1\"}", NULL, "no longer be shared");
    proves(tied(), "{\"op\":\"deepen\",\"layer\":\"conv*\"}");
}

/* The layer's result is read before and behind its activation: the second identity belongs behind neither. */
TEST(several_readers_of_one_result) {
    struct rg_value x, y;
    struct rg b = start(24, &x);
    x = conv(&b, x, window(3, 1, 1, 1), false);
    y = rg_simple(&b, x, "Sigmoid", "sigmoid", 1);
    x.index = rg_node(&b, "Mul", "gate", (int[]){x.index, y.index}, 2); /* SiLU as it is exported */
    struct graph *parent = finish(&b, last(&b, x));
    static const char *const steps[] = {
        "{\"op\":\"deepen\",\"layer\":\"conv1\"}",
        "{\"op\":\"deepen\",\"layer\":\"conv1\",\"mode\":\"netmorph\"}",
        "{\"op\":\"subnet\",\"layer\":\"conv1\",\"mode\":\"stacked\"}",
        "{\"op\":\"module\",\"layer\":\"conv1\",\"recipe\":\"3c1\"}",
        "{\"op\":\"activation\",\"layer\":\"conv1\"}",
    };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) graph_free(proved(parent, steps[i]));
    graph_free(parent);
}

TEST(one_of_two_readers_forgotten) {
    struct rg_value x, y;
    struct rg b = start(24, &x);
    x = rg_simple(&b, conv(&b, x, window(3, 1, 1, 1), false), "Tanh", "tanh", 1);
    y = last(&b, x);
    x = last(&b, x);
    x.index = rg_node(&b, "Add", "sum", (int[]){x.index, y.index}, 2);
    refuses(finish(&b, x), "{\"op\":\"widen\",\"layer\":\"conv1\",\"to\":7,\"mode\":\"grad-max\"}", &md_data,
            "not just one layer");
}

/* A layer whose result is the network's output keeps the output's name. */
TEST(the_last_layer_can_grow_too) {
    struct graph *parent = usual(25, window(3, 1, 1, 1), false, "Relu");
    static const char *const steps[] = {
        "{\"op\":\"deepen\",\"layer\":\"conv3\"}",
        "{\"op\":\"deepen\",\"layer\":\"conv3\",\"mode\":\"netmorph\"}",
        "{\"op\":\"subnet\",\"layer\":\"conv3\",\"mode\":\"stacked\",\"parts\":4}",
        "{\"op\":\"module\",\"layer\":\"conv3\",\"recipe\":\"3c3\"}",
    };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct graph *child = proved(parent, steps[i]);
        ok(child && strcmp(child->values[child->outputs[0]].name, "conv3_out") == 0, "%s: the output's name", steps[i]);
        graph_free(child);
    }
    refuses(parent, "{\"op\":\"activation\",\"layer\":\"conv3\"}", NULL, "output");
}

/* ---- modules ---- */

TEST(shortcuts_become_modules) {
    static const char *const recipes[] = {"1c1", "3c1", "3c3", "1c1_2branch"};
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        char text[128];
        snprintf(text, sizeof text, "{\"op\":\"module\",\"layer\":\"sum*\",\"recipe\":\"%s\"}", recipes[i]);
        proves(residual(), text);
    }
}

TEST(every_other_shortcut) {
    struct graph *parent = residual();
    struct graph *child = proved(parent, "{\"op\":\"module\",\"layer\":\"sum*\",\"recipe\":\"1c1-half\"}");
    ok(child && graph_find_node(child, "sum1_s_a") >= 0 && graph_find_node(child, "sum2_s_a") < 0, "the first of two");
    graph_free(child);
    graph_free(parent);
}

TEST(modules_that_would_have_to_crop) {
    refuses(usual(27, window(3, 1, 1, 0), false, "Relu"), "{\"op\":\"module\",\"layer\":\"conv1\",\"recipe\":\"1c1\"}",
            NULL, "edge a->t would have to crop");
    proves(usual(27, window(3, 1, 1, 0), false, "Relu"), "{\"op\":\"module\",\"layer\":\"conv1\",\"recipe\":\"3c1\"}");
}

TEST(irreducible_modules) { /* figure (D) */
    proves(
        usual(28, window(3, 2, 1, 1), false, "Relu"),
        "{\"op\":\"module\",\"layer\":\"conv1\",\"edges\":[{\"from\":\"s\",\"to\":\"a\"},{\"from\":\"s\",\"to\":\"b\"},"
        "{\"from\":\"a\",\"to\":\"c\"},{\"from\":\"b\",\"to\":\"c\"},{\"from\":\"a\",\"to\":\"t\"},{\"from\":\"c\","
        "\"to\":\"t\"},{\"from\":\"b\",\"to\":\"t\"}]}");
    refuses(
        usual(28, window(3, 1, 1, 1), false, "Relu"),
        "{\"op\":\"module\",\"layer\":\"conv1\",\"edges\":[{\"from\":\"s\",\"to\":\"a\"},{\"from\":\"a\",\"to\":\"b\"},"
        "{\"from\":\"b\",\"to\":\"a\"},{\"from\":\"a\",\"to\":\"t\"}]}",
        NULL, "cycle");
}

#define EDGES(edges) "{\"op\":\"module\",\"layer\":\"conv1\",\"edges\":[" edges "]}"
#define EDGE(from, to, kernel) "{\"from\":\"" from "\",\"to\":\"" to "\",\"kernel\":" #kernel "}"

TEST(what_is_wrong_with_edges_is_told_in_their_own_names) {
    static const char *const cases[][2] = {
        {EDGES(EDGE("s", "mid", 3) "," EDGE("s", "t", 3)), "'mid' is on no path"},
        {EDGES(EDGE("s", "mid", 3) "," EDGE("mid", "s", 3)), "edge mid->s: none leads into the source"},
        {EDGES(EDGE("s", "t", 3) "," EDGE("t", "mid", 3)),
         "edge t->mid: none leads into the source and none out of the sink"},
        {EDGES(EDGE("s", "mid", 4) "," EDGE("mid", "t", 3)), "edge s->mid has 4x4 taps"},
        {EDGES(EDGE("s", "mid", 1) "," EDGE("mid", "t", 1)), "no way through the module reaches further than 1x1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuses(usual(28, window(3, 1, 1, 1), false, "Relu"), cases[i][0], NULL, cases[i][1]);
    refuses(usual(28, window(3, 1, 1, 1), false, "Relu"),
            "{\"op\":\"module\",\"layer\":\"conv1\",\"recipe\":\"1c1_2branch\"}", NULL,
            "its kernel is 3x3, and no way through the module reaches further than 1x1");
}

/* ---- what can learn ---- */

/* Two equal halves and a bias above 0: where one half is below 0, the Relu behind the sum lets nothing through. */
TEST(a_gradient_that_comes_when_halves_have_parted) {
    struct graph *parent = usual(32, window(3, 1, 1, 1), false, "Relu");
    struct err e = {0};
    const struct node *layer = node_named(parent, "conv1");
    need(layer && layer->n_inputs == 3, "no bias");
    struct array *bias = parent->values[layer->inputs[2]].constant;
    for (size_t i = 0; i < bias->count; i++) ((float *)bias->data)[i] = 0.2f;
    struct graph *parts = grown(parent, "{\"op\":\"module\",\"layer\":\"conv1\",\"recipe\":\"3c3\"}", NULL, NULL, &e);
    need(parts != NULL, "%s", e.text);
    struct graph *child = proved(parts, "{\"op\":\"activation\",\"layer\":\"conv1\"}");
    int slope = child ? graph_find_value(child, "conv1_activation_slope") : -1;
    struct proof_options o = {.seed = 3, .threads = 1, .parameters = &slope, .n_parameters = 1};
    struct proof p;
    need(slope >= 0 && !proof_run(&p, parts, child, &o, &e), "%s", e.text);
    ok(!(p.gradients[0].norm > 0) && p.gradients[0].norm_later > 0 && p.trainable, "%g at once, %g later",
       p.gradients[0].norm, p.gradients[0].norm_later);
    proof_free(&p);
    graph_free(child);
    graph_free(parts);
    graph_free(parent);
}

TEST(rounding_is_no_gradient) { /* the normalisation takes out what a bias adds */
    struct rg_value x;
    struct rg b = start(31, &x);
    struct err e = {0};
    struct proof p;
    struct proof_options o = {.seed = 3, .threads = 1, .approximate = true};
    struct graph *parent;
    x = rg_norm(&b, conv(&b, x, window(3, 1, 1, 1), false));
    struct graph *child = finish(&b, last(&b, x));
    need(child && !graph_clone(&parent, child, &e), "%s", e.text);
    struct node *layer = &parent->nodes[graph_find_node(parent, "conv1")];
    struct value *bias = &parent->values[layer->inputs[2]];
    layer->n_inputs = 2;
    array_free(bias->constant);
    bias->constant = NULL;
    need(!graph_finish(parent, &e) && !proof_run(&p, parent, child, &o, &e), "%s", e.text);
    ok(p.n_gradients == 1 && p.gradients[0].dead && p.gradients[0].idle == 5 && p.trainable, "a gradient of %g",
       p.gradients[0].norm);
    proof_free(&p);
    graph_free(parent);
    graph_free(child);
}

/* ---- GradMax ---- */

/* conv1 - activation - conv3 without a norm. */
TEST(zeros_in_front_of_an_activation_without_slope) {
    const char *step = "{\"op\":\"widen\",\"layer\":\"conv1\",\"to\":7,\"mode\":\"grad-max\"}";
    refuses(usual(29, window(3, 1, 1, 1), false, "Relu"), step, &md_data, "Relu");
    refuses(usual(29, window(3, 1, 1, 1), false, "Sigmoid"), step, &md_data, "Sigmoid");
    refuses(usual(29, window(3, 1, 1, 1), true, "Tanh"), step, &md_data, "normalisation");
    refuses(usual(29, window(3, 1, 1, 1), false, "Tanh"), step, NULL, "data");
}

/* Sum of squares of the gradient of conv1's new channels, from the loss and the samples of morph_data.h. */
static double new_gradient(const struct graph *g) {
    struct crew *crew;
    struct net *net;
    struct err e = {0};
    struct net_options options = {.batch = MD_SAMPLES, .training = true};
    const struct net_parameter *list;
    int value = graph_find_value(g, "conv1_weight");
    double sum = 0;
    if (!ok(!crew_new(&crew, 1, &e) && !net_new(&net, g, crew, &options, &e), "%s", e.text)) return 0;
    struct shape in = net_input_shape(net, 0), out = net_output_shape(net, 0);
    size_t n_in, n_out, old = 5 * 27;
    shape_count(&n_in, &in, NULL);
    shape_count(&n_out, &out, NULL);
    md_fill(net_input(net, 0), n_in, 77, 1);
    net_forward(net, MD_SAMPLES, random_seed(1), NULL, NULL);
    md_fill(net_output_gradient(net, 0), n_out, 78, 1);
    net_backward(net);
    int n = net_parameter_list(net, &list);
    for (int i = 0; i < n; i++)
        for (size_t k = old; list[i].value == value && k < list[i].count; k++)
            sum += pow((double)net_gradients(net)[list[i].start + k], 2);
    net_free(net);
    crew_free(crew);
    return sum;
}

/* Sum of squares of what conv3 reads of channel c of seven. */
static double reading(const struct graph *g, size_t c) {
    const struct array *w = weights_of(g, "conv3");
    double sum = 0;
    for (size_t i = 0; w && i < w->count; i++)
        if (i / 9 % 7 == c) sum += pow((double)((const float *)w->data)[i], 2);
    return sum;
}

/* The gradient of the zeros is what the singular values promise, border, stride and all, and beats random directions. */
TEST(gradmax_has_the_largest_gradient) {
    const char *step = "{\"op\":\"widen\",\"layer\":\"conv1\",\"to\":7,\"mode\":\"grad-max\"}";
    struct err e = {0};
    struct text report;
    struct random r = random_seed(9);
    struct graph *parent = usual(30, window(3, 2, 1, 1), false, "Tanh");
    text_init(&report, 1 << 20);
    struct graph *child = grown(parent, step, &md_data, &report, &e);
    need(child != NULL, "%s", e.text);
    prove(parent, child, true, step);
    double largest = strtod(strstr(report.data, "\"largest\":") + 10, NULL);
    double least = strtod(strstr(report.data, "\"least\":") + 8, NULL), best = new_gradient(child);
    double promised = reading(child, 5) * largest * largest + reading(child, 6) * least * least;
    ok(fabs(best - promised) < 1e-3 * promised, "%g, but %g was promised", best, promised);
    float *w = child->values[graph_find_value(child, "conv3_weight")].constant->data;
    for (int tries = 0; tries < 5; tries++) {
        double norm[2] = {reading(child, 5), reading(child, 6)};
        for (size_t i = 0; i < 4 * 7 * 9; i++)
            if (i / 9 % 7 >= 5) w[i] = (float)random_normal(&r);
        for (size_t c = 0; c < 2; c++) {
            double scale = sqrt(norm[c] / reading(child, 5 + c));
            for (size_t i = 0; i < 4 * 7 * 9; i++)
                if (i / 9 % 7 == 5 + c) w[i] = (float)(scale * (double)w[i]);
        }
        ok(new_gradient(child) < best, "random directions are better");
    }
    text_free(&report);
    graph_free(child);
    graph_free(parent);
}

/* Nine channels have 81 unknowns for 75 equations: dense factors multiply what cancels six times over, in every split. */
TEST(long_chains_of_hardly_determined_factors) {
    static const int channels[] = {2, 9, 10, 16};
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct rg_value x;
        struct rg b = start(seed, &x);
        x = rg_conv(&b, x, window(3, 1, seed % 2 + 1, 2), channels[seed % 4], 1, VALUE_NONE);
        x = rg_simple(&b, x, "Relu", "relu", 1);
        proves(finish(&b, last(&b, x)), seed % 3 ? "{\"op\":\"subnet\",\"layer\":\"conv1\",\"parts\":8}"
                                                 : "{\"op\":\"subnet\",\"layer\":\"conv1\",\"parts\":5}");
    }
}

/* Solves take far more than the network that they make: also in the sketch of a dry run. */
TEST(solves_beyond_the_memory) {
    static const char *const steps[] = {
        "{\"op\":\"deepen\",\"layer\":\"conv1\",\"mode\":\"netmorph\",\"to\":10000}",
        "{\"op\":\"subnet\",\"layer\":\"conv1\",\"to\":2000}",
        "{\"op\":\"subnet\",\"layer\":\"conv1\",\"mode\":\"stacked\",\"to\":10000}",
        "{\"op\":\"module\",\"layer\":\"conv1\",\"recipe\":\"3c3\",\"to\":8000}",
    };
    for (size_t i = 0; i < 2 * sizeof steps / sizeof *steps; i++) {
        struct morph_step s;
        struct morphing m;
        struct err e = {0};
        need(parse_step(&s, steps[i / 2]), "%s", steps[i / 2]);
        morphing_init(&m, usual(60, window(3, 1, 1, 1), false, "Relu"), 5, NULL);
        m.memory = 50000000;
        m.sketch = i % 2;
        ok(morph_apply(&m, &s, NULL, &e) == E_TOO_LARGE && strstr(e.text, "conv1") && strstr(e.text, "50000000"),
           "%s: %s", steps[i / 2], e.text);
        morphing_fini(&m);
    }
}

TEST_MAIN

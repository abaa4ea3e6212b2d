/* Proofs: equal graphs are found equal however they are written, and what is broken is found broken, where it is. */
#define TEST_SECONDS 120
#include "engine/surgery/proof.h"

#include "base/memory.h"
#include "base/text.h"
#include "tests/base/starve.h"
#include "tests/engine/proof_graphs.h"
#include "tests/test.h"

static bool prove(struct proof *p, const struct graph *f, const struct graph *child, const struct proof_options *o) {
    struct err e = {0};
    struct proof_options plain = {.threads = 2, .training_expected = true};
    return ok(!proof_run(p, f, child, o ? o : &plain, &e), "%s", e.text);
}

/* ---- what is the same ---- */

TEST(a_copy_is_the_same_to_the_bit) {
    for (unsigned long long seed = 1; seed <= 20; seed++) {
        struct graph *f = draw(seed, NULL), *copy = clone(f);
        struct proof p;
        if (!prove(&p, f, copy, NULL)) return;
        ok(p.exact && p.trainable && !p.first.node && p.n_gradients == 0 && !p.left_out[0], "seed %llu", seed);
        for (int i = 0; i < PROOF_INPUTS; i++)
            for (int mode = 0; mode < PROOF_MODES; mode++)
                for (int k = 0; k < PROOF_PRECISIONS; k++) {
                    const struct deviation *d = &p.inputs[i][mode][k];
                    bool tried = mode == PROOF_TRAINING ? i == PROOF_NORMAL : i != PROOF_DATA;
                    ok(d->measured == tried, "input %d, mode %d", i, mode);
                    ok(!tried || (d->equal && d->max == 0 && d->mean == 0 && d->largest > 0 && d->tolerance > 0),
                       "seed %llu, input %d, mode %d: %g", seed, i, mode, d->max);
                }
        ok(p.before.parameters == p.after.parameters && p.before.macs == p.after.macs && p.before.parameters > 0, "-");
        proof_free(&p);
        graph_free(f), graph_free(copy);
    }
}

/* Half of the weights, chosen by lot, in one product and the rest in another: the sum is the same but for rounding. */
static void split(struct graph *to, int index) {
    struct node *n = &to->nodes[index];
    struct array *first = to->values[n->inputs[1]].constant, *second = NULL;
    int out = n->outputs[0], in[3] = {n->inputs[0]}, half[2], added;
    array_clone(&second, first, NULL), array_own(second, NULL);
    for (size_t i = 0; i < first->count; i++) ((float *)(random_u64(&r) & 1 ? first : second)->data)[i] = 0;
    graph_add_constant_take(&in[1], to, NULL, second, NULL);
    graph_add_value(&half[0], to, NULL, "half", NULL), graph_add_value(&half[1], to, NULL, "half", NULL);
    to->values[out].producer = -1;
    to->nodes[index].outputs[0] = half[0];
    to->values[half[0]].producer = index;
    graph_add_node(&added, to, to->nodes[index].op->name, NULL, in, 2, &half[1], 1, NULL);
    for (int k = 0; k < to->nodes[index].n_attributes; k++) {
        const struct attribute *a = &to->nodes[index].attributes[k];
        if (a->type == ATTRIBUTE_INT) graph_set_int(to, added, a->name, a->integer, NULL);
        if (a->type == ATTRIBUTE_INTS) graph_set_ints(to, added, a->name, a->integers, a->count, NULL);
        if (a->type == ATTRIBUTE_STRING) graph_set_string(to, added, a->name, a->string, NULL);
    }
    graph_add_node(NULL, to, "Add", NULL, half, 2, &out, 1, NULL);
}

static struct graph *split_all(const struct graph *from) {
    struct graph *to = clone(from);
    struct err e = {0};
    int n = to->n_nodes;
    for (int i = 0; i < n; i++)
        if (is_op(&to->nodes[i], "Conv") || is_op(&to->nodes[i], "Gemm") || is_op(&to->nodes[i], "MatMul"))
            split(to, i);
    ok(!graph_finish(to, &e), "%s", e.text);
    return to;
}

TEST(the_same_function_in_other_words_is_the_same) {
    double most[PROOF_PRECISIONS] = {0}, closest = INFINITY;
    int rounded = 0;
    r = random_seed(test_seed());
    for (unsigned long long seed = 1; seed <= 100; seed++) {
        struct graph *f = draw(seed, &(struct random_graph_options){.with = seed % 5 ? 0 : RG_MAP}), *to = split_all(f);
        struct proof p;
        if (!prove(&p, f, to, NULL)) return;
        for (int k = 0; k < PROOF_PRECISIONS; k++) {
            const struct deviation *d = &p.worst[PROOF_INFERENCE][k];
            most[k] = fmax(most[k], d->max / fmax(1e-30, d->largest));
            if (k == PROOF_DOUBLE) closest = fmin(closest, d->tolerance / fmax(1e-300, d->max));
            rounded += d->max > 0;
        }
        ok(p.exact, "seed %llu: %g of %g in double, %g of %g in single, training %g; node %s", seed,
           p.worst[0][PROOF_DOUBLE].max, p.worst[0][PROOF_DOUBLE].tolerance, p.worst[0][PROOF_SINGLE].max,
           p.worst[0][PROOF_SINGLE].tolerance, p.worst[1][PROOF_DOUBLE].max, p.first.node ? p.first.node : "-");
        ok(p.trainable && p.n_gradients > 0, "seed %llu: new halves learn", seed);
        proof_free(&p);
        graph_free(f), graph_free(to);
    }
    if (getenv("TEST_VERBOSE"))
        printf("# relative: %.2g in double, %.2g in single; tolerance in double at least %.2g times the difference\n",
               most[PROOF_DOUBLE], most[PROOF_SINGLE], closest);
    ok(rounded > 170, "rounding differs in only %d of 200", rounded);
}

/* ---- what is broken ---- */

/* The largest weight of the node times 1 + by, in double: no float knows such a weight. */
static void perturb(struct graph *to, int index, double by) {
    struct value *v = &to->values[to->nodes[index].inputs[1]];
    struct array *moved = NULL;
    array_new(&moved, DT_FLOAT64, &v->constant->shape, NULL);
    array_to_double(moved->data, v->constant, 0, moved->count);
    double *x = moved->data;
    size_t largest = 0;
    for (size_t i = 0; i < moved->count; i++)
        if (fabs(x[i]) > fabs(x[largest])) largest = i;
    x[largest] *= 1 + by;
    array_free(v->constant);
    v->constant = moved;
    v->type = DT_FLOAT64;
}

/* How many of 60 are found; what is not does not reach the output. Single precision sees nothing of it. */
static int find_perturbed(double by) {
    int found = 0;
    for (unsigned long long seed = 1; seed <= 60; seed++) {
        struct graph *f = draw(seed, &(struct random_graph_options){.without = RG_VECTORS}), *to = clone(f);
        int broken = any_node(to, "Conv", seed);
        struct proof p;
        perturb(to, broken, by);
        if (!prove(&p, f, to, &(struct proof_options){.threads = 1, .no_gradients = true})) return 0;
        found += !p.exact;
        if (!p.exact) {
            ok(p.first.node && !strcmp(p.first.node, to->nodes[broken].name), "seed %llu: %s, not %s", seed,
               p.first.node, to->nodes[broken].name);
            ok(p.first.deviation.max > p.first.deviation.tolerance && p.first.precision == PROOF_DOUBLE, "-");
        }
        ok(p.worst[PROOF_INFERENCE][PROOF_SINGLE].max == 0, "seed %llu: no float knows", seed);
        proof_free(&p);
        graph_free(f), graph_free(to);
    }
    return found;
}

TEST(a_weight_that_is_slightly_off_is_found_and_named) {
    int n = find_perturbed(1e-9);
    ok(n >= 36, "%d of 60, a billionth off, found", n);
    n = find_perturbed(3e-8);
    ok(n >= 56, "%d of 60, thirty billionths off, found", n);
}

TEST(an_epsilon_is_found_and_named) {
    for (unsigned long long seed = 1; seed <= 40; seed++) {
        struct graph *f = draw(seed, &(struct random_graph_options){.with = RG_NORM}), *to = clone(f);
        int broken = any_node(to, "BatchNormalization", seed);
        struct proof p;
        graph_set_real(to, broken, "epsilon", node_real(&to->nodes[broken], "epsilon", 1e-5) * 1.05, NULL);
        if (!prove(&p, f, to, NULL)) return;
        ok(!p.exact && p.first.node && !strcmp(p.first.node, to->nodes[broken].name), "seed %llu: %s, not %s", seed,
           p.first.node ? p.first.node : "nothing", to->nodes[broken].name);
        proof_free(&p);
        graph_free(f), graph_free(to);
    }
}

static struct graph *normalised(void) {
    int x = start(SHAPE(DIM_BATCH, 3, 9, 8));
    return finish(conv("conv", norm("norm", x, 3), 3, 4, 3, 0.3));
}

/* The normalisation folded into the convolution behind it, which is wrong where there are zeros of padding. */
static struct graph *folded_through_padding(const struct graph *f) {
    double part[4][3], w, b;
    static const char *const parts[] = {"scale", "shift", "mean", "variance"};
    int x = start(SHAPE(DIM_BATCH, 3, 9, 8));
    int y = conv("conv", x, 3, 4, 3, 0);
    for (int k = 0; k < 4; k++) {
        char name[64];
        snprintf(name, sizeof name, "norm_%s", parts[k]);
        array_to_double(part[k], f->values[graph_find_value(f, name)].constant, 0, 3);
    }
    const struct array *weights = f->values[graph_find_value(f, "conv_w")].constant,
                       *bias = f->values[graph_find_value(f, "conv_b")].constant;
    struct array *folded = NULL, *shifted = NULL;
    array_new(&folded, DT_FLOAT64, &weights->shape, NULL), array_new(&shifted, DT_FLOAT64, &bias->shape, NULL);
    for (size_t o = 0; o < 4; o++) {
        array_to_double(&b, bias, o, 1);
        for (size_t i = 0; i < 27; i++) {
            size_t c = i / 9;
            double gain = part[0][c] / sqrt(part[3][c] + 1e-5);
            array_to_double(&w, weights, o * 27 + i, 1);
            ((double *)folded->data)[o * 27 + i] = w * gain;
            b += w * (part[1][c] - part[2][c] * gain);
        }
        ((double *)shifted->data)[o] = b;
    }
    struct value *v = &g->values[graph_find_value(g, "conv_w")];
    array_free(v->constant), v->constant = folded, v->type = DT_FLOAT64;
    v = &g->values[graph_find_value(g, "conv_b")];
    array_free(v->constant), v->constant = shifted, v->type = DT_FLOAT64;
    return finish(y);
}

TEST(border_and_interior_are_told_apart) {
    struct graph *f = normalised(), *to = folded_through_padding(f);
    struct proof p;
    if (!prove(&p, f, to, &(struct proof_options){.threads = 1})) return;
    const struct deviation *d = &p.worst[PROOF_INFERENCE][PROOF_DOUBLE];
    ok(!p.exact && d->is_map && d->border_max > 0.05 && d->max == d->border_max, "border %g", d->border_max);
    ok(d->interior_max < 1e-12, "interior %g", d->interior_max);
    ok(d->mean > 0 && d->mean < d->border_mean && d->interior_mean < 1e-12, "means");
    ok(p.first.node && !strcmp(p.first.node, "conv"), "%s", p.first.node);
    proof_free(&p);
    graph_free(to);
    /* everywhere */
    to = clone(f);
    graph_set_ints(to, any_node(to, "Conv", 0), "pads", (int64_t[]){2, 1, 0, 1}, 4, NULL);
    ok(!graph_finish(to, NULL), "-");
    if (!prove(&p, f, to, &(struct proof_options){.threads = 1})) return;
    d = &p.worst[PROOF_INFERENCE][PROOF_DOUBLE];
    ok(!p.exact && d->interior_max > 0.05 && d->border_max > 0.05, "%g, %g", d->border_max, d->interior_max);
    ok(p.first.last_equal && !strcmp(p.first.last_equal, "norm"), "last equal");
    proof_free(&p);
    graph_free(f), graph_free(to);
}

TEST(the_worst_channel_and_output_are_told) {
    int x = start(SHAPE(DIM_BATCH, 3, 6, 7));
    int y = conv("first", x, 3, 4, 3, 0.3), z = conv("second", x, 3, 5, 3, 0.3);
    graph_add_output(g, y, NULL);
    struct graph *f = finish(z), *to = clone(f);
    ((float *)to->values[graph_find_value(to, "second_b")].constant->data)[3] += 0.5f;
    struct proof p;
    if (!prove(&p, f, to, NULL)) return;
    const struct deviation *d = &p.worst[PROOF_INFERENCE][PROOF_SINGLE];
    ok(!p.exact && d->output == 1 && d->channel == 3 && fabs(d->max - 0.5) < 1e-5, "output %d, channel %lld", d->output,
       (long long)d->channel);
    ok(p.first.node && !strcmp(p.first.node, "second"), "%s", p.first.node);
    proof_free(&p);
    graph_free(f), graph_free(to);
}

/* What only samples show: a bound that random inputs do not reach. */
static struct graph *bounded(double most) {
    int x = start(SHAPE(DIM_BATCH, 5)), low = constant("low", SHAPE(1), -1000, 0),
        high = constant("high", SHAPE(1), most, 0);
    g->values[low].literal = g->values[high].literal = true;
    return finish(NODE("Clip", "clip", x, low, high));
}

TEST(samples_are_looked_at) {
    struct graph *f = bounded(100), *to = bounded(200);
    float data[3 * 5] = {[7] = 150};
    struct proof_options o = {
        .threads = 1, .data = (const float *[]){data}, .data_samples = 3, .training_expected = true};
    struct proof p;
    if (prove(&p, f, to, NULL)) ok(p.exact, "random numbers see nothing");
    proof_free(&p);
    if (prove(&p, f, to, &o))
        ok(!p.exact && p.first.input == PROOF_DATA && p.inputs[PROOF_DATA][0][PROOF_DOUBLE].max == 50, "the data does");
    proof_free(&p);
    data[7] = 50;
    if (prove(&p, f, to, &o)) ok(p.exact && p.inputs[PROOF_DATA][0][PROOF_DOUBLE].largest == 50, "not all data does");
    proof_free(&p);
    graph_free(f), graph_free(to);
}

static struct graph *logarithm(const char *before, const char *after) {
    int x = start(SHAPE(DIM_BATCH, 4));
    return finish(NODE(after, "after", NODE("Log", "log", NODE(before, "before", x))));
}

TEST(what_is_no_number_is_no_excuse) {
    struct graph *f = logarithm("Identity", "Identity"), *negative = logarithm("Identity", "Neg"),
                 *number = logarithm("Abs", "Identity");
    struct proof p;
    if (prove(&p, f, f, NULL)) ok(p.exact && p.worst[0][PROOF_DOUBLE].max == 0, "the same infinities");
    proof_free(&p);
    if (prove(&p, f, negative, NULL))
        ok(!p.exact && isinf(p.inputs[PROOF_ZEROS][0][PROOF_DOUBLE].max), "the opposite infinity");
    proof_free(&p);
    if (prove(&p, f, number, NULL))
        ok(!p.exact && p.inputs[PROOF_ZEROS][0][PROOF_DOUBLE].equal && isinf(p.inputs[PROOF_LOW][0][PROOF_DOUBLE].max),
           "a number where there was none");
    proof_free(&p);
    graph_free(f), graph_free(negative), graph_free(number);
}

/* ---- training ---- */

TEST(training_is_judged_when_equality_is_expected) {
    struct graph *f = normalised(), *to = clone(f);
    struct proof p;
    /* another momentum changes nothing in one pass; other statistics change inference alone */
    ((float *)to->values[graph_find_value(to, "norm_mean")].constant->data)[1] += 1;
    if (!prove(&p, f, to, NULL)) return;
    ok(!p.exact && p.worst[PROOF_TRAINING][PROOF_DOUBLE].equal && p.first.mode == PROOF_INFERENCE, "statistics");
    proof_free(&p);
    graph_free(to);
    /* y = x * a + b from the running statistics: the same in inference alone */
    int x = start(SHAPE(DIM_BATCH, 3, 9, 8)), a = constant("a", SHAPE(3, 1, 1), 0, 0),
        b = constant("b", SHAPE(3, 1, 1), 0, 0);
    double part[4][3];
    for (int k = 0; k < 4; k++) array_to_double(part[k], f->values[f->nodes[0].inputs[k + 1]].constant, 0, 3);
    struct array *gain = NULL, *shift = NULL;
    array_new(&gain, DT_FLOAT64, &SHAPE(3, 1, 1), NULL), array_new(&shift, DT_FLOAT64, &SHAPE(3, 1, 1), NULL);
    for (int c = 0; c < 3; c++) {
        ((double *)gain->data)[c] = part[0][c] / sqrt(part[3][c] + node_real(&f->nodes[0], "epsilon", 1e-5));
        ((double *)shift->data)[c] = part[1][c] - part[2][c] * ((double *)gain->data)[c];
    }
    array_free(g->values[a].constant), g->values[a].constant = gain, g->values[a].type = DT_FLOAT64;
    array_free(g->values[b].constant), g->values[b].constant = shift, g->values[b].type = DT_FLOAT64;
    int y = NODE("Add", "norm", NODE("Mul", "scaled", x, a), b);
    y = conv("conv", y, 3, 4, 3, 0);
    for (int k = 1; k < 3; k++) {
        struct value *v = &g->values[g->nodes[g->n_nodes - 1].inputs[k]];
        array_free(v->constant);
        array_clone(&v->constant, f->values[f->nodes[1].inputs[k]].constant, NULL);
    }
    to = finish(y);
    if (!prove(&p, f, to, NULL)) return;
    ok(!p.exact && p.worst[PROOF_INFERENCE][PROOF_DOUBLE].equal && p.first.mode == PROOF_TRAINING, "folded");
    ok(p.first.node && to->nodes[1].outputs[0] == graph_find_value(to, p.first.value), "%s", p.first.value);
    proof_free(&p);
    if (!prove(&p, f, to, &(struct proof_options){.threads = 1, .training_reason = "folded"})) return;
    ok(p.exact && !p.training_expected && !strcmp(p.training_reason, "folded"), "not expected");
    ok(!p.worst[PROOF_TRAINING][PROOF_DOUBLE].equal, "still measured");
    proof_free(&p);
    graph_free(f), graph_free(to);
}

TEST(dropout_is_not_expected_to_be_equal) {
    struct graph *f = draw(3, &(struct random_graph_options){.with = RG_DROPOUT}), *to = clone(f);
    struct proof p;
    if (!prove(&p, f, to, NULL)) return;
    ok(p.exact && !p.training_expected && strstr(p.training_reason, "Dropout"), "%s", p.training_reason);
    proof_free(&p);
    graph_free(f), graph_free(to);
}

/* ---- new parameters ---- */

/* x + W2 relu(W1 x), W2 and W1 of so large numbers; without the branch when `grown` is not set. */
static struct graph *branched(bool grown, double first, double second) {
    int x = start(SHAPE(DIM_BATCH, 3, 6, 5));
    int y = conv("stem", x, 3, 4, 3, 0.3);
    if (grown) {
        int z = conv("out", NODE("Relu", "relu", conv("in", y, 4, 6, 3, first)), 6, 4, 3, second);
        y = NODE("Add", "sum", y, z);
    }
    return finish(conv("head", y, 4, 2, 1, 0.5));
}

static struct graph *with_weights_of(struct graph *to, const struct graph *from) {
    for (int v = 0; v < to->n_values; v++) {
        int u = graph_find_value(from, to->values[v].name);
        if (u < 0 || !from->values[u].constant) continue;
        array_free(to->values[v].constant);
        to->values[v].constant = NULL;
        array_clone(&to->values[v].constant, from->values[u].constant, NULL);
        array_own(to->values[v].constant, NULL);
    }
    return to;
}

static const struct proof_gradient *gradient_of(const struct proof *p, const char *name) {
    for (int i = 0; i < p->n_gradients; i++)
        if (!strcmp(p->gradients[i].parameter, name)) return &p->gradients[i];
    return NULL;
}

TEST(a_branch_that_feeds_zeros_lives_later_and_one_of_zeros_is_dead) {
    struct graph *f = branched(false, 0, 0);
    struct graph *fan_out = with_weights_of(branched(true, 0.3, 0), f),
                 *both = with_weights_of(branched(true, 0, 0), f);
    struct proof p;
    if (!prove(&p, f, fan_out, NULL)) return;
    const struct proof_gradient *in = gradient_of(&p, "in_w"), *out = gradient_of(&p, "out_w");
    ok(p.exact && p.trainable && p.n_gradients == 4, "%d gradients", p.n_gradients);
    need(in && out && !gradient_of(&p, "stem_w"), "new ones only");
    ok(in->norm == 0 && in->norm_later > 0 && !in->dead && in->elements == 6 * 4 * 9, "feeds zeros: %g, then %g",
       in->norm, in->norm_later);
    ok(out->norm > 0 && !out->dead && out->idle == 0, "zeros that are fed: %g", out->norm);
    proof_free(&p);
    if (!prove(&p, f, both, NULL)) return;
    in = gradient_of(&p, "in_w"), out = gradient_of(&p, "out_w");
    need(in && out, "new ones");
    ok(p.exact && !p.trainable, "equal, and dead");
    ok(in->dead && out->dead && in->norm == 0 && in->norm_later == 0 && in->idle == in->elements, "both zero");
    ok(!gradient_of(&p, "out_b")->dead, "the bias lives");
    proof_free(&p);
    /* the caller's own list */
    int stem = graph_find_value(both, "stem_w"), x = both->inputs[0];
    struct proof_options o = {.threads = 1, .parameters = &stem, .n_parameters = 1};
    if (!prove(&p, f, both, &o)) return;
    ok(p.n_gradients == 1 && gradient_of(&p, "stem_w") && p.trainable, "one asked for");
    proof_free(&p);
    o.parameters = &x;
    ok(proof_run(&p, f, both, &o, NULL) == E_INVALID, "no parameter");
    proof_free(&p);
    graph_free(f), graph_free(fan_out), graph_free(both);
}

/* ---- bounds ---- */

TEST(memory_bounds_samples_and_then_precision) {
    struct graph *f = branched(false, 0, 0), *to = with_weights_of(branched(true, 0.3, 0), f);
    struct proof p;
    struct err e = {0};
    size_t least_all = 0, least = 0;
    int most = 0;
    bool fewer = false;
    for (size_t memory = 4000; memory < 4000000; memory += memory / 8) {
        struct proof_options o = {.threads = 1, .samples = 32, .memory = memory, .training_expected = true};
        int status = proof_run(&p, f, to, &o, &e);
        if (status) {
            ok(status == E_TOO_LARGE && !least && e.text[0], "%zu bytes: %d, %s", memory, status, e.text);
            e = (struct err){0};
            continue;
        }
        if (!least) least = memory;
        if (!least_all && !p.left_out[0]) least_all = memory;
        ok(p.exact && p.samples >= most && (p.samples == 1 || !p.left_out[0]), "%zu bytes: %d samples, %s", memory,
           p.samples, p.left_out);
        ok(p.worst[0][PROOF_SINGLE].measured, "single is always there");
        most = p.samples;
        fewer = fewer || (p.samples > 1 && p.samples < 32);
        proof_free(&p);
    }
    ok(least && least_all > least && fewer && most == 32, "from %zu bytes on, all from %zu on, up to %d samples", least,
       least_all, most);
    graph_free(f), graph_free(to);
}

TEST(graphs_that_do_not_fit_are_refused) {
    struct graph *f = branched(false, 0, 0), *to = normalised();
    struct proof p;
    struct err e = {0};
    struct proof_options o = {.threads = 1};
    ok(proof_run(&p, f, to, &o, &e) == E_INVALID && strstr(e.text, "[8,3,6,5]") && strstr(e.text, "[8,3,9,8]"), "%s",
       e.text);
    graph_free(to);
    to = clone(f);
    graph_add_output(to, to->outputs[0], NULL);
    ok(proof_run(&p, f, to, &o, NULL) == E_INVALID, "outputs");
    graph_free(f), graph_free(to);
}

TEST(a_fixed_batch_is_kept_to) {
    struct random_graph_options ro = {.batch = 3};
    struct graph *f = draw(4, &ro), *to = clone(f);
    struct proof p;
    int fitted = 0;
    if (prove(&p, f, to, NULL)) ok(p.exact && p.samples == 3, "%d samples", p.samples);
    proof_free(&p);
    for (size_t memory = 10000; memory < 4000000; memory += memory / 8) {
        int status = proof_run(&p, f, to, &(struct proof_options){.threads = 1, .memory = memory}, NULL);
        ok(status == E_TOO_LARGE || (!status && p.samples == 3), "%zu bytes: %d, %d samples", memory, status,
           p.samples);
        fitted += !status && p.left_out[0];
        proof_free(&p);
    }
    ok(fitted > 0, "what does not fit is left out, as there cannot be fewer samples");
    graph_free(f), graph_free(to);
}

TEST(deep_networks_are_allowed_more_in_single_precision) {
    struct proof p;
    for (int layers = 50; layers <= 51; layers++) {
        int x = start(SHAPE(DIM_BATCH, 4)), y = x;
        for (int i = 0; i < layers; i++) {
            char name[32];
            snprintf(name, sizeof name, "w%d", i);
            y = NODE("MatMul", NULL, y, constant(name, SHAPE(4, 4), 0, 0.5));
        }
        struct graph *f = finish(y);
        if (!prove(&p, f, f, &(struct proof_options){.threads = 1, .no_gradients = true})) return;
        const struct deviation *d = &p.inputs[PROOF_NORMAL][0][PROOF_SINGLE];
        ok(p.layers == layers && d->tolerance >= (layers > 50 ? 1e-4 : 1e-5) * d->largest, "%d layers", layers);
        ok(layers > 50 || d->tolerance < 9e-5 * d->largest, "%g for %g", d->tolerance, d->largest);
        proof_free(&p);
        graph_free(f);
    }
}

static int stop(void *context, struct err *e) {
    int *left = context;
    return (*left)-- > 0 ? 0 : err_set(e, E_CANCELLED, "stopped");
}

TEST(a_proof_can_be_stopped_between_passes) {
    struct graph *f = branched(false, 0, 0), *to = with_weights_of(branched(true, 0, 0), f);
    struct proof p;
    for (int passes = 0;; passes++) {
        int left = passes;
        struct err e = {0};
        struct proof_options o = {.threads = 1, .tick = {stop, &left}};
        int status = proof_run(&p, f, to, &o, &e);
        if (!status) {
            ok(passes == 10, "%d passes", passes); /* two for the gradients: something is dead */
            proof_free(&p);
            break;
        }
        if (!ok(status == E_CANCELLED && !strcmp(e.text, "stopped"), "%d: %s", status, e.text)) break;
    }
    graph_free(f), graph_free(to);
}

/* ---- the report ---- */

static const struct json *at(const struct json *j, const char *path) {
    char name[64];
    while (j && *path) {
        size_t n = strcspn(path, ".");
        snprintf(name, sizeof name, "%.*s", (int)n, path);
        j = json_get(j, name);
        path += n + (path[n] == '.');
    }
    return j;
}

static double number(const struct json *j, const char *path) {
    const struct json *v = at(j, path);
    return v && json_type(v) == JSON_NUMBER ? json_number(v) : (double)NAN;
}

static struct json *written(const struct proof *p) {
    struct text t;
    struct json *j = NULL;
    struct err e = {0};
    text_init(&t, 1 << 20);
    struct json_writer w = json_writer(&t);
    proof_write(&w, NULL, p);
    ok(!t.failed && !json_parse(&j, t.data, t.length, &e), "%s", e.text);
    if (getenv("TEST_VERBOSE")) printf("# %s\n", t.data);
    text_free(&t);
    return j;
}

TEST(the_report_says_it_all) {
    struct graph *f = branched(false, 0, 0), *to = with_weights_of(branched(true, 0, 0), f);
    struct proof p;
    char line[512];
    if (!prove(&p, f, to, NULL)) return;
    struct json *j = written(&p);
    need(j, "json");
    ok(json_bool(at(j, "exact")) && !json_bool(at(j, "trainable")), "verdicts");
    ok(number(j, "max_abs") == 0 && number(j, "relative") == 0 && number(j, "border.max_abs") == 0, "figures");
    ok(number(j, "parameters.before") == (double)p.before.parameters && number(j, "macs.after") == (double)p.after.macs,
       "sizes");
    ok(number(j, "float32.largest") > 0 && number(j, "float64.tolerance") > 0, "deviations");
    ok(json_bool(at(j, "training.expected")) && number(j, "training.float64.max_abs") == 0, "training");
    ok(json_type(at(j, "first_difference")) == JSON_NULL && json_type(at(j, "left_out")) == JSON_NULL, "nulls");
    ok(json_count(at(j, "inputs")) == 4 && json_count(at(j, "gradients")) == 4, "lists");
    ok(json_bool(json_get(json_first(at(j, "gradients")), "dead")), "dead ones first");
    proof_describe(line, sizeof line, &p);
    ok(strstr(line, "the same function") == line, "%s", line);
    json_free(j);
    proof_free(&p);
    ((float *)to->values[graph_find_value(to, "in_b")].constant->data)[2] = 1;
    ((float *)to->values[graph_find_value(to, "out_w")].constant->data)[2 * 9 + 4] = 1;
    if (!prove(&p, f, to, NULL)) return;
    need(j = written(&p), "json");
    ok(!json_bool(at(j, "exact")) && number(j, "max_abs") > 0.01, "broken");
    ok(!strcmp(json_string(at(j, "first_difference.node")), "head") &&
           !strcmp(json_string(at(j, "first_difference.last_equal")), "stem"),
       "the sum is new, so the head is the first in common");
    ok(number(j, "first_difference.max_abs") > 0.01, "deviation");
    proof_describe(line, sizeof line, &p);
    ok(strstr(line, "not the same") && strstr(line, "'head'"), "%s", line);
    json_free(j);
    proof_free(&p);
    /* dead ones are first, whatever the order */
    int list[2] = {graph_find_value(to, "out_b"), graph_find_value(to, "in_w")};
    ((float *)to->values[graph_find_value(to, "in_b")].constant->data)[2] = 0;
    memset(to->values[graph_find_value(to, "out_w")].constant->data, 0, 4 * 6 * 9 * sizeof(float));
    if (!prove(&p, f, to, &(struct proof_options){.threads = 1, .parameters = list, .n_parameters = 2})) return;
    need(j = written(&p), "json");
    ok(!strcmp(p.gradients[0].parameter, "out_b") && json_count(at(j, "gradients")) == 2, "as asked for");
    ok(!strcmp(json_string(json_get(json_first(at(j, "gradients")), "parameter")), "in_w"), "the dead one first");
    json_free(j);
    proof_free(&p);
    ((float *)to->values[graph_find_value(to, "out_b")].constant->data)[0] = 1;
    /* equality that is not claimed is not looked into */
    if (prove(&p, f, to, &(struct proof_options){.threads = 1, .approximate = true}))
        ok(!p.exact && !p.first.node && p.worst[0][PROOF_DOUBLE].max > 0.01, "approximate");
    proof_free(&p);
    graph_free(f), graph_free(to);
}

/* ---- hunger ---- */

static struct graph *hungry_f, *hungry_g;

static int run_hungry(void) {
    struct proof p;
    struct proof_options o = {.threads = 1, .samples = 2, .training_expected = true};
    int status = proof_run(&p, hungry_f, hungry_g, &o, NULL);
    if (!status) proof_free(&p);
    return status;
}

TEST(starved_proofs_leave_nothing) {
    hungry_f = branched(false, 0, 0), hungry_g = with_weights_of(branched(true, 0.3, 0), hungry_f);
    starve("equal", run_hungry);
    ((float *)hungry_g->values[graph_find_value(hungry_g, "out_b")].constant->data)[2] = 1;
    starve("broken", run_hungry);
    graph_free(hungry_f), graph_free(hungry_g);
}

TEST_MAIN

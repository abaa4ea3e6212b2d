/* Walks the operator table: every sample call of every operator as a network of its own. Gradients
 * against central differences (built with REAL=double they must agree to 1e-7), the same bits from any
 * number of threads, nothing allocated while running, finite results from extreme numbers. */
#define TEST_SECONDS 60
#include "tests/test.h"

#include "base/memory.h"
#include "base/random.h"
#include "base/text.h"
#include "engine/nn/infer.h"
#include "engine/nn/net.h"
#include "engine/nn/op.h"

#define TOLERANCE (sizeof(real) == sizeof(double) ? 1e-7 : 5e-3)
enum { MOST = 16, BATCH = 5 };

/* ---- a sample call as a graph ---- */

struct input {
    struct shape shape;
    bool constant, computed, positive, large, small, left_out, given;
    int below;           /* whole numbers below this; 0: real */
    double values[MOST]; /* when given */
    bool scalar;
};

struct sample {
    const struct op *op;
    const struct op_sample *from;
    struct input inputs[MOST];
    int n_inputs, n_outputs, opset;
    int batch; /* of all activations, or 0: they have their own first dimensions */
};

static void read_numbers(struct input *in, const char *text, bool integers) {
    char *end;
    *in = (struct input){.constant = true, .given = true, .scalar = !integers, .below = integers};
    for (int n = 0;; n++) {
        in->values[n] = strtod(text, &end);
        in->shape.rank = 1;
        in->shape.dim[0] = n + 1;
        if (*end != ',') break;
        text = end + 1;
    }
    if (!integers) in->shape.rank = 0;
}

static void read_input(struct input *in, const char *word) {
    *in = (struct input){0};
    if (*word == '=' || *word == ':' || *word == '~') {
        read_numbers(in, word + 1, *word == '=');
        if (*word == '~') in->shape.rank = 1;
        return;
    }
    if ((in->left_out = *word == '_')) return;
    if (*word == '*') in->constant = true, word++;
    if (*word == '!') in->computed = true, word++;
    if (*word == '+') in->positive = true, word++;
    if (*word == '^') in->large = in->positive = true, word++;
    if (*word == '%') in->small = true, word++;
    if (*word == '#') {
        char *end;
        in->below = (int)strtol(word + 1, &end, 10);
        word = end + 1;
    }
    while (*word) {
        char *end;
        in->shape.dim[in->shape.rank++] = strtoll(word, &end, 10);
        word = *end ? end + 1 : end;
    }
}

/* Calls `each` for every word of a list separated by spaces. */
static int next_word(char *word, size_t room, const char **list) {
    while (**list == ' ') (*list)++;
    size_t n = strcspn(*list, " ");
    snprintf(word, room, "%.*s", (int)n, *list);
    *list += n;
    return n > 0;
}

/* Number of a word "name=number", or `standard`. */
static int setting(const char *attributes, const char *name, int standard) {
    char word[128];
    size_t n = strlen(name);
    while (next_word(word, sizeof word, &attributes))
        if (strncmp(word, name, n) == 0 && word[n] == '=') return (int)strtol(word + n + 1, NULL, 10);
    return standard;
}

static struct sample read_sample(const struct op *op, const struct op_sample *from) {
    struct sample s = {.op = op, .from = from, .batch = BATCH};
    char word[128];
    int64_t first = -1;
    for (const char *list = from->inputs; next_word(word, sizeof word, &list); s.n_inputs++) {
        struct input *in = &s.inputs[s.n_inputs];
        read_input(in, word);
        if (!in->computed && op->parameters != ~0u && op_takes(s.n_inputs, op->parameters)) in->constant = true;
        if (op_takes(s.n_inputs, op->statistics)) in->constant = in->positive = true;
        if (in->constant || in->left_out) continue;
        if (first < 0) first = in->shape.dim[0];
        if (in->shape.dim[0] != first) s.batch = 0;
    }
    s.opset = setting(from->attributes, "opset", 17);
    s.n_outputs = setting(from->attributes, "outputs", op->min_outputs);
    return s;
}

static const char *const lists =
    " starts ends pads kernel_shape strides dilations axes perm split output_shape output_padding ";

static int set_attribute(struct graph *g, int node, char *word, struct err *e) {
    char *value = strchr(word, '='), pattern[160], *end;
    *value++ = '\0';
    if (strcmp(word, "opset") == 0 || strcmp(word, "outputs") == 0) return 0;
    snprintf(pattern, sizeof pattern, " %s ", word);
    if (strstr(lists, pattern)) {
        int64_t numbers[MOST];
        size_t n = 0;
        for (;; value = end + 1) {
            numbers[n++] = strtoll(value, &end, 10);
            if (*end != ',') return graph_set_ints(g, node, word, numbers, n, e);
        }
    }
    double real_value;
    int64_t integer;
    if (text_to_int(&integer, value, INT64_MIN, INT64_MAX)) return graph_set_int(g, node, word, integer, e);
    if (text_to_real(&real_value, value)) return graph_set_real(g, node, word, real_value, e);
    return graph_set_string(g, node, word, value, e);
}

static double draw(struct random *r, const struct input *in, int i) {
    if (in->given) return in->values[i];
    if (in->below) return (double)random_below(r, (uint64_t)in->below);
    double x = random_normal(r);
    if (in->small) return (double)(float)(1.8 * random_unit(r) - 0.9);
    if (in->large) return (double)(float)(1.5 + fabs(x));
    return (double)(float)(in->positive ? 0.5 + fabs(x) : x);
}

static int add_input(int *value, struct graph *g, const struct sample *s, int k, struct random *r, struct err *e) {
    const struct input *in = &s->inputs[k];
    struct shape shape = in->shape;
    *value = VALUE_NONE;
    if (in->left_out) return 0;
    if (!in->constant) {
        if (s->batch && shape.rank) shape.dim[0] = DIM_BATCH;
        int status = graph_add_value(value, g, NULL, "x", e);
        return status ? status : graph_add_input(g, *value, in->below ? DT_INT64 : DT_FLOAT32, &shape, e);
    }
    struct array *a;
    int status = array_new(&a, in->below ? DT_INT64 : DT_FLOAT32, &shape, e);
    for (size_t i = 0; !status && i < a->count; i++) {
        if (in->below)
            ((int64_t *)a->data)[i] = (int64_t)draw(r, in, (int)i);
        else
            ((float *)a->data)[i] = (float)draw(r, in, (int)i);
    }
    if (!status) status = graph_add_constant_take(value, g, NULL, a, e);
    if (!status && in->scalar) g->values[*value].literal = true;
    return status;
}

/* Two negations: the same number, but made inside the network, in memory that is used again and again. */
static int wrap(int *value, struct graph *g, struct err *e) {
    int status = 0;
    for (int i = 0; i < 2 && !status; i++) {
        int from = *value;
        status = graph_add_value(value, g, NULL, "inner", e);
        if (!status) status = graph_add_node(NULL, g, "Neg", NULL, &from, 1, value, 1, e);
    }
    return status;
}

static int add_call(struct graph *g, const struct sample *s, const int *inputs, bool wrapped, struct err *e) {
    int outputs[MOST], node, status = 0;
    char word[128];
    for (int k = 0; k < s->n_outputs && !status; k++) status = graph_add_value(&outputs[k], g, NULL, "y", e);
    if (!status) status = graph_add_node(&node, g, s->op->name, NULL, inputs, s->n_inputs, outputs, s->n_outputs, e);
    for (const char *list = s->from->attributes; !status && next_word(word, sizeof word, &list);)
        status = set_attribute(g, node, word, e);
    for (int k = 0; k < s->n_outputs && !status; k++) {
        if (wrapped) status = wrap(&outputs[k], g, e);
        if (!status) status = graph_add_output(g, outputs[k], e);
    }
    return status;
}

/* The call, `times` over: its inputs then have several readers. Several calls stand inside a network. */
static int build(struct graph **out, const struct sample *s, int times, struct err *e) {
    struct random r = random_seed(test_seed());
    struct graph *g;
    int inputs[MOST], status = graph_new(&g, "sample", s->opset, e);
    if (status) return status;
    for (int k = 0; k < s->n_inputs && !status; k++) {
        status = add_input(&inputs[k], g, s, k, &r, e);
        bool computed = !s->inputs[k].constant && !s->inputs[k].left_out;
        if (!status && times > 1 && computed) status = wrap(&inputs[k], g, e);
    }
    for (int t = 0; t < times && !status; t++) status = add_call(g, s, inputs, times > 1, e);
    if (!status) status = graph_finish(g, e);
    if (status)
        graph_free(g);
    else
        *out = g;
    return status;
}

/* ---- running ---- */

struct run {
    struct sample sample;
    struct graph *graph;
    struct crew *crew;
    struct net *net;
    int batch, outputs;
};

static size_t count_of(struct shape s) {
    size_t n = 1;
    for (int d = 0; d < s.rank; d++) n *= (size_t)s.dim[d];
    return n;
}

/* Network input i gets its random numbers, or those of `choose`. */
static void fill_inputs(struct run *run, double (*choose)(const struct input *in, size_t i)) {
    struct random r = random_seed(test_seed() + 1);
    for (int k = 0, i = 0; k < run->sample.n_inputs; k++) {
        const struct input *in = &run->sample.inputs[k];
        if (in->constant || in->left_out) continue;
        size_t n = count_of(net_input_shape(run->net, i));
        for (size_t j = 0; j < n; j++)
            net_input(run->net, i)[j] = (real)(choose && !in->below ? choose(in, j) : draw(&r, in, (int)j));
        i++;
    }
}

static void forward(struct run *run) {
    net_forward(run->net, run->batch, random_seed(7), NULL, NULL);
}

/* Element i of the linear functional's weights by output k. */
static double functional(int k, size_t i) {
    return sin(1.0 + 3.7 * (double)i + 11.0 * k);
}

static bool has_gradient(const struct run *run, int k) {
    return net_output_gradient(run->net, k) != NULL;
}

static void backward(struct run *run) {
    for (int k = 0; k < run->outputs; k++) {
        size_t n = count_of(net_output_shape(run->net, k));
        for (size_t i = 0; has_gradient(run, k) && i < n; i++)
            net_output_gradient(run->net, k)[i] = (real)functional(k, i);
    }
    net_backward(run->net);
}

static double value(struct run *run) {
    double sum = 0;
    forward(run);
    for (int k = 0; k < run->outputs; k++) {
        size_t n = count_of(net_output_shape(run->net, k));
        for (size_t i = 0; i < n; i++) sum += functional(k, i) * (double)net_output(run->net, k)[i];
    }
    return sum;
}

static bool start(struct run *run, const struct sample *s, int times, int threads) {
    struct err e = {0};
    *run = (struct run){.sample = *s, .outputs = times * s->n_outputs};
    if (!ok(!build(&run->graph, s, times, &e), "%s(%s; %s): %s", s->op->name, s->from->inputs, s->from->attributes,
            e.text))
        return false;
    int64_t fixed = run->graph->n_inputs ? run->graph->values[run->graph->inputs[0]].shape.dim[0] : 1;
    run->batch = s->batch ? s->batch : (int)fixed;
    struct net_options options = {.batch = run->batch, .training = true, .input_gradient = true};
    bool good = !crew_new(&run->crew, threads, &e) && !net_new(&run->net, run->graph, run->crew, &options, &e);
    ok(good, "%s(%s; %s): %s", s->op->name, s->from->inputs, s->from->attributes, e.text);
    if (good) fill_inputs(run, NULL);
    return good;
}

static void finish(struct run *run) {
    net_free(run->net);
    crew_free(run->crew);
    graph_free(run->graph);
}

static void each_sample(void (*check)(const struct sample *s)) {
    const char *only = getenv("TEST_OP");
    for (int i = 0; op_table[i]; i++) {
        if (only && strcmp(only, op_table[i]->name) != 0) continue;
        if (op_table[i]->traits & OP_SHAPES_ONLY) continue;
        need(op_table[i]->samples, "%s has no sample", op_table[i]->name);
        for (const struct op_sample *from = op_table[i]->samples; from->inputs; from++) {
            struct sample s = read_sample(op_table[i], from);
            check(&s);
        }
    }
}

static bool is_flat(const struct sample *s) {
    return s->op->traits & OP_FLAT;
}

#define SAY "%s(%s; %s)"
#define NAMED(s) (s)->op->name, (s)->from->inputs, (s)->from->attributes

/* ---- gradients ---- */

/* Smaller steps come to the rescue where a kink is near. */
static double difference(struct run *run, real *at, bool parameter, double gradient) {
    bool doubles = sizeof(real) == sizeof(double);
    double before = (double)*at, best = INFINITY, slope = 0;
    for (int k = 0; k < 6; k++) {
        double step = (doubles ? 3e-5 : 2e-2) / (1 << 2 * k), value_above, value_below;
        *at = (real)(before + step);
        double above = (double)*at;
        if (parameter) net_parameters_changed(run->net);
        value_above = value(run);
        *at = (real)(before - step);
        double below = (double)*at;
        if (parameter) net_parameters_changed(run->net);
        value_below = value(run);
        double here = (value_above - value_below) / (above - below), wrong = test_relative(here, gradient);
        if (wrong < best) best = wrong, slope = here;
        if (best < TOLERANCE) break;
    }
    *at = (real)before;
    if (parameter) net_parameters_changed(run->net);
    return slope;
}

/* Compares n gradients with differences of what `at` points to. */
static void compare(struct run *run, real *at, const real *gradient, size_t n, bool parameter, const char *what) {
    for (size_t i = 0; i < n; i++) {
        double slope = difference(run, &at[i], parameter, (double)gradient[i]);
        if (!ok(test_relative(slope, (double)gradient[i]) < TOLERANCE,
                SAY ": %s, element %zu: %.12g, the slope is %.12g", NAMED(&run->sample), what, i, (double)gradient[i],
                slope))
            return;
    }
}

static void check_gradients(const struct sample *s, int times) {
    struct run run;
    if (!start(&run, s, times, 1)) return;
    real *kept[MOST + 1] = {0};
    size_t n_parameters = net_trainable_count(run.net);
    forward(&run);
    for (size_t i = 0; i < n_parameters; i++) ((real *)(size_t)net_gradients(run.net))[i] = NAN;
    backward(&run);
    kept[MOST] = mem_copy(net_gradients(run.net), n_parameters * sizeof(real));
    for (int i = 0; i < run.graph->n_inputs; i++)
        kept[i] = mem_copy(net_input_gradient(run.net, i), count_of(net_input_shape(run.net, i)) * sizeof(real));
    compare(&run, net_parameters(run.net), kept[MOST], n_parameters, true, "parameters");
    for (int i = 0; i < run.graph->n_inputs; i++)
        if (run.graph->values[run.graph->inputs[i]].type == DT_FLOAT32)
            compare(&run, net_input(run.net, i), kept[i], count_of(net_input_shape(run.net, i)), false, "inputs");
    for (int i = 0; i <= MOST; i++) mem_free(kept[i]);
    finish(&run);
}

static void check_once(const struct sample *s) {
    if (!is_flat(s)) check_gradients(s, 1);
}
static void check_twice(const struct sample *s) {
    if (!is_flat(s)) check_gradients(s, 2);
}

TEST(gradients_are_slopes) {
    each_sample(check_once);
}
TEST(gradients_of_two_readers_inside_a_network_add_up) {
    each_sample(check_twice);
}

/* ---- the same bits ---- */

static void same_bits(const struct run *a, const struct run *b, const real *x, const real *y, size_t n,
                      const char *what) {
    (void)b;
    ok(memcmp(x, y, n * sizeof(real)) == 0, SAY ": %s differ between one thread and two", NAMED(&a->sample), what);
}

/* Holds a lane up, so that the other thread gets its share of such little work. */
static void dawdle(void *context, int first, int count) {
    (void)context, (void)first, (void)count;
    usleep(50);
}

static void check_threads(const struct sample *s) {
    struct run one, two;
    if (!start(&one, s, 1, 1)) return;
    if (!start(&two, s, 1, 2)) return;
    for (int pass = 0; pass < 2; pass++) {
        forward(&one);
        net_forward(two.net, two.batch, random_seed(7), dawdle, NULL);
        backward(&one), backward(&two);
    }
    for (int k = 0; k < one.outputs; k++)
        same_bits(&one, &two, net_output(one.net, k), net_output(two.net, k), count_of(net_output_shape(one.net, k)),
                  "outputs");
    same_bits(&one, &two, net_gradients(one.net), net_gradients(two.net), net_trainable_count(one.net), "gradients");
    for (int i = 0; i < one.graph->n_inputs && !is_flat(s); i++)
        same_bits(&one, &two, net_input_gradient(one.net, i), net_input_gradient(two.net, i),
                  count_of(net_input_shape(one.net, i)), "gradients of inputs");
    finish(&one);
    finish(&two);
}

TEST(threads_do_not_change_a_bit) {
    each_sample(check_threads);
}

/* ---- no allocation, every element written, shapes as inferred ---- */

static void check_run(const struct sample *s) {
    struct run run;
    if (!start(&run, s, 1, 2)) return;
    struct inferred *known = NULL;
    ok(!graph_infer(&known, run.graph, run.batch, NULL), SAY, NAMED(s));
    for (int k = 0; k < run.outputs; k++) {
        struct shape shape = net_output_shape(run.net, k);
        ok(shape_equal(&shape, &known->values[run.graph->outputs[k]].shape),
           SAY ": output %d has another shape than inferred", NAMED(s), k);
        for (size_t i = 0; i < count_of(shape); i++) ((real *)(size_t)net_output(run.net, k))[i] = NAN;
    }
    inferred_free(known);
    fill_inputs(&run, NULL); /* again, for a view shares its memory */
    uint64_t before = mem_calls();
    forward(&run);
    backward(&run);
    ok(mem_calls() == before, SAY ": %llu allocations in a step", NAMED(s), (unsigned long long)(mem_calls() - before));
    for (int k = 0; k < run.outputs; k++)
        for (size_t i = 0; i < count_of(net_output_shape(run.net, k)); i++)
            if (!ok(!isnan(net_output(run.net, k)[i]), SAY ": element %zu is not written", NAMED(s), i)) break;
    finish(&run);
}

TEST(steps_allocate_nothing_and_write_everything) {
    each_sample(check_run);
}

/* ---- memory that runs out while planning ---- */

static void check_starved(const struct sample *s) {
    struct run run;
    if (!start(&run, s, 1, 1)) return;
    struct net_options options = {.batch = run.batch, .training = true, .input_gradient = true};
    for (uint64_t n = 1, met = 1; met; n++) {
        struct net *net = NULL;
        int64_t live = mem_live();
        uint64_t calls = mem_calls();
        mem_fail_at(n, false);
        int status = net_new(&net, run.graph, run.crew, &options, NULL);
        mem_fail_at(0, false);
        met = mem_calls() - calls >= n;
        if (!status) net_free(net);
        if (!ok(status == 0 || status == E_NOMEM, SAY ": failing %llu gave %d", NAMED(s), (unsigned long long)n,
                status))
            break;
        if (!ok(mem_live() == live, SAY ": failing %llu left something", NAMED(s), (unsigned long long)n)) break;
    }
    finish(&run);
}

TEST(starved_plans_leave_nothing) {
    each_sample(check_starved);
}

/* ---- extreme numbers ---- */

static double extreme(const struct input *in, size_t i) {
    static const double any[] = {0, 1e4, -1e4, 100, -100, 1e-6, -1e-6, 20, -20}, positive[] = {1e-6, 1e4, 1, 100, 0.5};
    if (in->small) return any[i % 9] / 2e4;
    return in->large ? 1.5 + positive[i % 5] : in->positive ? positive[i % 5] : any[i % 9];
}

static void all_finite(const struct sample *s, const real *x, size_t n, const char *what) {
    for (size_t i = 0; i < n; i++)
        if (!ok(isfinite(x[i]), SAY ": %s, element %zu is %g", NAMED(s), what, i, (double)x[i])) return;
}

/* Have no finite result by their formula. */
static bool is_unbounded(const struct op *op) {
    return strcmp(op->name, "Exp") == 0 || strcmp(op->name, "Pow") == 0;
}

static void check_extremes(const struct sample *s) {
    struct run run;
    if (is_unbounded(s->op) || !start(&run, s, 1, 1)) return;
    fill_inputs(&run, extreme);
    forward(&run);
    backward(&run);
    for (int k = 0; k < run.outputs; k++)
        all_finite(s, net_output(run.net, k), count_of(net_output_shape(run.net, k)), "outputs");
    all_finite(s, net_gradients(run.net), net_trainable_count(run.net), "gradients");
    for (int i = 0; i < run.graph->n_inputs && !is_flat(s); i++)
        all_finite(s, net_input_gradient(run.net, i), count_of(net_input_shape(run.net, i)), "gradients of inputs");
    finish(&run);
}

TEST(extreme_numbers_give_finite_results) {
    each_sample(check_extremes);
}

/* ---- training and running are the same function, but for dropout and batch statistics ---- */

static void check_inference(const struct sample *s) {
    struct run run;
    struct err e = {0};
    struct net *plain;
    if (s->op->statistics || (s->op->traits & OP_IDLE) || !start(&run, s, 1, 2)) return;
    if (!ok(!net_new(&plain, run.graph, run.crew, &(struct net_options){.batch = run.batch}, &e), SAY ": %s", NAMED(s),
            e.text))
        return;
    forward(&run);
    for (int i = 0; i < run.graph->n_inputs; i++)
        memcpy(net_input(plain, i), net_input(run.net, i), count_of(net_input_shape(plain, i)) * sizeof(real));
    net_forward(plain, run.batch, random_seed(1), NULL, NULL);
    for (int k = 0; k < run.outputs; k++)
        for (size_t i = 0; i < count_of(net_output_shape(plain, k)); i++)
            if (!ok(test_relative((double)net_output(plain, k)[i], (double)net_output(run.net, k)[i]) < TOLERANCE / 100,
                    SAY ": element %zu is %.9g, and %.9g in training", NAMED(s), i, (double)net_output(plain, k)[i],
                    (double)net_output(run.net, k)[i]))
                break;
    net_free(plain);
    finish(&run);
}

TEST(training_computes_the_same_function) {
    each_sample(check_inference);
}

TEST_MAIN

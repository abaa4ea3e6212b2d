/* morph_data.h - for tests of morph steps: what they may ask about data, answered by running the network on random
 * numbers. The loss is the sum of the first output, each element weighed with a random number of its own. */
#ifndef TESTS_ENGINE_MORPH_DATA_H
#define TESTS_ENGINE_MORPH_DATA_H

#include <math.h>

#include "base/memory.h"
#include "base/random.h"
#include "engine/nn/net.h"
#include "engine/surgery/morph.h"

#ifndef MD_SAMPLES
#define MD_SAMPLES 24
#define MD_SCALE 1.0 /* standard deviation of the inputs */
#endif

static inline void md_fill(real *to, size_t n, uint64_t seed, double scale) {
    struct random r = random_seed(seed);
    for (size_t i = 0; i < n; i++) to[i] = (real)(scale * random_normal(&r));
}

/* The graph with the value as its only output. */
static inline int md_until(struct graph **out, const struct graph *g, int value, struct err *e) {
    int status = graph_clone(out, g, e);
    if (status) return status;
    (*out)->outputs[0] = value;
    (*out)->n_outputs = 1;
    return graph_finish(*out, e);
}

/* The graph from the value on, which has become its only input. */
static inline int md_from(struct graph **out, const struct graph *g, int value, struct err *e) {
    struct shape shape = g->values[value].shape;
    int status = graph_clone(out, g, e), unused;
    if (!status) status = graph_add_value(&unused, *out, NULL, "unused", e);
    if (status) return status;
    struct node *n = &(*out)->nodes[g->values[value].producer];
    for (int k = 0; k < n->n_outputs; k++)
        if (n->outputs[k] == value) n->outputs[k] = unused;
    (*out)->values[unused].producer = g->values[value].producer;
    (*out)->values[value].producer = -1;
    shape.dim[0] = DIM_BATCH;
    status = graph_add_input(*out, value, DT_FLOAT32, &shape, e);
    return status ? status : graph_finish(*out, e);
}

/* The value for random inputs, as [MD_SAMPLES, row]. */
static inline int md_run(double **out, size_t *row, const struct graph *g, int value, struct err *e) {
    struct graph *cut = NULL;
    struct crew *crew = NULL;
    struct net *net = NULL;
    struct net_options options = {.batch = MD_SAMPLES};
    int status = md_until(&cut, g, value, e);
    if (!status) status = crew_new(&crew, 1, e);
    if (!status) status = net_new(&net, cut, crew, &options, e);
    if (!status) {
        struct shape in = net_input_shape(net, 0), made = net_output_shape(net, 0);
        size_t n_in, n_out;
        shape_count(&n_in, &in, NULL);
        shape_count(&n_out, &made, NULL);
        md_fill(net_input(net, 0), n_in, 77, MD_SCALE);
        net_forward(net, MD_SAMPLES, random_seed(1), NULL, NULL);
        *row = n_out / MD_SAMPLES;
        *out = mem_calloc(n_out + 1, sizeof **out);
        if (!*out) status = err_memory(e, n_out * sizeof **out);
        for (size_t i = 0; i < n_out && !status; i++) (*out)[i] = (double)net_output(net, 0)[i];
    }
    net_free(net);
    crew_free(crew);
    graph_free(cut);
    return status;
}

static inline int md_statistics(struct morph_statistics *out, void *context, const struct graph *g, int value,
                                struct err *e) {
    double *x = NULL;
    size_t row = 0, channels = (size_t)g->values[value].shape.dim[1];
    int status = md_run(&x, &row, g, value, e);
    (void)context;
    *out = (struct morph_statistics){.channels = channels, .samples = MD_SAMPLES};
    if (!status) {
        out->mean = mem_calloc(channels, sizeof(double));
        out->variance = mem_calloc(channels, sizeof(double));
        if (!out->mean || !out->variance) status = err_memory(e, channels * sizeof(double));
    }
    size_t inner = row / channels;
    for (size_t c = 0; c < channels && !status; c++) {
        double sum = 0, squares = 0, n = (double)(MD_SAMPLES * inner);
        for (size_t s = 0; s < MD_SAMPLES; s++)
            for (size_t i = 0; i < inner; i++) sum += x[s * row + c * inner + i];
        for (size_t s = 0; s < MD_SAMPLES; s++)
            for (size_t i = 0; i < inner; i++) squares += pow(x[s * row + c * inner + i] - sum / n, 2);
        out->mean[c] = sum / n;
        out->variance[c] = squares / n;
    }
    mem_free(x);
    return status;
}

static inline int md_sample(double **out, size_t *samples, void *context, const struct graph *g, int value, size_t most,
                            struct err *e) {
    size_t row;
    (void)context;
    *samples = most < MD_SAMPLES ? most : MD_SAMPLES;
    return md_run(out, &row, g, value, e);
}

/* Of the sum of the first output, each element weighed with a random number. */
static inline int md_gradient(double **out, size_t *samples, void *context, const struct graph *g, int value,
                              size_t most, struct err *e) {
    struct graph *rest = NULL;
    struct crew *crew = NULL;
    struct net *net = NULL;
    struct net_options options = {.batch = MD_SAMPLES, .training = true, .input_gradient = true};
    double *x = NULL;
    size_t row = 0, n_out;
    int status = md_run(&x, &row, g, value, e), last = g->values[value].producer < 0 ? -1 : 0;
    (void)context;
    *samples = most < MD_SAMPLES ? most : MD_SAMPLES;
    *out = NULL;
    if (!status && last) status = err_set(e, E_INVALID, "nothing makes the value");
    if (!status) status = md_from(&rest, g, value, e);
    if (!status) status = crew_new(&crew, 1, e);
    if (!status) status = net_new(&net, rest, crew, &options, e);
    if (!status && !(*out = mem_calloc(row * MD_SAMPLES + 1, sizeof **out))) status = err_memory(e, row);
    if (!status) {
        int input = rest->n_inputs - 1;
        struct shape in, made = net_output_shape(net, 0);
        size_t n_in;
        for (int i = 0; i < input; i++) { /* what was the input may still be read, past the value */
            in = net_input_shape(net, i);
            shape_count(&n_in, &in, NULL);
            md_fill(net_input(net, i), n_in, 77, MD_SCALE);
        }
        shape_count(&n_out, &made, NULL);
        for (size_t i = 0; i < row * MD_SAMPLES; i++) net_input(net, input)[i] = (real)x[i];
        net_forward(net, MD_SAMPLES, random_seed(1), NULL, NULL);
        md_fill(net_output_gradient(net, 0), n_out, 78, 1);
        net_backward(net);
        for (size_t i = 0; i < row * MD_SAMPLES; i++) (*out)[i] = (double)net_input_gradient(net, input)[i];
    }
    net_free(net);
    crew_free(crew);
    graph_free(rest);
    mem_free(x);
    return status;
}

static const struct morph_data md_data = {.statistics = md_statistics, .sample = md_sample, .gradient = md_gradient};

#endif

/* outputs.c - one pass, or a few steps, in `real`; numbers come and go as double. */
#include "engine/nn/outputs.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/nn/net.h"
#include "engine/nn/op.h"

/* The function is named after what `real` is. */
#define NAME_float outputs_single
#define NAME_double outputs_double
#define NAME_OF(type) NAME_##type
#define NAME(type) NAME_OF(type)

static size_t count_of(const struct shape *s) {
    size_t n = 1;
    for (int d = 0; d < s->rank; d++) n *= (size_t)s->dim[d];
    return n;
}

/* ---- the graph to be planned ---- */

/* Borrows everything but two tables: its nodes have the operators of this build of the engine, and its
 * outputs are followed by the values wanted. */
static int borrow_graph(struct graph *out, const struct outputs_task *t, struct err *e) {
    const struct graph *g = t->graph;
    *out = *g;
    out->nodes = mem_alloc((size_t)g->n_nodes * sizeof *out->nodes);
    out->outputs = mem_alloc(((size_t)g->n_outputs + (size_t)t->n_values) * sizeof *out->outputs);
    if (!out->nodes || !out->outputs) return err_memory(e, (size_t)g->n_nodes * sizeof *out->nodes);
    for (int i = 0; i < g->n_nodes; i++) {
        out->nodes[i] = g->nodes[i];
        out->nodes[i].op = op_find(g->nodes[i].op->name);
        if (!out->nodes[i].op) return err_set(e, E_INTERNAL, "the operator %s has no twin", g->nodes[i].op->name);
    }
    for (int i = 0; i < g->n_outputs; i++) out->outputs[i] = g->outputs[i];
    return 0;
}

static bool is_made(const struct graph *g, int v) {
    if (v < 0 || v >= g->n_values) return false;
    for (int i = 0; i < g->n_inputs; i++)
        if (g->inputs[i] == v) return true;
    return g->values[v].constant || g->values[v].producer >= 0;
}

static int output_of(const struct graph *g, int v) {
    for (int i = 0; i < g->n_outputs; i++)
        if (g->outputs[i] == v) return i;
    return -1;
}

static int want_values(struct graph *g, const struct outputs_task *t, struct err *e) {
    for (int i = 0; i < t->n_values; i++) {
        if (!is_made(g, t->values[i])) return err_set(e, E_INVALID, "value %d is made by no node", t->values[i]);
        if (output_of(g, t->values[i]) < 0) g->outputs[g->n_outputs++] = t->values[i];
    }
    return 0;
}

/* ---- passes ---- */

static void forward(struct net *n, const struct outputs_task *t, int pass) {
    for (int i = 0; i < t->graph->n_inputs; i++) {
        struct shape s = net_input_shape(n, i);
        const double *from = t->inputs[pass * t->graph->n_inputs + i];
        real *to = net_input(n, i);
        size_t count = count_of(&s);
        for (size_t k = 0; k < count; k++) to[k] = (real)from[k];
    }
    net_forward(n, t->batch, random_seed(t->seed), NULL, NULL);
}

static void take_values(const struct net *n, const struct graph *g, const struct outputs_task *t, int pass) {
    for (int i = 0; i < t->n_values; i++) {
        int k = output_of(g, t->values[i]);
        struct shape s = net_output_shape(n, k);
        const real *from = net_output(n, k);
        double *to = t->out[pass * t->n_values + i];
        size_t count = count_of(&s);
        for (size_t j = 0; j < count; j++) to[j] = (double)from[j];
    }
}

/* Outputs may share their memory. */
static void backward(struct net *n, const struct graph *g, const struct outputs_task *t) {
    for (int i = 0; i < g->n_outputs; i++) {
        struct shape s = net_output_shape(n, i);
        if (net_output_gradient(n, i)) memset(net_output_gradient(n, i), 0, count_of(&s) * sizeof(real));
    }
    for (int i = 0; i < t->graph->n_outputs; i++) {
        struct shape s = net_output_shape(n, i);
        real *to = net_output_gradient(n, i);
        size_t count = to && t->output_gradients && t->output_gradients[i] ? count_of(&s) : 0;
        for (size_t k = 0; k < count; k++) to[k] += (real)t->output_gradients[i][k];
    }
    net_backward(n);
}

/* Of n numbers. Squares of the smallest are 0, and only a parameter without a gradient shall have the length 0.
 * `met` says which elements have had one before. */
static struct gradient_size size_of(const real *d, bool *met, size_t n) {
    struct gradient_size size = {0};
    double squares = 0;
    bool wrong = false;
    for (size_t i = 0; i < n; i++) {
        double x = fabs((double)d[i]);
        met[i] = met[i] || x != 0;
        size.idle += !met[i];
        wrong = wrong || isnan(x);
        if (x > size.largest) size.largest = x;
    }
    for (size_t i = 0; i < n && size.largest > 0; i++) {
        double x = (double)d[i] / size.largest;
        squares += x * x;
    }
    size.norm = wrong ? (double)NAN : size.largest * sqrt(squares);
    if (wrong) size.largest = NAN;
    return size;
}

static void measure(const struct net *n, const struct outputs_task *t, bool *met, struct gradient_size *out) {
    const struct net_parameter *list;
    int n_parameters = net_parameter_list(n, &list);
    for (int v = 0; v < t->graph->n_values; v++) out[v] = (struct gradient_size){.norm = NAN, .largest = NAN};
    for (int i = 0; i < n_parameters; i++)
        if (list[i].trainable)
            out[list[i].value] = size_of(net_gradients(n) + list[i].start, met + list[i].start, list[i].count);
}

static double length(const real *x, size_t n) {
    double squares = 0;
    for (size_t i = 0; i < n; i++) squares += (double)x[i] * (double)x[i];
    return sqrt(squares);
}

static void descend(struct net *n, double rate) {
    size_t count = net_trainable_count(n);
    real *x = net_parameters(n);
    const real *d = net_gradients(n);
    double slope = length(d, count), far = length(x, count);
    if (!(slope > 0) || !isfinite(slope)) return;
    double step = rate * (far > 1 ? far : 1) / slope;
    for (size_t i = 0; i < count; i++) x[i] -= (real)(step * (double)d[i]);
    net_parameters_changed(n);
}

static int take_gradients(struct net *n, const struct graph *g, const struct outputs_task *t, struct err *e) {
    int last = t->passes > 1 ? t->passes - 1 : 0;
    bool *met = mem_calloc(net_trainable_count(n) + 1, sizeof *met);
    if (!met) return err_memory(e, net_trainable_count(n));
    for (int step = 0; step <= t->steps; step++) {
        if (step) forward(n, t, last);
        backward(n, g, t);
        measure(n, t, met, t->gradients + (size_t)step * (size_t)t->graph->n_values);
        descend(n, t->rate);
    }
    mem_free(met);
    return 0;
}

int NAME(RETORT_REAL)(const struct outputs_task *t, struct err *e) {
    struct graph g = {0};
    struct crew *crew = NULL;
    struct net *n = NULL;
    struct net_options options = {.batch = t->batch, .training = t->training, .memory = t->memory};
    int status = borrow_graph(&g, t, e);
    if (!status) status = want_values(&g, t, e);
    if (!status) status = crew_new(&crew, t->threads, e);
    if (!status) status = net_new(&n, &g, crew, &options, e);
    for (int pass = 0; !status && (pass == 0 || pass < t->passes); pass++) {
        forward(n, t, pass);
        take_values(n, &g, t, pass);
    }
    if (!status && t->gradients) status = take_gradients(n, &g, t, e);
    net_free(n);
    crew_free(crew);
    mem_free(g.nodes);
    mem_free(g.outputs);
    return status;
}

/* proof_divergence.c - how differently parent and child classify what is in a data set. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/nn/op.h"
#include "engine/nn/outputs.h"
#include "engine/surgery/proof_parts.h"

enum { SAMPLES_MOST = 256, PASSES = 4 }; /* in all; batches at a time */

/* Several batches of samples, and what both graphs answer. */
struct batches {
    double *numbers;
    const double *inputs[PASSES];
    double *out[SIDES][PASSES];
    size_t row, classes, bytes;
    bool probable; /* the answers are probabilities already */
};

/* Rows of at least two numbers, in graphs of one input. */
static bool classifies(const struct trial *t) {
    const struct shape *s = &t->shapes[0];
    size_t classes = s->rank < 2 ? 0 : (size_t)s->dim[1];
    return t->graphs[PARENT]->n_inputs == 1 && t->graphs[PARENT]->n_outputs == 1 && classes > 1 &&
           s->dim[0] == t->samples && proof_count(s) == classes * (size_t)t->samples;
}

static int batches_init(struct batches *b, const struct trial *t, struct err *e) {
    const struct graph *f = t->graphs[PARENT];
    int maker = f->values[f->outputs[0]].producer;
    size_t samples = (size_t)t->samples, each, all;
    *b = (struct batches){.row = t->row, .classes = (size_t)t->shapes[0].dim[1]};
    b->probable = maker >= 0 && strcmp(f->nodes[maker].op->name, "Softmax") == 0;
    if (!mem_mul(&each, b->row + SIDES * b->classes, samples) || !mem_mul(&all, each, PASSES * sizeof(double)))
        return err_memory(e, SIZE_MAX);
    b->bytes = all;
    double *at = b->numbers = mem_calloc(1, all);
    if (!at) return err_memory(e, all);
    for (int pass = 0; pass < PASSES; pass++) {
        b->inputs[pass] = at;
        at += b->row * samples;
        for (int side = 0; side < SIDES; side++, at += b->classes * samples) b->out[side][pass] = at;
    }
    return 0;
}

/* Samples from number `first` on, beginning again at the end. */
static void fill(struct batches *b, const struct trial *t, size_t first) {
    size_t n = (size_t)t->samples * b->row;
    for (size_t k = 0; k < PASSES * n; k++) {
        size_t sample = (first + k / b->row) % t->options->data_samples;
        b->numbers[k / n * (n + SIDES * b->classes * (size_t)t->samples) + k % n] =
            (double)t->options->data[0][sample * b->row + k % b->row];
    }
}

static int ask(struct batches *b, const struct trial *t, struct err *e) {
    const struct proof_options *o = t->options;
    size_t own = t->own + b->bytes;
    int status = 0;
    if (o->memory && own >= o->memory)
        return err_set(e, E_TOO_LARGE, "the samples to be compared take %zu bytes, and %zu are allowed", own,
                       o->memory);
    for (int side = 0; side < SIDES && !status; side++) {
        struct outputs_task task = {.graph = t->graphs[side],
                                    .batch = t->samples,
                                    .passes = PASSES,
                                    .inputs = b->inputs,
                                    .seed = o->seed,
                                    .threads = o->threads,
                                    .memory = o->memory ? o->memory - own : 0,
                                    .values = t->graphs[side]->outputs,
                                    .n_values = 1,
                                    .out = b->out[side]};
        if (o->tick.call) status = o->tick.call(o->tick.context, e);
        if (!status) status = outputs_single(&task, e);
    }
    return status;
}

/* What is to be taken off a row of logits to make them logarithms of probabilities. */
static double log_sum(const double *z, size_t n) {
    double most = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, z[i]);
    for (size_t i = 0; i < n; i++) sum += exp(z[i] - most);
    return most + log(sum);
}

/* Of the answers g from f. */
static double divergence(const double *f, const double *g, size_t n, bool probable) {
    const double least = 1e-30; /* probability that has a logarithm */
    double sum = 0, whole = probable ? 0 : log_sum(f, n), other = probable ? 0 : log_sum(g, n);
    for (size_t i = 0; i < n; i++) {
        double p = probable ? log(fmax(f[i], least)) : f[i] - whole,
               q = probable ? log(fmax(g[i], least)) : g[i] - other;
        sum += exp(p) * (p - q);
    }
    return fmax(sum, 0);
}

static size_t largest(const double *x, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* Adds the samples of the batches, of which `n` count. */
static void count(struct proof_divergence *d, const struct batches *b, const struct trial *t, size_t n) {
    for (size_t k = 0; k < n; k++) {
        size_t pass = k / (size_t)t->samples, at = k % (size_t)t->samples * b->classes;
        const double *f = b->out[PARENT][pass] + at, *g = b->out[CHILD][pass] + at;
        double here = divergence(f, g, b->classes, b->probable);
        d->mean += here;
        d->largest = fmax(d->largest, here);
        d->same_argmax += largest(f, b->classes) == largest(g, b->classes);
    }
    d->samples += (int)n;
}

int proof_measure_divergence(struct proof *out, const struct trial *t, struct err *e) {
    const struct proof_options *o = t->options;
    struct proof_divergence d = {.measured = true};
    struct batches b;
    size_t all = o->data_samples < SAMPLES_MOST ? o->data_samples : SAMPLES_MOST;
    size_t each = PASSES * (size_t)t->samples;
    if (!o->logits || !o->data || !all || !classifies(t)) return 0;
    int status = batches_init(&b, t, e);
    for (size_t first = 0; first < all && !status; first += each) {
        fill(&b, t, first);
        status = ask(&b, t, e);
        if (!status) count(&d, &b, t, all - first < each ? all - first : each);
    }
    mem_free(b.numbers);
    if (status) return status;
    d.mean /= d.samples, d.same_argmax /= d.samples;
    out->divergence = d;
    return 0;
}

/* proof_gradients.c - whether what is new in the child can learn. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "engine/nn/outputs.h"
#include "engine/surgery/proof_parts.h"

#define ROUNDING 1e-13 /* of the largest gradient: sums of some 1e5 numbers in double */

#define PATIENT_MACS 3e10 /* of one forward pass over all the patient steps: what double precision does in seconds */

enum { PATIENT_SAMPLES = 8 };

static bool is_parameter(const struct graph *g, int v) {
    return v >= 0 && v < g->n_values && g->values[v].constant && g->values[v].trainable;
}

/* Whether the parent has no such parameter. */
static bool is_new(const struct trial *t, int v) {
    const struct value *after = &t->graphs[CHILD]->values[v];
    int u = graph_find_value(t->graphs[PARENT], after->name);
    return !is_parameter(t->graphs[PARENT], u) ||
           !shape_equal(&t->graphs[PARENT]->values[u].constant->shape, &after->constant->shape);
}

/* The parameters to be measured, into `list`, which has room for all. */
static int choose(int *list, int *n, const struct trial *t, struct err *e) {
    const struct graph *g = t->graphs[CHILD];
    const struct proof_options *o = t->options;
    *n = 0;
    for (int i = 0; o->parameters && i < o->n_parameters; i++) {
        if (!is_parameter(g, o->parameters[i]))
            return err_set(e, E_INVALID, "value %d is no parameter of the new network", o->parameters[i]);
        list[(*n)++] = o->parameters[i];
    }
    for (int v = 0; v < g->n_values && !o->parameters; v++)
        if (is_parameter(g, v) && is_new(t, v)) list[(*n)++] = v;
    return 0;
}

/* A random direction for every output, in one block: the loss is the sum of their products. */
static int draw_targets(double **block, const double **out, const struct trial *t, struct err *e) {
    size_t total = 0;
    for (int i = 0; i < t->graphs[CHILD]->n_outputs; i++) total += proof_count(&t->shapes[i]);
    *block = mem_calloc(total + 1, sizeof **block);
    if (!*block) return err_memory(e, total * sizeof **block);
    struct random all = random_seed(t->options->seed), r = random_split(&all, 77);
    for (size_t i = 0; i < total; i++) (*block)[i] = random_normal(&r);
    total = 0;
    for (int i = 0; i < t->graphs[CHILD]->n_outputs; i++) {
        out[i] = *block + total;
        total += proof_count(&t->shapes[i]);
    }
    return 0;
}

/* sizes: [steps + 1][values of the child]; of the first `samples`. */
static int descend(struct gradient_size *sizes, const struct trial *t, int steps, int samples, struct err *e) {
    const struct graph *g = t->graphs[CHILD];
    const struct proof_options *o = t->options;
    double *block = NULL;
    const double **targets = mem_calloc((size_t)g->n_outputs + 1, sizeof *targets);
    int status = targets ? draw_targets(&block, targets, t, e) : err_memory(e, sizeof *targets);
    enum proof_input input = proof_tries(t, PROOF_TRAINING, PROOF_DATA) ? PROOF_DATA : PROOF_NORMAL;
    struct outputs_task task = {.graph = g,
                                .batch = samples,
                                .inputs = (const double *const *)(t->inputs + (int)input * g->n_inputs),
                                .training = true,
                                .seed = o->seed,
                                .threads = o->threads,
                                .output_gradients = targets,
                                .steps = steps,
                                .rate = 0.02,
                                .gradients = sizes};
    if (o->memory) task.memory = o->memory > t->own ? o->memory - t->own : 1;
    if (!status && o->tick.call) status = o->tick.call(o->tick.context, e);
    if (!status) status = outputs_double(&task, e);
    mem_free(block);
    mem_free(targets);
    return status;
}

/* The largest element of all gradients of a pass. */
static double largest_of(const struct gradient_size *sizes, int n) {
    double largest = 0;
    for (int v = 0; v < n; v++)
        if (sizes[v].largest > largest) largest = sizes[v].largest;
    return largest;
}

/* Whether nothing of a parameter's gradient is more than rounding in any pass: what cancels in theory, as that of a bias
 * in front of a normalisation does, is not 0 in numbers. What the parent has in another shape learns as it did there. */
static bool is_rounding(const struct gradient_size *sizes, const struct trial *t, int v) {
    int n_values = t->graphs[CHILD]->n_values;
    if (is_parameter(t->graphs[PARENT], graph_find_value(t->graphs[PARENT], t->graphs[CHILD]->values[v].name)))
        return false;
    for (int step = 0; step <= PROOF_STEPS; step++, sizes += n_values)
        if (!(sizes[v].largest <= ROUNDING * largest_of(sizes, n_values))) return false;
    return true;
}

/* That its gradient was 0 in every pass, and not only cancelled. */
static bool is_unmoved(const struct proof_gradient *p) {
    return p->dead && !(p->norm > 0) && !(p->norm_later > 0);
}

static int report(struct proof *out, const struct trial *t, const int *list, int n, const struct gradient_size *sizes,
                  struct err *e) {
    const struct graph *g = t->graphs[CHILD];
    out->gradients = mem_calloc((size_t)n + 1, sizeof *out->gradients);
    if (!out->gradients) return err_memory(e, (size_t)n * sizeof *out->gradients);
    for (int i = 0; i < n; i++) {
        struct proof_gradient *p = &out->gradients[i];
        const struct gradient_size *later = sizes + g->n_values + list[i];
        p->parameter = mem_string(g->values[list[i]].name);
        if (!p->parameter) return err_memory(e, 1);
        out->n_gradients++;
        p->elements = g->values[list[i]].constant->count;
        p->norm = sizes[list[i]].norm;
        for (int step = 1; step <= PROOF_STEPS; step++, later += g->n_values) {
            if (later->norm > p->norm_later || isnan(later->norm)) p->norm_later = later->norm;
            p->idle = later->idle;
        }
        if (is_rounding(sizes, t, list[i])) p->idle = p->elements;
        p->dead = p->idle == p->elements && p->elements > 0;
        if (is_unmoved(p)) out->trainable = false;
    }
    return 0;
}

static bool is_affordable(const struct graph *g, int samples) {
    struct graph_size size;
    return !graph_measure(&size, g, NULL) && size.macs >= 0 &&
           (double)size.macs * samples * PROOF_PATIENCE <= PATIENT_MACS;
}

/* More steps for what has had no gradient at all, on a few samples, where that takes seconds: beside an activation whose corners agree with those of
 * another at first, it comes when weights have moved further. */
static int be_patient(struct proof *out, const struct trial *t, const int *list, int n, struct err *e) {
    const struct graph *g = t->graphs[CHILD];
    int samples = t->fixed || t->samples < PATIENT_SAMPLES ? t->samples : PATIENT_SAMPLES;
    if (!is_affordable(g, samples)) return 0;
    struct gradient_size *sizes = mem_calloc(((size_t)g->n_values + 1) * (PROOF_PATIENCE + 1), sizeof *sizes);
    int status = sizes ? descend(sizes, t, PROOF_PATIENCE, samples, e)
                       : err_memory(e, (size_t)g->n_values * PROOF_PATIENCE * sizeof *sizes);
    out->trainable = true;
    for (int i = 0; i < n && !status; i++) {
        struct proof_gradient *p = &out->gradients[i];
        const struct gradient_size *later = sizes + list[i];
        bool unmoved = is_unmoved(p);
        for (int step = 0; step <= PROOF_PATIENCE && unmoved; step++, later += g->n_values) {
            const struct gradient_size *pass = sizes + (size_t)step * (size_t)g->n_values;
            if (later->largest > ROUNDING * largest_of(pass, g->n_values)) p->dead = false;
            if (later->norm > p->norm_later) p->norm_later = later->norm;
            p->idle = later->idle;
        }
        if (p->dead) p->idle = p->elements;
        if (is_unmoved(p)) out->trainable = false;
    }
    mem_free(sizes);
    return status;
}

int proof_measure_gradients(struct proof *out, struct trial *t, struct err *e) {
    const struct graph *g = t->graphs[CHILD];
    int n, *list = mem_alloc(((size_t)g->n_values + (size_t)t->options->n_parameters + 1) * sizeof *list);
    struct gradient_size *sizes = mem_calloc(((size_t)g->n_values + 1) * (PROOF_STEPS + 1), sizeof *sizes);
    int status = list && sizes ? 0 : err_memory(e, (size_t)g->n_values * sizeof *sizes);
    if (!status) status = choose(list, &n, t, e);
    if (!status && n) status = descend(sizes, t, PROOF_STEPS, t->samples, e);
    if (!status && n) status = report(out, t, list, n, sizes, e);
    if (!status && n && !out->trainable) status = be_patient(out, t, list, n, e);
    mem_free(list);
    mem_free(sizes);
    return status;
}

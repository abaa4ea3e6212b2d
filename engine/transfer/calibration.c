/* calibration.c - see calibration.h. */
#include "engine/transfer/calibration.h"

#include <string.h>

#include "base/memory.h"
#include "engine/nn/infer.h"
#include "engine/nn/loss.h"
#include "engine/nn/net.h"
#include "engine/nn/outputs.h"

enum { PASS = 32 }; /* samples computed together */

/* ---- values ---- */

/* Rows of a value that are asked for. */
struct wish {
    size_t n, passes;   /* rows, and the passes that make them */
    size_t row;         /* elements of one */
    struct shape shape; /* of a pass */
};

/* Elements of one sample of a value; an error when samples do not keep apart in it. */
static int row_of(size_t *row, struct shape *shape, const struct graph *g, int value, struct err *e) {
    struct inferred *known;
    size_t count;
    int status = graph_infer(&known, g, PASS, e);
    if (status) return status;
    *shape = known->values[value].shape;
    inferred_free(known);
    status = shape_count(&count, shape, e);
    if (status) return status;
    if (shape->rank < 1 || shape->dim[0] != PASS)
        return err_set(e, E_UNSUPPORTED, "'%s' does not have a row for each sample", g->values[value].name);
    *row = count / PASS;
    return 0;
}

/* Half of the memory, as what asks has a use for the rest. One more pass is counted in: the rows of the last are computed
 * whole. */
static int check_room(const struct wish *w, const struct calibration *c, const char *name, struct err *e) {
    size_t bytes = SIZE_MAX;
    if (!mem_mul(&bytes, w->row, (w->n + PASS) * sizeof(double)) || (c->memory && bytes > c->memory / 2))
        return err_set(e, E_TOO_LARGE, "%zu samples of '%s' take %zu bytes, and %zu are allowed", w->n + PASS, name,
                       bytes, c->memory / 2);
    return 0;
}

/* What a check refuses and what the run refuses: everything about it but the numbers. */
static int make_wish(struct wish *w, const struct calibration *c, const struct graph *g, int value, size_t most,
                     struct err *e) {
    size_t all = c->samples / PASS * PASS;
    if (!all) return err_set(e, E_INVALID, "there are %zu samples to calibrate on; %d are needed", c->samples, PASS);
    *w = (struct wish){.n = all < most ? all : most};
    w->passes = (w->n + PASS - 1) / PASS;
    int status = row_of(&w->row, &w->shape, g, value, e);
    return status ? status : check_room(w, c, g->values[value].name, e);
}

/* Runs the network over the samples of one pass. */
static int compute_pass(double *rows, const struct calibration *c, const struct graph *g, int value, size_t pass,
                        struct err *e) {
    const double *inputs[] = {c->inputs + pass * PASS * c->row};
    struct outputs_task task = {.graph = g,
                                .batch = PASS,
                                .inputs = inputs,
                                .threads = c->threads,
                                .memory = c->memory,
                                .values = &value,
                                .n_values = 1,
                                .out = &rows};
    return outputs_single(&task, e);
}

/* All passes, the last one whole; *out with mem_free, NULL on failure. */
static int compute(double **out, const struct wish *w, const struct calibration *c, const struct graph *g, int value,
                   struct err *e) {
    int status = 0;
    *out = mem_calloc(w->passes * PASS + 1, w->row * sizeof **out);
    if (!*out) return err_memory(e, w->passes * PASS * w->row * sizeof **out);
    for (size_t pass = 0; pass < w->passes && !status; pass++)
        status = compute_pass(*out + pass * PASS * w->row, c, g, value, pass, e);
    if (!status) return 0;
    mem_free(*out);
    *out = NULL;
    return status;
}

/* Gives back what was computed beyond the wish. */
static void trim(double **rows, const struct wish *w) {
    double *less = mem_resize(*rows, w->n * w->row + 1, sizeof *less);
    if (less) *rows = less;
}

static int calibration_sample(double **out, size_t *samples, void *context, const struct graph *g, int value,
                              size_t most, struct err *e) {
    struct wish w;
    int status = make_wish(&w, context, g, value, most, e);
    if (!status) status = compute(out, &w, context, g, value, e);
    if (status) return status;
    trim(out, &w);
    *samples = w.n;
    return 0;
}

/* ---- statistics ---- */

/* Whatever came of it. */
static void moments_free(struct morph_statistics *s) {
    mem_free(s->mean);
    mem_free(s->variance);
    *s = (struct morph_statistics){0};
}

/* Zeros for every channel of a value. */
static int moments_new(struct morph_statistics *out, const struct shape *shape, const char *name, size_t samples,
                       struct err *e) {
    if (shape->rank < 2) return err_set(e, E_UNSUPPORTED, "'%s' has no channel axis", name);
    size_t channels = (size_t)shape->dim[1];
    *out = (struct morph_statistics){.mean = mem_calloc(channels + 1, sizeof(double)),
                                     .variance = mem_calloc(channels + 1, sizeof(double)),
                                     .channels = channels,
                                     .samples = samples};
    if (out->mean && out->variance) return 0;
    moments_free(out); /* the caller may do so again */
    return err_memory(e, channels * sizeof(double));
}

/* Pools the moments of `passes` passes with those of one more, rows [PASS, channels, plane]. */
static void add_moments(struct morph_statistics *s, const double *rows, size_t plane, size_t passes) {
    double count = (double)(PASS * plane), before = (double)passes / (double)(passes + 1), added = 1 - before;
    for (size_t k = 0; k < s->channels; k++) {
        double mean = 0, variance = 0;
        for (size_t i = 0; i < PASS; i++)
            for (size_t p = 0; p < plane; p++) mean += rows[(i * s->channels + k) * plane + p] / count;
        for (size_t i = 0; i < PASS; i++)
            for (size_t p = 0; p < plane; p++) {
                double d = rows[(i * s->channels + k) * plane + p] - mean;
                variance += d * d / count;
            }
        double apart = mean - s->mean[k];
        s->mean[k] += added * apart;
        s->variance[k] = before * s->variance[k] + added * variance + before * added * apart * apart;
    }
}

/* Pass by pass, as nobody wants the rows. */
static int calibration_statistics(struct morph_statistics *out, void *context, const struct graph *g, int value,
                                  struct err *e) {
    const struct calibration *c = context;
    struct wish w;
    size_t passes = c->samples / PASS;
    *out = (struct morph_statistics){0};
    int status = make_wish(&w, c, g, value, 0, e);
    if (!status) status = moments_new(out, &w.shape, g->values[value].name, passes * PASS, e);
    if (status) return status;
    double *rows = mem_calloc(PASS, w.row * sizeof *rows);
    if (!rows) status = err_memory(e, PASS * w.row * sizeof *rows);
    for (size_t pass = 0; pass < passes && !status; pass++) {
        status = compute_pass(rows, c, g, value, pass, e);
        if (!status) add_moments(out, rows, w.row / out->channels, pass);
    }
    mem_free(rows);
    if (status) moments_free(out);
    return status;
}

/* ---- gradients ---- */

/* The graph with the value as its last input, read by all that read the value. */
static int graph_behind(struct graph **out, const struct graph *g, int value, const struct shape *shape,
                        struct err *e) {
    struct shape input = *shape;
    int lost, status = graph_clone(out, g, e);
    if (!status) status = graph_add_value(&lost, *out, NULL, "lost", e);
    if (status) return status;
    struct value *v = &(*out)->values[value];
    struct node *n = &(*out)->nodes[v->producer];
    for (int k = 0; k < n->n_outputs; k++)
        if (n->outputs[k] == value) n->outputs[k] = lost;
    (*out)->values[lost].producer = v->producer;
    v->producer = VALUE_NONE;
    input.dim[0] = DIM_BATCH;
    status = graph_add_input(*out, value, DT_FLOAT32, &input, e);
    return status ? status : graph_finish(*out, e);
}

/* One pass of the graph behind a value, from rows [PASS, row] of it, which the gradients replace. */
static void backward(double *rows, size_t row, struct net *net, const struct loss_plan *plan,
                     const struct calibration *c, size_t first, double *scratch) {
    double sums[2 * LOSS_MAX_TERMS];
    real *to[] = {net_input(net, 0), net_input(net, 1)};
    for (size_t i = 0; i < PASS * c->row; i++) to[0][i] = (real)c->inputs[first * c->row + i];
    for (size_t i = 0; i < PASS * row; i++) to[1][i] = (real)rows[i];
    net_forward(net, PASS, random_seed(1), NULL, NULL);
    const struct loss_rows answers = {.logits = net_output(net, 0),
                                      .labels = c->labels + first,
                                      .n = PASS,
                                      .classes = evaluate_width(net),
                                      .scratch = scratch};
    loss_run(plan, &answers, PASS, net_output_gradient(net, 0), sums);
    net_backward(net);
    for (size_t i = 0; i < PASS * row; i++) rows[i] = (double)net_input_gradient(net, 1)[i];
}

/* Replaces the rows of whole passes of a value by the gradients of the cross entropy by them. */
static int differentiate(double *rows, const struct wish *w, const struct calibration *c, const struct graph *behind,
                         struct err *e) {
    struct loss_spec ce = {.kind = LOSS_CE, .weight = 1, .temperature = 1};
    struct net_options options = {.batch = PASS, .training = true, .input_gradient = true, .memory = c->memory};
    struct loss_plan plan;
    struct crew *crew = NULL;
    struct net *net = NULL;
    double *scratch = NULL;
    int status = loss_plan(&plan, &ce, 1, true, false, e);
    if (!status) status = crew_new(&crew, c->threads, e);
    if (!status) status = net_new(&net, behind, crew, &options, e);
    if (!status && !(scratch = mem_calloc(loss_scratch(evaluate_width(net)), sizeof *scratch)))
        status = err_memory(e, evaluate_width(net) * sizeof *scratch);
    for (size_t first = 0; first < w->passes * PASS && !status; first += PASS)
        backward(rows + first * w->row, w->row, net, &plan, c, first, scratch);
    mem_free(scratch);
    net_free(net);
    crew_free(crew);
    return status;
}

static int calibration_gradient(double **out, size_t *samples, void *context, const struct graph *g, int value,
                                size_t most, struct err *e) {
    struct graph *behind = NULL;
    struct wish w;
    *out = NULL;
    if (g->values[value].producer < 0)
        return err_set(e, E_UNSUPPORTED, "'%s' is made by no node", g->values[value].name);
    int status = make_wish(&w, context, g, value, most, e);
    if (!status) status = compute(out, &w, context, g, value, e);
    if (!status) status = graph_behind(&behind, g, value, &w.shape, e);
    if (!status) status = differentiate(*out, &w, context, behind, e);
    graph_free(behind);
    if (status) {
        mem_free(*out);
        *out = NULL;
        return status;
    }
    trim(out, &w);
    *samples = w.n;
    return 0;
}

/* ---- promises ---- */

/* As many rows as there will be, of zeros: a page that nobody looks at costs nothing. */
static int promised_sample(double **out, size_t *samples, void *context, const struct graph *g, int value, size_t most,
                           struct err *e) {
    struct wish w;
    int status = make_wish(&w, context, g, value, most, e);
    if (status) return status;
    *out = mem_calloc(w.n + 1, w.row * sizeof **out);
    if (!*out) return err_memory(e, w.n * w.row * sizeof **out);
    *samples = w.n;
    return 0;
}

static int promised_statistics(struct morph_statistics *out, void *context, const struct graph *g, int value,
                               struct err *e) {
    const struct calibration *c = context;
    struct wish w;
    int status = make_wish(&w, c, g, value, 0, e);
    return status ? status : moments_new(out, &w.shape, g->values[value].name, c->samples / PASS * PASS, e);
}

/* ---- opening ---- */

/* Without numbers yet. */
static struct calibration prepared(const struct selection *s, const struct host *host) {
    size_t each = s->data->row * (sizeof(double) + sizeof(float)) + 1;
    struct calibration c = {.samples = s->n < CALIBRATION_MOST ? s->n : CALIBRATION_MOST,
                            .row = s->data->row,
                            .threads = host->threads,
                            .memory = host->memory};
    if (host->memory && c.samples > host->memory / 4 / each) c.samples = host->memory / 4 / each;
    return c;
}

void calibration_promise(struct calibration *c, const struct selection *s, const struct host *host) {
    *c = prepared(s, host);
    c->data = (struct morph_data){.context = c,
                                  .statistics = promised_statistics,
                                  .sample = promised_sample,
                                  .gradient = s->data->labels.data ? promised_sample : NULL};
}

int calibration_open(struct calibration *c, const struct selection *s, const struct host *host, struct err *e) {
    const struct dataset *data = s->data;
    *c = prepared(s, host);
    c->data = (struct morph_data){.context = c, .statistics = calibration_statistics, .sample = calibration_sample};
    if (data->labels.data) {
        c->data.gradient = calibration_gradient;
        c->labels = mem_calloc(c->samples + 1, sizeof *c->labels);
        if (!c->labels) return err_memory(e, c->samples * sizeof *c->labels);
    }
    c->inputs = mem_calloc(c->samples + 1, data->row * sizeof *c->inputs);
    c->rows = mem_calloc(c->samples + 1, data->row * sizeof *c->rows);
    real *one = mem_calloc(data->row + 1, sizeof *one);
    int status = c->inputs && c->rows && one ? 0 : err_memory(e, c->samples * data->row * sizeof *c->inputs);
    for (size_t i = 0; i < c->samples && !status; i++) {
        uint32_t sample = selection_sample(s, i);
        dataset_fetch(data, one, &sample, 0, 1);
        if (c->labels) c->labels[i] = (int32_t)dataset_label(data, sample);
        for (size_t k = 0; k < data->row; k++) {
            c->inputs[i * data->row + k] = (double)one[k];
            c->rows[i * data->row + k] = (float)one[k];
        }
    }
    mem_free(one);
    return status;
}

void calibration_fini(struct calibration *c) {
    mem_free(c->inputs);
    mem_free(c->rows);
    mem_free(c->labels);
    *c = (struct calibration){0};
}

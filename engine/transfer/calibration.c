/* calibration.c - see calibration.h. */
#include "engine/transfer/calibration.h"

#include <string.h>

#include "base/memory.h"
#include "engine/nn/infer.h"
#include "engine/nn/outputs.h"

enum { PASS = 32 }; /* samples computed together */

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

/* Runs the network over the first n samples, a whole number of passes; rows of the value follow each other in out. */
static int compute(double *out, const struct calibration *c, const struct graph *g, int value, size_t n, size_t row,
                   struct err *e) {
    int status = 0;
    for (size_t first = 0; first < n && !status; first += PASS) {
        const double *inputs[] = {c->inputs + first * c->row};
        double *rows[] = {out + first * row};
        struct outputs_task task = {.graph = g,
                                    .batch = PASS,
                                    .inputs = inputs,
                                    .threads = c->threads,
                                    .memory = c->memory,
                                    .values = &value,
                                    .n_values = 1,
                                    .out = rows};
        status = outputs_single(&task, e);
    }
    return status;
}

static int calibration_sample(double **out, size_t *samples, void *context, const struct graph *g, int value,
                              size_t most, struct err *e) {
    const struct calibration *c = context;
    struct shape shape;
    size_t row, n = (c->samples < most ? c->samples : most) / PASS * PASS;
    if (n == 0) n = c->samples < PASS ? 0 : PASS;
    if (n == 0) return err_set(e, E_INVALID, "there are %zu samples to calibrate on; %d are needed", c->samples, PASS);
    int status = row_of(&row, &shape, g, value, e);
    if (status) return status;
    double *rows = mem_calloc(n, row * sizeof *rows);
    if (!rows) return err_memory(e, n * row * sizeof *rows);
    status = compute(rows, c, g, value, n, row, e);
    if (status) {
        mem_free(rows);
        return status;
    }
    *out = rows;
    *samples = n;
    return 0;
}

/* rows [n, channels, plane]: biased moments of each channel. */
static void find_moments(struct morph_statistics *s, const double *rows, size_t n, size_t plane) {
    double count = (double)(n * plane);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < s->channels; k++)
            for (size_t p = 0; p < plane; p++) s->mean[k] += rows[(i * s->channels + k) * plane + p] / count;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < s->channels; k++)
            for (size_t p = 0; p < plane; p++) {
                double d = rows[(i * s->channels + k) * plane + p] - s->mean[k];
                s->variance[k] += d * d / count;
            }
}

static int calibration_statistics(struct morph_statistics *out, void *context, const struct graph *g, int value,
                                  struct err *e) {
    double *rows;
    struct shape shape;
    size_t row, n;
    int status = row_of(&row, &shape, g, value, e);
    if (status) return status;
    if (shape.rank < 2) return err_set(e, E_UNSUPPORTED, "'%s' has no channel axis", g->values[value].name);
    status = calibration_sample(&rows, &n, context, g, value, CALIBRATION_MOST, e);
    if (status) return status;
    size_t channels = (size_t)shape.dim[1];
    *out = (struct morph_statistics){.mean = mem_calloc(channels + 1, sizeof(double)),
                                     .variance = mem_calloc(channels + 1, sizeof(double)),
                                     .channels = channels,
                                     .samples = n};
    if (out->mean && out->variance)
        find_moments(out, rows, n, row / channels);
    else
        status = err_memory(e, channels * sizeof(double));
    mem_free(rows);
    if (!status) return 0;
    mem_free(out->mean);
    mem_free(out->variance);
    return status;
}

int calibration_open(struct calibration *c, const struct selection *s, const struct host *host, struct err *e) {
    const struct dataset *data = s->data;
    size_t room = host->memory ? host->memory / 4 / (data->row * (sizeof *c->inputs + sizeof *c->rows) + 1) : s->n;
    *c = (struct calibration){.samples = s->n < CALIBRATION_MOST ? s->n : CALIBRATION_MOST,
                              .row = data->row,
                              .threads = host->threads,
                              .memory = host->memory};
    if (c->samples > room) c->samples = room;
    c->data = (struct morph_data){c, calibration_statistics, calibration_sample};
    c->inputs = mem_calloc(c->samples + 1, data->row * sizeof *c->inputs);
    c->rows = mem_calloc(c->samples + 1, data->row * sizeof *c->rows);
    real *one = mem_calloc(data->row + 1, sizeof *one);
    int status = c->inputs && c->rows && one ? 0 : err_memory(e, c->samples * data->row * sizeof *c->inputs);
    for (size_t i = 0; i < c->samples && !status; i++) {
        uint32_t sample = selection_sample(s, i);
        dataset_fetch(data, one, &sample, 0, 1);
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
    *c = (struct calibration){0};
}

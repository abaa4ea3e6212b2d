/* patches.c - inputs of a layer, unfolded. */
#include "engine/surgery/patches.h"

#include "base/memory.h"

enum { STEP = 1000003, ROWS_PER_INPUT = 10, ROWS_LEAST = 2000 };

size_t patches_elements(const struct graph *g, int value) {
    size_t n = 1;
    for (int d = 1; d < g->values[value].shape.rank; d++) n *= (size_t)g->values[value].shape.dim[d];
    return n;
}

int patches_sample(double **out, size_t *samples, const struct morph_data *data, const struct graph *g, int value,
                   size_t most, struct err *e) {
    double *x;
    int status = data->sample(&x, samples, data->context, g, value, most, e);
    *out = status ? NULL : x;
    return status;
}

int patches_open(struct patches *p, const struct linear *l, struct morphing *m, size_t room, struct err *e) {
    const struct shape *in = &m->graph->values[l->data].shape, *out = &m->graph->values[l->made].shape;
    size_t each = patches_elements(m->graph, l->data) + patches_elements(m->graph, l->made);
    size_t most = room / (each * sizeof(double) + 1);
    *p = (struct patches){
        .l = l, .in = {1, 1}, .out = {1, 1}, .window = {.stride = {1, 1}, .dilation = {1, 1}}, .pixels = 1};
    if (most < 2) return err_set(e, E_TOO_LARGE, "two samples of what it reads take more than %zu bytes", room);
    if (most > PATCHES_SAMPLES) most = PATCHES_SAMPLES;
    int status = l->axes ? linear_window(&p->window, m->graph, l->node, l->kernel, e) : 0;
    for (int a = 2 - l->axes; a < 2; a++) p->in[a] = in->dim[a + l->axes], p->out[a] = out->dim[a + l->axes];
    p->pixels = (size_t)(p->out[0] * p->out[1]);
    if (!status) status = patches_sample(&p->x, &p->samples, m->data, m->graph, l->data, most, e);
    if (!status && p->samples < 2) status = err_set(e, E_INVALID, "%zu samples are too few to fit to", p->samples);
    return status;
}

void patches_close(struct patches *p) {
    mem_free(p->x);
    p->x = NULL;
}

void patches_row(double *h, const struct patches *p, size_t row, int64_t group) {
    const struct linear *l = p->l;
    int64_t sample = (int64_t)(row / p->pixels), pixel = (int64_t)(row % p->pixels);
    int64_t top = pixel / p->out[1] * p->window.stride[0] - p->window.begin[0];
    int64_t left = pixel % p->out[1] * p->window.stride[1] - p->window.begin[1];
    for (int64_t i = 0; i < l->in; i++) {
        const double *map = p->x + (sample * l->in * l->groups + group * l->in + i) * p->in[0] * p->in[1];
        for (int64_t u = 0; u < l->kernel[0]; u++)
            for (int64_t v = 0; v < l->kernel[1]; v++) {
                int64_t y = top + u * p->window.dilation[0], x = left + v * p->window.dilation[1];
                bool inside = y >= 0 && x >= 0 && y < p->in[0] && x < p->in[1];
                *h++ = inside ? map[y * p->in[1] + x] : 0;
            }
    }
}

size_t patches_spread(size_t k, size_t wanted, size_t all) {
    return wanted < all ? k * STEP % all : k;
}

size_t patches_enough(size_t inputs, size_t all) {
    size_t most = inputs * ROWS_PER_INPUT + ROWS_LEAST;
    return all < most || all % STEP == 0 ? all : most;
}

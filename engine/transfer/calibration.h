/* calibration.h - what surgery learns from data: values of a network on samples of a data set, and their gradients. */
#ifndef ENGINE_TRANSFER_CALIBRATION_H
#define ENGINE_TRANSFER_CALIBRATION_H

#include "engine/nn/evaluate.h"
#include "engine/surgery/morph.h"
#include "engine/transfer/method.h"

#define CALIBRATION_MOST 512 /* samples */

struct calibration {
    struct morph_data data; /* for morphing.data; its context is this struct: do not move it */
    double *inputs;         /* [samples, row], as the network takes them */
    float *rows;            /* the same */
    int32_t *labels;        /* [samples]; NULL without */
    size_t samples, row;
    int threads;
    size_t memory;
};

/* The first samples of a selection, as many as CALIBRATION_MOST and a quarter of host->memory allow. */
int calibration_open(struct calibration *c, const struct selection *s, const struct host *host, struct err *e);

/* Zeros of the right shapes, for a check before anything is computed, and the refusals that calibration_open of the same
 * selection would lead to: too few samples, no rows, and rows that take more than half of host->memory. */
void calibration_promise(struct calibration *c, const struct selection *s, const struct host *host);

void calibration_fini(struct calibration *c);

#endif

/* material.h - the data of a method: what to train on, and what to evaluate with. */
#ifndef ENGINE_TRANSFER_MATERIAL_H
#define ENGINE_TRANSFER_MATERIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/nn/evaluate.h"
#include "engine/transfer/method.h"

/* One data set, opened for an input. */
struct examples {
    struct dataset data;
    struct dataset_spec spec;
    struct source source; /* of the inputs */
    bool labels;          /* there are some; in a check perhaps without their data */
};

/* Opens "inputs" and, if there are any, "labels". Errors carry `pointer`. */
int examples_open(struct examples *out, const struct dataset_spec *spec, const struct host *host,
                  const struct shape *input, int64_t classes, const char *pointer, struct err *e);

struct material_spec {
    const struct dataset_spec *dataset;
    const struct dataset_spec *evaluate; /* NULL: hold out a fraction of dataset */
    double holdout;
    uint64_t seed; /* of what is held out */
};

/* Training and evaluation. Borrowed by pointers into itself: do not move it. */
struct material {
    struct examples train_set, eval_set; /* eval_set only with material_spec.evaluate */
    struct selection train, eval;        /* eval.n = 0: no evaluation */
    const struct examples *evaluated;    /* the set that eval selects from */
    uint32_t *split;
    char described[2 * REFERENCE_SIZE]; /* what is evaluated on, for reports */
};

/* Forgetting to repeat the preprocessing is the most frequent mistake: an evaluation set without any
 * (scale 1, no mean, no std, NCHW) gets that of the training set. "mean":0 keeps it as it is. */
void material_inherit(struct dataset_spec *evaluate, const struct dataset_spec *train);

int material_open(struct material *out, const struct material_spec *spec, const struct host *host,
                  const struct shape *input, int64_t classes, struct err *e);
void material_fini(struct material *m);

#endif

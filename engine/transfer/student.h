/* student.h - the network that is to learn: scaled down from another, described by a list, or stored. */
#ifndef ENGINE_TRANSFER_STUDENT_H
#define ENGINE_TRANSFER_STUDENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/param.h"
#include "engine/transfer/method.h"
#include "engine/transfer/network.h"

#define STUDENT_MAX_LAYERS 128

/* One element of "layers": exactly one of op, conv, dense, maxpool, avgpool, dropout is given. */
struct layer_spec {
    int op; /* enum layer_op, -1 = absent */
    int64_t conv, dense, maxpool, avgpool;
    double dropout;
    int64_t kernel, stride, pad, groups; /* of conv; stride also of pools. Absent ones are filled in */
};

/* {"width":0.25}, {"layers":[...]} or {"model":ref,"init":"keep"|"random"}. */
struct student_spec {
    double width;
    struct layer_spec layers[STUDENT_MAX_LAYERS];
    int n_layers;
    char model[REFERENCE_SIZE];
    int init; /* 0 keep, 1 random, -1 absent */
};
extern const struct param student_params[];

/* Fills in what is left open; E_INVALID at /student when not exactly one of the three forms is given. */
int student_check(struct student_spec *spec, struct err *e);

/* What a student is made from, besides its specification. */
struct student_origin {
    const struct network *template;  /* what width scales; NULL: there is none */
    const struct dataset_spec *data; /* that a stored network is for */
    struct shape input;              /* [N, ...], for layers */
    int64_t classes;                 /* the student must answer with; 0 = any number */
    uint64_t seed;                   /* of its weights */
    bool sizes_only;                 /* the weights are not looked at: they need not be drawn */
};

/* Elements that the parameters of a student may have when a job may take so many bytes: values,
 * gradients and the optimizer's state together must fit. 0 bytes: no limit but the largest sensible one. */
size_t student_room(size_t memory);

/* Builds the student of a checked spec. E_TOO_LARGE before memory is taken when host->memory cannot hold it. */
int student_build(struct network *out, const struct student_spec *spec, const struct student_origin *origin,
                  const struct host *host, struct err *e);

/* Every hidden channel count of g times width, rounded up, weights as they come: a prefix of the old
 * ones. Residual sums, concatenations, grouped and depthwise convolutions stay consistent; inputs and
 * outputs keep their size. E_INVALID at /student/width when width < 1 makes nothing smaller. `room`: see
 * student_room. */
int student_scale(struct graph **out, const struct graph *g, double width, size_t room, struct err *e);

/* A plain chain of layers on inputs of shape [N, ...], with zero weights. */
int student_chain(struct graph **out, const struct layer_spec *layers, int n_layers, const struct shape *input,
                  size_t room, struct err *e);
extern const struct param layer_params[];

/* Fills in kernel, stride, pad, groups; E_INVALID at /student/layers/i. */
int student_check_layers(struct layer_spec *layers, int n_layers, struct err *e);

#endif

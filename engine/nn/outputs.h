/* outputs.h - what a graph computes, at either precision: the values of a pass and the lengths of gradients, in
 * numbers that do not depend on `real`.
 *
 * The engine is built a second time with the other `real`, and that object shows one symbol (see "the twin" in the
 * Makefile). So both functions are in every binary: outputs_single computes in float, as the engine does for
 * everything else, outputs_double in double. They are for proofs and tests, which compare; training and evaluation
 * use net.h. */
#ifndef ENGINE_NN_OUTPUTS_H
#define ENGINE_NN_OUTPUTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/nn/graph.h"

/* Of the gradient of one parameter. */
struct gradient_size {
    double norm;    /* Euclidean */
    double largest; /* absolute element */
    size_t idle;    /* elements that have been 0 in this pass and in those before */
};

struct outputs_task {
    const struct graph *graph; /* finished; not changed */
    int batch;
    int passes;                  /* one after the other, from inputs of their own; 0 stands for 1 */
    const double *const *inputs; /* [passes][graph's inputs] arrays [batch, ...] in ONNX order */
    bool training;               /* BatchNormalization takes the batch's statistics, Dropout drops */
    uint64_t seed;               /* of Dropout */
    int threads;                 /* as crew_new */
    size_t memory;               /* bytes the network may take; 0 = no limit */

    /* Values wanted, any of the graph. Those that are no outputs keep nodes apart that would else be computed in
     * one, which rounds differently. Arrays of the shape that graph_infer tells for the batch. */
    const int *values;
    int n_values;
    double *const *out; /* [passes][n_values] */

    /* Gradients: when `gradients` is not NULL there is a backward pass (training must be set) after the last forward
     * pass, from output_gradients, one array for each of the graph's outputs, NULL for 0. `steps` steps of plain
     * gradient descent follow on a copy of the parameters, from the same inputs, each with a pass of its own; the
     * length of a step is `rate` times that of all parameters together, or times 1 if these are shorter.
     * `gradients` is a table [steps + 1][graph->n_values] by value, NaN for what is not trained. */
    const double *const *output_gradients;
    int steps;
    double rate;
    struct gradient_size *gradients;
};

/* E_INVALID for a value that nobody makes, E_TOO_LARGE when `memory` does not do. */
int outputs_single(const struct outputs_task *t, struct err *e);
int outputs_double(const struct outputs_task *t, struct err *e);

#endif

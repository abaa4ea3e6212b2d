/* net.h - an executable network: a graph planned for a batch size, with its parameters.
 *
 * Planning places every tensor and allocates everything; running allocates nothing. The batch is
 * cut into lanes of equal size; lanes are what threads work on, and their number depends on the
 * batch alone, so results do not depend on the number of threads, to the bit.
 *
 * The parameters of a training network are one flat array in graph order, ONNX element order inside. The
 * last of them are the statistics (BatchNormalization's running mean and variance), which have no
 * gradient. Other networks read the weights where they are: in the graph, or in the network beside. */
#ifndef ENGINE_NN_NET_H
#define ENGINE_NN_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/random.h"
#include "engine/kernels/crew.h"
#include "engine/kernels/real.h"
#include "engine/nn/array.h"
#include "engine/nn/graph.h"

struct net;

struct net_options {
    int batch;           /* samples of one run, at most */
    bool training;       /* with a backward pass; BatchNormalization and Dropout in training mode */
    bool input_gradient; /* backward also makes the gradients of the inputs */
    size_t memory;       /* bytes that planning may take; 0 = no limit */
    /* NULL, or a training network of the same graph and crew, to be freed later than this one, which
     * computes with its parameters, and in its memory as far as that is large enough: what either has
     * computed is gone when the other runs. Before a run after one of the other: net_parameters_changed. */
    struct net *beside;
};

/* What a network takes, in bytes, known after planning.
 *
 * `live` is what no plan that computes node by node could do without: the largest sum, over the steps
 * of forward and backward, of the tensors that are alive at that step. An activation is alive from
 * the step that makes it to the last one that reads it, backward included where the operator keeps it
 * (struct op, `keeps`); a gradient from the first call that gives it to the one that uses it up. */
struct net_memory {
    size_t parameters;  /* values, wherever they are, and a gradient for each that has one */
    size_t live;        /* of activations and their gradients: the lower bound */
    size_t activations; /* what is taken for them: one block by liveness, and the arena of each thread */
    size_t workspace;   /* packed weights, gathering, scratch, tables of operators */
    size_t taken;       /* all of it, and the plan's own tables */
};

/* Plans graph g (which must stay alive, its constants too) for the crew (likewise). A training network
 * copies its parameters out of the graph. E_TOO_LARGE says what would be needed when it is more than options->memory. */
int net_new(struct net **out, const struct graph *g, struct crew *crew, const struct net_options *options,
            struct err *e);
void net_free(struct net *n);

struct net_memory net_memory(const struct net *n);

/* Graph input i / output i: shape with the batch filled in, and where to write / read it, ONNX
 * element order, [batch, ...]. Outputs are valid until the next run. */
struct shape net_input_shape(const struct net *n, int i);
struct shape net_output_shape(const struct net *n, int i);
real *net_input(struct net *n, int i);
const real *net_output(const struct net *n, int i);

/* The gradient of the loss by output i, to be filled before net_backward; by input i after it
 * (NULL without input_gradient). */
real *net_output_gradient(struct net *n, int i);
const real *net_input_gradient(const struct net *n, int i);

/* Runs the first `samples` of the batch (all of it when training). `random` seeds Dropout. Inputs
 * may be filled lane by lane: `load`, when not NULL, is called for samples [first, first + count)
 * by the thread that will compute them. */
typedef void net_load(void *context, int first, int count);
void net_forward(struct net *n, int samples, struct random random, net_load *load, void *context);

/* After net_forward of a training net: fills the gradients. */
void net_backward(struct net *n);

/* ---- parameters ---- */

/* The flat array (NULL when the weights are read in the graph), its length, and how many of them have
 * gradients (they come first). Call net_parameters_changed after writing. */
real *net_parameters(struct net *n);
size_t net_parameter_count(const struct net *n);
size_t net_trainable_count(const struct net *n);
const real *net_gradients(const struct net *n);
void net_parameters_changed(struct net *n);

/* Parameter k of the flat array: the graph's value index, where it starts and how long it is. */
struct net_parameter {
    int value;
    size_t start, count;
    bool trainable;
};
int net_parameter_list(const struct net *n, const struct net_parameter **out);

/* Frees the weights of the graph that a training network was made of: it has them now. Until net_store the
 * graph can be neither planned nor written. */
void net_empty_graph(const struct net *n, struct graph *g);

/* Writes the parameters of a training network back into a graph of the same shape as the planned one. */
int net_store(const struct net *n, struct graph *g, struct err *e);

#endif

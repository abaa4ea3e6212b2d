/* init.h - fresh weights. */
#ifndef ENGINE_TRANSFER_INIT_H
#define ENGINE_TRANSFER_INIT_H

#include <stdint.h>

#include "base/error.h"
#include "engine/nn/graph.h"

/* Gives every layer of a finished graph new parameters, determined by the graph and the seed:
 *   Conv, Gemm, MatMul   normal with variance g / fan_in, where g is 2 when a rectifier follows (He et
 *                        al. 2015, arXiv:1502.01852) and else 1; half of that when the result goes into
 *                        a residual sum with nothing to normalise it in between, so that sums of many
 *                        blocks do not grow; biases 0
 *   BatchNormalization   scale 1, shift 0, mean 0, variance 1
 *   PRelu                slope 0.25
 *   Add                  constants that training changes: 0
 * Other constants stay. */
int init_graph(struct graph *g, uint64_t seed, struct err *e);

/* The same for the parameters of one node. */
int init_node(struct graph *g, int node, uint64_t seed, struct err *e);

#endif

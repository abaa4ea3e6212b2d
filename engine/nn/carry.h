/* carry.h - what an optimizer keeps of the parameters, from a graph (value.memory, graph.training) into an optimizer and
 * back. While the optimizer has it the graph does not: like the weights, it is in memory once. */
#ifndef ENGINE_NN_CARRY_H
#define ENGINE_NN_CARRY_H

#include <stdbool.h>

#include "base/error.h"
#include "engine/nn/graph.h"
#include "engine/nn/net.h"
#include "engine/nn/optimizer.h"

/* Whether the graph was trained by that rule and has kept something of it. */
bool carry_finds(const struct graph *g, int rule);

/* Bytes that an optimizer takes for the origins of parameters, beside what it takes for these. */
int carry_beside(size_t *bytes, const struct graph *g, const struct optimizer_rule *rule, struct err *e);

/* Moves what the graph keeps into an optimizer of its rule for the parameters of a training network. Parameters of which
 * nothing is kept start at zeros, and are new when surgery has changed the graph, as are single zeros among the others;
 * the shares stay in the graph, and so do maps. E_INVALID: something kept has another size than its parameter; then the
 * graph keeps nothing. */
int carry_in(struct optimizer *o, const struct net *n, struct graph *g, struct err *e);

/* Copies it back, for the parameters of `list`; how: rates and course. Shares and origins that still count stay,
 * and what is new then stays new. */
int carry_out(struct graph *g, const struct optimizer *o, const struct net_parameter *list, int n,
              const struct graph_training *how, struct err *e);

#endif

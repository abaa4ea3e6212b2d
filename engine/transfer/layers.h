/* layers.h - choosing layers by name, freezing them, and putting a new last one on. */
#ifndef ENGINE_TRANSFER_LAYERS_H
#define ENGINE_TRANSFER_LAYERS_H

#include <stdint.h>

#include "base/error.h"
#include "engine/nn/graph.h"
#include "engine/transfer/network.h"

#define LAYER_PATTERN_SIZE 128

/* Whether a pattern ("*" and "?" as in a shell) matches the node's name or that of one of its parameters. */
bool layers_match(const struct graph *g, const struct node *n, const char *pattern);

/* Takes the parameters of all matching layers out of training. E_INVALID at `pointer` when none
 * matches, with names that are there, or when nothing is left to train. */
int layers_freeze(struct graph *g, const char *pattern, const char *pointer, struct err *e);
int layers_check_trainable(const struct graph *g, struct err *e);

/* Replaces the network's last layer by a fresh one for that many classes, weights drawn from the seed.
 * E_UNSUPPORTED at /new_head when the outputs do not come from one convolution or dense layer. */
int layers_new_head(struct network *n, int64_t classes, uint64_t seed, struct err *e);

#endif

/* network.h - a network as the methods use it: one input, one output of logits, a free batch. */
#ifndef ENGINE_TRANSFER_NETWORK_H
#define ENGINE_TRANSFER_NETWORK_H

#include "base/error.h"
#include "engine/nn/dataset.h"
#include "engine/nn/graph.h"
#include "engine/transfer/method.h"

struct network {
    struct graph *graph;  /* owned; its output is the logits, see below */
    struct source source; /* zeros when it was not loaded */
    struct graph_size size;
    struct shape input; /* [N, ...] */
    int64_t classes;    /* elements of one row of the output */
    int answer;         /* the output of the network as stored: the graph's, or a final Softmax of it */
};

/* Loads the network of a reference. Dimensions that it leaves free get the sizes of `data`, the data set it is to work
 * with. One that was exported for a fixed batch gets a free one. A final Softmax is left out of what is computed - losses
 * want logits - until network_restore. Errors carry `pointer` (may be NULL). Free with network_fini. */
int network_load(struct network *out, const struct host *host, const char *reference, const struct dataset_spec *data,
                 const char *pointer, struct err *e);

/* The same for a graph that is there, without free dimensions; it is taken, on failure too. */
int network_take(struct network *out, struct graph *g, struct err *e);
void network_fini(struct network *n);

/* The logits of a finished graph whose stored output is `answer`: what a final Softmax over the classes reads, else `answer`
 * itself. */
int network_logits(const struct graph *g, int answer);

/* Frees the graph and keeps what is known of it. */
void network_forget(struct network *n);

/* Moves the graph out as it is to be published: with its stored output, and with element types that fit together
 * (graph_unify_types). The network is empty afterwards, after a failure too. */
int network_restore(struct graph **out, struct network *n, struct err *e);

/* E_INVALID at `pointer` showing both shapes when the two do not answer with equally many classes or
 * do not take the same input. `what` names the first. */
int network_agree(const char *what, const struct network *n, const struct network *other, const char *pointer,
                  struct err *e);

#endif

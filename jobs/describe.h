/* describe.h - what a network is, in the JSON texts that the store keeps with a model version. */
#ifndef JOBS_DESCRIBE_H
#define JOBS_DESCRIBE_H

#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "engine/nn/graph.h"

struct description {
    int64_t parameters;
    int64_t macs;          /* MACS_UNKNOWN while dimensions are free */
    struct text operators; /* {"Conv":7,"Relu":6}, in the order of the operator table */
    struct text inputs;    /* [{"name":"x","dtype":"float32","shape":["N",1,28,28]}] */
    struct text outputs;
};

/* The members "name", "dtype" and "shape" of a value of a graph: numbers, "N" for the batch, a free dimension by its name
 * or "?"; null where the shape depends on free dimensions. */
void describe_value(struct json_writer *w, const struct graph *g, int value);

int describe_graph(struct description *out, const struct graph *g, struct err *e);
void description_free(struct description *d);

#endif

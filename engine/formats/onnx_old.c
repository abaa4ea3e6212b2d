/* onnx_old.c - opsets before ONNX_MIN_OPSET. Most operators mean in it what they meant before, some with an attribute
 * less; a node of those is read as one of ONNX_MIN_OPSET. The others are refused. */
#include <string.h>

#include "engine/formats/onnx.h"
#include "engine/formats/onnx_proto.h"
#include "engine/nn/op.h"

/* Operators with another meaning, or other attributes, before that opset. */
static const struct {
    const char *op;
    int since;
} changed[] = {
    {"Cast", 6},    {"Concat", 4}, {"GlobalLpPool", 2}, {"Pad", 2},
    {"Reshape", 5}, {"Split", 2},  {"Tile", 6},         {"Upsample", 7},
};

static int check_meaning(const char *op, int opset, struct err *e) {
    for (size_t i = 0; i < sizeof changed / sizeof *changed; i++)
        if (strcmp(op, changed[i].op) == 0 && opset < changed[i].since)
            return err_set(e, E_UNSUPPORTED,
                           "the model uses opset %d, in which this operator is another one than in opset %d", opset,
                           changed[i].since);
    return 0;
}

/* Slopes were lined up with the channels; since then with the last axis. One number is the same in both. */
static int check_slopes(const struct graph *g, const struct node *n, struct err *e) {
    const struct array *slope = n->n_inputs > 1 && n->inputs[1] != VALUE_NONE ? g->values[n->inputs[1]].constant : NULL;
    if (slope && slope->count == 1) return 0;
    return err_set(e, E_UNSUPPORTED, "slopes for each channel, as before opset 7; export it with a newer one");
}

int onnx_old_node(struct graph *g, int node, int opset, struct err *e) {
    const struct node *n = &g->nodes[node];
    int rc = check_meaning(n->op->name, opset, e);
    if (rc) return rc;
    graph_drop_attribute(g, node, "consumed_inputs"); /* a hint about memory */
    if (strcmp(n->op->name, "PRelu") == 0) return check_slopes(g, n, e);
    if (strcmp(n->op->name, "BatchNormalization") == 0 && !node_int(n, "is_test", 0))
        return err_set(e, E_UNSUPPORTED, "is_test is 0, which asks for training; export the model for inference");
    return 0;
}

/* graph.h - a network as data: named values, nodes in topological order, constants.
 *
 * This is what an ONNX file becomes and what every surgery works on. It holds no buffers
 * for computing; engine/nn/net.h makes an executable network out of it.
 *
 * Values are referred to by index. A value is a graph input, or has a constant (an ONNX
 * initializer), or is made by exactly one node. Constants in float types with
 * `trainable` set are the network's parameters. Names are ONNX names and stay. */
#ifndef ENGINE_NN_GRAPH_H
#define ENGINE_NN_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/nn/array.h"
#include "engine/nn/names.h"
#include "engine/nn/schedule.h"

#define GRAPH_MAX_NODES 1000000
#define GRAPH_MAX_VALUES 4000000
#define GRAPH_MAX_NAME 512
#define GRAPH_MAX_FREE 256 /* free dimensions of inputs, batches aside */
#define NODE_MAX_INPUTS 4096
#define VALUE_MEMORIES 2
#define SHAPE_TEXT 384  /* room for a shape with names in it */
#define VALUE_NONE (-1) /* an optional input or output that is left out */

struct op;
struct origin;

enum attribute_type {
    ATTRIBUTE_INT,
    ATTRIBUTE_REAL,
    ATTRIBUTE_STRING,
    ATTRIBUTE_INTS,
    ATTRIBUTE_REALS,
    ATTRIBUTE_ARRAY
};

struct attribute {
    char *name;
    enum attribute_type type;
    int64_t integer;
    double real;
    char *string;
    int64_t *integers;
    double *reals;
    size_t count;        /* of integers or reals */
    struct array *array; /* owned */
};

struct value {
    char *name;
    enum dtype type;
    struct shape shape;     /* filled by graph_infer; rank -1 while unknown */
    struct array *constant; /* owned; NULL for activations */
    bool trainable;         /* a parameter that training changes (BatchNorm statistics are not) */
    bool literal;           /* a constant that is part of the formula (ONNX node Constant), never trainable */
    int producer;           /* node index, -1 for inputs and constants */
    struct array *memory[VALUE_MEMORIES]; /* owned; what an optimizer keeps of a parameter: velocity, or mean and
                                           * mean square, each like the constant. 0 everywhere or NULL: new,
                                           * was never trained; -0: it was, but nothing came of it */
    /* Owned, float32, for as long as graph.training.changed: along dimensions 0 and 1, the share that each channel has of
     * the one it is a copy of; below 0 along a dimension that reads channels. NULL: 1. Optimizers undo with it what
     * copies do to a step, see optimizer_take_pace. */
    struct array *share[2];
    struct origin
        *origin; /* owned, for as long; the parameter whose training this one carries on: engine/nn/origin.h */
};

struct node {
    char *name;
    const struct op *op;
    int *inputs; /* value indices, VALUE_NONE where left out */
    int n_inputs;
    int *outputs;
    int n_outputs;
    struct attribute *attributes;
    int n_attributes;
};

/* How the parameters were trained last, beside what stands in value.memory. */
struct graph_training {
    int rule;                    /* row of optimizer_table, -1: they were not, or nobody knows */
    uint64_t steps;              /* the optimizer has taken */
    double rate;                 /* the learning rate of the last one */
    double peak;                 /* the highest of that training */
    bool changed;                /* by surgery since: some are copies, or new */
    uint64_t since;              /* the steps that had been taken then; see optimizer_take_pace */
    struct schedule_spec course; /* of several runs, of which that was one; length below 1: there was none */
    int64_t warmup;              /* steps of the course */
};

/* A dimension of an input, other than the batch, whose size the file leaves open (PyTorch: dynamic_axes). */
struct free_axis {
    int input, axis; /* input: index into graph.inputs */
    char *name;      /* in the file, "" without one; axes of one name have one size */
};

struct graph {
    char *name;
    int opset; /* of the default domain, as read; nodes keep that opset's meaning */
    struct value *values;
    int n_values, values_room;
    struct node *nodes; /* topological order after graph_finish */
    int n_nodes, nodes_room;
    int *inputs; /* value indices of the graph's inputs (initializers are not among them) */
    int n_inputs;
    int *outputs;
    int n_outputs;
    struct graph_training training;
    struct free_axis *free_axes;
    int n_free_axes;
    /* private: name -> index */
    struct names value_names, node_names;
    int made_up; /* counts the names made up */
};

int graph_new(struct graph **out, const char *name, int opset, struct err *e);
void graph_free(struct graph *g);
int graph_clone(struct graph **out, const struct graph *g, struct err *e);

/* Adds a value without producer and without constant; *out is its index. The name must be new
 * (E_INVALID), NULL makes one up from `stem`. Pointers into g->values are invalid afterwards. */
int graph_add_value(int *out, struct graph *g, const char *name, const char *stem, struct err *e);

/* Adds a constant and takes the array, on failure too. Float constants start trainable. */
int graph_add_constant_take(int *out, struct graph *g, const char *name, struct array *constant, struct err *e);

/* Marks a value as input of the graph / output of the graph, in order. */
int graph_add_input(struct graph *g, int value, enum dtype type, const struct shape *shape, struct err *e);
int graph_add_output(struct graph *g, int value, struct err *e);

/* Leaves a dimension of input number `input` (not its first) open: DIM_FREE. E_TOO_LARGE beyond GRAPH_MAX_FREE. */
int graph_free_axis(struct graph *g, int input, int axis, const char *name, struct err *e);

/* Appends a node; it becomes the producer of its outputs (E_INVALID when one has a producer).
 * `name` may be NULL or "": one is made up. *out (may be NULL) is its index. The operator is
 * looked up by ONNX name: E_UNSUPPORTED names operator and node. */
int graph_add_node(int *out, struct graph *g, const char *op, const char *name, const int *inputs, int n_inputs,
                   const int *outputs, int n_outputs, struct err *e);

/* Adds an attribute to a node; strings and arrays are copied (graph_set_array takes). Replaces one
 * of the same name. */
int graph_set_int(struct graph *g, int node, const char *name, int64_t value, struct err *e);
int graph_set_real(struct graph *g, int node, const char *name, double value, struct err *e);
int graph_set_string(struct graph *g, int node, const char *name, const char *value, struct err *e);
int graph_set_ints(struct graph *g, int node, const char *name, const int64_t *values, size_t n, struct err *e);
int graph_set_reals(struct graph *g, int node, const char *name, const double *values, size_t n, struct err *e);
int graph_set_array_take(struct graph *g, int node, const char *name, struct array *value, struct err *e);

const struct attribute *node_attribute(const struct node *n, const char *name);
int64_t node_int(const struct node *n, const char *name, int64_t standard);
double node_real(const struct node *n, const char *name, double standard);
const char *node_string(const struct node *n, const char *name, const char *standard);

/* Index of the value with that name, or VALUE_NONE. Constant time. */
int graph_find_value(const struct graph *g, const char *name);
/* Index of the node with that name, or -1. */
int graph_find_node(const struct graph *g, const char *name);

/* Takes an attribute away, if it is there. */
void graph_drop_attribute(struct graph *g, int node, const char *name);

/* After building: drops the optional outputs that nobody reads, sorts the nodes topologically (cycles and values nobody makes are E_INVALID,
 * named), checks arities and attributes against the operators, marks what is
 * trainable, and infers every shape with a free batch. A graph that passed can be planned, unless it has free axes:
 * then what depends on them has no shape (rank -1) until they are bound. */
int graph_finish(struct graph *g, struct err *e);

/* Gives a constant other numbers, of another shape perhaps, and takes the array, on failure too. What an optimizer kept
 * of the old ones is forgotten. */
void graph_replace_constant_take(struct graph *g, int value, struct array *constant);

/* The same for numbers that stand for what the old ones stood for, each in its place: what an optimizer kept stays. */
void graph_correct_constant_take(struct graph *g, int value, struct array *constant);

/* To be said by surgery: what is kept of a training belongs to another network from now on. */
void graph_change_training(struct graph *g);

/* Forgets how the parameters were trained: what optimizers keep of them, shares, origins, and graph.training. */
void graph_forget_training(struct graph *g);

/* The same of one value. */
void value_forget_training(struct value *v);

/* Takes nodes out: those with drop[index] set. Their outputs have no producer afterwards. */
int graph_drop_nodes(struct graph *g, const bool *drop, struct err *e);

/* Of a finished graph: nodes that compute from constants alone become constants, which keep the names of
 * the outputs, and constants that nobody reads any more are freed. The graph is finished again. */
int graph_fold(struct graph *g, struct err *e);

/* Of a finished graph without free axes: where values that ONNX wants to be of one type are of several real ones, all of
 * them, and the inputs, outputs, constants and Casts among them, become the type that holds every number: float64 when
 * one of them is, else float32, and then nothing stays in half precision anywhere. Nothing happens where nothing mixes.
 * After a failure the graph is only good to be freed. */
int graph_unify_types(struct graph *g, struct err *e);

/* Gives the free axes of input number `input` the sizes they have in `given`, a shape as the network takes it (its first
 * dimension does not matter), and axes of the same names in other inputs as well. With the last free axis the graph
 * is finished again; nothing happens when there is none. `source` says in messages whose shape it is ("data set
 * fashion"). After a failure the graph is only good to be freed. */
int graph_bind_input(struct graph *g, int input, const struct shape *given, const char *source, struct err *e);

/* E_INVALID with input, dimension, name and what to do when there are free axes. */
int graph_check_bound(const struct graph *g, struct err *e);

/* The name of a free axis of an input, "?" without one. */
const char *graph_axis_name(const struct graph *g, int value, int axis);

/* As shape_print, with the names of free axes: "[N,3,height,width]". */
void graph_print_shape(char *out, size_t room, const struct graph *g, int value);

/* What a reader wants to know at a glance. macs: multiply-adds of Conv, Gemm and MatMul for one sample,
 * MACS_UNKNOWN while there are free axes. */
#define MACS_UNKNOWN (-1)
struct graph_size {
    int64_t parameters; /* elements of all float constants that training changes, and BatchNorm statistics */
    int64_t macs;
};
int graph_measure(struct graph_size *out, const struct graph *g, struct err *e);

#endif

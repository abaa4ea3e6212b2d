/* edit.h - what steps that change a graph in place have in common: layers and what belongs to them, windows, names.
 *
 * One rule keeps all of it simple: a value that was there before an exact step stands for the same numbers afterwards.
 * What is inserted behind a value takes over its name, and the node that made it makes a new one. So readers, outputs of
 * the network and whoever knows a value by name need nothing. */
#ifndef ENGINE_SURGERY_EDIT_H
#define ENGINE_SURGERY_EDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/nn/graph.h"
#include "engine/surgery/morph.h"

/* ---- who reads what ---- */

struct uses {
    int *readers; /* per value: inputs of nodes that read it, and outputs of the network that it is */
    int *reader;  /* per value: the last node that reads it, -1 */
    int *first;   /* per value, and one more: where its nodes begin in `nodes` */
    int *nodes;   /* those that read a value, rising; one that reads it twice is there twice */
};

/* Of the graph as it is; borrowed until the next change. */
int morphing_uses(const struct uses **out, struct morphing *m, struct err *e);
void uses_free(struct uses *u);

/* The node that alone reads the value, which is no output of the network; else -1. */
int uses_only_reader(const struct uses *u, int value);

/* ---- layers ---- */

/* Conv, or Gemm or MatMul of computed data with a constant matrix. */
struct edit_layer {
    int node, weights, bias; /* values; bias may be VALUE_NONE, and for a MatMul it always is */
    int axes;                /* spatial ones: 0 for dense layers, 1, 2 */
    bool transposed;         /* dense: the weights are [out, in] */
    int64_t out, in, group;  /* channels, all groups' together */
    int64_t kernel[2];       /* height, width; 1 where there is no axis */
    int64_t fan_in;          /* weights that one output channel has */
};

/* E_UNSUPPORTED, with the reason, when the node is none. */
int edit_layer(struct edit_layer *out, const struct graph *g, int node, struct err *e);

/* The same, refusing weights that something else reads as well. */
int edit_own_layer(struct edit_layer *out, const struct graph *g, const struct uses *u, int node, struct err *e);

/* "a" or "an", for the name of an operator. */
const char *edit_article(const char *op);

/* E_INVALID, with the name that is nearest to one that nothing has. */
int edit_no_layer(const struct graph *g, const char *name, struct err *e);

/* Standard deviation of a constant's numbers about their mean. */
double edit_deviation(const struct array *a);

/* An element-wise operator that is used as activation. */
struct edit_activation {
    const char *op;
    bool idempotent; /* f(f(x)) = f(x) */
    bool origin;     /* f(0) = 0 whatever the attributes */
    bool climbs;     /* and the slope that training uses there is not 0 */
};

/* NULL when the node is none. */
const struct edit_activation *edit_activation(const struct graph *g, const struct node *n);

/* What follows a layer and nothing else reads: a constant that is added (MatMul), a normalisation, an activation. */
struct edit_tail {
    int bias, norm, activation; /* nodes; -1: none */
    int linear, end;            /* values: in front of the activation, behind it */
};
void edit_tail(struct edit_tail *out, const struct graph *g, const struct uses *u, int node);

/* ---- windows of convolutions ---- */

/* Index 0 is the height; convolutions of one axis are along the width, with a height of 1. */
struct edit_window {
    int64_t stride[2], dilation[2], begin[2], end[2]; /* begin, end: padding */
};

/* With automatic padding resolved; E_UNSUPPORTED when that needs sizes that are not known. */
int edit_window(struct edit_window *out, const struct graph *g, const struct edit_layer *l, struct err *e);

/* Writes all attributes of a window, explicitly. */
int edit_set_window(struct graph *g, int node, int axes, const int64_t kernel[2], const struct edit_window *w,
                    struct err *e);

/* ---- adding ---- */

/* Names are "<stem>_<part>", made unique. E_TOO_LARGE beyond MORPH_MAX_NODES. */
int edit_add_value(int *out, struct graph *g, const char *stem, const char *part, struct err *e);
int edit_add_constant_take(int *out, struct graph *g, const char *stem, const char *part, struct array *a,
                           struct err *e);
int edit_add_node(int *out, struct graph *g, const char *op, const char *stem, const char *part, const int *inputs,
                  int n_inputs, int output, struct err *e);

/* A constant of float32 with the same number everywhere. */
int edit_add_filled(int *out, struct graph *g, const char *stem, const char *part, const struct shape *shape,
                    double number, struct err *e);

/* E_TOO_LARGE when the network with so many weights more takes more than m->memory, or than a file can
 * hold: to be asked before they are made. */
int edit_afford(struct morphing *m, double weights, struct err *e);

/* E_TOO_LARGE when what a solve holds for each of so many groups, beside the weights, is more than m->memory. */
int edit_afford_groups(const struct morphing *m, int64_t groups, size_t each, struct err *e);

/* A number without axes that is part of a formula and never trained. */
int edit_add_literal(int *out, struct graph *g, const char *stem, const char *part, double number, struct err *e);

/* A node of the operator, attributes and further inputs of another. */
int edit_add_like(int *out, struct graph *g, int node, const char *stem, const char *part, int input, int output,
                  struct err *e);

/* Room behind a value: the node that makes it makes *before instead, and the value waits for a node that makes it. The
 * stem gives *before its name. */
int edit_split_value(int *before, struct graph *g, int value, const char *stem, const char *part, struct err *e);

/* [C,1,1], as many ones as there are spatial axes behind the channels: what broadcasts one number per channel. */
struct shape edit_channel_shape(int64_t channels, int axes);

/* Spatial axes of a value [N,C,...]: rank - 2; -1 when its rank is not known or below 2. */
int edit_axes(const struct graph *g, int value);

/* ---- numbers of channels ---- */

struct channel_group;
struct channel_list;

/* The name of the layer that makes a group's channels, for reports; "" when none does. */
const char *edit_maker(const struct graph *g, const struct channel_group *group);

/* How many channels a step asks of a group, in multiples that grouped convolutions need. */
int64_t edit_width(const struct channel_group *group, const struct morph_step *s);

/* The channels that a layer makes and may change, for a step with `to` or `factor`. The reason otherwise. */
int edit_channels(struct channel_list *out, struct morphing *m, int node, const struct morph_step *s, struct err *e);

#endif

/* channel_finder.h - groups while they are being found: a union-find whose members can also be split.
 * Private to channels.c and channel_rules.c. */
#ifndef ENGINE_SURGERY_CHANNEL_FINDER_H
#define ENGINE_SURGERY_CHANNEL_FINDER_H

#include "engine/surgery/channels.h"

/* A set of channels: merged into another unit, split into two, or standing for itself. */
struct unit {
    int parent;      /* itself unless merged */
    int left, right; /* the parts of a split one, else -1 */
    int64_t size;
    struct channel_group facts;
};

/* A dimension of a constant, and who goes along it. */
struct claim {
    int axis;     /* + 1, or 0 */
    int count;    /* inputs of nodes that claimed it */
    int stranger; /* + 1: the first node that reads the constant without a claim, or CHANNELS_OUTPUT; 0: none so far */
};

struct finder {
    const struct graph *graph;
    struct unit *units;
    int n_units, units_room;
    struct channel_segment *segments; /* a pool that lists point into; .group is a unit here */
    int n_segments, segments_room;
    struct channel_list *values;
    struct channel_axis *axes;
    int n_axes, axes_room;
    struct claim *claims; /* per value and dimension, 0 or 1 */
    int *reads;           /* per value: inputs of nodes that it is */
};

/* A new list of one new unit; none when the size is not known, as that of the batch. fixed_by: CHANNELS_FREE, or why not;
 * maker: node or -1. A unit of no channels is fixed by its maker: there is nothing to copy. */
int finder_new_list(struct channel_list *out, struct finder *f, int64_t size, int fixed_by, int maker, struct err *e);

/* A list with the segments of `list`, each `times` wider (or, with `divide`, narrower: *fits says whether
 * that works out). */
int finder_scale_list(struct channel_list *out, bool *fits, struct finder *f, struct channel_list list, int64_t times,
                      bool divide, struct err *e);

/* Appends the lists. */
int finder_join_lists(struct channel_list *out, struct finder *f, const struct channel_list *lists, int n,
                      struct err *e);

/* Makes the two lists, of equally many elements, one; units are split where their borders differ. Lists
 * that cannot be matched are fixed by `node`. */
int finder_tie(struct finder *f, struct channel_list a, struct channel_list b, int node, struct err *e);

/* Every unit of the list must keep its size because of `node`. */
void finder_fix(struct finder *f, struct channel_list list, int node);

/* Sizes of the list's units must be multiples of n; more than one segment cannot promise that, and is fixed. */
void finder_need_multiple(struct finder *f, struct channel_list list, int64_t n, int node);

/* Says that dimension `dim` (0 or 1) of a constant goes along the list. A second claim ties the two. A list of another
 * length is fixed instead: an axis always has the elements of its list. */
int finder_claim(struct finder *f, int value, int dim, enum channel_role role, int64_t parts, struct channel_list list,
                 int node, struct err *e);

/* The rule of each operator: sets f->values of the node's outputs. */
int channel_rule(struct finder *f, int node, struct err *e);

#endif

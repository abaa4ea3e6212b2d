/* channels.h - which channels of a network belong together, and rebuilding it with other numbers of them.
 *
 * Every activation has a channel axis (dimension 1). It is a list of segments, each the channels of
 * one group, in order; with `inner` > 1 every channel stands for so many consecutive elements, as after
 * flattening [C,H,W] to [C*H*W]. Convolutions and dense layers make a group of their own; element by
 * element operators, residual additions above all, tie what meets in them into one group; concatenation
 * appends lists. Axes of constants (weights, biases, statistics) refer to the same groups, so that a
 * decision about a group (scale, select, duplicate) is a decision about every tensor it touches.
 * Groups that must keep their size - the network's inputs and outputs, and whatever meets an
 * operator that no rule describes - say which node forbids it. */
#ifndef ENGINE_SURGERY_CHANNELS_H
#define ENGINE_SURGERY_CHANNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/nn/graph.h"

enum { CHANNELS_FREE = -1, CHANNELS_INPUT = -2, CHANNELS_OUTPUT = -3 }; /* of channel_group.fixed_by */

struct channel_group {
    int64_t size;
    int64_t multiple; /* other sizes must be multiples of it (grouped convolutions) */
    int fixed_by;     /* node that needs the size as it is, or one of the above */
    int maker;        /* first node whose weights make these channels, -1: a graph input or a constant */
    int64_t first;    /* the number of its first channel when those of all groups are counted, one after another */
};

struct channel_segment {
    int group;
    int64_t inner;
};

/* Segments [first, first + n) of channels.segments; n 0: no channel axis is known. */
struct channel_list {
    int first, n;
};

/* What a constant does along an axis. */
enum channel_role {
    CHANNELS_MADE, /* weights, the axis of what comes out */
    CHANNELS_READ, /* weights, the axis that is summed over: duplicates must share the weight */
    CHANNELS_EACH  /* one value per channel: bias, scale, statistics, depthwise kernels */
};

/* Dimension `dim` of constant `value`. In a grouped convolution the axis holds 1/parts of the list. */
struct channel_axis {
    int value, dim, node; /* node: the first that uses it so */
    enum channel_role role;
    int64_t parts;
    struct channel_list list;
};

/* Items of each group: items[first[group]], n[group] of them, rising. */
struct channel_index {
    int *first, *n, *items;
};

struct channels {
    struct channel_group *groups;
    int n_groups;
    struct channel_segment *segments;
    struct channel_list *values; /* per value of the graph: its dimension 1 */
    struct channel_axis *axes;
    int n_axes, n_values;
    int *claims;                             /* private: per value and dimension (0 or 1) its axis + 1, or 0 */
    struct channel_index axes_of, values_of; /* the axes and the values that go along a group */
};

/* Finds the groups of a finished graph. */
int channels_find(struct channels **out, const struct graph *g, struct err *e);
void channels_free(struct channels *c);

/* The axis that is dimension 0 or 1 of a constant; NULL: none. */
const struct channel_axis *channels_axis_at(const struct channels *c, int value, int dim);

/* The first axis of a constant that has the role; NULL: none. */
const struct channel_axis *channels_axis(const struct channels *c, int value, enum channel_role role);

/* The axis along which the node's weights read channels; NULL: none. */
const struct channel_axis *channels_read_by(const struct channels *c, const struct graph *g, int node);

/* Axis number i of those that go along a group, NULL behind the last one. */
const struct channel_axis *channels_along(const struct channels *c, int group, int i);

/* The channels that a layer's weights make; none when the node makes none of its own. */
struct channel_list channels_made_by(const struct channels *c, const struct graph *g, int node);

/* Elements along a list. */
int64_t channels_count(const struct channels *c, struct channel_list list);

bool channels_has(const struct channels *c, struct channel_list list, int group);

/* Visits what belongs to a group along an axis of a constant: every element, with its channel. */
typedef void channels_visitor(void *context, size_t element, int64_t channel);
void channels_visit(const struct channels *c, const struct graph *g, const struct channel_axis *axis, int group,
                    channels_visitor *visit, void *context);

/* The new channels of one group. Channel j is a copy of old channel from[j]; where from[j] is -1
 * it has zeros everywhere. Weights that read it are multiplied by share[j]: shares of the copies of
 * one channel that add up to 1 leave the function as it was. The first copy gets what the others leave, so an only one
 * keeps its weights; a share of more than 1 then says of how many channels it has taken the place. */
struct channel_map {
    int64_t size;
    const int32_t *from; /* [size]; NULL: j -> j, zeros beyond the old size */
    const double *share; /* [size]; NULL: 1 */
};

/* A copy of the graph with other channels, and with what an optimizer keeps of the parameters (value.memory, value.share):
 * maps[group], size 0 = leave the group alone. Rewrites constants,
 * the group count of depthwise convolutions and the target of reshapes; names stay. E_INVALID when
 * a fixed group is to change; E_UNSUPPORTED names the node that stands in the way. */
int channels_resize(struct graph **out, const struct channels *c, const struct graph *g, const struct channel_map *maps,
                    struct err *e);

/* Elements of all constants after channels_resize with these maps; a double, since it may be absurd. */
double channels_elements(const struct channels *c, const struct graph *g, const struct channel_map *maps);

/* Why a group is fixed, for messages: "the network's output", "node 'x' (Transpose)". */
void channels_reason(char *out, size_t room, const struct graph *g, const struct channel_group *group);

#endif

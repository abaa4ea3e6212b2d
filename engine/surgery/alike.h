/* alike.h - channels of a group that carry the same number as another one, or a fixed positive multiple of it, whatever the
 * network's input: everything that makes them and everything that is done to them is alike. */
#ifndef ENGINE_SURGERY_ALIKE_H
#define ENGINE_SURGERY_ALIKE_H

#include <stdint.h>

#include "engine/surgery/channels.h"
#include "engine/surgery/edit.h"

struct alike {
    int32_t *like; /* [size]: the first channel that this one is a multiple of; itself when there is none before it */
    double *ratio; /* [size]: channel = ratio * like; 1 for equal ones */
    int64_t size;
    int64_t n; /* channels that are not their own */
};

/* Multiples are found where nothing between the layers that make the channels and those that read them does more to a
 * positive multiple than to multiply the result (Relu, pools; not Tanh, not a normalisation). */
int alike_find(struct alike *out, const struct channels *c, const struct graph *g, const struct uses *u, int group,
               struct err *e);
void alike_fini(struct alike *a);

/* Adds to the weights that read channel keep[j] those that read channel j, times ratio[j], for every j of the group
 * that has keep[j] != j; those of j become zero. keep[j] is in j's part where grouped convolutions read the group. Weights
 * become float64; what an optimizer keeps of them stays where it is.
 *
 * share[j], for channels that stay: all that is read of it now, in parts of what was read before, as the closest multiple.
 * Its gradient is so many times what it was; see struct channel_map. */
int alike_join(double *share, struct graph *g, const struct channels *c, int group, const int32_t *keep,
               const double *ratio, struct err *e);

/* Whether no weight reads the channel: all that could are zero. unread[size]. */
int alike_unread(bool *unread, const struct channels *c, const struct graph *g, int group, struct err *e);

/* Which channels of all groups nothing that the network gives out depends on: those that nobody reads, and those that
 * only such channels read. *dead is a table with those of each group behind those of the groups before; free it with
 * mem_free. */
int alike_dead(bool **dead, const struct channels *c, const struct graph *g, struct err *e);

#endif

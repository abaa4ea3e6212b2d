/* origin.h - the parameter W in whose place others have come, and the one of them, C, that carries its training on.
 *
 * Surgery that makes several layers of one leaves all but C standing still at first, see optimizer.h; what they compute
 * together is then linear in C, L(C) + the rest, and stands for W. With a P for which L(P dW) = dW, any change of W is one
 * of C, dC = P dW; and since the gradient of C is that of W through the transpose of L, P^T of it is the gradient of W. So
 * W is trained on with all that the optimizer keeps of it, under any rule, and C follows.
 *
 * P works along dimensions 1 and 0, one after the other: map[d] is [groups][from][to], one matrix for each part of
 * dimension 0; from and to are channels, or channels times taps when it changes kernels. No map: nothing changes.
 *
 * Surgery that makes one layer of two leaves a merger (merger.h) instead: then C follows both. What an origin or a factor
 * came from is an origin again. */
#ifndef ENGINE_NN_ORIGIN_H
#define ENGINE_NN_ORIGIN_H

#include "engine/kernels/real.h"
#include "engine/nn/graph.h"
#include "engine/nn/merger.h"

#define ORIGIN_MAP_MOST ((size_t)1 << 24) /* elements of a map; beyond, C is a new parameter like the others */

/* Parts of an origin: W, and what value.memory and value.share would be of it. */
enum {
    ORIGIN_WEIGHTS,
    ORIGIN_MEMORY,
    ORIGIN_SHARE = ORIGIN_MEMORY + VALUE_MEMORIES,
    ORIGIN_MAP = ORIGIN_SHARE + 2,
    ORIGIN_PARTS = ORIGIN_MAP + 2
};
struct origin {
    struct array *part[ORIGIN_PARTS]; /* owned; all but the weights may be NULL */
    struct merger *merger;            /* owned; with it there are no parts */
};

void origin_free(struct origin *o);
int origin_clone(struct origin **out, const struct origin *o, struct err *e);

/* Whether all parts of what a parameter came from fit together: E_INVALID names it when not. */
int origin_check(struct origin *o, const struct shape *carrier, const char *name, struct err *e);

/* Whether a map of that size may be made. */
bool origin_map_fits(int64_t groups, int64_t from, int64_t to);

/* Takes from a parameter whose numbers are about to change its origin, or makes itself one with what the optimizer keeps
 * of it. NULL when nothing is kept. Free *out after a failure too. */
int origin_begin(struct origin **out, struct graph *g, int value, struct err *e);

/* Makes it the origin of `value`, by way of one more map along a dimension (NULL: none). Takes both, on failure too. Maps
 * that do not fit together, or a map for a merger, are no failure: then the value has no origin. */
int origin_end(struct graph *g, int value, struct origin *o, int dim, struct array *map, struct err *e);

/* The carrier's channels, scaled: outputs, or inputs counted over all groups. */
struct scaling {
    const double *by; /* [channels] */
    int64_t channels, groups;
    bool outputs;
    bool columns; /* the carrier is [in][out] */
};

/* For a carrier whose channels were scaled. E_INVALID: it cannot follow any more, and is only good to be freed. */
int origin_scale(struct origin *o, const struct shape *carrier, const struct scaling *s, struct err *e);

/* An array of reals in the place of another; NULL stays. */
int origin_reals(struct array **a, struct err *e);

/* Whether a map leads from so many channels to so many, every tap by itself. */
bool map_keeps_taps(const struct array *map, int64_t from, int64_t to);

/* P, ready to be used. */
struct frame {
    int64_t from[3], between[3], to[3]; /* of W, after the first map, of C: dimensions 0 and 1, taps */
    const struct array *map[2];         /* of reals; borrowed */
};

/* Of an origin without a merger; `carrier`: the shape of C. E_INVALID when its parts do not fit together. Makes the maps
 * arrays of reals. */
int frame_init(struct frame *f, struct origin *o, const struct shape *carrier, const char *name, struct err *e);
size_t frame_scratch(const struct frame *f); /* reals */

/* c += P w;  w = P^T c */
void frame_push(real *c, const real *w, const struct frame *f, real *scratch);
void frame_pull(real *w, const real *c, const struct frame *f, real *scratch);

#endif

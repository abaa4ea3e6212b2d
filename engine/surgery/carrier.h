/* carrier.h - of several convolutions that take the place of one, the one that carries its training on, see
 * engine/nn/origin.h. */
#ifndef ENGINE_SURGERY_CARRIER_H
#define ENGINE_SURGERY_CARRIER_H

#include "engine/nn/origin.h"
#include "engine/surgery/module.h"

struct carrier {
    int edge;          /* of the module; -1: none of them can */
    int dim;           /* of its weights [out][in][taps], along which the map leads */
    struct array *map; /* owned; NULL: from the source to the sink, with the parent's kernel */
};

/* An edge into the sink or out of the source: what stands before it or behind it has to be such that it reaches all filters
 * that the parent could be, and its smallest change that does is the map. `kernel` is the parent's, the filters are those
 * of all groups. */
int carrier_find(struct carrier *out, const struct module *m, const struct module_filters *filters, int groups,
                 const int kernel[2], struct err *e);

#endif

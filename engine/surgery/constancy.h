/* constancy.h - channels that carry the same number in every pixel, whatever the network's input. */
#ifndef ENGINE_SURGERY_CONSTANCY_H
#define ENGINE_SURGERY_CONSTANCY_H

#include "engine/nn/graph.h"
#include "engine/surgery/morph.h"

struct constancy {
    double **values; /* per value of the graph: one number per channel (dimension 1), NaN where it is none; NULL: none
                      * known */
    int n_values;
};

/* Follows constants through the operators that it knows; what goes through another one counts as unknown. */
int constancy_find(struct constancy *out, const struct graph *g, struct err *e);
void constancy_fini(struct constancy *c);

/* Of the graph as it is; borrowed until the next change. */
int morphing_constancy(const struct constancy **out, struct morphing *m, struct err *e);
void constancy_free(struct constancy *c);

#endif

/* lowrank.h - a filter as a chain of smaller ones, by singular values.
 *
 * Each form turns the filter into a matrix and keeps its `rank` largest singular values, or, given 0, all that are not
 * rounding errors: then the chain is exact. The root of each value goes into both factors. The chain's error is known
 * from the values that were dropped. Windows and bias: the forms put the padding of an axis on the layer that has the
 * taps of that axis, the bias on the last layer; so borders are as exact as the interior.
 *
 * Whether a chain is smaller than what it replaces is the caller's to see: lowrank_weights. */
#ifndef ENGINE_SURGERY_LOWRANK_H
#define ENGINE_SURGERY_LOWRANK_H

#include <stddef.h>

#include "base/error.h"
#include "engine/surgery/filter.h"

enum { LOWRANK_LAYERS = 3 };

struct lowrank {
    int n_layers;
    struct filter layers[LOWRANK_LAYERS]; /* from the input to the output */
    double norm;                          /* of what was factored: |W|, or |W L| with data */
    double error;                         /* |W - W_r|, or |(W - W_r) L|, as computed from the result */
    double bound;   /* from the singular values: equal to error but for Tucker, where it is above */
    double next;    /* the largest singular value dropped, 0 when none: |W - W_r| as an operator */
    int rank;       /* values kept; of a Tucker form those of the outputs */
    double *values; /* singular values, falling; of a Tucker form those of the outputs */
    int n_values;
};

/* h by w with `rank` outputs, then 1 by 1. Dense layers too. Stride, padding and dilation on the first. */
int lowrank_channel(struct lowrank *out, const struct filter *f, int rank, struct err *e);

/* h by 1, then 1 by w: stride, padding and dilation of each axis on the layer with its taps. */
int lowrank_spatial(struct lowrank *out, const struct filter *f, int rank, struct err *e);

/* 1 by 1, h by w between rank_in and rank_out channels, 1 by 1 (Tucker-2, by higher-order singular values). Stride,
 * padding and dilation on the second. */
int lowrank_tucker(struct lowrank *out, const struct filter *f, int rank_in, int rank_out, struct err *e);

/* lowrank_channel for the outputs on data rather than for the weights: moments[n][n], n = in * h * w, is the sum or mean
 * of x x^T over unfolded inputs x. Directions that do not occur in the data are dropped first. */
int lowrank_data(struct lowrank *out, const struct filter *f, const double *moments, int rank, struct err *e);

/* The least number of values after which the rest has at most `share` of the norm. */
int lowrank_choose(const struct lowrank *l, double share);

size_t lowrank_weights(const struct lowrank *l);

/* The chain as one filter. */
int lowrank_compose(struct filter *out, const struct lowrank *l, struct err *e);

void lowrank_fini(struct lowrank *l);

#endif

/* refit.h - what a consumer's weights have to become when some of its inputs go, from statistics of these inputs.
 *
 * Inputs are columns of the weights: channels of a dense layer, channels times taps of a convolution. */
#ifndef ENGINE_SURGERY_REFIT_H
#define ENGINE_SURGERY_REFIT_H

#include <stdbool.h>

#include "base/error.h"

/* Sums over the samples h of a calibration set (for convolutions: over unfolded patches). */
struct refit_data {
    int n;              /* inputs */
    const double *gram; /* [n][n]: sum of h h^T */
    const double *sum;  /* [n]: sum of h */
    double samples;
};

struct refit_options {
    double ridge; /* in units of the mean of the kept diagonal; negative: REFIT_RIDGE */
    bool through; /* through the origin: weights first, the mean's rest into the bias; else weights and bias together */
};
#define REFIT_RIDGE 1e-6

/* weights[out][n_kept] and bias[out] for the inputs kept[0..n_kept), rising, that come closest to the outputs of
 * old_weights[out][n] and old_bias[out] (NULL: 0) on the data. *error: what remains, in units of the outputs' root mean
 * square about the bias; computed from the statistics, so good to about 1e-8. E_UNSUPPORTED when the kept inputs depend
 * on each other and the ridge is too small. */
int refit_weights(double *weights, double *bias, double *error, const struct refit_data *data,
                  const struct refit_options *options, const double *old_weights, const double *old_bias, int out,
                  const int *kept, int n_kept, struct err *e);

#endif

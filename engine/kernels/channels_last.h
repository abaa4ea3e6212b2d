/* channels_last.h - loops over rows of channels, [rows][channels], with numbers per channel: normalisation forward and
 * back. Every loop reads its data once. */
#ifndef ENGINE_KERNELS_CHANNELS_LAST_H
#define ENGINE_KERNELS_CHANNELS_LAST_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/kernels/real.h"

struct rows_of_channels {
    size_t rows, channels;
};

/* mean[k] and squares[k], the sum of squared distances from it (Chan et al. 1979, over blocks of rows). */
void channels_moments(struct rows_of_channels s, const real *x, real *mean, real *squares);

/* y = x * gain + offset + residual (NULL: none), then max(0, y) when `relu`. */
void channels_scale(struct rows_of_channels s, const real *x, const real *residual, real *y, const real *gain,
                    const real *offset, bool relu);

/* Where the gradient dy of a result goes, and what is summed on the way. */
struct channels_gradient {
    const real *x, *mean;
    real *dy;       /* zeroed where y is not above 0, when y is there */
    const real *y;  /* NULL: no Relu behind */
    real *residual; /* NULL, or gets dy too: added when `add` */
    bool add;
};

/* sum[k] = sum of dy, product[k] = sum of dy * (x - mean). */
void channels_sums(struct rows_of_channels s, const struct channels_gradient *g, real *sum, real *product);

/* dx = dy * a + x * b + d, added to it when `add`. */
void channels_combine(struct rows_of_channels s, const real *dy, const real *x, real *dx, const real *a, const real *b,
                      const real *d, bool add);

#endif

/* loops.h - vector loops over `n` reals that several operators share. */
#ifndef ENGINE_KERNELS_LOOPS_H
#define ENGINE_KERNELS_LOOPS_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/kernels/real.h"

/* to[i] += from[i] */
void loop_add(real *to, const real *from, size_t n);
/* to[i] = from[i], or to[i] += from[i] when `add` */
void loop_give(real *to, const real *from, size_t n, bool add);
/* dy[i] = y[i] > 0 ? dy[i] : 0 */
void loop_relu_mask(real *dy, const real *y, size_t n);
/* Each of `rows` rows of n: y += bias (NULL: none), then max(0, y) when `relu`. */
void loop_bias_relu(real *y, const real *bias, size_t rows, size_t n, bool relu);
/* sums[j] = sum over rows of x[row][j] */
void loop_column_sums(real *sums, const real *x, size_t rows, size_t n);

#endif

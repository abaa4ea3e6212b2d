/* gemm.h - products of a few rows by a matrix whose rows lie along the sum: dense layers of one sample or a small
 * batch, for which a library would spend its time on turning the matrix over. */
#ifndef ENGINE_KERNELS_GEMM_H
#define ENGINE_KERNELS_GEMM_H

#include <stdbool.h>

#include "engine/kernels/real.h"

/* c[m][n] = a[m][k] . b[n][k]^T, added to c when `add`. lda, ldb, ldc: from row to row. The order of every sum depends
 * on the sizes alone. */
void gemm_rows(int m, int n, int k, const real *a, int lda, const real *b, int ldb, real *c, int ldc, bool add);

#endif

/* blas.h - dense matrix products on row-major matrices, single-threaded, in `real`. */
#ifndef ENGINE_KERNELS_BLAS_H
#define ENGINE_KERNELS_BLAS_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/kernels/real.h"

/* To be called once by every thread before it uses the libraries behind the kernels: tells them
 * to stay on this thread. */
void blas_enter_thread(void);

/* C[m,n] = op(A)[m,k] . op(B)[k,n] + (add ? C : 0), op transposing when asked. lda, ldb, ldc are
 * the distances between rows as stored. */
void blas_gemm(bool transpose_a, bool transpose_b, int m, int n, int k, const real *a, int lda, const real *b, int ldb,
               real *c, int ldc, bool add);

/* Name and version of the library, for `retort version`. */
const char *blas_name(void);

#endif

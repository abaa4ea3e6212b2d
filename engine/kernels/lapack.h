/* lapack.h - linear algebra in double: least squares, singular values, eigenvalues, Cholesky.
 *
 * Matrices are row-major without gaps. Where there are several right-hand sides, each is a row, and so is each solution.
 * Everything stays on the calling thread, and the same input gives the same bytes. Numbers that are not finite are
 * E_INVALID (LAPACK may never return from them), matrices of more than LAPACK_MOST elements E_TOO_LARGE. */
#ifndef ENGINE_KERNELS_LAPACK_H
#define ENGINE_KERNELS_LAPACK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define LAPACK_MOST ((size_t)1 << 28) /* elements of one matrix: 2 GiB */

/* C[m,n] = op(A)[m,k] . op(B)[k,n] + (add ? C : 0), op transposing when asked. lda, ldb, ldc: from row to row. */
void lapack_product(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, const double *a, size_t lda,
                    const double *b, size_t ldb, double *c, size_t ldc, bool add);

struct lapack_fit {
    size_t rank;     /* singular values above 1e-12 of the largest one */
    double residual; /* root of the sum of squares over all right-hand sides, computed from the solution */
};

/* x[r][n]: of all vectors that make |A x_k - b_k| smallest the shortest, for a[m][n] and every row of b[r][m]. */
int lapack_least_squares(double *x, struct lapack_fit *fit, size_t m, size_t n, size_t r, const double *a,
                         const double *b, struct err *e);

/* A = U diag(s) Vt with k = min(m, n): u[m][k], s[k] falling, vt[k][n]. */
int lapack_svd(double *u, double *s, double *vt, size_t m, size_t n, const double *a, struct err *e);

/* (A + ridge I) x_k = b_k for symmetric a[n][n] and every row of b[r][n]. E_UNSUPPORTED when the matrix is not positive
 * definite to working precision. x may be b. */
int lapack_solve_positive(double *x, size_t n, size_t r, const double *a, double ridge, const double *b, struct err *e);

/* Symmetric A = sum over k of values[k] v_k v_k^T, values rising, v_k the rows of vectors[n][n]. */
int lapack_symmetric(double *values, double *vectors, size_t n, const double *a, struct err *e);

/* Replaces a[m][n], m <= n, by orthonormal rows that span the same space (Gram-Schmidt's, so that noise gives every
 * direction alike). */
int lapack_orthonormal(double *a, size_t m, size_t n, struct err *e);

#endif

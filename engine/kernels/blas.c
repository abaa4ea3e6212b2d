/* blas.c - OpenBLAS. */
#include "engine/kernels/blas.h"

#include <cblas.h>
#if RETORT_ONEDNN
#include <omp.h>
#endif

void blas_enter_thread(void) {
    openblas_set_num_threads(1);
#if RETORT_ONEDNN
    omp_set_num_threads(1); /* oneDNN asks OpenMP how many threads to use; this is per thread */
#endif
}

const char *blas_name(void) { return openblas_get_config(); }

#define GEMM _Generic((real)0, float: cblas_sgemm, double: cblas_dgemm)

void blas_gemm(bool transpose_a, bool transpose_b, int m, int n, int k, const real *a, int lda, const real *b, int ldb,
               real *c, int ldc, bool add) {
    GEMM(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, m, n, k, 1, a,
         lda, b, ldb, add ? 1 : 0, c, ldc);
}

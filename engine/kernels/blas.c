/* blas.c - matrix products by OpenBLAS, or by oneDNN where that was measured to be faster. */
#include "engine/kernels/blas.h"

#include <cblas.h>
#include <stdint.h>

#include "engine/kernels/gemm.h"
#include "engine/kernels/vector.h"
#if RETORT_ONEDNN
#include <dnnl.h>
#include <omp.h>
#endif

void blas_enter_thread(void) {
    openblas_set_num_threads(1);
#if RETORT_ONEDNN
    omp_set_num_threads(1); /* oneDNN asks OpenMP how many threads to use; this is per thread */
#endif
}

const char *blas_name(void) {
    return openblas_get_config();
}

/* oneDNN is 1.2 to 2 times as fast on the shapes of dense layers and of attention; OpenBLAS on few columns and where
 * there is little to do. Figures: bench/NOTES.md. */
static bool try_dnnl(bool transpose_a, bool transpose_b, int m, int n, int k, const real *a, int lda, const real *b,
                     int ldb, real *c, int ldc, bool add) {
#if RETORT_ONEDNN
    if (sizeof(real) != sizeof(float) || n < 16 || (int64_t)m * n * k < 1 << 14) return false;
    return dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, 1, (const float *)(const void *)a, lda,
                      (const float *)(const void *)b, ldb, add ? 1 : 0, (float *)(void *)c, ldc) == dnnl_success;
#else
    (void)transpose_a, (void)transpose_b, (void)m, (void)n, (void)k, (void)a, (void)lda, (void)b, (void)ldb, (void)c;
    (void)ldc, (void)add;
    return false;
#endif
}

/* A few rows by a matrix that would have to be turned over: 1.4 to 4 times as fast as the libraries. */
static bool suits_rows(bool transpose_a, bool transpose_b, int m, int k) {
    enum { ROWS_MOST = 64, LENGTH_LEAST = 128 };
    return !transpose_a && transpose_b && k >= LENGTH_LEAST && m <= ROWS_MOST && vector_is_wide();
}

#define GEMM _Generic((real)0, float : cblas_sgemm, double : cblas_dgemm)

void blas_gemm(bool transpose_a, bool transpose_b, int m, int n, int k, const real *a, int lda, const real *b, int ldb,
               real *c, int ldc, bool add) {
    if (suits_rows(transpose_a, transpose_b, m, k)) {
        gemm_rows(m, n, k, a, lda, b, ldb, c, ldc, add);
        return;
    }
    if (try_dnnl(transpose_a, transpose_b, m, n, k, a, lda, b, ldb, c, ldc, add)) return;
    GEMM(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, m, n, k, 1, a,
         lda, b, ldb, add ? 1 : 0, c, ldc);
}

/* lapack.c - LAPACK as it is inside OpenBLAS, with workspaces, checks and rows for columns.
 *
 * A row-major matrix is the transpose of a column-major one. So instead of turning matrices over, the routines for the
 * transpose are used wherever there is one: an LQ factorisation is a QR factorisation of what LAPACK sees. */
#include "engine/kernels/lapack.h"

#include <cblas.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "engine/kernels/blas.h"

/* Fortran: everything by address; the lengths of texts come last. */
void dgeqrf_(const int *m, const int *n, double *a, const int *lda, double *tau, double *work, const int *lwork,
             int *info);
void dgelqf_(const int *m, const int *n, double *a, const int *lda, double *tau, double *work, const int *lwork,
             int *info);
void dormqr_(const char *side, const char *trans, const int *m, const int *n, const int *k, const double *a,
             const int *lda, const double *tau, double *c, const int *ldc, double *work, const int *lwork, int *info,
             size_t, size_t);
void dormlq_(const char *side, const char *trans, const int *m, const int *n, const int *k, const double *a,
             const int *lda, const double *tau, double *c, const int *ldc, double *work, const int *lwork, int *info,
             size_t, size_t);
void dorgqr_(const int *m, const int *n, const int *k, double *a, const int *lda, const double *tau, double *work,
             const int *lwork, int *info);
void dtrcon_(const char *norm, const char *uplo, const char *diag, const int *n, const double *a, const int *lda,
             double *rcond, double *work, int *iwork, int *info, size_t, size_t, size_t);
void dgelsd_(const int *m, const int *n, const int *nrhs, double *a, const int *lda, double *b, const int *ldb,
             double *s, const double *rcond, int *rank, double *work, const int *lwork, int *iwork, int *info);
void dgesdd_(const char *jobz, const int *m, const int *n, double *a, const int *lda, double *s, double *u,
             const int *ldu, double *vt, const int *ldvt, double *work, const int *lwork, int *iwork, int *info,
             size_t);
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info, size_t);
void dpotrs_(const char *uplo, const int *n, const int *nrhs, const double *a, const int *lda, double *b,
             const int *ldb, int *info, size_t);
void dsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w, double *work,
             const int *lwork, int *iwork, const int *liwork, int *info, size_t, size_t);

#define RANK_LEAST 1e-12 /* a singular value counts when it is above this share of the largest one */
#define SOUND_LEAST 1e-9 /* reciprocal condition from which on triangular factors are trusted with the rank */

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* ---- checks and memory ---- */

static int check_size(size_t m, size_t n, struct err *e) {
    if (!m || !n) return err_set(e, E_INVALID, "a matrix of %zu by %zu has nothing in it", m, n);
    if (m > LAPACK_MOST / n)
        return err_set(e, E_TOO_LARGE, "a matrix of %zu by %zu has more than %zu elements", m, n, LAPACK_MOST);
    return 0;
}

static int check_matrix(size_t m, size_t n, const double *a, struct err *e) {
    int status = check_size(m, n, e);
    for (size_t i = 0; !status && i < m * n; i++)
        if (!isfinite(a[i])) return err_set(e, E_INVALID, "element %zu,%zu of the matrix is not finite", i / n, i % n);
    return status;
}

/* Zeros, aligned so that no kernel has a reason to start differently from one run to the next. */
static int doubles(double **out, size_t n, struct err *e) {
    *out = mem_alloc_aligned(n * sizeof **out); /* n is at most a few times LAPACK_MOST */
    return *out ? 0 : err_memory(e, n * sizeof **out);
}

static int copied(double **out, const double *a, size_t n, struct err *e) {
    int status = doubles(out, n, e);
    if (!status) memcpy(*out, a, n * sizeof *a);
    return status;
}

struct work {
    double *data;
    int size;
};

/* The workspace that a routine asked for. */
static int work_init(struct work *w, double wanted, struct err *e) {
    if (!(wanted < INT32_MAX)) return err_set(e, E_TOO_LARGE, "the system needs a workspace of %.3g numbers", wanted);
    w->size = wanted < 1 ? 1 : (int)wanted;
    return doubles(&w->data, (size_t)w->size, e);
}

static int outcome(int info, const char *what, struct err *e) {
    if (!info) return 0;
    if (info < 0) return err_set(e, E_INTERNAL, "%s: argument %d is wrong", what, -info);
    return err_set(e, E_UNSUPPORTED, "%s did not converge (%d)", what, info);
}

static void stay_here(void) {
    if (openblas_get_num_threads() != 1) blas_enter_thread();
}

void lapack_product(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, const double *a, size_t lda,
                    const double *b, size_t ldb, double *c, size_t ldc, bool add) {
    stay_here();
    cblas_dgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, (int)m,
                (int)n, (int)k, 1, a, (int)lda, b, (int)ldb, add ? 1 : 0, c, (int)ldc);
}

/* ---- least squares ---- */

struct system {
    size_t m, n, r;
    const double *a, *b;
    double *x;
};

/* The triangle and the rotations of A: LQ when it is wide, QR when it is tall. */
static int triangulate(bool wide, int n, int m, double *a, double *tau, struct err *e) {
    double wanted;
    struct work w = {0};
    int query = -1, info;
    (wide ? dgeqrf_ : dgelqf_)(&n, &m, a, &n, tau, &wanted, &query, &info);
    int status = work_init(&w, wanted, e);
    if (!status) (wide ? dgeqrf_ : dgelqf_)(&n, &m, a, &n, tau, w.data, &w.size, &info);
    if (!status) status = outcome(info, "the triangular factorisation", e);
    mem_free_aligned(w.data);
    return status;
}

/* y[r][rows] := the rotations applied to each of its rows. */
static int rotate(bool wide, int rows, int r, int k, const double *q, int ldq, const double *tau, double *y,
                  struct err *e) {
    double wanted;
    struct work w = {0};
    int query = -1, info;
    (wide ? dormqr_ : dormlq_)("L", "N", &rows, &r, &k, q, &ldq, tau, y, &rows, &wanted, &query, &info, 1, 1);
    int status = work_init(&w, wanted, e);
    if (!status)
        (wide ? dormqr_ : dormlq_)("L", "N", &rows, &r, &k, q, &ldq, tau, y, &rows, w.data, &w.size, &info, 1, 1);
    if (!status) status = outcome(info, "applying rotations", e);
    mem_free_aligned(w.data);
    return status;
}

static int triangle_condition(double *rcond, const char *uplo, int k, const double *q, int ldq, struct err *e) {
    double *work = NULL;
    int *iwork = mem_alloc((size_t)k * sizeof *iwork), info;
    int status = iwork ? doubles(&work, 3 * (size_t)k, e) : err_memory(e, (size_t)k * sizeof *iwork);
    if (!status) dtrcon_("1", uplo, "N", &k, q, &ldq, rcond, work, iwork, &info, 1, 1, 1);
    if (!status) status = outcome(info, "the estimate of the condition", e);
    mem_free(iwork);
    mem_free_aligned(work);
    return status;
}

/* Solves when A has full rank beyond doubt: *done says whether. */
static int solve_full_rank(const struct system *s, bool *done, struct err *e) {
    bool wide = s->m <= s->n;
    size_t k = smaller(s->m, s->n), longer = s->m + s->n - k;
    double *q = NULL, *tau = NULL, *y = NULL, rcond = 0;
    int status = copied(&q, s->a, s->m * s->n, e);
    if (!status) status = doubles(&tau, k, e);
    if (!status) status = triangulate(wide, (int)s->n, (int)s->m, q, tau, e);
    if (!status) status = triangle_condition(&rcond, wide ? "U" : "L", (int)k, q, (int)s->n, e);
    *done = rcond > SOUND_LEAST;
    if (status || !*done) goto out;
    status = doubles(&y, s->r * longer, e);
    if (status) goto out;
    for (size_t i = 0; i < s->r; i++) memcpy(y + i * longer, s->b + i * s->m, s->m * sizeof *y);
    if (!wide) status = rotate(false, (int)longer, (int)s->r, (int)k, q, (int)s->n, tau, y, e);
    cblas_dtrsm(CblasColMajor, CblasLeft, wide ? CblasUpper : CblasLower, CblasTrans, CblasNonUnit, (int)k, (int)s->r,
                1, q, (int)s->n, y, (int)longer);
    if (wide && !status) status = rotate(true, (int)longer, (int)s->r, (int)k, q, (int)s->n, tau, y, e);
    for (size_t i = 0; i < s->r; i++) memcpy(s->x + i * s->n, y + i * longer, s->n * sizeof *y);
out:
    mem_free_aligned(q);
    mem_free_aligned(tau);
    mem_free_aligned(y);
    return status;
}

/* By singular values, for whatever rank A has. */
static int solve_any_rank(const struct system *s, size_t *rank, struct err *e) {
    size_t longer = s->m > s->n ? s->m : s->n;
    int m = (int)s->m, n = (int)s->n, r = (int)s->r, ldb = (int)longer, query = -1, info, found = 0, iwanted = 0;
    double *a = NULL, *y = NULL, *values = NULL, wanted = 0, least = RANK_LEAST;
    struct work w = {0};
    int *iwork = NULL, status = doubles(&a, s->m * s->n, e);
    if (!status) status = doubles(&y, s->r * longer, e);
    if (!status) status = doubles(&values, smaller(s->m, s->n), e);
    if (status) goto out;
    for (size_t i = 0; i < s->m; i++)
        for (size_t j = 0; j < s->n; j++) a[j * s->m + i] = s->a[i * s->n + j];
    for (size_t i = 0; i < s->r; i++) memcpy(y + i * longer, s->b + i * s->m, s->m * sizeof *y);
    dgelsd_(&m, &n, &r, a, &m, y, &ldb, values, &least, &found, &wanted, &query, &iwanted, &info);
    iwork = mem_alloc((size_t)(iwanted > 0 ? iwanted : 1) * sizeof *iwork);
    status = iwork ? work_init(&w, wanted, e) : err_memory(e, (size_t)iwanted * sizeof *iwork);
    if (status) goto out;
    dgelsd_(&m, &n, &r, a, &m, y, &ldb, values, &least, &found, w.data, &w.size, iwork, &info);
    status = outcome(info, "the least squares by singular values", e);
    *rank = (size_t)found;
    for (size_t i = 0; i < s->r; i++) memcpy(s->x + i * s->n, y + i * longer, s->n * sizeof *y);
out:
    mem_free(iwork);
    mem_free_aligned(a);
    mem_free_aligned(y);
    mem_free_aligned(values);
    mem_free_aligned(w.data);
    return status;
}

static int measure_residual(double *out, const struct system *s, struct err *e) {
    double *rest;
    int status = copied(&rest, s->b, s->r * s->m, e);
    if (status) return status;
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)s->r, (int)s->m, (int)s->n, -1, s->x, (int)s->n, s->a,
                (int)s->n, 1, rest, (int)s->m);
    *out = cblas_dnrm2((int)(s->r * s->m), rest, 1);
    mem_free_aligned(rest);
    return 0;
}

int lapack_least_squares(double *x, struct lapack_fit *fit, size_t m, size_t n, size_t r, const double *a,
                         const double *b, struct err *e) {
    struct system s = {.m = m, .n = n, .r = r, .a = a, .b = b, .x = x};
    bool done = false;
    int status = check_matrix(m, n, a, e);
    if (!status) status = check_matrix(r, m, b, e);
    if (!status) status = check_size(r, n, e);
    if (status) return status;
    stay_here();
    status = solve_full_rank(&s, &done, e);
    fit->rank = smaller(m, n);
    if (!status && !done) status = solve_any_rank(&s, &fit->rank, e);
    return status ? status : measure_residual(&fit->residual, &s, e);
}

/* ---- decompositions ---- */

int lapack_svd(double *u, double *s, double *vt, size_t m, size_t n, const double *a, struct err *e) {
    int rows = (int)n, columns = (int)m, k = (int)smaller(m, n), query = -1, none = 0, info; /* it sees the transpose */
    double *copy = NULL, wanted;
    struct work w = {0};
    int *iwork = NULL, status = check_matrix(m, n, a, e);
    if (!status) status = copied(&copy, a, m * n, e);
    if (status) return status;
    stay_here();
    dgesdd_("S", &rows, &columns, copy, &rows, s, vt, &rows, u, &k, &wanted, &query, &none, &info, 1);
    iwork = mem_alloc(8 * (size_t)k * sizeof *iwork);
    status = iwork ? work_init(&w, wanted, e) : err_memory(e, 8 * (size_t)k * sizeof *iwork);
    if (!status) dgesdd_("S", &rows, &columns, copy, &rows, s, vt, &rows, u, &k, w.data, &w.size, iwork, &info, 1);
    if (!status) status = outcome(info, "the singular value decomposition", e);
    mem_free(iwork);
    mem_free_aligned(copy);
    mem_free_aligned(w.data);
    return status;
}

int lapack_solve_positive(double *x, size_t n, size_t r, const double *a, double ridge, const double *b,
                          struct err *e) {
    double *l = NULL;
    int order = (int)n, count = (int)r, info, status = check_matrix(n, n, a, e);
    if (!status) status = check_matrix(r, n, b, e);
    if (!status) status = copied(&l, a, n * n, e);
    if (status) return status;
    stay_here();
    double largest = 0;
    for (size_t i = 0; i < n; i++) {
        l[i * n + i] += ridge;
        largest = fmax(largest, l[i * n + i]);
    }
    dpotrf_("L", &order, l, &order, &info, 1);
    /* A pivot of rounding errors would be taken for a number. */
    for (size_t i = 0; !info && i < n; i++)
        if (l[i * n + i] * l[i * n + i] <= (double)n * DBL_EPSILON * largest) info = (int)i + 1;
    if (info > 0)
        status = err_set(e, E_UNSUPPORTED,
                         "the matrix of %zu by %zu is singular at row %d with a ridge of %.3g: use a "
                         "larger one",
                         n, n, info, ridge);
    else
        status = outcome(info, "the Cholesky factorisation", e);
    if (!status && x != b) memcpy(x, b, r * n * sizeof *x);
    if (!status) dpotrs_("L", &order, &count, l, &order, x, &order, &info, 1);
    mem_free_aligned(l);
    return status;
}

int lapack_symmetric(double *values, double *vectors, size_t n, const double *a, struct err *e) {
    int order = (int)n, query = -1, isize = 0, info, *iwork = NULL;
    double wanted;
    struct work w = {0};
    int status = check_matrix(n, n, a, e);
    if (status) return status;
    stay_here();
    memcpy(vectors, a, n * n * sizeof *a);
    dsyevd_("V", "L", &order, vectors, &order, values, &wanted, &query, &isize, &query, &info, 1, 1);
    iwork = mem_alloc((size_t)isize * sizeof *iwork);
    status = iwork ? work_init(&w, wanted, e) : err_memory(e, (size_t)isize * sizeof *iwork);
    if (!status) dsyevd_("V", "L", &order, vectors, &order, values, w.data, &w.size, iwork, &isize, &info, 1, 1);
    if (!status) status = outcome(info, "the eigenvalue decomposition", e);
    mem_free(iwork);
    mem_free_aligned(w.data);
    return status;
}

int lapack_orthonormal(double *a, size_t m, size_t n, struct err *e) {
    int rows = (int)n, columns = (int)m, query = -1, info;
    double *tau = NULL, *signs = NULL, wanted;
    struct work w = {0};
    int status = check_matrix(m, n, a, e);
    if (!status && m > n) status = err_set(e, E_INVALID, "%zu rows of %zu numbers cannot be orthonormal", m, n);
    if (!status) status = doubles(&tau, m, e);
    if (!status) status = doubles(&signs, m, e);
    if (status) goto out;
    stay_here();
    status = triangulate(true, rows, columns, a, tau, e);
    if (status) goto out;
    for (size_t i = 0; i < m; i++) signs[i] = a[i * n + i] < 0 ? -1 : 1;
    dorgqr_(&rows, &columns, &columns, a, &rows, tau, &wanted, &query, &info);
    status = work_init(&w, wanted, e);
    if (!status) dorgqr_(&rows, &columns, &columns, a, &rows, tau, w.data, &w.size, &info);
    if (!status) status = outcome(info, "the orthonormal factor", e);
    for (size_t i = 0; !status && i < m; i++)
        if (signs[i] < 0) cblas_dscal(rows, -1, a + i * n, 1);
out:
    mem_free_aligned(tau);
    mem_free_aligned(signs);
    mem_free_aligned(w.data);
    return status;
}

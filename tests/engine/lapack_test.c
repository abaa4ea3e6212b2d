/* Least squares, decompositions and Cholesky, against their definitions. */
#include "engine/kernels/lapack.h"

#include "base/random.h"
#include "tests/base/starve.h"

static double *noise(size_t n, uint64_t seed) {
    struct random r = random_seed(seed);
    double *a = mem_alloc_aligned(n * sizeof *a);
    for (size_t i = 0; i < n; i++) a[i] = random_normal(&r);
    return a;
}

/* The largest |A B - C|, A[m][k], B[k][n], by plain loops. */
static double product_error(const double *a, const double *b, const double *c, size_t m, size_t n, size_t k) {
    double worst = 0;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t l = 0; l < k; l++) sum += a[i * k + l] * b[l * n + j];
            worst = fmax(worst, fabs(sum - c[i * n + j]));
        }
    return worst;
}

TEST(products_transpose) {
    enum { M = 3, N = 4, K = 5 };
    double *a = noise(M * K, 1), *b = noise(K * N, 2), *at = noise(M * K, 0), *bt = noise(K * N, 0), c[M * N], d[M * N];
    for (size_t i = 0; i < M; i++)
        for (size_t k = 0; k < K; k++) at[k * M + i] = a[i * K + k];
    for (size_t k = 0; k < K; k++)
        for (size_t j = 0; j < N; j++) bt[j * K + k] = b[k * N + j];
    lapack_product(false, false, M, N, K, a, K, b, N, c, N, false);
    ok(product_error(a, b, c, M, N, K) < 1e-14, "plain");
    lapack_product(true, true, M, N, K, at, M, bt, K, d, N, false);
    lapack_product(false, true, M, N, K, a, K, bt, K, d, N, true);
    for (size_t i = 0; i < (size_t)M * N; i++) ok(fabs(d[i] - 2 * c[i]) < 1e-14, "%zu: %g", i, d[i] - 2 * c[i]);
    mem_free_aligned(a), mem_free_aligned(b), mem_free_aligned(at), mem_free_aligned(bt);
}

/* x minimises |A x - b| when A^T (A x - b) = 0; the shortest when it is in the span of A's rows. */
static void check_fit(size_t m, size_t n, size_t rank) {
    enum { R = 3 };
    double *a = noise(m * n, 3), *b = noise(R * m, 4), *x = noise(R * n, 0);
    if (rank < (m < n ? m : n)) { /* the last rows are sums of the first */
        double *left = noise(m * rank, 5), *right = noise(rank * n, 6);
        lapack_product(false, false, m, n, rank, left, rank, right, n, a, n, false);
        mem_free_aligned(left), mem_free_aligned(right);
    }
    struct lapack_fit fit;
    struct err e = {0};
    need(lapack_least_squares(x, &fit, m, n, R, a, b, &e) == 0, "%s", e.text);
    ok(fit.rank == rank, "%zu by %zu: rank %zu", m, n, fit.rank);
    double squares = 0, worst = 0;
    for (size_t r = 0; r < R; r++) {
        double *rest = noise(m, 0);
        for (size_t i = 0; i < m; i++) {
            rest[i] = -b[r * m + i];
            for (size_t j = 0; j < n; j++) rest[i] += a[i * n + j] * x[r * n + j];
            squares += rest[i] * rest[i];
        }
        for (size_t j = 0; j < n; j++) {
            double slope = 0;
            for (size_t i = 0; i < m; i++) slope += a[i * n + j] * rest[i];
            worst = fmax(worst, fabs(slope));
        }
        mem_free_aligned(rest);
    }
    ok(worst < 1e-10, "%zu by %zu: slope %g", m, n, worst);
    ok(fabs(sqrt(squares) - fit.residual) < 1e-12, "%zu by %zu: residual %g, %g", m, n, fit.residual, sqrt(squares));
    ok(rank < m || fit.residual < 1e-12, "%zu by %zu: solvable, residual %g", m, n, fit.residual);
    /* With another vector of the same image, x - z is orthogonal to x. */
    double *z = noise(n, 7), *image = noise(m, 0), *shortest = noise(n, 0), dot = 0;
    lapack_product(false, false, m, 1, n, a, n, z, 1, image, 1, false);
    need(lapack_least_squares(shortest, &fit, m, n, 1, a, image, &e) == 0, "%s", e.text);
    for (size_t j = 0; j < n; j++) dot += shortest[j] * (z[j] - shortest[j]);
    ok(fabs(dot) < 1e-10, "%zu by %zu: not the shortest, %g", m, n, dot);
    mem_free_aligned(a), mem_free_aligned(b), mem_free_aligned(x);
    mem_free_aligned(z), mem_free_aligned(image), mem_free_aligned(shortest);
}

TEST(least_squares_wide_tall_and_deficient) {
    check_fit(6, 9, 6);
    check_fit(9, 6, 6);
    check_fit(7, 7, 7);
    check_fit(1, 5, 1);
    check_fit(5, 1, 1);
    check_fit(6, 9, 4);
    check_fit(9, 6, 4);
    check_fit(70, 80, 33);
}

TEST(singular_values) {
    static const size_t shapes[][2] = {{5, 8}, {8, 5}, {6, 6}, {1, 4}, {40, 3}};
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        size_t m = shapes[k][0], n = shapes[k][1], r = m < n ? m : n;
        double *a = noise(m * n, 8), *u = noise(m * r, 0), *s = noise(r, 0), *vt = noise(r * n, 0);
        struct err e = {0};
        need(lapack_svd(u, s, vt, m, n, a, &e) == 0, "%s", e.text);
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < r; j++) u[i * r + j] *= s[j];
        ok(product_error(u, vt, a, m, n, r) < 1e-13, "%zu by %zu", m, n);
        for (size_t j = 1; j < r; j++) ok(s[j - 1] >= s[j] && s[j] >= 0, "order");
        mem_free_aligned(a), mem_free_aligned(u), mem_free_aligned(s), mem_free_aligned(vt);
    }
}

TEST(positive_systems_and_ridge) {
    enum { N = 6, R = 2 };
    double *h = noise(N * 9, 9), a[N * N], *b = noise(R * N, 10), x[R * N], singular[4] = {1, 2, 2, 4}, y[2] = {1, 1};
    struct err e = {0};
    lapack_product(false, true, N, N, 9, h, 9, h, 9, a, N, false);
    need(lapack_solve_positive(x, N, R, a, 0.5, b, &e) == 0, "%s", e.text);
    for (int i = 0; i < N; i++) a[i * N + i] += 0.5;
    ok(product_error(x, a, b, R, N, N) < 1e-12, "(A + 0.5 I) x = b");
    ok(lapack_solve_positive(y, 2, 1, singular, 0, y, &e) == E_UNSUPPORTED && strstr(e.text, "singular"), "%s", e.text);
    err_clear(&e);
    ok(lapack_solve_positive(y, 2, 1, singular, 1e-3, y, &e) == 0, "with a ridge: %s", e.text);
    mem_free_aligned(h), mem_free_aligned(b);
}

TEST(eigenvalues) {
    enum { N = 7 };
    double *h = noise(N * N, 11), a[N * N], values[N], vectors[N * N], left[N * N];
    struct err e = {0};
    for (int i = 0; i < N * N; i++) a[i] = h[i] + h[i % N * N + i / N];
    need(lapack_symmetric(values, vectors, N, a, &e) == 0, "%s", e.text);
    for (int k = 1; k < N; k++) ok(values[k - 1] <= values[k], "order");
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++) left[i * N + k] = values[k] * vectors[k * N + i];
    ok(product_error(left, vectors, a, N, N, N) < 1e-13, "sum of values times vectors");
    mem_free_aligned(h);
}

TEST(orthonormal_rows) {
    enum { M = 4, N = 7 };
    double *a = noise(M * N, 12), first = a[0], dots[M * M];
    struct err e = {0};
    need(lapack_orthonormal(a, M, N, &e) == 0, "%s", e.text);
    lapack_product(false, true, M, M, N, a, N, a, N, dots, M, false);
    for (int i = 0; i < M * M; i++) ok(fabs(dots[i] - (i / M == i % M)) < 1e-14, "%d: %g", i, dots[i]);
    ok(first * a[0] > 0, "the first row keeps its direction");
    ok(lapack_orthonormal(a, N, M, &e) == E_INVALID, "more rows than numbers in them");
    mem_free_aligned(a);
}

TEST(what_is_no_matrix_is_refused) {
    double a[4] = {1, 2, NAN, 4}, x[4], u[4], s[2], vt[4];
    struct lapack_fit fit;
    struct err e = {0};
    ok(lapack_least_squares(x, &fit, 2, 2, 1, a, a, &e) == E_INVALID && strstr(e.text, "1,0"), "%s", e.text);
    ok(lapack_svd(u, s, vt, 2, 2, a, NULL) == E_INVALID, "not a number");
    ok(lapack_symmetric(s, vt, 2, a, NULL) == E_INVALID, "not a number");
    ok(lapack_solve_positive(x, 2, 1, a, 0, a, NULL) == E_INVALID, "not a number");
    ok(lapack_svd(u, s, vt, 0, 2, a, NULL) == E_INVALID, "nothing");
    ok(lapack_svd(u, s, vt, (size_t)1 << 20, (size_t)1 << 20, a, NULL) == E_TOO_LARGE, "too large");
    ok(lapack_svd(u, s, vt, (size_t)1 << 32, (size_t)1 << 32, a, NULL) == E_TOO_LARGE, "overflow");
}

TEST(same_input_same_bytes) {
    enum { M = 90, N = 110, R = 20 };
    double *a = noise(M * N, 13), *b = noise(R * M, 14), *x = noise(R * N, 0), *again = noise(R * N, 1);
    struct lapack_fit fit;
    for (int k = 0; k < 5; k++) {
        void *between = mem_alloc(64 * (size_t)k + 8); /* so that memory lies elsewhere */
        need(lapack_least_squares(k ? again : x, &fit, M, N, R, a, b, NULL) == 0, "solves");
        ok(!k || memcmp(x, again, R * N * sizeof *x) == 0, "run %d", k);
        mem_free(between);
    }
    mem_free_aligned(a), mem_free_aligned(b), mem_free_aligned(x), mem_free_aligned(again);
}

static int everything(void) {
    static const double a[12] = {1, 2, 3, 4, 5, 6, 7, 8, 1, 0, 2, 1}, low[4] = {1, 2, 2, 4}, high[4] = {2, 1, 1, 2};
    double x[8], u[9], s[3], vt[12], q[12];
    struct lapack_fit fit;
    memcpy(q, a, sizeof q);
    int status = lapack_least_squares(x, &fit, 3, 4, 2, a, a, NULL);
    if (!status) status = lapack_least_squares(x, &fit, 4, 3, 2, a, a, NULL);
    if (!status) status = lapack_least_squares(x, &fit, 2, 2, 2, low, low, NULL);
    if (!status) status = lapack_svd(u, s, vt, 3, 4, a, NULL);
    if (!status) status = lapack_symmetric(s, u, 2, high, NULL);
    if (!status) status = lapack_solve_positive(x, 2, 1, high, 0, a, NULL);
    return status ? status : lapack_orthonormal(q, 3, 4, NULL);
}

TEST(starving) {
    starve("everything", everything);
}

TEST_MAIN

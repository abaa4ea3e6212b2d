/* lowrank.c - truncated singular value decompositions of filters. */
#include "engine/surgery/lowrank.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/kernels/lapack.h"

#define ROUNDING 1e-14 /* singular values below this share of the largest, times the order, are rounding errors */

/* U diag(s) Vt, k values; with the rank that was asked for. */
struct svd {
    size_t m, n, k, rank;
    double *u, *s, *vt;
};

static int doubles(double **out, size_t n, struct err *e) {
    *out = mem_alloc_aligned(n * sizeof **out); /* n is the size of a filter */
    return *out ? 0 : err_memory(e, n * sizeof **out);
}

static void svd_fini(struct svd *d) {
    mem_free_aligned(d->u);
    mem_free_aligned(d->s);
    mem_free_aligned(d->vt);
    *d = (struct svd){0};
}

static int svd_init(struct svd *d, const double *a, size_t m, size_t n, int rank, struct err *e) {
    *d = (struct svd){.m = m, .n = n, .k = m < n ? m : n};
    if (rank < 0 || (size_t)rank > d->k)
        return err_set(e, E_INVALID, "rank %d: a matrix of %zu by %zu has 1 to %zu", rank, m, n, d->k);
    int status = doubles(&d->u, m * d->k, e);
    if (!status) status = doubles(&d->s, d->k, e);
    if (!status) status = doubles(&d->vt, d->k * n, e);
    if (!status) status = lapack_svd(d->u, d->s, d->vt, m, n, a, e);
    if (status) {
        svd_fini(d);
        return status;
    }
    d->rank = (size_t)rank;
    double least = ROUNDING * (double)(m > n ? m : n) * d->s[0];
    while (!rank && d->rank < d->k && d->s[d->rank] > least) d->rank++;
    if (!d->rank) d->rank = 1;
    return 0;
}

static double dropped_squares(const struct svd *d) {
    double sum = 0;
    for (size_t k = d->k; k > d->rank; k--) sum += d->s[k - 1] * d->s[k - 1];
    return sum;
}

/* The values become the result's. */
static void take_values(struct lowrank *l, struct svd *d) {
    double sum = 0;
    for (size_t k = d->k; k > 0; k--) sum += d->s[k - 1] * d->s[k - 1];
    l->norm = sqrt(sum);
    l->bound = sqrt(dropped_squares(d));
    l->next = d->rank < d->k ? d->s[d->rank] : 0;
    l->rank = (int)d->rank;
    l->values = d->s;
    l->n_values = (int)d->k;
    d->s = NULL;
}

static size_t taps(const struct filter *f) {
    return (size_t)f->h * (size_t)f->w;
}

int lowrank_compose(struct filter *out, const struct lowrank *l, struct err *e) {
    int status = filter_copy(out, &l->layers[0], e);
    for (int k = 1; k < l->n_layers && !status; k++) {
        struct filter longer;
        status = filter_compose(&longer, out, &l->layers[k], e);
        filter_fini(out);
        if (!status) *out = longer;
    }
    return status;
}

/* |f - chain|, the columns multiplied by root[n][n] if there is one. */
static int measure(struct lowrank *l, const struct filter *f, const double *root, struct err *e) {
    struct filter rest, seen = {0};
    size_t n = (size_t)f->in * taps(f);
    int status = lowrank_compose(&rest, l, e);
    if (!status) status = filter_add(&rest, -1, f, e);
    if (!status && root) status = filter_init(&seen, f->out, (int)n, 1, 1, e);
    if (!status && root) lapack_product(false, false, (size_t)f->out, n, n, rest.data, n, root, n, seen.data, n, false);
    if (!status) l->error = filter_norm(root ? &seen : &rest);
    filter_fini(&rest);
    filter_fini(&seen);
    return status;
}

static void scaled_columns(double *out, const struct svd *d) {
    for (size_t i = 0; i < d->m; i++)
        for (size_t k = 0; k < d->rank; k++) out[i * d->rank + k] = d->u[i * d->k + k] * sqrt(d->s[k]);
}

static void scaled_rows(double *out, const struct svd *d) {
    for (size_t k = 0; k < d->rank; k++)
        for (size_t j = 0; j < d->n; j++) out[k * d->n + j] = sqrt(d->s[k]) * d->vt[k * d->n + j];
}

int lowrank_channel(struct lowrank *out, const struct filter *f, int rank, struct err *e) {
    struct svd d;
    *out = (struct lowrank){.n_layers = 2};
    int status = svd_init(&d, f->data, (size_t)f->out, (size_t)f->in * taps(f), rank, e);
    if (!status) status = filter_init(&out->layers[0], (int)d.rank, f->in, f->h, f->w, e);
    if (!status) status = filter_init(&out->layers[1], f->out, (int)d.rank, 1, 1, e);
    if (!status) {
        scaled_rows(out->layers[0].data, &d);
        scaled_columns(out->layers[1].data, &d);
        take_values(out, &d);
        status = measure(out, f, NULL, e);
    }
    svd_fini(&d);
    if (status) lowrank_fini(out);
    return status;
}

/* turned[(i,u)][(o,v)] = f[o,i,u,v] */
static void unfold_axes(double *turned, const struct filter *f) {
    size_t in = (size_t)f->in, h = (size_t)f->h, w = (size_t)f->w, columns = (size_t)f->out * w;
    for (size_t o = 0; o < (size_t)f->out; o++)
        for (size_t i = 0; i < in; i++)
            for (size_t u = 0; u < h; u++)
                memcpy(turned + (i * h + u) * columns + o * w, f->data + ((o * in + i) * h + u) * w,
                       w * sizeof *turned);
}

int lowrank_spatial(struct lowrank *out, const struct filter *f, int rank, struct err *e) {
    struct svd d = {0};
    double *turned = NULL;
    size_t columns = (size_t)f->out * (size_t)f->w;
    *out = (struct lowrank){.n_layers = 2};
    int status = doubles(&turned, filter_count(f), e);
    if (status) return status;
    unfold_axes(turned, f);
    status = svd_init(&d, turned, (size_t)f->in * (size_t)f->h, columns, rank, e);
    if (!status) status = filter_init(&out->layers[0], (int)d.rank, f->in, f->h, 1, e);
    if (!status) status = filter_init(&out->layers[1], f->out, (int)d.rank, 1, f->w, e);
    for (size_t r = 0; !status && r < d.rank; r++) {
        double root = sqrt(d.s[r]);
        for (size_t row = 0; row < d.m; row++) out->layers[0].data[r * d.m + row] = root * d.u[row * d.k + r];
        for (size_t c = 0; c < columns; c++)
            out->layers[1].data[(c / (size_t)f->w * d.rank + r) * (size_t)f->w + c % (size_t)f->w] =
                root * d.vt[r * columns + c];
    }
    if (!status) {
        take_values(out, &d);
        status = measure(out, f, NULL, e);
    }
    mem_free_aligned(turned);
    svd_fini(&d);
    if (status) lowrank_fini(out);
    return status;
}

/* The first `rank` singular vectors of the outputs, as a filter of 1 by 1 from them: [out][rank]. */
static int principal(struct filter *basis, struct svd *d, const struct filter *f, int rank, struct err *e) {
    int status = svd_init(d, f->data, (size_t)f->out, (size_t)f->in * taps(f), rank, e);
    if (!status) status = filter_init(basis, f->out, (int)d->rank, 1, 1, e);
    for (size_t i = 0; !status && i < d->m; i++)
        memcpy(basis->data + i * d->rank, d->u + i * d->k, d->rank * sizeof *d->u);
    return status;
}

/* Three factors of the same root mean square. */
static void balance(struct lowrank *l) {
    double rms[LOWRANK_LAYERS], mean = 1;
    for (int k = 0; k < l->n_layers; k++) {
        rms[k] = filter_norm(&l->layers[k]) / sqrt((double)filter_count(&l->layers[k]));
        mean *= cbrt(rms[k]);
    }
    for (int k = 0; mean > 0 && k < l->n_layers; k++)
        for (size_t i = 0; i < filter_count(&l->layers[k]); i++) l->layers[k].data[i] *= mean / rms[k];
}

int lowrank_tucker(struct lowrank *out, const struct filter *f, int rank_in, int rank_out, struct err *e) {
    struct filter turned = {0}, in = {0}, narrow = {0}, outputs = {0};
    struct svd d_in = {0}, d_out = {0};
    *out = (struct lowrank){.n_layers = 3};
    struct filter *l = out->layers;
    int status = filter_transpose(&turned, f, e);
    if (!status) status = principal(&in, &d_in, &turned, rank_in, e);
    if (!status) status = principal(&l[2], &d_out, f, rank_out, e);
    if (!status) status = filter_transpose(&l[0], &in, e);
    if (!status) status = filter_compose(&narrow, &in, f, e); /* core = U^T f V: V before f, U^T after it */
    if (!status) status = filter_transpose(&outputs, &l[2], e);
    if (!status) status = filter_compose(&l[1], &narrow, &outputs, e);
    if (!status) {
        double dropped = dropped_squares(&d_in);
        take_values(out, &d_out);
        out->bound = sqrt(out->bound * out->bound + dropped);
        balance(out);
        status = measure(out, f, NULL, e);
    }
    filter_fini(&turned);
    filter_fini(&in);
    filter_fini(&narrow);
    filter_fini(&outputs);
    svd_fini(&d_in);
    svd_fini(&d_out);
    if (status) lowrank_fini(out);
    return status;
}

/* root root^T = moments and its inverse on the directions that occur, from eigenvalues: [n][n] both, rows of the inverse
 * zero elsewhere. */
static int take_root(double *root, double *inverse, const double *moments, size_t n, struct err *e) {
    double *values = NULL, *vectors = NULL;
    int status = doubles(&values, n, e);
    if (!status) status = doubles(&vectors, n * n, e);
    if (!status) status = lapack_symmetric(values, vectors, n, moments, e);
    if (!status && values[0] < -1e-9 * fabs(values[n - 1]))
        status =
            err_set(e, E_INVALID, "the moments have a negative eigenvalue, %.3g beside %.3g", values[0], values[n - 1]);
    for (size_t k = 0; !status && k < n; k++) {
        double size = values[k] > 1e-13 * (double)n * values[n - 1] ? sqrt(values[k]) : 0;
        for (size_t i = 0; i < n; i++) {
            root[i * n + k] = vectors[k * n + i] * size;
            inverse[k * n + i] = size > 0 ? vectors[k * n + i] / size : 0;
        }
    }
    mem_free_aligned(values);
    mem_free_aligned(vectors);
    return status;
}

int lowrank_data(struct lowrank *out, const struct filter *f, const double *moments, int rank, struct err *e) {
    size_t m = (size_t)f->out, n = (size_t)f->in * taps(f), size;
    double *root = NULL, *inverse = NULL, *seen = NULL, *rows = NULL;
    struct svd d = {0};
    *out = (struct lowrank){.n_layers = 2};
    if (!mem_mul(&size, n, n) || size > LAPACK_MOST)
        return err_set(e, E_TOO_LARGE, "moments of %zu inputs are too many", n);
    int status = doubles(&root, size, e);
    if (!status) status = doubles(&inverse, size, e);
    if (!status) status = doubles(&seen, m * n, e);
    if (!status) status = take_root(root, inverse, moments, n, e);
    if (status) goto out;
    lapack_product(false, false, m, n, n, f->data, n, root, n, seen, n, false);
    status = svd_init(&d, seen, m, n, rank, e);
    if (!status) status = doubles(&rows, d.rank * n, e);
    if (!status) status = filter_init(&out->layers[0], (int)d.rank, f->in, f->h, f->w, e);
    if (!status) status = filter_init(&out->layers[1], f->out, (int)d.rank, 1, 1, e);
    if (status) goto out;
    scaled_rows(rows, &d);
    lapack_product(false, false, d.rank, n, n, rows, n, inverse, n, out->layers[0].data, n, false);
    scaled_columns(out->layers[1].data, &d);
    take_values(out, &d);
    status = measure(out, f, root, e);
out:
    mem_free_aligned(root);
    mem_free_aligned(inverse);
    mem_free_aligned(seen);
    mem_free_aligned(rows);
    svd_fini(&d);
    if (status) lowrank_fini(out);
    return status;
}

int lowrank_choose(const struct lowrank *l, double share) {
    double sum = 0, most = share * share * l->norm * l->norm;
    int rank = l->n_values;
    while (rank > 1 && sum + l->values[rank - 1] * l->values[rank - 1] <= most) {
        rank--;
        sum += l->values[rank] * l->values[rank];
    }
    return rank;
}

size_t lowrank_weights(const struct lowrank *l) {
    size_t sum = 0;
    for (int k = 0; k < l->n_layers; k++) sum += filter_count(&l->layers[k]);
    return sum;
}

void lowrank_fini(struct lowrank *l) {
    for (int k = 0; k < LOWRANK_LAYERS; k++) filter_fini(&l->layers[k]);
    mem_free_aligned(l->values);
    l->values = NULL;
}

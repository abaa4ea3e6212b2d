/* refit.c - least squares from Gram matrices. */
#include "engine/surgery/refit.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/memory.h"
#include "engine/kernels/lapack.h"

static int doubles(double **out, size_t n, size_t m, struct err *e) {
    size_t count;
    if (!mem_mul(&count, n, m) || count > LAPACK_MOST)
        return err_set(e, E_TOO_LARGE, "a matrix of %zu by %zu is too large", n, m);
    *out = mem_alloc_aligned(count * sizeof **out);
    return *out ? 0 : err_memory(e, count * sizeof **out);
}

static int check(const struct refit_data *d, const int *kept, int n_kept, struct err *e) {
    if (d->n < 1 || !(d->samples > 0)) return err_set(e, E_INVALID, "%d inputs, %g samples", d->n, d->samples);
    if (n_kept < 1 || n_kept > d->n) return err_set(e, E_INVALID, "%d inputs of %d are to stay", n_kept, d->n);
    for (int k = 0; k < n_kept; k++)
        if (kept[k] < 0 || kept[k] >= d->n || (k && kept[k] <= kept[k - 1]))
            return err_set(e, E_INVALID, "input %d is not among %d, or out of order", kept[k], d->n);
    return 0;
}

/* Moments about the mean: what a bias that is free explains does not count. */
static void centre(double *moments, const struct refit_data *d, bool through) {
    size_t n = (size_t)d->n;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            moments[i * n + j] = d->gram[i * n + j] - (through ? 0 : d->sum[i] * d->sum[j] / d->samples);
}

/* Sum over the outputs of the mean square of (old - new) h + what the biases differ by. */
static int measure(double *error, const double *old_weights, const double *weights, const double *shift,
                   const struct refit_data *d, int out, const int *kept, int n_kept, struct err *e) {
    size_t n = (size_t)d->n;
    double *rest = NULL, *seen = NULL, left = 0, all = 0;
    int status = doubles(&rest, 2 * (size_t)out, n, e);
    if (!status) status = doubles(&seen, 2 * (size_t)out, n, e);
    if (status) goto out;
    memcpy(rest, old_weights, (size_t)out * n * sizeof *rest);
    memcpy(rest + (size_t)out * n, old_weights, (size_t)out * n * sizeof *rest);
    for (size_t o = 0; o < (size_t)out; o++)
        for (size_t k = 0; k < (size_t)n_kept; k++) rest[o * n + (size_t)kept[k]] -= weights[o * (size_t)n_kept + k];
    lapack_product(false, false, 2 * (size_t)out, n, n, rest, n, d->gram, n, seen, n, false);
    for (size_t o = 0; o < 2 * (size_t)out; o++) {
        double square = 0, mean = 0;
        for (size_t i = 0; i < n; i++) {
            square += rest[o * n + i] * seen[o * n + i];
            mean += rest[o * n + i] * d->sum[i];
        }
        if (o < (size_t)out)
            left += square - 2 * shift[o] * mean + shift[o] * shift[o] * d->samples;
        else
            all += square;
    }
    *error = left > 0 && all > 0 ? sqrt(left / all) : 0;
out:
    mem_free_aligned(rest);
    mem_free_aligned(seen);
    return status;
}

int refit_weights(double *weights, double *bias, double *error, const struct refit_data *d,
                  const struct refit_options *options, const double *old_weights, const double *old_bias, int out,
                  const int *kept, int n_kept, struct err *e) {
    size_t n = (size_t)d->n, k_kept = (size_t)n_kept, outputs = (size_t)out;
    double *moments = NULL, *cross = NULL, *inner = NULL, *wanted = NULL, *shift = NULL, trace = 0;
    int status = check(d, kept, n_kept, e);
    if (!status) status = doubles(&moments, n, n, e);
    if (!status) status = doubles(&cross, n, k_kept, e);
    if (!status) status = doubles(&inner, k_kept, k_kept, e);
    if (!status) status = doubles(&wanted, outputs, k_kept, e);
    if (!status) status = doubles(&shift, outputs, 1, e);
    if (status) goto out;
    centre(moments, d, options->through);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < k_kept; k++) cross[i * k_kept + k] = moments[i * n + (size_t)kept[k]];
    for (size_t k = 0; k < k_kept; k++)
        memcpy(inner + k * k_kept, cross + (size_t)kept[k] * k_kept, k_kept * sizeof *inner);
    for (size_t k = 0; k < k_kept; k++) trace += inner[k * k_kept + k];
    double ridge = (options->ridge < 0 ? REFIT_RIDGE : options->ridge) * trace / (double)n_kept;
    lapack_product(false, false, outputs, k_kept, n, old_weights, n, cross, k_kept, wanted, k_kept, false);
    status = lapack_solve_positive(weights, k_kept, outputs, inner, ridge, wanted, e);
    if (status) goto out;
    for (size_t o = 0; o < outputs; o++) {
        for (size_t i = 0; i < n; i++) shift[o] += old_weights[o * n + i] * d->sum[i] / d->samples;
        for (size_t k = 0; k < k_kept; k++) shift[o] -= weights[o * k_kept + k] * d->sum[kept[k]] / d->samples;
        bias[o] = (old_bias ? old_bias[o] : 0) + shift[o];
    }
    status = measure(error, old_weights, weights, shift, d, out, kept, n_kept, e);
out:
    mem_free_aligned(moments);
    mem_free_aligned(cross);
    mem_free_aligned(inner);
    mem_free_aligned(wanted);
    mem_free_aligned(shift);
    return status;
}

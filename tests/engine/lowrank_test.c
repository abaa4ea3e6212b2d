/* Filters as chains of smaller ones, and weights refitted after pruning: errors against bounds, exact cases exact. */
#include "engine/surgery/lowrank.h"

#include "engine/kernels/lapack.h"
#include "engine/surgery/refit.h"
#include "tests/base/starve.h"
#include "tests/engine/images.h"

enum form { CHANNEL, SPATIAL, TUCKER, DATA, N_FORMS };

static double *moments; /* of DATA */

static int decompose(struct lowrank *out, enum form form, const struct filter *f, int rank, struct err *e) {
    switch (form) {
        case CHANNEL: return lowrank_channel(out, f, rank, e);
        case SPATIAL: return lowrank_spatial(out, f, rank, e);
        case TUCKER: return lowrank_tucker(out, f, rank, rank, e);
        case DATA: return lowrank_data(out, f, moments, rank, e);
        case N_FORMS: break;
    }
    return E_INVALID;
}

/* Sum of x x^T over samples of `rank` independent directions. */
static void make_moments(size_t n, size_t rank, uint64_t seed) {
    struct filter x = filter_noise((int)n, (int)rank, 1, 1, seed);
    moments = mem_alloc_aligned(n * n * sizeof *moments);
    lapack_product(false, true, n, n, rank, x.data, rank, x.data, rank, moments, n, false);
    filter_fini(&x);
}

static double difference(const struct filter *f, const struct lowrank *l) {
    struct filter chain;
    if (lowrank_compose(&chain, l, NULL)) return -1;
    double error = filter_error(f, &chain);
    filter_fini(&chain);
    return error;
}

TEST(full_rank_is_exact) {
    struct filter f = filter_noise(6, 4, 3, 2, 1);
    make_moments(24, 40, 2);
    for (int form = 0; form < N_FORMS; form++) {
        struct lowrank l;
        struct err e = {0};
        need(decompose(&l, (enum form)form, &f, 0, &e) == 0, "%s", e.text);
        ok(EXACT(difference(&f, &l)), "form %d: %g", form, difference(&f, &l));
        ok(l.error < 1e-12 * l.norm && l.bound < 1e-12 * l.norm, "form %d: %g %g", form, l.error, l.bound);
        lowrank_fini(&l);
    }
    mem_free_aligned(moments), filter_fini(&f);
}

/* |W - W_r|^2 is the sum of the squares of the values dropped; the bound of Tucker's is one. */
TEST(errors_are_what_the_values_say) {
    struct filter f = filter_noise(6, 5, 3, 3, 3);
    make_moments(45, 60, 4);
    for (int form = 0; form < N_FORMS; form++)
        for (int rank = 1; rank < 5; rank++) {
            struct lowrank l;
            need(decompose(&l, (enum form)form, &f, rank, NULL) == 0, "decomposes");
            double sum = 0;
            for (int k = l.n_values - 1; k >= rank; k--) sum += l.values[k] * l.values[k];
            ok(l.rank == rank && l.layers[0].out == rank, "rank %d", l.rank);
            if (form == TUCKER)
                ok(l.error <= l.bound + 1e-12 && l.error >= sqrt(sum) - 1e-12, "%g %g", l.error, l.bound);
            else
                ok(fabs(l.error - sqrt(sum)) < 1e-11 * l.norm, "form %d rank %d: %g %g", form, rank, l.error,
                   sqrt(sum));
            ok(form == TUCKER || fabs(l.bound - sqrt(sum)) < 1e-12 * l.norm, "form %d: %g", form, l.bound);
            ok(l.next == l.values[rank], "form %d: %g is the next", form, l.next);
            ok(form == DATA || fabs(l.norm - filter_norm(&f)) < 1e-12 * l.norm, "form %d: norm %g", form, l.norm);
            lowrank_fini(&l);
        }
    mem_free_aligned(moments), filter_fini(&f);
}

/* What is of low rank is found to be, and is then exact. */
TEST(low_rank_is_recognised) {
    struct filter a = filter_noise(2, 5, 3, 3, 5), b = filter_noise(6, 2, 1, 1, 6), f;
    struct lowrank l;
    need(filter_compose(&f, &a, &b, NULL) == 0, "composes");
    need(lowrank_channel(&l, &f, 0, NULL) == 0, "decomposes");
    ok(l.rank == 2 && EXACT(difference(&f, &l)), "rank %d", l.rank);
    ok(lowrank_weights(&l) == 2 * 5 * 9 + 6 * 2, "%zu weights", lowrank_weights(&l));
    ok(lowrank_choose(&l, 1e-9) == 2 && lowrank_choose(&l, 2) == 1, "chooses %d", lowrank_choose(&l, 1e-9));
    double rms1 = 0, rms2 = 0; /* each row and column carries the root of its value */
    for (int i = 0; i < 45; i++) rms1 += l.layers[0].data[i] * l.layers[0].data[i];
    for (int o = 0; o < 6; o++) rms2 += l.layers[1].data[o * 2] * l.layers[1].data[o * 2];
    ok(fabs(rms1 - l.values[0]) < 1e-12 && fabs(rms2 - l.values[0]) < 1e-12, "%g %g", rms1, rms2);
    lowrank_fini(&l);
    ok(lowrank_channel(&l, &f, 7, NULL) == E_INVALID && lowrank_channel(&l, &f, -1, NULL) == E_INVALID, "no such rank");
    filter_fini(&a), filter_fini(&b), filter_fini(&f);
}

/* On data a form made for it is better than the best one for the weights, and exact where the data has few directions. */
TEST(data_counts) {
    struct filter f = filter_noise(6, 5, 1, 1, 7), rest, seen;
    struct lowrank l, plain;
    make_moments(5, 2, 8);
    need(lowrank_data(&l, &f, moments, 2, NULL) == 0, "decomposes");
    ok(l.error < 1e-12 * l.norm && difference(&f, &l) > 0.1, "exact on two directions: %g, %g", l.error,
       difference(&f, &l));
    lowrank_fini(&l), mem_free_aligned(moments);
    make_moments(5, 9, 9);
    need(lowrank_data(&l, &f, moments, 2, NULL) == 0 && lowrank_channel(&plain, &f, 2, NULL) == 0, "decomposes");
    need(lowrank_compose(&rest, &plain, NULL) == 0 && filter_add(&rest, -1, &f, NULL) == 0, "composes");
    need(filter_init(&seen, 6, 5, 1, 1, NULL) == 0, "room");
    lapack_product(false, false, 6, 5, 5, rest.data, 5, moments, 5, seen.data, 5, false);
    double square = 0;
    for (int i = 0; i < 30; i++) square += rest.data[i] * seen.data[i];
    ok(l.error < sqrt(square), "%g, and %g without data", l.error, sqrt(square));
    moments[0] = -100;
    lowrank_fini(&l);
    ok(lowrank_data(&l, &f, moments, 2, NULL) == E_INVALID, "no moments");
    filter_fini(&f), filter_fini(&rest), filter_fini(&seen), lowrank_fini(&plain), mem_free_aligned(moments);
}

/* Each axis' padding on its own layer, bias at the end: the borders come out. */
TEST(borders_of_the_forms) {
    struct filter f = filter_noise(4, 3, 3, 5, 10);
    struct image x = image_noise(3, 9, 10, 11);
    double bias[4] = {1, 2, 3, 4};
    struct filter_window all = {{2, 1}, {1, 2}, {1, 4}, {0, 3}}, none = window_padded(0);
    struct filter_window down = {{2, 1}, {1, 1}, {1, 0}, {0, 0}}, across = {{1, 1}, {1, 2}, {0, 4}, {0, 3}};
    struct image y = image_convolved(&x, &f, &all, bias);
    for (int form = 0; form < DATA; form++) {
        struct lowrank l;
        need(decompose(&l, (enum form)form, &f, 0, NULL) == 0, "decomposes");
        const struct filter_window *w[3] = {&all, &none, &none};
        if (form == SPATIAL) w[0] = &down, w[1] = &across;
        if (form == TUCKER) w[0] = &none, w[1] = &all;
        struct image z = image_convolved(&x, &l.layers[0], w[0], NULL);
        for (int k = 1; k < l.n_layers; k++) {
            struct image next = image_convolved(&z, &l.layers[k], w[k], k == l.n_layers - 1 ? bias : NULL);
            mem_free(z.data);
            z = next;
        }
        ok(EXACT(image_error(&y, &z, 0)), "form %d: %g", form, image_error(&y, &z, 0));
        mem_free(z.data), lowrank_fini(&l);
    }
    mem_free(x.data), mem_free(y.data), filter_fini(&f);
}

/* ---- refitting ---- */

struct calibration {
    int n, samples;
    double *h, *gram, *sum; /* h[n][samples] */
    struct refit_data data;
};

static struct calibration calibrate(int n, int samples, uint64_t seed) {
    struct filter h = filter_noise(n, samples, 1, 1, seed);
    for (int i = 0; i < n * samples; i++) h.data[i] += i / samples; /* a mean to every input */
    return (struct calibration){.n = n, .samples = samples, .h = h.data};
}

static void gather(struct calibration *c) {
    size_t n = (size_t)c->n, samples = (size_t)c->samples;
    c->gram = mem_alloc_aligned(n * n * sizeof *c->gram);
    c->sum = mem_alloc_aligned(n * sizeof *c->sum);
    lapack_product(false, true, n, n, samples, c->h, samples, c->h, samples, c->gram, n, false);
    for (size_t i = 0; i < n * samples; i++) c->sum[i / samples] += c->h[i];
    c->data = (struct refit_data){c->n, c->gram, c->sum, c->samples};
}

static void calibration_free(struct calibration *c) {
    mem_free_aligned(c->h), mem_free_aligned(c->gram), mem_free_aligned(c->sum);
}

/* The largest difference and the root mean square of the differences of outputs, the latter relative. */
static double output_error(double *relative, const struct calibration *c, const double *old, const double *old_bias,
                           const double *weights, const double *bias, int out, const int *kept, int n_kept) {
    double worst = 0, squares = 0, all = 0;
    for (int o = 0; o < out; o++)
        for (int s = 0; s < c->samples; s++) {
            double y = 0, z = bias[o] - old_bias[o];
            for (int i = 0; i < c->n; i++) y += old[o * c->n + i] * c->h[i * c->samples + s];
            for (int k = 0; k < n_kept; k++) z += weights[o * n_kept + k] * c->h[kept[k] * c->samples + s];
            worst = fmax(worst, fabs(y - z));
            squares += (y - z) * (y - z);
            all += y * y;
        }
    *relative = sqrt(squares / all);
    return worst;
}

enum { INPUTS = 7, OUTPUTS = 3, KEPT = 4 };
static const int kept[KEPT] = {0, 2, 3, 6};

TEST(removed_inputs_in_the_span_cost_nothing) {
    struct calibration c = calibrate(INPUTS, 50, 12);
    for (int s = 0; s < c.samples; s++) { /* the others are sums of the kept ones, two with a constant */
        const double *h = c.h + s;
        int m = c.samples;
        c.h[1 * m + s] = 2 * h[0] - h[3 * m];
        c.h[4 * m + s] = h[2 * m] + 0.5 * h[6 * m] + 3;
        c.h[5 * m + s] = 4;
    }
    gather(&c);
    struct filter w = filter_noise(OUTPUTS, INPUTS, 1, 1, 13);
    double old_bias[OUTPUTS] = {1, 2, 3}, weights[OUTPUTS * KEPT], bias[OUTPUTS], error, relative;
    struct refit_options options = {.ridge = 0};
    struct err e = {0};
    need(refit_weights(weights, bias, &error, &c.data, &options, w.data, old_bias, OUTPUTS, kept, KEPT, &e) == 0, "%s",
         e.text);
    double worst = output_error(&relative, &c, w.data, old_bias, weights, bias, OUTPUTS, kept, KEPT);
    ok(worst < 1e-10 && error < 1e-7, "%g, said %g", worst, error);
    options.ridge = -1;
    need(refit_weights(weights, bias, &error, &c.data, &options, w.data, old_bias, OUTPUTS, kept, KEPT, &e) == 0, "%s",
         e.text);
    worst = output_error(&relative, &c, w.data, old_bias, weights, bias, OUTPUTS, kept, KEPT);
    ok(worst > 1e-8 && worst < 1e-2, "the default ridge costs %g", worst);
    options = (struct refit_options){.ridge = 0, .through = true};
    need(refit_weights(weights, bias, &error, &c.data, &options, w.data, old_bias, OUTPUTS, kept, KEPT, &e) == 0, "%s",
         e.text);
    output_error(&relative, &c, w.data, old_bias, weights, bias, OUTPUTS, kept, KEPT);
    ok(fabs(error - relative) < 1e-6 && relative > 1e-4, "without the constant: %g, said %g", relative, error);
    static const int dependent[3] = {0, 1, 3};
    ok(refit_weights(weights, bias, &error, &c.data, &options, w.data, old_bias, OUTPUTS, dependent, 3, &e) ==
           E_UNSUPPORTED,
       "0, 1 and 3 depend on each other");
    static const int wrong[2] = {3, 3};
    ok(refit_weights(weights, bias, &error, &c.data, &options, w.data, NULL, OUTPUTS, wrong, 2, NULL) == E_INVALID,
       "twice");
    filter_fini(&w), calibration_free(&c);
}

/* The best in the sense of least squares: no other weights are better. */
TEST(refitted_weights_are_the_best) {
    struct calibration c = calibrate(INPUTS, 60, 14);
    gather(&c);
    struct filter w = filter_noise(OUTPUTS, INPUTS, 1, 1, 15);
    double none[OUTPUTS] = {0}, weights[OUTPUTS * KEPT], bias[OUTPUTS], error, best, other;
    struct refit_options options = {.ridge = 0};
    need(refit_weights(weights, bias, &error, &c.data, &options, w.data, NULL, OUTPUTS, kept, KEPT, NULL) == 0, "fits");
    output_error(&best, &c, w.data, none, weights, bias, OUTPUTS, kept, KEPT);
    ok(fabs(best - error) < 1e-7, "%g, said %g", best, error);
    for (int i = 0; i < OUTPUTS * KEPT + OUTPUTS; i++) {
        double *p = i < OUTPUTS * KEPT ? &weights[i] : &bias[i - OUTPUTS * KEPT], before = *p;
        for (int sign = -1; sign <= 1; sign += 2) {
            *p = before + sign * 1e-3;
            output_error(&other, &c, w.data, none, weights, bias, OUTPUTS, kept, KEPT);
            ok(other > best, "number %d: %g after %g", i, other, best);
        }
        *p = before;
    }
    filter_fini(&w), calibration_free(&c);
}

static struct filter starved;

static int all_forms(void) {
    for (int form = 0; form < N_FORMS; form++) {
        struct lowrank l;
        int status = decompose(&l, (enum form)form, &starved, 2, NULL);
        if (status) return status;
        lowrank_fini(&l);
    }
    double sum[12] = {0}, weights[3 * 12], bias[3], error;
    static const int chosen[] = {1, 4, 5, 11};
    struct refit_data data = {12, moments, sum, 10};
    struct refit_options options = {.ridge = -1};
    return refit_weights(weights, bias, &error, &data, &options, starved.data, NULL, 3, chosen, 4, NULL);
}

TEST(starving) {
    starved = filter_noise(3, 3, 2, 2, 18);
    make_moments(12, 20, 19);
    starve("all forms", all_forms);
    filter_fini(&starved), mem_free_aligned(moments);
}

TEST_MAIN

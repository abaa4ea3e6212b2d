/* Losses against the vectors of docs and PyTorch, and against finite differences. */
#include "engine/nn/loss.h"
#include "tests/test.h"

#define N_CLASSES 3

static const real teacher[] = {(real)2.0, (real)1.0, (real)0.1};
static const real second_teacher[] = {-1, (real)0.5, (real)1.2};
static const real student[] = {(real)1.5, (real)0.5, (real)0.7};
static const int32_t label[] = {0};

/* One row, one term; returns its sum and fills the gradient. */
static double one(int kind, double temperature, const real *z, const real *const *targets, const double *shares,
                  int teachers, size_t classes, real *gradient) {
    double scratch[16], sums[2 * LOSS_MAX_TERMS];
    struct loss_plan plan = {.n_terms = 1};
    plan.terms[0] = (struct loss_term){.loss = &loss_table[kind], .weight = 1, .temperature = temperature};
    struct loss_rows rows = {.logits = z,
                             .targets = targets,
                             .shares = shares,
                             .teachers = teachers,
                             .labels = label,
                             .n = 1,
                             .classes = classes,
                             .scratch = scratch};
    loss_run(&plan, &rows, 1, gradient, sums);
    return sums[0];
}

enum { KL = LOSS_KL, CE = LOSS_CE, MSE = LOSS_MSE };

static const real *const single[] = {teacher};
static const double whole[] = {1};

TEST(hinton_vectors) {
    real d[N_CLASSES];
    double kl = one(KL, 4, student, single, whole, 1, N_CLASSES, d);
    ok(fabs(kl - 0.12111706) < 1e-7, "T^2 KL = %.9f", kl);
    const double expected[] = {-0.126267, -0.098337, 0.224604};
    for (int k = 0; k < N_CLASSES; k++) ok(fabs((double)d[k] - expected[k]) < 1e-6, "d[%d] = %.9f", k, (double)d[k]);
    double ce = one(CE, 4, student, NULL, NULL, 0, N_CLASSES, d);
    ok(fabs(ce - 0.59730148) < 1e-7, "CE = %.9f", ce);
    ok(fabs(0.1 * ce + 0.9 * kl - 0.16873550) < 1e-7, "weighted sum");
}

TEST(several_teachers_are_their_mixture) { /* numbers from PyTorch 1.13 */
    const real *const targets[] = {teacher, second_teacher};
    const double shares[] = {0.7, 0.3};
    real d[N_CLASSES];
    double kl = one(KL, 2, student, targets, shares, 2, N_CLASSES, d);
    ok(fabs(kl - 0.0259801148) < 1e-7, "KL = %.9f", kl);
    const double expected[] = {0.0780228972, -0.100733757, 0.0227108002};
    for (int k = 0; k < N_CLASSES; k++) ok(fabs((double)d[k] - expected[k]) < 1e-6, "d[%d] = %.9f", k, (double)d[k]);
    double mse = one(MSE, 1, student, targets, shares, 2, N_CLASSES, d);
    ok(fabs(mse - 0.118466698) < 1e-7, "MSE = %.9f", mse);
    ok(fabs((double)d[0] - 0.26666674) < 1e-6 && fabs((double)d[1] + 0.23333335) < 1e-6, "gradient of MSE");
}

TEST(gradients_are_derivatives) {
    const double h = sizeof(real) == 8 ? 1e-5 : 1e-2;
    for (int kind = KL; kind <= MSE; kind++)
        for (int k = 0; k < N_CLASSES; k++) {
            real z[N_CLASSES], d[N_CLASSES], unused[N_CLASSES];
            memcpy(z, student, sizeof z);
            one(kind, 3, z, single, whole, 1, N_CLASSES, d);
            z[k] = (real)((double)student[k] + h);
            double up = one(kind, 3, z, single, whole, 1, N_CLASSES, unused), top = (double)z[k];
            z[k] = (real)((double)student[k] - h);
            double slope = (up - one(kind, 3, z, single, whole, 1, N_CLASSES, unused)) / (top - (double)z[k]);
            ok(fabs(slope - (double)d[k]) < h * h + 1e-6, "%s d[%d]: %g, by difference %g", loss_table[kind].name, k,
               (double)d[k], slope);
        }
}

TEST(extreme_logits_stay_finite) {
    static const real high[] = {1000, -1000, 0}, low[] = {-1000, 1000, 0};
    const real *const targets[] = {low};
    for (int kind = KL; kind <= MSE; kind++) {
        real d[N_CLASSES];
        double sum = one(kind, 1, high, targets, whole, 1, N_CLASSES, d);
        ok(isfinite(sum) && isfinite(d[0]) && isfinite(d[1]), "%s: %g", loss_table[kind].name, sum);
    }
}

TEST(impossible_classes_change_nothing) { /* the mean goes over the batch, not over the classes */
    const real z[] = {student[0], student[1], student[2], -1e4f, -1e4f};
    const real t[] = {teacher[0], teacher[1], teacher[2], -1e4f, -1e4f};
    const real *const targets[] = {t};
    real d[5];
    ok(fabs(one(KL, 4, z, targets, whole, 1, 5, d) - 0.12111706) < 1e-6, "KL with padding");
    ok(fabs(one(CE, 4, z, targets, whole, 1, 5, d) - 0.59730148) < 1e-6, "CE with padding");
}

TEST(temperature_keeps_the_size_of_gradients) {
    double norm[2];
    for (int i = 0; i < 2; i++) {
        real d[N_CLASSES];
        one(KL, i ? 4 : 1, student, single, whole, 1, N_CLASSES, d);
        norm[i] = 0;
        for (int k = 0; k < N_CLASSES; k++) norm[i] += (double)d[k] * (double)d[k];
    }
    double ratio = sqrt(norm[1] / norm[0]);
    ok(ratio > 0.3 && ratio < 3, "ratio %g", ratio);
}

TEST(blocks_add_up_to_the_batch) {
    enum { N = 5 };
    real z[N * N_CLASSES], t[N * N_CLASSES], whole_d[N * N_CLASSES], part_d[N * N_CLASSES];
    int32_t labels[N];
    for (int i = 0; i < N * N_CLASSES; i++) z[i] = (real)sin(i), t[i] = (real)cos(3 * i);
    for (int i = 0; i < N; i++) labels[i] = i % N_CLASSES;
    struct loss_spec specs[] = {{.kind = KL, .weight = 2, .temperature = 4, .hard_weight = 0.25}};
    struct loss_plan plan;
    need(loss_plan(&plan, specs, 1, true, true, NULL) == 0 && plan.n_terms == 2, "plan");
    ok(plan.terms[0].weight == 1.5 && plan.terms[1].weight == 0.5, "weights");
    double scratch[N_CLASSES], sums[2], first[2], second[2];
    const real *targets[] = {t}, *rest[] = {t + 2 * N_CLASSES};
    struct loss_rows rows = {.logits = z,
                             .targets = targets,
                             .shares = whole,
                             .teachers = 1,
                             .labels = labels,
                             .n = N,
                             .classes = N_CLASSES,
                             .scratch = scratch};
    loss_run(&plan, &rows, N, whole_d, sums);
    rows.n = 2;
    loss_run(&plan, &rows, N, part_d, first);
    rows = (struct loss_rows){.logits = z + 2 * N_CLASSES,
                              .targets = rest,
                              .shares = whole,
                              .teachers = 1,
                              .labels = labels + 2,
                              .n = 3,
                              .classes = N_CLASSES,
                              .scratch = scratch};
    loss_run(&plan, &rows, N, part_d + 2 * N_CLASSES, second);
    ok(memcmp(whole_d, part_d, sizeof whole_d) == 0, "gradients");
    for (int i = 0; i < 2; i++) ok(fabs(sums[i] - first[i] - second[i]) < 1e-12, "sum %d", i);
    ok(fabs(loss_total(&plan, sums, N) - (1.5 * sums[0] + 0.5 * sums[1]) / N) < 1e-12, "total");
}

TEST(plans_complete_and_refuse) {
    struct loss_plan plan;
    struct err e = {0};
    struct loss_spec kl = {.kind = KL, .weight = 1, .temperature = 4, .hard_weight = NAN};
    ok(loss_plan(&plan, &kl, 1, true, true, &e) == 0 && plan.n_terms == 2 && kl.hard_weight == 0.1, "with labels");
    kl.hard_weight = NAN;
    ok(loss_plan(&plan, &kl, 1, false, true, &e) == 0 && plan.n_terms == 1 && kl.hard_weight == 0, "without labels");
    kl.hard_weight = 0.5;
    ok(loss_plan(&plan, &kl, 1, false, true, &e) == 0 && plan.terms[0].weight == 1, "hard part of nothing");
    ok(loss_plan(&plan, &kl, 1, true, false, &e) == E_INVALID && !strcmp(e.pointer, "/loss/0/kind"), "no teacher");
    err_clear(&e);
    struct loss_spec ce = {.kind = CE, .weight = 1, .temperature = 4, .hard_weight = NAN};
    ok(loss_plan(&plan, &ce, 1, false, true, &e) == E_INVALID, "no labels");
    err_clear(&e);
    ce.weight = 0;
    ok(loss_plan(&plan, &ce, 1, true, true, &e) == E_INVALID, "nothing to learn");
}

TEST_MAIN

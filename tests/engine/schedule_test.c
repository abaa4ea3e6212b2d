/* Learning rates against PyTorch 1.13's schedulers, step by step. */
#include "engine/nn/schedule.h"
#include "tests/test.h"

#define STEPS 20

static const double onecycle[STEPS] = {0.004,        0.0131671843, 0.0371671843, 0.0668328157,  0.0908328157,
                                       0.1,          0.0987464006, 0.0950484632, 0.0890916178,  0.0811745654,
                                       0.0716943002, 0.0611262022, 0.0500002,    0.0388741978,  0.0283060998,
                                       0.0188258346, 0.0109087822, 0.0049519368, 0.00125399938, 4e-07};
static const double cosine[STEPS] = {0.1,          0.099384417,   0.0975528258,  0.0945503262,  0.0904508497,
                                     0.0853553391, 0.0793892626,  0.072699525,   0.0654508497,  0.0578217233,
                                     0.05,         0.0421782767,  0.0345491503,  0.027300475,   0.0206107374,
                                     0.0146446609, 0.00954915028, 0.00544967379, 0.00244717419, 0.00061558297};

static void compare(const struct schedule *s, const double *expected) {
    for (int t = 0; t < STEPS; t++) {
        double rate = schedule_rate(s, t);
        ok(fabs(rate - expected[t]) < 1e-9, "step %d: %.10g, PyTorch %.10g", t, rate, expected[t]);
    }
}

TEST(shapes_are_pytorchs) {
    struct schedule s = {.peak = 0.1, .steps = STEPS, .steps_per_epoch = 1};
    s.spec.kind = SCHEDULE_ONECYCLE;
    compare(&s, onecycle);
    s.spec.kind = SCHEDULE_COSINE;
    compare(&s, cosine);
    s.spec = (struct schedule_spec){.kind = SCHEDULE_STEP, .step = {5, 12}, .n_step = 2, .gamma = 0.1};
    for (int t = 0; t < STEPS; t++) {
        double expected = t < 5 ? 0.1 : t < 12 ? 0.01 : 0.001;
        ok(fabs(schedule_rate(&s, t) - expected) < 1e-12, "step %d", t);
    }
}

TEST(drops_count_epochs) {
    struct schedule s = {.peak = 1, .steps = 100, .steps_per_epoch = 10};
    s.spec = (struct schedule_spec){.kind = SCHEDULE_STEP, .step = {3}, .n_step = 1, .gamma = 0.5};
    ok(schedule_rate(&s, 29) == 1 && schedule_rate(&s, 30) == 0.5, "drop after the third epoch");
}

TEST(warmup_rises_then_hands_over) {
    struct schedule s = {.peak = 1, .steps = 14, .warmup = 4, .spec = {.kind = SCHEDULE_COSINE}};
    ok(schedule_rate(&s, 0) == 0.25 && schedule_rate(&s, 3) == 1, "linear");
    ok(schedule_rate(&s, 4) == 1 && schedule_rate(&s, 9) == 0.5, "cosine over the rest");
}

TEST(short_runs_are_finite) {
    for (int kind = SCHEDULE_CONSTANT; kind <= SCHEDULE_STEP; kind++)
        for (int64_t steps = 1; steps < 12; steps++) {
            struct schedule s = {.peak = 1, .steps = steps, .steps_per_epoch = 1, .spec = {.kind = kind}};
            for (int64_t t = 0; t < steps; t++) {
                double rate = schedule_rate(&s, t);
                ok(rate >= 0 && rate <= 1, "kind %d, step %d of %d: %g", kind, (int)t, (int)steps, rate);
            }
        }
}

TEST(requests) {
    struct {
        const char *json;
        bool good;
        int kind;
    } cases[] = {
        {"{\"schedule\":\"cosine\"}", true, SCHEDULE_COSINE},
        {"{\"schedule\":{\"step\":[30,60],\"gamma\":0.1}}", true, SCHEDULE_STEP},
        {"{\"schedule\":{\"step\":[60,30]}}", false, 0},
        {"{\"schedule\":\"step\"}", false, 0},
        {"{\"schedule\":{\"kind\":\"cosine\",\"step\":[3]}}", false, 0},
    };
    struct wrap {
        struct schedule_spec schedule;
    };
    static const struct param table[] = {PARAM_OBJECT(struct wrap, schedule, schedule_params, "kind", ""), PARAM_END};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct json *root = NULL;
        struct wrap w;
        struct err e = {0};
        need(json_parse(&root, cases[i].json, strlen(cases[i].json), &e) == 0, "%s", e.text);
        int status = param_parse(&w, table, root, "", &e);
        if (!status) status = schedule_check(&w.schedule, 0, &e);
        ok((status == 0) == cases[i].good, "%s: %s", cases[i].json, e.text);
        if (!status) ok(w.schedule.kind == cases[i].kind, "%s", cases[i].json);
        json_free(root);
    }
    struct schedule_spec s = {.kind = SCHEDULE_ONECYCLE};
    ok(schedule_check(&s, 10, NULL) == E_INVALID, "onecycle and warm-up");
}

TEST_MAIN

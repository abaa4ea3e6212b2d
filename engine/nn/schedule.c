/* schedule.c - the learning rate as a function of the step. */
#include "engine/nn/schedule.h"

#include <math.h>

/* Defaults of torch's OneCycleLR. */
#define ONECYCLE_RISE 0.3
#define ONECYCLE_START 25.0
#define ONECYCLE_END 1e4

static const struct param drop_params[] = {
    {.name = "epoch",
     .type = PARAM_TYPE_INT,
     .size = sizeof(int64_t),
     .present_offset = PARAM_NO_PRESENT,
     .low = 1,
     .high = 1e6,
     .help = "an epoch"},
    PARAM_END,
};

const struct param schedule_params[] = {
    PARAM_CHOICE(struct schedule_spec, kind, "\"constant\"", "constant cosine onecycle step",
                 "course of the learning rate"),
    PARAM_LIST(struct schedule_spec, step, n_step, drop_params, "epochs after which the rate drops"),
    PARAM_REAL(struct schedule_spec, gamma, "0.1", 0, 1, "factor of each drop"),
    PARAM_INT(
        struct schedule_spec, length, NULL, 1, 1e12,
        "steps of the whole course, of which this run is a part: the first one, or the one after the training that "
        "goes on; as long as the run when not given"),
    PARAM_END,
};

int schedule_check(struct schedule_spec *spec, int64_t warmup, struct err *e) {
    if (spec->n_step > 0 && spec->kind == SCHEDULE_CONSTANT) spec->kind = SCHEDULE_STEP;
    if (spec->kind == SCHEDULE_STEP && spec->n_step == 0)
        return err_set_at(e, E_INVALID, "/train/schedule/step",
                          "a schedule of steps needs the epochs at which the rate drops, like [30, 60]");
    if (spec->kind != SCHEDULE_STEP && spec->n_step > 0)
        return err_set_at(e, E_INVALID, "/train/schedule/step", "only a schedule of kind \"step\" has steps");
    for (int i = 1; i < spec->n_step; i++)
        if (spec->step[i] <= spec->step[i - 1])
            return err_set_at(e, E_INVALID, "/train/schedule/step", "the epochs must rise: %lld comes after %lld",
                              (long long)spec->step[i], (long long)spec->step[i - 1]);
    if (spec->kind == SCHEDULE_ONECYCLE && warmup > 0)
        return err_set_at(e, E_INVALID, "/train/warmup_steps",
                          "onecycle warms up by itself: leave warmup_steps 0, or choose cosine");
    return 0;
}

/* From a to b along half a cosine, at fraction x. */
static double anneal(double a, double b, double x) {
    return b + (a - b) / 2 * (1 + cos(M_PI * x));
}

static double onecycle(double peak, double step, double steps) {
    double start = peak / ONECYCLE_START, end = start / ONECYCLE_END;
    /* A run of a few steps has no room to rise: its first step is at the top already. */
    double top = fmax(ONECYCLE_RISE * steps - 1, 0), last = steps - 1;
    if (step < top) return anneal(start, peak, step / top);
    return last > top ? anneal(peak, end, (step - top) / (last - top)) : peak;
}

static double drops(const struct schedule *s, int64_t step) {
    int64_t epoch = s->steps_per_epoch > 0 ? step / s->steps_per_epoch : 0;
    double factor = 1;
    for (int i = 0; i < s->spec.n_step && epoch >= s->spec.step[i]; i++) factor *= s->spec.gamma;
    return factor;
}

double schedule_rate(const struct schedule *s, int64_t step) {
    if (step < s->warmup) return s->peak * (double)(step + 1) / (double)s->warmup;
    double t = (double)(step - s->warmup), n = (double)(s->steps - s->warmup);
    switch ((enum schedule_kind)s->spec.kind) {
        case SCHEDULE_CONSTANT: return s->peak;
        case SCHEDULE_COSINE: return s->peak * (1 + cos(M_PI * t / n)) / 2;
        case SCHEDULE_ONECYCLE: return onecycle(s->peak, t, n);
        case SCHEDULE_STEP: return s->peak * drops(s, step);
    }
    return s->peak;
}

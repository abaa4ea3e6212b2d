/* schedule.h - the learning rate as a function of the step. */
#ifndef ENGINE_NN_SCHEDULE_H
#define ENGINE_NN_SCHEDULE_H

#include <stdint.h>

#include "base/error.h"
#include "base/param.h"

#define SCHEDULE_MAX_DROPS 64

/* As in requests: "cosine", or {"step":[30,60],"gamma":0.1}. */
struct schedule_spec {
    int kind;                         /* enum schedule_kind */
    int64_t step[SCHEDULE_MAX_DROPS]; /* epochs after which the rate drops, rising */
    int n_step;
    double gamma;   /* by this factor */
    int64_t length; /* steps of the whole course, when a run is only a part of it; PARAM_ABSENT: as long as the run */
};
extern const struct param schedule_params[]; /* bare: "kind" */

enum schedule_kind { SCHEDULE_CONSTANT, SCHEDULE_COSINE, SCHEDULE_ONECYCLE, SCHEDULE_STEP };

/* A schedule for a run of known length. */
struct schedule {
    struct schedule_spec spec;
    double peak;   /* learning_rate of the request */
    int64_t steps; /* of the whole run */
    int64_t steps_per_epoch;
    int64_t warmup; /* steps that rise linearly: peak/warmup, 2 peak/warmup, ... */
};

/* Completes a spec (a list of steps makes the kind "step") and checks that it makes sense. */
int schedule_check(struct schedule_spec *spec, int64_t warmup, struct err *e);

/* The rate of step 0 .. steps - 1. After the warm-up:
 *   constant  peak
 *   cosine    peak (1 + cos(pi t / n)) / 2 for t of n steps (torch CosineAnnealingLR)
 *   onecycle  cosine from peak/25 up to peak over 30 % of the run, and down to peak/250000 (torch
 *             OneCycleLR with its defaults, momentum left alone)
 *   step      peak gamma^(drops so far) (torch MultiStepLR) */
double schedule_rate(const struct schedule *s, int64_t step);

#endif

/* train_spec.c - the "train" object of requests: its table and what the table cannot check. */
#include <math.h>

#include "engine/nn/optimizer.h"
#include "engine/nn/train.h"

#define DEFAULT_EPOCHS 10

static const struct param early_stop_params[] = {
    PARAM_CHOICE(struct early_stop, metric, "\"accuracy\"", "accuracy loss agreement kl",
                 "of the evaluation after each epoch"),
    PARAM_INT(struct early_stop, patience, "3", 1, 1e6, "epochs without a better value before the run ends"),
    PARAM_END,
};

const struct param train_params[] = {
    PARAM_INT(struct train_spec, epochs, NULL, 1, 1e6, "passes over the data; 10 when steps is not given either"),
    PARAM_INT(struct train_spec, steps, NULL, 1, 1e12, "updates, instead of epochs"),
    PARAM_INT(struct train_spec, batch, "128", 1, 65536, "samples of one update"),
    PARAM_CHOICE_OR(struct train_spec, optimizer, has_optimizer, "\"adam\"", OPTIMIZER_NAMES,
                    "update rule, as in PyTorch; where train or morph goes on with an earlier training, its own"),
    PARAM_REAL_OR(
        struct train_spec, learning_rate, has_learning_rate, "0.001", 0, 1000,
        "step size at its peak; of an earlier training that goes on its last one, but at least a tenth of its "
        "highest"),
    PARAM_REAL(struct train_spec, momentum, NULL, 0, 0.9999,
               "of sgd and rmsprop, beta 1 of adam; 0.9, for rmsprop 0, when not given"),
    PARAM_REAL(struct train_spec, weight_decay, "0", 0, 100, "times the parameters is added to their gradients"),
    PARAM_OPTIONAL(
        struct train_spec, schedule, has_schedule, schedule_params, "kind",
        "course of the learning rate; of an earlier training that goes on the rest of its course, if this run has room in it"),
    PARAM_INT(struct train_spec, warmup_steps, "0", 0, 1e9, "steps in which the learning rate rises linearly"),
    PARAM_REAL(struct train_spec, clip_norm, NULL, 1e-9, 1e9, "longest gradient; longer ones are scaled down to it"),
    PARAM_OPTIONAL(struct train_spec, early_stop, has_early_stop, early_stop_params, "metric",
                   "ends the run when it no longer gets better, and keeps the best epoch"),
    PARAM_BOOL(
        struct train_spec, keep_optimizer, "true",
        "stores the optimizer's state beside the result, one or two times the size of its weights, so that training "
        "can go on; with early_stop only when the last epoch is the best"),
    PARAM_INT(struct train_spec, seed, "1", 0, 9007199254740991, "of the order of samples, dropout and new weights"),
    PARAM_END,
};

static int check_early_stop(const struct train_spec *spec, bool labels, bool teacher, struct err *e) {
    if (!spec->has_early_stop) return 0;
    int metric = spec->early_stop.metric;
    bool wants_labels = metric == STOP_ACCURACY || metric == STOP_LOSS;
    if (wants_labels && !labels)
        return err_set_at(e, E_INVALID, "/train/early_stop/metric",
                          "%s needs labels to evaluate on; without them agreement and kl can be told",
                          metric == STOP_ACCURACY ? "accuracy" : "loss");
    if (!wants_labels && !teacher)
        return err_set_at(e, E_INVALID, "/train/early_stop/metric",
                          "%s needs a teacher to compare with; without one accuracy and loss can be told",
                          metric == STOP_AGREEMENT ? "agreement" : "kl");
    return 0;
}

int train_check(struct train_spec *spec, bool labels, bool teacher, struct err *e) {
    bool epochs = spec->epochs != PARAM_ABSENT, steps = spec->steps != PARAM_ABSENT;
    if (epochs && steps)
        return err_set_at(e, E_INVALID, "/train/steps",
                          "both epochs (%lld) and steps (%lld) are given; give one of them", (long long)spec->epochs,
                          (long long)spec->steps);
    if (!epochs && !steps) spec->epochs = DEFAULT_EPOCHS;
    spec->has_optimizer = spec->has_learning_rate = spec->has_schedule = true;
    if (isnan(spec->momentum)) spec->momentum = optimizer_table[spec->optimizer].momentum;
    int status = schedule_check(&spec->schedule, spec->warmup_steps, e);
    return status ? status : check_early_stop(spec, labels, teacher, e);
}

int train_steps(int64_t *steps, int64_t *each, const struct train_spec *spec, size_t n, int64_t from, struct err *e) {
    int64_t course = spec->schedule.length;
    if (n == 0) return err_set(e, E_INVALID, "there are no samples to train on");
    *each = (size_t)spec->batch < n ? (int64_t)(n / (size_t)spec->batch) : 1;
    *steps = *each * (spec->epochs != PARAM_ABSENT ? spec->epochs : DEFAULT_EPOCHS);
    if (spec->steps != PARAM_ABSENT) *steps = spec->steps;
    if (course == PARAM_ABSENT || course - from >= *steps) return 0;
    return err_set_at(e, E_INVALID, "/train/schedule/length",
                      "a course of %lld steps has no room for %lld steps from step %lld on", (long long)course,
                      (long long)*steps, (long long)from);
}

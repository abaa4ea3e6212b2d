/* train.h - the training loop: shuffled epochs, loss, backward, update, evaluation, checkpoints.
 *
 * The result depends on the graph, the data, the specification and its seed alone: not on the number
 * of threads, and not on how often the run was interrupted and resumed. */
#ifndef ENGINE_NN_TRAIN_H
#define ENGINE_NN_TRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/param.h"
#include "engine/kernels/crew.h"
#include "engine/nn/checkpoint.h"
#include "engine/nn/evaluate.h"
#include "engine/nn/graph.h"
#include "engine/nn/loss.h"
#include "engine/nn/schedule.h"

enum early_stop_metric { STOP_ACCURACY, STOP_LOSS, STOP_AGREEMENT, STOP_KL };

struct early_stop {
    int metric;       /* enum early_stop_metric */
    int64_t patience; /* epochs without a better value */
};

/* The "train" object of requests. */
struct train_spec {
    int64_t epochs; /* one of the two is PARAM_ABSENT after train_check */
    int64_t steps;
    int64_t batch;
    int optimizer; /* row of optimizer_table */
    double learning_rate;
    bool has_optimizer, has_learning_rate; /* the request gave them */
    double momentum;                       /* NaN: the rule's own; filled in by train_check */
    double weight_decay;
    struct schedule_spec schedule;
    bool has_schedule;
    int64_t warmup_steps;
    double clip_norm; /* NaN: never */
    struct early_stop early_stop;
    bool has_early_stop;
    bool keep_optimizer; /* for the methods: task.keep_memory */
    int64_t seed;
};
extern const struct param train_params[];

/* Fills in what depends on other fields and refuses what does not fit together. Pointers in errors
 * are below /train. labels, teacher: whether the evaluation has them (for early_stop). */
int train_check(struct train_spec *spec, bool labels, bool teacher, struct err *e);

/* Steps of a run on n samples, and of an epoch: the rest of one that fills no batch is left out. E_INVALID when there is no
 * sample, or no room for the run in schedule.length from step `from` on. */
int train_steps(int64_t *steps, int64_t *each, const struct train_spec *spec, size_t n, int64_t from, struct err *e);

/* What the world hears and decides during a run. Any may be NULL. */
struct train_hooks {
    void *context;
    /* After every step, and between batches of an evaluation. An error ends the run with it. */
    int (*progress)(void *context, int64_t step, int64_t steps, struct err *e);
    void (*metric)(void *context, const char *series, int64_t step, double value);
    void (*log)(void *context, const char *text);
    /* Asked after every step: whether this is the time for a checkpoint. */
    bool (*checkpoint_due)(void *context);
    checkpoint_put *checkpoint_save;
    /* Looked for once, before the first step. One that is damaged or of another run is ignored. */
    int (*checkpoint_find)(struct checkpoint_source *out, void *context, struct err *e);
};

struct train_task {
    const struct train_spec *spec; /* checked */
    const struct loss_plan *loss;
    struct selection train;
    struct targets train_targets; /* of train.data */
    struct selection eval;        /* n = 0: no evaluation */
    struct targets eval_targets;  /* of eval.data */
    size_t memory;                /* bytes for the run, data not counted; 0 = no limit */

    /* Goes on where an earlier training of the graph stopped, if that was by the same optimizer and the graph keeps what
     * is needed for it (value.memory); otherwise the optimizer starts fresh, and the log says so. After
     * surgery it does for OPTIMIZER_REST steps what the network before would have done, see optimizer_take_pace. */
    bool go_on;
    /* Afterwards the graph keeps what the optimizer keeps (value.memory, graph.training), so that another run can go on.
     * With early_stop only when the last epoch was the best: what belongs to an earlier one is not kept. Otherwise, and
     * after an error, the graph keeps nothing. */
    bool keep_memory;
    /* Where in the schedule the run begins; schedule.length says how long it is then. */
    int64_t schedule_from;
};

struct train_result {
    struct score score;               /* of the parameters kept, on the evaluation set */
    int64_t steps, epochs;            /* done */
    int64_t best_epoch;               /* whose parameters were kept (from 1); the last one without early_stop */
    double loss;                      /* mean over the last epoch */
    double terms[2 * LOSS_MAX_TERMS]; /* the same for each term of the loss, unweighted */
    /* Bytes: of the parameters with all their copies (value, gradient, those of the optimizer and of early_stop)
     * and the live activations (struct net_memory); of all that the run took. Logged before the first step. */
    size_t memory_needed, memory_taken;
};

/* Trains the parameters of g (one input, one output of logits) and writes them back into it. Meanwhile, and
 * after an error, the graph has no weights, and keeps nothing of an optimizer: they are in memory once. */
int train_run(struct train_result *out, struct graph *g, struct crew *crew, const struct train_task *task,
              const struct train_hooks *hooks, struct err *e);

#endif

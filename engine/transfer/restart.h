/* restart.h - training that goes on where an earlier one of the same network, or of the one it was made of, stopped. */
#ifndef ENGINE_TRANSFER_RESTART_H
#define ENGINE_TRANSFER_RESTART_H

#include "base/error.h"
#include "base/json.h"
#include "engine/nn/graph.h"
#include "engine/nn/train.h"
#include "engine/transfer/method.h"

/* As in requests: "restart":"fresh". */
enum restart { RESTART_PARENT, RESTART_FRESH };
#define RESTART_CHOICES "parent fresh"

/* Loads into g what training left beside the network of a reference, if it left anything. Errors carry "/restart" and say
 * how to do without. */
int restart_recall(struct graph *g, const struct host *host, const char *reference, struct err *e);

/* The optimizer, the schedule and the learning rate, where the request left them open, are those of the training that g
 * keeps: its rule; the rest of its course, when it was one of several runs and there is room for this one on n samples, else
 * a constant rate; and restart_rate. */
void restart_complete(struct train_spec *s, const struct graph *g, size_t n);

/* The learning rate to go on with after the training that g keeps: its last one, but at least a tenth of its highest, which
 * is what Net2Net trains its students with (Chen et al. 2016, section 3.1) and what is left to learn with at the end
 * of a schedule. NaN: nothing is known of it. */
double restart_rate(const struct graph *g);

/* Whether a schedule of several runs has room for this one, on n samples; see train_steps. */
int restart_check(const struct train_spec *s, const struct graph *g, size_t n, struct err *e);

/* A task's go_on and schedule_from, for a checked spec. */
void restart_plan(struct train_task *task, const struct graph *g);

/* Members "optimizer", "continued", "mapped" (by surgery) or "fresh", as restart_plan decided for a graph that kept `kept`;
 * "learning_rate"; and when mapped "resting_steps": of this run's `steps` those in which what is new stands still. */
void restart_report(struct json_writer *w, const struct graph_training *kept, const struct train_spec *s,
                    int64_t steps);

#endif

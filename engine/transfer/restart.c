/* restart.c - see restart.h. */
#include "engine/transfer/restart.h"

#include <math.h>

#include "engine/nn/optimizer.h"

int restart_recall(struct graph *g, const struct host *host, const char *reference, struct err *e) {
    struct err why = {0};
    int status = host->load_memory(g, host->context, reference, &why);
    if (!status || status == E_NOT_FOUND) return 0;
    return err_set_at(e, status, "/restart", "%s; \"restart\":\"fresh\" does without", why.text);
}

static bool goes_on(const struct graph_training *kept, const struct train_spec *s) {
    return kept->rule >= 0 && kept->rule == s->optimizer;
}

double restart_rate(const struct graph *g) {
    if (g->training.rule < 0) return (double)NAN;
    return fmax(g->training.rate, g->training.peak / 10);
}

/* Takes the rest of a course of several runs, when it has room for this one. */
static bool take_course(struct train_spec *s, const struct graph_training *kept, size_t n) {
    struct train_spec with = *s;
    int64_t steps, each;
    with.schedule = kept->course;
    with.warmup_steps = kept->warmup;
    if (!s->has_learning_rate) with.learning_rate = kept->peak;
    if (s->has_schedule || kept->course.length < 1) return false;
    if (train_steps(&steps, &each, &with, n, (int64_t)kept->steps, NULL)) return false;
    *s = with;
    return true;
}

void restart_complete(struct train_spec *s, const struct graph *g, size_t n) {
    if (!s->has_optimizer && g->training.rule >= 0) s->optimizer = g->training.rule;
    if (!goes_on(&g->training, s) || take_course(s, &g->training, n) || s->has_learning_rate) return;
    s->learning_rate = restart_rate(g);
}

/* Where in a schedule of several runs this one begins. */
static int64_t begins_at(const struct train_spec *s, const struct graph *g) {
    return goes_on(&g->training, s) && s->schedule.length != PARAM_ABSENT ? (int64_t)g->training.steps : 0;
}

int restart_check(const struct train_spec *s, const struct graph *g, size_t n, struct err *e) {
    int64_t steps, each;
    return train_steps(&steps, &each, s, n, begins_at(s, g), e);
}

void restart_plan(struct train_task *task, const struct graph *g) {
    task->go_on = goes_on(&g->training, task->spec);
    task->schedule_from = begins_at(task->spec, g);
}

/* How many of a run's steps what surgery has added stands still. */
static int64_t resting(const struct graph_training *kept, int64_t steps) {
    int64_t left = OPTIMIZER_REST - (int64_t)(kept->steps - kept->since);
    return left < 0 ? 0 : left < steps ? left : steps;
}

void restart_report(struct json_writer *w, const struct graph_training *kept, const struct train_spec *s,
                    int64_t steps) {
    json_put_string(w, "optimizer", !goes_on(kept, s) ? "fresh" : kept->changed ? "mapped" : "continued");
    json_put_number(w, "learning_rate", s->learning_rate);
    if (goes_on(kept, s) && kept->changed) json_put_int(w, "resting_steps", resting(kept, steps));
}

/* teacher.h - networks that teach: their outputs over the data, worked out once and kept. */
#ifndef ENGINE_TRANSFER_TEACHER_H
#define ENGINE_TRANSFER_TEACHER_H

#include "base/error.h"
#include "base/param.h"
#include "engine/nn/evaluate.h"
#include "engine/transfer/material.h"
#include "engine/transfer/network.h"

/* "teacher", or {"model":"teacher","weight":2}. */
struct teacher_spec {
    char model[REFERENCE_SIZE];
    double weight;
};
extern const struct param teacher_list_params[]; /* the element row for PARAM_LIST */

struct teachers {
    struct network nets[TARGETS_MAX];
    double share[TARGETS_MAX]; /* weights over their sum */
    int n;
};

/* Loads them for that data set and checks that they agree on inputs and classes. Errors point at /teacher/i. */
int teachers_load(struct teachers *out, const struct teacher_spec *specs, int n, const struct dataset_spec *data,
                  const struct host *host, struct err *e);
void teachers_fini(struct teachers *t);

/* Logits of every teacher for every sample of `examples` that is selected, in targets by sample number, in
 * the host's scratch. From the host's cache where they are there - the key is made of the
 * digests of network and inputs and of the preprocessing - else computed and put there. Logs what it does. */
int teachers_answer(struct targets *out, const struct teachers *t, const struct examples *examples,
                    const struct host *host, struct crew *crew, struct err *e);

/* Scores each teacher's answers on a selection. */
int teachers_score(struct score scores[TARGETS_MAX], const struct teachers *t, const struct targets *answers,
                   const struct selection *s, const struct host *host, struct crew *crew, struct err *e);

/* Whether an accuracy over n samples is no better than chance: always saying the most frequent
 * class, or guessing, with three standard deviations of luck. Almost always wrong preprocessing. */
bool teacher_is_guessing(double accuracy, double majority, size_t classes, size_t n);

#endif

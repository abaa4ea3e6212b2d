/* evaluate.h - what a network answers over a data set, and how good that is. */
#ifndef ENGINE_NN_EVALUATE_H
#define ENGINE_NN_EVALUATE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/kernels/crew.h"
#include "engine/kernels/real.h"
#include "engine/nn/dataset.h"
#include "engine/nn/net.h"

/* Some samples of a data set, in an order. */
struct selection {
    const struct dataset *data;
    const uint32_t *index; /* NULL: 0 .. n - 1 */
    size_t n;
};

static inline uint32_t selection_sample(const struct selection *s, size_t i) {
    return s->index ? s->index[i] : (uint32_t)i;
}

/* Cuts a data set in two by a seeded permutation: round(fraction * samples) held out, the rest to train
 * on, each in ascending order. *index [samples] is the memory behind both, to be freed with mem_free. */
int selection_split(struct selection *train, struct selection *held_out, uint32_t **index, const struct dataset *data,
                    double fraction, uint64_t seed, struct err *e);

/* Teachers' logits by sample of the data set, with shares that add up to 1. */
#define TARGETS_MAX 16
struct targets {
    const real *logits[TARGETS_MAX]; /* [data->samples, classes] */
    double share[TARGETS_MAX];
    int n; /* 0: no teacher */
};

/* Called between batches; an error stops the work. */
struct tick {
    int (*call)(void *context, struct err *e); /* may be NULL */
    void *context;
};

/* Writes the network's first output, one row per selected sample, to out[sample * classes], where sample
 * is its number in the data set when `scatter`, else its place in the selection. The net must not be a
 * training one. */
int evaluate_logits(real *out, struct net *net, const struct selection *s, bool scatter, struct tick tick,
                    struct err *e);

/* NaN for what cannot be told: accuracy and loss without labels, agreement and kl without teacher. */
struct score {
    double accuracy;  /* share of samples whose largest logit (the first of equals) is the label's */
    double loss;      /* mean cross entropy with the labels */
    double agreement; /* share of samples with the same largest answer as the teachers' mixture */
    double kl;        /* mean KL(teachers' mixture || network) at temperature 1 */
};

/* Scores logits [s->n, classes], in the order of the selection. The data set has labels or it has not;
 * targets->n = 0 without teachers. */
int evaluate_score(struct score *out, struct crew *crew, const real *logits, const struct selection *s,
                   const struct targets *targets, size_t classes, struct err *e);

/* Share of the most frequent label: what guessing always the same scores. */
int evaluate_majority(double *out, const struct selection *s, size_t classes, struct err *e);

size_t evaluate_argmax(const real *z, size_t n);

/* Elements of one row of the network's first output. */
size_t evaluate_width(const struct net *net);

#endif

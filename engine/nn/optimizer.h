/* optimizer.h - update rules on the flat parameter array: a table, and the state they keep.
 *
 * Formulas are those of PyTorch's torch.optim, to be comparable number by number: weight decay is
 * added to the gradient (g += w p), Adam's and RMSProp's epsilon stands outside the root. The work
 * is cut into blocks of fixed size, so results do not depend on the number of threads. */
#ifndef ENGINE_NN_OPTIMIZER_H
#define ENGINE_NN_OPTIMIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/kernels/crew.h"
#include "engine/kernels/real.h"
#include "engine/nn/origin.h"

#define OPTIMIZER_BLOCK 16384 /* elements of one unit of work */
#define OPTIMIZER_MAX_COPIES 2

/* After surgery: steps in which the paces hold, and steps after which nothing is left of them. */
#define OPTIMIZER_REST 100
#define OPTIMIZER_YOUTH 500

/* What a rule is given for one block. */
struct optimizer_update {
    real rate;      /* learning rate of this step */
    real scale;     /* multiplies gradients first: clipping */
    real decay;     /* weight decay */
    real momentum;  /* sgd, rmsprop: of the step; adam: beta 1 */
    real smoothing; /* adam: beta 2; rmsprop: alpha */
    real rest[2];   /* 1 - momentum, 1 - smoothing, rounded once: 1 - 0.999f is off by 5e-5 */
    real epsilon;
    real correction[2];       /* adam: 1 - beta1^t, sqrt(1 - beta2^t) */
    real grown;               /* how far pace and tilt have gone to 1 */
    real young_correction[2]; /* correction of the parameters that are new */
};

/* A row of the table. */
struct optimizer_rule {
    const char *name;
    const char *help;                    /* formula, one line */
    int copies;                          /* state arrays as long as the parameters, all starting at 0 */
    int powers[OPTIMIZER_MAX_COPIES];    /* of each copy: by which power of a factor it grows when all gradients do */
    int power;                           /* the same of the step that it takes */
    double momentum, smoothing, epsilon; /* standard values */
    /* pace, tilt: see struct optimizer; NULL: none. */
    void (*update)(const struct optimizer_update *u, real *p, const real *g, real *const *state, const real *pace,
                   const real *tilt, size_t n);
};
extern const struct optimizer_rule optimizer_table[]; /* ended by name NULL */
#define OPTIMIZER_NAMES "sgd adam rmsprop"            /* its rows, in order */

struct optimizer {
    const struct optimizer_rule *rule;
    double momentum, smoothing, epsilon, weight_decay;
    size_t n;                          /* parameters */
    real *state;                       /* [copies][n] */
    double *partial;                   /* sums of squares, one per block */
    uint64_t steps;                    /* taken so far */
    real *pace;                        /* [2 n], NULL: none; see optimizer_take_pace */
    uint64_t since;                    /* steps that had been taken when surgery changed the network */
    uint64_t begun;                    /* and when the means of what is new began */
    struct optimizer_origins *origins; /* owned, NULL: none; see optimizer_take_origins */
};

/* Parameters that are none of the network's any more, and whose training others carry on: engine/nn/origin.h. Behind them
 * the factors of mergers, which follow them and are followed in their turn. */
struct optimizer_origins {
    struct optimizer own; /* of those that are trained, the first own.n */
    size_t n;
    real *weights, *gradients, *change; /* [n] each; by this step */
    real *scratch;
    struct optimizer_carrier { /* one that follows others; those that follow it come later */
        bool inner;            /* is a factor itself, and no parameter of the network */
        bool merged;
        size_t at[2]; /* its first element, and its bias's or ORIGIN_NOWHERE: among those of the network or these */
        size_t from[MERGER_FACTORS];  /* what it follows, among these; without a merger the first */
        size_t count[MERGER_FACTORS]; /* of factors: elements, 0 when missing */
        struct frame frame;
        struct joint joint;
    } * carriers;
    int n_carriers;
};
#define ORIGIN_NOWHERE SIZE_MAX

/* State for n parameters. `momentum` NaN takes the rule's standard. Free with optimizer_fini. */
int optimizer_init(struct optimizer *out, const struct optimizer_rule *rule, size_t n, double momentum,
                   double weight_decay, struct err *e);
void optimizer_fini(struct optimizer *o);

/* For a network that surgery has changed, and which shall go on as the one before would have done. Gives each parameter a
 * pace, pace[i], and a tilt, pace[n + i], all 1, to be set by the caller. The pace is a factor of the learning rate. The
 * tilt is one of the weight decay, and its inverse one of the squares in the gradient's norm.
 *
 * Of a weight that makes a share a of a channel and reads a share b of one, the gradient is a times what it was, and the
 * step shall be b times what it was: with a rule whose step grows with the power k of the gradient, the pace is b a^-k
 * and the tilt a / b.
 *
 * They hold for OPTIMIZER_REST steps and then go to 1, with the square of the time, until at OPTIMIZER_YOUTH all
 * parameters are equal. Those that are new have the pace 0: they stand still at first and do not count in the norm, while
 * the rule's means are gathered, and Adam corrects their means by the steps since they are there. */
int optimizer_take_pace(struct optimizer *o, struct err *e);

/* What origins take. */
struct origins_size {
    size_t trained, factors, scratch; /* elements */
    int carriers;
};

/* Gives it room for them, all zeros, to be filled in by the caller. Their step has the rate's part that the carriers' own
 * steps, new parameters as they are, do not have yet. */
int optimizer_take_origins(struct optimizer *o, const struct origins_size *size, struct err *e);

/* Whether paces and origins still count. When not, the next step gives the paces back; origins stay for checkpoints. */
bool optimizer_is_young(const struct optimizer *o);

/* One step: parameters -= rate * rule(gradients), gradients scaled down first when their L2 norm is above
 * clip_norm (torch's clip_grad_norm_; 0 = never). Returns the norm before clipping, or 0 when it was
 * not needed. When the norm is not finite nothing is changed and it is returned as it is. */
double optimizer_step(struct optimizer *o, struct crew *crew, real *parameters, const real *gradients, double rate,
                      double clip_norm);

/* Elements of state, for checkpoints: state[0 .. copies * n). */
size_t optimizer_state_count(const struct optimizer *o);

#endif

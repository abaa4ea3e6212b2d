/* merger.h - two linear layers A and B in whose place one, C, has come, and which are trained on in its stead: an origin
 * (origin.h) of weights and bias together.
 *
 *   chain  y = B (A x + a) + b      C = B A, c = B a + b
 *   sum    y = A x + a + B x + b    C = A + B, c = a + b
 *
 * tap by tap, where tap u of A and v of B fall on tap u + v of C, or each on its own. The gradients of the four are those
 * of C and c through these formulas, and C and c change by as much as what stands on the right. */
#ifndef ENGINE_NN_MERGER_H
#define ENGINE_NN_MERGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/kernels/real.h"
#include "engine/nn/array.h"

struct origin;
struct scaling;

enum { FACTOR_A, FACTOR_A_BIAS, FACTOR_B, FACTOR_B_BIAS, MERGER_FACTORS };

/* How C is made, as numbers of an array so that it is stored like one. By axis: how many taps of C are from tap to tap of a
 * layer, and where its first one falls. */
enum {
    MERGER_IS_SUM,
    MERGER_GROUPS,  /* of C */
    MERGER_COLUMNS, /* of C, A, B: whether the weights are [in][out], as those of MatMul; else [out][in][taps] */
    MERGER_STEP = MERGER_COLUMNS + 3, /* [A, B][height, width] */
    MERGER_START = MERGER_STEP + 4,
    MERGER_NUMBERS = MERGER_START + 4
};

#define MERGER_DEEPEST 6 /* mergers of what has been merged before */

struct merger {
    struct array *plan; /* owned, [MERGER_NUMBERS] of reals */
    struct array
        *factor[MERGER_FACTORS]; /* owned, as they are now; NULL: biases, and what is added and never changes */
    struct origin *origin[MERGER_FACTORS]; /* owned; in what a factor is trained on, NULL: it stays as it is */
};

void merger_free(struct merger *m);
int merger_clone(struct merger **out, const struct merger *m, struct err *e);
int merger_depth(const struct merger *m); /* 1 for two layers that are no mergers */

/* See origin_scale: scales the factors, and what they came from. */
int merger_scale(struct merger *m, const struct shape *carrier, const struct scaling *s, struct err *e);

/* A merger ready to be used. */
struct joint {
    bool sum;
    int64_t groups;
    struct joint_side {
        int64_t out, in, groups, taps; /* in: of one group */
        int64_t kernel[2], step[2], start[2];
        bool columns;
    } a, b, c;
};

/* `carrier`: the weights of C. E_INVALID when the parts do not fit together, also when they are larger than origins may be.
 * Makes the plan and the factors arrays of reals. */
int joint_init(struct joint *j, struct merger *m, const struct shape *carrier, const char *name, struct err *e);
size_t joint_scratch(const struct joint *j); /* reals */

/* Gradients of the factors from those of C and c. A missing bias is NULL, on either side. */
void joint_pull(real *const gradient[MERGER_FACTORS], const real *const factor[MERGER_FACTORS], const real *weights,
                const real *bias, const struct joint *j, real *scratch);

/* Adds to C and c what has become of them by a change of the factors, which are given as they are now. */
void joint_push(real *weights, real *bias, const real *const factor[MERGER_FACTORS],
                const real *const change[MERGER_FACTORS], const struct joint *j, real *scratch);

#endif

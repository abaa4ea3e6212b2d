/* product.h - matrix products of any two values: what Gemm and MatMul do beyond dense layers. */
#ifndef ENGINE_OPS_PRODUCT_H
#define ENGINE_OPS_PRODUCT_H

#include "engine/ops/common.h"
#include "engine/ops/walk.h"

struct product_state {
    int m, n, k;
    bool transpose_a, transpose_b;
    bool rows_vary; /* m is a lane's share of the rows of a */
    real alpha, beta;
    struct walk batch;   /* operands: y, a, b; matrices from one index to the next */
    struct walk bias[2]; /* y, c; c, y */
    bool spread[3];      /* operand k serves several products, or c several elements */
    struct target target[3];
};

/* E_TOO_LARGE when a dimension is beyond what the kernels count in. */
int product_check(const struct inference *i, struct err *e);

/* Shapes of MatMul, with the dimensions before the last two broadcast. */
int product_infer(struct inference *i, struct err *e);

/* y = alpha op(a) op(b) + beta c. For Gemm, whose a and b are matrices, and for MatMul. */
int product_plan(struct call *c, struct plan *p, struct err *e);

#endif

/* unary.h - operators that make each number from one number: loops over contiguous memory, whatever
 * its layout. unary.c has the plain formulas; Clip and Gelu choose theirs. */
#ifndef ENGINE_OPS_UNARY_H
#define ENGINE_OPS_UNARY_H

#include "engine/nn/op.h"

/* The formula and its slope, with two settings. `kept` is x or y, as the operator's `keeps` says. */
struct unary_loops {
    void (*forward)(const real *from, real *to, size_t n, real alpha, real beta);
    void (*backward)(const real *kept, const real *dy, real *dx, size_t n, real alpha, real beta, bool add);
};

struct unary_state {
    const struct unary_loops *loops;
    real alpha, beta;
};

/* Defines loops_<name>. The formula may use x, alpha and beta, the slope also y. */
#define UNARY_LOOPS(name, formula, slope) \
    VECTORISED static void forward_##name(const real *from, real *to, size_t n, real alpha, real beta) { \
        (void)alpha, (void)beta; \
        for (size_t i = 0; i < n; i++) { \
            const real x = from[i]; \
            to[i] = (real)(formula); \
        } \
    } \
    static inline __attribute__((always_inline)) void give_##name(const real *kept, const real *dy, real *dx, \
                                                                  size_t n, real alpha, real beta, bool add) { \
        (void)alpha, (void)beta; \
        for (size_t i = 0; i < n; i++) { \
            const real x = kept[i], y = kept[i]; \
            (void)x, (void)y; \
            dx[i] = dy[i] * (real)(slope) + (add ? dx[i] : 0); \
        } \
    } \
    VECTORISED static void backward_##name(const real *kept, const real *dy, real *dx, size_t n, real alpha, \
                                           real beta, bool add) { \
        if (add) \
            give_##name(kept, dy, dx, n, alpha, beta, true); /* two loops: one with a test is not vectorised */ \
        else \
            give_##name(kept, dy, dx, n, alpha, beta, false); \
    } \
    static const struct unary_loops loops_##name = {forward_##name, backward_##name};

/* Registers the steps; the state is filled. */
int unary_plan(struct call *c, struct plan *p, struct err *e);
/* The shape, and the value of what is constant. */
int unary_infer(struct inference *i, const struct unary_state *s, struct err *e);

#endif

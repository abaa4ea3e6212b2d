/* factor.h - one convolution as two: the depth morph of Network Morphism (Wei et al. 2016, arXiv:1603.01670).
 *
 * The first factor goes from the inputs to `inner` channels, the second from these to the outputs, and the second after
 * the first is the filter. One of them is noise, the other the shortest solution of the linear system that remains.
 * That there are as many unknowns as equations does not make such a system solvable (its rank may be lower), so what
 * counts is the residual: it is computed by composing the factors again, and above FACTOR_EXACT the split is refused.
 *
 * FACTOR_GENERAL (the paper's Algorithm 1) fills both factors; it needs about inner * taps of the solved factor >=
 * channels * taps of the composed filter. FACTOR_PRACTICAL (Algorithm 2) shrinks the noise, two taps at a time, at last
 * to one tap amid zeros, and then inner >= out (noise in the second) or inner >= in (noise in the first) is enough.
 *
 * Noise of one tap has orthonormal rows, which makes the solved factor no larger than it must be; noise of large
 * systems is drawn so that the system falls into parts, then mixed by a random rotation of the inner channels: as dense
 * as any other, and the work falls with the square of the number of parts. */
#ifndef ENGINE_SURGERY_FACTOR_H
#define ENGINE_SURGERY_FACTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/random.h"
#include "engine/surgery/filter.h"

#define FACTOR_EXACT 1e-12 /* residual in units of the filter's norm */

enum factor_way { FACTOR_ANY, FACTOR_GENERAL, FACTOR_PRACTICAL };

struct factor_options {
    int inner;               /* channels between the two */
    int first[2], second[2]; /* taps: height, width */
    enum factor_way way;     /* FACTOR_ANY: general where it is exact, else practical */
    int sweeps;              /* of the alternation, when one solution is not exact; 0: FACTOR_SWEEPS, negative: none */
    bool approximate;        /* the best there is instead of a refusal */
    double gain;   /* FACTOR_PRACTICAL: norms of both factors / norm of the filter above which the noise shrinks on
                              * although the split is exact; 0: none */
    bool sketch;   /* factors of the right shapes, which nobody wants to compose */
    size_t memory; /* bytes that a solution may take, also in a sketch; 0: no limit */
};
enum { FACTOR_SWEEPS = 60 };

struct factor_pair {
    struct filter first, second;  /* equal root mean squares over the taps inside the margins */
    int margins1[4], margins2[4]; /* rows and columns that are zero by construction: top, left, bottom, right */
    int offset[2];                /* where the parent's first tap is in the composed kernel */
    enum factor_way way;          /* the one that was used */
    bool solved_first;            /* which factor was solved for (last), the other is noise */
    bool exact;
    double residual;                   /* |composed - parent| / |parent| */
    int64_t equations, unknowns, rank; /* of the system, one channel's */
    int sweeps;                        /* of the alternation; 0: the first solution */
};

/* E_UNSUPPORTED, with the figures, when the split is not exact and `approximate` was not asked for; E_TOO_LARGE when it
 * takes more than the options' memory. */
int factor_split(struct factor_pair *out, const struct filter *g, const struct factor_options *options,
                 struct random *random, struct err *e);
void factor_pair_fini(struct factor_pair *p);

/* For what is put together from more than two: noise of a standard deviation, orthonormal rows or columns if it has one
 * tap; and the shortest factor (allocated, its contents do not matter) that comes closest to g with `given` as the other
 * one. `first`: it is the first one. No residual is refused. factor_afford: E_TOO_LARGE when that takes more than so many
 * bytes, unless they are 0. */
void factor_sketch(struct filter *f, struct random *random); /* any numbers of float32, quickly */
int factor_noise(struct filter *f, double deviation, struct random *random, struct err *e);
int factor_solve(struct filter *solved, double *residual, const struct filter *given, bool first,
                 const struct filter *g, struct err *e);
int factor_afford(const struct filter *solved, const struct filter *given, bool first, const struct filter *g,
                  size_t memory, struct err *e);

/* How the factors have to move so that the borders are exact too, from how the parent moved. The first has no bias, the
 * parent's belongs to the second. Stride goes to the second, unless `early` asks for it in the first and the second reads
 * one tap only (then the first computes less). */
void factor_windows(struct filter_window *first, struct filter_window *second, const struct factor_pair *p,
                    const struct filter *g, const struct filter_window *parent, bool early);

#endif

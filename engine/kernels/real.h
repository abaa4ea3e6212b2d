/* real.h - the engine's number: float. A second build makes it double, for gradient tests
 * and for proofs of equality. */
#ifndef ENGINE_KERNELS_REAL_H
#define ENGINE_KERNELS_REAL_H

#include <math.h>

typedef RETORT_REAL real;

/* The math functions at the precision of `real`. */
#define real_exp(x) _Generic((real)0, float : expf, double : exp)(x)
#define real_log(x) _Generic((real)0, float : logf, double : log)(x)
#define real_tanh(x) _Generic((real)0, float : tanhf, double : tanh)(x)
#define real_sqrt(x) _Generic((real)0, float : sqrtf, double : sqrt)(x)
#define real_pow(x, y) _Generic((real)0, float : powf, double : pow)(x, y)
#define real_abs(x) _Generic((real)0, float : fabsf, double : fabs)(x)
#define real_erf(x) _Generic((real)0, float : erff, double : erf)(x)
#define real_log1p(x) _Generic((real)0, float : log1pf, double : log1p)(x)
#define real_max(x, y) _Generic((real)0, float : fmaxf, double : fmax)(x, y)
#define real_min(x, y) _Generic((real)0, float : fminf, double : fmin)(x, y)
#define real_floor(x) _Generic((real)0, float : floorf, double : floor)(x)

/* Loops marked so are compiled for AVX-512, AVX2 and plain x86-64; the machine picks at start.
 * Sanitizers cannot run the resolver that picks, so there they are compiled once. */
#if defined(__x86_64__) && defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
    !defined(RETORT_PLAIN_LOOPS)
#define VECTORISED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), optimize("O3")))
#else
#define VECTORISED
#endif

#endif

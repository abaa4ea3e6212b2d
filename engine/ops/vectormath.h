/* vectormath.h - exp, tanh, erf and friends without branches or calls, so that loops over them become
 * vector code. In float they are within 2 units in the last place; in the double build they are the
 * library's. Arguments beyond the range give the largest or smallest result, not infinity. */
#ifndef ENGINE_OPS_VECTORMATH_H
#define ENGINE_OPS_VECTORMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "engine/kernels/real.h"

#define VECTORMATH static inline __attribute__((always_inline))

/* 2^n by its bits; n in [-126, 127]. */
VECTORMATH float power_of_two(float n) {
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* exp(x) = 2^n * exp(r), |r| <= ln(2) / 2; polynomial of Cephes' expf. */
VECTORMATH float vector_expf(float x) {
    x = x > 88.37626f ? 88.37626f : x;
    x = x < -87.33654f ? -87.33654f : x;
    float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* rounds: 1.5 * 2^23 leaves no place for a fraction */
    float r = x - n * 0.693359375f - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return (p * r * r + r + 1.0f) * power_of_two(n);
}

/* Cephes' tanhf. */
VECTORMATH float vector_tanhf(float x) {
    float a = fabsf(x), s = x * x;
    float p = -5.70498872745e-3f;
    p = p * s + 2.06390887954e-2f;
    p = p * s - 5.37397155531e-2f;
    p = p * s + 1.33314422036e-1f;
    p = p * s - 3.33332819422e-1f;
    float near = p * s * x + x, far = 1.0f - 2.0f / (vector_expf(a + a) + 1.0f);
    return a < 0.625f ? near : copysignf(far, x);
}

/* Two polynomials, by N. Juffa. */
VECTORMATH float vector_erff(float x) {
    float a = fabsf(x), s = x * x;
    float r = -1.72853470e-5f * a + 3.83197126e-4f, u = -3.88396438e-3f * a + 2.42546219e-2f;
    r = r * s + u;
    r = r * a - 1.06777877e-1f;
    r = r * a - 6.34846687e-1f;
    r = r * a - 1.28717512e-1f;
    r = r * a - a;
    float p = -5.96761703e-4f;
    p = p * s + 4.99119423e-3f;
    p = p * s - 2.67681349e-2f;
    p = p * s + 1.12819925e-1f;
    p = p * s - 3.76125336e-1f;
    p = p * s + 1.28379166e-1f;
    float near = p * a + a, far = 1.0f - vector_expf(r < -87.0f ? -87.0f : r);
    return copysignf(a > 0.927734375f ? far : near, x);
}

/* log(x) for x > 0, finite; polynomial of Cephes' logf. */
VECTORMATH float vector_logf(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    int32_t n = (bits - 0x3f3504f3) >> 23; /* so that the mantissa lies in [sqrt(1/2), sqrt(2)) */
    bits -= (int32_t)((uint32_t)n << 23);
    float m;
    memcpy(&m, &bits, sizeof m);
    float r = m - 1.0f, z = r * r, e = (float)n;
    float p = 7.0376836292e-2f;
    p = p * r - 1.1514610310e-1f;
    p = p * r + 1.1676998740e-1f;
    p = p * r - 1.2420140846e-1f;
    p = p * r + 1.4249322787e-1f;
    p = p * r - 1.6668057665e-1f;
    p = p * r + 2.0000714765e-1f;
    p = p * r - 2.4999993993e-1f;
    p = p * r + 3.3333331174e-1f;
    return r + (p * r * z + e * -2.12194440e-4f - 0.5f * z) + e * 0.693359375f;
}

/* exp(x) - 1 for x <= 0, exact near 0 as well: tanh has no cancellation there. */
VECTORMATH float vector_expm1f(float x) {
    float t = vector_tanhf(x * 0.5f);
    return 2.0f * t / (1.0f - t);
}

#define vector_expm1(x) _Generic((real)0, float : vector_expm1f, double : expm1)(x)
#define vector_exp(x) _Generic((real)0, float : vector_expf, double : exp)(x)
#define vector_tanh(x) _Generic((real)0, float : vector_tanhf, double : tanh)(x)
#define vector_erf(x) _Generic((real)0, float : vector_erff, double : erf)(x)
#define vector_log(x) _Generic((real)0, float : vector_logf, double : log)(x)

VECTORMATH real vector_sigmoid(real x) {
    return 1 / (1 + vector_exp(-x));
}
/* log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)) */
VECTORMATH real vector_softplus(real x) {
    return (x > 0 ? x : 0) + vector_log(1 + vector_exp(-real_abs(x)));
}

#endif

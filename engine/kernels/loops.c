/* loops.c - compiled for several instruction sets, see VECTORISED. */
#include "engine/kernels/loops.h"

#include <string.h>

VECTORISED void loop_add(real *to, const real *from, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] += from[i];
}

void loop_give(real *to, const real *from, size_t n, bool add) {
    if (add)
        loop_add(to, from, n);
    else
        memcpy(to, from, n * sizeof(real));
}

VECTORISED void loop_relu_mask(real *dy, const real *y, size_t n) {
    for (size_t i = 0; i < n; i++) dy[i] = y[i] > 0 ? dy[i] : 0;
}

VECTORISED void loop_bias_relu(real *y, const real *bias, size_t rows, size_t n, bool relu) {
    for (size_t r = 0; r < rows; r++, y += n) {
        if (bias)
            for (size_t i = 0; i < n; i++) y[i] += bias[i];
        if (relu)
            for (size_t i = 0; i < n; i++) y[i] = y[i] > 0 ? y[i] : 0;
    }
}

VECTORISED void loop_column_sums(real *sums, const real *x, size_t rows, size_t n) {
    memset(sums, 0, n * sizeof(real));
    for (size_t r = 0; r < rows; r++, x += n)
        for (size_t i = 0; i < n; i++) sums[i] += x[i];
}

/* conv.h - the kernel table's convolutions: two-dimensional, channels last, behind two backends.
 *
 * Data is [n, height, width, channels], weights come and go as ONNX has them:
 * [out, in/groups, kernel height, kernel width]. A backend may want them packed in an order of
 * its own; the caller owns the packed buffers. One `struct conv` serves all threads at once, each
 * with its own number and its own scratch. "Convolution" is cross-correlation, as in ONNX Conv;
 * 1-D signals have height 1. */
#ifndef ENGINE_KERNELS_CONV_H
#define ENGINE_KERNELS_CONV_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "engine/kernels/real.h"

struct conv_shape {
    int n; /* samples in one call */
    int in_channels, in_height, in_width;
    int out_channels, out_height, out_width;
    int kernel_height, kernel_width;
    int stride_height, stride_width;
    int dilation_height, dilation_width;
    int pad_top, pad_left, pad_bottom, pad_right;
    int groups;
};

/* What the caller will ask for. */
struct conv_uses {
    bool backward_weights, backward_data;
    bool bias;
    bool residual; /* forward also adds a tensor like y */
    bool relu;     /* and then applies max(0, y) */
    int threads;
    const struct conv *like; /* NULL, or one of the same backend and other sizes, whose packed weights this one takes;
                                E_UNSUPPORTED where those do not suit it */
};

/* Sizes in elements of `real`. */
struct conv_sizes {
    size_t packed;          /* weights for forward */
    size_t packed_backward; /* weights for backward_data; 0 when not asked for */
    size_t gradient;        /* packed weight gradient */
    size_t scratch;         /* per thread */
    int rows;               /* rows of y are best computed in multiples of this */
};

struct conv;

struct conv_backend {
    const char *name;
    /* E_UNSUPPORTED when this backend cannot do the shape. Free with `close`. */
    int (*open)(struct conv **out, const struct conv_shape *shape, const struct conv_uses *uses, struct err *e);
    void (*close)(struct conv *c);
    struct conv_sizes (*sizes)(const struct conv *c);
    void (*pack)(struct conv *c, const real *weights, real *packed);
    void (*pack_backward)(struct conv *c, const real *weights, real *packed);
    /* y = conv(x) + bias + residual (NULL: none; it may be y). */
    void (*forward)(struct conv *c, int thread, const real *x, const real *packed, const real *bias,
                    const real *residual, real *y, real *scratch);
    /* dx = conv^T(dy), overwritten. */
    void (*backward_data)(struct conv *c, int thread, const real *dy, const real *packed, real *dx, real *scratch);
    /* Overwrites the packed gradient and, where there is a bias, its gradient [out_channels]. */
    void (*backward_weights)(struct conv *c, int thread, const real *x, const real *dy, real *gradient, real *d_bias,
                             real *scratch);
    /* Packed gradient to ONNX order, added to or overwriting dw. */
    void (*unpack)(struct conv *c, const real *gradient, real *dw, bool add);
};

/* Opens the best backend that can do the shape; *backend is borrowed. */
int conv_open(struct conv **out, const struct conv_backend **backend, const struct conv_shape *shape,
              const struct conv_uses *uses, struct err *e);

/* The backends in order of preference; ends with NULL. The last one can do every shape. */
extern const struct conv_backend *const conv_backends[];

/* The portable backend: im2col and BLAS. */
extern const struct conv_backend conv_blas;

/* Forward only, from few channels. */
extern const struct conv_backend conv_runs;

/* 3x3 kernels of stride 1 in fewer products. */
extern const struct conv_backend conv_winograd;

#endif

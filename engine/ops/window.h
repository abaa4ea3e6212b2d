/* window.h - kernels that slide over one or two spatial axes: what Conv and the pools share. */
#ifndef ENGINE_OPS_WINDOW_H
#define ENGINE_OPS_WINDOW_H

#include "base/error.h"
#include "engine/nn/op.h"

/* A signal of one spatial axis has height 1. */
struct window {
    int in[2], kernel[2], stride[2], dilation[2], pad_begin[2], pad_end[2], out[2]; /* height, width */
};

/* Reads kernel_shape (or takes kernel[axes] when the node has none), strides, dilations, pads,
 * auto_pad and ceil_mode for data of shape [n, c, (height,) width], and computes the output size.
 * E_UNSUPPORTED for three spatial axes, E_INVALID for what does not fit. */
int window_read(struct window *w, const struct node *n, const struct shape *data, const int64_t *kernel, struct err *e);

/* [n, channels, (out height,) out width] for data of that rank. */
struct shape window_shape(const struct window *w, const struct shape *data, int64_t channels);

#endif

/* filter.h - the weights of a convolution as plain numbers in double, and what surgery does with them.
 *
 * A dense layer is a filter of 1 by 1. Grouped convolutions are as many filters as there are groups. "Convolution" is
 * what ONNX calls so: no kernel is turned round. */
#ifndef ENGINE_SURGERY_FILTER_H
#define ENGINE_SURGERY_FILTER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct filter {
    int out, in, h, w;
    double *data; /* [out][in][h][w], owned */
};

/* Zeros. What was in *f is not looked at. E_TOO_LARGE from 2 GiB on. */
int filter_init(struct filter *f, int out, int in, int h, int w, struct err *e);
void filter_fini(struct filter *f);

size_t filter_count(const struct filter *f);
double filter_norm(const struct filter *f); /* root of the sum of squares */

int filter_copy(struct filter *out, const struct filter *f, struct err *e);

/* f in the middle of h by w zeros, one tap nearer to the beginning where there is no middle, or with its first tap at
 * top, left. E_UNSUPPORTED when it does not fit. */
int filter_embed(struct filter *out, const struct filter *f, int h, int w, struct err *e);
int filter_embed_at(struct filter *out, const struct filter *f, int h, int w, int top, int left, struct err *e);
int filter_offset(int inner, int outer); /* where filter_embed puts the first tap */

/* The h by w taps from top, left on. */
int filter_crop(struct filter *out, const struct filter *f, int h, int w, int top, int left, struct err *e);

/* Channels turned over: [in][out][h][w]. */
int filter_transpose(struct filter *out, const struct filter *f, struct err *e);

/* f += scale * g, g in the middle of f. */
int filter_add(struct filter *f, double scale, const struct filter *g, struct err *e);

/* Rows and columns of taps that are zero in every channel, from each side: top, left, bottom, right. All zero: the last
 * remaining tap is the first one. */
void filter_margins(int margins[4], const struct filter *f);

/* second after first, strides and dilations 1: G[j,i,U] = sum over l, u of first[l,i,u] second[j,l,U-u], kernels of
 * h1 + h2 - 1 by w1 + w2 - 1. */
int filter_compose(struct filter *out, const struct filter *first, const struct filter *second, struct err *e);

/* How a filter moves over an image: axis 0 is the height. In pixels. */
struct filter_window {
    int stride[2], dilation[2], begin[2], end[2]; /* begin, end: the padding */
};

/* Two convolutions with nothing between them, as one. */
struct filter_chain {
    struct filter filter;
    struct filter_window window;
    double *bias; /* [out], NULL when there was none; owned */
    bool exact;   /* also at the borders; the interior always is */
};

/* bias1, bias2 may be NULL. Padding between the two is what makes `exact` false: it puts zeros where the merged
 * convolution sees bias1 and the image. Not so when the first gives zeros there as well, or the second reads them with
 * weights of zero. */
int filter_chain(struct filter_chain *out, const struct filter *first, const struct filter_window *window1,
                 const double *bias1, const struct filter *second, const struct filter_window *window2,
                 const double *bias2, struct err *e);
void filter_chain_fini(struct filter_chain *c);

#endif

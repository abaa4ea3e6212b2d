/* linear.h - layers that are linear, as plain numbers: Conv, ConvTranspose, Gemm and MatMul by constants; and nodes that
 * scale and shift every channel by itself, as BatchNormalization does with fixed statistics.
 *
 * Reading copies the numbers into doubles; writing puts them back as float64 constants, which is what computed constants
 * are until a network is rounded as a whole. What an optimizer kept of the old ones is forgotten. */
#ifndef ENGINE_SURGERY_LINEAR_H
#define ENGINE_SURGERY_LINEAR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/nn/graph.h"
#include "engine/surgery/edit.h"

/* ---- layers ---- */

enum { LINEAR_WEIGHTS_MOST = 1 << 28 }; /* of one layer */

enum linear_kind { LINEAR_CONV, LINEAR_TRANSPOSED, LINEAR_DENSE };

struct linear {
    enum linear_kind kind;
    int node, data, made;    /* the node, what it reads, what it makes */
    int64_t out, in, groups; /* in: of one group */
    int axes;                /* spatial ones of the data: 0 (dense), 1 or 2 */
    int64_t kernel[2];       /* height, width; 1 where there is no such axis */
    double *weights;         /* [out][in][height][width], owned */
    double *bias;            /* [out], owned; zeros when there is none */
    bool has_bias;
    bool columns; /* the constant is [in][out], as that of MatMul */
};

/* 0 when the node is such a layer, its weights constant and data and weights of the rank that goes with it;
 * E_UNSUPPORTED says what it lacks. Dense layers work on rows: data of rank 2. */
int linear_check(const struct graph *g, int node, struct err *e);

/* As linear_check, and nothing else may read its weights and bias: E_UNSUPPORTED names the other reader. */
int linear_check_own(const struct graph *g, const struct uses *u, int node, struct err *e);

/* Of a node that passed linear_check: all but weights and bias, which are NULL. */
void linear_describe(struct linear *l, const struct graph *g, int node);

/* E_TOO_LARGE beyond LINEAR_WEIGHTS_MOST. */
int linear_read(struct linear *l, const struct graph *g, int node, struct err *e);
void linear_fini(struct linear *l);

/* Weights of one output channel. */
static inline int64_t linear_fan_in(const struct linear *l) {
    return l->in * l->kernel[0] * l->kernel[1];
}

/* Puts weights and bias into the node that they were read from, whose constants nothing else may read. A bias that is
 * needed now is added; a MatMul with a bias becomes a Gemm. Kernel, groups and channels may be others than before; the
 * window is for edit_set_window. */
int linear_write(struct graph *g, const struct linear *l, struct err *e);

/* The bias alone, which the node has afterwards. */
int linear_write_bias(struct graph *g, const struct linear *l, struct err *e);

/* Frees the constants that nothing reads any more, as after nodes were dropped. */
int linear_sweep(struct graph *g, struct err *e);

/* Input k of a node, which is lengthened where needed. */
int linear_set_input(struct graph *g, int node, int k, int value, struct err *e);

/* How the kernel of a Conv or a pool slides, automatic padding resolved. */
int linear_window(struct edit_window *w, const struct graph *g, int node, const int64_t kernel[2], struct err *e);
bool linear_is_padded(const struct edit_window *w);

/* ---- channel by channel ---- */

/* y = scale[c] x + shift[c]: BatchNormalization; Add, Sub, Mul, Div with one constant number for all or for each
 * channel. */
struct affine {
    int node, data, made;
    int64_t channels;
    double *scale, *shift; /* [channels], owned */
};

int affine_check(const struct graph *g, int node, struct err *e);

/* Whether a constant of that shape is one number for all, or one for each element along dimension 1 of data of that rank. */
bool affine_is_per_channel(const struct shape *s, int rank, int64_t channels);

/* E_UNSUPPORTED when a number is not finite. */
int affine_read(struct affine *a, const struct graph *g, int node, struct err *e);
void affine_fini(struct affine *a);

/* Whether the node gives out what it takes: Identity, a PRelu or LeakyRelu of slope 1, adding 0, multiplying by 1. */
bool linear_is_nothing(const struct graph *g, int node);

#endif

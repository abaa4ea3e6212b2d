/* fold.h - computing values at inference: mostly shapes, which exporters spell out as arithmetic. */
#ifndef ENGINE_OPS_FOLD_H
#define ENGINE_OPS_FOLD_H

#include "engine/nn/op.h"

/* Every input that is there is a constant, and none is a parameter: the outputs, whose shapes are set,
 * are to be folded. */
bool folds(const struct inference *i);

/* An empty constant for out[0], whose type and shape are set; its elements are to be written. */
int fold_start(struct array **out, struct inference *i, struct err *e);

/* out[0] gets the elements of in[0], one after the other, in the type of out[0]. */
int fold_copy(struct inference *i, struct err *e);

/* One element; integers are truncated and clamped. */
double fold_get(const struct array *a, size_t i);
void fold_put(struct array *a, size_t i, double value);

/* Where element `at` of the result comes from in a constant of that shape that is broadcast to it. */
size_t fold_source(const struct shape *from, const struct shape *result, size_t at);

/* The elements of constant input k as integers (at most `room`); *n is their number. An input that
 * is left out has none. E_UNSUPPORTED, with `what` it is, when the value is not known beforehand. */
int fold_ints(int64_t *out, int *n, int room, const struct inference *i, int k, const char *what, struct err *e);

/* Integers from the attribute (older opsets) or from input k. *given: either is there. */
int fold_setting(int64_t *out, int *n, bool *given, int room, const struct inference *i, const char *attribute, int k,
                 struct err *e);

#endif

/* patches.h - what a layer reads on calibration data, unfolded: for every output pixel the inputs under the kernel. */
#ifndef ENGINE_SURGERY_PATCHES_H
#define ENGINE_SURGERY_PATCHES_H

#include <stddef.h>

#include "engine/surgery/linear.h"
#include "engine/surgery/morph.h"

enum { PATCHES_SAMPLES = 1024 }; /* at most */

struct patches {
    const struct linear *l; /* borrowed */
    struct edit_window window;
    double *x; /* [samples][channels][height][width], owned */
    size_t samples, pixels;
    int64_t in[2], out[2]; /* sizes of the maps */
};

/* As many samples of what the layer reads in `m` as fit into `room` bytes together with what it makes. E_TOO_LARGE when
 * these are fewer than two. */
int patches_open(struct patches *p, const struct linear *l, struct morphing *m, size_t room, struct err *e);
void patches_close(struct patches *p);

/* The patch of output pixel row % pixels of sample row / pixels, for one group: h[in * taps]. */
void patches_row(double *h, const struct patches *p, size_t row, int64_t group);

/* Number k of `wanted` rows out of `all`, spread over them. */
size_t patches_spread(size_t k, size_t wanted, size_t all);

/* How many of `all` rows are worth reading for so many inputs. */
size_t patches_enough(size_t inputs, size_t all);

/* morph_data.sample of a value in a graph, with *out NULL on failure. */
int patches_sample(double **out, size_t *samples, const struct morph_data *data, const struct graph *g, int value,
                   size_t most, struct err *e);

/* Elements of one sample of a value. */
size_t patches_elements(const struct graph *g, int value);

#endif

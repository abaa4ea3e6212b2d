/* narrow.h - what narrow.c shares with narrow_refit.c. Private to them. */
#ifndef ENGINE_SURGERY_NARROW_H
#define ENGINE_SURGERY_NARROW_H

#include <stdbool.h>

#include "engine/surgery/morph.h"

/* Fits the layers of m->graph whose weights have origins (per value) to what they gave in `parent`, the same graph before
 * channels went, by least squares on calibration data, in graph order: each sees its inputs as they are now. Output
 * channel j of such a layer was channel origins[weights][j] of the parent's. Three quarters of the samples calibrate, the
 * rest is held out; a layer that fits the latter no better than before stays as it was selected, but for a bias, and so do
 * all of them in a sketch. Writes "fits" and "outputs" into the report; the graph is finished. */
int narrow_refit(struct morphing *m, const struct graph *parent, int32_t *const *origins, struct json_writer *w,
                 struct err *e);

#endif

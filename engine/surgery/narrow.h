/* narrow.h - what narrow.c shares with narrow_refit.c. Private to them. */
#ifndef ENGINE_SURGERY_NARROW_H
#define ENGINE_SURGERY_NARROW_H

#include <stdbool.h>

#include "engine/surgery/morph.h"

/* Fits the layers of m->graph whose weights are marked (per value) to what they gave in `parent`, the same graph before
 * channels went, by least squares on calibration data, in graph order: each sees its inputs as they are now. Three
 * quarters of the samples calibrate, the rest is held out; a layer that fits the latter no better than before stays as
 * it was selected. Writes "fits" and "outputs" into the report; the graph is finished. */
int narrow_refit(struct morphing *m, const struct graph *parent, const bool *marked, struct json_writer *w,
                 struct err *e);

#endif

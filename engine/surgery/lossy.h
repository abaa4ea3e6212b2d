/* lossy.h - how far apart a value is in two networks, on calibration data: what steps that change the function report. */
#ifndef ENGINE_SURGERY_LOSSY_H
#define ENGINE_SURGERY_LOSSY_H

#include "engine/surgery/morph.h"

/* Adds a member `name` to the open object: {"calibration", "held_out"}, each {"relative_error", "largest_difference",
 * "samples"} and, for rows, "same_argmax", of a value in `before` and in m->graph. The last quarter of the samples is the
 * part held out. w NULL: only whether there is data for that, in `before`. */
int lossy_write(struct json_writer *w, const char *name, const struct morphing *m, const struct graph *before,
                int value, struct err *e);

/* Of n samples, those that calibrate; the others are held out. */
size_t lossy_calibrate(size_t n);

#endif

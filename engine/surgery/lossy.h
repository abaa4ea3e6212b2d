/* lossy.h - how far apart a value is in two networks, on calibration data: what steps that change the function report. */
#ifndef ENGINE_SURGERY_LOSSY_H
#define ENGINE_SURGERY_LOSSY_H

#include "engine/surgery/morph.h"

/* Adds a member `name` to the open object: {"calibration", "held_out"}, each {"relative_error", "largest_difference",
 * "samples"} and, for rows, "same_argmax". The last quarter of the samples is the part held out. w NULL: only lossy_check. */
int lossy_write(struct json_writer *w, const char *name, const struct morph_data *data, const struct graph *before,
                const struct graph *after, int value, struct err *e);

/* Whether there is data for that: asks for as little as there can be. */
int lossy_check(const struct morph_data *data, const struct graph *g, int value, struct err *e);

/* Of n samples, those that calibrate; the others are held out. */
size_t lossy_calibrate(size_t n);

#endif

/* aim.h - a size that a network shall have, and the step over all layers that leads there. */
#ifndef ENGINE_SURGERY_AIM_H
#define ENGINE_SURGERY_AIM_H

#include "engine/surgery/morph.h"

/* {"width":1.5}, {"parameters":2e6} or {"macs":0.5}: exactly one is given, the others are NaN. */
struct morph_aim {
    double width;      /* factor of all channels that may change */
    double parameters; /* how many the child shall have */
    double macs;       /* multiply-adds, as a multiple of the parent's */
};
extern const struct param morph_aim_params[];

/* E_INVALID at `at` unless exactly one is given. */
int morph_aim_check(const struct morph_aim *aim, const char *at, struct err *e);

/* The step whose result is nearest to the aim, above or below it: `widen` or `narrow` of "*" by a factor. Nothing is
 * changed. E_INVALID says what can be reached when the aim cannot, and when nothing is nearer than the network as it is. */
int morph_aim_step(struct morph_step *out, struct morphing *m, const struct morph_aim *aim, struct err *e);

#endif

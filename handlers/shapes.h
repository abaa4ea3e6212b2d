/* shapes.h - what replies look like: a table of members for each name that a route's `reply` uses. The
 * tables make the schemas of /openapi.json; the tests hold every reply against its shape. A member that
 * is not required may be null or missing. */
#ifndef HANDLERS_SHAPES_H
#define HANDLERS_SHAPES_H

#include "base/param.h"

struct reply_shape {
    const char *name;
    const struct param *fields;
};

extern const struct reply_shape reply_shapes[]; /* ended by a row without name */

/* NULL when there is none. */
const struct reply_shape *reply_shape_find(const char *name);

#endif

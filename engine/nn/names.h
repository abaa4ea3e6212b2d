/* names.h - which index belongs to a name: a hash table whose names belong to somebody else. */
#ifndef ENGINE_NN_NAMES_H
#define ENGINE_NN_NAMES_H

#include <stddef.h>

#include "base/error.h"

struct names {
    struct {
        const char *name; /* borrowed; NULL = free */
        int index;
    } * slots;
    size_t room; /* a power of two, or 0 */
    size_t used;
};

/* Index of the name, or -1. */
int names_find(const struct names *n, const char *name);

/* Adds a name that is not there yet; the string must stay where it is. */
int names_add(struct names *n, const char *name, int index, struct err *e);

void names_free(struct names *n);

#endif

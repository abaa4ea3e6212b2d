/* table.c - the list of operators, from ops.def. */
#include <stdlib.h>
#include <string.h>

#include "engine/nn/op.h"

#define OP(name) extern const struct op op_##name;
#include "engine/ops/ops.def"
#undef OP

const struct op *const op_table[] = {
#define OP(name) &op_##name,
#include "engine/ops/ops.def"
#undef OP
    NULL,
};

const struct op *op_find(const char *name) {
    for (int i = 0; op_table[i]; i++)
        if (strcmp(op_table[i]->name, name) == 0) return op_table[i];
    return NULL;
}

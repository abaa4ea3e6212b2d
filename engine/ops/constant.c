/* constant.c - Constant, in all its spellings. It is folded: at run time it is just a value. */
#include <string.h>

#include "engine/ops/common.h"
#include "engine/ops/fold.h"

static int constant_list(struct inference *i, enum dtype type, const struct attribute *a, bool scalar, struct err *e) {
    struct array *array;
    i->out[0].type = type;
    i->out[0].shape = (struct shape){.rank = scalar ? 0 : 1, .dim = {scalar ? 0 : (int64_t)a->count}};
    int status = fold_start(&array, i, e);
    for (size_t k = 0; !status && k < array->count; k++) {
        if (type == DT_INT64)
            ((int64_t *)array->data)[k] = scalar ? a->integer : a->integers[k];
        else
            ((float *)array->data)[k] = (float)(scalar ? a->real : a->reals[k]);
    }
    return status;
}

static int constant_tensor(struct inference *i, const struct array *a, struct err *e) {
    i->out[0].type = a->type;
    i->out[0].shape = a->shape;
    return array_clone(&i->folded[0], a, e);
}

/* The attribute says what it is by its type as well as by its name (value_int, value_floats, ...). */
static int constant_infer(struct inference *i, struct err *e) {
    if (i->node->n_attributes != 1) return err_set(e, E_INVALID, "%d values; one is right", i->node->n_attributes);
    const struct attribute *a = &i->node->attributes[0];
    switch (a->type) {
        case ATTRIBUTE_ARRAY: return constant_tensor(i, a->array, e);
        case ATTRIBUTE_INT: return constant_list(i, DT_INT64, a, true, e);
        case ATTRIBUTE_INTS: return constant_list(i, DT_INT64, a, false, e);
        case ATTRIBUTE_REAL: return constant_list(i, DT_FLOAT32, a, true, e);
        case ATTRIBUTE_REALS: return constant_list(i, DT_FLOAT32, a, false, e);
        case ATTRIBUTE_STRING: break;
    }
    return err_set(e, E_UNSUPPORTED, "holds text; retort computes with numbers");
}

const struct op op_Constant = {
    .name = "Constant",
    .help = "y = a value written in the graph",
    .max_inputs = 0,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "value value_float value_floats value_int value_ints",
    .traits = OP_SHAPES_ONLY,
    .infer = constant_infer,
};

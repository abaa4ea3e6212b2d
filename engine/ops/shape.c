/* shape.c - Shape, Size, ConstantOfShape, Range: values that are known as soon as shapes are. They
 * exist for the arithmetic that exporters write out, and are gone before anything is computed. */
#include <math.h>

#include "engine/ops/common.h"
#include "engine/ops/fold.h"

static int64_t clamped(int64_t axis, int rank) {
    if (axis < 0) axis += rank;
    return axis < 0 ? 0 : axis > rank ? rank : axis;
}

static int shape_infer(struct inference *i, struct err *e) {
    const struct shape *x = &i->in[0]->shape;
    int64_t start = clamped(node_int(i->node, "start", 0), x->rank),
            end = clamped(node_int(i->node, "end", x->rank), x->rank);
    struct array *y;
    i->out[0].type = DT_INT64;
    i->out[0].shape = (struct shape){1, {end > start ? end - start : 0}};
    int status = fold_start(&y, i, e);
    for (size_t d = 0; !status && d < y->count; d++) ((int64_t *)y->data)[d] = x->dim[(size_t)start + d];
    return status;
}

static int size_infer(struct inference *i, struct err *e) {
    struct array *y;
    i->out[0].type = DT_INT64;
    i->out[0].shape = (struct shape){.rank = 0};
    int status = fold_start(&y, i, e);
    if (!status) *(int64_t *)y->data = (int64_t)shape_span(&i->in[0]->shape, 0, i->in[0]->shape.rank);
    return status;
}

/* Larger values are refused. Shape arithmetic needs a few; the largest layer of VGG-19, whose weights ONNX's
 * light models give in this way, has 103 million. */
enum { ELEMENTS_MOST = 1 << 27 };

static int check_size(const struct shape *s, struct err *e) {
    size_t count;
    int status = shape_count(&count, s, e);
    if (status || count <= ELEMENTS_MOST) return status;
    return err_set(e, E_TOO_LARGE, "makes %zu elements; at most %d are made", count, ELEMENTS_MOST);
}

static int constant_of_shape_infer(struct inference *i, struct err *e) {
    const struct attribute *value = node_attribute(i->node, "value");
    struct shape *y = &i->out[0].shape;
    struct array *a;
    int status = fold_ints(y->dim, &y->rank, SHAPE_MAX_RANK, i, 0, "the shape", e);
    for (int d = 0; d < y->rank && !status; d++)
        if (y->dim[d] < 0) status = err_set(e, E_INVALID, "the shape has the dimension %lld", (long long)y->dim[d]);
    if (!status && value && (value->type != ATTRIBUTE_ARRAY || value->array->count != 1))
        status = err_set(e, E_INVALID, "the value is not one number");
    i->out[0].type = value && !status ? value->array->type : DT_FLOAT32;
    if (!status) status = check_size(y, e);
    if (!status) status = fold_start(&a, i, e);
    for (size_t k = 0; !status && value && k < a->count; k++) fold_put(a, k, fold_get(value->array, 0));
    return status;
}

static int range_infer(struct inference *i, struct err *e) {
    double in[3];
    for (int k = 0; k < 3; k++) {
        const struct array *a = i->in[k]->constant;
        if (!a || a->count != 1)
            return err_set(e, E_UNSUPPORTED, "the range depends on data; retort takes it from constants only");
        in[k] = fold_get(a, 0);
    }
    double count = ceil((in[1] - in[0]) / in[2]);
    struct array *y;
    if (!(count <= ELEMENTS_MOST)) return err_set(e, E_INVALID, "from %g to %g by %g", in[0], in[1], in[2]);
    i->out[0].shape = (struct shape){1, {count > 0 ? (int64_t)count : 0}};
    int status = fold_start(&y, i, e);
    for (size_t k = 0; !status && k < y->count; k++) fold_put(y, k, in[0] + (double)k * in[2]);
    return status;
}

#define FOLDED(name_, help_, inputs, attributes_, infer_) \
    const struct op op_##name_ = { \
        .name = #name_, \
        .help = help_, \
        .min_inputs = inputs, \
        .max_inputs = inputs, \
        .min_outputs = 1, \
        .max_outputs = 1, \
        .attributes = attributes_, \
        .traits = OP_SHAPES_ONLY, \
        .infer = infer_, \
    };

FOLDED(Shape, "y = the dimensions of x", 1, "start end", shape_infer)
FOLDED(Size, "y = the number of elements of x", 1, NULL, size_infer)
FOLDED(ConstantOfShape, "y = one number, in a shape", 1, "value", constant_of_shape_infer)
FOLDED(Range, "y = start, start + delta, ... below limit", 3, NULL, range_infer)

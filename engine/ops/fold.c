/* fold.c - see fold.h. */
#include "engine/ops/fold.h"

#include <string.h>

#include "base/memory.h"
#include "engine/ops/common.h"

/* Larger results than this, and than a few times what they are made of, are left to run time: some bytes
 * of a file must not fill the memory. */
enum { FOLD_ALWAYS = 1 << 16, FOLD_GROWTH = 4 };

bool folds(const struct inference *i) {
    size_t room = FOLD_ALWAYS, count;
    for (int k = 0; k < i->n_in; k++) {
        if (!i->in[k]) continue;
        if (!i->in[k]->constant || i->in[k]->trainable) return false;
        room += FOLD_GROWTH * i->in[k]->constant->count;
    }
    for (int k = 0; k < i->n_out; k++)
        if (shape_count(&count, &i->out[k].shape, NULL) || count > room) return false;
    return true;
}

int fold_start(struct array **out, struct inference *i, struct err *e) {
    if (i->out[0].type == DT_FLOAT16 || i->out[0].type == DT_BFLOAT16) i->out[0].type = DT_FLOAT32;
    int status = array_new(&i->folded[0], i->out[0].type, &i->out[0].shape, e);
    if (!status) *out = i->folded[0];
    return status;
}

double fold_get(const struct array *a, size_t i) {
    double value;
    array_to_double(&value, a, i, 1);
    return value;
}

/* As array_int: NaN is 0, what does not fit is clamped. Bounds as doubles are powers of two or exact. */
#define PUT_INTEGER(T, low, high) \
    ((T *)a->data)[i] = isnan(value)              ? 0 \
                        : value <= (double)(low)  ? (T)(low) \
                        : value >= (double)(high) ? (T)(high) \
                                                  : (T)value; \
    return

void fold_put(struct array *a, size_t i, double value) {
    switch (a->type) {
        case DT_FLOAT32: ((float *)a->data)[i] = (float)value; return;
        case DT_FLOAT64: ((double *)a->data)[i] = value; return;
        case DT_INT64: PUT_INTEGER(int64_t, INT64_MIN, INT64_MAX);
        case DT_INT32: PUT_INTEGER(int32_t, INT32_MIN, INT32_MAX);
        case DT_INT16: PUT_INTEGER(int16_t, INT16_MIN, INT16_MAX);
        case DT_INT8: PUT_INTEGER(int8_t, INT8_MIN, INT8_MAX);
        case DT_UINT64: PUT_INTEGER(uint64_t, 0, UINT64_MAX);
        case DT_UINT32: PUT_INTEGER(uint32_t, 0, UINT32_MAX);
        case DT_UINT16: PUT_INTEGER(uint16_t, 0, UINT16_MAX);
        case DT_UINT8: PUT_INTEGER(uint8_t, 0, UINT8_MAX);
        case DT_BOOL: ((uint8_t *)a->data)[i] = (uint8_t)(value < 0 || value > 0); return;
        case DT_FLOAT16:
        case DT_BFLOAT16:
        case DTYPE_COUNT: return; /* fold_start makes floats of these */
    }
}

int fold_copy(struct inference *i, struct err *e) {
    const struct array *from = i->in[0]->constant;
    struct array *to;
    int status = fold_start(&to, i, e);
    if (status) return status;
    if (to->type == from->type)
        memcpy(to->data, from->data, from->count * dtype_size(from->type));
    else
        for (size_t k = 0; k < to->count; k++) fold_put(to, k, fold_get(from, k));
    return 0;
}

size_t fold_source(const struct shape *from, const struct shape *result, size_t at) {
    size_t index = 0, stride = 1;
    for (int d = 1; d <= result->rank; d++) {
        size_t size = (size_t)result->dim[result->rank - d], here = at % size;
        at /= size;
        if (d > from->rank) continue;
        size_t own = (size_t)from->dim[from->rank - d];
        if (own != 1) index += here * stride;
        stride *= own;
    }
    return index;
}

int fold_ints(int64_t *out, int *n, int room, const struct inference *i, int k, const char *what, struct err *e) {
    *n = 0;
    if (!has_input(i, k)) return 0;
    const struct array *a = i->in[k]->constant;
    if (!a) return err_set(e, E_UNSUPPORTED, "%s depends on data; retort takes it from constants only", what);
    if (a->count > (size_t)room)
        return err_set(e, E_INVALID, "%s has %zu elements; at most %d make sense", what, a->count, room);
    for (size_t j = 0; j < a->count; j++) out[j] = array_int(a, j);
    *n = (int)a->count;
    return 0;
}

int fold_setting(int64_t *out, int *n, bool *given, int room, const struct inference *i, const char *attribute, int k,
                 struct err *e) {
    const struct attribute *a = node_attribute(i->node, attribute);
    *given = a || has_input(i, k);
    if (!a) return fold_ints(out, n, room, i, k, attribute, e);
    if (a->type != ATTRIBUTE_INTS || a->count > (size_t)room)
        return err_set(e, E_INVALID, "%s is not a list of at most %d integers", attribute, room);
    if (a->count) memcpy(out, a->integers, a->count * sizeof *out);
    *n = (int)a->count;
    return 0;
}

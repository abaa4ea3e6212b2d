/* array.c - dtype tables, shapes, constant arrays. */
#include "engine/nn/array.h"

#include <string.h>

#include "base/memory.h"
#include "base/text.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "arrays are little endian in memory and in files");

static const struct {
    const char *name;
    size_t size;
} dtypes[DTYPE_COUNT] = {
#define X(type, name, size) [type] = {name, size},
    DTYPES(X)
#undef X
};

const char *dtype_name(enum dtype type) {
    return dtypes[type].name;
}

size_t dtype_size(enum dtype type) {
    return dtypes[type].size;
}

bool dtype_from_name(enum dtype *out, const char *name) {
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (strcmp(dtypes[i].name, name) == 0) {
            *out = (enum dtype)i;
            return true;
        }
    return false;
}

bool dtype_is_real(enum dtype type) {
    return type == DT_FLOAT32 || type == DT_FLOAT64 || type == DT_FLOAT16 || type == DT_BFLOAT16;
}

/* ---- shapes ---- */

int shape_count(size_t *out, const struct shape *s, struct err *e) {
    if (s->rank < 0 || s->rank > SHAPE_MAX_RANK)
        return err_set(e, E_INVALID, "%d dimensions; 0 to %d are possible", s->rank, SHAPE_MAX_RANK);
    /* An empty dimension must not hide the overflow of the others. */
    size_t count = 1;
    bool empty = false;
    for (int i = 0; i < s->rank; i++) {
        int64_t dim = s->dim[i];
        if (dim < 0 && dim != DIM_BATCH && dim != DIM_FREE)
            return err_set(e, E_INVALID, "dimension %d is %lld; it must not be negative", i, (long long)dim);
        if (dim == 0)
            empty = true;
        else if (dim > 0 && (!mem_mul(&count, count, (size_t)dim) || count > PTRDIFF_MAX / 8)) {
            char text[SHAPE_MAX_RANK * 24];
            shape_print(text, sizeof text, s);
            return err_set(e, E_TOO_LARGE, "shape %s has more elements than memory has bytes", text);
        }
    }
    *out = empty ? 0 : count;
    return 0;
}

bool shape_equal(const struct shape *a, const struct shape *b) {
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

void shape_print(char *out, size_t room, const struct shape *s) {
    size_t used = 0;
    text_copy(out, room, s->rank < 0 ? "[?]" : "[");
    for (int i = 0; i < s->rank; i++) {
        used = strlen(out);
        const char *comma = i ? "," : "";
        if (s->dim[i] == DIM_BATCH)
            text_print(out + used, room - used, "%sN", comma);
        else if (s->dim[i] == DIM_FREE)
            text_print(out + used, room - used, "%s?", comma);
        else
            text_print(out + used, room - used, "%s%lld", comma, (long long)s->dim[i]);
    }
    used = strlen(out);
    if (s->rank >= 0) text_copy(out + used, room - used, "]");
}

/* ---- arrays ---- */

static int check_fixed(const struct shape *s, struct err *e) {
    for (int i = 0; i < s->rank && i < SHAPE_MAX_RANK; i++)
        if (s->dim[i] < 0)
            return err_set(e, E_INVALID, "dimension %d of an array is %lld; it must not be negative", i,
                           (long long)s->dim[i]);
    return 0;
}

int array_new_take(struct array **out, enum dtype type, const struct shape *shape, void *data, struct err *e) {
    size_t count = 0;
    int rc = check_fixed(shape, e);
    if (!rc) rc = shape_count(&count, shape, e);
    struct array *a = rc ? NULL : mem_alloc(sizeof *a);
    atomic_int *owners = a ? mem_alloc(sizeof *owners) : NULL;
    if (!rc && !owners) rc = err_memory(e, sizeof *a);
    if (rc) {
        mem_free(a);
        mem_free(data);
        return rc;
    }
    atomic_init(owners, 1);
    *a = (struct array){.type = type, .shape = *shape, .count = count, .data = data, .owners = owners};
    *out = a;
    return 0;
}

int array_new(struct array **out, enum dtype type, const struct shape *shape, struct err *e) {
    size_t count = 0;
    int rc = check_fixed(shape, e);
    if (!rc) rc = shape_count(&count, shape, e);
    if (rc) return rc;
    void *data = mem_calloc(count, dtype_size(type));
    if (!data) return err_memory(e, count * dtype_size(type));
    return array_new_take(out, type, shape, data, e);
}

void array_empty(struct array *a) {
    if (a->owners && atomic_fetch_sub(a->owners, 1) == 1) {
        mem_free(a->data);
        mem_free(a->owners);
    }
    a->data = NULL;
    a->owners = NULL;
}

void array_free(struct array *a) {
    if (!a) return;
    array_empty(a);
    mem_free(a);
}

int array_clone(struct array **out, const struct array *a, struct err *e) {
    *out = mem_alloc(sizeof **out);
    if (!*out) return err_memory(e, sizeof **out);
    **out = *a;
    if (a->owners) atomic_fetch_add(a->owners, 1);
    return 0;
}

int array_own(struct array *a, struct err *e) {
    size_t size = a->count * dtype_size(a->type);
    if (atomic_load(a->owners) == 1) return 0;
    void *data = mem_copy(a->data, size);
    atomic_int *owners = data ? mem_alloc(sizeof *owners) : NULL;
    if (!owners) {
        mem_free(data);
        return err_memory(e, size);
    }
    array_empty(a);
    atomic_init(owners, 1);
    a->data = data;
    a->owners = owners;
    return 0;
}

/* ---- conversions ---- */

static float from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static float bfloat16_to_float(uint16_t v) {
    return from_bits((uint32_t)v << 16);
}

/* IEEE 754 binary16: exponent rebased by 112; subnormals are exact multiples of 2^-24. */
static float float16_to_float(uint16_t v) {
    uint32_t sign = (uint32_t)(v & 0x8000) << 16, exponent = (v >> 10) & 31, fraction = v & 1023;
    if (exponent == 31) return from_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent) return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    float small = (float)fraction * 0x1p-24f;
    return sign ? -small : small;
}

#define AS_IS(v) (v)
#define AS_BOOL(v) ((v) != 0)

/* clang-format off */
/* Element type, type in memory, how one becomes a number. */
#define LOADS(X) \
    X(DT_FLOAT32, float, AS_IS) X(DT_FLOAT64, double, AS_IS) X(DT_FLOAT16, uint16_t, float16_to_float) \
    X(DT_BFLOAT16, uint16_t, bfloat16_to_float) X(DT_INT64, int64_t, AS_IS) X(DT_INT32, int32_t, AS_IS) \
    X(DT_INT16, int16_t, AS_IS) X(DT_INT8, int8_t, AS_IS) X(DT_UINT64, uint64_t, AS_IS) \
    X(DT_UINT32, uint32_t, AS_IS) X(DT_UINT16, uint16_t, AS_IS) X(DT_UINT8, uint8_t, AS_IS) X(DT_BOOL, uint8_t, AS_BOOL)
/* clang-format on */

/* memcpy, because streams do not align their elements. */
#define CONVERT_CASE(dtype, ctype, load) \
    case dtype: \
        for (size_t i = 0; i < n; i++) { \
            ctype v; \
            memcpy(&v, bytes + i * sizeof v, sizeof v); \
            out[i] = (CONVERT_TO)load(v); \
        } \
        return;

void dtype_to_float(float *out, enum dtype type, const void *from, size_t n) {
    const unsigned char *bytes = from;
    switch (type) {
#define CONVERT_TO float
        LOADS(CONVERT_CASE)
#undef CONVERT_TO
        case DTYPE_COUNT: return;
    }
}

void dtype_to_double(double *out, enum dtype type, const void *from, size_t n) {
    const unsigned char *bytes = from;
    switch (type) {
#define CONVERT_TO double
        LOADS(CONVERT_CASE)
#undef CONVERT_TO
        case DTYPE_COUNT: return;
    }
}

static const unsigned char *element(const struct array *a, size_t i) {
    return (const unsigned char *)a->data + i * dtype_size(a->type);
}

void array_to_float(float *out, const struct array *a, size_t from, size_t n) {
    dtype_to_float(out, a->type, element(a, from), n);
}

void array_to_double(double *out, const struct array *a, size_t from, size_t n) {
    dtype_to_double(out, a->type, element(a, from), n);
}

static int64_t real_to_int(double v) {
    if (v != v) return 0;
    if (v >= 0x1p63) return INT64_MAX;
    return v < -0x1p63 ? INT64_MIN : (int64_t)v;
}

/* 64-bit integers do not fit the 53 bits of a double; everything else does. */
int64_t array_int(const struct array *a, size_t i) {
    int64_t whole;
    uint64_t natural;
    double real;
    if (a->type == DT_INT64) {
        memcpy(&whole, element(a, i), sizeof whole);
        return whole;
    }
    if (a->type == DT_UINT64) {
        memcpy(&natural, element(a, i), sizeof natural);
        return natural > INT64_MAX ? INT64_MAX : (int64_t)natural;
    }
    array_to_double(&real, a, i, 1);
    return real_to_int(real);
}

size_t array_find_odd(const struct array *a, bool infinite) {
    double some[256];
    for (size_t at = 0; dtype_is_real(a->type) && at < a->count; at += 256) {
        size_t n = a->count - at < 256 ? a->count - at : 256;
        array_to_double(some, a, at, n);
        for (size_t i = 0; i < n; i++)
            if (some[i] != some[i] || (infinite && some[i] - some[i] != 0)) return at + i;
    }
    return a->count;
}

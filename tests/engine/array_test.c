/* array_test.c - dtypes, shapes, arrays, conversions. */
#include "engine/nn/array.h"

#include "tests/engine/formats.h"

TEST(dtype_names_read_back) {
    for (int i = 0; i < DTYPE_COUNT; i++) {
        enum dtype back = DTYPE_COUNT;
        ok(dtype_from_name(&back, dtype_name((enum dtype)i)) && back == (enum dtype)i, "%s", dtype_name((enum dtype)i));
    }
    enum dtype none;
    ok(!dtype_from_name(&none, "complex64"), "no such type");
    ok(dtype_size(DT_BFLOAT16) == 2 && dtype_is_real(DT_BFLOAT16) && !dtype_is_real(DT_BOOL), "sizes and kinds");
}

static int count_of(size_t *count, int rank, int64_t a, int64_t b, int64_t c) {
    struct shape s = {rank, {a, b, c}};
    return shape_count(count, &s, NULL);
}

TEST(shape_counts_are_checked) {
    size_t n = 0;
    ok(count_of(&n, 0, 0, 0, 0) == 0 && n == 1, "a scalar has one element");
    ok(count_of(&n, 3, 2, 3, 4) == 0 && n == 24, "%zu", n);
    ok(count_of(&n, 2, DIM_BATCH, 7, 0) == 0 && n == 7, "the batch counts as one: %zu", n);
    ok(count_of(&n, 3, 5, 0, 7) == 0 && n == 0, "%zu", n);
    ok(count_of(&n, 2, 1ll << 32, 1ll << 32, 0) == E_TOO_LARGE, "overflow");
    ok(count_of(&n, 3, 1ll << 40, 0, 1ll << 40) == E_TOO_LARGE, "an empty dimension does not hide overflow");
    ok(count_of(&n, 1, INT64_MAX / 8, 0, 0) == 0, "the largest");
    ok(count_of(&n, 1, INT64_MAX / 8 + 1, 0, 0) == E_TOO_LARGE, "one more");
    ok(count_of(&n, 1, -2, 0, 0) == E_INVALID, "negative");
    ok(count_of(&n, SHAPE_MAX_RANK + 1, 1, 1, 1) == E_INVALID && count_of(&n, -1, 0, 0, 0) == E_INVALID, "rank");
}

TEST(shapes_print) {
    char text[64], small[8];
    shape_print(text, sizeof text, &(struct shape){4, {DIM_BATCH, 3, 32, 32}});
    ok(strcmp(text, "[N,3,32,32]") == 0, "%s", text);
    shape_print(text, sizeof text, &(struct shape){0, {0}});
    ok(strcmp(text, "[]") == 0, "%s", text);
    shape_print(text, sizeof text, &(struct shape){-1, {0}});
    ok(strcmp(text, "[?]") == 0, "%s", text);
    shape_print(small, sizeof small, &(struct shape){4, {1000, 1000, 1000, 1000}});
    ok(strlen(small) < sizeof small, "cut: %s", small);
}

TEST(shapes_compare) {
    struct shape a = {2, {3, 4}}, b = {2, {3, 5}}, c = {1, {3}};
    ok(shape_equal(&a, &a) && !shape_equal(&a, &b) && !shape_equal(&a, &c), "equal only to itself");
}

TEST(arrays_are_zeroed_and_cloned) {
    struct array *a = NULL, *b = NULL;
    need(array_new(&a, DT_INT32, &(struct shape){2, {2, 3}}, NULL) == 0, "new");
    ok(a->count == 6 && array_int(a, 5) == 0, "zeroed");
    ((int32_t *)a->data)[5] = -7;
    need(array_clone(&b, a, NULL) == 0, "clone");
    ok(array_int(b, 5) == -7 && b->data == a->data && shape_equal(&a->shape, &b->shape), "the same elements");
    need(array_own(b, NULL) == 0, "own");
    ((int32_t *)b->data)[5] = 3;
    ok(array_int(a, 5) == -7 && array_int(b, 5) == 3, "of its own now");
    void *alone = b->data;
    ok(array_own(b, NULL) == 0 && b->data == alone, "alone already");
    array_empty(a);
    array_free(a);
    array_free(b);
    array_free(NULL);
    ok(array_new(&a, DT_INT8, &(struct shape){1, {DIM_BATCH}}, NULL) == E_INVALID, "no free dimension in an array");
    ok(mem_live() == 0, "nothing left: %lld", (long long)mem_live());
}

static int make_and_clone(void *context) {
    struct array *a = NULL, *b = NULL;
    (void)context;
    int rc = array_new(&a, DT_FLOAT32, &(struct shape){1, {4}}, NULL);
    if (!rc) rc = array_clone(&b, a, NULL);
    array_free(a);
    array_free(b);
    return rc;
}

TEST(arrays_survive_starving) {
    starve(make_and_clone, NULL);
}

static float half(uint16_t bits) {
    float f;
    dtype_to_float(&f, DT_FLOAT16, &bits, 1);
    return f;
}

TEST(float16_converts_exactly) {
    ok(half(0x3c00) == 1.0f && half(0xc000) == -2.0f && half(0x7bff) == 65504.0f, "normal numbers");
    ok(half(0x0001) == 0x1p-24f && half(0x83ff) == -1023 * 0x1p-24f && half(0x0400) == 0x1p-14f, "small numbers");
    ok(half(0) == 0 && !signbit(half(0)) && signbit(half(0x8000)), "zeros keep their sign");
    ok(isinf(half(0x7c00)) && half(0xfc00) == -INFINITY && isnan(half(0x7e00)), "infinities and NaN");
    /* every finite number is sign * mantissa * 2^exponent */
    for (unsigned bits = 0; bits < 0x7c00; bits++) {
        unsigned exponent = bits >> 10, fraction = bits & 1023;
        double expected = exponent ? ldexp(1024.0 + fraction, (int)exponent - 25) : ldexp(fraction, -24);
        if (!ok((double)half((uint16_t)bits) == expected, "%04x", bits)) break;
    }
}

TEST(every_type_converts) {
    static const struct {
        enum dtype type;
        uint64_t bits;
        double value;
        int64_t whole;
    } cases[] = {
        {DT_FLOAT32, 0xbfc00000, -1.5, -1},
        {DT_FLOAT64, 0x4004000000000000, 2.5, 2},
        {DT_FLOAT16, 0xc200, -3, -3},
        {DT_BFLOAT16, 0xc0b0, -5.5, -5},
        {DT_INT64, (uint64_t)-9, -9, -9},
        {DT_INT32, 0xfffffff8, -8, -8},
        {DT_INT16, 0xfff9, -7, -7},
        {DT_INT8, 0xfa, -6, -6},
        {DT_UINT64, UINT64_MAX, 0x1p64, INT64_MAX},
        {DT_UINT32, UINT32_MAX, UINT32_MAX, UINT32_MAX},
        {DT_UINT16, 65535, 65535, 65535},
        {DT_UINT8, 255, 255, 255},
        {DT_BOOL, 2, 1, 1},
        {DT_FLOAT64, 0x7ff8000000000000, NAN, 0},
        {DT_FLOAT64, 0x7ff0000000000000, INFINITY, INT64_MAX},
        {DT_FLOAT64, 0xfff0000000000000, -INFINITY, INT64_MIN},
        {DT_INT64, INT64_MAX, 0x1p63, INT64_MAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t elements[2] = {0, 0};
        struct array a = {.type = cases[i].type, .shape = {1, {2}}, .count = 2, .data = elements};
        memcpy((char *)elements + dtype_size(a.type), &cases[i].bits, dtype_size(a.type));
        float f[2];
        double d[2];
        array_to_float(f, &a, 0, 2);
        array_to_double(d, &a, 0, 2);
        bool nan = isnan(cases[i].value);
        ok(f[0] == 0 && d[0] == 0, "%s: zero stays zero", dtype_name(a.type));
        ok(nan ? isnan(d[1]) : d[1] == cases[i].value, "%s: %g", dtype_name(a.type), d[1]);
        ok(nan ? isnan(f[1]) : f[1] == (float)cases[i].value, "%s: %g", dtype_name(a.type), (double)f[1]);
        ok(array_int(&a, 1) == cases[i].whole, "%s: %lld", dtype_name(a.type), (long long)array_int(&a, 1));
    }
}

TEST(streams_need_not_be_aligned) {
    unsigned char bytes[9] = {0xff};
    double d = 0.1, out = 0;
    memcpy(bytes + 1, &d, sizeof d);
    dtype_to_double(&out, DT_FLOAT64, bytes + 1, 1);
    ok(out == d, "%g", out);
}

TEST_MAIN

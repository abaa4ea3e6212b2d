/* How raw arrays become inputs, and what is refused. */
#include "engine/nn/dataset.h"
#include "tests/test.h"

static struct data_array array_of(enum dtype type, const void *data, int rank, const int64_t *dim) {
    struct data_array a = {.type = type, .data = data, .shape = {.rank = rank}};
    for (int i = 0; i < rank; i++) a.shape.dim[i] = dim[i];
    return a;
}
#define ARRAY(type, data, ...) \
    array_of(type, data, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]){__VA_ARGS__})

static struct shape shape_of(int rank, const int64_t *dim) {
    struct shape s = {.rank = rank};
    for (int i = 0; i < rank; i++) s.dim[i] = dim[i];
    return s;
}
#define SHAPE(...) shape_of(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]){__VA_ARGS__})

static struct dataset_spec plain_spec(void) {
    struct dataset_spec s;
    memset(&s, 0, sizeof s);
    snprintf(s.ref, sizeof s.ref, "data");
    s.scale = 1;
    s.limit = PARAM_ABSENT;
    return s;
}

static bool close_to(const real *a, const double *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (fabs((double)a[i] - b[i]) > 1e-5) return false;
    return true;
}

TEST(bytes_are_scaled_and_get_a_channel) {
    const uint8_t images[] = {0, 255, 51, 102, 204, 0, 0, 255};
    struct data_array inputs = ARRAY(DT_UINT8, images, 2, 2, 2);
    struct shape input = SHAPE(DIM_BATCH, 1, 2, 2);
    struct dataset_spec spec = plain_spec();
    spec.scale = 255;
    spec.mean[0] = 0.5, spec.n_mean = 1;
    spec.std[0] = 0.25, spec.n_std = 1;
    struct dataset d;
    struct err e = {0};
    need(dataset_open(&d, &spec, &inputs, NULL, &input, 0, &e) == 0, "%s", e.text);
    real out[8];
    dataset_fetch(&d, out, (const uint32_t[]){1, 0}, 0, 2);
    ok(close_to(out, (double[]){1.2, -2, -2, 2, -2, 2, -1.2, -0.4}, 8), "values");
    dataset_fetch(&d, out, NULL, 1, 1);
    ok(close_to(out, (double[]){1.2, -2, -2, 2}, 4), "from a number on");
}

TEST(channels_last_is_transposed) {
    const float pixels[] = {1, 10, 100, 2, 20, 200, 3, 30, 300, 4, 40, 400}; /* 2 x 2 pixels of 3 channels */
    struct data_array inputs = ARRAY(DT_FLOAT32, pixels, 1, 2, 2, 3);
    struct shape input = SHAPE(DIM_BATCH, 3, 2, 2);
    struct dataset_spec spec = plain_spec();
    struct dataset d;
    struct err e = {0};
    ok(dataset_open(&d, &spec, &inputs, NULL, &input, 0, &e) == E_INVALID, "as it is");
    ok(strstr(e.text, "[1,2,2,3]") && strstr(e.text, "[N,3,2,2]") && strstr(e.text, "NHWC"), "%s", e.text);
    err_clear(&e);
    spec.layout = 1;
    spec.n_mean = 3, spec.mean[0] = 1, spec.mean[1] = 10, spec.mean[2] = 100;
    need(dataset_open(&d, &spec, &inputs, NULL, &input, 0, &e) == 0, "%s", e.text);
    real out[12];
    dataset_fetch(&d, out, NULL, 0, 1);
    ok(close_to(out, (double[]){0, 1, 2, 3, 0, 10, 20, 30, 0, 100, 200, 300}, 12), "values");
}

TEST(features_have_a_mean_each) {
    const double rows[] = {1, 2, 3, 4};
    struct data_array inputs = ARRAY(DT_FLOAT64, rows, 2, 2);
    struct shape input = SHAPE(DIM_BATCH, 2);
    struct dataset_spec spec = plain_spec();
    spec.n_mean = 2, spec.mean[0] = 1, spec.mean[1] = 2;
    struct dataset d;
    need(dataset_open(&d, &spec, &inputs, NULL, &input, 0, NULL) == 0, "open");
    real out[4];
    dataset_fetch(&d, out, NULL, 0, 2);
    ok(close_to(out, (double[]){0, 0, 2, 2}, 4), "values");
}

TEST(labels_are_checked) {
    const float rows[] = {1, 2, 3};
    struct data_array inputs = ARRAY(DT_FLOAT32, rows, 3, 1);
    struct shape input = SHAPE(DIM_BATCH, 1);
    struct dataset_spec spec = plain_spec();
    struct dataset d;
    struct err e = {0};
    const int64_t good[] = {0, 2, 1}, high[] = {0, 3, 1};
    const float column[] = {0, 1, 2}, half[] = {0, 0.5f, 1};
    struct data_array labels = ARRAY(DT_INT64, good, 3);
    need(dataset_open(&d, &spec, &inputs, &labels, &input, 3, &e) == 0, "%s", e.text);
    ok(dataset_label(&d, 1) == 2, "label");
    labels = ARRAY(DT_FLOAT32, column, 3, 1);
    ok(dataset_open(&d, &spec, &inputs, &labels, &input, 3, &e) == 0, "a column of reals: %s", e.text);
    labels = ARRAY(DT_INT64, high, 3);
    ok(dataset_open(&d, &spec, &inputs, &labels, &input, 3, &e) == E_INVALID, "out of range");
    ok(strstr(e.text, "label 3 of sample 1"), "%s", e.text);
    err_clear(&e);
    spec.limit = 1;
    ok(dataset_open(&d, &spec, &inputs, &labels, &input, 3, &e) == 0 && d.samples == 1, "beyond the limit");
    spec.limit = PARAM_ABSENT;
    labels = ARRAY(DT_FLOAT32, half, 3);
    ok(dataset_open(&d, &spec, &inputs, &labels, &input, 3, &e) == E_INVALID, "a half");
    err_clear(&e);
    labels = ARRAY(DT_INT64, good, 2);
    ok(dataset_open(&d, &spec, &inputs, &labels, &input, 3, &e) == E_INVALID, "too few: %s", e.text);
}

TEST(misfits_show_both_shapes) {
    struct {
        struct data_array inputs;
        struct shape input;
    } cases[] = {
        {ARRAY(DT_UINT8, "", 10, 28, 28), SHAPE(DIM_BATCH, 3, 28, 28)},
        {ARRAY(DT_UINT8, "", 10, 28, 28), SHAPE(DIM_BATCH, 784)},
        {ARRAY(DT_UINT8, "", 10, 784), SHAPE(DIM_BATCH, 1, 28, 28)},
        {ARRAY(DT_UINT8, "", 0, 28, 28), SHAPE(DIM_BATCH, 1, 28, 28)},
        {ARRAY(DT_UINT8, "", 10), SHAPE(DIM_BATCH, 1, 28, 28)},
        {ARRAY(DT_UINT8, "", 10), SHAPE(DIM_BATCH)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dataset_spec spec = plain_spec();
        struct dataset d;
        struct err e = {0};
        ok(dataset_open(&d, &spec, &cases[i].inputs, NULL, &cases[i].input, 0, &e) == E_INVALID && e.text[0],
           "case %zu: %s", i, e.text);
    }
    struct data_array three = ARRAY(DT_UINT8, "", 1, 3, 2, 2);
    struct shape input = SHAPE(DIM_BATCH, 3, 2, 2);
    struct dataset_spec spec = plain_spec();
    spec.n_mean = 2;
    struct dataset d;
    ok(dataset_open(&d, &spec, &three, NULL, &input, 0, NULL) == E_INVALID, "two means for three channels");
}

static bool has_shape(int layout, int rank, const int64_t *stored, int input_rank, const char *words) {
    struct dataset_spec spec = plain_spec();
    struct shape array = shape_of(rank, stored), input = {.rank = input_rank}, out;
    char text[96];
    spec.layout = layout;
    dataset_shape(&out, &spec, &array, &input);
    shape_print(text, sizeof text, &out);
    return ok(strcmp(text, words) == 0, "%s instead of %s", text, words);
}

TEST(stored_samples_have_a_shape_for_the_network) {
    has_shape(0, 4, (int64_t[]){9, 3, 5, 7}, 4, "[9,3,5,7]");
    has_shape(1, 4, (int64_t[]){9, 5, 7, 3}, 4, "[9,3,5,7]");
    has_shape(0, 3, (int64_t[]){9, 5, 7}, 4, "[9,1,5,7]");
    has_shape(1, 3, (int64_t[]){9, 5, 7}, 4, "[9,1,5,7]");
    has_shape(0, 2, (int64_t[]){9, 5}, 4, "[9,5]");
    has_shape(1, 2, (int64_t[]){9, 5}, 2, "[9,5]");
    has_shape(1, 1, (int64_t[]){9}, 2, "[9]");
}

TEST(requests) {
    const char *json =
        "{\"d\":{\"ref\":\"fashion\",\"scale\":255,\"mean\":[0.1,0.2,0.3],\"std\":0.5,\"layout\":\"NHWC\","
        "\"limit\":100}}";
    struct wrap {
        struct dataset_spec d;
    } w;
    static const struct param table[] = {PARAM_OBJECT(struct wrap, d, dataset_params, "ref", ""), PARAM_END};
    struct json *root;
    struct err e = {0};
    need(json_parse(&root, json, strlen(json), &e) == 0, "%s", e.text);
    ok(param_parse(&w, table, root, "", &e) == 0, "%s", e.text);
    ok(w.d.scale == 255 && w.d.n_mean == 3 && w.d.n_std == 1 && w.d.layout == 1 && w.d.limit == 100, "fields");
    json_free(root);
    need(json_parse(&root, "{\"d\":\"fashion\"}", 15, &e) == 0, "%s", e.text);
    ok(param_parse(&w, table, root, "", &e) == 0 && !strcmp(w.d.ref, "fashion") && w.d.scale == 1, "bare: %s", e.text);
    json_free(root);
}

TEST_MAIN

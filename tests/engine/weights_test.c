/* weights_test.c - weights out of a network, and others into it. */
#include "engine/formats/weights.h"

#include "engine/formats/onnx.h"
#include "tests/engine/formats.h"

#define MODELS "tests/fixtures/onnx/"
#define ROOM (4u << 20)

static struct graph *model(const char *name) {
    char path[512];
    struct graph *g = NULL;
    struct err e = {0};
    text_print(path, sizeof path, MODELS "%s", name);
    struct file f = file_read(path);
    struct byte_origin origin = byte_origin_memory(f.bytes, f.size);
    ok(!onnx_read_plain(&g, &origin, &e), "%s: %s", name, e.text);
    free(f.bytes);
    return g;
}

static int put(bool *changed, struct graph *g, const void *bytes, size_t size, size_t piece, struct err *e) {
    struct weights_reader *r = NULL;
    int rc = weights_reader_new(&r, g, e);
    for (size_t at = 0; !rc && at < size; at += piece)
        rc = weights_reader_feed(r, (const char *)bytes + at, size - at < piece ? size - at : piece, e);
    if (!rc) rc = weights_reader_finish(changed, r, e);
    weights_reader_free(r);
    return rc;
}

static bool has_elements(const struct graph *g, const char *name, const char *list) {
    char text[256] = "";
    int v = graph_find_value(g, name);
    const struct array *a = v == VALUE_NONE ? NULL : g->values[v].constant;
    for (size_t i = 0; a && i < a->count; i++) {
        double x;
        array_to_double(&x, a, i, 1);
        text_print(text + strlen(text), sizeof text - strlen(text), "%s%g", i ? " " : "", x);
    }
    return ok(a && !strcmp(text, list), "%s: %s instead of %s", name, text, list);
}

/* ---- there and back ---- */

TEST(other_weights_go_in_whatever_their_width_and_pieces) {
    static const char *const files[] = {"gemm.safetensors", "gemm_f64.safetensors", "gemm_f16.safetensors",
                                        "reversed.safetensors", "metadata.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct file f = fixture(files[i]);
        for (size_t piece = 1; piece <= f.size; piece += piece < 20 ? 1 : 37) {
            struct graph *g = model("gemm.onnx");
            struct err e = {0};
            bool changed = false;
            need(g && !put(&changed, g, f.bytes, f.size, piece, &e), "%s: %s", files[i], e.text);
            has_elements(g, "w", "0 1 2 3 4 5");
            has_elements(g, "b", "10 11 12");
            ok(changed, "b is another one");
            ok(g->values[graph_find_value(g, "w")].constant->type == DT_FLOAT32, "the network's type stays");
            changed = true;
            ok(!put(&changed, g, f.bytes, f.size, piece, &e) && !changed, "the same again changes nothing");
            graph_free(g);
        }
        free(f.bytes);
    }
}

static void write_both(struct text *onnx, struct text *weights, const struct graph *g) {
    struct err e = {0};
    text_init(onnx, ROOM);
    text_init(weights, ROOM);
    ok(!onnx_write(byte_sink_text(onnx), g, &e) && !weights_write(byte_sink_text(weights), g, &e), "%s", e.text);
}

static bool same_text(const struct text *a, const struct text *b) {
    return a->length == b->length && !memcmp(a->data, b->data, a->length);
}

/* Halves every weight in place. */
static void halve(struct graph *g) {
    for (int v = 0; v < g->n_values; v++) {
        struct array *a = g->values[v].constant;
        float *f = a ? a->data : NULL;
        for (size_t i = 0; a && a->type == DT_FLOAT32 && !g->values[v].literal && i < a->count; i++) f[i] /= 2;
    }
}

TEST(weights_of_one_network_make_the_other) {
    static const char *const models[] = {"gemm.onnx", "conv.onnx", "constants.onnx", "types.onnx",
                                         "../../../examples/fashion/teacher.onnx"};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        struct graph *a = model(models[i]), *b = model(models[i]);
        struct text onnx_a, onnx_b, weights_a, weights_b;
        struct err e = {0};
        bool changed = true;
        need(a && b, "both");
        halve(b);
        write_both(&onnx_a, &weights_a, a);
        write_both(&onnx_b, &weights_b, b);
        ok(!put(&changed, a, weights_a.data, weights_a.length, 1000, &e) && !changed, "%s: its own: %s", models[i],
           e.text);
        ok(!put(&changed, a, weights_b.data, weights_b.length, 1000, &e), "%s: the other's: %s", models[i], e.text);
        ok(changed == !same_text(&weights_a, &weights_b), "%s", models[i]);
        struct text onnx, weights;
        write_both(&onnx, &weights, a);
        ok(same_text(&onnx, &onnx_b) && same_text(&weights, &weights_b), "%s: the other network, to the byte",
           models[i]);
        struct text *all[] = {&onnx_a, &onnx_b, &weights_a, &weights_b, &onnx, &weights};
        for (int t = 0; t < 6; t++) text_free(all[t]);
        graph_free(a);
        graph_free(b);
    }
}

/* What a reader of the network sees as one weight is two things in the file: an initializer, and a node on it. */
TEST(names_are_those_of_the_file) {
    static float w[] = {1, 2, 3, 4, 5, 6};
    struct err e = {0};
    struct graph *g = NULL, *plain = NULL, *folded = NULL;
    int x, y, a, t;
    struct array *array = NULL;
    need(!array_new(&array, DT_FLOAT32, &(struct shape){2, {3, 2}}, &e), "%s", e.text);
    memcpy(array->data, w, sizeof w);
    need(!graph_new(&g, "g", 13, &e) && !graph_add_constant_take(&a, g, "fc.weight", array, &e) &&
             !graph_add_value(&x, g, "x", NULL, &e) && !graph_add_value(&t, g, "fc.transposed", NULL, &e) &&
             !graph_add_value(&y, g, "y", NULL, &e) &&
             !graph_add_input(g, x, DT_FLOAT32, &(struct shape){2, {DIM_BATCH, 2}}, &e) &&
             !graph_add_node(NULL, g, "Transpose", "t", &a, 1, &t, 1, &e) &&
             !graph_add_node(NULL, g, "MatMul", "m", (int[]){x, t}, 2, &y, 1, &e) && !graph_add_output(g, y, &e) &&
             !graph_finish(g, &e),
         "%s", e.text);
    struct text onnx, weights;
    write_both(&onnx, &weights, g);
    struct byte_origin origin = byte_origin_memory(onnx.data, onnx.length);
    need(!onnx_read_plain(&plain, &origin, &e) && !onnx_read(&folded, onnx.data, onnx.length, &e), "%s", e.text);
    ok(plain->n_nodes == 2 && folded->n_nodes == 1, "%d and %d nodes", plain->n_nodes, folded->n_nodes);
    bool changed;
    ok(!put(&changed, plain, weights.data, weights.length, 10, &e) && !changed, "%s", e.text);
    ok(put(&changed, folded, weights.data, weights.length, 10, &e) == E_INVALID, "folded it has another name");
    graph_free(g);
    graph_free(plain);
    graph_free(folded);
    text_free(&onnx);
    text_free(&weights);
}

/* ---- refusals ---- */

static struct graph *some_weights(void) {
    static const struct {
        const char *name;
        enum dtype type;
        struct shape shape;
        bool literal;
    } constants[] = {
        {"w1", DT_FLOAT32, {2, {2, 3}}, false}, {"b1", DT_FLOAT32, {1, {3}}, false},
        {"wide", DT_FLOAT64, {1, {1}}, false},  {"half", DT_FLOAT16, {1, {1}}, false},
        {"axes", DT_INT64, {1, {1}}, false},    {"alpha", DT_FLOAT32, {0, {0}}, true},
        {"x1", DT_FLOAT32, {1, {1}}, false},    {"x2", DT_FLOAT32, {1, {1}}, false},
    };
    struct graph *g = NULL;
    struct err e = {0};
    int v;
    ok(!graph_new(&g, "g", 13, &e), "%s", e.text);
    for (size_t i = 0; g && i < sizeof constants / sizeof constants[0]; i++) {
        struct array *a = NULL;
        ok(!array_new(&a, constants[i].type, &constants[i].shape, &e) &&
               !graph_add_constant_take(&v, g, constants[i].name, a, &e),
           "%s", e.text);
        g->values[v].literal = constants[i].literal;
    }
    return g;
}

/* A file with one tensor. */
static void refuses(const char *name, const struct array *a, const char *says) {
    struct graph *g = some_weights();
    struct err e = {0};
    struct text file;
    bool changed;
    text_init(&file, ROOM);
    struct graph *one = NULL;
    struct array *copy = NULL;
    int v;
    need(!array_clone(&copy, a, &e) && !graph_new(&one, "one", 13, &e) &&
             !graph_add_constant_take(&v, one, name, copy, &e),
         "%s", e.text);
    need(!weights_write(byte_sink_text(&file), one, &e), "%s", e.text);
    int rc = put(&changed, g, file.data, file.length, 9, &e);
    ok(rc == E_INVALID && strstr(e.text, says), "%s: %d %s", name, rc, e.text);
    graph_free(g);
    graph_free(one);
    text_free(&file);
}

TEST(what_does_not_fit_is_refused_with_names_and_shapes) {
    static float f[6];
    static double d[6];
    static uint16_t h[6];
    struct array a = {.type = DT_FLOAT32, .shape = {1, {1}}, .count = 1, .data = f},
                 square = {.type = DT_FLOAT32, .shape = {2, {3, 2}}, .count = 6, .data = f};
    struct array doubles = {.type = DT_FLOAT64, .shape = {1, {1}}, .count = 1, .data = d},
                 brain = {.type = DT_BFLOAT16, .shape = {1, {1}}, .count = 1, .data = h};
    refuses("w1", &square, "tensor 'w1': its shape is [3,2]; the network has [2,3] there");
    refuses("b1", &a, "tensor 'b1': its shape is [1]; the network has [3] there");
    refuses("w_1", &a, "tensor 'w_1': the network has no weight of this name; did you mean 'w1'?");
    refuses("encoder.weight", &a,
            "no weight of this name; its weights are 'w1', 'b1', 'wide', 'half', 'x1' and 1 more");
    refuses("axes", &a, "tensor 'axes': the network has int64 there, and weights are floats; leave it out");
    refuses("alpha", &a, "tensor 'alpha': it is a Constant node");
    refuses("half", &a, "tensor 'half': its elements are float32; the network has float16 there: convert them");
    refuses("half", &brain, "its elements are bfloat16");
    refuses("x1", &a, "5 of the network's 6 weights are missing, the first of them 'w1', float32 [2,3]");
    refuses("wide", &brain, "5 of the network's 6 weights are missing");
    f[0] = NAN;
    refuses("x1", &a, "tensor 'x1': element 0 of 1 is NaN");
    f[0] = INFINITY;
    refuses("x1", &a, "tensor 'x1': element 0 of 1 is infinite");
    f[0] = 0;
    d[0] = 1e300;
    refuses("x1", &doubles, "tensor 'x1': element 0 of 1 is infinite"); /* too large for the network's float32 */
}

TEST(integers_are_no_weights) {
    struct graph *g = some_weights();
    struct file f = fixture("odd.safetensors");
    struct err e = {0};
    bool changed;
    ok(put(&changed, g, f.bytes, f.size, f.size, &e) == E_INVALID && strstr(e.text, "tensor 'scalar'"), "%s", e.text);
    free(f.bytes);
    static const char header[] = "{\"x1\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,4]}} ";
    char bytes[8 + sizeof header + 3] = {sizeof header - 1};
    memcpy(bytes + 8, header, sizeof header - 1);
    err_clear(&e);
    ok(put(&changed, g, bytes, sizeof bytes, 100, &e) == E_INVALID && strstr(e.text, "its elements are int32"), "%s",
       e.text);
    graph_free(g);
}

TEST(a_network_without_weights) {
    struct graph *g = NULL;
    struct file none = fixture("none.safetensors"), some = fixture("gemm.safetensors");
    struct err e = {0};
    struct text file;
    bool changed = true;
    text_init(&file, ROOM);
    need(!graph_new(&g, "g", 13, &e), "%s", e.text);
    ok(!weights_write(byte_sink_text(&file), g, &e) && file.length == none.size &&
           !memcmp(file.data, none.bytes, none.size),
       "an empty file");
    ok(!put(&changed, g, none.bytes, none.size, 3, &e) && !changed, "%s", e.text);
    ok(put(&changed, g, some.bytes, some.size, 3, &e) == E_INVALID && strstr(e.text, "has no weights"), "%s", e.text);
    text_free(&file);
    graph_free(g);
    free(none.bytes);
    free(some.bytes);
}

/* ---- out of memory ---- */

static int round_trip(void *context) {
    const struct file *f = context;
    struct graph *g = NULL;
    struct text weights;
    bool changed = true;
    text_init(&weights, ROOM);
    struct byte_origin origin = byte_origin_memory(f->bytes, f->size);
    int rc = onnx_read_plain(&g, &origin, NULL);
    if (!rc) rc = weights_write(byte_sink_text(&weights), g, NULL);
    if (!rc) rc = put(&changed, g, weights.data, weights.length, 10, NULL);
    text_free(&weights);
    graph_free(g);
    return rc ? rc : changed ? E_INTERNAL : 0;
}

TEST(starving_harms_nothing) {
    struct file f = file_read(MODELS "conv.onnx");
    starve(round_trip, &f);
    free(f.bytes);
}

/* The search for the nearest name needs memory too. */
TEST(starving_while_refusing_harms_nothing) {
    struct file f = fixture("gemm.safetensors");
    struct graph *g = some_weights();
    bool met = true;
    for (uint64_t n = 1; met; n++) {
        int64_t live = mem_live();
        uint64_t calls = mem_calls();
        bool changed;
        mem_fail_at(n, false);
        int rc = put(&changed, g, f.bytes, f.size, 10, NULL);
        mem_fail_at(0, false);
        met = mem_calls() - calls >= n;
        ok(rc == (met ? E_NOMEM : E_INVALID), "%llu: %d", (unsigned long long)n, rc);
        ok(mem_live() == live, "%llu: %lld blocks left", (unsigned long long)n, (long long)(mem_live() - live));
    }
    graph_free(g);
    free(f.bytes);
}

TEST_MAIN

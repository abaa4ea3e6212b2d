/* onnx_test.c - model files: what sound ones become, how unsound ones are refused, what is written. */
#include "engine/formats/onnx.h"

#include <dirent.h>

#include "tests/engine/formats.h"

#define MODELS "tests/fixtures/onnx/"

static struct file model_file(const char *name) {
    char path[512];
    text_print(path, sizeof path, MODELS "%s", name);
    return file_read(path);
}

/* The model, or NULL after a failed check. */
static struct graph *model(const char *name) {
    struct file f = model_file(name);
    struct graph *g = NULL;
    struct err e = {0};
    ok(onnx_read(&g, f.bytes, f.size, &e) == 0, "%s: %s", name, e.text);
    free(f.bytes);
    return g;
}

static const struct value *value_of(const struct graph *g, const char *name) {
    static const struct value none = {.name = NULL, .shape = {.rank = -1}, .producer = -1};
    int i = graph_find_value(g, name);
    return ok(i != VALUE_NONE, "%s is there", name) ? &g->values[i] : &none;
}

static bool has_shape(const struct value *v, const char *shape) {
    char text[256];
    shape_print(text, sizeof text, &v->shape);
    return ok(strcmp(text, shape) == 0, "%s has %s", v->name, text);
}

static bool has_elements(const struct array *a, const char *list) {
    char text[256] = "";
    for (size_t i = 0; a && i < a->count; i++) {
        double v;
        array_to_double(&v, a, i, 1);
        text_print(text + strlen(text), sizeof text - strlen(text), "%s%g", i ? " " : "", v);
    }
    return ok(a && strcmp(text, list) == 0, "%s instead of %s", text, list);
}

/* ---- sound models ---- */

static void check_gemm(const struct graph *g, const char *batch) {
    char in[32], out[32];
    text_print(in, sizeof in, "[%s,2]", batch);
    text_print(out, sizeof out, "[%s,3]", batch);
    ok(g->n_nodes == 2 && g->n_inputs == 1 && g->n_outputs == 1, "%d nodes", g->n_nodes);
    ok(strcmp(g->values[g->inputs[0]].name, "x") == 0 && strcmp(g->values[g->outputs[0]].name, "y") == 0, "ends");
    has_shape(value_of(g, "x"), in);
    has_shape(value_of(g, "h"), out);
    has_shape(value_of(g, "y"), out);
    has_elements(value_of(g, "w")->constant, "0 1 2 3 4 5");
    has_elements(value_of(g, "b")->constant, "0 1 2");
    ok(value_of(g, "w")->trainable && !value_of(g, "w")->literal, "weights can be trained");
    ok(node_real(&g->nodes[0], "alpha", 1) == 0.5 && node_int(&g->nodes[0], "transB", 7) == 0, "attributes");
}

TEST(a_model_becomes_a_graph) {
    struct graph *g = model("gemm.onnx");
    need(g, "read");
    check_gemm(g, "N");
    ok(g->opset == 13 && strcmp(g->name, "small") == 0, "opset and name");
    ok(graph_find_node(g, "dense") == 0 && graph_find_node(g, "act") == 1, "names of nodes");
    graph_free(g);
    ok(mem_live() == 0, "%lld blocks left", (long long)mem_live());
}

TEST(old_unordered_and_relaxed_models_are_the_same) {
    static const char *const names[] = {"old.onnx", "unordered.onnx", "relaxed.onnx"};
    for (int i = 0; i < 3; i++) {
        struct graph *g = model(names[i]);
        need(g, "read");
        check_gemm(g, "N");
        graph_free(g);
    }
    struct graph *g = model("fixed_batch.onnx");
    need(g, "read");
    check_gemm(g, "1");
    graph_free(g);
}

TEST(initializers_of_every_type_read) {
    struct graph *g = model("types.onnx");
    need(g, "read");
    for (int t = 0; t < DTYPE_COUNT; t++)
        for (int raw = 0; raw < 2; raw++) {
            char name[64];
            if (raw && t == DT_BFLOAT16) continue; /* the fixture has none */
            text_print(name, sizeof name, "%s_%s", raw ? "raw" : "list", dtype_name((enum dtype)t));
            const struct value *v = value_of(g, name);
            ok(v->constant && v->constant->type == (enum dtype)t, "%s", name);
            has_shape(v, "[2,3]");
            has_elements(v->constant, t == DT_BOOL ? "0 1 1 1 1 1" : "0 1 2 3 4 5");
        }
    has_shape(value_of(g, "scalar"), "[]");
    has_shape(value_of(g, "empty"), "[0,3]");
    has_shape(value_of(g, "list_empty"), "[0]");
    graph_free(g);
}

TEST(constant_nodes_become_constants) {
    struct graph *g = model("constants.onnx");
    need(g, "read");
    ok(g->n_nodes == 1, "%d nodes", g->n_nodes);
    has_elements(value_of(g, "one_real")->constant, "0.5");
    has_elements(value_of(g, "some_reals")->constant, "0 1 2");
    has_elements(value_of(g, "mask")->constant, "0 -inf");
    has_elements(value_of(g, "real")->constant, "1.5");
    has_elements(value_of(g, "reals")->constant, "1.5 2.5");
    has_elements(value_of(g, "whole")->constant, "7");
    has_elements(value_of(g, "wholes")->constant, "7 8");
    has_shape(value_of(g, "real"), "[]");
    has_shape(value_of(g, "wholes"), "[2]");
    ok(value_of(g, "one_real")->literal && value_of(g, "mask")->literal, "numbers and masks are the formula's");
    ok(!value_of(g, "some_reals")->literal, "more than one number may be weights");
    graph_free(g);
}

/* ---- unsound models ---- */

static const struct {
    const char *name;
    int code;
    const char *says;
} unsound[] = {
    {"ir", E_UNSUPPORTED, "IR version 2; retort reads 3 and later"},
    {"opset0", E_UNSUPPORTED, "opset 0; retort reads 7 to 22"},
    {"old_meaning", E_UNSUPPORTED, "node 'side_by_side' (Concat): the model uses opset 3, in which this operator is"},
    {"old_slopes", E_UNSUPPORTED, "node 'slopes' (PRelu): slopes for each channel, as before opset 7"},
    {"old_norm", E_UNSUPPORTED, "node 'norm' (BatchNormalization): is_test is 0"},
    {"opset23", E_UNSUPPORTED, "opset 23; retort reads 7 to 22"},
    {"no_opset", E_INVALID, "does not say which opset"},
    {"no_graph", E_INVALID, "the model has no graph"},
    {"function", E_UNSUPPORTED, "the function 'MyGelu'"},
    {"training", E_UNSUPPORTED, "training information"},
    {"twice", E_SYNTAX, "the field 'graph' of a ModelProto comes twice"},
    {"external", E_UNSUPPORTED,
     "initializer 'w': its data lies in another file ('/etc/passwd'), which is never opened"},
    {"nan", E_INVALID, "initializer 'w': element 2 of 6 is NaN"},
    {"infinite", E_INVALID, "initializer 'w': element 5 of 6 is infinite"},
    {"short", E_INVALID, "initializer 'w': there are 20 bytes of raw data; float32 [2,3] takes 24"},
    {"long", E_INVALID, "initializer 'w': there are 28 bytes of raw data; float32 [2,3] takes 24"},
    {"short_list", E_INVALID, "initializer 'w': there are 5 numbers; float32 [2,3] takes 6"},
    {"negative", E_INVALID, "initializer 'w': dimension 1 is -3"},
    {"overflow", E_TOO_LARGE, "initializer 'w': shape [1099511627776,1099511627776]"},
    {"rank", E_UNSUPPORTED, "initializer 'w': 9 dimensions"},
    {"sparse", E_UNSUPPORTED, "the initializer 'w' is sparse"},
    {"text", E_UNSUPPORTED, "initializer 'w': elements of type STRING (8)"},
    {"new_type", E_UNSUPPORTED, "initializer 'w': elements of type unknown (17)"},
    {"no_type", E_INVALID, "initializer 'w': the element type is missing"},
    {"duplicate", E_INVALID, "initializer 'b': the name 'b' is given to two values"},
    {"nameless", E_INVALID, "an initializer has no name"},
    {"free_dimension", E_UNSUPPORTED, "input 'x': dimension 1 ('width') is free"},
    {"negative_dimension", E_INVALID, "input 'x': dimension 1 is -3"},
    {"no_shape", E_UNSUPPORTED, "input 'x': it has no shape"},
    {"text_input", E_UNSUPPORTED, "input 'x': elements of type STRING"},
    {"sequence", E_UNSUPPORTED, "input 'x': it is not a tensor"},
    {"input_twice", E_INVALID, "input 'x': the name 'x' is given to two values"},
    {"output_missing", E_INVALID, "output 'z' is made by no node"},
    {"output_twice", E_INVALID, "the output 'y' twice"},
    {"no_output", E_INVALID, "no output"},
    {"operator", E_UNSUPPORTED, "node 'odd' (Frobnicate): retort does not know this operator"},
    {"nameless_operator", E_UNSUPPORTED, "node 0 (Frobnicate) that makes 'y': retort does not know this operator"},
    {"no_operator", E_INVALID, "node 'odd'"},
    {"domain", E_UNSUPPORTED, "node 'odd' (Relu): the operator belongs to the domain 'com.microsoft'"},
    {"missing_input", E_INVALID, "node 'act' (Relu): it reads 'nowhere', which nothing in the graph makes"},
    {"two_makers", E_INVALID, "node 'again' (Relu): the name 'y' is given to two values"},
    {"makes_input", E_INVALID, "node 'act' (Relu): the name 'x' is given to two values"},
    {"cycle", E_INVALID, "cycle: node 'first' (Relu)"},
    {"subgraph", E_UNSUPPORTED, "node 'act' (Relu): attribute 'body': it is a graph"},
    {"strings", E_UNSUPPORTED, "node 'act' (Relu): attribute 'words': attributes of type STRINGS (8)"},
    {"constant_text", E_UNSUPPORTED, "node 0 (Constant) that makes 'c': a constant given as 'value_string'"},
    {"constant_nan", E_INVALID, "node 0 (Constant) that makes 'c': element 1 of 2 is NaN"},
    {"constant_empty", E_INVALID, "node 'nothing' (Constant): a constant has one value"},
    {"attribute_twice", E_INVALID, "node 'dense' (Gemm): attribute 'alpha': it is given twice"},
    {"reference", E_UNSUPPORTED, "attribute 'alpha': it refers to the attribute 'slope' of a function"},
    {"utf8", E_SYNTAX, "the name of a NodeProto is not UTF-8"},
    {"deep", E_TOO_LARGE, "nested more than 64 deep"},
};

TEST(unsound_models_are_refused) {
    for (size_t i = 0; i < sizeof unsound / sizeof unsound[0]; i++) {
        char name[128];
        text_print(name, sizeof name, "bad_%s.onnx", unsound[i].name);
        struct file f = model_file(name);
        struct graph *g = NULL;
        struct err e = {0};
        int rc = onnx_read(&g, f.bytes, f.size, &e);
        ok(rc == unsound[i].code && strstr(e.text, unsound[i].says), "%s: %d %s", name, rc, e.text);
        ok(g == NULL && mem_live() == 0, "%s: %lld blocks left", name, (long long)mem_live());
        graph_free(g);
        free(f.bytes);
    }
}

TEST(what_is_no_model_is_said) {
    struct graph *g = NULL;
    struct err e = {0};
    ok(onnx_read(&g, "", 0, &e) == E_SYNTAX && strstr(e.text, "no ONNX model"), "%s", e.text);
    err_clear(&e);
    ok(onnx_read(&g, "<html>", 6, &e) == E_SYNTAX && strstr(e.text, "at byte"), "%s", e.text);
    err_clear(&e);
    ok(onnx_read(&g, "\x3a\x7f", 2, &e) == E_SYNTAX && strstr(e.text, "a field of 127 bytes"), "%s", e.text);
    err_clear(&e);
    ok(onnx_read(&g, "\x39........", 9, &e) == E_SYNTAX && strstr(e.text, "type"), "%s", e.text);
}

TEST(a_model_cut_anywhere_is_refused) {
    struct file f = model_file("gemm.onnx");
    for (size_t cut = 0; cut < f.size; cut++) {
        struct graph *g = NULL;
        struct err e = {0};
        unsigned char *exact = malloc(cut ? cut : 1); /* so that a sanitizer sees a byte read too many */
        if (!exact) exit(1);
        memcpy(exact, f.bytes, cut);
        ok(onnx_read(&g, exact, cut, &e) < 0 && *e.text, "cut at %zu", cut);
        free(exact);
    }
    ok(mem_live() == 0, "%lld blocks left", (long long)mem_live());
    free(f.bytes);
}

static int discard(void *context, const void *bytes, size_t size, struct err *e) {
    (void)context, (void)bytes, (void)size, (void)e;
    return 0;
}

TEST(damage_is_noticed_or_harmless) {
    struct file f = model_file("gemm.onnx");
    for (size_t at = 0; at < f.size * 8; at++) {
        struct graph *g = NULL;
        struct err e = {0};
        f.bytes[at / 8] ^= (unsigned char)(1 << at % 8);
        int rc = onnx_read(&g, f.bytes, f.size, &e);
        ok(rc == 0 || *e.text, "bit %zu: %d", at, rc);
        if (rc == 0) ok(onnx_write((struct byte_sink){discard, NULL}, g, &e) == 0, "bit %zu: %s", at, e.text);
        f.bytes[at / 8] ^= (unsigned char)(1 << at % 8);
        graph_free(g);
    }
    ok(mem_live() == 0, "%lld blocks left", (long long)mem_live());
    free(f.bytes);
}

/* Two bytes each that protobuf-c turns into 200: the budget stops it. */
TEST(memory_is_bounded_by_the_size_of_the_file) {
    enum { SIZE = 8 << 20 };
    unsigned char *bytes = malloc(SIZE);
    if (!bytes) exit(1);
    bytes[0] = 0x3a; /* graph, with its length in 4 bytes of 7 bits */
    for (int i = 0; i < 4; i++) bytes[1 + i] = (unsigned char)(((SIZE - 5) >> 7 * i & 127) | (i < 3 ? 128 : 0));
    for (int i = 5; i < SIZE; i++) bytes[i] = i % 2 ? 0x2a : 0; /* an empty initializer */
    bytes[SIZE - 1] = 0;
    struct graph *g = NULL;
    struct err e = {0};
    int rc = onnx_read(&g, bytes, SIZE, &e);
    ok(rc == E_TOO_LARGE || rc == E_SYNTAX, "%d %s", rc, e.text);
    free(bytes);
}

/* ---- writing ---- */

static int write_text(struct text *t, const struct graph *g, struct err *e) {
    text_init(t, 1 << 20);
    return onnx_write(byte_sink_text(t), g, e);
}

TEST(what_is_written_reads_back_and_is_written_the_same) {
    static const char *const names[] = {"gemm.onnx",    "old.onnx",       "unordered.onnx", "fixed_batch.onnx",
                                        "relaxed.onnx", "constants.onnx", "types.onnx",     "conv.onnx"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct graph *a = model(names[i]), *b = NULL;
        struct text first, again, second;
        struct err e = {0};
        need(a, "read");
        need(write_text(&first, a, &e) == 0 && write_text(&again, a, &e) == 0, "%s: %s", names[i], e.text);
        need(onnx_read(&b, first.data, first.length, &e) == 0, "%s: %s", names[i], e.text);
        need(write_text(&second, b, &e) == 0, "%s: %s", names[i], e.text);
        ok(first.length == again.length && memcmp(first.data, again.data, first.length) == 0, "%s: the same bytes",
           names[i]);
        /* literals are read after initializers: from the second writing on nothing moves */
        ok(first.length == second.length, "%s: %zu and %zu bytes", names[i], first.length, second.length);
        ok(a->n_nodes == b->n_nodes && a->n_values == b->n_values && a->opset == b->opset, "%s: the same graph",
           names[i]);
        text_free(&first);
        text_free(&again);
        text_free(&second);
        graph_free(a);
        graph_free(b);
    }
    ok(mem_live() == 0, "%lld blocks left", (long long)mem_live());
}

TEST(a_written_model_is_what_was_read) {
    struct graph *a = model("gemm.onnx"), *b = NULL;
    struct text t;
    struct err e = {0};
    need(a && write_text(&t, a, &e) == 0 && onnx_read(&b, t.data, t.length, &e) == 0, "%s", e.text);
    check_gemm(b, "N");
    ok(graph_find_node(b, "dense") == 0 && graph_find_node(b, "act") == 1, "names of nodes");
    text_free(&t);
    graph_free(a);
    graph_free(b);
}

TEST(the_checker_of_onnx_accepts_what_is_written) {
    static const char *const names[] = {"gemm.onnx", "old.onnx", "constants.onnx", "types.onnx", "conv.onnx"};
    char folder[] = "/tmp/retort-onnx-XXXXXX", command[512];
    need(mkdtemp(folder), "a folder");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct graph *g = model(names[i]);
        struct text t;
        char path[256];
        text_print(path, sizeof path, "%s/%s", folder, names[i]);
        FILE *out = fopen(path, "wb");
        need(g && out && write_text(&t, g, NULL) == 0, "%s", path);
        ok(fwrite(t.data, 1, t.length, out) == t.length && fclose(out) == 0, "%s", path);
        text_free(&t);
        graph_free(g);
    }
    text_print(command, sizeof command,
               "/usr/bin/python3 -c 'import onnx, sys\n"
               "for p in sys.argv[1:]: onnx.checker.check_model(onnx.load(p), full_check=True)' %s/*.onnx 2>&1",
               folder);
    ok(system(command) == 0, "the checker (Debian python3-onnx) accepts %s", folder);
    text_print(command, sizeof command, "rm -r %s", folder);
    ok(system(command) == 0, "%s", command);
}

static int refuse(void *context, const void *bytes, size_t size, struct err *e) {
    (void)context, (void)bytes, (void)size;
    return err_set(e, E_IO, "the disk is full");
}

TEST(a_sink_that_refuses_stops_the_writer) {
    struct graph *g = model("gemm.onnx");
    struct err e = {0};
    need(g, "read");
    ok(onnx_write((struct byte_sink){refuse, NULL}, g, &e) == E_IO && strstr(e.text, "full"), "%s", e.text);
    graph_free(g);
}

/* ---- ONNX's own test data (Debian libonnx-testdata) ---- */

#define TESTDATA "/usr/share/libonnx-testdata/data"

/* Sound models all of them: read, or refused for what retort lacks; what was read, writes and reads again. */
static void check_testdata(const char *path, long *models, long *known) {
    struct file f = file_read(path);
    struct graph *a = NULL, *b = NULL;
    struct text t;
    struct err e = {0};
    int rc = onnx_read(&a, f.bytes, f.size, &e);
    free(f.bytes);
    ++*models;
    ok(rc == 0 || (rc == E_UNSUPPORTED && *e.text), "%s: %d %s", path, rc, e.text);
    if (rc) return;
    ++*known;
    ok(write_text(&t, a, &e) == 0 && onnx_read(&b, t.data, t.length, &e) == 0, "%s: %s", path, e.text);
    if (b) ok(a->n_nodes == b->n_nodes && a->n_inputs == b->n_inputs && a->n_outputs == b->n_outputs, "%s", path);
    text_free(&t);
    graph_free(a);
    graph_free(b);
}

TEST(every_model_of_onnx_reads_or_is_refused_for_what_it_uses) {
    static const char *const folders[] = {"node", "pytorch-converted", "pytorch-operator", "simple"};
    long models = 0, known = 0;
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        char path[1024];
        text_print(path, sizeof path, TESTDATA "/%s", folders[i]);
        DIR *folder = opendir(path);
        need(folder, "%s (Debian libonnx-testdata) is there", path);
        for (struct dirent *entry; (entry = readdir(folder));) {
            text_print(path, sizeof path, TESTDATA "/%s/%s/model.onnx", folders[i], entry->d_name);
            if (access(path, R_OK) == 0) check_testdata(path, &models, &known);
        }
        closedir(folder);
    }
    ok(models > 1000 && known > 100, "%ld of %ld models", known, models);
    ok(mem_live() == 0, "%lld blocks left", (long long)mem_live());
}

/* ---- tensors in files ---- */

TEST(tensor_files_read_and_write) {
    struct file f = model_file("tensor.pb");
    struct array *a = NULL, *b = NULL;
    struct text t;
    struct err e = {0};
    char name[8];
    need(onnx_tensor_read(&a, name, sizeof name, f.bytes, f.size, &e) == 0, "%s", e.text);
    ok(strcmp(name, "input_0") == 0, "%s", name);
    has_elements(a, "0 1 2 3 4 5");
    text_init(&t, 4096);
    ok(onnx_tensor_write(byte_sink_text(&t), "again", a, &e) == 0, "%s", e.text);
    ok(onnx_tensor_read(&b, name, sizeof name, t.data, t.length, &e) == 0 && strcmp(name, "again") == 0, "%s", e.text);
    has_elements(b, "0 1 2 3 4 5");
    array_free(a);
    array_free(b);
    text_free(&t);
    /* the name comes last but one; without data, the sizes do not agree */
    for (size_t cut = 0; cut < f.size; cut++)
        ok(onnx_tensor_read(&a, NULL, 0, f.bytes, cut, NULL) < 0, "cut at %zu", cut);
    free(f.bytes);
}

/* ---- memory ---- */

static int read_and_write(void *context) {
    struct file *f = context;
    struct graph *g = NULL;
    int rc = onnx_read(&g, f->bytes, f->size, NULL);
    if (!rc) rc = onnx_write((struct byte_sink){discard, NULL}, g, NULL);
    graph_free(g);
    return rc;
}

TEST(starving_harms_nothing) {
    static const char *const names[] = {"gemm.onnx", "constants.onnx", "types.onnx", "conv.onnx"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct file f = model_file(names[i]);
        starve(read_and_write, &f);
        free(f.bytes);
    }
}

static int read_tensor(void *context) {
    struct file *f = context;
    struct array *a = NULL;
    int rc = onnx_tensor_read(&a, NULL, 0, f->bytes, f->size, NULL);
    array_free(a);
    return rc;
}

TEST(starving_a_tensor_harms_nothing) {
    struct file f = model_file("tensor.pb");
    starve(read_tensor, &f);
    free(f.bytes);
}

TEST_MAIN

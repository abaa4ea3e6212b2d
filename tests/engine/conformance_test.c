/* Walks the test data that comes with ONNX (Debian: libonnx-testdata), and what PyTorch exported for us
 * (tests/fixtures/onnx_cases): folders with model.onnx, test_data_set_N/input_K.pb and output_K.pb. What retort
 * claims must agree; the rest must be refused with operator and node named. ONNX_TESTDATA names another folder,
 * TEST_CASE shows one case in full, CONFORMANCE_EXPORT=DIR writes every case that passes there, as it was read and
 * as retort writes it: for tests/js/canonical_test.js. */
#define TEST_SECONDS 240
#include "tests/test.h"

#include <dirent.h>
#include <fnmatch.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/formats/onnx.h"
#include "engine/nn/net.h"
#include "engine/nn/op.h"

#define RELATIVE 1e-3
#define ABSOLUTE 1e-5
enum { MOST = 40, PATH = 600, NAMES = 250 };

/* Cases of operators that retort has a row for, which it refuses all the same or answers in its own way,
 * and why. One that passes must leave the list. */
static const struct exception {
    const char *pattern, *why;
} exceptions[] = {
    {"test_*pool_3d_default", "windows over three spatial axes"},
    {"test_convtranspose_3d", "the same"},
    {"test_*Pool3d*", "the same"},
    {"test_Conv3d*", "the same"},
    {"test_PReLU_*_multiparam", "slopes that are not broadcast as numpy does (before opset 7)"},
    {"test_operator_add_*broadcast", "operands lined up by the attribute axis (before opset 7)"},
    {"test_operator_addconstant", "numbers beyond those of float32"},
    {"test_resize_tf_crop_and_resize", "resizing a region"},
    {"test_maxpool_with_argmax_*", "the indices of the maxima"},
    {"test_batchnorm_*_training_mode", "training is asked for by the caller, not by the graph"},
    {"test_training_dropout", "training is asked for by the caller; random numbers are retort's own"},
    {"test_training_dropout_default", "the same"},
    {"test_training_dropout_mask", "the same"},
    {"test_training_dropout_default_mask", "the same"},
    {"test_castlike_FLOAT_to_BFLOAT16", "a file with another type and shape than the input it is for"},
    {"test_cast*STRING*", "text"},
};

static const char *exception_for(const char *name) {
    for (size_t i = 0; i < sizeof exceptions / sizeof *exceptions; i++)
        if (fnmatch(exceptions[i].pattern, name, 0) == 0) return exceptions[i].why;
    return NULL;
}

/* ---- files ---- */

struct bytes {
    unsigned char *data;
    size_t size, room;
};

static bool read_file(struct bytes *b, const char *path) {
    *b = (struct bytes){0};
    struct stat info;
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    bool good = fstat(fileno(f), &info) == 0;
    b->size = b->room = good ? (size_t)info.st_size : 0;
    b->data = mem_alloc(b->size + 1);
    good = good && b->data && fread(b->data, 1, b->size, f) == b->size;
    fclose(f);
    return good;
}

static void append(struct bytes *b, const void *data, size_t size) {
    if (b->size + size > b->room) b->data = mem_resize(b->data, b->room = 2 * (b->size + size), 1);
    if (size) memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void append_length(struct bytes *b, unsigned char tag, size_t n) {
    unsigned char varint[12] = {tag};
    size_t k = 1;
    for (; n >= 128; n >>= 7) varint[k++] = (unsigned char)(n | 128);
    varint[k++] = (unsigned char)n;
    append(b, varint, k);
}

/* ---- a case ---- */

struct tensors {
    struct array *arrays[MOST];
    struct bytes files[MOST];
    char names[MOST][GRAPH_MAX_NAME];
    int n;
};

static bool read_tensors(struct tensors *t, const char *folder, const char *kind, struct err *e) {
    char path[PATH];
    for (*t = (struct tensors){0}; t->n < MOST; t->n++) {
        snprintf(path, sizeof path, "%s/%s_%d.pb", folder, kind, t->n);
        if (!read_file(&t->files[t->n], path)) return true;
        const struct bytes *b = &t->files[t->n];
        if (onnx_tensor_read(&t->arrays[t->n], t->names[t->n], sizeof t->names[t->n], b->data, b->size, e))
            return false;
    }
    return true;
}

static size_t read_varint(const struct bytes *b, size_t *at) {
    size_t value = 0;
    for (int shift = 0; *at < b->size; shift += 7) {
        unsigned char byte = b->data[(*at)++];
        value |= (size_t)(byte & 127) << shift;
        if (byte < 128) break;
    }
    return value;
}

/* The model with one more initializer, input k, at the end of its graph. */
static void make_constant(struct bytes *model, const struct tensors *inputs, int k) {
    struct bytes tensor = {0}, made = {0};
    const char *name = inputs->names[k];
    append(&tensor, inputs->files[k].data, inputs->files[k].size);
    append_length(&tensor, 8 << 3 | 2, strlen(name)); /* TensorProto.name */
    append(&tensor, name, strlen(name));
    for (size_t at = 0; at < model->size;) {
        size_t start = at, tag = read_varint(model, &at), n = read_varint(model, &at);
        if ((tag & 7) == 2) at += n;
        if (tag != (7 << 3 | 2)) { /* anything but ModelProto.graph stays */
            append(&made, model->data + start, at - start);
            continue;
        }
        struct bytes graph = {0};
        append(&graph, model->data + at - n, n);
        append_length(&graph, 5 << 3 | 2, tensor.size); /* GraphProto.initializer */
        append(&graph, tensor.data, tensor.size);
        append_length(&made, 7 << 3 | 2, graph.size);
        append(&made, graph.data, graph.size);
        mem_free(graph.data);
    }
    mem_free(tensor.data);
    mem_free(model->data);
    *model = made;
}

/* Which inputs are made constants, in attempts: none, then those that must be settings. */
enum attempt { AS_THEY_ARE, INTEGERS, ALL_BUT_FIRST, ALL, ATTEMPTS };

static bool is_made_constant(enum attempt attempt, const struct tensors *inputs, int k) {
    if (inputs->names[k][0] == '\0') return false;
    return attempt == ALL || (attempt == ALL_BUT_FIRST && k > 0) ||
           (attempt == INTEGERS && !dtype_is_real(inputs->arrays[k]->type));
}

static int read_model(struct graph **g, struct bytes *model, const char *path, const struct tensors *inputs,
                      enum attempt attempt, struct err *e) {
    if (!read_file(model, path)) return err_set(e, E_IO, "no model");
    for (int k = 0; k < inputs->n; k++)
        if (is_made_constant(attempt, inputs, k)) make_constant(model, inputs, k);
    return onnx_read(g, model->data, model->size, e);
}

static int choose_batch(const struct graph *g, const struct tensors *inputs) {
    for (int i = 0; i < g->n_inputs && i < inputs->n; i++) {
        const struct shape *s = &g->values[g->inputs[i]].shape;
        if (s->rank && inputs->arrays[i]->shape.dim[0] > 0) return (int)inputs->arrays[i]->shape.dim[0];
    }
    return 1;
}

/* The tensor for graph input i: by name, or the i-th that is no constant. */
static struct array *tensor_for(const struct graph *g, const struct tensors *inputs, int i) {
    const char *name = g->values[g->inputs[i]].name;
    for (int k = 0; k < inputs->n; k++)
        if (strcmp(inputs->names[k], name) == 0) return inputs->arrays[k];
    return i < inputs->n ? inputs->arrays[i] : NULL;
}

static void to_reals(real *out, const struct array *a) {
    if (sizeof(real) == sizeof(float))
        array_to_float((float *)(void *)out, a, 0, a->count);
    else
        array_to_double((double *)(void *)out, a, 0, a->count);
}

/* retort does not round to bfloat16, which has 8 bits. */
static bool agrees(double right, double got, enum dtype type) {
    if (isnan(right) || isinf(right)) return isnan(right) ? isnan(got) : got == right || fabs(got) > 1e38;
    return fabs(right - got) <= ABSOLUTE + (type == DT_BFLOAT16 ? 0x1p-7 : RELATIVE) * fabs(right);
}

/* Some files keep the bits of bfloat16 as whole numbers. */
static void correct_type(struct array *a, const struct value *v) {
    if (v->type == DT_BFLOAT16 && a->type == DT_UINT16) a->type = DT_BFLOAT16;
}

static bool compare(const char *name, struct net *n, int k, const struct array *right) {
    struct shape shape = net_output_shape(n, k);
    char got_shape[96], right_shape[96];
    shape_print(got_shape, sizeof got_shape, &shape);
    shape_print(right_shape, sizeof right_shape, &right->shape);
    if (!ok(shape_equal(&shape, &right->shape), "%s: output %d is %s, should be %s", name, k, got_shape, right_shape))
        return false;
    for (size_t i = 0; i < right->count; i++) {
        double value, got = (double)net_output(n, k)[i];
        array_to_double(&value, right, i, 1);
        if (!ok(agrees(value, got, right->type), "%s: output %d%s, element %zu is %.9g, should be %.9g", name, k,
                right_shape, i, got, value))
            return false;
    }
    return true;
}

static bool run_graph(const char *name, const struct graph *g, const struct tensors *inputs,
                      const struct tensors *outputs, struct err *e) {
    struct crew *crew = NULL;
    struct net *n = NULL;
    struct net_options options = {.batch = choose_batch(g, inputs)};
    bool good = !crew_new(&crew, 1, e) && !net_new(&n, g, crew, &options, e);
    for (int i = 0; good && i < g->n_inputs; i++) {
        struct array *a = tensor_for(g, inputs, i);
        struct shape shape = net_input_shape(n, i);
        if (a) correct_type(a, &g->values[g->inputs[i]]);
        good = a && shape_equal(&shape, &a->shape);
        if (good)
            to_reals(net_input(n, i), a);
        else
            err_set(e, E_INVALID, "input %d has another shape", i);
    }
    if (good) {
        net_forward(n, options.batch, random_seed(1), NULL, NULL);
        for (int k = 0; k < g->n_outputs && k < outputs->n; k++) {
            correct_type(outputs->arrays[k], &g->values[g->outputs[k]]);
            compare(name, n, k, outputs->arrays[k]);
        }
    }
    net_free(n);
    crew_free(crew);
    return good;
}

/* ---- which operators a file has ---- */

/* What is found in the cases, counted by name. */
struct tally {
    struct {
        char name[96];
        int cases;
    } rows[NAMES];
    int n;
};

static void tally_add(struct tally *t, const char *name, size_t length, int cases) {
    int at = 0;
    while (at < t->n && (strncmp(t->rows[at].name, name, length) != 0 || t->rows[at].name[length])) at++;
    if (at == NAMES || length >= sizeof t->rows[0].name) return;
    if (at == t->n) {
        memcpy(t->rows[at].name, name, length);
        t->n++;
    }
    t->rows[at].cases += cases;
}

/* The bytes of the next field with that number; what else there is, is passed over. */
static bool next_field(struct bytes *out, const struct bytes *message, size_t *at, size_t field) {
    while (*at < message->size) {
        size_t tag = read_varint(message, at), size = 8 - ((tag & 7) == 5) * 4;
        if ((tag & 7) == 0 || (tag & 7) == 2) size = read_varint(message, at);
        if ((tag & 7) != 0) *at += size;
        *out = (struct bytes){.data = message->data + *at - size, .size = size};
        if (tag == (field << 3 | 2)) return true;
    }
    return false;
}

/* Every operator of the model's graph, once. */
static void find_operators(struct tally *found, const char *path) {
    struct bytes model, graph, node, name;
    size_t in_model = 0, in_graph = 0;
    if (read_file(&model, path) && next_field(&graph, &model, &in_model, 7))
        while (next_field(&node, &graph, &in_graph, 1))
            for (size_t in_node = 0; next_field(&name, &node, &in_node, 4);)
                tally_add(found, (const char *)name.data, name.size, 0);
    mem_free(model.data);
}

static int by_name(const void *a, const void *b) {
    return strcmp(a, b); /* the name comes first */
}

/* "Abs 1, Add 22, ..." in lines; names alone where no cases were counted. */
static void tally_print(struct tally *t) {
    int column = 0;
    qsort(t->rows, (size_t)t->n, sizeof t->rows[0], by_name);
    for (int i = 0; i < t->n; i++) {
        if (column == 0 || column > 100) column = printf("%s#    ", i ? "\n" : "");
        column += printf(t->rows[i].cases ? " %s %d%s" : " %s%.0d%s", t->rows[i].name, t->rows[i].cases,
                         i + 1 < t->n ? "," : "");
    }
    if (t->n) printf("\n");
}

/* ---- the walk ---- */

enum outcome { PASSED, PASSED_CONSTANT, NO_OPERATOR, NO_TYPE, NO_OPSET, EXCEPTED, FAILED, OUTCOMES };

static const char *const titles[OUTCOMES] = {
    [PASSED] = "passed",
    [PASSED_CONSTANT] = "passed, with inputs made constants",
    [NO_OPERATOR] = "refused: an operator that has no row",
    [NO_TYPE] = "refused: text, sequences, optional values",
    [NO_OPSET] = "refused: an opset out of range",
    [EXCEPTED] = "refused: listed as not claimed",
    [FAILED] = "failed",
};

/* What became of one case, and of which kind it is: the operator, the type or the opset that is refused. */
struct verdict {
    enum outcome outcome;
    char about[96];
};

/* What a refusal says when it is about something that is not claimed, and what it names after that. */
static const struct refusal {
    const char *says;
    enum outcome outcome;
    const char *before, *after; /* what it is about stands between these */
} refusals[] = {
    {"does not know this operator", NO_OPERATOR, " (", ")"},
    {"belongs to the domain", NO_OPERATOR, " (", ")"},
    {"uses the operators of", NO_OPERATOR, "operators of '", "'"},
    {"not a tensor", NO_TYPE, "not a ", ""},
    {"elements of type", NO_TYPE, "elements of type ", ";"},
    {"the model uses opset", NO_OPSET, "opset ", ";"},
    {"types of the data", NO_TYPE, "", ""},
};

static void classify(struct verdict *v, const char *text) {
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const struct refusal *r = &refusals[i];
        if (!strstr(text, r->says)) continue;
        const char *from = strstr(text, r->before);
        from = from ? from + strlen(r->before) : text;
        size_t length = *r->after && strstr(from, r->after) ? (size_t)(strstr(from, r->after) - from) : strlen(from);
        snprintf(v->about, sizeof v->about, "%.*s", (int)length, from);
        v->outcome = r->outcome;
        return;
    }
    v->outcome = FAILED;
}

/* A refusal names the operator, which is in the file and not in the table, and the node. */
static void check_named(const char *name, const char *path, const struct verdict *v, const char *text) {
    struct tally in_file = {0};
    find_operators(&in_file, path);
    bool there = false;
    for (int i = 0; i < in_file.n; i++) there |= strcmp(in_file.rows[i].name, v->about) == 0;
    bool foreign = strstr(text, "domain") || strstr(text, "uses the operators of");
    ok((there && !op_find(v->about) && strstr(text, "node ")) || foreign, "%s: names no node: %s", name, text);
}

static int put(void *context, const void *data, size_t size, struct err *e) {
    (void)e;
    append(context, data, size);
    return 0;
}

static bool write_file(const char *folder, const char *name, const struct bytes *b) {
    char path[PATH];
    FILE *f = text_print(path, sizeof path, "%s/%s", folder, name) ? fopen(path, "wb") : NULL;
    return f && fwrite(b->data, 1, b->size, f) == b->size && fclose(f) == 0;
}

/* before.onnx, after.onnx and data, which is a link. */
static void export(const struct bytes *before, const struct graph *g, const char *set, const char *name) {
    char folder[PATH], link[PATH], data[PATH_MAX];
    struct bytes after = {0};
    struct err e = {0};
    const char *root = getenv("CONFORMANCE_EXPORT");
    if (!root) return;
    bool good = text_print(folder, sizeof folder, "%s/%s", root, name) && !mkdir(folder, 0777) &&
                text_print(link, sizeof link, "%s/data", folder) && realpath(set, data) && !symlink(data, link) &&
                !onnx_write((struct byte_sink){put, &after}, g, &e);
    ok(good && write_file(folder, "before.onnx", before) && write_file(folder, "after.onnx", &after), "%s: %s", folder,
       e.text);
    mem_free(after.data);
}

static void judge(struct verdict *v, const char *folder, const char *name) {
    char path[PATH], set[PATH];
    struct tensors inputs, outputs;
    struct err e = {0}, first = {0};
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    snprintf(set, sizeof set, "%s/test_data_set_0", folder);
    bool readable = read_tensors(&inputs, set, "input", &e) && read_tensors(&outputs, set, "output", &e);
    for (int attempt = AS_THEY_ARE; attempt < (readable ? ATTEMPTS : INTEGERS); attempt++) {
        struct graph *g = NULL;
        struct bytes model = {0};
        err_clear(&e);
        long failures = test_failures;
        bool good =
            !read_model(&g, &model, path, &inputs, (enum attempt)attempt, &e) &&
            (readable ? run_graph(name, g, &inputs, &outputs, &e) : err_set(&e, E_UNSUPPORTED, "types of the data"));
        if (good && readable && test_failures == failures) export(&model, g, set, name);
        mem_free(model.data);
        graph_free(g);
        if (attempt == AS_THEY_ARE) first = e;
        if (good && readable) {
            v->outcome = test_failures > failures ? FAILED : attempt == AS_THEY_ARE ? PASSED : PASSED_CONSTANT;
            return;
        }
    }
    if (getenv("TEST_CASE")) printf("# %s: %s; %s\n", name, first.text, e.text);
    classify(v, first.text);
    if (v->outcome == NO_OPERATOR) check_named(name, path, v, first.text);
    ok(v->outcome != FAILED, "%s: refused: %s; %s", name, first.text, e.text);
}

/* In a process of its own: a crash is one failed case. `shared` is memory that both processes see. */
static struct verdict judge_apart(struct verdict *shared, const char *folder, const char *name) {
    const char *why = exception_for(name);
    *shared = (struct verdict){.outcome = FAILED};
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        if (why && !freopen("/dev/null", "w", stdout)) _exit(1);
        judge(shared, folder, name);
        fflush(stdout);
        _exit(test_failures && !why);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    bool alive = ok(WIFEXITED(status), "%s: %s", name, WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "?");
    struct verdict v = *shared;
    if (!alive || WEXITSTATUS(status)) v.outcome = FAILED;
    bool passed = v.outcome <= PASSED_CONSTANT;
    if (!why || !alive || !(passed || v.outcome == FAILED)) return v;
    if (passed) printf("# %s: passes, though listed as not claimed\n", name);
    v.outcome = passed ? FAILED : EXCEPTED;
    snprintf(v.about, sizeof v.about, "%s", why);
    return v;
}

static int plain_name(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

struct results {
    int cases, counts[OUTCOMES];
    struct tally about[OUTCOMES];
    struct tally passed; /* operators of the cases that pass */
    struct verdict *shared;
};

static void walk_case(struct results *r, const char *folder, const char *name) {
    char path[PATH];
    struct verdict v = judge_apart(r->shared, folder, name);
    r->cases++;
    r->counts[v.outcome]++;
    if (*v.about) tally_add(&r->about[v.outcome], v.about, strlen(v.about), 1);
    struct tally found = {0};
    if (v.outcome <= PASSED_CONSTANT && text_print(path, sizeof path, "%s/model.onnx", folder))
        find_operators(&found, path);
    for (int i = 0; i < found.n; i++) tally_add(&r->passed, found.rows[i].name, strlen(found.rows[i].name), 1);
}

static void walk(struct results *r, const char *root, const char *kind) {
    char folder[PATH];
    struct dirent **entries;
    const char *only = getenv("TEST_CASE");
    snprintf(folder, sizeof folder, "%s/%s", root, kind);
    int n = scandir(folder, &entries, plain_name, alphasort);
    need(n > 0, "no cases in %s; package libonnx-testdata has them", folder);
    for (int i = 0; i < n; i++) {
        char path[PATH];
        bool fits = text_print(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        if (fits && (!only || strcmp(only, entries[i]->d_name) == 0)) walk_case(r, path, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
}

static struct results *new_results(void) {
    struct results *r = calloc(1, sizeof *r);
    r->shared = mmap(NULL, sizeof *r->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return r;
}

static void print_results(struct results *r) {
    int claimed = 0, passed = r->counts[PASSED] + r->counts[PASSED_CONSTANT], failed = r->counts[FAILED];
    struct tally without = {0};
    for (; op_table[claimed]; claimed++) {
        bool seen = false;
        for (int i = 0; i < r->passed.n; i++) seen |= strcmp(r->passed.rows[i].name, op_table[claimed]->name) == 0;
        if (!seen) tally_add(&without, op_table[claimed]->name, strlen(op_table[claimed]->name), 0);
    }
    printf("# %d operators claimed, %d cases passed, %d refused, %d failed\n", claimed, passed,
           r->cases - passed - failed, failed);
    for (int i = 0; i < OUTCOMES; i++) {
        printf("# %-42s %4d\n", titles[i], r->counts[i]);
        tally_print(&r->about[i]);
    }
    printf("# operators in the cases that passed         %4d\n", r->passed.n);
    tally_print(&r->passed);
    printf("# operators claimed that no such case has    %4d\n", without.n);
    tally_print(&without);
}

static void free_results(struct results *r) {
    munmap(r->shared, sizeof *r->shared);
    free(r);
}

TEST(what_is_claimed_agrees) {
    const char *root = getenv("ONNX_TESTDATA");
    static const char *const kinds[] = {"node", "simple", "pytorch-converted", "pytorch-operator"};
    struct results *r = new_results();
    for (int i = 0; i < 4; i++) walk(r, root ? root : "/usr/share/libonnx-testdata/data", kinds[i]);
    print_results(r);
    ok(r->counts[FAILED] == 0, "%d cases failed", r->counts[FAILED]);
    free_results(r);
}

TEST(transformers_exported_by_pytorch_agree) {
    struct results *r = new_results();
    walk(r, "tests/fixtures", "onnx_cases");
    printf("# %d of %d cases passed\n", r->counts[PASSED], r->cases);
    ok(r->cases > 0 && r->counts[PASSED] == r->cases, "%d of %d cases passed", r->counts[PASSED], r->cases);
    tally_print(&r->passed);
    free_results(r);
}

TEST(the_common_operators_are_claimed) {
    static const char names[] =
        "Abs Add ArgMax AveragePool BatchNormalization Cast Celu Clip Concat Constant ConstantOfShape Conv "
        "ConvTranspose DepthToSpace DequantizeLinear Div Dropout Elu Equal Erf Exp Expand Flatten Gather Gelu "
        "Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual HardSigmoid HardSwish "
        "Identity InstanceNormalization LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax "
        "MatMul Max MaxPool Mean Min Mish Mul Neg Not PRelu Pad Pow QuantizeLinear Reciprocal ReduceL2 "
        "ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Resize Selu Shape Sigmoid Slice Softmax "
        "Softplus Softsign Split Sqrt Squeeze Sub Sum Tanh Tile Transpose Unsqueeze Where";
    char name[64];
    for (const char *at = names; *at; at += strspn(at, " ")) {
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at, " "), at);
        ok(op_find(name) != NULL, "%s has no row", name);
        at += strlen(name);
    }
}

TEST_MAIN

/* What an optimizer keeps as a file: the same bits back, and nothing but what fits. */
#include "engine/formats/training_memory.h"

#include "base/random.h"
#include "engine/formats/safetensors.h"
#include "engine/nn/optimizer.h"
#include "engine/nn/origin.h"
#include "tests/base/starve.h"

enum { ADAM = 1 };

static struct array *drawn(const struct shape *shape, uint64_t seed, bool positive) {
    struct array *a = NULL;
    struct random r = random_seed(seed);
    if (array_new(&a, DT_FLOAT32, shape, NULL)) return NULL;
    for (size_t i = 0; i < a->count; i++) {
        double x = 1e-20 * random_normal(&r);
        ((float *)a->data)[i] = (float)(positive ? fabs(x) : x);
    }
    if (a->count) ((float *)a->data)[0] = -0.0f;
    return a;
}

static const struct shape factor_shapes[MERGER_FACTORS] = {{4, {4, 2, 3, 3}}, {1, {4}}, {4, {5, 4, 1, 1}}, {1, {5}}};

static int make_trained(struct origin **out, const struct shape *shape, struct err *e) {
    struct origin *o = *out = mem_calloc(1, sizeof *o);
    if (!o) return err_memory(e, 1);
    for (int k = ORIGIN_WEIGHTS; k < ORIGIN_SHARE; k++)
        if (!(o->part[k] = drawn(shape, (uint64_t)k, k == ORIGIN_MEMORY + 1))) return err_memory(e, 1);
    return 0;
}

/* A layer that is a sum with what is no layer, or a chain whose second layer is that. */
static int make_merger(struct origin **out, bool sum, struct err *e) {
    struct origin *o = *out = mem_calloc(1, sizeof *o);
    struct merger *m = o ? o->merger = mem_calloc(1, sizeof *m) : NULL;
    if (!m) return err_memory(e, 1);
    int status = array_new(&m->plan, DT_FLOAT32, &(struct shape){1, {MERGER_NUMBERS}}, e);
    if (status) return status;
    ((float *)m->plan->data)[MERGER_IS_SUM] = sum;
    ((float *)m->plan->data)[MERGER_GROUPS] = 1;
    for (int k = 0; k < 4; k++) ((float *)m->plan->data)[MERGER_STEP + k] = 1;
    for (int k = 0; k < (sum ? 1 : MERGER_FACTORS) && !status; k++) {
        const struct shape *shape = &factor_shapes[sum ? FACTOR_B : k];
        if (!(m->factor[k] = drawn(shape, (uint64_t)k, false))) return err_memory(e, 1);
        status = k == FACTOR_B ? make_merger(&m->origin[k], true, e) : make_trained(&m->origin[k], shape, e);
    }
    return status;
}

/* Two parameters of which Adam keeps something, after surgery, and a third that is new. */
static int make(struct graph **out, bool filled, struct err *e) {
    const struct shape shapes[] = {{4, {5, 2, 3, 3}}, {1, {5}}, {0, {0}}};
    const char *names[] = {"conv/weight/0", "bias \"b\"", "scale"};
    struct graph *g = NULL;
    int status = graph_new(&g, "g", 13, e);
    for (int i = 0; i < 3 && !status; i++) {
        int v;
        struct array *a = drawn(&shapes[i], 1, false);
        status = a ? graph_add_constant_take(&v, g, names[i], a, e) : err_memory(e, 1);
        for (int k = 0; k < 2 && !status && filled && i < 2; k++) {
            g->values[v].memory[k] = drawn(&shapes[i], (uint64_t)(10 * i + k), k == 1);
            if (!g->values[v].memory[k]) status = err_memory(e, 1);
        }
        for (int d = 0; d < 2 && !status && filled && i == 0; d++) {
            status = array_new(&g->values[v].share[d], DT_FLOAT32, &(struct shape){1, {shapes[i].dim[d]}}, e);
            for (int64_t j = 0; j < shapes[i].dim[d] && !status; j++)
                ((float *)g->values[v].share[d]->data)[j] = 1 / (float)(j + 3);
        }
        if (!status && filled && i == 0) status = make_merger(&g->values[v].origin, false, e);
    }
    if (!status && filled)
        g->training = (struct graph_training){
            .rule = ADAM,
            .steps = 9007199254740991,
            .rate = 0.1 / 3,
            .peak = 1e-300,
            .since = 9007199254740000,
            .changed = true,
            .course = {.kind = SCHEDULE_STEP, .n_step = 2, .step = {3, 700}, .gamma = 0.1 / 3, .length = 2000},
            .warmup = 7};
    if (status)
        graph_free(g);
    else
        *out = g;
    return status;
}

static int read_pieces(struct graph *g, const char *bytes, size_t size, size_t piece, struct err *e) {
    struct training_memory_reader *r = NULL;
    int status = training_memory_reader_new(&r, g, e);
    for (size_t at = 0; !status && at < size; at += piece)
        status = training_memory_reader_feed(r, bytes + at, size - at < piece ? size - at : piece, e);
    if (!status) status = training_memory_reader_finish(r, e);
    training_memory_reader_free(r);
    return status;
}

static bool keeps_nothing(const struct graph *g) {
    bool nothing = g->training.rule == -1;
    for (int v = 0; v < g->n_values; v++)
        for (int k = 0; k < 2; k++)
            nothing = nothing && !g->values[v].memory[k] && !g->values[v].share[k] && !g->values[v].origin;
    return nothing;
}

static bool same(const struct array *a, const struct array *b) {
    if (!a || !b) return a == b;
    return shape_equal(&a->shape, &b->shape) && !memcmp(a->data, b->data, a->count * dtype_size(a->type));
}

static bool same_origin(const struct origin *a, const struct origin *b) {
    if (!a || !b) return a == b;
    bool all = !a->merger == !b->merger;
    for (int i = 0; i < ORIGIN_PARTS; i++) all = all && same(a->part[i], b->part[i]);
    if (!a->merger || !all) return all;
    all = same(a->merger->plan, b->merger->plan);
    for (int k = 0; k < MERGER_FACTORS; k++)
        all = all && same(a->merger->factor[k], b->merger->factor[k]) &&
              same_origin(a->merger->origin[k], b->merger->origin[k]);
    return all;
}

TEST(a_round_trip_gives_the_same_bits) {
    struct graph *g, *h;
    struct text file, again;
    struct err e = {0};
    need(!make(&g, true, &e) && !make(&h, false, &e), "%s", e.text);
    text_init(&file, 1 << 20);
    text_init(&again, 1 << 20);
    need(!training_memory_write(byte_sink_text(&file), g, &e), "%s", e.text);
    for (size_t piece = 1; piece < file.length + 40; piece += 39) {
        need(!read_pieces(h, file.data, file.length, piece, &e), "%s", e.text);
        for (int v = 0; v < g->n_values; v++)
            for (int k = 0; k < 2; k++)
                ok(same(g->values[v].memory[k], h->values[v].memory[k]) &&
                       same(g->values[v].share[k], h->values[v].share[k]),
                   "%s, %d", g->values[v].name, k);
        for (int v = 0; v < g->n_values; v++)
            ok(same_origin(g->values[v].origin, h->values[v].origin), "what %s came from", g->values[v].name);
        ok(memcmp(&h->training, &g->training, sizeof g->training) == 0, "how it was trained");
    }
    need(!training_memory_write(byte_sink_text(&again), h, &e), "%s", e.text);
    ok(file.length == again.length && !memcmp(file.data, again.data, file.length), "written again");
    text_free(&file);
    text_free(&again);
    graph_free(g);
    graph_free(h);
}

TEST(what_is_cut_off_leaves_nothing) {
    struct graph *g, *h;
    struct text file;
    struct err e = {0};
    need(!make(&g, true, &e) && !make(&h, false, &e), "%s", e.text);
    text_init(&file, 1 << 20);
    need(!training_memory_write(byte_sink_text(&file), g, &e), "%s", e.text);
    for (size_t n = 0; n < file.length; n++) {
        err_clear(&e);
        ok(read_pieces(h, file.data, n, 100, &e) && e.text[0] && keeps_nothing(h), "after %zu", n);
    }
    text_free(&file);
    graph_free(g);
    graph_free(h);
}

enum { NOTES = 6 };

/* A file with one tensor of ones (or of `odd`), and these notes. */
static void refuses_notes(const char *name, const struct shape *shape, double odd, const struct safetensors_note *notes,
                          size_t n, const char *why) {
    struct graph *g = NULL;
    struct array *a = NULL;
    struct text file;
    struct err e = {0};
    text_init(&file, 1 << 16);
    need(!make(&g, true, &e) && !array_new(&a, DT_FLOAT32, shape, &e), "%s", e.text);
    for (size_t i = 0; i < a->count; i++) ((float *)a->data)[i] = (float)(i ? 1 : odd);
    struct safetensors_tensor t = {name, a};
    need(!safetensors_write_notes(byte_sink_text(&file), notes, n, &t, 1, &e), "%s", e.text);
    int status = read_pieces(g, file.data, file.length, 64, &e);
    if (!why)
        ok(!status && g->training.rule >= 0, "%s: %s", name, e.text);
    else
        ok(status == E_INVALID && strstr(e.text, why) && keeps_nothing(g), "%s: '%s', not '%s'", name, e.text, why);
    text_free(&file);
    array_free(a);
    graph_free(g);
}

static void refuses(const char *name, const struct shape *shape, double odd, const struct safetensors_note *notes,
                    const char *why) {
    refuses_notes(name, shape, odd, notes, NOTES, why);
}

TEST(what_does_not_fit_is_refused) {
    const struct safetensors_note good[] = {{"format", "retort training 1"},
                                            {"rule", "adam"},
                                            {"steps", "12"},
                                            {"rate", "0.1"},
                                            {"peak", "0.2"},
                                            {"changed", "no"}};
    const struct shape five = {1, {5}}, six = {1, {6}}, none = {0, {0}};
    refuses("bias \"b\"/0", &five, -1, good, NULL);
    refuses("bias \"b\"/1", &five, -1, good, "which no training leaves behind");
    refuses("bias \"b\"/0", &five, NAN, good, "which no training leaves behind");
    refuses("bias \"b\"/0", &five, INFINITY, good, "which no training leaves behind");
    refuses("bias \"b\"/share.0", &five, -0.25, good, NULL);
    refuses("bias \"b\"/share.0", &five, 2, good, NULL);
    refuses("bias \"b\"/share.0", &five, 0, good, "which no training leaves behind");
    refuses("bias \"b\"/share.1", &five, 1, good, "its shape is");
    refuses("bias \"b\"/0", &six, 1, good, "its shape is [6]");
    refuses("bias \"b\"/origin", &five, 1, good, NULL);
    refuses("bias \"b\"/origin", &six, 1, good, "from 1 to 5 elements");
    refuses("bias \"b\"/origin", &(struct shape){1, {4}}, 1, good, "does not fit it");
    refuses("bias \"b\"/origin.0", &five, 1, good, "does not fit it");
    refuses("bias \"b\"/origin.1", &five, -1, good, "which no training leaves behind");
    refuses("bias \"b\"/origin.share.0", &five, 0, good, "which no training leaves behind");
    refuses("bias \"b\"/origin.map.0", &(struct shape){3, {5, 1, 1}}, 1, good, "does not fit it");
    const struct shape plan = {1, {MERGER_NUMBERS}}, *first = &factor_shapes[FACTOR_A];
    refuses("conv/weight/0/merger", &plan, 1, good, "do not fit it");
    refuses("conv/weight/0/merger", &five, 1, good, "do not fit it");
    refuses("conv/weight/0/factor.0", first, 1, good, "do not fit it");
    refuses("conv/weight/0/factor.0/origin", first, 1, good, "do not fit it");
    refuses("conv/weight/0/factor.0/factor.1/origin.0", first, 1, good, "do not fit it");
    refuses("conv/weight/0/factor.0/origin.share.0", &five, 0, good, "which no training leaves behind");
    refuses("conv/weight/0/factor.0/0", first, 1, good, "no such parameter");
    refuses("conv/weight/0/factor.0/share.0", &five, 1, good, "no such parameter");
    refuses("conv/weight/0/factor.4", first, 1, good, "no such parameter");
    refuses("conv/weight/0/factor.0x", first, 1, good, "no such parameter");
    refuses("conv/weight/0/factor.0/factor.0/factor.0/factor.0/factor.0/factor.0/factor.0", first, 1, good,
            "no such parameter");
    refuses("other/factor.0", first, 1, good, "no such parameter");
    refuses("scale/0", &none, 1, good, NULL);
    refuses("scale/2", &none, 1, good, "no such parameter");
    refuses("/0", &none, 1, good, "no such parameter");
    refuses("scal/0", &none, 1, good, "no such parameter");
    const struct {
        int at;
        const char *text, *why;
    } bad[] = {{0, "retort training 2", "\"format\""},
               {1, "adagrad", "\"rule\""},
               {1, "", "\"rule\""},
               {2, "-1", "\"steps\""},
               {2, "1e3", "\"steps\""},
               {2, "99999999999999999999", "\"steps\""},
               {3, "nan", "\"rate\""},
               {3, "1e999", "\"rate\""},
               {3, "0.1x", "\"rate\""},
               {4, "-0.1", "\"peak\""},
               {5, "yes", "\"changed\""},
               {5, "13", "\"changed\""},
               {5, "", "\"changed\""}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct safetensors_note notes[NOTES];
        memcpy(notes, good, sizeof good);
        notes[bad[i].at].text = bad[i].text;
        refuses("scale/0", &none, 1, notes, bad[i].why);
        memcpy(notes, good, sizeof good);
        notes[bad[i].at].key = "other";
        refuses("scale/0", &none, 1, notes, "is missing");
    }
    const struct {
        const char *course, *warmup;
    } courses[] = {{"{\"kind\":\"cosine\",\"length\":9}", NULL},
                   {"{\"kind\":\"cosine\",\"length\":9}", "-1"},
                   {"{\"kind\":\"cosine\",\"length\":0}", "1"},
                   {"{\"kind\":\"step\",\"length\":9}", "1"},
                   {"{\"kind\":\"cosine\"", "1"},
                   {"[]", "1"}};
    for (size_t i = 0; i < sizeof courses / sizeof *courses; i++) {
        struct safetensors_note notes[NOTES + 2];
        memcpy(notes, good, sizeof good);
        notes[NOTES] = (struct safetensors_note){"course", courses[i].course};
        notes[NOTES + 1] = (struct safetensors_note){courses[i].warmup ? "warmup" : "other",
                                                     courses[i].warmup ? courses[i].warmup : ""};
        refuses_notes("scale/0", &none, 1, notes, NOTES + 2, "in __metadata__ is");
    }
    struct safetensors_note sgd[NOTES];
    memcpy(sgd, good, sizeof good);
    sgd[1].text = "sgd";
    refuses("scale/1", &none, 1, sgd, "sgd keeps 1 of each");
}

TEST(a_network_that_keeps_nothing_is_not_written) {
    struct graph *g;
    struct text file;
    struct err e = {0};
    text_init(&file, 1 << 10);
    need(!make(&g, false, &e), "%s", e.text);
    ok(training_memory_write(byte_sink_text(&file), g, &e) == E_INVALID && !file.length, "%s", e.text);
    graph_free(g);
    text_free(&file);
}

static int write_and_read(void) {
    struct graph *g = NULL;
    struct text file;
    text_init(&file, 1 << 20);
    int status = make(&g, true, NULL);
    if (!status) status = training_memory_write(byte_sink_text(&file), g, NULL);
    if (!status) status = read_pieces(g, file.data, file.length, 1000, NULL);
    graph_free(g);
    text_free(&file);
    return status;
}

TEST(memory_may_run_out) {
    starve("a training memory", write_and_read);
}

TEST_MAIN

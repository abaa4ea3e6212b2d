/* small_net.h - small networks built by hand, steps applied to them, and how far apart two networks are: for tests of
 * surgery that need a certain layout and not just any.
 *
 *     struct small s = small_new(4, 9, 7);                an input "x" of [N,4,9,7]; [N,4] with no height
 *     int x = small_conv(&s, s.x, 8, 3, 1, 1, 1, true);
 *     small_finish(&s, small_act(&s, x, "Relu"));         the output
 *
 * No parameter is trivial. Nodes are called after their operator, in lower case and counted: "conv1", "norm2". */
#ifndef TESTS_ENGINE_SMALL_NET_H
#define TESTS_ENGINE_SMALL_NET_H

#include <ctype.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/net.h"
#include "engine/nn/op.h"
#include "tests/base/starve.h"
#include "tests/engine/morph_step.h"

struct small {
    struct graph *g;
    struct random r;
    struct err e;
    int x, n, status;
};

#define SMALL_TOLERANCE (sizeof(real) == sizeof(double) ? 1e-10 : 2e-5)

static inline struct small small_new(int64_t c, int64_t h, int64_t w) {
    struct small s = {.r = random_seed(7)};
    struct shape shape = {.rank = h ? 4 : 2, .dim = {DIM_BATCH, c, h, w}};
    s.status = graph_new(&s.g, "small", 17, &s.e);
    if (!s.status) s.status = graph_add_value(&s.x, s.g, "x", NULL, &s.e);
    if (!s.status) s.status = graph_add_input(s.g, s.x, DT_FLOAT32, &shape, &s.e);
    return s;
}

/* Spatial axes are not known before graph_finish, so whoever needs them says them. */
static inline int small_node(struct small *s, const char *op, const int *inputs, int n) {
    char name[64], made[80];
    int value = VALUE_NONE;
    snprintf(name, sizeof name, "%s%d", op, ++s->n);
    for (char *p = name; *p; p++) *p = (char)tolower(*p);
    snprintf(made, sizeof made, "%s_out", name);
    if (!s->status) s->status = graph_add_value(&value, s->g, made, NULL, &s->e);
    if (!s->status) s->status = graph_add_node(NULL, s->g, op, name, inputs, n, &value, 1, &s->e);
    return value;
}

static inline int small_last(const struct small *s) {
    return s->g->n_nodes - 1;
}

/* Numbers around a mean; deviation 0 makes them all equal. */
static inline int small_constant(struct small *s, struct shape shape, double mean, double deviation) {
    struct array *a = NULL;
    int value = VALUE_NONE;
    if (!s->status) s->status = array_new(&a, DT_FLOAT32, &shape, &s->e);
    if (s->status) return value;
    for (size_t i = 0; i < a->count; i++) ((float *)a->data)[i] = (float)(mean + deviation * random_normal(&s->r));
    s->status = graph_add_constant_take(&value, s->g, NULL, a, &s->e);
    return value;
}

static inline int small_act(struct small *s, int x, const char *op) {
    return small_node(s, op, &x, 1);
}

static inline void small_ints(struct small *s, const char *name, const int64_t *v, size_t n) {
    if (!s->status) s->status = graph_set_ints(s->g, small_last(s), name, v, n, &s->e);
}
static inline void small_int(struct small *s, const char *name, int64_t v) {
    if (!s->status) s->status = graph_set_int(s->g, small_last(s), name, v, &s->e);
}

static inline void small_window(struct small *s, int64_t kh, int64_t kw, int64_t stride, int64_t dilation,
                                int64_t pad) {
    small_ints(s, "kernel_shape", (int64_t[]){kh, kw}, 2);
    small_ints(s, "strides", (int64_t[]){stride, stride}, 2);
    if (dilation > 1) small_ints(s, "dilations", (int64_t[]){dilation, dilation}, 2);
    small_ints(s, "pads", (int64_t[]){pad, pad, pad, pad}, 4);
}

/* `in` channels of x. */
static inline int small_conv_full(struct small *s, int x, int64_t in, int64_t out, int64_t kh, int64_t kw,
                                  int64_t stride, int64_t dilation, int64_t pad, int64_t groups, bool bias) {
    struct shape w = {.rank = 4, .dim = {out, in / groups, kh, kw}};
    int inputs[3] = {x, small_constant(s, w, 0.05, 1 / sqrt((double)(in / groups * kh * kw)))};
    if (bias) inputs[2] = small_constant(s, (struct shape){1, {out}}, 0.2, 0.5);
    int y = small_node(s, "Conv", inputs, bias ? 3 : 2);
    small_window(s, kh, kw, stride, dilation, pad);
    if (groups > 1) small_int(s, "group", groups);
    return y;
}

static inline int small_conv(struct small *s, int x, int64_t in, int64_t out, int64_t k, int64_t stride, int64_t pad,
                             int64_t groups, bool bias) {
    return small_conv_full(s, x, in, out, k, k, stride, 1, pad, groups, bias);
}

static inline int small_gemm(struct small *s, int x, int64_t in, int64_t out, bool bias) {
    int inputs[3] = {x, small_constant(s, (struct shape){2, {out, in}}, 0.05, 1 / sqrt((double)in))};
    if (bias) inputs[2] = small_constant(s, (struct shape){1, {out}}, 0.2, 0.5);
    int y = small_node(s, "Gemm", inputs, bias ? 3 : 2);
    small_int(s, "transB", 1);
    return y;
}

static inline int small_norm(struct small *s, int x, int64_t c) {
    struct shape shape = {1, {c}};
    int in[5] = {x};
    for (int k = 1; k < 4; k++) in[k] = small_constant(s, shape, k == 1 ? 0.9 : 0.3, 0.4);
    in[4] = small_constant(s, shape, 1.1, 0);
    for (int64_t i = 0; i < c && !s->status; i++)
        ((float *)s->g->values[in[4]].constant->data)[i] = (float)(0.4 + random_unit(&s->r));
    int y = small_node(s, "BatchNormalization", in, 5);
    if (!s->status) s->status = graph_set_real(s->g, small_last(s), "epsilon", 1e-2, &s->e);
    return y;
}

static inline int small_add(struct small *s, int x, int y) {
    return small_node(s, "Add", (int[]){x, y}, 2);
}

static inline int small_concat(struct small *s, int x, int y) {
    int z = small_node(s, "Concat", (int[]){x, y}, 2);
    small_int(s, "axis", 1);
    return z;
}

static inline bool small_finish(struct small *s, int output) {
    if (!s->status) s->status = graph_add_output(s->g, output, &s->e);
    if (!s->status) s->status = graph_finish(s->g, &s->e);
    return ok(s->status == 0, "%s", s->e.text);
}

/* ---- steps ---- */

/* The step's status; *out is the changed graph (NULL on failure), `report` (may be NULL) the members as an object. */
static inline int small_apply_step(struct graph **out, const struct graph *g, const struct morph_step *step,
                                   const struct morph_data *data, struct text *report, struct err *e) {
    struct morphing m;
    struct graph *copy;
    *out = NULL;
    int status = graph_clone(&copy, g, e);
    if (status) return status;
    morphing_init(&m, copy, 1, data);
    struct json_writer w = report ? json_writer(report) : (struct json_writer){0};
    if (report) json_open_object(&w, NULL);
    status = morph_apply(&m, step, report ? &w : NULL, e);
    if (report) json_close_object(&w);
    if (!status) {
        *out = m.graph;
        m.graph = NULL;
    }
    morphing_fini(&m);
    return status;
}

static inline int small_apply(struct graph **out, const struct graph *g, const char *text,
                              const struct morph_data *data, struct text *report, struct err *e) {
    struct morph_step step;
    *out = NULL;
    return parse_step(&step, text) ? small_apply_step(out, g, &step, data, report, e) : E_INTERNAL;
}

/* ---- outputs ---- */

static inline real *small_outputs(size_t *n, const struct graph *g, int batch, uint64_t seed, double scale) {
    struct crew *crew;
    struct net *net;
    struct err e = {0};
    struct random r = random_seed(seed);
    struct net_options options = {.batch = batch};
    if (!ok(crew_new(&crew, 1, &e) == 0, "%s", e.text)) return NULL;
    if (!ok(net_new(&net, g, crew, &options, &e) == 0, "%s", e.text)) return NULL;
    struct shape in = net_input_shape(net, 0), out = net_output_shape(net, 0);
    size_t count;
    shape_count(&count, &in, NULL);
    shape_count(n, &out, NULL);
    for (size_t i = 0; i < count; i++) net_input(net, 0)[i] = (real)(scale * (0.5 + random_normal(&r)));
    net_forward(net, batch, random_seed(1), NULL, NULL);
    real *y = mem_copy(net_output(net, 0), *n * sizeof(real));
    net_free(net);
    crew_free(crew);
    return y;
}

/* The largest difference in units of the largest output, over inputs small and large and an image of zeros. */
static inline double small_apart(const struct graph *f, const struct graph *g) {
    static const double scales[] = {1, 30, 0, -4};
    double worst = 0;
    for (int k = 0; k < 4; k++) {
        size_t n = 0, m = 0;
        real *a = small_outputs(&n, f, 3, 11, scales[k]), *b = small_outputs(&m, g, 3, 11, scales[k]);
        double off = 0, most = 1e-30;
        if (!a || !b || !ok(n == m, "%zu outputs became %zu", n, m)) return 1;
        for (size_t i = 0; i < n; i++) {
            off = fmax(off, fabs((double)a[i] - (double)b[i]));
            most = fmax(most, fabs((double)a[i]));
        }
        worst = fmax(worst, off / most);
        mem_free(a);
        mem_free(b);
    }
    return worst;
}

/* ---- data ---- */

/* Samples for steps that calibrate: `n` of them, from a seed. Images are mixtures of a few patterns, as real ones are. */
struct small_data {
    uint64_t seed;
    size_t n;
};

static inline void small_fill(real *x, size_t count, size_t each, uint64_t seed) {
    enum { PATTERNS = 12 };
    struct random r = random_seed(seed), fixed = random_seed(99);
    double *patterns = mem_calloc(each * PATTERNS + 1, sizeof *patterns);
    for (size_t i = 0; patterns && i < each * PATTERNS; i++) patterns[i] = random_normal(&fixed);
    for (size_t s = 0; patterns && s < count / each; s++) {
        double mix[PATTERNS];
        for (int k = 0; k < PATTERNS; k++) mix[k] = random_normal(&r) / (1 + k);
        for (size_t i = 0; i < each; i++) {
            double y = 0.05 * random_normal(&r);
            for (size_t k = 0; k < PATTERNS; k++) y += mix[k] * patterns[k * each + i];
            x[s * each + i] = (real)y;
        }
    }
    mem_free(patterns);
}

static inline int small_run(double **out, const struct graph *g, int output, const struct small_data *data, size_t n,
                            struct err *e) {
    struct crew *crew = NULL;
    struct net *net = NULL;
    struct net_options options = {.batch = (int)n};
    int status = crew_new(&crew, 1, e);
    if (!status) status = net_new(&net, g, crew, &options, e);
    if (!status) {
        struct shape in = net_input_shape(net, 0), made = net_output_shape(net, output);
        size_t count, outs;
        shape_count(&count, &in, NULL);
        shape_count(&outs, &made, NULL);
        small_fill(net_input(net, 0), count, count / n, data->seed);
        net_forward(net, (int)n, random_seed(1), NULL, NULL);
        *out = mem_calloc(outs, sizeof **out);
        if (!*out) status = err_memory(e, outs * sizeof **out);
        for (size_t i = 0; i < outs && *out; i++) (*out)[i] = (double)net_output(net, output)[i];
    }
    net_free(net);
    crew_free(crew);
    return status;
}

static inline int small_sample(double **out, size_t *samples, void *context, const struct graph *g, int value,
                               size_t most, struct err *e) {
    const struct small_data *data = context;
    struct graph *copy;
    *samples = data->n < most ? data->n : most;
    if (value == g->inputs[0]) {
        size_t each = 1;
        for (int d = 1; d < g->values[value].shape.rank; d++) each *= (size_t)g->values[value].shape.dim[d];
        real *x = mem_calloc(*samples * each, sizeof *x);
        *out = mem_calloc(*samples * each, sizeof **out);
        if (x && *out) small_fill(x, *samples * each, each, data->seed);
        for (size_t i = 0; x && *out && i < *samples * each; i++) (*out)[i] = (double)x[i];
        int failed = x && *out ? 0 : err_memory(e, each);
        if (failed) mem_free(*out);
        mem_free(x);
        return failed;
    }
    int status = graph_clone(&copy, g, e);
    if (status) return status;
    int at = 0;
    while (at < copy->n_outputs && copy->outputs[at] != value) at++;
    if (at == copy->n_outputs) status = graph_add_output(copy, value, e);
    if (!status) status = graph_finish(copy, e);
    if (!status) status = small_run(out, copy, at, data, *samples, e);
    graph_free(copy);
    return status;
}

/* |f - g| / |f| on samples of that seed. */
static inline double small_error(const struct graph *f, const struct graph *g, uint64_t seed) {
    struct small_data data = {seed, 200};
    double *a = NULL, *b = NULL, left = 0, whole = 0;
    struct err e = {0};
    size_t n = 1;
    const struct shape *s = &f->values[f->outputs[0]].shape;
    int status = small_run(&a, f, 0, &data, data.n, &e);
    if (!status) status = small_run(&b, g, 0, &data, data.n, &e);
    if (!ok(status == 0, "%s", e.text)) return 1;
    for (int d = 1; d < s->rank; d++) n *= (size_t)s->dim[d];
    for (size_t i = 0; i < n * data.n; i++) left += (a[i] - b[i]) * (a[i] - b[i]), whole += a[i] * a[i];
    mem_free(a);
    mem_free(b);
    return sqrt(left / whole);
}

/* ---- looking at results ---- */

static inline int64_t small_parameters(const struct graph *g) {
    struct graph_size size;
    struct err e = {0};
    return ok(graph_measure(&size, g, &e) == 0, "%s", e.text) ? size.parameters : -1;
}

/* Dimension d of the weights of a node. */
static inline int64_t small_dim(const struct graph *g, const char *node, int d) {
    int at = graph_find_node(g, node);
    return at < 0 ? -1 : g->values[g->nodes[at].inputs[1]].shape.dim[d];
}

/* A number of a report by the names of members, and "#k" for element k of an array. NaN when it is not there. */
static inline double small_number(const char *report, const char *const *path) {
    struct json *root;
    struct err e = {0};
    if (!ok(json_parse(&root, report, strlen(report), &e) == 0, "%s in %s", e.text, report)) return (double)NAN;
    const struct json *at = root;
    for (; *path && at; path++) {
        if ((*path)[0] != '#') {
            at = json_get(at, *path);
            continue;
        }
        at = json_first(at);
        for (long k = strtol(*path + 1, NULL, 10); k > 0 && at; k--) at = json_next(at);
    }
    double x = at && json_type(at) == JSON_NUMBER ? json_number(at)
               : at && json_type(at) == JSON_BOOL ? json_bool(at)
                                                  : (double)NAN;
    json_free(root);
    return x;
}
#define SMALL_NUMBER(report, ...) small_number((report).data, (const char *const[]){__VA_ARGS__, NULL})

static inline int small_count(const struct graph *g, const char *op) {
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++) n += strcmp(g->nodes[i].op->name, op) == 0;
    return n;
}

/* Applies the step to the network, which is freed, and expects the same function with so many nodes of that operator. */
static inline void small_expect(struct small *s, const char *step, const char *op, int left) {
    struct graph *h;
    struct err e = {0};
    int status = small_apply(&h, s->g, step, NULL, NULL, &e);
    if (ok(status == 0, "%s: %s", step, e.text)) {
        double off = small_apart(s->g, h);
        ok(off <= SMALL_TOLERANCE, "%s: off by %g", step, off);
        ok(small_count(h, op) == left, "%s: %d of %s are left, not %d", step, small_count(h, op), op, left);
        graph_free(h);
    }
    graph_free(s->g);
}

/* Expects a refusal, one of whose reasons contains the words; the network is freed. */
static inline void small_refuse(struct small *s, const char *step, const char *words) {
    struct graph *h;
    struct text report;
    struct err e = {0};
    text_init(&report, 1 << 16);
    int status = small_apply(&h, s->g, step, NULL, &report, &e);
    ok(status == E_INVALID || status == E_UNSUPPORTED, "%s gave %d", step, status);
    ok(strstr(e.text, words) || strstr(report.data, words), "%s: '%s', %s: no '%s'", step, e.text, report.data, words);
    text_free(&report);
    graph_free(h);
    graph_free(s->g);
}

/* ---- starving ---- */

/* Memory runs out everywhere in a step that has samples to learn from. */
static struct {
    const struct graph *graph;
    struct morph_step step;
} small_victim;

static int small_starved(void) {
    struct small_data four = {.seed = 5, .n = 4};
    const struct morph_data little = {.context = &four, .sample = small_sample};
    struct graph *h;
    struct text report;
    struct err e = {0};
    text_init(&report, 1 << 18);
    int status = small_apply_step(&h, small_victim.graph, &small_victim.step, &little, &report, &e);
    text_free(&report);
    graph_free(h);
    return status;
}

static inline void small_starve(const char *name, const struct graph *g, const char *text) {
    small_victim.graph = g;
    if (parse_step(&small_victim.step, text)) starve(name, small_starved);
}

#endif

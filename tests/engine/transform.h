/* transform.h - the method morph in a world in memory: networks, data, requests in JSON, and what a report says. Include
 * after tests/test.h. */
#ifndef TESTS_ENGINE_TRANSFORM_H
#define TESTS_ENGINE_TRANSFORM_H

#include "base/json.h"
#include "base/text.h"
#include "tests/engine/memory_host.h"
#include "tests/engine/random_graph.h"

enum { SAMPLES = 200, CLASSES = 3 };

struct world {
    struct memory_host memory;
    struct host host;
    const char *method;
};

/* A network drawn at random, and data for it. */
static inline bool add_network(struct world *w, uint64_t seed, const struct random_graph_options *o, const char *name,
                               const char *data) {
    static float inputs[3][SAMPLES * 4096];
    static int64_t labels[SAMPLES];
    struct random_graph r = {0};
    struct err e = {0};
    if (!ok(random_graph(&r, seed, o, &e) == 0, "%s", e.text)) return false;
    float *to = inputs[w->memory.n_models];
    const struct shape *in = &r.graph->values[r.graph->inputs[0]].shape;
    size_t row = (size_t)(in->dim[1] * in->dim[2] * in->dim[3]);
    struct random random = random_seed(9);
    for (size_t i = 0; i < SAMPLES * row; i++) to[i] = (float)random_normal(&random);
    for (int i = 0; i < SAMPLES; i++) labels[i] = (int64_t)random_below(&random, CLASSES);
    memory_host_add_model(&w->memory, name, r.graph);
    memory_host_add_array(&w->memory, data, "inputs", DT_FLOAT32, to,
                          (int64_t[4]){SAMPLES, in->dim[1], in->dim[2], in->dim[3]});
    memory_host_add_array(&w->memory, data, "labels", DT_INT64, labels, (int64_t[4]){SAMPLES});
    return true;
}

/* A residual network "net" and its "data", and "smooth", whose activations have slopes at 0, with "smooth-data". */
static inline bool open_world(struct world *w, int threads) {
    struct random_graph_options residual = {
        .with = RG_ADD | RG_NORM | RG_CONV, .without = RG_VECTORS, .classes = CLASSES};
    struct random_graph_options smooth = {
        .with = RG_TANH | RG_CONV, .without = RG_VECTORS | RG_RELU | RG_CLIP, .classes = CLASSES};
    *w = (struct world){.method = "morph"};
    if (!add_network(w, 4, &residual, "net", "data") || !add_network(w, 5, &smooth, "smooth", "smooth-data"))
        return false;
    w->host = memory_host_open(&w->memory, threads);
    return true;
}

static inline int check(void **spec, const struct method **method, struct world *w, const char *json,
                        struct graph_size *size, struct err *e) {
    struct json *root;
    *method = method_find(w->method);
    *spec = calloc(1, (*method)->spec_size);
    int status = json_parse(&root, json, strlen(json), e);
    if (status) return status;
    status = param_parse(*spec, (*method)->params, root, "", e);
    json_free(root);
    return status ? status : (*method)->check(*spec, &w->host, size, e);
}

static inline int run(struct outcome *out, struct world *w, const char *json, struct graph_size *size, struct err *e) {
    void *spec;
    const struct method *method;
    *out = (struct outcome){0};
    int status = check(&spec, &method, w, json, size, e);
    if (!status) status = method->run(out, spec, &w->host, e);
    free(spec);
    return status;
}

/* A member of a member of the report, as JSON text; "" when it is not there. */
static inline const char *said(const struct outcome *o, const char *part, const char *name) {
    static char out[256];
    struct json *root;
    struct text t;
    out[0] = 0;
    if (json_parse(&root, o->report.data, o->report.length, NULL)) return out;
    const struct json *inner = json_get(root, part), *member = inner ? json_get(inner, name) : NULL;
    text_init(&t, sizeof out);
    struct json_writer w = json_writer(&t);
    if (member) json_put_value(&w, NULL, member);
    if (t.data) text_copy(out, sizeof out, t.data);
    text_free(&t);
    json_free(root);
    return out;
}

#endif

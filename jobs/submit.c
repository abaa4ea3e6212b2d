/* submit.c - checking a request before it is queued. */
#include "jobs/submit.h"

#include <malloc.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "jobs/loader.h"
#include "jobs/spec.h"

#define SMALL_ARRAY ((size_t)8 << 20) /* labels are looked at, images are not */
#define CHECK_MAX_S 20                /* seconds */

static int load_graph(struct graph **out, struct source *source, void *context, const char *reference, struct err *e) {
    return loader_graph(out, source, context, reference, e);
}

static int load_memory(struct graph *g, void *context, const char *reference, struct err *e) {
    return loader_memory(g, context, reference, e);
}

static int load_array(struct data_array *out, struct source *source, void *context, const char *reference,
                      const char *name, struct err *e) {
    return loader_array(out, source, context, reference, name, e);
}

/* A check runs while a client waits, at one of few desks. */
static int check_time(void *until_ns, struct err *e) {
    if (clock_monotonic_ns() < *(const int64_t *)until_ns) return 0;
    return err_set(e, E_TOO_LARGE, "it takes more than %d seconds to check: do less in one job", CHECK_MAX_S);
}

static int progress(void *context, int64_t step, int64_t steps, struct err *e) {
    const struct loader *l = context;
    (void)step, (void)steps;
    return l->options.tick(l->options.context, e);
}

/* The method's own check, in a world that can only be looked at. */
static int check_spec(struct submission *out, void *spec, struct store *s, size_t memory, struct err *e) {
    struct loader loader;
    int64_t until_ns = clock_monotonic_ns() + CHECK_MAX_S * INT64_C(1000000000);
    const struct loader_options options = {
        .small = SMALL_ARRAY, .memory = memory, .tick = check_time, .context = &until_ns};
    loader_init(&loader, s, &out->references, &options);
    const struct host host = {.context = &loader,
                              .load_graph = load_graph,
                              .load_memory = load_memory,
                              .load_array = load_array,
                              .progress = progress,
                              .memory = memory};
    int status = out->method->check(spec, &host, &out->student, e);
    loader_fini(&loader);
    malloc_trim(0); /* the server that called may not see another network for days */
    return status;
}

/* The name that the result will be stored under. */
static int check_output(const char *spec, struct err *e) {
    struct json *root = NULL;
    int status = json_parse(&root, spec, strlen(spec), e);
    if (status) return status;
    const struct json *output = json_get(root, "output");
    if (output && json_type(output) == JSON_STRING && store_name_check(json_string(output), e)) {
        status = e ? e->code : E_INVALID;
        if (e && !e->pointer[0]) text_copy(e->pointer, sizeof e->pointer, "/output");
    }
    json_free(root);
    return status;
}

static int write_spec(struct submission *out, const void *spec, struct err *e) {
    struct text text;
    text_init(&text, STORE_JOB_SPEC_MAX);
    int status = spec_write(&text, out->method, spec, e);
    if (!status) status = check_output(text.data, e);
    if (!status) out->spec = text_take(&text);
    text_free(&text);
    return status || out->spec ? status : err_memory(e, 0);
}

int submit_check(struct submission *out, struct store *s, const struct json *body, const struct submit_options *options,
                 struct err *e) {
    *out = (struct submission){0};
    void *spec = NULL;
    int status = spec_method(&out->method, body, e);
    if (!status) status = spec_parse(&spec, out->method, body, e);
    if (!status) status = references_collect(&out->references, out->method->params, spec, e);
    if (!status) status = references_resolve(&out->references, s, e);
    if (!status) status = check_spec(out, spec, s, options->memory, e);
    if (!status) status = write_spec(out, spec, e);
    for (size_t i = 0; i < out->references.n; i++) out->inputs[out->n_inputs++] = out->references.items[i].version.id;
    mem_free(spec);
    if (status) submission_free(out);
    return status;
}

void submission_free(struct submission *out) {
    mem_free(out->spec);
    *out = (struct submission){0};
}

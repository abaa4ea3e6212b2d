/* run.c - running a job, and publishing what it made. */
#include "jobs/run.h"

#include <ctype.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "engine/formats/onnx.h"
#include "engine/formats/training_memory.h"
#include "engine/nn/optimizer.h"
#include "jobs/describe.h"
#include "jobs/spec.h"
#include "store/models.h"

#define BUSY_TRIES 20
#define BUSY_PAUSE_MS 500
#define RESULT_MAX STORE_JOB_RESULT_MAX

/* A job while it runs. */
struct running {
    struct store *store;
    const struct store_lease *lease;
    const struct job_host_options *options;
    struct store_job job;
    const struct method *method;
    void *spec;
    char output[OUTPUT_SIZE];
    struct references references;
    struct outcome outcome;
};

/* ---- the specification ---- */

static int read_spec(struct running *r, struct err *e) {
    struct json *root = NULL;
    int status = store_job_get(&r->job, r->store, r->lease->job, e);
    if (!status) status = json_parse(&root, r->job.spec, strlen(r->job.spec), e);
    if (!status) status = spec_method(&r->method, root, e);
    if (!status) status = spec_parse(&r->spec, r->method, root, e);
    const struct json *output = status ? NULL : json_get(root, "output");
    if (output && json_type(output) == JSON_STRING) text_copy(r->output, sizeof r->output, json_string(output));
    json_free(root);
    if (!status) status = references_collect(&r->references, r->method->params, r->spec, e);
    return status ? status : references_bind(&r->references, r->store, r->lease->job, e);
}

/* ---- publishing ---- */

/* Bytes on their way into a blob. */
static int put_bytes(void *context, const void *bytes, size_t size, struct err *e) {
    return store_writer_add(context, bytes, size, e);
}

static int write_blob(struct store_blob *out, struct running *r, int64_t most,
                      int (*write)(struct byte_sink sink, const struct graph *g, struct err *e), struct err *e) {
    struct store_writer *writer = NULL;
    int status = store_writer_open(&writer, r->store, most, e);
    if (status) return status;
    status = write((struct byte_sink){put_bytes, writer}, r->outcome.student, e);
    if (status) {
        store_writer_abandon(writer);
        return status;
    }
    return store_writer_finish(out, NULL, writer, NULL, e);
}

/* {"optimizer":"adam","steps":1200,"learning_rate":0.001,"bytes":1000000} */
static void write_training(struct text *out, const struct graph_training *t, const struct store_blob *memory) {
    struct json_writer w = json_writer(out);
    json_open_object(&w, NULL);
    json_put_string(&w, "optimizer", optimizer_table[t->rule].name);
    json_put_int(&w, "steps", (int64_t)t->steps);
    json_put_number(&w, "learning_rate", t->rate);
    json_put_int(&w, "bytes", memory->size);
    json_close_object(&w);
}

/* What the student keeps of its training, if anything. That it is too large is no reason to lose the student. */
static int write_memory(struct store_blob *out, struct text *training, struct running *r, struct err *e) {
    const struct graph *g = r->outcome.student;
    struct err why = {0};
    *out = (struct store_blob){0};
    if (g->training.rule < 0) return 0;
    int status = write_blob(out, r, STORE_BLOB_MAX, training_memory_write, &why);
    if (status) *out = (struct store_blob){0};
    if (!status) write_training(training, &g->training, out);
    if (status == E_TOO_LARGE) log_warn("job %lld: no optimizer's state: %s", (long long)r->lease->job, why.text);
    return !status || status == E_TOO_LARGE ? 0 : err_set(e, status, "%s", why.text);
}

/* {"teacher":[...],"dataset":[...],"job":7}, with the versions that were used. */
static void write_lineage(struct text *out, const struct running *r) {
    static const struct {
        enum store_kind kind;
        const char *name;
    } kinds[] = {{STORE_MODEL, "teacher"}, {STORE_DATASET, "dataset"}};
    struct json_writer w = json_writer(out);
    json_open_object(&w, NULL);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        json_open_array(&w, kinds[k].name);
        for (size_t i = 0; i < r->references.n; i++) {
            const struct store_version *v = &r->references.items[i].version;
            char text[STORE_REFERENCE_SIZE + 32];
            text_print(text, sizeof text, "%s@%lld", v->name, (long long)v->number);
            if (v->kind == kinds[k].kind) json_put_string(&w, NULL, text);
        }
        json_close_array(&w);
    }
    json_put_string(&w, "method", r->method->name);
    json_put_int(&w, "job", r->lease->job);
    json_close_object(&w);
}

static const char *or_null(const struct text *t) {
    return t->length ? t->data : NULL;
}

static void write_result(struct text *out, const struct running *r, const struct store_blob *student) {
    struct json_writer w = json_writer(out);
    json_open_object(&w, NULL);
    if (student) {
        char hex[DIGEST_HEX_SIZE], digest[DIGEST_HEX_SIZE + 8], model[STORE_REFERENCE_SIZE];
        digest_to_hex(hex, &student->digest);
        text_print(digest, sizeof digest, "sha256:%s", hex);
        text_print(model, sizeof model, "%s@%s", r->output, digest);
        json_put_string(&w, "model", model);
        json_put_string(&w, "digest", digest);
        json_put_int(&w, "bytes", student->size);
    }
    if (or_null(&r->outcome.metrics)) json_put_raw(&w, "metrics", r->outcome.metrics.data);
    if (or_null(&r->outcome.teacher_metrics)) json_put_raw(&w, "teacher_metrics", r->outcome.teacher_metrics.data);
    if (or_null(&r->outcome.report)) json_put_raw(&w, "report", r->outcome.report.data);
    json_close_object(&w);
}

/* Recording the end of an hour's work is worth waiting for a busy disk: the pulse keeps the lease. */
static int succeed(struct running *r, const struct store_model_new *output, const char *result, struct err *e) {
    int status = E_BUSY;
    for (int i = 0; i < BUSY_TRIES && status == E_BUSY; i++) {
        if (i) clock_sleep_ms(BUSY_PAUSE_MS);
        err_clear(e);
        status = store_lease_succeed(NULL, r->store, r->lease, output, result, e);
    }
    return status;
}

static int publish(struct running *r, struct err *e) {
    struct store_blob blob, memory = {0};
    struct description description = {0};
    struct text lineage, result, training;
    text_init(&lineage, STORE_JSON_MAX);
    text_init(&training, STORE_JSON_MAX);
    text_init(&result, RESULT_MAX);
    bool student = r->outcome.student != NULL;
    int status = student ? describe_graph(&description, r->outcome.student, e) : 0;
    if (!status && student) status = write_blob(&blob, r, INT32_MAX, onnx_write, e);
    if (!status && student) status = write_memory(&memory, &training, r, e);
    if (!status) {
        write_lineage(&lineage, r);
        write_result(&result, r, student ? &blob : NULL);
        if (lineage.failed || result.failed || training.failed)
            status = err_set(e, E_TOO_LARGE, "the result's description is too long");
    }
    if (!status) {
        struct store_model_new output = {.name = r->output,
                                         .blob = blob,
                                         .parameters = description.parameters,
                                         .macs = description.macs,
                                         .operators = or_null(&description.operators),
                                         .inputs = or_null(&description.inputs),
                                         .outputs = or_null(&description.outputs),
                                         .lineage = lineage.data,
                                         .metrics = or_null(&r->outcome.metrics),
                                         .memory = memory,
                                         .training = or_null(&training)};
        status = succeed(r, student ? &output : NULL, result.data, e);
    }
    description_free(&description);
    text_free(&lineage);
    text_free(&training);
    text_free(&result);
    return status;
}

/* ---- other ends ---- */

/* As the problem documents of HTTP (RFC 9457). */
static void write_problem(struct text *out, int code, const struct err *e) {
    char type[96], title[64];
    text_print(type, sizeof type, "/problems/%s", err_slug(code));
    text_copy(title, sizeof title, err_slug(code));
    title[0] = (char)toupper((unsigned char)title[0]);
    for (char *c = title; *c; c++)
        if (*c == '-') *c = ' ';
    struct json_writer w = json_writer(out);
    json_open_object(&w, NULL);
    json_put_string(&w, "type", type);
    json_put_string(&w, "title", title);
    json_put_int(&w, "status", err_status(code));
    json_put_string(&w, "detail", e->text);
    if (e->pointer[0]) {
        json_open_array(&w, "errors");
        json_open_object(&w, NULL);
        json_put_string(&w, "pointer", e->pointer);
        json_put_string(&w, "detail", e->text);
        json_close_object(&w);
        json_close_array(&w);
    }
    json_close_object(&w);
}

static int fail(struct running *r, int code, const struct err *why, struct err *e) {
    log_warn("job %lld failed: %s", (long long)r->lease->job, why->text);
    struct text problem;
    text_init(&problem, STORE_JOB_ERROR_MAX);
    write_problem(&problem, code, why);
    int status = store_lease_fail(r->store, r->lease, problem.failed ? "{}" : problem.data, e);
    text_free(&problem);
    return status;
}

static int end(struct running *r, int code, const struct err *why, struct err *e) {
    if (code == E_LOST) {
        log_warn("job %lld: %s", (long long)r->lease->job, why->text);
        return 0;
    }
    if (code == E_CANCELLED && pulse_cancelled(r->options->pulse)) return store_lease_cancelled(r->store, r->lease, e);
    if (code == E_CANCELLED && atomic_load(r->options->stop)) return store_lease_release(r->store, r->lease, e);
    return fail(r, code, why, e);
}

int run_job(struct store *s, const struct store_lease *lease, const struct job_host_options *options, struct err *e) {
    struct running *r = mem_calloc(1, sizeof *r);
    struct job_host *host = mem_calloc(1, sizeof *host);
    int status = r && host ? 0 : E_NOMEM;
    struct err why = {0};
    if (status) {
        mem_free(r);
        mem_free(host);
        return err_memory(e, sizeof *host);
    }
    *r = (struct running){.store = s, .lease = lease, .options = options};
    status = read_spec(r, &why);
    if (!status) {
        job_host_init(host, s, lease, &r->references, options);
        status = r->method->run(&r->outcome, r->spec, &host->host, &why);
        job_host_fini(host);
    }
    if (!status) status = publish(r, &why);
    if (status) status = end(r, status, &why, e);
    outcome_free(&r->outcome);
    store_job_fini(&r->job);
    mem_free(r->spec);
    mem_free(r);
    mem_free(host);
    return status;
}

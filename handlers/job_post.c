/* job_post.c - POST /v1/jobs, and GET /v1/methods, which says what it takes. */
#include <string.h>

#include "handlers/fields.h"
#include "handlers/headers.h"
#include "handlers/jobs.h"
#include "handlers/reply.h"
#include "handlers/schema.h"
#include "jobs/submit.h"
#include "store/models.h"

#define QUEUE_MAX 10000

/* ---- GET /v1/methods ---- */

static int list_methods(const struct request *r, struct response *out, struct err *e) {
    (void)r, (void)e;
    struct json_writer w = reply_json(out, 200);
    json_open_object(&w, NULL);
    json_open_array(&w, "items");
    for (const struct method *const *m = method_table; *m; m++) {
        json_open_object(&w, NULL);
        json_put_string(&w, "name", (*m)->name);
        json_put_string(&w, "help", (*m)->summary);
        param_describe(&w, "parameters", (*m)->params);
        if ((*m)->describe) (*m)->describe(&w);
        json_close_object(&w);
    }
    json_close_array(&w);
    json_close_object(&w);
    return 0;
}

extern const struct route method_list;
const struct route method_list = {
    .method = HTTP_GET,
    .pattern = "/v1/methods",
    .summary = "every method with its parameters: what a job takes",
    .handle = list_methods,
    .scope = SCOPE_READ,
    .reply = "methods",
};

/* ---- POST /v1/jobs ---- */

struct post_query {
    bool dry_run;
};
static const struct param post_query[] = {
    PARAM_BOOL(struct post_query, dry_run, "false", "check everything, start nothing"),
    PARAM_END,
};

/* The network the job starts from, beside the student's size. */
static void put_teacher(struct json_writer *w, const struct request *r, const struct submission *s) {
    for (size_t i = 0; i < s->references.n; i++) {
        struct store_model m = {0};
        if (s->references.items[i].kind != STORE_MODEL) continue;
        if (store_model_read(&m, r->store, s->references.items[i].version.id, NULL)) return;
        json_open_object(w, "teacher");
        json_put_string(w, "name", m.version.name);
        json_put_int(w, "version", m.version.number);
        json_put_int(w, "parameters", m.parameters);
        put_macs(w, m.macs);
        json_close_object(w);
        store_model_fini(&m);
        return;
    }
}

static void reply_dry_run(struct response *out, const struct request *r, const struct submission *s) {
    struct json_writer w = reply_json(out, 200);
    json_open_object(&w, NULL);
    json_put_string(&w, "method", s->method->name);
    json_put_raw(&w, "spec", s->spec);
    put_teacher(&w, r, s);
    if (s->student.parameters) {
        json_open_object(&w, "student");
        json_put_int(&w, "parameters", s->student.parameters);
        put_macs(&w, s->student.macs);
        json_close_object(&w);
    }
    json_close_object(&w);
}

/* The trace id of a W3C traceparent header: 32 hex digits after "00-"; "" without. */
static void trace_of(char out[33], const struct request *r) {
    const char *given = header_get(r, "traceparent");
    *out = '\0';
    if (given && strlen(given) == 55 && strspn(given + 3, "0123456789abcdef") == 32)
        text_print(out, 33, "%.32s", given + 3);
}

static int create(int64_t *id, bool *replayed, const struct request *r, const struct submission *s, struct err *e) {
    char key[IDEMPOTENCY_KEY_SIZE], trace[33];
    int code = header_idempotency_key(key, r, e);
    if (code) return code;
    trace_of(trace, r);
    struct store_job_new new = {
        .method = s->method->name,
        .spec = s->spec,
        .inputs = s->inputs,
        .n_inputs = s->n_inputs,
        .max_queued = QUEUE_MAX,
        .trace = trace[0] ? trace : NULL,
        .idempotency_key = key[0] ? key : NULL,
        .principal = r->principal,
        .fingerprint = digest_of(r->body, r->body_size),
    };
    return store_job_create(id, replayed, r->store, &new, e);
}

static int start(const struct request *r, struct response *out, const struct submission *s, struct err *e) {
    struct store_job job = {0};
    bool replayed = false;
    int64_t id;
    int code = create(&id, &replayed, r, s, e);
    if (!code) code = store_job_get(&job, r->store, id, e);
    if (code) return code;
    struct json_writer w = reply_json(out, 202);
    put_job(&w, NULL, &job, false);
    reply_header(out, "Location", "/v1/jobs/%lld", (long long)id);
    reply_header(out, "Retry-After", "2");
    if (replayed) reply_header(out, "Idempotency-Replayed", "true");
    store_job_fini(&job);
    return 0;
}

static int post(const struct request *r, struct response *out, struct err *e) {
    struct post_query query;
    struct submission s = {0};
    struct submit_options options = {.memory = (size_t)r->service->memory};
    struct json *root = NULL;
    int code = query_parse(&query, post_query, r, e);
    if (!code) code = json_parse(&root, r->body, r->body_size, e);
    if (!code) code = submit_check(&s, r->store, root, &options, e);
    if (!code && query.dry_run) reply_dry_run(out, r, &s);
    if (!code && !query.dry_run) code = start(r, out, &s, e);
    submission_free(&s);
    json_free(root);
    return code;
}

/* One schema for each method. */
static void put_schema(struct json_writer *w, const char *name) {
    json_open_object(w, name);
    json_open_array(w, "anyOf");
    for (const struct method *const *m = method_table; *m; m++)
        put_table_schema(w, NULL, (*m)->params, "method", (*m)->name);
    json_close_array(w);
    json_close_object(w);
}

extern const struct route job_post;
const struct route job_post = {
    .method = HTTP_POST,
    .pattern = "/v1/jobs",
    .summary = "queues a job; ?dry_run=1 only checks it",
    .handle = post,
    .body = BODY_JSON,
    .body_max = JSON_MAX_SIZE,
    .scope = SCOPE_WRITE,
    .slow = true,
    .query = post_query,
    .body_schema = put_schema,
    .reply = "job",
    .dry_reply = "dry_run",
};

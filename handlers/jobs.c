/* jobs.c - /v1/jobs: what there is, one job, waiting for it, its result, stopping and starting it again. */
#include "handlers/jobs.h"

#include <math.h>
#include <string.h>

#include "handlers/fields.h"
#include "handlers/headers.h"
#include "handlers/models.h"
#include "handlers/reply.h"
#include "handlers/weights.h"

/* ---- the document ---- */

static void put_progress(struct json_writer *w, const struct store_job *job) {
    const struct store_progress *p = &job->progress;
    double fraction = p->steps > 0 ? (double)p->step / (double)p->steps : 0;
    if (job->state == STORE_JOB_SUCCEEDED) fraction = 1;
    json_open_object(w, "progress");
    json_put_int(w, "step", p->step);
    json_put_int(w, "steps", p->steps);
    json_put_number(w, "fraction", fmin(fraction, 1));
    json_put_number(w, "eta_s", job->state == STORE_JOB_RUNNING ? p->eta_s : (double)NAN);
    json_close_object(w);
}

/* The result as recorded, its model by the number it was published under. */
static void put_result(struct json_writer *w, const struct store_job *job) {
    struct json *root = NULL;
    if (!job->output_name[0] || !job->result || json_parse(&root, job->result, strlen(job->result), NULL)) {
        put_json(w, "result", job->result);
        return;
    }
    char model[STORE_REFERENCE_SIZE];
    text_print(model, sizeof model, "%s@%lld", job->output_name, (long long)job->output_number);
    json_open_object(w, "result");
    json_put_string(w, "model", model);
    for (const struct json *m = json_first(root); m; m = json_next(m))
        if (strcmp(json_name(m), "model") != 0) json_put_value(w, json_name(m), m);
    json_close_object(w);
    json_free(root);
}

void put_job(struct json_writer *w, const char *name, const struct store_job *job, bool in_list) {
    json_open_object(w, name);
    json_put_int(w, "id", job->id);
    json_put_string(w, "method", job->method);
    json_put_string(w, "state", store_job_state_name(job->state));
    json_put_bool(w, "cancel_requested", job->cancel_requested);
    put_json(w, "spec", job->spec);
    put_progress(w, job);
    put_json(w, "metrics", job->metrics);
    if (!in_list) put_result(w, job);
    put_json(w, "error", job->error);
    json_put_int(w, "attempt", job->attempt);
    json_put_int(w, "max_attempts", job->max_attempts);
    put_time(w, "created_at", job->created_at);
    put_time(w, "started_at", job->started_at);
    put_time(w, "finished_at", job->finished_at);
    json_close_object(w);
}

static void reply_job(struct response *out, int status, const struct store_job *job) {
    struct json_writer w = reply_json(out, status);
    put_job(&w, NULL, job, false);
    reply_header(out, "ETag", "\"r%lld\"", (long long)job->revision);
}

int job_of(struct store_job *out, const struct request *r, struct err *e) {
    int64_t id;
    *out = (struct store_job){0};
    int code = id_of(&id, r, 0, "job", e);
    return code ? code : store_job_get(out, r->store, id, e);
}

/* ---- GET /v1/jobs ---- */

struct list_query {
    int state;
    char method[64];
    int64_t limit, after;
};
static const struct param list_query[] = {
    PARAM_CHOICE(struct list_query, state, NULL, "queued running succeeded failed cancelled",
                 "only jobs in this state"),
    PARAM_STRING(struct list_query, method, NULL, "only jobs of this method"),
    PAGE_PARAMS(struct list_query),
    PARAM_END,
};

/* The page has no specifications; what a reader recognises a job by is in them. */
static void put_item(struct json_writer *w, const struct request *r, const struct store_job *listed) {
    struct store_job whole;
    if (store_job_get(&whole, r->store, listed->id, NULL)) return;
    put_job(w, NULL, &whole, true);
    store_job_fini(&whole);
}

static int list(const struct request *r, struct response *out, struct err *e) {
    struct list_query query;
    struct store_job_page page = {0};
    int code = query_parse(&query, list_query, r, e);
    if (code) return code;
    struct store_job_query wanted = {
        .state = query.state, /* the words stand in the order of enum store_job_state */
        .method = query.method[0] ? query.method : NULL,
        .after = query.after,
        .limit = (int)query.limit,
    };
    code = store_job_list(&page, r->store, &wanted, e);
    if (code) return code;
    struct json_writer w = reply_json(out, 200);
    json_open_object(&w, NULL);
    json_open_array(&w, "items");
    for (size_t i = 0; i < page.n; i++) put_item(&w, r, &page.items[i]);
    page_close(&w, out, r, page.next);
    store_job_page_fini(&page);
    return 0;
}

extern const struct route job_list;
const struct route job_list = {
    .method = HTTP_GET,
    .pattern = "/v1/jobs",
    .summary = "the jobs, newest first",
    .handle = list,
    .scope = SCOPE_READ,
    .query = list_query,
    .reply = "job_page",
};

/* ---- waiting ---- */

const struct param wait_params[] = {
    PARAM_INT(struct wait_query, wait, "0", 0, HTTP_MAX_WAIT_MS / 1000,
              "seconds to hold the answer until the job has ended"),
    PARAM_END,
};

bool reply_unless_final(struct response *out, const struct request *r, enum store_job_state state,
                        const struct wait_query *query) {
    int64_t preferred = header_prefer_wait(r), wait_ms = query->wait * 1000;
    if (preferred > HTTP_MAX_WAIT_MS / 1000) preferred = HTTP_MAX_WAIT_MS / 1000;
    if (preferred * 1000 > wait_ms) wait_ms = preferred * 1000;
    if (!store_job_state_final(state) && r->waited_ms < wait_ms) {
        reply_wait(out, wait_ms - r->waited_ms);
        return true;
    }
    if (preferred >= 0) reply_header(out, "Preference-Applied", "wait=%lld", (long long)preferred);
    return false;
}

/* While somebody waits, every change in the store asks again: the state alone is cheap. */
static int must_wait(bool *waits, const struct request *r, struct response *out, struct err *e) {
    struct wait_query query;
    enum store_job_state state;
    int64_t id, last;
    *waits = false;
    int code = query_parse(&query, wait_params, r, e);
    if (!code) code = id_of(&id, r, 0, "job", e);
    if (!code) code = store_job_peek(&state, &last, r->store, id, e);
    if (!code) *waits = reply_unless_final(out, r, state, &query);
    return code;
}

/* ---- GET /v1/jobs/{id} ---- */

static int get(const struct request *r, struct response *out, struct err *e) {
    struct store_job job;
    bool waits;
    int code = must_wait(&waits, r, out, e);
    if (code || waits) return code;
    code = job_of(&job, r, e);
    if (!code) reply_job(out, 200, &job);
    store_job_fini(&job);
    return code;
}

extern const struct route job_get;
const struct route job_get = {
    .method = HTTP_GET,
    .pattern = "/v1/jobs/{id}",
    .summary = "one job; with ?wait= (or Prefer: wait=) once it has ended, or the time is up",
    .handle = get,
    .scope = SCOPE_READ,
    .query = wait_params,
    .reply = "job",
};

/* ---- GET /v1/jobs/{id}/student/onnx, safetensors ---- */

/* The job's own words, when it left some. */
static void reply_failure(struct response *out, const struct request *r, const struct store_job *job) {
    char detail[1200];
    struct json *root = NULL;
    const char *said = job->state == STORE_JOB_CANCELLED ? "it was cancelled" : "it failed";
    if (job->error && !json_parse(&root, job->error, strlen(job->error), NULL)) {
        const struct json *found = json_get(root, "detail");
        if (found && json_type(found) == JSON_STRING) said = json_string(found);
    }
    text_print(detail, sizeof detail, "job %lld made no student: %s", (long long)job->id, said);
    reply_problem(
        out, r,
        &(struct problem){409, job->state == STORE_JOB_CANCELLED ? "job-cancelled" : "job-failed", detail, "", 0});
    json_free(root);
}

/* One of the ways to give a network. */
struct format {
    const char *rest; /* of the path */
    int (*reply)(struct response *out, const struct request *r, const struct store_model *m, const char *reference,
                 struct err *e);
};

static int reply_student(const struct request *r, struct response *out, const struct store_job *job,
                         const struct format *format, struct err *e) {
    char reference[STORE_REFERENCE_SIZE];
    struct store_model m = {0};
    if (!job->output_name[0])
        return err_set(e, E_NOT_FOUND, "job %lld is a \"%s\" and makes no network", (long long)job->id, job->method);
    text_print(reference, sizeof reference, "%s@%lld", job->output_name, (long long)job->output_number);
    int code = store_model_get(&m, r->store, reference, e);
    if (!code) code = format->reply(out, r, &m, reference, e);
    if (!code) reply_header(out, "Content-Location", "/v1/models/%s%s", reference, format->rest);
    store_model_fini(&m);
    return code;
}

static int get_student(const struct request *r, struct response *out, const struct format *format, struct err *e) {
    struct store_job job;
    bool waits;
    int code = must_wait(&waits, r, out, e);
    if (code || waits) return code;
    code = job_of(&job, r, e);
    if (code) return code;
    if (job.state == STORE_JOB_SUCCEEDED)
        code = reply_student(r, out, &job, format, e);
    else if (store_job_state_final(job.state))
        reply_failure(out, r, &job);
    else
        code = err_set(e, E_CONFLICT, "job %lld is still %s; add ?wait=600 to wait for it", (long long)job.id,
                       store_job_state_name(job.state));
    store_job_fini(&job);
    return code;
}

static int get_student_onnx(const struct request *r, struct response *out, struct err *e) {
    return get_student(r, out, &(struct format){"/onnx", reply_onnx}, e);
}

static int get_student_safetensors(const struct request *r, struct response *out, struct err *e) {
    return get_student(r, out, &(struct format){"/safetensors", reply_weights}, e);
}

extern const struct route job_student_get;
const struct route job_student_get = {
    .method = HTTP_GET,
    .pattern = "/v1/jobs/{id}/student/onnx",
    .summary = "the bytes of the network that the job made; ?wait= as for the job",
    .handle = get_student_onnx,
    .scope = SCOPE_READ,
    .query = wait_params,
    .reply = "",
    .media = "application/octet-stream",
};

extern const struct route job_student_safetensors_get;
const struct route job_student_safetensors_get = {
    .method = HTTP_GET,
    .pattern = "/v1/jobs/{id}/student/safetensors",
    .summary = "the weights of the network that the job made; ?wait= as for the job",
    .handle = get_student_safetensors,
    .scope = SCOPE_READ,
    .slow = true,
    .query = wait_params,
    .reply = "",
    .media = "application/octet-stream",
};

/* ---- POST /v1/jobs/{id}/cancel, /retry ---- */

static const struct param no_fields[] = {PARAM_END};

static int reply_now(const struct request *r, struct response *out, int status, struct err *e) {
    struct store_job job;
    int code = job_of(&job, r, e);
    if (!code) reply_job(out, status, &job);
    store_job_fini(&job);
    return code;
}

/* A body is not needed, but many clients send "{}" with every POST. */
static int check_action(int64_t *id, const struct request *r, struct err *e) {
    char nothing[1];
    int code = id_of(id, r, 0, "job", e);
    return code ? code : body_parse(nothing, no_fields, r, e);
}

static int cancel(const struct request *r, struct response *out, struct err *e) {
    int64_t id;
    int code = check_action(&id, r, e);
    if (!code) code = store_job_cancel(NULL, r->store, id, e);
    return code ? code : reply_now(r, out, 200, e);
}

static int retry(const struct request *r, struct response *out, struct err *e) {
    int64_t id;
    int code = check_action(&id, r, e);
    if (!code) code = store_job_retry(r->store, id, e);
    return code ? code : reply_now(r, out, 202, e);
}

extern const struct route job_cancel;
const struct route job_cancel = {
    .method = HTTP_POST,
    .pattern = "/v1/jobs/{id}/cancel",
    .summary = "cancels a queued job at once, and asks a running one to stop",
    .handle = cancel,
    .body = BODY_JSON,
    .body_max = 4096,
    .scope = SCOPE_WRITE,
    .slow = true,
    .fields = no_fields,
    .reply = "job",
};

extern const struct route job_retry;
const struct route job_retry = {
    .method = HTTP_POST,
    .pattern = "/v1/jobs/{id}/retry",
    .summary = "queues a failed or cancelled job again; it goes on from its last checkpoint",
    .handle = retry,
    .body = BODY_JSON,
    .body_max = 4096,
    .scope = SCOPE_WRITE,
    .slow = true,
    .fields = no_fields,
    .reply = "job",
};

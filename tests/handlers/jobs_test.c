/* jobs_test.c - jobs as clients see them, without sockets and without an engine that would run them. */
#include "tests/handlers/asking.h"

#include "engine/surgery/morph.h"
#include "store/datasets.h"
#include "store/events.h"
#include "store/leases.h"

static int64_t new_job(struct asking *a) {
    int64_t job = 0;
    struct store_job_new new = {.method = "distill", .spec = "{\"method\":\"distill\",\"output\":\"s\"}"};
    ok(!store_job_create(&job, NULL, a->store, &new, NULL), "create");
    return job;
}

static struct store_lease claim(struct asking *a) {
    struct store_lease lease = {0};
    bool found = false;
    ok(!store_lease_claim(&lease, &found, a->store, "w", 60000, NULL) && found, "claim");
    return lease;
}

TEST(a_job_and_a_list) {
    struct asking a;
    need(asking_start(&a), "start");
    new_job(&a), new_job(&a);
    ok(ask(&a, HTTP_GET, "/v1/jobs/1", NULL) == 200 && !strcmp(text_at(&a, "state"), "queued"), "%s", a.out.body.data);
    ok(number_at(&a, "progress.fraction") == 0 && !strcmp(text_at(&a, "spec.output"), "s"), "its parts");
    ok(ask(&a, HTTP_GET, "/v1/jobs?limit=1", NULL) == 200 && json_count(member(&a, "items")) == 1, "list");
    ok(*text_at(&a, "next") && strstr(answer_header(&a, "Link"), "limit=1&after="), "%s", answer_header(&a, "Link"));
    ok(ask(&a, HTTP_GET, "/v1/jobs?state=running", NULL) == 200 && json_count(member(&a, "items")) == 0, "by state");
    ok(ask(&a, HTTP_GET, "/v1/jobs?state=lost", NULL) == 422, "no such state");
    ok(ask(&a, HTTP_GET, "/v1/jobs?method=distill", NULL) == 200 && json_count(member(&a, "items")) == 2, "by method");
    ok(ask(&a, HTTP_GET, "/v1/jobs/99", NULL) == 404 && ask(&a, HTTP_GET, "/v1/jobs/x", NULL) == 404, "unknown");
    ok(ask(&a, HTTP_GET, "/v1/jobs/-1", NULL) == 404 && ask(&a, HTTP_GET, "/v1/jobs/99999999999999999999", NULL) == 404,
       "odd");
    asking_stop(&a);
}

TEST(waiting_is_a_response_too) {
    struct asking a;
    need(asking_start(&a), "start");
    new_job(&a);
    ok(ask(&a, HTTP_GET, "/v1/jobs/1?wait=5", NULL) == 0 && a.out.wait_ms == 5000, "%lld", (long long)a.out.wait_ms);
    a.request.waited_ms = 4000;
    ok(ask(&a, HTTP_GET, "/v1/jobs/1?wait=5", NULL) == 0 && a.out.wait_ms == 1000, "the rest of the time");
    a.request.waited_ms = 5000;
    ok(ask(&a, HTTP_GET, "/v1/jobs/1?wait=5", NULL) == 200, "time is up");
    asking_header(&a, "Prefer", "wait=9");
    ok(ask(&a, HTTP_GET, "/v1/jobs/1", NULL) == 0 && a.out.wait_ms == 9000, "Prefer");
    asking_header(&a, "Prefer", "wait=9");
    a.request.waited_ms = INT64_MAX;
    ok(ask(&a, HTTP_GET, "/v1/jobs/1", NULL) == 200, "the server stops");
    ok(!strcmp(answer_header(&a, "Preference-Applied"), "wait=9"), "applied");
    ok(ask(&a, HTTP_GET, "/v1/jobs/1?wait=600", NULL) == 0 && ask(&a, HTTP_GET, "/v1/jobs/1?wait=-1", NULL) == 422,
       "range");
    ok(ask(&a, HTTP_GET, "/v1/jobs/7?wait=5", NULL) == 404, "nobody waits for what is not there");
    store_job_cancel(NULL, a.store, 1, NULL);
    ok(ask(&a, HTTP_GET, "/v1/jobs/1?wait=5", NULL) == 200 && !strcmp(text_at(&a, "state"), "cancelled"), "ended");
    asking_stop(&a);
}

TEST(cancel_and_retry) {
    struct asking a;
    need(asking_start(&a), "start");
    new_job(&a);
    ok(ask(&a, HTTP_POST, "/v1/jobs/1/retry", NULL) == 409, "not yet");
    ok(ask(&a, HTTP_POST, "/v1/jobs/1/cancel", "{}") == 200 && !strcmp(text_at(&a, "state"), "cancelled"), "%s",
       a.out.body.data);
    ok(ask(&a, HTTP_POST, "/v1/jobs/1/retry", NULL) == 202 && !strcmp(text_at(&a, "state"), "queued"), "%s",
       a.out.body.data);
    ok(ask(&a, HTTP_POST, "/v1/jobs/1/cancel", "[]") == 422 && ask(&a, HTTP_POST, "/v1/jobs/1/cancel", "{") == 400,
       "bodies");
    claim(&a);
    ok(ask(&a, HTTP_POST, "/v1/jobs/1/cancel", NULL) == 200 && !strcmp(text_at(&a, "state"), "running"), "asked");
    ok(member(&a, "cancel_requested") && json_bool(member(&a, "cancel_requested")), "and remembered");
    ok(ask(&a, HTTP_POST, "/v1/jobs/9/cancel", NULL) == 404 && ask(&a, HTTP_POST, "/v1/jobs/9/retry", NULL) == 404,
       "unknown");
    asking_stop(&a);
}

TEST(students) {
    struct asking a;
    struct store_version v;
    need(asking_start(&a), "start");
    new_job(&a);
    const char *student = "/v1/jobs/1/student/onnx", *weights = "/v1/jobs/1/student/safetensors";
    ok(ask(&a, HTTP_GET, "/v1/jobs/1/student/onnx?wait=3", NULL) == 0, "waits");
    ok(ask(&a, HTTP_GET, student, NULL) == 409 && strstr(text_at(&a, "detail"), "wait="), "%s", text_at(&a, "detail"));
    ok(ask(&a, HTTP_GET, "/v1/jobs/1/student/safetensors?wait=3", NULL) == 0 && ask(&a, HTTP_GET, weights, NULL) == 409,
       "its weights wait as well");
    struct store_lease lease = claim(&a);
    struct store_blob blob;
    need(!store_blob_put(&blob, a.store, "NET 3", 5, NULL), "blob");
    struct store_model_new model = {.name = "s", .blob = blob, .parameters = 3, .job = lease.job};
    need(!store_lease_succeed(&v, a.store, &lease, &model, "{\"model\":\"s@1\"}", NULL), "succeed");
    ok(ask(&a, HTTP_GET, student, NULL) == 200 && !strcmp(a.body, "NET 3"), "%s", a.body);
    ok(!strcmp(answer_header(&a, "Content-Disposition"), "attachment; filename=\"s-v1.onnx\""), "curl -OJ");
    ok(ask(&a, HTTP_GET, weights, NULL) == 200 && !strcmp(a.body, "W 3"), "%s", a.body);
    ok(!strcmp(answer_header(&a, "Content-Location"), "/v1/models/s@1/safetensors"), "pinned");
    ok(ask(&a, HTTP_GET, "/v1/jobs/1", NULL) == 200 && !strcmp(text_at(&a, "result.model"), "s@1"), "result");
    ok(number_at(&a, "progress.fraction") == 1, "all of it");

    new_job(&a);
    lease = claim(&a);
    need(!store_lease_fail(a.store, &lease, "{\"detail\":\"the loss is not a number\"}", NULL), "fail");
    ok(ask(&a, HTTP_GET, "/v1/jobs/2/student/onnx?wait=600", NULL) == 409, "failed");
    ok(strstr(text_at(&a, "detail"), "the loss is not a number") != NULL, "%s", text_at(&a, "detail"));
    new_job(&a);
    lease = claim(&a);
    need(!store_lease_succeed(NULL, a.store, &lease, NULL, "{}", NULL), "no output");
    ok(ask(&a, HTTP_GET, "/v1/jobs/3/student/onnx", NULL) == 404, "makes none");
    ok(ask(&a, HTTP_GET, "/v1/jobs/3/student/safetensors", NULL) == 404, "and no weights");
    asking_stop(&a);
}

static void tell(struct asking *a, const struct store_lease *lease, const char *type, const char *data) {
    struct store_event_new event = {type, data};
    ok(!store_event_append(NULL, a->store, lease, &event, 1, NULL), "append");
}

TEST(events_as_streams_and_lines) {
    struct asking a;
    need(asking_start(&a), "start");
    new_job(&a);
    struct store_lease lease = claim(&a);
    tell(&a, &lease, "log", "{\"text\":\"one\"}");
    tell(&a, &lease, "metric", "{\n\"name\":\"loss\",\r\n\"step\":1,\"value\":2}");
    ok(ask(&a, HTTP_GET, "/v1/jobs/1/events", NULL) == 200 && !strcmp(a.out.type, "text/event-stream"), "%s",
       a.out.type);
    ok(strstr(a.body, "retry: 2000\n\nid: 1\nevent: state\ndata: {") == a.body, "%.60s", a.body);
    ok(strstr(a.body, "event: metric\ndata: { \"name\":\"loss\",  \"step\":1,\"value\":2}\n\n") != NULL,
       "one line each: %s", a.body);
    char last[16] = "";
    for (const char *id = a.body; (id = strstr(id, "id: ")); id += 4)
        text_print(last, sizeof last, "%.*s", (int)strcspn(id + 4, "\n"), id + 4);
    asking_header(&a, "Last-Event-ID", last);
    ok(ask(&a, HTTP_GET, "/v1/jobs/1/events", NULL) == 200 && !strstr(a.body, "id: "), "nothing new: %s", a.body);
    need(!store_lease_fail(a.store, &lease, "{}", NULL), "fail");
    char target[64];
    text_print(target, sizeof target, "/v1/jobs/1/events?after=%s", last);
    asking_header(&a, "Accept", "application/x-ndjson");
    ok(ask(&a, HTTP_GET, target, NULL) == 200 && !strcmp(a.out.type, "application/x-ndjson"), "lines");
    ok(strstr(a.body, "\"event\":\"end\"") && !strstr(a.body, "metric"), "only what is new: %s", a.body);
    asking_header(&a, "Last-Event-ID", "x");
    ok(ask(&a, HTTP_GET, "/v1/jobs/1/events", NULL) == 400 && ask(&a, HTTP_GET, "/v1/jobs/9/events", NULL) == 404,
       "refused");
    asking_stop(&a);
}

TEST(a_stream_ends_with_the_job_and_not_before) {
    struct asking a;
    struct text t;
    bool done = false;
    need(asking_start(&a), "start");
    new_job(&a);
    store_job_cancel(NULL, a.store, 1, NULL);
    ok(ask(&a, HTTP_GET, "/v1/jobs/1/events", NULL) == 200 && strstr(a.body, "event: end"), "%s", a.body);
    store_job_retry(a.store, 1, NULL);
    ok(ask(&a, HTTP_GET, "/v1/jobs/1/events", NULL) == 200, "again");
    text_init(&t, 10000);
    a.out.events.next(&t, &done, a.out.events.state, a.store, NULL);
    ok(!done && t.length == 0, "the end in the middle is not the end: %s", t.data);
    store_job_cancel(NULL, a.store, 1, NULL);
    for (int i = 0; i < 3 && !done; i++) a.out.events.next(&t, &done, a.out.events.state, a.store, NULL);
    ok(done && strstr(t.data, "event: end"), "now it is: %s", t.data);
    text_free(&t);
    asking_stop(&a);
}

TEST(series) {
    struct asking a;
    need(asking_start(&a), "start");
    new_job(&a);
    struct store_lease lease = claim(&a);
    struct store_point_new points[] = {{"loss", {1, 2.5}}, {"loss", {2, (double)NAN}}, {"accuracy", {1, 0.5}}};
    need(!store_metric_append(a.store, &lease, points, 3, NULL), "append");
    ok(ask(&a, HTTP_GET, "/v1/jobs/1/metrics", NULL) == 200, "%s", a.out.body.data);
    ok(strstr(a.out.body.data, "\"loss\":[[1,2.5],[2,null]]") && member(&a, "series.accuracy"), "%s", a.out.body.data);
    ok(ask(&a, HTTP_GET, "/v1/jobs/1/metrics?series=loss&after=1", NULL) == 200 && !member(&a, "series.accuracy"),
       "one");
    ok(json_count(member(&a, "series.loss")) == 1, "later ones: %s", a.out.body.data);
    ok(ask(&a, HTTP_GET, "/v1/jobs/9/metrics", NULL) == 404, "unknown");
    asking_stop(&a);
}

TEST(posting) {
    struct asking a;
    need(asking_start(&a), "start");
    ok(ask(&a, HTTP_POST, "/v1/jobs", "") == 400 && ask(&a, HTTP_POST, "/v1/jobs", "{} x") == 400, "no JSON");
    ok(ask(&a, HTTP_POST, "/v1/jobs", "[]") == 422, "no object: %s", a.out.body.data);
    ok(ask(&a, HTTP_POST, "/v1/jobs", "{\"method\":\"distil\"}") == 404 && strstr(text_at(&a, "detail"), "distill"),
       "%s", text_at(&a, "detail"));
    ok(strstr(a.out.body.data, "\"pointer\":\"/method\"") != NULL, "%s", a.out.body.data);
    ok(ask(&a, HTTP_POST, "/v1/jobs?dry_run=1", "{\"method\":\"distill\",\"teacher\":\"nobody\"}") / 100 == 4, "%s",
       a.out.body.data);
    ok(ask(&a, HTTP_POST, "/v1/jobs?dry_run=maybe", "{\"method\":\"distill\"}") == 422, "no truth");
    ok(ask(&a, HTTP_GET, "/v1/methods", NULL) == 200 && json_count(member(&a, "items")) > 0, "methods");
    size_t steps = 0, kinds = 0;
    for (const struct json *m = json_first(member(&a, "items")); m; m = json_next(m))
        steps += json_get(m, "steps") ? json_count(json_get(m, "steps")) : 0;
    while (morph_table[kinds]) kinds++;
    ok(steps == kinds, "%zu of %zu kinds of steps are described", steps, kinds);
    ok(ask(&a, HTTP_GET, "/v1/jobs", NULL) == 200 && json_count(member(&a, "items")) == 0, "nothing was started");
    asking_stop(&a);
}

/* ---- with a network that the methods can look at ---- */

static bool store_teacher(struct asking *a) {
    static char bytes[4 << 20];
    FILE *f = fopen("examples/fashion/teacher.onnx", "rb");
    size_t size = f ? fread(bytes, 1, sizeof bytes, f) : 0;
    if (f) fclose(f);
    struct store_blob blob;
    struct store_version v;
    if (!size || store_blob_put(&blob, a->store, bytes, size, NULL)) return false;
    return !store_model_put(&v, NULL, a->store, &(struct store_model_new){.name = "teacher", .blob = blob}, NULL);
}

static bool store_images(struct asking *a) {
    static unsigned char zeros[50 * 784];
    struct store_blob images, labels;
    struct store_version v;
    if (store_blob_put(&images, a->store, zeros, sizeof zeros, NULL) ||
        store_blob_put(&labels, a->store, zeros, 50, NULL))
        return false;
    struct store_array arrays[] = {
        {.name = "inputs",
         .dtype = "uint8",
         .rank = 3,
         .shape = {50, 28, 28},
         .bytes = sizeof zeros,
         .blob = images.id,
         .digest = images.digest},
        {.name = "labels",
         .dtype = "uint8",
         .rank = 1,
         .shape = {50},
         .bytes = 50,
         .blob = labels.id,
         .digest = labels.digest},
    };
    return !store_dataset_put(&v, NULL, a->store, "fashion", arrays, 2, NULL);
}

#define SPEC \
    "{\"method\":\"distill\",\"teacher\":\"teacher\",\"dataset\":{\"ref\":\"fashion\",\"scale\":255}," \
    "\"student\":{\"width\":0.25},\"output\":\"student\"}"

/* What a job of morph would be refused for, its dry run says, in the same words; and when it is not, both are content. */
TEST(a_dry_run_says_what_the_job_says) {
    static const struct {
        const char *step;
        int code;
        const char *words;
    } cases[] = {
        {"{\"op\":\"widen\",\"layer\":\"/stage1/conv1/Konv\",\"to\":60}", 422, "nearest is '/stage1/conv1/Conv'"},
        {"{\"op\":\"widen\",\"layer\":\"zzz*\",\"factor\":2}", 422, "no layer's name matches 'zzz*'"},
        {"{\"op\":\"widen\",\"layer\":\"/stage1/conv1/Conv\",\"to\":2}", 422, "that is for narrow"},
        {"{\"op\":\"deepen\",\"layer\":\"/stage1/conv1/Conv\",\"size\":2}", 422, "no centre"},
        {"{\"op\":\"widen\",\"factor\":1e6}", 413, "bytes, and an ONNX file can hold 2147483647"},
        {"{\"op\":\"sideways\"}", 422, "widen"},
        {"{\"op\":\"widen\",\"factor\":1.1}", 200, ""},
    };
    struct asking a;
    need(asking_start(&a) && store_teacher(&a), "start");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[256], said[512];
        snprintf(json, sizeof json, "{\"method\":\"morph\",\"model\":\"teacher\",\"steps\":[%s]}", cases[i].step);
        int dry = ask(&a, HTTP_POST, "/v1/jobs?dry_run=1", json);
        ok(dry == cases[i].code, "%s: %d, %s", json, dry, a.out.body.data);
        snprintf(said, sizeof said, "%s", dry == 200 ? "" : text_at(&a, "detail"));
        ok(strstr(said, cases[i].words) != NULL, "%s: %s", json, said);
        int job = ask(&a, HTTP_POST, "/v1/jobs", json);
        ok(job == (dry == 200 ? 202 : dry), "%s: %d dry and %d", json, dry, job);
        ok(dry == 200 || strcmp(said, text_at(&a, "detail")) == 0, "%s: '%s', dry '%s'", json, text_at(&a, "detail"),
           said);
    }
    ok(ask(&a, HTTP_GET, "/v1/jobs", NULL) == 200 && json_count(member(&a, "items")) == 1, "only the last was started");
    asking_stop(&a);
}

TEST(posting_a_job_that_can_run) {
    struct asking a;
    need(asking_start(&a) && store_teacher(&a) && store_images(&a), "start");
    ok(ask(&a, HTTP_POST, "/v1/jobs?dry_run=1", SPEC) == 200, "%s", a.out.body.data);
    ok(number_at(&a, "student.parameters") > 1000 && number_at(&a, "spec.train.batch") == 128, "%s", a.out.body.data);
    ok(!strcmp(text_at(&a, "teacher.name"), "teacher"), "what it starts from");
    ok(ask(&a, HTTP_GET, "/v1/jobs", NULL) == 200 && json_count(member(&a, "items")) == 0, "nothing was started");

    asking_header(&a, "Idempotency-Key", "\"key-1\"");
    ok(ask(&a, HTTP_POST, "/v1/jobs", SPEC) == 202 && number_at(&a, "id") == 1, "%s", a.out.body.data);
    ok(!strcmp(answer_header(&a, "Location"), "/v1/jobs/1") && *answer_header(&a, "Retry-After"), "where it is");
    ok(number_at(&a, "spec.train.batch") == 128 && !strcmp(text_at(&a, "state"), "queued"), "defaults are filled in");
    asking_header(&a, "Idempotency-Key", "key-1");
    ok(ask(&a, HTTP_POST, "/v1/jobs", SPEC) == 202 && number_at(&a, "id") == 1, "the same again");
    ok(!strcmp(answer_header(&a, "Idempotency-Replayed"), "true"), "and says so");
    asking_header(&a, "Idempotency-Key", "key-1");
    ok(ask(&a, HTTP_POST, "/v1/jobs", SPEC " ") == 422, "the key with another body: %s", a.out.body.data);
    asking_header(&a, "Idempotency-Key", "two words");
    ok(ask(&a, HTTP_POST, "/v1/jobs", SPEC) == 400, "no key");
    ok(ask(&a, HTTP_POST, "/v1/jobs", SPEC) == 202 && number_at(&a, "id") == 2, "without one: another job");
    ok(ask(&a, HTTP_DELETE, "/v1/models/teacher", NULL) == 409, "jobs use it");
    asking_stop(&a);
}

TEST_MAIN

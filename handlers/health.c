/* health.c - /healthz, /readyz, /version and /metrics: what operators and their machines ask. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "handlers/dispatch.h"
#include "handlers/fields.h"
#include "handlers/reply.h"
#include "store/jobs.h"

/* ---- /healthz: the process answers ---- */

static void put_status(struct response *out, const char *status) {
    struct json_writer w = reply_json(out, 200);
    json_open_object(&w, NULL);
    json_put_string(&w, "status", status);
    json_close_object(&w);
    reply_header(out, "Cache-Control", "no-store");
}

static int healthz(const struct request *r, struct response *out, struct err *e) {
    (void)r, (void)e;
    put_status(out, "ok");
    return 0;
}

extern const struct route healthz_get;
const struct route healthz_get = {
    .method = HTTP_GET,
    .pattern = "/healthz",
    .summary = "whether the process answers",
    .handle = healthz,
    .any_query = true,
    .reply = "status",
};

/* ---- /readyz: it can also do something ---- */

static int readyz(const struct request *r, struct response *out, struct err *e) {
    int code = r->store ? store_ready(r->store, e) : err_set(e, E_IO, "the data folder cannot be opened");
    if (!code) {
        put_status(out, "ready");
        return 0;
    }
    reply_problem(out, r, &(struct problem){503, "not-ready", e->text, "", 0});
    return 0;
}

extern const struct route readyz_get;
const struct route readyz_get = {
    .method = HTTP_GET,
    .pattern = "/readyz",
    .summary = "whether both databases can be written and the disk has room",
    .handle = readyz,
    .slow = true,
    .any_query = true,
    .reply = "status",
};

/* ---- /version ---- */

static void put_limits(struct json_writer *w, const struct service *s) {
    json_open_object(w, "limits");
    json_put_int(w, "json_bytes", JSON_MAX_SIZE);
    json_put_int(w, "json_keys", JSON_MAX_KEYS);
    json_put_int(w, "upload_bytes", (int64_t)s->upload_max);
    json_put_int(w, "network_bytes", (int64_t)s->network_max);
    json_put_int(w, "uploads", s->uploads);
    json_put_int(w, "connections", s->connections);
    json_put_int(w, "event_streams", s->streams);
    json_put_int(w, "page_items", STORE_PAGE_MAX);
    json_put_int(w, "name_characters", STORE_NAME_SIZE - 1);
    json_put_int(w, "wait_seconds", HTTP_MAX_WAIT_MS / 1000);
    json_put_int(w, "idempotency_seconds", STORE_IDEMPOTENCY_MS / 1000);
    json_close_object(w);
}

static int version(const struct request *r, struct response *out, struct err *e) {
    const struct service *s = r->service;
    (void)e;
    struct json_writer w = reply_json(out, 200);
    json_open_object(&w, NULL);
    json_put_string(&w, "version", s->version);
    json_put_string(&w, "commit", s->commit);
    json_put_string(&w, "blas", s->blas);
    json_put_string(&w, "instruction_set", s->instruction_set);
    put_time(&w, "started_at", s->started_ms);
    put_limits(&w, s);
    json_close_object(&w);
    return 0;
}

extern const struct route version_get;
const struct route version_get = {
    .method = HTTP_GET,
    .pattern = "/version",
    .summary = "version, commit, BLAS, instruction set, and the limits",
    .handle = version,
    .reply = "version",
};

/* ---- /metrics: Prometheus text format 0.0.4 ---- */

static void head(struct text *t, const char *name, const char *type, const char *help) {
    text_format(t, "# HELP retort_%s %s\n# TYPE retort_%s %s\n", name, help, name, type);
}

static void one(struct text *t, const char *name, const char *type, const char *help, double value) {
    head(t, name, type, help);
    text_format(t, "retort_%s %.17g\n", name, value);
}

static void put_requests(struct text *t, struct http_stats *s) {
    head(t, "http_requests_total", "counter", "Answered requests by method and class of status.");
    for (enum http_method m = HTTP_GET; m <= HTTP_OTHER; m++)
        for (int class = 1; class < 6; class ++) {
            unsigned long long n = atomic_load(&s->requests[m][class]);
            if (n)
                text_format(t, "retort_http_requests_total{method=\"%s\",status=\"%dxx\"} %llu\n", http_method_name(m),
                            class, n);
        }
}

static void put_durations(struct text *t, struct http_stats *s) {
    unsigned long long sum = 0;
    head(t, "http_request_duration_seconds", "histogram",
         "Time from headers to the end of the answer, waiting left out.");
    for (int i = 0; i < HTTP_N_BOUNDS; i++) {
        sum += atomic_load(&s->slow_us[i]);
        text_format(t, "retort_http_request_duration_seconds_bucket{le=\"%g\"} %llu\n", http_bounds_us[i] / 1e6, sum);
    }
    sum += atomic_load(&s->slow_us[HTTP_N_BOUNDS]);
    text_format(t, "retort_http_request_duration_seconds_bucket{le=\"+Inf\"} %llu\n", sum);
    text_format(t, "retort_http_request_duration_seconds_sum %.6f\n", (double)atomic_load(&s->duration_us) / 1e6);
    text_format(t, "retort_http_request_duration_seconds_count %llu\n", sum);
}

static void put_http(struct text *t, struct http_stats *s) {
    put_requests(t, s);
    put_durations(t, s);
    one(t, "http_received_bytes_total", "counter", "Bytes of request bodies.", (double)atomic_load(&s->received_bytes));
    one(t, "http_sent_bytes_total", "counter", "Bytes of answers' bodies.", (double)atomic_load(&s->sent_bytes));
    one(t, "http_refused_total", "counter", "Requests that the guard refused.", (double)atomic_load(&s->refused));
    one(t, "http_active_requests", "gauge", "Requests under way.", (double)atomic_load(&s->active));
    one(t, "http_uploads", "gauge", "Uploads under way.", (double)atomic_load(&s->uploads));
    one(t, "http_event_streams", "gauge", "Open event streams.", (double)atomic_load(&s->streams));
    one(t, "http_waiting_requests", "gauge", "Requests that wait for a change.", (double)atomic_load(&s->waiting));
}

static void put_store(struct text *t, const struct store_stats *s) {
    head(t, "jobs", "gauge", "Jobs by state.");
    for (enum store_job_state state = 0; state < STORE_JOB_STATE_COUNT; state++)
        text_format(t, "retort_jobs{state=\"%s\"} %lld\n", store_job_state_name(state), (long long)s->jobs[state]);
    one(t, "models", "gauge", "Models that have a version.", (double)s->models);
    one(t, "datasets", "gauge", "Data sets that have a version.", (double)s->datasets);
    one(t, "versions", "gauge", "Versions of both.", (double)s->versions);
    one(t, "blobs", "gauge", "Stored blobs.", (double)s->blobs);
    one(t, "blob_bytes", "gauge", "Bytes of the stored blobs.", (double)s->blob_bytes);
    one(t, "database_bytes", "gauge", "Bytes of both databases on the disk.", (double)s->file_bytes);
}

static void put_process(struct text *t, const struct service *s) {
    long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    if (statm && fscanf(statm, "%*d %ld", &pages) != 1) pages = 0;
    if (statm) fclose(statm);
    text_format(t,
                "# HELP process_resident_memory_bytes Resident memory.\n# TYPE process_resident_memory_bytes gauge\n"
                "process_resident_memory_bytes %lld\n",
                (long long)pages * sysconf(_SC_PAGESIZE));
    text_format(t,
                "# HELP process_start_time_seconds Start of the process.\n# TYPE process_start_time_seconds gauge\n"
                "process_start_time_seconds %.3f\n",
                (double)s->started_ms / 1e3);
    head(t, "build_info", "gauge", "What is running.");
    text_format(t, "retort_build_info{version=\"%s\",commit=\"%s\"} 1\n", s->version, s->commit);
}

static int metrics(const struct request *r, struct response *out, struct err *e) {
    struct store_stats stats;
    int code = store_stats_read(&stats, r->store, e);
    if (code) return code;
    struct text *t = reply_text(out, 200, "text/plain; version=0.0.4; charset=utf-8");
    put_http(t, r->service->stats);
    put_store(t, &stats);
    put_process(t, r->service);
    reply_header(out, "Cache-Control", "no-store");
    return 0;
}

extern const struct route metrics_get;
const struct route metrics_get = {
    .method = HTTP_GET,
    .pattern = "/metrics",
    .summary = "counters and gauges for Prometheus",
    .handle = metrics,
    .scope = SCOPE_READ,
    .slow = true,
    .any_query = true,
    .reply = "",
    .media = "text/plain",
};

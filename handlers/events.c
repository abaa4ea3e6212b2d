/* events.c - GET /v1/jobs/{id}/events and /metrics: what a job tells while it runs, and the series it
 * recorded. */
#include "store/events.h"

#include <string.h>

#include "base/memory.h"
#include "handlers/fields.h"
#include "handlers/headers.h"
#include "handlers/jobs.h"
#include "handlers/reply.h"

#define BATCH 100

/* ---- events ---- */

struct event_stream {
    int64_t job, after;
    bool lines; /* NDJSON instead of Server-Sent Events */
    bool greeted;
};

/* White space between JSON values may have line ends, which end an event. */
static void add_one_line(struct text *out, const char *data) {
    while (*data) {
        size_t run = strcspn(data, "\r\n");
        text_add(out, data, run);
        data += run;
        if (!*data) return;
        text_add(out, " ", 1);
        data++;
    }
}

static void add_event(struct text *out, const struct store_event *event) {
    text_format(out, "id: %lld\nevent: %s\ndata: ", (long long)event->seq, event->type);
    add_one_line(out, event->data);
    text_add(out, "\n\n", 2);
}

static void add_line(struct text *out, const struct store_event *event) {
    struct json_writer w = json_writer(out);
    json_open_object(&w, NULL);
    json_put_int(&w, "id", event->seq);
    json_put_string(&w, "event", event->type);
    put_time(&w, "at", event->at);
    text_add_string(out, ",\"data\":");
    add_one_line(out, event->data);
    json_close_object(&w);
    text_add(out, "\n", 1);
}

/* Nothing follows when the job has ended and its last event was sent. A job that was tried again has
 * an "end" in the middle, so the state decides. */
static int check_end(bool *done, const struct event_stream *s, struct store *store, struct err *e) {
    enum store_job_state state;
    int64_t last;
    int code = store_job_peek(&state, &last, store, s->job, e);
    if (code == E_NOT_FOUND) {
        *done = true;
        return 0;
    }
    if (!code) *done = store_job_state_final(state) && last <= s->after;
    return code;
}

static int next_events(struct text *out, bool *done, void *state, struct store *store, struct err *e) {
    struct event_stream *s = state;
    struct store_event_page page = {0};
    if (!s->greeted && !s->lines) text_add_string(out, "retry: 2000\n\n");
    s->greeted = true;
    int code = store_event_read(&page, store, s->job, s->after, BATCH, e);
    for (size_t i = 0; i < page.n; i++) {
        (s->lines ? add_line : add_event)(out, &page.items[i]);
        s->after = page.items[i].seq;
    }
    size_t n = page.n;
    store_event_page_fini(&page);
    return code || n ? code : check_end(done, s, store, e);
}

static void close_events(void *state, struct store *store) {
    (void)store;
    mem_free(state);
}

struct event_query {
    int64_t after;
};
static const struct param event_query[] = {
    PARAM_INT(struct event_query, after, "0", 0, 9e15, "number of the last event that is known; as Last-Event-ID"),
    PARAM_END,
};

static int open_stream(struct response *out, const struct request *r, int64_t job, int64_t after, struct err *e) {
    const char *accept = header_get(r, "Accept");
    struct event_stream *s = mem_calloc(1, sizeof *s);
    if (!s) return err_memory(e, sizeof *s);
    s->job = job;
    s->after = after;
    s->lines = accept && strstr(accept, "application/x-ndjson");
    out->status = 200;
    out->kind = REPLY_EVENTS;
    out->type = s->lines ? "application/x-ndjson" : "text/event-stream";
    out->events = (struct events){s, next_events, close_events, s->lines ? "\n" : ":\n\n"};
    reply_header(out, "Cache-Control", "no-store");
    reply_header(out, "X-Accel-Buffering", "no");
    return 0;
}

static int get_events(const struct request *r, struct response *out, struct err *e) {
    struct event_query query;
    enum store_job_state state;
    int64_t id, after, newest;
    const char *last = header_get(r, "Last-Event-ID");
    int code = query_parse(&query, event_query, r, e);
    if (!code) code = id_of(&id, r, 0, "job", e);
    if (!code) code = store_job_peek(&state, &newest, r->store, id, e);
    if (code) return code;
    after = query.after;
    if (last && *last && !text_to_int(&after, last, 0, INT64_MAX))
        return err_set(e, E_SYNTAX, "the Last-Event-ID \"%.40s\" is not a number", last);
    return open_stream(out, r, id, after > query.after ? after : query.after, e);
}

extern const struct route job_events;
const struct route job_events = {
    .method = HTTP_GET,
    .pattern = "/v1/jobs/{id}/events",
    .summary = "what the job tells, as Server-Sent Events or, asked for with Accept, as application/x-ndjson",
    .handle = get_events,
    .scope = SCOPE_READ,
    .query = event_query,
    .reply = "",
    .media = "text/event-stream",
};

/* ---- metrics ---- */

struct metrics_query {
    char series[STORE_SERIES_SIZE];
    int64_t after, limit;
};
static const struct param metrics_query[] = {
    PARAM_STRING(struct metrics_query, series, NULL, "only this series"),
    PARAM_INT(struct metrics_query, after, NULL, 0, 9e15, "only points of later steps"),
    PARAM_INT(struct metrics_query, limit, "10000", 1, STORE_POINTS_MAX, "most points of each series"),
    PARAM_END,
};

static int put_series(struct json_writer *w, const struct request *r, int64_t job, const char *series,
                      const struct metrics_query *query, struct err *e) {
    struct store_point_page page = {0};
    int64_t after = query->after == PARAM_ABSENT ? INT64_MIN : query->after;
    int code = store_metric_read(&page, r->store, job, series, after, (int)query->limit, e);
    json_open_array(w, series);
    for (size_t i = 0; i < page.n; i++) {
        json_open_array(w, NULL);
        json_put_int(w, NULL, page.items[i].step);
        json_put_number(w, NULL, page.items[i].value);
        json_close_array(w);
    }
    json_close_array(w);
    store_point_page_fini(&page);
    return code;
}

static int put_all_series(struct json_writer *w, const struct request *r, int64_t job,
                          const struct metrics_query *query, struct err *e) {
    struct store_series_list list = {0};
    int code = store_series_list(&list, r->store, job, e);
    for (size_t i = 0; i < list.n && !code; i++)
        if (!query->series[0] || !strcmp(query->series, list.names[i]))
            code = put_series(w, r, job, list.names[i], query, e);
    store_series_list_fini(&list);
    return code;
}

static int get_metrics(const struct request *r, struct response *out, struct err *e) {
    struct metrics_query query;
    enum store_job_state state;
    int64_t id, newest;
    int code = query_parse(&query, metrics_query, r, e);
    if (!code) code = id_of(&id, r, 0, "job", e);
    if (!code) code = store_job_peek(&state, &newest, r->store, id, e);
    if (code) return code;
    struct json_writer w = reply_json(out, 200);
    json_open_object(&w, NULL);
    json_open_object(&w, "series");
    code = put_all_series(&w, r, id, &query, e);
    json_close_object(&w);
    json_close_object(&w);
    return code;
}

extern const struct route job_metrics;
const struct route job_metrics = {
    .method = HTTP_GET,
    .pattern = "/v1/jobs/{id}/metrics",
    .summary = "the recorded series: for each name [[step, value], ...]",
    .handle = get_metrics,
    .scope = SCOPE_READ,
    .query = metrics_query,
    .reply = "job_metrics",
};

/* teller.c - gathering and writing events. */
#include "jobs/teller.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

#define NS_PER_MS 1000000
#define EVENT_MAX (32 << 10)

void teller_init(struct teller *t, struct store *s, const struct store_lease *lease) {
    memset(t, 0, sizeof *t);
    t->store = s;
    t->lease = *lease;
    t->first_step = -1;
    t->shown_step = -1;
    t->flushed_ns = clock_monotonic_ns();
    for (size_t i = 0; i < TELLER_BATCH; i++) text_init(&t->data[i], EVENT_MAX);
}

static void clear_events(struct teller *t) {
    for (size_t i = 0; i < t->n_events; i++) {
        text_free(&t->data[i]);
        text_init(&t->data[i], EVENT_MAX);
    }
    t->n_events = 0;
}

void teller_fini(struct teller *t) {
    clear_events(t);
}

/* The next event's text; one place stays free for progress. */
static struct json_writer new_event(struct teller *t, const char *type) {
    if (t->n_events >= TELLER_BATCH - 1) teller_flush(t);
    t->types[t->n_events] = type;
    return json_writer(&t->data[t->n_events++]);
}

static void remember_latest(struct teller *t, const char *series, double value) {
    size_t i = 0;
    while (i < t->n_latest && strcmp(t->latest[i].name, series) != 0) i++;
    if (i == TELLER_SERIES) return;
    if (i == t->n_latest) {
        text_copy(t->latest[i].name, sizeof t->latest[i].name, series);
        t->n_latest++;
    }
    t->latest[i].value = value;
}

void teller_metric(struct teller *t, const char *series, int64_t step, double value) {
    if (t->n_points == TELLER_BATCH) teller_flush(t);
    text_copy(t->series[t->n_points], sizeof t->series[0], series);
    t->points[t->n_points++] = (struct store_point){step, value};
    remember_latest(t, series, value);
    struct json_writer w = new_event(t, "metric");
    json_open_object(&w, NULL);
    json_put_string(&w, "name", series);
    json_put_int(&w, "step", step);
    json_put_number(&w, "value", value);
    json_close_object(&w);
}

void teller_log(struct teller *t, const char *text) {
    log_info("job %lld: %s", (long long)t->lease.job, text);
    struct json_writer w = new_event(t, "log");
    json_open_object(&w, NULL);
    json_put_string(&w, "text", text);
    json_close_object(&w);
}

void teller_progress(struct teller *t, int64_t step, int64_t steps) {
    bool another_stage = steps != t->steps || step < t->step;
    t->step = step;
    t->steps = steps;
    if (!another_stage && t->first_step >= 0) return;
    t->first_step = step;
    t->first_ns = clock_monotonic_ns();
}

/* ---- writing ---- */

static void check(struct teller *t, int status, const struct err *e) {
    if (status == E_LOST)
        t->lost = true;
    else if (status)
        log_warn("job %lld: events are lost: %s", (long long)t->lease.job, e->text);
}

static double seconds_left(const struct teller *t) {
    int64_t done = t->step - t->first_step;
    if (done <= 0) return (double)NAN;
    double seconds = (double)(clock_monotonic_ns() - t->first_ns) / 1e9;
    return seconds / (double)done * (double)(t->steps - t->step);
}

static void add_progress_event(struct teller *t, double eta) {
    t->types[t->n_events] = "progress";
    struct json_writer w = json_writer(&t->data[t->n_events++]);
    json_open_object(&w, NULL);
    json_put_int(&w, "step", t->step);
    json_put_int(&w, "steps", t->steps);
    json_put_number(&w, "fraction", t->steps > 0 ? (double)t->step / (double)t->steps : 0);
    json_put_number(&w, "eta_s", eta);
    json_close_object(&w);
}

static void write_progress(struct teller *t) {
    if (t->step == t->shown_step && t->steps == t->shown_steps && t->n_points == 0) return;
    double eta = seconds_left(t);
    if (t->step != t->shown_step || t->steps != t->shown_steps) add_progress_event(t, eta);
    struct text metrics;
    text_init(&metrics, EVENT_MAX);
    struct json_writer w = json_writer(&metrics);
    json_open_object(&w, NULL);
    for (size_t i = 0; i < t->n_latest; i++) json_put_number(&w, t->latest[i].name, t->latest[i].value);
    json_close_object(&w);
    struct err e = {0};
    struct store_progress progress = {t->step, t->steps, eta};
    check(t, store_lease_progress(t->store, &t->lease, &progress, metrics.failed ? NULL : metrics.data, &e), &e);
    text_free(&metrics);
    t->shown_step = t->step;
    t->shown_steps = t->steps;
}

static void write_events(struct teller *t) {
    struct store_event_new events[TELLER_BATCH];
    size_t n = 0;
    for (size_t i = 0; i < t->n_events; i++)
        if (!t->data[i].failed) events[n++] = (struct store_event_new){t->types[i], t->data[i].data};
    struct err e = {0};
    if (n) check(t, store_event_append(NULL, t->store, &t->lease, events, n, &e), &e);
    clear_events(t);
}

static void write_points(struct teller *t) {
    struct store_point_new points[TELLER_BATCH];
    for (size_t i = 0; i < t->n_points; i++) points[i] = (struct store_point_new){t->series[i], t->points[i]};
    struct err e = {0};
    if (t->n_points) check(t, store_metric_append(t->store, &t->lease, points, t->n_points, &e), &e);
    t->n_points = 0;
}

void teller_flush(struct teller *t) {
    if (!t->lost) write_progress(t);
    if (!t->lost) write_events(t);
    if (!t->lost) write_points(t);
    clear_events(t);
    t->n_points = 0;
    t->flushed_ns = clock_monotonic_ns();
}

void teller_flush_when_due(struct teller *t) {
    if (clock_monotonic_ns() - t->flushed_ns >= (int64_t)TELLER_FLUSH_MS * NS_PER_MS) teller_flush(t);
}

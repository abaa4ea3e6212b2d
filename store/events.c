/* events.c - numbered events of a job; see events.h. */
#include "store/events.h"

#include "base/memory.h"
#include "store/internal.h"

#define PAGE_BYTES (4 << 20)

int event_add_within(int64_t *seq, struct store *s, int64_t job, const char *type, const char *data, struct err *e) {
    int64_t number;
    int r = db_integer(
        &number, s->meta,
        "INSERT INTO events (job_id, seq, at, type, data)"
        " VALUES (?1, (SELECT COALESCE(MAX(seq), 0) + 1 FROM events WHERE job_id = ?1), ?2, ?3, ?4) RETURNING seq",
        BIND(value_int(job), value_int(store_now(s)), value_text(type), value_text(data)), e);
    if (!r && seq) *seq = number;
    return r;
}

static int check_events(const struct store_event_new *events, size_t n, struct err *e) {
    if (n > STORE_EVENT_BATCH_MAX) return err_set(e, E_TOO_LARGE, "at most %d events at a time", STORE_EVENT_BATCH_MAX);
    for (size_t i = 0; i < n; i++) {
        int r = text_limit(events[i].type, sizeof((struct store_event *)0)->type - 1, "the type of an event", e);
        if (!r) r = text_limit(events[i].data, STORE_EVENT_DATA_MAX, "the data of an event", e);
        if (r) return r;
    }
    return 0;
}

static int append_within(int64_t *last, struct store *s, const struct store_lease *lease,
                         const struct store_event_new *events, size_t n, struct err *e) {
    int r = lease_check_within(NULL, s, lease, e);
    for (size_t i = 0; !r && i < n; i++) r = event_add_within(last, s, lease->job, events[i].type, events[i].data, e);
    if (!r)
        r = db_run(s->meta, "DELETE FROM events WHERE job_id = ?1 AND seq <= ?2",
                   BIND(value_int(lease->job), value_int(*last - STORE_EVENTS_KEPT)), e);
    return r;
}

int store_event_append(int64_t *last, struct store *s, const struct store_lease *lease,
                       const struct store_event_new *events, size_t n, struct err *e) {
    int64_t seq = 0;
    int r = check_events(events, n, e);
    if (!r) r = db_begin(s->meta, DB_RELAXED, e);
    if (!r) r = db_end(s->meta, append_within(&seq, s, lease, events, n, e), e);
    if (last) *last = r ? 0 : seq;
    return r;
}

int store_event_read(struct store_event_page *out, struct store *s, int64_t job, int64_t after, int limit,
                     struct err *e) {
    struct statement *st;
    void *rows;
    size_t bytes = 0;
    *out = (struct store_event_page){0};
    int r = page_room(&rows, sizeof *out->items, limit, STORE_PAGE_MAX, e);
    if (r) return r;
    out->items = rows;
    r = db_query(&st, s->meta,
                 "SELECT seq, at, type, data FROM events WHERE job_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
                 BIND(value_int(job), value_int(after), value_int(limit)), e);
    while (!r && bytes < PAGE_BYTES && (r = statement_step(st, e)) == 1) {
        struct store_event *event = &out->items[out->n];
        event->seq = column_int(st, 0);
        event->at = column_int(st, 1);
        column_word(event->type, sizeof event->type, st, 2);
        r = column_string(&event->data, st, 3, e);
        if (r) break;
        bytes += strlen(event->data);
        out->n++;
    }
    statement_reset(st);
    if (r) store_event_page_fini(out);
    return r;
}

void store_event_page_fini(struct store_event_page *page) {
    for (size_t i = 0; i < page->n; i++) mem_free(page->items[i].data);
    mem_free(page->items);
    *page = (struct store_event_page){0};
}

/* metrics.c - series of numbers of a job; see events.h. */
#include "base/memory.h"
#include "store/events.h"
#include "store/internal.h"

static int find_series(int64_t *out, struct store *s, int64_t job, const char *name, struct err *e) {
    return db_integer(out, s->meta, "SELECT id FROM series WHERE job_id = ?1 AND name = ?2",
                      BIND(value_int(job), value_text(name)), e);
}

static int make_series(int64_t *out, struct store *s, int64_t job, const char *name, struct err *e) {
    int64_t n;
    if (!*name) return err_set(e, E_INVALID, "a series needs a name");
    int r = text_limit(name, STORE_SERIES_SIZE - 1, "the name of a series", e);
    if (!r) r = db_integer(&n, s->meta, "SELECT COUNT(*) FROM series WHERE job_id = ?1", BIND(value_int(job)), e);
    if (!r && n >= STORE_SERIES_MAX) r = err_set(e, E_TOO_LARGE, "a job has at most %d series", STORE_SERIES_MAX);
    if (!r)
        r = db_run(s->meta, "INSERT INTO series (job_id, name) VALUES (?1, ?2)", BIND(value_int(job), value_text(name)),
                   e);
    if (!r) *out = db_last_id(s->meta);
    return r;
}

static int append_within(struct store *s, const struct store_lease *lease, const struct store_point_new *points,
                         size_t n, struct err *e) {
    int64_t series = 0;
    int r = lease_check_within(NULL, s, lease, e);
    for (size_t i = 0; !r && i < n; i++) {
        const struct store_point_new *p = &points[i];
        if (i == 0 || strcmp(p->series, points[i - 1].series) != 0) {
            r = find_series(&series, s, lease->job, p->series, e);
            if (r == E_NOT_FOUND) r = make_series(&series, s, lease->job, p->series, e);
        }
        if (!r)
            r = db_run(s->meta,
                       "INSERT INTO points (series_id, step, value) VALUES (?1, ?2, ?3)"
                       " ON CONFLICT (series_id, step) DO UPDATE SET value = excluded.value",
                       BIND(value_int(series), value_int(p->point.step), value_real(p->point.value)), e);
    }
    return r;
}

int store_metric_append(struct store *s, const struct store_lease *lease, const struct store_point_new *points,
                        size_t n, struct err *e) {
    if (n > STORE_POINTS_MAX) return err_set(e, E_TOO_LARGE, "at most %d points at a time", STORE_POINTS_MAX);
    int r = db_begin(s->meta, DB_RELAXED, e);
    return r ? r : db_end(s->meta, append_within(s, lease, points, n, e), e);
}

int store_series_list(struct store_series_list *out, struct store *s, int64_t job, struct err *e) {
    struct statement *st;
    void *rows;
    *out = (struct store_series_list){0};
    int r = page_room(&rows, sizeof *out->names, STORE_SERIES_MAX, STORE_SERIES_MAX, e);
    if (r) return r;
    out->names = rows;
    r = db_query(&st, s->meta, "SELECT name FROM series WHERE job_id = ?1 ORDER BY name LIMIT ?2",
                 BIND(value_int(job), value_int(STORE_SERIES_MAX)), e);
    while (!r && (r = statement_step(st, e)) == 1) {
        column_word(out->names[out->n++], STORE_SERIES_SIZE, st, 0);
        r = 0;
    }
    if (r) store_series_list_fini(out);
    return r;
}

void store_series_list_fini(struct store_series_list *list) {
    mem_free(list->names);
    *list = (struct store_series_list){0};
}

static int point_rows(struct store_point_page *out, struct store *s, int64_t series, int64_t after, int limit,
                      struct err *e) {
    struct statement *st;
    int r = db_query(&st, s->meta,
                     "SELECT step, value FROM points WHERE series_id = ?1 AND step > ?2 ORDER BY step LIMIT ?3",
                     BIND(value_int(series), value_int(after), value_int(limit)), e);
    while (!r && (r = statement_step(st, e)) == 1) {
        out->items[out->n++] = (struct store_point){.step = column_int(st, 0), .value = column_real(st, 1)};
        r = 0;
    }
    return r;
}

int store_metric_read(struct store_point_page *out, struct store *s, int64_t job, const char *series, int64_t after,
                      int limit, struct err *e) {
    int64_t id;
    void *rows;
    *out = (struct store_point_page){0};
    int r = page_room(&rows, sizeof *out->items, limit, STORE_POINTS_MAX, e);
    if (r) return r;
    out->items = rows;
    r = find_series(&id, s, job, series, e);
    if (!r)
        r = point_rows(out, s, id, after, limit, e);
    else if (r == E_NOT_FOUND)
        r = 0;
    if (r) store_point_page_fini(out);
    return r;
}

void store_point_page_fini(struct store_point_page *page) {
    mem_free(page->items);
    *page = (struct store_point_page){0};
}

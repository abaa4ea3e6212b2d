#define TEST_SECONDS 20
#include "tests/store/folder.h"

TEST(events_are_numbered_without_gaps) {
    struct store *s = folder_open();
    struct store_event_page page;
    struct err e = {0};
    int64_t last, id = small_job(s);
    struct store_lease lease = claim(s, "w"); /* two events so far */
    const struct store_event_new batch[] = {{"log", "{\"n\":1}"}, {"metric", "{\"n\":2}"}, {"log", ""}};
    ok(store_event_append(&last, s, &lease, batch, 3, &e) == 0 && last == 5, "%s", e.text);
    ok(store_event_append(&last, s, &lease, batch, 1, &e) == 0 && last == 6, "%s", e.text);
    ok(store_event_append(NULL, s, &lease, batch, 0, &e) == 0, "none");
    need(store_event_read(&page, s, id, 2, 3, &e) == 0, "%s", e.text);
    ok(page.n == 3 && page.items[0].seq == 3 && page.items[2].seq == 5 && page.items[0].at == clock_now, "three");
    ok(!strcmp(page.items[1].type, "metric") && !strcmp(page.items[1].data, "{\"n\":2}") && !*page.items[2].data,
       "contents");
    store_event_page_fini(&page);
    ok(store_event_read(&page, s, id, 6, 3, &e) == 0 && page.n == 0, "nothing after the last");
    store_event_page_fini(&page);
    ok(store_event_read(&page, s, 99, 0, 3, &e) == 0 && page.n == 0, "nor of an unknown job");
    store_event_page_fini(&page);
    store_close(s);
}

TEST(events_are_limited) {
    struct store *s = folder_open();
    struct store_event_page page;
    static struct store_event_new batch[STORE_EVENT_BATCH_MAX + 1];
    int64_t last = 0, id = small_job(s);
    struct store_lease lease = claim(s, "w");
    char *data = malloc(STORE_EVENT_DATA_MAX + 2);
    memset(data, 'x', STORE_EVENT_DATA_MAX + 1);
    data[STORE_EVENT_DATA_MAX + 1] = '\0';
    const struct store_event_new big = {"log", data};
    ok(store_event_append(NULL, s, &lease, &big, 1, NULL) == E_TOO_LARGE, "data");
    ok(store_event_append(NULL, s, &lease, &(struct store_event_new){"a type that is far too long for one", "{}"}, 1,
                          NULL) == E_TOO_LARGE,
       "type");
    for (int i = 0; i <= STORE_EVENT_BATCH_MAX; i++) batch[i] = (struct store_event_new){"log", "{}"};
    ok(store_event_append(NULL, s, &lease, batch, STORE_EVENT_BATCH_MAX + 1, NULL) == E_TOO_LARGE, "batch");
    data[STORE_EVENT_DATA_MAX] = '\0';
    for (int i = 0; i < 100; i++) need(store_event_append(&last, s, &lease, &big, 1, NULL) == 0, "append");
    need(store_event_read(&page, s, id, 0, STORE_PAGE_MAX, NULL) == 0, "read");
    ok(page.n > 60 && page.n < 70, "a page of about 4 MiB: %zu", page.n);
    store_event_page_fini(&page);
    for (int i = 0; i < STORE_EVENTS_KEPT / STORE_EVENT_BATCH_MAX; i++)
        need(store_event_append(&last, s, &lease, batch, STORE_EVENT_BATCH_MAX, NULL) == 0, "append");
    need(store_event_read(&page, s, id, 0, 1, NULL) == 0, "read");
    ok(page.n == 1 && page.items[0].seq == last - STORE_EVENTS_KEPT + 1, "the oldest went: %" PRId64 " of %" PRId64,
       page.items[0].seq, last);
    store_event_page_fini(&page);
    free(data);
    store_close(s);
}

/* A reader follows while another process writes: what it sees has no gap and no doublet. */
TEST(a_follower_misses_nothing) {
    enum { EVENTS = 400 };
    struct store *s = folder_open();
    int64_t id = small_job(s), after = 0, bad = 0;
    struct store_lease lease = claim(s, "w");
    store_close(s);
    pid_t child = fork();
    if (child == 0) {
        s = folder_open();
        int r = 0;
        for (int i = 0; !r && i < EVENTS / 4; i++) {
            const struct store_event_new four[] = {{"log", "1"}, {"log", "2"}, {"log", "3"}, {"log", "4"}};
            r = store_event_append(NULL, s, &lease, four, 4, NULL);
        }
        if (!r) r = store_lease_succeed(NULL, s, &lease, NULL, "{}", NULL);
        store_close(s);
        _exit(r != 0);
    }
    s = folder_open();
    for (bool end = false; !end;) {
        struct store_event_page page;
        need(store_event_read(&page, s, id, after, 7, NULL) == 0, "read");
        for (size_t i = 0; i < page.n; i++) {
            bad += page.items[i].seq != after + 1;
            after = page.items[i].seq;
            end = !strcmp(page.items[i].type, "end");
        }
        store_event_page_fini(&page);
    }
    ok(bad == 0 && after == EVENTS + 4, "%" PRId64 " gaps, %" PRId64 " events", bad, after);
    int status;
    waitpid(child, &status, 0);
    ok(status == 0, "the writer");
    store_close(s);
}

TEST(metrics_are_series_of_points) {
    struct store *s = folder_open();
    struct store_series_list list;
    struct store_point_page page;
    struct err e = {0};
    int64_t id = small_job(s);
    struct store_lease lease = claim(s, "w");
    const struct store_point_new points[] = {{"loss", {1, 0.5}},
                                             {"loss", {2, (double)NAN}},
                                             {"accuracy", {1, 0.1}},
                                             {"loss", {3, (double)INFINITY}},
                                             {"loss", {-1, 7}}};
    need(store_metric_append(s, &lease, points, 5, &e) == 0, "%s", e.text);
    ok(store_series_list(&list, s, id, &e) == 0 && list.n == 2 && !strcmp(list.names[0], "accuracy"), "series");
    store_series_list_fini(&list);
    need(store_metric_read(&page, s, id, "loss", INT64_MIN, 100, &e) == 0, "%s", e.text);
    ok(page.n == 4 && page.items[0].step == -1 && page.items[1].value == 0.5, "by step");
    ok(isnan(page.items[2].value) && isinf(page.items[3].value), "what is not finite comes back");
    store_point_page_fini(&page);
    const struct store_point_new again = {"loss", {2, 0.25}};
    ok(store_metric_append(s, &lease, &again, 1, &e) == 0, "a step again");
    ok(store_metric_read(&page, s, id, "loss", 1, 1, &e) == 0 && page.n == 1 && page.items[0].value == 0.25,
       "has the new value");
    store_point_page_fini(&page);
    ok(store_metric_read(&page, s, id, "none", INT64_MIN, 1, &e) == 0 && page.n == 0, "an unknown series is empty");
    store_point_page_fini(&page);
    store_close(s);
}

TEST(series_are_limited) {
    struct store *s = folder_open();
    struct store_lease lease;
    struct store_series_list list;
    char name[STORE_SERIES_SIZE + 1];
    int64_t id = small_job(s);
    lease = claim(s, "w");
    for (int i = 0; i < STORE_SERIES_MAX; i++) {
        snprintf(name, sizeof name, "s%d", i);
        need(store_metric_append(s, &lease, &(struct store_point_new){name, {1, 1}}, 1, NULL) == 0, "append");
    }
    ok(store_metric_append(s, &lease, &(struct store_point_new){"more", {1, 1}}, 1, NULL) == E_TOO_LARGE, "one more");
    ok(store_series_list(&list, s, id, NULL) == 0 && list.n == STORE_SERIES_MAX, "all");
    store_series_list_fini(&list);
    memset(name, 'a', sizeof name);
    name[STORE_SERIES_SIZE] = '\0';
    ok(store_metric_append(s, &lease, &(struct store_point_new){name, {1, 1}}, 1, NULL) == E_TOO_LARGE, "long name");
    ok(store_metric_append(s, &lease, &(struct store_point_new){"", {1, 1}}, 1, NULL) == E_INVALID, "no name");
    store_close(s);
}

TEST(cache_keeps_and_evicts) {
    struct store *s = folder_open();
    struct store_blob blob[3], got;
    struct store_gc_report report;
    struct err e = {0};
    static const char *const keys[] = {"a", "b", "c"};
    for (uint64_t i = 0; i < 3; i++) {
        blob[i] = small_blob(s, i);
        ok(store_cache_put(s, keys[i], &blob[i], &e) == 0, "put: %s", e.text);
        clock_now += 100000;
    }
    ok(store_cache_get(&got, s, "a", &e) == 0 && got.id == blob[0].id && got.size == 100, "get: %s", e.text);
    ok(store_cache_get(&got, s, "none", NULL) == E_NOT_FOUND && got.id == 0, "miss");
    clock_now += STORE_HOLD_MS + 1;
    const struct store_gc_options room_for_two = {.cache_max_bytes = 200},
                                  dry = {.cache_max_bytes = 0, .dry_run = true};
    ok(store_gc(&report, s, &dry, &e) == 0 && report.evicted == 3 && report.blobs == 3 && report.bytes == 300,
       "dry run");
    ok(store_gc(&report, s, &room_for_two, &e) == 0 && report.evicted == 1 && report.blobs == 1, "one too many");
    ok(store_cache_get(&got, s, "b", NULL) == E_NOT_FOUND, "b was not used for the longest time");
    ok(store_cache_get(&got, s, "a", NULL) == 0 && store_cache_get(&got, s, "c", NULL) == 0, "the others stay");
    ok(store_cache_put(s, "a", &blob[2], &e) == 0 && store_cache_get(&got, s, "a", NULL) == 0 && got.id == blob[2].id,
       "replaced");
    ok(store_cache_put(s, "x", &blob[1], NULL) == E_NOT_FOUND, "a blob that is gone");
    ok(store_cache_put(s, "", &blob[2], NULL) == E_INVALID, "no key");
    ok(store_cache_delete(s, "a", NULL) == 0 && store_cache_delete(s, "a", NULL) == 0, "delete");
    ok(store_cache_get(&got, s, "a", NULL) == E_NOT_FOUND, "deleted");
    store_close(s);
}

TEST_MAIN

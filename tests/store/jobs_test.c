#define TEST_SECONDS 20
#include "tests/store/folder.h"

#define HOUR ((int64_t)3600 * 1000)

/* The state of a job and its attempt, as one word: "running 2". */
static const char *state_of(struct store *s, int64_t id) {
    static char word[40];
    struct store_job job;
    word[0] = '\0';
    if (store_job_get(&job, s, id, NULL) == 0)
        snprintf(word, sizeof word, "%s %d", store_job_state_name(job.state), job.attempt);
    store_job_fini(&job);
    return word;
}

/* The states that the events of a job tell of, and whether their numbers have no gap: "queued running ... end". */
static const char *story_of(struct store *s, int64_t id) {
    static char story[400];
    struct store_event_page page;
    story[0] = '\0';
    if (store_event_read(&page, s, id, 0, STORE_PAGE_MAX, NULL) != 0) return "unreadable";
    for (size_t i = 0; i < page.n; i++) {
        char state[16] = "";
        const char *data = page.items[i].data;
        if (page.items[i].seq != (int64_t)i + 1) return "a gap";
        if (strcmp(page.items[i].type, "state") == 0) sscanf(data, "{\"state\":\"%15[a-z]", state);
        size_t at = strlen(story);
        snprintf(story + at, sizeof story - at, "%s%s", i ? " " : "", *state ? state : page.items[i].type);
    }
    store_event_page_fini(&page);
    return story;
}

#define STATE(id, want) ok(strcmp(state_of(s, id), want) == 0, "state is %s, not %s", state_of(s, id), want)
#define STORY(id, want) ok(strcmp(story_of(s, id), want) == 0, "story is %s, not %s", story_of(s, id), want)

TEST(state_names) {
    enum store_job_state state;
    for (int i = 0; i < STORE_JOB_STATE_COUNT; i++)
        ok(store_job_state_from_name(&state, store_job_state_name((enum store_job_state)i)) && (int)state == i, "%d",
           i);
    ok(!store_job_state_from_name(&state, "Queued"), "no such word");
    ok(store_job_state_final(STORE_JOB_CANCELLED) && !store_job_state_final(STORE_JOB_RUNNING), "final");
}

TEST(life_of_a_good_job) {
    struct store *s = folder_open();
    struct store_job job;
    struct store_lease lease;
    struct store_version v;
    struct err e = {0};
    bool found, cancel;
    int64_t inputs[] = {small_model(s, "teacher", 1).id, small_model(s, "other", 2).id}, read[STORE_JOB_INPUTS_MAX], id;
    size_t n;
    const struct store_job_new new_job = {
        .method = "distill", .spec = "{\"a\":1}", .inputs = inputs, .n_inputs = 2, .trace = "abc"};
    ok(store_lease_claim(&lease, &found, s, "w1", 1000, &e) == 0 && !found, "nothing to do yet");
    need(store_job_create(&id, NULL, s, &new_job, &e) == 0, "%s", e.text);
    STATE(id, "queued 0");
    ok(store_job_inputs(read, &n, s, id, NULL) == 0 && n == 2 && read[0] == inputs[0] && read[1] == inputs[1],
       "inputs");
    clock_now += 10;
    need(store_lease_claim(&lease, &found, s, "w1", 1000, &e) == 0 && found && lease.job == id && lease.attempt == 1,
         "%s", e.text);
    need(store_job_get(&job, s, id, &e) == 0, "%s", e.text);
    ok(job.state == STORE_JOB_RUNNING && !strcmp(job.owner, "w1") && job.lease_expires == clock_now + 1000, "lease");
    ok(job.created_at == clock_now - 10 && job.started_at == clock_now && job.finished_at == 0 &&
           job.heartbeat_at == clock_now,
       "times");
    ok(!strcmp(job.method, "distill") && !strcmp(job.spec, "{\"a\":1}") && !strcmp(job.trace, "abc") && !job.result &&
           !job.error,
       "texts");
    int64_t revision = job.revision;
    store_job_fini(&job);
    ok(store_lease_claim(&lease, &found, s, "w2", 1000, &e) == 0 && !found, "nobody else gets it");
    lease = (struct store_lease){.job = id, .token = 1};
    clock_now += 500;
    ok(store_lease_heartbeat(&cancel, s, &lease, 1000, &e) == 0 && !cancel, "heartbeat: %s", e.text);
    const struct store_progress half = {.step = 5, .steps = 10, .eta_s = 2.5};
    ok(store_lease_progress(s, &lease, &half, "{\"loss\":0.5}", &e) == 0, "progress: %s", e.text);
    ok(store_lease_progress(s, &lease, &(struct store_progress){.step = 6, .steps = 10, .eta_s = (double)NAN}, NULL,
                            &e) == 0,
       "progress");
    need(store_job_get(&job, s, id, &e) == 0, "%s", e.text);
    ok(job.progress.step == 6 && job.progress.steps == 10 && isnan(job.progress.eta_s) &&
           !strcmp(job.metrics, "{\"loss\":0.5}"),
       "progress");
    ok(job.lease_expires == clock_now + 1000 && job.revision > revision, "extended");
    store_job_fini(&job);
    const struct store_model_new output = {.name = "student", .blob = small_blob(s, 3)};
    need(store_lease_succeed(&v, s, &lease, &output, "{\"accuracy\":0.9}", &e) == 0, "%s", e.text);
    need(store_job_get(&job, s, id, &e) == 0, "%s", e.text);
    ok(job.state == STORE_JOB_SUCCEEDED && !strcmp(job.output_name, "student") && job.output_number == 1, "output");
    ok(digest_equal(&job.output_digest, &output.blob.digest) && !strcmp(job.result, "{\"accuracy\":0.9}"), "result");
    ok(job.finished_at == clock_now && !*job.owner && job.lease_expires == 0, "ended");
    store_job_fini(&job);
    ok(store_resolve(&v, s, STORE_MODEL, "student", &e) == 0 && v.job == id, "the model knows its job");
    ok(store_lease_heartbeat(&cancel, s, &lease, 1000, NULL) == E_LOST, "the lease ended");
    ok(store_job_cancel(NULL, s, id, NULL) == E_CONFLICT && store_job_retry(s, id, NULL) == E_CONFLICT,
       "what has succeeded stays so");
    STORY(id, "queued running succeeded end");
    store_close(s);
}

TEST(a_lost_worker_cannot_write) {
    struct store *s = folder_open();
    struct store_version v;
    int64_t n, id = small_job(s);
    bool cancel;
    struct store_lease old = claim(s, "w1");
    clock_now += 10000;
    ok(store_job_requeue(&n, s, NULL) == 0 && n == 0, "not yet");
    clock_now += 1;
    ok(store_job_requeue(&n, s, NULL) == 0 && n == 1, "now");
    STATE(id, "queued 1");
    struct store_lease fresh = claim(s, "w2");
    ok(fresh.job == id && fresh.token > old.token && fresh.attempt == 2, "a higher token");
    struct store_blob blob = small_blob(s, 1);
    const struct store_model_new output = {.name = "student", .blob = blob};
    const struct store_progress p = {0};
    const struct store_event_new event = {.type = "log", .data = "{}"};
    const struct store_point_new point = {.series = "loss"};
    ok(store_lease_heartbeat(&cancel, s, &old, 1000, NULL) == E_LOST, "heartbeat");
    ok(store_lease_progress(s, &old, &p, NULL, NULL) == E_LOST, "progress");
    ok(store_checkpoint_put(s, &old, 1, blob.id, NULL) == E_LOST, "checkpoint");
    ok(store_event_append(NULL, s, &old, &event, 1, NULL) == E_LOST, "event");
    ok(store_metric_append(s, &old, &point, 1, NULL) == E_LOST, "metric");
    ok(store_lease_succeed(NULL, s, &old, &output, "{}", NULL) == E_LOST, "succeed");
    ok(store_lease_fail(s, &old, "{}", NULL) == E_LOST, "fail");
    ok(store_lease_cancelled(s, &old, NULL) == E_LOST, "cancelled");
    ok(store_lease_release(s, &old, NULL) == E_LOST, "release");
    ok(store_resolve(&v, s, STORE_MODEL, "student", NULL) == E_NOT_FOUND, "nothing was published");
    STATE(id, "running 2");
    ok(store_lease_succeed(&v, s, &fresh, &output, "{}", NULL) == 0, "the other one can");
    STORY(id, "queued running queued running succeeded end");
    store_close(s);
}

TEST(a_job_may_not_kill_workers_for_ever) {
    struct store *s = folder_open();
    struct store_job job;
    int64_t n, id = small_job(s);
    for (int i = 1; i <= STORE_JOB_ATTEMPTS; i++) {
        ok(claim(s, "w").attempt == i, "attempt %d", i);
        clock_now += HOUR;
        ok(store_job_requeue(&n, s, NULL) == 0 && n == 1, "requeue");
    }
    STATE(id, "failed 3");
    ok(store_job_get(&job, s, id, NULL) == 0 && job.error && strstr(job.error, "worker-lost"), "the error says why");
    store_job_fini(&job);
    ok(store_job_retry(s, id, NULL) == 0, "but it may be tried again");
    STATE(id, "queued 0");
    ok(claim(s, "w").attempt == 1, "with all its attempts");
    ok(store_job_get(&job, s, id, NULL) == 0 && !job.error && job.finished_at == 0, "and without its error");
    store_job_fini(&job);
    store_close(s);
}

TEST(cancelling) {
    struct store *s = folder_open();
    enum store_job_state state;
    struct err e = {0};
    bool cancel;
    int64_t n, queued = small_job(s);
    ok(store_job_cancel(&state, s, queued, &e) == 0 && state == STORE_JOB_CANCELLED, "queued: at once");
    ok(store_job_cancel(&state, s, queued, &e) == 0 && state == STORE_JOB_CANCELLED, "twice");
    STORY(queued, "queued cancelled end");
    int64_t running = small_job(s);
    struct store_lease lease = claim(s, "w");
    ok(store_job_cancel(&state, s, running, &e) == 0 && state == STORE_JOB_RUNNING, "running: asked");
    ok(store_lease_heartbeat(&cancel, s, &lease, 1000, &e) == 0 && cancel, "the worker learns it");
    ok(store_lease_cancelled(s, &lease, &e) == 0, "%s", e.text);
    STATE(running, "cancelled 1");
    ok(store_job_retry(s, running, &e) == 0, "and again");
    lease = claim(s, "w");
    ok(store_lease_heartbeat(&cancel, s, &lease, 1000, &e) == 0 && !cancel, "the request is forgotten");
    ok(store_job_cancel(NULL, s, running, &e) == 0, "asked once more");
    clock_now += HOUR;
    ok(store_job_requeue(&n, s, &e) == 0 && n == 1, "the worker died before it heard");
    STATE(running, "cancelled 1");
    ok(store_job_cancel(NULL, s, 99, NULL) == E_NOT_FOUND && store_job_retry(s, 99, NULL) == E_NOT_FOUND,
       "no such job");
    store_close(s);
}

TEST(releasing_counts_no_attempt) {
    struct store *s = folder_open();
    int64_t id = small_job(s);
    struct store_lease lease = claim(s, "w");
    ok(store_lease_release(s, &lease, NULL) == 0, "release");
    STATE(id, "queued 0");
    lease = claim(s, "w");
    ok(lease.attempt == 1 && lease.token == 2, "the token goes on");
    store_job_cancel(NULL, s, id, NULL);
    ok(store_lease_release(s, &lease, NULL) == 0, "release");
    STATE(id, "cancelled 1");
    store_close(s);
}

TEST(oldest_first_and_each_once) {
    struct store *s = folder_open();
    int64_t a = small_job(s), b = small_job(s);
    ok(claim(s, "w").job == a && claim(s, "w").job == b, "in order");
    store_close(s);
}

TEST(idempotency) {
    struct store *s = folder_open();
    struct err e = {0};
    int64_t first, again;
    bool replayed;
    struct store_job_new job = {.method = "distill",
                                .spec = "{}",
                                .idempotency_key = "k1",
                                .principal = "ann",
                                .fingerprint = digest_of("a", 1)};
    ok(store_job_create(&first, &replayed, s, &job, &e) == 0 && !replayed, "first: %s", e.text);
    ok(store_job_create(&again, &replayed, s, &job, &e) == 0 && replayed && again == first, "replay: %s", e.text);
    job.fingerprint = digest_of("b", 1);
    ok(store_job_create(&again, &replayed, s, &job, &e) == E_INVALID && !replayed && again == 0, "another request: %s",
       e.text);
    job.principal = NULL;
    ok(store_job_create(&again, &replayed, s, &job, &e) == 0 && !replayed && again != first, "somebody else's key");
    job.principal = "ann";
    clock_now += STORE_IDEMPOTENCY_MS;
    ok(store_job_create(&again, &replayed, s, &job, &e) == 0 && !replayed && again != first, "a day later");
    job.fingerprint = digest_of("b", 1);
    ok(store_job_create(&first, &replayed, s, &job, &e) == 0 && replayed && again == first,
       "that one is remembered now");
    job.idempotency_key = "";
    ok(store_job_create(&again, &replayed, s, &job, NULL) == E_INVALID, "an empty key");
    store_close(s);
}

TEST(limits_of_a_new_job) {
    struct store *s = folder_open();
    int64_t id;
    char *spec = malloc(STORE_JOB_SPEC_MAX + 2);
    memset(spec, ' ', STORE_JOB_SPEC_MAX + 1);
    spec[STORE_JOB_SPEC_MAX] = '\0';
    struct store_job_new job = {.method = "distill", .spec = spec};
    ok(store_job_create(&id, NULL, s, &job, NULL) == 0, "a megabyte");
    spec[STORE_JOB_SPEC_MAX] = ' ';
    spec[STORE_JOB_SPEC_MAX + 1] = '\0';
    ok(store_job_create(&id, NULL, s, &job, NULL) == E_TOO_LARGE, "and a byte");
    job.spec = "{}";
    job.method = "";
    ok(store_job_create(&id, NULL, s, &job, NULL) == E_INVALID, "no method");
    job.method = "distill";
    job.max_queued = 2;
    ok(store_job_create(&id, NULL, s, &job, NULL) == 0, "two queued");
    ok(store_job_create(&id, NULL, s, &job, NULL) == E_BUSY, "the queue is full");
    free(spec);
    store_close(s);
}

TEST(lists_filter_and_page) {
    struct store *s = folder_open();
    struct store_job_page page;
    struct store_job_query q = {.state = -1, .limit = 4};
    for (int i = 0; i < 10; i++) {
        int64_t id;
        const struct store_job_new job = {.method = i % 2 ? "morph" : "distill", .spec = "{}"};
        need(store_job_create(&id, NULL, s, &job, NULL) == 0, "create");
    }
    claim(s, "w");
    int seen = 0;
    do {
        need(store_job_list(&page, s, &q, NULL) == 0, "list");
        for (size_t i = 0; i < page.n; i++) ok(page.items[i].id == 10 - seen++ && !page.items[i].spec, "newest first");
        q.after = page.next;
        store_job_page_fini(&page);
    } while (q.after);
    ok(seen == 10, "%d", seen);
#define COUNT(want, ...) \
    q = (struct store_job_query){__VA_ARGS__, .limit = 100}; \
    ok(store_job_list(&page, s, &q, NULL) == 0 && page.n == (want), "%zu, not " #want, page.n); \
    store_job_page_fini(&page)
    COUNT(1, .state = STORE_JOB_RUNNING);
    COUNT(9, .state = STORE_JOB_QUEUED);
    COUNT(5, .state = -1, .method = "morph");
    COUNT(4, .state = STORE_JOB_QUEUED, .method = "distill");
    COUNT(0, .state = -1, .method = "none");
    enum store_job_state state;
    int64_t last;
    ok(store_job_peek(&state, &last, s, 1, NULL) == 0 && state == STORE_JOB_RUNNING && last == 2, "peek");
    ok(store_job_peek(&state, &last, s, 99, NULL) == E_NOT_FOUND, "peek at nothing");
    struct store_job job;
    ok(store_job_get(&job, s, 99, NULL) == E_NOT_FOUND, "get of nothing");
    store_close(s);
}

TEST(checkpoints) {
    struct store *s = folder_open();
    struct store_checkpoint c;
    struct store_gc_report report;
    const struct store_gc_options all = {.cache_max_bytes = -1};
    struct err e = {0};
    int64_t id = small_job(s);
    struct store_lease lease = claim(s, "w");
    ok(store_checkpoint_get(&c, s, id, 0, NULL) == E_NOT_FOUND, "none yet");
    for (uint64_t i = 1; i <= 4; i++)
        ok(store_checkpoint_put(s, &lease, (int64_t)i * 10, small_blob(s, i).id, &e) == 0, "put: %s", e.text);
    ok(store_checkpoint_get(&c, s, id, 0, &e) == 0 && c.step == 40 && c.blob.size == 100, "newest");
    ok(store_checkpoint_get(&c, s, id, 1, &e) == 0 && c.step == 30, "the one before");
    ok(store_checkpoint_get(&c, s, id, 2, NULL) == E_NOT_FOUND, "no more");
    clock_now += STORE_HOLD_MS + 1;
    ok(store_gc(&report, s, &all, &e) == 0 && report.blobs == 2, "the older blobs are free: %" PRId64, report.blobs);
    ok(store_checkpoint_put(s, &lease, 50, 99, NULL) == E_NOT_FOUND, "no such blob");
    ok(store_lease_fail(s, &lease, "{}", &e) == 0 && store_checkpoint_get(&c, s, id, 0, &e) == 0 && c.step == 40,
       "one outlives a failure");
    ok(store_checkpoint_get(&c, s, id, 1, NULL) == E_NOT_FOUND, "only one");
    ok(store_job_retry(s, id, &e) == 0, "so that a retry goes on from it");
    lease = claim(s, "w");
    ok(store_checkpoint_get(&c, s, id, 0, &e) == 0, "it is there");
    ok(store_lease_fail(s, &lease, "{}", &e) == 0, "failed again");
    clock_now += STORE_CHECKPOINT_MS + 1;
    ok(store_gc(&report, s, &all, &e) == 0 && store_checkpoint_get(&c, s, id, 0, NULL) == E_NOT_FOUND,
       "after a week it goes");
    ok(store_job_retry(s, id, &e) == 0, "retry");
    lease = claim(s, "w");
    ok(store_checkpoint_put(s, &lease, 1, small_blob(s, 9).id, &e) == 0, "put");
    ok(store_lease_succeed(NULL, s, &lease, NULL, "{}", &e) == 0, "a job may succeed without a model: %s", e.text);
    ok(store_checkpoint_get(&c, s, id, 0, NULL) == E_NOT_FOUND, "what has succeeded needs none");
    store_close(s);
}

TEST(publishing_is_all_or_nothing) {
    struct store *s = folder_open();
    struct store_version v;
    int64_t id = small_job(s);
    struct store_lease lease = claim(s, "w");
    struct store_model_new output = {.name = "Bad Name", .blob = small_blob(s, 1)};
    ok(store_lease_succeed(&v, s, &lease, &output, "{}", NULL) == E_INVALID && v.id == 0, "bad name");
    output.name = "student";
    output.blob.id = 99;
    ok(store_lease_succeed(&v, s, &lease, &output, "{}", NULL) == E_NOT_FOUND, "no blob");
    STATE(id, "running 1");
    ok(store_resolve(&v, s, STORE_MODEL, "student", NULL) == E_NOT_FOUND, "no model");
    output.blob = small_blob(s, 1);
    small_model(s, "student", 1);
    ok(store_lease_succeed(&v, s, &lease, &output, "{}", NULL) == 0 && v.number == 1,
       "the same bytes are that version");
    store_close(s);
}

/* Several processes take jobs from one queue: each job is run once. */
TEST(no_job_is_claimed_twice) {
    enum { JOBS = 60, WORKERS = 4 };
    struct store *s = folder_open();
    for (int i = 0; i < JOBS; i++) small_job(s);
    store_close(s);
    pid_t child[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        child[i] = fork();
        if (child[i]) continue;
        bool found = true;
        struct store_lease lease;
        char owner[16];
        snprintf(owner, sizeof owner, "w%d", i);
        s = folder_open();
        int claimed = 0, r = 0;
        while (!r && found) {
            r = store_lease_claim(&lease, &found, s, owner, 60000, NULL);
            if (r || !found) break;
            r = store_event_append(NULL, s, &lease, &(struct store_event_new){.type = "log", .data = "{}"}, 1, NULL);
            claimed++;
        }
        store_close(s);
        _exit(r ? 255 : claimed);
    }
    int sum = 0;
    for (int i = 0; i < WORKERS; i++) {
        int status;
        waitpid(child[i], &status, 0);
        ok(WIFEXITED(status) && WEXITSTATUS(status) != 255, "worker %d", i);
        sum += WEXITSTATUS(status);
    }
    ok(sum == JOBS, "%d claims", sum);
    s = folder_open();
    for (int64_t id = 1; id <= JOBS; id++) STORY(id, "queued running log");
    store_close(s);
}

TEST_MAIN

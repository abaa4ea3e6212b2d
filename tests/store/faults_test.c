/* faults_test.c - every operation with its nth allocation failing, and with its nth call to the file system
 * failing, for each n. The answer must be right or an error; nothing leaks; and when the files are opened again
 * without faults they are whole and hold what the answer said: the new state after success, else the old one. */
#define TEST_SECONDS 300
#include "tests/store/folder.h"
#include "tests/store/shim.h"

static char from_folder[80], trial_folder[80];

static int open_at(struct store **s, const char *path) {
    const struct store_options options = {.folder = path, .now_ms = clock_read};
    return store_open(s, &options, NULL);
}

/* ---- the state that every trial starts from ---- */

static struct store_lease lease = {.job = 1, .token = 1, .attempt = 1};
static struct store_blob spare, garbage; /* spare: unnamed but held */
enum { GARBAGE_SIZE = 70000, FRESH_SIZE = (2 << 20) + 70000 };

static void prepare(void) {
    struct store *s;
    struct store_alias alias;
    char *bytes = calloc(1, GARBAGE_SIZE);
    folder_make();
    snprintf(from_folder, sizeof from_folder, "%s/from", folder);
    snprintf(trial_folder, sizeof trial_folder, "%s/trial", folder);
    if (!ok(open_at(&s, from_folder) == 0, "prepare")) exit(1);
    store_blob_put(&garbage, s, bytes, GARBAGE_SIZE, NULL);
    clock_now += STORE_HOLD_MS + 1;
    free(bytes);
    struct store_version made;
    const struct store_model_new first = {.name = "net",
                                          .blob = small_blob(s, 1),
                                          .parameters = 7,
                                          .operators = "{}",
                                          .metrics = "{}",
                                          .memory = small_blob(s, 5),
                                          .training = "{}"};
    ok(store_model_put(&made, NULL, s, &first, NULL) == 0, "model");
    small_model(s, "net", 2);
    store_alias_set(&alias, s, STORE_MODEL, "net", "best", 1, 0, NULL, NULL);
    int64_t a = small_job(s), b = small_job(s), c = small_job(s);
    ok(a == 1 && claim(s, "w").job == a && b == 2, "jobs");
    struct store_lease failed = claim(s, "w");
    store_lease_fail(s, &failed, "{}", NULL);
    ok(c == 3, "the third stays queued");
    store_checkpoint_put(s, &lease, 1, small_blob(s, 3).id, NULL);
    spare = small_blob(s, 4);
    store_cache_put(s, "key", &spare, NULL);
    const struct store_array array = {
        .name = "x", .dtype = "uint8", .rank = 2, .shape = {2, 50}, .bytes = 100, .blob = spare.id};
    store_dataset_put(&made, NULL, s, "rest", &array, 1, NULL);
    const struct store_point_new point = {"m", {1, 2}};
    store_metric_append(s, &lease, &point, 1, NULL);
    const struct store_tags tags = {.tag = {"small"}, .n = 1};
    store_tags_set(s, STORE_MODEL, "net", &tags, NULL);
    store_close(s);
}

static void copy_file(const char *from, const char *to, const char *name) {
    char path[120];
    snprintf(path, sizeof path, "%s/%s", from, name);
    FILE *in = fopen(path, "rb");
    snprintf(path, sizeof path, "%s/%s", to, name);
    remove(path);
    FILE *out = in ? fopen(path, "wb") : NULL;
    static char buffer[1 << 16];
    for (size_t n; out && (n = fread(buffer, 1, sizeof buffer, in)) > 0;) fwrite(buffer, 1, n, out);
    if (in) fclose(in);
    if (out) fclose(out);
}

static void restore(void) {
    static const char *const names[] = {"retort.db", "retort.db-wal", "retort.db-shm",
                                        "blobs.db",  "blobs.db-wal",  "blobs.db-shm"};
    mkdir(trial_folder, 0700);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) copy_file(from_folder, trial_folder, names[i]);
}

/* ---- operations: what they do, and how one sees afterwards that it was done ---- */

static const char *job_word(struct store *s, int64_t id) {
    enum store_job_state state;
    int64_t last;
    return store_job_peek(&state, &last, s, id, NULL) == 0 ? store_job_state_name(state) : "none";
}

static bool resolves(struct store *s, enum store_kind kind, const char *reference) {
    struct store_version v;
    return store_resolve(&v, s, kind, reference, NULL) == 0;
}

static int64_t last_event(struct store *s) {
    enum store_job_state state;
    int64_t last = 0;
    store_job_peek(&state, &last, s, 1, NULL);
    return last;
}

static int do_blob(struct store *s) {
    struct store_blob blob;
    struct store_writer *w;
    char *bytes = malloc(FRESH_SIZE);
    memset(bytes, 7, FRESH_SIZE);
    int r = store_writer_open(&w, s, STORE_BLOB_MAX, NULL);
    if (!r) {
        /* The first chunk is collected, the second is not, the third belongs to the finish. */
        r = store_writer_add(w, bytes, 1000, NULL);
        if (!r) r = store_writer_add(w, bytes, FRESH_SIZE - 1000, NULL);
        if (!r)
            r = store_writer_finish(&blob, NULL, w, NULL, NULL);
        else
            store_writer_abandon(w);
    }
    free(bytes);
    return r;
}

static bool did_blob(struct store *s) {
    struct store_blob blob;
    static struct digest want;
    static bool known;
    if (!known) {
        char *bytes = malloc(FRESH_SIZE);
        memset(bytes, 7, FRESH_SIZE);
        want = digest_of(bytes, FRESH_SIZE);
        known = true;
        free(bytes);
    }
    return store_blob_find(&blob, s, &want, NULL) == 0 && store_blob_verify(s, blob.id, NULL) == 0;
}

static int do_model(struct store *s) {
    struct store_version v;
    const struct store_model_new m = {.name = "new", .blob = spare, .operators = "{}"};
    return store_model_put(&v, NULL, s, &m, NULL);
}

static bool did_model(struct store *s) {
    struct store_model m;
    bool did = store_model_get(&m, s, "new", NULL) == 0 && m.blob == spare.id && m.operators;
    store_model_fini(&m);
    return did;
}

static int do_dataset(struct store *s) {
    struct store_version v;
    const struct store_array a = {.name = "x", .dtype = "uint8", .bytes = 100, .blob = spare.id};
    return store_dataset_put(&v, NULL, s, "set", &a, 1, NULL);
}

static bool did_dataset(struct store *s) {
    struct store_dataset d;
    bool did = store_dataset_get(&d, s, "set", NULL) == 0 && d.n == 1;
    store_dataset_fini(&d);
    return did;
}

static int do_alias(struct store *s) {
    struct store_alias a;
    return store_alias_set(&a, s, STORE_MODEL, "net", "best", 2, STORE_REVISION_ANY, "me", NULL);
}

static bool did_alias(struct store *s) {
    struct store_version v;
    struct store_move_page h;
    bool did = store_resolve(&v, s, STORE_MODEL, "net@best", NULL) == 0 && v.number == 2;
    ok(store_alias_history(&h, s, STORE_MODEL, "net", "best", 0, 10, NULL) == 0 && h.n == (did ? 2 : 1),
       "alias and history agree");
    store_move_page_fini(&h);
    return did;
}

static int do_delete(struct store *s) {
    return store_delete(NULL, s, STORE_MODEL, "net@1", NULL);
}

static bool did_delete(struct store *s) {
    bool did = !resolves(s, STORE_MODEL, "net@1");
    ok(did == !resolves(s, STORE_MODEL, "net@best"), "version and alias agree");
    return did;
}

static int do_create(struct store *s) {
    int64_t id;
    const struct store_job_new job = {
        .method = "morph", .spec = "{}", .idempotency_key = "k", .inputs = (int64_t[]){1}, .n_inputs = 1};
    return store_job_create(&id, NULL, s, &job, NULL);
}

static bool did_create(struct store *s) {
    return !strcmp(job_word(s, 4), "queued");
}

static int do_claim(struct store *s) {
    struct store_lease mine;
    bool found;
    int r = store_lease_claim(&mine, &found, s, "w", 1000, NULL);
    ok(r != 0 || (found && mine.job == 3 && mine.token == 1), "claim of the third");
    return r;
}

static bool did_claim(struct store *s) {
    return !strcmp(job_word(s, 3), "running");
}

static int do_heartbeat(struct store *s) {
    bool cancel;
    return store_lease_heartbeat(&cancel, s, &lease, 777777, NULL);
}

static bool did_heartbeat(struct store *s) {
    struct store_job job;
    bool did = store_job_get(&job, s, 1, NULL) == 0 && job.lease_expires == clock_now + 777777;
    store_job_fini(&job);
    return did;
}

static int do_progress(struct store *s) {
    const struct store_progress p = {.step = 9, .steps = 10};
    return store_lease_progress(s, &lease, &p, "{\"loss\":1}", NULL);
}

static bool did_progress(struct store *s) {
    struct store_job job;
    bool did = store_job_get(&job, s, 1, NULL) == 0 && job.progress.step == 9 && job.metrics;
    store_job_fini(&job);
    return did;
}

static int do_events(struct store *s) {
    const struct store_event_new events[] = {{"log", "{}"}, {"log", "{}"}, {"log", "{}"}};
    return store_event_append(NULL, s, &lease, events, 3, NULL);
}

static bool did_events(struct store *s) {
    int64_t last = last_event(s);
    ok(last == 2 || last == 5, "all or none: %" PRId64, last);
    return last == 5;
}

static int do_metrics(struct store *s) {
    const struct store_point_new points[] = {{"a", {1, 1}}, {"b", {1, 1}}, {"b", {2, 2}}};
    return store_metric_append(s, &lease, points, 3, NULL);
}

static bool did_metrics(struct store *s) {
    struct store_point_page page;
    bool did = store_metric_read(&page, s, 1, "b", 0, 10, NULL) == 0 && page.n == 2;
    store_point_page_fini(&page);
    return did;
}

static int do_checkpoint(struct store *s) {
    return store_checkpoint_put(s, &lease, 2, spare.id, NULL);
}

static bool did_checkpoint(struct store *s) {
    struct store_checkpoint c;
    return store_checkpoint_get(&c, s, 1, 0, NULL) == 0 && c.step == 2;
}

static int do_succeed(struct store *s) {
    const struct store_model_new output = {.name = "student", .blob = spare, .memory = spare, .training = "{}"};
    return store_lease_succeed(NULL, s, &lease, &output, "{}", NULL);
}

static bool did_succeed(struct store *s) {
    bool did = !strcmp(job_word(s, 1), "succeeded");
    struct store_model m;
    bool published = store_model_get(&m, s, "student", NULL) == 0;
    ok(did == published && did == (m.memory == spare.id) && did == (m.training != NULL), "job and model agree");
    store_model_fini(&m);
    ok(last_event(s) == (did ? 4 : 2), "and so do the events");
    return did;
}

static int do_fail(struct store *s) {
    return store_lease_fail(s, &lease, "{\"title\":\"x\"}", NULL);
}

static bool did_fail(struct store *s) {
    return !strcmp(job_word(s, 1), "failed");
}

static int do_cancel(struct store *s) {
    return store_job_cancel(NULL, s, 3, NULL);
}

static bool did_cancel(struct store *s) {
    return !strcmp(job_word(s, 3), "cancelled");
}

static int do_retry(struct store *s) {
    return store_job_retry(s, 2, NULL);
}

static bool did_retry(struct store *s) {
    return !strcmp(job_word(s, 2), "queued");
}

static int do_requeue(struct store *s) {
    int64_t n;
    clock_now += 1000000;
    int r = store_job_requeue(&n, s, NULL);
    clock_now -= 1000000;
    ok(r != 0 || n == 1, "one");
    return r;
}

static bool did_requeue(struct store *s) {
    return !strcmp(job_word(s, 1), "queued");
}

static int do_cache(struct store *s) {
    struct store_blob blob = {.id = 2};
    return store_cache_put(s, "other", &blob, NULL);
}

static bool did_cache(struct store *s) {
    struct store_blob blob;
    return store_cache_get(&blob, s, "other", NULL) == 0;
}

static int do_gc(struct store *s) {
    struct store_gc_report report;
    const struct store_gc_options options = {.cache_max_bytes = -1};
    return store_gc(&report, s, &options, NULL);
}

static bool did_gc(struct store *s) {
    struct store_blob blob;
    return store_blob_get(&blob, s, garbage.id, NULL) == E_NOT_FOUND;
}

/* Reads: success must give the right values. */
static int do_read(struct store *s) {
    struct store_name_page names = {0};
    struct store_job_page jobs = {0};
    struct store_event_page events = {0};
    struct store_model model = {0};
    struct store_blob blob;
    struct store_checkpoint c;
    struct store_stats stats;
    char bytes[100];
    const struct store_name_query nq = {.limit = 10};
    const struct store_job_query jq = {.state = -1, .limit = 10};
    int r = store_name_list(&names, s, STORE_MODEL, &nq, NULL);
    ok(r ? !names.items : names.n == 1 && names.items[0].versions == 2, "names");
    if (!r) r = store_job_list(&jobs, s, &jq, NULL);
    ok(r ? !jobs.items : jobs.n == 3 && jobs.items[1].error, "jobs");
    if (!r) r = store_event_read(&events, s, 1, 0, 10, NULL);
    ok(r ? !events.items : events.n == 2, "events");
    if (!r) r = store_model_get(&model, s, "net@best", NULL);
    ok(r ? !model.version.id : model.parameters == 7, "model");
    if (!r) r = store_blob_read(bytes, sizeof bytes, s, model.blob, 0, NULL);
    ok(r || pattern_is(bytes, sizeof bytes, 1, 0), "bytes");
    if (!r) r = store_cache_get(&blob, s, "key", NULL);
    ok(r || blob.id == spare.id, "cache");
    if (!r) r = store_checkpoint_get(&c, s, 1, 0, NULL);
    ok(r || c.step == 1, "checkpoint");
    if (!r) r = store_stats_read(&stats, s, NULL);
    ok(r || stats.versions == 3, "stats");
    if (!r) r = store_ready(s, NULL);
    if (!r) r = store_verify(s, NULL);
    store_name_page_fini(&names);
    store_job_page_fini(&jobs);
    store_event_page_fini(&events);
    store_model_fini(&model);
    return r;
}

/* The other reads. */
static int do_read_more(struct store *s) {
    struct store_version_page versions = {0};
    struct store_alias_page aliases = {0};
    struct store_move_page moves = {0};
    struct store_model model = {0};
    struct store_job job = {0};
    struct store_series_list series = {0};
    struct store_point_page points = {0};
    struct store_dataset set = {0};
    struct store_name name;
    struct store_tags tags;
    int64_t inputs[STORE_JOB_INPUTS_MAX], changes;
    size_t n;
    int r = store_version_list(&versions, s, STORE_MODEL, "net", 0, 10, NULL);
    ok(r ? !versions.items : versions.n == 2, "versions");
    if (!r) r = store_alias_list(&aliases, s, STORE_MODEL, "net", NULL);
    ok(r ? !aliases.items : aliases.n == 1, "aliases");
    if (!r) r = store_alias_history(&moves, s, STORE_MODEL, "net", "best", 0, 10, NULL);
    ok(r ? !moves.items : moves.n == 1, "moves");
    if (!r) r = store_model_read(&model, s, 1, NULL);
    ok(r ? !model.version.id : model.operators && model.version.number == 1, "model");
    if (!r) r = store_job_get(&job, s, 1, NULL);
    ok(r ? !job.id : job.spec && job.state == STORE_JOB_RUNNING, "job");
    if (!r) r = store_series_list(&series, s, 1, NULL);
    ok(r ? !series.names : series.n == 1, "series");
    if (!r) r = store_metric_read(&points, s, 1, "m", 0, 10, NULL);
    ok(r ? !points.items : points.n == 1 && points.items[0].value == 2, "points");
    if (!r) r = store_dataset_read(&set, s, 3, NULL);
    ok(r ? !set.arrays : set.n == 1 && set.arrays[0].shape[1] == 50, "data set");
    if (!r) r = store_name_get(&name, s, STORE_MODEL, "net", NULL);
    ok(r || name.versions == 2, "name");
    if (!r) r = store_tags_get(&tags, s, STORE_MODEL, "net", NULL);
    ok(r || tags.n == 1, "tags");
    if (!r) r = store_job_inputs(inputs, &n, s, 1, NULL);
    if (!r) r = store_changes(&changes, s, NULL);
    if (!r) r = store_blob_hold(s, spare.id, 1000, NULL);
    store_version_page_fini(&versions);
    store_alias_page_fini(&aliases);
    store_move_page_fini(&moves);
    store_model_fini(&model);
    store_job_fini(&job);
    store_series_list_fini(&series);
    store_point_page_fini(&points);
    store_dataset_fini(&set);
    return r;
}

/* A folder of its own, from nothing: files, settings, migrations. */
static int do_open(struct store *s) {
    char path[100];
    struct store *fresh;
    (void)s;
    snprintf(path, sizeof path, "%s/fresh", trial_folder);
    nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    int r = open_at(&fresh, path);
    ok(r ? !fresh : fresh != NULL, "open");
    store_close(fresh);
    return r;
}

static bool did_open(struct store *s) {
    char path[100];
    struct store *fresh;
    (void)s;
    snprintf(path, sizeof path, "%s/fresh", trial_folder);
    int r = open_at(&fresh, path);
    ok(r == 0 && store_verify(fresh, NULL) == 0, "what failed once can be opened later");
    store_close(fresh);
    return r == 0;
}

struct operation {
    const char *name;
    int (*run)(struct store *s);
    bool (*done)(struct store *s); /* NULL: changes nothing */
    bool partial;                  /* may have been done although it failed */
};

static const struct operation operations[] = {
    {"blob", do_blob, did_blob, false},
    {"model", do_model, did_model, false},
    {"dataset", do_dataset, did_dataset, false},
    {"alias", do_alias, did_alias, false},
    {"delete", do_delete, did_delete, false},
    {"create", do_create, did_create, false},
    {"claim", do_claim, did_claim, false},
    {"heartbeat", do_heartbeat, did_heartbeat, false},
    {"progress", do_progress, did_progress, false},
    {"events", do_events, did_events, false},
    {"metrics", do_metrics, did_metrics, false},
    {"checkpoint", do_checkpoint, did_checkpoint, false},
    {"succeed", do_succeed, did_succeed, false},
    {"fail", do_fail, did_fail, false},
    {"cancel", do_cancel, did_cancel, false},
    {"retry", do_retry, did_retry, false},
    {"requeue", do_requeue, did_requeue, false},
    {"cache", do_cache, did_cache, false},
    {"gc", do_gc, did_gc, true},
    {"read", do_read, NULL, false},
    {"read more", do_read_more, NULL, false},
    {"open", do_open, did_open, true},
};

/* ---- trials ---- */

static long trials;
static bool fresh; /* the trial folder is as it was prepared */

static struct store *trial_open(void) {
    struct store *s;
    if (!fresh) restore();
    fresh = true;
    if (!ok(open_at(&s, trial_folder) == 0, "open")) exit(1);
    return s;
}

/* Opens the files without faults: they are whole, and the answer was true. */
static void check_truth(const struct operation *op, int answer, bool excused, const char *what, unsigned long n) {
    struct store *s;
    struct err e = {0};
    trials++;
    if (!op->done) return;
    if (!ok(open_at(&s, trial_folder) == 0, "%s: %s %lu: cannot be opened any more", op->name, what, n)) return;
    ok(store_verify(s, &e) == 0, "%s: %s %lu: %s", op->name, what, n, e.text);
    bool done = op->done(s);
    bool lie = answer == 0 ? !done : done && !op->partial && !excused;
    ok(!lie, "%s: %s %lu: it answered %d and was %s", op->name, what, n, answer, done ? "done" : "not done");
    fresh = !done && !op->partial && answer != 0;
    store_close(s);
}

/* Every call that comes first, and some of the others; all of them with TEST_THOROUGH in the environment. */
static unsigned long next_call(const struct operation *op, unsigned long n, unsigned long stride) {
    return n + (n < 20 || !op->done || getenv("TEST_THOROUGH") ? 1 : stride);
}

static void starve(const struct operation *op, bool for_good) {
    bool reached = true, warm = !op->done && !getenv("TEST_THOROUGH");
    fresh = false;
    for (unsigned long n = 1; reached; n = next_call(op, n, 101)) {
        int64_t live = mem_live();
        struct store *s = trial_open();
        if (warm) op->run(s); /* its statements are prepared: what is left is mostly ours */
        uint64_t calls = mem_calls();
        mem_fail_at(n, for_good);
        int r = op->run(s);
        mem_fail_at(0, false);
        reached = mem_calls() - calls >= n;
        ok(r == 0 || (reached && r == E_NOMEM), "%s: starved at %lu: %d", op->name, n, r);
        store_close(s);
        ok(mem_live() == live, "%s: starved at %lu: %" PRId64 " blocks leaked", op->name, n, mem_live() - live);
        check_truth(op, r, false, "starved at", n);
    }
}

static void trip(const struct operation *op, enum shim_fault fault, bool for_good) {
    bool reached = true;
    fresh = false;
    for (unsigned long n = 1; reached; n = next_call(op, n, 13)) {
        struct store *s = trial_open();
        shim_fail((long)n, for_good, fault);
        int r = op->run(s);
        reached = shim.calls >= (long)n;
        store_close(s);
        /* A commit whose sync failed may be found in the log all the same: nobody can know. */
        bool excused = shim.failed_sync && for_good;
        shim_fail(0, false, fault);
        ok(r == 0 || (reached && r == E_IO), "%s: call %lu failing: %d", op->name, n, r);
        check_truth(op, r, excused, "call", n);
    }
}

static void start(void) {
    prepare();
    restore();
    if (!ok(shim_install(), "the shim")) exit(1);
    shim.no_sync = true;
}

TEST(operations_starved_once) {
    start();
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) starve(&operations[i], false);
    printf("# %ld trials\n", trials);
}

TEST(operations_starved_for_good) {
    start();
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) starve(&operations[i], true);
    printf("# %ld trials\n", trials);
}

TEST(operations_with_io_errors) {
    start();
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        for (int for_good = 0; for_good <= 1; for_good++) trip(&operations[i], SHIM_IO_ERROR, for_good);
    printf("# %ld trials\n", trials);
}

TEST(operations_on_a_full_disk) {
    start();
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        for (int for_good = 0; for_good <= 1; for_good++) trip(&operations[i], SHIM_DISK_FULL, for_good);
    printf("# %ld trials\n", trials);
}

/* The id of a row that was rolled back is the next writer's: who failed must not drop that. */
TEST(failed_upload_leaves_the_next_one_alone) {
    char *bytes = calloc(1, 1 << 20);
    start();
    fresh = false;
    for (long n = 1; n < 200; n++) {
        struct store *s = trial_open();
        struct store_writer *failed, *next;
        struct store_blob blob;
        fresh = false;
        if (store_writer_open(&failed, s, STORE_BLOB_MAX, NULL) || store_writer_open(&next, s, STORE_BLOB_MAX, NULL))
            break;
        shim_fail(n, false, SHIM_DISK_FULL);
        int r = store_writer_add(failed, bytes, 1 << 20, NULL);
        shim_fail(0, false, SHIM_DISK_FULL);
        ok(store_writer_add(next, bytes, 1 << 20, NULL) == 0, "the next begins");
        store_writer_abandon(failed);
        ok(store_writer_finish(&blob, NULL, next, NULL, NULL) == 0 && store_blob_verify(s, blob.id, NULL) == 0,
           "and ends: %ld", n);
        store_close(s);
        if (!r) break;
    }
    free(bytes);
}

TEST_MAIN

/* crash_test.c - processes that are killed, and disks that forget what was not synced: whatever is named is
 * there, and what was acknowledged stays. */
#define TEST_SECONDS 60
#include "tests/store/folder.h"
#include "tests/store/shim.h"

#include <sys/mman.h>

#include "base/clock.h"
#include "base/random.h"

static struct store_gc_report collect(struct store *s, bool unfinished) {
    struct store_gc_report report;
    struct err e = {0};
    const struct store_gc_options options = {.unfinished = unfinished, .cache_max_bytes = -1};
    ok(store_gc(&report, s, &options, &e) == 0, "gc: %s", e.text);
    return report;
}

/* ---- killed between the blob and its name ---- */

TEST(killed_between_the_two_commits) {
    folder_make();
    pid_t child = fork();
    if (child == 0) {
        struct store *s = folder_open();
        small_blob(s, 1);
        kill(getpid(), SIGKILL);
    }
    waitpid(child, NULL, 0);
    struct store *s = folder_open();
    struct store_stats stats;
    struct err e = {0};
    ok(store_verify(s, &e) == 0, "%s", e.text);
    ok(store_stats_read(&stats, s, NULL) == 0 && stats.blobs == 1 && stats.models == 0, "a blob without a name");
    clock_now += STORE_HOLD_MS + 1;
    ok(collect(s, true).blobs == 1, "is collected");
    store_close(s);
}

/* ---- killed anywhere ---- */

enum { WRITERS = 2, ROUNDS = 10, ACKS = 20000 };

/* What the writers were told, seen by the parent when they are dead. */
struct shared {
    _Atomic int bad; /* an answer that must not be */
    struct {
        _Atomic int n;
        int64_t number[ACKS]; /* acknowledged versions of "m<writer>"; negative = acknowledged as deleted */
        int64_t job[ACKS];    /* job that was acknowledged with it as succeeded, or 0 */
        unsigned char first[ACKS];
    } writer[WRITERS];
};

static int wrong(struct shared *shared, int r, const char *what) {
    /* The collector next door has a fast clock: it may take what is not named yet. */
    if (r == 0 || r == E_NOT_FOUND || r == E_LOST) return r;
    printf("# %s answered %d\n", what, r);
    fflush(stdout);
    shared->bad = 1;
    return r;
}

static void acknowledge(struct shared *shared, int w, int64_t number, int64_t job, unsigned char first) {
    int n = shared->writer[w].n;
    if (n == ACKS) return;
    shared->writer[w].number[n] = number;
    shared->writer[w].job[n] = job;
    shared->writer[w].first[n] = first;
    shared->writer[w].n = n + 1;
}

static int put_random(struct store_blob *blob, struct store *s, struct random *r, char *bytes, size_t room) {
    uint64_t kind = random_below(r, 8);
    size_t size = kind == 0 ? (size_t)random_below(r, room) : 1 + (size_t)random_below(r, 30000);
    for (size_t i = 0; i + 8 <= size; i += 4096) memcpy(bytes + i, &(uint64_t){random_u64(r)}, 8);
    bytes[0] = (char)random_u64(r);
    return store_blob_put(blob, s, bytes, size, NULL);
}

static void write_one(struct shared *shared, struct store *s, int w, struct random *r, char *bytes, size_t room) {
    char name[16], reference[48];
    struct store_blob blob, point;
    struct store_version v;
    struct store_lease lease;
    bool found = false;
    snprintf(name, sizeof name, "m%d", w);
    if (wrong(shared, put_random(&blob, s, r, bytes, room), "blob")) return;
    unsigned char first = (unsigned char)bytes[0];
    struct store_model_new m = {.name = name, .blob = blob};
    const struct store_job_new job = {.method = "x", .spec = "{}"};
    int64_t id;
    switch (random_below(r, 4)) {
        case 0:
            if (wrong(shared, store_job_create(&id, NULL, s, &job, NULL), "create")) return;
            if (wrong(shared, store_lease_claim(&lease, &found, s, name, 60000, NULL), "claim") || !found) return;
            if (wrong(shared, store_blob_put(&point, s, bytes, 100, NULL), "checkpoint blob")) return;
            if (wrong(shared, store_checkpoint_put(s, &lease, 1, point.id, NULL), "checkpoint")) return;
            m.memory = point;
            if (wrong(shared, store_lease_succeed(&v, s, &lease, &m, "{}", NULL), "succeed")) return;
            acknowledge(shared, w, v.number, lease.job, first);
            return;
        case 1:
            if (shared->writer[w].n == 0) return;
            int64_t old = shared->writer[w].number[random_below(r, (uint64_t)shared->writer[w].n)];
            if (old < 0) old = -old;
            if (old == 0) return;
            acknowledge(shared, w, 0, 0, 0); /* from here on it may be gone... */
            shared->writer[w].job[shared->writer[w].n - 1] = -old;
            snprintf(reference, sizeof reference, "%s@%lld", name, (long long)old);
            if (wrong(shared, store_delete(NULL, s, STORE_MODEL, reference, NULL), "delete") == 0)
                acknowledge(shared, w, -old, 0, 0); /* ...and now it is */
            return;
        default:
            if (wrong(shared, store_model_put(&v, NULL, s, &m, NULL), "model")) return;
            acknowledge(shared, w, v.number, 0, first);
    }
}

static void write_until_killed(struct shared *shared, int w, uint64_t seed) {
    enum { ROOM = 2500000 };
    struct random r = random_seed(seed);
    struct store *s = folder_open();
    char *bytes = calloc(1, ROOM);
    for (;;) write_one(shared, s, w, &r, bytes, ROOM);
}

static void collect_until_killed(struct shared *shared) {
    clock_now += 2 * (int64_t)STORE_UPLOAD_MS;
    struct store *s = folder_open();
    for (;;) {
        struct store_gc_report report;
        const struct store_gc_options options = {.cache_max_bytes = -1};
        wrong(shared, store_gc(&report, s, &options, NULL), "gc");
        clock_sleep_ms(3);
    }
}

/* Whether a version may be gone: a deletion of it was begun after entry `from`. */
static bool may_be_gone(const struct shared *shared, int w, int from, int64_t number) {
    for (int i = from; i < shared->writer[w].n; i++)
        if (shared->writer[w].job[i] == -number || shared->writer[w].number[i] == -number) return true;
    return false;
}

static int check_writer(const struct shared *shared, struct store *s, int w) {
    int lost = 0;
    for (int i = 0; i < shared->writer[w].n; i++) {
        char reference[48], first;
        int64_t number = shared->writer[w].number[i];
        if (number == 0) continue;
        struct store_model m;
        snprintf(reference, sizeof reference, "m%d@%lld", w, (long long)(number < 0 ? -number : number));
        int r = store_model_get(&m, s, reference, NULL);
        if (number < 0)
            lost += r != E_NOT_FOUND;
        else if (r == 0)
            lost += store_blob_read(&first, 1, s, m.blob, 0, NULL) != 0 ||
                    (unsigned char)first != shared->writer[w].first[i];
        else
            lost += !may_be_gone(shared, w, i, number);
        store_model_fini(&m);
        int64_t job = shared->writer[w].job[i], event;
        enum store_job_state state;
        if (job > 0) lost += store_job_peek(&state, &event, s, job, NULL) != 0 || state != STORE_JOB_SUCCEEDED;
    }
    return lost;
}

TEST(killed_anywhere) {
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct random r = random_seed(test_seed());
    int acknowledged = 0;
    folder_make();
    for (int round = 0; round < ROUNDS; round++) {
        pid_t child[WRITERS + 1];
        for (int w = 0; w <= WRITERS; w++) {
            uint64_t seed = random_u64(&r);
            child[w] = fork();
            if (child[w]) continue;
            if (w < WRITERS)
                write_until_killed(shared, w, seed);
            else
                collect_until_killed(shared);
        }
        clock_sleep_ms(100 + (int64_t)random_below(&r, 200));
        for (int w = 0; w <= WRITERS; w++) kill(child[w], SIGKILL);
        for (int w = 0; w <= WRITERS; w++) waitpid(child[w], NULL, 0);
        struct store *s = folder_open();
        struct err e = {0};
        acknowledged = 0;
        if (!ok(store_verify(s, &e) == 0, "round %d: %s", round, e.text)) return;
        for (int w = 0; w < WRITERS; w++) {
            acknowledged += shared->writer[w].n;
            ok(check_writer(shared, s, w) == 0, "round %d: writer %d lost something", round, w);
        }
        store_close(s);
    }
    ok(!shared->bad && acknowledged > ROUNDS, "%d answers", acknowledged);
    printf("# %d answers\n", acknowledged);
}

/* ---- power loss ----
 * Before every sync, and after every operation, the disks are cut in four ways: each of the two databases either
 * with all that was written, or only with what was synced. */

static char live[80], synced[80], cut[80];
static int cuts;

/* References that must be there (or must not) from now on. */
static struct {
    char reference[32];
    bool there;
} promise[64];
static int promises;

static void promised(const char *reference, bool there) {
    snprintf(promise[promises].reference, sizeof promise[0].reference, "%s", reference);
    promise[promises++].there = there;
}

static void forget_promise(const char *reference) {
    for (int i = 0; i < promises; i++)
        if (strcmp(promise[i].reference, reference) == 0) promise[i--] = promise[--promises];
}

static void copy_file(const char *from, const char *to, const char *name) {
    char path[120];
    static char buffer[1 << 16];
    snprintf(path, sizeof path, "%s/%s", from, name);
    FILE *in = fopen(path, "rb");
    snprintf(path, sizeof path, "%s/%s", to, name);
    remove(path);
    FILE *out = in ? fopen(path, "wb") : NULL;
    for (size_t n; out && (n = fread(buffer, 1, sizeof buffer, in)) > 0;) fwrite(buffer, 1, n, out);
    if (in) fclose(in);
    if (out) fclose(out);
}

static void copy_database(const char *from, const char *to, const char *name) {
    char log[32];
    snprintf(log, sizeof log, "%s-wal", name);
    copy_file(from, to, name);
    copy_file(from, to, log);
    snprintf(log, sizeof log, "%s-shm", name);
    copy_file("/nonexistent", to, log);
}

static void check_cut(const char *meta, const char *blobs) {
    struct store *s;
    struct err e = {0};
    const struct store_options options = {.folder = cut, .now_ms = clock_read};
    copy_database(meta, cut, "retort.db");
    copy_database(blobs, cut, "blobs.db");
    const char *kind = meta == live ? "written" : "synced", *other = blobs == live ? "written" : "synced";
    cuts++;
    if (!ok(store_open(&s, &options, &e) == 0, "%s, %s: %s", kind, other, e.text)) return;
    ok(store_verify(s, &e) == 0, "%s, %s: %s", kind, other, e.text);
    for (int i = 0; i < promises; i++) {
        struct store_model m;
        int r = store_model_get(&m, s, promise[i].reference, NULL);
        ok(r == (promise[i].there ? 0 : E_NOT_FOUND), "%s, %s: %s: %d", kind, other, promise[i].reference, r);
        if (!r)
            ok(store_blob_verify(s, m.blob, NULL) == 0, "%s, %s: the bytes of %s", kind, other, promise[i].reference);
        store_model_fini(&m);
    }
    store_close(s);
}

static void cut_power(const char *path) {
    if (path && strncmp(path, live, strlen(live)) != 0) return;
    void (*before)(const char *) = shim.before_sync, (*after)(const char *) = shim.after_sync;
    shim.before_sync = shim.after_sync = NULL;
    check_cut(synced, synced);
    check_cut(live, synced);
    check_cut(synced, live);
    check_cut(live, live);
    shim.before_sync = before;
    shim.after_sync = after;
}

static void remember_synced(const char *path) {
    if (strncmp(path, live, strlen(live)) == 0) copy_file(live, synced, path + strlen(live) + 1);
}

static void make_model(struct store *s, const char *reference, size_t size) {
    struct store_version v;
    struct store_blob blob;
    char name[32];
    char *bytes = calloc(1, size);
    snprintf(bytes, size, "%s", reference);
    snprintf(name, sizeof name, "%.*s", (int)strcspn(reference, "@"), reference);
    ok(store_blob_put(&blob, s, bytes, size, NULL) == 0, "blob of %s", reference);
    const struct store_model_new m = {.name = name, .blob = blob};
    ok(store_model_put(&v, NULL, s, &m, NULL) == 0, "%s", reference);
    promised(reference, true);
    cut_power(NULL);
    free(bytes);
}

static void delete_model(struct store *s, const char *reference) {
    forget_promise(reference);
    ok(store_delete(NULL, s, STORE_MODEL, reference, NULL) == 0, "delete %s", reference);
    promised(reference, false);
    cut_power(NULL);
}

static void sweep(struct store *s) {
    clock_now += STORE_HOLD_MS + 1;
    collect(s, true);
    cut_power(NULL);
}

static void power_folders(void) {
    folder_make();
    snprintf(live, sizeof live, "%s/live", folder);
    snprintf(synced, sizeof synced, "%s/synced", folder);
    snprintf(cut, sizeof cut, "%s/cut", folder);
    mkdir(synced, 0700);
    mkdir(cut, 0700);
}

TEST(power_loss) {
    struct store *s;
    power_folders();
    const struct store_options options = {.folder = live, .now_ms = clock_read};
    need(store_open(&s, &options, NULL) == 0, "open");
    store_close(s);
    copy_database(live, synced, "retort.db");
    copy_database(live, synced, "blobs.db");
    need(shim_install(), "shim");
    shim.no_sync = true;
    shim.before_sync = cut_power;
    shim.after_sync = remember_synced;
    need(store_open(&s, &options, NULL) == 0, "open");
    make_model(s, "a@1", 1000);
    make_model(s, "a@2", (1 << 20) + 70000);
    make_model(s, "b@1", 200000);
    delete_model(s, "a@2");
    sweep(s);
    make_model(s, "a@3", 300000);
    int64_t id = small_job(s);
    struct store_lease lease = claim(s, "w");
    for (uint64_t i = 1; i <= 4; i++) {
        ok(lease.job == id && store_checkpoint_put(s, &lease, 1, small_blob(s, i).id, NULL) == 0, "checkpoint");
        if (i == 2) small_job(s); /* syncs retort.db whatever a checkpoint does */
        sweep(s);
    }
    struct store_blob blob = small_blob(s, 9);
    ok(store_cache_put(s, "key", &blob, NULL) == 0, "cache");
    const struct store_model_new output = {
        .name = "student", .blob = small_blob(s, 10), .memory = small_blob(s, 11), .training = "{}"};
    ok(store_lease_succeed(NULL, s, &lease, &output, "{}", NULL) == 0, "succeed");
    promised("student", true);
    ok(store_cache_delete(s, "key", NULL) == 0, "cache");
    sweep(s);
    delete_model(s, "b@1");
    sweep(s);
    shim.before_sync = shim.after_sync = NULL;
    store_close(s);
    printf("# %d cuts\n", cuts);
}

TEST_MAIN

#include "tests/store/folder.h"

#include <pthread.h>
#include <sqlite3.h>

static int run_sql(const char *file, const char *sql) {
    char path[128];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    int rc = sqlite3_open(path, &db);
    if (rc == SQLITE_OK) rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    sqlite3_close(db);
    return rc;
}

static int64_t ask(const char *file, const char *sql) {
    char path[128];
    sqlite3 *db;
    sqlite3_stmt *st = NULL;
    int64_t answer = -1;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    if (sqlite3_open(path, &db) == SQLITE_OK && sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW)
        answer = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return answer;
}

TEST(files_are_made_as_planned) {
    struct store *s = folder_open();
    struct stat st;
    ok(stat(folder, &st) == 0 && (st.st_mode & 0777) == 0700, "the folder is ours alone");
    ok(ask("retort.db", "PRAGMA page_size") == 8192, "pages of retort.db");
    ok(ask("blobs.db", "PRAGMA page_size") == 65536, "pages of blobs.db");
    ok(ask("blobs.db", "PRAGMA auto_vacuum") == 2, "incremental");
    ok(ask("retort.db", "SELECT MAX(version) FROM schema_version") >= 1, "the version is recorded");
    store_close(s);
    s = folder_open();
    ok(s != NULL, "and opened again");
    store_close(s);
    store_close(NULL);
}

TEST(folder_below_nothing_is_refused) {
    struct store *s;
    struct err e = {0};
    const struct store_options options = {.folder = "/nonexistent/below"};
    ok(store_open(&s, &options, &e) == E_IO && !s && strstr(e.text, "/nonexistent/below"), "%s", e.text);
}

TEST(files_of_a_later_version_are_refused) {
    store_close(folder_open());
    need(run_sql("retort.db", "INSERT INTO schema_version VALUES (1000, 0)") == SQLITE_OK, "sql");
    struct store *s;
    struct err e = {0};
    const struct store_options options = {.folder = folder};
    ok(store_open(&s, &options, &e) == E_UNSUPPORTED && !s, "%s", e.text);
}

#define FIXTURES "tests/fixtures/store/"

/* A database from its dump, with the settings that it had. */
static bool restore(const char *file, const char *dump, const char *pragmas) {
    static char sql[1 << 16];
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    remove(path);
    FILE *in = fopen(dump, "rb");
    size_t n = in ? fread(sql, 1, sizeof sql - 1, in) : 0;
    sql[n] = 0;
    if (in) fclose(in);
    return ok(n > 0 && n < sizeof sql - 1, "%s", dump) && ok(run_sql(file, pragmas) == SQLITE_OK, "pragmas") &&
           ok(run_sql(file, sql) == SQLITE_OK, "%s", dump);
}

/* A folder as it was written when schema 1 was the newest: a model by upload and one by a job, a data set, an alias, a job with its events. */
TEST(a_folder_of_the_first_version_is_migrated) {
    store_close(folder_open()); /* SQLite is set up before it is used */
    need(restore("retort.db", FIXTURES "version_1_retort.sql", "PRAGMA page_size=8192;VACUUM"), "retort.db");
    need(restore("blobs.db", FIXTURES "version_1_blobs.sql",
                 "PRAGMA page_size=65536;PRAGMA auto_vacuum=INCREMENTAL;VACUUM"),
         "blobs.db");
    ok(ask("retort.db", "SELECT MAX(version) FROM schema_version") == 1, "it is old");
    struct store *s = folder_open();
    struct store_model got;
    struct store_version v;
    struct store_job job;
    struct err e = {0};
    ok(ask("retort.db", "SELECT MAX(version) FROM schema_version") >= 2, "it is new");
    ok(store_verify(s, &e) == 0, "%s", e.text);
    ok(store_model_get(&got, s, "gemm@1", &e) == 0 && got.parameters == 9 && !got.memory && !got.training, "%s",
       e.text);
    ok(store_blob_verify(s, got.blob, &e) == 0, "%s", e.text);
    store_model_fini(&got);
    ok(store_resolve(&v, s, STORE_DATASET, "tiny", &e) == 0 && v.number == 2, "%s", e.text);
    ok(store_job_get(&job, s, 1, &e) == 0 && !strcmp(job.method, "train"), "%s", e.text);
    store_job_fini(&job);
    const struct store_model_new m = {
        .name = "old", .blob = small_blob(s, 1), .memory = small_blob(s, 2), .training = "{}"};
    ok(store_model_put(&v, NULL, s, &m, &e) == 0 && v.number == 2, "%s", e.text);
    clock_now += (int64_t)100 * 365 * 24 * 60 * 60 * 1000;
    struct store_gc_report report;
    ok(store_gc(&report, s, &(struct store_gc_options){.cache_max_bytes = -1}, &e) == 0 && store_verify(s, &e) == 0,
       "%s", e.text);
    ok(store_blob_verify(s, m.memory.id, &e) == 0, "what the new table names stays: %s", e.text);
    store_close(s);
}

TEST(a_file_that_is_no_database_is_refused) {
    folder_make();
    char path[128];
    snprintf(path, sizeof path, "%s/retort.db", folder);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 10000; i++) fputs("not a database ", f);
    fclose(f);
    struct store *s;
    struct err e = {0};
    const struct store_options options = {.folder = folder};
    ok(store_open(&s, &options, &e) == E_CORRUPT && !s, "%s", e.text);
}

TEST(many_may_open_a_new_folder_at_once) {
    folder_make();
    enum { N = 8 };
    pid_t child[N];
    for (int i = 0; i < N; i++) {
        child[i] = fork();
        if (child[i] == 0) {
            struct store *s;
            const struct store_options options = {.folder = folder};
            int r = store_open(&s, &options, NULL);
            store_close(s);
            _exit(r != 0);
        }
    }
    int failed = 0;
    for (int i = 0; i < N; i++) {
        int status;
        waitpid(child[i], &status, 0);
        failed += status != 0;
    }
    ok(failed == 0, "%d failed", failed);
    ok(ask("blobs.db", "PRAGMA auto_vacuum") == 2 && ask("blobs.db", "PRAGMA page_size") == 65536, "settings took");
}

TEST(ready_says_whether_writing_works) {
    struct store *s = folder_open();
    struct err e = {0};
    ok(store_ready(s, &e) == 0, "%s", e.text);
    ok(store_ready(s, &e) == 0, "again: %s", e.text);
    store_close(s);
}

static void *work(void *name) {
    struct store *s;
    struct store_version v = {0};
    const struct store_options options = {.folder = folder};
    long failed = store_open(&s, &options, NULL) != 0;
    for (int i = 0; !failed && i < 10; i++) {
        struct store_blob blob;
        char bytes[200000] = {(char)i, *(const char *)name}, back[200000];
        failed += store_blob_put(&blob, s, bytes, sizeof bytes, NULL) != 0;
        const struct store_model_new m = {.name = name, .blob = blob};
        failed += store_model_put(&v, NULL, s, &m, NULL) != 0 || v.number != i + 1;
        failed += store_blob_read(back, sizeof back, s, blob.id, 0, NULL) != 0 || memcmp(bytes, back, sizeof back) != 0;
    }
    store_close(s);
    return (void *)failed;
}

TEST(each_thread_has_its_own) {
    static char names[][2] = {"a", "b", "c", "d"};
    pthread_t thread[4];
    folder_make();
    for (int i = 0; i < 4; i++) need(pthread_create(&thread[i], NULL, work, names[i]) == 0, "thread");
    for (int i = 0; i < 4; i++) {
        void *failed;
        pthread_join(thread[i], &failed);
        ok(!failed, "thread %d: %ld", i, (long)failed);
    }
}

TEST(changes_of_others_are_seen) {
    struct store *s = folder_open(), *other = folder_open();
    int64_t before, after;
    need(store_changes(&before, s, NULL) == 0, "before");
    ok(store_changes(&after, s, NULL) == 0 && after == before, "nothing happened");
    small_job(other);
    ok(store_changes(&after, s, NULL) == 0 && after != before, "something happened");
    store_close(s);
    store_close(other);
}

TEST(stats_count) {
    struct store *s = folder_open();
    struct store_stats stats;
    small_model(s, "a", 1);
    small_model(s, "a", 2);
    small_model(s, "b", 2);
    small_job(s);
    small_job(s);
    claim(s, "w");
    ok(store_stats_read(&stats, s, NULL) == 0, "read");
    ok(stats.models == 2 && stats.versions == 3 && stats.datasets == 0, "models");
    ok(stats.jobs[STORE_JOB_QUEUED] == 1 && stats.jobs[STORE_JOB_RUNNING] == 1, "jobs");
    ok(stats.blobs == 2 && stats.blob_bytes == 200 && stats.file_bytes > 0, "bytes");
    store_close(s);
}

TEST(verify_finds_a_missing_blob) {
    struct store *s = folder_open();
    struct err e = {0};
    small_model(s, "a", 1);
    ok(store_verify(s, &e) == 0, "%s", e.text);
    need(run_sql("blobs.db", "DELETE FROM blobs") == SQLITE_OK, "sql");
    ok(store_verify(s, &e) == E_CORRUPT, "%s", e.text);
    store_close(s);
}

TEST_MAIN

#define TEST_SECONDS 30
#include "tests/store/folder.h"

#include <fcntl.h>

#include "base/clock.h"

#define MIB (1 << 20)

/* Writes a blob in pieces of a size. */
static struct store_blob write_blob(struct store *s, size_t size, uint64_t seed, size_t piece, bool *existed) {
    struct store_blob blob = {0};
    struct store_writer *w;
    struct err e = {0};
    char *bytes = malloc(piece);
    ok(store_writer_open(&w, s, STORE_BLOB_MAX, &e) == 0, "open: %s", e.text);
    for (size_t at = 0; at < size; at += piece) {
        size_t n = size - at < piece ? size - at : piece;
        pattern_fill(bytes, n, seed, at);
        ok(store_writer_add(w, bytes, n, &e) == 0, "add: %s", e.text);
    }
    ok(store_writer_size(w) == (int64_t)size, "size");
    ok(store_writer_finish(&blob, existed, w, NULL, &e) == 0, "finish: %s", e.text);
    free(bytes);
    return blob;
}

static bool reads_back(struct store *s, const struct store_blob *blob, uint64_t seed, size_t slice) {
    struct err e = {0};
    char *bytes = malloc(slice);
    bool same = true;
    for (int64_t at = 0; at < blob->size; at += (int64_t)slice) {
        size_t n = blob->size - at < (int64_t)slice ? (size_t)(blob->size - at) : slice;
        same = same && store_blob_read(bytes, n, s, blob->id, at, &e) == 0 && pattern_is(bytes, n, seed, (uint64_t)at);
    }
    free(bytes);
    return same;
}

TEST(round_trip_at_every_border) {
    static const size_t sizes[] = {0, 1, MIB - 1, MIB, MIB + 1, 10 * MIB + 3};
    static const size_t pieces[] = {4096, 65537, MIB, 3 * MIB + 7, 40 * MIB};
    struct store *s = folder_open();
    struct err e = {0};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t j = 0; j < sizeof pieces / sizeof *pieces; j++) {
            bool existed;
            struct store_blob blob = write_blob(s, sizes[i], i, pieces[j], &existed);
            unsigned char *all = malloc(sizes[i] + 1);
            pattern_fill(all, sizes[i], i, 0);
            struct digest want = digest_of(all, sizes[i]);
            free(all);
            ok(blob.size == (int64_t)sizes[i] && digest_equal(&blob.digest, &want), "%zu in %zu", sizes[i], pieces[j]);
            ok(existed == (j > 0), "stored once: %zu in %zu", sizes[i], pieces[j]);
            ok(reads_back(s, &blob, i, pieces[j] > MIB ? 300001 : 65536), "%zu in %zu", sizes[i], pieces[j]);
            ok(store_blob_verify(s, blob.id, &e) == 0, "verify: %s", e.text);
        }
    struct store_stats stats;
    ok(store_stats_read(&stats, s, &e) == 0 && stats.blobs == 6, "six blobs, not %" PRId64, stats.blobs);
    ok(store_verify(s, &e) == 0, "%s", e.text);
    store_close(s);
}

TEST(reading_beyond_the_end_is_not_found) {
    struct store *s = folder_open();
    struct err e = {0};
    char bytes[16];
    struct store_blob blob = write_blob(s, MIB + 10, 1, MIB, NULL), found;
    ok(store_blob_read(bytes, 10, s, blob.id, MIB, &e) == 0 && pattern_is(bytes, 10, 1, MIB), "the last ten: %s",
       e.text);
    ok(store_blob_read(bytes, 11, s, blob.id, MIB, NULL) == E_NOT_FOUND, "one more");
    ok(store_blob_read(bytes, 0, s, blob.id, MIB + 10, NULL) == 0, "nothing");
    ok(store_blob_read(bytes, 1, s, blob.id, 2 * MIB, NULL) == E_NOT_FOUND, "a chunk that is not there");
    ok(store_blob_read(bytes, 1, s, blob.id + 1, 0, NULL) == E_NOT_FOUND, "a blob that is not there");
    ok(store_blob_read(bytes, 1, s, blob.id, -1, NULL) == E_NOT_FOUND, "before the first");
    ok(store_blob_read(bytes, 1, s, blob.id, INT64_MAX, NULL) == E_NOT_FOUND, "far away");
    ok(store_blob_get(&found, s, blob.id, NULL) == 0 && found.size == MIB + 10, "get");
    ok(store_blob_get(&found, s, blob.id + 1, NULL) == E_NOT_FOUND && found.id == 0, "get of nothing");
    ok(store_blob_find(&found, s, &blob.digest, NULL) == 0 && found.id == blob.id, "find");
    blob.digest.bytes[0] ^= 1;
    ok(store_blob_find(&found, s, &blob.digest, &e) == E_NOT_FOUND, "find of nothing");
    store_close(s);
}

TEST(digest_that_was_announced_is_checked) {
    struct store *s = folder_open();
    struct store_writer *w;
    struct store_blob blob;
    struct store_stats stats;
    struct err e = {0};
    char *bytes = calloc(1, 3 * MIB);
    struct digest good = digest_of(bytes, 3 * MIB), bad = digest_of("x", 1);
    for (int i = 0; i < 2; i++) {
        ok(store_writer_open(&w, s, STORE_BLOB_MAX, &e) == 0, "open");
        ok(store_writer_add(w, bytes, 3 * MIB, &e) == 0, "add");
        if (i == 0)
            ok(store_writer_finish(&blob, NULL, w, &bad, &e) == E_DIGEST && blob.id == 0, "another digest: %s", e.text);
        else
            ok(store_writer_finish(&blob, NULL, w, &good, &e) == 0 && blob.id > 0, "the right one");
        ok(store_stats_read(&stats, s, NULL) == 0 && stats.blobs == i, "%" PRId64 " blobs", stats.blobs);
    }
    free(bytes);
    store_close(s);
}

TEST(maximum_holds) {
    struct store *s = folder_open();
    struct store_writer *w;
    struct store_blob blob;
    char bytes[100] = {0};
    ok(store_writer_open(&w, s, 150, NULL) == 0, "open");
    ok(store_writer_add(w, bytes, 100, NULL) == 0, "first");
    ok(store_writer_add(w, bytes, 51, NULL) == E_TOO_LARGE, "one too many");
    ok(store_writer_add(w, bytes, 1, NULL) == E_TOO_LARGE, "it stays failed");
    ok(store_writer_finish(&blob, NULL, w, NULL, NULL) == E_TOO_LARGE, "and cannot be finished");
    ok(store_writer_open(&w, s, 100, NULL) == 0, "open");
    ok(store_writer_add(w, bytes, 100, NULL) == 0, "just fits");
    ok(store_writer_finish(&blob, NULL, w, NULL, NULL) == 0, "finish");
    store_close(s);
}

static struct store_gc_report collect(struct store *s, bool unfinished) {
    struct store_gc_report report;
    struct err e = {0};
    const struct store_gc_options options = {.unfinished = unfinished, .cache_max_bytes = -1};
    ok(store_gc(&report, s, &options, &e) == 0, "gc: %s", e.text);
    ok(!report.more, "gc came to its end");
    return report;
}

TEST(abandoned_upload_leaves_nothing) {
    struct store *s = folder_open();
    struct store_writer *w;
    char *bytes = calloc(1, 20 * MIB);
    ok(store_writer_open(&w, s, STORE_BLOB_MAX, NULL) == 0, "open");
    ok(store_writer_add(w, bytes, 20 * MIB, NULL) == 0, "add");
    store_writer_abandon(w);
    store_writer_abandon(NULL);
    struct store_gc_report report = collect(s, true);
    ok(report.uploads == 0 && report.freed_bytes > 19 * MIB, "its pages come back: %" PRId64, report.freed_bytes);
    ok(file_size("blobs.db") < MIB, "the file shrank to %" PRId64, file_size("blobs.db"));
    free(bytes);
    store_close(s);
}

TEST(unfinished_upload_is_swept) {
    struct store *s = folder_open();
    struct store_writer *lost, *slow;
    struct store_blob blob;
    char *bytes = calloc(1, 3 * MIB);
    ok(store_writer_open(&lost, s, STORE_BLOB_MAX, NULL) == 0 && store_writer_add(lost, bytes, 3 * MIB, NULL) == 0,
       "one");
    ok(store_writer_open(&slow, s, STORE_BLOB_MAX, NULL) == 0 && store_writer_add(slow, bytes, 2 * MIB, NULL) == 0,
       "two");
    ok(collect(s, false).uploads == 0, "young ones are left alone");
    clock_now += STORE_UPLOAD_MS - 1000;
    ok(store_writer_add(slow, bytes, MIB, NULL) == 0, "a sign of life");
    clock_now += 2000;
    struct store_gc_report report = collect(s, false);
    ok(report.uploads == 1, "%" PRId64 " uploads", report.uploads);
    ok(store_writer_add(lost, bytes, MIB, NULL) == E_LOST, "its writer learns it");
    store_writer_abandon(lost);
    ok(store_writer_finish(&blob, NULL, slow, NULL, NULL) == 0 && store_blob_verify(s, blob.id, NULL) == 0,
       "the other goes on");
    free(bytes);
    store_close(s);
}

TEST(start_sweeps_what_a_killed_process_left) {
    folder_make();
    pid_t child = fork();
    if (child == 0) {
        struct store *s = folder_open();
        struct store_writer *w;
        char *bytes = calloc(1, 5 * MIB);
        if (store_writer_open(&w, s, STORE_BLOB_MAX, NULL) == 0) store_writer_add(w, bytes, 5 * MIB, NULL);
        kill(getpid(), SIGKILL);
    }
    waitpid(child, NULL, 0);
    struct store *s = folder_open();
    ok(file_size("blobs.db") + file_size("blobs.db-wal") > 4 * MIB, "it is there");
    struct store_gc_report report = collect(s, true);
    ok(report.uploads == 1 && file_size("blobs.db") < MIB, "and gone: %" PRId64, file_size("blobs.db"));
    store_close(s);
}

TEST(gc_takes_what_is_neither_named_nor_held) {
    struct store *s = folder_open();
    struct err e = {0};
    struct store_version v = small_model(s, "kept", 1);
    struct store_blob blob = write_blob(s, 8 * MIB, 2, MIB, NULL), still;
    struct store_gc_report report = collect(s, false);
    ok(report.blobs == 0 && report.held == 1 && report.held_bytes == 8 * MIB, "fresh blobs are held");
    clock_now += STORE_HOLD_MS + 1;
    ok(store_blob_hold(s, blob.id, 1000, &e) == 0, "hold: %s", e.text);
    ok(collect(s, false).held == 1, "held by who sends it");
    clock_now += 1001;
    struct store_gc_report dry;
    const struct store_gc_options rehearsal = {.dry_run = true, .cache_max_bytes = -1};
    ok(store_gc(&dry, s, &rehearsal, &e) == 0 && dry.blobs == 1 && dry.bytes == 8 * MIB,
       "the dry run says what would go");
    ok(store_blob_get(&still, s, blob.id, &e) == 0, "and takes nothing");
    report = collect(s, false);
    ok(report.blobs == 1 && report.bytes == 8 * MIB, "one went, of %" PRId64 " bytes", report.bytes);
    ok(file_size("blobs.db") < MIB && file_size("blobs.db-wal") == 0, "the file shrank to %" PRId64,
       file_size("blobs.db"));
    ok(store_blob_get(&still, s, blob.id, NULL) == E_NOT_FOUND, "it is gone");
    ok(store_blob_hold(s, blob.id, 1000, NULL) == E_NOT_FOUND, "and cannot be held");
    struct store_model_new late = {.name = "late", .blob = blob};
    ok(store_model_put(&v, NULL, s, &late, NULL) == E_NOT_FOUND, "nor named");
    blob = write_blob(s, 8 * MIB, 2, MIB, NULL);
    ok(reads_back(s, &blob, 2, MIB), "but it can come back");
    ok(store_verify(s, &e) == 0, "%s", e.text);
    store_close(s);
}

TEST(gc_keeps_memories_as_long_as_their_versions) {
    struct store *s = folder_open();
    struct err e = {0};
    struct store_version v;
    struct store_blob left = write_blob(s, 3 * MIB, 2, MIB, NULL), still;
    const struct store_model_new m = {.name = "net", .blob = small_blob(s, 1), .memory = left, .training = "{}"};
    ok(store_model_put(&v, NULL, s, &m, &e) == 0, "%s", e.text);
    clock_now += STORE_HOLD_MS + 1;
    ok(collect(s, false).blobs == 0 && store_blob_get(&still, s, left.id, &e) == 0, "named: %s", e.text);
    ok(store_verify(s, &e) == 0, "%s", e.text);
    ok(store_delete(NULL, s, STORE_MODEL, "net@1", &e) == 0, "%s", e.text);
    struct store_gc_report report = collect(s, false);
    ok(report.blobs == 2 && report.bytes == 3 * MIB + still.size - left.size + m.blob.size, "both went");
    ok(store_blob_get(&still, s, left.id, NULL) == E_NOT_FOUND, "the memory too");
    store_close(s);
}

TEST(gc_goes_on_where_its_time_ended) {
    struct store *s = folder_open();
    struct store_gc_report report;
    write_blob(s, 40 * MIB, 2, MIB, NULL);
    clock_now += STORE_HOLD_MS + 1;
    const struct store_gc_options hurried = {.cache_max_bytes = -1, .budget_ms = 10};
    clock_step = 2;
    int calls = 0;
    do {
        need(store_gc(&report, s, &hurried, NULL) == 0, "gc");
        calls++;
    } while (report.more && calls < 1000);
    ok(calls > 2 && calls < 1000, "%d calls", calls);
    ok(file_size("blobs.db") < MIB, "file of %" PRId64, file_size("blobs.db"));
    store_close(s);
}

TEST(same_bytes_again_keep_a_blob_alive) {
    struct store *s = folder_open();
    struct store_blob blob = small_blob(s, 1), again;
    clock_now += STORE_HOLD_MS + 1;
    again = small_blob(s, 1);
    ok(again.id == blob.id, "stored once");
    ok(collect(s, false).held == 1, "and held again");
    store_close(s);
}

static int64_t resident(void) {
    long pages = 0, unused;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%ld %ld", &unused, &pages) != 2) pages = 0;
    if (f) fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

/* Big, in small pieces: neither the log nor the memory grows with it. */
TEST(large_blob_in_constant_space) {
    struct store *s = folder_open();
    struct store_writer *w;
    struct store_blob blob;
    struct err e = {0};
    enum { PIECE = 256 << 10 };
    char *bytes = malloc(PIECE), tail[65536];
    int64_t most_log = 0, start = 0, most = 0;
    ok(store_writer_open(&w, s, STORE_BLOB_MAX, &e) == 0, "open");
    for (int i = 0; i < 1024; i++) {
        memset(bytes, i, PIECE);
        ok(store_writer_add(w, bytes, PIECE, &e) == 0, "add: %s", e.text);
        int64_t log = file_size("blobs.db-wal"), now = resident();
        if (i == 64) start = now;
        most_log = log > most_log ? log : most_log;
        most = now > most ? now : most;
    }
    ok(store_writer_finish(&blob, NULL, w, NULL, &e) == 0, "finish: %s", e.text);
    ok(most_log < 34 * MIB, "the log grew to %" PRId64, most_log);
#ifndef __SANITIZE_ADDRESS__ /* which keeps what was freed */
    ok(most - start < 4 * MIB, "memory grew by %" PRId64, most - start);
#endif
    ok(store_blob_read(tail, sizeof tail, s, blob.id, blob.size - 65536, &e) == 0 && tail[0] == (char)1023, "the tail");
    free(bytes);
    store_close(s);
}

/* The same with whole megabytes at a time, sixteen to a transaction. */
TEST(large_pieces_in_constant_space) {
    struct store *s = folder_open();
    struct store_writer *w;
    struct store_blob blob;
    enum { PIECE = 40 << 20 };
    char *bytes = calloc(1, PIECE);
    int64_t most_log = 0;
    ok(store_writer_open(&w, s, STORE_BLOB_MAX, NULL) == 0, "open");
    for (int i = 0; i < 4; i++) {
        ok(store_writer_add(w, bytes, PIECE, NULL) == 0, "add");
        int64_t log = file_size("blobs.db-wal");
        most_log = log > most_log ? log : most_log;
    }
    ok(store_writer_finish(&blob, NULL, w, NULL, NULL) == 0, "finish");
    ok(most_log < 34 * MIB, "the log grew to %" PRId64, most_log);
    free(bytes);
    store_close(s);
}

/* Somebody takes a long time to read while others write: a read between two pauses keeps no log alive. */
TEST(slow_reader_does_not_make_the_log_grow) {
    struct store *reader = folder_open(), *writer = folder_open();
    struct store_blob blob = write_blob(reader, 4 * MIB, 1, MIB, NULL);
    char slice[65536];
    int64_t most = 0;
    for (int i = 0; i < 64; i++) {
        ok(store_blob_read(slice, sizeof slice, reader, blob.id, (int64_t)i * 65536, NULL) == 0, "read");
        write_blob(writer, 2 * MIB, 100 + (uint64_t)i, MIB, NULL);
        int64_t log = file_size("blobs.db-wal");
        most = log > most ? log : most;
    }
    ok(most < 34 * MIB, "the log grew to %" PRId64, most);
    store_close(reader);
    store_close(writer);
}

/* While one writes without an end, others get their turn. */
TEST(a_busy_writer_gives_way) {
    enum { BIG = 100 << 20 };
    struct store_blob blob;
    folder_make();
    store_close(folder_open());
    pid_t child = fork();
    if (child == 0) {
        struct store *s = folder_open();
        char *bytes = calloc(1, BIG);
        int r = store_blob_put(&blob, s, bytes, BIG, NULL);
        clock_now += STORE_HOLD_MS + 1;
        collect(s, false);
        store_close(s);
        _exit(r != 0);
    }
    struct store *s = folder_open();
    int turns = 0, failed = 0, status = 0;
    int64_t longest = 0;
    for (uint64_t seed = 0; waitpid(child, &status, WNOHANG) == 0; seed++) {
        char bytes[100];
        int64_t start = clock_monotonic_ns();
        pattern_fill(bytes, sizeof bytes, seed, 0);
        turns++;
        failed += store_blob_put(&blob, s, bytes, sizeof bytes, NULL) != 0;
        int64_t waited = clock_monotonic_ns() - start;
        longest = waited > longest ? waited : longest;
    }
    ok(status == 0, "the busy one: %d", status);
    ok(failed == 0 && turns > 10, "%d turns, %d failed", turns, failed);
    ok(longest < 2500000000, "the longest wait was %" PRId64 " ms", longest / 1000000);
    store_close(s);
}

TEST(damage_is_noticed) {
    struct store *s = folder_open();
    struct store_blob blob = write_blob(s, 2 * MIB, 1, MIB, NULL);
    struct err e = {0};
    char path[128], found[4096];
    store_close(s);
    snprintf(path, sizeof path, "%s/blobs.db", folder);
    int fd = open(path, O_RDWR);
    unsigned char want[64];
    pattern_fill(want, sizeof want, 1, 700000);
    bool damaged = false;
    for (off_t at = 0; !damaged && pread(fd, found, sizeof found, at) == sizeof found; at += 2048) {
        void *hit = memmem(found, sizeof found, want, sizeof want);
        if (hit) damaged = pwrite(fd, "damage", 6, at + ((char *)hit - found)) == 6;
    }
    close(fd);
    ok(damaged, "the bytes lie in the file");
    s = folder_open();
    ok(store_blob_verify(s, blob.id, &e) == E_CORRUPT, "verify: %s", e.text);
    store_close(s);
}

TEST_MAIN

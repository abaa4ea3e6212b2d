/* npz_test.c - archives of numpy and our own, honest and not. */
#include "engine/formats/npz.h"

#include "engine/formats/npy.h"
#include "tests/engine/formats.h"

#define BOTH "inputs float32 [4,2,3]; labels int64 [4]; "

static int read_pieces(struct seen *s, const unsigned char *bytes, size_t size, size_t piece, uint64_t budget,
                       struct err *e) {
    struct npz_reader *r = NULL;
    int rc = npz_reader_new(&r, seen_sink(s), budget, e);
    for (size_t at = 0; !rc && at < size; at += piece)
        rc = npz_reader_feed(r, bytes + at, size - at < piece ? size - at : piece, e);
    if (!rc) rc = npz_reader_finish(r, e);
    npz_reader_free(r);
    return rc;
}

static const char *const archives[] = {"stored.npz", "deflated.npz", "streamed_stored.npz", "streamed_deflated.npz",
                                       "streamed_zip64.npz"};

#define N_ARCHIVES (sizeof archives / sizeof archives[0])

static void check_both(const struct seen *s, const char *name) {
    ok(strcmp(s->log, BOTH) == 0 && s->ended == 2 && s->size == 4 * 24 + 8 * 4, "%s: %s", name, s->log);
    for (size_t i = 0; i < 24; i++) {
        float f;
        memcpy(&f, s->data + 4 * i, 4);
        ok(f == (float)i, "%s: input %zu is %g", name, i, (double)f);
    }
    for (size_t i = 0; i < 4; i++) {
        int64_t v;
        memcpy(&v, s->data + 96 + 8 * i, 8);
        ok(v == (int64_t)i, "%s: label %zu is %lld", name, i, (long long)v);
    }
}

TEST(archives_of_every_kind_read_in_pieces_of_any_size) {
    for (size_t i = 0; i < N_ARCHIVES; i++) {
        struct file f = fixture(archives[i]);
        for (size_t piece = 1; piece <= f.size; piece += piece < 40 ? 1 : 37) {
            static struct seen s;
            memset(&s, 0, sizeof s);
            struct err e = {0};
            need(read_pieces(&s, f.bytes, f.size, piece, 128, &e) == 0, "%s in pieces of %zu: %s", archives[i], piece,
                 e.text);
            check_both(&s, archives[i]);
        }
        free(f.bytes);
    }
}

TEST(an_archive_cut_anywhere_is_refused) {
    for (size_t i = 0; i < N_ARCHIVES; i++) {
        struct file f = fixture(archives[i]);
        for (size_t cut = 0; cut < f.size; cut++) {
            static struct seen s;
            memset(&s, 0, sizeof s);
            struct err e = {0};
            int rc = read_pieces(&s, f.bytes, cut, cut + 1, 1000, &e);
            ok(rc == E_SYNTAX && strstr(e.text, "cut off"), "%s cut at %zu: %d %s", archives[i], cut, rc, e.text);
        }
        f.bytes[f.size] = 0;
        static struct seen s;
        memset(&s, 0, sizeof s);
        struct err e = {0};
        ok(read_pieces(&s, f.bytes, f.size + 1, 64, 1000, &e) == E_SYNTAX && strstr(e.text, "after the end"), "%s",
           e.text);
        free(f.bytes);
    }
}

/* Whatever byte is changed: no crash, and elements that are not the right ones do not pass. */
TEST(damage_is_noticed_or_harmless) {
    for (size_t i = 0; i < N_ARCHIVES; i++) {
        struct file f = fixture(archives[i]);
        for (size_t at = 0; at < f.size; at++)
            for (int bit = 0; bit < 8; bit++) {
                static struct seen s;
                memset(&s, 0, sizeof s);
                f.bytes[at] ^= (unsigned char)(1 << bit);
                int rc = read_pieces(&s, f.bytes, f.size, 100, 1000, NULL);
                f.bytes[at] ^= (unsigned char)(1 << bit);
                ok(rc <= 0, "%d", rc);
                if (rc == 0 && strcmp(s.log, BOTH) == 0) check_both(&s, archives[i]);
            }
        free(f.bytes);
    }
}

static void refuses(const char *name, uint64_t budget, int code, const char *says) {
    struct file f = fixture(name);
    static struct seen s;
    memset(&s, 0, sizeof s);
    struct err e = {0};
    int rc = read_pieces(&s, f.bytes, f.size, f.size, budget, &e);
    ok(rc == code && strstr(e.text, says), "%s: %d %s", name, rc, e.text);
    ok(s.size <= budget, "%s: %zu bytes reached the sink", name, s.size);
    free(f.bytes);
}

TEST(bad_archives_are_refused) {
    refuses("bomb.npz", 1 << 20, E_SYNTAX, "array 'a': there are bytes after the 3 bytes of uint8 [3]");
    refuses("large.npz", 1 << 19, E_TOO_LARGE, "array 'a': uint8 [1048576] has 1048576 bytes; 524288 are allowed");
    refuses("stored.npz", 127, E_TOO_LARGE, "array 'labels': int64 [4] has 32 bytes; 31 are allowed");
    refuses("foreign.npz", 1000, E_INVALID, "NAME.npy");
    refuses("bzip2.npz", 1000, E_UNSUPPORTED, "array 'a': the entry is compressed by method 12");
    refuses("float32.npy", 1000, E_SYNTAX, "not a ZIP record");
    refuses("no_arrays.npz", 0, 0, "");
}

/* One stored entry with the given .npy file inside and its local header changed. */
static int read_changed(size_t at, unsigned char to, struct err *e) {
    struct file f = fixture("stored.npz");
    static struct seen s;
    memset(&s, 0, sizeof s);
    f.bytes[at] = to;
    int rc = read_pieces(&s, f.bytes, f.size, f.size, 1000, e);
    free(f.bytes);
    return rc;
}

TEST(bad_headers_are_refused) {
    struct err e = {0};
    ok(read_changed(6, 1, &e) == E_UNSUPPORTED && strstr(e.text, "encrypted"), "%s", e.text);
    err_clear(&e);
    ok(read_changed(14, 0, &e) == E_SYNTAX && strstr(e.text, "checksum"), "%s", e.text);
    err_clear(&e);
    ok(read_changed(27, 255, &e) == E_TOO_LARGE && strstr(e.text, "header of more than"), "%s", e.text);
    err_clear(&e);
    ok(read_changed(30, 0, &e) == E_SYNTAX && strstr(e.text, "UTF-8"), "%s", e.text);
}

/* ---- writing ---- */

static int write_both(struct text *out, struct err *e) {
    float inputs[24];
    int64_t labels[4];
    for (int i = 0; i < 24; i++) inputs[i] = (float)i;
    for (int i = 0; i < 4; i++) labels[i] = i;
    struct array a = {.type = DT_FLOAT32, .shape = {3, {4, 2, 3}}, .count = 24, .data = inputs},
                 b = {.type = DT_INT64, .shape = {1, {4}}, .count = 4, .data = labels};
    struct npz_writer w;
    npz_writer_init(&w, byte_sink_text(out));
    int rc = npz_writer_add(&w, "inputs", &a, e);
    if (!rc) rc = npz_writer_add(&w, "labels", &b, e);
    if (!rc) rc = npz_writer_finish(&w, e);
    npz_writer_fini(&w);
    return rc;
}

TEST(what_is_written_reads_back) {
    struct text once, again;
    static struct seen s;
    struct err e = {0};
    text_init(&once, 4096);
    text_init(&again, 4096);
    need(write_both(&once, &e) == 0 && write_both(&again, &e) == 0, "%s", e.text);
    ok(once.length == again.length && memcmp(once.data, again.data, once.length) == 0, "the same bytes every time");
    ok(read_pieces(&s, (unsigned char *)once.data, once.length, 50, 1000, &e) == 0, "%s", e.text);
    check_both(&s, "written");
    text_free(&once);
    text_free(&again);
}

TEST(names_and_sizes_are_checked_on_writing) {
    struct text out;
    text_init(&out, 1 << 20);
    struct npz_writer w;
    npz_writer_init(&w, byte_sink_text(&out));
    char name[NPZ_MAX_NAME + 2];
    memset(name, 'a', sizeof name);
    name[sizeof name - 1] = '\0';
    float one = 1;
    struct array a = {.type = DT_FLOAT32, .shape = {0, {0}}, .count = 1, .data = &one};
    ok(npz_writer_add(&w, name, &a, NULL) == E_TOO_LARGE && npz_writer_add(&w, "", &a, NULL) == E_TOO_LARGE, "names");
    ok(npz_writer_add(&w, name + 1, &a, NULL) == 0, "the longest name");
    struct array large = {.type = DT_FLOAT32, .shape = {1, {1ll << 30}}, .count = 1ull << 30, .data = &one};
    ok(npz_writer_add(&w, "b", &large, NULL) == E_TOO_LARGE, "4 GiB are too much");
    npz_writer_fini(&w);
    text_free(&out);
}

static int read_once(void *context) {
    static struct seen s;
    struct text out;
    memset(&s, 0, sizeof s);
    struct file *f = context;
    text_init(&out, 4096);
    int rc = write_both(&out, NULL);
    if (!rc) rc = read_pieces(&s, f->bytes, f->size, 50, 1000, NULL);
    text_free(&out);
    return rc;
}

TEST(starving_harms_nothing) {
    struct file f = fixture("deflated.npz");
    starve(read_once, &f);
    free(f.bytes);
}

TEST_MAIN

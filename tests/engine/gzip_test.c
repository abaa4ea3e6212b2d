/* gzip_test.c - gunzip alone, and gzipped arrays through the stream. */
#include "engine/formats/gzip.h"

#include "engine/formats/arraystream.h"
#include "tests/engine/formats.h"

static int unpack(struct text *out, const struct file *f, size_t size, size_t piece, uint64_t budget, struct err *e) {
    struct gunzip *g = NULL;
    int rc = gunzip_new(&g, byte_sink_text(out), budget, e);
    for (size_t at = 0; !rc && at < size; at += piece)
        rc = gunzip_feed(g, f->bytes + at, size - at < piece ? size - at : piece, e);
    if (!rc) rc = gunzip_finish(g, e);
    gunzip_free(g);
    return rc;
}

static int stream(struct seen *s, const unsigned char *bytes, size_t size, size_t piece, struct err *e) {
    struct arraystream *a = NULL;
    int rc = arraystream_new(&a, seen_sink(s), 4096, e);
    for (size_t at = 0; !rc && at < size; at += piece)
        rc = arraystream_feed(a, bytes + at, size - at < piece ? size - at : piece, e);
    if (!rc) rc = arraystream_finish(a, e);
    arraystream_free(a);
    return rc;
}

TEST(members_are_one_stream_in_pieces_of_any_size) {
    struct file one = fixture("images.idx.gz"), two = fixture("members.idx.gz");
    for (size_t piece = 1; piece <= two.size; piece++) {
        struct text a, b;
        struct err e = {0};
        text_init(&a, 4096);
        text_init(&b, 4096);
        need(unpack(&a, &one, one.size, piece, 4096, &e) == 0, "%s", e.text);
        need(unpack(&b, &two, two.size, piece, 4096, &e) == 0, "%s", e.text);
        ok(a.length == 176 && b.length == 176 && memcmp(a.data, b.data, 176) == 0, "%zu %zu", a.length, b.length);
        text_free(&a);
        text_free(&b);
    }
    free(one.bytes);
    free(two.bytes);
}

TEST(a_stream_cut_anywhere_is_refused) {
    struct file f = fixture("images.idx.gz");
    for (size_t cut = 0; cut < f.size; cut++) {
        struct text t;
        struct err e = {0};
        text_init(&t, 4096);
        ok(unpack(&t, &f, cut, cut + 1, 4096, &e) == E_SYNTAX && strstr(e.text, "cut off"), "cut at %zu: %s", cut,
           e.text);
        text_free(&t);
    }
    free(f.bytes);
}

TEST(damage_is_noticed) {
    struct file f = fixture("images.idx.gz");
    /* from 10 on: the header's time, flags and system do not matter */
    for (size_t at = 10; at < f.size; at++) {
        struct text t;
        struct err e = {0};
        text_init(&t, 1 << 20);
        f.bytes[at] ^= 0x55;
        ok(unpack(&t, &f, f.size, f.size, 1 << 20, &e) == E_SYNTAX, "byte %zu: %s", at, e.text);
        f.bytes[at] ^= 0x55;
        text_free(&t);
    }
    free(f.bytes);
}

TEST(output_beyond_the_budget_never_reaches_the_sink) {
    struct file f = fixture("bomb.npy.gz");
    struct text t;
    struct err e = {0};
    text_init(&t, 1 << 20);
    ok(unpack(&t, &f, f.size, f.size, 100000, &e) == E_TOO_LARGE && strstr(e.text, "100000"), "%s", e.text);
    ok(t.length <= 100000, "%zu", t.length);
    text_free(&t);
    free(f.bytes);
}

TEST(a_sink_that_is_full_stops_it) {
    struct file f = fixture("images.idx.gz");
    struct text t;
    struct err e = {0};
    text_init(&t, 100);
    ok(unpack(&t, &f, f.size, f.size, 4096, &e) == E_TOO_LARGE && strstr(e.text, "more than 100 bytes"), "%s", e.text);
    text_free(&t);
    free(f.bytes);
}

TEST(gzipped_arrays_are_recognised) {
    static const struct {
        const char *name, *log;
    } cases[] = {{"images.idx.gz", "uint8 [10,4,4]; "},
                 {"members.idx.gz", "uint8 [10,4,4]; "},
                 {"vector.npy.gz", "float32 [5]; "}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct file f = fixture(cases[i].name);
        for (size_t piece = 1; piece <= f.size; piece += 3) {
            struct seen s = {.size = 0};
            struct err e = {0};
            ok(stream(&s, f.bytes, f.size, piece, &e) == 0 && strcmp(s.log, cases[i].log) == 0, "%s: %s %s",
               cases[i].name, s.log, e.text);
        }
        for (size_t cut = 0; cut < f.size; cut++) {
            struct seen s = {.size = 0};
            struct err e = {0};
            int rc = stream(&s, f.bytes, cut, 11, &e);
            ok(rc == E_SYNTAX && !s.ended, "%s cut at %zu: %d %s", cases[i].name, cut, rc, e.text);
        }
        free(f.bytes);
    }
}

TEST(a_bomb_is_refused_at_the_size_its_header_says) {
    struct file f = fixture("bomb.npy.gz");
    struct seen s = {.size = 0};
    struct err e = {0};
    int rc = stream(&s, f.bytes, f.size, f.size, &e);
    ok(rc == E_SYNTAX && strstr(e.text, "after the 3 bytes of uint8 [3]"), "%d %s", rc, e.text);
    ok(s.size <= 3 && !s.ended, "%zu", s.size);
    free(f.bytes);
}

TEST(gzip_in_gzip_is_no_array) {
    struct file f = fixture("twice.gz");
    struct seen s = {.size = 0};
    struct err e = {0};
    ok(stream(&s, f.bytes, f.size, 10, &e) == E_SYNTAX && strstr(e.text, "1f 8b"), "%s", e.text);
    free(f.bytes);
}

static int read_once(void *context) {
    static struct seen s;
    memset(&s, 0, sizeof s);
    struct file *f = context;
    return stream(&s, f->bytes, f->size, 7, NULL);
}

TEST(starving_harms_nothing) {
    struct file f = fixture("members.idx.gz");
    starve(read_once, &f);
    free(f.bytes);
}

TEST_MAIN

/* idx_test.c - IDX files through the stream. */
#include "engine/formats/idx.h"

#include "engine/formats/arraystream.h"
#include "tests/engine/formats.h"

static int stream(struct seen *s, const unsigned char *bytes, size_t size, size_t piece, struct err *e) {
    struct arraystream *a = NULL;
    int rc = arraystream_new(&a, seen_sink(s), 1 << 20, e);
    for (size_t at = 0; !rc && at < size; at += piece)
        rc = arraystream_feed(a, bytes + at, size - at < piece ? size - at : piece, e);
    if (!rc) rc = arraystream_finish(a, e);
    arraystream_free(a);
    return rc;
}

TEST(every_type_reads_in_pieces_of_any_size) {
    static const enum dtype types[] = {DT_UINT8, DT_INT8, DT_INT16, DT_INT32, DT_FLOAT32, DT_FLOAT64};
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        char name[64], log[64];
        text_print(name, sizeof name, "%s.idx", dtype_name(types[t]));
        text_print(log, sizeof log, "%s [2,3]; ", dtype_name(types[t]));
        struct file f = fixture(name);
        for (size_t piece = 1; piece <= f.size; piece++) {
            struct seen s = {.size = 0};
            struct err e = {0};
            need(stream(&s, f.bytes, f.size, piece, &e) == 0, "%s: %s", name, e.text);
            ok(strcmp(s.log, log) == 0 && s.ended == 1, "%s", s.log);
            struct array a = {.type = types[t], .shape = {2, {2, 3}}, .count = 6, .data = s.data};
            for (size_t i = 0; i < 6; i++) ok(array_int(&a, i) == (int64_t)i, "%s: element %zu", name, i);
        }
        free(f.bytes);
    }
}

TEST(more_than_a_buffer_of_elements_keeps_its_order) {
    enum { COUNT = 40000 };
    static unsigned char bytes[8 + 4 * COUNT] = {0, 0, 12, 1, 0, 0, COUNT >> 8, COUNT & 255};
    for (unsigned i = 0; i < COUNT; i++) {
        bytes[8 + 4 * i + 2] = (unsigned char)(i >> 8);
        bytes[8 + 4 * i + 3] = (unsigned char)i;
    }
    struct arraystream *a = NULL;
    static struct seen s;
    need(arraystream_new(&a, seen_sink(&s), 1 << 20, NULL) == 0, "new");
    ok(arraystream_feed(a, bytes, 9, NULL) == 0 && arraystream_feed(a, bytes + 9, sizeof bytes - 9, NULL) == 0, "feed");
    ok(arraystream_finish(a, NULL) == 0 && s.size == 4 * COUNT, "%zu", s.size);
    bool same = true;
    for (int32_t i = 0, v; i < (int32_t)(sizeof s.data / 4) && same; i++) {
        memcpy(&v, s.data + 4 * i, 4);
        same = v == i || (size_t)i * 4 >= 65536 - 4; /* `seen` keeps whole pieces as long as they fit */
    }
    ok(same, "elements in order");
    arraystream_free(a);
}

TEST(a_file_cut_anywhere_or_too_long_is_refused) {
    struct file f = fixture("int32.idx");
    for (size_t cut = 0; cut < f.size; cut++) {
        struct seen s = {.size = 0};
        struct err e = {0};
        ok(stream(&s, f.bytes, cut, cut + 1, &e) == E_SYNTAX && s.ended == 0, "cut at %zu: %s", cut, e.text);
    }
    f.bytes[f.size] = 0;
    struct seen s = {.size = 0};
    struct err e = {0};
    ok(stream(&s, f.bytes, f.size + 1, 5, &e) == E_SYNTAX && strstr(e.text, "after the 24 bytes"), "%s", e.text);
    free(f.bytes);
}

static void refuses(const char *bytes, size_t size, int code, const char *says) {
    struct seen s = {.size = 0};
    struct err e = {0};
    int rc = stream(&s, (const unsigned char *)bytes, size, 100, &e);
    ok(rc == code && strstr(e.text, says) && s.calls == 0, "%d %s", rc, e.text);
}

TEST(bad_headers_are_refused) {
    refuses("\0\0\7\1\0\0\0\1!", 9, E_SYNTAX, "00 00 07 01");
    refuses("\0\0\10\0!", 5, E_UNSUPPORTED, "0 dimensions");
    refuses("\0\0\10\11", 4, E_UNSUPPORTED, "9 dimensions");
    refuses("\0\0\10\2\0\0\0\1", 8, E_SYNTAX, "ends in its header, after 8 bytes");
    refuses("\0\0\10\3\377\377\377\377\377\377\377\377\377\377\377\377", 16, E_TOO_LARGE, "4294967295");
    refuses("\0\0\16\2\0\20\0\0\0\0\0\2", 12, E_TOO_LARGE, "are allowed");
}

static int read_once(void *context) {
    struct file *f = context;
    static struct seen s;
    memset(&s, 0, sizeof s);
    return stream(&s, f->bytes, f->size, 7, NULL);
}

TEST(starving_harms_nothing) {
    struct file f = fixture("float64.idx");
    starve(read_once, &f);
    free(f.bytes);
}

TEST_MAIN

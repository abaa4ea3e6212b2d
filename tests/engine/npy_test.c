/* npy_test.c - .npy headers, and whole files through the reader and through the stream. */
#include "engine/formats/npy.h"

#include "engine/formats/arraystream.h"
#include "tests/engine/formats.h"

TEST(every_type_of_numpy_reads_and_writes) {
    for (int t = 0; t < DTYPE_COUNT; t++) {
        if (t == DT_BFLOAT16) continue; /* numpy has none */
        char name[64], header[NPY_HEADER_ROOM];
        size_t size = 0;
        text_print(name, sizeof name, "%s.npy", dtype_name((enum dtype)t));
        struct file f = fixture(name);
        struct array *a = NULL;
        struct err e = {0};
        need(npy_read(&a, f.bytes, f.size, &e) == 0, "%s: %s", name, e.text);
        ok(a->type == (enum dtype)t && shape_equal(&a->shape, &(struct shape){2, {2, 3}}), "%s", name);
        ok(array_int(a, 5) == (t == DT_BOOL ? 1 : 5) && array_int(a, 0) == 0, "%s: elements", name);
        ok(npy_header_write(header, &size, a->type, &a->shape, &e) == 0 && size % 64 == 0, "%zu", size);
        struct npy_header h;
        ok(npy_header_read(&h, header, size, &e) == 0 && h.type == a->type && shape_equal(&h.shape, &a->shape) &&
               h.data_offset == size,
           "%s: the written header reads back", name);
        array_free(a);
        free(f.bytes);
    }
}

TEST(headers_of_any_rank_read_back) {
    struct shape s = {0, {0}};
    for (; s.rank <= SHAPE_MAX_RANK; s.rank++) {
        char header[NPY_HEADER_ROOM];
        size_t size = 0;
        struct npy_header h;
        need(npy_header_write(header, &size, DT_BFLOAT16, &s, NULL) == 0, "rank %d", s.rank);
        ok(size % 64 == 0 && header[size - 1] == '\n' && size <= NPY_HEADER_ROOM, "%zu bytes", size);
        ok(npy_header_read(&h, header, size, NULL) == 0 && h.type == DT_BFLOAT16 && shape_equal(&h.shape, &s),
           "rank %d", s.rank);
        if (s.rank < SHAPE_MAX_RANK) s.dim[s.rank] = s.rank ? 1 : INT64_MAX / 8;
    }
    char header[NPY_HEADER_ROOM];
    size_t size = 0;
    ok(npy_header_write(header, &size, DT_INT8, &(struct shape){1, {DIM_BATCH}}, NULL) == E_INVALID,
       "no free dimension");
    struct shape wide = {SHAPE_MAX_RANK, {0}};
    for (int i = 0; i < SHAPE_MAX_RANK; i++) wide.dim[i] = i ? INT64_MAX / 8 : 0;
    ok(npy_header_write(header, &size, DT_INT8, &wide, NULL) == E_TOO_LARGE, "overflow behind an empty dimension");
}

TEST(special_shapes_and_versions_read) {
    static const struct {
        const char *name, *shape;
    } cases[] = {{"scalar.npy", "[]"},
                 {"vector.npy", "[5]"},
                 {"empty.npy", "[0,3]"},
                 {"version2.npy", "[2,3]"},
                 {"version3.npy", "[2,3]"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct file f = fixture(cases[i].name);
        struct array *a = NULL;
        struct err e = {0};
        char text[64];
        need(npy_read(&a, f.bytes, f.size, &e) == 0, "%s: %s", cases[i].name, e.text);
        shape_print(text, sizeof text, &a->shape);
        ok(strcmp(text, cases[i].shape) == 0, "%s: %s", cases[i].name, text);
        array_free(a);
        free(f.bytes);
    }
}

static void refuses(const char *dict, int code, const char *says) {
    unsigned char bytes[512] = "\x93NUMPY\x01";
    size_t length = strlen(dict);
    bytes[8] = (unsigned char)length;
    memcpy(bytes + 10, dict, length);
    struct npy_header h;
    struct err e = {0};
    int rc = npy_header_read(&h, bytes, 10 + length, &e);
    ok(rc == code && strstr(e.text, says), "%s: %d %s", dict, rc, e.text);
}

TEST(bad_headers_are_refused) {
    refuses("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 0, "");
    refuses("{\"shape\":(3,4,),\"fortran_order\":True,\"descr\":\"|u1\"}", E_UNSUPPORTED, "Fortran order");
    refuses("{'shape':(3L,), 'fortran_order':True, 'descr':'f4'}\n", 0, "");
    refuses("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'more': 1}", E_SYNTAX, "'more' and should not");
    refuses("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", E_SYNTAX, "'descr' twice");
    refuses("{'fortran_order': False, 'shape': (3,), }", E_SYNTAX, "no 'descr'");
    refuses("{'descr': '<f4', 'fortran_order': 0, 'shape': (3,), }", E_SYNTAX, "'fortran_order'");
    refuses("{'descr': '<f4', 'fortran_order': False, 'shape': (3,-1), }", E_INVALID, "negative dimension");
    refuses("{'descr': '<f4', 'fortran_order': False, 'shape': ( ,), }", E_SYNTAX, "'shape'");
    refuses("{'descr': '<f4', 'fortran_order': False, 'shape': (3 4), }", E_SYNTAX, "'shape'");
    refuses("{'descr': '<f4', 'fortran_order': False, 'shape': 3, }", E_SYNTAX, "'shape'");
    refuses("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", E_TOO_LARGE,
            "beyond 64 bits");
    refuses("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", E_TOO_LARGE, "4294967296");
    refuses("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", E_UNSUPPORTED, "8 dimensions");
    refuses("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), } x", E_SYNTAX, "goes on");
    refuses("{'descr': '<f4' 'fortran_order': False, 'shape': (3,), }", E_SYNTAX, "dict");
    refuses("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), ", E_SYNTAX, "dict");
    refuses("{'descr': '<q9', 'fortran_order': False, 'shape': (3,), }", E_UNSUPPORTED, "'<q9'");
    refuses("{'descr': '', 'fortran_order': False, 'shape': (3,), }", E_UNSUPPORTED, "type ''");
    refuses("['descr', '<f4', 'fortran_order']", E_SYNTAX, "not a dict");
}

/* Through the stream, in pieces of `piece` bytes. */
static int stream(struct seen *s, const unsigned char *bytes, size_t size, size_t piece, struct err *e) {
    struct arraystream *a = NULL;
    int rc = arraystream_new(&a, seen_sink(s), 4096, e);
    for (size_t at = 0; !rc && at < size; at += piece)
        rc = arraystream_feed(a, bytes + at, size - at < piece ? size - at : piece, e);
    if (!rc) rc = arraystream_finish(a, e);
    arraystream_free(a);
    return rc;
}

TEST(what_numpy_can_and_retort_cannot_is_said) {
    static const struct {
        const char *name, *says;
    } cases[] = {{"fortran.npy", "ascontiguousarray"},
                 {"bigendian.npy", "a.astype('<f4')"},
                 {"complex.npy", "'<c8'"},
                 {"text.npy", "'<U2'"},
                 {"records.npy", "records"},
                 {"objects.npy", "'|O'"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct file f = fixture(cases[i].name);
        static struct seen s;
        struct err e = {0};
        int rc = stream(&s, f.bytes, f.size, f.size, &e);
        ok(rc == E_UNSUPPORTED && strstr(e.text, cases[i].says), "%s: %d %s", cases[i].name, rc, e.text);
        ok(s.calls == 0, "the sink saw nothing");
        free(f.bytes);
    }
}

TEST(streaming_gives_the_same_in_pieces_of_any_size) {
    struct file f = fixture("int16.npy");
    for (size_t piece = 1; piece <= f.size; piece++) {
        struct seen s = {.size = 0};
        struct err e = {0};
        ok(stream(&s, f.bytes, f.size, piece, &e) == 0, "pieces of %zu: %s", piece, e.text);
        ok(strcmp(s.log, "int16 [2,3]; ") == 0 && s.ended == 1, "%s", s.log);
        ok(s.size == 12 && memcmp(s.data, f.bytes + f.size - 12, 12) == 0, "elements");
    }
    free(f.bytes);
}

TEST(a_file_cut_anywhere_or_too_long_is_refused) {
    struct file f = fixture("int16.npy");
    for (size_t cut = 0; cut < f.size; cut++) {
        struct seen s = {.size = 0};
        struct err e = {0};
        struct array *a = NULL;
        ok(stream(&s, f.bytes, cut, cut + 1, &e) == E_SYNTAX && s.ended == 0, "cut at %zu: %s", cut, e.text);
        ok(npy_read(&a, f.bytes, cut, NULL) == E_SYNTAX, "cut at %zu", cut);
    }
    f.bytes[f.size] = 0;
    for (size_t piece = 1; piece <= f.size + 1; piece++) {
        struct seen s = {.size = 0};
        struct err e = {0};
        int rc = stream(&s, f.bytes, f.size + 1, piece, &e);
        ok(rc == E_SYNTAX && strstr(e.text, "after the 12 bytes of int16 [2,3]") && !s.ended, "%s", e.text);
    }
    free(f.bytes);
}

TEST(an_array_over_the_budget_is_refused_before_it_begins) {
    struct file f = fixture("float64.npy");
    struct seen s = {.size = 0};
    struct arraystream *a = NULL;
    struct err e = {0};
    need(arraystream_new(&a, seen_sink(&s), 47, &e) == 0, "new");
    int rc = arraystream_feed(a, f.bytes, f.size, &e);
    ok(rc == E_TOO_LARGE && strstr(e.text, "float64 [2,3] has 48 bytes; 47 are allowed"), "%d %s", rc, e.text);
    ok(s.calls == 0, "the sink saw nothing");
    arraystream_free(a);
    free(f.bytes);
}

TEST(a_sink_that_refuses_stops_the_stream) {
    struct file f = fixture("int16.npy");
    for (int n = 1; n <= 3; n++) {
        struct seen s = {.fail_at = n};
        struct err e = {0};
        int rc = stream(&s, f.bytes, f.size, f.size, &e);
        ok(rc == E_IO && s.calls == n && strstr(e.text, "the sink refuses"), "%d %s", rc, e.text);
    }
    free(f.bytes);
}

TEST(what_is_no_array_is_said) {
    struct seen s = {.size = 0};
    struct err e = {0};
    ok(stream(&s, (const unsigned char *)"hello", 5, 5, &e) == E_SYNTAX && strstr(e.text, "68 65 6c 6c"), "%s", e.text);
    err_clear(&e);
    ok(stream(&s, (const unsigned char *)"PK\3\4....", 8, 3, &e) == E_SYNTAX && strstr(e.text, ".npz"), "%s", e.text);
}

static int read_once(void *context) {
    struct file *f = context;
    static struct seen s;
    memset(&s, 0, sizeof s);
    struct array *a = NULL;
    int rc = npy_read(&a, f->bytes, f->size, NULL);
    array_free(a);
    return rc ? rc : stream(&s, f->bytes, f->size, 7, NULL);
}

TEST(starving_harms_nothing) {
    struct file f = fixture("float32.npy");
    starve(read_once, &f);
    free(f.bytes);
}

TEST_MAIN

/* safetensors_test.c - files made by hand and our own, honest and not. */
#include "engine/formats/safetensors.h"

#include "tests/engine/formats.h"

static int read_pieces(struct seen *s, const void *bytes, size_t size, size_t piece, uint64_t budget, struct err *e) {
    struct safetensors_reader *r = NULL;
    int rc = safetensors_reader_new(&r, seen_sink(s), budget, e);
    for (size_t at = 0; !rc && at < size; at += piece)
        rc = safetensors_reader_feed(r, (const char *)bytes + at, size - at < piece ? size - at : piece, e);
    if (!rc) rc = safetensors_reader_finish(r, e);
    safetensors_reader_free(r);
    return rc;
}

/* A file with this header and so many bytes of data: 0, 1, 2, ... */
static struct file made(const char *header, size_t data) {
    size_t n = strlen(header);
    struct file f = {malloc(8 + n + data + 1), 8 + n + data};
    if (!f.bytes) exit(1);
    for (size_t i = 0; i < 8; i++) f.bytes[i] = (unsigned char)((uint64_t)n >> 8 * i & 255);
    memcpy(f.bytes + 8, header, n);
    for (size_t i = 0; i < data; i++) f.bytes[8 + n + i] = (unsigned char)i;
    return f;
}

/* ---- sound files ---- */

static const struct {
    const char *name, *log;
    size_t elements;
} files[] = {
    {"types.safetensors",
     "float32 float32 [2,3]; float64 float64 [2,3]; float16 float16 [2,3]; int64 int64 [2,3]; int32 int32 [2,3]; "
     "int16 int16 [2,3]; int8 int8 [2,3]; uint64 uint64 [2,3]; uint32 uint32 [2,3]; uint16 uint16 [2,3]; "
     "uint8 uint8 [2,3]; bool bool [2,3]; bfloat16 bfloat16 [2,3]; ",
     6 * 47},
    {"gemm.safetensors", "w float32 [2,3]; b float32 [3]; ", 36},
    {"gemm_f64.safetensors", "w float64 [2,3]; b float64 [3]; ", 72},
    {"unpadded.safetensors", "w float32 [2,3]; b float32 [3]; ", 36},
    {"reversed.safetensors", "w float32 [2,3]; b float32 [3]; ", 36},
    {"metadata.safetensors", "w float32 [2,3]; b float32 [3]; ", 36},
    {"none.safetensors", "", 0},
    {"odd.safetensors", "scalar float32 []; empty float32 [0,3]; after uint8 [3]; ", 7},
};

#define N_FILES (sizeof files / sizeof files[0])

TEST(files_read_in_pieces_of_any_size) {
    for (size_t i = 0; i < N_FILES; i++) {
        struct file f = fixture(files[i].name);
        for (size_t piece = 1; piece <= f.size; piece += piece < 40 ? 1 : 37) {
            static struct seen s;
            memset(&s, 0, sizeof s);
            struct err e = {0};
            need(read_pieces(&s, f.bytes, f.size, piece, files[i].elements, &e) == 0, "%s in pieces of %zu: %s",
                 files[i].name, piece, e.text);
            ok(!strcmp(s.log, files[i].log) && s.ended == s.open, "%s: %s", files[i].name, s.log);
            ok(s.size == files[i].elements, "%s: %zu bytes", files[i].name, s.size);
            ok(!memcmp(s.data, f.bytes + f.size - s.size, s.size), "%s: the bytes behind the header", files[i].name);
        }
        free(f.bytes);
    }
}

/* The numbers in the fixture are 0 to 5, whatever their type. */
TEST(elements_have_the_types_that_the_names_say) {
    static struct seen s;
    struct file f = fixture("types.safetensors");
    need(!read_pieces(&s, f.bytes, f.size, f.size, 1000, NULL), "read");
    size_t at = 0;
    static const enum dtype order[] = {DT_FLOAT32, DT_FLOAT64, DT_FLOAT16, DT_INT64, DT_INT32, DT_INT16,   DT_INT8,
                                       DT_UINT64,  DT_UINT32,  DT_UINT16,  DT_UINT8, DT_BOOL,  DT_BFLOAT16};
    for (int t = 0; t < DTYPE_COUNT; t++) {
        double v[6];
        dtype_to_double(v, order[t], s.data + at, 6);
        at += 6 * dtype_size(order[t]);
        for (int i = 0; i < 6; i++)
            ok(v[i] == (order[t] == DT_BOOL ? (double)(i > 0) : (double)i), "%s: %g is number %d", dtype_name(order[t]),
               v[i], i);
    }
    free(f.bytes);
}

/* ---- broken ones ---- */

TEST(a_file_cut_anywhere_is_refused) {
    for (size_t i = 0; i < N_FILES; i++) {
        struct file f = fixture(files[i].name);
        for (size_t cut = 0; cut < f.size; cut++) {
            static struct seen s;
            memset(&s, 0, sizeof s);
            struct err e = {0};
            int rc = read_pieces(&s, f.bytes, cut, cut + 1, 1000, &e);
            ok(rc == E_SYNTAX && strstr(e.text, "cut off"), "%s cut at %zu: %d %s", files[i].name, cut, rc, e.text);
        }
        f.bytes[f.size] = 0; /* there is room: files are read in larger blocks */
        static struct seen s;
        memset(&s, 0, sizeof s);
        struct err e = {0};
        ok(read_pieces(&s, f.bytes, f.size + 1, 64, 1000, &e) == E_SYNTAX && strstr(e.text, "bytes after"), "%s",
           e.text);
        free(f.bytes);
    }
}

/* Whatever bit is changed: no crash, no more than was announced, and an error always has words. */
TEST(damage_is_noticed_or_harmless) {
    for (size_t i = 0; i < N_FILES; i++) {
        struct file f = fixture(files[i].name);
        for (size_t at = 0; at < f.size * 8; at++) {
            static struct seen s;
            memset(&s, 0, sizeof s);
            struct err e = {0};
            f.bytes[at / 8] ^= (unsigned char)(1 << at % 8);
            int rc = read_pieces(&s, f.bytes, f.size, 100, 1000, &e);
            f.bytes[at / 8] ^= (unsigned char)(1 << at % 8);
            ok(rc ? *e.text != '\0' : s.size == files[i].elements, "%s, bit %zu: %d, %zu bytes", files[i].name, at, rc,
               s.size);
        }
        free(f.bytes);
    }
}

static void refuses_bytes(const char *what, struct file f, uint64_t budget, int code, const char *says) {
    static struct seen s;
    memset(&s, 0, sizeof s);
    struct err e = {0};
    int rc = read_pieces(&s, f.bytes, f.size, f.size, budget, &e);
    ok(rc == code && strstr(e.text, says), "%s: %d %s", what, rc, e.text);
    ok(!e.pointer[0], "%s: the pointer %s is none of a request", what, e.pointer);
    free(f.bytes);
}

TEST(bad_files_are_refused) {
    static const struct {
        const char *name;
        int code;
        const char *says;
    } bad[] = {
        {"bad_hole", E_INVALID, "before tensor 'b' there are 2 bytes that belong to no tensor"},
        {"bad_overlap", E_INVALID, "tensor 'b' begins at byte 2, inside 'a', which ends at 4"},
        {"bad_float8", E_UNSUPPORTED, "tensor 'a': elements of type F8_E4M3; possible are F64, F32"},
        {"bad_twice", E_SYNTAX, "the header: found the member \"a\" twice"},
        {"bad_size", E_INVALID, "tensor 'a': its offsets 0 to 8 are 8 bytes; float32 [3] takes 12"},
        {"bad_huge", E_TOO_LARGE, "tensor 'a': shape [1099511627776,1099511627776] has more elements"},
        {"bad_header", E_TOO_LARGE, "the header has 90000000 bytes; at most 1048576 are read"},
        {"bad_short", E_SYNTAX, "the file is cut off, 1 bytes before the end of tensor 'b'"},
        {"bad_long", E_SYNTAX, "there are bytes after the 2 tensors of the header"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char name[64];
        text_print(name, sizeof name, "%s.safetensors", bad[i].name);
        refuses_bytes(name, fixture(name), 1000, bad[i].code, bad[i].says);
    }
    refuses_bytes("an npy file", fixture("float32.npy"), 1000, E_SYNTAX, "not a safetensors file: its header would");
    refuses_bytes("beyond the budget", fixture("gemm.safetensors"), 35, E_TOO_LARGE,
                  "the tensors have 36 bytes together; 35 are allowed");
}

/* One tensor "a" whose entry is the text. */
static void refuses_entry(const char *entry, int code, const char *says) {
    char header[1024];
    text_print(header, sizeof header, "{\"a\":%s}", entry);
    refuses_bytes(entry, made(header, 4), 1000, code, says);
}

TEST(bad_entries_are_refused) {
    refuses_entry("7", E_SYNTAX, "tensor 'a': its entry is a number; it must be an object");
    refuses_entry("[]", E_SYNTAX, "an array");
    refuses_entry("{}", E_SYNTAX, "its entry has no \"dtype\"");
    refuses_entry("{\"dtype\":\"U8\",\"data_offsets\":[0,4]}", E_SYNTAX, "no \"shape\"");
    refuses_entry("{\"dtype\":\"U8\",\"shape\":[4]}", E_SYNTAX, "no \"data_offsets\"");
#define ENTRY(type, shape, offsets) "{\"dtype\":" type ",\"shape\":" shape ",\"data_offsets\":" offsets "}"
    refuses_entry("{\"x\":1,\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}", E_SYNTAX, "has a \"x\"");
    refuses_entry(ENTRY("7", "[4]", "[0,4]"), E_SYNTAX, "\"dtype\" is a number");
    refuses_entry(ENTRY("\"u8\"", "[4]", "[0,4]"), E_UNSUPPORTED, "elements of type u8");
    refuses_entry(ENTRY("\"C64\"", "[4]", "[0,32]"), E_UNSUPPORTED, "elements of type C64");
    refuses_entry(ENTRY("\"U8\"", "4", "[0,4]"), E_SYNTAX, "\"shape\" is a number");
    refuses_entry(ENTRY("\"U8\"", "[-4]", "[0,4]"), E_SYNTAX, "dimension 0 is not a whole number");
    refuses_entry(ENTRY("\"U8\"", "[1,4.5]", "[0,4]"), E_SYNTAX, "dimension 1 is not a whole number");
    refuses_entry(ENTRY("\"U8\"", "[\"4\"]", "[0,4]"), E_SYNTAX, "dimension 0 is not a whole number");
    refuses_entry(ENTRY("\"U8\"", "[1e16]", "[0,4]"), E_SYNTAX, "dimension 0 is not a whole number");
    refuses_entry(ENTRY("\"U8\"", "[1,1,1,1,1,1,1,1,4]", "[0,4]"), E_UNSUPPORTED, "more than 8 dimensions");
    refuses_entry(ENTRY("\"F32\"", "[0,9e15,9e15]", "[0,0]"), E_TOO_LARGE, "more elements than memory");
    refuses_entry(ENTRY("\"U8\"", "[4]", "4"), E_SYNTAX, "must be two whole numbers");
    refuses_entry(ENTRY("\"U8\"", "[4]", "[4]"), E_SYNTAX, "must be two whole numbers");
    refuses_entry(ENTRY("\"U8\"", "[4]", "[0,4,8]"), E_SYNTAX, "must be two whole numbers");
    refuses_entry(ENTRY("\"U8\"", "[4]", "[-4,0]"), E_SYNTAX, "must be two whole numbers");
    refuses_entry(ENTRY("\"U8\"", "[4]", "[\"0\",4]"), E_SYNTAX, "must be two whole numbers");
    refuses_entry(ENTRY("\"U8\"", "[4]", "[4,0]"), E_SYNTAX, "the begin and then the end");
    refuses_entry(ENTRY("\"U8\"", "[4]", "[0,18446744073709551615]"), E_SYNTAX, "must be two whole numbers");
    refuses_entry(ENTRY("\"U8\"", "[5]", "[0,4]"), E_INVALID, "its offsets 0 to 4 are 4 bytes; uint8 [5] takes 5");
    refuses_entry(ENTRY("\"U8\"", "[4]", "[1,5]"), E_INVALID, "before tensor 'a' there are 1 bytes");
}

static void refuses_header(const char *header, int code, const char *says) {
    refuses_bytes(header, made(header, 4), 1000, code, says);
}

TEST(bad_headers_are_refused) {
    refuses_header("", E_SYNTAX, "its header has 0 bytes");
    refuses_header("{", E_SYNTAX, "its header has 1 bytes");
    refuses_header(" {}", E_SYNTAX, "does not begin with '{'");
    refuses_header("[]", E_SYNTAX, "does not begin with '{'");
    refuses_header("{{", E_SYNTAX, "the header: line 1, column 2");
    refuses_header("{}x", E_SYNTAX, "the header: line 1, column 3");
    refuses_header("{\"a\xff\":1}", E_SYNTAX, "UTF-8");
    refuses_header("{\"a\\u0000\":1}", E_SYNTAX, "\\u0000");
    refuses_header("{\"__metadata__\":7}", E_SYNTAX, "must be an object of strings");
    refuses_header("{\"__metadata__\":{\"a\":\"b\",\"c\":1}}", E_SYNTAX, "must be an object of strings");
    refuses_header("{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", E_SYNTAX, "found the member \"a\" twice");
    struct file f = made("{}", 0);
    memset(f.bytes, 255, 8);
    refuses_bytes("a header of 16 EiB", f, 1000, E_SYNTAX, "not a safetensors file: its header would have");
}

/* A tree of the hostile kind stays within bounds, and too many tensors are told. */
TEST(headers_have_a_largest_size) {
    struct text t;
    text_init(&t, SAFETENSORS_MAX_HEADER);
    text_add_string(&t, "{");
    for (int i = 0; i <= SAFETENSORS_MAX_TENSORS + 1; i++) text_format(&t, "%s\"%d\":[1,1,1,1,1,1]", i ? "," : "", i);
    text_add_string(&t, "}");
    need(!t.failed, "the header");
    refuses_header(t.data, E_SYNTAX, "fewer members in one object");
    text_free(&t);
}

TEST(a_sink_that_refuses_is_heard) {
    struct file f = fixture("odd.safetensors");
    for (int fail_at = 1; fail_at <= 8; fail_at++) {
        static struct seen s;
        memset(&s, 0, sizeof s);
        s.fail_at = fail_at;
        struct err e = {0};
        int rc = read_pieces(&s, f.bytes, f.size, f.size, 1000, &e);
        ok(rc == E_IO && s.calls == fail_at && !strncmp(e.text, "tensor '", 8), "call %d: %d %s", fail_at, rc, e.text);
    }
    free(f.bytes);
}

/* ---- writing ---- */

static int write_some(struct text *out, struct err *e) {
    static float floats[] = {1, 2, 3};
    static uint16_t halves[] = {0x3c00};
    static double wide[] = {4, 5};
    const struct array half = {.type = DT_FLOAT16, .shape = {1, {1}}, .count = 1, .data = halves},
                       f = {.type = DT_FLOAT32, .shape = {2, {3, 1}}, .count = 3, .data = floats};
    const struct array d = {.type = DT_FLOAT64, .shape = {1, {2}}, .count = 2, .data = wide},
                       scalar = {.type = DT_FLOAT32, .shape = {0, {0}}, .count = 1, .data = floats + 2};
    const struct array none = {.type = DT_FLOAT32, .shape = {2, {0, 7}}, .count = 0, .data = floats};
    const struct safetensors_tensor tensors[] = {
        {"half", &half}, {"a \"name\"", &f}, {"none", &none}, {"wide", &d}, {"scalar", &scalar}};
    return safetensors_write(byte_sink_text(out), tensors, 5, e);
}

TEST(what_is_written_reads_back) {
    struct text once, again;
    static struct seen s;
    struct err e = {0};
    text_init(&once, 4096);
    text_init(&again, 4096);
    need(!write_some(&once, &e) && !write_some(&again, &e), "%s", e.text);
    ok(once.length == again.length && !memcmp(once.data, again.data, once.length), "the same bytes every time");
    ok((once.length - 16 - 16 - 2) % 8 == 0, "the data is aligned: %zu", once.length);
    need(!read_pieces(&s, once.data, once.length, 50, 1000, &e), "%s", e.text);
    const char *log = "wide float64 [2]; a \"name\" float32 [3,1]; none float32 [0,7]; scalar float32 []; "
                      "half float16 [1]; ";
    ok(!strcmp(s.log, log), "%s", s.log);
    float last;
    memcpy(&last, s.data + 16 + 12, 4);
    ok(last == 3, "the scalar: %g", (double)last);
    text_free(&once);
    text_free(&again);
}

TEST(names_and_numbers_are_checked_on_writing) {
    float one = 1;
    const struct array a = {.type = DT_FLOAT32, .shape = {0, {0}}, .count = 1, .data = &one};
    struct safetensors_tensor t = {"__metadata__", &a};
    struct err e = {0};
    struct text out;
    text_init(&out, 100);
    ok(safetensors_write(byte_sink_text(&out), &t, 1, &e) == E_INVALID && strstr(e.text, "__metadata__"), "%s", e.text);
    t.name = "a";
    ok(safetensors_write(byte_sink_text(&out), &t, SAFETENSORS_MAX_TENSORS + 1, NULL) == E_TOO_LARGE, "too many");
    static char name[600];
    memset(name, 'n', sizeof name - 1);
    static struct safetensors_tensor many[2000];
    for (size_t i = 0; i < 2000; i++) many[i] = (struct safetensors_tensor){name, &a};
    err_clear(&e);
    ok(safetensors_write(byte_sink_text(&out), many, 2000, &e) == E_TOO_LARGE && strstr(e.text, "2000 tensors"), "%s",
       e.text);
    ok(safetensors_write(byte_sink_text(&out), &t, 1, NULL) == E_TOO_LARGE || out.length, "a full sink is heard");
    text_free(&out);
}

static int read_once(void *context) {
    static struct seen s;
    struct text out;
    memset(&s, 0, sizeof s);
    text_init(&out, 4096);
    const struct file *f = context;
    int rc = write_some(&out, NULL);
    if (!rc) rc = read_pieces(&s, f->bytes, f->size, 50, 1000, NULL);
    text_free(&out);
    return rc;
}

TEST(starving_harms_nothing) {
    struct file f = fixture("metadata.safetensors");
    starve(read_once, &f);
    free(f.bytes);
}

TEST_MAIN

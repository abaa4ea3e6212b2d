/* json_test.c - strictness of reading, exactness of writing. */
#include "base/json.h"

#include "tests/base/starve.h"

#define TEXT_MAX (4u << 20)

/* Parses a string that may hold NUL. */
static int parse_bytes(struct json **out, const char *bytes, size_t length, struct err *e) {
    *e = (struct err){0};
    /* A copy without a NUL after it, so that AddressSanitizer sees a step beyond the end. */
    char *copy = mem_copy(bytes, length);
    int code = json_parse(out, copy, length, e);
    mem_free(copy);
    return code;
}

static int parse(struct json **out, const char *text, struct err *e) {
    return parse_bytes(out, text, strlen(text), e);
}

/* A document that must be refused, with a place and words in the message. */
static void refused_bytes(const char *bytes, size_t length, const char *place, const char *words) {
    struct json *root = NULL;
    struct err e;
    int code = parse_bytes(&root, bytes, length, &e);
    ok(code == E_SYNTAX && e.code == E_SYNTAX && !root, "%s gave %d", bytes, code);
    ok(strncmp(e.text, place, strlen(place)) == 0 && strstr(e.text, words), "%s: %s", bytes, e.text);
    ok(mem_live() == 0, "%s left %lld blocks", bytes, (long long)mem_live());
    json_free(root);
}

static void refused(const char *text, const char *place, const char *words) {
    refused_bytes(text, strlen(text), place, words);
}

/* A document that must come back from the writer as `expected`. */
static void becomes(const char *text, const char *expected) {
    struct json *root = NULL;
    struct err e;
    int code = parse(&root, text, &e);
    ok(code == 0, "%s: %s", text, e.text);
    if (code) return;
    struct text out;
    text_init(&out, TEXT_MAX);
    struct json_writer w = json_writer(&out);
    json_put_value(&w, NULL, root);
    ok(!out.failed && strcmp(out.data, expected) == 0, "%s became %s", text, out.data);
    text_free(&out);
    json_free(root);
    ok(mem_live() == 0, "%lld alive", (long long)mem_live());
}

/* ---- what cJSON is lax about ---- */

TEST(text_after_the_document_is_refused) {
    refused("{\"a\":1} xyz", "line 1, column 9: found 'x'", "nothing after the document");
    refused("1 2", "line 1, column 3", "nothing after the document");
    refused_bytes("1\0", 2, "line 1, column 2: found byte 0x00", "nothing after");
    becomes(" {\"a\":1} \r\n\t", "{\"a\":1}");
}

TEST(duplicate_members_are_refused) {
    struct json *root;
    struct err e;
    ok(parse(&root, "{\"x\":[0,{\"b/c\":1,\"d\":2,\"b\\/c\":3}]}", &e) == E_SYNTAX && !root, "twice");
    ok(strcmp(e.pointer, "/x/1/b~1c") == 0 && strstr(e.text, "\"b/c\" twice"), "%s at %s", e.text, e.pointer);
    ok(parse(&root, "{\"a\":1,\"\\u0061\":2}", &e) == E_SYNTAX, "spelt with an escape");
    ok(mem_live() == 0, "%lld alive", (long long)mem_live());
    becomes("{\"a\":1,\"A\":2,\"aa\":{\"a\":3}}", "{\"a\":1,\"A\":2,\"aa\":{\"a\":3}}");
}

TEST(names_are_found_by_exact_case) {
    struct json *root;
    struct err e;
    need(parse(&root, "{\"Lr\":1,\"lr\":2,\"\":3}", &e) == 0, "%s", e.text);
    ok(json_number(json_get(root, "lr")) == 2 && json_number(json_get(root, "Lr")) == 1, "case");
    ok(!json_get(root, "LR") && json_number(json_get(root, "")) == 3, "missing, and empty");
    ok(!json_get(json_get(root, "lr"), "x"), "a number has no members");
    json_free(root);
}

TEST(nul_is_refused) {
    refused("\"x\\u0000y\"", "line 1, column 5", "a character other than \\u0000");
    refused("{\"x\\u0000y\":1}", "line 1, column 6", "a character other than \\u0000");
    refused_bytes("\"x\0y\"", 5, "line 1, column 3: found byte 0x00", "control characters as escapes");
    becomes("\"\\\\u0000\"", "\"\\\\u0000\"");
}

TEST(invalid_utf8_is_refused) {
    refused("\"\x80\"", "line 1, column 2: found byte 0x80", "valid UTF-8");
    refused("\"\xc0\xaf\"", "line 1, column 2", "valid UTF-8");
    refused("\"a\xed\xa0\x80\"", "line 1, column 3", "valid UTF-8");
    refused("\"\xf4\x90\x80\x80\"", "line 1, column 2", "valid UTF-8");
    refused("{\"\xff\":1}", "line 1, column 3", "valid UTF-8");
    refused("\"\xe2\x82", "line 1, column 2", "valid UTF-8");
    becomes("\"\xe2\x82\xac \xf0\x9f\x98\x80\"", "\"\xe2\x82\xac \xf0\x9f\x98\x80\"");
}

TEST(control_characters_are_refused) {
    refused("\"a\nb\"", "line 1, column 3: found byte 0x0a", "control characters as escapes");
    refused("\"\x1f\"", "line 1, column 2", "control characters");
    refused("[1,\f2]", "line 1, column 4", "a value");
    becomes("\"\x7f\\u007f\"", "\"\x7f\x7f\"");
}

TEST(surrogates_must_pair) {
    refused("\"\\ud83d\"", "line 1, column 8", "second half");
    refused("\"\\ud83dx\"", "line 1, column 8", "second half");
    refused("\"\\ud83d\\n\"", "line 1, column 9", "second half");
    refused("\"\\ud83d\\ud83d\"", "line 1, column 14", "second half");
    refused("\"\\ude00\"", "line 1, column 4", "first half");
    refused("\"\\uD83D\"", "line 1, column 8", "second half");
    refused("\"\\uDE00\"", "line 1, column 4", "first half");
    becomes("\"\\uD83D\\uDE00\"", "\"\xf0\x9f\x98\x80\"");
    becomes("\"\\ud83d\\ude00\\u20AC\"", "\"\xf0\x9f\x98\x80\xe2\x82\xac\"");
}

TEST(numbers_are_strict) {
    refused("01", "line 1, column 2", "nothing after");
    refused("[-01]", "line 1, column 4", "',' or ']'");
    refused("0x10", "line 1, column 2: found 'x'", "nothing after");
    refused("+1", "line 1, column 1: found '+'", "a value");
    refused(".5", "line 1, column 1", "a value");
    refused("1.", "line 1, column 3: found the end", "a digit after the decimal point");
    refused("1.e3", "line 1, column 3", "a digit after the decimal point");
    refused("1e", "line 1, column 3", "a digit in the exponent");
    refused("1e+", "line 1, column 4", "a digit in the exponent");
    refused("-", "line 1, column 2", "a digit");
    refused("-x", "line 1, column 2", "a digit");
    refused("NaN", "line 1, column 1", "a value");
    refused("-Infinity", "line 1, column 2", "a digit");
    becomes("[0,-0,1E2,1e-2,0.5,-12.25e+1,0e0]", "[0,-0,100,0.01,0.5,-122.5,0]");
}

TEST(numbers_must_be_finite) {
    refused("[1,1e400]", "line 1, column 4", "a number that fits into a double");
    refused("-1e309", "line 1, column 1", "a number that fits into a double");
    becomes("[1e308,1e-400,1.7976931348623157e308]", "[1e+308,0,1.7976931348623157e+308]");
}

TEST(numbers_are_of_bounded_length) {
    char text[80];
    memset(text, '1', sizeof text);
    text[64] = '\0';
    refused(text, "line 1, column 1", "a number of at most 63 characters");
    text[63] = '\0';
    becomes(text, "1.1111111111111112e+62");
}

TEST(byte_order_marks_are_refused) {
    refused("\xef\xbb\xbf{}", "line 1, column 1: found byte 0xef", "a value");
}

TEST(depth_is_limited) {
    char text[2 * JSON_MAX_DEPTH + 1], deeper[sizeof text + 2];
    memset(text, '[', JSON_MAX_DEPTH);
    memset(text + JSON_MAX_DEPTH, ']', JSON_MAX_DEPTH);
    text[2 * JSON_MAX_DEPTH] = '\0';
    becomes(text, text);
    snprintf(deeper, sizeof deeper, "[%s]", text);
    refused(deeper, "line 1, column 33", "fewer nested");
    char huge[10001];
    memset(huge, '[', 10000);
    huge[10000] = '\0';
    refused(huge, "line 1, column 33", "fewer nested");
}

/* An object with n members. */
static void many_members(struct text *out, int n) {
    text_init(out, TEXT_MAX);
    struct json_writer w = json_writer(out);
    json_open_object(&w, NULL);
    for (int i = 0; i < n; i++) {
        char name[16];
        text_print(name, sizeof name, "m%d", i);
        json_put_int(&w, name, i);
    }
    json_close_object(&w);
}

TEST(members_are_limited) {
    struct text t;
    struct json *root;
    struct err e;
    many_members(&t, JSON_MAX_KEYS);
    need(parse(&root, t.data, &e) == 0, "%s", e.text);
    ok(json_count(root) == JSON_MAX_KEYS && json_number(json_get(root, "m255")) == 255, "%zu", json_count(root));
    json_free(root);
    text_free(&t);
    many_members(&t, JSON_MAX_KEYS + 1);
    ok(parse(&root, t.data, &e) == E_SYNTAX && strstr(e.text, "fewer members"), "%s", e.text);
    struct json_limits limits = {.size = t.length, .keys = JSON_MAX_KEYS + 1};
    err_clear(&e);
    need(json_parse_within(&root, t.data, t.length, &limits, &e) == 0, "%s", e.text);
    json_free(root);
    limits.size--;
    ok(json_parse_within(&root, t.data, t.length, &limits, &e) == E_TOO_LARGE, "%s", e.text);
    text_free(&t);
    ok(mem_live() == 0, "%lld alive", (long long)mem_live());
}

TEST(size_is_limited) {
    char *text = mem_alloc(JSON_MAX_SIZE + 1);
    need(text, "a megabyte");
    memset(text, ' ', JSON_MAX_SIZE + 1);
    text[0] = '1';
    struct json *root;
    struct err e = {0};
    ok(json_parse(&root, text, JSON_MAX_SIZE, &e) == 0, "%s", e.text);
    json_free(root);
    ok(json_parse(&root, text, JSON_MAX_SIZE + 1, &e) == E_TOO_LARGE && !root, "%s", e.text);
    mem_free(text);
}

/* ---- the rest of the grammar ---- */

TEST(syntax_errors_have_a_place) {
    refused("", "line 1, column 1: found the end", "a value");
    refused("  \n ", "line 2, column 2: found the end", "a value");
    refused("{\n  \"a\": 1,\n  \"b\": tru\n}", "line 3, column 8: found 't'", "a value");
    refused("[1,]", "line 1, column 4: found ']'", "a value");
    refused("[1 2]", "line 1, column 4", "',' or ']'");
    refused("[1", "line 1, column 3: found the end", "',' or ']'");
    refused("{\"a\" 1}", "line 1, column 6", "':' after the name");
    refused("{\"a\":1,}", "line 1, column 8: found '}'", "the name of a member");
    refused("{a:1}", "line 1, column 2: found 'a'", "the name of a member");
    refused("{\"a\":1", "line 1, column 7", "',' or '}'");
    refused("{\"a\":}", "line 1, column 6", "a value");
    refused("{", "line 1, column 2", "the name of a member");
    refused("'a'", "line 1, column 1", "a value");
    refused("\"a", "line 1, column 3: found the end", "'\"' at the end of the string");
    refused("\"a\\", "line 1, column 4: found the end", "an escape");
    refused_bytes("\"\\\0\"", 4, "line 1, column 3: found byte 0x00", "an escape");
    refused("\"\\x\"", "line 1, column 3: found 'x'", "an escape");
    refused("\"\\u12g4\"", "line 1, column 6: found 'g'", "four hexadecimal digits");
    refused("\"\\u12", "line 1, column 6: found the end", "four hexadecimal digits");
    refused("nul", "line 1, column 1", "a value");
    refused("// x\n1", "line 1, column 1: found '/'", "a value");
}

TEST(documents_come_back_the_same) {
    static const char *const same[] = {
        "null",
        "true",
        "false",
        "[]",
        "{}",
        "\"\"",
        "0",
        "-1.5",
        "[null,true,false,[],{},\"x\"]",
        "{\"a\":{\"b\":[{\"c\":[]},{}]},\"d\":\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f/\"}",
        "[0.1,1e-07,123456789012,1234567890123460,9007199254740991,0.30000000000000004]"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) becomes(same[i], same[i]);
    becomes("\n[ 1 , { \"a\" : \"\\/\\u0041\" } ]\n", "[1,{\"a\":\"/A\"}]");
}

TEST(values_are_typed) {
    struct json *root;
    struct err e;
    need(parse(&root, "[null,false,1.5,\"s\",[],{\"k\":true}]", &e) == 0, "%s", e.text);
    const struct json *v = json_first(root);
    for (enum json_type type = JSON_NULL; type <= JSON_OBJECT; type++, v = json_next(v))
        ok(json_type(v) == type && !json_name(v), "%s", json_type_name(type));
    ok(!v && json_count(root) == 6, "six values");
    v = json_next(json_first(root));
    ok(!json_bool(v) && json_number(json_next(v)) == 1.5, "boolean, number");
    v = json_next(json_next(v));
    ok(strcmp(json_string(v), "s") == 0 && !json_first(json_next(v)), "string, empty array");
    v = json_first(json_next(json_next(v)));
    ok(strcmp(json_name(v), "k") == 0 && json_bool(v) && !json_next(v), "member");
    json_free(root);
    json_free(NULL);
}

TEST(whole_numbers_are_exact_or_refused) {
    static const struct {
        const char *text;
        bool good;
        int64_t value;
    } cases[] = {{"0", true, 0},
                 {"-0", true, 0},
                 {"1e3", true, 1000},
                 {"9007199254740991", true, 9007199254740991},
                 {"-9007199254740991", true, -9007199254740991},
                 {"9007199254740992", false, 0},
                 {"9007199254740993", false, 0},
                 {"1e300", false, 0},
                 {"1.5", false, 0},
                 {"\"9007199254740993\"", true, 9007199254740993},
                 {"\"-9223372036854775808\"", true, INT64_MIN},
                 {"\"9223372036854775808\"", false, 0},
                 {"\"12 \"", false, 0},
                 {"\"\"", false, 0},
                 {"true", false, 0},
                 {"null", false, 0},
                 {"[1]", false, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct json *root;
        struct err e;
        int64_t value = 77;
        need(parse(&root, cases[i].text, &e) == 0, "%s", e.text);
        bool good = json_int(&value, root);
        ok(good == cases[i].good && value == (good ? cases[i].value : 77), "%s: %lld", cases[i].text, (long long)value);
        json_free(root);
    }
}

TEST(pointers_are_escaped_and_bounded) {
    char p[JSON_POINTER_SIZE], name[300];
    json_pointer(p, "", "a/b~c");
    ok(strcmp(p, "/a~1b~0c") == 0, "%s", p);
    json_pointer(p, p, "0");
    ok(strcmp(p, "/a~1b~0c/0") == 0, "%s", p);
    memset(name, '/', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    json_pointer(p, p, name);
    ok(strcmp(p, "/a~1b~0c/0") == 0, "too long: %s", p);
    json_pointer(p, name, "x");
    ok(strlen(p) == JSON_POINTER_SIZE - 1, "%zu", strlen(p));
}

/* ---- writing ---- */

TEST(writer_puts_commas_names_and_escapes) {
    struct text t;
    text_init(&t, 1000);
    struct json_writer w = json_writer(&t);
    json_open_object(&w, NULL);
    json_put_string(&w, "a\"b", "x\\y\n\x01");
    json_put_string(&w, "none", NULL);
    json_open_array(&w, "list");
    json_put_int(&w, NULL, -5);
    json_put_bool(&w, NULL, true);
    json_open_object(&w, NULL);
    json_close_object(&w);
    json_put_null(&w, NULL);
    json_close_array(&w);
    json_put_raw(&w, "raw", "[1, 2]");
    json_put_number(&w, "n", 0.25);
    json_close_object(&w);
    ok(strcmp(t.data,
              "{\"a\\\"b\":\"x\\\\y\\n\\u0001\",\"none\":null,\"list\":[-5,true,{},null],\"raw\":[1, 2],\"n\":0.25}") ==
           0,
       "%s", t.data);
    text_free(&t);
}

TEST(writer_mends_what_is_not_utf8) {
    struct text t;
    text_init(&t, 1000);
    struct json_writer w = json_writer(&t);
    json_put_string(&w, NULL,
                    "\xff"
                    "a\xe2\x82\xac\xe2\x82");
    ok(strcmp(t.data, "\"\xef\xbf\xbd"
                      "a\xe2\x82\xac\xef\xbf\xbd\xef\xbf\xbd\"") == 0,
       "%s", t.data);
    text_free(&t);
}

TEST(large_integers_travel_as_strings) {
    struct text t;
    text_init(&t, 1000);
    struct json_writer w = json_writer(&t);
    json_open_array(&w, NULL);
    json_put_int(&w, NULL, 9007199254740991);
    json_put_int(&w, NULL, 9007199254740992);
    json_put_int(&w, NULL, INT64_MIN);
    json_close_array(&w);
    ok(strcmp(t.data, "[9007199254740991,\"9007199254740992\",\"-9223372036854775808\"]") == 0, "%s", t.data);
    text_free(&t);
}

TEST(numbers_read_back_the_same) {
    uint64_t state = test_seed();
    for (int i = 0; i < 20000; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint64_t bits = state ^ (state >> 29);
        double value;
        memcpy(&value, &bits, sizeof value);
        struct text t;
        text_init(&t, 100);
        struct json_writer w = json_writer(&t);
        json_put_number(&w, NULL, value);
        if (!isfinite(value)) {
            ok(strcmp(t.data, "null") == 0, "%s", t.data);
        } else {
            double back = strtod(t.data, NULL);
            ok(memcmp(&back, &value, sizeof value) == 0, "%a became %s", value, t.data);
        }
        text_free(&t);
    }
}

TEST(numbers_are_short) {
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0.1, "0.1"},
                 {1, "1"},
                 {1e20, "1e+20"},
                 {1234567890123460, "1234567890123460"},
                 {1.0 / 3, "0.3333333333333333"},
                 {0.1 + 0.2, "0.30000000000000004"},
                 {-2.5e-8, "-2.5e-08"},
                 {(double)NAN, "null"},
                 {(double)INFINITY, "null"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct text t;
        text_init(&t, 100);
        struct json_writer w = json_writer(&t);
        json_put_number(&w, NULL, cases[i].value);
        ok(strcmp(t.data, cases[i].text) == 0, "%s", t.data);
        text_free(&t);
    }
}

TEST(writer_fails_once_and_for_all) {
    struct text t;
    text_init(&t, 10);
    struct json_writer w = json_writer(&t);
    json_open_array(&w, NULL);
    for (int i = 0; i < 10; i++) json_put_int(&w, NULL, i);
    json_close_array(&w);
    ok(t.failed == E_TOO_LARGE && !t.data[0], "%s", t.data);
    text_free(&t);
    text_init(&t, 1000);
    w = json_writer(&t);
    for (int i = 0; i < JSON_WRITER_DEPTH + 5; i++) json_open_array(&w, NULL);
    for (int i = 0; i < JSON_WRITER_DEPTH + 5; i++) json_close_array(&w);
    ok(t.failed == E_TOO_LARGE && w.depth == 0, "%d", t.failed);
    text_free(&t);
}

/* ---- memory ---- */

static int read_and_write(void) {
    static const char text[] = "{\"a\":[1,{\"b\":\"c\",\"d\":null}],\"e\\n\":true}";
    struct json *root;
    struct text out;
    struct err e = {0};
    int code = json_parse(&root, text, sizeof text - 1, &e);
    ok(code == e.code && (code == 0) == (root != NULL), "%d %s", code, e.text);
    if (code) return code;
    text_init(&out, 1000);
    struct json_writer w = json_writer(&out);
    json_put_value(&w, NULL, root);
    code = out.failed;
    ok(code || strcmp(out.data, text) == 0, "%s", out.data);
    text_free(&out);
    json_free(root);
    return code;
}

TEST(survives_lack_of_memory) {
    uint64_t calls = mem_calls();
    starve("read and write", read_and_write);
    ok(mem_calls() - calls > 100, "cJSON's allocations are among %llu", (unsigned long long)(mem_calls() - calls));
}

/* Damaged documents: nothing may crash, and what is accepted must be written and read again. */
TEST(damage_does_no_harm) {
    static const char seed[] =
        "{\"name\":\"a\\u00e9\\ud83d\\ude00\xc3\xa9\",\"n\":[-1.5e3,0,true,null,{\"x\":{}}],\"s\":\"\\n\"}";
    uint64_t state = test_seed();
    for (int i = 0; i < 20000; i++) {
        char text[sizeof seed];
        memcpy(text, seed, sizeof seed);
        for (int j = 0; j < 2; j++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            static const char alphabet[] = "{}[]\",:\\u0d8e+-.19tfn \n\x01\x80\xc3\xff";
            text[(state >> 33) % (sizeof seed - 1)] = alphabet[(state >> 20) % (sizeof alphabet - 1)];
        }
        state = state * 6364136223846793005u + 1442695040888963407u;
        size_t length = (state >> 40) % 3 ? sizeof seed - 1 : (state >> 33) % sizeof seed;
        struct json *root;
        struct err e;
        int code = parse_bytes(&root, text, length, &e);
        ok(code == 0 || (code == E_SYNTAX && e.text[0]), "%s gave %d", text, code);
        if (code) continue;
        struct text out;
        text_init(&out, TEXT_MAX);
        struct json_writer w = json_writer(&out);
        json_put_value(&w, NULL, root);
        json_free(root);
        ok(parse(&root, out.data, &e) == 0, "%s: %s", out.data, e.text);
        json_free(root);
        text_free(&out);
    }
    ok(mem_live() == 0, "%lld alive", (long long)mem_live());
}

TEST_MAIN

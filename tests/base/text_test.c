/* text_test.c - growing texts, numbers in text, UTF-8, patterns. */
#include "base/text.h"

#include "tests/base/starve.h"

TEST(grows_up_to_its_maximum) {
    struct text t;
    text_init(&t, 1000);
    ok(t.data && !t.data[0] && mem_calls() == 0, "an empty text is \"\" and allocates nothing");
    for (int i = 0; i < 1000; i++) ok(text_add(&t, "x", 1) == 0, "byte %d", i);
    ok(t.length == 1000 && strlen(t.data) == 1000 && t.room <= 1001, "room %zu", t.room);
    ok(text_add(&t, "", 0) == 0, "nothing more still fits");
    ok(text_add(&t, "y", 1) == E_TOO_LARGE, "one more does not");
    ok(!t.data[0] && t.length == 0 && t.failed == E_TOO_LARGE, "empty and failed");
    ok(text_add(&t, "y", 1) == E_TOO_LARGE && text_format(&t, "%d", 1) == E_TOO_LARGE && !t.data[0], "stays failed");
    ok(text_take(&t) == NULL && mem_live() == 0, "nothing to take, nothing alive");
}

TEST(without_bound_is_bounded_by_memory) {
    struct text t;
    text_init(&t, SIZE_MAX);
    ok(text_add_string(&t, "ab") == 0 && strcmp(t.data, "ab") == 0, "%s", t.data);
    text_free(&t);
    text_free(&t);
    ok(mem_live() == 0, "freeing twice is fine");
}

TEST(formats) {
    struct text t;
    text_init(&t, 100);
    text_add_string(&t, "a");
    ok(text_format(&t, "%d-%s", 12, "z") == 0 && strcmp(t.data, "a12-z") == 0, "%s", t.data);
    ok(text_format(&t, "%95d", 1) == 0 && t.length == 100, "exactly full");
    ok(text_format(&t, "%d", 1) == E_TOO_LARGE, "over");
    text_free(&t);
}

TEST(take_moves) {
    struct text t;
    text_init(&t, 100);
    char *empty = text_take(&t);
    text_add_string(&t, "abc");
    char *taken = text_take(&t);
    need(empty && taken, "taken");
    ok(!*empty && strcmp(taken, "abc") == 0 && t.length == 0 && !t.data[0], "%s", taken);
    ok(text_add_string(&t, "next") == 0 && strcmp(t.data, "next") == 0, "usable again");
    text_free(&t);
    mem_free(empty);
    mem_free(taken);
    ok(mem_live() == 0, "%lld alive", (long long)mem_live());
}

static int write_some(void) {
    struct text t;
    text_init(&t, 100000);
    for (int i = 0; i < 500; i++) text_format(&t, "%d,", i);
    int code = t.failed;
    char *taken = text_take(&t);
    mem_free(taken);
    return code;
}

static int take_nothing(void) {
    struct text t;
    text_init(&t, 1);
    char *taken = text_take(&t);
    mem_free(taken);
    return taken ? 0 : E_NOMEM;
}

TEST(survives_lack_of_memory) {
    starve("write", write_some);
    starve("take", take_nothing);
}

TEST(print_and_copy_terminate) {
    char out[5];
    ok(text_print(out, sizeof out, "%d", 1234) && strcmp(out, "1234") == 0, "fits");
    ok(!text_print(out, sizeof out, "%d", 12345) && strcmp(out, "1234") == 0, "is cut");
    text_copy(out, sizeof out, "abcdefgh");
    ok(strcmp(out, "abcd") == 0, "%s", out);
    text_copy(out, sizeof out, "x");
    ok(strcmp(out, "x") == 0, "%s", out);
    text_copy(out, 0, "y");
    ok(out[0] == 'x', "no room, no write");
    text_copy(out, sizeof out, "abc\xc3\xa9");
    ok(strcmp(out, "abc") == 0, "two bytes stay together: %s", out);
    text_copy(out, sizeof out, "a\xf0\x9f\x98\x80");
    ok(strcmp(out, "a") == 0, "four bytes stay together: %s", out);
    text_copy(out, sizeof out,
              "ab\xc3\xa9"
              "c");
    ok(strcmp(out, "ab\xc3\xa9") == 0, "what fits, fits: %s", out);
}

TEST(utf8_is_checked) {
    static const char *const good[] = {"",
                                       "plain",
                                       "\x7f",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {
        "\x80",         "\xc0\x80",         "\xc1\xbf",         "\xe0\x9f\xbf",     "\xed\xa0\x80",
        "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",
        "\xc2",         "\xe1\x80",         "\xf1\x80\x80",     "\xc2\x41",         "a\xe1\x80\x41"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) ok(text_is_utf8(good[i], strlen(good[i])), "good %zu", i);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) ok(!text_is_utf8(bad[i], strlen(bad[i])), "bad %zu", i);
    ok(text_is_utf8("\xe2\x82\xac\xc2\xa0x\xc2\xa0", 8) && !text_is_utf8("\xc2\xa0\xa0", 3), "runs");
    ok(text_utf8_step("\xe2\x82\xac", 2) == 0, "only what is inside counts");
    ok(text_is_utf8("a\0b", 3), "NUL is a character");
    ok(text_utf8_step("", 0) == 0 && text_utf8_step("\xe2\x82\xac!", 4) == 3 && text_utf8_step("\xe2\x82", 2) == 0,
       "step");
}

TEST(whole_numbers) {
    int64_t v = 5;
    ok(text_to_int(&v, "0", 0, 0) && v == 0, "0");
    ok(text_to_int(&v, "-9223372036854775808", INT64_MIN, INT64_MAX) && v == INT64_MIN, "least");
    ok(text_to_int(&v, "9223372036854775807", INT64_MIN, INT64_MAX) && v == INT64_MAX, "largest");
    v = 5;
    static const char *const bad[] = {"",
                                      "-",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1.0",
                                      "0x10",
                                      "1e3",
                                      "--1",
                                      "9223372036854775808",
                                      "-9223372036854775809",
                                      "99999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ok(!text_to_int(&v, bad[i], INT64_MIN, INT64_MAX) && v == 5, "\"%s\"", bad[i]);
    ok(!text_to_int(&v, "11", 0, 10) && !text_to_int(&v, "-1", 0, 10) && v == 5, "out of range");
}

TEST(real_numbers) {
    double v = 5;
    ok(text_to_real(&v, "-1.5e3") && v == -1500, "%g", v);
    ok(text_to_real(&v, "7") && v == 7, "%g", v);
    ok(text_to_real(&v, "1e-400") && v == 0, "underflow is 0");
    v = 5;
    static const char *const bad[] = {"",      " 1",  "1 ", "nan", "inf",   "-infinity", "0x1p3",
                                      "1e400", "1,5", "e",  "-",   "1.2.3", "1e"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) ok(!text_to_real(&v, bad[i]) && v == 5, "\"%s\"", bad[i]);
}

TEST(patterns) {
    static const struct {
        const char *pattern, *name;
        bool match;
    } cases[] = {{"", "", true},
                 {"*", "", true},
                 {"?", "", false},
                 {"a", "a", true},
                 {"a", "ab", false},
                 {"a*", "abc", true},
                 {"*c", "abc", true},
                 {"a?c", "abc", true},
                 {"a?c", "ac", false},
                 {"*b*", "abc", true},
                 {"*.weight", "a.bias", false},
                 {"a*b*c", "aXbYbZc", true},
                 {"a*b*c", "aXbYbZ", false},
                 {"**", "x", true},
                 {"*?", "", false},
                 {"*ab", "aab", true},
                 {"layer?.*", "layer1.conv.weight", true},
                 {"\u5c64?", "\u5c642", true},
                 {"?2", "\u5c642", true},
                 {"??2", "\u5c642", false},
                 {"ab", "a", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ok(text_matches(cases[i].pattern, cases[i].name) == cases[i].match, "%s on %s", cases[i].pattern,
           cases[i].name);
}

TEST(patterns_are_not_exponential) {
    char name[2001], pattern[201];
    memset(name, 'a', 2000);
    name[2000] = '\0';
    for (int i = 0; i < 100; i++) memcpy(pattern + 2 * i, "*a", 2);
    memcpy(pattern + 198, "*b", 3);
    ok(!text_matches(pattern, name), "no b");
}

TEST_MAIN

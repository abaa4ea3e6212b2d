/* error_test.c - the error idiom: first one wins, codes have names. */
#include "base/error.h"

#include "tests/test.h"

TEST(the_first_error_stays) {
    struct err e = {0};
    ok(err_set(&e, E_INVALID, "width %d", 3) == E_INVALID, "returns the code");
    ok(err_set_at(&e, E_IO, "/b", "other") == E_IO, "returns its own code");
    ok(e.code == E_INVALID && strcmp(e.text, "width 3") == 0 && !e.pointer[0], "%d %s", e.code, e.text);
    err_clear(&e);
    ok(e.code == 0 && !e.text[0], "cleared");
    err_set_at(&e, E_IO, "/b", "disk %s", "full");
    ok(e.code == E_IO && strcmp(e.text, "disk full") == 0 && strcmp(e.pointer, "/b") == 0, "%s %s", e.text, e.pointer);
}

TEST(no_error_object_is_fine) {
    ok(err_set(NULL, E_BUSY, "x") == E_BUSY, "set");
    ok(err_set_at(NULL, E_BUSY, "/x", "x") == E_BUSY, "set_at");
    ok(err_memory(NULL, 10) == E_NOMEM, "memory");
    ok(err_prefix(NULL, "x") == E_INTERNAL, "prefix: never 0");
    err_clear(NULL);
}

TEST(prefix_puts_context_first) {
    struct err e = {0};
    ok(err_prefix(&e, "node") == E_INTERNAL && !e.text[0], "no error, nothing to prefix");
    err_set(&e, E_INVALID, "bad shape");
    ok(err_prefix(&e, "node %s", "conv1") == E_INVALID, "returns the code");
    ok(strcmp(e.text, "node conv1: bad shape") == 0, "%s", e.text);
}

TEST(long_texts_are_cut) {
    struct err e = {0};
    char *pointer = e.pointer;
    err_set_at(&e, E_INVALID, "/a", "%2000d", 1);
    ok(strlen(e.text) == sizeof e.text - 1 && strcmp(pointer, "/a") == 0, "%zu", strlen(e.text));
    err_prefix(&e, "%s", "before");
    ok(strncmp(e.text, "before:  ", 9) == 0 && strlen(e.text) == sizeof e.text - 1, "%.20s", e.text);
    err_prefix(&e, "%2000d", 1);
    ok(e.code == E_INVALID && strlen(e.text) == sizeof e.text - 1, "%zu", strlen(e.text));
}

TEST(memory_says_how_much) {
    struct err e = {0};
    ok(err_memory(&e, 123456) == E_NOMEM && strstr(e.text, "123456"), "%s", e.text);
}

TEST(codes_have_slugs_and_statuses) {
#define X(code, slug, status) \
    ok((code) < 0 && strcmp(err_slug(code), slug) == 0 && err_status(code) == (status), "%s %d", err_slug(code), code);
    ERROR_CODES(X)
#undef X
    ok(strcmp(err_slug(E_TOO_LARGE), "too-large") == 0 && err_status(E_TOO_LARGE) == 413, "too large");
    ok(strcmp(err_slug(12345), "internal") == 0 && err_status(12345) == 500, "not a code");
}

TEST_MAIN

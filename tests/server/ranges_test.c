/* ranges_test.c - Range and If-Range as RFC 9110 has them. */
#include "server/ranges.h"

#include "tests/test.h"

static bool part(const char *range, uint64_t size, uint64_t offset, uint64_t length) {
    struct span s;
    return range_read(&s, range, size) == RANGE_PART && s.offset == offset && s.size == length;
}

static enum range_kind kind(const char *range, uint64_t size) {
    struct span s;
    return range_read(&s, range, size);
}

TEST(ranges_of_a_hundred_bytes) {
    ok(part("bytes=0-0", 100, 0, 1), "the first byte");
    ok(part("bytes=10-19", 100, 10, 10), "in the middle");
    ok(part("bytes=90-", 100, 90, 10), "to the end");
    ok(part("bytes=90-1000", 100, 90, 10), "beyond the end is the end");
    ok(part("bytes=-7", 100, 93, 7), "the last seven");
    ok(part("bytes=-700", 100, 0, 100), "more than there are");
    ok(part("Bytes= 5-5 ", 100, 5, 1), "case and space");
    ok(part("bytes=0-99999999999999999999999999", 100, 0, 100), "beyond 64 bits");
    ok(part("bytes=-99999999999999999999999999", 100, 0, 100), "beyond 64 bits from behind");
}

TEST(ranges_that_cannot_be_satisfied) {
    ok(kind("bytes=100-", 100) == RANGE_NONE, "behind the end");
    ok(kind("bytes=99999999999999999999999999-", 100) == RANGE_NONE, "far behind it");
    ok(kind("bytes=-0", 100) == RANGE_NONE, "the last zero");
    ok(kind("bytes=0-", 0) == RANGE_NONE && kind("bytes=-5", 0) == RANGE_NONE, "of nothing");
}

TEST(ranges_that_are_ignored) {
    static const char *const odd[] = {"",          "bytes",      "bytes=",    "bytes=-",
                                      "bytes=a-b", "bytes=5",    "bytes=9-5", "bytes=1-2,4-5",
                                      "lines=1-2", "bytes=1-2x", "bytes=--1", "bytes=0x1-2"};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) ok(kind(odd[i], 100) == RANGE_WHOLE, "\"%s\"", odd[i]);
    ok(kind(NULL, 100) == RANGE_WHOLE, "none");
}

TEST(if_range) {
    ok(if_range_holds(NULL, "\"a\""), "no condition");
    ok(if_range_holds("\"a\"", "\"a\""), "the same");
    ok(!if_range_holds("\"b\"", "\"a\"") && !if_range_holds("\"ab\"", "\"a\""), "another");
    ok(!if_range_holds("W/\"a\"", "\"a\""), "weak tags do not hold");
    ok(!if_range_holds("Sat, 29 Oct 1994 19:43:31 GMT", "\"a\"") && !if_range_holds("\"a\"", NULL), "dates, no tag");
}

TEST_MAIN

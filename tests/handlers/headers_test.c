/* headers_test.c - what is read out of headers and queries. */
#include "handlers/headers.h"

#include "tests/handlers/asking.h"

TEST(tags_in_lists) {
    ok(header_names_tag("\"a\"", "\"a\"", true), "itself");
    ok(header_names_tag("\"x\", \"a\" , \"y\"", "\"a\"", true), "in the middle");
    ok(header_names_tag("*", "\"a\"", true) && header_names_tag("\"x\",*", "\"a\"", false), "any");
    ok(header_names_tag("W/\"a\"", "\"a\"", false) && !header_names_tag("W/\"a\"", "\"a\"", true), "weak");
    ok(header_names_tag("\"a,b\"", "\"a,b\"", true), "a comma inside");
    static const char *const no[] = {"", "a", "\"b\"", "\"ab\"", "\"a", "\"\"", "W/", ",,,"};
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) ok(!header_names_tag(no[i], "\"a\"", false), "\"%s\"", no[i]);
}

TEST(digests) {
    struct digest d;
    bool has;
    const char *abc = "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:";
    char two[200];
    struct digest right = digest_of("abc", 3);
    ok(!header_digest(&d, &has, abc, NULL) && has && digest_equal(&d, &right), "sha-256");
    text_print(two, sizeof two, "sha-512=:AAAA:, %s ", abc);
    ok(!header_digest(&d, &has, two, NULL) && has && digest_equal(&d, &right), "after another");
    ok(!header_digest(&d, &has, "sha-512=:AAAA:", NULL) && !has, "only another");
    ok(!header_digest(&d, &has, NULL, NULL) && !has, "none");
    ok(header_digest(&d, &has, "sha-256=:AAAA:", NULL) == E_SYNTAX, "too short");
    ok(header_digest(&d, &has, "sha-256=ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=", NULL) == E_SYNTAX, "no colons");
}

static int64_t prefer(const char *value) {
    struct request r = {.n_headers = 1, .headers = {{"Prefer", value}}};
    return header_prefer_wait(&r);
}

TEST(prefer_wait) {
    struct request none = {0};
    ok(header_prefer_wait(&none) == -1, "none");
    ok(prefer("wait=30") == 30 && prefer("respond-async, wait=5") == 5 && prefer("wait=7;x") == 7, "given");
    ok(prefer("wait=") == -1 && prefer("wait=x") == -1 && prefer("wait=-1") == -1 && prefer("await=3") == -1, "broken");
    ok(prefer("wait=99999999999999999999999999") == -1, "absurd");
}

static int key(char out[IDEMPOTENCY_KEY_SIZE], const char *value) {
    struct request r = {.n_headers = 1, .headers = {{"idempotency-key", value}}};
    return header_idempotency_key(out, &r, NULL);
}

TEST(idempotency_keys) {
    char out[IDEMPOTENCY_KEY_SIZE], long_one[400];
    ok(!key(out, "\"abc\"") && !strcmp(out, "abc"), "with quotes");
    ok(!key(out, "abc-1") && !strcmp(out, "abc-1"), "without");
    ok(key(out, "") == E_SYNTAX && key(out, "\"\"") == E_SYNTAX && key(out, "a b") == E_SYNTAX, "odd ones");
    memset(long_one, 'x', sizeof long_one);
    long_one[256] = '\0';
    ok(key(out, long_one) == E_SYNTAX, "256 characters");
    long_one[255] = '\0';
    ok(!key(out, long_one), "255 characters");
}

struct query {
    int64_t limit;
    bool flag;
    char q[8];
    int state;
    double ratio;
};
static const struct param query_table[] = {
    PARAM_INT(struct query, limit, "10", 1, 100, "n"), PARAM_BOOL(struct query, flag, "false", "f"),
    PARAM_STRING(struct query, q, NULL, "q"),          PARAM_CHOICE(struct query, state, NULL, "on off", "s"),
    PARAM_REAL(struct query, ratio, "0.5", 0, 1, "r"), PARAM_END,
};

static int parse(struct query *q, struct err *e, int n, const struct pair *pairs) {
    struct request r = {.n_query = n};
    memcpy(r.query, pairs, (size_t)n * sizeof *pairs);
    *e = (struct err){0};
    return query_parse(q, query_table, &r, e);
}
#define PARSE(...) \
    parse(&q, &e, sizeof((struct pair[]){__VA_ARGS__}) / sizeof(struct pair), (struct pair[]){__VA_ARGS__})

TEST(queries_through_tables) {
    struct query q;
    struct err e;
    ok(!parse(&q, &e, 0, NULL) && q.limit == 10 && !q.flag && !*q.q && q.state == -1, "defaults");
    ok(!PARSE({"limit", "7"}, {"flag", ""}, {"q", "12"}, {"state", "off"}, {"ratio", "0.25"}), "%s", e.text);
    ok(q.limit == 7 && q.flag && !strcmp(q.q, "12") && q.state == 1 && q.ratio == 0.25, "values");
    ok(!PARSE({"flag", "0"}) && !q.flag && !PARSE({"flag", "true"}) && q.flag, "truth");
    ok(PARSE({"limit", "0"}) == E_INVALID && PARSE({"limit", "x"}) == E_INVALID && PARSE({"limit", ""}) == E_INVALID,
       "bad numbers");
    ok(PARSE({"lmit", "1"}) == E_INVALID && strstr(e.text, "limit") && !strstr(e.text, "/lmit,"), "%s", e.text);
    ok(!*e.pointer, "pointers are for bodies: %s", e.pointer);
    ok(PARSE({"q", "12345678"}) == E_INVALID && PARSE({"flag", "perhaps"}) == E_INVALID, "too long, no truth");
    ok(PARSE({"q", "\"\\"}) == 0 && !strcmp(q.q, "\"\\"), "quotes");
}

TEST(headers_of_responses) {
    struct response out;
    char value[16];
    response_init(&out);
    reply_header(&out, "ETag", "\"%d\"", 5);
    reply_header(&out, "X-Long", "%s", "0123456789012345678");
    ok(reply_header_get(value, sizeof value, &out, "etag") && !strcmp(value, "\"5\""), "%s", value);
    ok(reply_header_get(value, sizeof value, &out, "X-Long") && strlen(value) == 15, "cut: %s", value);
    ok(!reply_header_get(value, sizeof value, &out, "X-Lon") && !reply_header_get(value, sizeof value, &out, "Tag"),
       "absent");
    response_fini(&out, NULL);
}

TEST_MAIN

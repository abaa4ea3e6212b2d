/* guard_test.c - requests that must be refused, as single functions and over the wire. */
#include "server/guard.h"

#include "server/target.h"
#include "tests/server/wire.h"

/* ---- targets ---- */

static int split(struct request *r, const char *raw) {
    static char room[2 * TARGET_ROOM(HTTP_MAX_TARGET)];
    *r = (struct request){0};
    return target_split(r, room, raw, NULL);
}

TEST(target_splits_before_it_decodes) {
    struct request r;
    need(!split(&r, "/v1/models/a%40champion/refs%2Fpr%2F1?wait=5&q=a+b%26c&flag"), "a fine target");
    ok(r.n_segments == 4 && !strcmp(r.segments[2], "a@champion"), "%%40");
    ok(!strcmp(r.segments[3], "refs/pr/1"), "%%2F stays inside its segment");
    ok(!strcmp(r.path, "/v1/models/a%40champion/refs%2Fpr%2F1"), "the path as sent: %s", r.path);
    ok(r.n_query == 3 && !strcmp(r.query[1].value, "a b&c") && !strcmp(r.query[2].value, ""), "query");
    ok(!split(&r, "/") && r.n_segments == 0, "the root");
    ok(!split(&r, "/a..b/...") && r.n_segments == 2, "dots inside a name");
    ok(!split(&r, "/?") && r.n_query == 0, "empty query");
    ok(!split(&r, "http://elsewhere/x") && !strcmp(r.segments[0], "x"), "absolute form");
    ok(!split(&r, "/\xc3\xa9/%C3%A9") && !strcmp(r.segments[0], r.segments[1]), "UTF-8");
}

TEST(target_refuses) {
    static const char *const bad[] = {
        "",       "*",        "x",        "/a//b",      "//",
        "/a/",    "/.",       "/..",      "/a/../b",    "/%2e%2e/x",
        "/a/%2E", "/%2e./x",  "/a%00b",   "/a%",        "/a%4",
        "/a%zz",  "/a%0ab",   "/a\tb",    "/%ff",       "/%c0%80",
        "/a#b",   "/a?x=%00", "/a?x=%ff", "/a?x=1&x=2", "/1/2/3/4/5/6/7/8/9/10/11/12/13",
    };
    struct request r;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) ok(split(&r, bad[i]) == E_SYNTAX, "\"%s\"", bad[i]);
    char long_one[HTTP_MAX_TARGET + 3];
    memset(long_one, 'a', sizeof long_one);
    long_one[0] = '/';
    long_one[sizeof long_one - 1] = '\0';
    ok(split(&r, long_one) == E_TOO_LARGE, "too long");
    char many[16 * HTTP_MAX_QUERY] = "/?";
    for (int i = 0; i <= HTTP_MAX_QUERY; i++) text_print(many + strlen(many), 16, "p%d&", i);
    ok(split(&r, many) == E_SYNTAX, "too many parameters");
}

/* ---- headers ---- */

static int judge(const char *version, int n, const struct pair *headers) {
    struct request r = {.n_headers = n};
    memcpy(r.headers, headers, (size_t)n * sizeof headers[0]);
    return guard_headers(&r, version, NULL);
}
#define JUDGE(version, ...) \
    judge(version, sizeof((struct pair[]){__VA_ARGS__}) / sizeof(struct pair), (struct pair[]){__VA_ARGS__})
#define HOST \
    { "Host", "localhost" }

TEST(guard_judges_headers) {
    ok(JUDGE("HTTP/1.1", HOST, {"Content-Length", "5"}) == 0, "an ordinary request");
    ok(JUDGE("HTTP/1.1", HOST, {"transfer-encoding", "Chunked"}) == 0, "chunked, whatever its case");
    ok(JUDGE("HTTP/1.0", {"Accept", "*/*"}) == 0, "HTTP/1.0 needs no Host");
    ok(JUDGE("HTTP/1.1", HOST, {"Content-Length", "0"}, {"content-length", "27"}) == 400, "two lengths");
    ok(JUDGE("HTTP/1.1", HOST, {"Content-Length", "5"}, {"Content-Length", "5"}) == 400, "two equal lengths");
    ok(JUDGE("HTTP/1.1", HOST, {"Content-Length", "5"}, {"Transfer-Encoding", "chunked"}) == 400, "both");
    ok(JUDGE("HTTP/1.1", HOST, {"Transfer-Encoding ", "chunked"}) == 400, "space before the colon");
    ok(JUDGE("HTTP/1.1", HOST, {"Transfer-Encoding", "gzip, chunked"}) == 400, "gzip, chunked");
    ok(JUDGE("HTTP/1.1", HOST, {"Transfer-Encoding", "identity"}) == 400, "identity");
    ok(JUDGE("HTTP/1.1", HOST, {"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}) == 400, "twice");
    ok(JUDGE("HTTP/1.0", HOST, {"Transfer-Encoding", "chunked"}) == 400, "chunked in HTTP/1.0");
    ok(JUDGE("HTTP/1.1", HOST, HOST) == 400, "two hosts");
    ok(JUDGE("HTTP/1.1", {"Accept", "*/*"}) == 400, "no host");
    ok(JUDGE("HTTP/1.1", {"Host", "a/b"}) == 400 && JUDGE("HTTP/1.1", {"Host", ""}) == 400, "what is no host");
    ok(JUDGE("HTTP/1.1", HOST, {"Content-Length", "-1"}) == 400, "a negative length");
    ok(JUDGE("HTTP/1.1", HOST, {"Content-Length", "5, 5"}) == 400, "a list of lengths");
    ok(JUDGE("HTTP/1.1", HOST, {"Content-Length", "+5"}) == 400, "a signed length");
    ok(JUDGE("HTTP/1.1", HOST, {"X-\x01", "y"}) == 400, "a control character in a name");
    ok(JUDGE("HTTP/1.1", HOST, {"X", "a\rb"}) == 400, "a control character in a value");
    ok(JUDGE("HTTP/2.0", HOST) == 505 && JUDGE("", HOST) == 505, "other versions");
}

static int from(const char *host, const char *origin, enum http_method method, bool open) {
    struct service service = {.open = open};
    struct request r = {.method = method, .service = &service, .headers = {{"Host", host}, {"Origin", origin}}};
    r.n_headers = origin ? 2 : 1;
    return guard_origin(&r, "retort.example box", NULL);
}

TEST(guard_judges_origins) {
    static const char *const local[] = {"localhost",   "localhost:8080", "127.0.0.1:1",        "[::1]:80", "LOCALHOST",
                                        "a.localhost", "10.1.2.3",       "retort.example:443", "box"};
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++)
        ok(from(local[i], NULL, HTTP_GET, true) == 0, "%s is ours", local[i]);
    ok(from("evil.example", NULL, HTTP_GET, true) == 421, "a foreign name");
    ok(from("localhost.evil.example", NULL, HTTP_GET, true) == 421, "one that begins like ours");
    ok(from("evil.example", NULL, HTTP_GET, false) == 0, "tokens make names harmless");
    ok(from("localhost:8080", "http://localhost:8080", HTTP_POST, true) == 0, "our own page");
    ok(from("localhost:8080", "http://evil.example", HTTP_POST, true) == 403, "a foreign page changes something");
    ok(from("localhost:8080", "null", HTTP_DELETE, true) == 403, "a page without origin");
    ok(from("localhost:8080", "http://evil.example", HTTP_GET, true) == 0, "it may ask; the browser keeps the answer");
}

/* ---- over the wire ---- */

static atomic_int smuggled;

static int answer(const struct request *r, struct response *out, struct err *e) {
    (void)e;
    if (!strcmp(r->path, "/smuggled")) atomic_fetch_add(&smuggled, 1);
    struct json_writer w = reply_json(out, 200);
    json_open_object(&w, NULL);
    json_put_string(&w, "path", r->path);
    json_put_int(&w, "bytes", (int64_t)r->body_size);
    json_close_object(&w);
    return 0;
}

static const struct route get_any = {.method = HTTP_GET, .pattern = "/{any}", .summary = "", .handle = answer},
                          post_any = {.method = HTTP_POST,
                                      .pattern = "/{any}",
                                      .summary = "",
                                      .handle = answer,
                                      .body = BODY_JSON,
                                      .body_max = 1000};
static const struct route *const routes[] = {&get_any, &post_any, NULL};

#define HIDDEN "GET /smuggled HTTP/1.1\r\nX: y\r\n\r\n" /* 33 bytes */

struct row {
    const char *what, *request;
    int low, high; /* statuses that are right */
    bool known;    /* libmicrohttpd hides it: accepted for now */
};

static const struct row rows[] = {
    {"two Content-Length",
     "POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 33\r\n\r\n" HIDDEN, 400, 400, false},
    {"Content-Length and chunked",
     "POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 38\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" HIDDEN,
     400, 400, false},
    {"space before the colon",
     "POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" HIDDEN,
     400, 400, false},
    {"gzip, chunked", "POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" HIDDEN,
     400, 501, false},
    {"two Host", "GET /a HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n" HIDDEN, 400, 400, false},
    {"no Host", "GET /a HTTP/1.1\r\nX: y\r\n\r\n" HIDDEN, 400, 400, false},
    {"bare LF", "GET /a HTTP/1.1\nHost: localhost\n\n", 200, 400, true},
    {"climbing path", "GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n" HIDDEN, 400, 404, false},
    {"encoded climbing path with NUL", "GET /%2e%2e/%2e%2e/x%00y HTTP/1.1\r\nHost: localhost\r\n\r\n" HIDDEN, 400, 404,
     false},
    {"negative length", "POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n" HIDDEN, 400, 400, false},
    {"length beyond 64 bits",
     "POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n" HIDDEN, 400, 413, false},
    {"body where none is taken", "GET /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 33\r\n\r\n" HIDDEN, 400, 400,
     false},
    {"body over the limit", "POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n" HIDDEN, 413, 413,
     false},
    {"body on an unknown path", "POST /a/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 33\r\n\r\n" HIDDEN, 404, 404,
     false},
    {"body with an unknown method", "PATCH /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 33\r\n\r\n" HIDDEN, 405,
     405, false},
    {"foreign host", "GET /a HTTP/1.1\r\nHost: evil.example\r\n\r\n" HIDDEN, 421, 421, false},
    {"a chunk without size", "POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" HIDDEN,
     400, 400, false},
    {"a chunk of 2^64 bytes",
     "POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n" HIDDEN, 400, 413,
     false},
    {"HTTP/2 in words", "GET /a HTTP/2.0\r\nHost: localhost\r\n\r\n" HIDDEN, 400, 505, false},
    {"no version", "GET /a\r\n\r\n" HIDDEN, 400, 505, false},
};

TEST(hostile_requests_get_one_answer) {
    struct wire w = {0};
    char out[8192];
    need(wire_start(&w, routes), "start");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *row = &rows[i];
        wire_ask(&w, row->request, out, sizeof out);
        int status = wire_status(out), answers = wire_count(out, "HTTP/1.1 ");
        ok(answers == 1, "%s: %d answers: %s", row->what, answers, out);
        ok(status >= row->low && status <= row->high, "%s: status %d", row->what, status);
        if (row->known) printf("# known: %s gives %d, libmicrohttpd does not show it to us\n", row->what, status);
    }
    ok(atomic_load(&smuggled) == 0, "%d hidden requests were run", atomic_load(&smuggled));
    wire_stop(&w);
}

TEST(a_header_of_300000_bytes) {
    struct wire w = {0};
    static char request[301000], out[8192];
    need(wire_start(&w, routes), "start");
    int n = snprintf(request, sizeof request, "GET /a HTTP/1.1\r\nHost: localhost\r\nX: ");
    memset(request + n, 'x', 300000);
    snprintf(request + n + 300000, 700, "\r\n\r\n" HIDDEN);
    wire_ask(&w, request, out, sizeof out);
    int status = wire_status(out);
    ok(wire_count(out, "HTTP/1.1 ") <= 1, "one answer at most");
    ok(status == 431 || status == 400 || status == 0, "status %d", status); /* 0: the reset overtook the answer */
    ok(wire_get(&w, "GET /a", "", out, sizeof out) == 200, "the server goes on");
    wire_stop(&w);
}

TEST(too_many_headers) {
    struct wire w = {0};
    static char headers[4000], out[8192];
    need(wire_start(&w, routes), "start");
    for (int i = 0; i < HTTP_MAX_HEADERS + 5; i++) text_print(headers + strlen(headers), 20, "X%d: y\r\n", i);
    ok(wire_get(&w, "GET /a", headers, out, sizeof out) == 431, "%.30s", out);
    wire_stop(&w);
}

TEST(pipelined_requests_are_answered_in_order) {
    struct wire w = {0};
    char out[8192];
    need(wire_start(&w, routes), "start");
    wire_ask(
        &w,
        "POST /one HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}GET /two HTTP/1.1\r\nHost: localhost\r\n\r\n",
        out, sizeof out);
    const char *one = strstr(out, "/one"), *two = strstr(out, "/two");
    ok(wire_count(out, "HTTP/1.1 200") == 2 && one && two && one < two, "%s", out);
    wire_stop(&w);
}

TEST_MAIN

/* front_test.c - the front over the wire, with routes of its own: bodies, uploads, downloads, event
 * streams, waiting, and the end. */
#define TEST_SECONDS 60
#include "tests/server/wire.h"

#include "base/memory.h"
#include "store/jobs.h"

#define MIB (1u << 20)
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MEMORY_LIMIT_KIB (96 << 10) /* mostly shadow */
#else
#define MEMORY_LIMIT_KIB (8 << 10)
#endif

/* ---- a few routes ---- */

static int echo(const struct request *r, struct response *out, struct err *e) {
    (void)e;
    struct json_writer w = reply_json(out, 200);
    json_open_object(&w, NULL);
    json_put_int(&w, "bytes", (int64_t)r->body_size);
    json_put_string(&w, "name", r->captures[0]);
    json_close_object(&w);
    return 0;
}

static int fail(const struct request *r, struct response *out, struct err *e) {
    (void)r, (void)out;
    return err_set_at(e, E_INVALID, "/width", "found 7, expected less");
}

/* n bytes: byte i is i % 251. */
static int pattern_read(size_t *got, void *to, size_t room, uint64_t offset, void *state, struct store *store,
                        struct err *e) {
    uint64_t size = *(uint64_t *)state;
    (void)store, (void)e;
    *got = size - offset < room ? (size_t)(size - offset) : room;
    for (size_t i = 0; i < *got; i++) ((unsigned char *)to)[i] = (unsigned char)((offset + i) % 251);
    return 0;
}

static atomic_int open_sources;

static void release(void *state, struct store *store) {
    (void)store;
    atomic_fetch_sub(&open_sources, 1);
    mem_free(state);
}

static int pattern(const struct request *r, struct response *out, struct err *e) {
    uint64_t *size = mem_alloc(sizeof *size);
    if (!size) return err_memory(e, sizeof *size);
    *size = strtoull(r->captures[0], NULL, 10);
    atomic_fetch_add(&open_sources, 1);
    out->status = 200;
    out->kind = REPLY_SOURCE;
    out->type = "application/octet-stream";
    out->source = (struct byte_source){.state = size, .size = *size, .read = pattern_read, .close = release};
    out->source.has_digest = true;
    return 0;
}

struct counted {
    uint64_t bytes;
    struct hasher hash;
};
static atomic_int sinks_ended, sinks_aborted;

static int count_piece(void *state, struct store *store, const void *bytes, size_t size, struct err *e) {
    struct counted *c = state;
    (void)store;
    c->bytes += size;
    hasher_add(&c->hash, bytes, size);
    return c->bytes > 3 * MIB && !memcmp(bytes, "refuse me", 9) ? err_set(e, E_INVALID, "refused as asked") : 0;
}

static int count_end(void *state, const struct request *r, struct response *out, struct err *e) {
    struct counted *c = state;
    struct digest d = hasher_finish(&c->hash);
    char hex[DIGEST_HEX_SIZE];
    (void)r, (void)e;
    digest_to_hex(hex, &d);
    struct json_writer w = reply_json(out, 201);
    json_open_object(&w, NULL);
    json_put_int(&w, "bytes", (int64_t)c->bytes);
    json_put_string(&w, "sha256", hex);
    json_close_object(&w);
    atomic_fetch_add(&sinks_ended, 1);
    mem_free(c);
    return 0;
}

static void count_abort(void *state, struct store *store) {
    (void)store;
    atomic_fetch_add(&sinks_aborted, 1);
    mem_free(state);
}

static int count_begin(struct sink *sink, const struct request *r, struct err *e) {
    if (!strcmp(r->captures[0], "never")) return err_set(e, E_CONFLICT, "refused before the body");
    struct counted *c = mem_calloc(1, sizeof *c);
    if (!c) return err_memory(e, sizeof *c);
    hasher_init(&c->hash);
    *sink = (struct sink){c, count_piece, count_end, count_abort};
    return 0;
}

/* Events: whatever the test has published so far. */
static atomic_int published;
static atomic_bool over;

static int next_events(struct text *out, bool *done, void *state, struct store *store, struct err *e) {
    int *sent = state, now = atomic_load(&published);
    (void)store, (void)e;
    bool last = atomic_load(&over);
    for (; *sent < now; (*sent)++) text_format(out, "id: %d\ndata: {}\n\n", *sent + 1);
    *done = last && *sent == atomic_load(&published);
    return 0;
}

static int events(const struct request *r, struct response *out, struct err *e) {
    int *sent = mem_calloc(1, sizeof *sent);
    (void)r;
    if (!sent) return err_memory(e, sizeof *sent);
    atomic_fetch_add(&open_sources, 1);
    out->status = 200;
    out->kind = REPLY_EVENTS;
    out->type = "text/event-stream";
    out->events = (struct events){sent, next_events, release, ":\n\n"};
    return 0;
}

static int until_over(const struct request *r, struct response *out, struct err *e) {
    if (!atomic_load(&over) && r->waited_ms < 20000) {
        reply_wait(out, 20000 - r->waited_ms);
        return 0;
    }
    return echo(r, out, e);
}

/* Does not end, as the check of an absurd network may not. */
static int endless(const struct request *r, struct response *out, struct err *e) {
    while (!atomic_load(&over)) clock_sleep_ms(5);
    return echo(r, out, e);
}

static const struct route
    get_echo = {.method = HTTP_GET, .pattern = "/echo/{x}", .handle = echo},
    post_echo = {.method = HTTP_POST, .pattern = "/echo/{x}", .handle = echo, .body = BODY_JSON, .body_max = 70000},
    post_slow = {.method = HTTP_POST,
                 .pattern = "/slow/{x}",
                 .handle = echo,
                 .body = BODY_JSON,
                 .body_max = 70000,
                 .slow = true},
    get_endless = {.method = HTTP_GET, .pattern = "/endless/{x}", .handle = endless, .slow = true},
    get_fail = {.method = HTTP_GET, .pattern = "/fail", .handle = fail},
    get_pattern = {.method = HTTP_GET, .pattern = "/pattern/{n}", .handle = pattern},
    put_count = {.method = HTTP_PUT, .pattern = "/count/{x}", .upload = count_begin, .body = BODY_STREAM},
    get_events = {.method = HTTP_GET, .pattern = "/events", .handle = events},
    get_until = {.method = HTTP_GET, .pattern = "/until/{x}", .handle = until_over};
static const struct route *const routes[] = {&get_echo,  &post_echo,  &post_slow, &get_fail,    &get_pattern,
                                             &put_count, &get_events, &get_until, &get_endless, NULL};

/* ---- documents ---- */

TEST(documents_and_problems) {
    struct wire w = {0};
    char out[8192], value[256];
    need(wire_start(&w, routes), "start");
    ok(wire_get(&w, "GET /echo/a%40b", "X-Request-Id: mine-7\r\n", out, sizeof out) == 200, "%s", out);
    ok(strstr(wire_body(out), "\"name\":\"a@b\"") != NULL, "%s", out);
    ok(!strcmp(wire_header(out, "X-Request-Id", value, sizeof value), "mine-7"), "the id comes back: %s", value);
    ok(!strcmp(wire_header(out, "X-Content-Type-Options", value, sizeof value), "nosniff"), "nosniff");
    ok(strstr(wire_header(out, "Content-Security-Policy", value, sizeof value), "default-src 'none'") != NULL, "CSP");
    wire_get(&w, "GET /echo/a", "X-Request-Id: <script>\r\n", out, sizeof out);
    ok(strlen(wire_header(out, "X-Request-Id", value, sizeof value)) == 16, "an odd id is replaced: %s", value);
    ok(wire_get(&w, "HEAD /echo/a", "", out, sizeof out) == 200 && !*wire_body(out), "HEAD: %s", out);
    ok(wire_get(&w, "GET /fail", "", out, sizeof out) == 422, "%s", out);
    ok(!strcmp(wire_header(out, "Content-Type", value, sizeof value), "application/problem+json"), "%s", value);
    ok(strstr(out, "\"errors\":[{\"pointer\":\"/width\"") != NULL, "%s", wire_body(out));
    ok(wire_get(&w, "GET /nothing", "", out, sizeof out) == 404, "%s", out);
    ok(wire_get(&w, "DELETE /echo/a", "", out, sizeof out) == 405, "%s", out);
    ok(!strcmp(wire_header(out, "Allow", value, sizeof value), "GET, HEAD, POST"), "Allow: %s", value);
    ok(wire_get(&w, "BREW /echo/a", "", out, sizeof out) == 405, "%s", out);
    ok(wire_get(&w, "GET /echo/a?x=1", "", out, sizeof out) == 422 && strstr(out, "no query"), "%s", out);
    wire_stop(&w);
}

static int post(const struct wire *w, const char *path, size_t size, const char *headers, char *out, size_t room) {
    static char request[80000];
    int n = snprintf(request, sizeof request,
                     "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %zu\r\n%s\r\n", path,
                     size, headers);
    memset(request + n, ' ', size);
    int s = wire_connect(w);
    wire_write(s, request, (size_t)n + size);
    wire_read(s, out, room, 3000);
    close(s);
    return wire_status(out);
}

TEST(json_bodies) {
    struct wire w = {0};
    char out[8192];
    need(wire_start(&w, routes), "start");
    ok(post(&w, "/echo/x", 70000, "", out, sizeof out) == 200 && strstr(out, "\"bytes\":70000"),
       "as much as allowed: %s", out);
    ok(post(&w, "/echo/x", 70001, "", out, sizeof out) == 413 && strstr(out, "\"max_bytes\":70000"), "one more: %s",
       out);
    ok(post(&w, "/slow/x", 5, "", out, sizeof out) == 200 && strstr(out, "\"bytes\":5"), "at a desk: %s", out);
    ok(post(&w, "/echo/x", 5, "Content-Encoding: gzip\r\n", out, sizeof out) == 415, "%s", out);
    ok(post(&w, "/echo/x", 5, "Content-Range: bytes 0-4/10\r\n", out, sizeof out) == 400, "%s", out);
    ok(post(&w, "/echo/x", 5, "Content-Type: multipart/form-data; boundary=x\r\n", out, sizeof out) == 415, "%s", out);
    const char *right =
        "Content-Digest: sha-256=:jvSkprynEqV8dP1Y0mNqIbbxhzBsP4JV+tHlFB3kU8A=:\r\n"; /* of something else */
    ok(post(&w, "/echo/x", 5, right, out, sizeof out) == 400 && strstr(out, "digest-mismatch"), "%s", out);
    ok(post(&w, "/echo/x", 5, "Repr-Digest: sha-256=:abc:\r\n", out, sizeof out) == 400, "%s", out);
    ok(post(&w, "/echo/x", 5, "Content-Digest: md5=:abc:\r\n", out, sizeof out) == 200, "unknown algorithms: %s", out);
    ok(post(&w, "/echo/x", 5, "Origin: http://evil.example\r\n", out, sizeof out) == 403, "%s", out);
    ok(atomic_load(&w.stats.active) == 0 || (usleep(100000), atomic_load(&w.stats.active) == 0), "all are over");
    wire_stop(&w);
}

TEST(chunked_bodies) {
    struct wire w = {0};
    static char out[8192], piece[40000];
    need(wire_start(&w, routes), "start");
    wire_ask(
        &w,
        "POST /echo/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n",
        out, sizeof out);
    ok(wire_status(out) == 200 && strstr(out, "\"bytes\":5"), "%s", out);
    int s = wire_connect(&w), n = 0;
    const char *head = "POST /echo/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    wire_write(s, head, strlen(head));
    memset(piece, ' ', sizeof piece);
    while (n++ < 4 && wire_write(s, "9c40\r\n", 6) && wire_write(s, piece, 40000) && wire_write(s, "\r\n", 2)) continue;
    wire_read(s, out, sizeof out, 1000);
    ok(wire_status(out) == 413, "the answer comes although the body goes on: %s", out);
    ok(wire_count(out, "HTTP/1.1 ") == 1, "once");
    close(s);
    wire_stop(&w);
}

/* ---- uploads ---- */

static int open_upload(const struct wire *w, const char *path, const char *headers) {
    char text[1024];
    int s = wire_connect(w);
    text_print(text, sizeof text, "PUT %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n", path, headers);
    wire_write(s, text, strlen(text));
    return s;
}

TEST(early_rejection_sends_no_body) {
    struct wire w = {.service.upload_max = 1000};
    char out[8192];
    need(wire_start(&w, routes), "start");
    int s = open_upload(&w, "/count/x", "Content-Length: 1001\r\nExpect: 100-continue\r\n");
    wire_read(s, out, sizeof out, 1000);
    ok(wire_status(out) == 413 && wire_count(out, "HTTP/1.1 ") == 1, "%s", out);
    close(s);
    s = open_upload(&w, "/count/never", "Content-Length: 10\r\nExpect: 100-continue\r\n");
    wire_read(s, out, sizeof out, 1000);
    ok(wire_status(out) == 409 && wire_count(out, "HTTP/1.1 ") == 1, "%s", out);
    close(s);
    s = open_upload(&w, "/count/x", "Content-Length: 4\r\nExpect: 100-continue\r\n");
    wire_read(s, out, sizeof out, 300);
    ok(wire_status(out) == 100, "go on: %s", out);
    wire_write(s, "abcd", 4);
    wire_read(s, out, sizeof out, 1000);
    ok(wire_status(out) == 201, "%s", out);
    close(s);
    wire_stop(&w);
}

/* Sends `size` bytes of the pattern; false when the peer hangs up. */
static bool send_pattern(int s, uint64_t size) {
    static unsigned char bytes[251 * 1024];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i % 251);
    for (uint64_t sent = 0; sent < size; sent += sizeof bytes)
        if (!wire_write(s, bytes, size - sent < sizeof bytes ? (size_t)(size - sent) : sizeof bytes)) return false;
    return true;
}

TEST(an_upload_of_256_mib_in_flat_memory) {
    struct wire w = {0};
    char out[8192], length[64];
    uint64_t size = UINT64_C(256) * MIB + 12345;
    need(wire_start(&w, routes), "start");
    wire_get(&w, "GET /echo/warm", "", out, sizeof out);
    long before = wire_memory("VmHWM");
    text_print(length, sizeof length, "Content-Length: %llu\r\n", (unsigned long long)size);
    int64_t start = clock_monotonic_ns();
    int s = open_upload(&w, "/count/x", length);
    ok(send_pattern(s, size), "sent");
    wire_read(s, out, sizeof out, 5000);
    double seconds = (double)(clock_monotonic_ns() - start) / 1e9;
    long grown = wire_memory("VmHWM") - before;
    text_print(length, sizeof length, "\"bytes\":%llu", (unsigned long long)size);
    ok(wire_status(out) == 201 && strstr(out, length), "%s", out);
    printf("# 256 MiB in %.2f s, %.0f MB/s with hashing; memory grew by %ld KiB to %ld KiB\n", seconds,
           (double)size / 1e6 / seconds, grown, wire_memory("VmHWM"));
    ok(grown < MEMORY_LIMIT_KIB, "%ld KiB", grown);
    close(s);
    wire_stop(&w);
}

static void wait_for(atomic_int *what, int value) {
    for (int i = 0; i < 200 && atomic_load(what) < value; i++) usleep(10000);
}

TEST(uploads_that_break_off_are_aborted) {
    struct wire w = {0};
    need(wire_start(&w, routes), "start");
    int empty = open_upload(&w, "/count/x", "Content-Length: 1000\r\n");
    int short_one = open_upload(&w, "/count/x", "Content-Length: 1000\r\n");
    wire_write(short_one, "abc", 3);
    int long_one = open_upload(&w, "/count/x", "Content-Length: 9000000\r\n");
    send_pattern(long_one, 5 * MIB);
    usleep(100000);
    close(empty), close(short_one), close(long_one);
    wait_for(&sinks_aborted, 3);
    ok(atomic_load(&sinks_aborted) == 3 && atomic_load(&sinks_ended) == 0, "%d", atomic_load(&sinks_aborted));
    ok(atomic_load(&w.stats.uploads) == 0, "places are free again: %lld", (long long)atomic_load(&w.stats.uploads));
    wire_stop(&w);
}

TEST(a_sink_that_refuses_is_heard_at_once) {
    struct wire w = {0};
    static char out[8192], piece[MIB];
    need(wire_start(&w, routes), "start");
    int s = open_upload(&w, "/count/x", "Content-Length: 1000000000\r\n"), sent = 0;
    fcntl(s, F_SETFL, O_NONBLOCK);
    memcpy(piece, "refuse me", 9);
    while (sent < 900) { /* as curl does: sends as long as no answer comes */
        struct pollfd p = {s, POLLIN | POLLOUT, 0};
        poll(&p, 1, 1000);
        if (p.revents & POLLIN) break;
        ssize_t n = send(s, piece, MIB, MSG_NOSIGNAL);
        if (n <= 0) break;
        sent += n == MIB;
    }
    wire_read(s, out, sizeof out, 500);
    ok(wire_status(out) == 422 && strstr(out, "refused as asked"), "%s", out);
    ok(sent < 100, "%d MiB were sent in vain", sent);
    close(s);
    wait_for(&sinks_aborted, 1);
    ok(atomic_load(&sinks_aborted) == 1, "aborted once");
    wire_stop(&w);
}

TEST(no_more_uploads_at_a_time_than_allowed) {
    struct wire w = {.service.uploads = 2};
    char out[8192], value[64];
    need(wire_start(&w, routes), "start");
    int a = open_upload(&w, "/count/x", "Content-Length: 10\r\n"),
        b = open_upload(&w, "/count/x", "Content-Length: 10\r\n");
    usleep(100000);
    int c = open_upload(&w, "/count/x", "Content-Length: 10\r\n");
    wire_read(c, out, sizeof out, 1000);
    ok(wire_status(out) == 503 && *wire_header(out, "Retry-After", value, sizeof value), "%s", out);
    close(c);
    wire_write(a, "0123456789", 10);
    wire_read(a, out, sizeof out, 1000);
    ok(wire_status(out) == 201, "%s", out);
    close(a), close(b);
    wire_stop(&w);
}

TEST(digests_of_uploads_are_verified) {
    struct wire w = {0};
    char out[8192];
    need(wire_start(&w, routes), "start");
    const char *abc = "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:";
    char headers[256];
    text_print(headers, sizeof headers, "Content-Length: 3\r\nRepr-Digest: %s\r\n", abc);
    int s = open_upload(&w, "/count/x", headers);
    wire_write(s, "abc", 3);
    wire_read(s, out, sizeof out, 1000);
    ok(wire_status(out) == 201, "%s", out);
    close(s);
    s = open_upload(&w, "/count/x", headers);
    wire_write(s, "abd", 3);
    wire_read(s, out, sizeof out, 1000);
    ok(wire_status(out) == 400 && strstr(out, "digest-mismatch"), "%s", out);
    close(s);
    wait_for(&sinks_aborted, 1);
    ok(atomic_load(&sinks_aborted) == 1 && atomic_load(&sinks_ended) == 1, "the wrong one is not ended");
    wire_stop(&w);
}

/* ---- downloads ---- */

TEST(ranges_and_conditions) {
    struct wire w = {0};
    char out[8192], value[256];
    need(wire_start(&w, routes), "start");
    ok(wire_get(&w, "GET /pattern/1000", "", out, sizeof out) == 200, "%s", out);
    ok(!strcmp(wire_header(out, "Accept-Ranges", value, sizeof value), "bytes"), "%s", value);
    ok(!strncmp(wire_header(out, "Repr-Digest", value, sizeof value), "sha-256=:", 9), "%s", value);
    char tag[128], condition[256];
    wire_header(out, "ETag", tag, sizeof tag);
    ok(!strncmp(tag, "\"sha256:", 8), "%s", tag);

    ok(wire_get(&w, "GET /pattern/1000", "Range: bytes=10-19\r\n", out, sizeof out) == 206, "%s", out);
    ok(!strcmp(wire_header(out, "Content-Range", value, sizeof value), "bytes 10-19/1000"), "%s", value);
    ok(wire_body(out)[0] == 10 && wire_body(out)[9] == 19 && strlen(wire_body(out)) == 10, "the bytes");
    ok(wire_get(&w, "GET /pattern/1000", "Range: bytes=1000-\r\n", out, sizeof out) == 416, "%s", out);
    ok(!strcmp(wire_header(out, "Content-Range", value, sizeof value), "bytes */1000"), "%s", value);
    ok(wire_get(&w, "GET /pattern/1000", "Range: bytes=1-2,4-5\r\n", out, sizeof out) == 200, "several: all of it");
    ok(wire_get(&w, "HEAD /pattern/1000", "Range: bytes=1-2\r\n", out, sizeof out) == 200, "HEAD knows no ranges");
    ok(!strcmp(wire_header(out, "Content-Length", value, sizeof value), "1000"), "%s", value);

    text_print(condition, sizeof condition, "Range: bytes=0-0\r\nIf-Range: %s\r\n", tag);
    ok(wire_get(&w, "GET /pattern/1000", condition, out, sizeof out) == 206, "%s", out);
    ok(wire_get(&w, "GET /pattern/1000", "Range: bytes=0-0\r\nIf-Range: \"other\"\r\n", out, sizeof out) == 200, "%s",
       out);
    text_print(condition, sizeof condition, "If-None-Match: \"x\", W/%s\r\n", tag);
    ok(wire_get(&w, "GET /pattern/1000", condition, out, sizeof out) == 304 && !*wire_body(out), "%s", out);
    ok(!strcmp(wire_header(out, "ETag", value, sizeof value), tag), "a 304 has the tag");
    ok(wire_get(&w, "GET /pattern/1000", "If-None-Match: *\r\n", out, sizeof out) == 304, "%s", out);
    ok(wire_get(&w, "GET /pattern/0", "", out, sizeof out) == 200 && !*wire_body(out), "nothing at all: %s", out);
    usleep(50000);
    ok(atomic_load(&open_sources) == 0, "%d sources are open", atomic_load(&open_sources));
    wire_stop(&w);
}

TEST(a_long_download_is_right_and_one_that_breaks_off_is_closed) {
    struct wire w = {0};
    static char piece[MIB], out[8192];
    const char *ask = "GET /pattern/40000000 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    need(wire_start(&w, routes), "start");
    int s = wire_connect(&w);
    wire_write(s, ask, strlen(ask));
    uint64_t have = 0, wrong = 0;
    size_t n = wire_read(s, piece, 2000, 1000), head = (size_t)(wire_body(piece) - piece);
    memmove(piece, piece + head, n -= head);
    while (n) {
        for (size_t i = 0; i < n; i++) wrong += (unsigned char)piece[i] != (have + i) % 251;
        have += n;
        ssize_t more = recv(s, piece, sizeof piece, 0);
        n = more > 0 ? (size_t)more : 0;
    }
    ok(have == 40000000 && wrong == 0, "%llu bytes, %llu wrong", (unsigned long long)have, (unsigned long long)wrong);
    close(s);
    s = wire_connect(&w);
    wire_write(s, ask, strlen(ask));
    wire_read(s, out, 100, 1000);
    close(s);
    for (int i = 0; i < 100 && atomic_load(&open_sources); i++) usleep(10000);
    ok(atomic_load(&open_sources) == 0, "%d sources are open", atomic_load(&open_sources));
    wire_stop(&w);
}

/* ---- event streams ---- */

#define CLIENTS 120
#define EVENTS 60

struct listener {
    int socket, last, gaps;
    bool ended;
    char rest[256]; /* an id line that was cut */
};

/* Numbers of "id: n" lines must follow each other. */
static void listen_on(struct listener *l, char *bytes, size_t n) {
    static char text[70000];
    size_t kept = strlen(l->rest);
    memcpy(text, l->rest, kept);
    memcpy(text + kept, bytes, n);
    text[kept + n] = '\0';
    char *at = text, *end;
    while ((end = strchr(at, '\n'))) {
        int id;
        if (sscanf(at, "id: %d\n", &id) == 1) l->gaps += id != l->last + 1, l->last = id;
        if (!strncmp(at, "0\r\n", 3)) l->ended = true; /* the last chunk */
        at = end + 1;
    }
    text_copy(l->rest, sizeof l->rest, at);
}

static void listen_to_all(struct listener *all, int n, int ms) {
    struct pollfd p[CLIENTS];
    char bytes[60000];
    int64_t until = clock_monotonic_ns() + ms * INT64_C(1000000);
    while (clock_monotonic_ns() < until) {
        for (int i = 0; i < n; i++) p[i] = (struct pollfd){all[i].socket, POLLIN, 0};
        if (poll(p, (nfds_t)n, 10) <= 0) continue;
        for (int i = 0; i < n; i++) {
            ssize_t got =
                p[i].revents && all[i].socket >= 0 ? recv(all[i].socket, bytes, sizeof bytes, MSG_DONTWAIT) : -1;
            if (got > 0) listen_on(&all[i], bytes, (size_t)got);
            if (got == 0) close(all[i].socket), all[i].socket = -1;
        }
    }
}

/* Every change of the store wakes the streams: this makes one. */
static void touch_store(const struct wire *w) {
    static struct store *other;
    int64_t job;
    if (!other) store_open(&other, &(struct store_options){.folder = w->folder}, NULL);
    ok(!store_job_create(&job, NULL, other, &(struct store_job_new){.method = "x", .spec = "{}"}, NULL), "a change");
}

TEST(a_hundred_streams_miss_nothing) {
    struct wire w = {0};
    static struct listener all[CLIENTS];
    need(wire_start(&w, routes), "start");
    for (int i = 0; i < CLIENTS; i++) {
        const char *ask = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        all[i].socket = wire_connect(&w);
        wire_write(all[i].socket, ask, strlen(ask));
    }
    listen_to_all(all, CLIENTS, 300);
    ok(atomic_load(&w.stats.streams) == CLIENTS, "%lld streams", (long long)atomic_load(&w.stats.streams));
    close(all[7].socket); /* one goes away without a word */
    all[7].socket = -1;
    for (int i = 0; i < EVENTS; i++) {
        atomic_fetch_add(&published, 1);
        touch_store(&w);
        listen_to_all(all, CLIENTS, 20);
    }
    atomic_store(&over, true);
    touch_store(&w);
    listen_to_all(all, CLIENTS, 1500);
    int complete = 0, gaps = 0, ended = 0;
    for (int i = 0; i < CLIENTS; i++) {
        if (i == 7) continue;
        complete += all[i].last == EVENTS, gaps += all[i].gaps, ended += all[i].ended;
        close(all[i].socket);
    }
    ok(complete == CLIENTS - 1 && gaps == 0, "%d complete, %d gaps", complete, gaps);
    ok(ended == CLIENTS - 1, "%d ended", ended);
    for (int i = 0; i < 100 && atomic_load(&open_sources); i++) usleep(10000);
    ok(atomic_load(&open_sources) == 0, "%d are open", atomic_load(&open_sources));
    wire_stop(&w);
}

TEST(no_more_streams_than_allowed) {
    struct wire w = {.service.streams = 2};
    char out[4096];
    const char *ask = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    int s[3];
    need(wire_start(&w, routes), "start");
    for (int i = 0; i < 3; i++) {
        s[i] = wire_connect(&w);
        wire_write(s[i], ask, strlen(ask));
        for (int k = 0; k < 100 && atomic_load(&w.stats.streams) < (i < 2 ? i + 1 : 2); k++) usleep(10000);
    }
    wire_read(s[2], out, sizeof out, 500);
    ok(wire_status(out) == 503, "%s", out);
    for (int i = 0; i < 3; i++) close(s[i]);
    wire_stop(&w);
}

/* ---- waiting, and the end ---- */

TEST(waiting_ends_soon_after_the_change) {
    struct wire w = {0};
    char out[4096];
    const char *ask = "GET /until/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    need(wire_start(&w, routes), "start");
    int s = wire_connect(&w);
    wire_write(s, ask, strlen(ask));
    ok(wire_read(s, out, sizeof out, 300) == 0, "nothing yet");
    ok(atomic_load(&w.stats.waiting) == 1, "one waits");
    atomic_store(&over, true);
    int64_t start = clock_monotonic_ns();
    touch_store(&w);
    wire_read(s, out, sizeof out, 2000);
    double ms = (double)(clock_monotonic_ns() - start) / 1e6;
    printf("# answered %.0f ms after the change\n", ms);
    ok(wire_status(out) == 200 && ms < 500, "%s", out);
    close(s);
    wire_stop(&w);
}

TEST(the_end_with_waiting_streaming_and_uploading_clients) {
    struct wire w = {0};
    char out[4096];
    need(wire_start(&w, routes), "start");
    const char *asks[] = {"GET /until/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
                          "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n",
                          "PUT /count/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc",
                          "GET /pattern/400000000 HTTP/1.1\r\nHost: localhost\r\n\r\n"};
    int s[40];
    for (int i = 0; i < 40; i++) {
        s[i] = wire_connect(&w);
        wire_write(s[i], asks[i % 4], strlen(asks[i % 4]));
    }
    usleep(300000);
    int64_t start = clock_monotonic_ns();
    front_stop(w.front, 300);
    w.front = NULL;
    double ms = (double)(clock_monotonic_ns() - start) / 1e6;
    printf("# ended after %.0f ms, of which 300 were for the uploads and downloads\n", ms);
    ok(ms < 5000, "%.0f ms", ms);
    wire_read(s[0], out, sizeof out, 500);
    ok(wire_status(out) == 200, "who waited was answered: %s", out);
    ok(atomic_load(&open_sources) == 0, "%d are open", atomic_load(&open_sources));
    ok(atomic_load(&sinks_aborted) == 4, "aborted: %d", atomic_load(&sinks_aborted)); /* 4 may run at a time */
    ok(atomic_load(&w.stats.active) == 0, "%lld", (long long)atomic_load(&w.stats.active));
    for (int i = 0; i < 40; i++) close(s[i]);
    wire_stop(&w);
}

/* As many as there are desks: the end waits for them so long and no longer, and leaves everything as it is. */
TEST(the_end_with_work_that_does_not_end) {
    const char *ask = "GET /endless/x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct wire w = {0};
    int s[2];
    need(wire_start(&w, routes), "start");
    for (int i = 0; i < 2; i++) {
        s[i] = wire_connect(&w);
        wire_write(s[i], ask, strlen(ask));
    }
    usleep(300000);
    close(s[0]);
    int64_t start = clock_monotonic_ns();
    bool ended = front_stop(w.front, 200);
    double ms = (double)(clock_monotonic_ns() - start) / 1e6;
    ok(!ended && ms < 200 + FRONT_DESK_GRACE_MS + 1000, "%sended after %.0f ms", ended ? "" : "not ", ms);
    atomic_store(&over, true);
    ok(front_stop(w.front, 200), "when the work has ended, so has the front");
    w.front = NULL;
    close(s[1]);
    wire_stop(&w);
}

TEST_MAIN

/* walk_test.c - the real routes over the wire: bodies one byte over the limit, cut bodies, uploads that
 * break off, and slow readers beside writers. */
#define TEST_SECONDS 120
#include "tests/server/wire.h"

#include "handlers/dispatch.h"
#include "server/intake.h"

static bool start(struct wire *w) {
    w->service.intake = &engine_intake;
    w->service.network_max = UINT64_C(1) << 32;
    w->service.assets = (const struct asset[]){{NULL, NULL, 0}};
    return wire_start(w, route_table);
}

static void path_of(char out[256], const char *pattern) {
    size_t n = 0;
    for (const char *c = pattern; *c && n < 200; c++) {
        if (*c != '{') {
            out[n++] = *c;
            continue;
        }
        n += (size_t)snprintf(out + n, 256 - n, "%s", !strncmp(c, "{id}", 4) ? "99" : "nobody");
        c += strcspn(c, "}");
    }
    out[n] = '\0';
}

/* Sends a head that announces `size` bytes, `sent` of them, and closes or waits for the answer. */
static int announce(const struct wire *w, const struct route *r, uint64_t size, size_t sent, bool wait) {
    char path[256], head[512], out[4096];
    static char body[8192];
    memset(body, ' ', sizeof body);
    path_of(path, r->pattern);
    text_print(head, sizeof head, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %llu\r\n%s\r\n",
               http_method_name(r->method), path, (unsigned long long)size, sent ? "" : "Expect: 100-continue\r\n");
    int s = wire_connect(w);
    wire_write(s, head, strlen(head));
    wire_write(s, body, sent < sizeof body ? sent : sizeof body);
    if (wait) wire_read(s, out, sizeof out, 2000);
    close(s);
    ok(!wait || wire_count(out, "HTTP/1.1 ") == 1, "%s: %s", path, out);
    return wait ? wire_status(out) : 0;
}

/* libmicrohttpd may see the end of a connection only when it has been idle for its time. */
static void wait_until_idle(struct wire *w) {
    for (int i = 0; i < 1000 && (atomic_load(&w->stats.active) || atomic_load(&w->stats.uploads)); i++) usleep(10000);
    ok(atomic_load(&w->stats.active) == 0 && atomic_load(&w->stats.uploads) == 0, "%lld active, %lld uploads",
       (long long)atomic_load(&w->stats.active), (long long)atomic_load(&w->stats.uploads));
}

TEST(bodies_of_every_route) {
    struct wire w = {.idle_s = 1};
    char out[8192];
    need(start(&w), "start");
    for (const struct route *const *row = route_table; *row; row++) {
        const struct route *r = *row;
        uint64_t limit = r->body_max ? r->body_max : w.service.upload_max;
        if (r->body == BODY_NONE) {
            ok(announce(&w, r, 1, 0, true) == 400, "%s takes no body", r->pattern);
            continue;
        }
        ok(announce(&w, r, limit + 1, 0, true) == 413, "%s: one byte over %llu", r->pattern, (unsigned long long)limit);
        announce(&w, r, 1000, 10, false); /* a cut body */
    }
    wait_until_idle(&w);
    ok(wire_get(&w, "GET /v1/models", "", out, sizeof out) == 200 && strstr(out, "\"items\":[]"),
       "nothing was kept: %s", out);
    ok(wire_get(&w, "GET /v1/datasets", "", out, sizeof out) == 200 && strstr(out, "\"items\":[]"),
       "nothing was kept: %s", out);
    ok(wire_get(&w, "GET /readyz", "", out, sizeof out) == 200, "%s", out);
    wire_stop(&w);
}

/* ---- arrays of some size ---- */

static size_t npy_header(char *out, uint64_t rows) {
    memset(out, ' ', 128);
    memcpy(out, "\x93NUMPY\x01\x00\x76\x00", 10);
    int n = snprintf(out + 10, 118, "{'descr': '|u1', 'fortran_order': False, 'shape': (%llu, 1048576), }",
                     (unsigned long long)rows);
    out[10 + n] = ' ';
    out[127] = '\n';
    return 128;
}

static int put_rows(const struct wire *w, const char *name, uint64_t rows, char *out, size_t room) {
    static char row[1 << 20];
    char head[512], header[128];
    size_t n = npy_header(header, rows);
    text_print(
        head, sizeof head,
        "PUT /v1/datasets/%s/inputs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %llu\r\n\r\n",
        name, (unsigned long long)(n + rows * sizeof row));
    int s = wire_connect(w);
    wire_write(s, head, strlen(head));
    wire_write(s, header, n);
    for (uint64_t i = 0; i < rows; i++) {
        memcpy(row, &i, sizeof i); /* no two rows alike */
        text_copy(row + 8, 32, name);
        wire_write(s, row, sizeof row);
    }
    wire_read(s, out, room, 10000);
    close(s);
    return wire_status(out);
}

TEST(an_array_of_256_mib_through_the_store_in_flat_memory) {
    struct wire w = {0};
    static char out[8192];
    need(start(&w), "start");
    ok(put_rows(&w, "warm", 4, out, sizeof out) == 201, "%s", out);
    long before = wire_memory("VmHWM");
    int64_t begin = clock_monotonic_ns();
    ok(put_rows(&w, "big", 256, out, sizeof out) == 201, "%s", out);
    double seconds = (double)(clock_monotonic_ns() - begin) / 1e9;
    long grown = wire_memory("VmHWM") - before;
    printf("# 256 MiB in %.2f s (%.0f MB/s); memory grew by %ld KiB to %ld KiB\n", seconds, 268.4 / seconds, grown,
           wire_memory("VmHWM"));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    ok(grown < 16 << 10, "%ld KiB", grown);
#endif
    ok(wire_get(&w, "GET /v1/datasets/big/inputs", "Range: bytes=268435400-\r\n", out, sizeof out) == 206,
       "the tail: %s", out);
    wire_stop(&w);
}

static long long wal_size(const struct wire *w) {
    char path[128];
    struct stat st;
    text_print(path, sizeof path, "%s/blobs.db-wal", w->folder);
    return stat(path, &st) ? 0 : (long long)st.st_size;
}

TEST(a_slow_download_does_not_hold_the_log_while_others_write) {
    struct wire w = {.idle_s = 60};
    static char out[8192], piece[1 << 16];
    const char *ask = "GET /v1/datasets/slow/inputs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    need(start(&w), "start");
    ok(put_rows(&w, "slow", 32, out, sizeof out) == 201, "%s", out);
    int s = wire_connect(&w);
    wire_write(s, ask, strlen(ask));
    uint64_t have = wire_read(s, piece, 4000, 1000);
    ok(have > 1000 && wire_status(piece) == 200, "it has begun");
    char name[16];
    for (int i = 0; i < 4; i++) {
        text_print(name, sizeof name, "other%d", i);
        ok(put_rows(&w, name, 24, out, sizeof out) == 201, "%s", out);
        ssize_t n = recv(s, piece, 1000, MSG_DONTWAIT);
        if (n > 0) have += (uint64_t)n;
    }
    printf("# the write-ahead log of the blobs has %.1f MiB after 96 MiB beside a slow reader\n",
           (double)wal_size(&w) / 1048576);
    ok(wal_size(&w) < 40 << 20, "%lld", wal_size(&w));
    for (ssize_t n; (n = recv(s, piece, sizeof piece, 0)) > 0;) have += (uint64_t)n;
    ok(have > 32u << 20 && have < (32u << 20) + 4096, "the slow one is complete: %llu", (unsigned long long)have);
    close(s);
    wire_stop(&w);
}

TEST_MAIN

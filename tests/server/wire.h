/* wire.h - a front in this process, on a free port and a folder of its own, and raw sockets to it. */
#ifndef TESTS_SERVER_WIRE_H
#define TESTS_SERVER_WIRE_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "handlers/reply.h"
#include "server/front.h"
#include "server/stores.h"
#include "tests/test.h"

struct wire {
    struct http_stats stats;
    struct service service;
    struct front *front;
    char folder[64];
    int port;
    int idle_s; /* 0 = 5 */
};

/* Starts a front for these routes. Change w->service before, if its limits matter. */
static inline bool wire_start(struct wire *w, const struct route *const *routes) {
    struct err e = {0};
    struct service *s = &w->service;
    text_print(w->folder, sizeof w->folder, "/tmp/retort-wire-XXXXXX");
    if (!mkdtemp(w->folder)) return false;
    signal(SIGPIPE, SIG_IGN);
    log_start(LOG_ERROR, "test");
    stores_folder(w->folder);
    s->routes = routes;
    s->stats = &w->stats;
    if (!s->upload_max) s->upload_max = UINT64_C(1) << 32;
    if (!s->uploads) s->uploads = 4;
    if (!s->streams) s->streams = 500;
    if (!s->version) s->version = s->commit = s->blas = s->instruction_set = "test";
    if (!stores_mine()) return false; /* made by one thread, not by all at once */
    s->hosts = "retort.example";
    s->open = true;
    struct front_options options = {"127.0.0.1:0", 2, 2, 700, 0, w->idle_s ? w->idle_s : 5, s};
    if (front_start(&w->front, &options, &e)) {
        printf("# %s\n", e.text);
        return false;
    }
    w->port = (int)strtol(strrchr(front_address(w->front), ':') + 1, NULL, 10);
    return true;
}

static inline void wire_stop(struct wire *w) {
    char command[128];
    front_stop(w->front, 1000);
    stores_close_mine();
    text_print(command, sizeof command, "rm -rf %s", w->folder);
    if (system(command)) printf("# %s stays\n", w->folder);
}

static inline int wire_connect(const struct wire *w) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)w->port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s >= 0 && connect(s, (struct sockaddr *)&to, sizeof to)) {
        close(s);
        return -1;
    }
    return s;
}

static inline bool wire_write(int s, const void *bytes, size_t size) {
    const char *at = bytes;
    while (size) {
        ssize_t n = send(s, at, size, MSG_NOSIGNAL);
        if (n <= 0) return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

/* What comes until the peer closes, `ms` pass without a byte, or `room` is full; terminated. */
static inline size_t wire_read(int s, char *out, size_t room, int ms) {
    size_t have = 0;
    struct pollfd p = {s, POLLIN, 0};
    while (have < room - 1 && poll(&p, 1, ms) > 0) {
        ssize_t n = recv(s, out + have, room - 1 - have, 0);
        if (n <= 0) break;
        have += (size_t)n;
    }
    out[have] = '\0';
    return have;
}

/* Sends text on a new connection and collects what comes back. */
static inline size_t wire_ask(const struct wire *w, const char *text, char *out, size_t room) {
    int s = wire_connect(w);
    if (s < 0) return 0;
    wire_write(s, text, strlen(text));
    size_t n = wire_read(s, out, room, 400);
    close(s);
    return n;
}

static inline int wire_count(const char *text, const char *what) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)); at += strlen(what)) n++;
    return n;
}

static inline int wire_status(const char *answer) {
    return strncmp(answer, "HTTP/1.1 ", 9) ? 0 : (int)strtol(answer + 9, NULL, 10);
}

/* "GET /x" asked the ordinary way, then closed; gives the status. `headers` end in \r\n or are "". */
static inline int wire_get(const struct wire *w, const char *line, const char *headers, char *out, size_t room) {
    char text[4096];
    text_print(text, sizeof text, "%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n", line, headers);
    int s = wire_connect(w);
    if (s < 0) return 0;
    wire_write(s, text, strlen(text));
    wire_read(s, out, room, 3000);
    close(s);
    return wire_status(out);
}

static inline const char *wire_body(const char *answer) {
    const char *gap = strstr(answer, "\r\n\r\n");
    return gap ? gap + 4 : "";
}

/* The value of a header in an answer, into out; "" without. */
static inline const char *wire_header(const char *answer, const char *name, char *out, size_t room) {
    char pattern[64];
    text_print(pattern, sizeof pattern, "\r\n%s: ", name);
    const char *at = strcasestr(answer, pattern), *end = strstr(answer, "\r\n\r\n");
    *out = '\0';
    if (at && at < end) {
        at += strlen(pattern);
        text_print(out, room, "%.*s", (int)strcspn(at, "\r"), at);
    }
    return out;
}

/* Resident memory of this process in KiB: "VmRSS" or "VmHWM". */
static inline long wire_memory(const char *line) {
    char text[256];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(text, sizeof text, f))
        if (!strncmp(text, line, strlen(line))) kib = strtol(text + strlen(line) + 1, NULL, 10);
    if (f) fclose(f);
    return kib;
}

#endif

/* send.c - responses on their way out: validators, ranges, digests, and the readers that feed
 * downloads and event streams to libmicrohttpd. */
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "handlers/headers.h"
#include "handlers/reply.h"
#include "server/exchange.h"
#include "server/ranges.h"
#include "server/stores.h"

#define SLICE (64 << 10)      /* of a download that is read at a time */
#define EVENTS_MAX (8u << 20) /* text of a stream that waits to be sent */

/* ---- downloads ---- */

struct download {
    struct front *front;
    struct byte_source source;
    uint64_t offset; /* where the range begins */
    char id[HTTP_REQUEST_ID_SIZE];
};

static ssize_t read_download(void *cls, uint64_t position, char *to, size_t room) {
    struct download *d = cls;
    struct err e = {0};
    size_t got = 0;
    struct store *store = stores_mine();
    int code = store ? d->source.read(&got, to, room, d->offset + position, d->source.state, store, &e)
                     : err_set(&e, E_IO, "the data folder cannot be opened");
    if (!code && got) {
        atomic_fetch_add(&d->front->stats->sent_bytes, got);
        return (ssize_t)got;
    }
    log_warn("%s: a download ends at byte %llu: %s", d->id, (unsigned long long)(d->offset + position), e.text);
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

static void free_download(void *cls) {
    struct download *d = cls;
    if (d->source.close) d->source.close(d->source.state, stores_mine());
    mem_free(d);
}

/* ---- event streams ---- */

struct stream {
    struct waiter waiter;
    struct front *front;
    struct MHD_Connection *connection;
    struct events events;
    struct text pending;
    size_t sent; /* of pending */
    bool done;
    int64_t last_ns; /* when something was sent */
};

static void wake_stream(struct waiter *w) {
    MHD_resume_connection(((struct stream *)w)->connection);
}

/* Asks the source for what is new. False: the stream is broken. */
static bool refill(struct stream *s) {
    struct err e = {0};
    text_free(&s->pending);
    text_init(&s->pending, EVENTS_MAX);
    s->sent = 0;
    struct store *store = stores_mine();
    int code = store ? s->events.next(&s->pending, &s->done, s->events.state, store, &e)
                     : err_set(&e, E_IO, "the data folder cannot be opened");
    if (!code) code = s->pending.failed;
    if (code) log_warn("an event stream breaks: %s", code == e.code ? e.text : err_slug(code));
    return !code;
}

static ssize_t send_pending(struct stream *s, char *to, size_t room) {
    size_t left = s->pending.length - s->sent, n = left < room ? left : room;
    memcpy(to, s->pending.data + s->sent, n);
    s->sent += n;
    s->last_ns = clock_monotonic_ns();
    if (s->sent == s->pending.length) text_free(&s->pending), s->sent = 0;
    atomic_fetch_add(&s->front->stats->sent_bytes, n);
    return (ssize_t)n;
}

static ssize_t read_stream(void *cls, uint64_t position, char *to, size_t room) {
    struct stream *s = cls;
    (void)position;
    if (s->pending.length) return send_pending(s, to, room);
    if (s->done) return MHD_CONTENT_READER_END_OF_STREAM;
    s->waiter.seen = watch_moment(s->front->watch);
    if (!refill(s)) return MHD_CONTENT_READER_END_WITH_ERROR;
    if (!s->pending.length && clock_monotonic_ns() - s->last_ns >= KEEP_ALIVE_NS)
        text_add_string(&s->pending, s->events.keep_alive); /* also finds out whether anybody listens */
    if (s->pending.length) return send_pending(s, to, room);
    if (s->done || watch_closed(s->front->watch)) return MHD_CONTENT_READER_END_OF_STREAM;
    s->waiter.wake = wake_stream;
    s->waiter.deadline_ns = s->last_ns + KEEP_ALIVE_NS;
    MHD_suspend_connection(s->connection);
    watch_add(s->front->watch, &s->waiter);
    return 0;
}

static void free_stream(void *cls) {
    struct stream *s = cls;
    if (s->events.close) s->events.close(s->events.state, stores_mine());
    atomic_fetch_sub(&s->front->stats->streams, 1);
    text_free(&s->pending);
    mem_free(s);
}

/* ---- bodies ---- */

/* The three kinds of MHD_Response. Each empties x->response, whose parts now belong to it. */

static struct MHD_Response *text_response(struct exchange *x) {
    static char nothing[1];
    size_t size = x->response.body.length;
    atomic_fetch_add(&x->front->stats->sent_bytes, size);
    if (!size) return MHD_create_response_from_buffer(0, nothing, MHD_RESPMEM_PERSISTENT);
    char *bytes = text_take(&x->response.body);
    struct MHD_Response *made = MHD_create_response_from_buffer_with_free_callback(size, bytes, mem_free);
    if (!made) mem_free(bytes);
    return made;
}

static struct MHD_Response *source_response(struct exchange *x, struct span span) {
    struct download *d = mem_calloc(1, sizeof *d);
    if (!d) return NULL;
    *d = (struct download){x->front, x->response.source, span.offset, ""};
    text_copy(d->id, sizeof d->id, x->request.id);
    size_t block = span.size < SLICE ? (size_t)span.size + 1 : SLICE;
    struct MHD_Response *made = MHD_create_response_from_callback(span.size, block, read_download, d, free_download);
    if (made)
        x->response.kind = REPLY_BODY;
    else
        mem_free(d);
    return made;
}

static bool reserve_stream(struct front *f) {
    if (atomic_fetch_add(&f->stats->streams, 1) < f->service->streams) return true;
    atomic_fetch_sub(&f->stats->streams, 1);
    return false;
}

/* The place in f->stats->streams is reserved; free_stream gives it back. */
static struct MHD_Response *events_response(struct exchange *x) {
    struct stream *s = mem_calloc(1, sizeof *s);
    if (!s) {
        atomic_fetch_sub(&x->front->stats->streams, 1);
        return NULL;
    }
    s->front = x->front;
    s->connection = x->connection;
    s->events = x->response.events;
    s->last_ns = clock_monotonic_ns();
    text_init(&s->pending, EVENTS_MAX);
    struct MHD_Response *made = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 1024, read_stream, s, free_stream);
    if (made)
        x->response.kind = REPLY_BODY;
    else
        mem_free(s), atomic_fetch_sub(&x->front->stats->streams, 1);
    return made;
}

/* ---- what the headers of the request change ---- */

static bool has_header(const struct response *out, const char *name) {
    char value[8];
    return reply_header_get(value, sizeof value, out, name);
}

static void add_validators(struct response *out) {
    char hex[DIGEST_HEX_SIZE], base64[DIGEST_BASE64_SIZE];
    reply_header(out, "Accept-Ranges", "bytes");
    if (!out->source.has_digest) return;
    digest_to_hex(hex, &out->source.digest);
    digest_to_base64(base64, &out->source.digest);
    if (!has_header(out, "ETag")) reply_header(out, "ETag", "\"sha256:%s\"", hex);
    reply_header(out, "Repr-Digest", "sha-256=:%s:", base64);
}

static bool is_unchanged(const struct request *r, const struct response *out) {
    char tag[128];
    const char *list = header_get(r, "If-None-Match");
    return list && r->method == HTTP_GET && out->status == 200 && reply_header_get(tag, sizeof tag, out, "ETag") &&
           header_names_tag(list, tag, false);
}

/* Keeps the headers, drops the content. */
static void make_empty(struct exchange *x, int status) {
    struct response *out = &x->response;
    if (out->kind == REPLY_SOURCE && out->source.close) out->source.close(out->source.state, stores_mine());
    out->kind = REPLY_BODY;
    text_free(&out->body);
    out->status = status;
}

static struct span choose_range(struct exchange *x) {
    struct response *out = &x->response;
    const struct request *r = &x->request;
    struct span span = {0, out->source.size};
    char tag[128];
    bool tagged = reply_header_get(tag, sizeof tag, out, "ETag");
    const char *range = header_get(r, "Range");
    if (!range || r->head || out->status != 200 || !if_range_holds(header_get(r, "If-Range"), tagged ? tag : NULL))
        return span;
    unsigned long long size = out->source.size;
    switch (range_read(&span, range, out->source.size)) {
        case RANGE_WHOLE: break;
        case RANGE_PART:
            out->status = 206;
            reply_header(out, "Content-Range", "bytes %llu-%llu/%llu", (unsigned long long)span.offset,
                         (unsigned long long)(span.offset + span.size - 1), size);
            break;
        case RANGE_NONE:
            reply_problem(out, r,
                          &(struct problem){416, "range-not-satisfiable", "the range begins behind the end", "", 0});
            reply_header(out, "Content-Range", "bytes */%llu", size);
            break;
    }
    return span;
}

/* ---- headers ---- */

static void add_common_headers(struct exchange *x) {
    struct response *out = &x->response;
    reply_header(out, "X-Request-Id", "%s", x->request.id);
    reply_header(out, "X-Content-Type-Options", "nosniff");
    if (!has_header(out, "Content-Security-Policy"))
        reply_header(out, "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
    if (!has_header(out, "Cache-Control")) reply_header(out, "Cache-Control", "no-cache");
    if (out->type && out->status != 304) reply_header(out, "Content-Type", "%s", out->type);
    if (x->close || watch_closed(x->front->watch)) reply_header(out, "Connection", "close");
}

/* Copies the "Name: value\n" lines over; cuts them apart in place. */
static bool copy_headers(struct MHD_Response *to, char *line) {
    while (*line) {
        char *end = line + strcspn(line, "\n"), *value = strstr(line, ": ");
        char *next = *end ? end + 1 : end;
        *end = *value = '\0';
        if (MHD_add_response_header(to, line, value + 2) != MHD_YES) return false;
        line = next;
    }
    return true;
}

static struct MHD_Response *make_content(struct exchange *x) {
    struct response *out = &x->response;
    struct span whole = {0, 0};
    if (out->kind == REPLY_EVENTS && !reserve_stream(x->front))
        reply_problem(out, &x->request,
                      &(struct problem){503, "busy", "as many event streams as allowed are open", "", 0});
    if (out->kind == REPLY_SOURCE) add_validators(out);
    if (is_unchanged(&x->request, out)) make_empty(x, 304);
    if (out->kind == REPLY_SOURCE) whole = choose_range(x);
    add_common_headers(x);
    if (out->kind == REPLY_SOURCE) return source_response(x, whole);
    return out->kind == REPLY_EVENTS ? events_response(x) : text_response(x);
}

enum MHD_Result exchange_send(struct exchange *x) {
    x->phase = PHASE_SENT;
    if (x->response.kind != REPLY_BODY) x->request.store = stores_mine();
    struct MHD_Response *made = make_content(x);
    if (!made) return MHD_NO;
    x->status = x->response.status;
    bool complete = !x->response.headers.failed && copy_headers(made, x->response.headers.data);
    enum MHD_Result queued = complete ? MHD_queue_response(x->connection, (unsigned)x->response.status, made) : MHD_NO;
    MHD_destroy_response(made);
    response_fini(&x->response, NULL);
    return queued;
}

bool exchange_send_early(struct exchange *x) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct response *out = &x->response;
    struct text message;
    x->close = true;
    x->status = out->status;
    text_init(&message, 64 << 10);
    add_common_headers(x);
    text_format(&message, "HTTP/1.1 %d %s\r\n", out->status, MHD_get_reason_phrase_for((unsigned)out->status));
    for (const char *line = out->headers.data; *line; line += strcspn(line, "\n") + 1)
        text_format(&message, "%.*s\r\n", (int)strcspn(line, "\n"), line);
    text_format(&message, "Content-Length: %zu\r\n\r\n%s", out->body.length, out->body.data);
    ssize_t sent = -1;
    if (info && !message.failed && !out->headers.failed)
        sent = send(info->connect_fd, message.data, message.length, MSG_DONTWAIT | MSG_NOSIGNAL);
    bool complete = sent >= 0 && (size_t)sent == message.length;
    text_free(&message);
    return complete;
}

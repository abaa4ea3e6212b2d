/* body.c - bodies on their way in: what headers promise about them, JSON in memory, uploads into
 * sinks, a piece of UPLOAD_PIECE bytes at a time and at a desk. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "handlers/dispatch.h"
#include "handlers/headers.h"
#include "handlers/reply.h"
#include "server/exchange.h"
#include "server/stores.h"

#define RESERVED_MAX (64 << 20) /* bytes of JSON bodies in memory at a time, all connections together */

static bool refuse(struct exchange *x, int status, const char *slug, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static bool refuse(struct exchange *x, int status, const char *slug, const char *format, ...) {
    struct err e = {.code = E_SYNTAX};
    struct text text;
    va_list args;
    text_init(&text, sizeof e.text - 1);
    va_start(args, format);
    text_vformat(&text, format, args);
    va_end(args);
    text_copy(e.text, sizeof e.text, text.data);
    text_free(&text);
    exchange_refuse(x, status, slug, &e, 0);
    return false;
}

static bool busy(struct exchange *x, const char *text) {
    return refuse(x, 503, "busy", "%s", text);
}

/* What an upload or a document may not say about itself. */
static bool check_headers(struct exchange *x) {
    const struct request *r = &x->request;
    const char *encoding = header_get(r, "Content-Encoding"), *range = header_get(r, "Content-Range");
    const char *type = header_get(r, "Content-Type");
    if (encoding && strcasecmp(encoding, "identity"))
        return refuse(x, 415, "unsupported-encoding", "the Content-Encoding is \"%s\"; send the bytes as they are",
                      encoding);
    if (range)
        return refuse(x, 400, "malformed", "a part of a file was sent (Content-Range: %s); send it whole", range);
    if (type && !strncasecmp(type, "multipart/", 10))
        return refuse(x, 415, "unsupported-type",
                      "the body is \"%s\"; send the bytes themselves (curl -T file, curl -d json)", type);
    return true;
}

static bool check_length(struct exchange *x, bool chunked, uint64_t length) {
    x->has_body = chunked || length > 0;
    if (x->route->body == BODY_NONE && x->has_body)
        return refuse(x, 400, "malformed", "%s takes no body", x->route->pattern);
    x->limit = x->route->body_max ? x->route->body_max : x->front->service->upload_max;
    if (length <= x->limit) return true;
    struct err e = {0};
    err_set(&e, E_TOO_LARGE, "the body has %llu bytes, at most %llu are allowed", (unsigned long long)length,
            (unsigned long long)x->limit);
    exchange_refuse(x, 413, "too-large", &e, x->limit);
    return false;
}

static bool expect_digest(struct exchange *x) {
    static const char *const names[] = {"Content-Digest", "Repr-Digest"};
    struct err e = {0};
    for (int i = 0; i < 2 && !x->hashing; i++)
        if (header_digest(&x->expected, &x->hashing, header_get(&x->request, names[i]), &e)) {
            exchange_refuse(x, 400, "malformed", &e, 0);
            return false;
        }
    hasher_init(&x->hasher);
    return true;
}

static bool begin_document(struct exchange *x, bool chunked, uint64_t length) {
    int64_t share = (int64_t)(chunked ? x->limit : length);
    text_init(&x->body, (size_t)x->limit);
    if (atomic_fetch_add(&x->front->reserved, share) + share > RESERVED_MAX) {
        atomic_fetch_sub(&x->front->reserved, share);
        return busy(x, "too many requests with large bodies are under way");
    }
    x->reserved = share;
    return true;
}

static bool begin_upload(struct exchange *x) {
    struct front *f = x->front;
    if (atomic_fetch_add(&f->stats->uploads, 1) >= f->service->uploads) {
        atomic_fetch_sub(&f->stats->uploads, 1);
        return busy(x, "as many uploads as allowed are under way");
    }
    struct upload *u = mem_alloc(sizeof *u);
    struct sink sink;
    x->request.store = stores_mine();
    if (!u) {
        atomic_fetch_sub(&f->stats->uploads, 1);
        return busy(x, "out of memory");
    }
    if (!route_upload(&sink, x->route, &x->request, &x->response)) {
        atomic_fetch_sub(&f->stats->uploads, 1);
        mem_free(u);
        return false;
    }
    u->front = f;
    u->exchange = x;
    u->sink = sink;
    u->open = true;
    u->filled = 0;
    u->desk = desks_choose(f->desks);
    x->upload = u;
    return true;
}

bool body_begin(struct exchange *x) {
    const char *declared = header_get(&x->request, "Content-Length");
    bool chunked = header_get(&x->request, "Transfer-Encoding") != NULL;
    errno = 0;
    uint64_t length = declared ? strtoull(declared, NULL, 10) : 0;
    if (errno) length = UINT64_MAX;
    x->has_body = chunked || length > 0;
    if (!check_length(x, chunked, length)) return false;
    if (x->route->body == BODY_NONE) return true;
    if (!check_headers(x) || !expect_digest(x)) return false;
    return x->route->body == BODY_JSON ? begin_document(x, chunked, length) : begin_upload(x);
}

/* ---- uploads ---- */

static void close_sink(struct upload *u, struct store *store, bool abort) {
    if (abort) u->sink.abort(u->sink.state, store);
    u->open = false;
    atomic_fetch_sub(&u->front->stats->uploads, 1);
}

/* At the desk: gives the buffer to the sink; when the sink refuses, the answer is known. */
static bool give_piece(struct upload *u, struct store *store) {
    struct err e = {0};
    int code = store ? 0 : err_set(&e, E_IO, "the data folder cannot be opened");
    if (!code && u->filled) code = u->sink.piece(u->sink.state, store, u->bytes, u->filled, &e);
    u->filled = 0;
    if (!code) return true;
    close_sink(u, store, true);
    err_set(&e, code, "%s", err_slug(code));
    reply_error(&u->exchange->response, &u->exchange->request, &e);
    return false;
}

static struct upload *upload_of(struct task *t) {
    return (struct upload *)((char *)t - offsetof(struct upload, task));
}

static void run_piece(struct task *t, struct store *store) {
    struct upload *u = upload_of(t);
    struct exchange *x = u->exchange;
    x->request.store = store;
    exchange_back(x, give_piece(u, store) ? PHASE_BODY : PHASE_DROP);
}

static void run_end(struct task *t, struct store *store) {
    struct upload *u = upload_of(t);
    struct exchange *x = u->exchange;
    x->request.store = store;
    if (give_piece(u, store)) {
        route_upload_end(&u->sink, &x->request, &x->response);
        close_sink(u, store, false);
    }
    exchange_back(x, PHASE_READY);
}

static void run_abort(struct task *t, struct store *store) {
    struct upload *u = upload_of(t);
    close_sink(u, store, true);
    mem_free(u);
}

static bool submit(struct exchange *x, void (*run)(struct task *t, struct store *store)) {
    x->upload->task.run = run;
    return exchange_to_desk(x, x->upload->desk, &x->upload->task);
}

bool body_end_upload(struct exchange *x) {
    return submit(x, run_end);
}

static size_t take_piece(struct exchange *x, const char *data, size_t size) {
    struct upload *u = x->upload;
    size_t room = UPLOAD_PIECE - u->filled, taken = size < room ? size : room;
    memcpy(u->bytes + u->filled, data, taken);
    u->filled += taken;
    return taken;
}

bool body_fits(struct exchange *x, size_t size) {
    struct err e = {0};
    if (size <= x->limit - x->received) return true;
    err_set(&e, E_TOO_LARGE, "the body has more than the %llu bytes that are allowed", (unsigned long long)x->limit);
    exchange_refuse(x, 413, "too-large", &e, x->limit);
    return false;
}

bool body_take(struct exchange *x, const char *data, size_t *size) {
    size_t taken = *size;
    if (x->upload)
        taken = take_piece(x, data, *size);
    else
        text_add(&x->body, data, *size);
    if (x->hashing) hasher_add(&x->hasher, data, taken);
    x->received += taken;
    *size -= taken;
    return !x->upload || x->upload->filled < UPLOAD_PIECE || submit(x, run_piece);
}

bool body_complete(struct exchange *x) {
    if (x->body.failed) return busy(x, "out of memory");
    x->request.body = x->body.data;
    x->request.body_size = x->body.length;
    if (!x->hashing) return true;
    struct digest found = hasher_finish(&x->hasher);
    if (digest_equal(&found, &x->expected)) return true;
    char wanted[DIGEST_HEX_SIZE], got[DIGEST_HEX_SIZE];
    struct err e = {0};
    digest_to_hex(wanted, &x->expected);
    digest_to_hex(got, &found);
    err_set(&e, E_DIGEST, "the header promised sha256 %s, %llu bytes with %s came; nothing was kept", wanted,
            (unsigned long long)x->received, got);
    exchange_refuse(x, 400, "digest-mismatch", &e, 0);
    return false;
}

void body_free(struct exchange *x) {
    text_free(&x->body);
    atomic_fetch_sub(&x->front->reserved, x->reserved);
    x->reserved = 0;
    struct upload *u = x->upload;
    x->upload = NULL;
    if (!u) return;
    if (!u->open) {
        mem_free(u);
        return;
    }
    u->exchange = NULL;
    u->task.run = run_abort;
    desk_submit(u->front->desks, u->desk, &u->task);
}

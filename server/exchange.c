/* exchange.c - the way of a request through the front, one phase after the other. */
#include "server/exchange.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "handlers/dispatch.h"
#include "handlers/headers.h"
#include "handlers/reply.h"
#include "server/guard.h"
#include "server/stores.h"
#include "server/target.h"
#include "server/tokens.h"

#define NS_PER_MS 1000000
#define DROP_MAX (64 << 20) /* of a body whose sender has the answer already */

/* ---- the beginning ---- */

void *exchange_new(void *front, const char *target, struct MHD_Connection *connection) {
    size_t length = strlen(target);
    struct exchange *x = mem_calloc(1, sizeof *x);
    if (!x) return NULL;
    x->front = front;
    x->connection = connection;
    x->arrived_ns = clock_monotonic_ns();
    text_init(&x->body, 0);
    response_init(&x->response);
    if (length <= HTTP_MAX_TARGET) x->target = mem_alloc(length + 1 + TARGET_ROOM(length));
    if (x->target) memcpy(x->target, target, length + 1);
    newcomers_add(x);
    atomic_fetch_add(&x->front->stats->active, 1);
    return x;
}

static enum MHD_Result keep_header(void *cls, enum MHD_ValueKind kind, const char *name, const char *value) {
    struct exchange *x = cls;
    struct request *r = &x->request;
    (void)kind;
    if (r->n_headers == HTTP_MAX_HEADERS) {
        x->close = true;
        return MHD_NO;
    }
    r->headers[r->n_headers++] = (struct pair){name, value ? value : ""};
    return MHD_YES;
}

/* The client's own id when it is harmless, otherwise a new one. */
static void name_request(struct request *r) {
    static const char harmless[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/+=-";
    const char *given = header_get(r, "X-Request-Id");
    size_t length = given ? strlen(given) : 0;
    if (length && length < HTTP_REQUEST_ID_SIZE && strspn(given, harmless) == length) {
        text_copy(r->id, sizeof r->id, given);
        return;
    }
    unsigned long long number = 0;
    if (getrandom(&number, sizeof number, GRND_NONBLOCK) < 0) number = (unsigned long long)clock_monotonic_ns();
    text_print(r->id, sizeof r->id, "%016llx", number);
}

static void describe_peer(struct exchange *x) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *a = info ? info->client_addr : NULL;
    socklen_t size = a && a->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (!a || getnameinfo(a, size, x->remote, sizeof x->remote, NULL, 0, NI_NUMERICHOST)) x->remote[0] = '\0';
    const char *host = header_get(&x->request, "Host"), *scheme = header_get(&x->request, "X-Forwarded-Proto");
    text_print(x->base, sizeof x->base, "%s://%s", scheme && !strcmp(scheme, "https") ? "https" : "http",
               host ? host : x->front->address);
}

static enum http_method method_of(const char *name, bool *head) {
    *head = !strcmp(name, "HEAD");
    if (*head) return HTTP_GET;
    for (enum http_method m = HTTP_GET; m < HTTP_OTHER; m++)
        if (!strcmp(name, http_method_name(m))) return m;
    return HTTP_OTHER;
}

void exchange_refuse(struct exchange *x, int status, const char *slug, const struct err *e, uint64_t max_bytes) {
    reply_problem(&x->response, &x->request, &(struct problem){status, slug, e->text, e->pointer, max_bytes});
}

static const char *slug_of(int status) {
    return status == 400   ? "malformed"
           : status == 403 ? "foreign-origin"
           : status == 414 ? "target-too-long"
           : status == 421 ? "unknown-host"
           : status == 431 ? "too-many-headers"
                           : "unsupported-version";
}

/* Everything that is decided before the path means anything. False: refused. */
static bool guard(struct exchange *x, const char *version) {
    struct err e = {0};
    struct request *r = &x->request;
    int status = guard_headers(r, version, &e);
    if (!status && x->close) status = 431, err_set(&e, E_SYNTAX, "there are more than %d headers", HTTP_MAX_HEADERS);
    if (!status && !x->target)
        status = 414, err_set(&e, E_SYNTAX, "the target has more than %d bytes", HTTP_MAX_TARGET);
    if (!status && target_split(r, x->target + strlen(x->target) + 1, x->target, &e)) status = 400;
    if (!status) status = guard_origin(r, x->front->service->hosts, &e);
    if (!status) return true;
    atomic_fetch_add(&x->front->stats->refused, 1);
    x->close = true;
    exchange_refuse(x, status, slug_of(status), &e, 0);
    return false;
}

void exchange_read_headers(struct exchange *x) {
    struct request *r = &x->request;
    r->service = x->front->service;
    r->path = r->body = "";
    r->remote = x->remote;
    r->base = x->base;
    r->n_headers = 0;
    MHD_get_connection_values(x->connection, MHD_HEADER_KIND, keep_header, x);
    name_request(r);
    describe_peer(x);
}

/* Fills the request as far as the headers go. False: the response is a refusal. */
static bool open_request(struct exchange *x, const char *method, const char *version) {
    struct request *r = &x->request;
    exchange_read_headers(x);
    r->method = method_of(method, &r->head);
    if (!guard(x, version)) return false;
    x->route = route_find(r, r->service->routes, &x->response);
    return x->route && tokens_allow(r, x->route->scope, &x->response) && body_begin(x);
}

static enum MHD_Result begin(struct exchange *x, const char *method, const char *version) {
    newcomers_remove(x);
    if (open_request(x, method, version)) {
        x->phase = PHASE_BODY;
        return MHD_YES;
    }
    /* A sender that is under way with a body gets its answer while it sends: a connection closed under
     * its hands would often take the answer with it. One that asks first (Expect) is told at once. */
    const char *length = header_get(&x->request, "Content-Length");
    bool body = header_get(&x->request, "Transfer-Encoding") || (length && strcmp(length, "0"));
    if (body && !x->close && !header_get(&x->request, "Expect")) {
        x->phase = PHASE_DROP;
        x->answered = exchange_send_early(x);
        return x->answered ? MHD_YES : MHD_NO;
    }
    x->close = x->close || body; /* a body that is not read: nothing may follow it on this connection */
    if (x->close) return exchange_send(x);
    x->phase = PHASE_READY; /* libmicrohttpd closes after every answer to a first call */
    return MHD_YES;
}

/* ---- running the handler ---- */

/* Counted before the flag is looked at: either this sees that the server ends, or the end sees this. */
bool exchange_to_desk(struct exchange *x, int desk, struct task *t) {
    atomic_fetch_add(&x->front->at_desks, 1);
    if (atomic_load(&x->front->ending)) {
        atomic_fetch_sub(&x->front->at_desks, 1);
        return false;
    }
    x->phase = PHASE_WORKING;
    MHD_suspend_connection(x->connection);
    desk_submit(x->front->desks, desk, t);
    return true;
}

void exchange_back(struct exchange *x, enum phase phase) {
    struct front *f = x->front;
    x->phase = phase;
    MHD_resume_connection(x->connection);
    atomic_fetch_sub(&f->at_desks, 1);
}

static void wake(struct waiter *w) {
    struct exchange *x = (struct exchange *)((char *)w - offsetof(struct exchange, waiter));
    MHD_resume_connection(x->connection);
}

static enum MHD_Result wait_for_change(struct exchange *x) {
    int64_t now = clock_monotonic_ns();
    x->phase = PHASE_WAITING;
    x->waiter.wake = wake;
    x->waiter.deadline_ns = now + x->response.wait_ms * NS_PER_MS;
    x->waited_ns -= now; /* until wait_is_over */
    atomic_fetch_add(&x->front->stats->waiting, 1);
    MHD_suspend_connection(x->connection);
    watch_add(x->front->watch, &x->waiter);
    return MHD_YES;
}

static void wait_is_over(struct exchange *x) {
    x->waited_ns += clock_monotonic_ns();
    atomic_fetch_sub(&x->front->stats->waiting, 1);
    response_fini(&x->response, NULL);
}

static bool must_not_wait(const struct exchange *x) {
    return watch_closed(x->front->watch) || atomic_load(&x->front->stats->waiting) >= x->front->service->streams;
}

/* The moment is taken first, so that no change between looking and waiting is missed. */
static void run_handler(struct exchange *x, struct store *store) {
    struct request *r = &x->request;
    r->store = store;
    x->waiter.seen = watch_moment(x->front->watch);
    r->waited_ms = must_not_wait(x) ? INT64_MAX : (clock_monotonic_ns() - x->arrived_ns) / NS_PER_MS;
    if (store || x->route->scope == SCOPE_NONE) {
        route_run(x->route, r, &x->response);
        return;
    }
    struct err e = {0};
    err_set(&e, E_IO, "the data folder cannot be opened; the server's log says why");
    reply_error(&x->response, r, &e);
}

static void run_at_desk(struct task *t, struct store *store) {
    struct exchange *x = (struct exchange *)((char *)t - offsetof(struct exchange, task));
    run_handler(x, store);
    exchange_back(x, PHASE_READY);
}

static enum MHD_Result after_handler(struct exchange *x) {
    return x->response.kind == REPLY_WAIT ? wait_for_change(x) : exchange_send(x);
}

static enum MHD_Result handle(struct exchange *x) {
    if (!x->route->slow) {
        bool needs_store = x->route->scope != SCOPE_NONE; /* /healthz answers while the store does not */
        run_handler(x, needs_store ? stores_mine() : NULL);
        return after_handler(x);
    }
    x->task.run = run_at_desk;
    return exchange_to_desk(x, desks_choose(x->front->desks), &x->task) ? MHD_YES : MHD_NO;
}

static enum MHD_Result complete(struct exchange *x) {
    if (!body_complete(x)) return exchange_send(x);
    if (!x->upload) return handle(x);
    return body_end_upload(x) ? MHD_YES : MHD_NO;
}

/* ---- the callbacks ---- */

/* The answer is known, and libmicrohttpd takes it only after the body. The sender should not have to
 * go on for gigabytes to read that the first bytes were wrong: it gets the answer now, past
 * libmicrohttpd, and some time to notice. */
static enum MHD_Result drop(struct exchange *x, size_t *size) {
    if (!x->answered && !exchange_send_early(x)) return MHD_NO;
    x->answered = true;
    x->dropped += *size;
    *size = 0;
    return x->dropped <= DROP_MAX ? MHD_YES : MHD_NO;
}

enum MHD_Result exchange_access(void *front, struct MHD_Connection *connection, const char *url, const char *method,
                                const char *version, const char *data, size_t *size, void **exchange) {
    struct exchange *x = *exchange;
    (void)front, (void)connection, (void)url;
    if (!x) return MHD_NO; /* no memory */
    switch (x->phase) {
        case PHASE_NEW: return begin(x, method, version);
        case PHASE_BODY:
            if (!*size) return complete(x);
            if (body_fits(x, *size)) return body_take(x, data, size) ? MHD_YES : MHD_NO;
            x->phase = PHASE_DROP;
            return drop(x, size);
        case PHASE_DROP:
            if (*size) return drop(x, size);
            return x->answered ? MHD_NO : exchange_send(x);
        case PHASE_READY: return after_handler(x);
        case PHASE_WAITING: wait_is_over(x); return handle(x);
        case PHASE_WORKING:
        case PHASE_SENT: break;
    }
    return MHD_YES;
}

static void count(struct exchange *x) {
    struct http_stats *s = x->front->stats;
    int64_t us = (clock_monotonic_ns() - x->arrived_ns - x->waited_ns) / 1000;
    unsigned long long took = us > 0 ? (unsigned long long)us : 0;
    size_t slot = 0;
    while (slot < HTTP_N_BOUNDS && took > http_bounds_us[slot]) slot++;
    atomic_fetch_add(&s->slow_us[slot], 1);
    atomic_fetch_add(&s->duration_us, took);
    atomic_fetch_add(&s->received_bytes, x->received);
    atomic_fetch_add(&s->requests[x->request.method][x->status / 100 % 6], 1);
    atomic_fetch_sub(&s->active, 1);
    bool quiet = x->request.method == HTTP_GET && x->status < 500;
    log_write(quiet ? LOG_DEBUG : LOG_INFO, "%s %s %s %d %llu us %llu bytes in %s", x->request.id,
              x->request.head ? "HEAD" : http_method_name(x->request.method), x->request.path ? x->request.path : "?",
              x->status, took, (unsigned long long)x->received, x->remote);
}

void exchange_done(void *front, struct MHD_Connection *connection, void **exchange,
                   enum MHD_RequestTerminationCode why) {
    struct exchange *x = *exchange;
    (void)front, (void)connection, (void)why;
    if (!x) return;
    *exchange = NULL;
    newcomers_remove(x);
    count(x);
    body_free(x);
    response_fini(&x->response, x->response.kind == REPLY_BODY ? NULL : stores_mine());
    mem_free(x->target);
    mem_free(x);
}

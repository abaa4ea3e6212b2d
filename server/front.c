/* front.c - the life of the server: socket, event loops, desks, watch, and the way they end. */
#include "server/front.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "server/exchange.h"

#define CONNECTION_POOL (64 << 10) /* headers must fit; it is the read buffer of uploads as well */
#define BACKLOG 511

/* ---- the address ---- */

/* Splits "host:port" and "[host]:port". */
static bool split_address(char *host, size_t room, const char **port, const char *listen) {
    const char *colon = strrchr(listen, ':');
    if (!colon || colon == listen) return false;
    bool bracket = *listen == '[';
    if (bracket && colon[-1] != ']') return false;
    size_t length = (size_t)(colon - listen) - (bracket ? 2 : 0);
    *port = colon + 1;
    return text_print(host, room, "%.*s", (int)length, listen + bracket) && **port;
}

static bool is_loopback(const struct sockaddr *a) {
    if (a->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
    return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

static int bind_socket(struct front *f, const struct addrinfo *a, const char *listen_on, struct err *e) {
    int yes = 1;
    f->socket = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (f->socket < 0) return err_set(e, E_IO, "cannot make a socket: %s", strerror(errno));
    setsockopt(f->socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(f->socket, a->ai_addr, a->ai_addrlen) || listen(f->socket, BACKLOG))
        return err_set(e, E_IO, "cannot listen on %s: %s", listen_on, strerror(errno));
    return 0;
}

static void name_address(struct front *f) {
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    char host[64], port[16];
    getsockname(f->socket, (struct sockaddr *)&bound, &size);
    getnameinfo((struct sockaddr *)&bound, size, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    text_print(f->address, sizeof f->address, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

static int open_socket(struct front *f, const char *listen_on, struct err *e) {
    char host[256];
    const char *port;
    struct addrinfo *found = NULL;
    const struct addrinfo wanted = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    if (!split_address(host, sizeof host, &port, listen_on))
        return err_set(e, E_INVALID, "\"%s\" is not HOST:PORT", listen_on);
    int failed = getaddrinfo(host, port, &wanted, &found);
    if (failed) return err_set(e, E_INVALID, "cannot listen on %s: %s", listen_on, gai_strerror(failed));
    int code = 0;
    if (f->service->open && !is_loopback(found->ai_addr))
        code = err_set(e, E_PRECONDITION,
                       "%s is not a loopback address: without tokens anybody there could do anything. "
                       "Listen on 127.0.0.1, or give tokens with --tokens FILE",
                       listen_on);
    if (!code) code = bind_socket(f, found, listen_on, e);
    freeaddrinfo(found);
    if (!code) name_address(f);
    return code;
}

/* ---- the daemon ---- */

/* Decoding is ours (server/target.h): libmicrohttpd would decode before the path is split. */
static size_t leave_encoded(void *cls, struct MHD_Connection *connection, char *text) {
    (void)cls, (void)connection;
    return strlen(text);
}

static void log_daemon(void *cls, const char *format, va_list args) {
    char line[512];
    (void)cls;
    if (vsnprintf(line, sizeof line, format, args) < 0) return;
    if (!strncmp(line, "Error processing request", 24)) newcomers_refuse_bad_lengths();
    log_debug("libmicrohttpd: %.*s", (int)strcspn(line, "\n"), line);
}

static int start_daemon(struct front *f, const struct front_options *o, struct err *e) {
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem more[] = {
        {MHD_OPTION_THREAD_POOL_SIZE, o->loops, NULL},
        {MHD_OPTION_PER_IP_CONNECTION_LIMIT, o->per_address, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    if (o->loops < 2) more[0] = more[1], more[1] = more[2]; /* a pool of one is refused */
    f->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, exchange_access, f, MHD_OPTION_EXTERNAL_LOGGER, log_daemon, NULL,
        MHD_OPTION_LISTEN_SOCKET, f->socket, MHD_OPTION_URI_LOG_CALLBACK, exchange_new, f, MHD_OPTION_NOTIFY_COMPLETED,
        exchange_done, f, MHD_OPTION_UNESCAPE_CALLBACK, leave_encoded, NULL, MHD_OPTION_STRICT_FOR_CLIENT, 0,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)o->connections, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)o->idle_s,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_POOL, MHD_OPTION_ARRAY, more, MHD_OPTION_END);
    return f->daemon ? 0 : err_set(e, E_IO, "the HTTP server cannot be started");
}

int front_start(struct front **out, const struct front_options *options, struct err *e) {
    struct front *f = mem_calloc(1, sizeof *f);
    *out = NULL;
    if (!f) return err_memory(e, sizeof *f);
    f->socket = -1;
    f->service = options->service;
    f->stats = options->service->stats;
    int code = open_socket(f, options->listen, e);
    if (!code) code = desks_start(&f->desks, options->desks, e);
    if (!code) code = watch_start(&f->watch, e);
    if (!code) code = start_daemon(f, options, e);
    if (!code)
        *out = f;
    else
        front_stop(f, 0);
    return code;
}

const char *front_address(const struct front *f) {
    return f->address;
}

/* ---- the end ---- */

static void wait_for_exchanges(struct front *f, int64_t grace_ms) {
    int64_t until = clock_monotonic_ns() + grace_ms * 1000000;
    while (atomic_load(&f->stats->active) > 0 && clock_monotonic_ns() < until) clock_sleep_ms(10);
    long long left = atomic_load(&f->stats->active);
    if (left > 0) log_warn("%lld requests are cut off", left);
}

/* Writing a model may take a moment, a check may take for ever. */
static bool wait_for_desks(struct front *f) {
    int64_t until = clock_monotonic_ns() + FRONT_DESK_GRACE_MS * INT64_C(1000000);
    while (atomic_load(&f->at_desks) > 0) {
        if (clock_monotonic_ns() >= until) return false;
        clock_sleep_ms(1);
    }
    return true;
}

/* No connection may be suspended when the daemon stops. The watch wakes those who wait; then nothing
 * new goes to the desks, and what is there is finished, if it ever is. The desks outlive the
 * daemon: the uploads it cuts off are aborted there. */
bool front_stop(struct front *f, int64_t grace_ms) {
    if (!f) return true;
    if (f->daemon) f->socket = MHD_quiesce_daemon(f->daemon);
    if (f->socket >= 0) close(f->socket);
    if (f->watch) watch_close(f->watch);
    if (f->daemon) wait_for_exchanges(f, grace_ms);
    atomic_store(&f->ending, true);
    if (!wait_for_desks(f)) return false;
    if (f->daemon) MHD_stop_daemon(f->daemon);
    desks_stop(f->desks);
    watch_stop(f->watch);
    mem_free(f);
    return true;
}

/* front.h - the HTTP server: libmicrohttpd wrapped once. It knows requests, responses and a table of
 * routes, none of the routes themselves.
 *
 * Event loops (a pool of threads, each with its share of the connections) read and write the network
 * and run handlers that only read. What writes or takes long runs at desks (server/desk.h) while the
 * connection is suspended; who waits for a change is woken by the watch (server/watch.h). */
#ifndef SERVER_FRONT_H
#define SERVER_FRONT_H

#include <stdbool.h>

#include "server/http.h"

struct front;

struct front_options {
    const char *listen;            /* "127.0.0.1:8080", "[::1]:0", "localhost:8080"; port 0 = any free one */
    int loops, desks;              /* threads */
    int connections, per_address;  /* limits; 0 = none for the second */
    int idle_s;                    /* a connection on which nothing moves is closed */
    const struct service *service; /* constant while the front lives; `routes`, `uploads`, `streams` are read here */
};

/* Starts to listen and answer. stores_folder must have been called. E_INVALID: the address makes no
 * sense; E_IO: it cannot be listened on; E_PRECONDITION: beyond loopback although the service is open. */
int front_start(struct front **out, const struct front_options *options, struct err *e);

/* "127.0.0.1:8080", with the real port. */
const char *front_address(const struct front *f);

/* Stops accepting, lets those who wait go at once and gives the others `grace_ms` to end; then ends
 * everything. NULL is fine. False when work at the desks did not end even FRONT_DESK_GRACE_MS later: nothing was taken
 * down, threads still run, and the process can only be left with _exit. */
#define FRONT_DESK_GRACE_MS 2000
bool front_stop(struct front *f, int64_t grace_ms);

#endif

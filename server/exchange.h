/* exchange.h - one request and its answer inside the front. Private to the front's files: together
 * with them the only place that sees libmicrohttpd. */
#ifndef SERVER_EXCHANGE_H
#define SERVER_EXCHANGE_H

#include <microhttpd.h>

#include "base/digest.h"
#include "server/desk.h"
#include "server/front.h"
#include "server/watch.h"

#define UPLOAD_PIECE (1 << 20)
#define KEEP_ALIVE_NS (15 * INT64_C(1000000000))

struct front {
    struct MHD_Daemon *daemon;
    const struct service *service;
    struct http_stats *stats;
    struct desks *desks;
    struct watch *watch;
    atomic_llong reserved; /* bytes of JSON bodies that may be in memory */
    atomic_llong at_desks; /* connections that are suspended for work */
    atomic_bool ending;    /* nothing goes to the desks any more */
    int socket;
    char address[80];
};

enum phase {
    PHASE_NEW,     /* the headers are there */
    PHASE_BODY,    /* the body comes */
    PHASE_DROP,    /* the rest of the body comes, the answer is known */
    PHASE_WORKING, /* at a desk, suspended */
    PHASE_READY,   /* the answer is known, the body has come */
    PHASE_WAITING, /* suspended until something changes */
    PHASE_SENT     /* the answer belongs to libmicrohttpd now */
};

/* The body of an upload on its way into a sink. Outlives its exchange when the sink must be aborted. */
struct upload {
    struct front *front;
    struct exchange *exchange; /* NULL once that is gone */
    struct sink sink;
    bool open; /* neither ended nor aborted */
    int desk;
    struct task task;
    struct response *out; /* where a failing piece leaves its problem */
    size_t filled;
    unsigned char bytes[UPLOAD_PIECE];
};

struct exchange {
    struct exchange *next_new; /* newcomers.c */
    struct front *front;
    struct MHD_Connection *connection;
    const struct route *route;
    enum phase phase;
    struct request request;
    struct response response;
    char *target; /* the raw target, and behind it the room for its parts */
    struct text body;
    struct upload *upload;
    uint64_t received, limit; /* bytes of the body */
    int64_t reserved;         /* its share of front->reserved */
    bool hashing;             /* the body's digest was announced */
    struct hasher hasher;
    struct digest expected;
    bool has_body;
    bool close;       /* the connection ends with the answer */
    bool answered;    /* by exchange_send_early */
    uint64_t dropped; /* bytes of the body that came after that */
    int64_t arrived_ns, waited_ns;
    struct task task;
    struct waiter waiter;
    int status;
    char remote[64], base[272];
};

/* The callbacks of libmicrohttpd. */
void *exchange_new(void *front, const char *target, struct MHD_Connection *connection);
enum MHD_Result exchange_access(void *front, struct MHD_Connection *connection, const char *url, const char *method,
                                const char *version, const char *data, size_t *size, void **exchange);
void exchange_done(void *front, struct MHD_Connection *connection, void **exchange,
                   enum MHD_RequestTerminationCode why);

/* newcomers.c: exchanges whose headers are still coming, of the calling event loop. */
void newcomers_add(struct exchange *x);
void newcomers_remove(struct exchange *x);
/* libmicrohttpd is about to refuse one of them: refuses those with a bad Content-Length before it does. */
void newcomers_refuse_bad_lengths(void);

/* Fills the request with the headers that have come; x->close when there are too many. */
void exchange_read_headers(struct exchange *x);

/* Suspends the connection and gives the task to the desk, which must call exchange_back at its end.
 * False when the server is ending: the connection must go. */
bool exchange_to_desk(struct exchange *x, int desk, struct task *t);
/* The exchange may be gone when this returns. */
void exchange_back(struct exchange *x, enum phase phase);

/* body.c: checks what the headers say about the body, and opens the sink of an upload. False: refused,
 * the response is filled. */
bool body_begin(struct exchange *x);
/* Whether the body may have so many more bytes; false: the response is a 413. Only a chunked one can fail here. */
bool body_fits(struct exchange *x, size_t size);
/* Takes what it can of data[0..*size) and leaves the rest in *size. False: hang up. True: the connection may
 * be suspended now, and a desk at work on the exchange. */
bool body_take(struct exchange *x, const char *data, size_t *size);
/* The body is there: whether it is what was announced; otherwise the response is a problem. */
bool body_complete(struct exchange *x);
/* Sends the rest of an upload and its end to the desk; suspends. False: hang up. */
bool body_end_upload(struct exchange *x);
void body_free(struct exchange *x);

/* send.c: hands the response over. */
enum MHD_Result exchange_send(struct exchange *x);
/* Writes a body response to the socket itself, in the middle of an upload; the connection is good for
 * nothing else afterwards. False: it did not go out. */
bool exchange_send_early(struct exchange *x);

/* Status and text of a refusal that comes before any handler. */
void exchange_refuse(struct exchange *x, int status, const char *slug, const struct err *e, uint64_t max_bytes);

#endif

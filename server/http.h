/* http.h - HTTP as the handlers see it: a request in, a response out, plain data without sockets.
 *
 * The front (server/front.h) makes requests out of what the network sends and turns responses into
 * bytes; a test can do both by hand. Four things a response can be:
 *
 *   body     text that is complete in memory; what almost every handler writes
 *   source   bytes of known size, read slice by slice: downloads. Ranges, validators and digests
 *            are the front's work
 *   events   text that never ends by itself: the front asks for what is new, whenever something
 *            in the store has changed
 *   wait     "call me again": the front runs the handler again when something has changed or the
 *            time is up
 *
 * Uploads go the other way, piece by piece, into a `sink` that the route's `upload` function opens. */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/origin.h"
#include "base/param.h"
#include "base/text.h"

#define HTTP_MAX_TARGET 4096 /* bytes of a raw request target */
#define HTTP_MAX_SEGMENTS 12 /* of a path */
#define HTTP_MAX_QUERY 24    /* parameters */
#define HTTP_MAX_HEADERS 64
#define HTTP_MAX_CAPTURES 4     /* {names} in a route's pattern */
#define HTTP_REQUEST_ID_SIZE 80 /* with the NUL */
#define HTTP_PRINCIPAL_SIZE 64  /* with the NUL */
#define HTTP_MAX_BODY_TEXT (64u << 20)
#define HTTP_MAX_WAIT_MS (3600 * 1000) /* of a ?wait= */

struct json_writer;
struct store;
struct service;
struct route;
struct request;
struct response;

enum http_method { HTTP_GET, HTTP_PUT, HTTP_POST, HTTP_DELETE, HTTP_OTHER }; /* HEAD is a GET without body */

enum scope { SCOPE_NONE, SCOPE_READ, SCOPE_WRITE, SCOPE_ADMIN }; /* each includes those before it */

struct pair {
    const char *name, *value;
};

/* ---- what comes in ---- */

/* Everything in it is borrowed, lives as long as the request, and is valid UTF-8 where it comes
 * from the target. */
struct request {
    enum http_method method;
    bool head;                               /* the client asked with HEAD */
    const char *path;                        /* as sent, without the query; for links */
    const char *segments[HTTP_MAX_SEGMENTS]; /* split at "/", then decoded */
    int n_segments;
    const char *captures[HTTP_MAX_CAPTURES]; /* in the order of the pattern */
    struct pair query[HTTP_MAX_QUERY];
    int n_query;
    struct pair headers[HTTP_MAX_HEADERS];
    int n_headers;
    const char *body; /* JSON routes; NUL-terminated, "" without body */
    size_t body_size;
    const char *base;                    /* "http://host:port", for absolute links */
    const char *remote;                  /* address of the peer */
    char principal[HTTP_PRINCIPAL_SIZE]; /* whose token it came with; "" without */
    char id[HTTP_REQUEST_ID_SIZE];
    int64_t waited_ms; /* since the request arrived; INT64_MAX when the server is about to stop */
    const struct service *service;
    struct store *store; /* of the thread that runs the handler */
};

/* ---- what goes out ---- */

/* Bytes to be sent. `read` fills up to `room` bytes from `offset` (below `size`) and says how many;
 * it is called for slices of 64 KiB or so and must not keep a transaction open in between. `close`
 * (may be NULL) is called once, whatever happens. */
struct byte_source {
    void *state;
    uint64_t size;
    int (*read)(size_t *got, void *out, size_t room, uint64_t offset, void *state, struct store *store, struct err *e);
    void (*close)(void *state, struct store *store);
    struct digest digest; /* of all the bytes */
    bool has_digest;
};

/* A stream of events. `next` appends what is new since its last call, a few KiB at a time, nothing
 * when there is nothing; it sets *done when nothing will ever follow. */
struct events {
    void *state;
    int (*next)(struct text *out, bool *done, void *state, struct store *store, struct err *e);
    void (*close)(void *state, struct store *store);
    const char *keep_alive; /* sent after 15 s of silence */
};

enum reply_kind { REPLY_BODY, REPLY_SOURCE, REPLY_EVENTS, REPLY_WAIT };

/* Starts zeroed but for the texts: response_init. */
struct response {
    int status;
    enum reply_kind kind;
    const char *type;    /* Content-Type; a constant */
    struct text headers; /* "Name: value\n" each */
    struct text body;
    struct byte_source source;
    struct events events;
    int64_t wait_ms; /* REPLY_WAIT: the longest until the handler wants to be called again */
};

/* ---- uploads ---- */

/* Takes a body in pieces of up to 1 MiB. Exactly one of `end` and `abort` is called, as the last
 * call, and frees the state; `abort` also follows when `piece` fails. The calls of one sink come one
 * after the other and always with the same store, `abort` included. */
struct sink {
    void *state;
    int (*piece)(void *state, struct store *store, const void *bytes, size_t size, struct err *e);
    int (*end)(void *state, const struct request *r, struct response *out, struct err *e);
    void (*abort)(void *state, struct store *store);
};

/* ---- routes ---- */

enum body_kind { BODY_NONE, BODY_JSON, BODY_STREAM };

/* One endpoint: a constant next to its code, listed in handlers/routes.def. */
struct route {
    enum http_method method;
    const char *pattern; /* "/v1/models/{ref}/onnx": a {name} is one whole segment */
    const char *summary; /* one line */
    /* Fills `out`, or returns an error that becomes a problem document. */
    int (*handle)(const struct request *r, struct response *out, struct err *e);
    /* Routes with BODY_STREAM, in place of handle: looks at the request before any of the body has
     * come, refuses, or opens a sink. It runs on an event loop: reading the store is fine. */
    int (*upload)(struct sink *out, const struct request *r, struct err *e);
    enum body_kind body;
    uint64_t body_max; /* bytes; 0 = the service's limit for uploads */
    enum scope scope;
    bool slow;                  /* takes more than a few short reads: runs beside the event loops */
    bool any_query;             /* parameters that are not in `query` are ignored, not refused */
    const struct param *query;  /* table of the query parameters; may be NULL */
    const struct param *fields; /* table of the JSON body; may be NULL */
    void (*body_schema)(struct json_writer *w, const char *name); /* writes what `fields` cannot say */
    const char *reply;     /* name of the reply's shape in handlers/shapes.c; "" for bytes */
    const char *dry_reply; /* the same of a 200 with ?dry_run=1; NULL: there is none */
    const char *media;     /* type of the reply when it is not JSON; else NULL */
};

/* ---- the engine, as far as handlers need it ----
 * They do not see the engine itself; server/intake.c connects the two, tests bring something smaller. */

/* What is known about a network without running it. The texts are JSON. */
struct network_facts {
    int64_t parameters, macs;
    struct text operators; /* {"Conv":2,"Relu":3} */
    struct text inputs;    /* [{"name":"x","dtype":"float32","shape":["N",1,28,28]}] */
    struct text outputs;
};

void network_facts_free(struct network_facts *f);

/* Told of the arrays in a stream, one after the other; `name` is "" where the format has none. The
 * bytes of all data calls are the elements, little-endian and in C order. */
struct array_taker {
    void *state;
    int (*begin)(void *state, const char *name, const char *dtype, int rank, const int64_t *shape, struct err *e);
    int (*data)(void *state, const void *bytes, size_t size, struct err *e);
    int (*end)(void *state, struct err *e);
};

struct array_reader;

/* What a body with arrays is. */
enum array_body {
    ARRAY_ALONE,       /* one array: .npy or IDX, either of them gzipped */
    ARRAYS_NPZ,        /* an archive of them */
    ARRAYS_SAFETENSORS /* a safetensors file */
};

/* Takes bytes in order. */
struct byte_taker {
    void *state;
    int (*take)(void *state, const void *bytes, size_t size, struct err *e);
};

struct weights_taker;

#define NPY_HEADER_MAX 512

struct intake {
    /* Imports a network and describes it: free *out with network_facts_free, in any case. Errors say what is wrong with it. */
    int (*network)(struct network_facts *out, const struct byte_origin *from, struct err *e);
    /* Appends the nodes of a network as a JSON object. */
    int (*graph)(struct text *out, const struct byte_origin *from, struct err *e);

    /* Writes the weights of a network as a safetensors file: a tensor per float initializer, under its name. */
    int (*weights)(const struct byte_taker *to, const struct byte_origin *from, struct err *e);
    /* Takes such a file, piece by piece, for the network in `from`. At its end: *changed is whether any weight
     * differs; if so, the network with the new ones is written. After an error only weights_close is left. */
    int (*weights_open)(struct weights_taker **out, const struct byte_origin *from, struct err *e);
    int (*weights_feed)(struct weights_taker *w, const void *bytes, size_t size, struct err *e);
    int (*weights_finish)(bool *changed, struct weights_taker *w, const struct byte_taker *to, struct err *e);
    void (*weights_close)(struct weights_taker *w);

    /* Reads the arrays in a body. More than `budget` bytes of elements are E_TOO_LARGE. After an error only
     * arrays_close is left. */
    int (*arrays_open)(struct array_reader **out, const struct array_taker *to, enum array_body body, uint64_t budget,
                       struct err *e);
    int (*arrays_feed)(struct array_reader *r, const void *bytes, size_t size, struct err *e);
    int (*arrays_finish)(struct array_reader *r, struct err *e);
    void (*arrays_close)(struct array_reader *r);
    /* The header of a .npy file in front of such elements. */
    int (*npy_header)(char out[NPY_HEADER_MAX], size_t *size, const char *dtype, int rank, const int64_t *shape,
                      struct err *e);
};

/* ---- the service around the handlers ---- */

/* A file that was built in. */
struct asset {
    const char *path; /* "index.html" */
    const unsigned char *bytes;
    uint64_t size;
};

#define HTTP_N_BOUNDS 7
static const unsigned http_bounds_us[HTTP_N_BOUNDS] = {1000, 5000, 25000, 100000, 500000, 2500000, 10000000};

/* Counters since the start; every thread adds to them. */
struct http_stats {
    atomic_ullong requests[HTTP_OTHER + 1][6]; /* by method and first digit of the status */
    atomic_ullong received_bytes, sent_bytes;
    atomic_ullong duration_us;                      /* of all requests together, waiting left out */
    atomic_ullong slow_us[HTTP_N_BOUNDS + 1];       /* how many took up to http_bounds_us[i], and longer */
    atomic_llong active, uploads, streams, waiting; /* now */
    atomic_ullong refused;                          /* by the guard */
};

/* What handlers may know of the process they run in. Constant while the server runs. */
struct service {
    const char *version, *commit, *blas, *instruction_set;
    const struct asset *assets; /* ended by a row without path */
    const struct intake *intake;
    const struct route *const *routes; /* ended by NULL */
    struct http_stats *stats;
    int64_t started_ms; /* wall clock */
    uint64_t upload_max;
    uint64_t memory;      /* bytes a job may take; 0 = no limit */
    uint64_t network_max; /* bytes of an ONNX file that may be looked at: importing takes as much */
    int workers, uploads, connections, streams;
    bool open;         /* no tokens: everybody may do everything */
    const char *hosts; /* names this server goes by besides localhost and its addresses; "" = none */
};

#endif

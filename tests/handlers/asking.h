/* asking.h - requests to handlers without sockets: a store in a folder of its own, a small stand-in for
 * the engine, and replies held against their shapes. */
#ifndef TESTS_HANDLERS_ASKING_H
#define TESTS_HANDLERS_ASKING_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "handlers/dispatch.h"
#include "handlers/reply.h"
#include "handlers/shapes.h"
#include "store/jobs.h"
#include "store/store.h"
#include "tests/test.h"

/* ---- a stand-in for the engine: networks are "NET <parameters>", arrays are "ARR <name> <bytes>" ---- */

static int fake_network(struct network_facts *out, const struct byte_origin *from, struct err *e) {
    char bytes[64];
    size_t size = from->size < sizeof bytes ? (size_t)from->size : sizeof bytes;
    *out = (struct network_facts){0};
    int status = from->read(bytes, size, 0, from->context, e);
    if (status) return status;
    text_init(&out->operators, 1000);
    text_init(&out->inputs, 1000);
    text_init(&out->outputs, 1000);
    if (size < 5 || memcmp(bytes, "NET ", 4)) return err_set(e, E_SYNTAX, "this is no network");
    out->parameters = bytes[4] - '0';
    out->macs = 12;
    text_add_string(&out->operators, "{\"Relu\":1}");
    text_add_string(&out->inputs, "[{\"name\":\"x\",\"dtype\":\"float32\",\"shape\":[\"N\",4]}]");
    int code = text_add_string(&out->outputs, "[{\"name\":\"y\",\"dtype\":\"float32\",\"shape\":[\"N\",3]}]");
    if (!code) code = out->operators.failed ? out->operators.failed : out->inputs.failed;
    return code ? err_memory(e, 100) : 0;
}

static int fake_graph(struct text *out, const struct byte_origin *from, struct err *e) {
    (void)from, (void)e;
    text_add_string(out, "{\"name\":\"g\",\"opset\":13,\"inputs\":[],\"outputs\":[],\"nodes\":[],\"constants\":[]}");
    return 0;
}

/* The weights of "NET 7 first" are "W 7", and with "W 8" it becomes "NET 8". */
struct weights_taker {
    char is, becomes[16];
    size_t n;
};

static int fake_weights(const struct byte_taker *to, const struct byte_origin *from, struct err *e) {
    char is;
    int code = from->read(&is, 1, 4, from->context, e);
    if (!code) code = to->take(to->state, "W ", 2, e);
    return code ? code : to->take(to->state, &is, 1, e);
}

static int fake_weights_open(struct weights_taker **out, const struct byte_origin *from, struct err *e) {
    char is;
    int code = from->read(&is, 1, 4, from->context, e);
    if (code) return code;
    *out = mem_calloc(1, sizeof **out);
    if (!*out) return err_memory(e, sizeof **out);
    (*out)->is = is;
    return 0;
}

static int fake_weights_feed(struct weights_taker *w, const void *bytes, size_t size, struct err *e) {
    if (size > sizeof w->becomes - 1 - w->n) return err_set(e, E_TOO_LARGE, "too long for this test");
    memcpy(w->becomes + w->n, bytes, size);
    w->n += size;
    return 0;
}

static int fake_weights_finish(bool *changed, struct weights_taker *w, const struct byte_taker *to, struct err *e) {
    if (w->n != 3 || memcmp(w->becomes, "W ", 2)) return err_set(e, E_SYNTAX, "these are no weights");
    *changed = w->becomes[2] != w->is;
    int code = *changed ? to->take(to->state, "NET ", 4, e) : 0;
    return code || !*changed ? code : to->take(to->state, w->becomes + 2, 1, e);
}

static void fake_weights_close(struct weights_taker *w) {
    mem_free(w);
}

struct array_reader {
    struct array_taker to;
    char text[64];
    size_t n;
};

static int fake_open(struct array_reader **out, const struct array_taker *to, enum array_body body, uint64_t budget,
                     struct err *e) {
    (void)body, (void)budget;
    *out = mem_calloc(1, sizeof **out);
    if (!*out) return err_memory(e, sizeof **out);
    (*out)->to = *to;
    return 0;
}

static int fake_feed(struct array_reader *r, const void *bytes, size_t size, struct err *e) {
    if (size > sizeof r->text - 1 - r->n) return err_set(e, E_TOO_LARGE, "too long for this test");
    memcpy(r->text + r->n, bytes, size);
    r->n += size;
    return 0;
}

static int fake_finish(struct array_reader *r, struct err *e) {
    char name[16], data[32];
    if (sscanf(r->text, "ARR %15s %31s", name, data) != 2) return err_set(e, E_SYNTAX, "this is no array");
    int64_t shape[1] = {(int64_t)strlen(data)};
    int code = r->to.begin(r->to.state, name, "uint8", 1, shape, e);
    if (!code) code = r->to.data(r->to.state, data, strlen(data), e);
    return code ? code : r->to.end(r->to.state, e);
}

static void fake_close(struct array_reader *r) {
    mem_free(r);
}

static int fake_header(char out[NPY_HEADER_MAX], size_t *size, const char *dtype, int rank, const int64_t *shape,
                       struct err *e) {
    (void)rank, (void)e;
    text_print(out, NPY_HEADER_MAX, "npy %s %lld\n", dtype, (long long)shape[0]);
    *size = strlen(out);
    return 0;
}

static const struct intake fake_intake = {
    .network = fake_network,
    .graph = fake_graph,
    .weights = fake_weights,
    .weights_open = fake_weights_open,
    .weights_feed = fake_weights_feed,
    .weights_finish = fake_weights_finish,
    .weights_close = fake_weights_close,
    .arrays_open = fake_open,
    .arrays_feed = fake_feed,
    .arrays_finish = fake_finish,
    .arrays_close = fake_close,
    .npy_header = fake_header,
};

/* ---- asking ---- */

struct asking {
    char folder[64];
    struct store *store;
    struct http_stats stats;
    struct service service;
    struct request request; /* headers that a test sets here go with the next question, then are forgotten */
    struct response out;    /* of the last question */
    struct json *json;      /* of its body, NULL without */
    char body[1 << 16];     /* of a download, or of the first events */
    bool quiet;             /* no checks of shapes: for starving */
};

static inline bool asking_start(struct asking *a) {
    struct err e = {0};
    memset(a, 0, sizeof *a);
    text_print(a->folder, sizeof a->folder, "/tmp/retort-ask-XXXXXX");
    if (!mkdtemp(a->folder)) return false;
    log_start(LOG_ERROR + 1, "test");
    a->service = (struct service){.version = "1", .commit = "c", .blas = "b", .instruction_set = "i"};
    a->service.intake = &fake_intake;
    a->service.routes = route_table;
    a->service.stats = &a->stats;
    a->service.started_ms = 1;
    a->service.upload_max = a->service.network_max = 1 << 20;
    static const unsigned char page[] = "<html>";
    static const struct asset assets[] = {{"index.html", page, 6}, {NULL, NULL, 0}};
    a->service.assets = assets;
    response_init(&a->out);
    return !store_open(&a->store, &(struct store_options){.folder = a->folder}, &e);
}

static inline void asking_stop(struct asking *a) {
    char command[128];
    json_free(a->json);
    response_fini(&a->out, a->store);
    store_close(a->store);
    text_print(command, sizeof command, "rm -rf %s", a->folder);
    if (system(command)) printf("# %s stays\n", a->folder);
}

static inline void asking_header(struct asking *a, const char *name, const char *value) {
    a->request.headers[a->request.n_headers++] = (struct pair){name, value};
}

/* "/a/b?x=1" into the request; nothing is encoded in tests. */
static inline void asking_target(struct request *r, char room[512], const char *target) {
    text_copy(room, 512, target);
    r->path = target;
    char *query = strchr(room, '?'), *save = NULL;
    if (query) *query++ = '\0';
    for (char *s = strtok_r(room, "/", &save); s; s = strtok_r(NULL, "/", &save)) r->segments[r->n_segments++] = s;
    for (char *p = query ? strtok_r(query, "&", &save) : NULL; p; p = strtok_r(NULL, "&", &save)) {
        char *equals = strchr(p, '=');
        if (equals) *equals++ = '\0';
        r->query[r->n_query++] = (struct pair){p, equals ? equals : ""};
    }
}

/* What the front does with a source: reads it to the end, a few bytes at a time. */
static inline void asking_download(struct asking *a) {
    struct byte_source *s = &a->out.source;
    size_t got = 0, n = 0;
    while (n < s->size && n < sizeof a->body - 1) {
        size_t room = s->size - n < 7 ? (size_t)(s->size - n) : 7;
        if (s->read(&got, a->body + n, room, n, s->state, a->store, NULL) || !got || got > room) break;
        n += got;
    }
    a->body[n] = '\0';
    if (!a->quiet) ok(n == s->size, "%zu of %llu bytes", n, (unsigned long long)s->size);
}

static inline void asking_listen(struct asking *a) {
    struct text t;
    bool done = false;
    text_init(&t, sizeof a->body - 1);
    for (int i = 0; i < 10 && !done; i++)
        if (a->out.events.next(&t, &done, a->out.events.state, a->store, NULL)) break;
    text_copy(a->body, sizeof a->body, t.data);
    text_free(&t);
}

extern const struct route problem_get;

/* ---- shapes ---- */

static inline void check_value(const struct param *row, const struct json *v, const char *where);

static inline void check_members(const struct param *fields, const struct json *object, const char *where) {
    char here[256];
    for (const struct json *m = json_first(object); m; m = json_next(m)) {
        const struct param *row = fields;
        while (row->name && strcmp(row->name, json_name(m))) row++;
        text_print(here, sizeof here, "%s.%s", where, json_name(m));
        ok(row->name != NULL, "%s is not in the shape", here);
        if (row->name) check_value(row, m, here);
    }
    for (const struct param *row = fields; row->name; row++)
        if (row->required) ok(json_get(object, row->name) != NULL, "%s lacks \"%s\"", where, row->name);
}

static inline void check_value(const struct param *row, const struct json *v, const char *where) {
    static const enum json_type types[] = {JSON_BOOL,   JSON_NUMBER, JSON_NUMBER, JSON_STRING,
                                           JSON_STRING, JSON_OBJECT, JSON_ARRAY};
    if (json_type(v) == JSON_NULL) {
        ok(!row->required, "%s is null", where);
        return;
    }
    if (!ok(json_type(v) == types[row->type], "%s is %s", where, json_type_name(json_type(v)))) return;
    if (row->type == PARAM_TYPE_OBJECT && row->fields) check_members(row->fields, v, where);
    for (const struct json *i = row->type == PARAM_TYPE_LIST && row->fields ? json_first(v) : NULL; i; i = json_next(i))
        check_value(row->fields, i, where);
}

static inline void check_shape(struct asking *a, const char *name, const char *target) {
    const struct reply_shape *shape = reply_shape_find(name);
    if (!ok(shape && a->json && json_type(a->json) == JSON_OBJECT, "%s: \"%s\" of %s", target, name, a->out.body.data))
        return;
    check_members(shape->fields, a->json, target);
}

/* A problem has its shape, and its type leads somewhere. */
static inline void check_problem(struct asking *a, const char *target) {
    check_shape(a, "problem", target);
    const struct json *type = a->json ? json_get(a->json, "type") : NULL;
    if (!ok(type && !strncmp(json_string(type), "/problems/", 10), "%s: %s", target, a->out.body.data)) return;
    struct request r = {.captures = {json_string(type) + 10}};
    struct response out;
    response_init(&out);
    ok(!problem_get.handle(&r, &out, NULL), "%s is not described", json_string(type));
    response_fini(&out, NULL);
}

/* ---- the question ---- */

static inline void asking_run(struct asking *a, const struct route *route) {
    struct sink sink;
    struct err e = {0};
    if (!route->upload) {
        route_run(route, &a->request, &a->out);
        return;
    }
    if (!route_upload(&sink, route, &a->request, &a->out)) return;
    const char *body = a->request.body;
    size_t size = a->request.body_size, half = size / 2;
    int code = 0;
    if (size) code = sink.piece(sink.state, a->store, body, half, &e); /* in two pieces */
    if (size && !code) code = sink.piece(sink.state, a->store, body + half, size - half, &e);
    if (!code) {
        route_upload_end(&sink, &a->request, &a->out);
        return;
    }
    sink.abort(sink.state, a->store);
    reply_error(&a->out, &a->request, &e);
}

static inline void asking_look(struct asking *a, const struct route *route, const char *target) {
    if (a->out.kind == REPLY_SOURCE) asking_download(a);
    if (a->out.kind == REPLY_EVENTS) asking_listen(a);
    bool json = a->out.kind == REPLY_BODY && a->out.type && strstr(a->out.type, "json");
    if (json) {
        struct err e = {0};
        int code = json_parse(&a->json, a->out.body.data, a->out.body.length, &e);
        if (!a->quiet) ok(!code, "%s: %s in %.300s", target, e.text, a->out.body.data);
    }
    if (a->quiet) return;
    if (a->out.status >= 400) check_problem(a, target);
    bool dry = route && route->dry_reply && a->out.status == 200;
    if (json && route && a->out.status < 300 && *route->reply)
        check_shape(a, dry ? route->dry_reply : route->reply, target);
}

/* Asks and gives the status, 0 for "wait". The answer is in a->out, a->json and a->body. */
static inline int ask(struct asking *a, enum http_method method, const char *target, const char *body) {
    char room[512];
    struct request *r = &a->request;
    json_free(a->json);
    a->json = NULL;
    response_fini(&a->out, a->store);
    a->body[0] = '\0';
    r->method = method;
    r->n_segments = r->n_query = 0;
    asking_target(r, room, target);
    r->body = body ? body : "";
    r->body_size = strlen(r->body);
    r->base = "http://box:1";
    r->remote = "127.0.0.1";
    text_copy(r->id, sizeof r->id, "id");
    r->service = &a->service;
    r->store = a->store;
    const struct route *route = route_find(r, route_table, &a->out);
    if (route) asking_run(a, route);
    int status = a->out.kind == REPLY_WAIT ? 0 : a->out.status;
    asking_look(a, route, target);
    r->n_headers = 0;
    r->waited_ms = 0;
    return status;
}

/* A header of the last answer; "" without. */
static inline const char *answer_header(const struct asking *a, const char *name) {
    static char value[512];
    return reply_header_get(value, sizeof value, &a->out, name) ? value : "";
}

/* A member of the last answer, by path: "items", "aliases.champion". */
static inline const struct json *member(const struct asking *a, const char *path) {
    char name[64];
    const struct json *v = a->json;
    while (v && *path) {
        size_t n = strcspn(path, ".");
        text_print(name, sizeof name, "%.*s", (int)n, path);
        v = json_type(v) == JSON_OBJECT ? json_get(v, name) : NULL;
        path += n + (path[n] == '.');
    }
    return v;
}

static inline double number_at(const struct asking *a, const char *path) {
    const struct json *v = member(a, path);
    return v && json_type(v) == JSON_NUMBER ? json_number(v) : -1;
}

static inline const char *text_at(const struct asking *a, const char *path) {
    const struct json *v = member(a, path);
    return v && json_type(v) == JSON_STRING ? json_string(v) : "";
}

#endif

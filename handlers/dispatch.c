/* dispatch.c - matching, and the way through a handler. */
#include "handlers/dispatch.h"

#include <string.h>

#include "handlers/headers.h"
#include "handlers/reply.h"

const char *http_method_name(enum http_method method) {
    static const char *const names[] = {"GET", "PUT", "POST", "DELETE", "OTHER"};
    return names[method];
}

/* Compares segment by segment and remembers what stands for a {name}. */
static bool matches(struct request *r, const char *pattern) {
    int captures = 0;
    for (int i = 0; i < r->n_segments; i++) {
        if (*pattern++ != '/') return false;
        size_t length = strcspn(pattern, "/");
        if (*pattern == '{')
            r->captures[captures++] = r->segments[i];
        else if (length != strlen(r->segments[i]) || memcmp(pattern, r->segments[i], length))
            return false;
        pattern += length;
    }
    return !*pattern || !strcmp(pattern, "/");
}

static void add_allowed(char *allow, size_t room, enum http_method method) {
    char word[16];
    text_print(word, sizeof word, method == HTTP_GET ? "GET, HEAD" : "%s", http_method_name(method));
    if (strstr(allow, word)) return;
    if (*allow) strncat(allow, ", ", room - strlen(allow) - 1);
    strncat(allow, word, room - strlen(allow) - 1);
}

const struct route *route_find(struct request *r, const struct route *const *routes, struct response *out) {
    char allow[64] = "", detail[512];
    for (const struct route *const *row = routes; *row; row++) {
        if (!matches(r, (*row)->pattern)) continue;
        if ((*row)->method == r->method) return *row;
        add_allowed(allow, sizeof allow, (*row)->method);
    }
    if (*allow) {
        text_print(detail, sizeof detail, "this path allows %s", allow);
        reply_problem(out, r, &(struct problem){405, "method-not-allowed", detail, "", 0});
        reply_header(out, "Allow", "%s", allow);
        return NULL;
    }
    text_print(detail, sizeof detail, "there is no \"%s\" here; /openapi.json lists what there is", r->path);
    reply_problem(out, r, &(struct problem){404, "not-found", detail, "", 0});
    return NULL;
}

/* A reply that could not be written whole is no reply. */
static int check_texts(const struct response *out, struct err *e) {
    if (!out->body.failed && !out->headers.failed) return 0;
    if (out->body.failed == E_NOMEM || out->headers.failed == E_NOMEM) return err_memory(e, out->body.length);
    return err_set(e, E_INTERNAL, "the answer is longer than %u bytes", HTTP_MAX_BODY_TEXT);
}

static void finish(const struct request *r, struct response *out, int code, struct err *e) {
    if (!code) code = check_texts(out, e);
    if (!code) return;
    err_set(e, code, "%s", err_slug(code)); /* in case nobody said more */
    reply_error(out, r, e);
}

/* Handlers that have a table judge it themselves. */
static int check_query(const struct route *route, const struct request *r, struct err *e) {
    if (route->any_query || route->query || !r->n_query) return 0;
    return err_set(e, E_INVALID, "this call takes no query parameters; \"%.80s\" was found", r->query[0].name);
}

void route_run(const struct route *route, const struct request *r, struct response *out) {
    struct err e = {0};
    response_init(out);
    int code = check_query(route, r, &e);
    if (!code) code = route->handle(r, out, &e);
    finish(r, out, code, &e);
}

bool route_upload(struct sink *sink, const struct route *route, const struct request *r, struct response *out) {
    struct err e = {0};
    *sink = (struct sink){0};
    int code = check_query(route, r, &e);
    if (!code) code = route->upload(sink, r, &e);
    if (code) finish(r, out, code, &e);
    return !code;
}

void route_upload_end(struct sink *sink, const struct request *r, struct response *out) {
    struct err e = {0};
    int code = sink->end(sink->state, r, out, &e);
    finish(r, out, code, &e);
}

/* reply.c - filling responses. */
#include "handlers/reply.h"

#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"

#define HEADERS_MAX 8192

void response_init(struct response *out) {
    *out = (struct response){.kind = REPLY_BODY};
    text_init(&out->headers, HEADERS_MAX);
    text_init(&out->body, HTTP_MAX_BODY_TEXT);
}

void response_fini(struct response *out, struct store *store) {
    if (out->kind == REPLY_SOURCE && out->source.close) out->source.close(out->source.state, store);
    if (out->kind == REPLY_EVENTS && out->events.close) out->events.close(out->events.state, store);
    text_free(&out->headers);
    text_free(&out->body);
    response_init(out);
}

struct text *reply_text(struct response *out, int status, const char *type) {
    out->status = status;
    out->type = type;
    return &out->body;
}

struct json_writer reply_json(struct response *out, int status) {
    return json_writer(reply_text(out, status, "application/json"));
}

void reply_header(struct response *out, const char *name, const char *format, ...) {
    va_list args;
    size_t start = out->headers.length;
    text_format(&out->headers, "%s: ", name);
    va_start(args, format);
    text_vformat(&out->headers, format, args);
    va_end(args);
    assert(out->headers.failed || !strpbrk(out->headers.data + start, "\r\n"));
    (void)start;
    text_add(&out->headers, "\n", 1);
}

bool reply_header_get(char *to, size_t room, const struct response *out, const char *name) {
    size_t length = strlen(name);
    for (const char *line = out->headers.data; *line; line += strcspn(line, "\n") + 1)
        if (!strncasecmp(line, name, length) && line[length] == ':') {
            text_print(to, room, "%.*s", (int)(strcspn(line, "\n") - length - 2), line + length + 2);
            return true;
        }
    return false;
}

void reply_wait(struct response *out, int64_t ms) {
    out->kind = REPLY_WAIT;
    out->wait_ms = ms;
}

static void put_title(struct json_writer *w, const char *slug) {
    char title[64];
    text_copy(title, sizeof title, slug);
    title[0] = (char)toupper((unsigned char)title[0]);
    for (char *c = title; *c; c++)
        if (*c == '-') *c = ' ';
    json_put_string(w, "title", title);
}

static void put_errors(struct json_writer *w, const struct problem *p) {
    json_open_array(w, "errors");
    json_open_object(w, NULL);
    json_put_string(w, "pointer", p->pointer);
    json_put_string(w, "detail", p->detail);
    json_close_object(w);
    json_close_array(w);
}

void reply_problem(struct response *out, const struct request *r, const struct problem *p) {
    char type[96];
    response_fini(out, r->store);
    text_print(type, sizeof type, "/problems/%s", p->slug);
    struct json_writer w = json_writer(reply_text(out, p->status, "application/problem+json"));
    json_open_object(&w, NULL);
    json_put_string(&w, "type", type);
    put_title(&w, p->slug);
    json_put_int(&w, "status", p->status);
    json_put_string(&w, "detail", p->detail);
    json_put_string(&w, "instance", r->id);
    if (p->max_bytes) json_put_int(&w, "max_bytes", (int64_t)p->max_bytes);
    if (p->pointer && *p->pointer) put_errors(&w, p);
    json_close_object(&w);
    reply_header(out, "Cache-Control", "no-store");
    if (p->status == 503) reply_header(out, "Retry-After", "2");
}

void reply_error(struct response *out, const struct request *r, const struct err *e) {
    int status = err_status(e->code);
    if (status == 500) log_error("%s %s: %s", r->id, r->path, e->text);
    reply_problem(out, r, &(struct problem){status, err_slug(e->code), e->text, e->pointer, 0});
}

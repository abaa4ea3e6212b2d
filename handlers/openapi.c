/* openapi.c - /openapi.json: the route table, the parameter tables and the shapes of replies, as
 * OpenAPI 3.1. The tests hold every reply against its shape, so it cannot be behind. */
#include <ctype.h>
#include <string.h>

#include "handlers/dispatch.h"
#include "handlers/reply.h"
#include "handlers/schema.h"
#include "handlers/shapes.h"

/* "get_v1_models_ref_onnx" */
static void put_operation_id(struct json_writer *w, const struct route *route) {
    char id[128];
    size_t n = 0;
    for (const char *c = http_method_name(route->method); *c && n < sizeof id - 1; c++)
        id[n++] = (char)tolower((unsigned char)*c);
    for (const char *c = route->pattern; *c && n < sizeof id - 1; c++) {
        char next = isalnum((unsigned char)*c) ? *c : '_';
        if (next != '_' || id[n - 1] != '_') id[n++] = next;
    }
    while (n && id[n - 1] == '_') n--;
    id[n] = '\0';
    json_put_string(w, "operationId", id);
}

static void put_path_parameters(struct json_writer *w, const char *pattern) {
    char name[32];
    for (const char *c = strchr(pattern, '{'); c; c = strchr(c + 1, '{')) {
        text_print(name, sizeof name, "%.*s", (int)strcspn(c + 1, "}"), c + 1);
        json_open_object(w, NULL);
        json_put_string(w, "name", name);
        json_put_string(w, "in", "path");
        json_put_bool(w, "required", true);
        json_open_object(w, "schema");
        json_put_string(w, "type", !strcmp(name, "id") ? "integer" : "string");
        json_close_object(w);
        json_close_object(w);
    }
}

static void put_parameters(struct json_writer *w, const struct route *route) {
    json_open_array(w, "parameters");
    put_path_parameters(w, route->pattern);
    for (const struct param *row = route->query; row && row->name; row++) {
        json_open_object(w, NULL);
        json_put_string(w, "name", row->name);
        json_put_string(w, "in", "query");
        if (row->help) json_put_string(w, "description", row->help);
        put_value_schema(w, "schema", row);
        json_close_object(w);
    }
    json_close_array(w);
}

/* {"content":{"application/json":{"schema":...}}} around a schema that the caller writes. */
static void open_content(struct json_writer *w, const char *media) {
    json_open_object(w, "content");
    json_open_object(w, media);
}

static void close_content(struct json_writer *w) {
    json_close_object(w);
    json_close_object(w);
}

static void put_reference(struct json_writer *w, const char *shape) {
    char target[64];
    text_print(target, sizeof target, "#/components/schemas/%s", shape);
    json_open_object(w, "schema");
    json_put_string(w, "$ref", target);
    json_close_object(w);
}

static void put_body(struct json_writer *w, const struct route *route) {
    if (route->body == BODY_NONE) return;
    json_open_object(w, "requestBody");
    json_put_bool(w, "required", !route->fields || route->fields->name);
    open_content(w, route->body == BODY_JSON ? "application/json" : "application/octet-stream");
    if (route->body_schema)
        route->body_schema(w, "schema");
    else if (route->fields)
        put_table_schema(w, "schema", route->fields, NULL, NULL);
    close_content(w);
    json_close_object(w);
}

/* shape "" for bytes; media NULL for nothing at all */
static void put_answer(struct json_writer *w, const char *status, const char *description, const char *media,
                       const char *shape) {
    json_open_object(w, status);
    json_put_string(w, "description", description);
    if (media) {
        open_content(w, media);
        if (*shape) put_reference(w, shape);
        close_content(w);
    }
    json_close_object(w);
}

static void put_answers(struct json_writer *w, const struct route *route) {
    const char *media = route->media ? route->media : *route->reply ? "application/json" : NULL;
    json_open_object(w, "responses");
    if (route->dry_reply) put_answer(w, "200", "with dry_run: what would happen", "application/json", route->dry_reply);
    put_answer(w, "2XX", route->summary, media, route->reply);
    put_answer(w, "default", "a problem (RFC 9457)", "application/problem+json", "problem");
    json_close_object(w);
}

static void put_security(struct json_writer *w, enum scope scope) {
    static const char *const names[] = {"", "read", "write", "admin"};
    json_open_array(w, "security");
    if (scope != SCOPE_NONE) {
        json_open_object(w, NULL);
        json_open_array(w, "token");
        json_put_string(w, NULL, names[scope]);
        json_close_array(w);
        json_close_object(w);
    }
    json_close_array(w);
}

static void put_operation(struct json_writer *w, const struct route *route) {
    static const char *const names[] = {"get", "put", "post", "delete", ""};
    json_open_object(w, names[route->method]);
    put_operation_id(w, route);
    json_put_string(w, "summary", route->summary);
    put_parameters(w, route);
    put_body(w, route);
    put_answers(w, route);
    put_security(w, route->scope);
    json_close_object(w);
}

static bool seen_before(const struct route *const *routes, const struct route *const *row) {
    for (; routes < row; routes++)
        if (!strcmp((*routes)->pattern, (*row)->pattern)) return true;
    return false;
}

static void put_paths(struct json_writer *w, const struct route *const *routes) {
    json_open_object(w, "paths");
    for (const struct route *const *row = routes; *row; row++) {
        if (seen_before(routes, row)) continue;
        json_open_object(w, (*row)->pattern);
        for (const struct route *const *same = row; *same; same++)
            if (!strcmp((*same)->pattern, (*row)->pattern)) put_operation(w, *same);
        json_close_object(w);
    }
    json_close_object(w);
}

static void put_components(struct json_writer *w) {
    json_open_object(w, "components");
    json_open_object(w, "schemas");
    for (const struct reply_shape *s = reply_shapes; s->name; s++) put_table_schema(w, s->name, s->fields, NULL, NULL);
    json_close_object(w);
    json_open_object(w, "securitySchemes");
    json_open_object(w, "token");
    json_put_string(w, "type", "http");
    json_put_string(w, "scheme", "bearer");
    json_close_object(w);
    json_close_object(w);
    json_close_object(w);
}

static int openapi(const struct request *r, struct response *out, struct err *e) {
    (void)e;
    struct json_writer w = reply_json(out, 200);
    json_open_object(&w, NULL);
    json_put_string(&w, "openapi", "3.1.0");
    json_open_object(&w, "info");
    json_put_string(&w, "title", "retort");
    json_put_string(&w, "summary", "moves what one neural network knows into another");
    json_put_string(&w, "version", r->service->version);
    json_close_object(&w);
    put_paths(&w, r->service->routes);
    put_components(&w);
    json_close_object(&w);
    return 0;
}

extern const struct route openapi_get;
const struct route openapi_get = {
    .method = HTTP_GET,
    .pattern = "/openapi.json",
    .summary = "this description",
    .handle = openapi,
    .reply = "",
    .media = "application/json",
};

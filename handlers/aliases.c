/* aliases.c - /v1/models/{name}/aliases/{alias}, the same of data sets, and their histories. */
#include "handlers/aliases.h"

#include <string.h>

#include "handlers/fields.h"
#include "handlers/headers.h"
#include "handlers/reply.h"

int put_aliases(struct json_writer *w, struct store *s, enum store_kind kind, const char *name, struct err *e) {
    struct store_alias_page page = {0};
    int code = store_alias_list(&page, s, kind, name, e);
    json_open_object(w, "aliases");
    for (size_t i = 0; i < page.n; i++) json_put_int(w, page.items[i].alias, page.items[i].number);
    json_close_object(w);
    store_alias_page_fini(&page);
    return code;
}

static void print_tag(char out[32], int64_t revision) {
    text_print(out, 32, "\"r%lld\"", (long long)revision);
}

static int reply_alias(struct response *out, int status, const struct store_alias *a) {
    char tag[32];
    print_tag(tag, a->revision);
    struct json_writer w = reply_json(out, status);
    json_open_object(&w, NULL);
    json_put_string(&w, "alias", a->alias);
    json_put_int(&w, "version", a->number);
    put_time(&w, "changed_at", a->changed_at);
    json_close_object(&w);
    reply_header(out, "ETag", "%s", tag);
    return 0;
}

/* What the request expects the alias to be: STORE_REVISION_ANY, STORE_REVISION_NEW or a revision.
 * `now` is what it is, or NULL. */
static int expected_revision(int64_t *out, const struct request *r, const struct store_alias *now, struct err *e) {
    char tag[32];
    const char *match = header_get(r, "If-Match"), *none = header_get(r, "If-None-Match");
    *out = STORE_REVISION_ANY;
    if (none && strchr(none, '*')) *out = STORE_REVISION_NEW;
    if (!match) return 0;
    if (!now) return err_set(e, E_PRECONDITION, "the alias does not exist, but If-Match is %s", match);
    print_tag(tag, now->revision);
    if (!header_names_tag(match, tag, true))
        return err_set(e, E_PRECONDITION, "the alias is at %s (version %lld), but If-Match is %s", tag,
                       (long long)now->number, match);
    *out = now->revision;
    return 0;
}

struct alias_body {
    int64_t version;
};
static const struct param alias_fields[] = {
    {.name = "version",
     .type = PARAM_TYPE_INT,
     .required = true,
     PARAM_AT(struct alias_body, version),
     .low = 1,
     .high = 9e15,
     .help = "number of the version the alias shall mean"},
    PARAM_END,
};

struct alias_query {
    bool strict;
};
static const struct param alias_query[] = {
    PARAM_BOOL(struct alias_query, strict, "false", "refuse a move without If-Match or If-None-Match (428)"),
    PARAM_END,
};

/* True when a condition is asked for and missing; `out` is then the answer. */
static bool lacks_condition(const struct request *r, const struct alias_query *query, struct response *out) {
    if (!query->strict || header_get(r, "If-Match") || header_get(r, "If-None-Match")) return false;
    reply_problem(out, r,
                  &(struct problem){428, "precondition-required",
                                    "send If-Match with the alias's ETag, or If-None-Match: *", "", 0});
    return true;
}

static int alias_put(const struct request *r, struct response *out, struct err *e) {
    struct alias_body body;
    struct alias_query query;
    struct store_alias before = {0}, after = {0};
    const char *name, *alias = r->captures[1];
    int64_t expected;
    int code = name_of(&name, r, 0, e);
    if (!code) code = query_parse(&query, alias_query, r, e);
    if (!code) code = body_parse(&body, alias_fields, r, e);
    if (code || lacks_condition(r, &query, out)) return code;
    bool existed = !store_alias_get(&before, r->store, kind_of(r), name, alias, NULL);
    code = expected_revision(&expected, r, existed ? &before : NULL, e);
    if (!code)
        code = store_alias_set(&after, r->store, kind_of(r), name, alias, body.version, expected, r->principal, e);
    return code ? code : reply_alias(out, existed ? 200 : 201, &after);
}

static int alias_get(const struct request *r, struct response *out, struct err *e) {
    struct store_alias a = {0};
    const char *name;
    int code = name_of(&name, r, 0, e);
    if (!code) code = store_alias_get(&a, r->store, kind_of(r), name, r->captures[1], e);
    return code ? code : reply_alias(out, 200, &a);
}

static int alias_delete(const struct request *r, struct response *out, struct err *e) {
    struct store_alias a = {0};
    const char *name;
    int64_t expected;
    int code = name_of(&name, r, 0, e);
    if (!code) code = store_alias_get(&a, r->store, kind_of(r), name, r->captures[1], e);
    if (!code) code = expected_revision(&expected, r, &a, e);
    if (!code) code = store_alias_delete(r->store, kind_of(r), name, r->captures[1], expected, r->principal, e);
    out->status = 204;
    return code;
}

struct history_query {
    int64_t limit, after;
};
static const struct param history_query[] = {PAGE_PARAMS(struct history_query), PARAM_END};

static int alias_history(const struct request *r, struct response *out, struct err *e) {
    struct history_query query;
    struct store_move_page page = {0};
    const char *name;
    int code = name_of(&name, r, 0, e);
    if (!code) code = query_parse(&query, history_query, r, e);
    if (!code)
        code = store_alias_history(&page, r->store, kind_of(r), name, r->captures[1], query.after, (int)query.limit, e);
    if (code) return code;
    struct json_writer w = reply_json(out, 200);
    json_open_object(&w, NULL);
    json_open_array(&w, "items");
    for (size_t i = 0; i < page.n; i++) {
        json_open_object(&w, NULL);
        put_id(&w, "from", page.items[i].from);
        put_id(&w, "to", page.items[i].to);
        put_time(&w, "at", page.items[i].at);
        json_put_string(&w, "who", page.items[i].who[0] ? page.items[i].who : NULL);
        json_close_object(&w);
    }
    page_close(&w, out, r, page.next);
    store_move_page_fini(&page);
    return 0;
}

/* ---- the same four calls for models and for data sets ---- */

#define ALIAS_ROUTES(thing) \
    extern const struct route thing##_alias_put, thing##_alias_get, thing##_alias_delete, thing##_alias_history; \
    const struct route thing##_alias_put = { \
        .method = HTTP_PUT, \
        .pattern = "/v1/" #thing "s/{name}/aliases/{alias}", \
        .summary = "points an alias at a version", \
        .handle = alias_put, \
        .body = BODY_JSON, \
        .body_max = 4096, \
        .scope = SCOPE_WRITE, \
        .slow = true, \
        .query = alias_query, \
        .fields = alias_fields, \
        .reply = "alias", \
    }; \
    const struct route thing##_alias_get = { \
        .method = HTTP_GET, \
        .pattern = "/v1/" #thing "s/{name}/aliases/{alias}", \
        .summary = "where an alias points", \
        .handle = alias_get, \
        .scope = SCOPE_READ, \
        .reply = "alias", \
    }; \
    const struct route thing##_alias_delete = { \
        .method = HTTP_DELETE, \
        .pattern = "/v1/" #thing "s/{name}/aliases/{alias}", \
        .summary = "removes an alias; its version stays", \
        .handle = alias_delete, \
        .scope = SCOPE_WRITE, \
        .slow = true, \
        .reply = "", \
    }; \
    const struct route thing##_alias_history = { \
        .method = HTTP_GET, \
        .pattern = "/v1/" #thing "s/{name}/aliases/{alias}/history", \
        .summary = "the moves of an alias, newest first", \
        .handle = alias_history, \
        .scope = SCOPE_READ, \
        .query = history_query, \
        .reply = "alias_history", \
    };

ALIAS_ROUTES(model)
ALIAS_ROUTES(dataset)

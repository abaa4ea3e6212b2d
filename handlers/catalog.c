/* catalog.c - what models and data sets share besides aliases: tags, and deleting. */
#include <string.h>

#include "handlers/fields.h"
#include "handlers/reply.h"
#include "handlers/weights.h"

struct tags_body {
    char tags[STORE_TAGS_MAX][STORE_NAME_SIZE];
    int n_tags;
};
static const struct param tag_row = {.name = "", .type = PARAM_TYPE_STRING, .size = STORE_NAME_SIZE};
static const struct param tags_fields[] = {
    PARAM_LIST(struct tags_body, tags, n_tags, &tag_row, "words to list by; they replace those there were"),
    PARAM_END,
};

static int tags_put(const struct request *r, struct response *out, struct err *e) {
    struct tags_body body;
    struct store_tags tags = {0};
    const char *name;
    int code = name_of(&name, r, 0, e);
    if (!code) code = body_parse(&body, tags_fields, r, e);
    if (code) return code;
    tags.n = (size_t)body.n_tags;
    memcpy(tags.tag, body.tags, sizeof tags.tag);
    code = store_tags_set(r->store, STORE_MODEL, name, &tags, e);
    if (code) return code;
    struct json_writer w = reply_json(out, 200);
    json_open_object(&w, NULL);
    param_write(&w, tags_fields, &body);
    json_close_object(&w);
    return 0;
}

static int catalog_delete(const struct request *r, struct response *out, struct err *e) {
    int64_t removed = 0;
    if (kind_of(r) == STORE_MODEL) weights_forget(r, r->captures[0]);
    int code = store_delete(&removed, r->store, kind_of(r), r->captures[0], e);
    if (code) return code;
    struct json_writer w = reply_json(out, 200);
    json_open_object(&w, NULL);
    json_put_int(&w, "removed", removed);
    json_close_object(&w);
    return 0;
}

/* Data sets have no such call: "tags" may be the name of an array. */
extern const struct route model_tags_put;
const struct route model_tags_put = {
    .method = HTTP_PUT,
    .pattern = "/v1/models/{name}/tags",
    .summary = "sets the tags of a model, for ?tag= of the list",
    .handle = tags_put,
    .body = BODY_JSON,
    .body_max = 16384,
    .scope = SCOPE_WRITE,
    .slow = true,
    .fields = tags_fields,
    .reply = "tags",
};

#define DELETE_ROUTE(thing) \
    extern const struct route thing##_delete; \
    const struct route thing##_delete = { \
        .method = HTTP_DELETE, \
        .pattern = "/v1/" #thing "s/{ref}", \
        .summary = "removes one version, or with the bare name all of them", \
        .handle = catalog_delete, \
        .scope = SCOPE_WRITE, \
        .slow = true, \
        .reply = "removed", \
    };

DELETE_ROUTE(model)
DELETE_ROUTE(dataset)

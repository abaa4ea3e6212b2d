/* catalog.c - what models and data sets share besides aliases: deleting. */
#include "handlers/fields.h"
#include "handlers/reply.h"

static int catalog_delete(const struct request *r, struct response *out, struct err *e) {
    int64_t removed = 0;
    int code = store_delete(&removed, r->store, kind_of(r), r->captures[0], e);
    if (code) return code;
    struct json_writer w = reply_json(out, 200);
    json_open_object(&w, NULL);
    json_put_int(&w, "removed", removed);
    json_close_object(&w);
    return 0;
}

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

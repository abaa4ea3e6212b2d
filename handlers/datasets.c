/* datasets.c - /v1/datasets: lists, versions, and arrays on their way out. */
#include "handlers/datasets.h"

#include <string.h>

#include "handlers/aliases.h"
#include "handlers/blob_source.h"
#include "handlers/fields.h"
#include "handlers/headers.h"
#include "handlers/reply.h"

#define VERSIONS_SHOWN 100

static void put_array(struct json_writer *w, const struct store_array *a) {
    json_open_object(w, NULL);
    json_put_string(w, "name", a->name);
    json_put_string(w, "dtype", a->dtype);
    json_open_array(w, "shape");
    for (int i = 0; i < a->rank; i++) json_put_int(w, NULL, a->shape[i]);
    json_close_array(w);
    json_put_int(w, "bytes", a->bytes);
    put_digest(w, "digest", &a->digest);
    json_close_object(w);
}

void put_dataset_version(struct json_writer *w, const struct store_dataset *d) {
    json_put_string(w, "name", d->version.name);
    json_put_int(w, "version", d->version.number);
    put_digest(w, "digest", &d->version.digest);
    json_put_int(w, "bytes", d->version.bytes);
    json_open_array(w, "arrays");
    for (size_t i = 0; i < d->n; i++) put_array(w, &d->arrays[i]);
    json_close_array(w);
    put_time(w, "created_at", d->version.created_at);
}

/* ---- GET /v1/datasets ---- */

struct list_query {
    char q[STORE_NAME_SIZE];
    int64_t limit, after;
};
static const struct param list_query[] = {
    PARAM_STRING(struct list_query, q, NULL, "a part of the name"),
    PAGE_PARAMS(struct list_query),
    PARAM_END,
};

static int put_item(struct json_writer *w, const struct request *r, const struct store_name *n, struct err *e) {
    struct store_dataset d = {0};
    if (store_dataset_read(&d, r->store, n->latest.id, NULL)) return 0; /* deleted since */
    json_open_object(w, NULL);
    put_dataset_version(w, &d);
    json_put_int(w, "version_count", n->versions);
    int code = put_aliases(w, r->store, STORE_DATASET, n->name, e);
    put_time(w, "changed_at", n->changed_at);
    json_close_object(w);
    store_dataset_fini(&d);
    return code;
}

static int list(const struct request *r, struct response *out, struct err *e) {
    struct list_query query;
    struct store_name_page page = {0};
    int code = query_parse(&query, list_query, r, e);
    if (code) return code;
    struct store_name_query wanted = {
        .q = query.q[0] ? query.q : NULL, .after = query.after, .limit = (int)query.limit};
    code = store_name_list(&page, r->store, STORE_DATASET, &wanted, e);
    if (code) return code;
    struct json_writer w = reply_json(out, 200);
    json_open_object(&w, NULL);
    json_open_array(&w, "items");
    for (size_t i = 0; i < page.n && !code; i++) code = put_item(&w, r, &page.items[i], e);
    page_close(&w, out, r, page.next);
    store_name_page_fini(&page);
    return code;
}

extern const struct route dataset_list;
const struct route dataset_list = {
    .method = HTTP_GET,
    .pattern = "/v1/datasets",
    .summary = "the data sets, the one with the newest version first",
    .handle = list,
    .scope = SCOPE_READ,
    .query = list_query,
    .reply = "dataset_page",
};

/* ---- GET /v1/datasets/{ref} ---- */

static int put_versions(struct json_writer *w, const struct request *r, const char *name, struct err *e) {
    struct store_version_page page = {0};
    int code = store_version_list(&page, r->store, STORE_DATASET, name, 0, VERSIONS_SHOWN, e);
    json_open_array(w, "versions");
    for (size_t i = 0; i < page.n; i++) {
        const struct store_version *v = &page.items[i];
        json_open_object(w, NULL);
        json_put_int(w, "version", v->number);
        put_digest(w, "digest", &v->digest);
        json_put_int(w, "bytes", v->bytes);
        put_time(w, "created_at", v->created_at);
        json_close_object(w);
    }
    json_close_array(w);
    store_version_page_fini(&page);
    return code;
}

/* What is known about the name, after the latest version's members. */
static int put_summary(struct json_writer *w, struct response *out, const struct request *r, const char *name,
                       struct err *e) {
    struct store_name n;
    int code = store_name_get(&n, r->store, STORE_DATASET, name, e);
    if (!code) code = put_aliases(w, r->store, STORE_DATASET, name, e);
    if (!code) code = put_versions(w, r, name, e);
    if (code) return code;
    json_put_int(w, "version_count", n.versions);
    put_time(w, "changed_at", n.changed_at);
    reply_header(out, "ETag", "\"r%lld\"", (long long)n.revision);
    return 0;
}

static int get(const struct request *r, struct response *out, struct err *e) {
    struct store_reference parsed;
    struct store_dataset d = {0};
    int code = store_reference_parse(&parsed, r->captures[0], e);
    if (!code) code = store_dataset_get(&d, r->store, r->captures[0], e);
    if (code) return code;
    struct json_writer w = reply_json(out, 200);
    json_open_object(&w, NULL);
    put_dataset_version(&w, &d);
    if (parsed.bare) {
        code = put_summary(&w, out, r, d.version.name, e);
    } else {
        reply_version_headers(out, r, &d.version, r->captures[0], "");
        reply_header(out, "ETag", "\"v%lld\"", (long long)d.version.id);
    }
    json_close_object(&w);
    store_dataset_fini(&d);
    return code;
}

extern const struct route dataset_get;
const struct route dataset_get = {
    .method = HTTP_GET,
    .pattern = "/v1/datasets/{ref}",
    .summary = "one version with its arrays; with the bare name the latest one, all versions and aliases",
    .handle = get,
    .scope = SCOPE_READ,
    .reply = "dataset",
};

/* ---- GET /v1/datasets/{ref}/{array} ---- */

static int no_array(const struct store_dataset *d, const char *name, struct err *e) {
    struct text known;
    text_init(&known, 512);
    for (size_t i = 0; i < d->n; i++) text_format(&known, "%s%s", i ? ", " : "", d->arrays[i].name);
    int code = err_set(e, E_NOT_FOUND, "%s@%lld has no array \"%s\"; it has %s", d->version.name,
                       (long long)d->version.number, name, known.data);
    text_free(&known);
    return code;
}

/* The header of the file is made here, so its digest is not that of the array: the tag covers both. */
static void put_tag(struct response *out, const char *header, size_t size, const struct store_array *a) {
    char hex[DIGEST_HEX_SIZE];
    struct hasher h;
    hasher_init(&h);
    hasher_add(&h, header, size);
    hasher_add(&h, a->digest.bytes, sizeof a->digest.bytes);
    struct digest d = hasher_finish(&h);
    digest_to_hex(hex, &d);
    reply_header(out, "ETag", "\"npy:%s\"", hex);
}

static int reply_array(struct response *out, const struct request *r, const struct store_dataset *d,
                       const struct store_array *a, struct err *e) {
    char header[NPY_HEADER_MAX], rest[STORE_ARRAY_NAME_SIZE + 1];
    size_t size = 0;
    int code = r->service->intake->npy_header(header, &size, a->dtype, a->rank, a->shape, e);
    if (!code) code = reply_blob(out, "application/octet-stream", header, size, a->blob, a->offset, a->bytes, e);
    if (code) return code;
    put_tag(out, header, size, a);
    text_print(rest, sizeof rest, "/%s", a->name);
    reply_header(out, "Content-Disposition", "attachment; filename=\"%s-v%lld-%s.npy\"", d->version.name,
                 (long long)d->version.number, a->name);
    reply_version_headers(out, r, &d->version, r->captures[0], rest);
    return 0;
}

static int get_array(const struct request *r, struct response *out, struct err *e) {
    struct store_dataset d = {0};
    int code = store_dataset_get(&d, r->store, r->captures[0], e);
    if (code) return code;
    const struct store_array *a = store_dataset_array(&d, r->captures[1]);
    code = a ? reply_array(out, r, &d, a, e) : no_array(&d, r->captures[1], e);
    store_dataset_fini(&d);
    return code;
}

extern const struct route dataset_array_get;
const struct route dataset_array_get = {
    .method = HTTP_GET,
    .pattern = "/v1/datasets/{ref}/{array}",
    .summary = "one array as .npy",
    .handle = get_array,
    .scope = SCOPE_READ,
    .reply = "",
    .media = "application/octet-stream",
};

/* models.c - /v1/models: lists, summaries, versions, and the network's bytes on their way out. */
#include "handlers/models.h"

#include "base/memory.h"
#include "handlers/aliases.h"
#include "handlers/blob_source.h"
#include "handlers/fields.h"
#include "handlers/headers.h"
#include "handlers/reply.h"

#define VERSIONS_SHOWN 100 /* in a summary; the rest is reached by number */

/* ---- documents ---- */

static void put_identity(struct json_writer *w, const struct store_version *v) {
    json_put_string(w, "name", v->name);
    json_put_int(w, "version", v->number);
    put_digest(w, "digest", &v->digest);
    json_put_int(w, "bytes", v->bytes);
}

static void put_size(struct json_writer *w, int64_t parameters, int64_t macs) {
    json_put_int(w, "parameters", parameters);
    put_macs(w, macs);
}

void put_model_version(struct json_writer *w, const struct store_model *m) {
    put_identity(w, &m->version);
    put_size(w, m->parameters, m->macs);
    put_json(w, "inputs", m->inputs);
    put_json(w, "outputs", m->outputs);
    put_json(w, "operators", m->operators);
    put_json(w, "lineage", m->lineage);
    put_json(w, "metrics", m->metrics);
    put_json(w, "training", m->training);
    put_id(w, "job", m->version.job);
    put_time(w, "created_at", m->version.created_at);
}

/* A version in a list: what there is without its texts. */
static void put_short(struct json_writer *w, const struct store_version *v, int64_t parameters, int64_t macs) {
    put_identity(w, v);
    put_size(w, parameters, macs);
    put_id(w, "job", v->job);
    put_time(w, "created_at", v->created_at);
}

static int put_versions(struct json_writer *w, const struct request *r, const char *name, struct err *e) {
    struct store_version_page page = {0};
    int code = store_version_list(&page, r->store, STORE_MODEL, name, 0, VERSIONS_SHOWN, e);
    json_open_array(w, "versions");
    for (size_t i = 0; i < page.n && !code; i++) {
        struct store_model m = {0};
        if (store_model_read(&m, r->store, page.items[i].id, NULL)) continue; /* deleted since */
        json_open_object(w, NULL);
        put_short(w, &m.version, m.parameters, m.macs);
        json_close_object(w);
        store_model_fini(&m);
    }
    json_close_array(w);
    store_version_page_fini(&page);
    return code;
}

static int put_tags(struct json_writer *w, const struct request *r, const char *name, struct err *e) {
    struct store_tags tags;
    int code = store_tags_get(&tags, r->store, STORE_MODEL, name, e);
    json_open_array(w, "tags");
    for (size_t i = 0; i < tags.n && !code; i++) json_put_string(w, NULL, tags.tag[i]);
    json_close_array(w);
    return code;
}

/* ---- GET /v1/models ---- */

struct list_query {
    char q[STORE_NAME_SIZE], tag[STORE_NAME_SIZE];
    int64_t limit, after;
};
static const struct param list_query[] = {
    PARAM_STRING(struct list_query, q, NULL, "a part of the name"),
    PARAM_STRING(struct list_query, tag, NULL, "only those with this tag"),
    PAGE_PARAMS(struct list_query),
    PARAM_END,
};

static int put_item(struct json_writer *w, const struct request *r, const struct store_name *n, struct err *e) {
    json_open_object(w, NULL);
    put_short(w, &n->latest, n->parameters, n->macs);
    json_put_int(w, "version_count", n->versions);
    int code = put_aliases(w, r->store, STORE_MODEL, n->name, e);
    put_time(w, "changed_at", n->changed_at);
    json_close_object(w);
    return code;
}

static int list(const struct request *r, struct response *out, struct err *e) {
    struct list_query query;
    struct store_name_page page = {0};
    int code = query_parse(&query, list_query, r, e);
    if (code) return code;
    struct store_name_query wanted = {
        .q = query.q[0] ? query.q : NULL,
        .tag = query.tag[0] ? query.tag : NULL,
        .after = query.after,
        .limit = (int)query.limit,
    };
    code = store_name_list(&page, r->store, STORE_MODEL, &wanted, e);
    if (code) return code;
    struct json_writer w = reply_json(out, 200);
    json_open_object(&w, NULL);
    json_open_array(&w, "items");
    for (size_t i = 0; i < page.n && !code; i++) code = put_item(&w, r, &page.items[i], e);
    page_close(&w, out, r, page.next);
    store_name_page_fini(&page);
    return code;
}

extern const struct route model_list;
const struct route model_list = {
    .method = HTTP_GET,
    .pattern = "/v1/models",
    .summary = "the models, the one with the newest version first",
    .handle = list,
    .scope = SCOPE_READ,
    .query = list_query,
    .reply = "model_page",
};

/* ---- GET /v1/models/{ref} ---- */

/* The latest version's members, and what is known about the name. */
static int reply_summary(const struct request *r, struct response *out, const struct store_model *m, struct err *e) {
    struct store_name n;
    int code = store_name_get(&n, r->store, STORE_MODEL, m->version.name, e);
    if (code) return code;
    struct json_writer w = reply_json(out, 200);
    json_open_object(&w, NULL);
    put_model_version(&w, m);
    code = put_aliases(&w, r->store, STORE_MODEL, n.name, e);
    if (!code) code = put_tags(&w, r, n.name, e);
    if (!code) code = put_versions(&w, r, n.name, e);
    json_put_int(&w, "version_count", n.versions);
    put_time(&w, "changed_at", n.changed_at);
    json_close_object(&w);
    reply_header(out, "ETag", "\"r%lld\"", (long long)n.revision);
    return code;
}

static void reply_version(const struct request *r, struct response *out, const struct store_model *m) {
    struct json_writer w = reply_json(out, 200);
    json_open_object(&w, NULL);
    put_model_version(&w, m);
    json_close_object(&w);
    reply_version_headers(out, r, &m->version, r->captures[0], "");
    reply_header(out, "ETag", "\"v%lld\"", (long long)m->version.id);
}

static int get(const struct request *r, struct response *out, struct err *e) {
    struct store_reference parsed;
    struct store_model m = {0};
    int code = store_reference_parse(&parsed, r->captures[0], e);
    if (!code) code = store_model_get(&m, r->store, r->captures[0], e);
    if (!code && parsed.bare)
        code = reply_summary(r, out, &m, e);
    else if (!code)
        reply_version(r, out, &m);
    store_model_fini(&m);
    return code;
}

extern const struct route model_get;
const struct route model_get = {
    .method = HTTP_GET,
    .pattern = "/v1/models/{ref}",
    .summary = "one version; with the bare name the latest one, all versions, aliases and tags",
    .handle = get,
    .scope = SCOPE_READ,
    .reply = "model",
};

/* ---- GET /v1/models/{ref}/onnx, onnx.sha256, graph ---- */

int reply_onnx(struct response *out, const struct request *r, const struct store_model *m, const char *reference,
               struct err *e) {
    const struct store_version *v = &m->version;
    int code = reply_blob(out, "application/octet-stream", NULL, 0, m->blob, 0, v->bytes, e);
    if (code) return code;
    out->source.digest = v->digest;
    out->source.has_digest = true;
    reply_header(out, "Content-Disposition", "attachment; filename=\"%s-v%lld.onnx\"", v->name, (long long)v->number);
    reply_version_headers(out, r, v, reference, "/onnx");
    return 0;
}

static int get_onnx(const struct request *r, struct response *out, struct err *e) {
    struct store_model m = {0};
    int code = store_model_get(&m, r->store, r->captures[0], e);
    if (!code) code = reply_onnx(out, r, &m, r->captures[0], e);
    store_model_fini(&m);
    return code;
}

extern const struct route model_onnx_get;
const struct route model_onnx_get = {
    .method = HTTP_GET,
    .pattern = "/v1/models/{ref}/onnx",
    .summary = "the network's bytes",
    .handle = get_onnx,
    .scope = SCOPE_READ,
    .reply = "",
    .media = "application/octet-stream",
};

static int get_sha256(const struct request *r, struct response *out, struct err *e) {
    struct store_version v;
    char hex[DIGEST_HEX_SIZE];
    int code = store_resolve(&v, r->store, STORE_MODEL, r->captures[0], e);
    if (code) return code;
    digest_to_hex(hex, &v.digest);
    text_format(reply_text(out, 200, "text/plain; charset=utf-8"), "%s  %s-v%lld.onnx\n", hex, v.name,
                (long long)v.number);
    reply_version_headers(out, r, &v, r->captures[0], "/onnx.sha256");
    return 0;
}

extern const struct route model_sha256_get;
const struct route model_sha256_get = {
    .method = HTTP_GET,
    .pattern = "/v1/models/{ref}/onnx.sha256",
    .summary = "one line for sha256sum -c",
    .handle = get_sha256,
    .scope = SCOPE_READ,
    .reply = "",
    .media = "text/plain",
};

static int get_graph(const struct request *r, struct response *out, struct err *e) {
    struct store_model m = {0};
    struct model_bytes bytes;
    int code = store_model_get(&m, r->store, r->captures[0], e);
    if (!code) code = model_open(&bytes, r, m.blob, m.version.bytes, e);
    if (!code) code = r->service->intake->graph(reply_text(out, 200, "application/json"), &bytes.origin, e);
    if (!code) reply_version_headers(out, r, &m.version, r->captures[0], "/graph");
    store_model_fini(&m);
    return code;
}

extern const struct route model_graph_get;
const struct route model_graph_get = {
    .method = HTTP_GET,
    .pattern = "/v1/models/{ref}/graph",
    .summary = "the network's nodes in order, with the shapes of what flows between them",
    .handle = get_graph,
    .scope = SCOPE_READ,
    .slow = true,
    .reply = "graph",
};

/* dashboard.c - the files of web/, which are built into the binary: "/" and what it needs. */
#include <string.h>

#include "handlers/reply.h"

static const char *type_of(const char *path) {
    static const char *const types[][2] = {
        {".html", "text/html; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".svg", "image/svg+xml"},
        {".json", "application/json"},
        {".png", "image/png"},
        {".woff2", "font/woff2"},
    };
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof types / sizeof types[0]; i++)
        if (!strcmp(dot, types[i][0])) return types[i][1];
    return "application/octet-stream";
}

static int asset_read(size_t *got, void *to, size_t room, uint64_t offset, void *state, struct store *store,
                      struct err *e) {
    const struct asset *a = state;
    (void)store, (void)e;
    *got = a->size - offset < room ? (size_t)(a->size - offset) : room;
    memcpy(to, a->bytes + offset, *got);
    return 0;
}

static int reply_asset(struct response *out, const struct asset *a) {
    out->status = 200;
    out->kind = REPLY_SOURCE;
    out->type = type_of(a->path);
    /* The asset is constant; `state` is not, for the sake of others. */
    out->source = (struct byte_source){.state = (void *)(uintptr_t)a, .size = a->size, .read = asset_read};
    out->source.digest = digest_of(a->bytes, a->size);
    out->source.has_digest = true;
    reply_header(out, "Content-Security-Policy",
                 "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'");
    reply_header(out, "Referrer-Policy", "no-referrer");
    return 0;
}

static int get_asset(const struct request *r, struct response *out, struct err *e) {
    const char *path = r->n_segments ? r->captures[0] : "index.html";
    for (const struct asset *a = r->service->assets; a && a->path; a++)
        if (!strcmp(a->path, path)) return reply_asset(out, a);
    return err_set(e, E_NOT_FOUND, "there is no \"%s\" here; /openapi.json lists what there is", r->path);
}

extern const struct route index_get;
const struct route index_get = {
    .method = HTTP_GET,
    .pattern = "/",
    .summary = "the dashboard",
    .handle = get_asset,
    .any_query = true,
    .reply = "",
    .media = "text/html",
};

extern const struct route asset_get;
const struct route asset_get = {
    .method = HTTP_GET,
    .pattern = "/{file}",
    .summary = "a file of the dashboard",
    .handle = get_asset,
    .any_query = true,
    .reply = "",
    .media = "application/octet-stream",
};

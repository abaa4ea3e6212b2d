/* weights.c - /v1/models/{ref}/safetensors: the weights of a network without it, and a network with other weights. */
#include "handlers/weights.h"

#include <string.h>

#include "base/memory.h"
#include "handlers/blob_source.h"
#include "handlers/fields.h"
#include "handlers/models.h"
#include "handlers/reply.h"
#include "store/cache.h"

#define PIECE ((size_t)STORE_CHUNK_SIZE)
#define FORGET_AT_A_TIME 100

/* ---- bytes of our own making, on their way into a blob ---- */

static int take_bytes(void *state, const void *bytes, size_t size, struct err *e) {
    return store_writer_add(state, bytes, size, e);
}

/* Ends the writer: a blob, or nothing when `code` says that the bytes are not complete. */
static int end_writer(struct store_blob *out, struct store_writer *writer, int code, struct err *e) {
    if (!code) return store_writer_finish(out, NULL, writer, NULL, e);
    store_writer_abandon(writer);
    return code;
}

/* ---- out ---- */

static int write_weights(struct store_blob *out, const struct request *r, const struct store_model *m, struct err *e) {
    struct store_writer *writer = NULL;
    struct model_bytes bytes;
    int code = model_open(&bytes, r, m->blob, m->version.bytes, e);
    if (!code) code = store_writer_open(&writer, r->store, STORE_BLOB_MAX, e);
    if (!code) {
        const struct byte_taker to = {writer, take_bytes};
        code = r->service->intake->weights(&to, &bytes.origin, e);
        code = end_writer(out, writer, code, e);
    }
    return code;
}

static void key_of(char key[STORE_CACHE_KEY_MAX], const struct digest *network) {
    char hex[DIGEST_HEX_SIZE];
    digest_to_hex(hex, network);
    text_print(key, STORE_CACHE_KEY_MAX, "safetensors 1 %s", hex);
}

/* They are written once and kept in the cache: a download is then a blob like any other, with a size, a digest and
 * ranges, in constant memory. */
static int find_weights(struct store_blob *out, const struct request *r, const struct store_model *m, struct err *e) {
    char key[STORE_CACHE_KEY_MAX];
    key_of(key, &m->version.digest);
    if (!store_cache_get(out, r->store, key, NULL)) return 0;
    int code = write_weights(out, r, m, e);
    return code ? code : store_cache_put(r->store, key, out, e);
}

static void forget_version(const struct request *r, const struct store_version *v) {
    char key[STORE_CACHE_KEY_MAX];
    key_of(key, &v->digest);
    store_cache_delete(r->store, key, NULL);
}

static void forget_all(const struct request *r, const char *name) {
    int64_t after = 0;
    do {
        struct store_version_page page = {0};
        if (store_version_list(&page, r->store, STORE_MODEL, name, after, FORGET_AT_A_TIME, NULL)) return;
        for (size_t i = 0; i < page.n; i++) forget_version(r, &page.items[i]);
        after = page.next;
        store_version_page_fini(&page);
    } while (after);
}

void weights_forget(const struct request *r, const char *reference) {
    struct store_reference parsed;
    struct store_version v;
    if (store_reference_parse(&parsed, reference, NULL)) return;
    if (parsed.bare)
        forget_all(r, parsed.name);
    else if (!store_resolve(&v, r->store, STORE_MODEL, reference, NULL))
        forget_version(r, &v);
}

int reply_weights(struct response *out, const struct request *r, const struct store_model *m, const char *reference,
                  struct err *e) {
    const struct store_version *v = &m->version;
    struct store_blob blob;
    int code = find_weights(&blob, r, m, e);
    if (!code) code = reply_blob(out, "application/octet-stream", NULL, 0, blob.id, 0, blob.size, e);
    if (code) return code;
    out->source.digest = blob.digest;
    out->source.has_digest = true;
    reply_header(out, "Content-Disposition", "attachment; filename=\"%s-v%lld.safetensors\"", v->name,
                 (long long)v->number);
    reply_version_headers(out, r, v, reference, "/safetensors");
    return 0;
}

static int get_weights(const struct request *r, struct response *out, struct err *e) {
    struct store_model m = {0};
    int code = store_model_get(&m, r->store, r->captures[0], e);
    if (!code) code = reply_weights(out, r, &m, r->captures[0], e);
    store_model_fini(&m);
    return code;
}

extern const struct route model_safetensors_get;
const struct route model_safetensors_get = {
    .method = HTTP_GET,
    .pattern = "/v1/models/{ref}/safetensors",
    .summary = "the network's weights: a tensor for each float initializer of the ONNX file, under its name",
    .handle = get_weights,
    .scope = SCOPE_READ,
    .slow = true,
    .reply = "",
    .media = "application/octet-stream",
};

/* ---- in ---- */

static int feed_blob(struct weights_taker *w, const struct request *r, const struct store_blob *blob, struct err *e) {
    char *piece = mem_alloc(PIECE);
    if (!piece) return err_memory(e, PIECE);
    int code = 0;
    for (int64_t done = 0; done < blob->size && !code; done += (int64_t)PIECE) {
        size_t size = blob->size - done < (int64_t)PIECE ? (size_t)(blob->size - done) : PIECE;
        code = store_blob_read(piece, size, r->store, blob->id, done, e);
        if (!code) code = blame_content(r->service->intake->weights_feed(w, piece, size, e), e);
    }
    mem_free(piece);
    return code;
}

static int write_network(bool *changed, struct store_blob *out, const struct request *r, struct weights_taker *w,
                         struct err *e) {
    struct store_writer *writer = NULL;
    int code = store_writer_open(&writer, r->store, STORE_BLOB_MAX, e);
    if (code) return code;
    const struct byte_taker to = {writer, take_bytes};
    code = blame_content(r->service->intake->weights_finish(changed, w, &to, e), e);
    if (code || *changed) return end_writer(out, writer, code, e);
    store_writer_abandon(writer);
    return 0;
}

int weights_apply(struct store_blob *blob, const struct request *r, const char *name, struct err *e) {
    struct store_model m = {0};
    struct weights_taker *w = NULL;
    struct model_bytes bytes;
    bool changed = false;
    int code = store_model_get(&m, r->store, name, e);
    if (!code) code = model_open(&bytes, r, m.blob, m.version.bytes, e);
    if (!code) code = r->service->intake->weights_open(&w, &bytes.origin, e);
    if (!code) code = feed_blob(w, r, blob, e);
    if (!code) code = write_network(&changed, blob, r, w, e);
    r->service->intake->weights_close(w);
    if (!code && !changed) *blob = (struct store_blob){m.blob, m.version.bytes, m.version.digest};
    store_model_fini(&m);
    return code;
}

/* model_put.c - PUT /v1/models/{name}/onnx and /safetensors: bytes into a blob, the blob looked at, then a version. */
#include <string.h>

#include "base/memory.h"
#include "handlers/fields.h"
#include "handlers/headers.h"
#include "handlers/models.h"
#include "handlers/reply.h"
#include "handlers/weights.h"

/* More than protobuf can read. */
#define ONNX_MAX ((uint64_t)INT32_MAX)

static int check_size(const struct request *r, uint64_t size, struct err *e) {
    if (size <= r->service->network_max) return 0;
    return err_set(e, E_TOO_LARGE,
                   "the network has %llu bytes; with its memory this server takes up to %llu (--memory)",
                   (unsigned long long)size, (unsigned long long)r->service->network_max);
}

int model_open(struct model_bytes *out, const struct request *r, int64_t blob, int64_t size, struct err *e) {
    int code = check_size(r, (uint64_t)size, e);
    if (!code) out->origin = store_blob_origin(&out->place, r->store, blob, size);
    return code;
}

/* Turns the blob that came into the one to keep, an ONNX file. */
typedef int convert_fn(struct store_blob *blob, const struct request *r, const char *name, struct err *e);

struct model_upload {
    char name[STORE_NAME_SIZE];
    int64_t max;
    convert_fn *convert; /* NULL: it is ONNX already */
    const char *missing; /* what an empty body is told */
    struct store_writer *writer;
};

static int take_piece(void *state, struct store *store, const void *bytes, size_t size, struct err *e) {
    struct model_upload *u = state;
    int code = u->writer ? 0 : store_writer_open(&u->writer, store, u->max, e);
    return code ? code : store_writer_add(u->writer, bytes, size, e);
}

static void abandon(void *state, struct store *store) {
    struct model_upload *u = state;
    (void)store;
    store_writer_abandon(u->writer);
    mem_free(u);
}

static int describe(struct network_facts *facts, const struct request *r, const struct store_blob *blob,
                    struct err *e) {
    struct model_bytes bytes;
    int code = model_open(&bytes, r, blob->id, blob->size, e);
    return code ? code : blame_content(r->service->intake->network(facts, &bytes.origin, e), e);
}

static int reply_stored(struct response *out, const struct request *r, const struct store_version *v, bool existed,
                        struct err *e) {
    struct store_model m = {0};
    int code = store_model_read(&m, r->store, v->id, e);
    if (code) return code;
    struct json_writer w = reply_json(out, existed ? 200 : 201);
    json_open_object(&w, NULL);
    put_model_version(&w, &m);
    json_close_object(&w);
    reply_header(out, "Location", "/v1/models/%s@%lld", v->name, (long long)v->number);
    store_model_fini(&m);
    return 0;
}

void network_facts_free(struct network_facts *f) {
    text_free(&f->operators);
    text_free(&f->inputs);
    text_free(&f->outputs);
}

static int publish(struct response *out, const struct request *r, const char *name, const struct store_blob *blob,
                   struct err *e) {
    struct network_facts facts = {0};
    struct store_version v;
    bool existed = false;
    int code = describe(&facts, r, blob, e);
    if (!code) {
        struct store_model_new new = {
            .name = name,
            .blob = *blob,
            .parameters = facts.parameters,
            .macs = facts.macs,
            .operators = facts.operators.data,
            .inputs = facts.inputs.data,
            .outputs = facts.outputs.data,
        };
        code = store_model_put(&v, &existed, r->store, &new, e);
    }
    network_facts_free(&facts);
    return code ? code : reply_stored(out, r, &v, existed, e);
}

static int finish(void *state, const struct request *r, struct response *out, struct err *e) {
    struct model_upload *u = state;
    struct store_blob blob;
    int code = 0;
    if (u->writer)
        code = store_writer_finish(&blob, NULL, u->writer, NULL, e);
    else
        code = err_set(e, E_INVALID, "the body is empty; send the bytes of %s", u->missing);
    if (!code && u->convert) code = u->convert(&blob, r, u->name, e);
    if (!code) code = publish(out, r, u->name, &blob, e);
    mem_free(u);
    return code;
}

static int open_sink(struct sink *sink, const struct request *r, convert_fn *convert, const char *missing,
                     struct err *e) {
    const char *name, *length = header_get(r, "Content-Length");
    int64_t size;
    int code = name_of(&name, r, 0, e);
    if (!code && length && text_to_int(&size, length, 0, INT64_MAX)) code = check_size(r, (uint64_t)size, e);
    if (code) return code;
    struct model_upload *u = mem_calloc(1, sizeof *u);
    if (!u) return err_memory(e, sizeof *u);
    text_copy(u->name, sizeof u->name, name);
    u->max = (int64_t)r->service->network_max;
    u->convert = convert;
    u->missing = missing;
    *sink = (struct sink){u, take_piece, finish, abandon};
    return 0;
}

static int put_onnx(struct sink *sink, const struct request *r, struct err *e) {
    return open_sink(sink, r, NULL, "an ONNX file (curl -T model.onnx)", e);
}

/* Weights need a network, which must be there before they come. */
static int put_safetensors(struct sink *sink, const struct request *r, struct err *e) {
    const char *name;
    struct store_version v;
    int code = name_of(&name, r, 0, e);
    if (code) return code;
    code = store_resolve(&v, r->store, STORE_MODEL, name, e);
    if (code == E_NOT_FOUND && e)
        err_prefix(e, "weights need a network: store one with PUT /v1/models/%s/onnx first", name);
    return code ? code : open_sink(sink, r, weights_apply, "a safetensors file (curl -T model.safetensors)", e);
}

extern const struct route model_onnx_put;
const struct route model_onnx_put = {
    .method = HTTP_PUT,
    .pattern = "/v1/models/{ref}/onnx",
    .summary = "stores an ONNX file as a new version; the latest one's bytes again give that version",
    .upload = put_onnx,
    .body = BODY_STREAM,
    .body_max = ONNX_MAX,
    .scope = SCOPE_WRITE,
    .reply = "model",
};

extern const struct route model_safetensors_put;
const struct route model_safetensors_put = {
    .method = HTTP_PUT,
    .pattern = "/v1/models/{ref}/safetensors",
    .summary = "stores the latest network with these weights as a new version; the same weights give the latest one",
    .upload = put_safetensors,
    .body = BODY_STREAM,
    .body_max = ONNX_MAX,
    .scope = SCOPE_WRITE,
    .reply = "model",
};

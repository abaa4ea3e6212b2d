/* dataset_put.c - PUT /v1/datasets/{name}/{array}, /npz and /safetensors: arrays out of the body, each into a blob of
 * its own as they come by, then a version that names them. */
#include <string.h>

#include "base/memory.h"
#include "handlers/datasets.h"
#include "handlers/fields.h"
#include "handlers/reply.h"

struct array_upload {
    char name[STORE_NAME_SIZE];
    char array[STORE_ARRAY_NAME_SIZE]; /* "" for a body that brings names of its own */
    enum array_body body;
    const struct intake *intake;
    uint64_t budget;
    struct array_reader *reader;
    struct store *store;         /* of the calls of this sink */
    struct store_writer *writer; /* of the array that is coming */
    struct store_array *arrays;  /* [STORE_ARRAYS_MAX] */
    size_t n;
};

/* The rule of store/datasets.h, said before the bytes come rather than after. */
static int check_array_name(const char *name, struct err *e) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
    size_t length = strlen(name);
    bool good = length > 0 && length < STORE_ARRAY_NAME_SIZE && strchr(letters, name[0]);
    for (size_t i = 1; i < length && good; i++) good = strchr(letters, name[i]) || strchr("-.", name[i]);
    if (good) return 0;
    return err_set(e, E_INVALID,
                   "\"%.80s\" cannot be an array's name: it must be 1 to %d letters, digits, \"_\", \".\" "
                   "or \"-\", and begin with a letter, a digit or \"_\"",
                   name, STORE_ARRAY_NAME_SIZE - 1);
}

/* ---- arrays, as the reader finds them ---- */

static int begin_array(void *state, const char *name, const char *dtype, int rank, const int64_t *shape,
                       struct err *e) {
    struct array_upload *u = state;
    if (u->array[0]) name = u->array;
    int code = check_array_name(name, e);
    if (code) return code;
    if (u->n == STORE_ARRAYS_MAX) return err_set(e, E_TOO_LARGE, "there are more than %d arrays", STORE_ARRAYS_MAX);
    for (size_t i = 0; i < u->n; i++)
        if (!strcmp(u->arrays[i].name, name)) return err_set(e, E_INVALID, "there are two arrays \"%s\"", name);
    struct store_array *a = &u->arrays[u->n];
    *a = (struct store_array){.rank = rank};
    text_copy(a->name, sizeof a->name, name);
    text_copy(a->dtype, sizeof a->dtype, dtype);
    for (int i = 0; i < rank && i < STORE_ARRAY_RANK; i++) a->shape[i] = shape[i];
    return store_writer_open(&u->writer, u->store, STORE_BLOB_MAX, e);
}

static int take_data(void *state, const void *bytes, size_t size, struct err *e) {
    struct array_upload *u = state;
    return store_writer_add(u->writer, bytes, size, e);
}

static int end_array(void *state, struct err *e) {
    struct array_upload *u = state;
    struct store_writer *writer = u->writer;
    struct store_array *a = &u->arrays[u->n];
    struct store_blob blob;
    u->writer = NULL; /* finish frees it, whatever happens */
    int code = store_writer_finish(&blob, NULL, writer, NULL, e);
    if (code) return code;
    a->blob = blob.id;
    a->bytes = blob.size;
    a->digest = blob.digest;
    u->n++;
    return 0;
}

/* ---- the sink ---- */

static void release(struct array_upload *u) {
    store_writer_abandon(u->writer);
    u->intake->arrays_close(u->reader);
    mem_free(u->arrays);
    mem_free(u);
}

static void abandon(void *state, struct store *store) {
    (void)store;
    release(state);
}

static int open_reader(struct array_upload *u, struct err *e) {
    const struct array_taker taker = {u, begin_array, take_data, end_array};
    u->arrays = mem_calloc(STORE_ARRAYS_MAX, sizeof *u->arrays);
    if (!u->arrays) return err_memory(e, STORE_ARRAYS_MAX * sizeof *u->arrays);
    return u->intake->arrays_open(&u->reader, &taker, u->body, u->budget, e);
}

static int take_piece(void *state, struct store *store, const void *bytes, size_t size, struct err *e) {
    struct array_upload *u = state;
    u->store = store;
    int code = u->reader ? 0 : open_reader(u, e);
    return code ? code : blame_content(u->intake->arrays_feed(u->reader, bytes, size, e), e);
}

static int reply_stored(struct response *out, const struct request *r, const struct store_version *v, bool existed,
                        struct err *e) {
    struct store_dataset d = {0};
    int code = store_dataset_read(&d, r->store, v->id, e);
    if (code) return code;
    struct json_writer w = reply_json(out, existed ? 200 : 201);
    json_open_object(&w, NULL);
    put_dataset_version(&w, &d);
    json_close_object(&w);
    reply_header(out, "Location", "/v1/datasets/%s@%lld", v->name, (long long)v->number);
    store_dataset_fini(&d);
    return 0;
}

static int finish(void *state, const struct request *r, struct response *out, struct err *e) {
    struct array_upload *u = state;
    struct store_version v;
    bool existed = false;
    u->store = r->store;
    int code = u->reader ? blame_content(u->intake->arrays_finish(u->reader, e), e)
                         : err_set(e, E_INVALID, "the body is empty; send the bytes of an array (curl -T labels.npy)");
    if (!code && !u->n) code = err_set(e, E_INVALID, "there is no array in the body");
    if (!code) code = store_dataset_put(&v, &existed, r->store, u->name, u->arrays, u->n, e);
    if (!code) code = reply_stored(out, r, &v, existed, e);
    release(u);
    return code;
}

static int open_sink(struct sink *sink, const struct request *r, enum array_body body, const char *array,
                     struct err *e) {
    const char *name;
    int code = name_of(&name, r, 0, e);
    if (code) return code;
    struct array_upload *u = mem_calloc(1, sizeof *u);
    if (!u) return err_memory(e, sizeof *u);
    text_copy(u->name, sizeof u->name, name);
    text_copy(u->array, sizeof u->array, array);
    u->body = body;
    u->intake = r->service->intake;
    u->budget = r->service->upload_max;
    *sink = (struct sink){u, take_piece, finish, abandon};
    return 0;
}

static int put_array(struct sink *sink, const struct request *r, struct err *e) {
    int code = check_array_name(r->captures[1], e);
    return code ? code : open_sink(sink, r, ARRAY_ALONE, r->captures[1], e);
}

static int put_npz(struct sink *sink, const struct request *r, struct err *e) {
    return open_sink(sink, r, ARRAYS_NPZ, "", e);
}

static int put_safetensors(struct sink *sink, const struct request *r, struct err *e) {
    return open_sink(sink, r, ARRAYS_SAFETENSORS, "", e);
}

extern const struct route dataset_array_put;
const struct route dataset_array_put = {
    .method = HTTP_PUT,
    .pattern = "/v1/datasets/{ref}/{array}",
    .summary = "stores one array (.npy or IDX, gzipped or not) in a new version that shares the others",
    .upload = put_array,
    .body = BODY_STREAM,
    .scope = SCOPE_WRITE,
    .reply = "dataset",
};

extern const struct route dataset_npz_put;
const struct route dataset_npz_put = {
    .method = HTTP_PUT,
    .pattern = "/v1/datasets/{ref}/npz",
    .summary = "stores all arrays of an .npz archive in a new version",
    .upload = put_npz,
    .body = BODY_STREAM,
    .scope = SCOPE_WRITE,
    .reply = "dataset",
};

extern const struct route dataset_safetensors_put;
const struct route dataset_safetensors_put = {
    .method = HTTP_PUT,
    .pattern = "/v1/datasets/{ref}/safetensors",
    .summary = "stores all tensors of a safetensors file in a new version",
    .upload = put_safetensors,
    .body = BODY_STREAM,
    .scope = SCOPE_WRITE,
    .reply = "dataset",
};

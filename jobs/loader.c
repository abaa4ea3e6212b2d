/* loader.c - bytes of blobs to graphs and arrays. */
#include "jobs/loader.h"

#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/formats/onnx.h"
#include "engine/formats/training_memory.h"
#include "store/datasets.h"
#include "store/models.h"

#define PIECE ((size_t)4 << 20) /* bytes read at a time */

void loader_init(struct loader *l, struct store *s, const struct references *references,
                 const struct loader_options *options) {
    *l = (struct loader){.store = s, .references = references, .options = *options};
    scratch_init(&l->scratch, options->folder, options->folder ? options->small : SIZE_MAX);
}

void loader_fini(struct loader *l) {
    scratch_fini(&l->scratch);
    mem_free(l->arrays);
    l->arrays = NULL;
    l->n_arrays = 0;
}

static int version_of(const struct store_version **out, const struct loader *l, enum store_kind kind,
                      const char *reference, struct err *e) {
    const struct reference *r = references_find(l->references, kind, reference);
    if (!r) return err_set(e, E_INTERNAL, "'%s' is not among the references of the job", reference);
    *out = &r->version;
    return 0;
}

/* ---- networks ---- */

int loader_graph(struct graph **out, struct source *source, struct loader *l, const char *reference, struct err *e) {
    const struct store_version *version = NULL;
    struct store_model model = {0};
    struct store_blob_place place;
    int status = version_of(&version, l, STORE_MODEL, reference, e);
    if (!status) status = store_model_read(&model, l->store, version->id, e);
    if (status) return status;
    size_t size = (size_t)model.version.bytes;
    if (l->options.memory && size > l->options.memory)
        status = err_set(e, E_TOO_LARGE, "model %s has %zu bytes, a job may take %zu (--memory)", reference, size,
                         l->options.memory);
    if (!status) {
        struct byte_origin origin = store_blob_origin(&place, l->store, model.blob, model.version.bytes);
        status = onnx_read_from(out, &origin, e);
        if (status) err_prefix(e, "model %s", reference);
    }
    if (!status && source) *source = (struct source){model.version.digest, (uint64_t)size};
    store_model_fini(&model);
    return status;
}

static int tick(struct loader *l, struct err *e) {
    return l->options.tick ? l->options.tick(l->options.context, e) : 0;
}

/* ---- what a training left ---- */

static int feed_blob(struct training_memory_reader *r, struct loader *l, int64_t blob, size_t size, struct err *e) {
    char *piece = mem_alloc(PIECE);
    int status = piece ? 0 : err_memory(e, PIECE);
    for (size_t done = 0; done < size && !status; done += PIECE) {
        size_t n = size - done < PIECE ? size - done : PIECE;
        status = store_blob_read(piece, n, l->store, blob, (int64_t)done, e);
        if (!status) status = training_memory_reader_feed(r, piece, n, e);
        if (!status) status = tick(l, e);
    }
    mem_free(piece);
    return status;
}

static int read_memory(struct graph *g, struct loader *l, int64_t blob, struct err *e) {
    struct training_memory_reader *r = NULL;
    struct store_blob b;
    int status = store_blob_get(&b, l->store, blob, e);
    if (!status && l->options.memory && (size_t)b.size > l->options.memory)
        status = err_set(e, E_TOO_LARGE, "it has %lld bytes, a job may take %zu (--memory)", (long long)b.size,
                         l->options.memory);
    if (!status) status = training_memory_reader_new(&r, g, e);
    if (!status) status = feed_blob(r, l, blob, (size_t)b.size, e);
    if (!status) status = training_memory_reader_finish(r, e);
    training_memory_reader_free(r);
    return status;
}

int loader_memory(struct graph *g, struct loader *l, const char *reference, struct err *e) {
    const struct store_version *version = NULL;
    struct store_model model = {0};
    int status = version_of(&version, l, STORE_MODEL, reference, e);
    if (!status) status = store_model_read(&model, l->store, version->id, e);
    if (!status && !model.memory)
        status = err_set(e, E_NOT_FOUND,
                         "model %s has no optimizer's state: it was uploaded, or trained with \"keep_optimizer\":false",
                         reference);
    else if (!status && (status = read_memory(g, l, model.memory, e)))
        err_prefix(e, "the optimizer's state of model %s", reference);
    store_model_fini(&model);
    return status;
}

/* ---- arrays ---- */

/* Piece by piece into memory, or into a map of a file. */
static int fetch_data(struct loaded_array *out, struct loader *l, const struct store_array *a, struct err *e) {
    char *bytes;
    void *block;
    if (!l->options.folder && (size_t)a->bytes > l->options.small) return 0;
    int status = scratch_take(&block, &l->scratch, (size_t)a->bytes + 1, e);
    if (status) {
        err_prefix(e, "array %s", a->name);
        return status;
    }
    bytes = block;
    for (int64_t done = 0; done < a->bytes && !status; done += (int64_t)PIECE) {
        size_t size = (size_t)(a->bytes - done) < PIECE ? (size_t)(a->bytes - done) : PIECE;
        status = store_blob_read(bytes + done, size, l->store, a->blob, a->offset + done, e);
        if (!status) status = tick(l, e);
    }
    scratch_seal(&l->scratch, block);
    out->array.data = block;
    return status;
}

static int describe(struct loaded_array *out, const struct store_array *a, struct err *e) {
    if (a->rank > SHAPE_MAX_RANK || !dtype_from_name(&out->array.type, a->dtype))
        return err_set(e, E_UNSUPPORTED, "array %s has type %s and %d dimensions, which the engine does not take",
                       a->name, a->dtype, a->rank);
    out->array.shape.rank = a->rank;
    for (int d = 0; d < a->rank; d++) out->array.shape.dim[d] = a->shape[d];
    out->source = (struct source){a->digest, (uint64_t)a->bytes};
    size_t count;
    int status = shape_count(&count, &out->array.shape, e);
    if (!status && count * dtype_size(out->array.type) != (size_t)a->bytes)
        status = err_set(e, E_CORRUPT, "array %s has %lld bytes, its shape needs %zu", a->name, (long long)a->bytes,
                         count * dtype_size(out->array.type));
    return status;
}

static int no_array(const struct store_dataset *d, const char *reference, const char *name, struct err *e) {
    char names[512] = "none";
    size_t used = 0;
    for (size_t i = 0;
         i < d->n && text_print(names + used, sizeof names - used, "%s\"%s\"", i ? ", " : "", d->arrays[i].name); i++)
        used = strlen(names);
    return err_set(e, E_NOT_FOUND, "data set %s has no array \"%s\"; it has %s", reference, name, names);
}

/* Room for one more; zeroed. */
static int add_array(struct loaded_array **out, struct loader *l, struct err *e) {
    if (l->n_arrays == LOADER_MAX_ARRAYS)
        return err_set(e, E_TOO_LARGE, "a job with more than %d arrays", LOADER_MAX_ARRAYS);
    struct loaded_array *moved = mem_resize(l->arrays, l->n_arrays + 1, sizeof *moved);
    if (!moved) return err_memory(e, (l->n_arrays + 1) * sizeof *moved);
    l->arrays = moved;
    moved[l->n_arrays] = (struct loaded_array){0};
    *out = &moved[l->n_arrays];
    return 0;
}

static int load(struct loaded_array **out, struct loader *l, const struct store_version *version, const char *reference,
                const char *name, struct err *e) {
    struct store_dataset d = {0};
    int status = store_dataset_read(&d, l->store, version->id, e);
    if (status) return status;
    const struct store_array *a = store_dataset_array(&d, name);
    status = a ? add_array(out, l, e) : no_array(&d, reference, name, e);
    if (!status) status = describe(*out, a, e);
    if (!status) status = fetch_data(*out, l, a, e);
    if (!status) {
        (*out)->version = version->id;
        text_copy((*out)->name, sizeof(*out)->name, name);
        l->n_arrays++;
    }
    store_dataset_fini(&d);
    return status;
}

int loader_array(struct data_array *out, struct source *source, struct loader *l, const char *reference,
                 const char *name, struct err *e) {
    const struct store_version *version = NULL;
    struct loaded_array *found = NULL;
    int status = version_of(&version, l, STORE_DATASET, reference, e);
    for (size_t i = 0; i < l->n_arrays && !status && !found; i++)
        if (l->arrays[i].version == version->id && strcmp(l->arrays[i].name, name) == 0) found = &l->arrays[i];
    if (!status && !found) status = load(&found, l, version, reference, name, e);
    if (status) return status;
    *out = found->array;
    if (source) *source = found->source;
    return 0;
}

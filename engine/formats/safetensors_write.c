/* safetensors_write.c - arrays that are in memory as a safetensors file, and the format's names of types. */
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "engine/formats/safetensors.h"
#include "engine/formats/safetensors_types.h"

#define ALIGNMENT 8 /* of the data in the file: the header is filled up with spaces */

/* ---- types ---- */

static const char *const names[DTYPE_COUNT] = {
    [DT_FLOAT32] = "F32", [DT_FLOAT64] = "F64", [DT_FLOAT16] = "F16", [DT_BFLOAT16] = "BF16", [DT_INT64] = "I64",
    [DT_INT32] = "I32",   [DT_INT16] = "I16",   [DT_INT8] = "I8",     [DT_UINT64] = "U64",    [DT_UINT32] = "U32",
    [DT_UINT16] = "U16",  [DT_UINT8] = "U8",    [DT_BOOL] = "BOOL",
};

const char *safetensors_type_name(enum dtype type) {
    return names[type];
}

bool safetensors_type_from_name(enum dtype *out, const char *name) {
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (!strcmp(names[i], name)) {
            *out = (enum dtype)i;
            return true;
        }
    return false;
}

/* ---- the file ---- */

static size_t size_of(const struct safetensors_tensor *t) {
    return t->array->count * dtype_size(t->array->type);
}

static void put_entry(struct json_writer *w, const struct safetensors_tensor *t, uint64_t begin) {
    const struct shape *s = &t->array->shape;
    json_open_object(w, t->name);
    json_put_string(w, "dtype", safetensors_type_name(t->array->type));
    json_open_array(w, "shape");
    for (int i = 0; i < s->rank; i++) json_put_int(w, NULL, s->dim[i]);
    json_close_array(w);
    json_open_array(w, "data_offsets");
    json_put_int(w, NULL, (int64_t)begin);
    json_put_int(w, NULL, (int64_t)(begin + size_of(t)));
    json_close_array(w);
    json_close_object(w);
}

static void put_notes(struct json_writer *w, const struct safetensors_note *notes, size_t n) {
    if (!n) return;
    json_open_object(w, SAFETENSORS_METADATA);
    for (size_t i = 0; i < n; i++) json_put_string(w, notes[i].key, notes[i].text);
    json_close_object(w);
}

static int make_header(struct text *out, const struct safetensors_note *notes, size_t n_notes,
                       const struct safetensors_tensor *const *order, size_t n, struct err *e) {
    struct json_writer w = json_writer(out);
    uint64_t at = 0;
    json_open_object(&w, NULL);
    put_notes(&w, notes, n_notes);
    for (size_t i = 0; i < n; i++) {
        put_entry(&w, order[i], at);
        at += size_of(order[i]);
    }
    json_close_object(&w);
    while (!out->failed && out->length % ALIGNMENT) text_add(out, " ", 1);
    if (out->failed == E_NOMEM) return err_memory(e, SAFETENSORS_MAX_HEADER);
    return out->failed ? err_set(e, E_TOO_LARGE, "the header of the %zu tensors would have more than %u bytes", n,
                                 SAFETENSORS_MAX_HEADER)
                       : 0;
}

static int write_all(struct byte_sink sink, const struct safetensors_tensor *const *order, size_t n,
                     const struct text *header, struct err *e) {
    unsigned char prefix[8];
    for (size_t i = 0; i < sizeof prefix; i++) prefix[i] = (unsigned char)((uint64_t)header->length >> 8 * i & 255);
    int rc = sink.put(sink.context, prefix, sizeof prefix, e);
    if (!rc) rc = sink.put(sink.context, header->data, header->length, e);
    for (size_t i = 0; i < n && !rc; i++)
        if (size_of(order[i])) rc = sink.put(sink.context, order[i]->array->data, size_of(order[i]), e);
    return rc;
}

/* Wide elements first, otherwise as given. */
static void put_in_order(const struct safetensors_tensor **order, const struct safetensors_tensor *tensors, size_t n) {
    size_t done = 0;
    for (size_t width = 8; width; width /= 2)
        for (size_t i = 0; i < n; i++)
            if (dtype_size(tensors[i].array->type) == width) order[done++] = &tensors[i];
}

int safetensors_write(struct byte_sink sink, const struct safetensors_tensor *tensors, size_t n, struct err *e) {
    return safetensors_write_notes(sink, NULL, 0, tensors, n, e);
}

int safetensors_write_notes(struct byte_sink sink, const struct safetensors_note *notes, size_t n_notes,
                            const struct safetensors_tensor *tensors, size_t n, struct err *e) {
    if (n > SAFETENSORS_MAX_TENSORS)
        return err_set(e, E_TOO_LARGE, "there are %zu tensors; a safetensors file has at most %d", n,
                       SAFETENSORS_MAX_TENSORS);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(tensors[i].name, SAFETENSORS_METADATA))
            return err_set(e, E_INVALID, "a tensor cannot be called %s in a safetensors file", SAFETENSORS_METADATA);
    const struct safetensors_tensor **order = mem_calloc(n + 1, sizeof *order);
    if (!order) return err_memory(e, n * sizeof *order);
    struct text header;
    text_init(&header, SAFETENSORS_MAX_HEADER);
    put_in_order(order, tensors, n);
    int rc = make_header(&header, notes, n_notes, order, n, e);
    if (!rc) rc = write_all(sink, order, n, &header, e);
    text_free(&header);
    mem_free(order);
    return rc;
}

/* onnx_tensor.c - TensorProto and arrays. Elements come as raw bytes, or in one of five lists. */
#include <string.h>

#include "base/memory.h"
#include "engine/formats/onnx.h"
#include "engine/formats/onnx_proto.h"

enum list { FLOATS, DOUBLES, INT32S, INT64S, UINT64S };

#define LIST(field, element) \
    { offsetof(Onnx__TensorProto, field), offsetof(Onnx__TensorProto, n_##field), sizeof(element) }

/* Where in the message a list is, and the bytes of an element in it. */
static const struct {
    size_t elements, n, width;
} lists[] = {
    [FLOATS] = LIST(float_data, float),   [DOUBLES] = LIST(double_data, double),   [INT32S] = LIST(int32_data, int32_t),
    [INT64S] = LIST(int64_data, int64_t), [UINT64S] = LIST(uint64_data, uint64_t),
};

/* Element types, by the list they come in when they are not raw. */
static const struct {
    int code;
    enum dtype type;
    enum list list;
} types[] = {
    {ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, DT_FLOAT32, FLOATS},
    {ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE, DT_FLOAT64, DOUBLES},
    {ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16, DT_FLOAT16, INT32S},
    {ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16, DT_BFLOAT16, INT32S},
    {ONNX__TENSOR_PROTO__DATA_TYPE__INT64, DT_INT64, INT64S},
    {ONNX__TENSOR_PROTO__DATA_TYPE__INT32, DT_INT32, INT32S},
    {ONNX__TENSOR_PROTO__DATA_TYPE__INT16, DT_INT16, INT32S},
    {ONNX__TENSOR_PROTO__DATA_TYPE__INT8, DT_INT8, INT32S},
    {ONNX__TENSOR_PROTO__DATA_TYPE__UINT64, DT_UINT64, UINT64S},
    {ONNX__TENSOR_PROTO__DATA_TYPE__UINT32, DT_UINT32, UINT64S},
    {ONNX__TENSOR_PROTO__DATA_TYPE__UINT16, DT_UINT16, INT32S},
    {ONNX__TENSOR_PROTO__DATA_TYPE__UINT8, DT_UINT8, INT32S},
    {ONNX__TENSOR_PROTO__DATA_TYPE__BOOL, DT_BOOL, INT32S},
};

_Static_assert(sizeof types / sizeof types[0] == DTYPE_COUNT, "every element type has a row");

int onnx_type_code(enum dtype type) {
    size_t i = 0;
    while (types[i].type != type) i++;
    return types[i].code;
}

int onnx_type_read(enum dtype *out, int code, struct err *e) {
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (types[i].code == code) {
            *out = types[i].type;
            return 0;
        }
    const ProtobufCEnumValue *known =
        protobuf_c_enum_descriptor_get_value(&onnx__tensor_proto__data_type__descriptor, code);
    if (!code) return err_set(e, E_INVALID, "the element type is missing");
    return err_set(e, E_UNSUPPORTED, "elements of type %s (%d); retort computes with floats, integers and bool",
                   known ? known->name : "unknown", code);
}

static int read_shape(struct shape *s, const Onnx__TensorProto *t, struct err *e) {
    if (t->n_dims > SHAPE_MAX_RANK)
        return err_set(e, E_UNSUPPORTED, "%zu dimensions; at most %d are possible", t->n_dims, SHAPE_MAX_RANK);
    *s = (struct shape){.rank = (int)t->n_dims};
    for (int i = 0; i < s->rank; i++) {
        if (t->dims[i] < 0)
            return err_set(e, E_INVALID, "dimension %d is %lld; it must not be negative", i, (long long)t->dims[i]);
        s->dim[i] = t->dims[i];
    }
    return 0;
}

static int wrong_size(size_t found, const char *unit, const struct shape *s, enum dtype type, size_t want,
                      struct err *e) {
    char text[SHAPE_MAX_RANK * 24];
    shape_print(text, sizeof text, s);
    return err_set(e, E_INVALID, "there are %zu %s; %s %s takes %zu", found, unit, dtype_name(type), text, want);
}

/* Moves n elements out of a message, which forgets them; no elements still need a pointer. */
static int take_memory(void **out, void *from, size_t n, struct err *e) {
    *out = n ? from : mem_alloc(0);
    return *out ? 0 : err_memory(e, 1);
}

static int take_raw(void **out, Onnx__TensorProto *t, const struct shape *s, enum dtype type, size_t count,
                    struct err *e) {
    size_t want = count * dtype_size(type);
    if (t->raw_data.len != want) return wrong_size(t->raw_data.len, "bytes of raw data", s, type, want, e);
    int rc = take_memory(out, t->raw_data.data, want, e);
    if (want) t->raw_data = (ProtobufCBinaryData){0, NULL};
    return rc;
}

/* Keeps the low bytes of each element: int32 to int8, for one. */
static void *narrow(void *data, size_t count, size_t from, size_t to) {
    if (from == to) return data;
    unsigned char *bytes = data;
    for (size_t i = 0; i < count; i++) memmove(bytes + i * to, bytes + i * from, to);
    void *smaller = mem_resize(data, count, to);
    return smaller ? smaller : data;
}

static int take_list(void **out, Onnx__TensorProto *t, enum list list, const struct shape *s, enum dtype type,
                     size_t count, struct err *e) {
    char *elements = (char *)t + lists[list].elements, *n = (char *)t + lists[list].n;
    size_t found, none = 0;
    void *memory, *nothing = NULL;
    memcpy(&found, n, sizeof found);
    memcpy(&memory, elements, sizeof memory);
    if (found != count) return wrong_size(found, "numbers", s, type, count, e);
    int rc = take_memory(out, memory, count, e);
    if (rc) return rc;
    if (count) memcpy(elements, &nothing, sizeof nothing);
    memcpy(n, &none, sizeof none);
    *out = narrow(*out, count, lists[list].width, dtype_size(type));
    return 0;
}

static int refuse_external(const Onnx__TensorProto *t, struct err *e) {
    const char *where = "";
    for (size_t i = 0; i < t->n_external_data; i++)
        if (t->external_data[i]->key && t->external_data[i]->value && strcmp(t->external_data[i]->key, "location") == 0)
            where = t->external_data[i]->value;
    return err_set(e, E_UNSUPPORTED,
                   "its data lies in another file ('%.200s'), which is never opened; export the model "
                   "into one file",
                   where);
}

int onnx_tensor_take(struct array **out, Onnx__TensorProto *t, struct err *e) {
    enum dtype type;
    struct shape shape;
    size_t count;
    void *data = NULL;
    if (t->n_external_data || (t->has_data_location && t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL))
        return refuse_external(t, e);
    if (t->segment) return err_set(e, E_UNSUPPORTED, "its data is cut into segments");
    int rc = onnx_type_read(&type, t->data_type, e);
    if (!rc) rc = read_shape(&shape, t, e);
    if (!rc) rc = shape_count(&count, &shape, e);
    if (rc) return rc;
    size_t row = 0;
    while (types[row].type != type) row++;
    rc = t->has_raw_data ? take_raw(&data, t, &shape, type, count, e)
                         : take_list(&data, t, types[row].list, &shape, type, count, e);
    return rc ? rc : array_new_take(out, type, &shape, data, e);
}

void onnx_tensor_borrow(Onnx__TensorProto *t, const char *name, const struct array *a) {
    onnx__tensor_proto__init(t);
    t->name = (char *)name; /* protobuf-c only reads it */
    t->n_dims = (size_t)a->shape.rank;
    t->dims = (int64_t *)a->shape.dim;
    t->has_data_type = true;
    t->data_type = onnx_type_code(a->type);
    t->has_raw_data = true;
    t->raw_data = (ProtobufCBinaryData){a->count * dtype_size(a->type), a->data};
}

/* ---- tensors in files of their own ---- */

int onnx_tensor_read(struct array **out, char *name, size_t room, const void *bytes, size_t size, struct err *e) {
    struct proto_memory memory;
    ProtobufCMessage *message;
    struct byte_origin origin = byte_origin_memory(bytes, size);
    int rc = proto_unpack(&message, &memory, &onnx__tensor_proto__descriptor, &origin, e);
    if (rc) return rc;
    Onnx__TensorProto *t = (Onnx__TensorProto *)message;
    if (name) text_copy(name, room, t->name ? t->name : "");
    rc = onnx_tensor_take(out, t, e);
    if (rc && t->name) err_prefix(e, "tensor '%s'", t->name);
    proto_free(message, &memory);
    return rc;
}

int onnx_tensor_write(struct byte_sink sink, const char *name, const struct array *a, struct err *e) {
    Onnx__TensorProto t;
    onnx_tensor_borrow(&t, name, a);
    return proto_write(sink, &t.base, e);
}

/* onnx_proto.h - what the onnx*.c files share. Generated protobuf-c types stay among them. */
#ifndef ENGINE_FORMATS_ONNX_PROTO_H
#define ENGINE_FORMATS_ONNX_PROTO_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/origin.h"
#include "engine/formats/sink.h"
#include "engine/nn/array.h"
#include "engine/nn/graph.h"
#include "onnx.pb-c.h"

/* ---- onnx_wire.c: bytes and messages ---- */

/* A protobuf-c allocator over base/memory.h that gives out `left` bytes altogether and then
 * nothing. What it gave can be kept: it is freed with mem_free. Must not move. */
struct proto_memory {
    ProtobufCAllocator allocator;
    size_t left;
    bool spent;   /* more was asked for than was left */
    bool refused; /* base/memory.h had no more */
};

/* Checks the bytes against the message's description - fields within their message, at most ONNX_MAX_DEPTH
 * messages in each other, single messages once, UTF-8 - and unpacks. The raw data of tensors are read once and
 * straight to where they stay; they do not count against the budget. Free with proto_free. */
int proto_unpack(ProtobufCMessage **out, struct proto_memory *m, const ProtobufCMessageDescriptor *type,
                 const struct byte_origin *origin, struct err *e);
void proto_free(ProtobufCMessage *message, struct proto_memory *m);

/* Writes a message; what it refers to is borrowed. */
int proto_write(struct byte_sink sink, const ProtobufCMessage *message, struct err *e);

/* ---- onnx_tensor.c ---- */

/* ONNX's number of an element type, and back. "FLOAT" or a number for messages. */
int onnx_type_code(enum dtype type);
int onnx_type_read(enum dtype *out, int code, struct err *e);

/* An array with the tensor's elements, which are taken out of the message where they can be. */
int onnx_tensor_take(struct array **out, Onnx__TensorProto *t, struct err *e);

/* Fills a tensor that borrows name, dims and elements. */
void onnx_tensor_borrow(Onnx__TensorProto *t, const char *name, const struct array *a);

/* ---- onnx.c ---- */

bool onnx_is_default_domain(const char *domain);

/* Says which element is NaN or infinite. */
int onnx_refuse_odd(const struct array *a, size_t index, struct err *e);

/* ---- onnx_node.c ---- */

/* Adds the values that the node makes. `index` is for messages. A node that copies a constant takes its bytes from
 * *copies. */
int onnx_node_outputs(struct graph *g, const Onnx__NodeProto *n, size_t index, size_t *copies, struct err *e);
/* Adds the node itself, when all values are there. */
int onnx_node_read(struct graph *g, const Onnx__NodeProto *n, size_t index, struct err *e);

/* ---- onnx_old.c ---- */

/* Of an opset before ONNX_MIN_OPSET: checks that the node means the same in that one, or makes it so. */
int onnx_old_node(struct graph *g, int node, int opset, struct err *e);

#endif

/* onnx.h - ONNX models and tensors, to and from graphs and arrays. The only place that knows protobuf.
 *
 * Reading treats the bytes as hostile: lengths and nesting are checked before anything is unpacked,
 * and the memory it takes is bounded by a multiple of the file's size.
 *
 * Accepted: IR version 3 and later, opset ONNX_MIN_OPSET to ONNX_MAX_OPSET of the default domain, older
 * opsets as far as their operators mean the same, tensors in every type of array.h. Refused, with what and where: external data (never opened), local
 * functions, training information, sparse tensors, subgraphs, operators without a row in the
 * operator table, NaN or infinite weights (masks of 0 and minus infinity are none). */
#ifndef ENGINE_FORMATS_ONNX_H
#define ENGINE_FORMATS_ONNX_H

#include <stddef.h>

#include "base/origin.h"
#include "engine/formats/sink.h"
#include "engine/nn/graph.h"

#define ONNX_MIN_OPSET 7
#define ONNX_MAX_OPSET 22
#define ONNX_MAX_DEPTH 64 /* of messages in messages */

/* The graph, finished (graph_finish). Names stay. Constant nodes become constants of the graph with
 * `literal` set. Graph inputs that have an initializer are constants. A first dimension without a
 * number is DIM_BATCH, others without one are free axes with their names; a number stays. The file is read in pieces, and
 * weights that come as raw data straight to where they stay: they are in memory once. The origin is not needed
 * afterwards. */
int onnx_read_from(struct graph **out, const struct byte_origin *origin, struct err *e);

/* The same for a file that is in memory. */
int onnx_read(struct graph **out, const void *bytes, size_t size, struct err *e);

/* onnx_read_from without graph_fold: every initializer of the file is a constant under its own name, and what the file
 * computes from initializers (a transposed weight) is still a node. */
int onnx_read_plain(struct graph **out, const struct byte_origin *origin, struct err *e);

/* Writes a finished graph without free axes; the same graph gives the same bytes. Literals become Constant nodes, other
 * constants initializers. */
int onnx_write(struct byte_sink sink, const struct graph *g, struct err *e);

/* One tensor in a file of its own (TensorProto), as in ONNX's test data. `name` may be NULL; it is
 * cut to `room`. Any value is accepted, NaN too. */
int onnx_tensor_read(struct array **out, char *name, size_t room, const void *bytes, size_t size, struct err *e);
int onnx_tensor_write(struct byte_sink sink, const char *name, const struct array *a, struct err *e);

#endif

/* protobuf.h - model files written field by field: larger, deeper or stranger than any library would write them. */
#ifndef TESTS_ENGINE_PROTOBUF_H
#define TESTS_ENGINE_PROTOBUF_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes that grow. */
struct proto {
    unsigned char *bytes;
    size_t size, room;
};

static inline void proto_bytes(struct proto *p, const void *bytes, size_t size) {
    if (p->size + size > p->room) {
        p->room = 2 * (p->size + size) + 64;
        p->bytes = realloc(p->bytes, p->room);
        if (!p->bytes) exit(1);
    }
    if (size) memcpy(p->bytes + p->size, bytes, size);
    p->size += size;
}

static inline void proto_varint(struct proto *p, uint64_t value) {
    unsigned char byte;
    for (; value > 127; value >>= 7) {
        byte = (unsigned char)(value | 128);
        proto_bytes(p, &byte, 1);
    }
    byte = (unsigned char)value;
    proto_bytes(p, &byte, 1);
}

static inline void proto_int(struct proto *p, unsigned field, uint64_t value) {
    proto_varint(p, field << 3);
    proto_varint(p, value);
}

static inline void proto_field(struct proto *p, unsigned field, const void *bytes, size_t size) {
    proto_varint(p, field << 3 | 2);
    proto_varint(p, size);
    proto_bytes(p, bytes, size);
}

static inline void proto_text(struct proto *p, unsigned field, const char *text) {
    proto_field(p, field, text, strlen(text));
}

/* A message as a field; the message is empty afterwards and can be filled again. */
static inline void proto_message(struct proto *p, unsigned field, struct proto *message) {
    proto_field(p, field, message->bytes, message->size);
    message->size = 0;
}

static inline void proto_end(struct proto *p) {
    free(p->bytes);
    *p = (struct proto){0};
}

/* Fields of onnx.proto. */
enum { MODEL_IR = 1, MODEL_GRAPH = 7, MODEL_OPSET = 8, OPSET_VERSION = 2 };
enum { GRAPH_NODE = 1, GRAPH_NAME = 2, GRAPH_INITIALIZER = 5, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12 };
enum { NODE_INPUT = 1, NODE_OUTPUT = 2, NODE_NAME = 3, NODE_OP = 4, NODE_ATTRIBUTE = 5 };
enum { ATTRIBUTE_NAME_ = 1, ATTRIBUTE_I_ = 3, ATTRIBUTE_T_ = 5, ATTRIBUTE_G_ = 6, ATTRIBUTE_TYPE_ = 20 };
enum { TENSOR_DIMS = 1, TENSOR_TYPE = 2, TENSOR_NAME = 8, TENSOR_RAW = 9 };

/* Adds a node with one input and one output. */
static inline void proto_node(struct proto *graph, const char *op, const char *input, const char *output) {
    static struct proto node;
    if (input) proto_text(&node, NODE_INPUT, input);
    proto_text(&node, NODE_OUTPUT, output);
    proto_text(&node, NODE_OP, op);
    proto_message(graph, GRAPH_NODE, &node);
}

/* A value of float32 with shape [N,n], or [N,n,H,W] when `free` names two more axes. */
static inline void proto_value(struct proto *graph, unsigned field, const char *name, unsigned n) {
    static struct proto dim, shape, tensor, type, value;
    proto_text(&dim, 2, "N");
    proto_message(&shape, 1, &dim);
    proto_int(&dim, 1, n);
    proto_message(&shape, 1, &dim);
    proto_int(&tensor, 1, 1);
    proto_message(&tensor, 2, &shape);
    proto_message(&type, 1, &tensor);
    proto_text(&value, 1, name);
    proto_message(&value, 2, &type);
    proto_message(graph, field, &value);
}

/* A constant vector of n floats, all 1. */
static inline void proto_constant(struct proto *graph, const char *name, size_t n) {
    static struct proto tensor;
    float *ones = malloc(n * sizeof *ones + 1);
    if (!ones) exit(1);
    for (size_t i = 0; i < n; i++) ones[i] = 1;
    proto_int(&tensor, TENSOR_DIMS, n);
    proto_int(&tensor, TENSOR_TYPE, 1);
    proto_text(&tensor, TENSOR_NAME, name);
    proto_field(&tensor, TENSOR_RAW, ones, n * sizeof *ones);
    proto_message(graph, GRAPH_INITIALIZER, &tensor);
    free(ones);
}

/* The whole model; the graph is used up. */
static inline struct proto proto_model(struct proto *graph) {
    struct proto model = {0}, opset = {0};
    proto_text(graph, GRAPH_NAME, "g");
    proto_int(&model, MODEL_IR, 8);
    proto_int(&opset, OPSET_VERSION, 17);
    proto_message(&model, MODEL_OPSET, &opset);
    proto_message(&model, MODEL_GRAPH, graph);
    proto_end(&opset);
    proto_end(graph);
    return model;
}

#endif

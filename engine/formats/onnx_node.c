/* onnx_node.c - nodes of a model file, their attributes, and the constants that come as nodes. */
#include <string.h>

#include "base/memory.h"
#include "engine/formats/onnx.h"
#include "engine/formats/onnx_proto.h"
#include "engine/nn/op.h"

#define MAX_ATTRIBUTES 64 /* of a node; no operator has nearly as many */

/* "conv1 (Conv)"; a node without a name is known by what it makes. */
static void describe(char *out, size_t room, const Onnx__NodeProto *n, size_t index) {
    const char *op = n->op_type ? n->op_type : "no operator";
    if (n->name && *n->name)
        text_print(out, room, "node '%.200s' (%.100s)", n->name, op);
    else if (n->n_output && *n->output[0])
        text_print(out, room, "node %zu (%.100s) that makes '%.200s'", index, op, n->output[0]);
    else
        text_print(out, room, "node %zu (%.100s)", index, op);
}

static int with_node(int rc, const Onnx__NodeProto *n, size_t index, struct err *e) {
    char text[400];
    if (!rc) return 0;
    describe(text, sizeof text, n, index);
    err_prefix(e, "%s", text);
    return rc;
}

static int check_node(const Onnx__NodeProto *n, struct err *e) {
    if (!n->op_type || !*n->op_type) return err_set(e, E_INVALID, "it names no operator");
    if (!onnx_is_default_domain(n->domain))
        return err_set(e, E_UNSUPPORTED, "the operator belongs to the domain '%.200s'; retort knows ONNX's own",
                       n->domain);
    if (n->n_input > NODE_MAX_INPUTS || n->n_output > NODE_MAX_INPUTS)
        return err_set(e, E_TOO_LARGE, "it has %zu inputs and %zu outputs; at most %d are taken", n->n_input,
                       n->n_output, NODE_MAX_INPUTS);
    return op_find(n->op_type) ? 0 : err_set(e, E_UNSUPPORTED, "retort does not know this operator");
}

/* ---- constants ---- */

static bool is_constant(const Onnx__NodeProto *n) {
    return n->op_type && strcmp(n->op_type, "Constant") == 0 && onnx_is_default_domain(n->domain);
}

static int new_list(struct array **out, enum dtype type, size_t n, const void *elements, bool scalar, struct err *e) {
    struct shape s = {scalar ? 0 : 1, {scalar ? 0 : (int64_t)n}};
    void *data = mem_copy(elements, n * dtype_size(type));
    return data ? array_new_take(out, type, &s, data, e) : err_memory(e, n * dtype_size(type));
}

static int constant_value(struct array **out, const Onnx__AttributeProto *a, struct err *e) {
    const char *name = a->name ? a->name : "";
    if (strcmp(name, "value") == 0 && a->t) return onnx_tensor_take(out, a->t, e);
    if (strcmp(name, "value_float") == 0) return new_list(out, DT_FLOAT32, 1, &a->f, true, e);
    if (strcmp(name, "value_floats") == 0) return new_list(out, DT_FLOAT32, a->n_floats, a->floats, false, e);
    if (strcmp(name, "value_int") == 0) return new_list(out, DT_INT64, 1, &a->i, true, e);
    if (strcmp(name, "value_ints") == 0) return new_list(out, DT_INT64, a->n_ints, a->ints, false, e);
    return err_set(e, E_UNSUPPORTED, "a constant given as '%.100s'; retort knows tensors, floats and integers", name);
}

/* One number, or infinity in a mask, belongs to the formula; anything larger may well be weights,
 * which some exporters write as constants. */
static int read_constant(struct graph *g, const Onnx__NodeProto *n, struct err *e) {
    struct array *a = NULL;
    int index;
    if (n->n_attribute != 1 || n->n_output != 1 || n->n_input != 0 || !*n->output[0])
        return err_set(e, E_INVALID, "a constant has one value, one output and no input");
    int rc = constant_value(&a, n->attribute[0], e);
    if (rc) return rc;
    size_t nan = onnx_find_odd(a, false);
    if (nan < a->count) {
        rc = onnx_refuse_odd(a, nan, e);
        array_free(a);
        return rc;
    }
    bool literal = a->count == 1 || onnx_find_odd(a, true) < a->count;
    rc = graph_add_constant_take(&index, g, n->output[0], a, e);
    if (rc) return rc;
    g->values[index].literal = literal;
    g->values[index].trainable &= !literal;
    return 0;
}

/* PyTorch's exporter writes initializers that happen to be equal (the fresh vectors of several
 * BatchNormalizations) once, and Identity nodes for the others. They are parameters of their own. */
static const struct value *copied_constant(const struct graph *g, const Onnx__NodeProto *n) {
    if (!n->op_type || strcmp(n->op_type, "Identity") != 0 || n->n_input != 1 || n->n_output != 1) return NULL;
    int v = graph_find_value(g, n->input[0]);
    return v != VALUE_NONE && g->values[v].constant && *n->output[0] ? &g->values[v] : NULL;
}

static int copy_constant(struct graph *g, const Onnx__NodeProto *n, const struct value *from, struct err *e) {
    struct array *a;
    int index, literal = from->literal, rc = array_clone(&a, from->constant, e);
    if (!rc) rc = graph_add_constant_take(&index, g, n->output[0], a, e);
    if (!rc) g->values[index].literal = literal;
    return rc;
}

static int add_outputs(struct graph *g, const Onnx__NodeProto *n, struct err *e) {
    if (is_constant(n)) return read_constant(g, n, e);
    const struct value *copied = copied_constant(g, n);
    if (copied) return copy_constant(g, n, copied, e);
    int index, rc = check_node(n, e);
    for (size_t i = 0; !rc && i < n->n_output; i++)
        if (*n->output[i]) rc = graph_add_value(&index, g, n->output[i], NULL, e);
    return rc;
}

int onnx_node_outputs(struct graph *g, const Onnx__NodeProto *n, size_t index, struct err *e) {
    return with_node(add_outputs(g, n, e), n, index, e);
}

/* ---- attributes ---- */

static int attribute_string(struct graph *g, int node, const Onnx__AttributeProto *a, struct err *e) {
    const char *bytes = (const char *)a->s.data;
    char *text = mem_alloc(a->s.len + 1);
    if (!text) return err_memory(e, a->s.len + 1);
    if (a->s.len) memcpy(text, bytes, a->s.len);
    text[a->s.len] = '\0';
    int rc = strlen(text) != a->s.len || !text_is_utf8(text, a->s.len) ? err_set(e, E_INVALID, "its text is not UTF-8")
                                                                       : graph_set_string(g, node, a->name, text, e);
    mem_free(text);
    return rc;
}

static int attribute_reals(struct graph *g, int node, const Onnx__AttributeProto *a, struct err *e) {
    double *reals = mem_calloc(a->n_floats, sizeof *reals);
    if (!reals) return err_memory(e, a->n_floats * sizeof *reals);
    for (size_t i = 0; i < a->n_floats; i++) reals[i] = (double)a->floats[i];
    int rc = graph_set_reals(g, node, a->name, reals, a->n_floats, e);
    mem_free(reals);
    return rc;
}

static int attribute_tensor(struct graph *g, int node, const Onnx__AttributeProto *a, struct err *e) {
    struct array *array = NULL;
    if (!a->t) return err_set(e, E_INVALID, "its tensor is missing");
    int rc = onnx_tensor_take(&array, a->t, e);
    return rc ? rc : graph_set_array_take(g, node, a->name, array, e);
}

/* Files older than IR version 3 may leave the type out, and some newer ones do. */
static int guess_type(const Onnx__AttributeProto *a) {
    if (a->has_type && a->type) return a->type;
    if (a->has_f) return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
    if (a->has_i) return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
    if (a->has_s) return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING;
    if (a->t) return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR;
    if (a->g) return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH;
    if (a->n_floats) return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS;
    return ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
}

static int refuse_type(int type, struct err *e) {
    const ProtobufCEnumValue *v =
        protobuf_c_enum_descriptor_get_value(&onnx__attribute_proto__attribute_type__descriptor, type);
    if (type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH || type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPHS)
        return err_set(e, E_UNSUPPORTED, "it is a graph; retort has no control flow");
    return err_set(e, E_UNSUPPORTED, "attributes of type %s (%d) are unknown to retort", v ? v->name : "unknown", type);
}

static int read_attribute(struct graph *g, int node, const Onnx__AttributeProto *a, struct err *e) {
    int type = guess_type(a);
    if (a->ref_attr_name && *a->ref_attr_name)
        return err_set(e, E_UNSUPPORTED, "it refers to the attribute '%s' of a function", a->ref_attr_name);
    if (node_attribute(&g->nodes[node], a->name)) return err_set(e, E_INVALID, "it is given twice");
    switch (type) {
        case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT: return graph_set_real(g, node, a->name, (double)a->f, e);
        case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT: return graph_set_int(g, node, a->name, a->i, e);
        case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING: return attribute_string(g, node, a, e);
        case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR: return attribute_tensor(g, node, a, e);
        case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS: return attribute_reals(g, node, a, e);
        case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS:
            return graph_set_ints(g, node, a->name, a->ints, a->n_ints, e);
        default: return refuse_type(type, e);
    }
}

static int read_attributes(struct graph *g, int node, const Onnx__NodeProto *n, struct err *e) {
    if (n->n_attribute > MAX_ATTRIBUTES)
        return err_set(e, E_TOO_LARGE, "it has %zu attributes; at most %d are taken", n->n_attribute, MAX_ATTRIBUTES);
    for (size_t i = 0; i < n->n_attribute; i++) {
        const Onnx__AttributeProto *a = n->attribute[i];
        if (!a->name || !*a->name) return err_set(e, E_INVALID, "attribute %zu has no name", i);
        int rc = read_attribute(g, node, a, e);
        if (rc) {
            err_prefix(e, "attribute '%.100s'", a->name);
            return rc;
        }
    }
    return 0;
}

/* ---- nodes ---- */

/* Indices of named values; "" is VALUE_NONE. */
static int find_values(int **out, const struct graph *g, char *const *names, size_t n, struct err *e) {
    int *list = mem_calloc(n, sizeof *list);
    if (!list) return err_memory(e, n * sizeof *list);
    for (size_t i = 0; i < n; i++) {
        list[i] = *names[i] ? graph_find_value(g, names[i]) : VALUE_NONE;
        if (list[i] != VALUE_NONE || !*names[i]) continue;
        err_set(e, E_INVALID, "it reads '%.200s', which nothing in the graph makes", names[i]);
        mem_free(list);
        return E_INVALID;
    }
    *out = list;
    return 0;
}

static int read_node(struct graph *g, const Onnx__NodeProto *n, struct err *e) {
    int *inputs = NULL, *outputs = NULL, node = 0;
    int rc = find_values(&inputs, g, n->input, n->n_input, e);
    if (!rc) rc = find_values(&outputs, g, n->output, n->n_output, e);
    if (!rc) rc = graph_add_node(&node, g, n->op_type, n->name, inputs, (int)n->n_input, outputs, (int)n->n_output, e);
    mem_free(inputs);
    mem_free(outputs);
    if (!rc) rc = read_attributes(g, node, n, e);
    return rc || g->opset >= ONNX_MIN_OPSET ? rc : onnx_old_node(g, node, g->opset, e);
}

int onnx_node_read(struct graph *g, const Onnx__NodeProto *n, size_t index, struct err *e) {
    return is_constant(n) || copied_constant(g, n) ? 0 : with_node(read_node(g, n, e), n, index, e);
}

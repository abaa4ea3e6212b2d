/* onnx.c - from a model file to a graph. Nodes and their attributes: onnx_node.c. */
#include "engine/formats/onnx.h"

#include <float.h>
#include <string.h>

#include "base/memory.h"
#include "engine/formats/onnx_proto.h"

#define MIN_IR_VERSION 3         /* the first with operator sets */
#define MAX_ENDS NODE_MAX_INPUTS /* inputs, and outputs, of a graph */
#define COPIES_ALWAYS ((size_t)64 << 20)

static const char *text_or(const char *text, const char *otherwise) {
    return text ? text : otherwise;
}

bool onnx_is_default_domain(const char *domain) {
    return !domain || !*domain || strcmp(domain, "ai.onnx") == 0;
}

/* ---- the model around the graph ---- */

static int read_opset(int *out, const Onnx__ModelProto *m, struct err *e) {
    for (size_t i = 0; i < m->n_opset_import; i++) {
        const Onnx__OperatorSetIdProto *set = m->opset_import[i];
        if (!onnx_is_default_domain(set->domain)) continue;
        if (set->version < 1 || set->version > ONNX_MAX_OPSET)
            return err_set(e, E_UNSUPPORTED,
                           "the model uses opset %lld; retort reads %d to %d: export it with one of them",
                           (long long)set->version, ONNX_MIN_OPSET, ONNX_MAX_OPSET);
        *out = (int)set->version;
        return 0;
    }
    if (m->n_opset_import)
        return err_set(e, E_UNSUPPORTED, "the model uses the operators of '%s' only; retort knows ONNX's own",
                       text_or(m->opset_import[0]->domain, ""));
    return err_set(e, E_INVALID, "the model does not say which opset it uses");
}

static int check_model(const Onnx__ModelProto *m, struct err *e) {
    if (!m->has_ir_version && !m->graph) return err_set(e, E_SYNTAX, "this is no ONNX model");
    if (m->ir_version < MIN_IR_VERSION)
        return err_set(e, E_UNSUPPORTED, "the model has IR version %lld; retort reads %d and later",
                       (long long)m->ir_version, MIN_IR_VERSION);
    if (!m->graph) return err_set(e, E_INVALID, "the model has no graph");
    if (m->n_functions)
        return err_set(e, E_UNSUPPORTED, "the model defines the function '%s'; export it with functions inlined",
                       text_or(m->functions[0]->name, ""));
    if (m->n_training_info)
        return err_set(e, E_UNSUPPORTED, "the model carries training information; export it for inference");
    if (m->graph->n_sparse_initializer) {
        const Onnx__TensorProto *t = m->graph->sparse_initializer[0]->values;
        return err_set(e, E_UNSUPPORTED, "the initializer '%s' is sparse; export it dense",
                       text_or(t ? t->name : NULL, ""));
    }
    return 0;
}

/* ---- values ---- */

int onnx_refuse_odd(const struct array *a, size_t index, struct err *e) {
    double value;
    array_to_double(&value, a, index, 1);
    return err_set(e, E_INVALID, "element %zu of %zu is %s; a network with it computes nothing of use", index, a->count,
                   value != value ? "NaN" : "infinite");
}

/* Nothing but 0 and minus infinity: what attention adds where it must not look. */
static bool is_mask(const struct array *a) {
    for (size_t i = 0; i < a->count; i++) {
        double value;
        array_to_double(&value, a, i, 1);
        if (value < 0 ? value >= -DBL_MAX : !(value <= 0)) return false;
    }
    return true;
}

static int take_initializer(struct graph *g, Onnx__TensorProto *t, struct err *e) {
    struct array *a = NULL;
    int index, rc = onnx_tensor_take(&a, t, e);
    if (rc) return rc;
    size_t odd = array_find_odd(a, true);
    bool mask = odd < a->count && is_mask(a);
    if (odd == a->count || mask) {
        rc = graph_add_constant_take(&index, g, t->name, a, e);
        if (!rc && mask) g->values[index].literal = true, g->values[index].trainable = false;
        return rc;
    }
    rc = onnx_refuse_odd(a, odd, e);
    array_free(a);
    return rc;
}

static int read_initializer(struct graph *g, Onnx__TensorProto *t, struct err *e) {
    if (!t->name || !*t->name) return err_set(e, E_INVALID, "an initializer has no name");
    int rc = take_initializer(g, t, e);
    if (rc) err_prefix(e, "initializer '%s'", t->name);
    return rc;
}

/* A dimension may be free, with a name or without; some exporters write -1. The first one is the batch. */
static int read_dim(int64_t *out, const Onnx__TensorShapeProto__Dimension *d, size_t axis, struct err *e) {
    bool given = d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE && d->dim_value != -1;
    if (given && d->dim_value < 0)
        return err_set(e, E_INVALID, "dimension %zu is %lld; it must not be negative", axis, (long long)d->dim_value);
    *out = given ? d->dim_value : axis ? DIM_FREE : DIM_BATCH;
    return 0;
}

/* Tells the graph which dimensions of its newest input are free. */
static int read_free_axes(struct graph *g, const struct shape *s, const Onnx__TensorShapeProto *p, struct err *e) {
    int rc = 0;
    for (int i = 1; i < s->rank && !rc; i++) {
        bool named = p->dim[i]->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
        if (s->dim[i] == DIM_FREE) rc = graph_free_axis(g, g->n_inputs - 1, i, named ? p->dim[i]->dim_param : "", e);
    }
    return rc;
}

static int read_input_type(enum dtype *type, struct shape *shape, const Onnx__ValueInfoProto *v, struct err *e) {
    if (!v->type || v->type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE)
        return err_set(e, E_UNSUPPORTED, "it is not a tensor");
    const Onnx__TypeProto__Tensor *t = v->type->tensor_type;
    int rc = onnx_type_read(type, t->elem_type, e);
    if (rc) return rc;
    if (!t->shape) return err_set(e, E_UNSUPPORTED, "it has no shape; export with fixed sizes");
    if (t->shape->n_dim > SHAPE_MAX_RANK)
        return err_set(e, E_UNSUPPORTED, "it has %zu dimensions; at most %d are possible", t->shape->n_dim,
                       SHAPE_MAX_RANK);
    *shape = (struct shape){.rank = (int)t->shape->n_dim};
    for (size_t i = 0; !rc && i < t->shape->n_dim; i++) rc = read_dim(&shape->dim[i], t->shape->dim[i], i, e);
    size_t count;
    return rc ? rc : shape_count(&count, shape, e);
}

static int read_input(struct graph *g, const Onnx__ValueInfoProto *v, struct err *e) {
    enum dtype type;
    struct shape shape;
    int index;
    if (!v->name || !*v->name) return err_set(e, E_INVALID, "an input of the graph has no name");
    int known = graph_find_value(g, v->name);
    if (known != VALUE_NONE && g->values[known].constant) return 0; /* has an initializer */
    if (g->n_inputs == MAX_ENDS)
        return err_set(e, E_TOO_LARGE, "the graph has more inputs without an initializer; at most %d are taken",
                       MAX_ENDS);
    int rc = read_input_type(&type, &shape, v, e);
    if (!rc) rc = graph_add_value(&index, g, v->name, NULL, e);
    if (!rc) rc = graph_add_input(g, index, type, &shape, e);
    if (!rc) rc = read_free_axes(g, &shape, v->type->tensor_type->shape, e);
    if (rc) err_prefix(e, "input '%s'", v->name);
    return rc;
}

static int read_output(struct graph *g, const Onnx__ValueInfoProto *v, struct err *e) {
    if (!v->name || !*v->name) return err_set(e, E_INVALID, "an output of the graph has no name");
    int index = graph_find_value(g, v->name);
    if (index == VALUE_NONE) return err_set(e, E_INVALID, "the graph's output '%s' is made by no node", v->name);
    for (int i = 0; i < g->n_outputs; i++)
        if (g->outputs[i] == index) return err_set(e, E_INVALID, "the graph lists the output '%s' twice", v->name);
    return graph_add_output(g, index, e);
}

/* ---- the graph ---- */

static int check_counts(const Onnx__GraphProto *p, struct err *e) {
    if (p->n_node > GRAPH_MAX_NODES)
        return err_set(e, E_TOO_LARGE, "the graph has %zu nodes; at most %d are taken", p->n_node, GRAPH_MAX_NODES);
    /* inputs of old files list every initializer as well */
    if (p->n_input > MAX_ENDS + p->n_initializer || p->n_output > MAX_ENDS)
        return err_set(e, E_TOO_LARGE, "the graph has %zu inputs and %zu outputs; at most %d are taken", p->n_input,
                       p->n_output, MAX_ENDS);
    return 0;
}

/* Values first, so that nodes may come in any order; graph_finish sorts them. */
static int read_graph(struct graph *g, Onnx__GraphProto *p, size_t size, bool fold, struct err *e) {
    size_t copies = size > SIZE_MAX / 4 ? size : COPIES_ALWAYS + 2 * size;
    int rc = check_counts(p, e);
    for (size_t i = 0; !rc && i < p->n_initializer; i++) rc = read_initializer(g, p->initializer[i], e);
    for (size_t i = 0; !rc && i < p->n_input; i++) rc = read_input(g, p->input[i], e);
    for (size_t i = 0; !rc && i < p->n_node; i++) rc = onnx_node_outputs(g, p->node[i], i, &copies, e);
    for (size_t i = 0; !rc && i < p->n_node; i++) rc = onnx_node_read(g, p->node[i], i, e);
    for (size_t i = 0; !rc && i < p->n_output; i++) rc = read_output(g, p->output[i], e);
    if (g->opset < ONNX_MIN_OPSET) g->opset = ONNX_MIN_OPSET; /* onnx_old.c has seen every node */
    if (!rc) rc = graph_finish(g, e);
    return rc || !fold ? rc : graph_fold(g, e);
}

static int read_model(struct graph **out, const struct byte_origin *origin, bool fold, struct err *e) {
    struct proto_memory memory;
    ProtobufCMessage *message;
    struct graph *g = NULL;
    int opset = 0;
    int rc = proto_unpack(&message, &memory, &onnx__model_proto__descriptor, origin, e);
    if (rc) return rc;
    Onnx__ModelProto *m = (Onnx__ModelProto *)message;
    rc = check_model(m, e);
    if (!rc) rc = read_opset(&opset, m, e);
    if (!rc) rc = graph_new(&g, text_or(m->graph->name, ""), opset, e);
    if (!rc) rc = read_graph(g, m->graph, origin->size, fold, e);
    proto_free(message, &memory);
    if (rc) {
        graph_free(g);
        return rc;
    }
    *out = g;
    return 0;
}

int onnx_read_from(struct graph **out, const struct byte_origin *origin, struct err *e) {
    return read_model(out, origin, true, e);
}

int onnx_read(struct graph **out, const void *bytes, size_t size, struct err *e) {
    struct byte_origin origin = byte_origin_memory(bytes, size);
    return read_model(out, &origin, true, e);
}

int onnx_read_plain(struct graph **out, const struct byte_origin *origin, struct err *e) {
    return read_model(out, origin, false, e);
}

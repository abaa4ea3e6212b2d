/* onnx_write.c - from a graph to a model file. The messages live in an arena and borrow all names and
 * elements from the graph, so that weights are never copied. */
#include <string.h>

#include "base/memory.h"
#include "engine/formats/onnx.h"
#include "engine/formats/onnx_proto.h"
#include "engine/nn/op.h"

/* ---- the arena ---- */

#define BLOCK_SIZE 65536

struct block {
    struct block *next;
    size_t used, size;
    _Alignas(16) unsigned char bytes[];
};

struct arena {
    struct block *blocks;
    bool failed; /* memory ran out: everything that follows gives NULL */
};

static void arena_free(struct arena *a) {
    while (a->blocks) {
        struct block *b = a->blocks;
        a->blocks = b->next;
        mem_free(b);
    }
}

/* n zeroed elements that live as long as the arena. */
static void *arena_take(struct arena *a, size_t n, size_t size) {
    size_t bytes = (n * size + 15) / 16 * 16; /* n counts things in memory, so this cannot overflow */
    struct block *b = a->blocks;
    if (a->failed) return NULL;
    if (!b || b->size - b->used < bytes) {
        size_t room = bytes > BLOCK_SIZE ? bytes : BLOCK_SIZE;
        b = mem_calloc(1, sizeof *b + room);
        if (!b) {
            a->failed = true;
            return NULL;
        }
        *b = (struct block){.next = a->blocks, .size = room};
        a->blocks = b;
    }
    b->used += bytes;
    return b->bytes + b->used - bytes;
}

/* A message made by its own init function, as a pointer variable `m`. */
#define NEW_MESSAGE(type, m, arena, init) \
    type *m = arena_take(arena, 1, sizeof *m); \
    if (!m) return NULL; \
    init(m)

/* protobuf-c wants what it only reads without const. */
static char *borrow(const char *text) {
    return (char *)text;
}

/* ---- values ---- */

static Onnx__TensorProto *new_tensor(struct arena *arena, const char *name, const struct array *a) {
    NEW_MESSAGE(Onnx__TensorProto, t, arena, onnx__tensor_proto__init);
    onnx_tensor_borrow(t, name, a);
    return t;
}

static Onnx__TensorShapeProto__Dimension *new_dim(struct arena *arena, int64_t dim) {
    NEW_MESSAGE(Onnx__TensorShapeProto__Dimension, d, arena, onnx__tensor_shape_proto__dimension__init);
    if (dim == DIM_BATCH) {
        d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
        d->dim_param = borrow("N");
    } else {
        d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        d->dim_value = dim;
    }
    return d;
}

static Onnx__TensorShapeProto *new_shape(struct arena *arena, const struct shape *s) {
    NEW_MESSAGE(Onnx__TensorShapeProto, p, arena, onnx__tensor_shape_proto__init);
    p->dim = arena_take(arena, (size_t)s->rank, sizeof(void *));
    if (!p->dim) return NULL;
    for (int i = 0; i < s->rank; i++) p->dim[p->n_dim++] = new_dim(arena, s->dim[i]);
    return p;
}

static Onnx__TypeProto *new_type(struct arena *arena, const struct value *v) {
    NEW_MESSAGE(Onnx__TypeProto, type, arena, onnx__type_proto__init);
    NEW_MESSAGE(Onnx__TypeProto__Tensor, t, arena, onnx__type_proto__tensor__init);
    type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = t;
    t->has_elem_type = true;
    t->elem_type = onnx_type_code(v->type);
    t->shape = new_shape(arena, &v->shape);
    return type;
}

static Onnx__ValueInfoProto *new_value(struct arena *arena, const struct value *v) {
    NEW_MESSAGE(Onnx__ValueInfoProto, info, arena, onnx__value_info_proto__init);
    info->name = v->name;
    info->type = new_type(arena, v);
    return info;
}

/* Graph inputs or outputs. */
static Onnx__ValueInfoProto **new_values(struct arena *arena, const struct graph *g, const int *list, int n) {
    Onnx__ValueInfoProto **infos = arena_take(arena, (size_t)n, sizeof *infos);
    for (int i = 0; infos && i < n; i++) infos[i] = new_value(arena, &g->values[list[i]]);
    return infos;
}

/* ---- nodes ---- */

static void fill_reals(struct arena *arena, Onnx__AttributeProto *p, const struct attribute *a) {
    p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS;
    p->floats = arena_take(arena, a->count, sizeof *p->floats);
    for (size_t i = 0; p->floats && i < a->count; i++) p->floats[p->n_floats++] = (float)a->reals[i];
}

static Onnx__AttributeProto *new_attribute(struct arena *arena, const struct attribute *a) {
    NEW_MESSAGE(Onnx__AttributeProto, p, arena, onnx__attribute_proto__init);
    p->name = a->name;
    p->has_type = true;
    switch (a->type) {
        case ATTRIBUTE_INT:
            p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
            p->has_i = true;
            p->i = a->integer;
            break;
        case ATTRIBUTE_REAL:
            p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
            p->has_f = true;
            p->f = (float)a->real;
            break;
        case ATTRIBUTE_STRING:
            p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING;
            p->has_s = true;
            p->s = (ProtobufCBinaryData){strlen(a->string), (uint8_t *)a->string};
            break;
        case ATTRIBUTE_INTS:
            p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
            p->ints = a->integers;
            p->n_ints = a->count;
            break;
        case ATTRIBUTE_REALS: fill_reals(arena, p, a); break;
        case ATTRIBUTE_ARRAY:
            p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR;
            p->t = new_tensor(arena, NULL, a->array);
            break;
    }
    return p;
}

static char **new_names(struct arena *arena, const struct graph *g, const int *list, int n) {
    char **names = arena_take(arena, (size_t)n, sizeof *names);
    for (int i = 0; names && i < n; i++) names[i] = list[i] == VALUE_NONE ? borrow("") : g->values[list[i]].name;
    return names;
}

static Onnx__NodeProto *new_node(struct arena *arena, const struct graph *g, const struct node *n) {
    NEW_MESSAGE(Onnx__NodeProto, p, arena, onnx__node_proto__init);
    p->name = n->name;
    p->op_type = borrow(n->op->name);
    p->n_input = (size_t)n->n_inputs;
    p->input = new_names(arena, g, n->inputs, n->n_inputs);
    p->n_output = (size_t)n->n_outputs;
    p->output = new_names(arena, g, n->outputs, n->n_outputs);
    p->attribute = arena_take(arena, (size_t)n->n_attributes, sizeof *p->attribute);
    if (!p->attribute) return NULL;
    for (int i = 0; i < n->n_attributes; i++) p->attribute[p->n_attribute++] = new_attribute(arena, &n->attributes[i]);
    return p;
}

/* A constant that is part of the formula. */
static Onnx__NodeProto *new_literal(struct arena *arena, struct value *v) {
    NEW_MESSAGE(Onnx__NodeProto, p, arena, onnx__node_proto__init);
    NEW_MESSAGE(Onnx__AttributeProto, a, arena, onnx__attribute_proto__init);
    p->op_type = borrow("Constant");
    p->n_output = 1;
    p->output = &v->name;
    p->attribute = arena_take(arena, 1, sizeof *p->attribute);
    if (!p->attribute) return NULL;
    p->n_attribute = 1;
    p->attribute[0] = a;
    a->name = borrow("value");
    a->has_type = true;
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR;
    a->t = new_tensor(arena, NULL, v->constant);
    return p;
}

/* ---- the graph and the model ---- */

/* Literals come first, so that every node finds its inputs made. */
static void fill_nodes(struct arena *arena, Onnx__GraphProto *p, const struct graph *g) {
    size_t most = (size_t)g->n_nodes + (size_t)g->n_values;
    p->node = arena_take(arena, most, sizeof *p->node);
    p->initializer = arena_take(arena, (size_t)g->n_values, sizeof *p->initializer);
    if (arena->failed) return;
    for (int i = 0; i < g->n_values; i++) {
        struct value *v = &g->values[i];
        if (!v->constant) continue;
        if (v->literal)
            p->node[p->n_node++] = new_literal(arena, v);
        else
            p->initializer[p->n_initializer++] = new_tensor(arena, v->name, v->constant);
    }
    for (int i = 0; i < g->n_nodes; i++) p->node[p->n_node++] = new_node(arena, g, &g->nodes[i]);
}

static Onnx__GraphProto *new_graph(struct arena *arena, const struct graph *g) {
    NEW_MESSAGE(Onnx__GraphProto, p, arena, onnx__graph_proto__init);
    p->name = *g->name ? g->name : borrow("graph"); /* the standard wants a name */
    fill_nodes(arena, p, g);
    p->n_input = (size_t)g->n_inputs;
    p->input = new_values(arena, g, g->inputs, g->n_inputs);
    p->n_output = (size_t)g->n_outputs;
    p->output = new_values(arena, g, g->outputs, g->n_outputs);
    return p;
}

/* The oldest IR version, from 7 on, that knows the opset. */
static int64_t ir_version(int opset) {
    return opset <= 14 ? 7 : opset <= 18 ? 8 : opset <= 20 ? 9 : 10;
}

static Onnx__ModelProto *new_model(struct arena *arena, const struct graph *g) {
    NEW_MESSAGE(Onnx__ModelProto, m, arena, onnx__model_proto__init);
    NEW_MESSAGE(Onnx__OperatorSetIdProto, set, arena, onnx__operator_set_id_proto__init);
    m->has_ir_version = true;
    m->ir_version = ir_version(g->opset);
    m->producer_name = borrow("retort");
    m->graph = new_graph(arena, g);
    m->opset_import = arena_take(arena, 1, sizeof *m->opset_import);
    if (!m->opset_import) return NULL;
    m->n_opset_import = 1;
    m->opset_import[0] = set;
    set->domain = borrow("");
    set->has_version = true;
    set->version = g->opset;
    return m;
}

static int check_shapes(const struct graph *g, const int *list, int n, struct err *e) {
    for (int i = 0; i < n; i++)
        if (g->values[list[i]].shape.rank < 0)
            return err_set(e, E_INVALID, "the shape of '%s' is not known; the graph is not finished",
                           g->values[list[i]].name);
    return 0;
}

int onnx_write(struct byte_sink sink, const struct graph *g, struct err *e) {
    struct arena arena = {0};
    int rc = graph_check_bound(g, e);
    if (!rc) rc = check_shapes(g, g->inputs, g->n_inputs, e);
    if (!rc) rc = check_shapes(g, g->outputs, g->n_outputs, e);
    if (rc) return rc;
    const Onnx__ModelProto *m = new_model(&arena, g);
    rc = arena.failed ? err_memory(e, BLOCK_SIZE) : proto_write(sink, &m->base, e);
    arena_free(&arena);
    return rc;
}

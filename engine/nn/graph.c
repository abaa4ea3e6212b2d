/* graph.c - building, copying and looking into graphs. Sorting and checking: graph_finish.c. */
#include "engine/nn/graph.h"

#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "engine/nn/op.h"
#include "engine/nn/origin.h"

int graph_new(struct graph **out, const char *name, int opset, struct err *e) {
    struct graph *g = mem_calloc(1, sizeof *g);
    if (!g) return err_memory(e, sizeof *g);
    g->opset = opset;
    g->training.rule = -1;
    g->name = mem_string(name ? name : "");
    if (!g->name) {
        mem_free(g);
        return err_memory(e, 1);
    }
    *out = g;
    return 0;
}

static void attribute_fini(struct attribute *a) {
    mem_free(a->name);
    mem_free(a->string);
    mem_free(a->integers);
    mem_free(a->reals);
    array_free(a->array);
}

static void node_fini(struct node *n) {
    mem_free(n->name);
    mem_free(n->inputs);
    mem_free(n->outputs);
    for (int i = 0; i < n->n_attributes; i++) attribute_fini(&n->attributes[i]);
    mem_free(n->attributes);
}

void value_forget_training(struct value *v) {
    for (int i = 0; i < VALUE_MEMORIES; i++) {
        array_free(v->memory[i]);
        v->memory[i] = NULL;
    }
    for (int d = 0; d < 2; d++) {
        array_free(v->share[d]);
        v->share[d] = NULL;
    }
    origin_free(v->origin);
    v->origin = NULL;
}

void graph_change_training(struct graph *g) {
    if (g->training.rule < 0) return;
    g->training.changed = true;
    g->training.since = g->training.steps;
}

void graph_forget_training(struct graph *g) {
    for (int i = 0; i < g->n_values; i++) value_forget_training(&g->values[i]);
    g->training = (struct graph_training){.rule = -1};
}

void graph_correct_constant_take(struct graph *g, int value, struct array *constant) {
    struct value *v = &g->values[value];
    array_free(v->constant);
    v->constant = constant;
    v->type = constant->type;
    v->shape = constant->shape;
}

void graph_replace_constant_take(struct graph *g, int value, struct array *constant) {
    graph_correct_constant_take(g, value, constant);
    value_forget_training(&g->values[value]);
}

void graph_free(struct graph *g) {
    if (!g) return;
    for (int i = 0; i < g->n_values; i++) {
        mem_free(g->values[i].name);
        array_free(g->values[i].constant);
        value_forget_training(&g->values[i]);
    }
    for (int i = 0; i < g->n_nodes; i++) node_fini(&g->nodes[i]);
    names_free(&g->value_names);
    names_free(&g->node_names);
    mem_free(g->values);
    mem_free(g->nodes);
    for (int i = 0; i < g->n_free_axes; i++) mem_free(g->free_axes[i].name);
    mem_free(g->free_axes);
    mem_free(g->inputs);
    mem_free(g->outputs);
    mem_free(g->name);
    mem_free(g);
}

/* Makes room for one more element in an array that doubles. */
static int reserve(void **array, int *room, int used, size_t size, struct err *e) {
    if (used < *room) return 0;
    int bigger = *room ? *room * 2 : 16;
    void *moved = mem_resize(*array, (size_t)bigger, size);
    if (!moved) return err_memory(e, (size_t)bigger * size);
    *array = moved;
    *room = bigger;
    return 0;
}

/* A copy of `name`, or a new name made from the beginning of `stem` when name is NULL or empty. */
static int choose_name(char **out, struct graph *g, const struct names *taken, const char *name, const char *stem,
                       struct err *e) {
    char made[GRAPH_MAX_NAME + 1], cut[GRAPH_MAX_NAME + 1 - 12]; /* room for "_" and any int */
    if (!name || !*name) {
        text_copy(cut, sizeof cut, stem ? stem : "value");
        do text_print(made, sizeof made, "%s_%d", cut, ++g->made_up);
        while (names_find(taken, made) >= 0);
        name = made;
    } else if (strlen(name) > GRAPH_MAX_NAME) {
        return err_set(e, E_TOO_LARGE, "name '%.40s...' has %zu bytes; at most %d are taken", name, strlen(name),
                       GRAPH_MAX_NAME);
    }
    *out = mem_string(name);
    return *out ? 0 : err_memory(e, strlen(name));
}

int graph_add_value(int *out, struct graph *g, const char *name, const char *stem, struct err *e) {
    if (name && *name && names_find(&g->value_names, name) >= 0)
        return err_set(e, E_INVALID, "the name '%s' is given to two values; each needs its own", name);
    if (g->n_values >= GRAPH_MAX_VALUES)
        return err_set(e, E_TOO_LARGE, "the graph has more than %d values; at most so many are taken",
                       GRAPH_MAX_VALUES);
    int status = reserve((void **)&g->values, &g->values_room, g->n_values, sizeof *g->values, e);
    if (status) return status;
    struct value *v = &g->values[g->n_values];
    *v = (struct value){.type = DT_FLOAT32, .shape = {.rank = -1}, .producer = -1};
    status = choose_name(&v->name, g, &g->value_names, name, stem, e);
    if (!status) status = names_add(&g->value_names, v->name, g->n_values, e);
    if (status) {
        mem_free(v->name);
        return status;
    }
    *out = g->n_values++;
    return 0;
}

int graph_add_constant_take(int *out, struct graph *g, const char *name, struct array *constant, struct err *e) {
    int status = graph_add_value(out, g, name, "constant", e);
    if (status) {
        array_free(constant);
        return status;
    }
    struct value *v = &g->values[*out];
    v->constant = constant;
    v->type = constant->type;
    v->shape = constant->shape;
    v->trainable = dtype_is_real(constant->type);
    return 0;
}

static int append_index(int **list, int *n, int value, struct err *e) {
    int *moved = mem_resize(*list, (size_t)*n + 1, sizeof **list);
    if (!moved) return err_memory(e, ((size_t)*n + 1) * sizeof **list);
    *list = moved;
    moved[(*n)++] = value;
    return 0;
}

int graph_add_input(struct graph *g, int value, enum dtype type, const struct shape *shape, struct err *e) {
    g->values[value].type = type;
    g->values[value].shape = *shape;
    return append_index(&g->inputs, &g->n_inputs, value, e);
}

int graph_add_output(struct graph *g, int value, struct err *e) {
    return append_index(&g->outputs, &g->n_outputs, value, e);
}

static int copy_indices(int **out, const int *from, int n, struct err *e) {
    *out = mem_copy(from, (size_t)n * sizeof *from);
    return *out ? 0 : err_memory(e, (size_t)n * sizeof *from);
}

/* Makes node `index` the producer of its outputs. */
static int claim_outputs(struct graph *g, const struct node *n, int index, struct err *e) {
    for (int i = 0; i < n->n_outputs; i++) {
        if (n->outputs[i] == VALUE_NONE) continue;
        struct value *v = &g->values[n->outputs[i]];
        if (v->producer >= 0 || v->constant)
            return err_set(e, E_INVALID, "'%s' is an output of node '%s' (%s), but something else makes it already",
                           v->name, n->name, n->op->name);
        v->producer = index;
    }
    return 0;
}

int graph_add_node(int *out, struct graph *g, const char *op, const char *name, const int *inputs, int n_inputs,
                   const int *outputs, int n_outputs, struct err *e) {
    const struct op *found = op_find(op);
    if (!found)
        return err_set(e, E_UNSUPPORTED, "node '%s' uses the operator %s, which retort does not know", name ? name : "",
                       op);
    if (g->n_nodes >= GRAPH_MAX_NODES)
        return err_set(e, E_TOO_LARGE, "the graph has more than %d nodes", GRAPH_MAX_NODES);
    if (n_inputs > NODE_MAX_INPUTS || n_outputs > NODE_MAX_INPUTS)
        return err_set(e, E_TOO_LARGE, "node '%s' has %d inputs and %d outputs; at most %d are taken", name ? name : "",
                       n_inputs, n_outputs, NODE_MAX_INPUTS);
    int status = reserve((void **)&g->nodes, &g->nodes_room, g->n_nodes, sizeof *g->nodes, e);
    if (status) return status;
    struct node n = {.op = found, .n_inputs = n_inputs, .n_outputs = n_outputs};
    bool taken = name && *name && names_find(&g->node_names, name) >= 0; /* ONNX allows it; we want handles */
    status = choose_name(&n.name, g, &g->node_names, taken ? NULL : name, taken ? name : op, e);
    if (!status) status = copy_indices(&n.inputs, inputs, n_inputs, e);
    if (!status) status = copy_indices(&n.outputs, outputs, n_outputs, e);
    if (!status) status = claim_outputs(g, &n, g->n_nodes, e);
    if (!status) status = names_add(&g->node_names, n.name, g->n_nodes, e);
    if (status) {
        node_fini(&n);
        return status;
    }
    if (out) *out = g->n_nodes;
    g->nodes[g->n_nodes++] = n;
    return 0;
}

/* ---- attributes ---- */

const struct attribute *node_attribute(const struct node *n, const char *name) {
    for (int i = 0; i < n->n_attributes; i++)
        if (strcmp(n->attributes[i].name, name) == 0) return &n->attributes[i];
    return NULL;
}

/* Puts an attribute whose value is ready; takes what it owns, on failure too. */
static int set_take(struct graph *g, int node, const char *name, struct attribute a, bool complete, struct err *e) {
    struct node *n = &g->nodes[node];
    a.name = mem_string(name);
    struct attribute *old = (struct attribute *)node_attribute(n, name);
    struct attribute *list = n->attributes;
    if (a.name && complete && !old) {
        list = mem_resize(n->attributes, (size_t)n->n_attributes + 1, sizeof *list);
        if (list) n->attributes = list;
    }
    if (!a.name || !complete || !list) {
        attribute_fini(&a);
        return err_memory(e, sizeof a);
    }
    if (old)
        attribute_fini(old);
    else
        old = &list[n->n_attributes++];
    *old = a;
    return 0;
}

int graph_set_int(struct graph *g, int node, const char *name, int64_t value, struct err *e) {
    return set_take(g, node, name, (struct attribute){.type = ATTRIBUTE_INT, .integer = value}, true, e);
}

int graph_set_real(struct graph *g, int node, const char *name, double value, struct err *e) {
    return set_take(g, node, name, (struct attribute){.type = ATTRIBUTE_REAL, .real = value}, true, e);
}

int graph_set_string(struct graph *g, int node, const char *name, const char *value, struct err *e) {
    struct attribute a = {.type = ATTRIBUTE_STRING, .string = mem_string(value)};
    return set_take(g, node, name, a, a.string != NULL, e);
}

int graph_set_ints(struct graph *g, int node, const char *name, const int64_t *values, size_t n, struct err *e) {
    struct attribute a = {.type = ATTRIBUTE_INTS, .count = n, .integers = mem_copy(values, n * sizeof *values)};
    return set_take(g, node, name, a, a.integers != NULL, e);
}

int graph_set_reals(struct graph *g, int node, const char *name, const double *values, size_t n, struct err *e) {
    struct attribute a = {.type = ATTRIBUTE_REALS, .count = n, .reals = mem_copy(values, n * sizeof *values)};
    return set_take(g, node, name, a, a.reals != NULL, e);
}

int graph_set_array_take(struct graph *g, int node, const char *name, struct array *value, struct err *e) {
    return set_take(g, node, name, (struct attribute){.type = ATTRIBUTE_ARRAY, .array = value}, true, e);
}

void graph_drop_attribute(struct graph *g, int node, const char *name) {
    struct node *n = &g->nodes[node];
    struct attribute *a = (struct attribute *)node_attribute(n, name);
    if (!a) return;
    attribute_fini(a);
    *a = n->attributes[--n->n_attributes];
}

int64_t node_int(const struct node *n, const char *name, int64_t standard) {
    const struct attribute *a = node_attribute(n, name);
    return a && a->type == ATTRIBUTE_INT ? a->integer : standard;
}

double node_real(const struct node *n, const char *name, double standard) {
    const struct attribute *a = node_attribute(n, name);
    return a && a->type == ATTRIBUTE_REAL ? a->real : standard;
}

const char *node_string(const struct node *n, const char *name, const char *standard) {
    const struct attribute *a = node_attribute(n, name);
    return a && a->type == ATTRIBUTE_STRING ? a->string : standard;
}

int graph_find_value(const struct graph *g, const char *name) {
    int i = names_find(&g->value_names, name);
    return i < 0 ? VALUE_NONE : i;
}

int graph_find_node(const struct graph *g, const char *name) {
    return names_find(&g->node_names, name);
}

/* ---- copying ---- */

static int clone_attribute(struct graph *to, int node, const struct attribute *a, struct err *e) {
    struct array *array = NULL;
    int status;
    switch (a->type) {
        case ATTRIBUTE_INT: return graph_set_int(to, node, a->name, a->integer, e);
        case ATTRIBUTE_REAL: return graph_set_real(to, node, a->name, a->real, e);
        case ATTRIBUTE_STRING: return graph_set_string(to, node, a->name, a->string, e);
        case ATTRIBUTE_INTS: return graph_set_ints(to, node, a->name, a->integers, a->count, e);
        case ATTRIBUTE_REALS: return graph_set_reals(to, node, a->name, a->reals, a->count, e);
        case ATTRIBUTE_ARRAY:
            status = array_clone(&array, a->array, e);
            return status ? status : graph_set_array_take(to, node, a->name, array, e);
    }
    return err_set(e, E_INTERNAL, "attribute '%s' has no type", a->name);
}

static int clone_values(struct graph *to, const struct graph *g, struct err *e) {
    for (int i = 0; i < g->n_values; i++) {
        const struct value *v = &g->values[i];
        int index;
        int status = graph_add_value(&index, to, v->name, NULL, e);
        if (!status && v->constant) status = array_clone(&to->values[index].constant, v->constant, e);
        for (int k = 0; k < VALUE_MEMORIES && !status; k++)
            if (v->memory[k]) status = array_clone(&to->values[index].memory[k], v->memory[k], e);
        for (int d = 0; d < 2 && !status; d++)
            if (v->share[d]) status = array_clone(&to->values[index].share[d], v->share[d], e);
        if (!status && v->origin) status = origin_clone(&to->values[index].origin, v->origin, e);
        if (status) return status;
        to->values[index].type = v->type;
        to->values[index].shape = v->shape;
        to->values[index].trainable = v->trainable;
        to->values[index].literal = v->literal;
    }
    return 0;
}

static int clone_node(struct graph *to, const struct node *n, struct err *e) {
    int index;
    int status = graph_add_node(&index, to, n->op->name, n->name, n->inputs, n->n_inputs, n->outputs, n->n_outputs, e);
    for (int i = 0; i < n->n_attributes && !status; i++) status = clone_attribute(to, index, &n->attributes[i], e);
    return status;
}

int graph_clone(struct graph **out, const struct graph *g, struct err *e) {
    struct graph *to = NULL;
    int status = graph_new(&to, g->name, g->opset, e);
    if (!status) status = clone_values(to, g, e);
    for (int i = 0; i < g->n_nodes && !status; i++) status = clone_node(to, &g->nodes[i], e);
    for (int i = 0; i < g->n_inputs && !status; i++) status = append_index(&to->inputs, &to->n_inputs, g->inputs[i], e);
    for (int i = 0; i < g->n_outputs && !status; i++)
        status = append_index(&to->outputs, &to->n_outputs, g->outputs[i], e);
    for (int i = 0; i < g->n_free_axes && !status; i++)
        status = graph_free_axis(to, g->free_axes[i].input, g->free_axes[i].axis, g->free_axes[i].name, e);
    if (status) {
        graph_free(to);
        return status;
    }
    to->made_up = g->made_up;
    to->training = g->training;
    *out = to;
    return 0;
}

int graph_drop_nodes(struct graph *g, const bool *drop, struct err *e) {
    int kept = 0, status = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        struct node *n = &g->nodes[i];
        for (int k = 0; k < n->n_outputs; k++)
            if (n->outputs[k] != VALUE_NONE) g->values[n->outputs[k]].producer = drop[i] ? -1 : kept;
        if (drop[i])
            node_fini(n);
        else
            g->nodes[kept++] = *n;
    }
    g->n_nodes = kept;
    names_free(&g->node_names);
    for (int i = 0; i < kept && !status; i++) status = names_add(&g->node_names, g->nodes[i].name, i, e);
    return status;
}

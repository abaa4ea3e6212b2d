/* intake_network.c - what an ONNX file is, in JSON. */
#include <malloc.h>

#include "base/json.h"
#include "engine/formats/onnx.h"
#include "engine/nn/op.h"
#include "jobs/describe.h"
#include "server/intake.h"

/* Memory of an import goes back at once: the server may not see another one for days. */
static void forget(struct graph *g) {
    graph_free(g);
    malloc_trim(0);
}

static void put_port(struct json_writer *w, const struct graph *g, int value) {
    json_open_object(w, NULL);
    describe_value(w, g, value);
    json_close_object(w);
}

static void put_ports(struct json_writer *w, const char *name, const struct graph *g, const int *values, int n) {
    json_open_array(w, name);
    for (int i = 0; i < n; i++) put_port(w, g, values[i]);
    json_close_array(w);
}

/* ---- facts ---- */

int intake_network(struct network_facts *out, const struct byte_origin *from, struct err *e) {
    struct graph *g = NULL;
    struct description d = {0};
    *out = (struct network_facts){0};
    int code = onnx_read_from(&g, from, e);
    if (!code) code = describe_graph(&d, g, e);
    if (code)
        description_free(&d);
    else
        *out = (struct network_facts){d.parameters, d.macs, d.operators, d.inputs, d.outputs};
    forget(g);
    return code;
}

/* ---- the graph ---- */

static void put_attribute(struct json_writer *w, const struct attribute *a) {
    switch (a->type) {
        case ATTRIBUTE_INT: json_put_int(w, a->name, a->integer); break;
        case ATTRIBUTE_REAL: json_put_number(w, a->name, a->real); break;
        case ATTRIBUTE_STRING: json_put_string(w, a->name, a->string); break;
        case ATTRIBUTE_INTS:
            json_open_array(w, a->name);
            for (size_t i = 0; i < a->count; i++) json_put_int(w, NULL, a->integers[i]);
            json_close_array(w);
            break;
        case ATTRIBUTE_REALS:
            json_open_array(w, a->name);
            for (size_t i = 0; i < a->count; i++) json_put_number(w, NULL, a->reals[i]);
            json_close_array(w);
            break;
        case ATTRIBUTE_ARRAY:
            json_open_object(w, a->name);
            json_put_string(w, "dtype", dtype_name(a->array->type));
            json_open_array(w, "shape");
            for (int d = 0; d < a->array->shape.rank; d++) json_put_int(w, NULL, a->array->shape.dim[d]);
            json_close_array(w);
            json_close_object(w);
            break;
    }
}

static void put_names(struct json_writer *w, const char *name, const struct graph *g, const int *values, int n) {
    json_open_array(w, name);
    for (int i = 0; i < n; i++) json_put_string(w, NULL, values[i] == VALUE_NONE ? NULL : g->values[values[i]].name);
    json_close_array(w);
}

static void put_node(struct json_writer *w, const struct graph *g, const struct node *n) {
    json_open_object(w, NULL);
    json_put_string(w, "name", n->name);
    json_put_string(w, "op", n->op->name);
    put_names(w, "inputs", g, n->inputs, n->n_inputs);
    put_names(w, "outputs", g, n->outputs, n->n_outputs);
    json_open_array(w, "shapes"); /* of the outputs */
    for (int i = 0; i < n->n_outputs; i++)
        if (n->outputs[i] != VALUE_NONE) put_port(w, g, n->outputs[i]);
    json_close_array(w);
    json_open_object(w, "attributes");
    for (int i = 0; i < n->n_attributes; i++) put_attribute(w, &n->attributes[i]);
    json_close_object(w);
    json_close_object(w);
}

static void put_graph(struct json_writer *w, const struct graph *g) {
    json_open_object(w, NULL);
    json_put_string(w, "name", g->name);
    json_put_int(w, "opset", g->opset);
    put_ports(w, "inputs", g, g->inputs, g->n_inputs);
    put_ports(w, "outputs", g, g->outputs, g->n_outputs);
    json_open_array(w, "nodes");
    for (int i = 0; i < g->n_nodes; i++) put_node(w, g, &g->nodes[i]);
    json_close_array(w);
    json_open_array(w, "constants");
    for (int i = 0; i < g->n_values; i++)
        if (g->values[i].constant) put_port(w, g, i);
    json_close_array(w);
    json_close_object(w);
}

int intake_graph(struct text *out, const struct byte_origin *from, struct err *e) {
    struct graph *g = NULL;
    int code = onnx_read_from(&g, from, e);
    if (!code) {
        struct json_writer w = json_writer(out);
        put_graph(&w, g);
    }
    forget(g);
    return code;
}

/* describe.c - graphs as JSON for the store. */
#include "jobs/describe.h"

#include "base/memory.h"
#include "engine/nn/op.h"

#define TEXT_MAX (4 << 20)

static void put_shape(struct json_writer *w, const struct graph *g, int value) {
    const struct shape *s = &g->values[value].shape;
    if (s->rank < 0) {
        json_put_null(w, "shape");
        return;
    }
    json_open_array(w, "shape");
    for (int d = 0; d < s->rank; d++) {
        if (s->dim[d] == DIM_BATCH)
            json_put_string(w, NULL, "N");
        else if (s->dim[d] == DIM_FREE)
            json_put_string(w, NULL, graph_axis_name(g, value, d));
        else
            json_put_int(w, NULL, s->dim[d]);
    }
    json_close_array(w);
}

void describe_value(struct json_writer *w, const struct graph *g, int value) {
    json_put_string(w, "name", g->values[value].name);
    json_put_string(w, "dtype", dtype_name(g->values[value].type));
    put_shape(w, g, value);
}

static void put_ports(struct text *out, const struct graph *g, const int *values, int n) {
    struct json_writer w = json_writer(out);
    json_open_array(&w, NULL);
    for (int i = 0; i < n; i++) {
        json_open_object(&w, NULL);
        describe_value(&w, g, values[i]);
        json_close_object(&w);
    }
    json_close_array(&w);
}

static int put_operators(struct text *out, const struct graph *g, struct err *e) {
    size_t n_ops = 0;
    while (op_table[n_ops]) n_ops++;
    int64_t *counts = mem_calloc(n_ops + 1, sizeof *counts);
    if (!counts) return err_memory(e, n_ops * sizeof *counts);
    for (int i = 0; i < g->n_nodes; i++)
        for (size_t k = 0; k < n_ops; k++) counts[k] += op_table[k] == g->nodes[i].op;
    struct json_writer w = json_writer(out);
    json_open_object(&w, NULL);
    for (size_t k = 0; k < n_ops; k++)
        if (counts[k]) json_put_int(&w, op_table[k]->name, counts[k]);
    json_close_object(&w);
    mem_free(counts);
    return 0;
}

int describe_graph(struct description *out, const struct graph *g, struct err *e) {
    *out = (struct description){0};
    text_init(&out->operators, TEXT_MAX);
    text_init(&out->inputs, TEXT_MAX);
    text_init(&out->outputs, TEXT_MAX);
    struct graph_size size;
    int status = graph_measure(&size, g, e);
    if (!status) status = put_operators(&out->operators, g, e);
    if (status) return status;
    out->parameters = size.parameters;
    out->macs = size.macs;
    put_ports(&out->inputs, g, g->inputs, g->n_inputs);
    put_ports(&out->outputs, g, g->outputs, g->n_outputs);
    int failed = out->operators.failed ? out->operators.failed
                 : out->inputs.failed  ? out->inputs.failed
                                       : out->outputs.failed;
    return failed ? err_set(e, failed, "the description of the network is too long") : 0;
}

void description_free(struct description *d) {
    text_free(&d->operators);
    text_free(&d->inputs);
    text_free(&d->outputs);
}

/* network.c - what has to be true of a graph before a method works with it. */
#include "engine/transfer/network.h"

#include <string.h>

#include "base/memory.h"
#include "engine/nn/op.h"

/* A reshape that names the old batch gets the batch as what is left, and its other sizes as numbers. */
static int free_reshape(struct graph *g, const struct node *n, int64_t batch, struct err *e) {
    struct value *target = n->n_inputs > 1 ? &g->values[n->inputs[1]] : NULL;
    const struct shape *out = &g->values[n->outputs[0]].shape;
    if (!target || !target->constant || target->constant->count == 0 || out->rank < 1) return 0;
    if (array_int(target->constant, 0) != batch || out->dim[0] != batch) return 0;
    struct array *fresh;
    int status = array_new(&fresh, DT_INT64, &(struct shape){.rank = 1, .dim = {out->rank}}, e);
    if (status) return status;
    for (int d = 0; d < out->rank; d++) ((int64_t *)fresh->data)[d] = d ? out->dim[d] : -1;
    array_free(target->constant);
    target->constant = fresh;
    target->shape = fresh->shape;
    return 0;
}

static int free_batch(struct graph *g, struct err *e) {
    struct value *input = &g->values[g->inputs[0]];
    if (input->shape.rank < 1 || input->shape.dim[0] == DIM_BATCH) return 0;
    int64_t batch = input->shape.dim[0];
    int status = 0;
    for (int i = 0; i < g->n_nodes && !status; i++)
        if (strcmp(g->nodes[i].op->name, "Reshape") == 0) status = free_reshape(g, &g->nodes[i], batch, e);
    if (status) return status;
    input->shape.dim[0] = DIM_BATCH;
    struct err why = {0};
    status = graph_finish(g, &why);
    if (status == E_NOMEM) return err_memory(e, 0);
    if (status || g->values[g->outputs[0]].shape.dim[0] != DIM_BATCH)
        return err_set(e, E_INVALID,
                       "the network was exported for batches of exactly %lld%s%s: export it with a free "
                       "first dimension (PyTorch: dynamic_axes)",
                       (long long)batch, why.text[0] ? "; with others, " : "", why.text);
    return 0;
}

/* Logits go without a Softmax over the classes; LogSoftmax is as good as logits. */
int network_logits(const struct graph *g, int answer) {
    int producer = g->values[answer].producer;
    if (producer < 0 || strcmp(g->nodes[producer].op->name, "Softmax") != 0) return answer;
    const struct node *node = &g->nodes[producer];
    int64_t axis = node_int(node, "axis", g->opset < 13 ? 1 : -1);
    int rank = g->values[node->inputs[0]].shape.rank;
    return rank == 2 && (axis == 1 || axis == -1) ? node->inputs[0] : answer;
}

static int check_number_of_ends(const struct graph *g, struct err *e) {
    if (g->n_inputs == 1 && g->n_outputs == 1) return 0;
    return err_set(e, E_UNSUPPORTED, "the network has %d inputs and %d outputs; this works with one of each",
                   g->n_inputs, g->n_outputs);
}

static int check_ends(struct network *n, struct err *e) {
    const struct graph *g = n->graph;
    int status = check_number_of_ends(g, e);
    if (!status) status = graph_check_bound(g, e);
    if (status) return status;
    const struct shape *out = &g->values[g->outputs[0]].shape;
    char text[128];
    shape_print(text, sizeof text, out);
    if (out->rank < 2)
        return err_set(e, E_UNSUPPORTED,
                       "the network's output has shape %s; one row of answers per sample is expected, "
                       "as [N,10]",
                       text);
    n->classes = 1;
    for (int d = 1; d < out->rank; d++) n->classes *= out->dim[d];
    if (n->classes < 2 || n->classes > 1 << 24)
        return err_set(e, E_UNSUPPORTED,
                       "the network's output has shape %s; at least two answers per sample are expected", text);
    return 0;
}

/* Gives an error without a pointer one. */
static int at(const char *pointer, int status, struct err *e) {
    if (status && e && pointer && !e->pointer[0]) text_copy(e->pointer, sizeof e->pointer, pointer);
    return status;
}

/* The sizes of free dimensions, from the shape of the data. */
static int bind_to_data(struct graph *g, const struct host *host, const struct dataset_spec *data, struct err *e) {
    if (!g->n_free_axes) return 0;
    struct data_array inputs;
    struct shape shape;
    char source[REFERENCE_SIZE + 16];
    int status = check_number_of_ends(g, e);
    if (status) return status;
    status = host->load_array(&inputs, NULL, host->context, data->ref, "inputs", e);
    if (status) return at("/dataset", status, e);
    dataset_shape(&shape, data, &inputs.shape, &g->values[g->inputs[0]].shape);
    text_print(source, sizeof source, "data set %s", data->ref);
    return at("/dataset", graph_bind_input(g, 0, &shape, source, e), e);
}

int network_take(struct network *out, struct graph *g, struct err *e) {
    *out = (struct network){.graph = g};
    int status = check_ends(out, e);
    if (!status) status = free_batch(g, e);
    if (!status) status = graph_measure(&out->size, g, e);
    if (status) {
        network_fini(out);
        return status;
    }
    out->input = g->values[g->inputs[0]].shape;
    out->answer = g->outputs[0];
    g->outputs[0] = network_logits(g, out->answer);
    return 0;
}

int network_load(struct network *out, const struct host *host, const char *reference, const struct dataset_spec *data,
                 const char *pointer, struct err *e) {
    *out = (struct network){0};
    struct graph *g = NULL;
    struct source source;
    int status = host->load_graph(&g, &source, host->context, reference, e);
    if (status) return at(pointer, status, e);
    status = bind_to_data(g, host, data, e);
    if (status)
        graph_free(g);
    else
        status = network_take(out, g, e);
    if (!status) {
        out->source = source;
        return 0;
    }
    err_prefix(e, "model %s", reference);
    return at(pointer, status, e);
}

void network_fini(struct network *n) {
    graph_free(n->graph);
    *n = (struct network){0};
}

void network_forget(struct network *n) {
    graph_free(n->graph);
    n->graph = NULL;
}

int network_restore(struct graph **out, struct network *n, struct err *e) {
    struct graph *g = n->graph;
    g->outputs[0] = n->answer;
    *n = (struct network){0};
    int status = graph_unify_types(g, e);
    if (status)
        graph_free(g);
    else
        *out = g;
    return status;
}

static bool same_input(const struct shape *a, const struct shape *b) {
    if (a->rank != b->rank) return false;
    for (int d = 1; d < a->rank; d++)
        if (a->dim[d] != b->dim[d]) return false;
    return true;
}

int network_agree(const char *what, const struct network *n, const struct network *other, const char *pointer,
                  struct err *e) {
    char one[128], two[128];
    if (!same_input(&n->input, &other->input)) {
        shape_print(one, sizeof one, &n->input);
        shape_print(two, sizeof two, &other->input);
        return err_set_at(e, E_INVALID, pointer, "%s takes inputs of shape %s, the teacher %s", what, one, two);
    }
    if (n->classes != other->classes)
        return err_set_at(e, E_INVALID, pointer,
                          "%s answers with %lld values per sample ([N,%lld]), the teacher with %lld ([N,%lld])", what,
                          (long long)n->classes, (long long)n->classes, (long long)other->classes,
                          (long long)other->classes);
    return 0;
}

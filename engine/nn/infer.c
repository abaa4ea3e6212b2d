/* infer.c - the walk over the nodes that asks each operator what comes out. */
#include "engine/nn/infer.h"

#include "base/memory.h"

void inferred_free(struct inferred *i) {
    if (!i) return;
    for (int v = 0; i->folded && v < i->n_values; v++) array_free(i->folded[v]);
    mem_free(i->folded);
    mem_free(i->values);
    mem_free(i);
}

/* What is known before any node is looked at: inputs and constants. */
static void start(struct inferred *r, const struct graph *g, int64_t batch) {
    for (int v = 0; v < g->n_values; v++) {
        const struct value *from = &g->values[v];
        r->values[v] = (struct known){.type = from->type, .shape = {.rank = -1}, .constant = from->constant};
        if (from->constant) r->values[v].shape = from->constant->shape;
        r->values[v].trainable = from->constant && from->trainable;
    }
    for (int i = 0; i < g->n_inputs; i++) {
        struct shape *s = &r->values[g->inputs[i]].shape;
        *s = g->values[g->inputs[i]].shape;
        if (s->rank > 0 && s->dim[0] == DIM_BATCH) s->dim[0] = batch;
    }
}

static int check_known(const struct graph *g, const struct node *n, const struct known *k, int v, struct err *e) {
    size_t count;
    if (k->shape.rank < 0)
        return err_set(e, E_INVALID, "node '%s' (%s) reads '%s', whose shape is not known", n->name, n->op->name,
                       g->values[v].name);
    for (int d = 0; d < k->shape.rank; d++)
        if (k->shape.dim[d] < 0)
            return err_set(e, E_INVALID, "'%s' has a free dimension %d; only the first, the batch, may be free",
                           g->values[v].name, d);
    return shape_count(&count, &k->shape, e);
}

/* Tables for the node with the most inputs and outputs, used again for each. */
struct desk {
    const struct known **in;
    struct known *out;
    struct array **folded;
};

/* Bytes of all values folded on the way: a small file must not fill the memory. VGG-19 has 575 MB of weights, which
 * ONNX's light models make of their shapes. */
enum { FOLDED_MOST = 640 << 20 };

static int count_folded(struct inferred *r, const struct array *a, struct err *e) {
    if (!a) return 0;
    r->folded_bytes += a->count * dtype_size(a->type);
    return r->folded_bytes <= FOLDED_MOST
               ? 0
               : err_set(e, E_TOO_LARGE, "what can be computed from constants takes more than %d bytes", FOLDED_MOST);
}

/* Shape arithmetic mixes no samples. */
static bool reads_data(const struct inference *i) {
    for (int k = 0; k < i->n_in; k++)
        if (i->in[k] && !i->in[k]->constant) return true;
    return false;
}

static int infer_node(struct inferred *r, const struct graph *g, const struct node *n, struct desk *desk,
                      struct err *e) {
    for (int k = 0; k < n->n_inputs; k++) {
        int v = n->inputs[k];
        desk->in[k] = v == VALUE_NONE ? NULL : &r->values[v];
        int status = v == VALUE_NONE ? 0 : check_known(g, n, desk->in[k], v, e);
        if (status) return status;
    }
    for (int k = 0; k < n->n_outputs; k++) {
        desk->out[k] =
            (struct known){.type = n->n_inputs && desk->in[0] ? desk->in[0]->type : DT_FLOAT32, .shape = {.rank = -1}};
        desk->folded[k] = NULL;
    }
    struct inference i = {.node = n,
                          .opset = g->opset,
                          .n_in = n->n_inputs,
                          .n_out = n->n_outputs,
                          .in = desk->in,
                          .out = desk->out,
                          .folded = desk->folded};
    int status = n->op->infer(&i, e);
    for (int k = 0; k < n->n_outputs && !status; k++) status = count_folded(r, desk->folded[k], e);
    if (status) err_prefix(e, "node '%s' (%s)", n->name, n->op->name);
    r->mixes |= i.mixes && reads_data(&i);
    for (int k = 0; k < n->n_outputs; k++) {
        int v = n->outputs[k];
        if (v == VALUE_NONE || status) {
            array_free(desk->folded[k]);
            continue;
        }
        r->values[v] = desk->out[k];
        r->folded[v] = desk->folded[k];
        if (desk->folded[k]) r->values[v].constant = desk->folded[k];
    }
    return status;
}

static int desk_init(struct desk *d, const struct graph *g, struct err *e) {
    size_t in = 1, out = 1;
    for (int i = 0; i < g->n_nodes; i++) {
        if ((size_t)g->nodes[i].n_inputs > in) in = (size_t)g->nodes[i].n_inputs;
        if ((size_t)g->nodes[i].n_outputs > out) out = (size_t)g->nodes[i].n_outputs;
    }
    d->in = mem_calloc(in, sizeof *d->in);
    d->out = mem_calloc(out, sizeof *d->out);
    d->folded = mem_calloc(out, sizeof *d->folded);
    return d->in && d->out && d->folded ? 0 : err_memory(e, in * sizeof *d->in);
}

int graph_infer(struct inferred **out, const struct graph *g, int64_t batch, struct err *e) {
    struct desk desk = {0};
    struct inferred *r = mem_calloc(1, sizeof *r);
    if (!r) return err_memory(e, sizeof *r);
    r->n_values = g->n_values;
    r->values = mem_calloc((size_t)g->n_values, sizeof *r->values);
    r->folded = mem_calloc((size_t)g->n_values, sizeof *r->folded);
    int status =
        r->values && r->folded ? desk_init(&desk, g, e) : err_memory(e, (size_t)g->n_values * sizeof *r->values);
    if (!status) start(r, g, batch);
    for (int i = 0; i < g->n_nodes && !status; i++) status = infer_node(r, g, &g->nodes[i], &desk, e);
    mem_free(desk.in);
    mem_free(desk.out);
    mem_free(desk.folded);
    if (status) {
        inferred_free(r);
        return status;
    }
    *out = r;
    return 0;
}

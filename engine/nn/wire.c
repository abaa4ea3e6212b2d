/* wire.c - which tensors a call reads and writes, and who gives whom a gradient. See plan.h, stage 3. */
#include "engine/nn/plan.h"

static void count_readers(struct plan *p) {
    for (int i = 0; i < p->n_calls; i++) {
        if (p->planned[i].residual != VALUE_NONE) p->readers[p->planned[i].residual]++;
        for (int k = 0; k < p->calls[i].n_in; k++)
            if (p->planned[i].in[k] != VALUE_NONE) p->readers[p->planned[i].in[k]]++;
    }
    for (int i = 0; i < p->graph->n_outputs; i++) p->readers[p->standing[p->graph->outputs[i]]]++;
}

/* Walks backward: the first call to give a value's gradient writes, later ones add. */
static void wire_gradients(struct plan *p, bool *given) {
    for (int v = 0; v < p->n_values; v++) {
        if (p->values[v].fixed) continue;
        p->gradients[v] = plan_storage(p, v, &p->values[v].tensor.shape, p->values[v].tensor.layout);
    }
    for (int i = 0; i < p->graph->n_outputs; i++) {
        int v = p->standing[p->graph->outputs[i]];
        if (!p->wants[v]) continue;
        given[v] = true;
        p->gradients[v].lasting = true;
    }
    for (int i = p->n_calls - 1; i >= 0; i--) {
        struct call *c = &p->calls[i];
        const struct planned_call *planned = &p->planned[i];
        bool arrives = false;
        for (int k = 0; k < c->n_out; k++)
            if (planned->out[k] != VALUE_NONE && given[planned->out[k]]) {
                c->d_out[k] = &p->gradients[planned->out[k]].tensor;
                arrives = true;
            }
        if (arrives && planned->residual != VALUE_NONE && p->wants[planned->residual]) {
            c->d_residual = &p->gradients[planned->residual].tensor;
            c->add_residual = given[planned->residual];
            given[planned->residual] = true;
        }
        for (int k = 0; k < c->n_in && arrives; k++) {
            int v = planned->in[k];
            if (v == VALUE_NONE || !p->wants[v]) continue;
            c->d_in[k] = &p->gradients[v].tensor;
            c->add[k] = given[v];
            if (given[v] && p->values[v].fixed) p->shares_parameters = true;
            given[v] = true;
        }
    }
    for (int i = 0; i < p->graph->n_inputs && p->options.input_gradient; i++)
        p->gradients[p->graph->inputs[i]].lasting = true;
}

/* A view's gradient is its output's, when nobody else adds to it. */
static void share_gradients(struct plan *p) {
    for (int i = p->n_calls - 1; i >= 0; i--) {
        if (p->planned[i].op != &op_relayout) continue;
        int in = p->planned[i].in[0], out = p->planned[i].out[0];
        struct call *c = &p->calls[i];
        if (!c->d_in[0] || !c->d_out[0] || p->readers[in] != 1 || p->values[out].root == out) continue;
        if (p->gradients[in].lasting || p->values[in].lasting) continue;
        p->gradients[in].root = p->gradients[out].root; /* set already when it is a view as well: no chains */
        c->d_in[0] = NULL;
    }
}

static void point_tensors(struct plan *p) {
    for (int i = 0; i < p->n_calls; i++) {
        struct call *c = &p->calls[i];
        if (p->planned[i].residual != VALUE_NONE) c->residual = &p->values[p->planned[i].residual].tensor;
        for (int k = 0; k < c->n_in; k++)
            if (p->planned[i].in[k] != VALUE_NONE) c->in[k] = &p->values[p->planned[i].in[k]].tensor;
        for (int k = 0; k < c->n_out; k++)
            if (p->planned[i].out[k] != VALUE_NONE) c->out[k] = &p->values[p->planned[i].out[k]].tensor;
    }
}

void plan_wire(struct plan *p, bool *given) {
    count_readers(p);
    point_tensors(p);
    if (!p->options.training) return;
    wire_gradients(p, given);
    share_gradients(p);
}

/* merge.c - nodes that a call takes over from the ones behind it. See plan.h. */
#include "engine/nn/plan.h"

#include <string.h>

static const struct node *only_reader(const struct plan *p, const struct readership *r, int v) {
    if (v == VALUE_NONE || r->reads[v] != 1) return NULL;
    return &p->graph->nodes[r->reader[v]];
}

int plan_find_readers(struct readership *r, struct plan *p, struct err *e) {
    size_t n = (size_t)p->graph->n_values + 1;
    int status = plan_block((void **)&r->reads, p, n, sizeof(int), e);
    if (!status) status = plan_block((void **)&r->reader, p, n, sizeof(int), e);
    for (int i = 0; i < p->graph->n_nodes && !status; i++)
        for (int k = 0; k < p->graph->nodes[i].n_inputs; k++) {
            int v = p->graph->nodes[i].inputs[k];
            if (v == VALUE_NONE) continue;
            r->reads[v]++;
            r->reader[v] = i;
        }
    for (int i = 0; i < p->graph->n_outputs && !status; i++) r->reads[p->graph->outputs[i]] += 2; /* never alone */
    return status;
}

static int merge_norm(struct plan *p, int call, const struct node *norm, struct err *e) {
    struct folded_norm *f;
    int status = plan_block((void **)&f, p, 1, sizeof *f, e);
    if (status) return status;
    f->scale = &p->values[norm->inputs[1]].tensor;
    f->shift = &p->values[norm->inputs[2]].tensor;
    f->mean = &p->values[norm->inputs[3]].tensor;
    f->variance = &p->values[norm->inputs[4]].tensor;
    f->epsilon = (real)node_real(norm, "epsilon", 1e-5);
    p->calls[call].norm = f;
    return 0;
}

static bool constant_inputs(const struct plan *p, const struct node *n, int from) {
    for (int k = from; k < n->n_inputs; k++)
        if (n->inputs[k] == VALUE_NONE || !p->graph->values[n->inputs[k]].constant) return false;
    return true;
}

/* The other operand of an Add of `v`, when it is computed already, and laid out as v will be. */
static int ready_operand(const struct plan *p, const struct node *add, int v, enum layout layout) {
    int other = add->inputs[0] == v ? add->inputs[1] : add->inputs[0];
    const struct storage *s = &p->values[other];
    bool good = s->ready && s->tensor.layout == layout && shape_equal(&s->tensor.shape, &p->values[v].tensor.shape);
    return good ? other : VALUE_NONE;
}

int plan_merge_followers(struct plan *p, const struct readership *r, bool *merged, int call, const struct node *node,
                         enum layout layout, struct err *e) {
    int *out = &p->planned[call].out[0];
    const struct node *next = only_reader(p, r, *out);
    if (next && !p->options.training && (node->op->traits & OP_FOLDS_NORM) && constant_inputs(p, node, 1) &&
        strcmp(next->op->name, "BatchNormalization") == 0 && constant_inputs(p, next, 1)) {
        int status = merge_norm(p, call, next, e);
        if (status) return status;
        merged[next - p->graph->nodes] = true;
        *out = next->outputs[0];
        next = only_reader(p, r, *out);
    }
    unsigned adds = p->options.training ? OP_ADDS_TRAINING : OP_ADDS;
    if (next && (node->op->traits & adds) && strcmp(next->op->name, "Add") == 0) {
        int other = ready_operand(p, next, *out, layout);
        if (other != VALUE_NONE) {
            merged[next - p->graph->nodes] = true;
            p->planned[call].residual = other;
            *out = next->outputs[0];
            next = only_reader(p, r, *out);
        }
    }
    if (next && (node->op->traits & OP_ACTIVATES) && strcmp(next->op->name, "Relu") == 0) {
        merged[next - p->graph->nodes] = true;
        p->calls[call].activation = ACTIVATION_RELU;
        *out = next->outputs[0];
    }
    return 0;
}

/* A view shares its input's memory. */

/* affine.c - nodes that scale and shift every channel by itself, as plain numbers (linear.h). */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/nn/op.h"
#include "engine/surgery/linear.h"

/* ---- BatchNormalization ---- */

enum { DATA, SCALE, SHIFT, MEAN, VARIANCE };

static bool is_op(const struct node *n, const char *name) {
    return strcmp(n->op->name, name) == 0;
}

static int check_norm(const struct graph *g, const struct node *n, struct err *e) {
    for (int k = SCALE; k <= VARIANCE; k++) {
        const struct array *a = g->values[n->inputs[k]].constant;
        if (!a || !dtype_is_real(a->type))
            return err_set(e, E_UNSUPPORTED, "its '%s' is computed", g->values[n->inputs[k]].name);
    }
    return n->n_outputs == 1 ? 0 : err_set(e, E_UNSUPPORTED, "it gives out its statistics");
}

static void read_norm(struct affine *a, const struct graph *g, const struct node *n) {
    double epsilon = node_real(n, "epsilon", 1e-5);
    for (int64_t c = 0; c < a->channels; c++) {
        double of[VARIANCE + 1];
        for (int k = SCALE; k <= VARIANCE; k++) array_to_double(&of[k], g->values[n->inputs[k]].constant, (size_t)c, 1);
        a->scale[c] = of[SCALE] / sqrt(of[VARIANCE] + epsilon);
        a->shift[c] = of[SHIFT] - of[MEAN] * a->scale[c];
    }
}

/* ---- element by element ---- */

static int constant_operand(const struct graph *g, const struct node *n) {
    return g->values[n->inputs[1]].constant ? 1 : 0;
}

bool affine_is_per_channel(const struct shape *s, int rank, int64_t channels) {
    for (int d = 0; d < s->rank; d++) {
        int at = d + rank - s->rank;
        if (s->dim[d] != 1 && (at != 1 || s->dim[d] != channels)) return false;
    }
    return s->rank <= rank;
}

static int check_binary(const struct graph *g, const struct node *n, struct err *e) {
    bool div = is_op(n, "Div");
    if (!div && !is_op(n, "Add") && !is_op(n, "Sub") && !is_op(n, "Mul"))
        return err_set(e, E_UNSUPPORTED, "%s %s does not scale and shift channels", edit_article(n->op->name),
                       n->op->name);
    int k = constant_operand(g, n);
    const struct array *a = g->values[n->inputs[k]].constant;
    if (!a || !dtype_is_real(a->type) || g->values[n->inputs[1 - k]].constant)
        return err_set(e, E_UNSUPPORTED, "neither of its operands is a constant");
    const struct shape *x = &g->values[n->inputs[1 - k]].shape;
    if (x->rank < 2 || !shape_equal(x, &g->values[n->outputs[0]].shape) ||
        !affine_is_per_channel(&a->shape, x->rank, x->dim[1]))
        return err_set(e, E_UNSUPPORTED, "its constant is not one number per channel");
    return div && k == 0 ? err_set(e, E_UNSUPPORTED, "it divides by its data") : 0;
}

static void read_binary(struct affine *a, const struct graph *g, const struct node *n) {
    int k = constant_operand(g, n);
    const struct array *from = g->values[n->inputs[k]].constant;
    for (int64_t c = 0; c < a->channels; c++) {
        double x;
        array_to_double(&x, from, from->count == 1 ? 0 : (size_t)c, 1);
        bool add = is_op(n, "Add"), sub = is_op(n, "Sub");
        a->scale[c] = add ? 1 : sub ? (k == 1 ? 1 : -1) : is_op(n, "Mul") ? x : 1 / x;
        a->shift[c] = add ? x : sub ? (k == 1 ? -x : x) : 0;
    }
}

/* ---- both ---- */

int affine_check(const struct graph *g, int node, struct err *e) {
    const struct node *n = &g->nodes[node];
    return is_op(n, "BatchNormalization") ? check_norm(g, n, e) : check_binary(g, n, e);
}

void affine_fini(struct affine *a) {
    mem_free(a->scale);
    mem_free(a->shift);
    a->scale = a->shift = NULL;
}

int affine_read(struct affine *a, const struct graph *g, int node, struct err *e) {
    const struct node *n = &g->nodes[node];
    *a = (struct affine){.node = node};
    int status = affine_check(g, node, e);
    if (status) return status;
    bool norm = is_op(n, "BatchNormalization");
    a->data = n->inputs[norm ? DATA : 1 - constant_operand(g, n)];
    a->made = n->outputs[0];
    a->channels = g->values[a->data].shape.rank > 1 ? g->values[a->data].shape.dim[1] : 0;
    if (a->channels < 1) return err_set(e, E_UNSUPPORTED, "its data has no channels of known number");
    a->scale = mem_calloc((size_t)a->channels, sizeof *a->scale);
    a->shift = mem_calloc((size_t)a->channels, sizeof *a->shift);
    if (!a->scale || !a->shift) {
        affine_fini(a);
        return err_memory(e, (size_t)a->channels * sizeof *a->scale);
    }
    if (norm)
        read_norm(a, g, n);
    else
        read_binary(a, g, n);
    for (int64_t c = 0; c < a->channels && !status; c++)
        if (!isfinite(a->scale[c]) || !isfinite(a->shift[c]))
            status = err_set(e, E_UNSUPPORTED, "channel %lld is scaled by %g and shifted by %g", (long long)c,
                             a->scale[c], a->shift[c]);
    if (status) affine_fini(a);
    return status;
}

/* ---- nothing ---- */

static bool all_are(const struct array *a, double number) {
    for (size_t i = 0; i < a->count; i++) {
        double x;
        array_to_double(&x, a, i, 1);
        if (x != number) return false;
    }
    return true;
}

bool linear_is_nothing(const struct graph *g, int node) {
    const struct node *n = &g->nodes[node];
    if (is_op(n, "Identity")) return true;
    if (is_op(n, "LeakyRelu")) return node_real(n, "alpha", 0.01) == 1;
    if (is_op(n, "PRelu")) return g->values[n->inputs[1]].constant && all_are(g->values[n->inputs[1]].constant, 1);
    struct err e = {0};
    if (is_op(n, "BatchNormalization") || check_binary(g, n, &e)) return false;
    int k = constant_operand(g, n);
    bool sum = is_op(n, "Add") || (is_op(n, "Sub") && k == 1);
    if (is_op(n, "Sub") && k == 0) return false;
    return all_are(g->values[n->inputs[k]].constant, sum ? 0 : 1);
}

/* fold_merger.c - two layers become one, and training goes on in them: engine/nn/merger.h. */
#include <string.h>

#include "base/memory.h"
#include "engine/nn/op.h"
#include "engine/nn/origin.h"
#include "engine/surgery/fold.h"

/* Weights that no scale stands before, and a bias along one axis, for each channel. */
static bool is_followed(const struct graph *g, const struct linear *l) {
    const struct node *n = &g->nodes[l->node];
    if (l->kind == LINEAR_TRANSPOSED || node_real(n, "alpha", 1) != 1 || node_real(n, "beta", 1) != 1) return false;
    const struct shape *bias = l->has_bias ? &g->values[n->inputs[2]].constant->shape : NULL;
    return !bias || (bias->rank == 1 && bias->dim[0] == l->out);
}

/* A copy of the numbers, and what is kept of their training. */
static int take_parameter(struct merger *m, int k, struct graph *g, int value, struct err *e) {
    int status = array_clone(&m->factor[k], g->values[value].constant, e);
    return status ? status : origin_begin(&m->origin[k], g, value, e);
}

static int take_layer(struct merger *m, int k, struct graph *g, const struct linear *l, struct err *e) {
    int inputs[2] = {g->nodes[l->node].inputs[1], l->has_bias ? g->nodes[l->node].inputs[2] : VALUE_NONE};
    int status = take_parameter(m, k, g, inputs[0], e);
    return status || inputs[1] == VALUE_NONE ? status : take_parameter(m, k + 1, g, inputs[1], e);
}

static bool is_kept(const struct merger *m) {
    bool kept = false;
    for (int k = 0; k < MERGER_FACTORS; k++) kept = kept || m->origin[k];
    return kept && merger_depth(m) <= MERGER_DEEPEST;
}

static int make_plan(struct merger *m, const struct linear *a, const struct linear *b, const struct fold_meeting *how,
                     struct err *e) {
    struct shape shape = {.rank = 1, .dim = {MERGER_NUMBERS}};
    int status = array_new(&m->plan, DT_FLOAT64, &shape, e);
    if (status) return status;
    double *number = m->plan->data;
    number[MERGER_IS_SUM] = how->sum;
    number[MERGER_GROUPS] = (double)how->groups;
    number[MERGER_COLUMNS] = number[MERGER_COLUMNS + 1] = a->columns;
    number[MERGER_COLUMNS + 2] = b && b->columns;
    for (int k = 0; k < 4; k++) {
        number[MERGER_STEP + k] = (double)how->step[k / 2][k % 2];
        number[MERGER_START + k] = (double)how->start[k / 2][k % 2];
    }
    return 0;
}

/* What is kept of the two; NULL when nothing is, or a merger cannot say how they meet. */
static int bequeath(struct merger **out, struct graph *g, const struct linear *a, const struct linear *b,
                    const struct fold_meeting *how, struct err *e) {
    *out = NULL;
    if (g->training.rule < 0 || !is_followed(g, a) || (b && !is_followed(g, b))) return 0;
    struct merger *m = mem_calloc(1, sizeof *m);
    if (!m) return err_memory(e, sizeof *m);
    int status = make_plan(m, a, b, how, e);
    if (!status) status = take_layer(m, FACTOR_A, g, a, e);
    if (!status && b) status = take_layer(m, FACTOR_B, g, b, e);
    if (!status && is_kept(m)) {
        *out = m;
        return 0;
    }
    merger_free(m);
    return status;
}

/* Takes the merger. */
static int inherit(struct graph *g, int weights, struct merger *m, struct err *e) {
    struct origin *o = mem_calloc(1, sizeof *o);
    if (!o) {
        merger_free(m);
        return err_memory(e, sizeof *o);
    }
    o->merger = m;
    return origin_end(g, weights, o, 0, NULL, e);
}

int fold_write(struct graph *g, const struct linear *merged, const struct edit_window *window, const struct linear *a,
               const struct linear *b, const struct fold_meeting *how, struct err *e) {
    struct merger *m;
    int status = bequeath(&m, g, a, b, how, e);
    if (status) return status;
    status = linear_write(g, merged, e);
    if (!status && merged->axes) status = edit_set_window(g, merged->node, merged->axes, merged->kernel, window, e);
    if (!status && m) return inherit(g, g->nodes[merged->node].inputs[1], m, e);
    merger_free(m);
    return status;
}

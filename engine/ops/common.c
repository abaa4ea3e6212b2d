/* common.c - see common.h. */
#include "engine/ops/common.h"

#include <string.h>

int infer_same(struct inference *i, struct err *e) {
    (void)e;
    i->out[0].shape = i->in[0]->shape;
    return 0;
}

int axis_check(int *out, int64_t axis, int rank, struct err *e) {
    if (axis < -rank || axis >= rank)
        return err_set(e, E_INVALID, "axis %lld of data of rank %d", (long long)axis, rank);
    *out = (int)(axis < 0 ? axis + rank : axis);
    return 0;
}

size_t shape_span(const struct shape *s, int from, int to) {
    size_t n = 1;
    for (int d = from; d < to; d++) n *= (size_t)s->dim[d];
    return n;
}

int shape_broadcast(struct shape *out, const struct shape *b, struct err *e) {
    struct shape a = *out;
    int rank = a.rank > b->rank ? a.rank : b->rank;
    out->rank = rank;
    for (int d = 1; d <= rank; d++) {
        int64_t x = d <= a.rank ? a.dim[a.rank - d] : 1, y = d <= b->rank ? b->dim[b->rank - d] : 1;
        if (x != y && x != 1 && y != 1) {
            char left[96], right[96];
            shape_print(left, sizeof left, &a);
            shape_print(right, sizeof right, b);
            return err_set(e, E_INVALID, "the shapes %s and %s do not go together", left, right);
        }
        out->dim[rank - d] = x == 1 ? y : x;
    }
    return 0;
}

int plan_table(void **out, struct plan *p, size_t bytes, struct err *e) {
    real *memory;
    int status = plan_memory(&memory, p, bytes / sizeof(real) + 1, e);
    if (!status) *out = memory;
    return status;
}

/* ---- gradients ---- */

static bool is_parameter(const struct call *c, int k) {
    return c->node && c->graph->values[c->node->inputs[k]].constant != NULL;
}

int target_plan(struct target *t, const struct call *c, int k, struct plan *p, struct err *e) {
    t->gathers = c->d_in[k] && is_parameter(c, k);
    return t->gathers ? plan_gathering(&t->gathering, p, c->in[k]->row, e) : 0;
}

real *target_open(const struct target *t, const struct call *c, int k, const struct part *p, bool whole, bool *add) {
    real *at = t->gathers ? t->gathering.slots + (size_t)p->index * t->gathering.size : tensor_at(c->d_in[k], p);
    *add = c->add[k] && !t->gathers;
    if (!*add && !whole) memset(at, 0, tensor_count(c->d_in[k], p) * sizeof(real));
    *add |= !whole;
    return at;
}

void target_finish(const struct target *t, const struct call *c, int k) {
    if (t->gathers) gathering_sum(&t->gathering, c->lanes, 0, c->in[k]->row, c->d_in[k]->base, c->add[k]);
}

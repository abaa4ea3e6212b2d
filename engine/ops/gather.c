/* gather.c - Gather: slices of the data picked by indices along an axis; the rows of an embedding. */
#include <string.h>

#include "engine/kernels/loops.h"
#include "engine/ops/common.h"
#include "engine/ops/fold.h"

enum { DATA, INDICES };

struct gather_state {
    size_t n, inner; /* size of the axis; elements of one slice */
    struct target target;
};

static int check_constant(const struct array *indices, int64_t n, struct err *e) {
    for (size_t k = 0; k < indices->count; k++) {
        int64_t index = array_int(indices, k);
        if (index < -n || index >= n)
            return err_set(e, E_INVALID, "the index %lld along an axis of %lld", (long long)index, (long long)n);
    }
    return 0;
}

static int fold(struct inference *i, int axis, struct err *e) {
    const struct array *x = i->in[DATA]->constant, *indices = i->in[INDICES]->constant;
    size_t size = dtype_size(x->type), outer = shape_span(&x->shape, 0, axis), n = (size_t)x->shape.dim[axis];
    size_t inner = shape_span(&x->shape, axis + 1, x->shape.rank) * size;
    struct array *y;
    int status = array_new(&i->folded[0], x->type, &i->out[0].shape, e);
    if (status) return status;
    y = i->folded[0];
    for (size_t o = 0; o < outer; o++)
        for (size_t k = 0; k < indices->count; k++) {
            int64_t index = array_int(indices, k);
            size_t from = o * n + (size_t)(index < 0 ? index + (int64_t)n : index);
            memcpy((char *)y->data + (o * indices->count + k) * inner, (const char *)x->data + from * inner, inner);
        }
    return 0;
}

static int gather_infer(struct inference *i, struct err *e) {
    const struct shape *x = &i->in[DATA]->shape, *indices = &i->in[INDICES]->shape;
    struct shape *y = &i->out[0].shape;
    int axis, status = axis_check(&axis, node_int(i->node, "axis", 0), x->rank, e);
    if (status) return status;
    if (x->rank - 1 + indices->rank > SHAPE_MAX_RANK)
        return err_set(e, E_UNSUPPORTED, "the result has more than %d axes", SHAPE_MAX_RANK);
    if (i->in[INDICES]->constant && (status = check_constant(i->in[INDICES]->constant, x->dim[axis], e))) return status;
    y->rank = 0;
    for (int d = 0; d < axis; d++) y->dim[y->rank++] = x->dim[d];
    for (int d = 0; d < indices->rank; d++) y->dim[y->rank++] = indices->dim[d];
    for (int d = axis + 1; d < x->rank; d++) y->dim[y->rank++] = x->dim[d];
    i->mixes = axis == 0 && !i->in[DATA]->constant;
    size_t count;
    status = shape_count(&count, y, e);
    return status || !folds(i) ? status : fold(i, axis, e);
}

/* What is out of range is moved to the nearest end: reading outside is never possible. */
static size_t index_at(const real *indices, size_t k, size_t n) {
    real index = indices[k] < 0 ? indices[k] + (real)n : indices[k];
    return index >= (real)n ? n - 1 : index > 0 ? (size_t)index : 0;
}

static void gather_forward(const struct call *c, const struct part *p) {
    const struct gather_state *s = c->state;
    const real *x = tensor_at(c->in[DATA], p), *indices = tensor_at(c->in[INDICES], p);
    real *y = tensor_at(c->out[0], p);
    size_t outer = tensor_count(c->in[DATA], p) / (s->n * s->inner), m = tensor_count(c->in[INDICES], p);
    for (size_t o = 0; o < outer; o++)
        for (size_t k = 0; k < m; k++, y += s->inner)
            memcpy(y, x + (o * s->n + index_at(indices, k, s->n)) * s->inner, s->inner * sizeof(real));
}

static void gather_backward(const struct call *c, const struct part *p) {
    const struct gather_state *s = c->state;
    const real *dy = tensor_at(c->d_out[0], p), *indices = tensor_at(c->in[INDICES], p);
    size_t outer = tensor_count(c->in[DATA], p) / (s->n * s->inner), m = tensor_count(c->in[INDICES], p);
    bool add;
    if (c->d_in[INDICES] && !c->add[INDICES])
        memset(tensor_at(c->d_in[INDICES], p), 0, tensor_count(c->d_in[INDICES], p) * sizeof(real));
    if (!c->d_in[DATA]) return;
    real *dx = target_open(&s->target, c, DATA, p, false, &add);
    for (size_t o = 0; o < outer; o++)
        for (size_t k = 0; k < m; k++, dy += s->inner)
            loop_add(dx + (o * s->n + index_at(indices, k, s->n)) * s->inner, dy, s->inner);
}

static void gather_finish(const struct call *c, const struct part *p) {
    const struct gather_state *s = c->state;
    (void)p;
    target_finish(&s->target, c, DATA);
}

static int gather_plan(struct call *c, struct plan *p, struct err *e) {
    struct gather_state *s = c->state;
    const struct shape *x = &c->in[DATA]->shape;
    int axis, status = axis_check(&axis, node_int(c->node, "axis", 0), x->rank, e);
    if (status) return status;
    s->n = (size_t)x->dim[axis];
    s->inner = shape_span(x, axis + 1, x->rank);
    if (c->out[0]->row == 0) return 0;
    if (s->n == 0) return err_set(e, E_INVALID, "picks from an axis of size 0");
    status = plan_lanes(p, PHASE_FORWARD, gather_forward, false, e);
    if (status || !c->d_out[0]) return status;
    status = target_plan(&s->target, c, DATA, p, e);
    if (!status) status = plan_lanes(p, PHASE_BACKWARD, gather_backward, false, e);
    return status || !s->target.gathers ? status : plan_units(p, PHASE_FINISH, gather_finish, 1, e);
}

static const struct op_sample samples[] = {
    {"*7x3 #7:2x4", "", "an embedding"},
    {"!2x5x3 =0,-1,0", "axis=1", "constant indices, one twice"},
    {"!2x5 #2:2x3", "axis=0", "samples"},
    {NULL, NULL, NULL},
};

const struct op op_Gather = {
    .name = "Gather",
    .help = "y = slices of x along an axis, picked by indices",
    .min_inputs = 2,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "axis",
    .layout = WISH_PLAIN,
    .keeps = KEEP_INPUT(INDICES),
    .parameters = 1u << DATA,
    .state_size = sizeof(struct gather_state),
    .infer = gather_infer,
    .plan = gather_plan,
    .samples = samples,
};

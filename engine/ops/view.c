/* view.c - operators that keep the elements in their order: Flatten, Identity, Reshape, Squeeze,
 * Unsqueeze. They cost nothing: the planner lets both values share their memory. */
#include <string.h>

#include "engine/kernels/loops.h"
#include "engine/ops/common.h"
#include "engine/ops/fold.h"

/* ---- shapes ---- */

static int fold_view(struct inference *i, struct err *e) {
    return folds(i) ? fold_copy(i, e) : 0;
}

static int identity_infer(struct inference *i, struct err *e) {
    int status = infer_same(i, e);
    return status ? status : fold_view(i, e);
}

static int flatten_infer(struct inference *i, struct err *e) {
    const struct shape *x = &i->in[0]->shape;
    int64_t axis = node_int(i->node, "axis", 1);
    if (axis < -x->rank || axis > x->rank)
        return err_set(e, E_INVALID, "axis %lld of data of rank %d", (long long)axis, x->rank);
    int at = (int)(axis < 0 ? axis + x->rank : axis);
    i->out[0].shape = (struct shape){2, {(int64_t)shape_span(x, 0, at), (int64_t)shape_span(x, at, x->rank)}};
    return fold_view(i, e);
}

/* ONNX: 0 keeps the dimension (unless allowzero), -1 is whatever is left. */
static int reshape_infer(struct inference *i, struct err *e) {
    const struct shape *x = &i->in[0]->shape;
    struct shape *y = &i->out[0].shape;
    bool zeros = node_int(i->node, "allowzero", 0) != 0;
    int64_t count = (int64_t)shape_span(x, 0, x->rank), known = 1;
    int open = -1, status = fold_ints(y->dim, &y->rank, SHAPE_MAX_RANK, i, 1, "the shape", e);
    if (status) return status;
    for (int d = 0; d < y->rank; d++) {
        if (y->dim[d] == 0 && !zeros) y->dim[d] = d < x->rank ? x->dim[d] : 0;
        if (y->dim[d] < -1 || (y->dim[d] == -1 && open >= 0))
            return err_set(e, E_INVALID, "the shape has the dimension %lld, or more than one -1", (long long)y->dim[d]);
        if (y->dim[d] == -1)
            open = d;
        else if (__builtin_mul_overflow(known, y->dim[d], &known))
            return err_set(e, E_INVALID, "the shape has more elements than there are addresses");
    }
    if (open >= 0) y->dim[open] = known > 0 ? count / known : 0;
    if ((open >= 0 ? known * y->dim[open] : known) != count) {
        char from[96], to[96];
        shape_print(from, sizeof from, x);
        if (open >= 0) y->dim[open] = -1;
        shape_print(to, sizeof to, y);
        return err_set(e, E_INVALID, "%s cannot become %s: the numbers of elements differ", from, to);
    }
    return fold_view(i, e);
}

/* Marks the axes that are listed. */
static int mark_axes(bool *marked, const int64_t *axes, int n, int rank, struct err *e) {
    for (int k = 0; k < n; k++) {
        int axis, status = axis_check(&axis, axes[k], rank, e);
        if (status) return status;
        if (marked[axis]) return err_set(e, E_INVALID, "axis %d comes twice", axis);
        marked[axis] = true;
    }
    return 0;
}

static int squeeze_infer(struct inference *i, struct err *e) {
    const struct shape *x = &i->in[0]->shape;
    int64_t axes[SHAPE_MAX_RANK];
    bool given, marked[SHAPE_MAX_RANK] = {false};
    int n, status = fold_setting(axes, &n, &given, SHAPE_MAX_RANK, i, "axes", 1, e);
    if (!status) status = mark_axes(marked, axes, n, x->rank, e);
    if (status) return status;
    struct shape *y = &i->out[0].shape;
    y->rank = 0;
    for (int d = 0; d < x->rank; d++) {
        bool goes = given ? marked[d] : x->dim[d] == 1;
        if (goes && x->dim[d] != 1)
            return err_set(e, E_INVALID, "axis %d has the size %lld, not 1", d, (long long)x->dim[d]);
        if (!goes) y->dim[y->rank++] = x->dim[d];
    }
    return fold_view(i, e);
}

static int unsqueeze_infer(struct inference *i, struct err *e) {
    const struct shape *x = &i->in[0]->shape;
    int64_t axes[SHAPE_MAX_RANK];
    bool given, marked[SHAPE_MAX_RANK] = {false};
    int n, from = 0, status = fold_setting(axes, &n, &given, SHAPE_MAX_RANK, i, "axes", 1, e);
    if (status) return status;
    if (x->rank + n > SHAPE_MAX_RANK)
        return err_set(e, E_UNSUPPORTED, "makes data of rank %d; retort goes to %d", x->rank + n, SHAPE_MAX_RANK);
    status = mark_axes(marked, axes, n, x->rank + n, e);
    struct shape *y = &i->out[0].shape;
    y->rank = x->rank + n;
    for (int d = 0; d < y->rank && !status; d++) y->dim[d] = marked[d] ? 1 : x->dim[from++];
    return status ? status : fold_view(i, e);
}

/* ---- copies: of parameters, which no other value may share ---- */

struct view_state {
    struct target target;
};

static void view_forward(const struct call *c, const struct part *p) {
    memcpy(tensor_at(c->out[0], p), tensor_at(c->in[0], p), tensor_count(c->out[0], p) * sizeof(real));
}

static void view_backward(const struct call *c, const struct part *p) {
    const struct view_state *s = c->state;
    bool add;
    real *dx = target_open(&s->target, c, 0, p, true, &add);
    loop_give(dx, tensor_at(c->d_out[0], p), tensor_count(c->d_out[0], p), add);
}

static void view_finish(const struct call *c, const struct part *p) {
    const struct view_state *s = c->state;
    (void)p;
    target_finish(&s->target, c, 0);
}

static int view_plan(struct call *c, struct plan *p, struct err *e) {
    struct view_state *s = c->state;
    int status = plan_lanes(p, PHASE_FORWARD, view_forward, false, e);
    if (status || !c->d_in[0]) return status;
    status = target_plan(&s->target, c, 0, p, e);
    if (!status) status = plan_lanes(p, PHASE_BACKWARD, view_backward, false, e);
    return status || !s->target.gathers ? status : plan_units(p, PHASE_FINISH, view_finish, 1, e);
}

/* ---- records ---- */

static const struct op_sample identity_samples[] = {{"2x3x4", "", ""}, {NULL, NULL, NULL}};
static const struct op_sample flatten_samples[] = {
    {"2x3x4x2", "", "rows"}, {"2x3x4", "axis=2", "later"}, {"2x3x4", "axis=-1", "from the end"}, {NULL, NULL, NULL}};
static const struct op_sample reshape_samples[] = {{"2x3x4 =-1,12", "", "rows"},
                                                   {"2x3x4 =0,4,-1", "", "kept and open"},
                                                   {"2x6 =-1,2", "", "more rows"},
                                                   {NULL, NULL, NULL}};
static const struct op_sample squeeze_samples[] = {
    {"2x1x4x1 =1,-1", "", "axes given"}, {"2x1x4x1", "", "all"}, {NULL, NULL, NULL}};
static const struct op_sample unsqueeze_samples[] = {
    {"2x4 =1,-1", "", "axes as an input"}, {"2x4", "axes=1 opset=11", "axes as an attribute"}, {NULL, NULL, NULL}};

#define VIEW(name_, help_, most_inputs, attributes_, layout_, infer_, samples_) \
    const struct op op_##name_ = { \
        .name = #name_, \
        .help = help_, \
        .min_inputs = 1, \
        .max_inputs = most_inputs, \
        .min_outputs = 1, \
        .max_outputs = 1, \
        .attributes = attributes_, \
        .layout = layout_, \
        .traits = OP_VIEW, \
        .state_size = sizeof(struct view_state), \
        .infer = infer_, \
        .plan = view_plan, \
        .samples = samples_, \
    };

VIEW(Identity, "y = x", 1, NULL, WISH_ANY, identity_infer, identity_samples)
VIEW(Flatten, "y = x as rows of one sample each", 1, "axis", WISH_PLAIN, flatten_infer, flatten_samples)
VIEW(Reshape, "y = x in another shape", 2, "allowzero", WISH_PLAIN, reshape_infer, reshape_samples)
VIEW(Squeeze, "y = x without axes of size 1", 2, "axes", WISH_PLAIN, squeeze_infer, squeeze_samples)
VIEW(Unsqueeze, "y = x with new axes of size 1", 2, "axes", WISH_PLAIN, unsqueeze_infer, unsqueeze_samples)

/* concat.c - Concat: values side by side along an axis. */
#include "engine/ops/common.h"
#include "engine/ops/moves.h"

static int concat_moves(struct moving *m, struct err *e) {
    const struct inference *i = m->i;
    int axis;
    int status = axis_check(&axis, node_int(i->node, "axis", 1), i->in[0]->shape.rank, e);
    if (status) return status;
    struct path path = {.out = 0};
    for (int k = 0; k < i->n_in; k++) {
        path.in = k;
        path.over = i->in[k]->shape;
        moving_in_steps(m, k, path.from_step);
        moving_out_steps(m, 0, path.to_step);
        moving_add(m, &path);
        path.to += path.to_step[axis] * (ptrdiff_t)path.over.dim[axis];
    }
    return 0;
}

static int concat_infer(struct inference *i, struct err *e) {
    struct shape *y = &i->out[0].shape;
    int axis;
    *y = i->in[0]->shape;
    int status = axis_check(&axis, node_int(i->node, "axis", 1), y->rank, e);
    for (int k = 1; k < i->n_in && !status; k++) {
        if (!i->in[k]) return err_set(e, E_INVALID, "input %d is left out", k);
        struct shape expected = i->in[k]->shape;
        if (expected.rank == y->rank) expected.dim[axis] = y->dim[axis];
        if (!shape_equal(&expected, y)) {
            char left[96], right[96];
            shape_print(left, sizeof left, &i->in[0]->shape);
            shape_print(right, sizeof right, &i->in[k]->shape);
            return err_set(e, E_INVALID, "the shapes %s and %s differ beside axis %d", left, right, axis);
        }
        y->dim[axis] += i->in[k]->shape.dim[axis];
    }
    if (status) return status;
    i->mixes = axis == 0;
    return moves_fold(i, concat_moves, e);
}

static int concat_plan(struct call *c, struct plan *p, struct err *e) {
    return moves_plan(c, p, concat_moves, e);
}

static const struct op_sample samples[] = {
    {"2x3x4x5 2x2x4x5 2x1x4x5", "axis=1", "channels"},
    {"2x3x4 2x3x2", "axis=-1", "columns"},
    {"2x3 3x3", "axis=0", "samples"},
    {NULL, NULL, NULL},
};

const struct op op_Concat = {
    .name = "Concat",
    .help = "y = the inputs side by side along an axis",
    .min_inputs = 1,
    .max_inputs = NODE_MAX_INPUTS,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "axis",
    .layout = WISH_ANY,
    .parameters = ~0u,
    .state_size = sizeof(struct moves_state),
    .infer = concat_infer,
    .plan = concat_plan,
    .samples = samples,
};

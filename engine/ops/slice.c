/* slice.c - Slice and Split: parts of a value along its axes. */
#include <string.h>

#include "engine/ops/common.h"
#include "engine/ops/fold.h"
#include "engine/ops/moves.h"

/* ---- Slice ---- */

struct range {
    int64_t start, step, count;
};

static int64_t bounded(int64_t x, int64_t low, int64_t high) {
    return x < low ? low : x > high ? high : x;
}

/* As numpy: negative positions count from the end, what lies outside is cut. */
static struct range range_of(int64_t size, int64_t start, int64_t end, int64_t step) {
    struct range r = {.step = step};
    if (start < 0) start = start < -size ? -1 : start + size;
    if (end < 0) end = end < -size ? -1 : end + size;
    if (step > 0) {
        r.start = bounded(start, 0, size);
        end = bounded(end, 0, size);
        r.count = end > r.start ? (end - r.start - 1) / step + 1 : 0;
    } else {
        r.start = bounded(start, -1, size - 1);
        end = bounded(end, -1, size - 1);
        r.count = r.start > end ? (r.start - end - 1) / -step + 1 : 0;
    }
    return r;
}

static int slice_ranges(struct range *r, const struct inference *i, struct err *e) {
    const struct shape *x = &i->in[0]->shape;
    int64_t starts[SHAPE_MAX_RANK], ends[SHAPE_MAX_RANK], axes[SHAPE_MAX_RANK], steps[SHAPE_MAX_RANK];
    int n, n_ends, n_axes, n_steps;
    bool given;
    for (int d = 0; d < x->rank; d++) r[d] = (struct range){0, 1, x->dim[d]};
    int status = fold_setting(starts, &n, &given, SHAPE_MAX_RANK, i, "starts", 1, e);
    if (!status) status = fold_setting(ends, &n_ends, &given, SHAPE_MAX_RANK, i, "ends", 2, e);
    if (!status) status = fold_setting(axes, &n_axes, &given, SHAPE_MAX_RANK, i, "axes", 3, e);
    if (!status) status = fold_setting(steps, &n_steps, &given, SHAPE_MAX_RANK, i, "steps", 4, e);
    if (status) return status;
    if (n_ends != n || (n_axes && n_axes != n) || (n_steps && n_steps != n))
        return err_set(e, E_INVALID, "%d starts, %d ends, %d axes, %d steps", n, n_ends, n_axes, n_steps);
    for (int k = 0; k < n; k++) {
        int axis;
        status = axis_check(&axis, n_axes ? axes[k] : k, x->rank, e);
        if (status) return status;
        if (n_steps && (steps[k] == 0 || steps[k] == INT64_MIN))
            return err_set(e, E_INVALID, "a step of %lld", (long long)steps[k]);
        r[axis] = range_of(x->dim[axis], starts[k], ends[k], n_steps ? steps[k] : 1);
    }
    return 0;
}

static int slice_moves(struct moving *m, struct err *e) {
    struct range r[SHAPE_MAX_RANK];
    ptrdiff_t step[SHAPE_MAX_RANK];
    struct path path = {.over = m->i->out[0].shape};
    int status = slice_ranges(r, m->i, e);
    if (status) return status;
    moving_in_steps(m, 0, step);
    moving_out_steps(m, 0, path.to_step);
    for (int d = 0; d < path.over.rank; d++) {
        if (r[d].count == 0) return 0;
        path.from += step[d] * (ptrdiff_t)r[d].start;
        path.from_step[d] = step[d] * (ptrdiff_t)r[d].step;
    }
    moving_add(m, &path);
    return 0;
}

static int slice_infer(struct inference *i, struct err *e) {
    struct range r[SHAPE_MAX_RANK];
    struct shape *y = &i->out[0].shape;
    *y = i->in[0]->shape;
    int status = slice_ranges(r, i, e);
    if (status) return status;
    for (int d = 0; d < y->rank; d++) y->dim[d] = r[d].count;
    i->mixes = y->rank > 0 && (r[0].count != i->in[0]->shape.dim[0] || r[0].step != 1);
    return moves_fold(i, slice_moves, e);
}

static int slice_plan(struct call *c, struct plan *p, struct err *e) {
    return moves_plan(c, p, slice_moves, e);
}

static const struct op_sample slice_samples[] = {
    {"2x5x6 =1,2 =4,6 =1,2", "", "two axes"},
    {"2x5x6x3 =-1 =-4 =1 =-2", "", "backwards"},
    {"2x5x6 =0 =9223372036854775807 =2 =2", "", "every other"},
    {"2x5x6", "starts=1 ends=-1 axes=2 opset=9", "as attributes"},
    {"4x5 =1 =3 =0", "", "some samples"},
    {NULL, NULL, NULL},
};

const struct op op_Slice = {
    .name = "Slice",
    .help = "y = x from start to end, by step, along some axes",
    .min_inputs = 1,
    .max_inputs = 5,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "starts ends axes",
    .layout = WISH_ANY,
    .state_size = sizeof(struct moves_state),
    .infer = slice_infer,
    .plan = slice_plan,
    .samples = slice_samples,
};

/* ---- Split ---- */

/* Sizes of the parts: given, or equal but for the last. */
static int split_sizes(int64_t *size, int64_t total, const struct inference *i, struct err *e) {
    int n;
    bool given;
    int status = fold_setting(size, &n, &given, i->n_out, i, "split", 1, e);
    if (status) return status;
    int64_t each = (total + i->n_out - 1) / i->n_out, sum = 0;
    for (int k = 0; !n && k < i->n_out; k++) size[k] = bounded(total - each * k, 0, each);
    if (n && n != i->n_out) return err_set(e, E_INVALID, "%d sizes for %d outputs", n, i->n_out);
    for (int k = 0; k < i->n_out; k++) {
        if (size[k] < 0 || size[k] > total) return err_set(e, E_INVALID, "a part of size %lld", (long long)size[k]);
        sum += size[k];
    }
    return sum == total ? 0 : err_set(e, E_INVALID, "the parts make up %lld of %lld", (long long)sum, (long long)total);
}

enum { PARTS_MOST = 256 };

static int split_axis(int *axis, int64_t *size, const struct inference *i, struct err *e) {
    if (i->n_out > PARTS_MOST) return err_set(e, E_TOO_LARGE, "%d parts; at most %d are made", i->n_out, PARTS_MOST);
    int status = axis_check(axis, node_int(i->node, "axis", 0), i->in[0]->shape.rank, e);
    return status ? status : split_sizes(size, i->in[0]->shape.dim[*axis], i, e);
}

static int split_moves(struct moving *m, struct err *e) {
    int64_t size[PARTS_MOST];
    struct path path = {.over = m->i->in[0]->shape};
    int axis, status = split_axis(&axis, size, m->i, e);
    if (status) return status;
    moving_in_steps(m, 0, path.from_step);
    for (int k = 0; k < m->i->n_out; k++) {
        path.out = k;
        path.over.dim[axis] = size[k];
        moving_out_steps(m, k, path.to_step);
        moving_add(m, &path);
        path.from += path.from_step[axis] * (ptrdiff_t)size[k];
    }
    return 0;
}

static int split_infer(struct inference *i, struct err *e) {
    int64_t size[PARTS_MOST];
    int axis, status = split_axis(&axis, size, i, e);
    if (status) return status;
    for (int k = 0; k < i->n_out; k++) {
        i->out[k].shape = i->in[0]->shape;
        i->out[k].shape.dim[axis] = size[k];
    }
    i->mixes = axis == 0;
    return moves_fold(i, split_moves, e);
}

static int split_plan(struct call *c, struct plan *p, struct err *e) {
    return moves_plan(c, p, split_moves, e);
}

static const struct op_sample split_samples[] = {
    {"2x6x3x2 =1,5", "axis=1 outputs=2", "sizes as an input"},
    {"2x6x3", "axis=-2 outputs=3", "equal parts"},
    {"2x5x3", "axis=1 outputs=2 num_outputs=2 opset=18", "the last one smaller"},
    {"2x5x3", "axis=1 split=2,3 outputs=2 opset=11", "sizes as an attribute"},
    {NULL, NULL, NULL},
};

const struct op op_Split = {
    .name = "Split",
    .help = "y1, y2, ... = parts of x along an axis",
    .min_inputs = 1,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = PARTS_MOST,
    .attributes = "axis split num_outputs",
    .layout = WISH_ANY,
    .state_size = sizeof(struct moves_state),
    .infer = split_infer,
    .plan = split_plan,
    .samples = split_samples,
};

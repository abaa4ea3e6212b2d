/* expand.c - Expand and Tile: values repeated along axes. */
#include "engine/ops/common.h"
#include "engine/ops/fold.h"
#include "engine/ops/moves.h"

/* ---- Expand ---- */

static int expand_moves(struct moving *m, struct err *e) {
    (void)e;
    const struct shape *x = &m->i->in[0]->shape;
    struct path path = {.over = m->i->out[0].shape};
    ptrdiff_t step[SHAPE_MAX_RANK];
    moving_in_steps(m, 0, step);
    moving_out_steps(m, 0, path.to_step);
    for (int d = 0; d < x->rank; d++)
        if (x->dim[d] != 1) path.from_step[d + path.over.rank - x->rank] = step[d];
    moving_add(m, &path);
    return 0;
}

static int expand_infer(struct inference *i, struct err *e) {
    struct shape wanted, *y = &i->out[0].shape;
    size_t count;
    int status = fold_ints(wanted.dim, &wanted.rank, SHAPE_MAX_RANK, i, 1, "the shape", e);
    for (int d = 0; d < wanted.rank && !status; d++)
        if (wanted.dim[d] < 0)
            return err_set(e, E_INVALID, "the shape has the dimension %lld", (long long)wanted.dim[d]);
    *y = i->in[0]->shape;
    if (!status) status = shape_broadcast(y, &wanted, e);
    if (!status) status = shape_count(&count, y, e);
    return status ? status : moves_fold(i, expand_moves, e);
}

static int expand_plan(struct call *c, struct plan *p, struct err *e) {
    return moves_plan(c, p, expand_moves, e);
}

static const struct op_sample expand_samples[] = {
    {"2x1x3 =1,4,1", "", "along an axis"}, {"*1x3 =4,3", "", "a parameter for every sample"}, {NULL, NULL, NULL}};

const struct op op_Expand = {
    .name = "Expand",
    .help = "y = x repeated along axes of size 1",
    .min_inputs = 2,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .layout = WISH_PLAIN,
    .parameters = 1,
    .state_size = sizeof(struct moves_state),
    .infer = expand_infer,
    .plan = expand_plan,
    .samples = expand_samples,
};

/* ---- Tile ---- */

static int read_repeats(int64_t *repeats, const struct inference *i, struct err *e) {
    int n, axes = i->in[0]->shape.rank, status = fold_ints(repeats, &n, SHAPE_MAX_RANK, i, 1, "repeats", e);
    if (status) return status;
    if (n != i->in[0]->shape.rank)
        return err_set(e, E_INVALID, "%d repeats for data of rank %d", n, i->in[0]->shape.rank);
    for (int d = 0; d < n; d++) {
        if (repeats[d] < 0) return err_set(e, E_INVALID, "%lld repeats", (long long)repeats[d]);
        axes += repeats[d] != 1;
    }
    return axes <= SHAPE_MAX_RANK
               ? 0
               : err_set(e, E_UNSUPPORTED, "rank and repeated axes together are more than %d", SHAPE_MAX_RANK);
}

/* An axis that is repeated becomes two: the repeats, and itself. */
static int tile_moves(struct moving *m, struct err *e) {
    const struct shape *x = &m->i->in[0]->shape;
    int64_t repeats[SHAPE_MAX_RANK];
    ptrdiff_t in[SHAPE_MAX_RANK], out[SHAPE_MAX_RANK];
    struct path path = {.over = {.rank = 0}};
    int status = read_repeats(repeats, m->i, e);
    if (status) return status;
    moving_in_steps(m, 0, in);
    moving_out_steps(m, 0, out);
    for (int d = 0; d < x->rank; d++) {
        int k = path.over.rank;
        if (repeats[d] != 1) {
            path.over.dim[k] = repeats[d];
            path.from_step[k] = 0;
            path.to_step[k++] = out[d] * (ptrdiff_t)x->dim[d];
        }
        path.over.dim[k] = x->dim[d];
        path.from_step[k] = in[d];
        path.to_step[k] = out[d];
        path.over.rank = k + 1;
    }
    moving_add(m, &path);
    return 0;
}

static int tile_infer(struct inference *i, struct err *e) {
    int64_t repeats[SHAPE_MAX_RANK];
    size_t count;
    struct shape *y = &i->out[0].shape;
    *y = i->in[0]->shape;
    int status = read_repeats(repeats, i, e);
    for (int d = 0; d < y->rank && !status; d++)
        if (__builtin_mul_overflow(y->dim[d], repeats[d], &y->dim[d]))
            status = err_set(e, E_TOO_LARGE, "the result is too large");
    if (!status) status = shape_count(&count, y, e);
    if (status) return status;
    i->mixes = y->rank > 0 && repeats[0] != 1;
    return moves_fold(i, tile_moves, e);
}

static int tile_plan(struct call *c, struct plan *p, struct err *e) {
    return moves_plan(c, p, tile_moves, e);
}

static const struct op_sample tile_samples[] = {
    {"2x3x2 =1,2,3", "", "two axes"}, {"2x3 =2,1", "", "samples"}, {NULL, NULL, NULL}};

const struct op op_Tile = {
    .name = "Tile",
    .help = "y = x, several times over along its axes",
    .min_inputs = 2,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .layout = WISH_PLAIN,
    .state_size = sizeof(struct moves_state),
    .infer = tile_infer,
    .plan = tile_plan,
    .samples = tile_samples,
};

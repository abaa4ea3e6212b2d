/* transpose.c - Transpose, DepthToSpace, SpaceToDepth: the same elements along other axes. */
#include <string.h>

#include "engine/ops/common.h"
#include "engine/ops/moves.h"

/* ---- Transpose ---- */

static int read_order(int *order, const struct inference *i, struct err *e) {
    const struct attribute *perm = node_attribute(i->node, "perm");
    int rank = i->in[0]->shape.rank;
    unsigned seen = 0;
    if (perm && (perm->type != ATTRIBUTE_INTS || perm->count != (size_t)rank))
        return err_set(e, E_INVALID, "perm has %zu numbers for data of rank %d", perm->count, rank);
    for (int d = 0; d < rank; d++) {
        int status = axis_check(&order[d], perm ? perm->integers[d] : rank - 1 - d, rank, e);
        if (status) return status;
        if (seen & 1u << order[d]) return err_set(e, E_INVALID, "perm has the axis %d twice", order[d]);
        seen |= 1u << order[d];
    }
    return 0;
}

static int transpose_moves(struct moving *m, struct err *e) {
    int order[SHAPE_MAX_RANK], status = read_order(order, m->i, e);
    if (status) return status;
    ptrdiff_t step[SHAPE_MAX_RANK];
    struct path path = {.over = m->i->out[0].shape};
    moving_in_steps(m, 0, step);
    moving_out_steps(m, 0, path.to_step);
    for (int d = 0; d < path.over.rank; d++) path.from_step[d] = step[order[d]];
    moving_add(m, &path);
    return 0;
}

static int transpose_infer(struct inference *i, struct err *e) {
    int order[SHAPE_MAX_RANK], status = read_order(order, i, e);
    if (status) return status;
    struct shape *y = &i->out[0].shape;
    y->rank = i->in[0]->shape.rank;
    for (int d = 0; d < y->rank; d++) y->dim[d] = i->in[0]->shape.dim[order[d]];
    i->mixes = y->rank > 0 && order[0] != 0;
    return moves_fold(i, transpose_moves, e);
}

static int transpose_plan(struct call *c, struct plan *p, struct err *e) {
    return moves_plan(c, p, transpose_moves, e);
}

static const struct op_sample transpose_samples[] = {
    {"2x3x4x5", "perm=0,2,1,3", "heads of attention"},
    {"2x3x4", "perm=0,2,1", "columns become rows"},
    {"2x3x4", "", "all axes turned round"},
    {NULL, NULL, NULL},
};

const struct op op_Transpose = {
    .name = "Transpose",
    .help = "y = x with its axes in another order",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "perm",
    .layout = WISH_PLAIN,
    .state_size = sizeof(struct moves_state),
    .infer = transpose_infer,
    .plan = transpose_plan,
    .samples = transpose_samples,
};

/* ---- DepthToSpace, SpaceToDepth ---- */

static int read_block(int64_t *block, const struct inference *i, struct err *e) {
    const struct shape *x = &i->in[0]->shape;
    *block = node_int(i->node, "blocksize", 0);
    if (x->rank != 4) return err_set(e, E_INVALID, "data of rank %d; images have rank 4", x->rank);
    if (*block < 1 || *block > 1024) return err_set(e, E_INVALID, "a blocksize of %lld", (long long)*block);
    return 0;
}

/* Steps of an image whose channels are those of `deep` blocks, by [n, c, row, row in block, column,
 * column in block], as `over` counts them. */
static void deep_steps(ptrdiff_t *out, const ptrdiff_t *step, int64_t block, int64_t channels, bool blocks_first) {
    ptrdiff_t b = (ptrdiff_t)block, c = (ptrdiff_t)channels;
    ptrdiff_t own[] = {step[0], step[1] * (blocks_first ? 1 : b * b), step[2], step[1] * b * (blocks_first ? c : 1),
                       step[3], step[1] * (blocks_first ? c : 1)};
    memcpy(out, own, sizeof own);
}

static void wide_steps(ptrdiff_t *out, const ptrdiff_t *step, int64_t block) {
    ptrdiff_t b = (ptrdiff_t)block, own[] = {step[0], step[1], step[2] * b, step[2], step[3] * b, step[3]};
    memcpy(out, own, sizeof own);
}

static int block_moves(struct moving *m, bool to_space, struct err *e) {
    int64_t b;
    int status = read_block(&b, m->i, e);
    if (status) return status;
    const struct shape *wide = to_space ? &m->i->out[0].shape : &m->i->in[0]->shape;
    struct path path = {.over = {6, {wide->dim[0], wide->dim[1], wide->dim[2] / b, b, wide->dim[3] / b, b}}};
    ptrdiff_t in[SHAPE_MAX_RANK], out[SHAPE_MAX_RANK];
    bool blocks_first = strcmp(node_string(m->i->node, "mode", "DCR"), "CRD") != 0;
    moving_in_steps(m, 0, in);
    moving_out_steps(m, 0, out);
    deep_steps(to_space ? path.from_step : path.to_step, to_space ? in : out, b, wide->dim[1], blocks_first);
    wide_steps(to_space ? path.to_step : path.from_step, to_space ? out : in, b);
    moving_add(m, &path);
    return 0;
}

static int to_space_moves(struct moving *m, struct err *e) {
    return block_moves(m, true, e);
}
static int to_depth_moves(struct moving *m, struct err *e) {
    return block_moves(m, false, e);
}

static int to_space_infer(struct inference *i, struct err *e) {
    int64_t b;
    int status = read_block(&b, i, e);
    if (status) return status;
    const struct shape *x = &i->in[0]->shape;
    if (x->dim[1] % (b * b))
        return err_set(e, E_INVALID, "%lld channels are no blocks of %lld", (long long)x->dim[1], (long long)(b * b));
    i->out[0].shape = (struct shape){4, {x->dim[0], x->dim[1] / (b * b), x->dim[2] * b, x->dim[3] * b}};
    return moves_fold(i, to_space_moves, e);
}

static int to_depth_infer(struct inference *i, struct err *e) {
    int64_t b;
    int status = read_block(&b, i, e);
    if (status) return status;
    const struct shape *x = &i->in[0]->shape;
    if (x->dim[2] % b || x->dim[3] % b)
        return err_set(e, E_INVALID, "the image is not made of blocks of %lld", (long long)b);
    i->out[0].shape = (struct shape){4, {x->dim[0], x->dim[1] * b * b, x->dim[2] / b, x->dim[3] / b}};
    return moves_fold(i, to_depth_moves, e);
}

static int to_space_plan(struct call *c, struct plan *p, struct err *e) {
    return moves_plan(c, p, to_space_moves, e);
}
static int to_depth_plan(struct call *c, struct plan *p, struct err *e) {
    return moves_plan(c, p, to_depth_moves, e);
}

static const struct op_sample to_space_samples[] = {{"2x8x2x3", "blocksize=2", "blocks first"},
                                                    {"2x8x2x3", "blocksize=2 mode=CRD", "channels first"},
                                                    {NULL, NULL, NULL}};
static const struct op_sample to_depth_samples[] = {{"2x3x4x6", "blocksize=2", ""}, {NULL, NULL, NULL}};

const struct op op_DepthToSpace = {
    .name = "DepthToSpace",
    .help = "y = x with blocks of channels laid out as pixels",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "blocksize mode",
    .layout = WISH_PLAIN,
    .state_size = sizeof(struct moves_state),
    .infer = to_space_infer,
    .plan = to_space_plan,
    .samples = to_space_samples,
};

const struct op op_SpaceToDepth = {
    .name = "SpaceToDepth",
    .help = "y = x with blocks of pixels laid out as channels",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "blocksize",
    .layout = WISH_PLAIN,
    .state_size = sizeof(struct moves_state),
    .infer = to_depth_infer,
    .plan = to_depth_plan,
    .samples = to_depth_samples,
};

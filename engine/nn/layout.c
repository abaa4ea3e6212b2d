/* layout.c - copies between ONNX order and channels last. Also carries the gradient of a view
 * whose input has other readers. */
#include <string.h>

#include "engine/nn/plan.h"

enum { TILE = 16 };

/* The part of transpose that starts at (row, column), at most TILE by TILE. */
static inline __attribute__((always_inline)) void transpose_tile(const real *from, real *to, size_t rows,
                                                                 size_t columns, size_t row, size_t column,
                                                                 size_t n_rows, size_t n_columns, bool add) {
    for (size_t c = column; c < column + n_columns; c++)
        for (size_t r = row; r < row + n_rows; r++) {
            real value = from[r * columns + c];
            to[c * rows + r] = add ? to[c * rows + r] + value : value;
        }
}

/* A few rows, their number known to the compiler: images on their way in. */
#define FEW_ROWS(n) \
    case n: transpose_tile(from, to, n, columns, 0, 0, n, columns, add); return;

/* [rows][columns] to [columns][rows]: one sample between the two layouts. In tiles, so that neither
 * side is walked across cache lines for long. */
VECTORISED static void transpose(const real *from, real *to, size_t rows, size_t columns, bool add) {
    switch (rows) {
        FEW_ROWS(2)
        FEW_ROWS(3)
        FEW_ROWS(4)
    }
    size_t whole_rows = rows / TILE * TILE, whole_columns = columns / TILE * TILE;
    for (size_t c = 0; c < whole_columns; c += TILE)
        for (size_t r = 0; r < whole_rows; r += TILE) transpose_tile(from, to, rows, columns, r, c, TILE, TILE, add);
    transpose_tile(from, to, rows, columns, whole_rows, 0, rows - whole_rows, columns, add);
    transpose_tile(from, to, rows, columns, 0, whole_columns, whole_rows, columns - whole_columns, add);
}

static void copy_relaid(const struct tensor *from, const struct tensor *to, bool add, const struct part *p) {
    const real *source = tensor_at(from, p);
    real *target = tensor_at(to, p);
    size_t n = tensor_count(from, p);
    if (from->layout == to->layout) {
        if (!add)
            memcpy(target, source, n * sizeof(real));
        else
            for (size_t i = 0; i < n; i++) target[i] += source[i];
        return;
    }
    if (n == 0) return;
    size_t channels = (size_t)from->shape.dim[1];
    size_t sample = from->row * from->samples / (size_t)from->shape.dim[0];
    size_t rows = from->layout == LAYOUT_PLAIN ? channels : sample / channels;
    for (size_t at = 0; at < n; at += sample) transpose(source + at, target + at, rows, sample / rows, add);
}

static void relayout_forward(const struct call *c, const struct part *p) {
    copy_relaid(c->in[0], c->out[0], false, p);
}

static void relayout_backward(const struct call *c, const struct part *p) {
    copy_relaid(c->d_out[0], c->d_in[0], c->add[0], p);
}

static int relayout_plan(struct call *c, struct plan *p, struct err *e) {
    int status = 0;
    if (c->in[0]->layout != c->out[0]->layout) status = plan_lanes(p, PHASE_FORWARD, relayout_forward, false, e);
    if (!status && c->d_in[0] && c->d_out[0]) status = plan_lanes(p, PHASE_BACKWARD, relayout_backward, false, e);
    return status;
}

const struct op op_relayout = {.name = "(layout)", .layout = WISH_ANY, .plan = relayout_plan};

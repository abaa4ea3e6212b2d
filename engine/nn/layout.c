/* layout.c - copies between ONNX order and channels last. Also carries the gradient of a view
 * whose input has other readers. */
#include <string.h>

#include "engine/nn/plan.h"

/* [channels][plane] to [plane][channels], or back, for one sample. */
VECTORISED static void transpose(const real *from, real *to, size_t rows, size_t columns, bool add) {
    for (size_t c = 0; c < columns; c++)
        for (size_t r = 0; r < rows; r++) to[c * rows + r] = from[r * columns + c] + (add ? to[c * rows + r] : 0);
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

/* pad.c - Pad: a value with borders, of one number or made of the value itself. Negative pads cut. */
#include <string.h>

#include "engine/ops/common.h"
#include "engine/ops/fold.h"
#include "engine/ops/moves.h"

enum mode { MODE_CONSTANT, MODE_EDGE, MODE_REFLECT, MODE_WRAP, MODES };
static const char *const modes[] = {"constant", "edge", "reflect", "wrap"};

struct padding {
    enum mode mode;
    int64_t before[SHAPE_MAX_RANK], after[SHAPE_MAX_RANK];
    double value;
};

static int read_mode(enum mode *out, const struct node *n, struct err *e) {
    const char *name = node_string(n, "mode", "constant");
    for (int k = 0; k < MODES; k++)
        if (strcmp(name, modes[k]) == 0) {
            *out = (enum mode)k;
            return 0;
        }
    return err_set(e, E_UNSUPPORTED, "pads in the mode '%s'", name);
}

static int check_axis(const struct padding *p, int64_t size, int d, struct err *e) {
    int64_t more = p->before[d] > p->after[d] ? p->before[d] : p->after[d], total;
    bool fits =
        !__builtin_add_overflow(size, p->before[d], &total) && !__builtin_add_overflow(total, p->after[d], &total);
    if (!fits || total < 0 || size + p->before[d] < 0 || size + p->after[d] < 0)
        return err_set(e, E_INVALID, "pads of %lld and %lld around %lld", (long long)p->before[d],
                       (long long)p->after[d], (long long)size);
    bool short_of = p->mode == MODE_REFLECT ? more >= size
                    : p->mode == MODE_WRAP  ? more > size
                                            : p->mode == MODE_EDGE && size == 0;
    if (more > 0 && short_of)
        return err_set(e, E_INVALID, "pads of %lld cannot be made of %lld", (long long)more, (long long)size);
    return 0;
}

/* Before opset 11 all are attributes; from 18 on pads may be for some axes only. */
static int read_padding(struct padding *p, const struct inference *i, struct err *e) {
    const struct shape *x = &i->in[0]->shape;
    int64_t pads[2 * SHAPE_MAX_RANK], axes[SHAPE_MAX_RANK];
    int n, n_axes;
    bool given;
    *p = (struct padding){.value = node_real(i->node, "value", 0)};
    int status = read_mode(&p->mode, i->node, e);
    if (!status) status = fold_setting(pads, &n, &given, 2 * SHAPE_MAX_RANK, i, "pads", 1, e);
    if (!status) status = fold_ints(axes, &n_axes, SHAPE_MAX_RANK, i, 3, "axes", e);
    if (status) return status;
    if (!has_input(i, 3))
        for (n_axes = 0; n_axes < x->rank; n_axes++) axes[n_axes] = n_axes;
    if (n != 2 * n_axes) return err_set(e, E_INVALID, "%d pads for %d axes", n, n_axes);
    for (int k = 0; k < n_axes; k++) {
        int axis;
        if ((status = axis_check(&axis, axes[k], x->rank, e))) return status;
        p->before[axis] = pads[k];
        p->after[axis] = pads[k + n_axes];
        if ((status = check_axis(p, x->dim[axis], axis, e))) return status;
    }
    if (!has_input(i, 2)) return 0;
    const struct array *value = i->in[2]->constant;
    if (!value || value->count != 1) return err_set(e, E_UNSUPPORTED, "the number to pad with is not known beforehand");
    p->value = fold_get(value, 0);
    return 0;
}

/* Output positions [to, to + count) of one axis, made of from, from + step, ... */
struct stretch {
    int64_t to, count, from, step;
};

static int stretches_of(struct stretch *s, const struct padding *p, int64_t size, int d) {
    int64_t before = p->before[d], after = p->after[d], cut = before < 0 ? -before : 0;
    int n = 0;
    s[n++] = (struct stretch){before > 0 ? before : 0, size - cut + (after < 0 ? after : 0), cut, 1};
    int64_t end = s[0].to + s[0].count;
    switch (p->mode) {
        case MODE_EDGE:
            s[n++] = (struct stretch){0, before, 0, 0};
            s[n++] = (struct stretch){end, after, size - 1, 0};
            break;
        case MODE_REFLECT:
            s[n++] = (struct stretch){0, before, before, -1};
            s[n++] = (struct stretch){end, after, size - 2, -1};
            break;
        case MODE_WRAP:
            s[n++] = (struct stretch){0, before, size - before, 1};
            s[n++] = (struct stretch){end, after, 0, 1};
            break;
        case MODE_CONSTANT:
        case MODES: break;
    }
    return n;
}

/* All combinations of stretches, axis by axis. */
static void add_stretches(struct moving *m, const struct padding *p, struct path *path, const ptrdiff_t *in, int axis) {
    if (axis == path->over.rank) {
        moving_add(m, path);
        return;
    }
    struct stretch s[3];
    int n = stretches_of(s, p, m->i->in[0]->shape.dim[axis], axis);
    for (int k = 0; k < n; k++) {
        if (s[k].count <= 0) continue;
        struct path deeper = *path;
        deeper.over.dim[axis] = s[k].count;
        deeper.from += in[axis] * (ptrdiff_t)s[k].from;
        deeper.from_step[axis] = in[axis] * (ptrdiff_t)s[k].step;
        deeper.to += path->to_step[axis] * (ptrdiff_t)s[k].to;
        add_stretches(m, p, &deeper, in, axis + 1);
    }
}

static int pad_moves(struct moving *m, struct err *e) {
    struct padding p;
    struct path path = {.over = m->i->out[0].shape};
    ptrdiff_t in[SHAPE_MAX_RANK];
    int status = read_padding(&p, m->i, e);
    if (status) return status;
    m->fills = p.mode == MODE_CONSTANT;
    m->fill = p.value;
    m->repeats = p.mode != MODE_CONSTANT;
    moving_in_steps(m, 0, in);
    moving_out_steps(m, 0, path.to_step);
    add_stretches(m, &p, &path, in, 0);
    return 0;
}

static int pad_infer(struct inference *i, struct err *e) {
    struct padding p;
    size_t count;
    struct shape *y = &i->out[0].shape;
    *y = i->in[0]->shape;
    int status = read_padding(&p, i, e);
    for (int d = 0; d < y->rank && !status; d++) y->dim[d] += p.before[d] + p.after[d];
    if (!status) status = shape_count(&count, y, e);
    if (status) return status;
    i->mixes = y->rank > 0 && (p.before[0] || p.after[0]);
    return moves_fold(i, pad_moves, e);
}

static int pad_plan(struct call *c, struct plan *p, struct err *e) {
    return moves_plan(c, p, pad_moves, e);
}

static const struct op_sample samples[] = {
    {"2x3x4x5 =0,0,1,2,0,0,2,1 :0.5", "", "a border"},
    {"2x3x4", "pads=0,1,0,0,0,2 value=-1.5 opset=9", "as attributes"},
    {"2x3x4 =0,0,-1,0,1,-1", "", "cut on one side"},
    {"2x3x4x5 =0,0,2,2,0,0,3,1", "mode=reflect", "reflected"},
    {"2x2x3x4 =0,0,1,2,0,0,2,1", "mode=edge", "the edge repeated"},
    {"2x2x3 =0,0,2,0,0,3", "mode=wrap opset=19", "wrapped"},
    {NULL, NULL, NULL},
};

const struct op op_Pad = {
    .name = "Pad",
    .help = "y = x with borders",
    .min_inputs = 1,
    .max_inputs = 4,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "mode pads value",
    .layout = WISH_ANY,
    .state_size = sizeof(struct moves_state),
    .infer = pad_infer,
    .plan = pad_plan,
    .samples = samples,
};

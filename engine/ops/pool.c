/* pool.c - MaxPool and AveragePool over one or two spatial axes, channels last: every loop runs along
 * the channels. MaxPool remembers which tap of the window was the largest, as small integers. */
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "engine/ops/common.h"
#include "engine/ops/window.h"

enum { BLOCK = 64, TAPS_MOST = UINT16_MAX };

struct pool_state {
    struct window window;
    size_t channels, in_pixels, out_pixels;
    bool count_padding;
    uint16_t *chosen; /* [batch, out pixels, channels]: the largest tap; MaxPool that trains */
};

static int pool_infer(struct inference *i, struct err *e) {
    struct window w;
    int status = window_read(&w, i->node, &i->in[0]->shape, NULL, e);
    if (!status) i->out[0].shape = window_shape(&w, &i->in[0]->shape, i->in[0]->shape.dim[1]);
    return status;
}

static int pool_open(struct call *c, struct err *e) {
    struct pool_state *s = c->state;
    int status = window_read(&s->window, c->node, &c->in[0]->shape, NULL, e);
    s->channels = (size_t)c->in[0]->shape.dim[1];
    s->in_pixels = (size_t)s->window.in[0] * (size_t)s->window.in[1];
    s->out_pixels = (size_t)s->window.out[0] * (size_t)s->window.out[1];
    s->count_padding = node_int(c->node, "count_include_pad", 0) != 0;
    return status;
}

/* ---- windows ---- */

/* Taps of one axis that lie inside the data: [from, to); index of tap 0. */
struct taps {
    int from, to, start;
};

static struct taps taps_of(const struct window *w, int axis, int out) {
    struct taps t = {.start = out * w->stride[axis] - w->pad_begin[axis]};
    int step = w->dilation[axis];
    if (t.start < 0) t.from = (-t.start + step - 1) / step;
    t.to = t.start >= w->in[axis] ? 0 : (w->in[axis] - t.start + step - 1) / step;
    if (t.to > w->kernel[axis]) t.to = w->kernel[axis];
    return t;
}

/* Calls `visit` for each window of the part: x and y are its sample's, where is the output pixel. */
struct view {
    const struct pool_state *s;
    struct taps rows, columns;
    real *x, *y;      /* x: of the sample; y: of the output pixel */
    uint16_t *chosen; /* of the output pixel */
};

static size_t pixel_of(const struct view *v, int row, int column) {
    const struct window *w = &v->s->window;
    return (size_t)(v->rows.start + row * w->dilation[0]) * (size_t)w->in[1] +
           (size_t)(v->columns.start + column * w->dilation[1]);
}

static void each_window(const struct call *c, const struct part *p, const struct tensor *in, const struct tensor *out,
                        void (*visit)(const struct view *v)) {
    const struct pool_state *s = c->state;
    size_t samples = tensor_rows(in, p),
           before = in->per_sample ? (size_t)p->first * in->row / (s->in_pixels * s->channels) : 0;
    struct view v = {.s = s};
    for (size_t n = 0; n < samples; n++)
        for (int row = 0; row < s->window.out[0]; row++) {
            v.rows = taps_of(&s->window, 0, row);
            v.x = tensor_at(in, p) + n * s->in_pixels * s->channels;
            for (int column = 0; column < s->window.out[1]; column++) {
                size_t pixel = n * s->out_pixels + (size_t)row * (size_t)s->window.out[1] + (size_t)column;
                v.columns = taps_of(&s->window, 1, column);
                v.y = tensor_at(out, p) + pixel * s->channels;
                if (s->chosen) v.chosen = s->chosen + (before * s->out_pixels + pixel) * s->channels;
                visit(&v);
            }
        }
}

/* ---- MaxPool ---- */

VECTORISED static void larger(real *best, const real *x, size_t n) {
    for (size_t i = 0; i < n; i++) best[i] = x[i] > best[i] ? x[i] : best[i];
}

VECTORISED static void larger_tap(real *best, int32_t *taps, const real *x, int32_t tap, size_t n) {
    for (size_t i = 0; i < n; i++) {
        bool more = x[i] > best[i];
        taps[i] = more ? tap : taps[i];
        best[i] = more ? x[i] : best[i];
    }
}

VECTORISED static void narrow(uint16_t *to, const int32_t *from, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] = (uint16_t)from[i];
}

static void no_tap(const struct view *v) {
    memset(v->y, 0, v->s->channels * sizeof(real));
    if (v->chosen) memset(v->chosen, 0xff, v->s->channels * sizeof *v->chosen);
}

static bool is_empty(const struct view *v) {
    return v->rows.from >= v->rows.to || v->columns.from >= v->columns.to;
}

static void max_visit(const struct view *v) {
    size_t channels = v->s->channels;
    bool begun = false;
    if (is_empty(v)) no_tap(v);
    for (int row = v->rows.from; row < v->rows.to; row++)
        for (int column = v->columns.from; column < v->columns.to; column++, begun = true) {
            const real *x = v->x + pixel_of(v, row, column) * channels;
            if (begun)
                larger(v->y, x, channels);
            else
                memcpy(v->y, x, channels * sizeof(real));
        }
}

/* As above, and keeps which tap it was; in blocks of channels that stay in registers and cache. */
static void max_visit_keep(const struct view *v) {
    int32_t taps[BLOCK];
    if (is_empty(v))
        no_tap(v);
    else
        for (size_t from = 0; from < v->s->channels; from += BLOCK) {
            size_t n = v->s->channels - from < BLOCK ? v->s->channels - from : BLOCK;
            for (size_t i = 0; i < n; i++) v->y[from + i] = -INFINITY;
            for (size_t i = 0; i < n; i++) taps[i] = v->rows.from * v->s->window.kernel[1] + v->columns.from;
            for (int row = v->rows.from; row < v->rows.to; row++)
                for (int column = v->columns.from; column < v->columns.to; column++)
                    larger_tap(v->y + from, taps, v->x + pixel_of(v, row, column) * v->s->channels + from,
                               row * v->s->window.kernel[1] + column, n);
            narrow(v->chosen + from, taps, n);
        }
}

VECTORISED static void give_chosen(real *dx, const real *dy, const uint16_t *chosen, uint16_t tap, size_t n) {
    for (size_t i = 0; i < n; i++) dx[i] += chosen[i] == tap ? dy[i] : 0;
}

static void max_visit_back(const struct view *v) {
    for (int row = v->rows.from; row < v->rows.to; row++)
        for (int column = v->columns.from; column < v->columns.to; column++)
            give_chosen(v->x + pixel_of(v, row, column) * v->s->channels, v->y, v->chosen,
                        (uint16_t)(row * v->s->window.kernel[1] + column), v->s->channels);
}

static void max_forward(const struct call *c, const struct part *p) {
    const struct pool_state *s = c->state;
    each_window(c, p, c->in[0], c->out[0], s->chosen ? max_visit_keep : max_visit);
}

static void zero_unless_added(const struct call *c, const struct part *p) {
    if (!c->add[0]) memset(tensor_at(c->d_in[0], p), 0, tensor_count(c->d_in[0], p) * sizeof(real));
}

static void max_backward(const struct call *c, const struct part *p) {
    zero_unless_added(c, p);
    each_window(c, p, c->d_in[0], c->d_out[0], max_visit_back);
}

static int max_plan(struct call *c, struct plan *p, struct err *e) {
    struct pool_state *s = c->state;
    int status = pool_open(c, e);
    if (status) return status;
    if (c->d_in[0]) {
        if (s->window.kernel[0] * (int64_t)s->window.kernel[1] >= TAPS_MOST)
            return err_set(e, E_UNSUPPORTED, "a window of %d x %d; training allows less than %d taps",
                           s->window.kernel[0], s->window.kernel[1], TAPS_MOST);
        size_t rows = c->out[0]->per_sample ? (size_t)c->lanes * (size_t)c->lane_size : 1;
        status = plan_table((void **)&s->chosen, p, rows * c->out[0]->row * sizeof *s->chosen, e);
    }
    if (!status) status = plan_lanes(p, PHASE_FORWARD, max_forward, false, e);
    return status || !c->d_in[0] ? status : plan_lanes(p, PHASE_BACKWARD, max_backward, false, e);
}

/* ---- AveragePool ---- */

/* Cells that a window counts along an axis; beyond the padding at the end there are none. */
static int counted(const struct view *v, int axis, struct taps t) {
    const struct window *w = &v->s->window;
    if (!v->s->count_padding) return t.to - t.from;
    int room = (w->in[axis] + w->pad_end[axis] - t.start + w->dilation[axis] - 1) / w->dilation[axis];
    return room < w->kernel[axis] ? room : w->kernel[axis];
}

static real share_of(const struct view *v) {
    int cells = counted(v, 0, v->rows) * counted(v, 1, v->columns);
    return cells > 0 ? 1 / (real)cells : 0;
}

VECTORISED static void add_scaled(real *to, const real *from, real scale, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] += from[i] * scale;
}

static void average_visit(const struct view *v) {
    size_t channels = v->s->channels;
    real share = share_of(v);
    memset(v->y, 0, channels * sizeof(real));
    for (int row = v->rows.from; row < v->rows.to; row++)
        for (int column = v->columns.from; column < v->columns.to; column++)
            add_scaled(v->y, v->x + pixel_of(v, row, column) * channels, share, channels);
}

static void average_visit_back(const struct view *v) {
    real share = share_of(v);
    for (int row = v->rows.from; row < v->rows.to; row++)
        for (int column = v->columns.from; column < v->columns.to; column++)
            add_scaled(v->x + pixel_of(v, row, column) * v->s->channels, v->y, share, v->s->channels);
}

static void average_forward(const struct call *c, const struct part *p) {
    each_window(c, p, c->in[0], c->out[0], average_visit);
}

static void average_backward(const struct call *c, const struct part *p) {
    zero_unless_added(c, p);
    each_window(c, p, c->d_in[0], c->d_out[0], average_visit_back);
}

static int average_plan(struct call *c, struct plan *p, struct err *e) {
    int status = pool_open(c, e);
    if (!status) status = plan_lanes(p, PHASE_FORWARD, average_forward, false, e);
    return status || !c->d_in[0] ? status : plan_lanes(p, PHASE_BACKWARD, average_backward, false, e);
}

/* ---- records ---- */

static const struct op_sample max_samples[] = {
    {"2x3x6x4", "kernel_shape=2,2 strides=2,2", "halves"},
    {"2x3x7x6", "kernel_shape=3,3 strides=2,2 pads=1,1,1,1", "overlapping, padded"},
    {"2x2x8x7", "kernel_shape=3,2 strides=2,3 ceil_mode=1 pads=1,0,0,1", "rounded up, uneven pads"},
    {"2x2x9x9", "kernel_shape=2,3 dilations=3,2", "dilated"},
    {"2x70x5", "kernel_shape=2 strides=2", "one spatial axis, many channels"},
    {"2x3x6x5", "kernel_shape=3,3 auto_pad=SAME_LOWER", "same, lower"},
    {NULL, NULL, NULL},
};

static const struct op_sample average_samples[] = {
    {"2x3x6x4", "kernel_shape=2,2 strides=2,2", "halves"},
    {"2x3x7x6", "kernel_shape=3,3 strides=2,2 pads=1,1,1,1", "padding not counted"},
    {"2x3x7x6", "kernel_shape=3,3 strides=2,2 pads=1,1,1,1 count_include_pad=1", "padding counted"},
    {"2x2x8x7", "kernel_shape=3,2 strides=2,3 ceil_mode=1 pads=1,0,0,1 count_include_pad=1", "rounded up"},
    {"2x3x9", "kernel_shape=3 strides=2", "one spatial axis"},
    {NULL, NULL, NULL},
};

const struct op op_MaxPool = {
    .name = "MaxPool",
    .help = "y = maximum over a sliding window",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "auto_pad ceil_mode dilations kernel_shape pads storage_order strides",
    .layout = WISH_LAST,
    .state_size = sizeof(struct pool_state),
    .infer = pool_infer,
    .plan = max_plan,
    .samples = max_samples,
};

const struct op op_AveragePool = {
    .name = "AveragePool",
    .help = "y = mean over a sliding window",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .attributes = "auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides",
    .layout = WISH_LAST,
    .state_size = sizeof(struct pool_state),
    .infer = pool_infer,
    .plan = average_plan,
    .samples = average_samples,
};
